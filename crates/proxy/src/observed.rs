//! What happened, for metrics and logs. Labels are enums; text fields are for
//! logs only.

use std::net::SocketAddr;

use nat::Side;
use registry::PassId;
use wire::Transport;
use wire::sip::{Method, Status};

use crate::Urgency;

/// Methods as a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each variant is the method of that name")]
pub enum MethodLabel {
    Invite,
    Ack,
    Bye,
    Cancel,
    Options,
    Register,
    Info,
    Update,
    Prack,
    Refer,
    Subscribe,
    Notify,
    Message,
    Publish,
    Other,
}

impl From<Method<'_>> for MethodLabel {
    fn from(method: Method<'_>) -> Self {
        match method {
            Method::Invite => Self::Invite,
            Method::Ack => Self::Ack,
            Method::Bye => Self::Bye,
            Method::Cancel => Self::Cancel,
            Method::Options => Self::Options,
            Method::Register => Self::Register,
            Method::Info => Self::Info,
            Method::Update => Self::Update,
            Method::Prack => Self::Prack,
            Method::Refer => Self::Refer,
            Method::Subscribe => Self::Subscribe,
            Method::Notify => Self::Notify,
            Method::Message => Self::Message,
            Method::Publish => Self::Publish,
            Method::Other(_) => Self::Other,
        }
    }
}

/// Why something from the network was dropped without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropReason {
    /// Not SIP enough to be answered.
    Malformed,
    /// A response that matches no transaction of ours (RFC 6026 §7.3).
    StrayResponse,
    /// A response whose topmost Via is not ours.
    ForeignVia,
    /// An ACK that belongs to nothing.
    StrayAck,
    /// Answers to this source would exceed what it sent.
    Budget,
    /// Nowhere to send to.
    Unroutable,
    /// Tables are full.
    Overload,
    /// A late final response to a non-INVITE request (RFC 4320 §4.2).
    LateResponse,
    /// It claims to be from an address of our own; what we send to ourselves never reaches the wire.
    OwnAddress,
}

/// What became of a request that was too long for UDP (RFC 3261 §18.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Oversize {
    /// It went over TCP.
    Tcp,
    /// It went by UDP all the same: the upstream has not answered over TCP.
    Untried,
    /// It went back to UDP: the connection did not come about.
    Failed,
}

/// What is known of an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UpstreamState {
    /// It answers probes.
    Up,
    /// It answers again, but is not yet first choice.
    Returning,
    /// It has never answered a probe; requests go there all the same.
    Silent,
    /// Its 503 asked for a pause (Retry-After).
    Busy,
    /// It failed; new requests go elsewhere, or are refused.
    Down,
}

/// Why a request went on to another address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FailoverCause {
    /// No response came.
    Silent,
    /// It could not be sent.
    Unreachable,
    /// 503 came.
    Unavailable,
}

/// What became of a phone that we registered again in its place (RFC 5626 §8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Renewed {
    /// The upstream knows its new address.
    Confirmed,
    /// The upstream said no.
    Refused,
    /// Nobody answered.
    Unanswered,
}

