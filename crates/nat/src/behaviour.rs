//! What kind of NAT stands in front of us? (RFC 5780 §4, in the words of RFC 4787)
//!
//! Asks STUN servers from three sockets and decides mapping, filtering,
//! hairpinning and whether fragments pass. With a server that has two addresses
//! (OTHER-ADDRESS) all of it, with any two plain servers the mapping. Silence
//! is a verdict only where the same question to a place that must answer was
//! answered before and after; else it is unknown. Each socket asks one question
//! at a time. Opens nothing, and touches no socket that carries calls.
//!
//! - A: the mapping (§4.3), then fragments.
//! - B: the filter (§4.4), fresh, because A has opened it toward all addresses.
//! - C: hairpinning (§4.5) together with A.

mod ask;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng as _;
use wire::stun::behaviour::{PADDING_OCTETS, Wish};
use wire::stun::{Answer, Unreadable, read_answer};

use self::ask::{Ask, Due};
use crate::Mapped;
use crate::address::is_forbidden;

/// One of the three sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Socket {
    /// Mapping and fragments.
    A,
    /// Filtering.
    B,
    /// Hairpinning.
    C,
}

/// What something depends on (RFC 4787 §4.1, §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dependence {
    /// Endpoint-independent.
    EndpointIndependent,
    /// Address-dependent.
    AddressDependent,
    /// Address- and port-dependent.
    AddressAndPortDependent,
    /// One of the last two: seen with servers that have one address each.
    Dependent,
}

/// What was found; `None`: unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Verdict {
    /// Some server has answered; false: UDP does not come back from any of them.
    pub answered: bool,
    /// What the first server to answer sees of socket A.
    pub mapped: Option<Mapped>,
    /// That is another address than A's own.
    pub translated: Option<bool>,
    /// How the external port is chosen.
    pub mapping: Option<Dependence>,
    /// Who may send to it.
    pub filtering: Option<Dependence>,
    /// Two hosts inside reach each other by their external addresses.
    pub hairpin: Option<bool>,
    /// UDP datagrams of more than one packet pass, both ways.
    pub fragments: Option<bool>,
    /// XOR-MAPPED-ADDRESS and MAPPED-ADDRESS differ: something rewrites packets (RFC 8489 §14.2).
    pub rewritten: bool,
}

/// What it wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send this from this socket.
    Transmit {
        /// From which.
        socket: Socket,
        /// Where to.
        to: SocketAddr,
        /// The datagram.
        bytes: Vec<u8>,
    },
    /// All is known that will be.
    Done(Verdict),
}

/// Where the mapping of A stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mapping {
    /// Server `0` is asked: is anybody there?
    First(usize),
    /// The same server's other IP, same port (§4.3 test II).
    OtherIp,
    /// Its other IP and port (test III).
    OtherBoth,
    /// Another server, for want of an other address.
    Second(usize),
    /// Padded, then plain again.
    Fragment {
        control: bool,
    },
    Over,
}

/// Where the filter of B stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Filtering {
    Waiting,
    /// The mapping is made.
    First,
    /// An answer from elsewhere altogether (§4.4 test II).
    Both,
    /// An answer from another port (test III).
    Port,
    /// Does the first one still answer?
    Control,
    Over,
}

/// Where hairpinning stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hairpin {
    Waiting,
    /// C's mapping is made.
    First,
    /// A and C send to each other.
    Crossing,
    Over,
}

/// What came of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reply {
    /// Nobody answered.
    Silence,
    /// An error, an answer that is of no use, or one from where it was not to come from.
    Refused,
    /// The answer that was asked for: what the server sees of us, and its other address.
    Seen(SocketAddr, Option<SocketAddr>),
}

impl Reply {
    fn seen(self) -> Option<SocketAddr> {
        match self {
            Self::Seen(seen, _) => Some(seen),
            Self::Silence | Self::Refused => None,
        }
    }
}

