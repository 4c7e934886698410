//! The alarm that ends the signalling loop's sleep at the machines' earliest
//! deadline. A timerfd on `CLOCK_BOOTTIME`, so it also rings at once when the
//! machine wakes from a suspend in which the deadline passed; tokio's own
//! timers would sleep on.
#![expect(unsafe_code, reason = "timerfd has no safe wrapper in std")]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::clock;

/// One deadline that can be moved.
#[derive(Debug)]
pub struct Alarm {
    timer: AsyncFd<OwnedFd>,
    at: Option<Instant>,
}

impl Alarm {
    /// An alarm without a deadline. Must be made inside a tokio runtime with
    /// its I/O driver on. Fails when descriptors have run out.
    pub fn new() -> io::Result<Self> {
        let timer = create(libc::CLOCK_BOOTTIME).or_else(|_refused| create(libc::CLOCK_MONOTONIC))?;
        // SAFETY: an OwnedFd stays open, and the same, as long as it lives.
        let timer = unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE) }?;
        Ok(Self { timer, at: None })
    }

    /// Moves the deadline ([`clock::now`] time); `None` switches it off.
    /// Setting the same deadline again costs nothing.
    pub fn set(&mut self, at: Option<Instant>) -> io::Result<()> {
        if self.at == at {
            return Ok(());
        }
        self.at = at;
        // A zero would switch the timer off; a deadline that has passed rings at once.
        let left = at.map(|at| at.saturating_duration_since(clock::now()).max(Duration::from_nanos(1)));
        arm(&self.timer, left.unwrap_or_default())
    }

    /// Ready once the deadline has passed; the alarm is then off until set again.
    pub fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.timer.poll_read_ready(cx))?;
            if let Ok(expired) = guard.try_io(|timer| expirations(timer.get_ref())) {
                expired?;
                self.at = None;
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Waits until the deadline has passed; forever when there is none.
    pub async fn expired(&mut self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_expired(cx)).await
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

fn arm(timer: &AsyncFd<OwnedFd>, left: Duration) -> io::Result<()> {
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

/// How often the timer has rung since the last read; `WouldBlock` when not at all.
fn expirations(timer: &OwnedFd) -> io::Result<u64> {
    let mut count: u64 = 0;
    // SAFETY: eight octets are written to `count`.
    let got = unsafe { libc::read(timer.as_raw_fd(), (&raw mut count).cast(), 8) };
    if got < 0 { Err(io::Error::last_os_error()) } else { Ok(count) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn rings_after_its_deadline_and_once() {
        let mut alarm = Alarm::new().unwrap();
        let at = clock::now() + Duration::from_millis(3);
        alarm.set(Some(at)).unwrap();
        alarm.expired().await.unwrap();
        assert!(clock::now() >= at);
        let again = std::future::poll_fn(|cx| Poll::Ready(alarm.poll_expired(cx).is_ready())).await;
        assert!(!again);
    }

    #[tokio::test]
    async fn a_deadline_in_the_past_rings_at_once_and_a_moved_one_does_not() {
        let mut alarm = Alarm::new().unwrap();
        let now = clock::now();
        alarm.set(Some(now)).unwrap();
        alarm.expired().await.unwrap();
        alarm.set(Some(now)).unwrap();
        alarm.set(Some(now + Duration::from_secs(3600))).unwrap();
        let rang = std::future::poll_fn(|cx| Poll::Ready(alarm.poll_expired(cx).is_ready())).await;
        assert!(!rang);
    }
}
