//! The line of one connection: what is to leave on it, and whether it is to
//! end. Shared by the signalling loop, which puts in, and the connection's
//! task, which takes out. Bounded: a peer that does not take what we send it
//! loses its connection, not our memory.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// The peer closed it.
    Ended,
    /// It broke: a reset, or no acknowledgement for too long.
    Lost,
    /// We were told to close it.
    Asked,
    /// Its octets cannot be told apart into messages.
    Unframed,
    /// A message was begun and not finished in time.
    Slow,
    /// A stranger that sent no whole message in time.
    Silent,
    /// A stranger that had nothing more to say.
    Idle,
    /// A stranger that made room for a newer one.
    Evicted,
    /// The peer did not take what we sent.
    Overflow,
    /// The TLS or WebSocket handshake failed, or took too long.
    Handshake,
    /// It could not be opened.
    Unreachable,
}

/// Octets that may wait on a stranger's line, in largest messages.
const STRANGER: usize = 4;
/// The same for a peer that is known; a core gets all phones' messages on one.
const KNOWN: usize = 128;

#[derive(Debug)]
pub(super) struct Line {
    state: Mutex<State>,
    /// There is something to take, or the line has ended.
    something: Notify,
    /// The line has ended.
    end: Notify,
    largest: usize,
}

#[derive(Debug)]
struct State {
    queue: VecDeque<Vec<u8>>,
    octets: usize,
    proven: bool,
    end: Option<Why>,
}

impl Line {
    /// An empty one; `largest` is the most octets that a message may have.
    pub(super) fn new(largest: usize, proven: bool) -> Self {
        let state = Mutex::new(State { queue: VecDeque::new(), octets: 0, proven, end: None });
        Self { state, something: Notify::new(), end: Notify::new(), largest }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a message in. Too much that waits ends the line.
    pub(super) fn put(&self, bytes: Vec<u8>) {
        let mut state = self.state();
        if state.end.is_some() {
            return;
        }
        let most = self.largest.saturating_mul(if state.proven { KNOWN } else { STRANGER });
        state.octets += bytes.len();
        if state.octets > most {
            drop(state);
            self.cut(Why::Overflow);
        } else {
            state.queue.push_back(bytes);
            self.something.notify_one();
        }
    }

    /// Ends the line once what waits has left.
    pub(super) fn finish(&self) {
        self.state().end.get_or_insert(Why::Asked);
        self.something.notify_one();
        self.end.notify_one();
    }

    /// Ends the line at once.
    pub(super) fn cut(&self, why: Why) {
        let mut state = self.state();
        state.end = Some(why);
        state.queue.clear();
        drop(state);
        self.something.notify_one();
        self.end.notify_one();
    }

    /// The peer is known from now on.
    pub(super) fn prove(&self) {
        self.state().proven = true;
    }

    pub(super) fn proven(&self) -> bool {
        self.state().proven
    }

    /// The next message, or why there will be none. For one task.
    pub(super) async fn take(&self) -> Result<Vec<u8>, Why> {
        loop {
            {
                let mut state = self.state();
                if let Some(bytes) = state.queue.pop_front() {
                    state.octets -= bytes.len();
                    return Ok(bytes);
                }
                if let Some(why) = state.end {
                    return Err(why);
                }
            }
            self.something.notified().await;
        }
    }

    /// Waits for the end, even if something is left to take. For one task.
    pub(super) async fn ended(&self) -> Why {
        loop {
            if let Some(why) = self.state().end {
                return why;
            }
            self.end.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_waits_leaves_before_the_end() {
        let line = Line::new(100, false);
        line.put(vec![1]);
        line.finish();
        line.put(vec![2]);
        assert_eq!(line.ended().await, Why::Asked);
        assert_eq!(line.take().await, Ok(vec![1]));
        assert_eq!(line.take().await, Err(Why::Asked));
    }

    #[tokio::test]
    async fn a_peer_that_takes_nothing_is_cut_off_later_when_it_is_known() {
        for (proven, fits) in [(false, 4), (true, 128)] {
            let line = Line::new(100, proven);
            for _ in 0..fits {
                line.put(vec![0; 100]);
            }
            assert!(line.take().await.is_ok());
            line.put(vec![0; 100]);
            line.put(vec![0; 1]);
            assert_eq!(line.take().await, Err(Why::Overflow));
        }
    }
}
