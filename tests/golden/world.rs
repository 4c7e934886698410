//! A proxy with its ports bound at once and its outputs written as text.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use media::{PortRange, RangeId, ports};
use nat::{Advertise, Mapped, Side};
use proxy::config::{Listener, Media, MediaKeepAlive, Phone, Role, Upstream, User};
use proxy::{Config, Input, Location, Output, Proxy, Work};
use wire::{Flow, ListenerId, Transmit, Transport};

/// What a transcript's head asks for.
#[derive(Default)]
pub(crate) struct Head {
    /// Accounts of the standalone role.
    pub(crate) users: Vec<User>,
    /// Show pings to phones, and leave their answers to the transcript.
    pub(crate) phone_pings: bool,
    /// Show pings to the upstream, and leave their answers to the transcript.
    pub(crate) upstream_pings: bool,
    /// STUN says nothing.
    pub(crate) unmapped: bool,
    /// The upstream's name and its addresses, instead of a numeric one.
    pub(crate) upstream: Option<(String, Vec<IpAddr>)>,
}

pub(crate) struct World {
    proxy: Proxy,
    config: Arc<Config>,
    head: Head,
    start: Instant,
    now: Instant,
    streams: Vec<(media::StreamId, u32)>,
    sent: BTreeSet<(SocketAddr, Vec<u8>)>,
}

/// The addresses of the three roles, as in the README. `users`: standalone with accounts.
fn config(role: &str, users: Vec<User>) -> Config {
    let listener = |side, bind: &str, advertise| Listener {
        side,
        transport: Transport::Udp,
        accepts: true,
        secure: false,
        bind: bind.parse().expect("an address"),
        advertise,
        advertise_port: None,
        phone: None,
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
        port: 5060,
        transport: Transport::Udp,
        domain: None,
        comedia: false,
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
        limits: wire::sip::Limits::default(),
    }
}

/// How STUN and the provider see the outer listener of the office.
const MAPPED: &str = "198.51.100.7:41070";

/// The answer to a ping.
fn pong(ping: &[u8]) -> Vec<u8> {
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
        let config = Arc::new(config);
        let now = Instant::now();
        let proxy = Proxy::new(now, config.clone(), [1; 32], [2; 32]);
        let mut world = Self { proxy, config, head, start: now, now, streams: Vec::new(), sent: BTreeSet::new() };
        world.drain(&mut Vec::new());
        if role == "office" && !world.head.unmapped {
            world.mapped(MAPPED);
        }
        world
    }

    /// A datagram from a peer; what it leads to.
    pub(crate) fn receive(&mut self, side: &str, remote: &str, bytes: &[u8]) -> Vec<String> {
        let flow = self.flow(side, remote);
        self.input(Input::Received { flow, bytes })
    }

    /// STUN says that the outer listener is seen as this address.
    pub(crate) fn mapped(&mut self, address: &str) -> Vec<String> {
        let mapped = Mapped(address.parse().expect("an address"));
        self.input(Input::Mapped { listener: ListenerId(1), mapped: Some(mapped) })
    }

    /// The last message to a peer could not be sent.
    pub(crate) fn unsent(&mut self, side: &str, remote: &str) -> Vec<String> {
        let flow = self.flow(side, remote);
        self.input(Input::Unsent { flow })
    }

    /// The daemon stops.
    pub(crate) fn stop(&mut self) -> Vec<String> {
        self.input(Input::Stop)
    }

    /// What the machine holds.
    pub(crate) fn work(&self) -> Work {
        self.proxy.work()
    }

    /// Port pairs in use.
    pub(crate) fn live_ports(&self) -> usize {
        self.proxy.ports().map(|(_, _, counts)| counts.live).sum()
    }

    fn flow(&self, side: &str, remote: &str) -> Flow {
        let index =
            self.config.listeners.iter().position(|l| l.side.as_str() == side).expect("a listener on that side");
        Flow {
            transport: Transport::Udp,
            listener: ListenerId(index as u16),
            connection: 0,
            local: self.config.listeners[index].bind,
            remote: remote.parse().expect("an address"),
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
        let upstream = self.config.upstreams.iter().any(|u| text.starts_with(&format!("OPTIONS sip:{}:", u.host)));
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
                    let answer = pong(&transmit.bytes);
                    self.proxy.handle_input(self.now, Input::Received { flow: transmit.flow, bytes: &answer });
                }
                Output::Transmit(transmit) => {
                    let side = self.config.side(transmit.flow.listener);
                    let text = String::from_utf8_lossy(&transmit.bytes).replace("\r\n", "\n");
                    let (to, first) = (transmit.flow.remote, text.lines().next().unwrap_or_default());
                    out.push(if self.sent.contains(&(to, transmit.bytes.clone())) {
                        format!("*** the same octets again to {} {to}: {first}", side.as_str())
                    } else {
                        format!(">>> {} {to}\n{text}", side.as_str())
                    });
                    self.sent.insert((to, transmit.bytes));
                }
                Output::Connect { flow, name } => {
                    out.push(format!("*** connect {} {} for {name}", flow.transport.via(), flow.remote));
                }
                Output::Close { flow } => {
                    out.push(format!("*** close {} {}", flow.transport.via(), flow.remote));
                }
                Output::Proven { .. } => {}
                Output::Media(command) => self.media(&command, out),
                Output::Ports(command) => self.ports(command),
                Output::Locate { host, port, listener } => self.locate(host, port, listener),
                Output::Changed(_) | Output::Observed(_) => {}
            }
        }
    }

    /// A resolver that knows the upstream only.
    fn locate(&mut self, host: String, port: u16, listener: ListenerId) {
        let local = self.config.listeners[usize::from(listener.0)].bind.ip();
        let known = self.head.upstream.iter().filter(|(name, _)| *name == host).flat_map(|(_, ips)| ips);
        let locations = known.map(|ip| Location { remote: SocketAddr::new(*ip, port), local }).collect();
        self.proxy.handle_input(self.now, Input::Located { host, port, locations });
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
        use media::Command::{Carry, Close, Join, Open, Part, Update};
        let target = |plan: &media::LegPlan| match plan.target {
            Some(target) => format!("{} to {}", plan.pair.rtp(), target.rtp),
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
            Part { stream } => out.push(format!("*** part stream {}", stream.slot)),
            Close { stream } => {
                self.streams.retain(|(s, _)| s != stream);
                out.push(format!("*** close stream {}", stream.slot));
                let fact = media::Fact::Closed { stream: *stream, legs: Box::default() };
                self.proxy.handle_input(self.now, Input::Fact(fact));
            }
        }
    }
}
