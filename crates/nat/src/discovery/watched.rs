//! One watched socket: whom to ask, when, and what to report.
//!
//! Holds what is remembered, takes in what happens, and decides which answers
//! count (RFC 8489 §6.3). `ask.rs` has whom to ask and when, `judge.rs` what
//! follows from an answer. It must not compare the words of several servers:
//! that is [`Evidence`]'s.

mod ask;
mod judge;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha12Rng;
use wire::stun::{Answer, Unreadable, read_answer};

use super::evidence::Evidence;
use super::transaction::{Due, Transaction};
use super::{Config, Finding, Mapping, Output, SocketId};
use crate::Mapped;
use crate::address::{is_absurd, is_private};

/// An address that nobody has confirmed for this long is given up.
const FORGET: Duration = Duration::from_secs(600);
/// Requests of one transaction that a server may leave unanswered before
/// others are heard without it (1.5 s).
const PATIENCE: u8 = 3;

/// What one step may use.
pub(super) struct Context<'a> {
    pub(super) now: Instant,
    pub(super) socket: SocketId,
    pub(super) config: &'a Config,
    pub(super) servers: &'a [SocketAddr],
    pub(super) rng: &'a mut ChaCha12Rng,
    pub(super) outputs: &'a mut VecDeque<Output>,
}

impl Context<'_> {
    fn find(&mut self, finding: Finding) {
        tracing::debug!(socket = self.socket.0, ?finding, "discovery");
        self.outputs.push_back(Output::Finding { socket: self.socket, finding });
    }

    fn send(&mut self, server: usize, bytes: Vec<u8>) {
        if let Some(to) = self.servers.get(server) {
            self.outputs.push_back(Output::Transmit { socket: self.socket, to: *to, bytes });
        }
    }
}

/// What is remembered about one server.
#[derive(Debug, Default)]
struct Asked {
    transaction: Option<Transaction>,
    /// Transactions in the present check or refresh.
    asks: u8,
    /// Its silence was reported.
    silent: bool,
}

/// The address that is believed.
#[derive(Debug)]
struct Known {
    address: SocketAddr,
    /// The server whose port it has; `None` once that one has failed.
    anchor: Option<usize>,
    /// Two servers agree on the IP.
    agreed: bool,
    confirmed: Instant,
}

/// Conditions that were reported and last.
#[derive(Debug, Default)]
struct Noted {
    ip: bool,
    port: bool,
    /// Servers have agreed on the port, when they last were more than one.
    steady: bool,
    private: bool,
    alg: bool,
}

/// The state of one socket.
#[derive(Debug)]
pub(super) struct Watched {
    fast: bool,
    /// In step with the configured servers.
    asked: Vec<Asked>,
    evidence: Evidence,
    /// All servers were asked since the evidence was last cleared.
    checking: bool,
    /// Servers contradict each other: one alone is not believed while others may still speak.
    disputed: bool,
    known: Option<Known>,
    reported: Option<SocketAddr>,
    /// When it last changed, the later moment last.
    changes: [Option<Instant>; 2],
    next_ask: Option<Instant>,
    failures: u32,
    ended: VecDeque<[u8; 12]>,
    noted: Noted,
    queued: Option<Instant>,
}

impl Watched {
    pub(super) fn new(servers: usize) -> Self {
        Self {
            fast: false,
            asked: std::iter::repeat_with(Asked::default).take(servers).collect(),
            evidence: Evidence::default(),
            checking: false,
            disputed: false,
            known: None,
            reported: None,
            changes: [None; 2],
            next_ask: None,
            failures: 0,
            ended: VecDeque::new(),
            noted: Noted::default(),
            queued: None,
        }
    }

    pub(super) fn set_fast(&mut self, fast: bool) {
        self.fast = fast;
    }

    pub(super) fn mapped(&self) -> Option<Mapped> {
        self.known.as_ref().map(|known| Mapped(known.address))
    }

    /// What more than one server has said of the port.
    pub(super) fn mapping(&self) -> Mapping {
        match (self.noted.port, self.noted.steady) {
            (true, _) => Mapping::Dependent,
            (false, true) => Mapping::Independent,
            (false, false) => Mapping::Unknown,
        }
    }

    /// Nothing is known, and every server has been sent three requests.
    pub(super) fn is_unanswered(&self) -> bool {
        let tried = |asked: &Asked| asked.silent || asked.transaction.as_ref().is_some_and(|t| t.sent() >= PATIENCE);
        self.known.is_none() && !self.asked.is_empty() && self.asked.iter().all(tried)
    }

    /// No server has answered for 39.5 s, whatever is known.
    pub(super) fn is_silent(&self) -> bool {
        !self.asked.is_empty() && self.asked.iter().all(|asked| asked.silent)
    }

