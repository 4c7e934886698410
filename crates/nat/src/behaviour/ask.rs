//! One question, asked up to four times (RFC 8489 §6.2.1 with Rc = 4, as
//! somebody waits for the whole): at 0, 0.5, 1.5 and 3.5 s, given up at 5 s.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand_core::Rng;
use wire::stun::behaviour::{Wish, probe};

/// Waits after each request.
const WAITS: [Duration; 4] =
    [Duration::from_millis(500), Duration::from_millis(1000), Duration::from_millis(2000), Duration::from_millis(1500)];

/// A question under way.
#[derive(Debug)]
pub(super) struct Ask {
    to: SocketAddr,
    from: SocketAddr,
    id: [u8; 12],
    wish: Wish,
    sent: usize,
    due: Instant,
}

/// What a due question asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Send it again.
    Send,
    /// Nobody answers.
    GiveUp,
}

impl Ask {
    /// A question to `to` that must be answered from `from`; it is sent for the first time now.
    pub(super) fn new(now: Instant, to: SocketAddr, from: SocketAddr, wish: Wish, rng: &mut impl Rng) -> Self {
        let mut id = [0; 12];
        rng.fill_bytes(&mut id);
        Self { to, from, id, wish, sent: 1, due: now + WAITS[0] }
    }

    pub(super) fn to(&self) -> SocketAddr {
        self.to
    }

    pub(super) fn due(&self) -> Instant {
        self.due
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        probe(self.id, self.wish)
    }

    /// Is this packet the question itself, come back?
    pub(super) fn is(&self, packet: &[u8]) -> bool {
        packet == self.bytes()
    }

    /// May an answer of this id come from there? Who does not know the wish answers from where it was asked.
    pub(super) fn expects(&self, from: SocketAddr, id: [u8; 12]) -> bool {
        id == self.id && (self.answers_from(from) || is_same(from, self.to))
    }

    /// Is this where the answer was to come from?
    pub(super) fn answers_from(&self, from: SocketAddr) -> bool {
        is_same(from, self.from)
    }

    pub(super) fn advance(&mut self, now: Instant) -> Option<Due> {
        if now < self.due {
            return None;
        }
        match WAITS.get(self.sent) {
            Some(wait) => {
                self.sent += 1;
                self.due = now + *wait;
                Some(Due::Send)
            }
            None => Some(Due::GiveUp),
        }
    }
}

fn is_same(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() == b.port() && a.ip().to_canonical() == b.ip().to_canonical()
}
