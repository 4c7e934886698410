//! Where a message goes.
//!
//! The whole signalling core as one machine with four verbs. It owns the
//! [`registry`] and the media control half ([`media::offer`]); it opens no
//! socket, reads no clock and draws no randomness of its own. This page is
//! the interface; the flow of a request is the list of modules in
//! [`request`], in order.
#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        clippy::wildcard_enum_match_arm,
        clippy::unwrap_used,
        reason = "a test reads the clock once, to have an instant to count from"
    )
)]

mod absorb;
mod ack;
mod best;
mod cancel;
mod challenge;
pub mod config;
mod connection;
mod credentials;
mod cseq;
mod dialog;
mod digest;
mod ending;
mod given;
mod gruu;
mod hashes;
mod held;
mod holdings;
mod keepalive;
mod late;
mod ledger;
mod locate;
mod machine;
mod moved;
mod observed;
mod ours;
mod outbound;
mod probe;
mod reconfigure;
mod register;
mod registrar;
mod renew;
mod request;
mod response;
mod restore;
mod rewrite;
#[cfg(test)]
mod rig;
mod session_timer;
mod silence;
mod size;
mod sweep;
mod timer;
mod token;
pub mod trace;
mod transaction;
mod trunk;
mod upstream;

pub use config::Config;
pub use locate::question;
pub use machine::Proxy;
pub use observed::{Cause, DropReason, FailoverCause, MethodLabel, Observed, Oversize, Renewed, UpstreamState};
pub use request::admit::Urgency;
pub use trace::{Filter, Traced};

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use media::ports;
use nat::Mapped;
use nat::alg::Rewritten;
use question::{Answer, Question};
use registry::{Change, Record};
use wire::{Flow, ListenerId, Transmit};

/// What happens to the machine.
#[derive(Debug)]
pub enum Input<'a> {
    /// A datagram that `wire::demux` took for SIP, or a framed stream message.
    Received {
        /// Where it came in.
        flow: Flow,
        /// The whole of it.
        bytes: &'a [u8],
    },
    /// A message could not be sent (RFC 3261 §16.9, §18.4).
    Unsent {
        /// The way that failed.
        flow: Flow,
    },
    /// A connection came in: its handshakes are done.
    Opened {
        /// Its flow; `connection` is below [`OUTGOING`].
        flow: Flow,
        /// The names that its peer's certificate proves (RFC 5922 §7.1), lower case; none without one.
        peer: Vec<String>,
    },
    /// A connection has ended, or one that [`Output::Connect`] asked for did
    /// not come about. Nothing that was still queued on it will leave.
    Closed {
        /// Its flow.
        flow: Flow,
    },
    /// The peer's keep-alive came in, a double CRLF, and is answered already (RFC 5626 §4.4.1).
    KeepAlive {
        /// Its flow.
        flow: Flow,
    },
    /// A single CRLF, or a WebSocket pong, came in: the answer to a keep-alive of ours (RFC 5626 §4.4.1).
    Pong {
        /// Its flow.
        flow: Flow,
    },
    /// A STUN response that [`Proxy::asked_stun`] knows.
    Stun {
        /// Where it came in.
        flow: Flow,
        /// The whole of it.
        bytes: &'a [u8],
    },
    /// News of port pairs.
    Ports(ports::Event),
    /// News from a media worker.
    Fact(media::Fact),
    /// A listener's mapped address became known, changed, or was lost.
    Mapped {
        /// The listener whose socket asked.
        listener: ListenerId,
        /// What STUN says now.
        mapped: Option<Mapped>,
    },
    /// How rarely our own mappings must be refreshed, as learnt from the router.
    KeepAliveInterval(Duration),
    /// What is known of somebody on the way who rewrites SIP in the clear.
    Rewritten(Rewritten),
    /// The STUN servers, resolved, that sockets of a call may ask.
    StunServers(Vec<SocketAddr>),
    /// The answer to [`Output::Resolve`].
    Resolved {
        /// As asked.
        question: Question,
        /// What came of it.
        answer: Answer,
    },
    /// No message that is read from now on has waited for longer: under load
    /// the least urgent requests are refused. Zero when nothing waits.
    Lag(Duration),
    /// What an earlier process left, before the first message: bindings and
    /// calls as `registry::snapshot` restores them.
    Restore(Vec<Record>),
    /// A new configuration, prepared and valid.
    Reconfigure(Arc<Config>),
    /// Somebody watches what the filter names, as watcher 0 to [`trace::WATCHERS`] - 1, or no longer does.
    Watch {
        /// Which watcher.
        watcher: u8,
        /// What it watches.
        filter: Option<Filter>,
    },
    /// The daemon stops: end all calls with BYE.
    Stop,
}

/// Connections that we open are numbered from here on, by the machine; those
/// that come in are numbered below, by whoever accepts them. 0 is none.
pub const OUTGOING: u32 = 1 << 31;

/// How much the machine holds, for gauges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Work {
    /// Requests in progress, their transactions' linger included.
    pub contexts: usize,
    /// Of these, how many wait for ports or an address.
    pub parked: usize,
    /// Octets that these requests hold.
    pub octets: usize,
    /// Bindings.
    pub bindings: usize,
    /// Calls and subscriptions, one per pass.
    pub calls: usize,
    /// Media streams, those included that a worker is closing.
    pub streams: usize,
}

/// What the machine wants done, in this order.
#[derive(Debug, PartialEq)]
pub enum Output {
    /// Send a message.
    Transmit(Transmit),
    /// Send a datagram that is no message: a STUN Binding request that keeps a mapping.
    KeepAlive(Transmit),
    /// Media from where this listener leads to has stopped: is its mapped address what it was?
    Doubt {
        /// Which listener.
        listener: ListenerId,
    },
    /// Open a connection; messages for its flow follow at once, and wait for it.
    Connect {
        /// Its flow, `remote` where to; `local` is the listener's, not the socket's.
        flow: Flow,
        /// Whom its certificate must name, for TLS (RFC 5922 §7.2); the host of the WebSocket handshake.
        name: String,
        /// It is up within this, or it is [`Input::Closed`].
        within: Duration,
    },
    /// Close a connection, once what is queued on it has left.
    Close {
        /// Its flow.
        flow: Flow,
    },
    /// Whoever is behind a connection is known now: it does not count among
    /// the strangers, of which there may be few.
    Proven {
        /// Its flow.
        flow: Flow,
    },
    /// An order to a media worker, `worker` as in its stream's id.
    Media(media::Command),
    /// An order to the ports.
    Ports(ports::Command),
    /// Ask the domain name system; answered by [`Input::Resolved`], also when it fails.
    Resolve(Question),
    /// The registry changed.
    Changed(Change),
    /// Something happened that people count or read about.
    Observed(Observed),
    /// A message of a watched call came or leaves.
    Traced(Box<Traced>),
}
