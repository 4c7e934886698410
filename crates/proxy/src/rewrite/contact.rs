//! Contact: always ours, with a token beside the phone's own user part.

use wire::sip::{Contact, Message, NameAddr, Scheme, Uri};
use wire::{Edit, Rule};

use super::Own;
use crate::token::{PARAM, Text};

/// Our URI for a Contact: user part and scheme as the peer wrote them, our
/// address, the token.
pub(crate) fn uri(theirs: &[u8], own: Own, token: Option<&Text>) -> Vec<u8> {
    let parsed = Uri::parse(theirs).ok();
    let scheme = match parsed.map(|u| u.scheme) {
        Some(Scheme::Sips) => "sips:",
        Some(Scheme::Sip | Scheme::Tel | Scheme::Urn | Scheme::Other) | None => "sip:",
    };
    let mut out = Vec::with_capacity(96);
    out.extend_from_slice(scheme.as_bytes());
    if let Some(user) = parsed.filter(|u| matches!(u.scheme, Scheme::Sip | Scheme::Sips)).and_then(|u| u.user) {
        out.extend_from_slice(user);
        out.push(b'@');
    }
    out.extend_from_slice(own.to_string().as_bytes());
    if let Some(token) = token {
        out.extend_from_slice(b";");
        out.extend_from_slice(PARAM.as_bytes());
        out.push(b'=');
        out.extend_from_slice(token);
    }
    out
}

/// Puts another URI into one Contact value; display name and header parameters stay.
pub(crate) fn replace(message: Message<'_>, edit: &mut Edit, addr: &NameAddr<'_>, uri: &[u8]) {
    edit.replace(message.span(addr.addr), Rule::Contact, &[b"<", uri, b">"]);
}

/// Makes every Contact of a message name us.
pub(crate) fn to_ours(message: Message<'_>, edit: &mut Edit, own: Own, token: Option<&Text>) {
    for contact in message.contacts() {
        if let Ok(Contact::Addr(addr)) = contact {
            replace(message, edit, &addr, &uri(addr.uri, own, token));
        }
    }
}