/// One run of all tests.
#[derive(Debug)]
pub struct Behaviour {
    rng: ChaCha12Rng,
    local: SocketAddr,
    servers: Vec<SocketAddr>,
    /// The first to answer, its address as answered from, and its other one.
    server: Option<SocketAddr>,
    other: Option<SocketAddr>,
    /// The other address has answered by itself: its silence means something.
    other_lives: bool,
    at: (Mapping, Filtering, Hairpin),
    asks: [Option<Ask>; 3],
    second_mapping: Option<SocketAddr>,
    /// What A has sent to C.
    opener: Option<Vec<u8>>,
    verdict: Verdict,
    outputs: VecDeque<Output>,
    done: bool,
}

impl Behaviour {
    /// Starts asking `servers` (of one address family, in the configured order).
    /// `local` is the address of socket A as the machine knows it, with a
    /// concrete IP. The seed makes transaction ids.
    pub fn new(now: Instant, local: SocketAddr, servers: Vec<SocketAddr>, seed: [u8; 32]) -> Self {
        let mut this = Self {
            rng: ChaCha12Rng::from_seed(seed),
            local,
            servers,
            server: None,
            other: None,
            other_lives: false,
            at: (Mapping::First(0), Filtering::Waiting, Hairpin::Waiting),
            asks: [const { None }; 3],
            second_mapping: None,
            opener: None,
            verdict: Verdict::default(),
            outputs: VecDeque::new(),
            done: false,
        };
        this.map(now, Mapping::First(0));
        this.settle();
        this
    }

