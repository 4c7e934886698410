//! A request to a TURN server that is under way (RFC 8489 §6.2).
//!
//! Decides when it is sent again and when it has failed: over UDP at 0, 0.5,
//! 1.5, 3.5, 7.5 and 15.5 s, given up at 19.5 s; over a stream it is sent once.
//! It must not know what an answer is good for.

use std::net::IpAddr;
use std::time::{Duration, Instant};

/// RTO: the wait after the first request, doubled after each further one.
const RTO: Duration = Duration::from_millis(500);
/// Rc: requests in all.
const REQUESTS: u8 = 6;
/// The wait after the last request.
const LAST_WAIT: Duration = Duration::from_secs(4);
/// On a stream (Ti, as long as over UDP).
const STREAM_WAIT: Duration = Duration::from_millis(19_500);

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Allocate,
    Refresh,
    /// A Refresh with lifetime 0.
    Leave,
    Permit(IpAddr),
    Bind(u16),
}

/// A request under way.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) id: [u8; 12],
    pub(super) what: What,
    pub(super) bytes: Vec<u8>,
    /// How often it was refused for its credentials (401, 438).
    pub(super) challenged: u8,
    pub(super) due: Instant,
    sent: u8,
    stream: bool,
}

/// What a due request asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    Send,
    GiveUp,
}

impl Pending {
    /// Sent now.
    pub(super) fn new(now: Instant, id: [u8; 12], what: What, bytes: Vec<u8>, challenged: u8, stream: bool) -> Self {
        let due = now + if stream { STREAM_WAIT } else { RTO };
        Self { id, what, bytes, challenged, due, sent: 1, stream }
    }

    /// What is due, if anything is.
    pub(super) fn advance(&mut self, now: Instant) -> Option<Due> {
        if now < self.due {
            return None;
        }
        if self.stream || self.sent >= REQUESTS {
            return Some(Due::GiveUp);
        }
        let wait = if self.sent + 1 == REQUESTS { LAST_WAIT } else { RTO * (1 << self.sent) };
        self.sent += 1;
        self.due = now + wait;
        Some(Due::Send)
    }
}
