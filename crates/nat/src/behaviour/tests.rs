//! Every NAT of RFC 4787 in a box of ours, and servers that are old, deaf or lying.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use wire::stun;
use wire::stun::behaviour::{answer_probe, read_probe};

use super::{Behaviour, Dependence, Output, Socket, Verdict};

use Dependence::{AddressAndPortDependent, AddressDependent, Dependent, EndpointIndependent};

const EVERY: [Dependence; 3] = [EndpointIndependent, AddressDependent, AddressAndPortDependent];
const EXTERNAL: &str = "198.51.100.7";

#[expect(clippy::disallowed_methods, reason = "virtual time has to start somewhere")]
fn start() -> Instant {
    Instant::now()
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// What a dependence makes of a destination.
fn part(of: Dependence, to: SocketAddr) -> String {
    match of {
        EndpointIndependent => String::new(),
        AddressDependent | Dependent => to.ip().to_string(),
        AddressAndPortDependent => to.to_string(),
    }
}

/// A NAT box.
struct Nat {
    mapping: Dependence,
    filtering: Dependence,
    hairpin: bool,
    fragments: bool,
    ports: BTreeMap<(SocketAddr, String), u16>,
    opened: BTreeMap<u16, Vec<SocketAddr>>,
}

impl Nat {
    fn out(&mut self, from: SocketAddr, to: SocketAddr) -> SocketAddr {
        let next = 40_000 + self.ports.len() as u16;
        let port = *self.ports.entry((from, part(self.mapping, to))).or_insert(next);
        self.opened.entry(port).or_default().push(to);
        SocketAddr::new(address("198.51.100.7:0").ip(), port)
    }

    fn back(&self, from: SocketAddr, port: u16) -> Option<SocketAddr> {
        let known = part(self.filtering, from);
        let passes = self.opened.get(&port)?.iter().any(|to| part(self.filtering, *to) == known);
        let (inside, _) = self.ports.iter().find(|(_, mapped)| **mapped == port)?;
        passes.then_some(inside.0)
    }
}

/// How a server behaves.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// RFC 5780.
    Whole,
    /// RFC 5780, but whatever it sends by its other address is lost.
    Halved,
    /// RFC 8489 alone.
    Plain,
    /// Says that it has another address, and answers everything from where it was asked.
    Pretends,
    Silent,
}

struct World {
    nat: Option<Nat>,
    servers: BTreeMap<SocketAddr, (Kind, SocketAddr)>,
    sockets: [SocketAddr; 3],
    /// Loss of one in so many packets.
    loss: Option<u64>,
    dice: u64,
}

const SERVER: &str = "203.0.113.1:3478";
const SECOND: &str = "192.0.2.9:3478";

impl World {
    fn new(nat: Option<Nat>, kind: Kind) -> Self {
        let corners = ["203.0.113.1:3478", "203.0.113.1:3479", "203.0.113.2:3478", "203.0.113.2:3479"].map(address);
        let kind_of = |corner: SocketAddr| {
            let away = corner.ip() != corners[0].ip();
            if away && kind == Kind::Halved { Kind::Silent } else { kind }
        };
        let servers = corners.iter().zip(corners.iter().rev()).map(|(at, other)| (*at, (kind_of(*at), *other)));
        let host = if nat.is_some() { "192.168.1.2" } else { EXTERNAL };
        let sockets = [50_001, 50_002, 50_003].map(|port| address(&format!("{host}:{port}")));
        Self { nat, servers: servers.collect(), sockets, loss: None, dice: 1 }
    }

    fn lost(&mut self) -> bool {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.loss.is_some_and(|one_in| (self.dice >> 33).is_multiple_of(one_in))
    }

