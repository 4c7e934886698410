//! Stream connections of one node: what a kernel, TLS and WebSocket do below
//! SIP (RFC 9293, RFC 8446, RFC 6455), as far as signalling can notice it.
//!
//! A connection is reliable and ordered while its path lives. It ends when one
//! side closes or resets it; when its path is dead it ends late, for whoever
//! has something to say (TCP user timeout, RFC 5482). Handshakes cost their
//! round trips. Messages come whole: framing is the business of other tests.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use wire::Transport;

use crate::clock::{Time, earlier};
use crate::net::{Carrier, Packet, Step};

/// Local and remote address, as this end sees them.
pub(crate) type Pair = (SocketAddr, SocketAddr);

/// The peer's keep-alive, and its answer (RFC 5626 §4.4.1); a WebSocket has frames for the same.
pub(crate) const PING: &[u8] = b"\r\n\r\n";
pub(crate) const PONG: &[u8] = b"\r\n";

/// How long octets may go unacknowledged.
pub(crate) const DEAD: Duration = Duration::from_secs(30);
/// How long a connection may take to come about, where nothing else is said.
const PATIENCE: Duration = Duration::from_secs(10);
const FIRST_PORT: u16 = 32_768;

/// Round trips of a transport's handshakes, once TCP is there.
fn rounds(transport: Transport) -> u8 {
    match transport {
        Transport::Udp | Transport::Tcp => 0,
        Transport::Tls | Transport::Ws => 1,
        Transport::Wss => 2,
    }
}

/// What a node gets to know of its connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Opened {
        pair: Pair,
        transport: Transport,
        ours: bool,
    },
    Said {
        pair: Pair,
        transport: Transport,
        bytes: Vec<u8>,
    },
    /// Or it did not come about.
    Ended {
        pair: Pair,
    },
}

#[derive(Debug)]
struct Connection {
    transport: Transport,
    ours: bool,
    open: bool,
    /// Of the handshakes, still to come.
    rounds: u8,
    /// What waits for them.
    queue: Vec<Vec<u8>>,
    /// When it ends if nothing gets better.
    fails: Option<Time>,
}

/// All connections of one node.
#[derive(Debug)]
pub(crate) struct Stack {
    connections: BTreeMap<Pair, Connection>,
    listens: BTreeMap<SocketAddr, Transport>,
    /// Connections that came in, by where their peer says that it listens (RFC 5923).
    aliases: BTreeMap<(Transport, SocketAddr), Pair>,
    next_port: u16,
}

impl Default for Stack {
    fn default() -> Self {
        Self { connections: BTreeMap::new(), listens: BTreeMap::new(), aliases: BTreeMap::new(), next_port: FIRST_PORT }
    }
}

impl Stack {
    pub(crate) fn listen(&mut self, transport: Transport, address: SocketAddr) {
        self.listens.insert(address, transport);
    }

    /// Whoever sends requests for that address may use this connection.
    pub(crate) fn alias(&mut self, transport: Transport, address: SocketAddr, pair: Pair) {
        self.aliases.insert((transport, address), pair);
    }

