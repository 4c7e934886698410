//! One Binding transaction over UDP (RFC 8489 §6.2.1).
//!
//! Decides when a request is sent again and when it has failed: at 0, 0.5,
//! 1.5, 3.5, 7.5, 15.5 and 31.5 s, given up at 39.5 s. It must not know what
//! an answer is good for.

use std::time::{Duration, Instant};

use rand_core::Rng;

/// RTO: the wait after the first request, doubled after each further one.
const RTO: Duration = Duration::from_millis(500);
/// Rc: requests in all.
const REQUESTS: u8 = 7;
/// Rm: the wait after the last request, in RTOs.
const LAST_WAIT: u32 = 16;

/// A request that is under way.
#[derive(Debug)]
pub(super) struct Transaction {
    id: [u8; 12],
    sent: u8,
    due: Instant,
}

/// What a due transaction asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Send the request again.
    Send,
    /// It has failed.
    GiveUp,
}

impl Transaction {
    /// A transaction whose first request leaves now, with an id that cannot be
    /// guessed (§5: the defence against answers from off the path).
    pub(super) fn new(now: Instant, rng: &mut impl Rng) -> Self {
        let mut id = [0; 12];
        rng.fill_bytes(&mut id);
        Self { id, sent: 1, due: now + RTO }
    }

    pub(super) fn id(&self) -> [u8; 12] {
        self.id
    }

    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// The request as it goes onto the wire, the same each time (§6.2.1).
    pub(super) fn bytes(&self) -> Vec<u8> {
        wire::stun::request(self.id)
    }

    /// Requests that were sent.
    pub(super) fn sent(&self) -> u8 {
        self.sent
    }

    /// What is due, if anything is. A clock that jumped ahead (suspend) leads to
    /// one request, not to all that were missed.
    pub(super) fn advance(&mut self, now: Instant) -> Option<Due> {
        if now < self.due {
            return None;
        }
        if self.sent >= REQUESTS {
            return Some(Due::GiveUp);
        }
        let wait = if self.sent + 1 == REQUESTS { RTO * LAST_WAIT } else { RTO * (1 << self.sent) };
        self.sent += 1;
        self.due = now + wait;
        Some(Due::Send)
    }
}
