//! Calls without end, set up and torn down in every way: afterwards nothing of
//! them is left, and the memory is what it was.
//!
//! `SIPLATCH_CHURN` is the number of calls; 10,000, or 300 in debug builds.
//! Fifty are under way at a time, beside those whose end has to be waited for.
#![allow(clippy::unwrap_used, reason = "a test that unwraps in vain has failed")]
#![allow(clippy::disallowed_methods, reason = "the test is the world around the program: its sockets and its clock")]

mod ways;
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use peer::{Daemon, announce};
use ways::{Rest, WAYS};
use world::World;

/// Calls under way at a time.
const AT_ONCE: usize = 50;
/// Calls begin at least so far apart: the ports of a call rest for 30 s, and each has a socket.
const APART: Duration = Duration::from_millis(14);
/// No call is remembered for longer: 64·T1 without an ACK, and 64·T1 for a BYE without an answer.
const LONGEST: Duration = Duration::from_secs(65);
/// Timers of 64·T1, the rest of the ports, and the next report of a worker.
const OVER: Duration = Duration::from_secs(110);
/// What the memory may grow by, in the second half.
const GROWTH: f64 = 1.05;
const GROWTH_KIB: f64 = 2048.0;

fn calls() -> usize {
    let usual = if cfg!(debug_assertions) { 300 } else { 10_000 };
    std::env::var("SIPLATCH_CHURN").map_or(usual, |text| text.parse().unwrap())
}

#[test]
fn nothing_is_left_of_calls_that_ended_in_every_way() {
    let calls = calls();
    let early = (calls / 4).min(500);
    let world = World::new();
    let began = Instant::now();
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    let memory = Mutex::new([0; 2]);
    std::thread::scope(|scope| {
        let (next, failures, memory, world) = (&next, &failures, &memory, &world);
        // Of one way those that began first end first.
        let waiting = WAYS.map(|(name, _)| {
            let (queue, rests) = channel::<Rest>();
            scope.spawn(move || {
                for rest in rests {
                    if let Err(why) = rest() {
                        failures.lock().unwrap().push(format!("{name}: {why}"));
                    }
                }
            });
            queue
        });
        for _ in 0..AT_ONCE {
            let waiting: [Sender<Rest>; WAYS.len()] = waiting.clone();
            scope.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= calls {
                        return;
                    }
                    if number == early {
                        memory.lock().unwrap()[0] = world.daemon.resident();
                    } else if number == calls / 2 {
                        memory.lock().unwrap()[1] = world.daemon.resident();
                    }
                    let due = began + APART * number as u32;
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    let at = number % WAYS.len();
                    let (name, way) = WAYS[at];
                    match way(world, number / WAYS.len()) {
                        Ok(Some(rest)) => waiting[at].send(rest).unwrap(),
                        Ok(None) => {}
                        Err(why) => failures.lock().unwrap().push(format!("{name}: {why}")),
                    }
                }
            });
        }
    });
    let took = began.elapsed();
    let busy = world.daemon.resident();
    let failures = failures.into_inner().unwrap();
    let left = settle(&world.daemon);
    let [first, middle] = memory.into_inner().unwrap();
    let end = world.daemon.resident();
    for (at, (name, _)) in WAYS.iter().enumerate() {
        let of_it = (calls + WAYS.len() - 1 - at) / WAYS.len();
        let failed = failures.iter().filter(|failure| failure.starts_with(name)).count();
        announce(&format!("churn  {name:<44} {of_it:>6} calls  {failed} failed"));
    }
    failures.iter().take(20).for_each(|failure| announce(failure));
    announce(&format!(
        "churn  {calls} calls in {:.0} s; left: {}; resident {:.1} MiB at call {early}, {:.1} in the middle, {:.1} at the \
         last call, {:.1} when all is over",
        took.as_secs_f64(),
        left.iter().map(|(what, figure)| format!("{figure} {what}")).collect::<Vec<_>>().join(", "),
        mib(first),
        mib(middle),
        mib(busy),
        mib(end)
    ));
    assert!(failures.is_empty(), "{} of {calls} calls went wrong", failures.len());
    assert!(left.iter().all(|(_, figure)| *figure == 0.0), "{left:?}");
    // Before that, calls and answers that are still remembered become more.
    if APART * ((calls / 2) as u32) < LONGEST {
        return;
    }
    let most = middle as f64 * GROWTH + GROWTH_KIB;
    assert!((busy.max(end) as f64) <= most, "{middle} KiB in the middle, {busy} at the last call, {end} at the end");
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

/// Waits until nothing is left, and says what is.
fn settle(daemon: &Daemon) -> Vec<(&'static str, f64)> {
    let deadline = Instant::now() + OVER;
    loop {
        let left = vec![
            ("calls", daemon.figure("siplatch_calls", "")),
            ("live port pairs", daemon.figure("siplatch_ports_live", "")),
            ("resting port pairs", daemon.figure("siplatch_ports_resting", "")),
            ("transactions", daemon.figure("siplatch_transactions", "")),
        ];
        if left.iter().all(|(_, figure)| *figure == 0.0) || Instant::now() > deadline {
            return left;
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}
