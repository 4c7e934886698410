//! The two ends of the way between a worker and a task.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;

use socket2::SockRef;

use crate::mmsg::tunnel;

/// Octets that may wait in either direction, as the kernel counts: some fifty
/// packets of audio, a second of it.
const ROOM: usize = 64 * 1024;

/// The worker's end: datagrams with the peer's address before them.
#[derive(Debug)]
pub struct Tunnel(UnixDatagram);

impl Tunnel {
    /// Sends a packet to a peer; fails with `WouldBlock` when the task is behind.
    pub(crate) fn send(&self, to: SocketAddr, packet: &[u8]) -> io::Result<()> {
        tunnel::send(self.as_fd(), to, packet)
    }
}

impl AsFd for Tunnel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A tunnel, and the task's end of it.
pub(crate) fn pair() -> io::Result<(Tunnel, UnixDatagram)> {
    let (far, near) = UnixDatagram::pair()?;
    for end in [&far, &near] {
        end.set_nonblocking(true)?;
        SockRef::from(end).set_send_buffer_size(ROOM)?;
    }
    Ok((Tunnel(far), near))
}
