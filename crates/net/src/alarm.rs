//! The alarm that ends the signalling loop's sleep at the machines' earliest
//! deadline. A timerfd on `CLOCK_BOOTTIME`, so it also rings at once when the
//! machine wakes from a suspend in which the deadline passed; the timeout of a
//! wait would sleep on.
#![expect(unsafe_code, reason = "timerfd has no safe wrapper in std")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::clock;

/// One deadline that can be moved. Readable from when it has passed until it is set again.
#[derive(Debug)]
pub(crate) struct Alarm {
    timer: OwnedFd,
    /// When it rings.
    at: Option<Instant>,
    /// It has rung, and does so until it is set again.
    rings: bool,
}

impl Alarm {
    /// An alarm without a deadline. Fails when descriptors have run out.
    pub(crate) fn new() -> io::Result<Self> {
        let timer = create(libc::CLOCK_BOOTTIME).or_else(|_refused| create(libc::CLOCK_MONOTONIC))?;
        Ok(Self { timer, at: None, rings: false })
    }

    /// It rings at that time ([`clock::now`] time) at the latest, and once
    /// earlier at most: a deadline that moves away is not followed, since most
    /// that move do so again.
    pub(crate) fn set(&mut self, at: Option<Instant>) -> io::Result<()> {
        let kept = match (self.at, at) {
            (Some(set), Some(at)) => set <= at,
            (None, Some(_)) => false,
            (Some(_) | None, None) => true,
        };
        if kept && !self.rings {
            return Ok(());
        }
        (self.at, self.rings) = (at, false);
        // A zero would switch the timer off; a deadline that has passed rings at once.
        let left = at.map(|at| at.saturating_duration_since(clock::now()).max(Duration::from_nanos(1)));
        arm(&self.timer, left.unwrap_or_default())
    }

    /// It has rung; the next [`set`](Self::set) ends that.
    pub(crate) fn rang(&mut self) {
        (self.at, self.rings) = (None, true);
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}

fn create(clock: libc::clockid_t) -> io::Result<OwnedFd> {
    // SAFETY: no pointers are involved.
    let fd = unsafe { libc::timerfd_create(clock, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just handed this descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What it counted so far is forgotten with that.
fn arm(timer: &OwnedFd, left: Duration) -> io::Result<()> {
    let zero = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let value = libc::timespec {
        tv_sec: libc::time_t::try_from(left.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: left.subsec_nanos() as _,
    };
    let setting = libc::itimerspec { it_interval: zero, it_value: value };
    // SAFETY: `setting` outlives the call; the old setting is not asked for.
    let failed = unsafe { libc::timerfd_settime(timer.as_raw_fd(), 0, &raw const setting, std::ptr::null_mut()) } != 0;
    if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
}
