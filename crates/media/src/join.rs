//! Joins: two streams of a spiral, tied inside (RFC 3550 §8.2 by avoidance).
//!
//! A call that leaves through us and comes back holds two streams, and one leg
//! of each faces the other. Their sockets would send to each other through the
//! core's address or our NAT; instead the legs *behind* them are tied. Decides
//! which leg a packet leaves by: through any number of joins, to the far end.
//!
//! Must not touch the far legs' latches: these face real peers and go on as before.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::leg::NOWHERE;
use crate::{Component, End, Relay, Slot, StreamId};

impl Relay {
    /// Ties the legs behind `a` and `b`. The two named ones take and send
    /// nothing until they are parted, and then learn their source anew.
    pub(crate) fn join(&mut self, now: Instant, a: (StreamId, End), b: (StreamId, End)) {
        if a.0.slot == b.0.slot || self.stream_mut(a.0).is_none() || self.stream_mut(b.0).is_none() {
            return;
        }
        self.untie(now, (a.0.slot, a.1));
        self.untie(now, (b.0.slot, b.1));
        for (this, other) in [(a, b), (b, a)] {
            if let Some(stream) = self.stream_mut(this.0) {
                stream.joined[this.1.index()] = Some((other.0.slot, other.1));
            }
            for component in [Component::Rtp, Component::Rtcp] {
                if let Some(lane) = self.lane_mut(Slot::of(this.0.slot, this.1, component)) {
                    lane.latch.reset(now);
                }
            }
        }
        self.relink(now, a.0.slot);
    }

    /// Undoes every join of a stream.
    pub(crate) fn part(&mut self, now: Instant, id: StreamId) {
        if self.stream_mut(id).is_some() {
            self.untie(now, (id.slot, End::A));
            self.untie(now, (id.slot, End::B));
        }
    }

    fn untie(&mut self, now: Instant, leg: (u32, End)) {
        if let Some(facing) = self.facing(leg) {
            for (slot, end) in [leg, facing] {
                if let Some(Some(stream)) = self.streams.get_mut(slot as usize) {
                    stream.joined[end.index()] = None;
                }
            }
            self.relink(now, leg.0);
            self.relink(now, facing.0);
        }
    }

    /// Tells all sockets of a stream, and of those joined to it, where their packets leave.
    pub(crate) fn relink(&mut self, now: Instant, slot: u32) {
        if [End::A, End::B].iter().all(|end| self.facing((slot, *end)).is_none()) {
            self.relink_one(now, slot);
        } else {
            self.tied(slot).into_iter().for_each(|slot| self.relink_one(now, slot));
        }
    }

    fn relink_one(&mut self, now: Instant, slot: u32) {
        for end in [End::A, End::B] {
            let bypassed = self.facing((slot, end)).is_some();
            let out = self.far(slot, end.other()).filter(|_| !bypassed);
            let to = |component| out.map_or(NOWHERE, |(slot, end)| Slot::of(slot, end, component));
            let muxed = out.is_some_and(|(slot, end)| self.muxed(slot, end));
            for component in [Component::Rtp, Component::Rtcp] {
                if let Some(lane) = self.lane_mut(Slot::of(slot, end, component)) {
                    lane.peer = to(component);
                    lane.rtcp_peer = to(if muxed { Component::Rtp } else { Component::Rtcp });
                }
            }
        }
        self.refresh(now, slot);
    }

    /// The leg that really faces a peer, seen from this one: itself, or the far
    /// end of its joins. `None` for a ring of joins, in which there is no peer.
    pub(crate) fn far(&self, slot: u32, end: End) -> Option<(u32, End)> {
        let start = (slot, end);
        let mut leg = start;
        while let Some((slot, end)) = self.facing(leg) {
            leg = (slot, end.other());
            if leg == start {
                return None;
            }
        }
        Some(leg)
    }

    /// Does RTCP for this leg's peer leave by its RTP socket (RFC 5761 §5.1.1)?
    fn muxed(&self, slot: u32, end: End) -> bool {
        self.streams.get(slot as usize).and_then(Option::as_ref).is_some_and(|s| s.legs[end.index()].muxed)
    }

