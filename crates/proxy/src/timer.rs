//! Timers of the machine, one table: what each is for.

use std::collections::BTreeSet;
use std::time::Instant;

use registry::{BindingId, PassId};

use crate::transaction::Id;

/// What a deadline is for.
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
    Stun(crate::upstream::Key),
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
#[derive(Debug, Default)]
pub(crate) struct Timers(BTreeSet<(Instant, Timer)>);

impl Timers {
    pub(crate) fn arm(&mut self, at: Instant, timer: Timer) {
        self.0.insert((at, timer));
    }

    pub(crate) fn disarm(&mut self, at: Instant, timer: Timer) {
        self.0.remove(&(at, timer));
    }

    /// Disarms a timer, whenever it is due.
    pub(crate) fn disarm_all(&mut self, timer: Timer) {
        self.0.retain(|(_, armed)| *armed != timer);
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.first().map(|(at, _)| *at)
    }

    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<(Instant, Timer)> {
        let first = *self.0.first().filter(|(at, _)| *at <= now)?;
        self.0.remove(&first);
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_earliest_is_next_and_only_what_is_due_comes() {
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let mut timers = Timers::default();
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
        assert_eq!(timers.0.len(), 2, "neither of another moment nor another one");
        timers.arm(at(5), Timer::Upstream(2));
        timers.arm(at(6), Timer::Upstream(1));
        timers.disarm_all(Timer::Upstream(1));
        assert_eq!(timers.0.iter().map(|(_, timer)| *timer).collect::<Vec<_>>(), [Timer::Renewal, Timer::Upstream(2)]);
        timers.disarm(at(3), Timer::Renewal);
        assert_eq!(timers.next(), Some(at(5)));
    }
}
