//! The transaction machines and all that stands on them: a row of deeds of
//! phones, cores and strangers, of time, ports, workers and resolvers, decoded
//! from octets, against a core of each role.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use media::{Fact, ports};
use nat::Mapped;
use proxy::Input;
use wire::{Flow, ListenerId};

use super::choices::Choices;
use super::edge::{Edge, Manners};
use super::speech::{self, Inside, METHODS, Speech};
use super::{digest, inputs};

/// Deeds of one play.
const MOST: usize = 120;

/// What a deed is, by its first octet.
pub(crate) mod deed {
    pub(crate) const SAY: u8 = 0;
    pub(crate) const WAIT: u8 = 1;
    pub(crate) const UNSENT: u8 = 2;
    pub(crate) const SILENCE: u8 = 3;
    pub(crate) const MAPPED: u8 = 4;
    pub(crate) const STOP: u8 = 5;
    pub(super) const ASK: u8 = 6;
    pub(super) const ANSWER: u8 = 7;
    pub(super) const INSIDE: u8 = 8;
    pub(super) const AGAIN: u8 = 9;
    pub(super) const CANCEL: u8 = 10;
    pub(super) const DUE: u8 = 11;
    pub(super) const PORTS: u8 = 12;
    pub(super) const WORKER: u8 = 13;
    pub(super) const NAME: u8 = 14;
    pub(super) const SPOIL: u8 = 15;
    pub(super) const RAW: u8 = 16;
}

/// Who speaks: listener and address, in each role.
type Party = (u16, [u8; 4], u16);
const PARTIES: [[Party; 7]; 3] = [
    [
        (1, [198, 51, 100, 7], 51_000),
        (0, [10, 0, 0, 5], 5060),
        (1, [198, 51, 100, 9], 53_000),
        (0, [10, 0, 0, 9], 5062),
        (1, [198, 51, 100, 8], 52_000),
        (1, [198, 51, 100, 66], 50_666),
        (0, [10, 0, 0, 66], 5060),
    ],
    [
        (0, [192, 168, 1, 10], 5060),
        (1, [203, 0, 113, 5], 5060),
        (0, [192, 168, 1, 11], 5060),
        (1, [203, 0, 113, 6], 5060),
        (0, [192, 168, 1, 12], 5060),
        (1, [198, 51, 100, 66], 5060),
        (0, [192, 168, 1, 66], 5060),
    ],
    [
        (0, [192, 168, 1, 10], 5060),
        (0, [192, 168, 1, 11], 5060),
        (0, [192, 168, 1, 12], 5060),
        (0, [192, 168, 1, 10], 49_152),
        (0, [198, 51, 100, 66], 50_666),
        (0, [192, 168, 1, 66], 5060),
        (0, [127, 0, 0, 1], 5060),
    ],
];

/// The octets that name a party: one of the table, or any.
pub(crate) fn party(role: usize, listener: u16, address: SocketAddr) -> Vec<u8> {
    let known = |(at, ip, port): &Party| *at == listener && address == SocketAddr::from((*ip, *port));
    match (PARTIES[role].iter().position(known), address.ip()) {
        (Some(at), _) => vec![at as u8],
        (None, IpAddr::V4(ip)) => {
            let mut octets = vec![0xf0 | listener as u8];
            octets.extend(ip.octets());
            octets.extend(address.port().to_be_bytes());
            octets
        }
        (None, IpAddr::V6(_)) => vec![0],
    }
}

pub(super) fn run(bytes: &[u8]) {
    let trace = Play::new(bytes).perform();
    // Every so often once more: the same input gives the same output.
    if bytes.len() % 8 == 5 {
        assert_eq!(Play::new(bytes).perform(), trace, "the same input, another output");
    }
}

/// One play; the last row of its octets may spoil the next message.
struct Play<'a> {
    choices: Choices<'a>,
    edge: Edge,
    role: usize,
    to_the_end: bool,
    spoils: Vec<(u8, u16, u8)>,
    count: usize,
}

