//! RFC 4475 against `wire`.

use wire::sip::compose::Response;
use wire::sip::{Contact, Framing, Host, Index, Limits, Message, Name, Scheme, Status, Stored, edit};
use wire::{Edit, Rule};

use crate::announce;
use crate::table::{Case, Layer, RFC4475, case};
use crate::verdict::verdict;

/// Indexes, reads all views, and writes the message back; the octets written.
pub(crate) fn pass(case: &Case) -> Vec<u8> {
    let index = match verdict(case.bytes) {
        Ok(index) => index,
        Err(what) => panic!("{} ({}): {what}", case.name, case.verdict),
    };
    let message = index.view(case.bytes);
    let out = message.edited(&Edit::new());
    assert_eq!(out, &case.bytes[..message.end() as usize], "{}", case.name);
    out
}

/// Checks the verdict of `wire`, and that a request refused can be answered.
pub(crate) fn refuse(case: &Case, what: &str, status: Option<u16>) {
    assert_eq!(verdict(case.bytes).err(), Some(what), "{} ({})", case.name, case.verdict);
    let mut index = Index::new();
    let _ = index.parse(case.bytes, Framing::Datagram, &Limits::default());
    let request = index.view(case.bytes);
    assert_eq!(request.is_request(), status.is_some(), "{}", case.name);
    let Some(status) = status.map(Status) else { return };
    let source = "192.0.2.1:5060".parse().expect("an address");
    let mut out = Vec::new();
    Response { request, status, reason: what, to_tag: b"t", source, keep: None, peer: None, extra: b"", body: None }
        .write(&mut out);
    let answer = Stored::parse(out, &Limits::default()).expect("our own response");
    let answer = answer.message();
    assert_eq!(answer.status(), Some(status), "{}", case.name);
    assert_eq!(answer.call_id(), request.call_id(), "{}", case.name);
    assert_eq!(answer.value(Name::CSeq), request.value(Name::CSeq), "{}", case.name);
    assert_eq!(answer.values(Name::Via).count(), request.values(Name::Via).count(), "{}", case.name);
    assert!(answer.values(Name::Via).next().is_some(), "{}", case.name);
}

#[test]
fn valid_messages_pass_byte_for_byte() {
    let valid: Vec<_> = RFC4475.iter().filter(|c| c.section.starts_with("3.1.1.")).collect();
    let passed = valid.iter().filter(|case| !pass(case).is_empty()).count();
    assert_eq!((passed, valid.len()), (13, 13));
    announce(&format!("RFC 4475 §3.1.1: {passed} of {} accepted, byte for byte", valid.len()));
}

#[test]
fn each_verdict_comes_from_its_layer() {
    assert_eq!(RFC4475.len(), 49);
    let (mut refused, mut passed, mut proxy) = (0, 0, 0);
    for case in RFC4475.iter().filter(|c| !c.section.starts_with("3.1.1.")) {
        match case.layer {
            Layer::Wire(what, status) => {
                refuse(case, what, status);
                refused += 1;
            }
            Layer::Passes => {
                pass(case);
                passed += 1;
            }
            Layer::Proxy(_) => {
                pass(case);
                proxy += 1;
            }
        }
    }
    announce(&format!("RFC 4475 §3.1.2–3.4: {refused} refused by wire, {passed} passed on, {proxy} left to the proxy"));
}

/// Its file lacks the empty line; the fault that it stands for comes to light with it.
#[test]
fn baddn_made_whole() {
    let whole = [case(RFC4475, "baddn").bytes, b"\r\n"].concat();
    assert_eq!(verdict(&whole).err(), Some("comma in a display name without quotes"));
}

/// A Via pushed and popped again leaves no trace.
#[test]
fn a_hop_leaves_no_trace() {
    for case in RFC4475.iter().filter(|c| verdict(c.bytes).is_ok()) {
        let before = pass(case);
        let hop = Stored::parse(before.clone(), &Limits::default()).expect("passed before");
        let mut edit = Edit::new();
        edit::push(hop.message(), &mut edit, Rule::Via, Name::Via, &[b"SIP/2.0/UDP hop;branch=z9hG4bKx"]);
        let there = Stored::parse(hop.message().edited(&edit), &Limits::default()).expect("still well formed");
        assert_eq!(there.message().top_via().map(|v| v.host), Ok(Host(b"hop")), "{}", case.name);
        edit.clear();
        edit::pop(there.message(), &mut edit, Rule::Via, Name::Via, 1);
        assert_eq!(there.message().edited(&edit), before, "{}", case.name);
    }
}

