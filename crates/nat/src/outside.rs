//! Does a forward let strangers in? A STUN server with two addresses (RFC 5780)
//! is asked from the very socket, and answers from the address that was never
//! sent to, at the forward's public port. An answer proves the forward; none, from
//! a server that can, says that it is closed.
//!
//! It asks for our own address alone, a few small packets every few minutes.
//! It must not open sockets or read the clock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha12Rng;
use rand_core::{Rng as _, SeedableRng as _};
use wire::stun::behaviour::{Wish, probe};
use wire::stun::read_answer;

use crate::discovery::SocketId;

/// Requests of one question, and the first wait; each further one is twice as long.
const TRIES: u32 = 3;
const WAIT: Duration = Duration::from_millis(500);
/// When a light is looked at again.
const AGAIN_GREEN: Duration = Duration::from_secs(300);
const AGAIN_RED: Duration = Duration::from_secs(60);
/// A forward that was just installed is given so long.
const SETTLE: Duration = Duration::from_millis(200);

/// What was seen of a forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Light {
    /// Nothing: no server can tell.
    #[default]
    Unknown,
    /// A stranger's packet came through.
    Green,
    /// None did.
    Red,
}

impl Light {
    /// In one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Green => "green",
            Self::Red => "red",
        }
    }
}

/// What is to be done, or was seen.
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
    /// A forward's light has changed.
    Light {
        /// Of which socket.
        socket: SocketId,
        /// The forward's public port.
        external: u16,
        /// What was seen.
        light: Light,
    },
}

/// Where the examination of a forward stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// What is this server's other address?
    Learn,
    /// It is asked to answer from there. `port`: to the public port, because the NAT maps the socket to another one.
    Ask { other: SocketAddr, port: bool },
    /// Until it is looked at again.
    Rest,
}

#[derive(Debug)]
struct Forward {
    external: u16,
    light: Light,
    step: Step,
    /// Place in the list of servers.
    server: usize,
    id: [u8; 12],
    sent: u32,
    due: Instant,
}

/// The forwards that are looked at.
#[derive(Debug)]
pub struct Outside {
    rng: ChaCha12Rng,
    servers: Vec<SocketAddr>,
    forwards: BTreeMap<SocketId, Forward>,
    outputs: VecDeque<Output>,
}

impl Outside {
    /// Nothing to look at, nobody to ask.
    pub fn new(seed: [u8; 32]) -> Self {
        let rng = ChaCha12Rng::from_seed(seed);
        Self { rng, servers: Vec::new(), forwards: BTreeMap::new(), outputs: VecDeque::new() }
    }

    /// The servers, resolved, of the sockets' address family.
    pub fn servers(&mut self, now: Instant, servers: Vec<SocketAddr>) {
        if servers != self.servers {
            self.servers = servers;
            for forward in self.forwards.values_mut() {
                forward.begin(now + SETTLE);
            }
        }
    }

    /// All forwards that are to be looked at: which socket, by which public port.
    pub fn watch(&mut self, now: Instant, forwards: &[(SocketId, u16)]) {
        let kept: BTreeSet<SocketId> = forwards.iter().map(|(socket, _)| *socket).collect();
        self.forwards.retain(|socket, _| kept.contains(socket));
        for (socket, external) in forwards {
            let forward = self.forwards.entry(*socket).or_insert_with(|| Forward::new(now + SETTLE, *external));
            if forward.external != *external {
                *forward = Forward::new(now + SETTLE, *external);
            }
        }
    }

    /// True when a packet from this IP may be an answer to a question here.
    pub fn expects(&self, from: SocketAddr) -> bool {
        self.forwards.values().any(|forward| match forward.step {
            Step::Ask { other, .. } => other.ip() == from.ip(),
            Step::Learn => self.servers.get(forward.server) == Some(&from),
            Step::Rest => false,
        })
    }

    /// A STUN response came. False: it is nobody's here.
    pub fn received(&mut self, now: Instant, socket: SocketId, from: SocketAddr, packet: &[u8]) -> bool {
        let Some(forward) = self.forwards.get_mut(&socket) else { return false };
        let Ok(answer) = read_answer(packet) else { return false };
        if answer.transaction != forward.id || forward.sent == 0 {
            return false;
        }
        let server = self.servers.get(forward.server).copied();
        match forward.step {
            Step::Learn if server == Some(from) => match (answer.other, answer.xor_mapped, answer.error) {
                (Some(other), Some(mapped), None) if other.ip() != from.ip() => {
                    forward.step = Step::Ask { other, port: mapped.port() != forward.external };
                    forward.ask_at(now);
                }
                _ => self.next_server(now, socket),
            },
            Step::Ask { other, .. } if from.ip() == other.ip() && answer.error.is_none() => {
                self.seen(now, socket, Light::Green);
            }
            // It does not know what was wished.
            Step::Ask { .. } if server == Some(from) && answer.error.is_some() => self.next_server(now, socket),
            Step::Learn | Step::Ask { .. } | Step::Rest => return false,
        }
        self.send_due(now);
        true
    }

