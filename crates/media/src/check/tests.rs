use nat::ice_lite::{Agent, Credentials};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;
use wire::stun::{self, check, check::Key};

use crate::fixture::*;
use crate::relay::{Config, KeepAlive};
use crate::{Component, Drop, Early, End, LegPlan, Slot, Verdict};

/// Where else the phone has candidates; nothing in SDP or signalling names it.
const WIFI: &str = "100.64.3.3:5000";
const STRANGER: &str = "198.51.100.66:7000";

fn drawn(seed: u8) -> Credentials {
    Credentials::draw(&mut ChaCha20Rng::from_seed([seed; 32]))
}

fn ice(agent: Agent) -> LegPlan {
    LegPlan { ice: Some(Box::new(agent)), early: Early::Capped, ..phone(0) }
}

fn world() -> World {
    let mut world = World::new(Config { keepalive: KeepAlive::Off, ..Config::default() });
    world.open(0, ice(Agent::new(drawn(1))), server(0), None);
    world
}

fn check(credentials: Credentials, priority: u32, nominates: bool) -> Vec<u8> {
    let username = format!("{}:phone", credentials.ufrag());
    check::check([3; 12], &username, &Key::of(credentials.password()), priority, nominates).expect("fits")
}

/// The error code of the last answer, and where it went.
fn answered(world: &mut World, on: Slot) -> Option<(String, Option<u16>)> {
    let own = world.own.pop().filter(|own| own.via == on)?;
    Some((own.to.to_string(), stun::read_answer(&own.bytes).expect("an answer").error))
}

fn source(world: &World, on: Slot) -> Option<String> {
    world.relay.lane(on).and_then(|lane| lane.latch.source()).map(|source| source.to_string())
}

#[test]
fn a_check_is_answered_and_takes_the_latch_from_wherever_it_comes() {
    let mut world = world();
    assert_eq!(world.packet(A_RTP, WIFI, &rtp(1, 1)), Verdict::Drop(Drop::RefusedSource));
    assert_eq!(world.packet(A_RTP, WIFI, &check(drawn(1), 10, false)), Verdict::Consumed);
    assert_eq!(answered(&mut world, A_RTP), Some((WIFI.into(), None)));
    assert_eq!(world.latches(), [(End::A, Component::Rtp, WIFI.into(), false)]);
    world.packet(B_RTP, SERVER, &rtp(2, 1));
    assert_eq!(world.packet(A_RTP, WIFI, &rtp(1, 2)), to(B_RTP, SERVER));
    assert_eq!(world.packet(B_RTP, SERVER, &rtp(2, 2)), to(A_RTP, WIFI));
    // Each component is checked for itself.
    assert_eq!(source(&world, A_RTCP), None);
    assert_eq!(world.packet(A_RTCP, "100.64.3.3:5001", &check(drawn(1), 10, true)), Verdict::Consumed);
    assert_eq!(source(&world, A_RTCP), Some("100.64.3.3:5001".into()));
}

#[test]
fn a_check_without_the_password_gets_401_and_nothing_else() {
    let mut world = world();
    let wrong = check(drawn(2), 10, true);
    assert_eq!(world.packet(A_RTP, WIFI, &wrong), Verdict::Drop(Drop::BadCheck));
    assert_eq!(answered(&mut world, A_RTP), Some((WIFI.into(), Some(401))));
    assert_eq!(source(&world, A_RTP), None);
    assert_eq!(world.packet(A_RTP, WIFI, &rtp(1, 1)), Verdict::Drop(Drop::RefusedSource));
    // A leg without ICE answers nothing at all.
    assert_eq!(world.packet(B_RTP, SERVER, &check(drawn(1), 10, true)), Verdict::Consumed);
    assert_eq!(world.packet(B_RTP, WIFI, &check(drawn(1), 10, true)), Verdict::Drop(Drop::RefusedSource));
    assert_eq!(world.own, []);
}

