//! How rare may keep-alives be? Learnt from silences that mappings of sibling
//! sockets survived, and from those that they did not (RFC 5626 §4.4, RFC 5780 §4.6).
//!
//! A ladder of trials runs all the time: a short silence again and again, a
//! longer one more rarely, and on top one that explores. A router that begins to
//! forget earlier is so found out within about the time that it still remembers,
//! however long the silences on top are. Flows are pinged after four fifths of
//! what was survived: the margin is for drift, and for pings that are lost.
//!
//! Decides intervals; whoever owns sockets runs the trials.

use std::time::{Duration, Instant};

/// Flows use this share of what was survived, in percent.
const SHARE: u32 = 80;
/// A rung is so many times as long as the one below.
const RUNG: u32 = 4;
/// Explored beyond what was survived, in percent.
const BEYOND: u32 = 150;
/// What was survived and what was lost are near enough, in percent.
const NEAR: u32 = 112;
/// What was lost is tried again after this: routers are replaced.
const AGES: Duration = Duration::from_secs(6 * 3600);

/// Between which intervals to choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Never more often.
    pub least: Duration,
    /// While nothing is known.
    pub start: Duration,
    /// Never more rarely.
    pub most: Duration,
}

impl Bounds {
    /// Signalling over UDP: rarer than every two minutes (RFC 4787 REQ-5) gains next to nothing, and would find a
    /// dead upstream late.
    pub const UDP: Self =
        Self { least: Duration::from_secs(8), start: Duration::from_secs(25), most: Duration::from_secs(120) };
}

/// What is known of one uplink.
#[derive(Debug, Clone)]
pub struct Learner {
    bounds: Bounds,
    survived: Duration,
    lost: Option<(Duration, Instant)>,
}

impl Learner {
    /// Nothing known.
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, survived: beyond(bounds.start), lost: None }
    }

    /// Flows are to be pinged at least so often.
    pub fn interval(&self) -> Duration {
        (self.survived * SHARE / 100).clamp(self.bounds.least, self.bounds.most)
    }

    /// The silences that are to be tried now, each by a sibling of its own: the
    /// ladder from below, and the one that explores. From two to five of them.
    pub fn trials(&self, now: Instant) -> Vec<Duration> {
        let mut trials = Vec::with_capacity(5);
        let mut rung = self.bounds.start.min(self.survived);
        while rung < self.survived {
            trials.push(rung);
            rung *= RUNG;
        }
        trials.push(self.survived);
        let top = beyond(self.bounds.most);
        let explored = match self.lost.filter(|(_, at)| now.saturating_duration_since(*at) < AGES) {
            Some((lost, _)) if lost * 100 > self.survived * NEAR => {
                Duration::from_secs_f64((self.survived.as_secs_f64() * lost.as_secs_f64()).sqrt())
            }
            Some(_) => return trials,
            None => (self.survived * BEYOND / 100).min(top),
        };
        if explored > self.survived {
            trials.push(explored);
        }
        trials
    }

    /// A mapping has lived through so long a silence.
    pub fn survived(&mut self, silence: Duration) {
        self.survived = self.survived.max(silence).min(beyond(self.bounds.most));
        self.lost = self.lost.filter(|(lost, _)| *lost > silence);
    }

    /// One has not. What is no longer true is known by halves only: the
    /// longest rung below is taken for survived.
    pub fn lost(&mut self, now: Instant, silence: Duration) {
        self.lost = Some((silence, now));
        if silence > self.survived {
            return;
        }
        let mut below = silence * 2 / 3;
        let mut rung = self.bounds.start;
        while rung < silence {
            below = rung;
            rung *= RUNG;
        }
        self.survived = below.max(self.bounds.least);
    }
}

/// What must be survived for flows to be pinged so rarely.
fn beyond(interval: Duration) -> Duration {
    interval * 100 / SHARE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[expect(clippy::disallowed_methods, reason = "virtual time has to start somewhere")]
    fn start() -> Instant {
        Instant::now()
    }

    /// Tries what is to be tried, at a router that remembers for so long.
    fn learn(learner: &mut Learner, now: Instant, lifetime: Duration) {
        for _ in 0..20 {
            for silence in learner.trials(now) {
                if silence < lifetime { learner.survived(silence) } else { learner.lost(now, silence) }
            }
        }
    }

    #[test]
    fn the_interval_follows_what_is_survived_with_a_margin() {
        let now = start();
        for (lifetime, least, most) in
            [(12, 8, 10), (20, 13, 16), (30, 20, 24), (60, 42, 48), (100, 70, 80), (7200, 120, 120)]
        {
            let mut learner = Learner::new(Bounds::UDP);
            assert_eq!(learner.interval(), seconds(25));
            learn(&mut learner, now, seconds(lifetime));
            let interval = learner.interval();
            assert!(interval >= seconds(least) && interval <= seconds(most), "{lifetime}: {interval:?}");
        }
    }

    #[test]
    fn a_short_silence_is_tried_beside_the_long_ones() {
        let now = start();
        let mut learner = Learner::new(Bounds::UDP);
        learn(&mut learner, now, seconds(7200));
        assert_eq!(learner.trials(now), [seconds(25), seconds(100), seconds(150)]);
        // The router begins to forget after 40 s: the rung of 100 s finds it out.
        learner.lost(now, seconds(100));
        assert_eq!(learner.interval(), seconds(20));
        learn(&mut learner, now, seconds(40));
        let interval = learner.interval();
        assert!(interval > seconds(27) && interval <= seconds(32), "{interval:?}");
        // It is not tried all the time whether that has changed, but some time.
        assert_eq!(learner.trials(now).last(), Some(&learner.survived));
        assert!(learner.trials(now + AGES).last() > Some(&learner.survived));
    }

    #[test]
    fn it_never_becomes_too_often_or_too_rare() {
        let now = start();
        let mut learner = Learner::new(Bounds::UDP);
        for _ in 0..50 {
            learner.lost(now, seconds(1));
        }
        assert_eq!(learner.interval(), Bounds::UDP.least);
        learner.survived(Duration::MAX / 1000);
        assert_eq!(learner.interval(), Bounds::UDP.most);
        assert!(learner.trials(now).len() <= 40);
    }
}
