//! How long a message may have waited before it was read: what came before its
//! socket was last found empty was read by then, and so was what came before
//! the last one of a batch that did not take all.
//!
//! That counts for as long as it is so. Where the whole thread stood still, as on a
//! machine that was paused, many have waited and soon nobody does: no reason to
//! send them away.

use std::time::{Duration, Instant};

/// The machine hears of a lag in such steps.
const STEP: Duration = Duration::from_millis(50);

/// Since when there may be somebody who waits.
#[derive(Debug, Default)]
pub(super) struct Lag {
    /// What came before has been read.
    read: Option<Instant>,
    /// Somebody has been waiting for a step, as of this moment and ever since.
    since: Option<Instant>,
    told: Duration,
}

impl Lag {
    /// Nothing that came to any socket before that time is left in it.
    pub(super) fn emptied(&mut self, at: Instant) {
        self.read = self.read.max(Some(at));
    }

    /// It is so long since it was known that nobody waits that a lag would be told.
    pub(super) fn is_suspect(&self, now: Instant) -> bool {
        self.read.is_some_and(|read| now.saturating_duration_since(read) >= STEP)
    }

    /// A lag was told, and not its end.
    pub(super) fn is_felt(&self) -> bool {
        !self.told.is_zero()
    }

    /// How long what is read now may have waited, in steps, but no longer than such waits have
    /// been seen; `None` if that was told before.
    pub(super) fn change(&mut self, now: Instant) -> Option<Duration> {
        let waited = now.saturating_duration_since(*self.read.get_or_insert(now));
        let lag = if waited < STEP {
            self.since = None;
            Duration::ZERO
        } else {
            let since = *self.since.get_or_insert(now);
            in_steps(waited.min(now.saturating_duration_since(since) + STEP))
        };
        (std::mem::replace(&mut self.told, lag) != lag).then_some(lag)
    }
}

fn in_steps(waited: Duration) -> Duration {
    let steps = u32::try_from(waited.as_millis() / STEP.as_millis()).unwrap_or(u32::MAX);
    STEP.saturating_mul(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_empties_its_sockets_every_time_does_not_lag() {
        let (mut lag, start) = (Lag::default(), net::clock::now());
        for turn in 0..1000 {
            let now = start + turn * Duration::from_millis(20);
            assert_eq!(lag.change(now), None, "busy all the time, but nobody waited for longer than a turn");
            lag.emptied(now);
        }
    }

    #[test]
    fn what_is_left_in_a_socket_waits_until_it_is_empty_again() {
        let (mut lag, start) = (Lag::default(), net::clock::now());
        let at = |ms| start + Duration::from_millis(ms);
        lag.emptied(start);
        assert_eq!(lag.change(at(49)), None);
        assert_eq!(lag.change(at(60)), Some(STEP));
        assert_eq!(lag.change(at(120)), Some(2 * STEP));
        assert_eq!(lag.change(at(140)), None, "in steps");
        assert_eq!(lag.change(at(1234)), Some(Duration::from_millis(1200)));
        lag.emptied(at(1234));
        assert_eq!(lag.change(at(1240)), Some(Duration::ZERO));
    }

    #[test]
    fn who_stood_still_does_not_lag_unless_it_stays_so() {
        let (mut lag, start) = (Lag::default(), net::clock::now());
        let at = |ms| start + Duration::from_millis(ms);
        lag.emptied(start);
        assert_eq!(lag.change(at(3000)), Some(STEP), "the first batch after three seconds");
        lag.emptied(at(3010));
        assert_eq!(lag.change(at(3020)), Some(Duration::ZERO), "was all there was");
        assert_eq!(lag.change(at(6000)), Some(STEP));
        lag.emptied(at(5000));
        assert_eq!(lag.change(at(6049)), None);
        assert_eq!(lag.change(at(6060)), Some(2 * STEP), "one that never ends");
    }
}
