//! How long does a NAT keep a mapping of which nothing is heard? (RFC 5780 §4.6)
//!
//! Sibling sockets make a mapping each, keep still for different times, and
//! then an answer is asked for toward each from yet another socket
//! (RESPONSE-PORT): where it arrives the mapping has lived. No socket that
//! carries calls is touched. A round narrows the bracket between the longest
//! silence that was survived and the shortest that was not, until they are
//! within 12 % of each other. Silence counts as the end of a mapping only when
//! the server answered that very sibling again afterwards.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha12Rng;
use rand_core::{Rng as _, SeedableRng as _};
use wire::stun::behaviour::{Wish, probe};
use wire::stun::read_answer;

/// How many siblings keep still at the same time.
pub const SIBLINGS: usize = 4;

/// The silences of the first round; a mapping that survives the longest one is tried at twice as much, and so on.
const FIRST: [u64; SIBLINGS] = [15, 30, 60, 120];
/// Longer is not looked for: no keep-alive needs to be rarer.
const LONGEST: Duration = Duration::from_secs(7200);
/// A bracket is narrow when its ends are at most so many percent apart.
const NARROW: u128 = 12;
/// A question is asked so often, this far apart.
const TIMES: u32 = 4;
const APART: Duration = Duration::from_millis(600);

/// Which socket: the siblings, and the one that asks on their behalf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Socket {
    /// Keeps still.
    Sibling(usize),
    /// Asks for answers to the siblings.
    Asker,
}

/// What it wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send this from this socket to the server.
    Transmit {
        /// From which.
        socket: Socket,
        /// The datagram.
        bytes: Vec<u8>,
    },
    /// The bracket so far, or the last one.
    Bracket(Bracket),
    /// It cannot be told: the server does not do what is needed, or does not answer.
    Unknown,
}

/// What is known of the lifetime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bracket {
    /// So long a silence was survived.
    pub survived: Duration,
    /// So long a one was not; `None`: none was found.
    pub lost: Option<Duration>,
    /// It gets no narrower: the end.
    pub last: bool,
}

impl Bracket {
    /// The best guess: between the two, by ratio; what was survived where nothing was lost.
    pub fn estimate(&self) -> Duration {
        let Some(lost) = self.lost else { return self.survived };
        Duration::from_secs_f64((self.survived.as_secs_f64() * lost.as_secs_f64()).sqrt())
    }

    fn is_narrow(&self) -> bool {
        self.lost.is_some_and(|lost| lost.as_millis() * 100 <= self.survived.as_millis() * (100 + NARROW))
    }
}

/// Where a sibling stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Its mapping is being made.
    Map,
    /// It keeps still.
    Still { port: u16 },
    /// An answer is asked for toward it.
    Asked { port: u16 },
    /// None came: does the server answer at all?
    Control,
    /// `None`: it cannot be told.
    Over(Option<bool>),
}

#[derive(Debug, Clone, Copy)]
struct Trial {
    silence: Duration,
    stage: Stage,
    id: [u8; 12],
    sent: u32,
    due: Instant,
}

/// One measurement.
#[derive(Debug)]
pub struct Lifetime {
    rng: ChaCha12Rng,
    server: SocketAddr,
    trials: Vec<Trial>,
    bracket: Bracket,
    /// Does RESPONSE-PORT work here at all? Tried with next to no silence.
    works: bool,
    /// One round of these silences, and no other.
    once: Option<Vec<Duration>>,
    outputs: VecDeque<Output>,
}

impl Lifetime {
    /// Starts measuring by this server. The seed makes transaction ids.
    pub fn new(now: Instant, server: SocketAddr, seed: [u8; 32]) -> Self {
        let mut this = Self {
            rng: ChaCha12Rng::from_seed(seed),
            server,
            trials: Vec::new(),
            bracket: Bracket { survived: Duration::ZERO, lost: None, last: false },
            works: false,
            once: None,
            outputs: VecDeque::new(),
        };
        this.round(now, &[Duration::from_secs(1)]);
        this
    }

    /// Likewise, with one round of at most [`SIBLINGS`] silences, the shorter first: a bracket that may be wide.
    pub fn once(now: Instant, server: SocketAddr, silences: &[Duration], seed: [u8; 32]) -> Self {
        let silences = silences.iter().copied().take(SIBLINGS).collect();
        Self { once: Some(silences), ..Self::new(now, server, seed) }
    }

    /// The server that is asked.
    pub fn server(&self) -> SocketAddr {
        self.server
    }