    fn facing(&self, (slot, end): (u32, End)) -> Option<(u32, End)> {
        self.streams.get(slot as usize)?.as_ref()?.joined[end.index()]
    }

    /// The stream and all that are joined to it, also through others.
    fn tied(&self, slot: u32) -> BTreeSet<u32> {
        let mut all = BTreeSet::new();
        let mut next = vec![slot];
        while let Some(slot) = next.pop() {
            if all.insert(slot) {
                next.extend([End::A, End::B].into_iter().filter_map(|end| self.facing((slot, end))).map(|leg| leg.0));
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::fixture::*;
    use crate::relay::Config;
    use crate::{Command, Drop, End, Fact, LegPlan, Slot, Verdict};

    const OTHER_PHONE: &str = "198.51.100.8:42000";
    /// RTP sockets of stream 1, of stream 2.
    const C_RTP: Slot = Slot(4);
    const D_RTP: Slot = Slot(6);
    const F_RTP: Slot = Slot(10);

    /// A call that came back: phone – A 0 B – core – A 1 B – other phone.
    fn spiral() -> World {
        let mut world = World::new(Config::default());
        let facing = |own: &str| LegPlan { target: Some(target(own)), open: true, ..server(0) };
        world.open(0, phone(0), LegPlan { pair: server(0).pair, ..facing("203.0.113.50:30006") }, None);
        let other = LegPlan { sources: from_ip("198.51.100.8"), ..phone(1) };
        world.open(1, LegPlan { pair: server(1).pair, ..facing("203.0.113.50:30002") }, other, None);
        world.command(Command::Join { a: (stream(0), End::B), b: (stream(1), End::A) });
        world
    }

    #[test]
    fn far_legs_are_tied_and_nothing_is_sent_to_ourselves() {
        let mut world = spiral();
        assert_eq!(world.packet(A_RTP, PHONE, &rtp(1, 1)), Verdict::Drop(Drop::NoTarget));
        assert_eq!(world.packet(D_RTP, OTHER_PHONE, &rtp(2, 1)), to(A_RTP, PHONE));
        assert_eq!(world.packet(A_RTP, PHONE, &rtp(1, 2)), to(D_RTP, OTHER_PHONE));
        assert_eq!(world.packet(Slot(1), "198.51.100.7:40001", &rtcp(1)), Verdict::Drop(Drop::NoTarget));
        assert_eq!(world.packet(Slot(7), "198.51.100.8:42001", &rtcp(2)), to(Slot(1), "198.51.100.7:40001"));
        // Latches guard the far legs as ever; the near ones take nothing.
        assert_eq!(world.packet(D_RTP, PHONE, &rtp(2, 1)), Verdict::Drop(Drop::RefusedSource));
        assert_eq!(world.packet(B_RTP, "203.0.113.5:6000", &rtp(2, 1)), Verdict::Drop(Drop::RefusedSource));
        assert_eq!(world.packet(C_RTP, "10.0.0.1:30002", &rtp(2, 1)), Verdict::Drop(Drop::Loop));
        world.pass(100_000);
        assert!(
            world.own.iter().all(|own| [Slot(0), Slot(1), Slot(6), Slot(7)].contains(&own.via)),
            "keep-alives to phones only"
        );
        assert!(!world.own.is_empty());
    }

    #[test]
    fn parted_streams_go_their_own_ways() {
        for end_of_it in [Command::Part { stream: stream(0) }, Command::Close { stream: stream(1), told: [false; 2] }] {
            let mut world = spiral();
            world.packet(A_RTP, PHONE, &rtp(1, 1));
            world.packet(D_RTP, OTHER_PHONE, &rtp(2, 1));
            let closing = matches!(end_of_it, Command::Close { .. });
            world.command(end_of_it);
            assert_eq!(world.packet(A_RTP, PHONE, &rtp(1, 2)), to(B_RTP, "203.0.113.50:30006"));
            let alone = world.packet(D_RTP, OTHER_PHONE, &rtp(2, 2));
            assert_eq!(alone, if closing { Verdict::Drop(Drop::NoStream) } else { to(C_RTP, "203.0.113.50:30002") });
            assert_eq!(world.packet(B_RTP, "203.0.113.5:6000", &rtp(3, 1)), to(A_RTP, PHONE));
        }
    }

    #[test]
    fn a_double_spiral_ties_the_outermost_legs() {
        let mut world = spiral();
        let third = LegPlan { sources: from_ip("198.51.100.9"), ..phone(2) };
        world.open(2, LegPlan { pair: server(2).pair, ..server(2) }, third, None);
        world.command(Command::Join { a: (stream(1), End::B), b: (stream(2), End::A) });
        world.packet(A_RTP, PHONE, &rtp(1, 1));
        assert_eq!(world.packet(F_RTP, "198.51.100.9:5", &rtp(3, 1)), to(A_RTP, PHONE));
        assert_eq!(world.packet(A_RTP, PHONE, &rtp(1, 2)), to(F_RTP, "198.51.100.9:5"));
        world.command(Command::Close { stream: stream(1), told: [false; 2] });
        assert_eq!(world.packet(A_RTP, PHONE, &rtp(1, 3)), to(B_RTP, "203.0.113.50:30006"));
    }

    #[test]
    fn a_new_join_replaces_the_old_one_and_rings_are_harmless() {
        let mut world = spiral();
        world.open(2, server(2), LegPlan { sources: from_ip("198.51.100.9"), ..phone(2) }, None);
        world.command(Command::Join { a: (stream(0), End::B), b: (stream(2), End::A) });
        world.packet(A_RTP, PHONE, &rtp(1, 1));
        assert_eq!(world.packet(F_RTP, "198.51.100.9:5", &rtp(3, 1)), to(A_RTP, PHONE));
        assert_eq!(world.packet(D_RTP, OTHER_PHONE, &rtp(2, 2)), to(C_RTP, "203.0.113.50:30002"));
        world.command(Command::Join { a: (stream(0), End::A), b: (stream(2), End::B) });
        world.command(Command::Join { a: (stream(1), End::A), b: (stream(1), End::B) });
        for on in [0, 2, 8, 10] {
            assert!(matches!(world.packet(Slot(on), PHONE, &rtp(1, 1)), Verdict::Drop(_)));
        }
        world.pass(100_000);
        for slot in [0, 1, 2] {
            world.command(Command::Close { stream: stream(slot), told: [false; 2] });
        }
        assert_eq!(world.facts.iter().filter(|fact| matches!(fact, Fact::Closed { .. })).count(), 3);
    }

    #[test]
    fn a_near_leg_forgets_whom_it_held() {
        let mut world = World::call();
        world.packet(A_RTP, PHONE, &rtp(1, 1));
        world.packet(B_RTP, SERVER, &rtp(2, 1));
        world.open(1, server(1), LegPlan { sources: from_ip("198.51.100.8"), ..phone(1) }, None);
        world.command(Command::Join { a: (stream(0), End::B), b: (stream(1), End::A) });
        assert_eq!(world.packet(B_RTP, SERVER, &rtp(2, 2)), Verdict::Drop(Drop::RefusedSource));
        assert_eq!(world.packet(D_RTP, OTHER_PHONE, &rtp(3, 1)), to(A_RTP, PHONE));
    }

    #[test]
    fn silence_is_that_of_the_far_legs() {
        let silent = |world: &World| world.facts.iter().filter(|fact| matches!(fact, Fact::Silent { .. })).count();
        let mut world = spiral();
        for (slot, legs) in [(0, [phone(0), server(0)]), (1, [server(1), phone(1)])] {
            world.command(Command::Update {
                stream: stream(slot),
                epoch: 2,
                legs: Box::new(legs),
                timeout: Some(Duration::from_secs(60)),
                rearm: true,
            });
        }
        // One phone sends: both streams are alive, although three of four legs are quiet.
        for n in 0..100 {
            world.packet(A_RTP, PHONE, &rtp(1, n));
            world.pass(5_000);
        }
        assert_eq!(silent(&world), 0);
        world.pass(60_000);
        assert_eq!(silent(&world), 2);
    }
}
