//! The hot path: one packet in, one verdict out.
//!
//! Decides, for one packet on one of the worker's sockets, whether and where
//! it goes: demultiplexing by first octet (RFC 7983 §7, RFC 5761 §4), symmetric
//! RTP and RTCP (RFC 4961), the latch ([`crate::latch`]), and the limits on
//! sending to a peer that has not spoken. A packet from a held source is
//! judged by one array index, one comparison and plain additions.
//!
//! Must not allocate, lock, hash, log or change a packet (RFC 3550 §7.2: as a
//! translator we leave SSRC, sequence and timestamp alone). Everything that
//! happens less often than per packet lives in [`crate::relay`].

use std::net::SocketAddr;
use std::time::Instant;

use wire::demux::{self, Media};
use wire::rtp;

use crate::latch::{Judgement, Kind};
use crate::leg::Aim;
use crate::{Component, End, Relay};

/// A worker's socket index: `stream slot × 4 + end × 2 + component`. Never a UDP port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u32);

impl Slot {
    /// The slot of one socket of a stream.
    pub fn of(stream_slot: u32, end: End, component: Component) -> Self {
        Self(stream_slot * 4 + end.index() as u32 * 2 + u32::from(component == Component::Rtcp))
    }

    /// The stream slot that it belongs to.
    pub fn stream(self) -> u32 {
        self.0 / 4
    }

    /// The leg that it belongs to.
    pub fn end(self) -> End {
        if self.0 & 2 == 0 { End::A } else { End::B }
    }

    /// Which of the leg's two sockets it is.
    pub fn component(self) -> Component {
        if self.0 & 1 == 0 { Component::Rtp } else { Component::Rtcp }
    }
}

/// What to do with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Send it, unchanged, from this socket to this address.
    Forward {
        /// Socket to send from.
        via: Slot,
        /// Where to.
        to: SocketAddr,
    },
    /// It has done its work here (a keep-alive).
    Consumed,
    /// Drop and count.
    Drop(Drop),
}

/// Why a packet was dropped; the metric's label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Drop {
    /// No stream on this socket.
    NoStream,
    /// The source may not latch on this leg.
    RefusedSource,
    /// Allowed source, but the latch is held by another.
    NotLatched,
    /// Not RTP, RTCP, STUN or DTLS.
    NotMedia,
    /// The other leg has no address to send to yet.
    NoTarget,
    /// Early media cap toward an unproven address reached.
    EarlyCap,
    /// From one of our own sockets outside a join (RFC 3550 §8.2).
    Loop,
    /// A connectivity check without the leg's credentials, or one that wants us to control (RFC 8445 §7.3).
    BadCheck,
    /// The peer's keys are known, and by none of them is this a packet that is newer than what was heard (RFC 3711 §3.3).
    Unauthenticated,
}

/// How many [`Drop`] reasons there are.
pub const DROPS: usize = 9;

impl Drop {
    /// Every reason, in the order of [`Drop::index`].
    pub const ALL: [Self; DROPS] = [
        Self::NoStream,
        Self::RefusedSource,
        Self::NotLatched,
        Self::NotMedia,
        Self::NoTarget,
        Self::EarlyCap,
        Self::Loop,
        Self::BadCheck,
        Self::Unauthenticated,
    ];

    /// Index into [`crate::stats::Totals::drops`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// For labels and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoStream => "no_stream",
            Self::RefusedSource => "refused_source",
            Self::NotLatched => "not_latched",
            Self::NotMedia => "not_media",
            Self::NoTarget => "no_target",
            Self::EarlyCap => "early_cap",
            Self::Loop => "loop",
            Self::BadCheck => "bad_check",
            Self::Unauthenticated => "srtp_unauthenticated",
        }
    }
}

