//! Connections: which of them a message may take, how they are kept, and what
//! their end means.
//!
//! A connection that we opened is used again for the same host only: reuse
//! never crosses identities (RFC 5923 §9). One that came in carries responses
//! to what it brought and requests to the phone that is bound on it; requests
//! to its owner's domain only over TLS, when it asked for that by `alias` and
//! proved the name by its certificate (RFC 5923 §8).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nat::keepalive::Schedule;
use wire::sip::{Message, Via};
use wire::{Flow, ListenerId, Transport};

use crate::timer::Timer;
use crate::{OUTGOING, Output, Proxy};

/// A pong comes within this, or the flow has failed (RFC 5626 §4.4.1).
const PONG: Duration = Duration::from_secs(10);
/// How long a connection may take to come about.
pub(crate) const CONNECT: Duration = Duration::from_secs(4);
/// Names kept of one certificate; each may be asked for.
const MOST_NAMES: usize = 16;

/// One connection of one listener.
pub(crate) type Id = (ListenerId, u32);

/// Where a connection leads, and to whom.
type End = (ListenerId, SocketAddr, String);

/// All connections that are open or on their way.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    open: BTreeMap<Id, Connection>,
    /// Those that we opened.
    ours: BTreeMap<End, u32>,
    /// Those that came in and may carry requests back.
    aliases: BTreeMap<End, u32>,
    /// Opened since the last turn; their pings are not armed yet.
    fresh: Vec<Flow>,
    next: u32,
}

#[derive(Debug)]
struct Connection {
    flow: Flow,
    /// Whom we opened it to; `None` when it came in.
    name: Option<String>,
    /// The names that its peer has proven.
    peer: Vec<String>,
    /// When it is pinged next, or when the pong is overdue.
    due: Option<Instant>,
    /// A ping waits for its pong.
    asked: bool,
    /// It has answered a ping, or announced that it will: silence is failure.
    answers: bool,
    pings: Schedule,
}

impl Connection {
    fn new(flow: Flow, name: Option<String>, peer: Vec<String>) -> Self {
        let pings = Schedule::STREAM;
        Self { flow, name, peer, due: None, asked: false, answers: false, pings }
    }
}

impl Connections {
    /// True for datagrams, for a stream that has not ended, and for one that is still to be opened.
    pub(crate) fn is_open(&self, flow: Flow) -> bool {
        flow.connection == 0 || self.open.contains_key(&(flow.listener, flow.connection))
    }

    /// All of one listener.
    pub(crate) fn of_listener(&self, listener: ListenerId) -> Vec<Flow> {
        let first = (listener, 0);
        self.open.range(first..).take_while(|((of, _), _)| *of == listener).map(|(_, open)| open.flow).collect()
    }

    fn of(&mut self, flow: Flow) -> Option<&mut Connection> {
        self.open.get_mut(&(flow.listener, flow.connection))
    }
}

impl Proxy {
    /// The flow to a host: for a stream, a connection that leads to it, or a new one.
    pub(crate) fn outgoing(&mut self, flow: Flow, name: &str, within: Duration) -> Flow {
        if !flow.transport.reliable() || self.own_listener(flow.transport, flow.remote).is_some() {
            return flow;
        }
        let end = (flow.listener, flow.remote, name.to_ascii_lowercase());
        let known = self.connections.ours.get(&end).or_else(|| self.connections.aliases.get(&end));
        if let Some(known) = known.and_then(|id| self.connections.open.get(&(flow.listener, *id))) {
            return Flow { connection: known.flow.connection, remote: known.flow.remote, ..flow };
        }
        let connection = OUTGOING | self.connections.next;
        self.connections.next = (self.connections.next + 1) & !OUTGOING;
        let flow = Flow { connection, ..flow };
        let opened = Connection::new(flow, Some(end.2.clone()), Vec::new());
        self.connections.open.insert((flow.listener, connection), opened);
        self.emit(Output::Connect { flow, name: end.2.clone(), within });
        self.connections.ours.insert(end, connection);
        self.connections.fresh.push(flow);
        flow
    }

    /// Arms the pings of what was opened in this turn.
    pub(crate) fn keep_fresh(&mut self, now: Instant) {
        while let Some(flow) = self.connections.fresh.pop() {
            self.keep_connection(now, flow);
        }
    }

    /// A connection came in.
    pub(crate) fn opened(&mut self, flow: Flow, mut peer: Vec<String>) {
        peer.truncate(MOST_NAMES);
        self.connections.open.insert((flow.listener, flow.connection), Connection::new(flow, None, peer));
        if self.is_upstream(flow) {
            self.emit(Output::Proven { flow });
        }
    }

