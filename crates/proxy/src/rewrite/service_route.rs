//! Service-Route in the 200 to REGISTER (RFC 3608): the route of the phone's
//! next requests, which it begins with us. Entries that name us (a registrar
//! that mirrors the Path writes them) do so as the phone reaches us; the others
//! are the provider's and stay (§6.2). The same for the Path that comes back
//! (RFC 3327 §5.3): the phone sees all of it, but no inner address of ours.

use wire::sip::{Message, Name, NameAddr};
use wire::{Edit, Flow, Rule, Span};

use super::Own;
use crate::Proxy;

impl Proxy {
    /// Makes our entries name us on the phone's side.
    pub(crate) fn turn_ours(&self, upstream: Flow, own: Own, message: Message<'_>, edit: &mut Edit) {
        for (name, rule) in [(Name::ServiceRoute, Rule::ServiceRoute), (Name::Path, Rule::Path)] {
            for value in message.values(name) {
                let Ok(uri) = NameAddr::parse(value).and_then(|entry| entry.uri()) else { continue };
                if self.names_us(upstream, &uri) {
                    let ob: &[u8] = if uri.params.find("ob").is_some() { b";lr;ob" } else { b";lr" };
                    let place = Span { start: message.span(uri.host_port).start, end: message.span(uri.raw).end };
                    edit.replace(place, rule, &[own.text().get(), ob]);
                }
            }
        }
    }
}
