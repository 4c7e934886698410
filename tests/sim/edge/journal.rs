//! What crossed the machines' border, in order.

use ::media::{Command, Fact, Verdict};
use proxy::Observed;
use registry::Change;
use std::net::SocketAddr;
use std::rc::Rc;
use wire::Flow;

use crate::sip::Msg;

/// A SIP message that came in or went out.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) flow: Flow,
    pub(crate) bytes: Rc<[u8]>,
    /// As our own parser reads it.
    pub(crate) msg: Option<Rc<Msg>>,
}

/// What becomes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    /// It came in.
    Opened(Flow),
    /// The machine wants it.
    Asked(Flow),
    /// It carries a keep-alive of ours.
    Kept(Flow),
    /// It has ended; the machine is told next.
    Ended(Flow),
}

/// One crossing.
#[derive(Debug)]
pub(crate) enum Entry {
    /// A message in; what follows up to the next input is its effect.
    Received(Message),
    /// Another input, or a deadline.
    Timer,
    /// A message out.
    Sent(Message),
    Line(Line),
    Command(Command),
    /// As a worker emitted it.
    Fact(Fact),
    Changed(Change),
    /// An order to the ports, and what came of it.
    Ports(::media::ports::Command, Option<::media::ports::Event>),
    Observed(Observed),
    /// A packet that came in on a media socket, and what became of it.
    Judged {
        on: SocketAddr,
        from: SocketAddr,
        len: usize,
        verdict: Verdict,
        sent: Option<(SocketAddr, SocketAddr)>,
    },
    /// A packet of a worker's own.
    Own {
        from: SocketAddr,
        to: SocketAddr,
    },
}

impl Entry {
    /// A line for the ladder; none for messages, which stand there anyway.
    pub(crate) fn note(&self) -> Option<String> {
        match self {
            Self::Judged { on, from, verdict: verdict @ Verdict::Drop(_), .. } => {
                Some(format!("       siplatch {on} from {from}: {verdict:?}"))
            }
            Self::Command(command) => Some(format!("       siplatch {command:?}")),
            Self::Line(line) => Some(format!("       siplatch {line:?}")),
            Self::Fact(fact) => Some(format!("       siplatch {fact:?}")),
            Self::Ports(command, event) => Some(format!("       siplatch {command:?} {event:?}")),
            Self::Observed(observed) => Some(format!("       siplatch {observed:?}")),
            Self::Received(_)
            | Self::Timer
            | Self::Sent(_)
            | Self::Changed(_)
            | Self::Judged { .. }
            | Self::Own { .. } => None,
        }
    }

    pub(crate) fn received(flow: Flow, bytes: &[u8]) -> Self {
        Self::Received(Message::new(flow, bytes))
    }

    pub(crate) fn sent(flow: Flow, bytes: &[u8]) -> Self {
        Self::Sent(Message::new(flow, bytes))
    }
}

impl Message {
    fn new(flow: Flow, bytes: &[u8]) -> Self {
        Self { flow, bytes: bytes.into(), msg: Msg::parse(bytes).map(Rc::new) }
    }
}
