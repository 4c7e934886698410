use nat::{Prefix, Side};

use super::*;
use crate::rig::{Rig, config, flow, listener, upstream};

const MESSAGE: &str = "INVITE sip:+4930123@203.0.113.5 SIP/2.0\r\nVia: SIP/2.0/UDP 203.0.113.5;branch=z9hG4bKt\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n\r\n";

fn prefix(text: &str) -> Option<Prefix> {
    let (ip, bits) = text.split_once('/').unwrap();
    Some(Prefix { ip: ip.parse().unwrap(), bits: bits.parse().unwrap() })
}

/// A trunk to phone 1, whose address this is.
fn trunk(role: Role, address: Option<&str>) -> Rig {
    let (phones, other) = (role.phones(), role.phones().other());
    let mut config = config(role, vec![listener(phones, "192.168.1.2:5060"), listener(other, "203.0.113.30:5060")]);
    config.upstreams = vec![upstream("203.0.113.4"), upstream("203.0.113.5")];
    config.upstreams[1].default_phone = Some(1);
    config.phones[1].address = address.and_then(prefix);
    Rig::new(config)
}

fn targets(rig: &Rig, from: &str, text: &str) -> Vec<Target> {
    let stored = wire::sip::Stored::parse(text.as_bytes().to_vec(), &rig.proxy.config.limits).unwrap();
    let uri = stored.message().request_uri().to_vec();
    rig.proxy.trunk_targets(flow(&rig.proxy, 1, from), stored.message(), &Uri::parse(&uri).unwrap())
}

#[test]
fn a_call_of_the_trunk_goes_to_the_one_address_of_its_phone() {
    let rig = trunk(Role::Office, Some("192.168.1.77/32"));
    let [target] = &targets(&rig, "203.0.113.5:5060", MESSAGE)[..] else { panic!("one place") };
    assert_eq!(target.uri.as_deref(), Some(&b"sip:+4930123@192.168.1.77:5060"[..]));
    let Hop::Host(aim) = &target.hop else { panic!("{:?}", target.hop) };
    assert_eq!((aim.goal.host.as_str(), aim.goal.port, aim.side), ("192.168.1.77", Some(5060), Side::Inner));
    assert_eq!(target.phone, Some(1));
    let anonymous = targets(&rig, "203.0.113.5:5060", &MESSAGE.replace("+4930123@", ""));
    assert_eq!(anonymous[0].uri.as_deref(), Some(&b"sip:192.168.1.77:5060"[..]));
    assert!(targets(&rig, "203.0.113.4:5060", MESSAGE).is_empty(), "an upstream without a phone of its own");
    assert!(targets(&rig, "203.0.113.6:5060", MESSAGE).is_empty(), "no upstream");
    assert!(targets(&rig, "203.0.113.5:5060", &MESSAGE.replace("INVITE", "MESSAGE")).is_empty(), "no call");
    let v6 = trunk(Role::Office, Some("fd00::7/128"));
    assert_eq!(targets(&v6, "203.0.113.5:5060", MESSAGE)[0].uri.as_deref(), Some(&b"sip:+4930123@[fd00::7]:5060"[..]));
    for several in [Some("192.168.1.76/31"), Some("fd00::/32"), None] {
        assert!(targets(&trunk(Role::Office, several), "203.0.113.5:5060", MESSAGE).is_empty(), "{several:?}");
    }
}

#[test]
fn a_phone_of_the_trunk_that_registered_is_found_where_it_did() {
    let mut rig = trunk(Role::Border, None);
    let phone = "192.168.1.20:5070";
    let text = format!(
        "REGISTER sip:example.com SIP/2.0\r\nVia: SIP/2.0/UDP {phone};branch=z9hG4bKr\r\nMax-Forwards: 70\r\nFrom: \
         <sip:alice@example.com>;tag=1\r\nTo: <sip:alice@example.com>\r\nCall-ID: r\r\nCSeq: 1 REGISTER\r\nContact: \
         <sip:alice@{phone}>\r\nExpires: 3600\r\nContent-Length: 0\r\n\r\n"
    );
    rig.receive(0, phone, &text);
    let asked = rig.said.iter().rev().find_map(|o| match o {
        crate::Output::Transmit(t) if t.bytes.starts_with(b"REGISTER") => {
            Some(String::from_utf8(t.bytes.clone()).unwrap())
        }
        _ => None,
    });
    let asked = asked.expect("the REGISTER went on");
    let kept: String = asked
        .lines()
        .filter(|l| ["Via", "From", "To", "Call-ID", "CSeq", "Contact"].contains(&l.split(':').next().unwrap()))
        .map(|l| format!("{l}\r\n"))
        .collect();
    rig.receive(1, "203.0.113.4:5060", &format!("SIP/2.0 200 OK\r\n{kept}Expires: 3600\r\nContent-Length: 0\r\n\r\n"));
    assert_eq!(rig.proxy.registry.bindings().count(), 1);
    let found = targets(&rig, "203.0.113.5:5060", MESSAGE);
    assert_eq!(found.len(), 1);
    assert!(matches!(found[0].hop, Hop::Flow(flow) if flow.remote.to_string() == "192.168.1.20:5070"), "{found:?}");
}

#[test]
fn a_trunk_phone_may_call_from_its_address_in_office_alone() {
    for (role, address, listener, from, wanted) in [
        (Role::Office, Some("192.168.1.77/32"), 0, "192.168.1.77:5070", Some(1)),
        (Role::Office, Some("192.168.1.0/24"), 0, "192.168.1.3:5070", Some(1)),
        (Role::Office, Some("192.168.1.77/32"), 0, "192.168.1.78:5070", None),
        (Role::Office, Some("192.168.1.77/32"), 1, "192.168.1.77:5070", None),
        (Role::Office, None, 0, "192.168.1.77:5070", None),
        (Role::Border, Some("192.168.1.77/32"), 0, "192.168.1.77:5070", None),
    ] {
        let rig = trunk(role, address);
        let flow = flow(&rig.proxy, listener, from);
        assert_eq!(rig.proxy.trunk_phone(flow), wanted, "{role:?} {address:?} {from}");
        assert_eq!(rig.proxy.phone_on(flow), wanted);
    }
}
