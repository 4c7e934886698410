//! Labels: every value that a label can have, from enums alone, so that nothing
//! a stranger sends can make a new series.

use media::Component;
use nat::Side;
use nat::relayed::Why as RelayedWhy;
use nat::turn::End;
use net::transport::Why;
use net::turn::Failure as TurnFailure;
use proxy::config::Role;
use proxy::question::{Answer, Kind as Question};
use proxy::{Cause, DropReason, FailoverCause, MethodLabel, Oversize, UpstreamState};
use registry::CallState;
use registry::snapshot::Lost;
use wire::Transport;
use wire::sip::Status;

/// An enum as a label.
pub(crate) trait Label: Copy + 'static {
    /// All its values, in order.
    const VALUES: &'static [&'static str];

    /// The value of this variant.
    fn label(self) -> &'static str;

    /// Its place among all values.
    fn place(self) -> usize {
        let label = self.label();
        Self::VALUES.iter().position(|value| *value == label).unwrap_or_default()
    }
}

/// Values of all labels of a series, in their order.
pub(crate) trait Labels {
    /// The place of this combination among all: the last label changes fastest.
    fn place(self) -> usize;
}

impl Labels for () {
    fn place(self) -> usize {
        0
    }
}

impl<A: Label> Labels for (A,) {
    fn place(self) -> usize {
        self.0.place()
    }
}

impl<A: Label, B: Label> Labels for (A, B) {
    fn place(self) -> usize {
        self.0.place() * B::VALUES.len() + self.1.place()
    }
}

impl<A: Label, B: Label, C: Label> Labels for (A, B, C) {
    fn place(self) -> usize {
        (self.0, self.1).place() * C::VALUES.len() + self.2.place()
    }
}

/// Writes the values and the exhaustive match from one list.
macro_rules! label {
    ($name:ty { $($variant:ident => $value:literal),* $(,)? }) => {
        impl Label for $name {
            const VALUES: &'static [&'static str] = &[$($value),*];

            fn label(self) -> &'static str {
                match self { $(Self::$variant => $value),* }
            }

            fn place(self) -> usize {
                enum Place { $($variant),* }
                match self { $(Self::$variant => Place::$variant as usize),* }
            }
        }
    };
}

label!(Side { Inner => "inner", Outer => "outer" });
label!(Role { Office => "office", Border => "border", Standalone => "standalone" });
label!(Transport { Udp => "udp", Tcp => "tcp", Tls => "tls", Ws => "ws", Wss => "wss" });
label!(Why {
    Ended => "ended", Lost => "lost", Asked => "asked", Unframed => "unframed", Slow => "slow", Silent => "silent",
    Idle => "idle", Evicted => "evicted", Overflow => "overflow", Handshake => "handshake",
    Unreachable => "unreachable",
});
label!(Component { Rtp => "rtp", Rtcp => "rtcp" });
label!(CallState { Early => "early", Confirmed => "confirmed", Ending => "ending" });
label!(MethodLabel {
    Invite => "INVITE", Ack => "ACK", Bye => "BYE", Cancel => "CANCEL", Options => "OPTIONS",
    Register => "REGISTER", Info => "INFO", Update => "UPDATE", Prack => "PRACK", Refer => "REFER",
    Subscribe => "SUBSCRIBE", Notify => "NOTIFY", Message => "MESSAGE", Publish => "PUBLISH", Other => "other",
});
label!(DropReason {
    Malformed => "malformed", StrayResponse => "stray_response", ForeignVia => "foreign_via",
    StrayAck => "stray_ack", Budget => "budget", Unroutable => "unroutable", Overload => "overload",
    LateResponse => "late_response", OwnAddress => "own_address",
});
label!(Lost { Expired => "expired", Listener => "listener", Damaged => "damaged" });
label!(Cause {
    CallerBye => "caller_bye", CalleeBye => "callee_bye", Cancelled => "cancelled", Failed => "failed",
    MediaTimeout => "media_timeout", MediaFailed => "media_failed", Stopped => "stopped", Lost => "lost",
});
label!(Oversize { Tcp => "tcp", Untried => "untried", Failed => "failed" });
label!(proxy::Urgency { New => "new", Dialog => "dialog", Refresh => "refresh", Last => "last" });
label!(proxy::Renewed { Confirmed => "confirmed", Refused => "refused", Unanswered => "unanswered" });
label!(UpstreamState {
    Up => "up", Returning => "returning", Silent => "silent", Busy => "busy", Down => "down",
});
label!(FailoverCause { Silent => "silent", Unreachable => "unreachable", Unavailable => "unavailable" });
label!(Question { Naptr => "naptr", Srv => "srv", Addresses => "addresses" });
label!(media::Drop {
    NoStream => "no_stream", RefusedSource => "refused_source", NotLatched => "not_latched",
    NotMedia => "not_media", NoTarget => "no_target", EarlyCap => "early_cap", Loop => "loop",
    BadCheck => "bad_check", Unauthenticated => "srtp_unauthenticated",
});