impl Relay {
    /// Judges one packet that came in on socket `on` from `from`. The packet
    /// itself is sent, or not, by the caller; all counting is done here.
    pub fn forward(&mut self, now: Instant, on: Slot, from: SocketAddr, packet: &[u8]) -> Verdict {
        let kind = demux::media(packet);
        let Some(Some(lane)) = self.lanes.get_mut(on.0 as usize) else { return self.drop(Drop::NoStream) };
        if !lane.latch.holds(from) {
            return self.meet(now, on, from, kind, packet);
        }
        let bytes = packet.len() as u64;
        let via = match kind {
            Media::Rtp => {
                if let Some(header) = lane.latch.heard_rtp(now, packet)
                    && let Some(quality) = &mut lane.quality
                {
                    quality.heard(self.clock.nanos, header);
                }
                lane.count_in(&mut self.totals, bytes);
                lane.peer
            }
            Media::Stun => return self.meet(now, on, from, kind, packet),
            Media::Rtcp | Media::Dtls | Media::Channel | Media::Zrtp | Media::Unknown => {
                let Some(heard) = Kind::of(kind, lane.opaque) else { return self.drop(Drop::NotMedia) };
                lane.latch.heard(now, heard, packet);
                lane.count_in(&mut self.totals, bytes);
                let via = lane.to(heard);
                if kind == Media::Rtcp {
                    self.share(on, packet);
                    self.overhear(now, on, packet);
                }
                via
            }
        };
        self.send(now, via, bytes)
    }

    /// The sending half: from socket `via`, to where its peer listens.
    #[inline]
    fn send(&mut self, now: Instant, via: Slot, bytes: u64) -> Verdict {
        let Some(Some(lane)) = self.lanes.get_mut(via.0 as usize) else { return self.drop(Drop::NoTarget) };
        let Aim::At(to) = lane.aim else { return self.send_unproven(now, via, bytes) };
        lane.count_out(&mut self.totals, now, bytes);
        Verdict::Forward { via, to }
    }

    /// To a peer that has not spoken from where we send to.
    #[cold]
    #[inline(never)]
    fn send_unproven(&mut self, now: Instant, via: Slot, bytes: u64) -> Verdict {
        let Some(Some(lane)) = self.lanes.get_mut(via.0 as usize) else { return self.drop(Drop::NoTarget) };
        let to = match lane.aim {
            Aim::Nowhere => return self.drop(Drop::NoTarget),
            Aim::At(to) => to,
            Aim::Capped(to) => {
                let Some(Some(stream)) = self.streams.get_mut(via.stream() as usize) else {
                    return self.drop(Drop::NoTarget);
                };
                if stream.allowance[via.end().index()].spend(now) {
                    to
                } else {
                    match lane.latch.source() {
                        Some(held) => held,
                        None => return self.drop(Drop::EarlyCap),
                    }
                }
            }
        };
        lane.count_out(&mut self.totals, now, bytes);
        Verdict::Forward { via, to }
    }

    /// A packet from a source that does not hold the latch, or STUN.
    #[cold]
    #[inline(never)]
    fn meet(&mut self, now: Instant, on: Slot, from: SocketAddr, kind: Media, packet: &[u8]) -> Verdict {
        if kind == Media::Stun && self.answered(on, from, packet) {
            return Verdict::Consumed;
        }
        let opaque = self.lanes.get(on.0 as usize).and_then(Option::as_ref).is_some_and(|lane| lane.opaque);
        let Some(kind) = Kind::of(kind, opaque) else { return self.drop(Drop::NotMedia) };
        if kind == Kind::Stun
            && let Some(verdict) = self.check(now, on, from, packet)
        {
            return verdict;
        }
        match self.hear(now, on, from, kind, packet) {
            Judgement::Take => self.latched(on, from, false),
            Judgement::Move => self.latched(on, from, true),
            Judgement::Pass => {}
            Judgement::Refuse(why) => {
                if let Some(Some(lane)) = self.lanes.get_mut(on.0 as usize) {
                    lane.counts.refused += 1;
                    if let Some(quality) = &mut lane.quality {
                        quality.refused(now, from, why);
                    }
                }
                return self.drop(why);
            }
        }
        let bytes = packet.len() as u64;
        let Some(Some(lane)) = self.lanes.get_mut(on.0 as usize) else { return self.drop(Drop::NoStream) };
        lane.count_in(&mut self.totals, bytes);
        let via = lane.to(kind);
        match kind {
            Kind::Stun => return Verdict::Consumed,
            Kind::Rtp => {
                if let Some(header) = rtp::Header::parse(packet)
                    && let Some(quality) = &mut lane.quality
                {
                    quality.heard(self.clock.nanos, header);
                }
            }
            Kind::Rtcp => {
                self.share(on, packet);
                self.overhear(now, on, packet);
            }
            Kind::Dtls | Kind::Opaque => {}
        }
        self.send(now, via, bytes)
    }

    #[inline]
    pub(crate) fn drop(&mut self, why: Drop) -> Verdict {
        self.totals.drop(why);
        Verdict::Drop(why)
    }
}
