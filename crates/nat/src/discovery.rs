//! Discovery: which address do STUN servers see for our sockets?
//!
//! Decides which mapped address is believed (RFC 8489 §2, §6), for any number
//! of sockets at once, and when to ask again; asking again also keeps the NAT
//! mapping warm. Believed is an IP that two servers report, or that one server
//! reports twice while no other contradicts; of the servers that agree, the
//! first in the configured order (or the one relied on so far) gives the port.
//! An address that changes must be confirmed the same way before it is
//! reported. Servers that go silent change nothing for ten minutes.
//!
//! It must not open sockets, resolve names, or believe an answer because it
//! was the first to arrive (RFC 8489 §16.1.2): ids are random, sources must
//! match, fingerprints must fit, and no loopback, multicast or unspecified
//! address is ever taken for a mapped one.
//!
//! Each socket has at most one request under way to each server, so the ten
//! that §6.2 allows a client toward one server are never reached.

mod evidence;
#[cfg(test)]
mod tests;
mod transaction;
mod watched;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng as _;

use crate::Mapped;
use watched::{Context, Watched};

/// The most servers that are asked; further ones in a list are left out.
pub const MAX_SERVERS: usize = 8;

/// A socket that addresses are found for. The number is the caller's and is only handed back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(pub u64);

/// What the operator decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// A known address is asked for again after 80 to 100 % of this; below
    /// 30 s it keeps the NAT mapping warm as well.
    pub refresh: Duration,
    /// The same for sockets that are watched as `fast` (signalling).
    pub fast_refresh: Duration,
    /// Private mapped addresses are believed: the upstream is private, or a
    /// `[[network]]` names the range.
    pub accept_private: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { refresh: Duration::from_secs(15), fast_refresh: Duration::from_secs(5), accept_private: false }
    }
}

/// What happens to discovery.
#[derive(Debug, Clone)]
pub enum Input<'a> {
    /// The servers, resolved, in the configured order, of the sockets' address
    /// family. A list that differs from the one before starts a new check.
    Servers(Vec<SocketAddr>),
    /// Find the mapped address of this socket, and keep knowing it.
    Watch {
        /// Which socket.
        socket: SocketId,
        /// It carries signalling: ask again after `fast_refresh`.
        fast: bool,
    },
    /// The socket is closed, or is no longer ours to ask from.
    Forget {
        /// Which socket.
        socket: SocketId,
    },
    /// Something on this socket's uplink has gone silent: ask now whether its address is what it was.
    Doubt {
        /// Which socket.
        socket: SocketId,
    },
    /// The uplink has changed: ask now for all sockets.
    DoubtAll,
    /// A STUN packet arrived.
    Received {
        /// The socket that it arrived on.
        socket: SocketId,
        /// Its source.
        from: SocketAddr,
        /// The whole datagram.
        packet: &'a [u8],
    },
}

/// What an operator should hear about (doctor, metrics). Each is raised once
/// per episode, [`Finding::Forged`] per packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Finding {
    /// Servers report different IPs: several uplinks, or one that lies.
    ServersDisagreeOnIp,
    /// Servers report the same IP and different ports: the mapping depends on
    /// the destination (RFC 4787 §4.1, "symmetric"), so the port that media
    /// peers will see cannot be foretold.
    ServersDisagreeOnPort,
    /// The mapped address is private and was not believed: another NAT beyond
    /// ours, or a server inside.
    PrivateMapped(IpAddr),
    /// A server gave no usable answer: none within 39.5 s, or an error. Raised
    /// once until it answers again.
    NoAnswer(SocketAddr),
    /// XOR-MAPPED-ADDRESS and MAPPED-ADDRESS differ: an ALG rewrites packets (RFC 8489 §14.2).
    XorDiffersFromMapped,
    /// A response with a wrong transaction id, source or FINGERPRINT, or with
    /// an address that no NAT can map to.
    Forged,
}

/// Does the mapped port depend on whom a packet goes to (RFC 4787 §4.1)?
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Mapping {
    /// Only one server has answered.
    #[default]
    Unknown,
    /// No: servers see the same port.
    Independent,
    /// Yes ("symmetric"): they see different ones, and what other peers will see cannot be foretold.
    Dependent,
}

/// What discovery wants done, or has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send this from this socket.
    Transmit {
        /// From which socket.
        socket: SocketId,
        /// To which server.
        to: SocketAddr,
        /// The datagram.
        bytes: Vec<u8>,
    },
    /// The mapped address of a socket is known.
    Mapped {
        /// Which socket.
        socket: SocketId,
        /// The address.
        mapped: Mapped,
        /// It differs from the one reported before.
        changed: bool,
    },
    /// The mapped address of a socket is no longer known.
    Unmapped {
        /// Which socket.
        socket: SocketId,
    },
    /// Something worth an operator's attention.
    Finding {
        /// On which socket.
        socket: SocketId,
        /// What.
        finding: Finding,
    },
}

