//! Streams from Open to Close, in virtual time.

use std::time::Duration;

use super::*;
use crate::fixture::*;
use crate::quality::{Codec, Figures};
use crate::{Early, Sources, Target, Verdict};

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn off() -> Config {
    Config { keepalive: KeepAlive::Off, ..Config::default() }
}

fn closed(stream: StreamId) -> Command {
    Command::Close { stream, told: [false; 2] }
}

#[test]
fn media_flows_both_ways_from_the_port_it_is_received_on() {
    let mut world = World::call();
    // RFC 4961: toward the server at once, toward the phone from its first packet on.
    assert_eq!(world.packet(B_RTP, SERVER, &rtp(2, 1)), Verdict::Drop(Drop::NoTarget));
    assert_eq!(world.packet(A_RTP, PHONE, &rtp(1, 1)), to(B_RTP, SERVER));
    assert_eq!(world.packet(B_RTP, SERVER, &rtp(2, 2)), to(A_RTP, PHONE));
    assert_eq!(world.packet(A_RTP, PHONE, &dtls()), to(B_RTP, SERVER));
    // RTCP has a latch of its own; on the RTP socket, too, it goes where RTCP is wanted.
    assert_eq!(world.packet(B_RTCP, SERVER_RTCP, &rtcp(2)), Verdict::Drop(Drop::NoTarget));
    assert_eq!(world.packet(A_RTCP, "198.51.100.7:40001", &rtcp(1)), to(B_RTCP, SERVER_RTCP));
    assert_eq!(world.packet(B_RTCP, SERVER_RTCP, &rtcp(2)), to(A_RTCP, "198.51.100.7:40001"));
    assert_eq!(world.packet(A_RTP, PHONE, &rtcp(1)), to(B_RTCP, SERVER_RTCP));
    assert_eq!(
        world.latches().into_iter().map(|(end, component, ..)| (end, component)).collect::<Vec<_>>(),
        [(End::B, Component::Rtp), (End::A, Component::Rtp), (End::B, Component::Rtcp), (End::A, Component::Rtcp)]
    );
}

#[test]
fn what_is_no_media_is_dropped_and_counted() {
    let mut world = World::call();
    for (on, from, packet, why) in [
        (Slot(4), PHONE, rtp(1, 1), Drop::NoStream),
        (Slot(u32::MAX), PHONE, rtp(1, 1), Drop::NoStream),
        (A_RTP, PHONE, vec![], Drop::NotMedia),
        (A_RTP, PHONE, vec![0x80; 7], Drop::NotMedia),
        (A_RTP, PHONE, vec![64; 40], Drop::NotMedia),
        (A_RTP, PHONE, vec![16; 40], Drop::NotMedia),
        (A_RTP, PHONE, udptl(1), Drop::NotMedia),
        (A_RTP, "203.0.113.99:1", rtp(1, 1), Drop::RefusedSource),
        (A_RTP, "198.51.100.99:1", rtp(1, 1), Drop::RefusedSource),
    ] {
        assert_eq!(world.packet(on, from, &packet), Verdict::Drop(why), "{on:?} {from} {packet:?}");
    }
    assert_eq!(world.packet(A_RTP, PHONE, &stun()), Verdict::Consumed);
    assert_eq!(world.latches(), []);
    assert!(matches!(world.packet(A_RTP, PHONE, &rtp(1, 1)), Verdict::Forward { .. }));
    assert_eq!(world.packet(A_RTP, PHONE, &stun()), Verdict::Consumed);
    assert_eq!(world.packet(A_RTP, PHONE, &udptl(1)), Verdict::Drop(Drop::NotMedia));
    assert_eq!(world.packet(A_RTP, "198.51.100.7:1", &rtp(1, 2)), Verdict::Drop(Drop::NotLatched));
    world.pass(1_000);
    let totals =
        world.facts.iter().find_map(|f| if let Fact::Totals(totals) = f { Some(totals.clone()) } else { None });
    let totals = totals.expect("figures after a second");
    let drops = Drop::ALL.map(|why| totals.dropped(why));
    assert_eq!(drops, [2, 2, 1, 6, 0, 0, 0, 0, 0]);
    assert_eq!((totals.neighbours, totals.packets_in, totals.packets_out), (1, [0, 3], [1, 0]));
}

