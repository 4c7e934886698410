//! Refer-To and Referred-By that name us (RFC 3515, RFC 3892): a phone knows
//! its peers by the Contacts that we wrote, which the other side cannot use.
//! Headers inside the URI (Replaces) stay: Call-ID and tags are the same on
//! both sides.

use wire::sip::{Message, Name, NameAddr};
use wire::{Edit, Flow, Rule};

use super::{Own, contact};
use crate::Proxy;
use crate::request::target::party;
use crate::token::Token;

impl Proxy {
    /// On the way to `to`, where we are reached as `own`: the peer of an
    /// upstream gets that peer's own Contact back, everybody else our address there.
    pub(crate) fn transfer(&self, to: Flow, own: Own, message: Message<'_>, edit: &mut Edit) {
        for name in [Name::ReferTo, Name::ReferredBy] {
            for field in message.fields_of(name) {
                let Ok(uri) = NameAddr::parse(message.slice(field.value)).and_then(|addr| addr.uri()) else { continue };
                let Some(token @ (Token::Leg(..) | Token::Binding(_))) = self.token_in(&uri) else { continue };
                let target = self
                    .contact_there(token, to)
                    .map_or_else(|| contact::uri(uri.raw, own, Some(&self.key.seal(token))), <[u8]>::to_vec);
                let mut span = message.span(uri.raw);
                span.end -= uri.headers.len() as u32;
                edit.replace(span, Rule::ReferTo, &[&target]);
            }
        }
    }

    /// The Contact of a leg that is on the upstreams' side, as is the receiver.
    fn contact_there(&self, token: Token, to: Flow) -> Option<&[u8]> {
        let Token::Leg(pass, leg) = token else { return None };
        let party = party(self.registry.call(pass)?, leg)?;
        let together = !self.on_phones_side(to) && !self.on_phones_side(party.flow.get());
        let plain = !party.contact.is_empty() && !party.contact.contains(&b'?');
        (together && plain).then_some(&party.contact[..])
    }
}

#[cfg(test)]
mod tests;
