//! What is logged of what happens: calls with their one id, registrations,
//! refusals with their reason. Every kind has its own limit, so that a flood
//! of one neither fills the disk nor hides the others.

use std::fmt;
use std::net::IpAddr;
use std::time::Instant;

use media::Fact;
use media::silence::Reason;
use nat::discovery::Finding;
use net::transport::Event;
use net::turn::Failure;
use proxy::{Observed, Oversize, UpstreamState};
use registry::PassId;
use registry::snapshot::json::hex;

use super::streams::{Gravity, gravity};
use crate::log::{Direct, Pass, Quoted, Throttle, is_direct};
use crate::metrics::Metrics;
use crate::metrics::label::Label as _;
use crate::metrics::table::Name;
use crate::record::Unheard;

/// Lines per window for what phones do.
const CALLS: u32 = 500;
/// Lines per window, for each reason, for what strangers do.
const REFUSALS: u32 = 10;

/// Lines per window for wrong passwords: enough to find the guesser by.
const FAILURES: u32 = 50;

/// Writes the log of the signalling loop.
#[derive(Debug, Default)]
pub(super) struct Journal {
    throttle: Throttle,
}

/// Writes a line unless too many of its kind came; says how many were held back before.
macro_rules! line {
    ($journal:ident, $metrics:ident, $now:ident, $kind:expr, $most:expr, $level:ident, $($what:tt)*) => {
        match $journal.throttle.pass($now, $kind, $most) {
            Pass::Write(0) => tracing::$level!($($what)*),
            Pass::Write(held) => {
                tracing::$level!($($what)*);
                tracing::$level!(held, "lines like this were held back before");
            }
            Pass::Hold => $metrics.count(Name::LogSuppressed, &[]),
        }
    };
}

/// The same of level INFO, past the library where that changes nothing.
macro_rules! direct {
    ($journal:ident, $metrics:ident, $now:ident, $most:expr, $text:literal, |$line:ident| $fields:expr, $($what:tt)*) => {
        match $journal.throttle.pass($now, $text, $most) {
            Pass::Write(0) if is_direct() => {
                if tracing::enabled!(tracing::Level::INFO) {
                    Direct::write($text, |$line| _ = $fields);
                }
            }
            Pass::Write(held) => {
                tracing::info!($($what)*, $text);
                if held > 0 {
                    tracing::info!(held, "lines like this were held back before");
                }
            }
            Pass::Hold => $metrics.tick(Name::LogSuppressed, ()),
        }
    };
}

impl Journal {
    /// An event of the signalling machine. Texts that came from outside are
    /// written quoted and escaped.
    pub(super) fn observe(&mut self, now: Instant, metrics: &Metrics, event: &Observed) {
        match event {
            Observed::CallStarted { call, from, to, session } => {
                let session = session.as_deref();
                direct!(
                    self, metrics, now, CALLS, "call started",
                    |line| line.hex("call", call.0).text("from", from).text("to", to).optional("session", session),
                    call = ?Hex(*call), from = ?Quoted(from), to = ?Quoted(to), session
                );
            }
            Observed::CallAnswered { call, session } => {
                let session = session.as_deref();
                direct!(
                    self, metrics, now, CALLS, "call answered",
                    |line| line.hex("call", call.0).optional("session", session),
                    call = ?Hex(*call), session
                );
            }
            Observed::CallEnded { call, cause, answered } => {
                let cause = cause.label();
                direct!(
                    self, metrics, now, CALLS, "call ended",
                    |line| line.hex("call", call.0).text("cause", cause).truth("answered", *answered),
                    call = ?Hex(*call), cause, answered
                );
            }
            Observed::Registered { aor, flow, moved: false } => {
                direct!(
                    self, metrics, now, CALLS, "phone registered",
                    |line| line.text("aor", aor).address("from", flow.remote),
                    aor = ?Quoted(aor), from = %flow.remote
                );
            }
            Observed::Registered { aor, flow, moved: true } => {
                line!(self, metrics, now, "moved", CALLS, info, aor = ?Quoted(aor), from = %flow.remote, "phone has another address");
            }
            Observed::Unregistered { aor, expired } => {
                line!(self, metrics, now, "unregistered", CALLS, info, aor = ?Quoted(aor), expired, "phone no longer registered");
            }
            Observed::PhoneGone { aor } => {
                line!(self, metrics, now, "gone", CALLS, info, aor = ?Quoted(aor), "phone no longer answers");
            }
            Observed::Refused { side, method, status, reason, source } => {
                let (side, method, status) = (side.as_str(), method.label(), status.0);
                line!(self, metrics, now, reason, REFUSALS, info, %source, side, method, status, reason, "request refused");
            }
            // deploy/fail2ban reads this line.
            Observed::AuthenticationFailed { side, method, source } => {
                let (side, method) = (side.as_str(), method.label());
                let kind = "authentication failed";
                line!(self, metrics, now, kind, FAILURES, info, %source, side, method, "authentication failed");
            }
            Observed::Dropped { side, reason } if tracing::enabled!(tracing::Level::DEBUG) => {
                let (side, reason) = (side.as_str(), reason.label());
                line!(self, metrics, now, reason, REFUSALS, debug, side, reason, "message dropped");
            }
            Observed::PortsExhausted { side } => {
                let side = side.as_str();
                line!(self, metrics, now, "ports", REFUSALS, warn, side, "no media port pair is free; widen the range");
            }
            Observed::Upstream { upstream, state } => Self::upstream(*upstream, *state),
            Observed::UpstreamTransport { upstream, transport } => {
                let transport = transport.label();
                tracing::info!(upstream, transport, "new requests go to the upstream by this transport");
            }
            Observed::Failover { upstream, other, cause } => {
                let cause = cause.label();
                line!(
                    self,
                    metrics,
                    now,
                    "failover",
                    REFUSALS,
                    warn,
                    upstream,
                    other,
                    cause,
                    "request went on to the next hop"
                );
            }
            Observed::AdvertisedChanged { listener, address: Some(address), by } => {
                tracing::info!(listener = listener.0, %address, by, "public address");
            }
            Observed::AdvertisedChanged { listener, address: None, by } => {
                tracing::warn!(listener = listener.0, by, "public address no longer known");
            }
            Observed::ContactWithoutToken { found } => tracing::debug!(found, "Contact came back without its token"),
            // The refusal has a line of its own.
            Observed::Overloaded { urgency: _ } => {}
            Observed::Renewed { outcome } => {
                let outcome = outcome.label();
                line!(self, metrics, now, outcome, CALLS, info, outcome, "phone registered again in its place");
            }
            Observed::CallTold { call, outcome } => {
                let outcome = outcome.label();
                line!(self, metrics, now, outcome, CALLS, info, %call, outcome, "far end told of our new public address");
            }
            Observed::TimedOut { side, method } => {
                tracing::debug!(side = side.as_str(), method = method.label(), "request timed out");
            }
            Observed::Oversize { outcome: Oversize::Failed } => {
                tracing::warn!(
                    "a request of more than 1300 octets went by UDP: TCP to the upstream did not come about"
                );
            }
            Observed::Oversize { outcome: Oversize::Tcp | Oversize::Untried }
            | Observed::Dropped { .. }
            | Observed::CallEnding { .. }
            | Observed::Forgotten { .. }
            | Observed::Refresh { .. }
            | Observed::RequestIn { .. }
            | Observed::RequestOut { .. }
            | Observed::ResponseIn { .. }
            | Observed::ResponseOut { .. }
            | Observed::Retransmitted { .. } => {}
        }
    }

