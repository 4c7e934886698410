//! A signalling core with its ports, workers and resolver, in virtual time,
//! and what must hold of it after every input.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use media::{Command, Fact, StreamId, ports};
use nat::Mapped;
use proxy::config::User;
use proxy::question::{Address, Answer, Kind, Naptr, Question, Records, Srv};
use proxy::{Config, Input, Output, Proxy, Work};
use registry::{Change, Record};
use wire::{Flow, ListenerId, Transmit, Transport};

use super::names::Names;
use super::recipients::Recipients;
use super::roles;

/// How many messages are kept, to be answered or sent again.
const KEPT: usize = 32;
/// More timers at one instant, or in one wait, are a deadline that never moves on.
const STANDSTILL: usize = 1_000;
/// How STUN and the provider see us.
const MAPPED: [u8; 4] = [198, 51, 100, 7];

/// How the world around the core behaves.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manners {
    pub(super) role: u8,
    /// Standalone asks for passwords.
    pub(super) users: bool,
    /// The upstream has a name instead of an address.
    pub(super) named: bool,
    /// Ports are bound and streams closed at once.
    pub(super) prompt: bool,
    /// Pings are answered.
    pub(super) pongs: bool,
}

pub(super) struct Edge {
    proxy: Proxy,
    pub(super) config: Arc<Config>,
    start: Instant,
    now: Instant,
    manners: Manners,
    pub(super) names: Names,
    recipients: Recipients,
    /// The last messages, each way.
    pub(super) sent: VecDeque<Transmit>,
    pub(super) received: VecDeque<(Flow, Vec<u8>)>,
    /// Orders that nobody has carried out yet.
    pub(super) ports: VecDeque<ports::Command>,
    pub(super) closing: VecDeque<StreamId>,
    pub(super) asked: VecDeque<Question>,
    pub(super) streams: BTreeMap<StreamId, u32>,
    inputs: usize,
    /// Of messages that came in.
    octets: usize,
    trace: DefaultHasher,
}

impl Edge {
    pub(super) fn new(manners: Manners) -> Self {
        let role = *["border", "office", "standalone"].get(usize::from(manners.role % 3)).expect("one of three");
        let users = ["alice", "bob"].map(|name| User { name: name.into(), password: "secret".into() });
        let mut config = roles::config(role, if manners.users { users.to_vec() } else { Vec::new() });
        if let Some(upstream) = config.upstreams.first_mut().filter(|_| manners.named) {
            upstream.host = "sip.provider.example".to_owned();
            // With a port only addresses are asked for, without one NAPTR and SRV records, too.
            upstream.port = manners.pongs.then_some(5060);
        }
        let config = Arc::new(config);
        let now = beginning();
        let mut edge = Self {
            proxy: Proxy::new(now, Arc::clone(&config), [1; 32], [2; 32]),
            recipients: Recipients::new(&config),
            config,
            start: now,
            now,
            manners,
            names: Names::default(),
            sent: VecDeque::new(),
            received: VecDeque::new(),
            ports: VecDeque::new(),
            closing: VecDeque::new(),
            asked: VecDeque::new(),
            streams: BTreeMap::new(),
            inputs: 0,
            octets: 0,
            trace: DefaultHasher::new(),
        };
        edge.drain();
        if role == "office" {
            edge.input(Input::Mapped { listener: ListenerId(1), mapped: Some(Mapped((MAPPED, 41_070).into())) });
        }
        edge
    }

    /// What came out, in one number.
    pub(super) fn trace(&self) -> u64 {
        self.trace.finish()
    }

    pub(super) fn work(&self) -> Work {
        self.proxy.work()
    }

    pub(super) fn flow(&self, listener: ListenerId, remote: SocketAddr) -> Flow {
        let local = self.config.listeners[usize::from(listener.0)].bind;
        Flow { transport: Transport::Udp, listener, connection: 0, local, remote }
    }

    /// A datagram arrives.
    pub(super) fn receive(&mut self, flow: Flow, bytes: Vec<u8>) {
        self.recipients.received(flow, &bytes);
        self.octets += bytes.len();
        self.proxy.handle_input(self.now, Input::Received { flow, bytes: &bytes });
        keep(&mut self.received, (flow, bytes));
        self.after();
    }

    pub(super) fn input(&mut self, input: Input<'_>) {
        self.proxy.handle_input(self.now, input);
        self.after();
    }

    fn after(&mut self) {
        self.inputs += 1;
        self.drain();
        self.is_bounded();
    }