#[test]
fn a_fax_passes_once_the_stream_carries_it() {
    let mut world = World::call();
    world.packet(A_RTP, PHONE, &rtp(1, 1));
    world.command(Command::Carry { stream: stream(0), proto: Proto::Udptl });
    for sequence in [0, 1, 0x1000, 0x1500, 0x4000, 0x8000, 0xffff] {
        assert_eq!(world.packet(A_RTP, PHONE, &udptl(sequence)), to(B_RTP, SERVER));
        assert_eq!(world.packet(A_RTP, "192.0.2.66:9", &udptl(sequence)), Verdict::Drop(Drop::RefusedSource));
    }
    world.command(Command::Carry { stream: stream(0), proto: Proto::Rtp });
    assert_eq!(world.packet(A_RTP, PHONE, &udptl(0)), Verdict::Drop(Drop::NotMedia));
}

#[test]
fn who_was_heard_while_another_fork_rang_is_forgotten_when_it_answers() {
    let mut world = World::call();
    world.packet(A_RTP, PHONE, &rtp(1, 1));
    assert_eq!(world.packet(B_RTP, SERVER, &rtp(2, 1)), to(A_RTP, PHONE));
    let other = LegPlan { target: Some(target("203.0.113.9:7000")), sources: from_ip("203.0.113.9"), ..server(0) };
    world.update(phone(0), other, true);
    // As long as only an offer/answer says so, the old source is heard until the new one is.
    assert_eq!(world.packet(B_RTP, SERVER, &rtp(2, 2)), to(A_RTP, PHONE));
    world.command(Command::Replace { stream: stream(0), end: End::B });
    assert_eq!(world.packet(B_RTP, SERVER, &rtp(2, 3)), Verdict::Drop(Drop::RefusedSource));
    assert_eq!(world.packet(B_RTP, "203.0.113.9:7000", &rtp(3, 1)), to(A_RTP, PHONE));
    // Whoever is at the very address stays.
    world.command(Command::Replace { stream: stream(0), end: End::B });
    assert_eq!(world.packet(B_RTP, "203.0.113.9:7002", &rtp(3, 2)), Verdict::Drop(Drop::NotLatched));
}

#[test]
fn early_media_toward_an_unproven_address_is_capped() {
    for (gap, sent, why) in [(20, 50, Drop::EarlyCap), (100, 20, Drop::EarlyCap)] {
        let mut world = World::new(off());
        let public = LegPlan { target: Some(target("198.51.100.7:4000")), early: Early::Capped, ..phone(0) };
        world.open(0, public.clone(), server(0), None);
        // The callee rings for long before its announcement comes.
        world.pass(10_000);
        let mut verdicts = Vec::new();
        for n in 0..80 {
            verdicts.push(world.packet(B_RTP, SERVER, &rtp(2, n)));
            world.pass(gap);
        }
        assert!(verdicts[..sent].iter().all(|v| *v == to(A_RTP, "198.51.100.7:4000")), "{gap}");
        assert!(verdicts[sent..].iter().all(|v| *v == Verdict::Drop(why)), "{gap}");
        // RTCP is under the same cap.
        assert_eq!(world.packet(B_RTCP, SERVER_RTCP, &rtcp(2)), Verdict::Drop(why));
        // Neither a preview with another target nor a re-arm with the same one renews it.
        let other = LegPlan { target: Some(target("198.51.100.7:4444")), ..public.clone() };
        world.update(other.clone(), server(0), false);
        assert_eq!(world.packet(B_RTP, SERVER, &rtp(2, 100)), Verdict::Drop(why));
        world.update(public, server(0), true);
        assert_eq!(world.packet(B_RTP, SERVER, &rtp(2, 101)), Verdict::Drop(why));
        world.update(other, server(0), true);
        assert_eq!(world.packet(B_RTP, SERVER, &rtp(2, 102)), to(A_RTP, "198.51.100.7:4444"));
        // The phone speaks: no cap any more.
        world.packet(A_RTP, PHONE, &rtp(1, 1));
        world.pass(60_000);
        assert_eq!(world.packet(B_RTP, SERVER, &rtp(2, 103)), to(A_RTP, PHONE));
    }
}

