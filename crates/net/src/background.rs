//! Threads that write to disks and logs: they have their share of a core, but
//! do not interrupt whoever woke them for it. On a machine with one core the
//! message that is to leave would else wait for a line that says so.
#![expect(unsafe_code, reason = "sched_setscheduler(2) has no safe wrapper in std")]

/// From here on the calling thread waits until its core is free (`SCHED_BATCH`).
/// Best effort: where a sandbox forbids it, nothing changes.
pub fn wait_for_others() {
    let param = libc::sched_param { sched_priority: 0 };
    // SAFETY: `param` is a valid sched_param for the kernel to read; 0 is the calling thread.
    if unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const param) } != 0 {
        let error = std::io::Error::last_os_error();
        tracing::debug!(%error, "a thread in the background runs as any other");
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
}
