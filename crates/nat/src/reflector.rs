//! A STUN server with two addresses (RFC 5780 §6), by which NATs are measured,
//! and the far end of [`crate::alg`], by which those who rewrite SIP are found.
//!
//! Decides from which of its four sockets an answer leaves and where it goes.
//! It never sends to another IP than the one that asked, and to one that has
//! proven nothing at most twice what came, by the [`Ledger`]; as much as came for
//! SIP. With one address it is a plain server (RFC 8489) that refuses whatever needs another.

use std::net::SocketAddr;
use std::time::Instant;

use wire::demux::{self, Signalling};
use wire::sip::{Framing, Index, Limits};
use wire::stun::behaviour::{Wish, answer_probe, read_probe};

use crate::address::is_absurd;
use crate::alg::echo;
use crate::ledger::Ledger;

/// Octets of the headers of IPv4 and UDP, which count on both ways.
const HEADERS: usize = 28;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reflection {
    /// The number of the socket that it leaves by.
    pub via: usize,
    /// Where it goes.
    pub to: SocketAddr,
    /// The datagram.
    pub bytes: Vec<u8>,
}

/// The server.
#[derive(Debug)]
pub struct Reflector {
    /// Where it is asked: its address alone, or four; then the further ones.
    sockets: Vec<SocketAddr>,
    corners: usize,
    ledger: Ledger,
    index: Index,
    answered: u64,
}

impl Reflector {
    /// A server on one address, or, where `other` differs in IP and port, on
    /// the four sockets of both IPs and both ports.
    ///
    /// `more`: ports on which each of its IPs answers too, plainly.
    pub fn new(first: SocketAddr, other: Option<SocketAddr>, more: &[u16]) -> Self {
        let other = other.filter(|other| other.ip() != first.ip() && other.port() != first.port());
        let mut sockets = match other {
            None => vec![first],
            Some(other) => {
                vec![first, SocketAddr::new(first.ip(), other.port()), SocketAddr::new(other.ip(), first.port()), other]
            }
        };
        let corners = sockets.len();
        for ip in std::iter::once(first.ip()).chain(other.map(|other| other.ip())) {
            for address in more.iter().map(|port| SocketAddr::new(ip, *port)) {
                if !sockets.contains(&address) {
                    sockets.push(address);
                }
            }
        }
        Self { sockets, corners, ledger: Ledger::default(), index: Index::new(), answered: 0 }
    }

    /// Where its sockets are to be bound, in the order of their numbers.
    pub fn sockets(&self) -> &[SocketAddr] {
        &self.sockets
    }

    /// A datagram came to socket number `on`.
    pub fn receive(&mut self, now: Instant, on: usize, from: SocketAddr, request: &[u8]) -> Option<Reflection> {
        let here = *self.sockets.get(on)?;
        self.ledger.received(now, from.ip(), request.len() + HEADERS);
        let sip = demux::signalling(request) == Signalling::Sip;
        let (via, to, bytes) = match sip {
            true => (on, from, self.sip(from, request)?),
            false => self.stun(on, from, request)?,
        };
        let sane = !is_absurd(to.ip()) && to.port() != 0 && !self.sockets.contains(&to) && to != here;
        let paid = sane && self.ledger.spend(now, from.ip(), bytes.len() + HEADERS, !sip);
        paid.then_some(Reflection { via, to, bytes })
    }

    /// A SIP message that came over a connection, and the answer to be sent there.
    pub fn receive_stream(&mut self, from: SocketAddr, request: &[u8]) -> Option<Vec<u8>> {
        self.sip(from, request)
    }

    fn sip(&mut self, from: SocketAddr, request: &[u8]) -> Option<Vec<u8>> {
        self.index.parse(request, Framing::Datagram, &Limits::default()).ok()?;
        self.answered += 1;
        let (probe, tag) = (self.index.view(request), format!("r{}", self.answered));
        echo::is_probe(probe).then(|| echo::answer(probe, from, tag.as_bytes()))?
    }

    fn stun(&self, on: usize, from: SocketAddr, request: &[u8]) -> Option<(usize, SocketAddr, Vec<u8>)> {
        let several = self.corners > 1 && on < self.corners;
        let wish = read_probe(request).filter(|wish| several || *wish == Wish::default());
        let Some(wish) = wish else { return Some((on, from, wire::stun::answer(request, from)?)) };
        let to = wish.to_port.map_or(from, |port| SocketAddr::new(from.ip(), port));
        // A padded answer to a port that asked for nothing is refused (§7.6); here it is not padded.
        let padding = if wish.to_port.is_some() { 0 } else { wish.padding };
        let via = if several { on ^ (usize::from(wish.other_ip) << 1) ^ usize::from(wish.other_port) } else { on };
        let other = if several { self.sockets.get(on ^ 3).copied() } else { None };
        Some((via, to, answer_probe(request, from, *self.sockets.get(via)?, other, padding)?))
    }
}

#[cfg(test)]
mod tests {
    use wire::stun::behaviour::{PADDING_OCTETS, probe};
    use wire::stun::read_answer;

    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[expect(clippy::disallowed_methods, reason = "virtual time has to start somewhere")]
    fn start() -> Instant {
        Instant::now()
    }