    pub(super) fn next(&self) -> Option<Duration> {
        Some(self.proxy.poll_timeout()?.saturating_duration_since(self.now))
    }

    /// Time passes.
    pub(super) fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        let mut standing = 0;
        while let Some(at) = self.proxy.poll_timeout().filter(|at| *at <= end) {
            standing = if at <= self.now { standing + 1 } else { 0 };
            assert!(standing < STANDSTILL, "a deadline that never moves on");
            self.now = self.now.max(at);
            self.recipients.waited();
            self.proxy.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
        self.is_bounded();
    }

    /// No media from here on, as the workers would report it.
    pub(super) fn silence(&mut self) {
        for (stream, epoch) in self.streams.clone() {
            self.input(Input::Fact(Fact::Silent { stream, epoch }));
        }
    }

    /// Everybody falls silent, and in the end nothing is left of all this.
    pub(super) fn over(&mut self) {
        (self.manners.prompt, self.manners.pongs) = (true, true);
        self.catch_up();
        self.wait(Duration::from_secs(400));
        self.silence();
        self.wait(Duration::from_secs(400));
        assert_eq!(self.work().parked, 0, "{:?}", self.work());
        self.input(Input::Stop);
        self.wait(Duration::from_secs(3700));
        if self.work().calls > 0 {
            // A subscription lasts as long as its notifier said, a week at most.
            self.wait(Duration::from_secs(7 * 24 * 3600));
        }
        // Pings come and go; between two of them there is a moment without any work.
        let idle = (0..40).any(|_| {
            self.wait(Duration::from_secs(1));
            self.work() == Work::default()
        });
        assert!(idle, "left in the end: {:?}", self.work());
        let live: usize = self.proxy.ports().map(|(_, _, counts)| counts.live).sum();
        assert_eq!((live, self.streams.len()), (0, 0), "ports or streams are left in the end");
    }

    /// What was asked for is done.
    fn catch_up(&mut self) {
        while let Some(command) = self.ports.pop_front() {
            self.bind(command);
        }
        while let Some(stream) = self.closing.pop_front() {
            self.closed(stream);
        }
        while let Some(question) = self.asked.pop_front() {
            self.resolve(question, 0);
        }
    }

    /// Answers an order to the ports, as `net` does.
    pub(super) fn bind(&mut self, command: ports::Command) {
        let ports::Command::Bind { pair, discover } = command else { return };
        self.input(Input::Ports(ports::Event::Bound { pair }));
        if discover {
            let mapped = |port: u16| Mapped((MAPPED, port).into());
            let (rtp, rtcp) = (mapped(pair.rtp + 10_000), mapped(pair.rtp + 10_001));
            self.input(Input::Ports(ports::Event::Mapped { pair, rtp, rtcp }));
        }
    }

    pub(super) fn closed(&mut self, stream: StreamId) {
        self.input(Input::Fact(Fact::Closed { stream, legs: Default::default() }));
    }

    /// A name has so many addresses, servers or ways; with more than three nobody can say.
    pub(super) fn resolve(&mut self, question: Question, count: u8) {
        let local = self.config.listeners[0].bind.ip();
        let upstream = question.name.ends_with("sip.provider.example");
        let ip = |n| IpAddr::from(if upstream { [203, 0, 113, 5 + n] } else { [203, 0, 113, 80 + n] });
        let records = match question.kind {
            Kind::Naptr => {
                let record = |n: u8| {
                    let (service, way) = if n == 1 { ("SIP+D2T", "_tcp") } else { ("SIP+D2U", "_udp") };
                    let replacement = format!("_sip.{way}.{}", question.name);
                    Naptr { order: n.into(), preference: 1, flags: "s".into(), service: service.into(), replacement }
                };
                Some(Records::Naptr((0..count).map(record).collect()))
            }
            Kind::Srv => Some(Records::Srv(
                (0..count)
                    .map(|n| Srv {
                        priority: u16::from(n / 2),
                        weight: u16::from(n),
                        port: 5060 + u16::from(n),
                        target: "sip.provider.example".to_owned(),
                    })
                    .collect(),
            )),
            Kind::Addresses => {
                let numeric = question.name.parse().ok();
                let remotes = numeric.map_or_else(|| (0..count).map(ip).collect(), |ip| vec![ip]);
                self.recipients.located(&remotes, upstream);
                Some(Records::Addresses(remotes.into_iter().map(|remote| Address { remote, local }).collect()))
            }
        };
        let ttl = Duration::from_secs(60);
        let answer = match records {
            Some(_) if count > 3 => Answer::Failed,
            Some(records) if count > 0 => Answer::Found { records, ttl },
            Some(_) | None => Answer::Nothing { ttl },
        };
        self.input(Input::Resolved { question, answer });
    }

