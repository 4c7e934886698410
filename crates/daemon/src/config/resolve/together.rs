//! What sockets, ranges and addresses mean beside each other.

use std::net::{IpAddr, SocketAddr};

use media::PortRange;
use nat::{Advertise, Network, Side};
use proxy::config::{Listener, Role, Upstream};
use wire::Transport;

use super::Resolver;

impl Resolver<'_> {
    /// Sockets that could not be bound beside each other.
    pub(super) fn collisions(&mut self, listeners: &[Listener], keys: &[String], ranges: &[PortRange]) {
        for (index, (listener, key)) in listeners.iter().zip(keys).enumerate() {
            let (ip, port) = (listener.bind.ip(), listener.bind.port());
            for (earlier, earlier_key) in listeners[..index].iter().zip(keys) {
                let other = earlier.bind.ip();
                if !(listener.accepts && earlier.accepts)
                    || listener.transport.reliable() != earlier.transport.reliable()
                {
                    continue;
                }
                let same = other == ip || other.is_unspecified() || ip.is_unspecified();
                if earlier.bind.port() == port && same && other.is_ipv4() == ip.is_ipv4() {
                    let what = match other == ip {
                        true => format!("{} is written twice, first in {earlier_key}", listener.bind),
                        false => format!("{} collides with {} in {earlier_key}", listener.bind, earlier.bind),
                    };
                    let mend = "give each listener an address or a port of its own; the two sides must differ, because \
                                the listener says which side a message is on";
                    self.fault(key, what, mend);
                    break;
                }
            }
            let udp = listener.transport == Transport::Udp;
            if udp && let Some(range) = ranges.iter().find(|range| (range.first..=range.last).contains(&port)) {
                let what = format!("port {port} lies inside the media ports {}-{}", range.first, range.last);
                self.fault(key, what, "move the one or the other");
            }
        }
        let metrics = self.raw.metrics.listen.as_deref().and_then(|text| text.parse::<SocketAddr>().ok());
        if let Some(metrics) = metrics
            && let Some((_, key)) = listeners
                .iter()
                .zip(keys)
                .find(|(listener, _)| listener.transport.reliable() && listener.accepts && listener.bind == metrics)
        {
            let what = format!("{metrics} is also {key}");
            self.fault("metrics.listen", what, "give the metrics an address or port of their own");
        }
    }

    /// Private addresses that would be advertised where nobody can reach them.
    pub(super) fn reachable(
        &mut self,
        listeners: &[Listener],
        keys: &[String],
        upstreams: &[Upstream],
        networks: &[Network],
    ) {
        if self.role == Role::Standalone {
            return;
        }
        for (index, (listener, key)) in listeners.iter().zip(keys).enumerate() {
            // One that nobody wrote has the key of another, and its fault.
            if listener.side != Side::Outer || !listener.accepts || keys[..index].contains(key) {
                continue;
            }
            let bind = listener.bind.ip();
            let (ip, key) = match listener.advertise {
                Advertise::Listen if !bind.is_unspecified() => (bind, key.clone()),
                Advertise::Ip(ip) if listener.phone.is_none() => (ip, "outer.advertise".to_owned()),
                Advertise::Listen | Advertise::Ip(_) | Advertise::Stun | Advertise::StunAddress => continue,
            };
            let named = networks.iter().any(|network| network.side != Some(Side::Inner));
            if !nat::address::is_private(ip) || ip.is_loopback() || named {
                continue;
            }
            let public =
                |upstream: &Upstream| upstream.host.parse::<IpAddr>().is_ok_and(|ip| !nat::address::is_private(ip));
            match self.role {
                Role::Office if upstreams.iter().any(public) => self.fault(
                    key,
                    format!("{ip} would be advertised, a private address that the provider cannot send to"),
                    "write advertise = \"stun\" with stun_servers in [outer], or the public IP address",
                ),
                Role::Border => self.fault(
                    key,
                    format!("{ip} would be advertised, a private address that phones elsewhere cannot send to"),
                    "write advertise = \"PUBLIC IP\" in [outer]; or, if all phones are in a private network, a \
                     [[network]] with its prefix and side = \"outer\"",
                ),
                Role::Office | Role::Standalone => {}
            }
        }
    }
}
