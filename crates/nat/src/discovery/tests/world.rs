//! Servers and the road to them, in virtual time.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::discovery::{Config, Discovery, Finding, Input, Output, SocketId};

pub(super) const A: &str = "192.0.2.10:3478";
pub(super) const B: &str = "198.51.100.20:3478";
pub(super) const C: &str = "203.0.113.30:3478";
pub(super) const X: &str = "203.0.113.1:41000";
pub(super) const SOCKET: SocketId = SocketId(7);
/// From a request to its answer.
pub(super) const TRIP: Duration = Duration::from_millis(20);

/// What a server does with a request: the packets that come back, and from where.
pub(super) type Replies = Vec<(SocketAddr, Vec<u8>)>;
pub(super) type Servers = Box<dyn FnMut(Duration, SocketId, SocketAddr, &[u8]) -> Replies>;

pub(super) struct World {
    pub(super) discovery: Discovery,
    start: Instant,
    now: Instant,
    servers: Servers,
    flying: BTreeMap<(Instant, usize), (SocketId, SocketAddr, Vec<u8>)>,
    /// All but transmissions.
    pub(super) heard: Vec<(Duration, Output)>,
    pub(super) sent: Vec<(Duration, SocketId, SocketAddr, Vec<u8>)>,
}

impl World {
    pub(super) fn new(
        config: Config,
        list: &[&str],
        servers: impl FnMut(Duration, SocketId, SocketAddr, &[u8]) -> Replies + 'static,
    ) -> Self {
        let start = start();
        let mut world = Self {
            discovery: Discovery::new(config, [3; 32]),
            start,
            now: start,
            servers: Box::new(servers),
            flying: BTreeMap::new(),
            heard: Vec::new(),
            sent: Vec::new(),
        };
        world.input(Input::Servers(list.iter().map(|server| address(server)).collect()));
        world
    }

    /// A world whose one socket is watched from the start.
    pub(super) fn watching(
        list: &[&str],
        servers: impl FnMut(Duration, SocketId, SocketAddr, &[u8]) -> Replies + 'static,
    ) -> Self {
        let mut world = Self::new(Config::default(), list, servers);
        world.input(Input::Watch { socket: SOCKET, fast: false });
        world
    }

    pub(super) fn input(&mut self, input: Input<'_>) {
        self.discovery.handle_input(self.now, input);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.discovery.poll_output() {
            let at = self.now - self.start;
            match output {
                Output::Transmit { socket, to, bytes } => {
                    for (from, packet) in (self.servers)(at, socket, to, &bytes) {
                        self.flying
                            .insert((self.now + TRIP, self.flying.len() + self.sent.len() * 8), (socket, from, packet));
                    }
                    self.sent.push((at, socket, to, bytes));
                }
                other @ (Output::Mapped { .. } | Output::Unmapped { .. } | Output::Finding { .. }) => {
                    self.heard.push((at, other));
                }
            }
        }
    }

    pub(super) fn run_until(&mut self, end: Duration) {
        let end = self.start + end;
        loop {
            let arrival = self.flying.first_key_value().map(|((at, _), _)| *at);
            let next = [arrival, self.discovery.poll_timeout()].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            assert!(next >= self.now, "time goes forward");
            self.now = next;
            if arrival == Some(next)
                && let Some((_, (socket, from, packet))) = self.flying.pop_first()
            {
                self.input(Input::Received { socket, from, packet: &packet });
            } else {
                self.discovery.handle_timeout(self.now);
                self.drain();
                assert!(self.discovery.poll_timeout().is_none_or(|due| due > self.now), "no deadline is left behind");
            }
        }
        self.now = end;
    }

    pub(super) fn mapped(&self) -> Option<SocketAddr> {
        self.discovery.mapped(SOCKET).map(|mapped| mapped.0)
    }

    pub(super) fn findings(&self) -> Vec<Finding> {
        let finding = |(_, output): &(Duration, Output)| match output {
            Output::Finding { finding, .. } => Some(*finding),
            Output::Mapped { .. } | Output::Unmapped { .. } | Output::Transmit { .. } => None,
        };
        self.heard.iter().filter_map(finding).collect()
    }

    /// When which address was reported; `None` for "unmapped".
    pub(super) fn reports(&self) -> Vec<(Duration, Option<(SocketAddr, bool)>)> {
        let report = |(at, output): &(Duration, Output)| match output {
            Output::Mapped { mapped, changed, .. } => Some((*at, Some((mapped.0, *changed)))),
            Output::Unmapped { .. } => Some((*at, None)),
            Output::Finding { .. } | Output::Transmit { .. } => None,
        };
        self.heard.iter().filter_map(report).collect()
    }
}

#[expect(clippy::disallowed_methods, reason = "virtual time has to start somewhere")]
pub(super) fn start() -> Instant {
    Instant::now()
}

pub(super) fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

pub(super) fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// The honest reply of a server that sees `mapped`.
pub(super) fn says(server: SocketAddr, request: &[u8], mapped: &str) -> Replies {
    vec![(server, wire::stun::answer(request, address(mapped)).expect("a request"))]
}

/// A success response with these attributes.
pub(super) fn response(request: &[u8], attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut out = vec![1, 1, 0, 0];
    out.extend_from_slice(&request[4..20]);
    for (kind, value) in attributes {
        out.extend_from_slice(&kind.to_be_bytes());
        out.extend_from_slice(&(value.len() as u16).to_be_bytes());
        out.extend_from_slice(value);
    }
    let length = (out.len() - 20) as u16;
    out[2..4].copy_from_slice(&length.to_be_bytes());
    out
}