#[test]
fn after_the_first_valid_check_nobody_latches_without_one() {
    let mut world = world();
    // By signalling alone the phone's address may latch, before.
    world.packet(B_RTP, SERVER, &rtp(2, 1));
    assert_eq!(world.packet(A_RTP, STRANGER.replace(".66", ".7").as_str(), &rtp(9, 1)), to(B_RTP, SERVER));
    world.packet(A_RTP, WIFI, &check(drawn(1), 10, true));
    assert_eq!(source(&world, A_RTP), Some(WIFI.into()));
    world.pass(1_000);
    // The IP of signalling, and the same stream going on elsewhere: refused now, however long the silence.
    assert_eq!(world.packet(A_RTP, PHONE, &rtp(9, 2)), Verdict::Drop(Drop::RefusedSource));
    world.packet(A_RTP, WIFI, &rtp(1, 1));
    world.update(ice(Agent::new(drawn(1))), server(0), true);
    world.pass(1_000);
    for n in 2..12 {
        assert_eq!(world.packet(A_RTP, STRANGER, &rtp(1, n)), Verdict::Drop(Drop::RefusedSource));
        assert_eq!(world.packet(A_RTP, PHONE, &rtp(1, n)), Verdict::Drop(Drop::RefusedSource));
    }
    assert_eq!(source(&world, A_RTP), Some(WIFI.into()));
    // Without ICE in a later offer/answer, all is as ever.
    world.update(phone(0), server(0), true);
    world.pass(300);
    assert_eq!(world.packet(A_RTP, PHONE, &rtp(1, 20)), to(B_RTP, SERVER));
}

#[test]
fn the_nomination_of_higher_priority_wins_and_a_new_mapping_follows_silence() {
    let mut world = world();
    world.packet(B_RTP, SERVER, &rtp(2, 1));
    world.packet(A_RTP, WIFI, &check(drawn(1), 10, true));
    world.packet(A_RTP, PHONE, &check(drawn(1), 5, true));
    assert_eq!(source(&world, A_RTP), Some(WIFI.into()), "of two nominations the higher");
    world.packet(A_RTP, PHONE, &check(drawn(1), 20, true));
    assert_eq!(source(&world, A_RTP), Some(PHONE.into()));
    assert_eq!(world.packet(A_RTP, WIFI, &rtp(1, 1)), Verdict::Drop(Drop::NotLatched));
    world.packet(A_RTP, PHONE, &rtp(1, 2));
    // The phone's NAT forgot it: the next consent check comes from elsewhere, without a nomination.
    const ELSEWHERE: &str = "198.51.100.7:51000";
    world.pass(300);
    world.packet(A_RTP, ELSEWHERE, &check(drawn(1), 5, false));
    assert_eq!(source(&world, A_RTP), Some(PHONE.into()));
    assert_eq!(world.packet(A_RTP, ELSEWHERE, &rtp(1, 3)), to(B_RTP, SERVER));
    assert_eq!(source(&world, A_RTP), Some(ELSEWHERE.into()));
}

#[test]
fn a_restart_keeps_the_old_path_until_the_new_one_is_nominated() {
    let mut world = world();
    world.packet(B_RTP, SERVER, &rtp(2, 1));
    world.packet(A_RTP, WIFI, &check(drawn(1), 50, true));
    world.update(ice(Agent::new(drawn(1)).restarted(drawn(2))), server(0), true);
    assert_eq!(world.packet(A_RTP, WIFI, &rtp(1, 1)), to(B_RTP, SERVER));
    assert_eq!(world.packet(B_RTP, SERVER, &rtp(2, 2)), to(A_RTP, WIFI));
    // What the old credentials nominate counts no more; they are still answered.
    world.packet(A_RTP, PHONE, &check(drawn(1), 90, true));
    assert_eq!(answered(&mut world, A_RTP), Some((PHONE.into(), None)));
    assert_eq!(source(&world, A_RTP), Some(WIFI.into()));
    world.packet(A_RTP, PHONE, &check(drawn(2), 20, true));
    assert_eq!(source(&world, A_RTP), Some(PHONE.into()));
}