label!(media::silence::Reason {
    Refused => "refused", Unauthenticated => "srtp_unauthenticated", Family => "family", Private => "private", Never => "never", Stopped => "stopped",
});

/// Whether something came or went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// It came.
    In,
    /// It went.
    Out,
}
label!(Direction { In => "in", Out => "out" });

/// What outlives the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// A registration.
    Registration,
    /// A call or subscription.
    Call,
}
label!(Kept { Registration => "registration", Call => "call" });

/// What became of a binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BindingEvent {
    /// Bound, or bound again.
    Bound,
    /// Came back from another address.
    Moved,
    /// Ran out.
    Expired,
    /// Removed by the phone.
    Removed,
    /// Stopped answering.
    Gone,
}
label!(BindingEvent { Bound => "bound", Moved => "moved", Expired => "expired", Removed => "removed", Gone => "gone" });

/// A latch's first source, or another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Latch {
    /// The first.
    First,
    /// Another.
    Moved,
}
label!(Latch { First => "first", Moved => "moved" });

/// What became of a connection of TCP media.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Connected {
    /// The peer opened it.
    Accepted,
    /// We opened it.
    Dialled,
    /// From where none may come.
    Refused,
    /// Beside one that lives.
    Busy,
    /// It did not come about.
    Failed,
    /// Nobody could listen for it.
    Unbound,
}
label!(Connected {
    Accepted => "accepted", Dialled => "dialled", Refused => "refused", Busy => "busy", Failed => "failed",
    Unbound => "unbound",
});

/// What a datagram on a signalling socket was taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Datagram {
    /// A message.
    Sip,
    /// An answer to our own STUN request.
    StunAnswer,
    /// A STUN request of a phone, answered.
    StunRequest,
    /// A STUN request not answered: over the budget of its source.
    StunRefused,
    /// Other STUN.
    StunOther,
    /// A keep-alive.
    KeepAlive,
    /// Longer than a datagram can be.
    Truncated,
    /// From somebody who may not speak to us; not read.
    Denied,
}
label!(Datagram {
    Sip => "sip", StunAnswer => "stun_answer", StunRequest => "stun_request", StunRefused => "stun_refused",
    StunOther => "stun_other", KeepAlive => "keep_alive", Truncated => "truncated",
    Denied => "denied",
});

/// What a connection brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StreamInput {
    /// A message.
    Sip,
    /// Keep-alives, answered.
    KeepAlive,
    /// The answer to a keep-alive of ours.
    Pong,
}
label!(StreamInput { Sip => "sip", KeepAlive => "keep_alive", Pong => "pong" });

/// How an advertised address was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FoundBy {
    /// A STUN server.
    Stun,
    /// The upstream's `received` and `rport`.
    Upstream,
    /// It is no longer known.
    Lost,
}
label!(FoundBy { Stun => "stun", Upstream => "upstream", Lost => "lost" });

/// What became of the record of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recorded {
    /// It stands in the file.
    Written,
    /// It could not be written.
    Failed,
    /// Too many waited.
    Dropped,
}
label!(Recorded { Written => "written", Failed => "failed", Dropped => "dropped" });

