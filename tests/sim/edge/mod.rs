//! siplatch in the simulated world: the machines under test, and around them
//! what `net` and the signalling loop do in the program.
//!
//! One shape, as in the program: one input, then all outputs until there are
//! none, then the next input. Everything that crosses the machines' border is
//! written into a journal, which the invariants read.

mod journal;
mod media;
mod ports;
mod sabotage;
mod streams;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::media::Relay;
use ::media::relay::KeepAlive;
use nat::Advertise;
use nat::discovery::{self, Discovery, SocketId};
use proxy::config::MediaKeepAlive;
use proxy::question::{Address, Answer, Kind, Question, Records};
use proxy::{Config, Input, Output, Proxy};
use wire::demux::{self, Signalling};
use wire::{Flow, ListenerId, Transmit, Transport};

pub(crate) use self::journal::{Entry, Line, Message};
use self::media::Sockets;
use self::ports::Ports;
pub(crate) use self::sabotage::Sabotage;
use self::streams::Streams;
use crate::clock::{Time, earlier};
use crate::net::{Carrier, Packet};
use crate::rng::Rng;

/// What the program would have found out before it starts.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) config: Arc<Config>,
    /// Names that the resolver knows; numeric hosts need no entry.
    pub(crate) names: BTreeMap<String, SocketAddr>,
    pub(crate) stun: Vec<SocketAddr>,
    /// How long the resolver takes.
    pub(crate) resolving: Duration,
    /// How long a fact is under way from a worker.
    pub(crate) fact_delay: Duration,
    pub(crate) sabotage: Option<Sabotage>,
}

/// Inputs that wait for their turn.
#[derive(Debug)]
enum Waiting {
    Ports(::media::ports::Event),
    Fact(::media::Fact),
    Mapped(ListenerId, Option<nat::Mapped>),
    Resolved(Question, Answer),
    Closed(Flow),
    Unsent(Flow),
}

/// The program.
#[derive(Debug)]
pub(crate) struct Edge {
    /// The one reading of the clock; all else is a distance from here.
    base: Instant,
    setup: Setup,
    proxy: Proxy,
    workers: Vec<Relay>,
    discovery: Discovery,
    sockets: Sockets,
    streams: Streams,
    ports: Ports,
    /// In the order of their time.
    later: BTreeMap<(Time, u64), Waiting>,
    order: u64,
    inbox: VecDeque<Waiting>,
    journal: Vec<Entry>,
    pub(crate) stopped: bool,
    /// One input led to others without end.
    pub(crate) stalled: bool,
    /// For sabotage: how often it struck, where packets last went, what was sent.
    pub(crate) sabotaged: u32,
    ways: BTreeMap<(u8, ::media::Slot), SocketAddr>,
    answered: BTreeSet<Vec<u8>>,
}

impl Edge {
    pub(crate) fn new(setup: Setup, base: Instant, rng: &mut Rng) -> Self {
        let config = &setup.config;
        let keepalive = match config.media.keepalive {
            MediaKeepAlive::Stun => KeepAlive::Stun,
            MediaKeepAlive::Rtp => KeepAlive::Rtp,
            MediaKeepAlive::Off => KeepAlive::Off,
        };
        let workers = (0..config.media.workers).map(|worker| {
            let config = ::media::relay::Config { worker, keepalive, ..Default::default() };
            Relay::new(config, rng.seed())
        });
        let workers = workers.collect();
        let mut discovery = Discovery::new(discovery::Config::default(), rng.seed());
        discovery.handle_input(base, discovery::Input::Servers(setup.stun.clone()));
        for (index, listener) in config.listeners.iter().enumerate() {
            let datagrams = !listener.transport.reliable();
            if datagrams && matches!(listener.advertise, Advertise::Stun | Advertise::StunAddress) {
                let socket = SocketId(index as u64);
                discovery.handle_input(base, discovery::Input::Watch { socket, fast: true });
            }
        }
        let mut streams = Streams::default();
        for listener in config.listeners.iter().filter(|l| l.transport.reliable() && l.accepts) {
            streams.listen(listener.transport, listener.bind);
        }
        let mut proxy = Proxy::new(base, Arc::clone(config), rng.seed(), rng.seed());
        proxy.handle_input(base, Input::StunServers(setup.stun.clone()));
        Self {
            base,
            proxy,
            workers,
            discovery,
            sockets: Sockets::default(),
            streams,
            ports: Ports::new(setup.config.listeners.len() as u64),
            later: BTreeMap::new(),
            order: 0,
            inbox: VecDeque::new(),
            journal: Vec::new(),
            stopped: false,
            stalled: false,
            sabotaged: 0,
            ways: BTreeMap::new(),
            answered: BTreeSet::new(),
            setup,
        }
    }

