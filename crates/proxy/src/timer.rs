//! Timers of the machine, one table: what each is for.

mod wheel;

use std::time::Instant;

use registry::{BindingId, PassId};

use crate::transaction::Id;
use wheel::Wheel;

/// What a deadline is for. There are many, so it is small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// The earliest of a response context's own timers (§17, Timer C, parking).
    Context(Id),
    /// The next OPTIONS ping to a phone behind a NAT.
    Ping(BindingId),
    /// The next OPTIONS ping from this listener to its upstream.
    Upstream(u16),
    /// A connection is pinged, or its pong is overdue.
    Connection(crate::connection::Id),
    /// A phone that promised keep-alives has been silent on its connection.
    Silence(crate::connection::Id),
    /// The next phone is registered again by us.
    Renewal,
    /// A STUN keep-alive to an upstream is sent again, or given up.
    Stun(u64),
    /// The 2xx of this callee should have been acknowledged.
    Ack(PassId, u8),
    /// A call whose far end knows us by a former address is told the new one.
    Moved(PassId),
    /// The next step of telling one end of it.
    Move(PassId, u8, u8),
    /// A located next hop is looked up again.
    Locate,
}

/// All deadlines.
#[derive(Debug)]
pub(crate) struct Timers(Wheel<Timer>);

impl Timers {
    pub(crate) fn new(now: Instant) -> Self {
        Self(Wheel::new(now))
    }

    pub(crate) fn arm(&mut self, at: Instant, timer: Timer) {
        self.0.arm(at, timer);
    }

    pub(crate) fn disarm(&mut self, at: Instant, timer: Timer) {
        self.0.disarm(at, timer);
    }

    /// Disarms a timer, whenever it is due.
    pub(crate) fn disarm_all(&mut self, timer: Timer) {
        self.0.retain(|(_, armed)| *armed != timer);
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.first().map(|(at, _)| at)
    }

    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<(Instant, Timer)> {
        self.0.pop_due(now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn one_is_small() {
        assert_eq!(size_of::<Timer>(), 16);
    }

    #[test]
    fn the_earliest_is_next_and_only_what_is_due_comes() {
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let mut timers = Timers::new(now);
        assert_eq!((timers.next(), timers.pop_due(now)), (None, None));
        timers.arm(at(2), Timer::Upstream(1));
        timers.arm(at(1), Timer::Locate);
        timers.arm(at(3), Timer::Renewal);
        timers.arm(at(3), Timer::Upstream(1));
        assert_eq!((timers.next(), timers.pop_due(now)), (Some(at(1)), None));
        assert_eq!(timers.pop_due(at(1)), Some((at(1), Timer::Locate)));
        assert_eq!(timers.pop_due(at(1)), None);
        assert_eq!(timers.pop_due(at(9)), Some((at(2), Timer::Upstream(1))), "as of when it was due");
        timers.disarm(at(2), Timer::Renewal);
        timers.disarm(at(3), Timer::Upstream(2));
        timers.arm(at(5), Timer::Upstream(2));
        timers.arm(at(6), Timer::Upstream(1));
        timers.disarm_all(Timer::Upstream(1));
        assert_eq!(timers.pop_due(at(3)), Some((at(3), Timer::Renewal)), "neither of another moment nor another one");
        assert_eq!(timers.next(), Some(at(5)));
        timers.disarm(at(5), Timer::Upstream(2));
        assert_eq!(timers.next(), None);
    }
}
