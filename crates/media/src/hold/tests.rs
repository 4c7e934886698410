use std::time::Duration;

use super::*;
use crate::fixture::*;
use crate::quality::Figures;
use crate::relay::Config;
use crate::stats::LegCounts;
use crate::{Command, Drop, End, Fact, LegPlan, Proto, Verdict};

/// The holds that are in force after these outputs.
fn in_force(world: &World) -> Vec<Hold> {
    let mut holds: Vec<Hold> = Vec::new();
    for output in &world.outputs {
        match output {
            Output::Hold(hold) => {
                assert!(holds.iter().all(|known| known.on != hold.on), "held twice: {hold:?}");
                holds.push(*hold);
            }
            Output::Free { on } => {
                assert!(holds.iter().any(|known| known.on == *on), "freed in vain: {on:?}");
                holds.retain(|known| known.on != *on);
            }
            Output::Fact(_) | Output::Transmit { .. } | Output::Release { .. } => {}
        }
    }
    holds.sort_by_key(|hold| hold.on);
    holds
}

fn hold(on: Slot, from: &str, via: Slot, to: &str) -> Hold {
    Hold { on, from: at(from), via, to: at(to) }
}

/// Both latches held, ten packets each way.
fn talking() -> World {
    let mut world = World::call();
    for n in 0..10 {
        world.packet(A_RTP, PHONE, &rtp(1, n));
        world.packet(B_RTP, SERVER, &rtp(2, n));
        world.pass(20);
    }
    world
}

const BOTH: [(Slot, &str, Slot, &str); 2] = [(A_RTP, PHONE, B_RTP, SERVER), (B_RTP, SERVER, A_RTP, PHONE)];

fn both() -> [Hold; 2] {
    BOTH.map(|(on, from, via, to)| hold(on, from, via, to))
}

#[test]
fn a_held_latch_with_somewhere_to_send_is_told_once() {
    let mut world = World::call();
    assert_eq!(in_force(&world), []);
    // The server's address is known from SDP and may be sent to: one packet is enough.
    world.packet(A_RTP, PHONE, &rtp(1, 1));
    assert_eq!(in_force(&world), [hold(A_RTP, PHONE, B_RTP, SERVER)]);
    world.packet(B_RTP, SERVER, &rtp(2, 1));
    assert_eq!(in_force(&world), both());
    let told = world.outputs.len();
    for n in 2..50 {
        world.packet(A_RTP, PHONE, &rtp(1, n));
        world.packet(A_RTP, "192.0.2.66:6", &rtp(1, n));
    }
    assert_eq!(world.outputs.len(), told, "packets alone change nothing");
    world.packet(A_RTCP, "198.51.100.7:40001", &rtcp(1));
    assert_eq!(in_force(&world)[1], hold(A_RTCP, "198.51.100.7:40001", B_RTCP, SERVER_RTCP));
}

#[test]
fn a_moved_latch_frees_what_was_told_before() {
    let mut world = talking();
    world.pass(300);
    let moved = "198.51.100.7:41111";
    assert_eq!(world.packet(A_RTP, moved, &rtp_at(1, 10, 1600)), to(B_RTP, SERVER));
    assert_eq!(in_force(&world), [hold(A_RTP, moved, B_RTP, SERVER), hold(B_RTP, SERVER, A_RTP, moved)]);
}

#[test]
fn commands_that_change_the_way_are_told() {
    let mut world = talking();
    let away = "203.0.113.9:8000";
    let target = Some(target(away));
    world.update(phone(0), LegPlan { target, sources: from_ip("203.0.113.9"), ..server(0) }, true);
    assert_eq!(in_force(&world), [hold(A_RTP, PHONE, B_RTP, away), both()[1]]);
    world.command(Command::Replace { stream: stream(0), end: End::B });
    assert_eq!(in_force(&world), [hold(A_RTP, PHONE, B_RTP, away)], "the end of another peer is free");
    world.command(Command::Close { stream: stream(0), told: [false; 2] });
    assert_eq!(in_force(&world), []);
    assert!(matches!(world.outputs.last(), Some(Output::Fact(Fact::Closed { .. }))));
}

#[test]
fn a_capped_address_is_no_hold() {
    let mut world = World::new(Config::default());
    world.open(0, phone(0), LegPlan { early: crate::Early::Capped, ..server(0) }, None);
    world.packet(A_RTP, PHONE, &rtp(1, 1));
    assert_eq!(in_force(&world), []);
    world.packet(B_RTP, SERVER, &rtp(2, 1));
    assert_eq!(in_force(&world), both());
}

#[test]
fn keys_udptl_and_spirals_have_no_pace() {
    let mut world = talking();
    assert!(world.relay.pace(A_RTP).is_some() && world.relay.pace(B_RTP).is_some());
    assert_eq!(world.relay.pace(A_RTCP), None);
    assert_eq!(world.relay.pace(Slot(77)), None);
    world.command(Command::Carry { stream: stream(0), proto: Proto::Udptl });
    assert_eq!((world.relay.pace(A_RTP), in_force(&world).len()), (None, 2));
    let mut world = World::new(Config::default());
    let key = srtp_key(1);
    world.open(0, LegPlan { srtp: [key.clone()].into(), ..phone(0) }, server(0), None);
    world.packet(A_RTP, PHONE, &srtp(&key, 1, 1));
    assert_eq!((world.relay.pace(A_RTP), in_force(&world).len()), (None, 1));
    let mut world = talking();
    world.open(1, server(1), LegPlan { sources: from_ip("198.51.100.8"), ..phone(1) }, None);
    world.command(Command::Join { a: (stream(0), End::B), b: (stream(1), End::A) });
    assert_eq!(in_force(&world), []);
    for n in 0..3 {
        world.packet(Slot(6), "198.51.100.8:42000", &rtp(3, n));
    }
    let across = hold(A_RTP, PHONE, Slot(6), "198.51.100.8:42000");
    assert_eq!(in_force(&world), [across, hold(Slot(6), "198.51.100.8:42000", A_RTP, PHONE)]);
    assert_eq!((world.relay.pace(A_RTP), world.relay.pace(Slot(6))), (None, None));
    world.command(Command::Part { stream: stream(0) });
    assert_eq!(in_force(&world).first(), Some(&hold(A_RTP, PHONE, B_RTP, SERVER)));
}

