//! What a watcher asks for: one call or everything of one phone, named by
//! whatever is at hand. All readings of the name that make sense count.

use std::net::IpAddr;

use wire::Flow;
use wire::sip::{Message, Uri};

use crate::Proxy;

/// A part of a Call-ID names the call from this length on; a shorter one would
/// take in calls of others.
const PREFIX: usize = 6;

/// A Call-ID or its beginning, a user or an address of record, the name of a
/// `[[phone]]`, an IP address, or the id of a call in the log and the status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    text: String,
    ip: Option<IpAddr>,
}

impl Filter {
    /// A filter for this text; `None` for an empty one.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        let bare = text.strip_prefix("sips:").or_else(|| text.strip_prefix("sip:")).unwrap_or(text);
        let ip = bare.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
        (!bare.is_empty()).then(|| Self { text: bare.to_owned(), ip: ip.map(|ip| ip.to_canonical()) })
    }

    /// True when a name is exactly this.
    pub(super) fn names(&self, name: &str) -> bool {
        self.text == name
    }

    /// True when a message is of what is watched.
    pub(super) fn wants(&self, proxy: &Proxy, flow: Flow, message: Message<'_>) -> bool {
        if let Some(ip) = self.ip {
            return flow.remote.ip().to_canonical() == ip;
        }
        self.is_call(message.call_id()) || self.is_party(message) || self.is_phone(proxy, flow, message)
    }

    fn is_call(&self, call_id: &[u8]) -> bool {
        let text = self.text.as_bytes();
        call_id == text || (text.len() >= PREFIX && call_id.starts_with(text))
    }

    /// From, To or the Request-URI names the user.
    fn is_party(&self, message: Message<'_>) -> bool {
        let ends = [message.from(), message.to()];
        let named = ends.into_iter().flatten().filter_map(|end| end.uri().ok()).any(|uri| self.is_uri(&uri));
        named || (message.is_request() && message.uri().is_ok_and(|uri| self.is_uri(&uri)))
    }

    fn is_uri(&self, uri: &Uri<'_>) -> bool {
        let user = uri.user.unwrap_or_default();
        match self.text.rsplit_once('@') {
            Some((name, host)) => {
                name.as_bytes() == user && uri.host.is_some_and(|own| own.0.eq_ignore_ascii_case(host.as_bytes()))
            }
            None => self.text.as_bytes() == user,
        }
    }

    /// The flow, or the address of record, is of the phone.
    fn is_phone(&self, proxy: &Proxy, flow: Flow, message: Message<'_>) -> bool {
        let name = |phone: Option<usize>| phone.and_then(|at| proxy.config.phones.get(at)).map(|phone| &phone.name);
        // Our own registrar knows users alone.
        let user = |name: &[u8]| name.split(|octet| *octet == b'@').next().unwrap_or_default().to_vec();
        let bound = proxy.registry.on_flow(flow).any(|binding| {
            let (aor, text) = (binding.aor(), self.text.as_bytes());
            aor == text || user(aor) == text || user(text) == aor || name(binding.phone) == Some(&self.text)
        });
        bound
            || proxy.config.phones.iter().filter(|phone| phone.name == self.text).any(|phone| {
                let ends = [message.from(), message.to()];
                let user = phone.user.as_ref().is_some_and(|user| {
                    let uris = ends.into_iter().flatten().filter_map(|end| end.uri().ok());
                    uris.into_iter().any(|uri| uri.user == Some(user.as_bytes()))
                });
                user || phone.address.is_some_and(|prefix| prefix.contains(flow.remote.ip()))
            })
    }
}
