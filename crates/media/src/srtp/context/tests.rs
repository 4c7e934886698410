use super::*;
use crate::fixture::{rtcp, rtp, srtcp, srtp, srtp_key};

/// The contexts of a peer with this key.
fn contexts(seed: u8) -> (Key, Contexts) {
    let key = srtp_key(seed);
    (key.clone(), Contexts::new(&[key]))
}

/// The held source sends this.
fn follow(contexts: &mut Contexts, packet: &[u8]) {
    contexts.follow(Header::parse(packet).expect("a header"), packet);
}

/// The peer's packet 200,000 was the last.
fn after_three_turns() -> (Key, Contexts) {
    let (key, mut contexts) = contexts(1);
    for index in [0, 65_536, 131_072, 200_000] {
        assert!(newer(&mut contexts, &srtp(&key, 7, index)));
    }
    (key, contexts)
}

fn newer(contexts: &mut Contexts, packet: &[u8]) -> bool {
    contexts.vouch(Kind::Rtp, packet)
}

#[test]
fn an_authentic_packet_vouches_once_and_nothing_before_it_does() {
    let (key, mut contexts) = contexts(1);
    assert!(!newer(&mut contexts, &rtp(7, 100)), "no tag");
    assert!(!newer(&mut contexts, &srtp(&srtp_key(2), 7, 100)), "another key");
    assert!(newer(&mut contexts, &srtp(&key, 7, 100)));
    for index in [100, 99, 1, 0] {
        assert!(!newer(&mut contexts, &srtp(&key, 7, index)), "{index}");
    }
    assert!(newer(&mut contexts, &srtp(&key, 7, 101)));
    // What the held source has sent meanwhile is not newer either.
    for index in [150, 148, 500, 498] {
        follow(&mut contexts, &srtp(&key, 7, index));
    }
    for index in [148, 149, 150, 498, 499, 500] {
        assert!(!newer(&mut contexts, &srtp(&key, 7, index)), "{index}");
    }
    assert!(newer(&mut contexts, &srtp(&key, 7, 501)));
}

#[test]
fn the_counter_rolls_over_unseen_and_after_loss() {
    // The first packets were lost, and with them the roll-over.
    let (key, mut late) = contexts(1);
    assert!(newer(&mut late, &srtp(&key, 7, 65_540)));
    // Followed over three roll-overs, with and without losses.
    let (key, mut contexts) = contexts(1);
    assert!(newer(&mut contexts, &srtp(&key, 7, 65_000)));
    let mut index = 65_000;
    while index < 250_000 {
        follow(&mut contexts, &srtp(&key, 7, index));
        index += if index < 140_000 { 1 } else { 977 };
    }
    assert!(!newer(&mut contexts, &srtp(&key, 7, index - 65_536)), "a roll-over ago");
    assert!(newer(&mut contexts, &srtp(&key, 7, index)));
    // Nothing at all was heard for more than half a roll-over, and for one and a half.
    assert!(newer(&mut contexts, &srtp(&key, 7, index + 40_000)));
    assert!(newer(&mut contexts, &srtp(&key, 7, index + 140_000)));
}

#[test]
fn each_sender_has_its_own_index() {
    let (key, mut contexts) = contexts(1);
    assert!(newer(&mut contexts, &srtp(&key, 7, 70_000)));
    // Another SSRC begins with a counter of 0, and that of before is not forgotten.
    follow(&mut contexts, &srtp(&key, 8, 3));
    assert!(!newer(&mut contexts, &srtp(&key, 7, 69_999)) && !newer(&mut contexts, &srtp(&key, 8, 3)));
    assert!(newer(&mut contexts, &srtp(&key, 8, 4)) && newer(&mut contexts, &srtp(&key, 7, 70_001)));
    // Of too many the first is forgotten, and from then on none that is new vouches.
    (100..107).for_each(|ssrc| follow(&mut contexts, &srtp(&key, ssrc, 1)));
    assert!(!newer(&mut contexts, &srtp(&key, 8, 5)) && !newer(&mut contexts, &srtp(&key, 9, 1)));
    assert!(newer(&mut contexts, &srtp(&key, 7, 70_002)));
}

#[test]
fn headers_without_a_tag_lead_no_further_than_a_run() {
    let (key, mut contexts) = contexts(1);
    assert!(newer(&mut contexts, &srtp(&key, 7, 100)));
    // A leap, other senders, and then as far as one gets step by step.
    follow(&mut contexts, &rtp(7, 30_000));
    (0..20).for_each(|ssrc| follow(&mut contexts, &rtp(ssrc, 1)));
    assert!(newer(&mut contexts, &srtp(&key, 7, 101)) && newer(&mut contexts, &srtp(&key, 8, 1)));
    (102..1_000).for_each(|sequence| follow(&mut contexts, &rtp(7, sequence)));
    assert!(!newer(&mut contexts, &srtp(&key, 7, 165)));
    assert!(newer(&mut contexts, &srtp(&key, 7, 166)));
}

