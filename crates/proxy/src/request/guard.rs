//! Step 5: may this sender ask for this? siplatch is no open relay: a request
//! passes for a registered phone's flow, for the phone of a trunk (by the
//! address of its packets), from the configured upstream (by the
//! address of its packets), or with a token of ours.

use wire::Flow;
use wire::sip::{Message, Method};

use super::Reject;
use super::route::Routed;
use crate::Proxy;
use crate::config::Role;

impl Proxy {
    pub(super) fn guard(&self, flow: Flow, message: Message<'_>, routed: &Routed) -> Result<(), Reject> {
        let allowed = routed.uri.is_some()
            || routed.pass.is_some()
            || routed.path.is_some()
            || self.config.role == Role::Standalone
            || (message.method() == Method::Options && self.is_to_us(flow, message))
            || if self.on_phones_side(flow) {
                message.method() == Method::Register
                    || self.registry.on_flow(flow).next().is_some()
                    || self.trunk_phone(flow).is_some()
            } else {
                self.is_upstream(flow)
            }
            || self.is_party(flow, message);
        match (allowed, self.on_phones_side(flow)) {
            (true, _) => Ok(()),
            (false, true) => Err(Reject::new(403, "Register first")),
            (false, false) => Err(Reject::new(403, "Not a configured upstream")),
        }
    }

    /// True for whoever may speak to us whatever an access list says: an upstream.
    pub fn expects(&self, flow: Flow) -> bool {
        self.is_upstream(flow)
    }

    /// True when the packet came from an upstream's address on its side.
    pub(crate) fn is_upstream(&self, flow: Flow) -> bool {
        self.upstream_at(flow).is_some()
    }

    /// True when a dialog that we know has this sender as a party.
    fn is_party(&self, flow: Flow, message: Message<'_>) -> bool {
        self.dialog_of(flow, message).is_some()
    }
}

#[cfg(test)]
mod tests;