/// Yes or no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Truth {
    /// Yes.
    Yes,
    /// No.
    No,
}
label!(Truth { Yes => "yes", No => "no" });

/// What became of a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reloaded {
    /// It counts now.
    Applied,
    /// Nothing has changed.
    Refused,
}
label!(Reloaded { Applied => "applied", Refused => "refused" });

impl From<bool> for Truth {
    fn from(truth: bool) -> Self {
        if truth { Self::Yes } else { Self::No }
    }
}

/// What discovery found amiss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finding {
    /// Servers report different IPs.
    IpsDiffer,
    /// Servers report different ports.
    PortsDiffer,
    /// The mapped address is private.
    Private,
    /// A server is silent.
    NoAnswer,
    /// An ALG rewrites STUN.
    Rewritten,
    /// A response that nobody asked for.
    Forged,
}
label!(Finding {
    IpsDiffer => "ips_differ", PortsDiffer => "ports_differ", Private => "private", NoAnswer => "no_answer",
    Rewritten => "rewritten", Forged => "forged",
});

impl From<nat::discovery::Finding> for Finding {
    fn from(finding: nat::discovery::Finding) -> Self {
        match finding {
            nat::discovery::Finding::ServersDisagreeOnIp => Self::IpsDiffer,
            nat::discovery::Finding::ServersDisagreeOnPort => Self::PortsDiffer,
            nat::discovery::Finding::PrivateMapped(_) => Self::Private,
            nat::discovery::Finding::NoAnswer(_) => Self::NoAnswer,
            nat::discovery::Finding::XorDiffersFromMapped => Self::Rewritten,
            nat::discovery::Finding::Forged => Self::Forged,
        }
    }
}

label!(RelayedWhy { Dependent => "symmetric", Blocked => "udp_blocked" });

impl Label for TurnFailure {
    const VALUES: &'static [&'static str] =
        &["unresolved", "unreachable", "silent", "unauthorized", "refused", "absurd", "lost", "closed"];

    fn label(self) -> &'static str {
        match self {
            Self::Unresolved => "unresolved",
            Self::Unreachable => "unreachable",
            Self::Turn(End::Silent) => "silent",
            Self::Turn(End::Unauthorized) => "unauthorized",
            Self::Turn(End::Refused(_)) => "refused",
            Self::Turn(End::Absurd) => "absurd",
            Self::Turn(End::Lost) => "lost",
            Self::Turn(End::Closed) => "closed",
        }
    }
}

/// The transports that have connections.
pub(crate) const STREAMS: &[&str] = &["tcp", "tls", "ws", "wss"];

/// The classes of responses (RFC 3261 §7.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// It goes on.
    Provisional,
    /// It is done.
    Success,
    /// Elsewhere.
    Redirection,
    /// The request is at fault.
    Client,
    /// The server is.
    Server,
    /// Nobody will do it.
    Global,
    /// No class at all.
    Other,
}
label!(Class {
    Provisional => "1xx", Success => "2xx", Redirection => "3xx", Client => "4xx", Server => "5xx", Global => "6xx",
    Other => "other",
});

impl From<Status> for Class {
    fn from(status: Status) -> Self {
        match status.0 {
            100..200 => Self::Provisional,
            200..300 => Self::Success,
            300..400 => Self::Redirection,
            400..500 => Self::Client,
            500..600 => Self::Server,
            600..700 => Self::Global,
            _ => Self::Other,
        }
    }
}

/// Status codes that we refuse requests with ourselves.
pub(crate) const REFUSALS: &[&str] = &[
    "400", "401", "403", "404", "405", "407", "408", "414", "416", "420", "421", "423", "430", "439", "440", "480",
    "481", "482", "483", "486", "487", "488", "491", "500", "501", "502", "503", "504", "505", "513", "other",
];

/// The label of a status code that we refuse with.
pub(crate) fn refusal(status: Status) -> &'static str {
    let code = status.0.to_string();
    REFUSALS.iter().find(|known| **known == code).unwrap_or(&"other")
}

