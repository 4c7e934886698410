//! One datagram: indexed, read through every view, edited as a proxy edits it,
//! answered, and all that was written read again.

use wire::sip::compose::{Response, ack, answerable, cancel};
use wire::sip::{Framing, Index, Limits, Message, Method, Name, Status, Via, edit};
use wire::{Edit, Rule};

use super::invariants::{grew_little, lies_in_order, reads_again, reads_the_same, views};

pub(super) fn run(bytes: &[u8]) {
    let mut index = Index::new();
    let read = index.parse(bytes, Framing::Datagram, &Limits::default());
    reads_the_same(&index, read, bytes);
    let message = index.view(bytes);
    lies_in_order(message);
    let viewed = views(message);
    // The remains of a malformed one are answered, too.
    if read.is_ok() || answerable(message) {
        answered(message);
    }
    if read.is_err() {
        return;
    }
    untouched(message);
    passed_on(message);
    if viewed.is_ok() && message.is_request() && message.method() == Method::Invite {
        for written in [ack(message, message), cancel(message, b"Reason: SIP;cause=200\r\n")] {
            grew_little(bytes.len() + 4 * message.fields().len(), written.len());
            let written = reads_again(written);
            assert_eq!(written.message().call_id(), message.call_id());
            assert_eq!(written.message().top_via().map(|via| via.branch()), message.top_via().map(|via| via.branch()));
        }
    }
}

/// What is not edited leaves as it came, without what stood before and after it.
fn untouched(message: Message<'_>) {
    let start = message.bytes.iter().position(|b| !matches!(b, b'\r' | b'\n')).unwrap_or_default();
    assert_eq!(message.edited(&Edit::new()), message.bytes[start..message.end() as usize]);
}

fn answered(message: Message<'_>) {
    let source = "192.0.2.1:40000".parse().expect("an address");
    let mut out = Vec::new();
    Response {
        request: message,
        status: Status(400),
        reason: "Bad Request",
        to_tag: b"t",
        source,
        keep: None,
        peer: None,
        extra: b"",
        body: None,
    }
    .write(&mut out);
    // Compact names are written out.
    grew_little(message.bytes.len() + 4 * message.fields().len(), out.len());
    let answer = reads_again(out);
    let answer = answer.message();
    assert_eq!(answer.status(), Some(Status(400)));
    assert_eq!(answer.call_id(), message.call_id());
    // What is stamped behind a quote or a bracket that stays open belongs to the string in it.
    if message.values(Name::Via).any(|via| via.contains(&b'"') || via.contains(&b'<')) {
        return;
    }
    assert_eq!(answer.values(Name::Via).count(), message.values(Name::Via).count());
    if let Ok(via) = message.top_via() {
        let stamped = answer.top_via().expect("it could be read before it was stamped");
        assert_eq!((stamped.branch(), stamped.sent_by), (via.branch(), via.sent_by));
        let wanted = via.params.find("rport").is_some();
        assert!(!wanted || stamped.params.value("rport") == Some(b"40000"), "rport was asked for");
    }
}

/// A Via more, a hop less, our Contact, the first Route gone.
fn passed_on(message: Message<'_>) {
    let ours = b"SIP/2.0/UDP 203.0.113.30:5060;rport;branch=z9hG4bKours";
    let mut edit = Edit::new();
    edit::received(message, &mut edit, "192.0.2.1:40000".parse().expect("an address"));
    edit::push_top(message, &mut edit, Rule::Via, Name::Via, &[ours]);
    edit::set(message, &mut edit, Rule::MaxForwards, Name::MaxForwards, &[b"69"]);
    edit::set(message, &mut edit, Rule::Contact, Name::Contact, &[b"<sip:us@203.0.113.30>"]);
    edit::pop(message, &mut edit, Rule::Route, Name::Route, 1);
    edit::remove(message, &mut edit, Rule::RecordRoute, Name::RecordRoute);
    edit::content_length(message, &mut edit);
    let passed = message.edited(&edit);
    grew_little(message.bytes.len(), passed.len());
    let stored = reads_again(passed);
    let passed = stored.message();
    assert_eq!(passed.top_via().map(|via| via.raw), Via::parse(ours).map(|via| via.raw));
    assert_eq!(passed.values(Name::Via).count(), message.values(Name::Via).count() + 1);
    assert_eq!(passed.number(Name::MaxForwards), Some(Ok(69)));
    assert_eq!(passed.field(Name::RecordRoute), None);
    assert_eq!(passed.body(), message.body());
    assert_eq!((passed.call_id(), passed.method()), (message.call_id(), message.method()));
    let routes = message.values(Name::Route).count();
    assert_eq!(passed.values(Name::Route).count(), routes.saturating_sub(1));
}
