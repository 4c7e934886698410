//! A retransmission in gives the same bytes out, or none (RFC 3261 §17.2,
//! §16.11 for ACK): whatever siplatch sends in answer to octets that it has
//! had before, it has sent before.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use proxy::Observed;

use super::{Rule, Truth};
use crate::clock::Time;
use crate::edge::{Entry, Message};

/// A transaction lives for 64·T1, and not longer.
const MEMORY: Duration = Duration::from_secs(31);

#[derive(Debug, Default)]
pub(crate) struct SameBytes {
    /// When these octets came over this flow.
    received: BTreeMap<u64, Time>,
    sent: BTreeSet<u64>,
    /// The present input is a retransmission of this, by first line.
    repeated: Option<String>,
    /// The present input, and those that led to something: an input that led to nothing may be
    /// taken up when it comes again.
    present: Option<u64>,
    answered: BTreeSet<u64>,
    /// What we write as our own address changed then.
    advertised: Option<Time>,
}

/// Over another connection it is another message: its Via says where it came from.
fn digest_of(message: &Message) -> u64 {
    let mut hasher = DefaultHasher::new();
    (message.flow.connection, &message.bytes).hash(&mut hasher);
    hasher.finish()
}

fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

impl Rule for SameBytes {
    fn name(&self) -> &'static str {
        "a retransmission in gives the same bytes out"
    }

    fn see(&mut self, now: Time, _truth: &Truth, entry: &Entry) -> Option<String> {
        match entry {
            Entry::Received(message) => {
                let present = digest_of(message);
                self.present = Some(present);
                // Counted from the first copy, as the transaction's own timer is.
                let first = *self.received.entry(present).or_insert(now);
                if first + MEMORY < now {
                    self.received.insert(present, now);
                    self.answered.remove(&present);
                }
                let same_face = self.advertised.is_none_or(|changed| changed < first);
                let repeated = same_face && self.answered.contains(&present);
                self.repeated = message.msg.as_deref().filter(|_| repeated).map(|msg| msg.start.clone());
                None
            }
            Entry::Sent(message) => {
                self.answered.extend(self.present);
                if ended_by_us(message) {
                    return None;
                }
                let fresh = self.sent.insert(digest(&message.bytes));
                let start = self.repeated.as_ref().filter(|_| fresh)?;
                let answer = message.msg.as_deref().map_or("", |msg| msg.start.as_str());
                Some(format!("a repeated {start:?} led to a new {answer:?} to {}", message.flow.remote))
            }
            Entry::Timer => {
                (self.present, self.repeated) = (None, None);
                None
            }
            Entry::Observed(Observed::AdvertisedChanged { .. }) => {
                self.advertised = Some(now);
                None
            }
            Entry::Line(_)
            | Entry::Command(_)
            | Entry::Fact(_)
            | Entry::Changed(_)
            | Entry::Ports(..)
            | Entry::Observed(_)
            | Entry::Judged { .. }
            | Entry::Own { .. } => None,
        }
    }
}

/// A BYE of our own: for a 2xx that nobody waits for any more. Whoever repeats it has not heard the first BYE yet.
fn ended_by_us(message: &Message) -> bool {
    message.msg.as_deref().is_some_and(|msg| msg.method() == "BYE" && msg.is_request() && msg.all("via").count() == 1)
}
