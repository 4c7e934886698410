//! Which keys the workers are told, by what the bodies say.

use wire::Edit;
use wire::sdp::Crypto;

use super::ice_tests::Call;
use super::tests::{KEY, bind};
use super::{Key, Settles, Text};
use crate::srtp;
use crate::{Command, End};

/// 40 digits of base64.
fn inline(seed: char) -> String {
    seed.to_string().repeat(40)
}

fn line(tag: u8, seed: char) -> String {
    format!("a=crypto:{tag} AES_CM_128_HMAC_SHA1_80 inline:{}\r\n", inline(seed))
}

fn key(seed: char) -> srtp::Key {
    let line = format!("1 AES_CM_128_HMAC_SHA1_80 inline:{}", inline(seed));
    srtp::Key::new(&Crypto::parse(line.as_bytes()).expect("a line"))
}

fn body(protocol: &str, more: &str) -> String {
    format!(
        "v=0\r\no=- 1 1 IN IP4 10.0.0.9\r\ns=-\r\nc=IN IP4 10.0.0.9\r\nt=0 0\r\nm=audio 4000 {protocol} 0\r\n{more}"
    )
}

fn secure(more: &str) -> String {
    body("RTP/SAVP", more)
}

/// The keys that the worker was told last, of A and of B.
fn keys(call: &mut Call) -> [Vec<srtp::Key>; 2] {
    call.plans().map(|plan| plan.srtp.to_vec())
}

#[test]
fn the_offered_keys_until_the_answer_then_the_one_that_it_chose_and_its_own() {
    let mut call = Call::new();
    let lines = line(1, 'a') + &line(2, 'b');
    let offered = call.offer(End::A, &secure(&lines));
    assert!(offered.contains(&lines), "they pass as they are");
    assert_eq!(keys(&mut call), [vec![key('a'), key('b')], vec![]]);
    let answered = call.answer(End::B, &secure(&line(2, 'c')));
    assert!(answered.contains(&line(2, 'c')));
    assert_eq!(keys(&mut call), [vec![key('b')], vec![key('c')]]);
    // A re-INVITE of the other end changes its key when it is answered.
    call.offer(End::B, &secure(&line(1, 'd')));
    assert!(call.offers.poll_command().is_none());
    call.answer(End::A, &secure(&line(1, 'b')));
    assert_eq!(keys(&mut call), [vec![key('b')], vec![key('d')]]);
    // And one without keys ends it.
    call.offer(End::A, &body("RTP/AVP", ""));
    call.answer(End::B, &body("RTP/AVP", ""));
    assert_eq!(keys(&mut call), [vec![], vec![]]);
}

#[test]
fn an_answer_before_the_offer_is_known_makes_no_difference() {
    let mut call = Call::new();
    call.offer(End::B, &secure(&line(1, 'a')));
    assert_eq!(keys(&mut call), [vec![], vec![key('a')]]);
    call.answer(End::A, &secure(&line(1, 'b')));
    assert_eq!(keys(&mut call), [vec![key('b')], vec![key('a')]]);
}

#[test]
fn where_an_offer_leaves_another_way_open_its_keys_are_not_known_before_the_answer() {
    let unknown = "a=crypto:2 F8_128_HMAC_SHA1_80 inline:AAAA\r\n";
    let five: String = (1..=5).map(|tag| line(tag, char::from(b'a' + tag))).collect();
    for (protocol, more) in [
        ("RTP/AVP", line(1, 'a')),
        ("RTP/SAVP", line(1, 'a') + unknown),
        ("RTP/SAVP", line(1, 'a') + "a=fingerprint:sha-256 AB:CD\r\n"),
        ("RTP/SAVP", line(1, 'a') + "a=key-mgmt:mikey AQAF\r\n"),
        ("RTP/SAVP", line(1, 'a') + &five.replace("a=crypto:1 ", "a=crypto:9 ")),
        ("RTP/SAVPF", line(1, 'a').replace("\r\n", " UNAUTHENTICATED_SRTP\r\n") + &line(1, 'a')),
    ] {
        let mut call = Call::new();
        call.offer(End::A, &body(protocol, &more));
        assert_eq!(keys(&mut call), [vec![], vec![]], "{protocol} {more}");
        call.answer(End::B, &body(protocol, &line(1, 'z')));
        assert_eq!(keys(&mut call), [vec![key('a')], vec![key('z')]], "{protocol} {more}");
    }
}

