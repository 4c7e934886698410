//! Takes what is left of a core: its run time is the core's idle time, which ticks do not tell.

use std::io;

use crate::priority;

/// Spins at the lowest priority until it is killed.
pub(crate) fn run() -> io::Result<()> {
    priority::lowest()?;
    loop {
        std::hint::spin_loop();
    }
}
