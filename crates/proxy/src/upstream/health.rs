//! What is known of one address of an upstream, and what each event changes.
//! Decides nothing about requests.

use std::time::{Duration, Instant};

use crate::UpstreamState;

/// Probes in a row that an address answers before it is first choice again.
const GOOD: u8 = 3;
/// Time since its last failure before it is first choice again; up to [`SPREAD`] longer.
const HOLD: Duration = Duration::from_secs(30);
/// By how much the time above differs, so that not all come back at one moment.
pub(super) const SPREAD: Duration = Duration::from_secs(10);
/// One that never answers probes is tried again by a request; later each time, at most after this.
const LONGEST_HOLD: Duration = Duration::from_secs(600);

/// What is known of one address.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Health {
    /// It has answered a probe: from then on silence means something.
    pub(super) answers: bool,
    /// It has answered a request since it failed last.
    pub(super) serves: bool,
    /// A probe is under way.
    pub(super) probing: bool,
    /// One was answered or missed.
    pub(super) probed: bool,
    /// Answers in a row since it failed.
    pub(super) good: u8,
    /// When it failed last, while it is not first choice again.
    pub(super) failed: Option<Instant>,
    /// How long after that it is not.
    pub(super) hold: Duration,
    /// Failures in a row.
    pub(super) strikes: u32,
    /// It asked not to be asked before.
    pub(super) pause: Option<Instant>,
}

impl Health {
    pub(super) fn state(&self, now: Instant) -> UpstreamState {
        if self.pause.is_some_and(|until| now < until) {
            return UpstreamState::Busy;
        }
        match self.failed {
            // Nothing but a request can find out.
            Some(at) if !self.answers && now >= at + self.hold => UpstreamState::Silent,
            Some(_) if self.good == 0 => UpstreamState::Down,
            Some(_) => UpstreamState::Returning,
            None if self.answers => UpstreamState::Up,
            None => UpstreamState::Silent,
        }
    }

    pub(super) fn fail(&mut self, now: Instant, spread: Duration) {
        self.hold = (HOLD + spread).saturating_mul(if self.answers { 1 } else { 1 << self.strikes.min(5) });
        self.hold = self.hold.min(LONGEST_HOLD);
        self.strikes = self.strikes.saturating_add(1);
        self.failed = Some(now);
        self.serves = false;
        self.good = 0;
    }

    /// A probe (`probe`) or a request was answered.
    pub(super) fn answered(&mut self, now: Instant, probe: bool) {
        self.answers |= probe;
        let Some(failed) = self.failed else { return };
        // Requests show that it lives, but only probes come by a clock.
        self.good = if probe { self.good.saturating_add(1) } else { self.good.max(1) };
        if now >= failed + self.hold && (self.good >= GOOD || !self.answers) {
            *self = Self { failed: None, good: 0, strikes: 0, ..*self };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_SPREAD: Duration = Duration::ZERO;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn the_way_back_takes_three_answers_and_half_a_minute() {
        let start = Instant::now();
        let mut health = Health::default();
        health.answered(start, true);
        assert_eq!(health.state(start), UpstreamState::Up);
        health.fail(start, NO_SPREAD);
        assert_eq!(health.state(start + seconds(600)), UpstreamState::Down);
        for (at, state) in
            [(5, UpstreamState::Returning), (10, UpstreamState::Returning), (15, UpstreamState::Returning)]
        {
            health.answered(start + seconds(at), true);
            assert_eq!(
                health.state(start + seconds(at)),
                state,
                "three answers are there after 15 s, half a minute is not"
            );
        }
        health.answered(start + seconds(30), true);
        assert_eq!(health.state(start + seconds(30)), UpstreamState::Up);
        // Half a minute is over, three answers are not there.
        health.fail(start + seconds(40), NO_SPREAD);
        health.answered(start + seconds(75), true);
        health.answered(start + seconds(80), true);
        assert_eq!(health.state(start + seconds(80)), UpstreamState::Returning);
        health.fail(start + seconds(81), NO_SPREAD);
        assert_eq!(health.state(start + seconds(81)), UpstreamState::Down);
        health.answered(start + seconds(120), true);
        assert_eq!(health.state(start + seconds(120)), UpstreamState::Returning, "a new failure counts from the start");
    }

    #[test]
    fn one_that_never_answers_pings_is_tried_again_later_each_time() {
        let mut now = Instant::now();
        let mut health = Health::default();
        assert_eq!(health.state(now), UpstreamState::Silent);
        for hold in [30, 60, 120, 240, 480, 600, 600] {
            health.fail(now, NO_SPREAD);
            assert_eq!(health.state(now + seconds(hold - 1)), UpstreamState::Down);
            now += seconds(hold);
            assert_eq!(health.state(now), UpstreamState::Silent, "{hold}");
        }
        health.answered(now, false);
        assert_eq!((health.failed, health.strikes), (None, 0));
    }

    #[test]
    fn a_pause_goes_before_everything() {
        let now = Instant::now();
        let mut health = Health { pause: Some(now + seconds(60)), ..Health::default() };
        health.answered(now, true);
        assert_eq!(health.state(now + seconds(59)), UpstreamState::Busy);
        assert_eq!(health.state(now + seconds(60)), UpstreamState::Up);
    }

    #[test]
    fn one_that_answers_pings_waits_no_longer_the_more_often_it_failed() {
        let now = Instant::now();
        let mut health = Health { answers: true, ..Health::default() };
        for spread in [0, 4, 10] {
            health.fail(now, seconds(spread));
            assert_eq!(health.hold, seconds(30 + spread));
        }
        assert_eq!(health.strikes, 3);
        let mut health = Health::default();
        health.fail(now, seconds(4));
        health.fail(now, seconds(4));
        assert_eq!(health.hold, seconds(68));
    }

    #[test]
    fn requests_alone_do_not_make_it_first_choice_again() {
        let start = Instant::now();
        let mut health = Health { answers: true, ..Health::default() };
        health.fail(start, NO_SPREAD);
        for second in 30..40 {
            health.answered(start + seconds(second), false);
            assert_eq!((health.state(start + seconds(second)), health.good), (UpstreamState::Returning, 1));
        }
        health.answered(start + seconds(40), true);
        health.answered(start + seconds(41), false);
        assert_eq!(health.good, 2, "nor does a request take anything away");
        health.answered(start + seconds(41), true);
        assert_eq!((health.state(start + seconds(41)), health.strikes), (UpstreamState::Up, 0));
    }

    #[test]
    fn one_that_never_answered_is_back_with_the_first_answer_after_its_time() {
        let start = Instant::now();
        for (second, probe, state) in [
            (29, false, UpstreamState::Returning),
            (30, false, UpstreamState::Silent),
            (30, true, UpstreamState::Returning),
        ] {
            let mut health = Health::default();
            health.fail(start, NO_SPREAD);
            health.answered(start + seconds(second), probe);
            assert_eq!(health.state(start + seconds(second)), state, "{second} {probe}");
            assert_eq!((health.failed.is_none(), health.answers), (state == UpstreamState::Silent, probe));
        }
    }
}