    fn upstream(upstream: usize, state: UpstreamState) {
        match state {
            UpstreamState::Up => tracing::info!(upstream, "upstream answers"),
            UpstreamState::Returning => {
                tracing::info!(upstream, "upstream answers again; it is first choice when it has done so for a while");
            }
            UpstreamState::Silent => {
                tracing::warn!(upstream, "upstream does not answer pings; requests go there all the same");
            }
            UpstreamState::Busy => tracing::warn!(upstream, "upstream asked for a pause (503 with Retry-After)"),
            UpstreamState::Down => {
                tracing::warn!(
                    upstream,
                    "upstream is down; new requests go to the next one or get 503, asking goes on"
                );
            }
        }
    }

    /// The TURN server gives no allocation, or has taken one.
    pub(super) fn turn(&mut self, now: Instant, metrics: &Metrics, why: Failure) {
        let reason = why.label();
        line!(self, metrics, now, reason, REFUSALS, warn, reason, "{}", why.in_words());
    }

    /// The TURN server does not let a peer be heard.
    pub(super) fn denied(&mut self, now: Instant, metrics: &Metrics, peer: IpAddr, code: u16) {
        line!(self, metrics, now, "denied", REFUSALS, warn, %peer, code, "the TURN server relays nothing for this peer");
    }

    /// News of a worker.
    pub(super) fn fact(&mut self, now: Instant, metrics: &Metrics, fact: &Fact) {
        match fact {
            Fact::Failed { stream } => {
                line!(
                    self,
                    metrics,
                    now,
                    "stream failed",
                    REFUSALS,
                    error,
                    ?stream,
                    "media stream failed; its call ends"
                );
            }
            Fact::Silent { stream, epoch: _ } => tracing::debug!(?stream, "media silent"),
            Fact::Latched { stream, end, component, source, moved, .. } => {
                tracing::debug!(?stream, ?end, ?component, %source, moved, "media latched");
            }
            Fact::Heard { stream, epoch: _, end, side: _ } => tracing::debug!(?stream, ?end, "audio is heard again"),
            // Told with the names of those who are in the call.
            Fact::Spliced { stream, legs } => tracing::debug!(?stream, ?legs, "TCP media"),
            Fact::Mapped { stream, end, component, mapped } => {
                tracing::debug!(?stream, ?end, ?component, mapped = %mapped.0, "a call's socket is seen anew");
            }
            Fact::Unheard { .. } | Fact::Counted { .. } | Fact::Closed { .. } | Fact::Totals(_) => {}
        }
    }

