//! Do packets reach us that nobody asked for? (static forwards, one-to-one NAT, an open firewall)
//!
//! Sockets that have never sent anything listen; another one asks a STUN
//! server to answer to their ports at our public address (RESPONSE-PORT,
//! RFC 5780 §7.5). What arrives was let in by a rule and not by a mapping. That
//! nothing arrives counts only where the server is seen to do what is asked.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha12Rng;
use rand_core::{Rng as _, SeedableRng as _};
use wire::stun::behaviour::{Wish, probe};
use wire::stun::read_answer;

/// A question is asked so often, this far apart; then it was in vain.
const TIMES: u32 = 4;
const APART: Duration = Duration::from_millis(500);

/// One of the sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Socket {
    /// Never sends; its number.
    Listener(usize),
    /// Asks.
    Asker,
    /// Shows that what is asked for is done.
    Control,
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
    /// Whether each listener was reached; `None`: it cannot be told.
    Done(Vec<Option<bool>>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The control's port outside is asked for.
    Map,
    /// An answer to it is asked for, and to all listeners.
    Ask {
        control: u16,
    },
    Over,
}

/// One run.
#[derive(Debug)]
pub struct Unasked {
    rng: ChaCha12Rng,
    server: SocketAddr,
    ports: Vec<u16>,
    reached: Vec<bool>,
    works: bool,
    stage: Stage,
    ids: Vec<[u8; 12]>,
    sent: u32,
    due: Instant,
    outputs: VecDeque<Output>,
}

impl Unasked {
    /// Begins. `ports`: where each listener should be reached from outside. The seed makes transaction ids.
    pub fn new(now: Instant, server: SocketAddr, ports: Vec<u16>, seed: [u8; 32]) -> Self {
        let mut rng = ChaCha12Rng::from_seed(seed);
        let mut id = || {
            let mut id = [0; 12];
            rng.fill_bytes(&mut id);
            id
        };
        // One for each listener, then the control's, then its mapping's.
        let ids = (0..ports.len() + 2).map(|_| id()).collect();
        let reached = vec![false; ports.len()];
        let (works, stage, outputs) = (false, Stage::Map, VecDeque::new());
        let mut this = Self { rng, server, ports, reached, works, stage, ids, sent: 0, due: now, outputs };
        this.send(now);
        this
    }

    /// The next thing to do; until `None` before the next input.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due next; `None` when all is over.
    pub fn poll_timeout(&self) -> Option<Instant> {
        (self.stage != Stage::Over).then_some(self.due)
    }

    /// Asks again, or ends, if it is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.stage == Stage::Over || now < self.due {
            return;
        }
        if self.sent < TIMES { self.send(now) } else { self.end() }
    }

    /// A datagram came.
    pub fn receive(&mut self, now: Instant, socket: Socket, from: SocketAddr, packet: &[u8]) {
        let Ok(answer) = read_answer(packet) else { return };
        // Answers come from where was asked: a guess from elsewhere is no proof.
        if from.port() != self.server.port() || from.ip().to_canonical() != self.server.ip().to_canonical() {
            return;
        }
        let (is, count) = (|at: usize| self.ids.get(at) == Some(&answer.transaction), self.ports.len());
        match (self.stage, socket) {
            (Stage::Map, Socket::Control) if is(count + 1) => match answer.xor_mapped.or(answer.mapped) {
                Some(mapped) if answer.error.is_none() => {
                    self.stage = Stage::Ask { control: mapped.port() };
                    self.sent = 0;
                    self.send(now);
                }
                Some(_) | None => self.end(),
            },
            (Stage::Ask { .. }, Socket::Control) if is(count) => self.works = answer.error.is_none(),
            (Stage::Ask { .. }, Socket::Listener(at)) if is(at) => {
                if let Some(reached) = self.reached.get_mut(at) {
                    *reached = answer.error.is_none();
                }
            }
            _ => {}
        }
        if self.works && self.reached.iter().all(|reached| *reached) && matches!(self.stage, Stage::Ask { .. }) {
            self.end();
        }
    }

    fn send(&mut self, now: Instant) {
        self.sent += 1;
        // Not all at the same beat as others that measure.
        self.due = now + APART + Duration::from_millis(u64::from(self.rng.next_u32() % 50));
        let count = self.ports.len();
        match self.stage {
            Stage::Map => {
                let bytes = probe(self.ids[count + 1], Wish::default());
                self.outputs.push_back(Output::Transmit { socket: Socket::Control, bytes });
            }
            Stage::Ask { control } => {
                let ports = self.ports.iter().copied().enumerate().chain([(count, control)]);
                for (at, port) in ports.filter(|(at, _)| !self.reached.get(*at).unwrap_or(&self.works)) {
                    let bytes = probe(self.ids[at], Wish { to_port: Some(port), ..Wish::default() });
                    self.outputs.push_back(Output::Transmit { socket: Socket::Asker, bytes });
                }
            }
            Stage::Over => {}
        }
    }

    fn end(&mut self) {
        self.stage = Stage::Over;
        let told = |reached: &bool| if *reached { Some(true) } else { self.works.then_some(false) };
        let all = self.reached.iter().map(told).collect();
        self.outputs.push_back(Output::Done(all));
    }
}

#[cfg(test)]
mod tests {
    use wire::stun::behaviour::{answer_probe, read_probe};

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "virtual time has to start somewhere")]
    fn start() -> Instant {
        Instant::now()
    }

    const SERVER: &str = "203.0.113.1:3478";

    /// A world in which the server answers to wished ports if `obeys`, and these ports are let in.
    fn run(obeys: bool, open: &[u16], lies_from: Option<&str>) -> Vec<Option<bool>> {
        let server: SocketAddr = SERVER.parse().expect("an address");
        let (now, ports) = (start(), vec![5060, 5062]);
        let mut machine = Unasked::new(now, server, ports.clone(), [1; 32]);
        let control: SocketAddr = "198.51.100.7:61000".parse().expect("an address");
        loop {
            match machine.poll_output() {
                Some(Output::Done(all)) => return all,
                Some(Output::Transmit { socket, bytes }) => {
                    let wish = read_probe(&bytes).expect("a probe");
                    let answer = answer_probe(&bytes, control, server, None, 0).expect("an answer");
                    let from = lies_from.map_or(server, |text| text.parse().expect("an address"));
                    match wish.to_port {
                        None => machine.receive(now, socket, server, &answer),
                        Some(61_000) if obeys => machine.receive(now, Socket::Control, from, &answer),
                        Some(port) if obeys && open.contains(&port) => {
                            let at = ports.iter().position(|known| *known == port).expect("known");
                            machine.receive(now, Socket::Listener(at), from, &answer);
                        }
                        Some(_) => {}
                    }
                }
                None => {
                    let due = machine.poll_timeout().expect("not over");
                    assert!(due < start() + Duration::from_secs(6));
                    machine.handle_timeout(due);
                }
            }
        }
    }

    #[test]
    fn what_is_let_in_is_seen_and_the_rest_is_closed() {
        assert_eq!(run(true, &[5060, 5062], None), [Some(true), Some(true)]);
        assert_eq!(run(true, &[5060], None), [Some(true), Some(false)]);
        assert_eq!(run(true, &[], None), [Some(false), Some(false)]);
    }

    #[test]
    fn where_the_server_does_not_do_it_nothing_is_known() {
        assert_eq!(run(false, &[5060], None), [None, None]);
        assert_eq!(run(true, &[5060], Some("192.0.2.66:3478")), [None, None]);
    }
}
