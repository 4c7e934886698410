//! A proxy with its ports bound at once and its outputs written as text.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use media::{PortRange, RangeId, ports};
use nat::{Advertise, Mapped, Network, Prefix, Side};
use proxy::config::{DigestAlgorithm, Listener, Media, MediaKeepAlive, Password, Phone, Role, Upstream, User};
use proxy::question::{Address, Answer, Kind, Naptr, Question, Records, Srv};
use proxy::{Config, Input, Output, Proxy, Work};
use registry::snapshot::{self, Place, Portable};
use wire::{Flow, ListenerId, Transmit, Transport};

/// What a transcript's head asks for.
#[derive(Default)]
pub(crate) struct Head {
    /// Accounts of the standalone role.
    pub(crate) users: Vec<User>,
    /// What they are challenged with, if not the usual.
    pub(crate) digest: Vec<DigestAlgorithm>,
    /// Show pings to phones, and leave their answers to the transcript.
    pub(crate) phone_pings: bool,
    /// Show pings to the upstream, and leave their answers to the transcript.
    pub(crate) upstream_pings: bool,
    /// STUN says nothing.
    pub(crate) unmapped: bool,
    /// Ports are bound when the transcript says so.
    pub(crate) slow_ports: bool,
    /// What is asserted from this address is believed.
    pub(crate) trusted: Option<String>,
    /// The upstream's name and its addresses, instead of a numeric one.
    pub(crate) upstream: Option<(String, Vec<IpAddr>)>,
    /// Upstreams instead of the usual one.
    pub(crate) upstreams: Vec<Upstream>,
    /// What the resolver knows: a name, a kind, and the rest of the record.
    pub(crate) dns: Vec<(String, String, Vec<String>)>,
    /// Passwords of phones at the upstream.
    pub(crate) passwords: Vec<(usize, String)>,
    /// The upstream answers STUN on its SIP port.
    pub(crate) stun: bool,
    /// Host names of ours.
    pub(crate) names: Vec<String>,
    /// Phones that are known by their address.
    pub(crate) phones_at: Vec<(usize, nat::Prefix)>,
    /// The upstream is reached over this.
    pub(crate) upstream_by: Option<Transport>,
    /// Listeners beside UDP and TCP.
    pub(crate) listens: Vec<(String, Transport)>,
    /// The network of this side is trusted.
    pub(crate) secure: Option<String>,
}

pub(crate) struct World {
    proxy: Proxy,
    config: Arc<Config>,
    head: Head,
    start: Instant,
    now: Instant,
    streams: Vec<(media::StreamId, u32)>,
    /// Ports asked for and not bound yet.
    asked: Vec<ports::Command>,
    /// The number of the connection to each peer of a listener.
    connections: BTreeMap<(ListenerId, SocketAddr), u32>,
    /// Connections that nothing but hidden pings went over yet.
    unseen: BTreeMap<Flow, String>,
    /// Whose pings are not answered now.
    silent: BTreeSet<IpAddr>,
    sent: BTreeSet<(SocketAddr, Vec<u8>)>,
    /// Where the outer listener is seen.
    seen: SocketAddr,
}

