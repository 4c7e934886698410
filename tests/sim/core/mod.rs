//! The core: a registrar and a transaction-stateful proxy (RFC 3261 §10, §16)
//! that gives *no* help with NAT. It sends to a Contact as it was registered,
//! and leaves SDP alone. It speaks UDP, TCP and TLS, and uses a connection that
//! came in for requests to where its peer says that it listens, or opens its own.

mod forward;
mod location;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use wire::Transport;

use self::forward::Pass;
use self::location::Location;
use crate::clock::{Time, earlier};
use crate::net::{Carrier, Packet, Step};
use crate::phone::digest::{Algorithm, Challenge, field};
use crate::rng::Rng;
use crate::sip::{self, Msg};
use crate::stack::{self, PING, PONG, Pair, Stack};
use crate::transaction::{Event, ServerId, Transactions, Way};

/// One core.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) address: SocketAddr,
    pub(crate) domain: String,
    /// Accounts; who is not in it gets in without a password.
    passwords: BTreeMap<String, String>,
    challenge: Challenge,
    location: Location,
    pub(crate) transactions: Transactions,
    passes: Vec<Pass>,
    stack: Stack,
    /// Connections that came in carry requests, too.
    reuses: bool,
    /// Where each peer says that it listens, of connections that came in.
    places: BTreeMap<Pair, SocketAddr>,
    rng: Rng,
}

impl Core {
    pub(crate) fn new(
        address: SocketAddr,
        domain: &str,
        passwords: BTreeMap<String, String>,
        algorithm: Algorithm,
        reuses: bool,
        mut rng: Rng,
    ) -> Self {
        let mut stack = Stack::default();
        stack.listen(Transport::Tcp, address);
        stack.listen(Transport::Tls, SocketAddr::new(address.ip(), 5061));
        let nonce = rng.word();
        let realm = domain.to_owned();
        let challenge = Challenge { realm, nonce, algorithm, opaque: None, qop: true, stale: false };
        Self {
            address,
            domain: domain.to_owned(),
            passwords,
            challenge,
            location: Location::default(),
            transactions: Transactions::default(),
            passes: Vec::new(),
            stack,
            reuses,
            places: BTreeMap::new(),
            rng,
        }
    }

    /// Our end for a transport.
    fn at(&self, transport: Transport) -> SocketAddr {
        let port = if transport == Transport::Tls { 5061 } else { self.address.port() };
        SocketAddr::new(self.address.ip(), port)
    }

    fn way(&self, (transport, to): (Transport, SocketAddr)) -> Way {
        Way { transport, from: self.at(transport), to }
    }

    pub(crate) fn retransmitted(&self) -> u64 {
        self.transactions.retransmitted
    }

    pub(crate) fn receive(&mut self, now: Time, packet: &Packet, out: &mut Vec<Packet>) {
        if matches!(packet.carrier, Carrier::Segment(_)) {
            let event = self.stack.receive(now, packet, out);
            return self.connected(now, event.into_iter().collect(), out);
        }
        self.message(now, packet, out);
    }

    fn message(&mut self, now: Time, packet: &Packet, out: &mut Vec<Packet>) {
        let Some(msg) = Msg::parse(&packet.bytes) else { return };
        if let Some(event) = self.transactions.receive(now, packet, msg, out) {
            self.event(now, event, out);
        }
    }

    /// News of connections.
    fn connected(&mut self, now: Time, events: Vec<stack::Event>, out: &mut Vec<Packet>) {
        for event in events {
            match event {
                stack::Event::Opened { .. } => {}
                stack::Event::Said { pair, bytes, .. } if bytes == PING => {
                    self.stack.send(pair, PONG.to_vec(), out);
                }
                stack::Event::Said { pair, transport, bytes } => {
                    self.note_place(transport, pair, &bytes);
                    let carrier = Carrier::Message { transport, instead: None };
                    self.message(now, &Packet { from: pair.1, to: self.at(transport), bytes, carrier }, out);
                }
                stack::Event::Ended { pair } => {
                    let to: Vec<SocketAddr> = [pair.1].into_iter().chain(self.places.remove(&pair)).collect();
                    for event in self.transactions.cut(now, &to, false, out) {
                        if let Event::Timeout { client } = event {
                            self.unsent(now, client, out);
                        }
                    }
                }
            }
        }
    }

    fn note_place(&mut self, transport: Transport, pair: Pair, bytes: &[u8]) {
        let request = Msg::parse(bytes).filter(|msg| self.reuses && msg.is_request());
        if let Some((_, Some(place))) = request.map(|msg| msg.response_way()) {
            self.stack.alias(transport, place, pair);
            self.places.insert(pair, place);
        }
    }

