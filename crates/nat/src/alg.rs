//! Does something on the way rewrite SIP? (an application layer gateway)
//!
//! Sends a REGISTER and an INVITE as a phone behind a NAT writes them to a far
//! siplatch, which says for each line which hash it had on arrival, and for
//! each line of its answer which it had when it left. Opens nothing: one
//! [`Alg`] speaks over one UDP socket or TCP connection. What several of them
//! saw is put together by [`Verdict::of`].

pub mod echo;
pub mod lines;
mod probe;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha12Rng;
use rand_core::{Rng as _, SeedableRng as _};
use wire::Transport;
use wire::sip::{Framing, Index, Limits, Message};

use self::echo::{CAME, WENT};
use self::lines::Difference;
use self::probe::Probe;

/// Where SIP is looked for by those who rewrite it.
pub const SIP_PORT: u16 = 5060;

/// A datagram is sent again after so long.
const AGAIN: [Duration; 2] = [Duration::from_millis(500), Duration::from_millis(1000)];
/// So long after the last copy nobody answers any more.
const PATIENCE: Duration = Duration::from_millis(1500);

/// What is spoken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Way {
    /// Reliable: TCP; else UDP.
    pub reliable: bool,
    /// Our socket, with its concrete IP.
    pub local: SocketAddr,
    /// The far siplatch.
    pub server: SocketAddr,
}

/// What came of a way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// No line was changed.
    Same,
    /// These were: there, and back. At least one of the lists has something in it.
    Changed {
        /// Of our requests.
        out: Vec<String>,
        /// Of the answers.
        back: Vec<String>,
    },
    /// Nobody answered, or the connection could not be made.
    Silent,
    /// Somebody answered who does not say what arrived.
    Other,
}

/// What it wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send this to the server.
    Transmit(Vec<u8>),
    /// The end.
    Done(Outcome),
}

/// One way that is tried.
#[derive(Debug)]
pub struct Alg {
    rng: ChaCha12Rng,
    way: Way,
    probe: Probe,
    copies: usize,
    due: Option<Instant>,
    seen: [Difference; 2],
    out: std::collections::VecDeque<Output>,
    index: Index,
}

impl Alg {
    /// Begins. The seed makes tags and branches.
    pub fn new(now: Instant, way: Way, seed: [u8; 32]) -> Self {
        let mut rng = ChaCha12Rng::from_seed(seed);
        let probe = Probe::register(way, [rng.next_u64(), rng.next_u64()]);
        let mut this = Self {
            rng,
            way,
            probe,
            copies: 0,
            due: None,
            seen: [Difference::default(), Difference::default()],
            out: std::collections::VecDeque::new(),
            index: Index::new(),
        };
        this.send(now);
        this
    }

    /// The next thing to do; until `None` before the next input.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due next; `None` when all is over.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// Sends again, or gives up, if it is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.due.is_none_or(|due| due > now) {
            return;
        }
        if !self.way.reliable && self.copies <= AGAIN.len() { self.send(now) } else { self.end(Outcome::Silent) }
    }

    /// A whole message came: a datagram, or one cut out of the stream. What is
    /// not the answer is passed over.
    pub fn receive(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) {
        if from != self.way.server || self.due.is_none() {
            return;
        }
        let mut index = std::mem::take(&mut self.index);
        let read = index.parse(bytes, Framing::Datagram, &Limits::default()).is_ok();
        if read && self.probe.is_answered_by(index.view(bytes)) {
            self.answered(now, index.view(bytes));
        }
        self.index = index;
    }

    /// The connection is gone.
    pub fn closed(&mut self) {
        if self.due.is_some() {
            self.end(Outcome::Silent);
        }
    }

    fn send(&mut self, now: Instant) {
        self.due = Some(now + if self.way.reliable { PATIENCE } else { *AGAIN.get(self.copies).unwrap_or(&PATIENCE) });
        self.copies += 1;
        self.out.push_back(Output::Transmit(self.probe.bytes.clone()));
    }

    fn answered(&mut self, now: Instant, answer: Message<'_>) {
        if let Some(ack) = self.probe.ack(answer) {
            self.out.push_back(Output::Transmit(ack));
        }
        let (Some(came), Some(went)) = (lines::read(answer, CAME), lines::read(answer, WENT)) else {
            return self.end(Outcome::Other);
        };
        self.seen[0].add(&lines::of(&self.probe.bytes), &came);
        let rest: Vec<_> = lines::of(answer.bytes).into_iter().filter(|line| !line.is_field(WENT)).collect();
        self.seen[1].add_arrived(&rest, &went);
        if self.probe.is_last() {
            let [out, back] = std::mem::take(&mut self.seen).map(Difference::names);
            let same = out.is_empty() && back.is_empty();
            return self.end(if same { Outcome::Same } else { Outcome::Changed { out, back } });
        }
        self.probe = Probe::invite(self.way, [self.rng.next_u64(), self.rng.next_u64()]);
        self.copies = 0;
        self.send(now);
    }

    /// An answer to the first probe that was changed is proof, also where the second is swallowed.
    fn end(&mut self, outcome: Outcome) {
        let [out, back] = std::mem::take(&mut self.seen).map(Difference::names);
        let proven = !(out.is_empty() && back.is_empty());
        self.due = None;
        self.out.push_back(Output::Done(if proven { Outcome::Changed { out, back } } else { outcome }));
    }
}

/// What all ways say together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Something rewrites SIP.
    Found,
    /// Nothing does, as far as was tried: UDP to port 5060 among it.
    None,
    /// It was not seen.
    Unknown,
}

impl Verdict {
    /// Of these ways.
    pub fn of(tried: &[(Way, Outcome)]) -> Self {
        let changed = tried.iter().any(|(_, outcome)| matches!(outcome, Outcome::Changed { .. }));
        let usual = |(way, outcome): &(Way, Outcome)| {
            !way.reliable && way.server.port() == SIP_PORT && *outcome == Outcome::Same
        };
        match (changed, tried.iter().any(usual)) {
            (true, _) => Self::Found,
            (false, true) => Self::None,
            (false, false) => Self::Unknown,
        }
    }
}

/// Which ways are rewritten: what a choice between transports needs to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rewritten {
    /// Of UDP and of TCP: to port 5060, and to any other.
    changed: [[bool; 2]; 2],
}

impl Rewritten {
    /// As these trials say. `None` when they say nothing, for silence proves neither.
    pub fn of(tried: &[(Way, Outcome)]) -> Option<Self> {
        if Verdict::of(tried) == Verdict::Unknown {
            return None;
        }
        let mut this = Self::default();
        for (way, outcome) in tried {
            this.changed[usize::from(way.reliable)][usize::from(way.server.port() != SIP_PORT)] |=
                matches!(outcome, Outcome::Changed { .. });
        }
        Some(this)
    }

    /// Is SIP rewritten on its way to this port?
    pub fn touches(self, transport: Transport, port: u16) -> bool {
        let reliable = match transport {
            Transport::Udp => 0,
            Transport::Tcp | Transport::Ws => 1,
            Transport::Tls | Transport::Wss => return false,
        };
        self.changed[reliable][usize::from(port != SIP_PORT)]
    }
}
