use wire::sip::{Limits, Stored};

use super::*;

const GOOD: &str = "OPTIONS sip:c@d SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\nMax-Forwards: 70\r\nFrom: \
                    <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\nContact: <sip:a@b>\r\n\r\n";

/// What the message gets when this part of it is something else.
fn verdict(part: &str, other: &str) -> Option<(u16, &'static str)> {
    assert!(GOOD.contains(part), "{part}");
    let stored = Stored::parse(GOOD.replace(part, other).into_bytes(), &Limits::default()).expect("it can be read");
    validate(stored.message()).err().map(|reject| (reject.status.0, reject.reason))
}

#[test]
fn each_fault_has_its_answer() {
    for (part, other, wanted) in [
        ("70", "1", None),
        ("70", "255", None),
        ("Max-Forwards: 70\r\n", "", None),
        ("70", "0", Some((483, "Too Many Hops"))),
        ("70", "256", Some((400, "Bad Max-Forwards"))),
        ("70", "many", Some((400, "Bad Max-Forwards"))),
        ("70", "70\r\nMax-Forwards: 70", Some((400, "Repeated header field"))),
        ("Call-ID: c\r\n", "Call-ID: c\r\ni: d\r\n", Some((400, "Repeated header field"))),
        ("Call-ID: c\r\n", "Call-ID: c\r\nExpires: 1\r\nExpires: 2\r\n", Some((400, "Repeated header field"))),
        ("branch=z9hG4bK1", "branch=z9hG4bK", Some((400, "Via branch without a value"))),
        ("From: <sip:a@b>", "From: <nothing", Some((400, "Bad From"))),
        ("To: <sip:c@d>", "To: <nothing", Some((400, "Bad To"))),
        ("Call-ID: c\r\n", "", Some((400, "Missing Call-ID"))),
        ("1 OPTIONS\r\n", "many OPTIONS\r\n", Some((400, "Bad CSeq"))),
        ("1 OPTIONS\r\n", "1 INVITE\r\n", Some((400, "CSeq method does not match"))),
        ("sip:c@d SIP", "nobodyknows:c@d SIP", Some((416, "Unsupported URI Scheme"))),
        ("sip:c@d SIP", "tel:+49 SIP", None),
        ("sip:c@d SIP", "urn:service:sos SIP", None),
        ("sip:c@d SIP", "sip:c@d?Subject=x SIP", Some((400, "Request-URI with header fields"))),
        ("Contact: <sip:a@b>", "Contact: <sip:a@b?Subject=x>", None),
        (
            "Contact: <sip:a@b>",
            "Contact: sip:a@b?Subject=x",
            Some((400, "Contact URI with header fields and without angle brackets")),
        ),
        ("Contact: <sip:a@b>", "Contact: sip:a@b", None),
        ("Contact: <sip:a@b>", "Proxy-Require: foo", Some((420, "Bad Extension"))),
    ] {
        assert_eq!(verdict(part, other), wanted, "{part} {other}");
    }
}

#[test]
fn what_is_not_supported_is_named() {
    let text = GOOD.replace("Contact: <sip:a@b>", "Proxy-Require: foo, bar\r\nProxy-Require: baz");
    let stored = Stored::parse(text.into_bytes(), &Limits::default()).unwrap();
    let reject = validate(stored.message()).err().unwrap();
    assert_eq!(reject.extra, b"Unsupported: foo, bar, baz\r\n");
}
