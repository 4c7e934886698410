//! Ports that run short, said before calls are refused; and ports that a fault
//! of ours has lost.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use media::RangeId;
use media::ports::Counts;

/// In hundredths of a range: from here on ports run short …
const SHORT: usize = 80;
/// … and below this they no longer do.
const EASED: usize = 70;
/// How often lent ports are compared with calls.
const AUDIT: Duration = Duration::from_secs(5);

/// What was said of each range on each local address.
#[derive(Debug, Default)]
pub(super) struct Pressure {
    short: BTreeMap<(IpAddr, RangeId), bool>,
    audit: Option<Instant>,
}

impl Pressure {
    /// Figures of a pool; true when it is time to say that it runs short.
    pub(super) fn note(&mut self, ip: IpAddr, range: RangeId, counts: Counts) -> bool {
        let used = 100 * (counts.live + counts.resting);
        let short = self.short.entry((ip, range)).or_default();
        if !*short && used >= SHORT * counts.total && used > 0 {
            *short = true;
            return true;
        }
        *short &= used >= EASED * counts.total;
        false
    }

    /// Places in the list of ranges mean something else now.
    pub(super) fn forget(&mut self) {
        self.short.clear();
    }

    /// When lent ports are to be compared with calls.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.audit
    }

    /// Is it time for that?
    pub(super) fn audit(&mut self, now: Instant) -> bool {
        let due = self.audit.is_none_or(|at| at <= now);
        if due {
            self.audit = now.checked_add(AUDIT);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_that_runs_short_is_told_once_until_it_has_eased() {
        let mut pressure = Pressure::default();
        let mut note = |ip: [u8; 4], live, resting| {
            let counts = Counts { total: 20, live, resting, ..Counts::default() };
            pressure.note(ip.into(), RangeId(0), counts)
        };
        let (one, other) = ([192, 0, 2, 1], [192, 0, 2, 2]);
        assert!(!note(one, 15, 0));
        assert!(note(one, 12, 4), "80 %, those at rest included");
        assert!(!note(one, 20, 0) && !note(one, 14, 0) && !note(one, 16, 0));
        assert!(note(other, 16, 0), "each address for itself");
        assert!(!note(one, 13, 0), "65 %");
        assert!(note(one, 16, 0));
        let empty = Counts::default();
        assert!(!pressure.note(other.into(), RangeId(1), empty));
    }

    #[test]
    fn ports_are_compared_every_five_seconds() {
        let (mut pressure, now) = (Pressure::default(), net::clock::now());
        assert!(pressure.audit(now) && !pressure.audit(now));
        assert_eq!(pressure.poll_timeout(), Some(now + AUDIT));
        assert!(pressure.audit(now + AUDIT));
    }
}
