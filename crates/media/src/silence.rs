//! Audio that does not come: a leg of an answered call that is not on hold and
//! from which no RTP came for two seconds, and what is known of the reason.
//!
//! Looked at when a timer says so, never per packet. Must not end a call nor
//! move a latch: that a whole stream is dead is [`Fact::Silent`]'s to say.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nat::Side;

use crate::relay::Stream;
use crate::{Component, Drop, Early, End, Fact, Relay, Slot, StreamId};

/// So long without RTP, and a leg is silent.
const SILENT: Duration = Duration::from_secs(2);
/// How often a silent leg is looked at, to see its silence end.
const LOOK: Duration = Duration::from_millis(500);

/// Why a leg is silent, as far as that can be seen from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Packets come, from a source that may not speak here.
    Refused,
    /// Packets come from where they may, and the key that SDP shows does not vouch for them.
    Unauthenticated,
    /// Its SDP names an address of another family than our socket's: it cannot reach us.
    Family,
    /// Nothing ever came, and its SDP names a private address: its NAT, or its router's ALG, is in the way.
    Private,
    /// Nothing ever came.
    Never,
    /// It spoke before.
    Stopped,
}

/// A leg that is silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Silence {
    /// The side of the leg.
    pub side: Side,
    /// Why.
    pub reason: Reason,
    /// Where its SDP says that it is.
    pub target: Option<SocketAddr>,
    /// The source that was refused last, if that is the reason.
    pub refused: Option<SocketAddr>,
}

/// What a worker remembers of the silence of one leg.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Watch {
    /// It was reported.
    pub(crate) told: bool,
    /// When to look again.
    due: Option<Instant>,
}

impl Relay {
    /// Reports legs that have become silent, and those that speak again.
    pub(crate) fn listen(&mut self, now: Instant, id: StreamId) {
        for end in [End::A, End::B] {
            let (Some(due), Some(since)) = (self.silence_due(id, end), self.since(id, end)) else { continue };
            if due > now {
                continue;
            }
            let long = |since: Instant| since.checked_add(SILENT).is_some_and(|at| at <= now);
            let (last, silence) = (self.last_rtp(id, end), self.silence(id, end));
            let Some(stream) = self.stream_mut(id) else { return };
            let (epoch, watch) = (stream.epoch, &mut stream.watches[end.index()]);
            // Only a packet ends a silence; an offer/answer does not.
            let silent = if watch.told { last.is_none_or(long) } else { long(since) };
            let before = std::mem::replace(&mut watch.told, silent);
            watch.due = silent.then(|| now.checked_add(LOOK)).flatten();
            match (before, silent, silence) {
                (false, true, Some(silence)) => self.report(Fact::Unheard { stream: id, epoch, end, silence }),
                (true, false, Some(Silence { side, .. })) => self.report(Fact::Heard { stream: id, epoch, end, side }),
                _ => {}
            }
        }
    }

    /// When to look at a leg; never while it may be silent.
    pub(crate) fn silence_due(&self, id: StreamId, end: End) -> Option<Instant> {
        let watch = self.stream(id)?.watches[end.index()];
        let at = self.since(id, end)?.checked_add(SILENT)?;
        if watch.told { watch.due } else { Some(at) }
    }

    /// From when on it is silent. `None`: it may be.
    fn since(&self, id: StreamId, end: End) -> Option<Instant> {
        let stream = self.stream(id)?;
        let lane = self.lane(Slot::of(id.slot, end, Component::Rtp))?;
        let watched = stream.timeout.is_some() && stream.joined[end.index()].is_none();
        if !watched || lane.opaque || !lane.quality.as_ref().is_some_and(|quality| quality.audio()) {
            return None;
        }
        let last = self.last_rtp(id, end);
        Some(last.map_or(stream.since, |last| last.max(stream.since)))
    }

    fn silence(&self, id: StreamId, end: End) -> Option<Silence> {
        let plan = &self.stream(id)?.legs[end.index()];
        let lane = self.lane(Slot::of(id.slot, end, Component::Rtp))?;
        let last = self.last_rtp(id, end);
        let target = plan.target.map(|target| target.rtp());
        let private = |address: SocketAddr| nat::address::is_private(address.ip());
        let stranger = lane.quality.as_ref().and_then(|quality| quality.stranger());
        let stranger = stranger.filter(|(at, ..)| last.is_none_or(|last| *at > last));
        let reason = match (last, target) {
            _ if stranger.is_some_and(|(.., why)| why == Drop::Unauthenticated) => Reason::Unauthenticated,
            _ if stranger.is_some() => Reason::Refused,
            (Some(_), _) => Reason::Stopped,
            (None, Some(target)) if target.is_ipv4() != plan.pair.ip.is_ipv4() => Reason::Family,
            (None, Some(target)) if private(target) && (plan.early == Early::Never || !private(plan.pair.rtp())) => {
                Reason::Private
            }
            (None, _) => Reason::Never,
        };
        Some(Silence { side: lane.side, reason, target, refused: stranger.map(|(_, from, _)| from) })
    }

    fn last_rtp(&self, id: StreamId, end: End) -> Option<Instant> {
        let lane = self.lane(Slot::of(id.slot, end, Component::Rtp))?;
        lane.quality.as_ref()?.last().and_then(|at| self.clock.instant(at))
    }

    pub(crate) fn stream(&self, id: StreamId) -> Option<&Stream> {
        self.streams.get(id.slot as usize)?.as_deref().filter(|stream| stream.id == id)
    }
}

#[cfg(test)]
mod tests;
