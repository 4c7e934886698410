//! One mapping: what is wanted, what the router has granted, and when it is
//! asked for again.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use rand_core::Rng;
use wire::portmap::{MapRequest, Proto};

use super::{Protocol, Want, wish};

/// A lease that is shorter would have us ask without end.
const SHORTEST: u32 = 10;
/// A longer one is renewed as if it were a day.
const LONGEST: u32 = 86_400;
/// When a refused mapping is asked for again: then twice as late, up to the last.
const AGAIN: Duration = Duration::from_secs(60);
const AGAIN_SOON: Duration = Duration::from_secs(5);
const AGAIN_MOST: Duration = Duration::from_secs(1800);

/// Which mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    proto: Proto,
    internal: u16,
    external: u16,
}

impl Key {
    pub(super) fn of(want: &Want) -> Self {
        Self { proto: want.proto, internal: want.internal, external: want.external }
    }

    /// One number for each.
    pub(super) fn number(self) -> u64 {
        u64::from(self.proto == Proto::Tcp) << 32 | u64::from(self.internal) << 16 | u64::from(self.external)
    }
}

/// What became of a mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Not there, or no more; it is being asked for.
    Waiting,
    /// There. The address is unknown until the router has told it.
    Installed(Option<Ipv4Addr>),
    /// Somebody else has the public port.
    Conflict(Option<String>),
    /// The router does not want to.
    Refused(Refusal),
}

impl State {
    /// In one word.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Installed(_) => "installed",
            Self::Conflict(_) => "conflict",
            Self::Refused(_) => "refused",
        }
    }
}

/// Why a mapping was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Hosts may not ask this router.
    NotAuthorized,
    /// It has no uplink now.
    NetworkDown,
    /// It has no room for more, or a quota is reached.
    NoResources,
    /// It would end after so many seconds.
    ShortLease(u32),
    /// It would have this public address.
    External(Ipv4Addr),
    /// The router is reached from this address of ours, and the socket is on another one.
    Elsewhere(Ipv4Addr),
    /// Another error of this number.
    Code(u16),
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotAuthorized => f.write_str("its settings forbid it"),
            Self::NetworkDown => f.write_str("it has no uplink now"),
            Self::NoResources => f.write_str("it has no room for more"),
            Self::ShortLease(seconds) => write!(f, "it would keep it for {seconds} s only"),
            Self::External(ip) => write!(f, "{ip} cannot be its public address"),
            Self::Elsewhere(local) => write!(f, "it maps ports of {local} only, from where it is asked"),
            Self::Code(code) => write!(f, "error {code}"),
        }
    }
}

#[derive(Debug)]
pub(super) struct Lease {
    pub(super) want: Want,
    pub(super) nonce: [u8; 12],
    pub(super) state: State,
    /// When it is to be asked for, or renewed.
    pub(super) due: Option<Instant>,
    /// When it ends by itself.
    pub(super) until: Option<Instant>,
    /// Wanted no more.
    pub(super) leaving: bool,
    /// The router was asked for it, so it may be there.
    pub(super) touched: bool,
    /// UPnP: that the port is nobody else's was seen.
    pub(super) looked: bool,
    failures: u32,
}

impl Lease {
    pub(super) fn new(now: Instant, want: Want, nonce: [u8; 12]) -> Self {
        Self {
            want,
            nonce,
            state: State::Waiting,
            due: Some(now),
            until: None,
            leaving: false,
            touched: false,
            looked: false,
            failures: 0,
        }
    }

    pub(super) fn key(&self) -> Key {
        Key::of(&self.want)
    }

    pub(super) fn wish(&self, lifetime: u32) -> MapRequest {
        wish(&self.want, lifetime)
    }

    pub(super) fn installed(&self) -> bool {
        matches!(self.state, State::Installed(_)) && !self.leaving
    }

    /// When an installed one ends, if it is not renewed.
    pub(super) fn ends(&self) -> Option<Instant> {
        self.until.filter(|_| self.installed())
    }

    pub(super) fn leave(&mut self) {
        self.leaving = true;
        self.due = None;
    }

    /// Another router: nothing is there.
    pub(super) fn begin_anew(&mut self, now: Instant) {
        *self = Self::new(now, self.want.clone(), self.nonce);
    }

    /// The router has forgotten it. That the port is nobody else's was seen; should it be by now, the router says so.
    pub(super) fn lost(&mut self, again: Instant) {
        if self.installed() {
            self.state = State::Waiting;
            self.until = None;
            self.due = Some(again);
        }
    }

    /// It ends by itself when its time has come.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.ends().is_some_and(|until| until <= now) {
            self.lost(now);
        }
    }

    /// Granted for so many seconds; `None` has no end. Renewed at a random point between half and five eighths
    /// of its life (RFC 6887 §11.2.1), with the other protocols at half (RFC 6886 §3.3).
    pub(super) fn granted(
        &mut self,
        now: Instant,
        external: Option<Ipv4Addr>,
        lifetime: Option<u32>,
        protocol: Protocol,
        rng: &mut impl Rng,
    ) -> Result<(), Refusal> {
        if let Some(short) = lifetime.filter(|lifetime| *lifetime < SHORTEST) {
            return Err(Refusal::ShortLease(short));
        }
        let life = lifetime.map(|lifetime| Duration::from_secs(u64::from(lifetime.min(LONGEST))));
        let late = if protocol == Protocol::Pcp { rng.next_u32() % 1000 } else { 0 };
        self.due = life.map(|life| now + life / 2 + life * late / 8000);
        self.until = life.map(|life| now + life);
        self.state = State::Installed(external);
        self.failures = 0;
        Ok(())
    }

    /// Not granted. What was granted before lasts until its end. `wait`: no sooner than the router says.
    pub(super) fn refused(&mut self, now: Instant, state: State, wait: Duration) {
        let soon = matches!(state, State::Refused(Refusal::NetworkDown));
        let first = if soon { AGAIN_SOON } else { AGAIN };
        let pause = first.saturating_mul(2_u32.saturating_pow(self.failures.min(16)));
        let most = if soon { AGAIN } else { AGAIN_MOST };
        self.failures = self.failures.saturating_add(1);
        self.due = Some(now + pause.min(most).max(wait.min(AGAIN_MOST)));
        self.looked = false;
        if !self.installed() {
            self.state = state;
        }
    }

    /// Somebody else has the public port, whatever was granted before.
    pub(super) fn taken(&mut self, now: Instant, owner: Option<String>) {
        self.until = None;
        self.state = State::Waiting;
        self.refused(now, State::Conflict(owner), Duration::from_secs(600));
    }
}
