//! Real-time priority: a worker that mostly waits goes before whatever else
//! wants its core, so that a packet waits for no time slice of another.
//!
//! Only as long as it leaves time to others. Whoever is busy nearly all the
//! time would take the core from signalling, and from the kernel's own threads
//! that bring it packets; it has the usual priority half of the time then.
//!
//! Must not wait, and must not see a packet.
#![expect(unsafe_code, reason = "scheduling has no safe wrapper in std")]

use std::io;
use std::time::{Duration, Instant};

use crate::clock;

/// Between two looks at how busy the thread was.
const SPAN: Duration = Duration::from_millis(50);

/// Busier than this in one span, it leaves the next one to all. The kernel takes
/// the core away at 95 % (`sched_rt_runtime_us`), and for the rest of a second then.
const BUSY: f64 = 0.9;

/// The standing of the thread that has it.
#[derive(Debug)]
pub(super) struct Realtime {
    standing: Standing,
    /// The last look: when, and the processor time until then.
    since: (Instant, Duration),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// As any other thread, for good.
    Usual,
    /// Before others.
    First,
    /// As any other thread, for a span.
    Shares,
}

impl Realtime {
    /// For the calling thread; worker 0 says what came of it.
    pub(super) fn begin(worker: u8, wanted: bool) -> Self {
        let given = wanted.then(|| set(libc::SCHED_RR));
        if worker == 0 {
            match &given {
                Some(Ok(())) => tracing::info!("media workers have real-time priority"),
                Some(Err(error)) => {
                    tracing::info!(%error, "media workers have no real-time priority: on a busy machine media may be late")
                }
                None => {}
            }
        }
        let standing = if matches!(given, Some(Ok(()))) { Standing::First } else { Standing::Usual };
        Self { standing, since: (clock::now(), clock::of_thread()) }
    }

    /// To be said once a round: how busy it was is looked at now and then.
    #[inline]
    pub(super) fn round(&mut self, now: Instant) {
        if self.standing != Standing::Usual && now.saturating_duration_since(self.since.0) >= SPAN {
            self.look(now, clock::of_thread(), set);
        }
    }

    fn look(&mut self, now: Instant, spent: Duration, set: impl FnOnce(libc::c_int) -> io::Result<()>) {
        let (at, before) = std::mem::replace(&mut self.since, (now, spent));
        let busy = spent.saturating_sub(before).as_secs_f64() / now.saturating_duration_since(at).as_secs_f64();
        let (next, policy) = match self.standing {
            Standing::First if busy > BUSY => (Standing::Shares, libc::SCHED_OTHER),
            Standing::Shares => (Standing::First, libc::SCHED_RR),
            Standing::First | Standing::Usual => return,
        };
        match set(policy) {
            Ok(()) => self.standing = next,
            // The right to it has been taken away.
            Err(_) if next == Standing::First => self.standing = Standing::Usual,
            Err(_) => {}
        }
    }
}

/// Changes the calling thread's policy, with the lowest priority that the policy has.
fn set(policy: libc::c_int) -> io::Result<()> {
    let sched_priority = libc::c_int::from(policy == libc::SCHED_RR);
    let parameters = libc::sched_param { sched_priority };
    // SAFETY: `parameters` outlives the call.
    let failed = unsafe { libc::sched_setscheduler(0, policy | libc::SCHED_RESET_ON_FORK, &raw const parameters) } != 0;
    if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_busy_all_the_time_leaves_every_other_span_to_all() {
        let (mut now, mut spent) = (clock::now(), Duration::ZERO);
        let mut realtime = Realtime { standing: Standing::First, since: (now, spent) };
        let (first, other) = (Some(libc::SCHED_RR), Some(libc::SCHED_OTHER));
        for (percent, asked) in
            [(50, None), (90, None), (92, other), (100, first), (100, other), (20, first), (20, None), (0, None)]
        {
            now += SPAN;
            spent += SPAN * percent / 100;
            let mut policy = None;
            realtime.look(now, spent, |asked| {
                policy = Some(asked);
                Ok(())
            });
            assert_eq!(policy, asked, "{percent} %");
        }
    }

    #[test]
    fn where_it_is_refused_all_stays_as_it_is() {
        let (now, spent) = (clock::now(), Duration::ZERO);
        let refused = |_| Err(io::ErrorKind::PermissionDenied.into());
        let mut realtime = Realtime { standing: Standing::First, since: (now, spent) };
        realtime.look(now + SPAN, SPAN, refused);
        assert_eq!(realtime.standing, Standing::First);
        let mut realtime = Realtime { standing: Standing::Shares, since: (now, spent) };
        realtime.look(now + SPAN, spent, refused);
        assert_eq!(realtime.standing, Standing::Usual);
        realtime.look(now + SPAN * 2, SPAN * 2, |_| panic!("nobody is asked again"));
    }

    #[test]
    fn where_it_is_allowed_the_thread_has_it() {
        let policy = || {
            // SAFETY: no pointers are involved.
            unsafe { libc::sched_getscheduler(0) & !libc::SCHED_RESET_ON_FORK }
        };
        std::thread::spawn(move || {
            assert_eq!(Realtime::begin(1, false).standing, Standing::Usual);
            assert_eq!(policy(), libc::SCHED_OTHER);
            let given = Realtime::begin(1, true).standing == Standing::First;
            assert_eq!(policy() == libc::SCHED_RR, given);
        })
        .join()
        .unwrap();
    }
}
