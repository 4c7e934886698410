//! Legs whose peer's SRTP keys are known (RFC 7362 §5).

use super::*;
use crate::fixture::{srtcp, srtp, srtp_key};

/// In the wireless network that the phone has left; its public address is the one that signalling came from.
const NEIGHBOUR: &str = "198.51.100.7:50000";

/// A phone behind NAT, and its key.
fn phone() -> (Key, Scene) {
    let (key, mut scene) = (srtp_key(1), Scene::phone());
    scene.latch.secure(std::slice::from_ref(&key));
    (key, scene)
}

/// Held by the phone since packet 100, last heard at 0 ms.
fn speaking() -> (Key, Scene) {
    let (key, mut scene) = phone();
    scene.play([(0, PHONE, srtp(&key, 1, 100), Takes)]);
    (key, scene)
}

#[test]
fn nothing_takes_a_free_latch_that_does_not_authenticate() {
    let (key, mut scene) = phone();
    let other = srtp_key(2);
    scene.play([
        (0, PHONE_OTHER, rtp(1, 1), Unproven),
        (0, PHONE_OTHER, srtp(&other, 1, 1), Unproven),
        (0, PHONE_OTHER, rtcp(1), Unproven),
        (0, PHONE_OTHER, dtls(), Unproven),
        (0, PHONE_OTHER, stun(), Passes),
        (0, STRANGER, srtp(&other, 1, 1), Refused),
        (0, "0.0.0.1:4000", srtp(&key, 1, 1), Refused),
        (10, PHONE, srtp(&key, 1, 1), Takes),
        (30, PHONE, srtp(&key, 1, 2), Held),
    ]);
}

#[test]
fn an_authentic_packet_takes_a_free_latch_from_an_address_outside_the_plan() {
    let (key, mut scene) = phone();
    scene.play([(0, LTE, srtp(&key, 1, 1), Takes), (20, LTE, srtp(&key, 1, 2), Held)]);
    assert_eq!(scene.latch.roamed(), Some(at(LTE).ip()));
}

#[test]
fn a_spoofer_with_ssrc_and_sequence_moves_nothing_however_long_the_phone_is_silent() {
    let (key, mut scene) = speaking();
    for ms in [100, 200, 300, 5_000, 60_000] {
        let said = if ms < 200 { NotLatched } else { Unproven };
        let next = 101 + u16::try_from(ms / 20).expect("few");
        for _ in 0..10 {
            scene.play([(ms, NEIGHBOUR, rtp(1, next), said), (ms, STRANGER, rtp(1, next), Refused)]);
        }
    }
    scene.play([(60_001, PHONE, srtp(&key, 1, 4_000), Held)]);
}

#[test]
fn the_phone_is_back_at_its_first_packet_from_an_entirely_new_address() {
    let (key, mut scene) = speaking();
    scene.play([
        (199, LTE, srtp(&key, 1, 109), Refused),
        (200, LTE, srtp(&key, 1, 110), Moves),
        (220, LTE, srtp(&key, 1, 111), Held),
    ]);
    // Another SSRC after a long silence, at once, too.
    let (key, mut scene) = speaking();
    scene.play([(9_000, LTE, srtp(&key, 77, 5), Moves)]);
}

#[test]
fn what_was_heard_before_moves_nothing() {
    let (key, mut scene) = speaking();
    scene.play([(20, PHONE, srtp(&key, 1, 102), Held), (21, PHONE, srtp(&key, 1, 101), Held)]);
    for index in [100, 101, 102] {
        scene.play([(5_000, NEIGHBOUR, srtp(&key, 1, index), Unproven), (5_000, LTE, srtp(&key, 1, index), Refused)]);
    }
    // After a re-arm neither.
    scene.rearm(6_000, Some("192.168.1.9:4002"));
    scene.play([(6_010, NEIGHBOUR, srtp(&key, 1, 102), Unproven), (6_020, NEIGHBOUR, srtp(&key, 1, 103), Moves)]);
}

#[test]
fn a_copy_that_outruns_its_original_in_a_silence_holds_for_one_packet() {
    let (key, mut scene) = speaking();
    scene.play([
        // The copier, then the original, and the same again.
        (300, STRANGER, srtp(&key, 1, 101), Moves),
        (301, PHONE, srtp(&key, 1, 101), Unproven),
        // Whatever the copier sends now to seem far ahead.
        (302, STRANGER, rtp(1, 30_000), Held),
        (303, STRANGER, rtp(5, 1), Held),
        // And what passed before.
        (304, PHONE, srtp(&key, 1, 101), Unproven),
        (320, PHONE, srtp(&key, 1, 102), Moves),
        // From now on there is no silence, and he who lost it by right does not get it back.
        (321, STRANGER, srtp(&key, 1, 103), Refused),
        (340, PHONE, srtp(&key, 1, 103), Held),
        (341, STRANGER, srtp(&key, 1, 104), Refused),
    ]);
}