    /// The network did not take a segment to its end, and may have said so.
    pub(crate) fn undelivered(&mut self, now: Time, pair: Pair, reset: bool, out: &mut Vec<Packet>) {
        let ended = self.stack.undelivered(now, pair, reset);
        self.connected(now, ended.into_iter().collect(), out);
    }

    /// Messages for streams become segments.
    pub(crate) fn say(&mut self, now: Time, out: &mut Vec<Packet>) {
        self.stack.say(now, self.address.ip(), out);
    }

    /// All connections end at once, by our own doing.
    pub(crate) fn hang(&mut self, now: Time, step: Step, out: &mut Vec<Packet>) {
        let ended = self.stack.all().into_iter().map(|pair| {
            self.stack.close(pair, step, out);
            stack::Event::Ended { pair }
        });
        let ended = ended.collect();
        self.connected(now, ended, out);
    }

    pub(crate) fn timeout(&mut self, now: Time, out: &mut Vec<Packet>) {
        for event in self.transactions.timeout(now, out) {
            self.event(now, event, out);
        }
        let ended = self.stack.timeout(now);
        self.connected(now, ended, out);
    }

    pub(crate) fn next(&self) -> Option<Time> {
        earlier(self.transactions.next(), self.stack.next())
    }

    fn event(&mut self, now: Time, event: Event, out: &mut Vec<Packet>) {
        match event {
            Event::Request { server, msg } => self.request(now, server, msg, out),
            Event::Ack(msg) => self.pass_ack(&msg, out),
            Event::Response { client, msg } => self.answered(now, client, &msg, out),
            Event::Timeout { client } => self.silent(now, client, out),
            Event::Stray(msg) => self.pass_stray(&msg, out),
        }
    }

    fn request(&mut self, now: Time, server: ServerId, msg: Msg, out: &mut Vec<Packet>) {
        let for_us = sip::user(msg.uri()).is_empty() && self.is_us(msg.uri());
        match msg.method() {
            "REGISTER" => self.registration(now, server, &msg, out),
            "CANCEL" => self.cancel(now, server, &msg, out),
            "OPTIONS" if for_us && msg.get("route").is_none() => {
                self.reply(now, server, &msg.reply(200, "OK", "core"), out);
            }
            _ => self.forward(now, server, msg, out),
        }
    }

    fn reply(&mut self, now: Time, server: ServerId, reply: &Msg, out: &mut Vec<Packet>) {
        self.transactions.respond(now, server, reply, out);
    }

    /// The domain, or our own address.
    fn is_us(&self, uri: &str) -> bool {
        let host = sip::host_port(sip::host(uri)).0;
        let ours = |(transport, at)| at == self.at(transport);
        host.ends_with(&self.domain) || sip::way(uri).is_some_and(ours)
    }

    /// RFC 3261 §22: true when the request may pass; else it has been challenged or refused.
    fn admit(&mut self, now: Time, server: ServerId, msg: &Msg, out: &mut Vec<Packet>) -> bool {
        let register = msg.method() == "REGISTER";
        let who = msg.get(if register { "to" } else { "from" }).unwrap_or_default();
        let user = sip::user(sip::uri_of(who)).to_owned();
        if !self.passwords.contains_key(&user) {
            return true;
        }
        let name = if register { "authorization" } else { "proxy-authorization" };
        if msg.get(name).is_some_and(|value| self.proves(value, &user, msg)) {
            return true;
        }
        let (status, reason, field) = match register {
            true => (401, "Unauthorized", "WWW-Authenticate"),
            false => (407, "Proxy Authentication Required", "Proxy-Authenticate"),
        };
        let Challenge { realm, nonce, algorithm, .. } = &self.challenge;
        let value =
            format!("Digest realm=\"{realm}\", nonce=\"{nonce}\", algorithm={}, qop=\"auth\"", algorithm.name());
        self.reply(now, server, &msg.reply(status, reason, "core").with(field, value), out);
        false
    }

    fn proves(&self, value: &str, user: &str, msg: &Msg) -> bool {
        let get = |name| field(value, name).unwrap_or_default();
        let (nc, cnonce, uri) = (get("nc"), get("cnonce"), get("uri"));
        let password = self.passwords.get(user).map_or("", String::as_str);
        let wanted = self.challenge.response(user, password, (msg.method(), &uri), Some((&nc, &cnonce)));
        get("nonce") == self.challenge.nonce && get("username") == user && get("response") == wanted
    }

    fn registration(&mut self, now: Time, server: ServerId, msg: &Msg, out: &mut Vec<Packet>) {
        if !self.admit(now, server, msg, out) {
            return;
        }
        let user = sip::user(sip::uri_of(msg.get("to").unwrap_or_default())).to_owned();
        self.location.update(now, &user, msg);
        let mut reply = msg.reply(200, "OK", "core");
        for contact in self.location.listed(now, &user) {
            reply.push("Contact", contact);
        }
        self.reply(now, server, &reply, out);
    }
}
