//! Limits: how many files the system lets this process open. Every relayed
//! stream holds four sockets, and the usual soft limit of 1024 would end at
//! some 240 calls.
#![expect(unsafe_code, reason = "getrlimit(2) and setrlimit(2) have no safe wrapper in std")]

use std::io;

/// Raises the soft limit of open files to the hard one and returns what is in
/// force now, in descriptors. Call once at start, before the first socket.
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
    Ok(limit.rlim_cur)
}

#[cfg(test)]
mod tests {
    #[test]
    fn raises_once_and_then_stays() {
        let raised = super::raise_nofile().unwrap();
        assert!(raised > 0);
        assert_eq!(super::raise_nofile().unwrap(), raised);
    }
}