    /// The deadline that the timers hold for this socket.
    pub(super) fn queued(&self) -> Option<Instant> {
        self.queued
    }

    /// Settles on the next deadline.
    pub(super) fn requeue(&mut self) -> Option<Instant> {
        let transactions = self.asked.iter().filter_map(|asked| asked.transaction.as_ref()).map(Transaction::due);
        let forget = self.known.as_ref().map(|known| known.confirmed + FORGET);
        self.queued = transactions.chain(self.next_ask).chain(forget).min();
        self.queued
    }

    /// The list of servers is another one.
    pub(super) fn servers_changed(&mut self, cx: &mut Context<'_>, former: &[SocketAddr]) {
        for server in 0..self.asked.len() {
            self.end(server);
        }
        let place = |address: &SocketAddr| former.iter().position(|server| server == address);
        let silent = |server| place(server).and_then(|at| self.asked.get(at)).is_some_and(|asked| asked.silent);
        let asked = cx.servers.iter().map(|server| Asked { silent: silent(server), ..Asked::default() }).collect();
        self.asked = asked;
        if let Some(known) = &mut self.known {
            let anchor = known.anchor.and_then(|anchor| former.get(anchor));
            known.anchor = anchor.and_then(|anchor| cx.servers.iter().position(|server| server == anchor));
        }
        self.disputed = false;
        self.check(cx);
    }

    /// Some deadline has come.
    pub(super) fn timeout(&mut self, cx: &mut Context<'_>) {
        for server in 0..self.asked.len() {
            let Some(transaction) = &mut self.asked[server].transaction else { continue };
            match transaction.advance(cx.now) {
                None => {}
                Some(Due::Send) => {
                    let (bytes, sent) = (transaction.bytes(), transaction.sent());
                    cx.send(server, bytes);
                    if sent == PATIENCE {
                        self.lose(cx, server);
                    }
                }
                Some(Due::GiveUp) => {
                    self.end(server);
                    self.fail(cx, server);
                }
            }
        }
        if self.next_ask.is_some_and(|due| due <= cx.now) {
            self.refresh(cx);
        }
        if self.known.as_ref().is_some_and(|known| known.confirmed + FORGET <= cx.now) {
            self.unmap(cx);
        }
        self.settle(cx);
    }

    /// A STUN packet has arrived on this socket.
    pub(super) fn received(&mut self, cx: &mut Context<'_>, from: SocketAddr, packet: &[u8]) {
        let answer = match read_answer(packet) {
            Ok(answer) => answer,
            Err(Unreadable::NotAResponse) => return,
            Err(Unreadable::Damaged(_)) => return cx.find(Finding::Forged),
        };
        let asked = |asked: &Asked| asked.transaction.as_ref().is_some_and(|t| t.id() == answer.transaction);
        let Some(server) = self.asked.iter().position(asked) else {
            if !self.ended.contains(&answer.transaction) {
                cx.find(Finding::Forged);
            }
            return;
        };
        if cx.servers.get(server).map(|server| canonical(*server)) != Some(canonical(from)) {
            return cx.find(Finding::Forged);
        }
        self.end(server);
        match self.usable(cx, &answer) {
            Ok(address) => {
                self.asked[server].silent = false;
                self.heard(cx, server, address);
            }
            Err(Useless::Private) => self.lose(cx, server),
            Err(Useless::Failed) => self.fail(cx, server),
        }
        self.settle(cx);
    }

    /// The address that an answer gives, if it is one that we may believe.
    fn usable(&mut self, cx: &mut Context<'_>, answer: &Answer) -> Result<SocketAddr, Useless> {
        if answer.error.is_some() || answer.unknown {
            return Err(Useless::Failed);
        }
        if let (Some(xor), Some(plain)) = (answer.xor_mapped, answer.mapped) {
            let differ = canonical(xor) != canonical(plain);
            if differ && !self.noted.alg {
                cx.find(Finding::XorDiffersFromMapped);
            }
            self.noted.alg = differ;
        }
        let address = canonical(answer.xor_mapped.or(answer.mapped).ok_or(Useless::Failed)?);
        if is_absurd(address.ip()) || address.ip().is_loopback() || address.port() == 0 {
            cx.find(Finding::Forged);
            return Err(Useless::Failed);
        }
        let refused = is_private(address.ip()) && !cx.config.accept_private;
        if refused && !self.noted.private {
            cx.find(Finding::PrivateMapped(address.ip()));
        }
        self.noted.private = refused;
        if refused { Err(Useless::Private) } else { Ok(address) }
    }

    fn anchor(&self) -> Option<usize> {
        self.known.as_ref()?.anchor
    }
}

/// Why an answer gives no address.
enum Useless {
    /// A private one, which the configuration does not allow.
    Private,
    /// An error, or none.
    Failed,
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
