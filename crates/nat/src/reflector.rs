//! A STUN server with two addresses (RFC 5780 §6), by which NATs are measured.
//!
//! Decides from which of its four sockets an answer leaves and where it goes.
//! It never sends to another IP than the one that asked, and to one that has
//! proven nothing at most twice what came, by the [`Ledger`]. With one address
//! it is a plain server (RFC 8489) that refuses whatever needs another.

use std::net::SocketAddr;
use std::time::Instant;

use wire::stun::behaviour::{Wish, answer_probe, read_probe};

use crate::address::is_absurd;
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
    /// Where it is asked: its address alone, or four.
    corners: Vec<SocketAddr>,
    ledger: Ledger,
}

impl Reflector {
    /// A server on one address, or, where `other` differs in IP and port, on
    /// the four sockets of both IPs and both ports.
    pub fn new(first: SocketAddr, other: Option<SocketAddr>) -> Self {
        let other = other.filter(|other| other.ip() != first.ip() && other.port() != first.port());
        let corners = match other {
            None => vec![first],
            Some(other) => {
                vec![first, SocketAddr::new(first.ip(), other.port()), SocketAddr::new(other.ip(), first.port()), other]
            }
        };
        Self { corners, ledger: Ledger::default() }
    }

    /// Where its sockets are to be bound, in the order of their numbers.
    pub fn sockets(&self) -> &[SocketAddr] {
        &self.corners
    }

    /// A datagram came to socket number `on`.
    pub fn receive(&mut self, now: Instant, on: usize, from: SocketAddr, request: &[u8]) -> Option<Reflection> {
        let here = *self.corners.get(on)?;
        self.ledger.received(now, from.ip(), request.len() + HEADERS);
        let several = self.corners.len() > 1;
        let wish = read_probe(request).filter(|wish| several || *wish == Wish::default());
        let (via, to, bytes) = match wish {
            Some(wish) => {
                let to = wish.to_port.map_or(from, |port| SocketAddr::new(from.ip(), port));
                // A padded answer to a port that asked for nothing is refused (§7.6); here it is not padded.
                let padding = if wish.to_port.is_some() { 0 } else { wish.padding };
                let via = on ^ (usize::from(wish.other_ip) << 1) ^ usize::from(wish.other_port);
                let other = self.corners.get(on ^ 3).copied();
                (via, to, answer_probe(request, from, *self.corners.get(via)?, other, padding)?)
            }
            None => (on, from, wire::stun::answer(request, from)?),
        };
        let sane = !is_absurd(to.ip()) && to.port() != 0 && !self.corners.contains(&to) && to != here;
        let paid = sane && self.ledger.spend(now, from.ip(), bytes.len() + HEADERS, true);
        paid.then_some(Reflection { via, to, bytes })
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
        Reflector::new(address("203.0.113.1:3478"), Some(address("203.0.113.2:3479")))
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
    fn a_server_with_one_address_refuses_wishes() {
        for other in [None, Some("203.0.113.1:3479"), Some("203.0.113.2:3478")] {
            let mut server = Reflector::new(address("203.0.113.1:3478"), other.map(address));
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
