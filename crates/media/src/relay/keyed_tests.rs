//! SRTP keys as the worker is told of them: with a stream, with an offer/answer, with another peer.

use crate::fixture::*;
use crate::relay::Config;
use crate::srtp::Key;
use crate::{Command, Component, Drop, End, LegPlan, Verdict};

/// Any port of the phone's public address: whoever is behind the same NAT.
const NEIGHBOUR: &str = "198.51.100.7:50000";
/// Where nothing has ever named it.
const LTE: &str = "192.0.2.200:5555";

fn keyed(plan: LegPlan, keys: &[Key]) -> LegPlan {
    LegPlan { srtp: keys.into(), ..plan }
}

fn call(key: &Key) -> World {
    let mut world = World::new(Config::default());
    world.open(0, keyed(phone(0), std::slice::from_ref(key)), server(0), None);
    world.packet(B_RTP, SERVER, &rtp(2, 1));
    world.latches();
    world
}

#[test]
fn a_spoofer_at_the_phones_own_address_is_refused_and_the_phone_found_at_once_where_it_goes() {
    let key = srtp_key(1);
    let mut world = call(&key);
    let spoofed = Verdict::Drop(Drop::Unauthenticated);
    assert_eq!(world.packet(A_RTP, NEIGHBOUR, &rtp(1, 1)), spoofed);
    assert_eq!(world.packet(A_RTCP, NEIGHBOUR, &rtcp(1)), spoofed);
    assert_eq!(world.relay.totals.dropped(Drop::Unauthenticated), 2);
    assert_eq!(world.packet(A_RTP, PHONE, &srtp(&key, 1, 1)), to(B_RTP, SERVER));
    world.pass(1_000);
    assert_eq!(world.packet(A_RTP, NEIGHBOUR, &rtp(1, 40)), spoofed);
    assert_eq!(world.packet(A_RTP, NEIGHBOUR, &srtp(&key, 1, 1)), spoofed);
    assert_eq!(world.packet(A_RTP, LTE, &srtp(&key, 1, 51)), to(B_RTP, SERVER));
    assert_eq!(world.packet(B_RTP, SERVER, &rtp(2, 2)), to(A_RTP, LTE));
    let found = [(PHONE, false), (LTE, true)];
    assert_eq!(world.latches(), found.map(|(at, moved)| (End::A, Component::Rtp, at.to_owned(), moved)));
}

#[test]
fn keys_that_an_answer_shows_count_from_then_on_and_no_gap_comes_of_it() {
    let key = srtp_key(1);
    let mut world = World::call();
    world.packet(B_RTP, SERVER, &rtp(2, 1));
    // Somebody is heard before the answer; by the phone's key he is nobody.
    assert_eq!(world.packet(A_RTP, NEIGHBOUR, &rtp(1, 1)), to(B_RTP, SERVER));
    world.update(keyed(phone(0), std::slice::from_ref(&key)), server(0), true);
    assert_eq!(world.packet(A_RTP, NEIGHBOUR, &rtp(1, 2)), Verdict::Drop(Drop::Unauthenticated));
    assert_eq!(world.packet(B_RTP, SERVER, &rtp(2, 2)), to(A_RTP, NEIGHBOUR));
    assert_eq!(world.packet(A_RTP, PHONE, &srtp(&key, 1, 9)), to(B_RTP, SERVER));
    assert_eq!(world.packet(B_RTP, SERVER, &rtp(2, 3)), to(A_RTP, PHONE));
    // A refresh with the same key: the roll-over counter goes on.
    for index in (10..200_000).step_by(5_000) {
        assert_eq!(world.packet(A_RTP, PHONE, &srtp(&key, 1, index)), to(B_RTP, SERVER));
    }
    world.update(keyed(phone(0), std::slice::from_ref(&key)), server(0), true);
    world.pass(300);
    assert_eq!(world.packet(A_RTP, LTE, &srtp(&key, 1, 195_020)), to(B_RTP, SERVER));
    // A re-INVITE with another: it begins anew.
    let next = srtp_key(2);
    world.update(keyed(phone(0), std::slice::from_ref(&next)), server(0), true);
    world.pass(300);
    assert_eq!(world.packet(A_RTP, NEIGHBOUR, &srtp(&next, 1, 195_030 % 65_536)), to(B_RTP, SERVER));
    world.pass(300);
    assert_eq!(world.packet(A_RTP, LTE, &srtp(&key, 1, 195_040)), Verdict::Drop(Drop::RefusedSource));
}

#[test]
fn the_key_of_a_callee_that_did_not_answer_opens_nothing() {
    let (ringing, answered) = (srtp_key(1), srtp_key(2));
    let mut world = call(&ringing);
    assert_eq!(world.packet(A_RTP, PHONE, &srtp(&ringing, 1, 1)), to(B_RTP, SERVER));
    world.update(keyed(phone(0), std::slice::from_ref(&answered)), server(0), true);
    world.command(Command::Replace { stream: stream(0), end: End::A });
    assert_eq!(world.packet(A_RTP, PHONE, &srtp(&ringing, 1, 2)), Verdict::Drop(Drop::Unauthenticated));
    assert_eq!(world.packet(A_RTP, NEIGHBOUR, &srtp(&answered, 3, 1)), to(B_RTP, SERVER));
}

#[test]
fn reports_heard_on_one_socket_move_nothing_on_the_other() {
    let key = srtp_key(1);
    let mut world = call(&key);
    world.packet(A_RTP, PHONE, &srtp(&key, 1, 1));
    world.packet(A_RTCP, "198.51.100.7:40001", &srtcp(&key, 1, 1));
    world.packet(A_RTCP, "198.51.100.7:40001", &srtcp(&key, 1, 2));
    world.latches();
    world.pass(5_000);
    for on in [A_RTP, A_RTCP] {
        for index in [1, 2] {
            assert!(matches!(world.packet(on, NEIGHBOUR, &srtcp(&key, 1, index)), Verdict::Drop(_)), "{on:?} {index}");
            assert!(matches!(world.packet(on, LTE, &srtcp(&key, 1, index)), Verdict::Drop(_)), "{on:?} {index}");
        }
    }
    assert_eq!(world.latches(), []);
}
