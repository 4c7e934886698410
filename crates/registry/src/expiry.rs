//! What runs out when: ordered queues of bindings and of calls.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::{BindingId, Key, PassId};

/// Deadlines of records, at most one each.
#[derive(Debug, Default)]
pub(crate) struct Expiry {
    /// What deadlines are counted from.
    base: Option<Instant>,
    /// Nanoseconds from there. There are as many as phones: an `Instant` and a [`Key`] would take twice as much.
    bindings: BTreeSet<(i64, BindingId)>,
    calls: BTreeSet<(i64, PassId)>,
}

impl Expiry {
    /// Moves a record's deadline.
    pub(crate) fn change(&mut self, key: Key, before: Option<Instant>, after: Option<Instant>) {
        if before == after {
            return;
        }
        if let Some(at) = before.map(|at| self.nanos(at)) {
            match key {
                Key::Binding(id) => self.bindings.remove(&(at, id)),
                Key::Call(id) => self.calls.remove(&(at, id)),
            };
        }
        if let Some(at) = after.map(|at| self.nanos(at)) {
            match key {
                Key::Binding(id) => self.bindings.insert((at, id)),
                Key::Call(id) => self.calls.insert((at, id)),
            };
        }
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.first().map(|(at, _)| at)
    }

    /// The first record that has run out.
    pub(crate) fn due(&self, now: Instant) -> Option<Key> {
        self.first().filter(|(at, _)| *at <= now).map(|(_, key)| key)
    }

    fn first(&self) -> Option<(Instant, Key)> {
        let binding = self.bindings.first().map(|(at, id)| (*at, Key::Binding(*id)));
        let call = self.calls.first().map(|(at, id)| (*at, Key::Call(*id)));
        let (at, key) = binding.into_iter().chain(call).min()?;
        let passed = Duration::from_nanos(at.unsigned_abs());
        let at = if at < 0 { self.base?.checked_sub(passed) } else { self.base?.checked_add(passed) };
        Some((at?, key))
    }

    /// Exact for 292 years around the first deadline.
    fn nanos(&mut self, at: Instant) -> i64 {
        let base = *self.base.get_or_insert(at);
        let far = |passed: Duration| i64::try_from(passed.as_nanos()).unwrap_or(i64::MAX);
        if at < base { -far(base.duration_since(at)) } else { far(at.duration_since(base)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn it_is_one_ordered_set(steps in proptest::collection::vec((0..6_u64, proptest::option::of(0..90_000_u64)), 0..60)) {
            let start = Instant::now();
            let (mut expiry, mut all) = (Expiry::default(), BTreeSet::new());
            for (record, at) in steps {
                let key = if record % 2 == 0 { Key::Binding(BindingId(record)) } else { Key::Call(PassId(record)) };
                let after = at.map(|nanos| start + Duration::from_nanos(nanos));
                let before = all.iter().find(|(_, known)| *known == key).copied();
                expiry.change(key, before.map(|(at, _)| at), after);
                before.iter().for_each(|entry| _ = all.remove(entry));
                all.extend(after.map(|at| (at, key)));
                assert_eq!(expiry.first(), all.first().copied());
                assert_eq!(expiry.next(), all.first().map(|(at, _)| *at));
                assert_eq!(expiry.due(start), all.first().filter(|(at, _)| *at <= start).map(|(_, key)| *key));
            }
        }
    }
}