    fn drain(&mut self) {
        while let Some(output) = self.proxy.poll_output() {
            match output {
                Output::Transmit(transmit) => self.transmit(transmit),
                Output::Media(command) => self.media(&command),
                Output::Ports(command) if self.manners.prompt => self.bind(command),
                Output::Ports(command) => self.ports.push_back(command),
                Output::Resolve(question) => {
                    if self.manners.prompt {
                        let named = question.name.ends_with("sip.provider.example");
                        let known = u8::from(named && question.kind != Kind::Naptr) * 2;
                        self.resolve(question, known);
                    } else {
                        self.asked.push_back(question);
                    }
                }
                Output::Changed(Change::Put(Record::Binding(binding))) => self.recipients.bound(binding.flow.get()),
                Output::Changed(_) | Output::Observed(_) => {}
                Output::Connect { flow, .. } => panic!("no stream is configured: {flow:?}"),
                Output::KeepAlive(_)
                | Output::Doubt { .. }
                | Output::Close { .. }
                | Output::Proven { .. }
                | Output::Traced(_) => {}
            }
        }
    }

    fn transmit(&mut self, transmit: Transmit) {
        (self.now - self.start).hash(&mut self.trace);
        transmit.bytes.hash(&mut self.trace);
        transmit.flow.hash(&mut self.trace);
        self.recipients.sent(&transmit);
        let text = String::from_utf8_lossy(&transmit.bytes);
        if text.starts_with("OPTIONS ") && text.contains("\r\nFrom: <sip:siplatch@") {
            if self.manners.pongs {
                let pong = roles::pong(&transmit.bytes);
                self.recipients.received(transmit.flow, &pong);
                self.proxy.handle_input(self.now, Input::Received { flow: transmit.flow, bytes: &pong });
            }
            return;
        }
        self.names.write(&text);
        keep(&mut self.sent, transmit);
    }

    fn media(&mut self, command: &Command) {
        match command {
            Command::Open { stream, epoch, legs, .. } => {
                assert!(self.streams.insert(*stream, *epoch).is_none(), "{stream:?} is opened twice");
                assert_ne!(legs[0].pair, legs[1].pair, "one pair for two legs");
            }
            Command::Update { stream, epoch, .. } => {
                let known = self.streams.insert(*stream, *epoch);
                assert!(known.is_some_and(|known| known <= *epoch), "{stream:?} is not open, or its epochs go back");
            }
            Command::Close { stream, told: _ } => {
                assert!(self.streams.remove(stream).is_some(), "{stream:?} is closed and not open");
                if self.manners.prompt {
                    let fact = Fact::Closed { stream: *stream, legs: Default::default() };
                    self.proxy.handle_input(self.now, Input::Fact(fact));
                } else {
                    self.closing.push_back(*stream);
                }
            }
            Command::Join { .. }
            | Command::Carry { .. }
            | Command::Formats { .. }
            | Command::Splice { .. }
            | Command::Ask { .. }
            | Command::Part { .. }
            | Command::Replace { .. } => {}
        }
    }

    /// What is held follows from what came in.
    fn is_bounded(&self) {
        let Work { contexts, parked, octets, bindings, calls, streams } = self.work();
        let most = 64 + 16 * self.inputs;
        assert!(contexts < most && bindings < most && calls < most, "{:?} after {} inputs", self.work(), self.inputs);
        assert!(parked <= contexts);
        // A request is held as it came, as it left for up to 16 places, and with its answer.
        let most = 20 * self.octets + 16_384 * (self.inputs + 4);
        assert!(octets < most, "{octets} octets are held after {} in {} inputs", self.octets, self.inputs);
        assert_eq!(octets == 0, contexts == 0, "{:?}", self.work());
        // No more streams than port pairs for them: 60 in the widest range of each side.
        assert!(streams <= 120, "{streams} streams");
    }
}

fn keep<T>(kept: &mut VecDeque<T>, new: T) {
    if kept.len() == KEPT {
        kept.pop_front();
    }
    kept.push_back(new);
}

/// One beginning for all plays: what follows is virtual time.
fn beginning() -> Instant {
    static BEGINNING: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    *BEGINNING
}
