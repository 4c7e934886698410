//! Every rule of the security page, and the attacks that it is there for.

mod keyed;

use std::time::Duration;

use super::*;
use crate::fixture::{at, beginning, dtls, from_ip, rtcp, rtp, rtp_at, stun, target, udptl};
use crate::{Sources, Target};

/// What may come of a packet, in a table's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    /// From the held source.
    Held,
    Takes,
    Moves,
    Passes,
    NotLatched,
    Refused,
    /// No key vouches for it.
    Unproven,
}
use Said::*;

/// One line of a table: at this time (ms), from here, this packet.
type Line = (u64, &'static str, Vec<u8>, Said);

struct Scene {
    start: Instant,
    latch: Latch,
    sources: Sources,
    component: Component,
    target: Option<SocketAddr>,
    ssrc: Option<u32>,
    roamed: Option<IpAddr>,
    opaque: bool,
}

const PHONE: &str = "198.51.100.7:40000";
const PHONE_OTHER: &str = "198.51.100.7:41000";
const PHONE_THIRD: &str = "198.51.100.7:42000";
const LTE: &str = "192.0.2.200:5555";
const STRANGER: &str = "192.0.2.66:1024";

impl Scene {
    fn new(sources: Sources, target: Option<&str>) -> Self {
        let start = beginning();
        Self {
            start,
            latch: Latch::new(start),
            sources,
            component: Component::Rtp,
            target: target.map(at),
            ssrc: None,
            roamed: None,
            opaque: false,
        }
    }

    /// A phone behind NAT: any port of the IP that its signalling came from.
    fn phone() -> Self {
        Self::new(from_ip("198.51.100.7"), Some("192.168.1.9:4000"))
    }

    fn rearm(&mut self, ms: u64, target: Option<&str>) {
        self.target = target.map(at);
        self.latch.rearm(self.start + Duration::from_millis(ms), self.target);
    }

    fn packet(&mut self, ms: u64, from: &str, packet: &[u8]) -> Said {
        let (now, from) = (self.start + Duration::from_millis(ms), at(from));
        let kind = Kind::of(wire::demux::media(packet), self.opaque).expect("media");
        if self.latch.holds(from) {
            self.latch.heard(now, kind, packet);
            return Held;
        }
        let (ssrc, roamed) = (self.ssrc, self.roamed);
        let rules = Rules { sources: &self.sources, component: self.component, target: self.target, ssrc, roamed };
        match self.latch.judge(now, from, kind, packet, &rules) {
            Judgement::Take => Takes,
            Judgement::Move => Moves,
            Judgement::Pass => Passes,
            Judgement::Refuse(Drop::NotLatched) => NotLatched,
            Judgement::Refuse(Drop::RefusedSource) => Refused,
            Judgement::Refuse(Drop::Unauthenticated) => Unproven,
            Judgement::Refuse(other) => panic!("the latch says {other:?}"),
        }
    }

    #[track_caller]
    fn play(&mut self, lines: impl IntoIterator<Item = Line>) {
        for (index, (ms, from, packet, said)) in lines.into_iter().enumerate() {
            assert_eq!(self.packet(ms, from, &packet), said, "line {index}: {from} at {ms} ms");
        }
    }
}

fn every_20_ms(from: &'static str, ssrc: u32, sequences: std::ops::Range<u16>, said: Said) -> Vec<Line> {
    sequences.map(|sequence| (u64::from(sequence) * 20, from, rtp(ssrc, sequence), said)).collect()
}

#[test]
fn what_may_latch() {
    let exact =
        Sources { exact: Some(Target::new(at("203.0.113.5:6000"), at("203.0.113.5:7000"))), ..Sources::default() };
    let prefix = Sources { prefixes: ["100.64.0.0/10".parse().unwrap()].into(), ..Sources::default() };
    let v6 = from_ip("2001:db8::7");
    let mapped = from_ip("::ffff:198.51.100.7");
    for (sources, component, from, said) in [
        (&exact, Component::Rtp, "203.0.113.5:6000", Takes),
        (&exact, Component::Rtp, "203.0.113.5:6001", Refused),
        (&exact, Component::Rtp, "203.0.113.5:7000", Refused),
        (&exact, Component::Rtcp, "203.0.113.5:7000", Takes),
        (&exact, Component::Rtcp, "203.0.113.5:6000", Refused),
        (&exact, Component::Rtp, "203.0.113.6:6000", Refused),
        (&from_ip("198.51.100.7"), Component::Rtp, PHONE, Takes),
        (&from_ip("198.51.100.7"), Component::Rtp, PHONE_OTHER, Takes),
        (&from_ip("198.51.100.7"), Component::Rtp, "198.51.100.7:0", Refused),
        (&from_ip("198.51.100.7"), Component::Rtp, "198.51.100.8:40000", Refused),
        (&from_ip("0.0.0.0"), Component::Rtp, "0.0.0.0:40000", Refused),
        (&prefix, Component::Rtp, "100.100.1.1:1", Takes),
        (&prefix, Component::Rtp, "100.128.1.1:1", Refused),
        (&v6, Component::Rtp, "[2001:db8::7]:9", Takes),
        (&v6, Component::Rtp, "[2001:db8::8]:9", Refused),
        (&mapped, Component::Rtp, PHONE, Takes),
        (&Sources::default(), Component::Rtp, PHONE, Refused),
    ] {
        let mut scene = Scene { component, ..Scene::new(sources.clone(), None) };
        let packet = if component == Component::Rtcp { rtcp(1) } else { rtp(1, 1) };
        assert_eq!(scene.packet(0, from, &packet), said, "{sources:?} {component:?} {from}");
    }
}

#[test]
fn what_takes_a_free_latch() {
    for (packet, said, next) in
        [(rtp(1, 1), Takes, Held), (rtcp(1), Takes, Held), (dtls(), Takes, Held), (stun(), Passes, Passes)]
    {
        let mut scene = Scene::phone();
        scene.play([
            (0, STRANGER, packet.clone(), Refused),
            (1, PHONE, packet.clone(), said),
            (2, PHONE, packet, next),
        ]);
    }
}

#[test]
fn spray_from_foreign_addresses_before_and_after_the_latch() {
    let mut scene = Scene::phone();
    let spray = |scene: &mut Scene, ms| {
        for n in 0..1000_u16 {
            let from = format!("192.0.{}.{}:{}", n / 250 + 10, n % 250 + 1, 1024 + n);
            assert_eq!(scene.packet(ms, &from, &rtp(u32::from(n), n)), Refused, "{from}");
        }
    };
    spray(&mut scene, 0);
    scene.play([(10, PHONE, rtp(1, 1), Takes)]);
    spray(&mut scene, 20);
    scene.play([(30, PHONE, rtp(1, 2), Held)]);
    // However long the phone is silent.
    spray(&mut scene, 60_000);
    scene.play([(60_010, PHONE, rtp_at(1, 3, 480_000), Held)]);
}

#[test]
fn same_ip_other_port_while_held() {
    let mut scene = Scene::phone();
    scene.play([
        (0, PHONE, rtp(1, 1), Takes),
        (20, PHONE_OTHER, rtp(2, 900), NotLatched),
        (199, PHONE_OTHER, rtp(1, 2), NotLatched),
        // Silent by now, but not the same sender.
        (5_000, PHONE_OTHER, rtp(2, 901), NotLatched),
        (5_000, PHONE_OTHER, rtcp(1), NotLatched),
        (5_000, PHONE_OTHER, dtls(), NotLatched),
        (5_000, PHONE_OTHER, stun(), Passes),
        (5_020, PHONE, rtp(1, 2), Held),
    ]);
}

#[test]
fn spoofed_ssrc_without_continuity() {
    let mut scene = Scene::phone();
    scene.play([(0, PHONE, rtp_at(1, 1000, 160_000), Takes)]);
    for (sequence, timestamp) in [
        (1000, 160_160), // the same number again
        (999, 159_840),  // behind
        (2000, 161_760), // 1000 packets in 0.3 s
        (40_000, 161_760),
        (1015, 2_000_000_000),
        (1015, 100_000), // seconds behind
        (1015, 160_000 + 300 * 96 + 90_001),
    ] {
        for from in [PHONE_OTHER, STRANGER] {
            let said = if from == STRANGER { Refused } else { NotLatched };
            for _ in 0..10 {
                assert_eq!(scene.packet(300, from, &rtp_at(1, sequence, timestamp)), said, "{sequence} {timestamp}");
            }
        }
    }
    scene.play([(320, PHONE, rtp_at(1, 1001, 160_160), Held)]);
}

#[test]
fn windows_grow_with_the_silence() {
    for (ms, ahead, ticks, moves) in [
        (200, 10, 1_600, true),
        (200, 164, 1_600, true),
        (200, 165, 1_600, false),
        (10_000, 3000, 80_000, true),
        (60_000, 3000, 480_000, true),
        (60_000, 3001, 480_000, false),
        (60_000, 1, 480_000, true), // silence suppression: only the clock went on
        (1_000, 50, 90_000, true),  // video
        (1_000, 50, 1, true),
        (1_000, 50, 0, true),      // more of the same frame
        (1_000, 50, -4_000, true), // an event that began earlier
        (1_000, 50, -16_001, false),
        (1_000, 50, 186_001, false),
    ] {
        // Both counters wrap on the way.
        let mut scene = Scene::phone();
        let said = if moves { Moves } else { NotLatched };
        let packet = rtp_at(9, 65_530_u16.wrapping_add(ahead), (u32::MAX - 5).wrapping_add_signed(ticks));
        scene.play([(0, PHONE, rtp_at(9, 65_530, u32::MAX - 5), Takes), (ms, PHONE_OTHER, packet, said)]);
    }
}

#[test]
fn a_new_mapping_of_the_same_address() {
    let mut scene = Scene::phone();
    scene.play(every_20_ms(PHONE, 1, 0..50, Held).into_iter().map(|mut line| {
        if line.0 == 0 {
            line.3 = Takes;
        }
        line
    }));
    // The router forgets; from packet 50 on the phone appears elsewhere. Last heard: 980 ms.
    scene.play(every_20_ms(PHONE_OTHER, 1, 50..59, NotLatched));
    scene.play([(1_180, PHONE_OTHER, rtp(1, 59), Moves), (1_200, PHONE_OTHER, rtp(1, 60), Held)]);
    // What was delayed on the old way stays out.
    scene.play([(1_201, PHONE, rtp(1, 49), NotLatched)]);
}

#[test]
fn a_new_address_of_the_same_phone_needs_five_packets() {
    let mut scene = Scene::phone();
    scene.play([
        (0, PHONE, rtp(1, 100), Takes),
        (180, LTE, rtp(1, 109), Refused), // not silent yet, does not count
        (200, LTE, rtp(1, 110), Refused),
        (220, LTE, rtp(1, 111), Refused),
        (220, LTE, rtp(1, 111), Refused),       // a duplicate does not count
        (230, STRANGER, rtp(77, 112), Refused), // nor does a stranger disturb
        (240, LTE, rtp(1, 113), Refused),
        (241, LTE, rtp(1, 112), Refused), // overtaken: does not count, does no harm
        (260, LTE, rtp(1, 114), Refused),
        (280, LTE, rtp(1, 115), Moves),
        (300, LTE, rtp(1, 116), Held),
        (301, PHONE, rtp(1, 117), NotLatched),
    ]);
    assert_eq!(scene.latch.roamed(), Some(at(LTE).ip()));
}

#[test]
fn proving_ends_when_the_phone_is_heard_or_the_stream_breaks() {
    let mut scene = Scene::phone();
    scene.play([(0, PHONE, rtp(1, 100), Takes)]);
    scene.play((0..4_u16).map(|n| (300 + u64::from(n) * 20, STRANGER, rtp(1, 110 + n), Refused)));
    scene.play([(380, PHONE, rtp(1, 119), Held)]);
    scene.play((0..4_u16).map(|n| (600 + u64::from(n) * 20, STRANGER, rtp(1, 130 + n), Refused)));
    scene.play([(680, STRANGER, rtp(1, 900), Refused)]); // a jump: from the beginning
    scene.play((0..4_u16).map(|n| (700 + u64::from(n) * 20, STRANGER, rtp(1, 140 + n), Refused)));
    scene.play([(780, PHONE, rtp(1, 139), Held)]);
}

#[test]
fn rearm_on_resume_with_new_ssrc_and_port() {
    let mut scene = Scene::phone();
    scene.play([(0, PHONE, rtp(1, 1), Takes)]);
    scene.rearm(1_000, Some("192.168.1.9:4000")); // hold
    scene.rearm(90_000, Some("192.168.1.9:4000")); // resume
    scene.play([
        (90_010, STRANGER, rtp(1, 2), Refused),
        (90_020, PHONE_OTHER, rtp(2, 700), Moves),
        (90_040, PHONE_OTHER, rtp(2, 701), Held),
        // Once.
        (91_000, PHONE_THIRD, rtp(3, 1), NotLatched),
        (91_001, PHONE, rtp(1, 2), NotLatched),
    ]);
}

#[test]
fn rearm_without_change_waits_for_silence() {
    let mut scene = Scene::phone();
    scene.play([(0, PHONE, rtp(1, 1), Takes)]);
    scene.rearm(10, Some("192.168.1.9:4000"));
    scene.play([
        (150, PHONE_OTHER, rtp(2, 1), NotLatched),
        (160, PHONE, rtp(1, 9), Held),
        (359, PHONE_OTHER, rtp(2, 2), NotLatched),
        (360, PHONE_OTHER, rtp(2, 3), Moves),
    ]);
}

#[test]
fn rearm_without_change_lapses_when_the_old_source_goes_on() {
    let mut scene = Scene::phone();
    scene.play([(0, PHONE, rtp(1, 1), Takes)]);
    scene.rearm(1_000, Some("192.168.1.9:4000"));
    scene.play([
        (6_000, PHONE, rtp(1, 300), Held),
        (7_000, PHONE_OTHER, rtp(2, 1), NotLatched),
        // The strict rule remains.
        (7_010, PHONE_OTHER, rtp(1, 350), Moves),
    ]);
}

#[test]
fn rearm_with_a_new_address_moves_at_once_and_once() {
    let old = target("203.0.113.5:6000");
    let new = target("203.0.113.9:8000");
    let mut scene = Scene::new(Sources { exact: Some(old), ..from_ip("203.0.113.5") }, Some("203.0.113.5:6000"));
    scene.play([(0, "203.0.113.5:6000", rtp(1, 1), Takes), (10, "203.0.113.9:8000", rtp(2, 1), Refused)]);
    scene.sources = Sources { exact: Some(new), ..from_ip("203.0.113.9") };
    scene.rearm(20, Some("203.0.113.9:8000"));
    assert!(scene.latch.moving() && scene.latch.truthful());
    scene.play([
        // The old one is no longer in the plan, and still heard until the new one flows (RFC 3264 §8.3.1).
        (30, "203.0.113.5:6000", rtp(1, 2), Held),
        (31, "203.0.113.5:6002", rtp(1, 3), Refused),
        (32, STRANGER, rtp(2, 1), Refused),
        (33, "203.0.113.9:8000", dtls(), Passes),
        (34, "203.0.113.9:8000", stun(), Passes),
        (40, "203.0.113.9:8000", rtp(2, 2), Moves),
        (41, "203.0.113.5:6000", rtp(1, 3), Refused),
        (60, "203.0.113.9:8000", rtp(2, 3), Held),
        (5_000, "203.0.113.9:8002", rtp(3, 3), NotLatched),
    ]);
    assert!(!scene.latch.moving());
}

#[test]
fn a_late_move_waits_for_silence_unless_sdp_names_the_source() {
    let mut scene = Scene::new(from_ip("203.0.113.5"), Some("203.0.113.5:6000"));
    scene.play([(0, "203.0.113.5:6000", rtp(1, 1), Takes)]);
    scene.rearm(20, Some("203.0.113.5:8000"));
    scene.play([
        (5_020, "203.0.113.5:6000", rtp(1, 251), Held),
        (5_030, "203.0.113.5:9000", rtp(3, 1), NotLatched),
        (5_040, "203.0.113.5:8000", rtp(2, 1), Moves),
    ]);
    scene.rearm(6_000, Some("203.0.113.5:8800"));
    scene.play([
        (11_000, "203.0.113.5:8000", rtp(2, 2), Held),
        (11_199, "203.0.113.5:9000", rtp(3, 2), NotLatched),
        (11_200, "203.0.113.5:9000", rtp(3, 3), Moves),
    ]);
}

#[test]
fn a_target_that_becomes_known_or_unknown_is_no_change() {
    for (before, after, there_and_back) in [
        (None, Some("192.168.1.9:4000"), None),
        (Some("192.168.1.9:4000"), None, Some("192.168.1.9:4000")), // hold by c=0.0.0.0, and resume
    ] {
        let mut scene = Scene::phone();
        scene.target = before.map(at);
        scene.play([(0, PHONE, rtp(1, 1), Takes)]);
        scene.rearm(10, after);
        assert!(!scene.latch.moving());
        scene.play([(20, PHONE_OTHER, rtp(2, 1), NotLatched)]);
        if there_and_back.is_some() {
            scene.rearm(30, there_and_back);
            assert!(!scene.latch.moving());
        }
        scene.rearm(40, Some("192.168.1.9:4002"));
        assert!(scene.latch.moving());
    }
}

#[test]
fn rtcp_on_its_own_socket() {
    let mut scene = Scene { component: Component::Rtcp, ssrc: Some(1), ..Scene::phone() };
    scene.play([
        (0, STRANGER, rtcp(1), Refused),
        (0, PHONE, rtcp(1), Takes),
        (5_000, PHONE, rtcp(1), Held),
        // Always silent for long enough, so the sender must be the same.
        (9_000, PHONE_OTHER, rtcp(2), NotLatched),
        (9_000, STRANGER, rtcp(1), Refused),
        (9_001, PHONE_OTHER, rtcp(1), Moves),
    ]);
    // Once RTP has proven a new address, RTCP may follow it there.
    scene.roamed = Some(at(LTE).ip());
    scene.play([(15_000, LTE, rtcp(9), NotLatched), (15_001, LTE, rtcp(1), Moves)]);
    // After a re-arm the source alone decides.
    scene.roamed = None;
    scene.rearm(20_000, Some("192.168.1.9:4000"));
    scene.play([(20_001, STRANGER, rtcp(1), Refused), (20_002, PHONE, rtcp(8), Moves)]);
}

#[test]
fn rtp_takes_and_moves_nothing_on_the_socket_of_rtcp() {
    let mut scene = Scene { component: Component::Rtcp, ssrc: Some(1), ..Scene::phone() };
    scene.play([
        (0, PHONE_OTHER, rtp(7, 1), NotLatched),
        (20, PHONE, rtcp(1), Takes),
        (40, PHONE_OTHER, rtp(7, 2), NotLatched),
    ]);
    scene.rearm(50, Some("192.168.1.9:4000"));
    scene.play([
        (1_000, PHONE_OTHER, rtp(7, 3), NotLatched),
        (1_001, STRANGER, rtp(7, 4), Refused),
        (1_002, PHONE_OTHER, rtcp(1), Moves),
    ]);
    scene.rearm(2_000, Some("192.168.1.9:4100"));
    scene.play([(2_010, PHONE_THIRD, rtp(1, 5), NotLatched), (2_020, PHONE_THIRD, rtcp(1), Moves)]);
}

#[test]
fn muxed_rtcp_never_moves_a_latch_between_offers() {
    let mut scene = Scene::phone();
    scene.play([
        (0, PHONE, rtp(1, 1), Takes),
        (10, PHONE, rtcp(1), Held),
        (5_000, PHONE_OTHER, rtcp(1), NotLatched),
        (5_010, PHONE, rtp(1, 2), Held),
    ]);
}

#[test]
fn a_fax_follows_the_re_invite() {
    let mut scene = Scene::phone();
    scene.play([(0, PHONE, rtp(1, 1), Takes)]);
    scene.opaque = true;
    scene.rearm(1_000, Some("192.168.1.9:4400"));
    scene.play([
        (1_010, STRANGER, udptl(0), Refused),
        (1_020, PHONE, udptl(0), Held),
        (1_030, PHONE_OTHER, udptl(1), Moves),
        (1_040, PHONE_OTHER, udptl(40_000), Held),
        (9_000, PHONE_THIRD, udptl(40_001), NotLatched),
    ]);
}

#[test]
fn neighbours_are_told_from_strangers() {
    let sources = from_ip("198.51.100.7");
    let rules = Rules { sources: &sources, component: Component::Rtp, target: None, ssrc: None, roamed: None };
    assert!(rules.neighbour(at("198.51.100.201:1")));
    assert!(!rules.neighbour(at("198.51.101.7:1")));
    assert!(!rules.neighbour(at("[2001:db8::1]:1")));
}
