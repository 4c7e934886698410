//! Who may ask a phone, or the core, for credentials (RFC 3261 §22): whoever
//! keeps the passwords, which is the upstream, or we in standalone with users.
//! A callee that answers a BYE or a re-INVITE with a challenge wants a digest
//! to guess a password from; what it says goes back as 403, without the challenge.

use wire::Flow;
use wire::sip::{Message, Name, Status, Stored};
use wire::{Edit, Rule};

use crate::Proxy;
use crate::config::Role;

impl Proxy {
    /// The response without its challenge, if it is one that must not pass.
    pub(crate) fn unasked_challenge(&self, flow: Flow, message: Message<'_>) -> Option<Stored> {
        let keeps_passwords = match self.config.role {
            Role::Standalone => self.config.users.is_empty(),
            Role::Office | Role::Border => !self.on_phones_side(flow),
        };
        if keeps_passwords || !matches!(message.status(), Some(Status(401 | 407))) {
            return None;
        }
        let mut edit = Edit::new();
        for field in message.fields() {
            if matches!(field.name, Name::WwwAuthenticate | Name::ProxyAuthenticate) {
                edit.delete(field.line, Rule::Challenge);
            }
        }
        let edited = message.edited(&edit);
        let head = edited.iter().position(|octet| *octet == b'\n')? + 1;
        let bytes = [b"SIP/2.0 403 Forbidden\r\n", &edited[head..]].concat();
        Stored::parse(bytes, &self.config.limits).ok()
    }
}

#[cfg(test)]
mod tests;