    /// One end of a call is not heard.
    pub(super) fn unheard(&mut self, now: Instant, metrics: &Metrics, unheard: &Unheard) {
        let Unheard { call, silence, .. } = unheard;
        let (side, reason) = (silence.side.as_str(), silence.reason.label());
        match silence.reason {
            // Phones that say nothing while nobody speaks do this, too.
            Reason::Stopped => line!(self, metrics, now, reason, CALLS, info, %call, side, reason, "{unheard}"),
            Reason::Refused | Reason::Unauthenticated | Reason::Family | Reason::Private | Reason::Never => {
                line!(self, metrics, now, reason, CALLS, warn, %call, side, reason, "{unheard}");
            }
        }
    }

    /// What became of a connection.
    pub(super) fn stream(&mut self, now: Instant, metrics: &Metrics, event: &Event) {
        match event {
            Event::Opened { flow, peer } => {
                tracing::debug!(transport = flow.transport.label(), remote = %flow.remote, ?peer, "connection open");
            }
            Event::Closed { flow, why, what, opened: _ } => {
                let (transport, remote, why) = (flow.transport.label(), flow.remote, *why);
                let label = why.label();
                match gravity(*flow, why) {
                    Gravity::Ours => {
                        line!(self, metrics, now, label, REFUSALS, warn, transport, %remote, why = label, ?what, "connection failed");
                    }
                    Gravity::Theirs => {
                        line!(self, metrics, now, label, REFUSALS, info, transport, %remote, why = label, ?what, "connection closed");
                    }
                    Gravity::Usual => tracing::debug!(transport, %remote, why = label, ?what, "connection closed"),
                }
            }
            Event::Short { error } => {
                let kind = "accept";
                line!(
                    self,
                    metrics,
                    now,
                    kind,
                    1,
                    error,
                    ?error,
                    "a connection cannot be accepted; raise the limit of open files (LimitNOFILE)"
                );
            }
            Event::Message { .. } | Event::KeepAlive { .. } | Event::Pong { .. } | Event::Denied => {}
        }
    }

    /// What discovery noticed.
    pub(super) fn finding(&mut self, now: Instant, metrics: &Metrics, finding: Finding) {
        match finding {
            Finding::ServersDisagreeOnIp => {
                let kind = "stun ips";
                line!(
                    self,
                    metrics,
                    now,
                    kind,
                    1,
                    warn,
                    "STUN servers report different addresses: two uplinks, or one server lies"
                );
            }
            Finding::ServersDisagreeOnPort => {
                let kind = "stun ports";
                line!(
                    self,
                    metrics,
                    now,
                    kind,
                    1,
                    warn,
                    "the NAT is symmetric: calls need a provider that sends media back to where ours comes from (comedia)"
                );
            }
            Finding::PrivateMapped(address) => {
                let kind = "stun private";
                line!(self, metrics, now, kind, 1, warn, %address, "STUN reports a private address, which is not believed; a [[network]] would allow it");
            }
            Finding::NoAnswer(server) => {
                line!(self, metrics, now, "stun silent", REFUSALS, warn, %server, "STUN server does not answer; asking goes on");
            }
            Finding::XorDiffersFromMapped => {
                line!(self, metrics, now, "stun alg", 1, warn, "the router rewrites STUN (an ALG); switch that off");
            }
            Finding::Forged => {
                line!(
                    self,
                    metrics,
                    now,
                    "stun forged",
                    1,
                    warn,
                    "a STUN answer came that nobody asked for; it is ignored"
                );
            }
        }
    }
}

/// The name of a call in a line, written as it is shown elsewhere.
struct Hex(PassId);

impl fmt::Debug for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(str::from_utf8(&hex(self.0.0)).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::sync::Arc;

    use proxy::config::Role;

    use super::*;

    /// RFC 7989: what one end of a call logs is found again in the log of the other, and in ours.
    #[test]
    fn a_call_is_logged_with_its_session_id() {
        let metrics = Metrics::new(Role::Border).expect("the table is in order");
        let now = net::clock::now();
        let call = PassId(7);
        let started = |session| Observed::CallStarted { call, from: "sip:a@b".into(), to: "sip:c@d".into(), session };
        let (mut written, writer) = std::io::pipe().expect("a pipe");
        let log = tracing_subscriber::fmt().with_ansi(false).with_writer(Arc::new(writer)).finish();
        tracing::subscriber::with_default(log, || {
            let mut journal = Journal::default();
            journal.observe(now, &metrics, &started(Some("ab30\n317f;remote=00".into())));
            journal.observe(now, &metrics, &Observed::CallAnswered { call, session: Some("4775;remote=ab30".into()) });
            journal.observe(now, &metrics, &started(None));
        });
        let mut text = String::new();
        written.read_to_string(&mut text).expect("UTF-8");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines[0].contains(r#"call started call=0000000000000007"#), "{text}");
        assert!(lines[0].contains(r#"session="ab30\n317f;remote=00""#), "{text}");
        assert!(lines[1].contains(r#"session="4775;remote=ab30""#), "{text}");
        assert!(!lines[2].contains("session"), "{text}");
    }
}
