//! Step 1: is there room? Checked before any work is done (RFC 6357 §12,
//! RFC 7339 §5.10.1).
//!
//! Two things can run short: room, as the share of the contexts and calls that
//! there may be, and time, as how long a message may have waited before it was
//! read. The scarcer of them decides. First go new calls and whatever else is
//! new; then what is inside of a dialog; then the refreshes of phones that are
//! known, for one that is refused comes again and again; last what ends
//! something or saves somebody. Must not: look at anything that costs more
//! than the refusal.

use std::time::Duration;

use wire::Flow;
use wire::sip::{Message, Method, Scheme, Uri};

use super::Reject;
use crate::{Observed, Proxy};

/// Calls and subscriptions at most.
const MOST_CALLS: usize = 200_000;

/// What a request is to us when not all can be served; the first is refused first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Urgency {
    /// A new call, a new registration, anything outside of a dialog.
    New,
    /// Inside of a dialog.
    Dialog,
    /// A known phone registers again.
    Refresh,
    /// It ends something or carries on what rings (BYE, PRACK), or it calls for help (RFC 5031).
    Last,
}

impl Urgency {
    /// The share of the room, in percent, from which on it is refused.
    fn room(self) -> usize {
        match self {
            Self::New => 80,
            Self::Dialog => 90,
            Self::Refresh => 95,
            Self::Last => 100,
        }
    }

    /// The lag from which on it is refused; `None` is never.
    fn patience(self) -> Option<Duration> {
        match self {
            Self::New => Some(Duration::from_millis(100)),
            Self::Dialog => Some(Duration::from_secs(1)),
            Self::Refresh => Some(Duration::from_secs(2)),
            Self::Last => None,
        }
    }
}

/// True when there is no room or time for it.
fn refused(urgency: Urgency, percent: usize, lag: Duration) -> bool {
    percent >= urgency.room() || urgency.patience().is_some_and(|most| lag >= most)
}

impl Proxy {
    pub(super) fn admit(&mut self, flow: Flow, message: Message<'_>) -> Result<(), Reject> {
        if self.stopping && message.method() == Method::Invite {
            return Err(Reject::new(503, "Shutting down").with("Retry-After: 10"));
        }
        let contexts = self.crowded();
        let calls = self.registry.call_count() * 100 / MOST_CALLS;
        let percent = contexts.max(calls);
        // The usual case costs three divisions.
        if !refused(Urgency::New, percent, self.lag) {
            return Ok(());
        }
        let urgency = self.urgency(flow, message);
        // What creates nothing that lasts needs no room for calls.
        let percent = if creates(message) { percent } else { contexts };
        if !refused(urgency, percent, self.lag) {
            return Ok(());
        }
        self.observe(Observed::Overloaded { urgency });
        // Not all at one moment again.
        let seconds = 5 + self.random() % 10;
        Err(Reject::new(503, "Overloaded").with(&format!("Retry-After: {seconds}")))
    }

    fn urgency(&self, flow: Flow, message: Message<'_>) -> Urgency {
        let tagged = message.tag_in_to().is_some();
        match message.method() {
            Method::Bye | Method::Prack => Urgency::Last,
            _ if is_emergency(message) => Urgency::Last,
            Method::Register if self.registry.on_flow(flow).next().is_some() => Urgency::Refresh,
            _ if tagged => Urgency::Dialog,
            Method::Invite
            | Method::Ack
            | Method::Cancel
            | Method::Options
            | Method::Register
            | Method::Info
            | Method::Update
            | Method::Refer
            | Method::Subscribe
            | Method::Notify
            | Method::Message
            | Method::Publish
            | Method::Other(_) => Urgency::New,
        }
    }
}

fn creates(message: Message<'_>) -> bool {
    matches!(message.method(), Method::Invite | Method::Subscribe | Method::Refer)
        && message.to().is_ok_and(|to| to.tag().is_none())
}

/// A service URN of RFC 5031 §4.2: `sos` and all below it.
fn is_emergency(message: Message<'_>) -> bool {
    let uri = message.request_uri();
    let sos = b"urn:service:sos";
    Uri::parse(uri).is_ok_and(|uri| uri.scheme == Scheme::Urn)
        && uri.get(..sos.len()).is_some_and(|start| start.eq_ignore_ascii_case(sos))
        && uri.get(sos.len()).is_none_or(|next| *next == b'.')
}

#[cfg(test)]
mod tests {
    use wire::sip::{Limits, Stored};

    use super::*;

    const ALL: [Urgency; 4] = [Urgency::New, Urgency::Dialog, Urgency::Refresh, Urgency::Last];

    #[test]
    fn the_least_urgent_go_first_by_room_and_by_time() {
        let served = |percent, lag| {
            ALL.into_iter().filter(|urgency| !refused(*urgency, percent, Duration::from_millis(lag))).count()
        };
        assert_eq!([0, 79, 80, 90, 95, 99, 100].map(|percent| served(percent, 0)), [4, 4, 3, 2, 1, 1, 0]);
        assert_eq!([99, 100, 1000, 2000, 60_000].map(|lag| served(0, lag)), [4, 3, 2, 1, 1]);
    }

    #[test]
    fn who_calls_for_help() {
        for (uri, sos) in [
            ("urn:service:sos", true),
            ("URN:Service:SOS.police", true),
            ("urn:service:sosumi", false),
            ("urn:service:counseling", false),
            ("sip:sos@example.com", false),
            ("sip:urn:service:sos@example.com", false),
        ] {
            let text = format!("INVITE {uri} SIP/2.0\r\nVia: SIP/2.0/UDP a\r\n\r\n");
            let stored = Stored::parse(text.into_bytes(), &Limits::default()).expect(uri);
            assert_eq!(is_emergency(stored.message()), sos, "{uri}");
        }
    }
}