/// What a backend does with packets that continue a hold.
fn pass_by(world: &mut World, on: Slot, packets: u64) {
    let pace = world.relay.pace(on).expect("a pace");
    let at = world.now;
    let timestamp = pace.timestamp.wrapping_add(160 * packets as u32);
    let hold = world.relay.lane(on).and_then(|lane| lane.hold.as_deref().copied()).expect("a hold");
    world.relay.passed(&hold, &Passed { packets, bytes: 172 * packets, at, timestamp, jitter: pace.jitter });
}

#[test]
fn what_passed_counts_as_if_it_had_been_judged() {
    let (mut judged, mut passed) = (talking(), talking());
    for n in 10..200 {
        judged.packet(A_RTP, PHONE, &rtp_at(1, n, 160 * u32::from(n)));
        judged.packet(B_RTP, SERVER, &rtp_at(2, n, 160 * u32::from(n)));
        judged.pass(20);
        passed.pass(20);
    }
    for world in [&mut judged, &mut passed] {
        world.now -= Duration::from_millis(20);
    }
    pass_by(&mut passed, A_RTP, 190);
    pass_by(&mut passed, B_RTP, 190);
    for world in [&mut judged, &mut passed] {
        world.outputs.clear();
        world.facts.clear();
        // A packet is missing, then the next is judged here again.
        world.pass(40);
        assert_eq!(world.packet(A_RTP, PHONE, &rtp_at(1, 201, 160 * 201)), to(B_RTP, SERVER));
        world.command(Command::Close { stream: stream(0), told: [false; 2] });
    }
    let closed = |world: &World| match world.facts.last() {
        Some(Fact::Closed { legs, .. }) => legs.clone(),
        other => panic!("not closed: {other:?}"),
    };
    let (one, other) = (closed(&judged), closed(&passed));
    assert_eq!((one[0].packets_in, one[0].quality.lost, one[0].bytes_out), (201, 1, 200 * 172));
    let of = |world: &World, leg: &LegCounts| {
        let since = |at: Option<Instant>| at.map(|at| at.duration_since(world.start));
        let (first, last) = (since(leg.quality.first), since(leg.quality.last));
        let quality = Figures { first: None, last: None, jitter: Duration::ZERO, ..leg.quality };
        (first, last, LegCounts { quality, ..*leg })
    };
    for (one, other) in one.iter().zip(other.iter()) {
        assert_eq!(of(&judged, one), of(&passed, other));
    }
}

#[test]
fn silence_and_keepalives_count_from_what_passed() {
    let mut world = World::call();
    let plans = || Box::new([phone(0), server(0)]);
    let timeout = Some(Duration::from_secs(10));
    world.command(Command::Update { stream: stream(0), epoch: 2, legs: plans(), timeout, rearm: false });
    for n in 0..3 {
        world.packet(A_RTP, PHONE, &rtp(1, n));
        world.packet(B_RTP, SERVER, &rtp(2, n));
    }
    world.own.clear();
    let mut asked = 0;
    for _ in 0..30 {
        let until = world.now + Duration::from_secs(1);
        world.now = until;
        let due = world.relay.poll_timeout().is_some_and(|at| at <= until);
        if due {
            let (now, packets) = (world.now, 50);
            world.relay.arrive(now);
            world.relay.handle_timeout_after(now, |relay, id| {
                asked += 1;
                for hold in both() {
                    let pace = relay.pace(hold.on).expect("a pace");
                    let timestamp = pace.timestamp;
                    relay.passed(&hold, &Passed { packets, bytes: 172 * packets, at: now, timestamp, jitter: 0 });
                }
                assert_eq!(id, stream(0));
            });
            while let Some(output) = world.relay.poll_output() {
                match output {
                    Output::Fact(Fact::Silent { .. }) => panic!("silent after {asked}"),
                    Output::Transmit { via, .. } => assert!(via == A_RTCP || via == B_RTCP, "{via:?}"),
                    Output::Fact(_) | Output::Hold(_) | Output::Free { .. } | Output::Release { .. } => {}
                }
            }
        }
    }
    assert!(asked > 3, "{asked}");
}

#[test]
fn a_foreign_packet_finds_the_latch_as_fresh_as_what_passed() {
    let mut world = talking();
    world.pass(1000);
    pass_by(&mut world, A_RTP, 50);
    // Its source was heard just now, so whoever continues its numbers comes to nothing.
    let next = rtp_at(1, 60, 160 * 60);
    assert_eq!(world.packet(A_RTP, "198.51.100.7:41111", &next), Verdict::Drop(Drop::NotLatched));
    world.pass(300);
    assert_eq!(world.packet(A_RTP, "198.51.100.7:41111", &next), to(B_RTP, SERVER));
}