#[test]
fn who_took_a_free_latch_from_outside_the_plan_yields_to_the_plan() {
    let (key, mut scene) = phone();
    scene.play([
        (0, STRANGER, srtp(&key, 1, 1), Takes),
        (1, PHONE, srtp(&key, 1, 1), Unproven),
        (10, STRANGER, rtp(1, 20_000), Held),
        (21, PHONE, srtp(&key, 1, 2), Moves),
        (22, STRANGER, srtp(&key, 1, 3), Refused),
    ]);
}

#[test]
fn a_phone_that_returns_to_its_former_network_is_heard_at_once() {
    let (key, mut scene) = speaking();
    scene.play([
        (300, LTE, srtp(&key, 1, 110), Moves),
        (320, LTE, srtp(&key, 1, 111), Held),
        (330, PHONE, srtp(&key, 1, 112), Moves),
    ]);
}

#[test]
fn a_source_that_was_held_before_the_keys_were_known_must_authenticate() {
    let key = srtp_key(1);
    let mut scene = Scene::phone();
    scene.play([(0, NEIGHBOUR, rtp(1, 1), Takes)]);
    scene.latch.secure(std::slice::from_ref(&key));
    // Media goes on to go there until somebody has.
    assert_eq!(scene.latch.source(), Some(at(NEIGHBOUR)));
    scene.play([(10, NEIGHBOUR, rtp(1, 2), Unproven), (20, PHONE, srtp(&key, 1, 1), Takes)]);
    assert_eq!(scene.latch.source(), Some(at(PHONE)));
    // And where they are known no longer, all is as it was.
    let mut scene = Scene::phone();
    scene.play([(0, PHONE, rtp(1, 1), Takes)]);
    scene.latch.secure(&[key]);
    scene.latch.secure(&[]);
    scene.play([(10, PHONE, rtp(1, 2), Held), (5_000, PHONE_OTHER, rtp(1, 100), Moves)]);
}

#[test]
fn a_re_invite_with_another_key_moves_nothing_by_itself() {
    let (old, mut scene) = speaking();
    let new = srtp_key(2);
    scene.latch.secure(std::slice::from_ref(&new));
    scene.play([
        (20, PHONE, srtp(&old, 1, 101), Held),
        (400, PHONE_OTHER, srtp(&old, 1, 103), Moves),
        // The first with the new key, though nobody asks for it: from here on it alone is good.
        (420, PHONE_OTHER, srtp(&new, 1, 104), Held),
        (800, PHONE, srtp(&old, 1, 105), Unproven),
        (801, PHONE, srtp(&new, 1, 105), Moves),
    ]);
}

#[test]
fn the_callee_that_answered_alone_is_heard_and_by_its_own_key() {
    let (loser, winner) = (srtp_key(1), srtp_key(2));
    let mut scene = Scene::phone();
    scene.latch.secure(std::slice::from_ref(&loser));
    scene.play([(0, PHONE, srtp(&loser, 1, 1), Takes)]);
    scene.latch.secure(std::slice::from_ref(&winner));
    scene.latch.replace(scene.start, Some(at(PHONE_OTHER)));
    scene.play([(20, PHONE, srtp(&loser, 1, 2), Unproven), (40, PHONE_OTHER, srtp(&winner, 9, 1), Takes)]);
}

#[test]
fn rtcp_moves_its_own_latch_by_its_own_index() {
    let (key, scene) = phone();
    let mut scene = Scene { component: Component::Rtcp, ssrc: Some(1), ..scene };
    scene.play([
        (0, PHONE_OTHER, rtcp(1), Unproven),
        (0, PHONE, srtcp(&key, 1, 1), Takes),
        (1_000, PHONE, srtcp(&key, 1, 2), Held),
        (5_000, PHONE_OTHER, srtcp(&key, 1, 2), Unproven),
        (5_000, PHONE_OTHER, srtp(&key, 1, 3), NotLatched),
        (6_000, LTE, srtcp(&key, 1, 3), Moves),
    ]);
}

#[test]
fn a_valid_check_is_worth_more_than_a_key() {
    let (key, mut scene) = speaking();
    let judgement = scene.latch.check(scene.start, at(LTE), Some(1), scene.target);
    assert_eq!(judgement, Judgement::Move);
    scene.play([(20, LTE, srtp(&key, 1, 101), Held), (5_000, PHONE, srtp(&key, 1, 102), Refused)]);
}
