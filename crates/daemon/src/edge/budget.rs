//! What a source that has proven nothing may make us send: a bucket of octets
//! per address, so that forged sources gain nothing by asking us (`docs`:
//! answers stay within a budget per source).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Octets that a source may have answered at once, and per second from then on.
const BURST: f64 = 8192.0;
const RATE: f64 = 2048.0;

/// Most sources that are remembered; beyond that, strangers get nothing until some are forgotten.
const SOURCES: usize = 16_384;

/// The buckets.
#[derive(Debug, Default)]
pub(super) struct Budget {
    sources: BTreeMap<IpAddr, (Instant, f64)>,
    swept: Option<Instant>,
}

/// How often a full table is searched for sources that can be forgotten.
const SWEEP: Duration = Duration::from_secs(1);

impl Budget {
    /// May this many octets go to the source? If so, they are taken off.
    pub(super) fn spend(&mut self, now: Instant, source: IpAddr, octets: usize) -> bool {
        let Ok(octets) = u32::try_from(octets).map(f64::from) else { return false };
        if !self.sources.contains_key(&source) && self.sources.len() >= SOURCES {
            if self.swept.is_none_or(|at| now.saturating_duration_since(at) >= SWEEP) {
                self.swept = Some(now);
                self.sources.retain(|_, (since, left)| refilled(*since, *left, now) < BURST);
            }
            if self.sources.len() >= SOURCES {
                return false;
            }
        }
        let (since, left) = self.sources.entry(source).or_insert((now, BURST));
        *left = refilled(*since, *left, now);
        *since = now;
        let enough = *left >= octets;
        if enough {
            *left -= octets;
        }
        enough
    }
}

fn refilled(since: Instant, left: f64, now: Instant) -> f64 {
    (left + now.saturating_duration_since(since).as_secs_f64() * RATE).min(BURST)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_source_gets_its_burst_and_then_its_rate() {
        let (mut budget, now, ip) = (Budget::default(), net::clock::now(), IpAddr::from([192, 0, 2, 1]));
        let answered = (0..1000).filter(|_| budget.spend(now, ip, 64)).count();
        assert_eq!(answered, 128);
        let later = now + Duration::from_secs(1);
        assert_eq!((0..1000).filter(|_| budget.spend(later, ip, 64)).count(), 32);
        assert!(budget.spend(now, IpAddr::from([192, 0, 2, 2]), 64), "others are not touched");
    }

    #[test]
    fn the_table_is_bounded_and_forgets_the_quiet() {
        let (mut budget, now) = (Budget::default(), net::clock::now());
        for number in 0..40_000_u32 {
            budget.spend(now, IpAddr::from(Ipv4Addr::from(number)), 64);
        }
        assert_eq!(budget.sources.len(), SOURCES);
        assert!(budget.spend(now + Duration::from_secs(10), IpAddr::from([255, 0, 0, 1]), 64));
    }
}