    /// What comes back of a packet: to which socket, from where.
    fn carry(&mut self, socket: Socket, to: SocketAddr, bytes: &[u8]) -> Vec<(Socket, SocketAddr, Vec<u8>)> {
        let local = self.sockets[socket as usize];
        let cut = bytes.len() > 1472;
        if self.lost() || cut && self.nat.as_ref().is_some_and(|nat| !nat.fragments) {
            return Vec::new();
        }
        let from = self.nat.as_mut().map_or(local, |nat| nat.out(local, to));
        let which = |inside: SocketAddr| {
            [Socket::A, Socket::B, Socket::C].into_iter().find(|s| self.sockets[*s as usize] == inside)
        };
        if to.ip() == from.ip() {
            let nat = self.nat.as_ref().filter(|nat| nat.hairpin);
            let inside = nat.and_then(|nat| nat.back(from, to.port())).and_then(which);
            return inside.into_iter().map(|socket| (socket, from, bytes.to_vec())).collect();
        }
        let Some((kind, other)) = self.servers.get(&to).copied() else { return Vec::new() };
        let plain = (to, stun::answer(bytes, from).expect("a Binding request"));
        let (origin, answer) = match (kind, read_probe(bytes)) {
            (Kind::Silent, _) | (_, None) => return Vec::new(),
            (Kind::Plain, _) => plain,
            (Kind::Pretends, Some(_)) => (to, answer_probe(bytes, from, to, Some(other), 0).expect("an answer")),
            (Kind::Whole | Kind::Halved, Some(wish)) => {
                let ip = if wish.other_ip { other.ip() } else { to.ip() };
                let origin = SocketAddr::new(ip, if wish.other_port { other.port() } else { to.port() });
                if self.servers.get(&origin).is_some_and(|(kind, _)| *kind == Kind::Silent) {
                    return Vec::new();
                }
                (origin, answer_probe(bytes, from, origin, Some(other), wish.padding).expect("an answer"))
            }
        };
        let cut = answer.len() > 1472 && self.nat.as_ref().is_some_and(|nat| !nat.fragments);
        let inside = self.nat.as_ref().map_or(Some(local), |nat| nat.back(origin, from.port()));
        let back = inside.and_then(which).filter(|_| !cut);
        if self.lost() {
            return Vec::new();
        }
        back.into_iter().map(|socket| (socket, origin, answer.clone())).collect()
    }

    /// Runs it all; the verdict and how long it took.
    fn run(&mut self, servers: &[&str]) -> (Verdict, Duration) {
        let start = start();
        let mut now = start;
        let servers = servers.iter().map(|server| address(server)).collect();
        let mut behaviour = Behaviour::new(now, self.sockets[0], servers, [3; 32]);
        let mut sent = 0;
        loop {
            while let Some(output) = behaviour.poll_output() {
                match output {
                    Output::Done(verdict) => {
                        assert!(behaviour.poll_timeout().is_none() && sent < 80);
                        return (verdict, now - start);
                    }
                    Output::Transmit { socket, to, bytes } => {
                        sent += 1;
                        for (socket, from, bytes) in self.carry(socket, to, &bytes) {
                            behaviour.receive(now, socket, from, &bytes);
                        }
                    }
                }
            }
            now = behaviour.poll_timeout().expect("done, or something is due");
            behaviour.handle_timeout(now);
        }
    }
}

fn nat(mapping: Dependence, filtering: Dependence) -> Option<Nat> {
    let (ports, opened) = (BTreeMap::new(), BTreeMap::new());
    Some(Nat { mapping, filtering, hairpin: true, fragments: true, ports, opened })
}

#[test]
fn all_nine_are_told_apart() {
    for mapping in EVERY {
        for filtering in EVERY {
            let (verdict, took) = World::new(nat(mapping, filtering), Kind::Whole).run(&[SERVER]);
            let found = (verdict.answered, verdict.translated, verdict.mapping, verdict.filtering);
            assert_eq!(found, (true, Some(true), Some(mapping), Some(filtering)));
            assert_eq!((verdict.fragments, verdict.rewritten), (Some(true), false));
            assert!(took < Duration::from_secs(16), "{took:?}");
        }
    }
}