    /// Sends and gives up what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.send_due(now);
    }

    /// The next thing to do; until `None` before the next input.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Outside::handle_timeout`] is due next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.forwards.values().map(|forward| forward.due).min()
    }

    fn send_due(&mut self, now: Instant) {
        let due = |(socket, forward): (&SocketId, &Forward)| (forward.due <= now).then_some(*socket);
        let sockets: Vec<SocketId> = self.forwards.iter().filter_map(due).collect();
        for socket in sockets {
            self.step(now, socket);
        }
    }

    fn step(&mut self, now: Instant, socket: SocketId) {
        let Some(forward) = self.forwards.get_mut(&socket) else { return };
        if forward.step == Step::Rest {
            forward.begin(now);
        }
        if forward.sent >= TRIES {
            match forward.step {
                Step::Ask { .. } => self.seen(now, socket, Light::Red),
                Step::Learn | Step::Rest => self.next_server(now, socket),
            }
            return;
        }
        let Some(server) = self.servers.get(forward.server).copied() else {
            self.seen(now, socket, Light::Unknown);
            return;
        };
        if forward.sent == 0 {
            self.rng.fill_bytes(&mut forward.id);
        }
        let wish = match forward.step {
            Step::Ask { other: _, port } => {
                Wish { other_ip: true, other_port: true, to_port: port.then_some(forward.external), ..Wish::default() }
            }
            Step::Learn | Step::Rest => Wish::default(),
        };
        self.outputs.push_back(Output::Transmit { socket, to: server, bytes: probe(forward.id, wish) });
        forward.due = now + WAIT * 2_u32.saturating_pow(forward.sent);
        forward.sent += 1;
    }

    fn next_server(&mut self, now: Instant, socket: SocketId) {
        let Some(forward) = self.forwards.get_mut(&socket) else { return };
        forward.server += 1;
        forward.step = Step::Learn;
        forward.ask_at(now);
        if forward.server >= self.servers.len() {
            self.seen(now, socket, Light::Unknown);
        }
    }

    fn seen(&mut self, now: Instant, socket: SocketId, light: Light) {
        let Some(forward) = self.forwards.get_mut(&socket) else { return };
        forward.step = Step::Rest;
        forward.sent = 0;
        forward.due = now + if light == Light::Red { AGAIN_RED } else { AGAIN_GREEN };
        if forward.light != light {
            forward.light = light;
            self.outputs.push_back(Output::Light { socket, external: forward.external, light });
        }
    }
}

impl Forward {
    fn new(due: Instant, external: u16) -> Self {
        Self { external, light: Light::Unknown, step: Step::Learn, server: 0, id: [0; 12], sent: 0, due }
    }

    fn begin(&mut self, due: Instant) {
        *self = Self { light: self.light, ..Self::new(due, self.external) };
    }

    fn ask_at(&mut self, now: Instant) {
        self.sent = 0;
        self.due = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reflector::Reflector;

    const SOCKET: SocketId = SocketId(3);
    const MAPPED: &str = "198.51.100.7:5070";

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    /// Runs for a while behind a NAT: `forward` lets strangers reach the public port 5070.
    #[expect(clippy::disallowed_methods, reason = "virtual time has to start somewhere")]
    fn lights(mut reflector: Reflector, mapped: &str, forward: bool) -> (Vec<Light>, usize) {
        let (mut now, mapped) = (Instant::now(), address(mapped));
        let end = now + Duration::from_secs(30);
        let mut outside = Outside::new([7; 32]);
        let server = reflector.sockets()[0];
        outside.servers(now, vec![server]);
        outside.watch(now, &[(SOCKET, 5070)]);
        let (mut seen, mut sent) = (Vec::new(), 0);
        while let Some(due) = outside.poll_timeout().filter(|due| *due <= end) {
            now = now.max(due);
            outside.handle_timeout(now);
            while let Some(output) = outside.poll_output() {
                match output {
                    Output::Light { socket: SOCKET, external: 5070, light } => seen.push(light),
                    Output::Light { .. } => panic!("of nobody"),
                    Output::Transmit { to, bytes, .. } => {
                        sent += 1;
                        assert_eq!(to, server);
                        let Some(answer) = reflector.receive(now, 0, mapped, &bytes) else { continue };
                        let from = reflector.sockets()[answer.via];
                        let passes =
                            if from == server { answer.to == mapped } else { forward && answer.to.port() == 5070 };
                        if passes {
                            assert!(outside.expects(from));
                            assert!(outside.received(now, SOCKET, from, &answer.bytes));
                        }
                    }
                }
            }
        }
        (seen, sent)
    }

    fn whole() -> Reflector {
        Reflector::new(address("203.0.113.1:3478"), Some(address("203.0.113.2:3479")), &[])
    }

    #[test]
    fn a_forward_is_green_or_red() {
        assert_eq!(lights(whole(), MAPPED, true), (vec![Light::Green], 2));
        assert_eq!(lights(whole(), MAPPED, false), (vec![Light::Red], 4));
        // The NAT maps the socket to another port: the public one is asked for.
        assert_eq!(lights(whole(), "198.51.100.7:40000", true), (vec![Light::Green], 2));
        assert_eq!(lights(whole(), "198.51.100.7:40000", false).0, [Light::Red]);
    }

    #[test]
    fn a_server_with_one_address_cannot_tell() {
        let (seen, sent) = lights(Reflector::new(address("203.0.113.1:3478"), None, &[]), MAPPED, true);
        assert_eq!((seen, sent), (vec![], 1));
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "virtual time has to start somewhere")]
    fn answers_of_others_are_left() {
        let now = Instant::now();
        let mut outside = Outside::new([7; 32]);
        outside.servers(now, vec![address("203.0.113.1:3478")]);
        outside.watch(now, &[(SOCKET, 5070)]);
        outside.handle_timeout(now + SETTLE);
        let Some(Output::Transmit { bytes, .. }) = outside.poll_output() else { panic!("nothing asked") };
        let answer = wire::stun::answer(&bytes, address(MAPPED)).expect("an answer");
        for (socket, from) in [(SocketId(4), "203.0.113.1:3478"), (SOCKET, "203.0.113.9:3478")] {
            assert!(!outside.received(now, socket, address(from), &answer));
        }
        assert!(!outside.expects(address("203.0.113.9:3478")));
        outside.watch(now, &[]);
        assert_eq!(outside.poll_timeout(), None);
    }
}
