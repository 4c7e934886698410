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
use std::os::fd::AsFd;
use std::task::{Context, Poll};

use tokio::io::Interest;
use tokio::net::UdpSocket;
use wire::{Flow, ListenerId, Transmit, Transport};

use crate::dscp::Dscp;
use crate::mmsg::{self, Batch, CALL, Outgoing};
use crate::sockopt::{Class, bind_udp};

/// Octets of room per received datagram: more than UDP can carry.
const ROOM: usize = 65_536 + 64;

/// Most messages that wait for the kernel to take them. Beyond that it has not
/// taken any for long, and new ones fail.
const QUEUE: usize = 4096;

/// One UDP socket for SIP. Lives on a tokio runtime with its I/O driver on.
#[derive(Debug)]
pub struct UdpListener {
    id: ListenerId,
    local: SocketAddr,
    socket: UdpSocket,
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

/// What [`UdpListener::poll_ready`] woke for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readiness {
    /// Call [`UdpListener::try_recv_batch`].
    pub readable: bool,
    /// Call [`UdpListener::try_send_batch`].
    pub writable: bool,
}

impl UdpListener {
    /// Binds `local`; a wildcard IP and port 0 are allowed. Errors as of
    /// [`bind_udp`]. Must be called inside the runtime that will poll it.
    pub fn bind(id: ListenerId, local: SocketAddr, mark: Dscp) -> io::Result<Self> {
        let socket = bind_udp(local, Class::Signalling(mark))?;
        let local = socket.local_addr()?;
        Ok(Self {
            id,
            local,
            socket: UdpSocket::from_std(socket)?,
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
        self.received.clear();
        let (socket, received) = (&self.socket, &mut self.received);
        let result = socket.try_io(Interest::READABLE, || received.receive(socket.as_fd(), CALL));
        match result {
            Ok(_count) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // An ICMP error for something sent earlier, or memory ran short:
            // reading it has cleared it, the next call goes on.
            Err(error) => tracing::debug!(%error, listener = self.id.0, "receive failed"),
        }
        self.received.len()
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
    /// room. Returns how many still wait: if any, [`poll_ready`](Self::poll_ready)
    /// reports `writable` when it is worth calling again.
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
            let socket = &self.socket;
            let result = socket.try_io(Interest::WRITABLE, || mmsg::send(socket.as_fd(), outgoing));
            match result {
                Ok(sent) => drop(self.queue.drain(..sent)),
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

    /// Ready when there is something to receive, or when queued messages wait
    /// and the kernel has room again. Never ready for writing with an empty queue.
    pub fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Readiness>> {
        let readable = match self.socket.poll_recv_ready(cx) {
            Poll::Ready(ready) => ready.map(|()| true)?,
            Poll::Pending => false,
        };
        let writable = !self.queue.is_empty()
            && match self.socket.poll_send_ready(cx) {
                Poll::Ready(ready) => ready.map(|()| true)?,
                Poll::Pending => false,
            };
        if readable || writable { Poll::Ready(Ok(Readiness { readable, writable })) } else { Poll::Pending }
    }

    /// Waits for [`poll_ready`](Self::poll_ready).
    pub async fn ready(&self) -> io::Result<Readiness> {
        std::future::poll_fn(|cx| self.poll_ready(cx)).await
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