#[test]
fn of_several_offered_keys_any_is_good_until_one_is_chosen_and_used() {
    let keys = [srtp_key(1), srtp_key(2), srtp_key(3)];
    let mut contexts = Contexts::new(&keys);
    assert!(newer(&mut contexts, &srtp(&keys[1], 7, 100)));
    contexts.rekey(&keys[2..]);
    assert!(newer(&mut contexts, &srtp(&keys[0], 7, 101)), "still on its way");
    assert!(newer(&mut contexts, &srtp(&keys[2], 7, 102)));
    assert!(!newer(&mut contexts, &srtp(&keys[0], 7, 103)));
}

#[test]
fn another_key_begins_at_0_and_the_former_is_good_until_its_first_packet() {
    let (old, mut contexts) = after_three_turns();
    let new = srtp_key(2);
    contexts.rekey(std::slice::from_ref(&new));
    // The same again changes nothing.
    contexts.rekey(std::slice::from_ref(&new));
    assert!(newer(&mut contexts, &srtp(&old, 7, 200_001)));
    assert!(!newer(&mut contexts, &srtp(&old, 7, 200_001)));
    assert!(!newer(&mut contexts, &srtp(&old, 8, 5)), "a sender that it never had");
    let sequence = 200_001 % 65_536;
    assert!(newer(&mut contexts, &srtp(&new, 7, sequence + 1)));
    assert!(!newer(&mut contexts, &srtp(&old, 7, 200_010)));
    assert!(newer(&mut contexts, &srtp(&new, 7, sequence + 2)));
}

#[test]
fn the_first_packet_with_another_key_may_have_any_number_and_nothing_before_it_counts_then() {
    let (old, mut contexts) = after_three_turns();
    let new = srtp_key(2);
    contexts.rekey(std::slice::from_ref(&new));
    follow(&mut contexts, &srtp(&old, 7, 200_001));
    follow(&mut contexts, &srtp(&new, 7, 20));
    follow(&mut contexts, &srtp(&new, 7, 21));
    for index in [19, 20, 21] {
        assert!(!newer(&mut contexts, &srtp(&new, 7, index)), "{index}");
    }
    assert!(!newer(&mut contexts, &srtp(&old, 7, 200_002)) && newer(&mut contexts, &srtp(&new, 7, 22)));
}

#[test]
fn a_peer_whose_counter_goes_on_in_spite_of_another_key_is_known_too() {
    let (_, mut contexts) = after_three_turns();
    let new = srtp_key(2);
    contexts.rekey(std::slice::from_ref(&new));
    assert!(newer(&mut contexts, &srtp(&new, 7, 200_001)));
    assert!(!newer(&mut contexts, &srtp(&new, 7, 200_001)));
    assert!(newer(&mut contexts, &srtp(&new, 7, 270_000)));
}

#[test]
fn keys_of_another_peer_are_void_at_once() {
    let (old, mut contexts) = contexts(1);
    assert!(newer(&mut contexts, &srtp(&old, 7, 10)));
    contexts.rekey(&[srtp_key(2)]);
    contexts.forget_former();
    assert!(!newer(&mut contexts, &srtp(&old, 7, 11)));
}

#[test]
fn keys_do_not_pile_up_and_what_is_named_stays() {
    let mut contexts = Contexts::new(&[srtp_key(0)]);
    for seed in 1..200 {
        contexts.rekey(&[srtp_key(seed), srtp_key(seed - 1)]);
        assert!(contexts.keys.len() <= KEYS);
        assert!(contexts.keys.iter().any(|keyed| keyed.current && keyed.key == srtp_key(seed)));
    }
    for seed in 0..200 {
        contexts.rekey(&[srtp_key(seed)]);
        assert!(contexts.keys.len() <= KEYS);
    }
}

#[test]
fn rtcp_says_its_index_itself() {
    let (key, mut contexts) = contexts(1);
    let vouch = |contexts: &mut Contexts, packet: &[u8]| contexts.vouch(Kind::Rtcp, packet);
    assert!(!vouch(&mut contexts, &rtcp(7)));
    assert!(vouch(&mut contexts, &srtcp(&key, 7, 5)));
    assert!(!vouch(&mut contexts, &srtcp(&key, 7, 5)) && !vouch(&mut contexts, &srtcp(&key, 7, 4)));
    assert!(vouch(&mut contexts, &srtcp(&key, 7, 10)));
    // Neither kind passes for the other.
    assert!(!newer(&mut contexts, &srtcp(&key, 7, 11)) && !vouch(&mut contexts, &srtp(&key, 7, 11)));
    assert!(!contexts.vouch(Kind::Dtls, &srtp(&key, 7, 11)));
}