impl<'a> Play<'a> {
    /// The first octet: role and manners.
    fn new(bytes: &'a [u8]) -> Self {
        let mut choices = Choices::new(bytes);
        let first = choices.octet();
        let role = first & 3;
        let bit = |n: u8| first & 1 << n != 0;
        let manners =
            Manners { role: role % 3, users: bit(2) || role == 3, named: bit(3), prompt: !bit(4), pongs: !bit(5) };
        let role = if role == 3 { 2 } else { usize::from(role) };
        let manners = Manners { role: role as u8, ..manners };
        Self { choices, edge: Edge::new(manners), role, to_the_end: bit(6), spoils: Vec::new(), count: 0 }
    }

    /// A number for all that came out.
    fn perform(mut self) -> u64 {
        while !self.choices.is_over() && self.count < MOST {
            self.count += 1;
            self.act();
        }
        if self.to_the_end {
            self.edge.over();
        }
        self.edge.trace()
    }

    fn act(&mut self) {
        match self.choices.octet() % 17 {
            deed::SAY => {
                let flow = self.party();
                let text = String::from_utf8_lossy(self.choices.text()).into_owned();
                let text = self.edge.names.put_back(&text);
                let message = inputs::message(&digests(&text));
                self.deliver(flow, message);
            }
            deed::RAW => {
                let flow = self.party();
                let bytes = self.choices.text().to_vec();
                self.deliver(flow, bytes);
            }
            deed::WAIT => {
                let unit = [10, 500, 1_000, 5_000, 32_000, 64_000, 180_000, 600_000];
                let unit = *self.choices.pick(&unit).expect("some units");
                let times = u64::from(self.choices.octet() % 16);
                self.edge.wait(Duration::from_millis(unit * times));
            }
            deed::DUE => {
                if let Some(next) = self.edge.next() {
                    self.edge.wait(next);
                }
            }
            deed::ASK => self.ask(),
            deed::ANSWER => self.answer(),
            deed::INSIDE => self.inside(),
            deed::AGAIN => self.again(),
            deed::CANCEL => {
                let asked = self.choices.pick(self.edge.received.make_contiguous());
                if let Some((flow, cancel)) = asked.and_then(|(flow, bytes)| Some((*flow, speech::cancel(bytes)?))) {
                    self.deliver(flow, cancel);
                }
            }
            deed::PORTS => self.ports(),
            deed::WORKER => self.worker(),
            deed::NAME => {
                if let Some(question) = self.edge.asked.pop_front() {
                    let count = self.choices.octet() % 5;
                    self.edge.resolve(question, count);
                }
            }
            deed::UNSENT => {
                if let Some(transmit) = self.choices.pick(self.edge.sent.make_contiguous()) {
                    let flow = transmit.flow;
                    self.edge.input(Input::Unsent { flow });
                }
            }
            deed::SILENCE => self.edge.silence(),
            deed::MAPPED => {
                let listener = ListenerId(u16::from(self.choices.octet()) % self.edge.config.listeners.len() as u16);
                let last = self.choices.octet();
                let mapped = (last != 0).then_some(Mapped(([198, 51, 100, last], 41_070 + u16::from(last)).into()));
                self.edge.input(Input::Mapped { listener, mapped });
            }
            deed::STOP => self.edge.input(Input::Stop),
            deed::SPOIL => {
                let high = u16::from(self.choices.octet());
                let spoil = (self.choices.octet(), high << 8 | u16::from(self.choices.octet()), self.choices.octet());
                self.spoils.push(spoil);
            }
            other => unreachable!("{other} is no deed"),
        }
    }

    fn party(&mut self) -> Flow {
        let octet = self.choices.octet();
        let (listener, ip, port) = if octet >= 0xf0 {
            let listener = u16::from(octet & 0x0f) % self.edge.config.listeners.len() as u16;
            let ip = self.choices.number().to_be_bytes();
            (listener, ip, u16::from(self.choices.octet()) << 8 | u16::from(self.choices.octet()))
        } else {
            PARTIES[self.role][usize::from(octet) % 7]
        };
        self.edge.flow(ListenerId(listener), SocketAddr::from((ip, port)))
    }

    fn deliver(&mut self, flow: Flow, mut message: Vec<u8>) {
        for (how, at, octet) in self.spoils.drain(..) {
            speech::spoil(&mut message, how, usize::from(at), octet);
        }
        self.edge.receive(flow, message);
    }

