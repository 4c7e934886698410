//! Wrong passwords, per source: beyond a budget credentials are not even
//! looked at, so that guessing is slow and right ones show no difference.
//! A phone that is registered already may refresh all the same: one guesser
//! must not lock out an office behind the same NAT.

use std::net::IpAddr;
use std::time::Instant;

use nat::sources::Sources;

/// Wrong ones at once, and the pause in milliseconds after which one more is looked at.
const BURST: u64 = 20;
const PAUSE: u64 = 3000;

/// The budgets: milliseconds of pause that are owed, and when that was.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    owed: Sources<(Instant, u64)>,
}

impl Attempts {
    /// May credentials of this source be looked at?
    pub(crate) fn allowed(&mut self, now: Instant, ip: IpAddr) -> bool {
        self.owed.known(ip).is_none_or(|owed| pay(owed, now) <= (BURST - 1) * PAUSE)
    }

    /// They were wrong.
    pub(crate) fn failed(&mut self, now: Instant, ip: IpAddr) {
        let owed = self.owed.of(ip, || (now, 0));
        owed.1 = pay(owed, now) + PAUSE;
    }
}

fn pay(owed: &mut (Instant, u64), now: Instant) -> u64 {
    let passed = now.saturating_duration_since(owed.0).as_millis() as u64;
    *owed = (now, owed.1.saturating_sub(passed));
    owed.1
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn guessing_becomes_slow_for_its_source_alone() {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        let guess = |attempts: &mut Attempts, now, ip| {
            let allowed = attempts.allowed(now, ip);
            if allowed {
                attempts.failed(now, ip);
            }
            allowed
        };
        let [one, other] = [IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2])];
        assert_eq!((0..1000).filter(|_| guess(&mut attempts, now, one)).count() as u64, BURST);
        assert!(guess(&mut attempts, now, other));
        let later = now + Duration::from_secs(60);
        assert_eq!((0..1000).filter(|_| guess(&mut attempts, later, one)).count(), 20);
        let in_between = later + Duration::from_secs(9);
        assert_eq!((0..1000).filter(|_| guess(&mut attempts, in_between, one)).count(), 3);
    }
}
