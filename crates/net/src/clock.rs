//! The clock: the one place where the program reads time.
//!
//! Machines get `now` as an argument; whoever drives them takes it from here.
//! `std::time::Instant` stands still while the machine is suspended, the NATs
//! and registrars around us do not, so [`now`] counts suspend
//! (`CLOCK_BOOTTIME`). Must not sleep; waiting is `alarm`'s task.
#![expect(unsafe_code, reason = "clock_gettime(CLOCK_BOOTTIME) has no safe wrapper in std")]

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Now, on a clock that never goes back and does count suspend.
///
/// Comparable with other values of this function only: an `Instant` that tokio
/// or std made is behind it by the time spent suspended.
pub fn now() -> Instant {
    let (instant, boot) = base();
    instant + since_boot().saturating_sub(boot)
}

fn base() -> (Instant, Duration) {
    static BASE: OnceLock<(Instant, Duration)> = OnceLock::new();
    *BASE.get_or_init(|| (monotonic(), since_boot()))
}

/// What [`now`] would have told when the machine had been up for so many
/// nanoseconds; that is how a program in the kernel reads this clock.
pub(crate) fn of_boot(nanos: u64) -> Instant {
    let (instant, boot) = base();
    let at = Duration::from_nanos(nanos);
    (instant + at.saturating_sub(boot)).checked_sub(boot.saturating_sub(at)).unwrap_or(instant)
}

/// The other way round.
pub(crate) fn to_boot(at: Instant) -> u64 {
    let (instant, boot) = base();
    let since = boot + at.saturating_duration_since(instant);
    let nanos = since.saturating_sub(instant.saturating_duration_since(at)).as_nanos();
    u64::try_from(nanos).unwrap_or(u64::MAX)
}

/// Time since 1970-01-01T00:00:00Z by the wall clock, for dates in files and
/// logs; zero when the clock is set before that. It may jump: never compute
/// deadlines from it.
#[expect(clippy::disallowed_methods, reason = "this function is what others call instead")]
pub fn unix_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Time since the machine started, suspend included. Comparable between
/// processes, as long as the machine was not started again in between.
pub fn up_time() -> Duration {
    since_boot()
}

#[expect(clippy::disallowed_methods, reason = "the base that `now` counts from; an Instant can be had in no other way")]
fn monotonic() -> Instant {
    Instant::now()
}

/// Processor time that the calling thread has had.
pub(crate) fn of_thread() -> Duration {
    read(libc::CLOCK_THREAD_CPUTIME_ID).unwrap_or_default()
}

/// `CLOCK_BOOTTIME`. Kernels have had it since 2.6.39; a sandbox that refuses
/// it gets `CLOCK_MONOTONIC`, which every Linux has.
fn since_boot() -> Duration {
    read(libc::CLOCK_BOOTTIME).or_else(|| read(libc::CLOCK_MONOTONIC)).unwrap_or_default()
}

fn read(clock: libc::clockid_t) -> Option<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec for the kernel to write to.
    let failed = unsafe { libc::clock_gettime(clock, &raw mut time) } != 0;
    if failed {
        return None;
    }
    Some(Duration::new(u64::try_from(time.tv_sec).ok()?, u32::try_from(time.tv_nsec).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn does_not_go_back() {
        let mut last = now();
        for _ in 0..1000 {
            let next = now();
            assert!(next >= last);
            last = next;
        }
    }

    #[test]
    fn runs_at_the_speed_of_the_monotonic_clock() {
        let (ours, theirs) = (now(), monotonic());
        while monotonic() - theirs < Duration::from_millis(5) {
            std::hint::spin_loop();
        }
        let passed = now() - ours;
        assert!(passed >= Duration::from_millis(5) && passed < Duration::from_secs(5), "{passed:?}");
    }

    #[test]
    fn times_since_boot_go_both_ways() {
        let now = now();
        assert_eq!(of_boot(to_boot(now)), now);
        let earlier = now - Duration::from_millis(300);
        assert_eq!(of_boot(to_boot(earlier)), earlier);
        assert_eq!(to_boot(now) - to_boot(earlier), 300_000_000);
        let up = u64::try_from(up_time().as_nanos()).unwrap();
        assert!(up - to_boot(now) < 5_000_000_000);
    }

    #[test]
    fn wall_clock_is_after_2020() {
        assert!(unix_time() > Duration::from_secs(1_577_836_800));
    }
}
