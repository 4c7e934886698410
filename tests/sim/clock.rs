//! Virtual time: an agenda of what happens when.
//!
//! Things that happen at the same instant happen in the order in which they
//! were written down, so the same seed gives the same run.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// Time since the world began.
pub(crate) type Time = Duration;

#[derive(Debug)]
struct Entry<E> {
    at: Time,
    order: u64,
    event: E,
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}
impl<E> Eq for Entry<E> {}
impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// What is still to happen, earliest first.
#[derive(Debug)]
pub(crate) struct Agenda<E> {
    heap: BinaryHeap<Reverse<Entry<E>>>,
    written: u64,
}

impl<E> Agenda<E> {
    pub(crate) fn new() -> Self {
        Self { heap: BinaryHeap::new(), written: 0 }
    }

    pub(crate) fn at(&mut self, at: Time, event: E) {
        self.heap.push(Reverse(Entry { at, order: self.written, event }));
        self.written += 1;
    }

    /// The next thing, if it happens no later than `until`.
    pub(crate) fn pop(&mut self, until: Time) -> Option<(Time, E)> {
        if self.heap.peek()?.0.at > until {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| (entry.at, entry.event))
    }
}

/// The earlier of two deadlines that may be missing.
pub(crate) fn earlier(a: Option<Time>, b: Option<Time>) -> Option<Time> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_at_one_instant_keep_their_order() {
        let mut agenda = Agenda::new();
        for n in 0..5 {
            agenda.at(Duration::from_millis(10), n);
        }
        agenda.at(Duration::from_millis(5), 9);
        let mut seen = Vec::new();
        while let Some((_, n)) = agenda.pop(Duration::from_secs(1)) {
            seen.push(n);
        }
        assert_eq!(seen, [9, 0, 1, 2, 3, 4]);
    }
}
