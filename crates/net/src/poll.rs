//! Waiting in the kernel: an epoll set, and an eventfd that ends a wait from
//! another thread. Moves tokens; knows nothing of what they stand for.
#![expect(unsafe_code, reason = "epoll and eventfd have no safe wrapper in std")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A level-triggered set of descriptors, each with a token of the caller's.
#[derive(Debug)]
pub(crate) struct Epoll {
    fd: OwnedFd,
}

impl Epoll {
    /// An empty set.
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: no pointers are involved; the descriptor is owned from here on.
        let fd = unsafe { owned(libc::epoll_create1(libc::EPOLL_CLOEXEC)) }?;
        Ok(Self { fd })
    }

    /// The set as one descriptor that tokio waits for: readable while any of its
    /// own is. Must be called inside a runtime with its I/O driver on.
    pub(crate) fn on_runtime(self) -> io::Result<AsyncFd<Self>> {
        // SAFETY: the OwnedFd inside is private and never replaced, so the descriptor
        // stays open, and the same, as long as the set lives.
        Ok(unsafe { AsyncFd::register_with_interest(self, Interest::READABLE) }?)
    }

    /// Reports `token` whenever `fd` has something to read (or an error to collect).
    pub(crate) fn add(&self, fd: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: token };
        // SAFETY: both descriptors are open, `event` outlives the call.
        done(unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), libc::EPOLL_CTL_ADD, fd.as_raw_fd(), &raw mut event) })
    }

    /// From here on `token` is reported also while `fd` takes what is to be written, or no longer.
    pub(crate) fn modify(&self, fd: BorrowedFd<'_>, token: u64, room: bool) -> io::Result<()> {
        let events = if room { libc::EPOLLIN | libc::EPOLLOUT } else { libc::EPOLLIN };
        let mut event = libc::epoll_event { events: events as u32, u64: token };
        // SAFETY: both descriptors are open, `event` outlives the call.
        done(unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), libc::EPOLL_CTL_MOD, fd.as_raw_fd(), &raw mut event) })
    }

    /// Takes `fd` out; needed before a socket moves elsewhere still open.
    pub(crate) fn remove(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        // SAFETY: both descriptors are open; no event is read for this operation.
        done(unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), libc::EPOLL_CTL_DEL, fd.as_raw_fd(), std::ptr::null_mut()) })
    }

    /// Fills `ready`; waits at most `timeout` (rounded up to milliseconds),
    /// without one until something happens. A signal ends the wait early.
    pub(crate) fn wait(&self, ready: &mut Ready, timeout: Option<Duration>) -> io::Result<()> {
        ready.next = 0;
        ready.filled = 0;
        let millis =
            timeout.map_or(-1, |timeout| i32::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX));
        let capacity = i32::try_from(ready.events.len()).unwrap_or(i32::MAX);
        // SAFETY: pointer and capacity describe `ready.events`.
        let count = unsafe { libc::epoll_wait(self.fd.as_raw_fd(), ready.events.as_mut_ptr(), capacity, millis) };
        match usize::try_from(count) {
            Ok(count) => ready.filled = count,
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

impl AsRawFd for Epoll {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// The tokens of one wait, taken one by one.
pub(crate) struct Ready {
    events: Box<[libc::epoll_event]>,
    next: usize,
    filled: usize,
}

impl Ready {
    /// Room for `capacity` tokens per wait.
    pub(crate) fn new(capacity: usize) -> Self {
        let events = vec![libc::epoll_event { events: 0, u64: 0 }; capacity].into_boxed_slice();
        Self { events, next: 0, filled: 0 }
    }

    /// True when every token has been taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.next == self.filled
    }

    /// How many the last wait found.
    pub(crate) fn found(&self) -> usize {
        self.filled
    }
}

impl Iterator for Ready {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let event = self.events[..self.filled].get(self.next)?;
        self.next += 1;
        Some(event.u64)
    }
}

impl std::fmt::Debug for Ready {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ready").field("next", &self.next).field("filled", &self.filled).finish_non_exhaustive()
    }
}

/// Ends another thread's [`Epoll::wait`].
#[derive(Debug)]
pub(crate) struct Waker {
    fd: OwnedFd,
}

impl Waker {
    /// Not signalled.
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: no pointers are involved; the descriptor is owned from here on.
        let fd = unsafe { owned(libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK)) }?;
        Ok(Self { fd })
    }

    /// Signals. Cannot fail in a way that matters: a full counter is signalled already.
    pub(crate) fn wake(&self) {
        let one: u64 = 1;
        // SAFETY: eight octets are read from `one`.
        unsafe { libc::write(self.fd.as_raw_fd(), (&raw const one).cast(), 8) };
    }

    /// Back to not signalled.
    pub(crate) fn clear(&self) {
        let mut count: u64 = 0;
        // SAFETY: eight octets are written to `count`.
        unsafe { libc::read(self.fd.as_raw_fd(), (&raw mut count).cast(), 8) };
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn done(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// # Safety
/// `fd` is negative or a descriptor that nobody else owns.
unsafe fn owned(fd: RawFd) -> io::Result<OwnedFd> {
    done(fd)?;
    // SAFETY: the caller says that nobody else owns it, and it is not negative.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wake_ends_a_wait_until_it_is_cleared() {
        let (epoll, waker, mut ready) = (Epoll::new().unwrap(), Waker::new().unwrap(), Ready::new(4));
        epoll.add(waker.as_fd(), 7).unwrap();
        epoll.wait(&mut ready, Some(Duration::ZERO)).unwrap();
        assert!(ready.is_empty());
        waker.wake();
        waker.wake();
        epoll.wait(&mut ready, None).unwrap();
        assert_eq!((ready.next(), ready.next()), (Some(7), None));
        waker.clear();
        epoll.wait(&mut ready, Some(Duration::ZERO)).unwrap();
        assert_eq!(ready.found(), 0);
    }
}