#[test]
fn a_preview_and_its_answer_share_one_allowance() {
    let mut world = World::new(off());
    let public = LegPlan { target: Some(target("198.51.100.7:4000")), early: Early::Capped, ..phone(0) };
    world.open(0, LegPlan { target: None, ..public.clone() }, server(0), None);
    assert_eq!(world.packet(B_RTP, SERVER, &rtp(2, 0)), Verdict::Drop(Drop::NoTarget));
    world.update(public.clone(), server(0), false);
    for n in 0..50 {
        assert_eq!(world.packet(B_RTP, SERVER, &rtp(2, n)), to(A_RTP, "198.51.100.7:4000"));
    }
    world.update(public, server(0), true);
    assert_eq!(world.packet(B_RTP, SERVER, &rtp(2, 51)), Verdict::Drop(Drop::EarlyCap));
}

#[test]
fn a_phone_that_moves_its_port_hears_without_a_gap() {
    // In an office the phone's SDP is true, so its new port is used at once and without a cap.
    let office =
        |port| LegPlan { target: Some(target(&format!("198.51.100.7:{port}"))), early: Early::Capped, ..phone(0) };
    let mut world = World::new(off());
    world.open(0, office(4000), server(0), None);
    world.packet(A_RTP, "198.51.100.7:4000", &rtp(1, 1));
    world.update(office(4400), server(0), true);
    for n in 0..200 {
        assert_eq!(world.packet(B_RTP, SERVER, &rtp(2, n)), to(A_RTP, "198.51.100.7:4400"));
        assert!(matches!(world.packet(A_RTP, "198.51.100.7:4000", &rtp(1, 2 + n)), Verdict::Forward { .. }));
        world.pass(20);
    }
    assert!(matches!(world.packet(A_RTP, "198.51.100.7:4400", &rtp(3, 1)), Verdict::Forward { .. }));
    assert_eq!(world.latches().last(), Some(&(End::A, Component::Rtp, "198.51.100.7:4400".to_owned(), true)));
    assert_eq!(world.packet(A_RTP, "198.51.100.7:4000", &rtp(1, 300)), Verdict::Drop(Drop::NotLatched));
}

#[test]
fn a_refresh_changes_nothing() {
    let mut world = World::call();
    world.packet(A_RTP, PHONE, &rtp(1, 1));
    world.packet(B_RTP, SERVER, &rtp(2, 1));
    world.latches();
    world.update(phone(0), server(0), true);
    assert_eq!(world.packet(A_RTP, PHONE, &rtp(1, 2)), to(B_RTP, SERVER));
    assert_eq!(world.packet(B_RTP, SERVER, &rtp(2, 2)), to(A_RTP, PHONE));
    assert_eq!(world.latches(), []);
}

#[test]
fn hold_and_resume_behind_a_symmetric_nat_keep_the_latch() {
    for early in [Early::Never, Early::Capped] {
        let behind = |port| LegPlan { target: Some(target(&format!("192.168.7.7:{port}"))), early, ..phone(0) };
        let mut world = World::new(off());
        world.open(0, behind(4000), server(0), None);
        world.packet(A_RTP, PHONE, &rtp(1, 1));
        for port in [4000, 4002, 4004] {
            world.update(behind(port), server(0), true);
            world.pass(30_000);
            assert_eq!(world.packet(B_RTP, SERVER, &rtp(2, 2)), to(A_RTP, PHONE), "{early:?}");
        }
        assert!(matches!(world.packet(A_RTP, "198.51.100.7:50000", &rtp(9, 9)), Verdict::Forward { .. }));
        assert_eq!(world.packet(B_RTP, SERVER, &rtp(2, 3)), to(A_RTP, "198.51.100.7:50000"));
    }
}

#[test]
fn a_phone_whose_sdp_had_the_wrong_port_is_not_believed_about_the_next_one() {
    // It found its public address by STUN, and its NAT maps each peer differently.
    let symmetric =
        |port| LegPlan { target: Some(target(&format!("198.51.100.7:{port}"))), early: Early::Capped, ..phone(0) };
    let mut world = World::new(off());
    world.open(0, symmetric(4000), server(0), None);
    world.packet(A_RTP, PHONE, &rtp(1, 1));
    world.update(symmetric(4400), server(0), true);
    assert_eq!(world.packet(B_RTP, SERVER, &rtp(2, 1)), to(A_RTP, PHONE));
}

