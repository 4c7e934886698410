//! Refusals that were sent without a transaction, remembered for their
//! retransmissions: these get the same answer (RFC 3261 §8.2.7), also when the
//! sender has registered in between or its credentials are used up. A table of
//! fixed size, so that a flood of refused requests costs no more than that.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::Reject;
use crate::transaction::{Key, T1};

/// Refusals kept at most.
const MOST: usize = 4096;
/// Octets of fields beside the status; our challenges have less.
const LONGEST: usize = 1024;
/// No copy of a request comes later (§17.1).
const LIFETIME: Duration = Duration::from_millis(64 * T1.as_millis() as u64);

/// The refusals of the last 32 s, or the last 4096 if they are more.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    by_key: BTreeMap<Key, Reject>,
    order: VecDeque<(Instant, Key)>,
}

impl Refusals {
    /// What this request was refused with, when it came before.
    pub(crate) fn recall(&mut self, now: Instant, key: &Key) -> Option<Reject> {
        while self.order.front().is_some_and(|(at, _)| *at + LIFETIME <= now) {
            self.drop_oldest();
        }
        self.by_key.get(key).cloned()
    }

    pub(crate) fn remember(&mut self, now: Instant, key: Key, reject: Reject) {
        // What is longer says what is wrong with the request, and will again.
        if reject.extra.len() > LONGEST || self.by_key.contains_key(&key) {
            return;
        }
        if self.order.len() >= MOST {
            self.drop_oldest();
        }
        self.order.push_back((now, key.clone()));
        self.by_key.insert(key, reject);
    }

    /// How many octets it holds, about.
    #[cfg(test)]
    pub(crate) fn octets(&self) -> usize {
        self.by_key.iter().map(|(key, reject)| 2 * key.len() + reject.extra.len()).sum()
    }

    fn drop_oldest(&mut self) {
        if let Some((_, key)) = self.order.pop_front() {
            self.by_key.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use wire::sip::{Framing, Index, Limits};

    use super::*;
    use crate::hashes::Hashes;

    fn key(branch: usize) -> Key {
        let text = format!("BYE sip:a SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK{branch}\r\n\r\n");
        let mut index = Index::new();
        index.parse(text.as_bytes(), Framing::Datagram, &Limits::default()).expect("well formed");
        let message = index.view(text.as_bytes());
        Key::of(&Hashes::default(), message, &message.top_via().expect("a Via"))
    }

    #[test]
    fn a_refusal_is_repeated_for_64_t1_and_the_table_stays_small() {
        let now = Instant::now();
        let mut refusals = Refusals::default();
        refusals.remember(now, key(0), Reject::new(407, "Proxy Authentication Required"));
        assert!(refusals.recall(now + LIFETIME - T1, &key(0)).is_some_and(|reject| reject.status.0 == 407));
        assert_eq!(refusals.recall(now + LIFETIME, &key(0)), None);
        for branch in 0..MOST + 10 {
            refusals.remember(now, key(branch), Reject::new(403, "Register first"));
        }
        assert_eq!((refusals.by_key.len(), refusals.order.len()), (MOST, MOST));
        assert_eq!(refusals.recall(now, &key(9)), None);
        assert!(refusals.recall(now, &key(10)).is_some());
    }
}
