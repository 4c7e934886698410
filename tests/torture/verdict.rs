//! What `wire` says of a message, before any policy.

use wire::sip::{Contact, Framing, Index, Limits, Message, Name, Uri, Via};

/// Indexes `bytes` as one datagram and reads every view that a proxy or
/// registrar uses; the error is the first fault found.
pub(crate) fn verdict(bytes: &[u8]) -> Result<Index, &'static str> {
    let mut index = Index::new();
    index.parse(bytes, Framing::Datagram, &Limits::default()).map_err(|e| e.what)?;
    views(index.view(bytes))?;
    Ok(index)
}

/// The views, without the index's own verdict (RFC 3261 §16.3, step 1).
pub(crate) fn views(message: Message<'_>) -> Result<(), &'static str> {
    if message.is_request() {
        Uri::parse(message.request_uri()).map_err(|e| e.what)?;
    }
    for name in [Name::From, Name::To, Name::CallId, Name::CSeq, Name::MaxForwards] {
        if message.fields_of(name).nth(1).is_some() {
            return Err("field given twice");
        }
    }
    message.top_via().map_err(|e| e.what)?;
    for value in message.values(Name::Via) {
        Via::parse(value).map_err(|e| e.what)?;
    }
    for end in [message.from(), message.to()] {
        end.and_then(|end| end.uri()).map_err(|e| e.what)?;
    }
    if message.call_id().is_empty() {
        return Err("Call-ID missing");
    }
    let cseq = message.cseq().map_err(|e| e.what)?;
    if cseq.method != message.method() {
        return Err("CSeq names another method");
    }
    for contact in message.contacts() {
        match contact.map_err(|e| e.what)? {
            Contact::Star => {}
            Contact::Addr(addr) => drop(addr.uri().map_err(|e| e.what)?),
        }
    }
    message.number(Name::MaxForwards).transpose().map_err(|e| e.what)?;
    Ok(())
}