    pub(crate) fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// Pairs that are bound, by our own count.
    pub(crate) fn bound(&self) -> usize {
        self.ports.bound()
    }

    /// What happened since the last time.
    pub(crate) fn take_journal(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.journal)
    }

    /// The journal's buffer comes back.
    pub(crate) fn reuse(&mut self, mut journal: Vec<Entry>) {
        journal.clear();
        if self.journal.is_empty() {
            self.journal = journal;
        }
    }

    fn listener_at(&self, transport: Transport, local: SocketAddr) -> Option<ListenerId> {
        let listeners = &self.setup.config.listeners;
        let position = listeners.iter().position(|l| l.bind == local && l.transport == transport)?;
        u16::try_from(position).ok().map(ListenerId)
    }

    /// A datagram came in on one of our sockets.
    pub(crate) fn receive(&mut self, now: Time, packet: &Packet, out: &mut Vec<Packet>) {
        if matches!(packet.carrier, Carrier::Segment(_)) {
            self.segment(now, packet, out);
        } else if let Some(listener) = self.listener_at(Transport::Udp, packet.to) {
            self.signalling(now, listener, packet);
        } else {
            self.media(now, packet, out);
        }
        self.drain(now, out);
    }

    fn signalling(&mut self, now: Time, listener: ListenerId, packet: &Packet) {
        let at = self.base + now;
        match demux::signalling(&packet.bytes) {
            Signalling::KeepAlive => {}
            Signalling::Stun => {
                let (transport, local, remote) = (Transport::Udp, packet.to, packet.from);
                let flow = Flow { transport, listener, connection: 0, local, remote };
                if self.proxy.asked_stun(flow, &packet.bytes) {
                    return self.proxy.handle_input(at, Input::Stun { flow, bytes: &packet.bytes });
                }
                let socket = SocketId(u64::from(listener.0));
                let (from, packet) = (packet.from, packet.bytes.as_slice());
                self.discovery.handle_input(at, discovery::Input::Received { socket, from, packet });
            }
            Signalling::Sip => {
                let flow =
                    Flow { transport: Transport::Udp, listener, connection: 0, local: packet.to, remote: packet.from };
                self.journal.push(Entry::received(flow, &packet.bytes));
                self.proxy.handle_input(at, Input::Received { flow, bytes: &packet.bytes });
            }
        }
    }

    /// A deadline passed.
    pub(crate) fn timeout(&mut self, now: Time, out: &mut Vec<Packet>) {
        let at = self.base + now;
        while let Some(first) = self.later.first_entry().filter(|first| first.key().0 <= now) {
            self.inbox.push_back(first.remove());
        }
        let rested = self.ports.rested(now);
        self.ports.watch_again(at, &rested, &mut self.discovery);
        self.inbox.extend(rested.into_iter().map(Waiting::Ports));
        if self.discovery.poll_timeout().is_some_and(|due| due <= at) {
            self.discovery.handle_timeout(at);
        }
        for worker in &mut self.workers {
            if worker.poll_timeout().is_some_and(|due| due <= at) {
                worker.handle_timeout(at);
            }
        }
        if self.proxy.poll_timeout().is_some_and(|due| due <= at) {
            self.journal.push(Entry::Timer);
            self.proxy.handle_timeout(at);
        }
        self.drain(now, out);
        self.streams_due(now, out);
    }

    /// The program is told to stop.
    pub(crate) fn stop(&mut self, now: Time, out: &mut Vec<Packet>) {
        self.stopped = true;
        self.journal.push(Entry::Timer);
        self.proxy.handle_input(self.base + now, Input::Stop);
        self.drain(now, out);
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Time> {
        let workers = self.workers.iter().filter_map(Relay::poll_timeout);
        let machines = workers.chain(self.discovery.poll_timeout()).chain(self.proxy.poll_timeout()).min();
        let machines = machines.map(|at| at.saturating_duration_since(self.base));
        let later = self.later.first_key_value().map(|((at, _), _)| *at);
        earlier(earlier(machines, later), earlier(self.ports.next(), self.streams.next()))
    }

    /// All outputs to empty, then the next input, until there is none.
    fn drain(&mut self, now: Time, out: &mut Vec<Packet>) {
        let at = self.base + now;
        // One input leads to a bounded number of others; the world notices when it does not.
        for _ in 0..10_000 {
            while let Some(output) = self.proxy.poll_output() {
                self.act(now, output, out);
            }
            self.drain_workers(now, out);
            self.drain_discovery(out);
            let Some(waiting) = self.inbox.pop_front() else { return };
            self.journal.push(Entry::Timer);
            match waiting {
                Waiting::Ports(event) => self.proxy.handle_input(at, Input::Ports(event)),
                Waiting::Fact(fact) => self.proxy.handle_input(at, Input::Fact(fact)),
                Waiting::Mapped(listener, mapped) => {
                    self.proxy.handle_input(at, Input::Mapped { listener, mapped });
                }
                Waiting::Resolved(question, answer) => {
                    self.proxy.handle_input(at, Input::Resolved { question, answer });
                }
                Waiting::Closed(flow) => self.proxy.handle_input(at, Input::Closed { flow }),
                Waiting::Unsent(flow) => self.proxy.handle_input(at, Input::Unsent { flow }),
            }
        }
        self.stalled = true;
    }

    fn act(&mut self, now: Time, output: Output, out: &mut Vec<Packet>) {
        match output {
            Output::Transmit(transmit) => self.transmit(transmit, out),
            Output::KeepAlive(Transmit { flow, bytes }) => {
                out.push(Packet::datagram(flow.local, flow.remote, bytes));
            }
            Output::Doubt { listener } => {
                let socket = SocketId(u64::from(listener.0));
                self.discovery.handle_input(self.base + now, discovery::Input::Doubt { socket });
            }
            Output::Connect { flow, name: _, within } => self.connect(now, flow, within, out),
            Output::Close { flow } => self.close(flow, out),
            Output::Proven { flow } => self.prove(flow),
            Output::Media(command) => self.command(now, command),
            Output::Ports(command) => {
                let event = self.ports.obey(self.base + now, command, &mut self.discovery);
                self.journal.push(Entry::Ports(command, event));
                self.inbox.extend(event.map(Waiting::Ports));
            }
            Output::Resolve(question) => self.resolve(now, question),
            Output::Changed(change) => self.changed(change),
            Output::Observed(observed) => self.journal.push(Entry::Observed(observed)),
            Output::Traced(_) => {}
        }
    }

    fn transmit(&mut self, transmit: Transmit, out: &mut Vec<Packet>) {
        for Transmit { flow, bytes } in self.sabotaged_messages(transmit) {
            if flow.transport.reliable() {
                self.say(Transmit { flow, bytes }, out);
                continue;
            }
            self.journal.push(Entry::sent(flow, &bytes));
            out.push(Packet::datagram(flow.local, flow.remote, bytes));
        }
    }

    /// The resolver answers after a while, also when it fails. It knows addresses only.
    fn resolve(&mut self, now: Time, question: Question) {
        let known = self.setup.names.get(&question.name).map(SocketAddr::ip);
        let remote = known.or_else(|| question.name.parse().ok()).filter(|_| question.kind == Kind::Addresses);
        let ttl = Duration::from_secs(60);
        let answer = remote.map_or(Answer::Nothing { ttl }, |remote| {
            let address = Address { remote, local: self.setup.config.listeners[0].bind.ip() };
            Answer::Found { records: Records::Addresses(vec![address]), ttl }
        });
        self.order += 1;
        let at = now + self.setup.resolving;
        self.later.insert((at, self.order), Waiting::Resolved(question, answer));
    }

    fn drain_discovery(&mut self, out: &mut Vec<Packet>) {
        while let Some(output) = self.discovery.poll_output() {
            match output {
                discovery::Output::Transmit { socket, to, bytes } => {
                    let listener = usize::try_from(socket.0).ok().and_then(|s| self.setup.config.listeners.get(s));
                    let from = listener.map(|l| l.bind).or_else(|| self.ports.address(socket));
                    out.extend(from.map(|from| Packet::datagram(from, to, bytes)));
                }
                discovery::Output::Mapped { socket, mapped, .. } => self.mapped(socket, Some(mapped)),
                discovery::Output::Unmapped { socket } => self.mapped(socket, None),
                discovery::Output::Finding { .. } => {}
            }
        }
    }

    fn mapped(&mut self, socket: SocketId, mapped: Option<nat::Mapped>) {
        if (socket.0 as usize) < self.setup.config.listeners.len() {
            self.inbox.push_back(Waiting::Mapped(ListenerId(socket.0 as u16), mapped));
        } else if let Some(event) = self.ports.mapped(socket, mapped) {
            self.inbox.push_back(Waiting::Ports(event));
        }
    }
}