#[test]
fn without_a_sign_of_life_for_thirty_seconds_nothing_is_sent() {
    let mut world = world();
    world.packet(B_RTP, SERVER, &rtp(2, 1));
    world.packet(A_RTP, WIFI, &check(drawn(1), 10, true));
    world.pass(29_000);
    assert_eq!(world.packet(B_RTP, SERVER, &rtp(2, 2)), to(A_RTP, WIFI));
    world.packet(A_RTP, WIFI, &check(drawn(1), 10, false));
    world.pass(29_000);
    assert_eq!(world.packet(B_RTP, SERVER, &rtp(2, 3)), to(A_RTP, WIFI));
    world.pass(1_500);
    assert_eq!(world.packet(B_RTP, SERVER, &rtp(2, 4)), Verdict::Drop(Drop::NoTarget));
    world.packet(A_RTP, WIFI, &check(drawn(1), 10, false));
    assert_eq!(world.packet(B_RTP, SERVER, &rtp(2, 5)), to(A_RTP, WIFI));
}

#[test]
fn without_consent_no_keep_alive_goes_out_either() {
    let mut world = World::new(Config { keepalive: KeepAlive::Stun, ..Config::default() });
    world.open(0, ice(Agent::new(drawn(1))), server(0), None);
    world.packet(A_RTP, WIFI, &check(drawn(1), 10, true));
    world.pass(29_000);
    let kept = world.own.iter().filter(|own| own.via == A_RTP).count();
    assert_eq!(kept, 2, "the answer, and one keep-alive");
    world.own.clear();
    world.pass(120_000);
    assert!(world.own.iter().all(|own| own.via != A_RTP || own.ms < 30_500), "{:?}", world.own);
}

#[test]
fn the_held_source_is_not_forgotten_however_many_candidates_are_checked() {
    let mut world = world();
    world.packet(B_RTP, SERVER, &rtp(2, 1));
    world.packet(A_RTP, WIFI, &check(drawn(1), 50, true));
    for port in 1..=20 {
        world.packet(A_RTP, &format!("198.51.100.7:{port}"), &check(drawn(1), 5, false));
    }
    world.packet(A_RTP, WIFI, &rtp(1, 1));
    // A checked one that is not nominated waits for the held one's silence.
    assert_eq!(world.packet(A_RTP, "198.51.100.7:20", &rtp(1, 2)), Verdict::Drop(Drop::NotLatched));
    assert_eq!(source(&world, A_RTP), Some(WIFI.into()));
}

#[test]
fn rtcp_leaves_by_the_rtp_socket_of_a_leg_that_muxes_and_of_no_other() {
    let mut world = World::new(Config::default());
    world.open(0, LegPlan { muxed: true, ..phone(0) }, server(0), None);
    world.packet(A_RTP, PHONE, &rtp(1, 1));
    world.packet(B_RTP, SERVER, &rtp(2, 1));
    assert_eq!(world.packet(A_RTP, PHONE, &rtcp(1)), to(B_RTCP, SERVER_RTCP));
    assert_eq!(world.packet(B_RTCP, SERVER_RTCP, &rtcp(2)), to(A_RTP, PHONE));
    assert_eq!(world.packet(B_RTP, SERVER, &rtp(2, 2)), to(A_RTP, PHONE));
    // The next offer/answer unmuxes it: RTCP is back on its own port.
    world.update(phone(0), server(0), true);
    world.packet(A_RTCP, "198.51.100.7:40001", &rtcp(1));
    assert_eq!(world.packet(B_RTCP, SERVER_RTCP, &rtcp(2)), to(A_RTCP, "198.51.100.7:40001"));
}