/// Why a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// BYE from the caller.
    CallerBye,
    /// BYE from the callee.
    CalleeBye,
    /// CANCEL before an answer.
    Cancelled,
    /// A final response other than 2xx.
    Failed,
    /// No media for the configured time.
    MediaTimeout,
    /// The media worker lost it.
    MediaFailed,
    /// siplatch stops.
    Stopped,
    /// Nothing was heard of the dialog any more (no answer to a request inside it).
    Lost,
}

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub enum Observed {
    /// A request came in.
    RequestIn {
        /// Side it came from.
        side: Side,
        /// Method.
        method: MethodLabel,
    },
    /// A transaction that was only kept for copies of its request made room for others.
    Forgotten {
        /// Side that its request came from.
        side: Side,
    },
    /// A request went out (not counting retransmissions).
    RequestOut {
        /// Side it went to.
        side: Side,
        /// Method.
        method: MethodLabel,
    },
    /// A response came in.
    ResponseIn {
        /// Side it came from.
        side: Side,
        /// Status code.
        status: Status,
    },
    /// A response went out.
    ResponseOut {
        /// Side it went to.
        side: Side,
        /// Status code.
        status: Status,
    },
    /// Something was dropped.
    Dropped {
        /// Side it came from.
        side: Side,
        /// Why.
        reason: DropReason,
    },
    /// A request was refused by us.
    Refused {
        /// Side it came from.
        side: Side,
        /// Method.
        method: MethodLabel,
        /// Our answer.
        status: Status,
        /// Its reason phrase.
        reason: &'static str,
        /// Where it came from, for the log.
        source: SocketAddr,
    },
    /// A request was refused, 503, because there was no room or time for it.
    Overloaded {
        /// What it was to us.
        urgency: Urgency,
    },
    /// Credentials were wrong: here, or in the upstream's eyes.
    AuthenticationFailed {
        /// Side it came from.
        side: Side,
        /// Method.
        method: MethodLabel,
        /// Where it came from. It answered a challenge that was sent there, so it is not forged.
        source: SocketAddr,
    },
    /// A request to the upstream was too long for UDP.
    Oversize {
        /// What became of it.
        outcome: Oversize,
    },
    /// We sent something again.
    Retransmitted {
        /// Side it went to.
        side: Side,
    },
    /// A transaction of ours timed out without an answer.
    TimedOut {
        /// Side that was silent.
        side: Side,
        /// Method.
        method: MethodLabel,
    },
    /// A phone was bound, or came back from a new address.
    Registered {
        /// AOR, for the log.
        aor: String,
        /// Where it is.
        flow: wire::Flow,
        /// True when only its address changed.
        moved: bool,
    },
    /// A binding went away.
    Unregistered {
        /// AOR, for the log.
        aor: String,
        /// True when it ran out, false when the phone removed it.
        expired: bool,
    },
    /// A REGISTER on its way to the upstream.
    Refresh {
        /// It changed nothing and was answered here.
        absorbed: bool,
    },
    /// We registered a phone in its place, because our address had changed.
    Renewed {
        /// What came of it.
        outcome: Renewed,
    },
    /// A request came back to our Contact without its token (found by user part: `found`).
    ContactWithoutToken {
        /// True if exactly one binding fitted.
        found: bool,
    },
    /// A call began.
    CallStarted {
        /// Its id in logs.
        call: PassId,
        /// From URI, for the log.
        from: String,
        /// To URI, for the log.
        to: String,
        /// Session-ID as the caller wrote it (RFC 7989), for the log.
        session: Option<String>,
    },
    /// It was answered.
    CallAnswered {
        /// Its id in logs.
        call: PassId,
        /// Session-ID as the callee wrote it (RFC 7989), for the log.
        session: Option<String>,
    },
    /// Why it is about to end, as far as somebody said so.
    CallEnding {
        /// Its id in logs.
        call: PassId,
        /// The final response to its INVITE.
        status: Option<Status>,
        /// A Reason field (RFC 3326), or our own words, for the log.
        reason: Option<String>,
        /// The status, if there is one, is ours.
        own: bool,
    },
    /// It ended.
    CallEnded {
        /// Its id in logs.
        call: PassId,
        /// Why.
        cause: Cause,
        /// It had been answered.
        answered: bool,
    },
    /// No port pair was free.
    PortsExhausted {
        /// Side of the leg.
        side: Side,
    },
    /// An upstream's state became known, or changed.
    Upstream {
        /// Its index.
        upstream: usize,
        /// Its best address's state.
        state: UpstreamState,
    },
    /// By which transport new requests go to an upstream that has several ways; told when it changes.
    UpstreamTransport {
        /// Its index.
        upstream: usize,
        /// Of its first choice.
        transport: Transport,
    },
    /// A request that failed went on to the next address.
    Failover {
        /// Index of the upstream that it went to.
        upstream: usize,
        /// It is another one than before, not another address of the same.
        other: bool,
        /// Why.
        cause: FailoverCause,
    },
    /// A phone stopped answering pings.
    PhoneGone {
        /// AOR, for the log.
        aor: String,
    },
    /// The address that we write on a listener changed.
    AdvertisedChanged {
        /// Which listener.
        listener: wire::ListenerId,
        /// The new one, `None` when it is not known.
        address: Option<SocketAddr>,
        /// How it was found: `"stun"`, `"upstream"`.
        by: &'static str,
    },
}
