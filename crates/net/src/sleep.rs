//! Where the signalling loop sleeps: until one of its sockets has something to
//! read, its deadline has come, or another thread rings. One system call per
//! sleep; moves tokens and knows nothing of what they stand for.

use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::alarm::Alarm;
use crate::poll::{Epoll, Ready, Waker};
use crate::transport::UdpListener;

/// Tokens of our own; those of sockets are below.
const ALARM: u64 = u64::MAX;
const BELL: u64 = u64::MAX - 1;

/// Sockets that one sleep tells of at most; the others are told of by the next one.
const SOCKETS: usize = 64;

/// What one thread sleeps on.
#[derive(Debug)]
pub struct Sleep {
    set: Epoll,
    ready: Ready,
    alarm: Alarm,
    bell: Arc<Waker>,
}

/// Ends the sleep of another thread, now or the next one.
#[derive(Debug, Clone)]
pub struct Ringer(Arc<Waker>);

impl Ringer {
    /// Does so.
    pub fn ring(&self) {
        self.0.wake();
    }
}

impl Sleep {
    /// Without sockets and without a deadline. Fails when descriptors have run out.
    pub fn new() -> io::Result<Self> {
        let (set, alarm, bell) = (Epoll::new()?, Alarm::new()?, Waker::new()?);
        set.add(alarm.as_fd(), ALARM)?;
        set.add(bell.as_fd(), BELL)?;
        Ok(Self { set, ready: Ready::new(SOCKETS), alarm, bell: Arc::new(bell) })
    }

    /// For other threads.
    pub fn ringer(&self) -> Ringer {
        Ringer(Arc::clone(&self.bell))
    }

    /// From here on until it is closed the socket ends each sleep while there is something to read in it.
    pub fn watch(&self, socket: &UdpListener, token: u32) -> io::Result<()> {
        self.set.add(socket.as_fd(), token.into())
    }

    /// Also while it has room for what is to be sent, or no longer.
    pub fn watch_room(&self, socket: &UdpListener, token: u32, room: bool) -> io::Result<()> {
        self.set.modify(socket.as_fd(), token.into(), room)
    }

    /// When the next sleep ends at the latest ([`clock::now`](crate::clock::now)
    /// time); to be said before each. One may end before that for nothing, where
    /// a deadline was moved away.
    pub fn set(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        self.alarm.set(deadline)
    }

    /// Sleeps; then [`token`](Self::token) says what for. Without `patience` it
    /// looks only what there is already. False where there was nothing.
    pub fn sleep(&mut self, patience: bool) -> io::Result<bool> {
        self.set.wait(&mut self.ready, (!patience).then_some(Duration::ZERO))?;
        Ok(self.ready.found() > 0)
    }

    /// The token of the next socket that ended the sleep.
    pub fn token(&mut self) -> Option<u32> {
        loop {
            match self.ready.next()? {
                ALARM => self.alarm.rang(),
                BELL => self.bell.clear(),
                token => return u32::try_from(token).ok(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use wire::ListenerId;

    use super::*;
    use crate::clock;
    use crate::dscp::Dscp;
    use crate::sockopt::{Class, bind_udp};

    fn tokens(sleep: &mut Sleep) -> Vec<u32> {
        std::iter::from_fn(|| sleep.token()).collect()
    }

    #[test]
    fn a_deadline_ends_one_sleep() {
        let mut sleep = Sleep::new().unwrap();
        let at = clock::now() + Duration::from_millis(3);
        sleep.set(Some(at)).unwrap();
        sleep.sleep(true).unwrap();
        assert!(clock::now() >= at && tokens(&mut sleep).is_empty());
        sleep.set(None).unwrap();
        assert!(!sleep.sleep(false).unwrap(), "once");
        sleep.set(Some(at)).unwrap();
        assert!(sleep.sleep(true).unwrap(), "one in the past does so at once");
    }

    #[test]
    fn a_deadline_that_moves_away_ends_one_sleep_too_early_and_one_that_comes_nearer_is_kept() {
        let (mut sleep, hour) = (Sleep::new().unwrap(), Duration::from_secs(3600));
        let now = clock::now();
        sleep.set(Some(now + hour)).unwrap();
        let near = now + Duration::from_millis(3);
        sleep.set(Some(near)).unwrap();
        sleep.set(Some(now + hour)).unwrap();
        sleep.sleep(true).unwrap();
        assert!(clock::now() >= near && tokens(&mut sleep).is_empty());
        sleep.set(Some(now + hour)).unwrap();
        assert!(!sleep.sleep(false).unwrap());
    }

    #[test]
    fn sockets_and_other_threads_end_it() {
        let mut sleep = Sleep::new().unwrap();
        let mut socket = UdpListener::bind(ListenerId(0), "127.0.0.1:0".parse().unwrap(), Dscp::CS3).unwrap();
        sleep.watch(&socket, 7).unwrap();
        assert!(!sleep.sleep(false).unwrap());
        let peer = bind_udp("127.0.0.1:0".parse().unwrap(), Class::Signalling(Dscp::CS3)).unwrap();
        peer.send_to(b"x", socket.local_addr()).unwrap();
        for _ in 0..2 {
            sleep.sleep(true).unwrap();
            assert_eq!(tokens(&mut sleep), [7], "as long as it is not read");
        }
        assert_eq!(socket.try_recv_batch(), 1);
        let ringer = sleep.ringer();
        let thread = std::thread::spawn(move || ringer.ring());
        sleep.sleep(true).unwrap();
        assert_eq!(tokens(&mut sleep), [0; 0]);
        thread.join().unwrap();
        sleep.watch_room(&socket, 7, true).unwrap();
        sleep.sleep(true).unwrap();
        assert_eq!(tokens(&mut sleep), [7], "it has room");
        sleep.watch_room(&socket, 7, false).unwrap();
        assert!(!sleep.sleep(false).unwrap());
    }
}