fn read<T>(name: &str, check: impl FnOnce(Message<'_>) -> T) -> T {
    let case = case(RFC4475, name);
    let mut index = Index::new();
    let _ = index.parse(case.bytes, Framing::Datagram, &Limits::default());
    check(index.view(case.bytes))
}

fn contact(message: Message<'_>) -> wire::sip::NameAddr<'_> {
    match message.contacts().next() {
        Some(Ok(Contact::Addr(contact))) => contact,
        other => panic!("{other:?}"),
    }
}

#[test]
fn folds_and_odd_spelling() {
    read("wsinv", |message| {
        assert_eq!(message.to().map(|to| to.tag()), Ok(Some(&b"1918181833n"[..])));
        assert_eq!(
            message.from().map(|f| (f.display, f.tag())),
            Ok((&b"\"J Rosenberg \\\\\\\"\""[..], Some(&b"98asjd8"[..])))
        );
        assert_eq!(message.number(Name::MaxForwards), Some(Ok(68)));
        assert_eq!(message.cseq().map(|c| c.number), Ok(9));
        assert_eq!(message.top_via().map(|v| (v.host, v.branch())), Ok((Host(b"192.0.2.2"), Some(&b"390skdjuw"[..]))));
        assert_eq!(message.values(Name::Via).count(), 3);
        let contact = contact(message);
        assert_eq!(contact.display, b"\"Quoted string \\\"\\\"\"");
        assert_eq!(contact.params.value("newparam"), Some(&b"newvalue"[..]));
        assert_eq!(contact.params.value("q"), Some(&b"0.33"[..]));
        assert_eq!(message.body().len(), 150);
    });
    read("longreq", |message| assert_eq!(message.values(Name::Via).count(), 34));
    read("lwsdisp", |message| assert_eq!(message.from().map(|f| f.display), Ok(&b"caller"[..])));
}

#[test]
fn octets_survive() {
    read("intmeth", |message| {
        let to = message.to().expect("valid");
        assert_eq!(to.display, b"\"BEL:\\\x07 NUL:\\\0 DEL:\\\x7f\"");
        let uri = wire::sip::Uri::parse(message.request_uri()).expect("valid");
        assert_eq!(uri.host, Some(Host(b"example.com")));
        assert_eq!(uri.user, Some(&b"1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*"[..]));
        assert_eq!(message.from().map(|f| f.tag()), Ok(Some(&b"_token~1'+`*%!-."[..])));
    });
    read("mpart01", |message| assert_eq!(message.body().len(), 553));
    read("unreason", |message| assert_eq!(message.status(), Some(Status(200))));
    read("noreason", |message| assert_eq!(message.status(), Some(Status(100))));
    read("dblreq", |message| {
        assert_eq!((message.body(), message.bytes.len() - message.end() as usize), (&b""[..], 450))
    });
}

#[test]
fn uris_and_contact_parameters() {
    read("semiuri", |message| {
        let uri = wire::sip::Uri::parse(message.request_uri()).expect("valid");
        assert_eq!(uri.user, Some(&b"user;par=u%40example.net"[..]));
    });
    read("cparam01", |message| {
        let contact = contact(message);
        assert!(contact.params.find("unknownparam").is_some());
        assert_eq!(contact.uri, b"sip:+19725552222@gw1.example.net");
    });
    read("cparam02", |message| {
        let contact = contact(message);
        assert_eq!(contact.params.0, b"");
        assert!(contact.uri().expect("valid").params.find("unknownparam").is_some());
    });
    read("regescrt", |message| {
        assert_eq!(contact(message).uri().map(|u| u.headers), Ok(&b"?Route=%3Csip:sip.example.com%3E"[..]));
    });
    read("escruri", |message| {
        let uri = wire::sip::Uri::parse(message.request_uri()).expect("readable");
        assert_eq!(uri.headers, b"?Route=%3Csip:example.com%3E");
    });
    for name in ["unkscm", "novelsc"] {
        read(name, |message| {
            assert_eq!(wire::sip::Uri::parse(message.request_uri()).map(|u| u.scheme), Ok(Scheme::Other));
        });
    }
}
