//! Opening our own NAT, and keeping mappings open.
//!
//! Decides when a socket sends a packet of its own: STUN Binding indications
//! (RFC 8489 §2, RFC 6263 §4.4) toward SDP's address as soon as it is known, so that
//! the peer's first packet finds our NAT open — five at 20 ms, then one a
//! second until the peer is heard — and one keep-alive per interval of our own
//! silence (RFC 6263 §7: no more often than every 15 s).
//!
//! The opening of an RTCP socket ends with its five quick ones once the leg's
//! RTP is heard: many peers never send RTCP, and would be knocked at for the
//! whole call. A slow one is left out where media went the same way meanwhile.
//!
//! Must not send anything that asks for an answer (an indication gets none:
//! RFC 8489 §6.3.2), nor to an address that the plan does not permit.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha20Rng;
use rand_core::Rng;

use crate::leg::{Aim, Lane};
use crate::relay::{KeepAlive, Output, Small};
use crate::{Component, Early, LegPlan, Relay, Slot};

const QUICK: u8 = 5;
const QUICK_GAP: Duration = Duration::from_millis(20);
const SLOW_GAP: Duration = Duration::from_secs(1);
/// Of the slow ones, where the old address of a moved peer is still heard.
const SLOW_AT_MOVE: u8 = 10;

/// Binding indications toward one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Opening {
    /// The address.
    pub(crate) to: SocketAddr,
    /// When the next one is due.
    pub(crate) due: Instant,
    sent: u8,
    last: Option<u8>,
}

impl Opening {
    /// From `now` on, until the peer is heard.
    pub(crate) fn toward(to: SocketAddr, now: Instant) -> Self {
        Self { to, due: now, sent: 0, last: None }
    }

    /// Toward the new address of a peer whose old one is held.
    pub(crate) fn at_move(to: SocketAddr, now: Instant) -> Self {
        Self { last: Some(QUICK + SLOW_AT_MOVE), ..Self::toward(to, now) }
    }

    /// All quick ones are sent.
    pub(crate) fn quick_done(&self) -> bool {
        self.sent >= QUICK
    }

    /// One was sent at `now`; `None`: that was the last.
    pub(crate) fn next(self, now: Instant) -> Option<Self> {
        let sent = self.sent.saturating_add(1);
        let gap = if sent < QUICK { QUICK_GAP } else { SLOW_GAP };
        let more = self.last.is_none_or(|last| sent < last);
        Some(Self { sent, due: now.checked_add(gap)?, ..self }).filter(|_| more)
    }
}

/// May indications go to SDP's address? Not to private addresses that we were told not to trust.
pub(crate) fn permitted(plan: &LegPlan, target: SocketAddr) -> bool {
    plan.open && !(plan.early == Early::Never && nat::address::is_private(target.ip()))
}

impl Relay {
    /// Sends the next indication, if one is due.
    pub(crate) fn open_nat(&mut self, now: Instant, on: Slot) {
        let heard = |lane: &Lane| lane.latch.source().is_some();
        let rtp_heard = self.lane(Slot::of(on.stream(), on.end(), Component::Rtp)).is_some_and(heard);
        let Some(lane) = self.lane_mut(on) else { return };
        let Some(opening) = lane.opening.as_deref().copied().filter(|opening| opening.due <= now) else { return };
        if on.component() == Component::Rtcp && rtp_heard && opening.quick_done() {
            // The peer is there and may never send RTCP: keep-alives suffice from here on.
            lane.opening = None;
            return;
        }
        lane.opening = opening.next(now).map(Box::new);
        let media_opens = lane.aim == Aim::At(opening.to) && now.duration_since(lane.sent) < SLOW_GAP;
        if !(opening.quick_done() && media_opens) {
            let packet = indication(&mut self.rng);
            self.transmit(now, on, opening.to, packet);
        }
    }

    /// Sends a keep-alive, if one is due.
    pub(crate) fn keep_alive(&mut self, now: Instant, on: Slot) {
        if self.keepalive_due(on).is_some_and(|due| due <= now)
            && let Some(to) = self.kept(on)
            && let Some(lane) = self.lane_mut(on)
        {
            lane.kept = lane.kept.wrapping_add(1);
            let sequence = lane.kept;
            let form = self.config.keepalive;
            let ssrc = self.ssrc;
            if let Some(packet) = keepalive(&mut self.rng, form, on.component(), ssrc, sequence) {
                self.transmit(now, on, to, packet);
            }
        }
    }

    /// The address whose mapping this socket keeps: of a peer that has spoken,
    /// else SDP's if we open toward it.
    fn kept(&self, on: Slot) -> Option<SocketAddr> {
        let stream = self.streams.get(on.stream() as usize)?.as_ref()?;
        let lane = self.lane(on)?;
        if stream.joined[on.end().index()].is_some() {
            return None;
        }
        match (lane.latch.source(), lane.aim) {
            (Some(_), Aim::At(to)) => Some(to),
            // Without consent not even that (RFC 7675 §5.1).
            (Some(_), Aim::Nowhere) if lane.latch.is_checked() => None,
            (Some(held), Aim::Capped(_) | Aim::Nowhere) => Some(held),
            (None, _) => {
                // Most legs are not opened toward: what it takes to know their target is saved.
                let plan = Some(&stream.legs[on.end().index()]).filter(|plan| plan.open)?;
                self.target(on).filter(|&to| permitted(plan, to))
            }
        }
    }

