use std::time::Duration;

use wire::sip::{Limits, Stored};

use super::*;
use crate::Output;
use crate::rig::{Rig, flow, register};

const HERE: &str = "192.168.1.20:5060";

/// A standalone machine and its first binding, to be changed.
fn house(user: &str) -> (Rig, Binding) {
    let mut rig = Rig::standalone();
    register(&mut rig.proxy, rig.now, 0, user, HERE);
    rig.wait(Duration::ZERO);
    let binding = rig.proxy.registry.bindings().next().unwrap().clone();
    (rig, binding)
}

fn uri(text: &str) -> Uri<'_> {
    Uri::parse(text.as_bytes()).unwrap()
}

#[test]
fn the_phones_of_a_user_stand_by_preference() {
    let (mut rig, one) = house("alice");
    let at = |port: u16| flow(&rig.proxy, 0, &format!("192.168.1.20:{port}"));
    let more = [
        Binding { id: BindingId(2), q: 500, flow: at(2).into(), ..one.clone() },
        Binding {
            id: BindingId(3),
            q: 1000,
            flow: at(3).into(),
            expires: one.expires + Duration::from_secs(1),
            ..one.clone()
        },
        Binding { id: BindingId(4), answered: true, missed: 3, flow: at(4).into(), ..one.clone() },
        Binding { id: BindingId(5), flow: Flow { connection: 9, ..at(5) }.into(), ..one.clone() },
    ];
    for binding in more {
        rig.proxy.registry.bind(binding);
    }
    let found = rig.proxy.registered(&uri("sip:alice@192.168.1.2")).map_err(|r| r.status).unwrap();
    let ids: Vec<_> = found.iter().map(|target| target.binding.unwrap()).collect();
    assert_eq!(ids, [BindingId(3), one.id, BindingId(2)], "neither who is gone nor whose connection has ended");
    for id in 10..40 {
        let flow = flow(&rig.proxy, 0, &format!("192.168.1.20:{id}"));
        rig.proxy.registry.bind(Binding { id: BindingId(id), flow: flow.into(), ..one.clone() });
    }
    assert_eq!(rig.proxy.registered(&uri("sip:alice@192.168.1.2")).map_err(|r| r.status).unwrap().len(), 16);
}

#[test]
fn who_has_no_phone_is_known_or_not() {
    let (mut rig, one) = house("alice");
    let mut config = (*rig.proxy.config).clone();
    config.users = vec![crate::config::User { name: "bob".to_owned(), password: "p".to_owned() }];
    rig.proxy.config = config.into();
    let status = |rig: &Rig, text: &str| rig.proxy.registered(&uri(text)).err().map(|reject| reject.status.0);
    assert_eq!(status(&rig, "sip:alice@192.168.1.2"), None);
    assert_eq!(status(&rig, "sip:bob@192.168.1.2"), Some(480));
    assert_eq!(status(&rig, "sip:nobody@192.168.1.2"), Some(404));
    assert_eq!(status(&rig, "sip:192.168.1.2"), Some(404));
    rig.proxy.registry.bind(Binding { answered: true, missed: 3, ..one });
    assert_eq!(status(&rig, "sip:alice@192.168.1.2"), Some(480), "it stopped answering");
}

#[test]
fn a_binding_is_a_target_while_its_phone_is_there() {
    let (mut rig, one) = house("alice");
    let mut reason = |binding: Binding| {
        rig.proxy.registry.bind(binding);
        rig.proxy.bound(one.id, &uri("sip:x@192.168.1.2")).err().map(|reject| reject.reason)
    };
    assert_eq!(reason(one.clone()), None);
    assert_eq!(reason(Binding { answered: true, missed: 2, ..one.clone() }), None);
    assert_eq!(reason(Binding { answered: true, missed: 3, ..one.clone() }), Some("The phone stopped answering"));
    assert_eq!(
        reason(Binding { flow: Flow { connection: 9, ..one.flow.get() }.into(), ..one.clone() }),
        Some("The phone's connection has ended")
    );
    let nobody = rig.proxy.bound(BindingId(one.id.0 ^ 1), &uri("sip:x@192.168.1.2"));
    assert_eq!(nobody.err().map(|reject| reject.reason), Some("The phone is not registered now"));
}

#[test]
fn of_several_flows_of_one_phone_one_is_asked_at_a_time() {
    let (_, one) = house("alice");
    let of = |id: u64, instance: &str, reg_id: Option<u32>| Binding {
        id: BindingId(id),
        instance: Some(instance.as_bytes().into()),
        reg_id,
        ..one.clone()
    };
    let all = [
        of(1, "a", Some(1)),
        of(2, "b", Some(1)),
        of(3, "a", Some(2)),
        of(4, "a", None),
        of(5, "a", None),
        of(6, "a", Some(3)),
    ];
    let targets = one_flow_each(&all.iter().collect::<Vec<_>>(), &uri("sip:alice@b"));
    let ids: Vec<_> =
        targets.iter().map(|t| (t.binding.unwrap().0, t.flows.iter().map(|f| f.0).collect::<Vec<_>>())).collect();
    assert_eq!(ids, [(1, vec![6, 3]), (2, vec![]), (4, vec![]), (5, vec![])]);
}

fn request(method: &str, from: &str, to: &str) -> Stored {
    let text = format!(
        "{method} sip:x@192.168.1.2 SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <sip:a@b>{from}\r\nTo: \
         <sip:c@d>{to}\r\nCall-ID: c\r\nCSeq: 1 {method}\r\n\r\n"
    );
    Stored::parse(text.into_bytes(), &Limits::default()).unwrap()
}