/// STUN Binding client for many sockets (RFC 8489).
#[derive(Debug)]
pub struct Discovery {
    config: Config,
    rng: ChaCha12Rng,
    servers: Vec<SocketAddr>,
    sockets: BTreeMap<SocketId, Watched>,
    /// The next deadline of each socket that has one; exactly one entry each.
    timers: BTreeSet<(Instant, SocketId)>,
    outputs: VecDeque<Output>,
}

impl Discovery {
    /// Nothing watched, no servers. The seed makes transaction ids and jitter.
    pub fn new(config: Config, seed: [u8; 32]) -> Self {
        Self {
            config,
            rng: ChaCha12Rng::from_seed(seed),
            servers: Vec::new(),
            sockets: BTreeMap::new(),
            timers: BTreeSet::new(),
            outputs: VecDeque::new(),
        }
    }

    /// Whether private mapped addresses are believed from now on. What was
    /// believed before is asked for again at its time.
    pub fn accept_private(&mut self, accept: bool) {
        self.config.accept_private = accept;
    }

    /// Takes in one event; drain [`Discovery::poll_output`] afterwards.
    pub fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        match input {
            Input::Servers(servers) => self.replace_servers(now, servers),
            Input::Watch { socket, fast } => {
                let is_new = !self.sockets.contains_key(&socket);
                self.sockets.entry(socket).or_insert_with(|| Watched::new(self.servers.len())).set_fast(fast);
                if is_new {
                    self.with(now, socket, Watched::check);
                }
            }
            Input::Forget { socket } => {
                if let Some(due) = self.sockets.remove(&socket).and_then(|watched| watched.queued()) {
                    self.timers.remove(&(due, socket));
                }
            }
            Input::Doubt { socket } => self.with(now, socket, Watched::refresh),
            Input::DoubtAll => {
                for socket in self.sockets.keys().copied().collect::<Vec<_>>() {
                    self.with(now, socket, Watched::refresh);
                }
            }
            Input::Received { socket, from, packet } => {
                let before = self.mapped(socket);
                self.with(now, socket, |watched, cx| watched.received(cx, from, packet));
                self.spread(now, before, self.mapped(socket));
            }
        }
    }

    /// Sends and gives up what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(&(due, socket)) = self.timers.first() {
            if due > now {
                break;
            }
            self.with(now, socket, Watched::timeout);
        }
    }

    /// The next thing to do, in order; until `None` before the next input.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Discovery::handle_timeout`] is due next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// The mapped address of a socket, if it is known.
    pub fn mapped(&self, socket: SocketId) -> Option<Mapped> {
        self.sockets.get(&socket)?.mapped()
    }

    /// What servers say of the mappings of all sockets: one that depends is enough.
    pub fn mapping(&self) -> Mapping {
        self.sockets.values().map(Watched::mapping).max().unwrap_or_default()
    }

    /// True while no server answers any socket, and nothing is known of any.
    pub fn is_unanswered(&self) -> bool {
        !self.sockets.is_empty() && self.sockets.values().all(Watched::is_unanswered)
    }

    /// True while no server answers any socket, though their addresses may be known from before.
    pub fn is_silent(&self) -> bool {
        !self.sockets.is_empty() && self.sockets.values().all(Watched::is_silent)
    }

    /// One socket is found at another IP: the uplink has changed, and all that
    /// were at the former one are asked for at once.
    fn spread(&mut self, now: Instant, before: Option<Mapped>, after: Option<Mapped>) {
        let ip = |mapped: Option<Mapped>| mapped.map(|mapped| mapped.0.ip());
        if ip(before).is_none() || ip(after).is_none() || ip(before) == ip(after) {
            return;
        }
        let left = |watched: &Watched| ip(watched.mapped()) == ip(before);
        let left: Vec<SocketId> =
            self.sockets.iter().filter(|(_, watched)| left(watched)).map(|(socket, _)| *socket).collect();
        for socket in left {
            self.with(now, socket, Watched::check);
        }
    }

    fn replace_servers(&mut self, now: Instant, mut servers: Vec<SocketAddr>) {
        let mut seen = BTreeSet::new();
        servers.retain(|server| seen.insert(*server));
        servers.truncate(MAX_SERVERS);
        if servers == self.servers {
            return;
        }
        let former = std::mem::replace(&mut self.servers, servers);
        let sockets: Vec<SocketId> = self.sockets.keys().copied().collect();
        for socket in sockets {
            self.with(now, socket, |watched, cx| watched.servers_changed(cx, &former));
        }
    }

    /// Runs one step of a socket's state, and keeps its deadline in the timers.
    fn with(&mut self, now: Instant, socket: SocketId, step: impl FnOnce(&mut Watched, &mut Context<'_>)) {
        let Some(watched) = self.sockets.get_mut(&socket) else { return };
        if let Some(due) = watched.queued() {
            self.timers.remove(&(due, socket));
        }
        let mut cx = Context {
            now,
            socket,
            config: &self.config,
            servers: &self.servers,
            rng: &mut self.rng,
            outputs: &mut self.outputs,
        };
        step(watched, &mut cx);
        if let Some(due) = watched.requeue() {
            self.timers.insert((due, socket));
        }
    }
}
