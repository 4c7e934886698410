use wire::sip::{Index, Limits};

use super::*;
use crate::Output;
use crate::rig::{Rig, flow, register};

const PHONE: &str = "192.168.1.20:5060";
const VIA: &str = "Via: SIP/2.0/UDP 192.168.1.20:5060;branch=z9hG4bK1\r\n";
const FIELDS: &str = "From: <sip:a@b>;tag=1\r\nTo: <sip:c@192.168.1.2>\r\nCall-ID: c\r\nCSeq: 1 MESSAGE\r\n";

#[test]
fn a_refusal_bears_its_lines() {
    let reject = Reject::new(420, "Bad Extension").with("Unsupported: x").with("Retry-After: 5");
    assert_eq!((reject.status, reject.reason), (Status(420), "Bad Extension"));
    assert_eq!(reject.extra, b"Unsupported: x\r\nRetry-After: 5\r\n");
}

/// The status of the answer to a message of a known phone, or why there is none.
fn answered(text: &str) -> Result<u16, DropReason> {
    let mut rig = Rig::standalone();
    register(&mut rig.proxy, rig.now, 0, "alice", PHONE);
    rig.wait(std::time::Duration::ZERO);
    rig.said.clear();
    rig.receive(0, PHONE, text);
    let dropped = rig.said.iter().find_map(|output| match output {
        Output::Observed(Observed::Dropped { reason, .. }) => Some(*reason),
        _ => None,
    });
    let counted = |o: &&Output| matches!(o, Output::Observed(Observed::RequestIn { .. }));
    let counted = rig.said.iter().filter(counted).count();
    let sent = rig.sent(PHONE);
    match (dropped, &sent[..]) {
        (Some(reason), []) => Err(reason),
        (None, [answer]) => {
            assert_eq!(counted, 1);
            Ok(answer.split(' ').nth(1).unwrap().parse().unwrap())
        }
        (dropped, sent) => panic!("{dropped:?} {sent:?}"),
    }
}

#[test]
fn what_cannot_be_read_is_answered_where_enough_of_it_was() {
    let broken = "Broken field\r\n";
    for (text, expected) in [
        (format!("MESSAGE sip:c@192.168.1.2 SIP/2.0\r\n{VIA}{FIELDS}{broken}\r\n"), Ok(400)),
        (format!("MESSAGE sip:c@192.168.1.2 SIP/7.0\r\n{VIA}{FIELDS}\r\n"), Ok(505)),
        (format!("MESSAGE sip:c@192.168.1.2 SIP/2.0\r\n{FIELDS}{broken}\r\n"), Err(DropReason::Malformed)),
        (format!("MESSAGE sip:c@192.168.1.2 SIP/2.0\r\n{VIA}{broken}\r\n"), Err(DropReason::Malformed)),
        (
            format!("ACK sip:c@192.168.1.2 SIP/2.0\r\n{VIA}{}{broken}\r\n", FIELDS.replace("MESSAGE", "ACK")),
            Err(DropReason::Malformed),
        ),
        (format!("SIP/2.0 200 OK\r\n{VIA}{FIELDS}{broken}\r\n"), Err(DropReason::Malformed)),
        (format!("MESSAGE sip:c@192.168.1.2 SIP/2.0\r\n{VIA}{FIELDS}X: a\nb\r\n\r\n"), Err(DropReason::Malformed)),
    ] {
        assert_eq!(answered(&text), expected, "{text}");
    }
}

#[test]
fn without_a_via_there_is_nobody_to_answer() {
    let text = format!("MESSAGE sip:c@192.168.1.2 SIP/2.0\r\nMax-Forwards: 70\r\n{FIELDS}\r\n");
    assert_eq!(answered(&text), Err(DropReason::Malformed));
}

#[test]
fn a_copy_of_a_refused_request_hears_the_same_again() {
    let text = format!("MESSAGE sip:nobody@192.168.1.2 SIP/2.0\r\n{VIA}Max-Forwards: 70\r\n{FIELDS}\r\n");
    let mut rig = Rig::standalone();
    register(&mut rig.proxy, rig.now, 0, "alice", PHONE);
    rig.wait(std::time::Duration::ZERO);
    rig.said.clear();
    rig.receive(0, PHONE, &text);
    let first = rig.sent(PHONE);
    assert!(first[0].starts_with("SIP/2.0 404 "), "{first:?}");
    // Meanwhile there is somebody.
    register(&mut rig.proxy, rig.now, 0, "nobody", "192.168.1.21:5060");
    rig.wait(std::time::Duration::ZERO);
    rig.said.clear();
    rig.receive(0, PHONE, &text);
    assert_eq!(rig.sent(PHONE), first);
}

#[test]
fn a_refusal_is_counted_with_its_cause() {
    let mut rig = Rig::standalone();
    let from = flow(&rig.proxy, 0, PHONE);
    let text = format!("MESSAGE sip:c@192.168.1.2 SIP/2.0\r\n{VIA}{FIELDS}\r\n");
    let mut index = Index::new();
    index.parse(text.as_bytes(), wire::sip::Framing::Datagram, &Limits::default()).unwrap();
    rig.said.clear();
    rig.proxy.refuse(rig.now, from, index.view(text.as_bytes()), &Reject::new(403, "No"));
    rig.wait(std::time::Duration::ZERO);
    let refused = Observed::Refused {
        side: nat::Side::Inner,
        method: Method::Message.into(),
        status: Status(403),
        reason: "No",
        source: from.remote,
    };
    assert!(rig.said.contains(&Output::Observed(refused)), "{:?}", rig.said);
}