    /// A new request.
    fn ask(&mut self) {
        let flow = self.party();
        let method = *self.choices.pick(&METHODS).expect("some methods");
        let (whom, body, number) = (self.choices.octet(), self.choices.octet(), self.count);
        let speech = Speech { flow, role: self.role, number, body };
        self.deliver(flow, speech.ask(method, whom));
    }

    /// A response to something that we sent.
    fn answer(&mut self) {
        let Some(asked) = self.choices.pick(self.edge.sent.make_contiguous()).cloned() else { return };
        let (status, tag, body) = (self.choices.octet(), self.choices.octet(), self.choices.octet());
        let speech = Speech { flow: asked.flow, role: self.role, number: self.count, body };
        if let Some(answer) = speech.answer(&asked.bytes, status, tag) {
            self.deliver(asked.flow, answer);
        }
    }

    /// A request in the dialog of something that we sent.
    fn inside(&mut self) {
        let Some(known) = self.choices.pick(self.edge.sent.make_contiguous()).cloned() else { return };
        let method = *self.choices.pick(&METHODS).expect("some methods");
        let (how, body) = (self.choices.octet(), self.choices.octet());
        let speech = Speech { flow: known.flow, role: self.role, number: self.count, body };
        let inside = Inside { method, same_transaction: how & 1 != 0, cseq: u32::from(how >> 1) };
        if let Some(request) = speech.inside(&known.bytes, &inside) {
            self.deliver(known.flow, request);
        }
    }

    /// The same octets again: from whoever sent them, or from anybody, or ours come back to us.
    fn again(&mut self) {
        let how = self.choices.octet();
        let (from, bytes) = if how & 1 == 0 {
            let Some((flow, bytes)) = self.choices.pick(self.edge.received.make_contiguous()).cloned() else { return };
            (flow, bytes)
        } else {
            let Some(sent) = self.choices.pick(self.edge.sent.make_contiguous()).cloned() else { return };
            (sent.flow, sent.bytes)
        };
        let flow = if how & 2 == 0 { from } else { self.party() };
        self.deliver(flow, bytes);
    }

    fn ports(&mut self) {
        let Some(command) = self.edge.ports.pop_front() else { return };
        let how = self.choices.octet();
        match (command, how % 4) {
            (ports::Command::Bind { pair, .. }, 3) => {
                self.edge.input(Input::Ports(ports::Event::Refused { pair }));
            }
            (ports::Command::Bind { pair, discover: true }, 2) => {
                self.edge.input(Input::Ports(ports::Event::Bound { pair }));
                self.edge.input(Input::Ports(ports::Event::Unmapped { pair }));
            }
            (ports::Command::Bind { pair, .. }, 1) => {
                self.edge.bind(command);
                self.edge.input(Input::Ports(ports::Event::Rested { pair }));
            }
            (ports::Command::Bind { .. } | ports::Command::Unbind { .. }, _) => self.edge.bind(command),
        }
    }

    fn worker(&mut self) {
        let how = self.choices.octet();
        let streams: Vec<(media::StreamId, u32)> = self.edge.streams.iter().map(|(s, e)| (*s, *e)).collect();
        match how % 4 {
            0 | 1 => {
                if let Some(stream) = self.edge.closing.pop_front() {
                    self.edge.closed(stream);
                }
            }
            2 => {
                if let Some((stream, epoch)) = self.choices.pick(&streams).copied() {
                    self.edge.input(Input::Fact(Fact::Silent { stream, epoch }));
                }
            }
            _ => {
                if let Some((stream, _)) = self.choices.pick(&streams).copied() {
                    self.edge.input(Input::Fact(Fact::Failed { stream }));
                }
            }
        }
    }
}

/// `Authorization: digest …` as transcripts write it, where it is whole.
fn digests(text: &str) -> String {
    let lines = text.split_inclusive('\n').map(|line| match line.split_once(": digest ") {
        Some((_, rest)) if rest.split_whitespace().count() == 6 => digest::expand(line),
        Some(_) | None => line.to_owned(),
    });
    lines.collect()
}
