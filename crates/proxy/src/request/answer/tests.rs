use std::time::Duration;

use registry::{CallState, Party};
use wire::sip::{Limits, Stored};

use super::*;
use crate::rig::house::{ALICE, BOB, house, invite, observed, only, request, sent, told};
use crate::rig::{Rig, flow};

fn stored(text: &str) -> Stored {
    Stored::parse(text.as_bytes().to_vec(), &Limits::default()).unwrap()
}

/// What an answer to a stranger's request of so many octets becomes.
fn to_a_stranger(octets: usize, answer: &Reject, proven: bool) -> Result<String, DropReason> {
    let mut rig = Rig::standalone();
    let from = flow(&rig.proxy, 0, ALICE);
    let request = |filler: usize| {
        format!(
            "BYE sip:a SIP/2.0\r\nVia: SIP/2.0/UDP {ALICE};branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\nTo: \
             <sip:c@d>\r\nCall-ID: c\r\nCSeq: 1 BYE\r\nSubject: {}\r\n\r\n",
            "x".repeat(filler)
        )
    };
    let stored = stored(&request(octets - request(0).len()));
    rig.proxy.credit(rig.now, from, 10_000);
    rig.said.clear();
    rig.proxy.answer_stateless(rig.now, from, stored.message(), answer, proven);
    rig.wait(Duration::ZERO);
    let dropped = observed(&rig).into_iter().find_map(|observed| match observed {
        Observed::Dropped { reason, .. } => Some(*reason),
        _ => None,
    });
    let sent = sent(&mut rig);
    dropped.map_or_else(|| Ok(only(&sent, ALICE, "SIP/2.0 ")), Err)
}

#[test]
fn a_stranger_gets_no_more_than_it_sent() {
    let long = Reject::new(420, "Bad Extension").with(&format!("Unsupported: {}", "x".repeat(100)));
    let whole = to_a_stranger(1000, &long, true).unwrap();
    assert!(whole.starts_with("SIP/2.0 420 Bad Extension\r\n") && whole.contains("Unsupported"));
    let extra = long.extra.len();
    let size = whole.len();
    assert_eq!(to_a_stranger(size, &long, false), Ok(whole.clone()));
    let plain = to_a_stranger(size - 1, &long, false).unwrap();
    assert_eq!(plain, whole.replace(std::str::from_utf8(&long.extra).unwrap(), ""));
    assert_eq!(to_a_stranger(size - extra, &long, false), Ok(plain.clone()));
    let bare = plain.replace("420 Bad Extension", "420 ");
    assert_eq!(to_a_stranger(size - extra - 1, &long, false), Ok(bare.clone()));
    assert_eq!(to_a_stranger(bare.len() - 1, &long, false), Err(DropReason::Budget));
    assert_eq!(to_a_stranger(bare.len() - 1, &long, true), Ok(whole), "whoever is known gets all of it");
}

#[test]
fn a_challenge_may_be_twice_as_long_and_loses_only_what_few_know() {
    let line = |algorithm: &str| {
        format!("WWW-Authenticate: Digest realm=\"a\", algorithm={algorithm}, x=\"{}\"", "x".repeat(200))
    };
    let challenge = Reject::new(401, "Unauthorized").with(&line("SHA-256")).with(&line("SHA-512-256"));
    let whole = to_a_stranger(2000, &challenge, true).unwrap();
    let half = whole.len().div_ceil(2);
    assert_eq!(to_a_stranger(half, &challenge, false), Ok(whole));
    let shorter = to_a_stranger(half - 1, &challenge, false).unwrap();
    assert!(shorter.contains("SHA-256") && !shorter.contains("SHA-512-256"), "{shorter}");
    // Shorter it does not become.
    assert_eq!(to_a_stranger(shorter.len() / 2 - 1, &challenge, false), Ok(shorter));
}

#[test]
fn a_session_is_named_to_its_caller_once_an_answer_has_told() {
    let (ours, theirs) = ("11111111111111111111111111111111", "22222222222222222222222222222222");
    let mut rig = house(&[BOB]);
    let session = format!("Session-ID: {ours};remote=00000000000000000000000000000000\r\n");
    let text = invite("call", "").replace("Contact:", &format!("{session}Contact:"));
    rig.receive(0, ALICE, &text);
    let pass = rig.proxy.registry.calls().next().unwrap().id;
    let request = stored(&text);
    assert_eq!(rig.proxy.peer_session(request.message()), None);
    let caller = rig.proxy.registry.call(pass).unwrap().caller.clone();
    let callee =
        |session: &str| Party { session: session.as_bytes().into(), state: CallState::Early, ..caller.clone() };
    rig.proxy.registry.update_call(pass, |call| call.callees = vec![callee(""), callee(theirs)]);
    let named = |text: &str| rig.proxy.peer_session(stored(text).message());
    assert_eq!(named(&text), Some(theirs.as_bytes().to_vec()));
    assert_eq!(named(&invite("call", "")), None, "nobody asked");
    assert_eq!(named(&text.replace("tag=call", "tag=other")), None);
    assert_eq!(named(&text.replace("Call-ID: call", "Call-ID: other")), None);
}

#[test]
fn a_refusal_of_a_whole_request_is_said_once() {
    let mut rig = house(&[BOB]);
    rig.receive(0, ALICE, &request("MESSAGE", ALICE, "bob", "m", "", ""));
    let id = rig.proxy.contexts.iter().find(|c| c.open()).unwrap().id;
    let mut context = rig.proxy.contexts.take(id).unwrap();
    for copies in [1, 0] {
        rig.said.clear();
        rig.proxy.fail_context(rig.now, &mut context, &Reject::new(503, "No"));
        rig.wait(Duration::ZERO);
        let refused = |o: &&&Observed| matches!(o, Observed::Refused { reason: "No", .. });
        assert_eq!(observed(&rig).iter().filter(refused).count(), copies);
        assert_eq!(told(&mut rig).len(), copies);
    }
}