#[test]
fn an_answer_that_chooses_nothing_for_certain_leaves_the_keys_unknown_and_the_call_up() {
    let other_suite = line(1, 'z').replace("SHA1_80", "SHA1_32");
    for (protocol, more) in [
        ("RTP/SAVP", String::new()),
        ("RTP/AVP", String::new()),
        ("RTP/SAVP", line(3, 'z')),
        ("RTP/SAVP", line(1, 'z') + &line(2, 'y')),
        ("RTP/SAVP", line(1, 'a')),
        ("RTP/SAVP", other_suite),
        ("RTP/SAVP", line(1, 'z') + "a=fingerprint:sha-256 AB:CD\r\n"),
        ("RTP/SAVP", "a=crypto:1 nonsense\r\n".to_owned()),
        ("UDP/TLS/RTP/SAVP", line(1, 'z')),
    ] {
        let mut call = Call::new();
        call.offer(End::A, &secure(&(line(1, 'a') + &line(2, 'b'))));
        call.answer(End::B, &body(protocol, &more));
        let plans = call.plans();
        assert!(plans.iter().all(|plan| plan.srtp.is_empty() && plan.target.is_some()), "{protocol} {more}");
    }
}

#[test]
fn a_key_of_two_streams_is_the_key_of_neither() {
    let mut call = Call::new();
    let video = |seed| format!("m=video 4002 RTP/SAVP 96\r\n{}", line(1, seed));
    call.offer(End::A, &(secure(&line(1, 'a')) + &video('a')));
    call.answer(End::B, &(secure(&line(1, 'b')) + &video('c')));
    assert_eq!(keys(&mut call), [vec![], vec![]]);
    call.offer(End::A, &(secure(&line(1, 'a')) + &video('d')));
    call.answer(End::B, &(secure(&line(1, 'b')) + &video('c')));
    assert_eq!(keys(&mut call), [vec![key('d')], vec![key('c')]]);
}

#[test]
fn each_fork_has_its_own_key() {
    let mut call = Call::new();
    call.offer(End::A, &secure(&line(1, 'a')));
    let mut answer = |leg, seed, settles| {
        let answer = secure(&line(1, seed));
        let text = Text { whole: answer.as_bytes(), body: answer.as_bytes() };
        assert_eq!(call.offers.answer(KEY, leg, End::B, call.ends.clone(), text, settles, &mut Edit::new()), Ok(()));
        keys(&mut call)
    };
    assert_eq!(answer(1, 'x', Settles::Nothing), [vec![key('a')], vec![key('x')]]);
    assert_eq!(answer(2, 'y', Settles::Nothing), [vec![key('a')], vec![key('y')]]);
    assert_eq!(answer(1, 'x', Settles::Call), [vec![key('a')], vec![key('x')]]);
}

#[test]
fn when_another_branch_is_answered_a_key_lets_nobody_in_for_the_caller() {
    let mut call = Call::new();
    let offer = secure(&line(1, 'a'));
    call.offer(End::A, &offer);
    let other = Key { branch: 1, ..KEY };
    bind(&mut call.offers);
    let text = Text { whole: offer.as_bytes(), body: offer.as_bytes() };
    assert_eq!(call.offers.offer(other, 0, 0, End::A, call.ends.clone(), text, &mut Edit::new()), Ok(()));
    let commands: Vec<Command> = std::iter::from_fn(|| call.offers.poll_command()).collect();
    let opened =
        commands.iter().filter(|command| matches!(command, Command::Open { legs, .. } if legs[0].srtp.len() == 1));
    assert_eq!(opened.count(), 2);
    let shown = format!("{commands:?}");
    assert!(!shown.contains("aaaa") && shown.contains("Key("), "keys are not for logs: {shown}");
    call.answer(End::B, &secure(&line(1, 'b')));
    let Some(Command::Replace { end: End::A, stream }) = std::iter::from_fn(|| call.offers.poll_command())
        .filter(|command| !matches!(command, Command::Formats { .. }))
        .inspect(|command| {
            if let Command::Update { stream, legs, .. } = command {
                assert_eq!(legs[0].srtp.is_empty(), stream.slot == 1, "{command:?}");
            }
        })
        .last()
    else {
        panic!("the caller is forgotten on the other branch")
    };
    assert_eq!(stream.slot, 1);
}
