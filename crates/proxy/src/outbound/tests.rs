use wire::sip::{NameAddr, Stored};
use wire::{ListenerId, Transport};

use super::*;
use crate::rig::{Rig, flow, register};

const HEAD: &str = "REGISTER sip:b SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\nTo: \
                    <sip:a@b>\r\nCall-ID: c\r\nCSeq: 1 REGISTER\r\n";

fn message(fields: &str) -> Stored {
    Stored::parse(format!("{HEAD}{fields}\r\n").into_bytes(), &wire::sip::Limits::default()).unwrap()
}

#[test]
fn reg_id_counts_beside_an_instance_from_who_knows_outbound() {
    let outbound = "Supported: path, outbound\r\n";
    for (fields, contact, number) in [
        (outbound, "<sip:a@b>;+sip.instance=\"<u>\";reg-id=2", Some(2)),
        ("Require: outbound\r\n", "<sip:a@b>;+sip.instance=\"<u>\";reg-id=2", Some(2)),
        ("Supported: path\r\n", "<sip:a@b>;+sip.instance=\"<u>\";reg-id=2", None),
        (outbound, "<sip:a@b>;reg-id=2", None),
        (outbound, "<sip:a@b>;+sip.instance=\"<u>\"", None),
        (outbound, "<sip:a@b>;+sip.instance=\"<u>\";reg-id=0", None),
        (outbound, "<sip:a@b>;+sip.instance=\"<u>\";reg-id=x", None),
    ] {
        let stored = message(fields);
        assert_eq!(
            reg_id(stored.message(), &NameAddr::parse(contact.as_bytes()).unwrap()),
            number,
            "{fields} {contact}"
        );
    }
}

#[test]
fn each_part_of_a_flow_makes_another_name() {
    let rig = Rig::standalone();
    let here = flow(&rig.proxy, 0, "192.168.1.20:5060");
    let id = rig.proxy.flow_id(here);
    assert_eq!(rig.proxy.flow_id(here), id);
    for other in [
        Flow { transport: Transport::Tcp, ..here },
        Flow { listener: ListenerId(1), ..here },
        Flow { connection: 1, ..here },
        Flow { local: "192.168.1.3:5060".parse().unwrap(), ..here },
        Flow { remote: "192.168.1.20:5061".parse().unwrap(), ..here },
    ] {
        assert_ne!(rig.proxy.flow_id(other), id, "{other:?}");
    }
}

#[test]
fn our_path_entry_says_what_the_phone_asked_for() {
    let rig = Rig::standalone();
    let here = flow(&rig.proxy, 0, "192.168.1.20:5060");
    let token = Token::Binding(registry::BindingId(9));
    let binding = Some(token);
    let of_flow = Token::Flow(rig.proxy.flow_id(here));
    let second_hop = "Via: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK2\r\nSupported: path\r\n";
    for (fields, outbound, binding, path) in [
        ("", true, binding, None),
        ("Supported: path\r\n", true, None, Some((of_flow, true))),
        (second_hop, true, binding, Some((of_flow, false))),
        ("Supported: path\r\n", false, binding, Some((token, false))),
        ("Supported: path\r\n", false, None, None),
    ] {
        let path = path.map(|(token, ob)| Path { token, ob });
        assert_eq!(rig.proxy.path(here, message(fields).message(), outbound, binding), path, "{fields}");
    }
}

#[test]
fn only_what_claims_to_be_ours_is_forged() {
    let rig = Rig::standalone();
    let here = flow(&rig.proxy, 0, "192.168.1.20:5060");
    let sealed = String::from_utf8(rig.proxy.key.seal(Token::Flow(rig.proxy.flow_id(here))).to_vec()).unwrap();
    let wrong: String = sealed.chars().map(|c| if c == 'a' { 'b' } else { 'a' }).collect();
    for (uri, forged) in [
        (format!("sip:{sealed}@192.168.1.2;lr"), false),
        (format!("sip:{wrong}@192.168.1.2;lr"), true),
        (format!("sip:{}@192.168.1.2;lr", &wrong[1..]), false),
        (format!("sip:{}@192.168.1.2;lr;ob", &wrong[1..]), true),
        (format!("sip:{wrong}@192.168.1.9;lr"), false),
        ("sip:192.168.1.2;lr;ob".to_owned(), false),
    ] {
        assert_eq!(rig.proxy.is_forged(here, &Uri::parse(uri.as_bytes()).unwrap()), forged, "{uri}");
    }
}

#[test]
fn a_path_entry_holds_a_flow_or_a_binding() {
    let rig = Rig::standalone();
    let pass = registry::PassId(7);
    for (token, path) in [
        (Token::Flow(FlowId(5)), true),
        (Token::Binding(registry::BindingId(5)), true),
        (Token::Leg(pass, 1), false),
        (Token::Route(pass, crate::token::Facing::Caller), false),
    ] {
        let uri = [b"sip:", &rig.proxy.key.seal(token)[..], b"@192.168.1.2"].concat();
        assert_eq!(rig.proxy.path_token(&Uri::parse(&uri).unwrap()), path.then_some(token));
    }
    assert_eq!(rig.proxy.path_token(&Uri::parse(b"sip:192.168.1.2").unwrap()), None);
}

#[test]
fn a_token_of_the_way_that_a_request_came_leads_out() {
    let mut rig = Rig::standalone();
    register(&mut rig.proxy, rig.now, 0, "alice", "192.168.1.20:5060");
    let (here, there) = (flow(&rig.proxy, 0, "192.168.1.20:5060"), flow(&rig.proxy, 0, "192.168.1.21:5060"));
    let id = rig.proxy.registry.bindings().next().unwrap().id;
    let of_flow = Token::Flow(rig.proxy.flow_id(here));
    for (flow, token, outgoing) in [
        (here, of_flow, true),
        (there, of_flow, false),
        (here, Token::Binding(id), true),
        (there, Token::Binding(id), false),
        (here, Token::Binding(registry::BindingId(id.0 ^ 1)), false),
        (here, Token::Leg(registry::PassId(1), 0), false),
    ] {
        assert_eq!(rig.proxy.is_outgoing(flow, token), outgoing, "{token:?}");
    }
}

#[test]
fn several_flows_need_a_first_hop_that_says_ob() {
    let rig = Rig::standalone();
    let second = "Via: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK2\r\n";
    for (fields, keeps) in [
        (String::new(), true),
        (second.to_owned(), false),
        (format!("{second}Path: <sip:x@192.0.2.9;lr>\r\n"), false),
        (format!("{second}Path: <sip:x@192.0.2.9;lr;ob>\r\n"), true),
        (format!("{second}Path: <sip:x@192.0.2.8;lr>, <sip:x@192.0.2.9;lr;ob>\r\n"), true),
    ] {
        assert_eq!(rig.proxy.first_hop_keeps_flows(message(&fields).message()), keeps, "{fields}");
    }
}
