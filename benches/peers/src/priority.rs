//! What this process is among others.
#![expect(unsafe_code, reason = "libc's scheduler takes a pointer")]

use std::io;

/// Behind all others.
pub(crate) fn lowest() -> io::Result<()> {
    set(libc::SCHED_IDLE, 0)
}

/// Before all that have no such priority, as siplatch's media workers are.
pub(crate) fn realtime() -> io::Result<()> {
    set(libc::SCHED_RR, 1)
}

fn set(policy: libc::c_int, priority: libc::c_int) -> io::Result<()> {
    let parameter = libc::sched_param { sched_priority: priority };
    // SAFETY: `parameter` lives across the call.
    if unsafe { libc::sched_setscheduler(0, policy, &raw const parameter) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
