//! Ports that run short, said before calls are refused; and ports that a fault
//! of ours has lost.

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
    /// Few.
    known: Vec<((IpAddr, RangeId), Option<Counts>, bool)>,
    audit: Option<Instant>,
}

/// What is new about a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// Its figures.
    Figures,
    /// They say that it runs short, and that was not said yet.
    Short,
}

impl Pressure {
    /// Figures of a pool; `None` where they are as before.
    pub(super) fn note(&mut self, ip: IpAddr, range: RangeId, counts: Counts) -> Option<News> {
        let at = self.known.iter().position(|(pool, ..)| *pool == (ip, range));
        let at = at.unwrap_or_else(|| {
            self.known.push(((ip, range), None, false));
            self.known.len() - 1
        });
        let (_, known, short) = &mut self.known[at];
        if known.replace(counts) == Some(counts) {
            return None;
        }
        let used = 100 * (counts.live + counts.resting);
        if !*short && used >= SHORT * counts.total && used > 0 {
            *short = true;
            return Some(News::Short);
        }
        *short &= used >= EASED * counts.total;
        Some(News::Figures)
    }

    /// Places in the list of ranges mean something else now.
    pub(super) fn forget(&mut self) {
        self.known.clear();
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
        let (figures, short) = (Some(News::Figures), Some(News::Short));
        assert_eq!(note(one, 15, 0), figures);
        assert_eq!(note(one, 15, 0), None, "nothing is new");
        assert_eq!(note(one, 12, 4), short, "80 %, those at rest included");
        assert_eq!([note(one, 20, 0), note(one, 14, 0), note(one, 16, 0)], [figures; 3]);
        assert_eq!(note(other, 16, 0), short, "each address for itself");
        assert_eq!(note(one, 13, 0), figures, "65 %");
        assert_eq!(note(one, 16, 0), short);
        let none = Counts { free: 1, ..Counts::default() };
        assert_eq!(pressure.note(other.into(), RangeId(1), none), figures);
    }

    #[test]
    fn ports_are_compared_every_five_seconds() {
        let (mut pressure, now) = (Pressure::default(), net::clock::now());
        assert!(pressure.audit(now) && !pressure.audit(now));
        assert_eq!(pressure.poll_timeout(), Some(now + AUDIT));
        assert!(pressure.audit(now + AUDIT));
    }
}
