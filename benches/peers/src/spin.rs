//! Takes what is left of a core: its run time is the core's idle time, which ticks do not tell.
#![expect(unsafe_code, reason = "libc's scheduler takes a pointer")]

use std::io;

/// Spins at the lowest priority until it is killed.
pub(crate) fn run() -> io::Result<()> {
    let parameter = libc::sched_param { sched_priority: 0 };
    // SAFETY: `parameter` lives across the call.
    if unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameter) } != 0 {
        return Err(io::Error::last_os_error());
    }
    loop {
        std::hint::spin_loop();
    }
}
