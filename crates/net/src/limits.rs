//! Limits: how many files the system lets this process open. Every relayed
//! stream holds four sockets, and the usual soft limit of 1024 would end at
//! some 240 calls.
#![expect(unsafe_code, reason = "getrlimit(2), setrlimit(2) and fcntl(2) have no safe wrapper in std")]

use std::io;

/// Descriptors that there is room for from the start on; 2 MiB of the kernel's.
const ROOM: u64 = 1 << 18;

/// Raises the soft limit of open files to the hard one and returns what is in
/// force now, in descriptors. Call once at start, before the first thread.
pub fn raise_nofile() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid rlimit for the kernel to write to.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: `limit` is a valid rlimit for the kernel to read.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    make_room(limit.rlim_cur.min(ROOM));
    Ok(limit.rlim_cur)
}

/// Has the kernel make its table for so many at once. One that grows while there are other threads
/// stops whoever opens something until each processor has been through the scheduler: milliseconds,
/// and on a busy machine seconds, in which no message is read.
fn make_room(descriptors: u64) {
    let Ok(last) = libc::c_int::try_from(descriptors.saturating_sub(1)) else { return };
    // SAFETY: no pointers are involved, and nobody else has what is closed.
    unsafe {
        let highest = libc::fcntl(libc::STDERR_FILENO, libc::F_DUPFD_CLOEXEC, last);
        if highest >= 0 {
            libc::close(highest);
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn raises_once_and_then_stays() {
        let raised = super::raise_nofile().unwrap();
        assert!(raised > 0);
        assert_eq!(super::raise_nofile().unwrap(), raised);
    }

    #[test]
    fn there_is_room_for_all_at_once() {
        let raised = super::raise_nofile().unwrap();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("FDSize:")).unwrap();
        let size: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        assert!(size >= raised.min(super::ROOM), "{size} of {raised}");
    }
}
