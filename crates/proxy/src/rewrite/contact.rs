//! Contact: always ours, with a token beside the phone's own user part.

use wire::sip::{Contact, Message, NameAddr, Scheme, Uri};
use wire::{Edit, Rule};

use super::Own;
use crate::token::{PARAM, Text};

/// Our URI for a Contact: user part and scheme as the peer wrote them, our
/// address, the token.
pub(crate) fn uri(theirs: &[u8], own: Own, token: Option<&Text>) -> Vec<u8> {
    ours(Uri::parse(theirs).ok(), own.text().get(), token, |pieces| pieces.concat())
}

/// The pieces of the same for a URI that was read already, if it can be read.
fn ours<T>(parsed: Option<Uri<'_>>, here: &[u8], token: Option<&Text>, write: impl FnOnce(&[&[u8]]) -> T) -> T {
    let scheme: &[u8] = match parsed.map(|u| u.scheme) {
        Some(Scheme::Sips) => b"sips:",
        Some(Scheme::Sip | Scheme::Tel | Scheme::Urn | Scheme::Other) | None => b"sip:",
    };
    let user = parsed.filter(|u| matches!(u.scheme, Scheme::Sip | Scheme::Sips)).and_then(|u| u.user);
    let (user, at): (&[u8], &[u8]) = user.map_or((b"", b""), |user| (user, b"@"));
    let bulk: &[u8] = if parsed.is_some_and(|u| u.params.find("bnc").is_some()) { b";bnc" } else { b"" };
    // RFC 8599 §5: whoever wakes the phone must know how.
    let mut push = Vec::new();
    for param in parsed.iter().flat_map(|u| u.params.iter()).filter(|p| is_push(p.name)) {
        push.extend_from_slice(param.raw);
    }
    let (semicolon, name, equals, token): (&[u8], &[u8], &[u8], &[u8]) = match token {
        Some(token) => (b";", PARAM.as_bytes(), b"=", &token[..]),
        None => (b"", b"", b"", b""),
    };
    write(&[scheme, user, at, here, bulk, &push, semicolon, name, equals, token])
}

fn is_push(name: &[u8]) -> bool {
    name.get(..3).is_some_and(|start| start.eq_ignore_ascii_case(b"pn-"))
}

/// The phone's own Contact for a request that asked for it by `uri`, if it can be read. A PBX
/// that registered for many numbers (`bnc`, RFC 6140 §5.2) gets the number
/// that was called, and so does one whose provider writes it (RFC 5947).
pub(crate) fn of_phone(contact: &[u8], uri: &Uri<'_>) -> Option<Vec<u8>> {
    let own = Uri::parse(contact).ok()?;
    let bulk = own.params.find("bnc").is_some();
    let named_ours = uri.params.find(PARAM).is_some();
    let Some(number) = uri.user.filter(|number| bulk || (named_ours && own.user != Some(number))) else {
        return Some(contact.to_vec());
    };
    let mut out = Vec::with_capacity(contact.len() + number.len() + 1);
    out.extend_from_slice(if own.scheme == Scheme::Sips { b"sips:" } else { b"sip:" });
    out.extend_from_slice(number);
    out.push(b'@');
    out.extend_from_slice(own.host_port);
    for param in own.params.iter().filter(|p| !p.is("bnc")) {
        out.extend_from_slice(param.raw);
    }
    Some(out)
}

/// Puts another URI into one Contact value; display name and header parameters stay.
pub(crate) fn replace(message: Message<'_>, edit: &mut Edit, addr: &NameAddr<'_>, uri: &[u8]) {
    edit.replace(message.span(addr.addr), Rule::Contact, &[b"<", uri, b">"]);
}

/// Makes every Contact of a message name us; `here` is [our own address](Own::text). Many have none, so the
/// token is asked for where it is written.
pub(crate) fn to_ours(message: Message<'_>, edit: &mut Edit, here: &[u8], token: impl Fn() -> Option<Text>) {
    if let Some((addr, theirs)) = message.contact() {
        let span = message.span(addr.addr);
        return ours(Some(theirs), here, token().as_ref(), |pieces| {
            let around = |pieces| std::iter::once(&b"<"[..]).chain(pieces).chain([&b">"[..]]);
            edit.replace_with(span, Rule::Contact, around(pieces.iter().copied()));
        });
    }
    for contact in message.contacts() {
        if let Ok(Contact::Addr(addr)) = contact {
            let uri = ours(Uri::parse(addr.uri).ok(), here, token().as_ref(), |pieces| pieces.concat());
            replace(message, edit, &addr, &uri);
        }
    }
}

#[cfg(test)]
mod tests;