    /// The next thing to do; until `None` before the next input.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due next; `None` when all is over.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.asks.iter().flatten().map(Ask::due).min()
    }

    /// Sends again, or gives up, what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        for socket in [Socket::A, Socket::B, Socket::C] {
            let Some(ask) = &mut self.asks[socket as usize] else { continue };
            match ask.advance(now) {
                None => {}
                Some(Due::Send) => {
                    let (to, bytes) = (ask.to(), ask.bytes());
                    self.outputs.push_back(Output::Transmit { socket, to, bytes });
                }
                Some(Due::GiveUp) => {
                    self.asks[socket as usize] = None;
                    self.outcome(now, socket, Reply::Silence);
                }
            }
        }
        self.settle();
    }

    /// A datagram came to one of the sockets.
    pub fn receive(&mut self, now: Instant, socket: Socket, from: SocketAddr, packet: &[u8]) {
        let crossed = match socket {
            Socket::A => self.asks[Socket::C as usize].as_ref().is_some_and(|ask| ask.is(packet)),
            Socket::C => self.opener.as_deref() == Some(packet),
            Socket::B => false,
        };
        if self.at.2 == Hairpin::Crossing && crossed {
            self.verdict.hairpin = Some(true);
            self.asks[Socket::C as usize] = None;
            self.at.2 = Hairpin::Over;
            return self.settle();
        }
        let answer = match read_answer(packet) {
            Ok(answer) => answer,
            Err(Unreadable::NotAResponse | Unreadable::Damaged(_)) => return,
        };
        let Some(ask) = self.asks[socket as usize].take_if(|ask| ask.expects(from, answer.transaction)) else { return };
        self.note(&ask, &answer);
        let reply = match self.address(&answer) {
            Some(seen) if ask.answers_from(from) => Reply::Seen(seen, answer.other),
            Some(_) | None => Reply::Refused,
        };
        self.outcome(now, socket, reply);
        self.settle();
    }

    /// What an answer says that it sees, if that can be.
    fn address(&self, answer: &Answer) -> Option<SocketAddr> {
        let seen = answer.xor_mapped.or(answer.mapped).filter(|_| answer.error.is_none() && !answer.unknown)?;
        let seen = canonical(seen);
        self.usable(seen).then_some(seen)
    }

    fn usable(&self, address: SocketAddr) -> bool {
        !is_forbidden(address.ip(), self.local.ip()) && address.port() != 0
    }

    fn note(&mut self, ask: &Ask, answer: &Answer) {
        if let (Some(xor), Some(plain)) = (answer.xor_mapped, answer.mapped) {
            self.verdict.rewritten |= canonical(xor) != canonical(plain);
        }
        if Some(ask.to()) == self.other {
            self.other_lives = true;
        }
    }

    /// A question was answered, or nobody did.
    fn outcome(&mut self, now: Instant, socket: Socket, reply: Reply) {
        match socket {
            Socket::A => self.mapping(now, reply),
            Socket::B => self.filtering(now, reply),
            Socket::C => self.hairpin(now, reply),
        }
    }

    fn mapping(&mut self, now: Instant, reply: Reply) {
        let first = self.verdict.mapped.map(|mapped| mapped.0);
        let seen = reply.seen();
        match self.at.0 {
            Mapping::First(server) => {
                let Reply::Seen(seen, other) = reply else { return self.map(now, Mapping::First(server + 1)) };
                let to = self.servers[server];
                self.server = Some(to);
                self.verdict.answered = true;
                self.verdict.mapped = Some(Mapped(seen));
                self.verdict.translated = Some(seen != canonical(self.local));
                let differs = |other: &SocketAddr| other.ip() != to.ip() && other.port() != to.port();
                let same_family = |other: &SocketAddr| other.is_ipv4() == to.is_ipv4();
                self.other = other.filter(|other| differs(other) && same_family(other) && self.usable(*other));
                self.filter(now, Filtering::First, Wish::default());
                if self.verdict.translated == Some(true) {
                    self.at.2 = Hairpin::First;
                    self.ask(now, Socket::C, to, Wish::default());
                }
                self.map(now, if self.other.is_some() { Mapping::OtherIp } else { Mapping::Second(0) });
            }
            Mapping::OtherIp => {
                self.second_mapping = seen;
                self.map(now, Mapping::OtherBoth);
            }
            Mapping::OtherBoth => {
                self.verdict.mapping = match (first, self.second_mapping, seen) {
                    (Some(first), Some(second), Some(third)) if first == second && second == third => {
                        Some(Dependence::EndpointIndependent)
                    }
                    (Some(_), Some(second), Some(third)) if second == third => Some(Dependence::AddressDependent),
                    (Some(_), Some(_), Some(_)) => Some(Dependence::AddressAndPortDependent),
                    (Some(first), Some(other), None) | (Some(first), None, Some(other)) if first != other => {
                        Some(Dependence::Dependent)
                    }
                    _ => None,
                };
                self.next_of_filter(now);
                let alone = self.second_mapping.is_none() && seen.is_none();
                self.map(now, if alone { Mapping::Second(0) } else { Mapping::Fragment { control: false } });
            }
            Mapping::Second(server) => match seen {
                Some(seen) => {
                    let same = first == Some(seen);
                    let mapping = if same { Dependence::EndpointIndependent } else { Dependence::Dependent };
                    self.verdict.mapping = Some(mapping);
                    self.map(now, Mapping::Fragment { control: false });
                }
                None => self.map(now, Mapping::Second(server + 1)),
            },
            Mapping::Fragment { control: false } => match reply {
                Reply::Seen(..) => {
                    self.verdict.fragments = Some(true);
                    self.map(now, Mapping::Over);
                }
                // It does not know how to pad, and has said so in one packet.
                Reply::Refused => self.map(now, Mapping::Over),
                Reply::Silence => self.map(now, Mapping::Fragment { control: true }),
            },
            Mapping::Fragment { control: true } => {
                self.verdict.fragments = seen.map(|_| false);
                self.map(now, Mapping::Over);
            }
            Mapping::Over => {}
        }
    }

    /// Goes on to a step of A, or to the next one that makes sense.
    fn map(&mut self, now: Instant, to: Mapping) {
        self.at.0 = to;
        let (server, other) = (self.server, self.other);
        match to {
            Mapping::First(at) => match self.servers.get(at) {
                Some(server) => self.ask(now, Socket::A, *server, Wish::default()),
                None => self.give_up(),
            },
            Mapping::OtherIp => {
                if let (Some(server), Some(other)) = (server, other) {
                    self.ask(now, Socket::A, SocketAddr::new(other.ip(), server.port()), Wish::default());
                }
            }
            Mapping::OtherBoth => {
                if let Some(other) = other {
                    self.ask(now, Socket::A, other, Wish::default());
                }
            }
            Mapping::Second(at) => {
                let asked = server.map(|server| server.ip());
                let next = (at..self.servers.len()).find(|at| Some(self.servers[*at].ip()) != asked);
                match next {
                    Some(at) => {
                        self.at.0 = Mapping::Second(at);
                        self.ask(now, Socket::A, self.servers[at], Wish::default());
                    }
                    None => self.map(now, Mapping::Fragment { control: false }),
                }
            }
            Mapping::Fragment { control } => {
                if let Some(server) = server {
                    let padding = if control { 0 } else { PADDING_OCTETS };
                    self.ask(now, Socket::A, server, Wish { padding, ..Wish::default() });
                }
            }
            Mapping::Over => {}
        }
    }

    fn filtering(&mut self, now: Instant, reply: Reply) {
        let found = match (self.at.1, reply) {
            (Filtering::First, Reply::Seen(..)) if self.other.is_some() => {
                self.at.1 = Filtering::Waiting;
                return self.next_of_filter(now);
            }
            (Filtering::Both, Reply::Silence) => {
                return self.filter(now, Filtering::Port, Wish { other_port: true, ..Wish::default() });
            }
            (Filtering::Port, Reply::Silence) => return self.filter(now, Filtering::Control, Wish::default()),
            (Filtering::Both, Reply::Seen(..)) => Some(Dependence::EndpointIndependent),
            (Filtering::Port, Reply::Seen(..)) => Some(Dependence::AddressDependent),
            (Filtering::Control, Reply::Seen(..)) => Some(Dependence::AddressAndPortDependent),
            _ => None,
        };
        self.verdict.filtering = found;
        self.at.1 = Filtering::Over;
    }

    /// The filter is tried once its mapping is made and the other address is known to live.
    fn next_of_filter(&mut self, now: Instant) {
        if self.at.1 == Filtering::Waiting && self.other_lives {
            self.filter(now, Filtering::Both, Wish { other_ip: true, other_port: true, ..Wish::default() });
        }
    }

    fn filter(&mut self, now: Instant, step: Filtering, wish: Wish) {
        self.at.1 = step;
        if let Some(server) = self.server {
            self.ask(now, Socket::B, server, wish);
        }
    }

    fn hairpin(&mut self, now: Instant, reply: Reply) {
        match (self.at.2, reply, self.verdict.mapped) {
            (Hairpin::First, Reply::Seen(c, _), Some(Mapped(a))) => {
                self.at.2 = Hairpin::Crossing;
                // A opens its own filter toward C first.
                let opener = Ask::new(now, c, c, Wish::default(), &mut self.rng).bytes();
                self.outputs.push_back(Output::Transmit { socket: Socket::A, to: c, bytes: opener.clone() });
                self.opener = Some(opener);
                self.ask(now, Socket::C, a, Wish::default());
            }
            (Hairpin::Crossing, Reply::Silence, _) => {
                // Servers answer both, and nothing crossed in four attempts.
                self.verdict.hairpin = Some(false);
                self.at.2 = Hairpin::Over;
            }
            _ => self.at.2 = Hairpin::Over,
        }
    }

    fn ask(&mut self, now: Instant, socket: Socket, to: SocketAddr, wish: Wish) {
        let from = match (wish.other_ip, wish.other_port, self.other) {
            (true, true, Some(other)) => other,
            (false, true, Some(other)) => SocketAddr::new(to.ip(), other.port()),
            _ => to,
        };
        let ask = Ask::new(now, to, from, wish, &mut self.rng);
        self.outputs.push_back(Output::Transmit { socket, to, bytes: ask.bytes() });
        self.asks[socket as usize] = Some(ask);
    }

    /// Nobody answers at all.
    fn give_up(&mut self) {
        self.at = (Mapping::Over, Filtering::Over, Hairpin::Over);
    }

    fn settle(&mut self) {
        if self.asks.iter().all(Option::is_none) && !self.done {
            self.done = true;
            self.outputs.push_back(Output::Done(self.verdict));
        }
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
