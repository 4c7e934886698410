//! Listeners that nobody wrote: TCP beside every UDP one, because RFC 3261
//! §18.2.1 wants both, and those that stand for a transport of which an
//! upstream alone makes use.

use std::net::{IpAddr, SocketAddr};

use nat::Side;
use proxy::config::{Listener, Role, Upstream};
use wire::Transport;

use super::Resolver;

impl Resolver<'_> {
    /// Adds them, after all that were written.
    pub(super) fn unwritten(
        &mut self,
        listeners: &mut Vec<Listener>,
        keys: &mut Vec<String>,
        upstreams: &[Upstream],
        upstream_keys: &[String],
    ) {
        for (index, key) in (0..listeners.len()).zip(keys.clone()) {
            let udp = &listeners[index];
            if udp.transport == Transport::Udp && !listeners.iter().any(|other| in_the_way(udp.bind, other)) {
                listeners.push(Listener { transport: Transport::Tcp, ..udp.clone() });
                keys.push(key);
            }
        }
        let side = if self.role == Role::Office { Side::Outer } else { Side::Inner };
        for (upstream, key) in upstreams.iter().zip(upstream_keys) {
            self.spare(side, upstream, key, listeners, keys);
            let ours = |listener: &&Listener| listener.side == side && listener.phone.is_none();
            let Some(transport) = leaves_by(upstream) else { continue };
            let Some(first) = listeners.iter().find(ours).cloned() else { continue };
            if listeners.iter().filter(ours).any(|listener| listener.transport == transport) {
                continue;
            }
            if transport == Transport::Udp {
                let what = format!("this is reached over UDP, and [{}] has no udp: listener", side.as_str());
                let mend = "write one, or say how it is reached: \"sip:HOST;transport=tcp\", \"sips:HOST\"";
                self.fault(key, what, mend);
                continue;
            }
            let bind = SocketAddr::new(first.bind.ip(), transport.default_port());
            listeners.push(Listener { transport, accepts: false, bind, advertise_port: None, ..first });
            keys.push(key.clone());
        }
    }

    /// What stands for the transports of an upstream's other ways.
    fn spare(
        &mut self,
        side: Side,
        upstream: &Upstream,
        key: &str,
        listeners: &mut Vec<Listener>,
        keys: &mut Vec<String>,
    ) {
        let streams = upstream.fallback.iter().map(|way| way.transport).filter(|transport| transport.reliable());
        for transport in streams {
            let ours = |listener: &&Listener| listener.side == side && listener.phone.is_none();
            let Some(first) = listeners.iter().find(ours).cloned() else { continue };
            if !listeners.iter().filter(ours).any(|listener| listener.transport == transport) {
                let bind = SocketAddr::new(first.bind.ip(), transport.default_port());
                listeners.push(Listener { transport, accepts: false, bind, advertise_port: None, ..first });
                keys.push(key.to_owned());
            }
        }
    }
}

/// True when a TCP port cannot be opened at `bind` because of this one.
fn in_the_way(bind: SocketAddr, other: &Listener) -> bool {
    let (ip, there) = (bind.ip(), other.bind.ip());
    let same = ip == there || (ip.is_ipv4() == there.is_ipv4() && (ip.is_unspecified() || there.is_unspecified()));
    other.transport.reliable() && other.accepts && same && bind.port() == other.bind.port()
}

/// The transport that is used for sure; `None` where the domain is asked what it offers (RFC 3263 §4.1).
fn leaves_by(upstream: &Upstream) -> Option<Transport> {
    let plain = upstream.port.is_some() || upstream.host.parse::<IpAddr>().is_ok();
    match (upstream.sips, upstream.transport) {
        (true, Some(Transport::Ws | Transport::Wss)) => Some(Transport::Wss),
        (true, Some(Transport::Udp | Transport::Tcp | Transport::Tls) | None) => Some(Transport::Tls),
        (false, None) => plain.then_some(Transport::Udp),
        (false, written) => written,
    }
}