#[test]
fn a_redirect_to_another_address_is_capped_then_goes_to_the_latch() {
    let public = |ip: &str| LegPlan { target: Some(target(&format!("{ip}:4000"))), early: Early::Capped, ..phone(0) };
    let mut world = World::new(off());
    world.open(0, public("198.51.100.7"), server(0), None);
    world.packet(A_RTP, "198.51.100.7:4000", &rtp(1, 1));
    world.update(public("192.0.2.99"), server(0), true);
    for n in 0..50 {
        assert_eq!(world.packet(B_RTP, SERVER, &rtp(2, n)), to(A_RTP, "192.0.2.99:4000"));
    }
    assert_eq!(world.packet(B_RTP, SERVER, &rtp(2, 50)), to(A_RTP, "198.51.100.7:4000"));
}

#[test]
fn an_upstream_that_moves_is_sent_to_at_once() {
    let mut world = World::call();
    world.packet(B_RTP, SERVER, &rtp(2, 1));
    let moved = LegPlan {
        target: Some(target("203.0.113.9:8000")),
        sources: Sources { exact: Some(target("203.0.113.9:8000")), ..from_ip("203.0.113.9") },
        ..server(0)
    };
    // A preview moves nothing that is held.
    world.update(phone(0), moved.clone(), false);
    assert_eq!(world.packet(A_RTP, PHONE, &rtp(1, 1)), to(B_RTP, SERVER));
    world.update(phone(0), moved, true);
    assert_eq!(world.packet(A_RTP, PHONE, &rtp(1, 2)), to(B_RTP, "203.0.113.9:8000"));
    assert_eq!(world.packet(B_RTP, SERVER, &rtp(2, 2)), to(A_RTP, PHONE));
    assert_eq!(world.packet(B_RTP, "203.0.113.9:8000", &rtp(5, 2)), to(A_RTP, PHONE));
    assert_eq!(world.packet(B_RTP, SERVER, &rtp(2, 3)), Verdict::Drop(Drop::RefusedSource));
}

#[test]
fn no_packet_goes_to_an_absurd_address_or_to_ourselves() {
    for bad in
        ["0.0.0.0:4000", "239.1.1.1:4000", "255.255.255.255:9", "203.0.113.5:0", "192.0.2.1:30000", "10.0.0.1:30003"]
    {
        let mut world = World::new(Config::default());
        let target = Some(Target::new(at(bad), at(bad)));
        world.open(0, phone(0), LegPlan { target, open: true, ..server(0) }, None);
        world.pass(20_000);
        assert_eq!(world.packet(A_RTP, PHONE, &rtp(1, 1)), Verdict::Drop(Drop::NoTarget), "{bad}");
        world.pass(20_000);
        assert!(world.own.iter().all(|own| own.to == at(PHONE)), "{bad}");
    }
}

/// Two phones of one make behind one NAT, whose gateway writes the public
/// address into SDP and opens no port: both name the same one, one has it.
#[test]
fn nobody_hears_himself_where_two_phones_name_the_same_address() {
    let behind = |slot| LegPlan { target: Some(target(PHONE)), early: Early::Proven, ..phone(slot) };
    let mut world = World::new(off());
    world.open(0, behind(0), LegPlan { pair: server(0).pair, ..behind(0) }, None);
    assert_eq!(world.packet(A_RTP, PHONE, &rtp(1, 1)), Verdict::Drop(Drop::NoTarget));
    // The other one has got another port, and is known by it from now on.
    assert_eq!(world.packet(B_RTP, "198.51.100.7:40022", &rtp(2, 1)), to(A_RTP, PHONE));
    assert_eq!(world.packet(A_RTP, PHONE, &rtp(1, 2)), to(B_RTP, "198.51.100.7:40022"));
    // The same address on the other side is another host.
    let inner = LegPlan { target: Some(target(PHONE)), ..server(1) };
    world.open(1, behind(1), inner, None);
    assert_eq!(world.packet(Slot(4), PHONE, &rtp(1, 1)), to(Slot(6), PHONE));
}