    const FROM: &str = "198.51.100.7:40000";

    fn whole() -> Reflector {
        Reflector::new(address("203.0.113.1:3478"), Some(address("203.0.113.2:3479")), &[5060])
    }

    #[test]
    fn answers_leave_from_where_they_were_wished() {
        let (from, now) = (address(FROM), start());
        for (on, other_ip, other_port, via) in
            [(0, false, false, 0), (0, false, true, 1), (0, true, false, 2), (0, true, true, 3), (3, true, true, 0)]
        {
            let mut server = whole();
            let wish = Wish { other_ip, other_port, ..Wish::default() };
            let answer = server.receive(now, on, from, &probe([1; 12], wish)).expect("an answer");
            assert_eq!((answer.via, answer.to), (via, from));
            let read = read_answer(&answer.bytes).expect("reads");
            assert_eq!(read.origin, Some(server.sockets()[via]));
            assert_eq!((read.other, read.xor_mapped), (Some(server.sockets()[on ^ 3]), Some(from)));
        }
    }

    #[test]
    fn another_port_of_the_sender_may_be_wished_and_nobody_else() {
        let wish = Wish { to_port: Some(41_000), padding: 1000, ..Wish::default() };
        let answer = whole().receive(start(), 0, address(FROM), &probe([1; 12], wish)).expect("an answer");
        assert_eq!(answer.to, address("198.51.100.7:41000"));
        assert!(answer.bytes.len() < 100, "not padded");
    }

    #[test]
    fn sip_is_answered_on_all_sockets_and_no_more_than_came() {
        let (mut server, now, from) = (whole(), start(), address(FROM));
        assert_eq!(server.sockets()[4..], [address("203.0.113.1:5060"), address("203.0.113.2:5060")]);
        let way = crate::alg::Way { reliable: false, local: from, server: server.sockets()[4] };
        let mut alg = crate::alg::Alg::new(now, way, [3; 32]);
        let Some(crate::alg::Output::Transmit(probe)) = alg.poll_output() else { panic!("nothing sent") };
        for on in 0..6 {
            let answer = server.receive(now, on, from, &probe).expect("an answer");
            assert_eq!((answer.via, answer.to), (on, from));
            assert!(answer.bytes.len() <= probe.len());
        }
        assert!(server.receive_stream(from, &probe).is_some());
        let plain =
            String::from_utf8_lossy(&probe).replace("sip:siplatch-reflect@203.0.113.1:5060", "sip:bob@203.0.113.1");
        assert_eq!(server.receive(now, 0, from, plain.as_bytes()), None);
        assert_eq!(server.receive_stream(from, b"nothing"), None);
        // A socket beside the corners is a plain server.
        let wish = Wish { other_port: true, ..Wish::default() };
        let refused = server.receive(now, 4, from, &probe_of(wish)).expect("an answer");
        assert_eq!(read_answer(&refused.bytes).expect("reads").error, Some(420));
    }

    fn probe_of(wish: Wish) -> Vec<u8> {
        probe([1; 12], wish)
    }

    #[test]
    fn a_server_with_one_address_refuses_wishes() {
        for other in [None, Some("203.0.113.1:3479"), Some("203.0.113.2:3478")] {
            let mut server = Reflector::new(address("203.0.113.1:3478"), other.map(address), &[]);
            assert_eq!(server.sockets().len(), 1);
            let plain = server.receive(start(), 0, address(FROM), &wire::stun::request([1; 12])).expect("an answer");
            assert_eq!(read_answer(&plain.bytes).expect("reads").other, None);
            let wish = Wish { other_port: true, ..Wish::default() };
            let refused = server.receive(start(), 0, address(FROM), &probe([1; 12], wish)).expect("an answer");
            assert_eq!(read_answer(&refused.bytes).expect("reads").error, Some(420));
        }
    }

    #[test]
    fn nobody_gets_more_than_twice_what_came() {
        let (mut server, now) = (whole(), start());
        let (mut came, mut went) = (0, 0);
        for round in 0..20_000_u32 {
            let wish = match round % 4 {
                0 => Wish::default(),
                1 => Wish { other_ip: true, other_port: true, ..Wish::default() },
                2 => Wish { padding: PADDING_OCTETS, ..Wish::default() },
                _ => Wish { to_port: Some(9), ..Wish::default() },
            };
            let request = probe([1; 12], wish);
            came += request.len() + HEADERS;
            went += server.receive(now, 0, address(FROM), &request).map_or(0, |answer| answer.bytes.len() + HEADERS);
        }
        assert!(went <= came + 8192 && went > came / 2, "{went} for {came}");
        // Ourselves, and what is no address, is never answered.
        for from in ["203.0.113.2:3479", "0.0.0.0:1", "198.51.100.7:0", "255.255.255.255:9"] {
            assert_eq!(whole().receive(now, 0, address(from), &wire::stun::request([1; 12])), None);
        }
        assert_eq!(whole().receive(now, 0, address(FROM), b"nothing that we know"), None);
        assert_eq!(whole().receive(now, 9, address(FROM), &wire::stun::request([1; 12])), None);
    }
}
