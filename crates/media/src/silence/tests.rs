//! Legs that fall silent, and what is said of the reason.

use std::sync::Arc;

use super::*;
use crate::fixture::*;
use crate::quality::Formats;
use crate::{Command, LegPlan, Sources};

/// An answered call that carries audio.
fn answered(a: LegPlan, b: LegPlan) -> World {
    let mut world = World::new(crate::relay::Config::default());
    world.open(0, a, b, Some(Duration::from_secs(60)));
    let formats = Formats { audio: true, ..Formats::default() };
    world.command(Command::Formats { stream: stream(0), formats: Arc::new(formats) });
    world
}

/// What was said, as words.
fn said(world: &mut World) -> Vec<(End, Option<Reason>)> {
    let facts = std::mem::take(&mut world.facts);
    let word = |fact| {
        if let Fact::Unheard { end, silence, .. } = fact {
            Some((end, Some(silence.reason)))
        } else if let Fact::Heard { end, .. } = fact {
            Some((end, None))
        } else {
            None
        }
    };
    facts.into_iter().filter_map(word).collect()
}

fn public_phone() -> LegPlan {
    LegPlan { target: Some(target("198.51.100.7:4000")), ..phone(0) }
}

/// Both ends speak for so long.
fn talk(world: &mut World, seconds: u16) {
    for n in 0..seconds * 50 {
        world.packet(A_RTP, PHONE, &rtp(1, n));
        world.packet(B_RTP, SERVER, &rtp(2, n));
        world.pass(20);
    }
}

#[test]
fn a_leg_from_which_nothing_ever_came_is_told_after_two_seconds_and_once() {
    let mut world = answered(public_phone(), server(0));
    for n in 0..99 {
        world.packet(B_RTP, SERVER, &rtp(2, n));
        world.pass(20);
    }
    assert_eq!(said(&mut world), []);
    for n in 99..1000 {
        world.packet(B_RTP, SERVER, &rtp(2, n));
        world.pass(20);
    }
    assert_eq!(said(&mut world), [(End::A, Some(Reason::Never))]);
    world.packet(A_RTP, PHONE, &rtp(1, 1));
    world.pass(1_000);
    assert_eq!(said(&mut world), [(End::A, None)]);
}

#[test]
fn a_leg_that_stops_is_told_each_time_and_cleared_each_time() {
    let mut world = answered(phone(0), server(0));
    talk(&mut world, 10);
    assert_eq!(said(&mut world), []);
    for n in 500..1000 {
        world.packet(B_RTP, SERVER, &rtp(2, n));
        world.pass(20);
    }
    assert_eq!(said(&mut world), [(End::A, Some(Reason::Stopped))]);
    talk(&mut world, 3);
    assert_eq!(said(&mut world), [(End::A, None)]);
    world.pass(30_000);
    assert_eq!(said(&mut world), [(End::A, Some(Reason::Stopped)), (End::B, Some(Reason::Stopped))]);
}

#[test]
fn what_is_known_of_the_reason_is_said() {
    let ipv6 = LegPlan { target: Some(target("[2001:db8::7]:4000")), sources: Sources::default(), ..phone(0) };
    for (plan, stranger, reason) in [
        (phone(0), None, Reason::Private),
        (public_phone(), None, Reason::Never),
        (LegPlan { target: None, ..phone(0) }, None, Reason::Never),
        (ipv6, None, Reason::Family),
        (phone(0), Some("203.0.113.77:9"), Reason::Refused),
        (LegPlan { srtp: [srtp_key(1)].into(), ..phone(0) }, Some(PHONE), Reason::Unauthenticated),
    ] {
        let target = plan.target.map(|target| target.rtp());
        let mut world = answered(plan, server(0));
        world.packet(B_RTP, SERVER, &rtp(2, 1));
        world.pass(1_000);
        if let Some(stranger) = stranger {
            world.packet(A_RTP, stranger, &rtp(9, 1));
        }
        world.pass(1_500);
        let silence = Silence { side: Side::Outer, reason, target, refused: stranger.map(at) };
        let expected = Fact::Unheard { stream: stream(0), epoch: 1, end: End::A, silence };
        assert!(world.facts.contains(&expected), "{expected:?} is not in {:?}", world.facts);
    }
}

/// An office whose phones and sockets are in the same private network: their addresses are no reason.
#[test]
fn a_private_address_beside_a_private_socket_says_nothing() {
    let pair = crate::PortPair { ip: at("192.168.7.1:1").ip(), rtp: 30_000 };
    let near = LegPlan { pair, early: Early::Capped, ..phone(0) };
    let mut world = answered(near, server(0));
    world.pass(2_500);
    assert_eq!(said(&mut world)[0], (End::A, Some(Reason::Never)));
}

#[test]
fn hold_fax_video_and_what_is_not_answered_are_never_silent() {
    let mut world = answered(phone(0), server(0));
    // On hold.
    world.update(phone(0), server(0), true);
    world.pass(100_000);
    assert_eq!(said(&mut world), []);
    // Resumed: two seconds from then on.
    let legs = Box::new([phone(0), server(0)]);
    let timeout = Some(Duration::from_secs(60));
    world.command(Command::Update { stream: stream(0), epoch: 3, legs, timeout, rearm: true });
    world.pass(1_900);
    assert_eq!(said(&mut world), []);
    world.pass(200);
    assert_eq!(said(&mut world).len(), 2);
    let mut fax = answered(phone(0), server(0));
    fax.command(Command::Carry { stream: stream(0), proto: crate::command::Proto::Udptl });
    fax.pass(100_000);
    assert_eq!(said(&mut fax), []);
    // Video, or a body that could not be read.
    let mut video = World::new(crate::relay::Config::default());
    video.open(0, phone(0), server(0), Some(Duration::from_secs(60)));
    video.pass(100_000);
    assert_eq!(said(&mut video), []);
}

/// A refresh of the session is not audio.
#[test]
fn an_offer_and_answer_neither_ends_nor_repeats_a_silence() {
    let mut world = answered(phone(0), server(0));
    talk(&mut world, 3);
    world.pass(3_000);
    assert_eq!(said(&mut world).len(), 2);
    let legs = Box::new([phone(0), server(0)]);
    let timeout = Some(Duration::from_secs(60));
    world.command(Command::Update { stream: stream(0), epoch: 3, legs, timeout, rearm: true });
    world.pass(10_000);
    assert_eq!(said(&mut world), []);
}
