//! The clock that kernel receive stamps are in, and sleep to a point of it.
#![expect(unsafe_code, reason = "libc's clocks take pointers")]

const SECOND: u64 = 1_000_000_000;

/// Nanoseconds of the real-time clock.
pub(crate) fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a timespec that lives across the call.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut time) };
    stamp(time)
}

/// A kernel time as nanoseconds.
pub(crate) fn stamp(time: libc::timespec) -> u64 {
    u64::try_from(time.tv_sec).unwrap_or(0) * SECOND + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// Sleeps until `due` nanoseconds, without the usual slack of 50 µs (see [`exact`]).
pub(crate) fn sleep_until(due: u64) {
    let time = libc::timespec {
        tv_sec: libc::time_t::try_from(due / SECOND).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::try_from(due % SECOND).unwrap_or(0),
    };
    // SAFETY: `time` is a timespec that lives across the call; no remainder is asked for.
    unsafe { libc::clock_nanosleep(libc::CLOCK_REALTIME, libc::TIMER_ABSTIME, &raw const time, std::ptr::null_mut()) };
}

/// Timers of this thread are no longer rounded up by the kernel.
pub(crate) fn exact() {
    // SAFETY: takes plain numbers.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1 as libc::c_ulong) };
}
