//! What holds for every target beyond "no panic".

use wire::Malformed;
use wire::sip::{Contact, Framing, Index, Limits, Message, Name, Stored, Uri, Via};

/// A message may grow by this much on its way through us.
pub(super) const GROWTH: usize = 1024;

/// What we write, we can read.
pub(super) fn reads_again(bytes: Vec<u8>) -> Stored {
    match Stored::parse(bytes.clone(), &Limits::default()) {
        Ok(stored) => stored,
        Err(fault) => panic!("we wrote what we cannot read: {fault}\n{}", bytes.escape_ascii()),
    }
}

/// Nothing grows without bound.
pub(super) fn grew_little(from: usize, to: usize) {
    assert!(to <= from + GROWTH, "{from} octets became {to}");
}

/// `part` lies within `whole`: views copy nothing.
pub(super) fn lies_within(part: &[u8], whole: &[u8]) {
    let (part, whole) = (part.as_ptr_range(), whole.as_ptr_range());
    let empty = part.start == part.end;
    assert!(empty || (whole.start <= part.start && part.end <= whole.end), "a view of something else");
}

/// Start line and fields lie in the order of the octets and do not overlap.
pub(super) fn lies_in_order(message: Message<'_>) {
    let mut end = message.head();
    for field in message.fields() {
        assert!(end <= field.line.start && field.line.start == field.written.start);
        assert!(field.written.end < field.value.start && field.value.end <= field.line.end);
        end = field.line.end;
    }
    assert!(end <= message.head_end() && message.head_end() <= message.body_span().start);
    assert!(message.end() as usize <= message.bytes.len());
}

/// Reads all that a proxy reads before it forwards; the first fault found.
pub(super) fn views(message: Message<'_>) -> Result<(), Malformed> {
    let mut fault = Ok(());
    let mut note = |read: Result<(), Malformed>| {
        if let Err(malformed) = read {
            assert!(malformed.at <= message.bytes.len(), "{malformed} of {}", message.bytes.len());
            fault = fault.and(Err(malformed));
        }
    };
    if message.is_request() {
        note(Uri::parse(message.request_uri()).map(drop));
    }
    note(message.top_via().map(drop));
    for value in message.values(Name::Via) {
        note(Via::parse(value).map(drop));
    }
    note(message.from().and_then(|from| from.uri()).map(drop));
    note(message.to().and_then(|to| to.uri()).map(drop));
    note(message.cseq().map(drop));
    for contact in message.contacts() {
        note(contact.and_then(|contact| match contact {
            Contact::Star => Ok(()),
            Contact::Addr(addr) => addr.uri().map(drop),
        }));
    }
    for name in [Name::MaxForwards, Name::Expires, Name::MinExpires, Name::ContentLength] {
        note(message.number(name).transpose().map(drop));
    }
    fault
}

/// Reading twice says the same twice, also into an index that held something else.
pub(super) fn reads_the_same(index: &Index, read: Result<(), Malformed>, bytes: &[u8]) {
    let mut used = Index::new();
    let other = b"OPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/UDP b\r\nX: y\r\n\r\nbody";
    assert_eq!(used.parse(other, Framing::Datagram, &Limits::default()), Ok(()));
    assert_eq!(used.parse(bytes, Framing::Datagram, &Limits::default()), read);
    let (again, first) = (used.view(bytes), index.view(bytes));
    assert_eq!((again.start(), again.fields().len()), (first.start(), first.fields().len()));
    assert_eq!(
        (again.head(), again.head_end(), again.body_span()),
        (first.head(), first.head_end(), first.body_span())
    );
}
