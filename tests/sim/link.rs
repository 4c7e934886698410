//! An access link: loss, duplication, delay, jitter, reordering.

use std::time::Duration;

use crate::rng::Rng;

/// How a link treats packets, the same in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    /// Lost packets in a thousand.
    pub(crate) loss: u32,
    /// Packets in a thousand that arrive twice.
    pub(crate) duplicate: u32,
    /// Packets in a thousand that are held back long enough to be overtaken.
    pub(crate) reorder: u32,
    /// Shortest delay.
    pub(crate) delay: Duration,
    /// What is added at random.
    pub(crate) jitter: Duration,
}

impl Link {
    /// A local network: fast and faultless.
    pub(crate) const LAN: Self = Self::ideal(Duration::from_micros(200));

    /// Faultless, with this delay.
    pub(crate) const fn ideal(delay: Duration) -> Self {
        Self { loss: 0, duplicate: 0, reorder: 0, delay, jitter: Duration::ZERO }
    }

    /// After how long a packet arrives: not at all, once, or twice.
    pub(crate) fn carry(&self, rng: &mut Rng) -> [Option<Duration>; 2] {
        if rng.chance(self.loss) {
            return [None, None];
        }
        let first = self.once(rng);
        let second = if rng.chance(self.duplicate) { Some(self.once(rng)) } else { None };
        [Some(first), second]
    }

    /// After how long a segment of a stream arrives, however often it is lost: its sender repeats it,
    /// each time after twice the time (RFC 6298).
    pub(crate) fn insist(&self, rng: &mut Rng) -> Duration {
        let (mut delay, mut again) = (self.once(rng), Duration::from_millis(200) + self.delay * 2);
        while rng.chance(self.loss) {
            delay += again;
            again *= 2;
        }
        delay
    }

    fn once(&self, rng: &mut Rng) -> Duration {
        let mut delay = self.delay;
        if !self.jitter.is_zero() {
            delay += Duration::from_micros(rng.between(0, self.jitter.as_micros() as u64));
        }
        if rng.chance(self.reorder) {
            delay += Duration::from_millis(rng.between(20, 60));
        }
        delay
    }
}