/// The addresses of the three roles, as in the README. `users`: standalone with accounts.
pub(crate) fn config(role: &str, users: Vec<User>) -> Config {
    let listener = |side, bind: &str, advertise| Listener {
        side,
        transport: Transport::Udp,
        accepts: true,
        secure: false,
        bind: bind.parse().expect("an address"),
        advertise,
        advertise_port: None,
        phone: None,
        retired: false,
    };
    let phone = |name: &str, range, max_calls| Phone {
        name: name.into(),
        user: Some(name.into()),
        range: Some(RangeId(range)),
        max_calls,
        ..Phone::default()
    };
    let upstream = |host: &str| Upstream {
        host: host.into(),
        port: Some(5060),
        transport: None,
        sips: false,
        domain: None,
        comedia: false,
        default_phone: None,
        fallback: Vec::new(),
    };
    let (role, listeners, upstreams) = match role {
        "border" => (
            Role::Border,
            vec![
                listener(Side::Inner, "10.0.0.2:5060", Advertise::Listen),
                listener(Side::Outer, "203.0.113.30:5060", Advertise::Listen),
            ],
            vec![upstream("10.0.0.5")],
        ),
        "office" => (
            Role::Office,
            vec![
                listener(Side::Inner, "192.168.1.2:5060", Advertise::Listen),
                listener(Side::Outer, "192.168.1.2:5070", Advertise::Stun),
            ],
            vec![upstream("203.0.113.5")],
        ),
        _ => (Role::Standalone, vec![listener(Side::Inner, "192.168.1.2:5060", Advertise::Listen)], vec![]),
    };
    Config {
        role,
        listeners,
        upstreams,
        networks: vec![],
        phones: vec![phone("reception", 1, Some(1)), phone("booth", 2, None)],
        users,
        digest: DigestAlgorithm::PREFERRED.to_vec(),
        media: Media {
            ranges: vec![
                PortRange { first: 30000, last: 30099 },
                PortRange { first: 30100, last: 30115 },
                PortRange { first: 30116, last: 30119 },
            ],
            keepalive: MediaKeepAlive::Stun,
            timeout: Duration::from_secs(60),
            workers: 1,
            reserve: 4,
        },
        names: vec![],
        limits: wire::sip::Limits::default(),
    }
}

/// TCP wherever there is UDP, as the configuration makes it, and what the head asks for.
fn beside(udp: &[Listener], head: &Head) -> Vec<Listener> {
    let on = |listener: &Listener, transport, port| {
        let bind = SocketAddr::new(listener.bind.ip(), port);
        Listener { transport, bind, ..listener.clone() }
    };
    let tcp = udp.iter().map(|listener| on(listener, Transport::Tcp, listener.bind.port()));
    let asked = head.listens.iter().flat_map(|(side, transport)| {
        let port = match transport {
            Transport::Udp | Transport::Tcp => 5062,
            Transport::Tls => 5061,
            Transport::Ws => 5080,
            Transport::Wss => 5443,
        };
        udp.iter().filter(move |l| l.side.as_str() == side).map(move |l| on(l, *transport, port))
    });
    tcp.chain(asked).collect()
}

/// How STUN and the provider see the outer listener of the office.
const MAPPED: &str = "198.51.100.7:41070";
/// Whom sockets of a call ask where they are seen.
const STUN: &str = "203.0.113.10:3478";

/// The answer to a ping.
pub(crate) fn pong(ping: &[u8]) -> Vec<u8> {
    let ping = String::from_utf8_lossy(ping);
    let lines = ping.split("\r\n").skip(1).filter(|line| !line.starts_with("Max-Forwards"));
    format!("SIP/2.0 200 OK\r\n{}", lines.collect::<Vec<_>>().join("\r\n")).into_bytes()
}

impl World {
    pub(crate) fn new(role: &str, head: Head) -> Self {
        let mut config = config(role, head.users.clone());
        if let (Some(upstream), Some((name, _))) = (config.upstreams.first_mut(), &head.upstream) {
            upstream.host.clone_from(name);
        }
        if !head.digest.is_empty() {
            config.digest.clone_from(&head.digest);
        }
        config.listeners.extend(beside(&config.listeners, &head));
        for listener in &mut config.listeners {
            listener.secure = head.secure.as_deref() == Some(listener.side.as_str());
        }
        if let (Some(upstream), Some(transport)) = (config.upstreams.first_mut(), head.upstream_by) {
            upstream.transport = Some(transport);
        }
        if !head.upstreams.is_empty() {
            config.upstreams.clone_from(&head.upstreams);
        }
        config.names.clone_from(&head.names);
        for (phone, password) in &head.passwords {
            config.phones[*phone].password = Some(Password(password.clone()));
        }
        for (phone, prefix) in &head.phones_at {
            let phone = &mut config.phones[*phone];
            (phone.user, phone.address) = (None, Some(*prefix));
        }
        config.networks.extend(head.trusted.iter().map(|ip| Network {
            prefix: Prefix { ip: ip.parse().expect("an address"), bits: 32 },
            side: None,
            advertise: None,
            latch: false,
            media: nat::MediaMode::Relay,
            trusted: true,
        }));
        let config = Arc::new(config);
        let now = Instant::now();
        let proxy = Proxy::new(now, config.clone(), [1; 32], [2; 32]);
        let mut world = Self {
            proxy,
            config,
            head,
            start: now,
            now,
            streams: Vec::new(),
            asked: Vec::new(),
            connections: BTreeMap::new(),
            unseen: BTreeMap::new(),
            silent: BTreeSet::new(),
            sent: BTreeSet::new(),
            seen: MAPPED.parse().expect("an address"),
        };
        world.drain(&mut Vec::new());
        if role == "office" && !world.head.unmapped {
            world.input(Input::StunServers(vec![STUN.parse().expect("an address")]));
            world.mapped(MAPPED);
        }
        world
    }

