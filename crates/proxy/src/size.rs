//! UDP or TCP, by size: a request of more than 1300 octets goes to the
//! upstream over TCP (RFC 3261 §18.1.1), because fragments die in routers.
//!
//! Only where TCP is known to work: the upstream's address has answered an
//! OPTIONS over it. A connection that does not come about within a second
//! sends the request back to UDP, and TCP is not tried again for a while. A
//! request to a phone's flow always takes that flow.
//!
//! What such a request says of where we are reached is the UDP address all the
//! same: the mapping of that one is kept, while nobody can connect to us
//! through a NAT when the connection has ended.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use wire::{Flow, Transport};

use crate::config::Upstream;
use crate::locate::{Hop, Way};
use crate::observed::Oversize;
use crate::request::Target;
use crate::rewrite::Own;
use crate::transaction::Ours;
use crate::{Observed, Proxy};

/// Octets that fit into any path's MTU (RFC 3261 §18.1.1).
const MOST: usize = 1300;
/// TCP must be there within this, or the request goes by UDP.
pub(crate) const CONNECT: Duration = Duration::from_secs(1);
/// An upstream that did not speak TCP is asked again after this.
const AGAIN: Duration = Duration::from_secs(600);
/// Addresses remembered; an upstream has few.
const MOST_ADDRESSES: usize = 256;

/// What is known of TCP toward an address that is reached over UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    Asked,
    Works,
    Fails { until: Instant },
}

/// All upstream addresses that were asked.
#[derive(Debug, Default)]
pub(crate) struct Streams(BTreeMap<SocketAddr, Stream>);

impl Proxy {
    /// The way over TCP for a request that is too long for the UDP flow it would take.
    pub(crate) fn by_size(&mut self, hop: &Hop, way: &Way, octets: usize) -> Option<Way> {
        let flow = way.flow;
        if matches!(hop, Hop::Flow(_)) || way.sized {
            return None;
        }
        if flow.transport != Transport::Udp || octets <= MOST || !self.is_upstream(flow) {
            return None;
        }
        if self.streams.0.get(&flow.remote) != Some(&Stream::Works) {
            self.observe(Observed::Oversize { outcome: Oversize::Untried });
            return None;
        }
        let stream = self.beside(flow)?;
        self.observe(Observed::Oversize { outcome: Oversize::Tcp });
        Some(Way { flow: stream, ..way.clone() })
    }

    /// A UDP flow's upstream is there: does it speak TCP, too?
    pub(crate) fn ask_for_tcp(&mut self, now: Instant, way: &Way) {
        let flow = way.flow;
        let known = self.streams.0.get(&flow.remote);
        let due = known.is_none_or(|known| matches!(known, Stream::Fails { until } if *until <= now));
        let upstream = way.upstream.and_then(|upstream| self.config.upstreams.get(upstream));
        let over_tcp = |upstream: &Upstream| Upstream { transport: Some(Transport::Tcp), ..upstream.clone() }.uri();
        let Some(uri) = upstream.filter(|_| due).map(over_tcp) else { return };
        if self.streams.0.len() >= MOST_ADDRESSES || flow.transport != Transport::Udp {
            return;
        }
        let Some(stream) = self.beside(flow) else { return };
        let stream = self.outgoing(stream, &way.name, CONNECT);
        self.streams.0.insert(flow.remote, Stream::Asked);
        let hop = Hop::Flow(stream);
        let target = Target { uri: Some(uri.clone().into_bytes()), hop, binding: None, phone: None, flows: Vec::new() };
        self.ask_options(now, stream, target, Ours::AskTcp, &format!("<{uri}>"));
    }

    /// The OPTIONS over TCP was answered, or not.
    pub(crate) fn tcp_answered(&mut self, now: Instant, flow: Flow, works: bool) {
        let state = if works { Stream::Works } else { Stream::Fails { until: now + AGAIN } };
        if let Some(known) = self.streams.0.get_mut(&flow.remote) {
            *known = state;
        }
    }

    /// A request that went by TCP because of its size goes back to UDP.
    pub(crate) fn back_to_udp(&mut self, now: Instant, from: Flow, to: Flow) {
        if from.transport == Transport::Tcp && to.transport == Transport::Udp {
            self.tcp_answered(now, from, false);
            self.observe(Observed::Oversize { outcome: Oversize::Failed });
        }
    }

    /// Where the far end of a flow reaches us later: in a Contact, a Record-Route.
    pub(crate) fn reach(&self, flow: Flow) -> Own {
        self.own(self.for_size(flow).unwrap_or(flow))
    }

    /// The same where [`own`](Self::own), which it nearly always is, is known already.
    pub(crate) fn reach_beside(&self, own: Own, flow: Flow) -> Own {
        self.for_size(flow).map_or(own, |beside| self.own(beside))
    }

    /// The UDP flow in whose stead this one is there, if it is.
    fn for_size(&self, flow: Flow) -> Option<Flow> {
        let for_size = flow.transport == Transport::Tcp && self.streams.0.contains_key(&flow.remote);
        self.back_beside(Some(flow).filter(|_| for_size)?)
    }

    /// The same way over UDP: the listener beside a TCP one.
    fn back_beside(&self, flow: Flow) -> Option<Flow> {
        let tcp = self.config.listeners.get(usize::from(flow.listener.0))?;
        let listener = self.listener(tcp.side, Transport::Udp, tcp.phone, Some(flow.remote.ip()))?;
        let port = self.config.listeners.get(usize::from(listener.0))?.bind.port();
        let local = SocketAddr::new(flow.local.ip(), port);
        Some(Flow { transport: Transport::Udp, listener, connection: 0, local, remote: flow.remote })
    }

    /// The same way over TCP: the listener beside a UDP one.
    fn beside(&self, flow: Flow) -> Option<Flow> {
        let udp = self.config.listeners.get(usize::from(flow.listener.0))?;
        let listener = self.listener(udp.side, Transport::Tcp, udp.phone, Some(flow.remote.ip()))?;
        let port = self.config.listeners.get(usize::from(listener.0))?.bind.port();
        let local = SocketAddr::new(flow.local.ip(), port);
        Some(Flow { transport: Transport::Tcp, listener, connection: 0, local, remote: flow.remote })
    }
}

#[cfg(test)]
mod tests;
