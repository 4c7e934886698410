//! Whose turn it is where a core has more than one thread to run. Threads that
//! write to disks and logs have their share, but do not interrupt whoever woke them
//! for it: on a machine with one core the message that is to leave would else wait
//! for a line that says so. Threads that move media go before the others: what they do
//! is short, and what waits for them is late.
//!
//! Best effort: where a sandbox or missing rights forbid it, nothing changes.
#![expect(unsafe_code, reason = "sched_setscheduler(2) and setpriority(2) have no safe wrapper in std")]

/// The nice value of threads that move media.
const MEDIA: libc::c_int = -10;

/// From here on the calling thread waits until its core is free (`SCHED_BATCH`).
pub fn wait_for_others() {
    let param = libc::sched_param { sched_priority: 0 };
    // SAFETY: `param` is a valid sched_param for the kernel to read; 0 is the calling thread.
    if unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const param) } != 0 {
        let error = std::io::Error::last_os_error();
        tracing::debug!(%error, "a thread in the background runs as any other");
    }
}

/// From here on the calling thread goes before the program's others (needs `CAP_SYS_NICE`,
/// or `RLIMIT_NICE` of 30).
pub(crate) fn go_first() {
    // SAFETY: no pointers are passed; 0 is the calling thread.
    if unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, MEDIA) } != 0 {
        let error = std::io::Error::last_os_error();
        tracing::debug!(%error, "a media worker runs as any other thread");
    }
}

#[cfg(test)]
mod tests {
    #[test]
    #[expect(unsafe_code, reason = "nor has sched_getscheduler(2)")]
    fn only_the_calling_thread_waits() {
        // SAFETY: no pointers are passed; 0 is the calling thread.
        let policy = || unsafe { libc::sched_getscheduler(0) };
        let before = policy();
        std::thread::spawn(move || {
            super::wait_for_others();
            assert_eq!(policy(), libc::SCHED_BATCH);
        })
        .join()
        .unwrap();
        assert_eq!(policy(), before);
    }

    #[test]
    #[expect(unsafe_code, reason = "nor has getpriority(2)")]
    fn only_the_calling_thread_goes_first_if_it_may() {
        // SAFETY: no pointers are passed; 0 is the calling thread.
        let nice = || unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
        let before = nice();
        let then = std::thread::spawn(move || {
            super::go_first();
            nice()
        });
        let then = then.join().unwrap();
        assert!(then == super::MEDIA || then == before, "{then}");
        assert_eq!(nice(), before);
    }
}