    /// A datagram from a peer; what it leads to.
    pub(crate) fn receive(&mut self, side: &str, remote: &str, bytes: &[u8]) -> Vec<String> {
        let flow = self.flow(side, remote);
        let mut out = Vec::new();
        if flow.transport.reliable() && !self.connections.contains_key(&(flow.listener, flow.remote)) {
            out = self.opened(side, remote, Vec::new());
        }
        let flow = self.flow(side, remote);
        out.extend(self.input(Input::Received { flow, bytes }));
        out
    }

    /// A connection comes in, from somebody whose certificate proves these names.
    pub(crate) fn opened(&mut self, side: &str, remote: &str, peer: Vec<String>) -> Vec<String> {
        let flow = self.flow(side, remote);
        let connection = self.connections.len() as u32 + 1;
        self.connections.insert((flow.listener, flow.remote), connection);
        self.input(Input::Opened { flow: Flow { connection, ..flow }, peer })
    }

    /// A connection ends.
    pub(crate) fn closed(&mut self, side: &str, remote: &str) -> Vec<String> {
        let flow = self.flow(side, remote);
        self.connections.remove(&(flow.listener, flow.remote));
        self.input(Input::Closed { flow })
    }

    /// A CRLF comes back over a connection.
    pub(crate) fn crlf(&mut self, side: &str, remote: &str) -> Vec<String> {
        let flow = self.flow(side, remote);
        self.input(Input::Pong { flow })
    }

    /// STUN says that the outer listener is seen as this address.
    pub(crate) fn mapped(&mut self, address: &str) -> Vec<String> {
        self.behind(address);
        let mapped = Mapped(self.seen);
        self.input(Input::Mapped { listener: ListenerId(1), mapped: Some(mapped) })
    }

    /// The outer listener is seen as this address, and nobody has said so yet.
    pub(crate) fn behind(&mut self, address: &str) -> Vec<String> {
        self.seen = address.parse().expect("an address");
        Vec::new()
    }

    /// The last message to a peer could not be sent.
    pub(crate) fn unsent(&mut self, side: &str, remote: &str) -> Vec<String> {
        let flow = self.flow(side, remote);
        self.input(Input::Unsent { flow })
    }

    /// The ports that were asked for are bound.
    pub(crate) fn bind_ports(&mut self) -> Vec<String> {
        let mut out = Vec::new();
        for command in std::mem::take(&mut self.asked) {
            self.ports(command);
            self.drain(&mut out);
        }
        out
    }

    /// Messages wait for so long before they are read.
    pub(crate) fn lag(&mut self, lag: Duration) -> Vec<String> {
        self.input(Input::Lag(lag))
    }

    /// The daemon stops.
    pub(crate) fn stop(&mut self) -> Vec<String> {
        self.input(Input::Stop)
    }

    /// From now on the pings to an address are answered, or not.
    pub(crate) fn pings_answered(&mut self, ip: &str, answered: bool) -> Vec<String> {
        let ip = ip.parse().expect("an address");
        if answered {
            self.silent.remove(&ip);
        } else {
            self.silent.insert(ip);
        }
        Vec::new()
    }

