//! A trunk without registration (`default_phone`): provider and PBX know each
//! other by address. A call from that upstream that fits no binding goes to its
//! phone, where it registered or else to its address; and in office that phone
//! may call from its address without a binding. From and Contact stay as they
//! would be. Must not let anybody else in: the address is the only proof.

use wire::Flow;
use wire::sip::{Message, Method, Uri};

use crate::Proxy;
use crate::config::Role;
use crate::locate::{Aim, Goal, Hop};
use crate::request::Target;

/// Places that a call goes to at most.
const MOST: usize = 16;

impl Proxy {
    /// The phone of a trunk that sends from here.
    pub(crate) fn trunk_phone(&self, flow: Flow) -> Option<usize> {
        if self.config.role != Role::Office || !self.on_phones_side(flow) {
            return None;
        }
        let trunks = self.config.upstreams.iter().filter_map(|upstream| upstream.default_phone);
        let mut here = trunks.filter(|phone| {
            let address = self.config.phones.get(*phone).and_then(|phone| phone.address);
            address.is_some_and(|prefix| prefix.contains(flow.remote.ip()))
        });
        here.next()
    }

    /// The `[[phone]]` that a flow belongs to: of its binding, or of a trunk.
    pub(crate) fn phone_on(&self, flow: Flow) -> Option<usize> {
        match self.registry.on_flow(flow).next() {
            Some(binding) => binding.phone,
            None => self.trunk_phone(flow),
        }
    }

    /// Where a call goes that came from an upstream and fits no binding.
    pub(crate) fn trunk_targets(&self, flow: Flow, message: Message<'_>, uri: &Uri<'_>) -> Vec<Target> {
        let upstream = self.upstream_at(flow).and_then(|at| self.config.upstreams.get(at));
        let Some(phone) = upstream.and_then(|upstream| upstream.default_phone) else { return Vec::new() };
        if message.method() != Method::Invite {
            return Vec::new();
        }
        let registered = self
            .registry
            .bindings()
            .filter(|b| b.phone == Some(phone) && !b.gone() && self.connections.is_open(b.flow.get()));
        let targets: Vec<Target> = registered.take(MOST).map(|b| Target::binding(b, uri)).collect();
        if targets.is_empty() { self.trunk_address(phone, uri).into_iter().collect() } else { targets }
    }

    /// A phone that does not register, by its one address; it gets the number that was called.
    fn trunk_address(&self, phone: usize, uri: &Uri<'_>) -> Option<Target> {
        let prefix = self.config.phones.get(phone)?.address?;
        let whole = if prefix.ip.is_ipv4() { 32 } else { 128 };
        if prefix.bits != whole {
            return None;
        }
        let place = std::net::SocketAddr::new(prefix.ip, wire::Transport::Udp.default_port());
        let mut to = b"sip:".to_vec();
        if let Some(user) = uri.user {
            to.extend_from_slice(user);
            to.push(b'@');
        }
        to.extend_from_slice(place.to_string().as_bytes());
        let goal = Goal { host: prefix.ip.to_string(), port: Some(place.port()), transport: None, sips: false };
        let aim = Aim { goal, side: self.config.role.phones(), phone: None, prefer: None };
        Some(Target { uri: Some(to), hop: Hop::Host(aim), binding: None, phone: Some(phone), flows: Vec::new() })
    }
}

#[cfg(test)]
mod tests;
