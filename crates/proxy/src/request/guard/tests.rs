use nat::Side;
use registry::{BindingId, PassId};
use wire::sip::{Limits, Stored};

use super::*;
use crate::rig::{Rig, config, flow, listener};
use crate::token::Token;

fn request(method: &str, uri: &str) -> Stored {
    let text = format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\nTo: \
         <sip:c@d>;tag=2\r\nCall-ID: c\r\nCSeq: 1 {method}\r\n\r\n"
    );
    Stored::parse(text.into_bytes(), &Limits::default()).unwrap()
}

fn of_role(role: Role) -> Rig {
    let listeners = vec![listener(Side::Inner, "10.0.0.2:5060"), listener(Side::Outer, "203.0.113.30:5060")];
    Rig::new(config(role, listeners))
}

const CORE: (u16, &str) = (0, "10.0.0.5:5060");
const STRANGER_INSIDE: (u16, &str) = (0, "10.0.0.99:5060");
const PHONE: (u16, &str) = (1, "198.51.100.7:40000");
const STRANGER: (u16, &str) = (1, "198.51.100.8:40000");

#[test]
fn who_may_ask_for_what() {
    let mut rig = of_role(Role::Border);
    rig.registered("a.example", "alice", PHONE.1, CORE.1);
    let none = Routed::default;
    let us = "sip:203.0.113.30";
    for (at, method, uri, routed, refused) in [
        (CORE, "INVITE", "sip:x@10.0.0.2", none(), None),
        (STRANGER_INSIDE, "INVITE", "sip:x@10.0.0.2", none(), Some("Not a configured upstream")),
        (PHONE, "INVITE", "sip:x@a.example", none(), None),
        (STRANGER, "INVITE", "sip:x@a.example", none(), Some("Register first")),
        // Anybody may register on the phones' side, and ask whether we are there.
        (STRANGER, "REGISTER", "sip:a.example", none(), None),
        (STRANGER_INSIDE, "REGISTER", "sip:a.example", none(), Some("Not a configured upstream")),
        (STRANGER, "OPTIONS", us, none(), None),
        (STRANGER, "OPTIONS", "sip:x@203.0.113.30", none(), Some("Register first")),
        (STRANGER, "MESSAGE", us, none(), Some("Register first")),
        (STRANGER_INSIDE, "OPTIONS", "sip:10.0.0.2", none(), None),
        // Whoever bears a token of ours.
        (STRANGER, "INVITE", "sip:x@y", Routed { uri: Some(Token::Leg(PassId(7), 1)), ..none() }, None),
        (STRANGER, "INVITE", "sip:x@y", Routed { pass: Some(PassId(7)), ..none() }, None),
        (STRANGER, "INVITE", "sip:x@y", Routed { path: Some(Token::Binding(BindingId(7))), ..none() }, None),
        (STRANGER, "INVITE", "sip:x@y", Routed { forged: true, pops: 1, ..none() }, Some("Register first")),
    ] {
        let from = flow(&rig.proxy, at.0, at.1);
        let allowed = rig.proxy.guard(from, request(method, uri).message(), &routed);
        assert_eq!(allowed, refused.map_or(Ok(()), |reason| Err(Reject::new(403, reason))), "{at:?} {method} {uri}");
    }
}

#[test]
fn in_standalone_everybody_may_ask() {
    let rig = of_role(Role::Standalone);
    let from = flow(&rig.proxy, STRANGER.0, STRANGER.1);
    assert_eq!(rig.proxy.guard(from, request("INVITE", "sip:x@y").message(), &Routed::default()), Ok(()));
}

#[test]
fn a_party_of_a_dialog_may_speak_in_it() {
    let mut rig = of_role(Role::Border);
    let from = flow(&rig.proxy, STRANGER.0, STRANGER.1);
    let text = "SUBSCRIBE sip:x@y SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK0\r\nFrom: <sip:a@b>;tag=1\r\nTo: \
                <sip:c@d>\r\nCall-ID: c\r\nCSeq: 1 SUBSCRIBE\r\n\r\n";
    let began = Stored::parse(text.as_bytes().to_vec(), &Limits::default()).unwrap();
    let pass = rig.proxy.create(rig.now, from, began.message(), &[]).map_err(|r| r.status).unwrap();
    rig.proxy.registry.update_call(pass, |call| {
        let callee = registry::Party { tag: b"2".to_vec().into(), ..call.caller.clone() };
        call.callees.push(callee);
    });
    let bye = request("NOTIFY", "sip:x@y");
    assert_eq!(rig.proxy.guard(from, bye.message(), &Routed::default()), Ok(()));
    let elsewhere = flow(&rig.proxy, 1, "198.51.100.9:40000");
    assert!(rig.proxy.guard(elsewhere, bye.message(), &Routed::default()).is_err());
}

#[test]
fn an_upstream_is_expected_whatever_a_list_says() {
    let rig = of_role(Role::Border);
    for (at, expected) in [(CORE, true), (STRANGER_INSIDE, false), (STRANGER, false)] {
        assert_eq!(rig.proxy.expects(flow(&rig.proxy, at.0, at.1)), expected, "{at:?}");
    }
}
