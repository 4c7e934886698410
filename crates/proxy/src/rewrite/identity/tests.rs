use wire::sip::{Limits, Stored};

use super::*;
use crate::rig::{Rig, config, flow, listener};
use nat::Side;

const REQUEST: &str = "MESSAGE sip:c@d SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\nP-Asserted-Identity: \
                       <sip:a@b>\r\nP-Preferred-Identity: <sip:p@b>\r\nCall-ID: c\r\n\r\n";

/// Phones at `198.51.100.7`, those of a trusted house at `198.51.100.99`, a core at `10.0.0.5`, a stranger beside it.
fn border(role: Role) -> Rig {
    let mut config =
        config(role, vec![listener(Side::Inner, "10.0.0.2:5060"), listener(Side::Outer, "203.0.113.30:5060")]);
    config.networks = vec![nat::Network {
        prefix: "198.51.100.99".parse().unwrap(),
        side: None,
        advertise: None,
        latch: false,
        media: nat::MediaMode::Relay,
        trusted: true,
    }];
    Rig::new(config)
}

/// Which of the two fields are left on the way.
fn left(rig: &Rig, from: (u16, &str), to: (u16, &str), text: &str) -> (bool, bool) {
    let stored = Stored::parse(text.as_bytes().to_vec(), &Limits::default()).unwrap();
    let mut edit = Edit::new();
    rig.proxy.identities(flow(&rig.proxy, from.0, from.1), flow(&rig.proxy, to.0, to.1), stored.message(), &mut edit);
    let text = String::from_utf8(stored.message().edited(&edit)).unwrap();
    (text.contains("P-Asserted"), text.contains("P-Preferred"))
}

#[test]
fn who_is_believed_and_who_is_shown() {
    let rig = border(Role::Border);
    let (core, stranger) = ((0, "10.0.0.5:5060"), (0, "10.0.0.66:5060"));
    let (phone, other, house) = ((1, "198.51.100.7:1"), (1, "198.51.100.8:1"), (1, "198.51.100.99:1"));
    let asks = |privacy: &str| REQUEST.replace("Call-ID", &format!("Privacy: {privacy}\r\nCall-ID"));
    for (from, to, text, wanted) in [
        (core, phone, REQUEST.to_owned(), (true, true)),
        (core, phone, asks("id"), (false, true)),
        (core, phone, asks("header; ID"), (false, true)),
        (core, phone, asks("user,id"), (false, true)),
        (core, phone, asks("none"), (true, true)),
        (core, house, asks("id"), (true, true)),
        (phone, core, REQUEST.to_owned(), (false, true)),
        (phone, other, REQUEST.to_owned(), (false, false)),
        (house, core, REQUEST.to_owned(), (true, true)),
        (house, phone, asks("id"), (false, true)),
        (stranger, phone, REQUEST.to_owned(), (false, false)),
    ] {
        assert_eq!(left(&rig, from, to, &text), wanted, "{from:?} {to:?} {text}");
    }
    // A response comes from where the request went, and has proven it by its branch.
    let response = REQUEST.replace("MESSAGE sip:c@d SIP/2.0", "SIP/2.0 200 OK");
    assert_eq!(left(&rig, stranger, phone, &response), (true, true));
    assert_eq!(left(&rig, phone, core, &response), (false, true));
    // Standalone nobody is inside but who is trusted by name.
    let alone = border(Role::Standalone);
    assert_eq!(left(&alone, phone, other, REQUEST), (false, false));
    assert_eq!(left(&alone, house, other, REQUEST), (true, true));
}
