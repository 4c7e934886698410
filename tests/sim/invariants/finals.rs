//! Exactly one final response per request (RFC 3261 §17.2, §16.7), but for
//! several 2xx of different forks.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use proxy::Observed;

use super::{Finish, Rule, Truth};
use crate::clock::Time;
use crate::edge::Entry;

/// A server transaction (§17.2.3), as far as it is told apart here: branch and method.
/// A phone may repeat a request from another address, after its NAT has been rebound.
type Key = (String, String);

#[derive(Debug)]
struct Seen {
    since: Time,
    start: String,
    from: IpAddr,
    /// The connection that brought it; 0 for a datagram.
    at: u32,
    /// A CANCEL of an INVITE that has no final response yet.
    matched: bool,
    /// Final responses: status, To tag, octets.
    finals: Vec<(u16, String, Rc<[u8]>)>,
}

#[derive(Debug, Default)]
pub(crate) struct OneFinalResponse {
    requests: BTreeMap<Key, Seen>,
    /// What we write as our own address changed then.
    advertised: Option<Time>,
}

impl Rule for OneFinalResponse {
    fn name(&self) -> &'static str {
        "exactly one final response per request"
    }

    fn see(&mut self, now: Time, truth: &Truth, entry: &Entry) -> Option<String> {
        // A stranger's octets may be no request at all, or the same one again in another shape.
        if let Entry::Received(message) | Entry::Sent(message) = entry
            && truth.strangers.contains(&message.flow.remote.ip())
        {
            return None;
        }
        match entry {
            Entry::Received(message) => {
                let msg = message.msg.as_deref().filter(|m| m.is_request() && m.method() != "ACK")?;
                let key = (msg.branch().to_owned(), msg.method().to_owned());
                let invite = self.requests.get(&(key.0.clone(), "INVITE".to_owned()));
                let matched = msg.method() == "CANCEL" && invite.is_some_and(|invite| invite.finals.is_empty());
                let (start, from) = (msg.start.clone(), message.flow.remote.ip());
                let at = message.flow.connection;
                let fresh = Seen { since: now, start, from, at, matched, finals: Vec::new() };
                // Timer J is 0 over a stream: what comes again over another one, after its answer, is new (§17.2.2).
                let forgotten = |seen: &Seen| at != 0 && seen.at != at && !seen.finals.is_empty() && key.1 != "INVITE";
                match self.requests.get_mut(&key) {
                    Some(seen) if forgotten(seen) => *seen = fresh,
                    Some(_) => {}
                    None => {
                        self.requests.insert(key, fresh);
                    }
                }
                None
            }
            Entry::Sent(message) => {
                let msg = message.msg.as_deref().filter(|m| m.status() >= 200)?;
                let key = (msg.branch().to_owned(), msg.method().to_owned());
                let Some(seen) = self.requests.get_mut(&key) else {
                    return Some(format!("{} to {} answers no request", msg.start, message.flow.remote));
                };
                let (status, tag) = (msg.status(), msg.tag("to"));
                if seen.finals.iter().any(|(_, _, bytes)| *bytes == message.bytes) {
                    return None;
                }
                // A phone's repeated 2xx names our new address once we have one.
                let moved = self.advertised.is_some_and(|changed| changed >= seen.since);
                let forks = msg.method() == "INVITE" && (200..300).contains(&status);
                let clash =
                    seen.finals.iter().find(|(old, old_tag, _)| !forks || *old >= 300 || old_tag == tag && !moved);
                if let Some((old, _, bytes)) = clash {
                    let difference = first_difference(bytes, &message.bytes);
                    return Some(format!("{} gets {status} after {old}: {difference}", seen.start));
                }
                seen.finals.push((status, tag.to_owned(), Rc::clone(&message.bytes)));
                None
            }
            Entry::Observed(Observed::AdvertisedChanged { .. }) => {
                self.advertised = Some(now);
                None
            }
            Entry::Timer
            | Entry::Line(_)
            | Entry::Command(_)
            | Entry::Fact(_)
            | Entry::Changed(_)
            | Entry::Ports(..)
            | Entry::Observed(_)
            | Entry::Judged { .. }
            | Entry::Own { .. } => None,
        }
    }

    /// An INVITE of an honest peer never stays without an answer, nor a CANCEL of one.
    fn finish(&mut self, _truth: &Truth, end: &Finish<'_>) -> Option<String> {
        let due = end.now.saturating_sub(Duration::from_secs(40));
        let mut open = self.requests.iter().filter(|((_, method), seen)| {
            let due = seen.since < due && (method == "INVITE" || seen.matched);
            due && seen.finals.is_empty()
        });
        open.next().map(|(_, seen)| format!("{} of {} at {:?} got none", seen.start, seen.from, seen.since))
    }
}

/// The first lines in which two messages differ.
pub(super) fn first_difference(a: &[u8], b: &[u8]) -> String {
    let (a, b) = (String::from_utf8_lossy(a), String::from_utf8_lossy(b));
    let mut pairs = a.lines().chain([""]).zip(b.lines().chain([""]));
    let found = pairs.find(|(a, b)| a != b);
    found.map_or_else(|| "one goes on after the other".to_owned(), |(a, b)| format!("{a:?} became {b:?}"))
}
