//! Record-Route (RFC 3261 §16.6(4), RFC 5658): crossing sides takes two
//! entries of ours. Both always carry the address of the side that the
//! message goes to, so that neither side learns an address of the other; in
//! the response they are turned to face the other way.
//!
//! A route set lasts as long as its dialog (§12.2), so a side on which our own
//! address may change gets no entry: our Contact names us there, and can be
//! told anew (ADR 21).

use registry::PassId;
use wire::sip::{Message, Name, NameAddr, Scheme};
use wire::{Edit, Rule, sip};

use crate::token::{Facing, Key, Token};

/// Adds our entries to a dialog-forming request; `here` is [our own address](super::Own::text).
pub(crate) fn push(message: Message<'_>, edit: &mut Edit, key: &Key, pass: PassId, here: &[u8], crossing: bool) {
    entries(message, key, pass, here, crossing, |value| {
        sip::edit::push(message, edit, Rule::RecordRoute, Name::RecordRoute, value);
    });
}

/// Adds our entries to the response to a request that had none of ours, for its sender alone.
pub(crate) fn enter(
    request: Message<'_>,
    message: Message<'_>,
    edit: &mut Edit,
    key: &Key,
    pass: PassId,
    here: &[u8],
    crossing: bool,
) {
    let behind = behind(request, message, key, pass).count();
    entries(request, key, pass, here, crossing, |value| {
        sip::edit::insert_value(message, edit, Rule::RecordRoute, Name::RecordRoute, behind, value);
    });
}

fn entries(request: Message<'_>, key: &Key, pass: PassId, here: &[u8], crossing: bool, write: impl FnOnce(&[&[u8]])) {
    let callee = key.seal(Token::Route(pass, Facing::Callee));
    // §16.6(4): what is secure keeps to secure hops on the way back.
    let sips = request.uri().is_ok_and(|uri| uri.scheme == Scheme::Sips);
    let scheme: &[u8] = if sips { b"<sips:" } else { b"<sip:" };
    if !crossing {
        return write(&[scheme, &callee, b"@", here, b";lr>"]);
    }
    let caller = key.seal(Token::Route(pass, Facing::Caller));
    write(&[scheme, &callee, b"@", here, b";lr>", b", ", scheme, &caller, b"@", here, b";lr>"]);
}

/// The entries of a response that were added behind us, the farthest first:
/// those in front of ours, and of those that the request brought.
pub(crate) fn behind<'a>(
    request: Message<'_>,
    response: Message<'a>,
    key: &'a Key,
    pass: PassId,
) -> impl Iterator<Item = &'a [u8]> {
    let brought = request.values(Name::RecordRoute).count();
    let added = response.values(Name::RecordRoute).count().saturating_sub(brought);
    response.values(Name::RecordRoute).take(added).take_while(move |value| !is_ours(key, pass, value))
}

/// Takes our entries out of a response.
pub(crate) fn leave(message: Message<'_>, edit: &mut Edit, key: &Key, pass: PassId) {
    sip::edit::drop_values(message, edit, Rule::RecordRoute, Name::RecordRoute, |value| is_ours(key, pass, value));
}

/// True for an entry of this pass.
pub(crate) fn is_ours(key: &Key, pass: PassId, value: &[u8]) -> bool {
    ours(key, pass, value).is_some()
}

/// What follows the token in the URI of an entry of this pass. A token proves
/// that we wrote the entry, so the URI need not be read.
fn ours<'a>(key: &Key, pass: PassId, value: &'a [u8]) -> Option<&'a [u8]> {
    let (user, place) = NameAddr::parse(value).ok()?.user_and_place()?;
    matches!(key.open(user)?, Token::Route(of, _) if of == pass).then_some(place)
}

/// Makes our entries in a response name us as the receiver reaches us.
pub(crate) fn turn(message: Message<'_>, edit: &mut Edit, key: &Key, pass: PassId, here: &[u8]) {
    for place in message.values(Name::RecordRoute).filter_map(|value| ours(key, pass, value)) {
        // Host, port and parameters are ours, so all of them are written anew.
        edit.replace(message.span(place), Rule::RecordRoute, &[here, b";lr"]);
    }
}

#[cfg(test)]
mod tests;