    /// The connection to an address, if there is one.
    pub(crate) fn to(&self, transport: Transport, remote: SocketAddr) -> Option<Pair> {
        let leads = |(pair, c): &(&Pair, &Connection)| pair.1 == remote && c.transport == transport;
        let alias = self.aliases.get(&(transport, remote)).filter(|pair| self.connections.contains_key(pair));
        alias.copied().or_else(|| self.connections.iter().find(leads).map(|(pair, _)| *pair))
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Pair> {
        self.connections.keys().copied().collect()
    }

    /// Asks for a connection; what is sent on it waits until it is there.
    pub(crate) fn open(
        &mut self,
        now: Time,
        transport: Transport,
        (ip, remote): (IpAddr, SocketAddr),
        within: Duration,
        out: &mut Vec<Packet>,
    ) -> Pair {
        let pair = (SocketAddr::new(ip, self.next_port), remote);
        self.next_port = if self.next_port == u16::MAX { FIRST_PORT } else { self.next_port + 1 };
        let rounds = rounds(transport);
        let fails = Some(now + within);
        self.connections
            .insert(pair, Connection { transport, ours: true, open: false, rounds, queue: Vec::new(), fails });
        out.push(segment(pair, Step::Ask(transport), Vec::new()));
        pair
    }

    /// Says something; false when there is no such connection.
    pub(crate) fn send(&mut self, pair: Pair, bytes: Vec<u8>, out: &mut Vec<Packet>) -> bool {
        match self.connections.get_mut(&pair) {
            Some(connection) if connection.open => out.push(segment(pair, Step::Octets, bytes)),
            Some(connection) => connection.queue.push(bytes),
            None => return false,
        }
        true
    }

    /// Closes a connection, or breaks it.
    pub(crate) fn close(&mut self, pair: Pair, step: Step, out: &mut Vec<Packet>) -> bool {
        let known = self.connections.remove(&pair).is_some();
        if known {
            out.push(segment(pair, step, Vec::new()));
        }
        known
    }

    /// Messages that a node wants said over streams become segments of connections that lead there.
    pub(crate) fn say(&mut self, now: Time, ip: IpAddr, out: &mut Vec<Packet>) {
        if !out.iter().any(|packet| matches!(packet.carrier, Carrier::Message { .. })) {
            return;
        }
        for packet in std::mem::take(out) {
            let Carrier::Message { transport, instead } = packet.carrier else {
                out.push(packet);
                continue;
            };
            // RFC 3261 §18.2.2: over the connection that brought the request, else to its sent-by.
            let known = self.to(transport, packet.to).or_else(|| self.to(transport, instead?));
            let pair = known.unwrap_or_else(|| {
                let remote = instead.unwrap_or(packet.to);
                self.open(now, transport, (ip, remote), PATIENCE, out)
            });
            self.send(pair, packet.bytes, out);
        }
    }

    /// A segment came in.
    pub(crate) fn receive(&mut self, now: Time, packet: &Packet, out: &mut Vec<Packet>) -> Option<Event> {
        let Carrier::Segment(step) = packet.carrier else { return None };
        let pair = (packet.to, packet.from);
        if let Step::Ask(transport) = step {
            return self.asked(now, pair, transport, out);
        }
        let Some(connection) = self.connections.get_mut(&pair) else {
            if !matches!(step, Step::Reset) {
                out.push(segment(pair, Step::Reset, Vec::new()));
            }
            return None;
        };
        match step {
            Step::Ask(_) => None,
            Step::Grant => self.shake(pair, out),
            Step::Round => {
                connection.rounds = connection.rounds.saturating_sub(1);
                out.push(segment(pair, Step::Back, Vec::new()));
                if connection.rounds == 0 { self.opened(pair, out) } else { None }
            }
            Step::Back => {
                connection.rounds = connection.rounds.saturating_sub(1);
                self.shake(pair, out)
            }
            Step::Octets => {
                let transport = connection.transport;
                Some(Event::Said { pair, transport, bytes: packet.bytes.clone() })
            }
            Step::End | Step::Reset => {
                self.connections.remove(&pair);
                Some(Event::Ended { pair })
            }
        }
    }

    fn asked(&mut self, now: Time, pair: Pair, transport: Transport, out: &mut Vec<Packet>) -> Option<Event> {
        if self.listens.get(&pair.0) != Some(&transport) {
            out.push(segment(pair, Step::Reset, Vec::new()));
            return None;
        }
        let rounds = rounds(transport);
        let fails = Some(now + PATIENCE);
        let connection = Connection { transport, ours: false, open: false, rounds, queue: Vec::new(), fails };
        self.connections.insert(pair, connection);
        out.push(segment(pair, Step::Grant, Vec::new()));
        if rounds == 0 { self.opened(pair, out) } else { None }
    }

    /// The next round of a handshake of ours, or its end.
    fn shake(&mut self, pair: Pair, out: &mut Vec<Packet>) -> Option<Event> {
        if self.connections.get(&pair)?.rounds == 0 {
            return self.opened(pair, out);
        }
        out.push(segment(pair, Step::Round, Vec::new()));
        None
    }

    fn opened(&mut self, pair: Pair, out: &mut Vec<Packet>) -> Option<Event> {
        let connection = self.connections.get_mut(&pair)?;
        (connection.open, connection.fails) = (true, None);
        let queue = std::mem::take(&mut connection.queue);
        let (transport, ours) = (connection.transport, connection.ours);
        out.extend(queue.into_iter().map(|bytes| segment(pair, Step::Octets, bytes)));
        Some(Event::Opened { pair, transport, ours })
    }

    /// The network did not take a segment to its end, and may have said so.
    pub(crate) fn undelivered(&mut self, now: Time, pair: Pair, reset: bool) -> Option<Event> {
        let connection = self.connections.get_mut(&pair)?;
        connection.fails = Some(connection.fails.unwrap_or(now + DEAD));
        reset.then(|| {
            self.connections.remove(&pair);
            Event::Ended { pair }
        })
    }

    /// Connections whose time is up.
    pub(crate) fn timeout(&mut self, now: Time) -> Vec<Event> {
        let over = |c: &Connection| c.fails.is_some_and(|at| at <= now);
        let pairs: Vec<Pair> = self.connections.iter().filter(|(_, c)| over(c)).map(|(pair, _)| *pair).collect();
        self.connections.retain(|_, c| !over(c));
        pairs.into_iter().map(|pair| Event::Ended { pair }).collect()
    }

    pub(crate) fn next(&self) -> Option<Time> {
        self.connections.values().map(|c| c.fails).fold(None, earlier)
    }
}

fn segment((from, to): Pair, step: Step, bytes: Vec<u8>) -> Packet {
    Packet { from, to, bytes, carrier: Carrier::Segment(step) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().expect("a literal address")
    }

    /// Carries segments to and fro until none is left; what both ends got to know.
    fn talk(client: &mut Stack, server: &mut Stack, mut out: Vec<Packet>) -> (Vec<Event>, Vec<Event>) {
        let mut events = (Vec::new(), Vec::new());
        while !out.is_empty() {
            for packet in std::mem::take(&mut out) {
                if packet.to.port() == 5061 {
                    events.1.extend(server.receive(Time::ZERO, &packet, &mut out));
                } else {
                    events.0.extend(client.receive(Time::ZERO, &packet, &mut out));
                }
            }
        }
        events
    }

    #[test]
    fn what_waits_for_the_handshakes_is_said_after_them_in_order() {
        for transport in [Transport::Tcp, Transport::Tls, Transport::Ws, Transport::Wss] {
            let (mut client, mut server) = (Stack::default(), Stack::default());
            let address = at("192.0.2.1:5061");
            server.listen(transport, address);
            let mut out = Vec::new();
            let ip = at("192.0.2.9:0").ip();
            for text in ["one", "two"] {
                let carrier = Carrier::Message { transport, instead: None };
                out.push(Packet { from: at("192.0.2.9:5060"), to: address, bytes: text.into(), carrier });
            }
            client.say(Time::ZERO, ip, &mut out);
            let (ours, theirs) = talk(&mut client, &mut server, out);
            let pair = client.to(transport, address).expect("open");
            assert_eq!(ours, [Event::Opened { pair, transport, ours: true }]);
            let pair = (pair.1, pair.0);
            let said = |text: &str| Event::Said { pair, transport, bytes: text.into() };
            assert_eq!(theirs, [Event::Opened { pair, transport, ours: false }, said("one"), said("two")]);
        }
    }

    #[test]
    fn a_connection_ends_by_a_reset_or_when_nothing_is_acknowledged() {
        let (mut client, mut server) = (Stack::default(), Stack::default());
        server.listen(Transport::Tcp, at("192.0.2.1:5061"));
        let mut out = Vec::new();
        let ends = (at("192.0.2.9:0").ip(), at("192.0.2.1:5061"));
        let pair = client.open(Time::ZERO, Transport::Tcp, ends, DEAD, &mut out);
        talk(&mut client, &mut server, out);
        assert_eq!(client.undelivered(Time::from_secs(5), pair, false), None);
        assert_eq!(client.timeout(Time::from_secs(34)), []);
        assert_eq!(client.timeout(Time::from_secs(35)), [Event::Ended { pair }]);
        // The other end learns of it when it speaks.
        let mut out = Vec::new();
        assert!(server.send((pair.1, pair.0), b"hello".to_vec(), &mut out));
        let (_, theirs) = talk(&mut client, &mut server, out);
        assert_eq!(theirs, [Event::Ended { pair: (pair.1, pair.0) }]);
        let mut out = Vec::new();
        let elsewhere = (ends.0, at("192.0.2.1:5061"));
        server.listens.clear();
        let pair = client.open(Time::ZERO, Transport::Tcp, elsewhere, DEAD, &mut out);
        assert_eq!(talk(&mut client, &mut server, out).0, [Event::Ended { pair }]);
    }
}