#[test]
fn packets_from_our_own_sockets_are_a_loop() {
    let mut world = World::new(Config::default());
    let anything = || Sources { prefixes: ["0.0.0.0/0".parse().unwrap()].into(), ..Sources::default() };
    world.open(0, LegPlan { sources: anything(), ..phone(0) }, server(0), None);
    world.open(1, phone(1), server(1), None);
    assert_eq!(world.packet(A_RTP, "192.0.2.1:30004", &rtp(1, 1)), Verdict::Drop(Drop::Loop));
    assert_eq!(world.packet(A_RTP, "10.0.0.1:30007", &rtp(1, 1)), Verdict::Drop(Drop::Loop));
    world.command(closed(stream(1)));
    assert!(matches!(world.packet(A_RTP, "192.0.2.1:30004", &rtp(1, 1)), Verdict::Forward { .. }));
}

#[test]
fn silence_is_reported_once_per_silence_and_never_on_hold() {
    let silences = |world: &World| world.facts.iter().filter(|f| matches!(f, Fact::Silent { .. })).count();
    let mut world = World::new(Config::default());
    world.open(0, phone(0), server(0), Some(seconds(60)));
    world.pass(59_999);
    assert_eq!(silences(&world), 0);
    world.pass(1);
    assert_eq!(silences(&world), 1);
    world.pass(600_000);
    assert_eq!(silences(&world), 1);
    // One side alone keeps the call; and foreign packets do not.
    for n in 0..100 {
        world.packet(A_RTP, PHONE, &rtp(1, n));
        world.pass(2_000);
    }
    assert_eq!(silences(&world), 1);
    for _ in 0..40 {
        world.packet(A_RTP, "192.0.2.66:6", &rtp(1, 1));
        world.pass(2_000);
    }
    assert_eq!(silences(&world), 2);
    // Hold, and resume: counted anew.
    world.packet(A_RTP, PHONE, &rtp(1, 200));
    world.update(phone(0), server(0), true);
    world.pass(3_600_000);
    assert_eq!(silences(&world), 2);
    let legs = Box::new([phone(0), server(0)]);
    world.command(Command::Update { stream: stream(0), epoch: 9, legs, timeout: Some(seconds(60)), rearm: true });
    world.pass(59_999);
    assert_eq!(silences(&world), 2);
    world.pass(1);
    assert_eq!(silences(&world), 3);
    // And again, though nothing was heard since.
    world.command(Command::Update {
        stream: stream(0),
        epoch: 9,
        legs: Box::new([phone(0), server(0)]),
        timeout: Some(seconds(60)),
        rearm: true,
    });
    world.pass(600_000);
    assert_eq!(silences(&world), 4);
    assert!(world.facts.contains(&Fact::Silent { stream: stream(0), epoch: 9 }));
}

#[test]
fn figures_come_every_five_seconds_and_at_close() {
    let mut world = World::call();
    world.packet(A_RTP, PHONE, &rtp(1, 1));
    world.packet(B_RTP, SERVER, &rtp(2, 1));
    world.packet(A_RTP, "192.0.2.66:6", &rtp(2, 1));
    world.pass(10_000);
    let codec = Some(Codec::Pcmu);
    let heard = Some(world.start);
    let packet = Duration::from_millis(20);
    let quality = Figures { received: 1, expected: 1, codec, packet, first: heard, last: heard, ..Figures::default() };
    let leg = LegCounts { packets_in: 1, bytes_in: 172, packets_out: 1, bytes_out: 172, refused: 0, quality };
    let legs = std::sync::Arc::new([LegCounts { refused: 1, ..leg }, leg]);
    let counted = Fact::Counted { stream: stream(0), legs: legs.clone() };
    assert_eq!(world.facts.iter().filter(|fact| **fact == counted).count(), 2);
    // Totals only where something changed.
    assert_eq!(world.facts.iter().filter(|fact| matches!(fact, Fact::Totals(_))).count(), 1);
    world.outputs.clear();
    world.command(closed(stream(0)));
    let closed = Output::Fact(Fact::Closed { stream: stream(0), legs });
    let freed = [A_RTP, B_RTP].map(|on| Output::Free { on });
    assert_eq!(world.outputs[..2], freed);
    assert_eq!(world.outputs[2..], [Output::Release { slot: 0 }, closed]);
    assert_eq!(world.packet(A_RTP, PHONE, &rtp(1, 2)), Verdict::Drop(Drop::NoStream));
    world.pass(100_000);
    assert_eq!(world.relay.poll_timeout(), None);
}

