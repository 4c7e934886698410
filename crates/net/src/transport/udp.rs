//! SIP over UDP (RFC 3261 §18): one listener, its socket, a batch in and a
//! queue out.
//!
//! A request must be answered from the address that it was sent to (RFC 3581
//! §4), so a listener on a wildcard reads that address with each datagram and
//! sets it on each one that leaves. Must not retry or retransmit: a datagram
//! that the kernel refuses becomes a [`SendFailure`] (RFC 3261 §18.4), one that
//! it takes is forgotten.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use wire::{Flow, ListenerId, Transmit, Transport};

use crate::clock;
use crate::dscp::Dscp;
use crate::mmsg::{self, Batch, CALL, Outgoing};
use crate::sockopt::{self, Class, bind_udp};

/// Octets of room per received datagram: more than UDP can carry.
const ROOM: usize = 65_536 + 64;

/// Datagrams that are asked for at first, where no more came the last time.
const FEW: usize = 4;

/// Most messages that wait for the kernel to take them. Beyond that it has not
/// taken any for long, and new ones fail.
const QUEUE: usize = 4096;

/// One UDP socket for SIP. [`Sleep`](crate::Sleep) tells when there is something to read in it.
#[derive(Debug)]
pub struct UdpListener {
    id: ListenerId,
    local: SocketAddr,
    socket: OwnedFd,
    received: Batch,
    queue: VecDeque<Transmit>,
    failures: VecDeque<SendFailure>,
}

/// One received datagram.
#[derive(Debug, Clone, Copy)]
pub struct Datagram<'a> {
    /// Which association it belongs to; its local address is never a wildcard
    /// as long as the kernel tells (it always has, on Linux).
    pub flow: Flow,
    /// The payload.
    pub bytes: &'a [u8],
    /// True when its end is missing: it must not be taken for a message.
    pub truncated: bool,
}

/// A message that the kernel would not send: a transport error (RFC 3261 §18.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SendFailure {
    /// Where it should have gone.
    pub flow: Flow,
    /// Why: `HostUnreachable`, `NetworkUnreachable`, `PermissionDenied` (a
    /// local packet filter), `InvalidInput` (longer than UDP can carry, or our
    /// address is gone), `WouldBlock` (the queue was full), …
    pub kind: io::ErrorKind,
}

impl UdpListener {
    /// Binds `local`; a wildcard IP and port 0 are allowed. Errors as of [`bind_udp`].
    pub fn bind(id: ListenerId, local: SocketAddr, mark: Dscp) -> io::Result<Self> {
        let socket = bind_udp(local, Class::Signalling(mark))?;
        let local = socket.local_addr()?;
        Ok(Self {
            id,
            local,
            socket: socket.into(),
            received: Batch::new(CALL, ROOM),
            queue: VecDeque::new(),
            failures: VecDeque::new(),
        })
    }

    /// The listener's name.
    pub fn id(&self) -> ListenerId {
        self.id
    }

    /// The bound address; its IP may be a wildcard.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Receives what waits, at most 32 datagrams, over those of the last call.
    /// Returns how many [`datagram`](Self::datagram) now has; 0 when none waits.
    pub fn try_recv_batch(&mut self) -> usize {
        // Where messages come one by one, room for many of them is in vain.
        let first = if self.received.len() > FEW { CALL } else { FEW };
        self.received.clear();
        for room in [first, CALL - first] {
            match self.received.receive(self.socket.as_fd(), room) {
                Ok(count) if count == room => {}
                // None is left; nobody need ask once more to find that out.
                Ok(_) => break,
                Err(error) => {
                    // An ICMP error for something sent earlier, or memory ran short:
                    // reading it has cleared it, the next call goes on.
                    if error.kind() != io::ErrorKind::WouldBlock {
                        tracing::debug!(%error, listener = self.id.0, "receive failed");
                    }
                    break;
                }
            }
        }
        self.received.len()
    }

    /// True when the last batch took all that waited: whatever is read next came after it.
    pub fn is_drained(&self) -> bool {
        self.received.free() > 0
    }

    /// All that came before this moment has been read: `now` when the last
    /// batch took all that waited, else when its last datagram came, as far as
    /// the kernel knows; it is asked only then.
    pub fn caught_up(&self, now: Instant) -> Option<Instant> {
        if self.is_drained() {
            return Some(now);
        }
        let waited = clock::unix_time().checked_sub(sockopt::last_received(&self.socket)?)?;
        clock::now().checked_sub(waited).map(|at| at.min(now))
    }

    /// The datagram at `index` of the last batch.
    pub fn datagram(&self, index: usize) -> Option<Datagram<'_>> {
        let packet = self.received.packet(index)?;
        let local = SocketAddr::new(packet.to.unwrap_or(self.local.ip()), self.local.port());
        let flow = Flow { transport: Transport::Udp, listener: self.id, connection: 0, local, remote: packet.from };
        Some(Datagram { flow, bytes: packet.bytes, truncated: packet.truncated })
    }

    /// Queues a message; it leaves with the next
    /// [`try_send_batch`](Self::try_send_batch). On a wildcard listener it
    /// leaves from `flow.local`; if that is a wildcard too, the kernel chooses.
    pub fn queue(&mut self, transmit: Transmit) {
        if self.queue.len() >= QUEUE {
            self.failures.push_back(SendFailure { flow: transmit.flow, kind: io::ErrorKind::WouldBlock });
        } else {
            self.queue.push_back(transmit);
        }
    }

    /// Sends queued messages in order until none is left or the kernel has no
    /// room. Returns how many still wait: if any,
    /// [`Sleep::watch_room`](crate::Sleep::watch_room) tells when it is worth calling again.
    pub fn try_send_batch(&mut self) -> usize {
        let wildcard = self.local.ip().is_unspecified();
        while !self.queue.is_empty() {
            let outgoing = self.queue.iter().map(|transmit| {
                let source = transmit.flow.local.ip();
                Outgoing {
                    to: transmit.flow.remote,
                    source: (wildcard && !source.is_unspecified()).then_some(source),
                    bytes: &transmit.bytes,
                }
            });
            match mmsg::send(self.socket.as_fd(), outgoing) {
                Ok(sent) => (0..sent).for_each(|_| drop(self.queue.pop_front())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => self.fail(&error),
            }
        }
        self.queue.len()
    }

    /// The next message that could not be sent.
    pub fn poll_failure(&mut self) -> Option<SendFailure> {
        self.failures.pop_front()
    }

    /// True while something is queued.
    pub fn waits(&self) -> bool {
        !self.queue.is_empty()
    }

    /// The first queued message is what `error` is about. ENOBUFS is a full
    /// device queue, which is loss on the wire and no transport error.
    fn fail(&mut self, error: &io::Error) {
        let Some(transmit) = self.queue.pop_front() else { return };
        tracing::debug!(%error, listener = self.id.0, "send failed");
        if error.raw_os_error() != Some(libc::ENOBUFS) {
            let kind = match error.raw_os_error() {
                Some(libc::EMSGSIZE) => io::ErrorKind::InvalidInput,
                _ => error.kind(),
            };
            self.failures.push_back(SendFailure { flow: transmit.flow, kind });
        }
    }
}

impl AsFd for UdpListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
