use wire::sip::{Limits, Stored};

use super::*;
use crate::rig::Rig;
use crate::rig::house::{ALICE, BOB, SDP, house, invite, observed, only, request, response, sent};

fn stored(fields: &str, body: &str) -> Stored {
    let text = format!(
        "INFO sip:a SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nCSeq: 1 INFO\r\n{fields}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    Stored::parse(text.into_bytes(), &Limits::default()).unwrap()
}

#[test]
fn what_is_sdp() {
    for (kind, body, found) in [
        ("Content-Type: application/sdp", "v=0", true),
        ("c: Application/SDP", "v=0", true),
        ("Content-Type: application/sdp;charset=x", "v=0", true),
        ("Content-Type: application/sdp ; x", "v=0", true),
        ("Content-Type: application/sdp\t;x", "v=0", true),
        ("Content-Type: application/sdpx", "v=0", false),
        ("Content-Type: application/sd", "v=0", false),
        ("Content-Type: text/plain", "v=0", false),
        ("Content-Type: application/sdp", "", false),
        ("Subject: x", "v=0", false),
    ] {
        let stored = stored(&format!("{kind}\r\n"), body);
        assert_eq!(sdp(stored.message()), found.then_some(body.as_bytes()), "{kind} {body}");
    }
}

#[test]
fn a_provisional_response_is_reliable_by_its_number() {
    assert!(reliable(stored("RSeq: 1\r\n", "").message()));
    assert!(!reliable(stored("Require: 100rel\r\n", "").message()));
}

#[test]
fn the_caller_is_end_a() {
    assert_eq!([0, 1, 2].map(end_of), [End::A, End::B, End::B]);
}

#[test]
fn what_an_offer_that_cannot_be_carried_gets() {
    for (refusal, status, reason, extra, observed) in [
        (
            Refusal::Exhausted(Side::Inner),
            503,
            "No media port left on the inner side",
            "Retry-After: 30\r\nReason: SIP ;cause=503 ;text=\"No media port left on the inner side\"\r\n".to_owned(),
            Some(Side::Inner),
        ),
        (
            Refusal::Exhausted(Side::Outer),
            503,
            "No media port left on the outer side",
            "Retry-After: 30\r\nReason: SIP ;cause=503 ;text=\"No media port left on the outer side\"\r\n".to_owned(),
            Some(Side::Outer),
        ),
        (Refusal::NotReady, 503, "No mapped media port yet (STUN)", "Retry-After: 5\r\n".to_owned(), None),
        (
            Refusal::Malformed { line: 4, what: "no media" },
            488,
            "Not Acceptable Here",
            "Warning: 399 siplatch \"SDP line 4: no media\"\r\n".to_owned(),
            None,
        ),
        (
            Refusal::OwnPort,
            488,
            "Not Acceptable Here",
            "Warning: 399 siplatch \"SDP names a relay port that is not in use\"\r\n".to_owned(),
            None,
        ),
    ] {
        let mut rig = Rig::standalone();
        rig.said.clear();
        let reject = rig.proxy.refusal(refusal);
        rig.wait(std::time::Duration::ZERO);
        let found = (reject.status.0, reject.reason, String::from_utf8(reject.extra).unwrap());
        assert_eq!(found, (status, reason, extra));
        let side = self::observed(&rig).into_iter().find_map(|observed| match observed {
            Observed::PortsExhausted { side } => Some(*side),
            _ => None,
        });
        assert_eq!(side, observed);
    }
}

/// A call of alice's whose INVITE offered, or did not; the rig, its key, and what bob got.
fn calling(offer: &str) -> (Rig, Key, String) {
    let mut rig = house(&[BOB]);
    rig.receive(0, ALICE, &invite("call", offer));
    let asked = only(&sent(&mut rig), BOB, "INVITE ");
    let pass = rig.proxy.registry.by_call_id(b"call").next().unwrap().id;
    (rig, Key { pass: pass.0, branch: 0 }, asked)
}

const CONTACT: &str = "Contact: <sip:b@192.168.1.21>\r\n";

#[test]
fn an_offer_waits_for_its_answer() {
    for (offer, status, more, body, waits) in [
        // What an unreliable 183 says is a preview.
        (SDP, "183 Progress", "", SDP, [true, false]),
        (SDP, "183 Progress", "RSeq: 1\r\nRequire: 100rel\r\n", SDP, [false, false]),
        (SDP, "180 Ringing", "", "", [true, false]),
        (SDP, "200 OK", "", SDP, [false, false]),
        // Early media, and nothing more in the 200: the preview counts.
        ("", "200 OK", "", SDP, [false, true]),
        ("", "183 Progress", "RSeq: 1\r\nRequire: 100rel\r\n", SDP, [false, true]),
        ("", "200 OK", "", "", [false, false]),
    ] {
        let (mut rig, key, asked) = calling(offer);
        assert_eq!(rig.proxy.offers.pending(key, 1, End::A), !offer.is_empty());
        rig.receive(0, BOB, &response(&asked, status, "b", &format!("{CONTACT}{more}"), body));
        let pending = [End::A, End::B].map(|end| rig.proxy.offers.pending(key, 1, end));
        assert_eq!(pending, waits, "{status} {more}");
    }
}

#[test]
fn a_preview_is_the_answer_when_the_200_has_none() {
    let (mut rig, key, asked) = calling(SDP);
    rig.receive(0, BOB, &response(&asked, "183 Progress", "b", CONTACT, SDP));
    assert!(rig.proxy.offers.pending(key, 1, End::A) && !rig.proxy.offers.watched(key.pass));
    rig.receive(0, BOB, &response(&asked, "200 OK", "b", CONTACT, ""));
    assert!(!rig.proxy.offers.pending(key, 1, End::A) && rig.proxy.offers.watched(key.pass));
}

#[test]
fn an_ack_answers_and_a_prack_only_what_was_asked() {
    // The 200 offers; the ACK answers.
    let (mut rig, key, asked) = calling("");
    rig.receive(0, BOB, &response(&asked, "200 OK", "b", CONTACT, SDP));
    let told = only(&sent(&mut rig), ALICE, "SIP/2.0 200 ");
    let token = told.lines().find(|line| line.starts_with("Contact:")).unwrap();
    let uri = token.trim_start_matches("Contact: <").trim_end_matches('>').to_owned();
    let within = |method: &str, cseq: u32, body: &str| {
        let text = request(method, ALICE, "bob", "call", "", body);
        let text = text.replace("sip:bob@192.168.1.2 SIP", &format!("{uri} SIP"));
        let text = text.replace("To: <sip:bob@192.168.1.2>", "To: <sip:bob@192.168.1.2>;tag=b");
        text.replace("CSeq: 1", &format!("CSeq: {cseq}")).replace("z9hG4bKcall", &format!("z9hG4bK{method}{cseq}"))
    };
    assert!(rig.proxy.offers.pending(key, 1, End::B));
    rig.receive(0, ALICE, &within("ACK", 1, SDP));
    only(&sent(&mut rig), BOB, "ACK ");
    assert!(!rig.proxy.offers.pending(key, 1, End::B) && rig.proxy.offers.watched(key.pass));
    // Nothing is asked: what a PRACK brings is an offer, as in an UPDATE.
    for (method, cseq) in [("PRACK", 2), ("UPDATE", 3)] {
        rig.receive(0, ALICE, &within(method, cseq, SDP));
        let asked = only(&sent(&mut rig), BOB, method);
        assert!(rig.proxy.offers.pending(key, 1, End::A), "{method}");
        rig.receive(0, BOB, &response(&asked, "200 OK", "b", CONTACT, SDP));
        assert!(!rig.proxy.offers.pending(key, 1, End::A), "{method}");
    }
}

#[test]
fn a_prack_answers_a_reliable_offer() {
    let (mut rig, key, asked) = calling("");
    rig.receive(0, BOB, &response(&asked, "183 Progress", "b", &format!("{CONTACT}RSeq: 1\r\n"), SDP));
    let told = only(&sent(&mut rig), ALICE, "SIP/2.0 183 ");
    let token = told.lines().find(|line| line.starts_with("Contact:")).unwrap();
    let uri = token.trim_start_matches("Contact: <").trim_end_matches('>');
    let text = request("PRACK", ALICE, "bob", "call", "", SDP).replace("CSeq: 1", "CSeq: 2");
    let text = text.replace("sip:bob@192.168.1.2 SIP", &format!("{uri} SIP")).replace("z9hG4bKcall", "z9hG4bKprack");
    let text = text.replace("To: <sip:bob@192.168.1.2>", "To: <sip:bob@192.168.1.2>;tag=b");
    rig.receive(0, ALICE, &text);
    only(&sent(&mut rig), BOB, "PRACK ");
    assert_eq!([End::A, End::B].map(|end| rig.proxy.offers.pending(key, 1, end)), [false, false]);
}

#[test]
fn a_dialog_stands_once_its_own_callee_has_answered() {
    let (mut rig, key, asked) = calling("");
    rig.receive(0, BOB, &response(&asked, "180 Ringing", "b", CONTACT, ""));
    assert!(!rig.proxy.stands(key));
    rig.receive(0, BOB, &response(&asked, "200 OK", "b", CONTACT, ""));
    assert!(rig.proxy.stands(key));
    assert!(!rig.proxy.stands(Key { branch: 1, ..key }));
    assert!(!rig.proxy.stands(Key { pass: key.pass ^ 1, ..key }));
}
