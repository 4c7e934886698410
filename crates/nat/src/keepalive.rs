//! When must a mapping be refreshed, and when is a peer gone?
//!
//! Decides the next moment of a repeated ping (RFC 5626 §4.4, RFC 6223) and
//! counts the answers. It must not send anything: whoever owns the timer does.
//!
//! Many routers forget a UDP mapping after 30 s without outbound traffic, far
//! below the two minutes of RFC 4787 REQ-5, so a phone behind one is pinged
//! every 20 to 25 s. The spread keeps hundreds of phones from being pinged at
//! one moment after a restart.

pub mod learner;

use std::time::{Duration, Instant};

use rand_core::Rng;

pub use learner::{Bounds, Learner};

/// Repeated moments: `base` apart at most, `base` less the jitter at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    base: Duration,
    jitter_percent: u8,
}

impl Schedule {
    /// Phones behind a NAT, UDP: 20 to 25 s, so that a mapping lifetime of 30 s is never hit.
    pub const PHONE: Self = Self::new(Duration::from_secs(25), 20);
    /// Streams: CRLF every 95 to 120 s (RFC 5626 §4.4.1).
    pub const STREAM: Self = Self::new(Duration::from_secs(120), 21);
    /// An upstream that is reached through our own NAT: 24 to 29 s (RFC 5626 §4.4.2).
    pub const UPSTREAM: Self = Self::new(Duration::from_secs(29), 17);

    /// Intervals of `base` less at most `jitter_percent` (0 to 100) of it, and never below a millisecond.
    pub const fn new(base: Duration, jitter_percent: u8) -> Self {
        let jitter_percent = if jitter_percent > 100 { 100 } else { jitter_percent };
        Self { base, jitter_percent }
    }

    /// The next interval, evenly spread.
    pub fn interval(&self, rng: &mut impl Rng) -> Duration {
        let share = f64::from(rng.next_u32()) / f64::from(u32::MAX);
        let jitter = self.base.mul_f64(share * f64::from(self.jitter_percent) / 100.0);
        self.base.saturating_sub(jitter).max(Duration::from_millis(1))
    }

    /// When the next ping is due.
    pub fn next(&self, now: Instant, rng: &mut impl Rng) -> Instant {
        now + self.interval(rng)
    }

    /// When the first ping is due: anywhere within one interval, so that peers
    /// that were all restored at one moment (after a restart) are spread over it.
    pub fn first(&self, now: Instant, rng: &mut impl Rng) -> Instant {
        now + self.base.mul_f64(f64::from(rng.next_u32()) / f64::from(u32::MAX))
    }
}

/// Pings of one peer that stay unanswered before it counts as gone.
pub const MISSED_MOST: u8 = 3;

/// What the pings say about a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Health {
    /// It has never answered a ping: nothing follows from silence, because
    /// some phones drop OPTIONS.
    Unknown,
    /// It answers.
    Alive,
    /// It had answered before and missed this many pings, less than [`MISSED_MOST`].
    Late(u8),
    /// It had answered before and missed [`MISSED_MOST`] or more.
    Gone,
}

/// What is remembered of one peer's pings: two octets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pings {
    answered: bool,
    missed: u8,
}

impl Pings {
    /// A peer that was never pinged.
    pub fn new() -> Self {
        Self::default()
    }

    /// A ping was answered (any final response counts, RFC 5626 §4.4 by OPTIONS).
    pub fn answered(&mut self) -> Health {
        *self = Self { answered: true, missed: 0 };
        self.health()
    }

    /// The peer sent something else: it is there, though that says nothing
    /// about whether it answers pings.
    pub fn heard(&mut self) -> Health {
        self.missed = 0;
        self.health()
    }

    /// A ping got no answer in time.
    pub fn missed(&mut self) -> Health {
        self.missed = self.missed.saturating_add(1);
        self.health()
    }

    /// The state of the peer.
    pub fn health(&self) -> Health {
        match (self.answered, self.missed) {
            (false, _) => Health::Unknown,
            (true, 0) => Health::Alive,
            (true, MISSED_MOST..) => Health::Gone,
            (true, missed) => Health::Late(missed),
        }
    }

    /// True once, at the ping by whose absence the peer became gone: the
    /// moment to report it.
    pub fn just_gone(&self) -> bool {
        self.answered && self.missed == MISSED_MOST
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha12Rng;
    use rand_core::SeedableRng as _;

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "virtual time has to start somewhere")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn intervals_stay_inside_the_jitter() {
        let mut rng = ChaCha12Rng::from_seed([7; 32]);
        let (mut least, mut most) = (Duration::MAX, Duration::ZERO);
        for _ in 0..5000 {
            let interval = Schedule::PHONE.interval(&mut rng);
            (least, most) = (least.min(interval), most.max(interval));
        }
        assert!(least >= Duration::from_secs(20) && least < Duration::from_millis(20_100), "{least:?}");
        assert!(most <= Duration::from_secs(25) && most > Duration::from_millis(24_900), "{most:?}");
    }

    #[test]
    fn odd_settings_still_move_time_forward() {
        let mut rng = ChaCha12Rng::from_seed([7; 32]);
        let now = start();
        for schedule in [Schedule::new(Duration::ZERO, 20), Schedule::new(Duration::from_secs(1), 255)] {
            assert!((0..100).all(|_| schedule.next(now, &mut rng) > now));
        }
    }

    #[test]
    fn first_pings_are_spread() {
        let mut rng = ChaCha12Rng::from_seed([7; 32]);
        let now = start();
        let early = (0..1000).filter(|_| Schedule::PHONE.first(now, &mut rng) < now + Duration::from_secs(5)).count();
        assert!((120..280).contains(&early), "{early}");
    }

    #[test]
    fn the_same_seed_gives_the_same_moments() {
        let intervals = || {
            let mut rng = ChaCha12Rng::from_seed([1; 32]);
            (0..10).map(|_| Schedule::STREAM.interval(&mut rng)).collect::<Vec<_>>()
        };
        assert_eq!(intervals(), intervals());
    }

    #[test]
    fn a_peer_is_gone_after_three_missed_if_it_ever_answered() {
        let mut pings = Pings::new();
        assert_eq!((0..10).map(|_| pings.missed()).last(), Some(Health::Unknown));
        assert_eq!(pings.answered(), Health::Alive);
        assert_eq!([pings.missed(), pings.missed()], [Health::Late(1), Health::Late(2)]);
        assert!(!pings.just_gone());
        assert_eq!(pings.missed(), Health::Gone);
        assert!(pings.just_gone());
        assert_eq!(pings.missed(), Health::Gone);
        assert!(!pings.just_gone());
        assert_eq!(pings.heard(), Health::Alive);
    }

    #[test]
    fn what_is_heard_does_not_count_as_an_answer() {
        let mut pings = Pings::new();
        assert_eq!(pings.heard(), Health::Unknown);
        assert_eq!((0..5).map(|_| pings.missed()).last(), Some(Health::Unknown));
    }
}
