//! What runs out when: one ordered queue over all records.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::Key;

/// Deadlines of records, at most one each.
#[derive(Debug, Default)]
pub(crate) struct Expiry {
    queue: BTreeSet<(Instant, Key)>,
}

impl Expiry {
    /// Moves a record's deadline.
    pub(crate) fn change(&mut self, key: Key, before: Option<Instant>, after: Option<Instant>) {
        if before == after {
            return;
        }
        if let Some(at) = before {
            self.queue.remove(&(at, key));
        }
        if let Some(at) = after {
            self.queue.insert((at, key));
        }
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// The first record that has run out.
    pub(crate) fn due(&self, now: Instant) -> Option<Key> {
        self.queue.first().filter(|(at, _)| *at <= now).map(|(_, key)| *key)
    }
}
