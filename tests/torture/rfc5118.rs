//! RFC 5118 against `wire`.

use wire::sip::{Framing, Index, Limits, Name, Uri, edit};
use wire::{Edit, Rule};

use crate::announce;
use crate::rfc4475::{pass, refuse};
use crate::table::{Case, Layer, RFC5118, case};
use crate::verdict::{verdict, views};

#[test]
fn verdicts() {
    let mut passed = 0;
    for case in RFC5118 {
        match case.layer {
            Layer::Passes | Layer::Proxy(_) => {
                pass(case);
                passed += 1;
            }
            Layer::Wire(what, status) => refuse(case, what, status),
        }
    }
    announce(&format!(
        "RFC 5118: {passed} of {} accepted, byte for byte, 1 more once its Content-Length is mended, 1 refused as described",
        RFC5118.len()
    ));
    assert_eq!((passed, RFC5118.len()), (10, 12));
}

/// The three with a body are whole messages once Content-Length counts its octets.
#[test]
fn with_content_length_mended() {
    for (name, body) in [("ipv6-in-sdp", 251), ("mult-ip-in-sdp", 189), ("ipv4-mapped-ipv6", 245)] {
        let case = case(RFC5118, name);
        let mended = mended(case);
        let index = verdict(&mended).expect(name);
        assert_eq!(index.view(&mended).body().len(), body, "{name}");
        assert!(case.bytes.ends_with(index.view(&mended).body()), "{name}");
        assert_eq!(index.view(&mended).edited(&Edit::new()), mended, "{name}");
    }
}

/// The message with the Content-Length that its body has.
pub(crate) fn mended(case: &Case) -> Vec<u8> {
    let mut index = Index::new();
    let _ = index.parse(case.bytes, Framing::Datagram, &Limits::default());
    let message = index.view(case.bytes);
    assert_eq!(views(message), Ok(()), "{}", case.name);
    let length = (case.bytes.len() - message.body_span().start as usize).to_string();
    let mut edit = Edit::new();
    edit::set(message, &mut edit, Rule::ContentLength, Name::ContentLength, &[length.as_bytes()]);
    let mut out = Vec::new();
    edit.apply(case.bytes, &mut out);
    out
}

#[test]
fn addresses() {
    for (name, host, port) in [
        ("ipv6-good", "2001:db8::10", None),
        ("port-ambiguous", "2001:db8::10:5070", None),
        ("port-unambiguous", "2001:db8::10", Some(5070)),
        ("ipv6-bug-abnf-3-colons", "2001:db8::192.0.2.1", None),
        ("ipv6-correct-abnf-2-colons", "2001:db8::192.0.2.1", None),
    ] {
        let case = case(RFC5118, name);
        let index = verdict(case.bytes).expect(name);
        let uri = Uri::parse(index.view(case.bytes).request_uri()).expect(name);
        assert_eq!(uri.host.and_then(|h| h.ip()), host.parse().ok(), "{name}");
        assert_eq!(uri.port, port, "{name}");
    }
    for (name, received) in
        [("via-received-param-with-delim", "[2001:db8::9:255]"), ("via-received-param-no-delim", "2001:db8::9:255")]
    {
        let case = case(RFC5118, name);
        let index = verdict(case.bytes).expect(name);
        let via = index.view(case.bytes).top_via().expect(name);
        assert_eq!(via.params.value("received"), Some(received.as_bytes()), "{name}");
        assert!(via.branch().is_some(), "{name}");
    }
}