    /// The process is killed, and another one starts with its snapshot.
    pub(crate) fn restart(&mut self) -> Vec<String> {
        let place = |l: &Listener| Place { side: l.side, transport: l.transport, bind: l.bind };
        let places: Vec<Place> = self.config.listeners.iter().map(place).collect();
        let kept = self.proxy.registry().records().filter(snapshot::outlives).map(|record| {
            let mut text = Vec::new();
            assert!(snapshot::write(&record, self.now, &places, &mut text), "its listeners are configured");
            let portable: Portable = serde_json::from_slice(&text).expect("what was written");
            portable.restore(self.now, Duration::ZERO, &places).expect("nothing has run out")
        });
        let records = kept.collect();
        self.proxy = Proxy::new(self.now, self.config.clone(), [1; 32], [3; 32]);
        self.streams.clear();
        let mut out = self.input(Input::Restore(records));
        if self.config.role == Role::Office && !self.head.unmapped {
            out.extend(self.mapped(MAPPED));
        }
        out
    }

    /// What the machine holds.
    pub(crate) fn work(&self) -> Work {
        self.proxy.work()
    }

    /// Port pairs in use.
    pub(crate) fn live_ports(&self) -> usize {
        self.proxy.ports().map(|(_, _, counts)| counts.live).sum()
    }

    /// `side` or `side/transport`.
    fn flow(&self, side: &str, remote: &str) -> Flow {
        let (side, transport) = side.split_once('/').unwrap_or((side, "udp"));
        let transport = Transport::named(transport.as_bytes()).expect("a transport");
        let speaks = |l: &Listener| l.side.as_str() == side && l.transport == transport;
        let index = self.config.listeners.iter().position(speaks).expect("a listener of that side and transport");
        let listener = ListenerId(index as u16);
        let remote = remote.parse().expect("an address");
        let connection = self.connections.get(&(listener, remote)).copied().unwrap_or_default();
        Flow { transport, listener, connection, local: self.config.listeners[index].bind, remote }
    }

    /// How a transcript names the far end of a flow.
    fn place(&self, flow: Flow) -> String {
        let side = self.config.side(flow.listener).as_str();
        let by = flow.transport.via().to_ascii_lowercase();
        if flow.transport == Transport::Udp {
            format!("{side} {}", flow.remote)
        } else {
            format!("{side}/{by} {}", flow.remote)
        }
    }

    fn input(&mut self, input: Input<'_>) -> Vec<String> {
        self.proxy.handle_input(self.now, input);
        let mut out = Vec::new();
        self.drain(&mut out);
        out
    }

    /// Is it a ping of ours (OPTIONS), which peers answer unless the head says otherwise?
    fn answers(&self, transmit: &Transmit) -> bool {
        let text = String::from_utf8_lossy(&transmit.bytes);
        let upstream = self.config.upstreams.iter().any(|u| text.starts_with(&format!("OPTIONS {}", u.uri())));
        let shown = if upstream { self.head.upstream_pings } else { self.head.phone_pings };
        !shown && text.starts_with("OPTIONS ") && text.contains("\r\nFrom: <sip:siplatch@")
    }