    /// A request came in that asks for reuse in the other direction (RFC 5923
    /// §8.1): granted over TLS, for the names that its certificate proves.
    pub(crate) fn note_alias(&mut self, flow: Flow, via: &Via<'_>) {
        if flow.transport != Transport::Tls || via.params.find("alias").is_none() {
            return;
        }
        let port = via.port.unwrap_or(flow.transport.default_port());
        let remote = SocketAddr::new(flow.remote.ip(), port);
        let Some(connection) = self.connections.open.get(&(flow.listener, flow.connection)) else { return };
        if connection.name.is_none() {
            let ends = connection.peer.iter().map(|name| ((flow.listener, remote, name.clone()), flow.connection));
            self.connections.aliases.extend(ends);
        }
    }

    /// Keeps a connection of somebody who is known: a phone that is bound on
    /// it, or an upstream. A double CRLF goes out from time to time (RFC 5626 §4.4.1).
    pub(crate) fn keep_connection(&mut self, now: Instant, flow: Flow) {
        let Some(connection) = self.connections.open.get_mut(&(flow.listener, flow.connection)) else { return };
        if connection.due.is_none() {
            let due = connection.pings.next(now, &mut self.rng);
            connection.due = Some(due);
            self.timers.arm(due, Timer::Connection((flow.listener, flow.connection)));
            if connection.name.is_none() {
                self.emit(Output::Proven { flow });
            }
        }
    }

    /// The far end wants to be pinged within so many seconds (RFC 5626 §4.4,
    /// Flow-Timer): 80 to 100 % of it.
    pub(crate) fn flow_timer(&mut self, now: Instant, flow: Flow, seconds: u32) {
        let Some(connection) = self.connections.of(flow) else { return };
        connection.pings = Schedule::new(Duration::from_secs(u64::from(seconds.clamp(5, 3600))), 20);
        connection.answers = true;
        if let Some(due) = connection.due.take().filter(|_| !connection.asked) {
            self.timers.disarm(due, Timer::Connection((flow.listener, flow.connection)));
            self.keep_connection(now, flow);
        }
    }

    /// It is time to ping a connection, or its pong is overdue.
    pub(crate) fn connection_due(&mut self, now: Instant, id: Id) {
        let Some(connection) = self.connections.open.get_mut(&id) else { return };
        let flow = connection.flow;
        if connection.asked && connection.answers {
            self.emit(Output::Close { flow });
            return self.closed(now, flow);
        }
        let due = if connection.asked { connection.pings.next(now, &mut self.rng) } else { now + PONG };
        connection.asked = !connection.asked;
        connection.due = Some(due);
        let pings = connection.asked;
        self.timers.arm(due, Timer::Connection(id));
        if pings {
            self.transmit(flow, b"\r\n\r\n".to_vec());
        }
    }

    /// The answer to a ping.
    pub(crate) fn pong(&mut self, now: Instant, flow: Flow) {
        let Some(connection) = self.connections.open.get_mut(&(flow.listener, flow.connection)) else { return };
        if !connection.asked {
            return;
        }
        connection.asked = false;
        connection.answers = true;
        let due = connection.pings.next(now, &mut self.rng);
        let before = connection.due.replace(due);
        let timer = Timer::Connection((flow.listener, flow.connection));
        if let Some(before) = before {
            self.timers.disarm(before, timer);
        }
        self.timers.arm(due, timer);
    }

    /// A connection has ended: what waits for a first answer on it is tried
    /// elsewhere, and responses go where their Via says (RFC 3261 §18.2.2).
    pub(crate) fn closed(&mut self, now: Instant, flow: Flow) {
        let id = (flow.listener, flow.connection);
        let Some(connection) = self.connections.open.remove(&id) else { return };
        if let Some(due) = connection.due {
            self.timers.disarm(due, Timer::Connection(id));
        }
        if let Some(name) = connection.name {
            self.connections.ours.remove(&(flow.listener, flow.remote, name));
        }
        if !connection.peer.is_empty() {
            self.connections.aliases.retain(|(listener, ..), known| (*listener, *known) != id);
        }
        self.redirect_answers(flow);
        if self.on_phones_side(flow) { self.flow_failed(now, flow) } else { self.unsent(now, flow) }
    }

    /// Answers that were to go over a connection that has ended.
    fn redirect_answers(&mut self, flow: Flow) {
        let waiting: Vec<_> = self
            .contexts
            .iter()
            .filter(|c| c.answering.as_ref().is_some_and(|a| a.reply == flow))
            .map(|c| c.id)
            .collect();
        for id in waiting {
            let Some(mut context) = self.contexts.take(id) else { continue };
            let port = sent_by_port(context.request.message(), flow.transport);
            if let Some(answering) = &mut context.answering {
                let remote = SocketAddr::new(flow.remote.ip(), port);
                answering.reply = Flow { connection: 0, remote, ..flow };
            }
            self.contexts.put_back(context);
        }
    }
}

fn sent_by_port(message: Message<'_>, transport: Transport) -> u16 {
    message.top_via().ok().and_then(|via| via.port).unwrap_or(transport.default_port())
}

#[cfg(test)]
mod tests;
