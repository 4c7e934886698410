//! Connections: which of them a message may take, and what their end means.
//!
//! A connection that we opened is used again for the same host only: reuse
//! never crosses identities (RFC 5923 §9). One that came in carries responses
//! to what it brought, and requests to the phone that is bound on it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use wire::{Flow, ListenerId};

use crate::{OUTGOING, Output, Proxy};

/// What a connection of ours is for: the listener that stands for it, where it
/// goes, and whom it must reach.
type Purpose = (ListenerId, SocketAddr, String);

/// All connections that are open or on their way.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    open: BTreeMap<(ListenerId, u32), Connection>,
    ours: BTreeMap<Purpose, u32>,
    next: u32,
}

#[derive(Debug)]
struct Connection {
    /// Whom we opened it to; `None` when it came in.
    name: Option<String>,
    /// The names that its peer has proven.
    #[expect(dead_code, reason = "asked by the rules for reuse in the other direction")]
    peer: Vec<String>,
}

impl Connections {
    #[expect(dead_code, reason = "asked where a phone is found on a stream")]
    /// True for datagrams, and for a stream that has not ended.
    pub(crate) fn is_open(&self, flow: Flow) -> bool {
        !flow.transport.reliable() || self.open.contains_key(&(flow.listener, flow.connection))
    }
}

impl Proxy {
    /// The flow to a host: for a stream, the connection that we have to it, or a new one.
    pub(crate) fn outgoing(&mut self, flow: Flow, name: &str) -> Flow {
        if !flow.transport.reliable() {
            return flow;
        }
        let purpose = (flow.listener, flow.remote, name.to_ascii_lowercase());
        if let Some(connection) = self.connections.ours.get(&purpose) {
            return Flow { connection: *connection, ..flow };
        }
        let connection = OUTGOING | self.connections.next;
        self.connections.next = (self.connections.next + 1) & !OUTGOING;
        let flow = Flow { connection, ..flow };
        let known = Connection { name: Some(purpose.2.clone()), peer: Vec::new() };
        self.connections.open.insert((flow.listener, connection), known);
        self.emit(Output::Connect { flow, name: purpose.2.clone() });
        self.connections.ours.insert(purpose, connection);
        flow
    }

    /// A connection came in.
    pub(crate) fn opened(&mut self, flow: Flow, peer: Vec<String>) {
        self.connections.open.insert((flow.listener, flow.connection), Connection { name: None, peer });
    }

    /// A connection has ended: what waits for a first answer on it is tried elsewhere.
    pub(crate) fn closed(&mut self, now: std::time::Instant, flow: Flow) {
        let Some(connection) = self.connections.open.remove(&(flow.listener, flow.connection)) else { return };
        if let Some(name) = connection.name {
            self.connections.ours.remove(&(flow.listener, flow.remote, name));
        }
        self.unsent(now, flow);
    }
}
