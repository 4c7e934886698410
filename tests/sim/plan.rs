//! What is going to happen in a run: plans of calls, that both phones know.
//!
//! An INVITE carries the number of its plan in a header field of its own,
//! which also shows that unknown fields pass.

use std::time::Duration;

use crate::clock::Time;
use crate::flows::Turn;

/// The field that names the plan.
pub(crate) const FIELD: &str = "X-Sim";

/// One end of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    Caller,
    Callee,
}

impl End {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Caller => Self::Callee,
            Self::Callee => Self::Caller,
        }
    }
}

/// What the callee does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Accept,
    Reject(u16),
    Never,
}

/// A phone disappears in the middle of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Vanish {
    pub(crate) end: End,
    /// After the call was confirmed.
    pub(crate) after: Duration,
    pub(crate) other: Survivor,
}

/// What the other end of it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Survivor {
    /// It goes on talking, and hangs up when it has heard nothing for long.
    Talks,
    /// It says nothing more (silence suppression): only siplatch can end the call.
    Mute,
    /// It disappears, too.
    Vanishes,
}

/// One call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CallPlan {
    /// Index among the plans.
    pub(crate) id: usize,
    /// Phones, by index.
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) at: Time,
    /// From the INVITE's arrival to the callee's final answer.
    pub(crate) ring: Duration,
    pub(crate) answer: Answer,
    /// The callee plays an announcement in a 183 first.
    pub(crate) early_media: bool,
    /// INVITE without SDP (RFC 3264 §5, RFC 6337 §3.1.2).
    pub(crate) delayed_offer: bool,
    pub(crate) talk: Duration,
    pub(crate) hangs_up: End,
    /// The caller gives up after this.
    pub(crate) cancel: Option<Duration>,
    /// Offers and answers in the middle.
    pub(crate) turns: Vec<Turn>,
    /// A request of this method in the middle.
    pub(crate) inside: Option<&'static str>,
    /// What a second phone of the callee's does, if it has one.
    pub(crate) twin: Answer,
    /// siplatch is stopped in the middle of it.
    pub(crate) stopped: bool,
    pub(crate) vanish: Option<Vanish>,
}

impl CallPlan {
    /// A plain call.
    pub(crate) fn simple(id: usize, (from, to): (usize, usize), at: Time, talk: Duration) -> Self {
        Self {
            id,
            from,
            to,
            at,
            ring: Duration::from_millis(800),
            answer: Answer::Accept,
            early_media: false,
            delayed_offer: false,
            talk,
            hangs_up: End::Caller,
            cancel: None,
            turns: Vec::new(),
            inside: None,
            twin: Answer::Never,
            stopped: false,
            vanish: None,
        }
    }

    /// True when the plan ends in a conversation.
    pub(crate) fn talks(&self) -> bool {
        self.answer == Answer::Accept && self.cancel.is_none()
    }

    /// The tone that an end of this call plays.
    pub(crate) fn tone(&self, end: End) -> u32 {
        0x51b0_0000 + (self.id as u32) * 2 + u32::from(end == End::Callee)
    }

    /// The longest that it can last, with room for lost messages.
    pub(crate) fn lasts(&self) -> Duration {
        let early = self.cancel.unwrap_or(self.ring);
        early + if self.talks() { self.talk } else { Duration::from_secs(2) } + Duration::from_secs(3)
    }
}