    /// When this socket has been silent for too long.
    pub(crate) fn keepalive_due(&self, on: Slot) -> Option<Instant> {
        let lane = self.lane(on).filter(|lane| lane.opening.is_none())?;
        if self.config.keepalive == KeepAlive::Off {
            return None;
        }
        self.kept(on).and(lane.sent.checked_add(self.config.keepalive_interval))
    }

    pub(crate) fn transmit(&mut self, now: Instant, via: Slot, to: SocketAddr, packet: Small) {
        if let Some(Some(lane)) = self.lanes.get_mut(via.0 as usize) {
            lane.count_out(&mut self.totals, now, packet.1.into());
            self.outputs.push_back(Output::Transmit { via, to, packet });
        }
    }
}

/// A Binding indication.
fn indication(rng: &mut ChaCha20Rng) -> Small {
    let mut transaction = [0; 12];
    rng.fill_bytes(&mut transaction);
    let (mut bytes, mut indication) = ([0; 96], [0; 20]);
    wire::stun::indication(transaction, &mut indication);
    bytes[..20].copy_from_slice(&indication);
    (bytes, 20)
}

/// A keep-alive. As RTP it is a header alone, of a payload type that nobody
/// can have negotiated (20, unassigned in RFC 3551 §6) and an SSRC of our own
/// (RFC 6263 §4.6); on the RTCP socket an empty receiver report (RFC 3550 §6.4.2).
fn keepalive(rng: &mut ChaCha20Rng, form: KeepAlive, component: Component, ssrc: u32, sequence: u16) -> Option<Small> {
    let mut bytes = [0; 96];
    match (form, component) {
        (KeepAlive::Off, _) => None,
        (KeepAlive::Stun, _) => Some(indication(rng)),
        (KeepAlive::Rtp, Component::Rtp) => {
            bytes[..2].copy_from_slice(&[0x80, 20]);
            bytes[2..4].copy_from_slice(&sequence.to_be_bytes());
            bytes[8..12].copy_from_slice(&ssrc.to_be_bytes());
            Some((bytes, 12))
        }
        (KeepAlive::Rtp, Component::Rtcp) => {
            bytes[..4].copy_from_slice(&[0x80, 201, 0, 1]);
            bytes[4..8].copy_from_slice(&ssrc.to_be_bytes());
            Some((bytes, 8))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::*;
    use crate::relay::Config;
    use crate::{Command, Sources, Verdict};

    fn world(keepalive: KeepAlive, a: LegPlan, b: LegPlan) -> World {
        let mut world = World::new(Config { keepalive, ..Config::default() });
        world.open(0, a, b, None);
        world
    }

    fn opened() -> LegPlan {
        LegPlan { open: true, ..server(0) }
    }

    fn times(world: &World, via: Slot) -> Vec<u64> {
        world.own.iter().filter(|own| own.via == via).map(|own| own.ms).collect()
    }

    #[test]
    fn five_quick_ones_then_one_a_second_until_the_peer_is_heard() {
        let mut world = world(KeepAlive::Stun, phone(0), opened());
        world.pass(3_500);
        let schedule = [0, 20, 40, 60, 80, 1_080, 2_080, 3_080];
        assert_eq!(times(&world, B_RTP), schedule);
        assert_eq!(times(&world, B_RTCP), schedule);
        for own in &world.own {
            assert_eq!(own.to, at(if own.via == B_RTP { SERVER } else { SERVER_RTCP }));
            assert_eq!(wire::demux::media(&own.bytes), wire::demux::Media::Stun);
        }
        // The phone did not ask for any.
        assert!(times(&world, A_RTP).is_empty() && times(&world, A_RTCP).is_empty());
        world.packet(B_RTP, SERVER, &rtp(1, 1));
        world.own.clear();
        world.pass(1_000_000 - 3_500);
        // Both sockets go over to keep-alives, even if the peer never sends RTCP.
        assert_eq!(times(&world, B_RTP)[..3], [18_080, 33_080, 48_080]);
        assert_eq!(times(&world, B_RTCP)[..3], [18_080, 33_080, 48_080]);
    }

    #[test]
    fn an_sdp_address_that_is_known_later_is_opened_then() {
        let mut world = world(KeepAlive::Off, phone(0), LegPlan { target: None, ..opened() });
        world.pass(10_000);
        assert_eq!(world.own, []);
        world.update(phone(0), opened(), false);
        world.pass(500);
        assert_eq!(times(&world, B_RTP), [10_000, 10_020, 10_040, 10_060, 10_080]);
        // The same again changes nothing; another address begins anew.
        world.update(phone(0), opened(), true);
        world.pass(100);
        assert_eq!(times(&world, B_RTP).len(), 5);
        world.update(phone(0), LegPlan { target: Some(target("203.0.113.9:8000")), ..opened() }, true);
        world.pass(100);
        assert_eq!(times(&world, B_RTP)[5..], [10_600, 10_620, 10_640, 10_660, 10_680]);
    }

    #[test]
    fn a_moved_peer_is_opened_for_a_while_beside_its_held_latch() {
        let mut world = world(KeepAlive::Off, phone(0), opened());
        world.packet(B_RTP, SERVER, &rtp(1, 1));
        world.pass(100);
        world.own.clear();
        world.update(phone(0), LegPlan { target: Some(target("203.0.113.9:8000")), ..opened() }, true);
        world.pass(60_000);
        assert_eq!(times(&world, B_RTP).len(), 15);
        assert!(world.own.iter().all(|own| own.to.ip() == at("203.0.113.9:1").ip()));
    }

    #[test]
    fn muxed_rtcp_needs_no_opening_and_real_media_replaces_the_slow_ones() {
        let muxed = crate::Target::new(at(SERVER), at(SERVER));
        let mut world = world(KeepAlive::Off, phone(0), LegPlan { target: Some(muxed), muxed: true, ..opened() });
        for n in 0..500 {
            assert_eq!(world.packet(A_RTP, PHONE, &rtp(1, n)), to(B_RTP, SERVER));
            world.pass(20);
        }
        assert_eq!(times(&world, B_RTP), [0, 20, 40, 60, 80]);
        assert_eq!(times(&world, B_RTCP), []);
    }

    #[test]
    fn nothing_goes_to_private_addresses_that_we_must_not_trust() {
        let mut world = world(KeepAlive::Stun, LegPlan { open: true, ..phone(0) }, server(0));
        world.pass(60_000);
        assert_eq!(world.own, []);
        // A public one is opened although no early media goes there; a private one where it is trusted.
        for (early, to) in [(Early::Never, "198.51.100.7:4000"), (Early::Capped, "192.168.7.7:4000")] {
            let plan = LegPlan { open: true, early, target: Some(target(to)), ..phone(0) };
            let mut world = self::world(KeepAlive::Stun, plan, server(0));
            world.pass(10);
            assert_eq!(world.own.iter().map(|own| own.to).collect::<Vec<_>>(), [at(to), target(to).rtcp()]);
        }
    }

    #[test]
    fn keep_alives_fill_our_own_silence_only() {
        for (keepalive, sent) in [(KeepAlive::Stun, 4), (KeepAlive::Rtp, 4), (KeepAlive::Off, 0)] {
            let mut world = world(keepalive, phone(0), server(0));
            world.packet(A_RTP, PHONE, &rtp(1, 1));
            world.packet(A_RTCP, PHONE, &rtcp(1));
            world.pass(61_000);
            // Toward the phone only: the server has not been heard, and has no opening.
            assert_eq!(times(&world, A_RTP), [15_000, 30_000, 45_000, 60_000][..sent], "{keepalive:?}");
            assert_eq!(times(&world, A_RTCP).len(), sent);
            assert_eq!(world.own.len(), 2 * sent);
            assert!(world.own.iter().all(|own| own.to == at(PHONE)));
            let kinds: std::collections::BTreeSet<_> =
                world.own.iter().map(|own| (own.via, wire::demux::media(&own.bytes))).collect();
            let expected = match keepalive {
                KeepAlive::Stun => vec![(A_RTP, wire::demux::Media::Stun), (A_RTCP, wire::demux::Media::Stun)],
                KeepAlive::Rtp => vec![(A_RTP, wire::demux::Media::Rtp), (A_RTCP, wire::demux::Media::Rtcp)],
                KeepAlive::Off => vec![],
            };
            assert_eq!(kinds.into_iter().collect::<Vec<_>>(), expected);
            // Media toward the phone postpones them.
            world.own.clear();
            for n in 0..100 {
                world.packet(B_RTP, SERVER, &rtp(2, n));
                world.pass(1_000);
            }
            assert_eq!(times(&world, A_RTP), []);
        }
    }

    #[test]
    fn a_peer_that_opens_toward_us_does_not_end_our_opening() {
        let mut world = world(KeepAlive::Off, phone(0), opened());
        world.pass(500);
        assert_eq!(world.packet(B_RTP, SERVER, &stun()), Verdict::Consumed);
        world.pass(5_000);
        assert_eq!(times(&world, B_RTP).len(), 10);
    }

    #[test]
    fn a_closed_stream_sends_nothing() {
        let mut world = world(KeepAlive::Stun, phone(0), opened());
        world.command(Command::Close { stream: stream(0), told: [false; 2] });
        world.pass(100_000);
        assert_eq!(world.own, []);
        // Nor does one that never had an address, whatever its sources.
        let plan = LegPlan { target: None, sources: Sources::default(), ..opened() };
        world.open(0, phone(0), plan, None);
        world.pass(100_000);
        assert_eq!(world.own, []);
    }
}