    /// The next thing to do; until `None` before the next input.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due next; `None` when it is over.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.trials.iter().filter(|trial| !matches!(trial.stage, Stage::Over(_))).map(|trial| trial.due).min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        for at in 0..self.trials.len() {
            let trial = self.trials[at];
            if trial.due > now || matches!(trial.stage, Stage::Over(_)) {
                continue;
            }
            match trial.stage {
                Stage::Still { port } => self.enter(now, at, Stage::Asked { port }),
                Stage::Map | Stage::Asked { .. } | Stage::Control if trial.sent < TIMES => self.send(now, at),
                Stage::Map | Stage::Control => self.enter(now, at, Stage::Over(None)),
                Stage::Asked { .. } => self.enter(now, at, Stage::Control),
                Stage::Over(_) => {}
            }
        }
        self.conclude(now);
    }

    /// A datagram came to one of the sockets.
    pub fn receive(&mut self, now: Instant, socket: Socket, from: SocketAddr, packet: &[u8]) {
        let Socket::Sibling(at) = socket else { return };
        let (Ok(answer), Some(trial)) = (read_answer(packet), self.trials.get(at).copied()) else { return };
        let is_server =
            from.port() == self.server.port() && from.ip().to_canonical() == self.server.ip().to_canonical();
        if answer.transaction != trial.id || !is_server {
            return;
        }
        let port = answer.xor_mapped.or(answer.mapped).filter(|_| answer.error.is_none()).map(|seen| seen.port());
        match (trial.stage, port) {
            (Stage::Map, Some(port)) => {
                self.trials[at].stage = Stage::Still { port };
                self.trials[at].due = now + trial.silence;
            }
            (Stage::Asked { .. }, Some(_)) => self.enter(now, at, Stage::Over(Some(true))),
            (Stage::Control, Some(_)) => self.enter(now, at, Stage::Over(Some(false))),
            (Stage::Map | Stage::Asked { .. } | Stage::Control, None) => self.enter(now, at, Stage::Over(None)),
            (Stage::Still { .. } | Stage::Over(_), _) => {}
        }
        self.conclude(now);
    }

    fn enter(&mut self, now: Instant, at: usize, stage: Stage) {
        let mut id = [0; 12];
        self.rng.fill_bytes(&mut id);
        let trial = &mut self.trials[at];
        (trial.stage, trial.id, trial.sent) = (stage, id, 0);
        if !matches!(stage, Stage::Over(_)) {
            self.send(now, at);
        }
    }

    fn send(&mut self, now: Instant, at: usize) {
        let trial = &mut self.trials[at];
        trial.sent += 1;
        trial.due = now + APART;
        let (socket, to_port) = match trial.stage {
            Stage::Asked { port } => (Socket::Asker, Some(port)),
            Stage::Map | Stage::Still { .. } | Stage::Control | Stage::Over(_) => (Socket::Sibling(at), None),
        };
        let bytes = probe(trial.id, Wish { to_port, ..Wish::default() });
        self.outputs.push_back(Output::Transmit { socket, bytes });
    }

    fn round(&mut self, now: Instant, silences: &[Duration]) {
        let trial = |silence: &Duration| Trial { silence: *silence, stage: Stage::Map, id: [0; 12], sent: 0, due: now };
        self.trials = silences.iter().map(trial).collect();
        for at in 0..self.trials.len() {
            self.enter(now, at, Stage::Map);
        }
    }

    /// Once all siblings are through, or as much as is needed: what is next?
    fn conclude(&mut self, now: Instant) {
        let over = |trial: &Trial| matches!(trial.stage, Stage::Over(_));
        // When one was lost, those that keep still for longer have nothing to tell.
        let lost = self.trials.iter().find(|trial| trial.stage == Stage::Over(Some(false))).map(|trial| trial.silence);
        let awaited = |trial: &&Trial| lost.is_none_or(|lost| trial.silence <= lost);
        if self.trials.is_empty() || !self.trials.iter().filter(awaited).all(over) {
            return;
        }
        let trials = std::mem::take(&mut self.trials);
        let lived = |trial: &&Trial| trial.stage == Stage::Over(Some(true));
        let survived = trials.iter().filter(lived).map(|trial| trial.silence).max();
        if !self.works {
            self.works = survived.is_some();
            let first = self.once.clone().unwrap_or_else(|| FIRST.map(Duration::from_secs).to_vec());
            return if self.works { self.round(now, &first) } else { self.unknown() };
        }
        if survived.is_none() && lost.is_none() {
            return self.unknown();
        }
        let before = self.bracket;
        self.bracket.survived = before.survived.max(survived.unwrap_or_default());
        self.bracket.lost = lost.or(before.lost).filter(|lost| *lost > self.bracket.survived);
        let (low, high) = (self.bracket.survived, self.bracket.lost);
        let stuck = before == self.bracket;
        self.bracket.last =
            self.once.is_some() || stuck || self.bracket.is_narrow() || high.is_none() && low >= LONGEST;
        self.outputs.push_back(Output::Bracket(self.bracket));
        if !self.bracket.last {
            self.round(now, &between(low, high));
        }
    }

    fn unknown(&mut self) {
        self.outputs.push_back(Output::Unknown);
    }
}

/// The silences of the next round: between the two by equal ratios, or beyond the first by doubling.
fn between(low: Duration, high: Option<Duration>) -> Vec<Duration> {
    match high {
        None => (1..=SIBLINGS as u32).map(|step| (low * (1 << step)).min(LONGEST)).take(2).collect(),
        Some(high) => {
            let low = low.max(Duration::from_secs(1)).as_secs_f64();
            let ratio = high.as_secs_f64() / low;
            let part = |step: usize| low * ratio.powf(step as f64 / (SIBLINGS + 1) as f64);
            (1..=SIBLINGS).map(|step| Duration::from_secs_f64(part(step))).collect()
        }
    }
}