/// A call of tag 1 at `.20` with tags 2 and 3 at `.22`.
fn calling() -> (Rig, PassId) {
    let mut rig = Rig::standalone();
    let caller = flow(&rig.proxy, 0, HERE);
    let pass = rig
        .proxy
        .create(rig.now, caller, request("INVITE", ";tag=1", "").message(), &[])
        .map_err(|r| r.status)
        .unwrap();
    let there = flow(&rig.proxy, 0, "192.168.1.22:5060");
    rig.proxy.registry.update_call(pass, |call| {
        for tag in ["2", "3"] {
            call.callees.push(Party { tag: tag.as_bytes().into(), flow: there.into(), ..call.caller.clone() });
        }
    });
    (rig, pass)
}

#[test]
fn tags_say_from_whom_to_whom() {
    let (rig, pass) = calling();
    let call = rig.proxy.registry.call(pass).unwrap();
    for (method, from, to, found) in [
        ("BYE", ";tag=1", ";tag=2", Some((0, 1))),
        ("BYE", ";tag=1", ";tag=3", Some((0, 2))),
        ("BYE", ";tag=3", ";tag=1", Some((2, 0))),
        ("BYE", ";tag=1", ";tag=4", None),
        ("BYE", ";tag=4", ";tag=1", None),
        ("NOTIFY", ";tag=4", ";tag=1", Some((3, 0))),
        ("NOTIFY", ";tag=2", ";tag=1", Some((1, 0))),
        ("NOTIFY", ";tag=1", ";tag=4", None),
        ("BYE", ";tag=2", ";tag=3", None),
        ("BYE", ";tag=1", "", None),
    ] {
        assert_eq!(legs(call, request(method, from, to).message()), found, "{method} {from} {to}");
    }
    assert_eq!(party(call, 0).map(|p| &p.tag[..]), Some(&b"1"[..]));
    assert_eq!(party(call, 2).map(|p| &p.tag[..]), Some(&b"3"[..]));
    assert!(party(call, 3).is_none());
}

#[test]
fn without_a_token_the_sender_must_be_where_its_party_is() {
    let (rig, pass) = calling();
    let of = |from: &str, message: &Stored| rig.proxy.dialog_of(flow(&rig.proxy, 0, from), message.message());
    let bye = request("BYE", ";tag=1", ";tag=2");
    assert_eq!(of(HERE, &bye), Some((pass, 0, 1)));
    assert_eq!(of("192.168.1.20:6666", &bye), Some((pass, 0, 1)), "from any port");
    assert_eq!(of("192.168.1.22:5060", &bye), None);
    assert_eq!(of("192.168.1.22:5060", &request("BYE", ";tag=3", ";tag=1")), Some((pass, 2, 0)));
    let elsewhere = Flow { listener: wire::ListenerId(1), ..flow(&rig.proxy, 0, HERE) };
    assert_eq!(rig.proxy.dialog_of(elsewhere, bye.message()), None);
}

#[test]
fn a_token_alone_makes_nobody_a_party() {
    let (rig, pass) = calling();
    let stranger = flow(&rig.proxy, 0, "192.168.1.66:5060");
    let routed = Routed { pass: Some(pass), ..Routed::default() };
    let leg = Routed { uri: Some(Token::Leg(pass, 1)), ..Routed::default() };
    let bye = request("BYE", ";tag=1", ";tag=2");
    for routed in [&routed, &leg] {
        assert_eq!(rig.proxy.within(stranger, bye.message(), routed), Some((pass, 0, 1)));
        assert_eq!(rig.proxy.within(stranger, request("BYE", ";tag=1", "").message(), routed), None);
        assert_eq!(rig.proxy.within(stranger, request("BYE", ";tag=7", ";tag=8").message(), routed), None);
        let text = String::from_utf8(bye.message().bytes.to_vec()).unwrap().replace("Call-ID: c", "Call-ID: d");
        let other = Stored::parse(text.into_bytes(), &Limits::default()).unwrap();
        assert_eq!(rig.proxy.within(stranger, other.message(), routed), None);
    }
    assert_eq!(rig.proxy.within(stranger, bye.message(), &Routed::default()), None);
}

#[test]
fn a_contact_that_lost_its_token_is_found_when_only_one_fits() {
    let core = "10.0.0.5:5060";
    let asked = |rig: &mut Rig, uri: &str| {
        rig.said.clear();
        let text = format!(
            "OPTIONS {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {core};branch=z9hG4bK{}\r\nMax-Forwards: 70\r\nFrom: \
             <sip:x@y>;tag=1\r\nTo: <{uri}>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n",
            uri.replace(|c: char| !c.is_ascii_alphanumeric(), "-")
        );
        rig.receive(0, core, &text);
        rig.wait(Duration::ZERO);
        let found = rig.said.iter().find_map(|o| match o {
            Output::Observed(crate::Observed::ContactWithoutToken { found }) => Some(*found),
            _ => None,
        });
        let on = rig.said.iter().any(|o| matches!(o, Output::Transmit(t) if t.bytes.starts_with(b"OPTIONS")));
        (found, on)
    };
    let mut rig = Rig::border();
    rig.registered("a.example", "alice", "198.51.100.7:40000", core);
    assert_eq!(asked(&mut rig, "sip:alice@10.0.0.2:5060"), (Some(true), true));
    assert_eq!(asked(&mut rig, "sip:alice@10.0.0.2:5060;sl=wrong"), (None, false));
    assert_eq!(asked(&mut rig, "sip:alice@10.0.0.9:5060"), (None, false));
    assert_eq!(asked(&mut rig, "sip:other@10.0.0.2:5060"), (Some(false), false));
    rig.registered("b.example", "alice", "198.51.100.8:40000", core);
    assert_eq!(asked(&mut rig, "sip:alice@10.0.0.2:5060;x=y"), (Some(false), false), "two fit");
}