#[test]
fn a_leg_without_a_packet_has_an_unused_pair() {
    let mut world = World::call();
    world.packet(A_RTP, "192.0.2.66:6", &rtp(2, 1));
    world.command(closed(stream(0)));
    let used = world.facts.iter().find_map(|fact| {
        let Fact::Closed { legs, .. } = fact else { return None };
        Some(legs.map(|leg| leg.used()))
    });
    assert_eq!(used, Some([false, false]));
}

#[test]
fn slots_and_generations() {
    let mut world = World::call();
    let next = StreamId { generation: 2, ..stream(0) };
    let open = |stream| Command::Open { stream, epoch: 1, legs: Box::new([phone(0), server(0)]), timeout: None };
    // A live slot is not taken over, and commands for another generation are ignored.
    world.command(open(next));
    assert_eq!(world.facts, [Fact::Failed { stream: next }]);
    world.command(closed(next));
    assert!(matches!(world.packet(A_RTP, PHONE, &rtp(1, 1)), Verdict::Forward { .. }));
    world.command(closed(stream(0)));
    world.facts.clear();
    world.command(closed(stream(0)));
    world.command(Command::Part { stream: stream(0) });
    world.command(Command::Join { a: (stream(0), End::A), b: (next, End::B) });
    assert_eq!(world.facts, []);
    // The next call in the slot knows nothing of the last one's peer.
    world.command(open(next));
    world.update(LegPlan { early: Early::Uncapped, ..phone(0) }, server(0), true); // late, generation 1
    assert_eq!(world.packet(B_RTP, SERVER, &rtp(1, 1)), Verdict::Drop(Drop::NoTarget));
    for bad in [StreamId { worker: 1, ..stream(5) }, stream(u32::MAX)] {
        world.facts.clear();
        world.command(open(bad));
        assert_eq!(world.facts, [Fact::Failed { stream: bad }]);
    }
}

#[test]
fn a_flood_of_strangers_leaves_no_trace() {
    let mut world = World::call();
    world.packet(A_RTP, PHONE, &rtp(1, 1));
    world.packet(B_RTP, SERVER, &rtp(2, 1));
    world.outputs.clear();
    for n in 0..10_000_u16 {
        let from = format!("192.0.{}.{}:{}", 3 + n % 250, 1 + n % 199, 1024 + n);
        assert_eq!(world.packet(A_RTP, &from, &rtp(1, 2 + n)), Verdict::Drop(Drop::RefusedSource));
    }
    assert_eq!(world.outputs, []);
    assert_eq!(world.packet(A_RTP, PHONE, &rtp(1, 2)), to(B_RTP, SERVER));
    assert_eq!(world.packet(B_RTP, SERVER, &rtp(2, 2)), to(A_RTP, PHONE));
    assert_eq!(world.relay.totals.dropped(Drop::RefusedSource), 10_000);
}

#[test]
fn same_seed_same_outputs() {
    let run = || {
        let mut world = World::new(Config::default());
        world.open(0, phone(0), LegPlan { open: true, ..server(0) }, None);
        world.pass(5_000);
        world.own.into_iter().map(|own| own.bytes).collect::<Vec<_>>()
    };
    let first = run();
    assert_eq!(first, run());
    let distinct: BTreeSet<_> = first.iter().collect();
    assert_eq!(distinct.len(), first.len(), "every transaction id is new");
}

