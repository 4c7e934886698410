//! Step 2: RFC 3261 §16.3, reasonable syntax, scheme, Max-Forwards, loops, Proxy-Require.

use wire::sip::{Contact, Message, Name, NameAddr, Scheme, Uri, Via};

use super::Reject;
use super::route::Routed;
use crate::Proxy;
use crate::rewrite::via;

const NO_BRANCH: &str = "Via branch without a value";

/// Fields that may stand only once (§7.3.1 with §20).
const SINGLE: [Name; 7] =
    [Name::From, Name::To, Name::CallId, Name::CSeq, Name::MaxForwards, Name::MaxBreadth, Name::Expires];

impl Proxy {
    /// RFC 5393 §4.2, asked before a request is forked: it went through us
    /// before, with the same Request-URI and the same Route behind our own entries,
    /// which are all that decides where it goes, and that visit is still in progress.
    pub(super) fn looped(&self, message: Message<'_>, routed: &Routed) -> bool {
        message.values(Name::Via).any(|value| {
            let ours = Via::parse(value).ok().and_then(|via| via.branch()).and_then(via::read);
            let same = |before: Message<'_>, pops: usize| {
                before.request_uri() == message.request_uri()
                    && before.values(Name::Route).skip(pops).eq(message.values(Name::Route).skip(routed.pops))
            };
            ours.is_some_and(|(id, _)| match self.contexts.get(id) {
                Some(context) => same(context.request.message(), context.routed.pops),
                None => self.contexts.accepted(id).is_some_and(|a| same(a.request().message(), a.pops)),
            })
        })
    }
}

/// Faults that the request shows by itself.
pub(crate) fn validate(message: Message<'_>) -> Result<(), Reject> {
    let bad = |reason| Reject::new(400, reason);
    if SINGLE.into_iter().any(|name| message.repeats(name)) {
        return Err(bad("Repeated header field"));
    }
    let check = |via: Via<'_>| if via.branch() == Some(b"z9hG4bK") { Err(bad(NO_BRANCH)) } else { Ok(()) };
    // Of most the branch tells that the topmost can be read.
    if message.branch().len() <= b"z9hG4bK".len() {
        check(message.top_via().map_err(|_| bad("Bad Via"))?)?;
    }
    for via in message.values(Name::Via).skip(1) {
        check(Via::parse(via).map_err(|_| bad("Bad Via"))?)?;
    }
    let from = message.from().map_err(|_| bad("Bad From"))?;
    from.uri().map_err(|_| bad("Bad From URI"))?;
    let to = message.to().map_err(|_| bad("Bad To"))?;
    to.uri().map_err(|_| bad("Bad To URI"))?;
    if message.call_id().is_empty() {
        return Err(bad("Missing Call-ID"));
    }
    let cseq = message.cseq().map_err(|_| bad("Bad CSeq"))?;
    if cseq.method != message.method() {
        return Err(bad("CSeq method does not match"));
    }
    match message.uri() {
        Ok(uri) if uri.scheme == Scheme::Other => return Err(Reject::new(416, "Unsupported URI Scheme")),
        Ok(uri) if !uri.headers.is_empty() => return Err(bad("Request-URI with header fields")),
        Ok(_) => {}
        Err(_) => return Err(bad("Bad Request-URI")),
    }
    let bracketed = |addr: NameAddr<'_>, uri: Uri<'_>| match addr.addr == addr.uri && !uri.headers.is_empty() {
        true => Err(bad("Contact URI with header fields and without angle brackets")),
        false => Ok(()),
    };
    match message.contact() {
        Some((addr, uri)) => bracketed(addr, uri)?,
        None => {
            for contact in message.contacts() {
                if let Contact::Addr(addr) = contact.map_err(|_| bad("Bad Contact"))? {
                    bracketed(addr, addr.uri().map_err(|_| bad("Bad Contact URI"))?)?;
                }
            }
        }
    }
    match message.number(Name::MaxForwards) {
        Some(Ok(0)) => return Err(Reject::new(483, "Too Many Hops")),
        Some(Ok(1..=255)) | None => {}
        Some(Ok(_) | Err(_)) => return Err(bad("Bad Max-Forwards")),
    }
    let mut wanted = message.values(Name::ProxyRequire).peekable();
    if wanted.peek().is_some() {
        let list: Vec<String> = wanted.map(|v| String::from_utf8_lossy(v).into_owned()).collect();
        return Err(Reject::new(420, "Bad Extension").with(&format!("Unsupported: {}", list.join(", "))));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
