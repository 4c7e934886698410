//! Who has rung: each source of the loop that is another thread's affair has a
//! waker of its own, so that a turn asks those that have something to say, and
//! not all of them.
//!
//! A source that was asked and said something is asked again in the next
//! turn, for it may have more. One that said nothing has our waker by then, and
//! rings when that changes. Must not lose a ring: a bell is muffled before its
//! source is asked, never after.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Wake, Waker};

use net::Ringer;

/// The sources of the loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bell {
    /// Signalling connections.
    Streams,
    /// Idle and resting media ports.
    Ports,
    /// Media workers.
    Reports,
    /// TURN clients.
    Turn,
    /// Names that were looked up.
    Lookups,
    /// What the router remembers.
    Uplink,
    /// Who rewrites SIP.
    Rewriting,
    /// The rest of the program.
    Orders,
}

/// How many there are.
const BELLS: usize = 8;
/// All of them.
const ALL: u32 = (1 << BELLS) - 1;

/// A bell for each source.
#[derive(Debug)]
pub(super) struct Bells {
    board: Arc<Board>,
    wakers: [Waker; BELLS],
    /// Those that are to be asked in this turn.
    rung: u32,
}

#[derive(Debug)]
struct Board {
    rung: AtomicU32,
    /// The loop sleeps, or is about to.
    asleep: AtomicBool,
    /// Ends its sleep.
    ringer: Ringer,
}

struct Rope {
    board: Arc<Board>,
    bit: u32,
}

impl Wake for Rope {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.board.ring(self.bit);
    }
}

impl Board {
    /// Whoever rings first wakes the loop; one that is awake looks before it sleeps.
    fn ring(&self, bits: u32) {
        self.rung.fetch_or(bits, Ordering::SeqCst);
        if self.asleep.load(Ordering::SeqCst) && self.asleep.swap(false, Ordering::SeqCst) {
            self.ringer.ring();
        }
    }
}

impl Bells {
    /// All have rung: nobody has been asked yet.
    pub(super) fn new(ringer: Ringer) -> Self {
        let board = Arc::new(Board { rung: AtomicU32::new(ALL), asleep: AtomicBool::new(false), ringer });
        let wakers = std::array::from_fn(|at| Waker::from(Arc::new(Rope { board: Arc::clone(&board), bit: 1 << at })));
        Self { board, wakers, rung: 0 }
    }

    /// Something about this source is new to it: it is asked in the next turn.
    pub(super) fn ring(&self, bell: Bell) {
        self.board.ring(1 << bell as u32);
    }

    /// Sources may have come, gone or changed: all are asked in the next turn.
    pub(super) fn ring_all(&self) {
        self.board.ring(ALL);
    }

    /// True when nobody has rung: whoever does from here on ends the sleep. Must be followed by
    /// [`attend`](Self::attend).
    pub(super) fn fall_asleep(&self) -> bool {
        self.board.asleep.store(true, Ordering::SeqCst);
        self.is_silent()
    }

    /// Nobody has rung since the turn began.
    pub(super) fn is_silent(&self) -> bool {
        self.board.rung.load(Ordering::SeqCst) == 0
    }

    /// Begins a turn; true when somebody is to be asked in it.
    pub(super) fn attend(&mut self) -> bool {
        self.board.asleep.store(false, Ordering::SeqCst);
        self.rung = self.board.rung.swap(0, Ordering::SeqCst);
        self.rung != 0
    }

    /// Asks a source, if its bell has rung; it polls with the context that it is given.
    pub(super) fn ask<T>(&self, bell: Bell, poll: impl FnOnce(&mut Context<'_>) -> Option<T>) -> Option<T> {
        if self.rung & 1 << bell as u32 == 0 {
            return None;
        }
        let said = poll(&mut Context::from_waker(&self.wakers[bell as usize]));
        if said.is_some() {
            self.ring(bell);
        }
        said
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use net::Sleep;
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;

    #[test]
    fn only_those_that_rang_are_asked_and_none_is_forgotten() {
        let mut sleep = Sleep::new().unwrap();
        let mut bells = Bells::new(sleep.ringer());
        let (tell, mut told) = unbounded_channel::<u8>();
        let mut asked = Vec::new();
        let mut turn = |bells: &mut Bells| {
            loop {
                if bells.fall_asleep() {
                    sleep.sleep(true).unwrap();
                    assert_eq!(sleep.token(), None);
                }
                bells.attend();
                let none = bells.ask(Bell::Ports, |_| {
                    asked.push(Bell::Ports);
                    None::<()>
                });
                assert_eq!(none, None);
                let said = bells.ask(Bell::Orders, |cx| match told.poll_recv(cx) {
                    Poll::Ready(said) => said,
                    Poll::Pending => None,
                });
                if let Some(said) = said {
                    return (said, std::mem::take(&mut asked));
                }
            }
        };
        tell.send(1).unwrap();
        tell.send(2).unwrap();
        assert_eq!(turn(&mut bells), (1, vec![Bell::Ports]), "all are asked at first");
        assert_eq!(turn(&mut bells), (2, vec![]), "who said something may have more");
        let later = std::thread::spawn(move || {
            tell.send(3).unwrap();
            tell
        });
        assert_eq!(turn(&mut bells), (3, vec![]), "a sleeper is woken");
        bells.ring_all();
        let tell = later.join().unwrap();
        tell.send(4).unwrap();
        assert_eq!(turn(&mut bells), (4, vec![Bell::Ports]));
        assert!(!bells.is_silent(), "it may have more");
    }
}
