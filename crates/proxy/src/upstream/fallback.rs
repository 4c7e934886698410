//! Other ways to an upstream, for when UDP does not get through: from another
//! port of ours, by TCP, by TLS, in the order of `[[upstream]] fallback`.
//!
//! Decides which ways there are and which of them is asked whether it works: a
//! spare one only while none before it does, so that nobody who is reached by
//! UDP is connected to besides. One that answers goes before one that never
//! did; UDP is asked on, and is first choice again as soon as it has come back
//! in the way of [`health`](super::health). A way on which somebody is known to
//! rewrite SIP ([`nat::alg`]) counts as one that does not work, for as long as
//! another one answers on which nobody does. Where the URI says how the
//! upstream is reached, there are no other ways.

use std::time::Instant;

use nat::alg::Rewritten;
use wire::{ListenerId, Transport};

use super::{Key, Upstreams};
use crate::locate::{Aim, Goal, Located, Way};
use crate::{Observed, Proxy, UpstreamState};

/// Behind whatever answers as it should.
const LAST: u8 = 3;

/// How the answers on a way come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Answers {
    /// To what somebody made of our words.
    Rewritten,
    /// To what we said.
    Whole,
}

impl Proxy {
    /// Somebody on the way rewrites SIP, or no longer does.
    pub(crate) fn rewritten(&mut self, now: Instant, rewritten: Rewritten) {
        if std::mem::replace(&mut self.upstreams.rewritten, rewritten) != rewritten {
            self.wake_spares(now);
            self.note_upstreams(now);
        }
    }

    /// The ways to an upstream, and behind them the spare ones.
    pub(super) fn with_spares(
        &mut self,
        now: Instant,
        upstream: usize,
        aim: &Aim,
        located: Located<Vec<Way>>,
        seed: u64,
    ) -> Located<Vec<Way>> {
        let Some(config) = self.config.upstreams.get(upstream).filter(|upstream| !upstream.fallback.is_empty()) else {
            return located;
        };
        let (fallback, port) = (config.fallback.clone(), config.port);
        let mut ways = match located {
            Located::At(ways) => ways,
            Located::Wait => return Located::Wait,
            Located::Nowhere(_) => Vec::new(),
        };
        for spare in fallback {
            // Plain TCP is spoken at the port of UDP, TLS at one of its own.
            let port = spare.port.or(port.filter(|_| !spare.transport.is_secure()));
            let goal = Goal { transport: Some(spare.transport), port, sips: false, ..aim.goal.clone() };
            let first = ways.first().map(|way| way.flow.listener);
            for from in self.leaving_by(aim, spare.transport, first) {
                let aim = Aim { goal: goal.clone(), prefer: Some(from), ..aim.clone() };
                let Located::At(found) = self.ways_to(now, &aim, seed) else { continue };
                for way in found.into_iter().filter(|way| way.flow.listener == from) {
                    let key = (way.flow.listener, way.flow.remote);
                    if !ways.iter().any(|other| (other.flow.listener, other.flow.remote) == key) {
                        self.upstreams.spare.insert(key);
                        ways.push(way);
                    }
                }
            }
        }
        if ways.is_empty() { located_nowhere() } else { Located::At(ways) }
    }

    /// The listeners that a spare way leaves by: of a stream one, of UDP all but the first.
    fn leaving_by(&self, aim: &Aim, transport: Transport, first: Option<ListenerId>) -> Vec<ListenerId> {
        let listeners = self.config.listeners.iter().zip(0..).filter(|(listener, _)| {
            let whose = listener.phone.is_none() || listener.phone == aim.phone;
            !listener.retired && listener.side == aim.side && listener.transport == transport && whose
        });
        let mut ids: Vec<ListenerId> = listeners.map(|(_, id)| ListenerId(id)).collect();
        match transport {
            Transport::Udp => ids.retain(|id| Some(*id) != first),
            Transport::Tcp | Transport::Tls | Transport::Ws | Transport::Wss => ids.truncate(1),
        }
        ids
    }

    /// Something does not work: spare ways that nobody knows yet are asked at once.
    pub(super) fn wake_spares(&mut self, now: Instant) {
        let unknown = |key: &&Key| self.upstreams.health.get(key).is_some_and(|h| !h.probed && !h.probing);
        let mut listeners: Vec<u16> = self.upstreams.spare.iter().filter(unknown).map(|key| key.0.0).collect();
        listeners.dedup();
        for listener in listeners {
            self.arm_upstream(now, listener, now);
        }
    }

    /// Reports by which transport an upstream with spare ways is reached.
    pub(super) fn note_transport(&mut self, now: Instant, upstream: usize) {
        if self.config.upstreams.get(upstream).is_none_or(|upstream| upstream.fallback.is_empty()) {
            return;
        }
        let Located::At(ways) = self.ways_to_upstreams(now, &[upstream], None, 0) else { return };
        let Some(transport) = ways.first().map(|way| way.flow.transport) else { return };
        if self.upstreams.transports.insert(upstream, transport) != Some(transport) {
            self.observe(Observed::UpstreamTransport { upstream, transport });
        }
    }
}

fn located_nowhere() -> Located<Vec<Way>> {
    Located::Nowhere(crate::locate::unresolved())
}

impl Upstreams {
    /// Of these ways, those that are to be asked now: spare ones only while none before them works.
    pub(super) fn wanted(&self, now: Instant, ways: Vec<Way>) -> Vec<Way> {
        let mut works = false;
        let mut wanted = |way: &Way| {
            let key = (way.flow.listener, way.flow.remote);
            let asked = !(works && self.spare.contains(&key));
            works |= self.works(now, key) && !self.is_rewritten(way);
            asked
        };
        ways.into_iter().filter(|way| wanted(way)).collect()
    }

    /// It works, or nobody knows yet.
    fn works(&self, now: Instant, key: Key) -> bool {
        match self.state(now, key) {
            UpstreamState::Up | UpstreamState::Returning => true,
            UpstreamState::Silent => !self.is_mute(key),
            UpstreamState::Busy | UpstreamState::Down => false,
        }
    }

    /// It was asked, and has never answered anything.
    pub(super) fn is_mute(&self, key: Key) -> bool {
        self.health.get(&key).is_some_and(|health| health.probed && !health.answers && !health.serves)
    }

    /// The best that can be said of those ways that answer; `None` when none does.
    pub(super) fn best_answers(&self, now: Instant, ways: &[Way]) -> Option<Answers> {
        let answers = |way: &&Way| self.state(now, (way.flow.listener, way.flow.remote)) == UpstreamState::Up;
        let said = ways.iter().filter(answers);
        said.map(|way| if self.is_rewritten(way) { Answers::Rewritten } else { Answers::Whole }).max()
    }

    /// A way's tier beside others that answer.
    pub(super) fn demoted(&self, tier: u8, best: Answers, way: &Way) -> u8 {
        let key = (way.flow.listener, way.flow.remote);
        let worse = self.is_mute(key) || best == Answers::Whole && self.is_rewritten(way);
        if worse { LAST } else { tier }
    }

    /// Somebody on the way changes what we say.
    fn is_rewritten(&self, way: &Way) -> bool {
        self.rewritten.touches(way.flow.transport, way.flow.remote.port())
    }

    /// A spare way says something of the upstream only once it was asked.
    pub(super) fn counts(&self, key: Key) -> bool {
        !self.spare.contains(&key)
            || self.health.get(&key).is_some_and(|health| health.probed || health.failed.is_some())
    }
}

#[cfg(test)]
mod tests;