#[test]
fn two_plain_servers_tell_the_mapping_and_nothing_else() {
    for (mapping, found) in [(EndpointIndependent, EndpointIndependent), (AddressDependent, Dependent)] {
        let mut world = World::new(nat(mapping, AddressDependent), Kind::Plain);
        world.servers.insert(address(SECOND), (Kind::Plain, address(SECOND)));
        let (verdict, _) = world.run(&[SERVER, "203.0.113.1:3479", SECOND]);
        assert_eq!((verdict.mapping, verdict.filtering, verdict.fragments), (Some(found), None, None));
    }
    // One alone tells only what it sees.
    let (verdict, _) = World::new(nat(EndpointIndependent, EndpointIndependent), Kind::Plain).run(&[SERVER]);
    assert_eq!((verdict.answered, verdict.mapping, verdict.filtering), (true, None, None));
    assert_eq!(verdict.mapped.map(|mapped| mapped.0.ip()), Some(address("198.51.100.7:0").ip()));
}

#[test]
fn without_a_nat_the_address_is_the_own_one() {
    let (verdict, _) = World::new(None, Kind::Whole).run(&[SERVER]);
    assert_eq!((verdict.translated, verdict.mapping), (Some(false), Some(EndpointIndependent)));
    assert_eq!((verdict.filtering, verdict.hairpin), (Some(EndpointIndependent), None));
}

#[test]
fn silence_of_the_other_address_is_no_filter() {
    let mut world = World::new(nat(EndpointIndependent, EndpointIndependent), Kind::Halved);
    world.servers.insert(address(SECOND), (Kind::Plain, address(SECOND)));
    let (verdict, _) = world.run(&[SERVER, SECOND]);
    assert_eq!((verdict.mapping, verdict.filtering), (Some(EndpointIndependent), None));
}

#[test]
fn a_server_that_only_says_it_can_tells_nothing_of_the_filter() {
    let (verdict, _) = World::new(nat(EndpointIndependent, AddressAndPortDependent), Kind::Pretends).run(&[SERVER]);
    assert_eq!((verdict.mapping, verdict.filtering), (Some(EndpointIndependent), None));
}

#[test]
fn nobody_answers() {
    let (verdict, took) =
        World::new(nat(EndpointIndependent, EndpointIndependent), Kind::Silent).run(&[SERVER, SECOND]);
    assert_eq!(verdict, Verdict::default());
    assert_eq!(took, Duration::from_secs(10));
    assert_eq!(World::new(None, Kind::Whole).run(&[]).0, Verdict::default());
}

#[test]
fn hairpins_and_fragments() {
    for (hairpin, fragments) in [(true, false), (false, true)] {
        let mut world = World::new(nat(EndpointIndependent, AddressAndPortDependent), Kind::Whole);
        if let Some(nat) = &mut world.nat {
            (nat.hairpin, nat.fragments) = (hairpin, fragments);
        }
        let (verdict, _) = world.run(&[SERVER]);
        assert_eq!((verdict.hairpin, verdict.fragments), (Some(hairpin), Some(fragments)));
    }
}

/// On a line that loses every tenth packet some things stay unknown, and next to nothing is told wrongly:
/// four questions in a row must be lost for that, and the one after them not.
#[test]
fn on_a_bad_line_it_is_right_or_unknown() {
    let (mut wrong, mut known) = (0, 0);
    for seed in 0..500 {
        for mapping in EVERY {
            for filtering in EVERY {
                let mut world = World::new(nat(mapping, filtering), Kind::Whole);
                (world.loss, world.dice) = (Some(10), seed * 977 + 1);
                let (verdict, _) = world.run(&[SERVER]);
                wrong += usize::from(verdict.mapping.is_some_and(|found| found != mapping));
                wrong += usize::from(verdict.filtering.is_some_and(|found| found != filtering));
                known += usize::from(verdict.mapping.is_some()) + usize::from(verdict.filtering.is_some());
            }
        }
    }
    assert!(known > 8_900 && wrong * 200 < known, "{wrong} of {known}");
}
