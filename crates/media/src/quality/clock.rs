//! The time of a worker as one number, so that two arrivals are one subtraction
//! apart. Packets of a batch have the same time, which is made a number once.

use std::time::{Duration, Instant};

use crate::Relay;

/// Nanoseconds since the worker's first batch.
#[derive(Debug, Clone, Default)]
pub(crate) struct Clock {
    at: Option<Instant>,
    /// Now.
    pub(crate) nanos: u64,
}

impl Clock {
    /// It is so late; never earlier than before.
    pub(crate) fn advance(&mut self, now: Instant) {
        if let Some(passed) = now.checked_duration_since(*self.at.get_or_insert(now)) {
            self.nanos += passed.as_secs() * 1_000_000_000 + u64::from(passed.subsec_nanos());
            self.at = Some(now);
        }
    }

    /// A time as a number, even one before the last batch; 0 where there was none.
    pub(crate) fn number(&self, at: Instant) -> u64 {
        let nanos = |passed: Duration| passed.as_secs() * 1_000_000_000 + u64::from(passed.subsec_nanos());
        self.at.map_or(0, |known| {
            let later = self.nanos.saturating_add(nanos(at.saturating_duration_since(known)));
            later.saturating_sub(nanos(known.saturating_duration_since(at)))
        })
    }

    /// The time that a number was made of.
    pub(crate) fn instant(&self, nanos: u64) -> Option<Instant> {
        self.at?.checked_sub(Duration::from_nanos(self.nanos.saturating_sub(nanos)))
    }
}

impl Relay {
    /// Says when the packets came that [`Relay::forward`] judges next: once per
    /// batch, because this costs half as much as judging one. What is not said
    /// makes the figures of jitter wrong, nothing else.
    pub fn arrive(&mut self, now: Instant) {
        self.clock.advance(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_go_both_ways() {
        let start = crate::fixture::beginning();
        let mut clock = Clock::default();
        clock.advance(start);
        assert_eq!(clock.nanos, 0);
        let later = start + Duration::from_nanos(3_000_000_017);
        clock.advance(later);
        assert_eq!(clock.nanos, 3_000_000_017);
        clock.advance(start);
        assert_eq!(clock.nanos, 3_000_000_017, "it never goes back");
        assert_eq!((clock.instant(0), clock.instant(3_000_000_017)), (Some(start), Some(later)));
    }
}