/// What came of a question about a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// Records.
    Found,
    /// There are none.
    Nothing,
    /// Nobody could say.
    Failed,
}

label!(Lookup { Found => "found", Nothing => "nothing", Failed => "failed" });

impl Lookup {
    pub(crate) fn of(answer: &Answer) -> Self {
        match answer {
            Answer::Found { .. } => Self::Found,
            Answer::Nothing { .. } => Self::Nothing,
            Answer::Failed => Self::Failed,
        }
    }
}

/// Where a request went on to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FailoverTo {
    /// Another address of the same upstream.
    Address,
    /// Another upstream.
    Upstream,
}

label!(FailoverTo { Address => "address", Upstream => "upstream" });

/// What became of a mapping that the router is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mapping {
    /// It is being asked for.
    Waiting,
    /// It is there.
    Installed,
    /// The public port is somebody else's.
    Conflict,
    /// The router does not want to.
    Refused,
}
label!(Mapping {
    Waiting => "waiting", Installed => "installed", Conflict => "conflict", Refused => "refused",
});

impl From<&nat::portmap::State> for Mapping {
    fn from(state: &nat::portmap::State) -> Self {
        match state {
            nat::portmap::State::Waiting => Self::Waiting,
            nat::portmap::State::Installed(_) => Self::Installed,
            nat::portmap::State::Conflict(_) => Self::Conflict,
            nat::portmap::State::Refused(_) => Self::Refused,
        }
    }
}

/// What was seen of a forward from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Light {
    /// A stranger's packet came through.
    Green,
    /// None did.
    Red,
    /// Nobody could tell.
    Unknown,
}
label!(Light { Green => "green", Red => "red", Unknown => "unknown" });

impl From<nat::outside::Light> for Light {
    fn from(light: nat::outside::Light) -> Self {
        match light {
            nat::outside::Light::Green => Self::Green,
            nat::outside::Light::Red => Self::Red,
            nat::outside::Light::Unknown => Self::Unknown,
        }
    }
}

/// What media goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    /// The workers alone.
    Userspace,
    /// The kernel, and the workers for what it sends up.
    Kernel,
}

label!(Backend { Userspace => "userspace", Kernel => "kernel" });

/// What is amiss with the router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RouterFinding {
    /// It speaks no protocol.
    Barren,
    /// It answers no more.
    Silent,
    /// It has lost our mappings.
    Forgot,
    /// An answer was refused.
    Nonsense,
    /// It refused a mapping.
    Refused,
    /// A port is somebody else's.
    Conflict,
    /// Its public address is private.
    Private,
    /// Its public address is not the one that STUN sees.
    Foreign,
}
label!(RouterFinding {
    Barren => "barren", Silent => "silent", Forgot => "forgot", Nonsense => "nonsense", Refused => "refused",
    Conflict => "conflict", Private => "private", Foreign => "foreign",
});

impl From<&nat::portmap::Finding> for RouterFinding {
    fn from(finding: &nat::portmap::Finding) -> Self {
        use nat::portmap::Finding;
        match finding {
            Finding::Barren(_) => Self::Barren,
            Finding::Silent => Self::Silent,
            Finding::Forgot => Self::Forgot,
            Finding::Nonsense(_) => Self::Nonsense,
            Finding::Refused { .. } => Self::Refused,
            Finding::Conflict { .. } => Self::Conflict,
            Finding::PrivateExternal(_) => Self::Private,
            Finding::ForeignExternal { .. } => Self::Foreign,
        }
    }
}

/// How registered phones stand in each other's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Collision {
    /// One instance at several addresses.
    Instance,
    /// One account twice from one source.
    Source,
}
label!(Collision { Instance => "instance", Source => "source" });

impl From<&crate::view::Collision> for Collision {
    fn from(collision: &crate::view::Collision) -> Self {
        match collision {
            crate::view::Collision::Instance(_) => Self::Instance,
            crate::view::Collision::Source(_) => Self::Source,
        }
    }
}
