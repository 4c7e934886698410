//! The part of `net::transport::Streams` and of the loop around it: numbers
//! connections that come in, answers pings, closes strangers that stay silent,
//! and tells the machine what becomes of those that it asked for.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use proxy::{Input, OUTGOING};
use wire::{Flow, ListenerId, Transmit, Transport};

use super::{Edge, Entry, Line, Waiting};
use crate::clock::{Time, earlier};
use crate::net::{Packet, Step};
use crate::stack::{Event, PING, PONG, Pair, Stack};

/// For a stranger's first whole message.
const FIRST: Duration = Duration::from_secs(30);
/// For another message of a stranger.
const IDLE: Duration = Duration::from_secs(120);

/// One connection of one listener.
type Id = (ListenerId, u32);

#[derive(Debug)]
struct Open {
    flow: Flow,
    pair: Pair,
    /// When a stranger's patience ends.
    until: Option<Time>,
}

/// All connections.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    pub(super) stack: Stack,
    all: BTreeMap<Id, Open>,
    ids: BTreeMap<Pair, Id>,
    last: u32,
}

impl Streams {
    pub(super) fn listen(&mut self, transport: Transport, bind: SocketAddr) {
        self.stack.listen(transport, bind);
    }

    pub(super) fn next(&self) -> Option<Time> {
        let patience = self.all.values().map(|open| open.until).fold(None, earlier);
        earlier(patience, self.stack.next())
    }

    /// Flows of connections that came in, for sabotage.
    pub(super) fn others(&self, than: Flow) -> Option<Flow> {
        let other = |open: &&Open| open.flow.connection != than.connection && open.flow.connection < OUTGOING;
        self.all.values().find(other).map(|open| open.flow)
    }

    fn remove(&mut self, pair: Pair) -> Option<Open> {
        let id = self.ids.remove(&pair)?;
        self.all.remove(&id)
    }
}

impl Edge {
    /// A segment came in.
    pub(super) fn segment(&mut self, now: Time, packet: &Packet, out: &mut Vec<Packet>) {
        let event = self.streams.stack.receive(now, packet, out);
        self.connected(now, event.into_iter().collect(), out);
    }

    /// The network did not take a segment to its end, and may have said so.
    pub(crate) fn undelivered(&mut self, now: Time, pair: Pair, reset: bool, out: &mut Vec<Packet>) {
        let ended = self.streams.stack.undelivered(now, pair, reset);
        self.connected(now, ended.into_iter().collect(), out);
        self.drain(now, out);
    }

    /// Connections whose time is up.
    pub(super) fn streams_due(&mut self, now: Time, out: &mut Vec<Packet>) {
        let mut ended = self.streams.stack.timeout(now);
        let silent = |open: &&Open| open.until.is_some_and(|until| until <= now);
        let silent: Vec<Pair> = self.streams.all.values().filter(silent).map(|open| open.pair).collect();
        for pair in silent {
            self.streams.stack.close(pair, Step::End, out);
            ended.push(Event::Ended { pair });
        }
        self.connected(now, ended, out);
    }

    /// News of connections, each an input.
    fn connected(&mut self, now: Time, events: Vec<Event>, out: &mut Vec<Packet>) {
        let at = self.base + now;
        for event in events {
            match event {
                Event::Opened { ours: true, .. } => {}
                Event::Opened { pair, transport, ours: false } => {
                    let Some(listener) = self.listener_at(transport, pair.0) else { continue };
                    self.streams.last += 1;
                    let connection = self.streams.last;
                    let flow = Flow { transport, listener, connection, local: pair.0, remote: pair.1 };
                    self.streams.ids.insert(pair, (listener, connection));
                    self.streams.all.insert((listener, connection), Open { flow, pair, until: Some(now + FIRST) });
                    self.journal.push(Entry::Line(Line::Opened(flow)));
                    self.proxy.handle_input(at, Input::Opened { flow, peer: Vec::new() });
                }
                Event::Said { pair, bytes, .. } => self.said(now, pair, &bytes, out),
                Event::Ended { pair } => self.ended(pair),
            }
            self.drain(now, out);
        }
    }

    fn said(&mut self, now: Time, pair: Pair, bytes: &[u8], out: &mut Vec<Packet>) {
        let at = self.base + now;
        let Some(open) = self.streams.ids.get(&pair).and_then(|id| self.streams.all.get_mut(id)) else { return };
        let flow = open.flow;
        match bytes {
            PING => {
                self.streams.stack.send(pair, PONG.to_vec(), out);
                self.journal.push(Entry::Timer);
                self.proxy.handle_input(at, Input::KeepAlive { flow });
            }
            PONG => {
                self.journal.push(Entry::Timer);
                self.proxy.handle_input(at, Input::Pong { flow });
            }
            message => {
                open.until = open.until.map(|_| now + IDLE);
                self.journal.push(Entry::received(flow, message));
                self.proxy.handle_input(at, Input::Received { flow, bytes: message });
            }
        }
    }

    fn ended(&mut self, pair: Pair) {
        let Some(open) = self.streams.remove(pair) else { return };
        self.journal.push(Entry::Line(Line::Ended(open.flow)));
        if !self.sabotages_end() {
            self.inbox.push_back(Waiting::Closed(open.flow));
        }
    }

    /// The machine asks for a connection.
    pub(super) fn connect(&mut self, now: Time, flow: Flow, within: Duration, out: &mut Vec<Packet>) {
        let ends = (flow.local.ip(), flow.remote);
        let pair = self.streams.stack.open(now, flow.transport, ends, within, out);
        let id = (flow.listener, flow.connection);
        self.streams.ids.insert(pair, id);
        self.streams.all.insert(id, Open { flow, pair, until: None });
        self.journal.push(Entry::Line(Line::Asked(flow)));
    }

    /// The machine wants one closed; it is told when that has happened.
    pub(super) fn close(&mut self, flow: Flow, out: &mut Vec<Packet>) {
        if let Some(pair) = self.streams.all.get(&(flow.listener, flow.connection)).map(|open| open.pair) {
            self.streams.stack.close(pair, Step::End, out);
            self.ended(pair);
        }
    }

    /// Whoever is behind it is known.
    pub(super) fn prove(&mut self, flow: Flow) {
        if let Some(open) = self.streams.all.get_mut(&(flow.listener, flow.connection)) {
            open.until = None;
        }
    }

    /// A message over a stream; one whose connection has gone is unsent.
    pub(super) fn say(&mut self, transmit: Transmit, out: &mut Vec<Packet>) {
        let Transmit { flow, bytes } = transmit;
        let keeps = bytes == PING || bytes == PONG;
        self.journal.push(if keeps { Entry::Line(Line::Kept(flow)) } else { Entry::sent(flow, &bytes) });
        let pair = self.streams.all.get(&(flow.listener, flow.connection)).map(|open| open.pair);
        if !pair.is_some_and(|pair| self.streams.stack.send(pair, bytes, out)) {
            self.inbox.push_back(Waiting::Unsent(flow));
        }
    }
}
