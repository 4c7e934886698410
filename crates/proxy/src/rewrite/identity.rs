//! Asserted identities at the edge of the trust domain (RFC 3325). Upstreams
//! and `trusted` networks are inside, phones are not: what a phone asserts is
//! taken off, and what is asserted inside is withheld from it when Privacy asks.
//! Nothing is asserted here; the upstream does that, so a phone's preferred
//! identity passes to it as a hint.

use wire::sip::{Message, Name, edit};
use wire::{Edit, Flow, Rule};

use crate::Proxy;
use crate::config::Role;

impl Proxy {
    /// P-Asserted-Identity and P-Preferred-Identity on the way between two flows.
    pub(crate) fn identities(&self, from: Flow, to: Flow, message: Message<'_>, edit: &mut Edit) {
        if message.field(Name::PAssertedIdentity).is_none() && message.field(Name::PPreferredIdentity).is_none() {
            return;
        }
        let to_trusted = self.trusts(to);
        // A valid token opens the way for strangers, too: they are not trusted with it.
        let from_trusted = self.trusts(from) && (!message.is_request() || self.is_upstream(from) || self.vouched(from));
        if !from_trusted || (!to_trusted && withheld(message)) {
            edit::remove(message, edit, Rule::Identity, Name::PAssertedIdentity);
        }
        if !from_trusted && !to_trusted {
            edit::remove(message, edit, Rule::Identity, Name::PPreferredIdentity);
        }
    }

    /// The side of the upstreams, and what the configuration trusts.
    fn trusts(&self, flow: Flow) -> bool {
        self.vouched(flow) || (self.config.role != Role::Standalone && !self.on_phones_side(flow))
    }

    fn vouched(&self, flow: Flow) -> bool {
        self.network(flow.remote.ip()).is_some_and(|network| network.trusted)
    }
}

/// The user asked for privacy of what is asserted (RFC 3325 §9.3).
fn withheld(message: Message<'_>) -> bool {
    let tokens = message
        .fields_of(Name::Privacy)
        .flat_map(|field| message.slice(field.value).split(|b| matches!(b, b';' | b',')));
    let mut tokens = tokens.map(<[u8]>::trim_ascii);
    tokens.any(|token| token.eq_ignore_ascii_case(b"id"))
}

#[cfg(test)]
mod tests;