/// Whatever happens, in whatever order: no panic, no deadline that never goes
/// away, and a stranger is neither heard nor sent to.
#[test]
fn strangers_stay_out_of_any_history() {
    let phones = ["198.51.100.7:40000", "198.51.100.7:40001", "198.51.100.7:41000"];
    let servers = [SERVER, SERVER_RTCP, "203.0.113.5:7000"];
    let strangers = ["192.0.2.66:1024", "198.51.100.8:40000", "192.0.2.1:30000", "10.0.0.1:30006", "192.168.7.7:4000"];
    for seed in 0..40 {
        let mut rng = ChaCha20Rng::from_seed([seed; 32]);
        let mut dice = |n: u32| rng.next_u32() % n;
        let mut world = World::new(Config::default());
        let mut forwarded = 0;
        for step in 0..3_000_u32 {
            let slot = dice(4);
            let id = StreamId { generation: dice(2), ..stream(slot) };
            let mut plans = Box::new([phone(slot), server(slot)]);
            plans[0].early = [Early::Never, Early::Capped][dice(2) as usize];
            plans[0].target =
                [None, Some(target("198.51.100.7:40000")), Some(target("198.51.100.7:4000"))][dice(3) as usize];
            plans[0].open = dice(2) == 0;
            plans[1].open = dice(2) == 0;
            plans[1].target = [Some(target(SERVER)), Some(target("203.0.113.5:7000"))][dice(2) as usize];
            let timeout = [None, Some(seconds(30))][dice(2) as usize];
            let end = [End::A, End::B][dice(2) as usize];
            match dice(40) {
                0 | 1 => world.command(Command::Open { stream: id, epoch: step, legs: plans, timeout }),
                2 | 3 => {
                    let rearm = dice(2) == 0;
                    world.command(Command::Update { stream: id, epoch: step, legs: plans, timeout, rearm });
                }
                4 => {
                    let other =
                        (StreamId { generation: dice(2), ..stream(dice(4)) }, [End::A, End::B][dice(2) as usize]);
                    world.command(Command::Join { a: (id, end), b: other });
                }
                5 | 6 => world.command(Command::Part { stream: id }),
                7 => world.command(closed(id)),
                8 => world.pass(u64::from(dice(40_000))),
                9 => world.command(Command::Carry { stream: id, proto: [Proto::Rtp, Proto::Udptl][dice(2) as usize] }),
                10..=19 => world.pass(u64::from(dice(100))),
                _ => {
                    let sequence = u16::try_from(step).expect("few");
                    let packet = match dice(6) {
                        0 => rtcp(dice(3)),
                        1 => [stun(), dtls(), udptl(sequence)][dice(3) as usize].clone(),
                        _ => rtp(dice(3), sequence),
                    };
                    let foreign = dice(3) == 0;
                    // A stranger has not seen the SSRC.
                    let packet = if foreign && packet.len() > 100 { rtp(77, sequence) } else { packet };
                    let from = match (foreign, end) {
                        (true, _) => strangers[dice(5) as usize],
                        (false, End::A) => phones[dice(3) as usize],
                        (false, End::B) => servers[dice(3) as usize],
                    };
                    let on = Slot::of(slot, end, [Component::Rtp, Component::Rtcp][dice(2) as usize]);
                    let verdict = world.packet(on, from, &packet);
                    if let Verdict::Forward { to, .. } = verdict {
                        forwarded += 1;
                        assert!(!foreign, "seed {seed}, step {step}: {from} was heard");
                        assert!(!strangers.iter().any(|s| at(s) == to), "seed {seed}, step {step}: sent to {to}");
                    }
                }
            }
        }
        assert!(forwarded > 100, "seed {seed}: {forwarded}");
        for (_, _, source, _) in world.latches() {
            assert!(phones.contains(&source.as_str()) || servers.contains(&source.as_str()), "seed {seed}: {source}");
        }
        for slot in 0..4 {
            for generation in 0..2 {
                world.command(closed(StreamId { generation, ..stream(slot) }));
            }
        }
        let facts = |of: fn(&Fact) -> bool| world.facts.iter().filter(|fact| of(fact)).count();
        assert!(facts(|fact| matches!(fact, Fact::Closed { .. })) > 10);
        assert!(world.relay.own.is_empty() && world.relay.live == 0);
        world.pass(100_000);
        assert_eq!(world.relay.poll_timeout(), None);
    }
}

/// What the state of a stream takes, in octets, beside its sockets. A call has
/// one for audio; of the 8 kB that a call may take, signalling wants its share.
#[test]
fn a_stream_takes_less_than_four_kilobytes() {
    use std::mem::size_of;
    let own = 2 * 2 * size_of::<(IpAddr, u16)>();
    let stream = size_of::<Option<Box<Stream>>>() + size_of::<Stream>() + size_of::<[LegPlan; 2]>();
    let timer = size_of::<Reverse<(Instant, StreamId)>>();
    let all = 4 * size_of::<Option<Lane>>() + stream + own + timer;
    println!("{all} octets, {} of them for each socket", size_of::<Option<Lane>>());
    assert!(all <= 4096, "{all}");
}