    /// Time passes; what happens meanwhile.
    pub(crate) fn wait(&mut self, time: Duration) -> Vec<String> {
        let end = self.now + time;
        let mut out = Vec::new();
        while let Some(at) = self.proxy.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.proxy.handle_timeout(self.now);
            let before = out.len();
            self.drain(&mut out);
            if out.len() > before {
                out.insert(before, format!("*** at {:.3} s", (self.now - self.start).as_secs_f64()));
            }
        }
        self.now = end;
        out
    }

    /// No media for a minute, as the worker would report it.
    pub(crate) fn silence(&mut self) -> Vec<String> {
        let streams: Vec<_> = self.streams.clone();
        let mut out = Vec::new();
        for (stream, epoch) in streams {
            self.proxy.handle_input(self.now, Input::Fact(media::Fact::Silent { stream, epoch }));
            self.drain(&mut out);
        }
        out
    }

    fn drain(&mut self, out: &mut Vec<String>) {
        while let Some(output) = self.proxy.poll_output() {
            match output {
                Output::Transmit(transmit) if self.answers(&transmit) => {
                    if self.silent.contains(&transmit.flow.remote.ip()) {
                        continue;
                    }
                    let answer = pong(&transmit.bytes);
                    self.proxy.handle_input(self.now, Input::Received { flow: transmit.flow, bytes: &answer });
                }
                Output::Transmit(transmit) => {
                    let place = self.place(transmit.flow);
                    if transmit.bytes == b"\r\n\r\n" {
                        if !self.unseen.contains_key(&transmit.flow) {
                            out.push(format!("*** ping {place}"));
                        }
                        continue;
                    }
                    out.extend(self.unseen.remove(&transmit.flow));
                    let text = String::from_utf8_lossy(&transmit.bytes).replace("\r\n", "\n");
                    let (to, first) = (transmit.flow.remote, text.lines().next().unwrap_or_default());
                    out.push(if self.sent.contains(&(to, transmit.bytes.clone())) {
                        format!("*** the same octets again to {place}: {first}")
                    } else {
                        format!(">>> {place}\n{text}")
                    });
                    self.sent.insert((to, transmit.bytes));
                }
                Output::Doubt { .. } => {}
                Output::KeepAlive(Transmit { flow, bytes }) => {
                    if self.head.upstream_pings {
                        out.push(format!("*** STUN Binding request to {}", self.place(flow)));
                    }
                    let answer = wire::stun::answer(&bytes, self.seen).filter(|_| self.head.stun);
                    if let Some(bytes) = answer.filter(|_| !self.silent.contains(&flow.remote.ip())) {
                        assert!(self.proxy.asked_stun(flow, &bytes));
                        self.proxy.handle_input(self.now, Input::Stun { flow, bytes: &bytes });
                    }
                }
                Output::Connect { flow, name, .. } => {
                    self.connections.insert((flow.listener, flow.remote), flow.connection);
                    self.unseen.insert(flow, format!("*** connect to {} for {name}", self.place(flow)));
                }
                Output::Close { flow } if self.unseen.remove(&flow).is_some() => {}
                Output::Close { flow } => out.push(format!("*** close {}", self.place(flow))),
                Output::Proven { .. } => {}
                Output::Media(command) => self.media(&command, out),
                Output::Ports(command) if self.head.slow_ports => self.asked.push(command),
                Output::Ports(command) => self.ports(command),
                Output::Resolve(question) => self.resolve(question),
                Output::Changed(_) | Output::Observed(_) | Output::Traced(_) => {}
            }
        }
    }

    /// A resolver that knows what the head says.
    fn resolve(&mut self, question: Question) {
        let local = self.config.listeners[0].bind.ip();
        let upstream = self.head.upstream.iter().filter(|(name, _)| *name == question.name);
        let mut addresses: Vec<IpAddr> = upstream.flat_map(|(_, ips)| ips.clone()).collect();
        let (mut naptr, mut srv) = (Vec::new(), Vec::new());
        for (name, kind, words) in &self.head.dns {
            let number = |index: usize| words[index].parse::<u16>().expect("a number");
            match kind.as_str() {
                _ if *name != question.name => {}
                "A" | "AAAA" => addresses.extend(words.iter().map(|ip| ip.parse::<IpAddr>().expect("an address"))),
                "SRV" => {
                    let (priority, weight, port) = (number(0), number(1), number(2));
                    srv.push(Srv { priority, weight, port, target: words[3].clone() });
                }
                "NAPTR" => naptr.push(Naptr {
                    order: number(0),
                    preference: number(1),
                    flags: words[2].clone(),
                    service: words[3].clone(),
                    replacement: words[4].clone(),
                }),
                _ => panic!("what is a record {kind}?"),
            }
        }
        let records = match question.kind {
            Kind::Naptr => (!naptr.is_empty()).then_some(Records::Naptr(naptr)),
            Kind::Srv => (!srv.is_empty()).then_some(Records::Srv(srv)),
            Kind::Addresses => (!addresses.is_empty())
                .then(|| Records::Addresses(addresses.into_iter().map(|remote| Address { remote, local }).collect())),
        };
        let ttl = Duration::from_secs(60);
        let answer = records.map_or(Answer::Nothing { ttl }, |records| Answer::Found { records, ttl });
        self.proxy.handle_input(self.now, Input::Resolved { question, answer });
    }

    fn ports(&mut self, command: ports::Command) {
        if let ports::Command::Bind { pair, discover } = command {
            self.proxy.handle_input(self.now, Input::Ports(ports::Event::Bound { pair }));
            if discover {
                let mapped = |port: u16| Mapped(([198, 51, 100, 7], port).into());
                let event =
                    ports::Event::Mapped { pair, rtp: mapped(pair.rtp + 10_000), rtcp: mapped(pair.rtp + 10_001) };
                self.proxy.handle_input(self.now, Input::Ports(event));
            }
        }
    }

    fn media(&mut self, command: &media::Command, out: &mut Vec<String>) {
        use media::Command::{Ask, Carry, Close, Formats, Join, Open, Part, Replace, Splice, Update};
        let target = |plan: &media::LegPlan| match plan.target {
            Some(target) => format!("{} to {}", plan.pair.rtp(), target.rtp()),
            None => format!("{} to nowhere yet", plan.pair.rtp()),
        };
        match command {
            Open { stream, legs, epoch, .. } => {
                self.streams.push((*stream, *epoch));
                out.push(format!("*** open stream {}: {} | {}", stream.slot, target(&legs[0]), target(&legs[1])));
            }
            Update { stream, legs, epoch, rearm, timeout } => {
                if let Some(known) = self.streams.iter_mut().find(|(s, _)| s == stream) {
                    known.1 = *epoch;
                }
                out.push(format!(
                    "*** update stream {}: {} | {}{}{}",
                    stream.slot,
                    target(&legs[0]),
                    target(&legs[1]),
                    if *rearm { ", latches re-armed" } else { ", latches kept" },
                    if timeout.is_some() { "" } else { ", no timeout" },
                ));
            }
            Join { a, b } => out.push(format!("*** join stream {} and stream {}", a.0.slot, b.0.slot)),
            Carry { stream, proto } => out.push(format!("*** stream {} carries {proto:?}", stream.slot)),
            // For figures only; nothing is sent because of it.
            Formats { .. } => {}
            Replace { stream, end } => out.push(format!("*** stream {} has another peer at end {end:?}", stream.slot)),
            Splice { stream, splice: Some(splice) } => {
                let legs = splice.legs.each_ref().map(|leg| match leg.part {
                    media::Part::Listen => format!("{} listens", leg.at),
                    media::Part::Dial(to) => format!("{} connects to {to}", leg.at),
                    media::Part::Face(to, end) => format!("{} faces end {end:?} of stream {}", leg.at, to.slot),
                    media::Part::Rest => format!("{} rests", leg.at),
                    media::Part::Shut => format!("{} is shut", leg.at),
                });
                let asked = splice.asked.map(|end| format!(", end {end:?} is asked")).unwrap_or_default();
                let (stream, [a, b], round) = (stream.slot, legs, splice.round);
                out.push(format!("*** splice stream {stream}, connections of offer {round}: {a} | {b}{asked}"));
            }
            Splice { stream, splice: None } => out.push(format!("*** stream {} is of TCP no more", stream.slot)),
            Ask { stream, end, server, transactions: _ } => {
                out.push(format!("*** stream {} asks {server} where its end {end:?} is seen", stream.slot));
                for (component, port) in [(media::Component::Rtp, 45_000), (media::Component::Rtcp, 45_777)] {
                    let mapped = Mapped(SocketAddr::new(self.seen.ip(), port + stream.slot as u16));
                    let fact = media::Fact::Mapped { stream: *stream, end: *end, component, mapped };
                    self.proxy.handle_input(self.now, Input::Fact(fact));
                }
            }
            Part { stream } => out.push(format!("*** part stream {}", stream.slot)),
            Close { stream, told: _ } => {
                self.streams.retain(|(s, _)| s != stream);
                out.push(format!("*** close stream {}", stream.slot));
                let fact = media::Fact::Closed { stream: *stream, legs: Default::default() };
                self.proxy.handle_input(self.now, Input::Fact(fact));
            }
        }
    }
}
