use registry::Party;
use wire::sip::{Limits, Stored};

use super::*;
use crate::rig::{Rig, flow};

/// Only where receiver and peer are both of an upstream do they reach each
/// other; a Contact with headers would take ours for its own.
#[test]
fn a_peer_of_an_upstream_is_named_to_an_upstream_as_it_names_itself() {
    let mut rig = Rig::border();
    let (core, phone) = (flow(&rig.proxy, 0, "10.0.0.5:5060"), flow(&rig.proxy, 1, "198.51.100.7:40000"));
    let text = "INVITE sip:b@c SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <sip:a@c>;tag=1\r\nTo: \
                <sip:b@c>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n\r\n";
    let stored = Stored::parse(text.as_bytes().to_vec(), &Limits::default()).unwrap();
    let pass = rig.proxy.create(rig.now, phone, stored.message(), &[]).map_err(|r| r.status).unwrap();
    for (to, at, contact, named) in [
        (core, core, "sip:b@10.0.0.9", true),
        (phone, core, "sip:b@10.0.0.9", false),
        (core, phone, "sip:b@10.0.0.9", false),
        (phone, phone, "sip:b@10.0.0.9", false),
        (core, core, "", false),
        (core, core, "sip:b@10.0.0.9?Subject=x", false),
    ] {
        rig.proxy.registry.update_call(pass, |call| {
            call.callees = vec![Party { contact: contact.as_bytes().into(), flow: at.into(), ..call.caller.clone() }];
        });
        let found = rig.proxy.contact_there(Token::Leg(pass, 1), to);
        assert_eq!(found, named.then_some(contact.as_bytes()), "{contact} of {} to {}", at.remote, to.remote);
    }
    assert_eq!(rig.proxy.contact_there(Token::Leg(pass, 2), core), None);
}
