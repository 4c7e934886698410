//! The portable backend: epoll, recvmmsg, sendmmsg.
//!
//! Receives from all ready sockets into one batch, hands each packet to a
//! judge, and sends what is forwarded, grouped by the socket that it leaves
//! from, in the order of arrival. No packet is copied and nothing is allocated
//! between a receive and its send. Must not judge.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use media::{Slot, StreamId, Verdict};

use super::StreamSockets;
use super::handle::Shared;
use crate::mmsg::{self, Batch, CALL, Outgoing};
use crate::poll::{Epoll, Ready};

/// Most streams of a worker: slots are indices of a plain array.
pub(super) const MOST_STREAMS: u32 = 1 << 18;

/// Packets per batch, over all sockets.
const BATCH: usize = 256;

/// Octets of room per packet: a jumbo frame, and not a power of two, so that
/// the packets of a batch do not compete for the same cache lines.
const ROOM: usize = 9216 + 64;

/// Packets asked for at first: at 20 ms each, a socket seldom has more.
const FIRST: usize = 8;

/// The waker's token; no socket has it, for slots end at `MOST_STREAMS × 4`.
const WAKE: u64 = u64::MAX;

/// Ends a chain of packets.
const NONE: u16 = u16::MAX;

/// The sockets of one worker.
#[derive(Debug)]
pub(super) struct Backend {
    epoll: Epoll,
    ready: Ready,
    shared: Arc<Shared>,
    streams: Vec<Option<Stream>>,
    attached: u32,
    batch: Batch,
    /// Token of the socket that each packet of the batch came from.
    tokens: Vec<u64>,
    /// For each packet of the batch: where it goes, and the next packet that
    /// leaves by the same socket.
    onward: Box<[Onward; BATCH]>,
    /// Sockets that this batch leaves by, in order of their first packet.
    exits: Vec<Slot>,
}

/// One stream's sockets.
#[derive(Debug)]
struct Stream {
    id: StreamId,
    /// Tells this use of the slot from earlier ones.
    serial: u32,
    ports: [Port; 4],
}

#[derive(Debug)]
struct Port {
    socket: UdpSocket,
    /// Something has arrived or left.
    used: bool,
    /// First and last packet of the chain that leaves by this socket.
    head: u16,
    tail: u16,
}

#[derive(Debug, Clone, Copy)]
struct Onward {
    to: SocketAddr,
    next: u16,
}

/// A stream's sockets on their way out.
#[derive(Debug)]
pub(super) struct Detached {
    /// Whose they were.
    pub(super) stream: StreamId,
    /// In the order of the slots.
    pub(super) sockets: StreamSockets,
    /// For each end: anything arrived or left?
    pub(super) used: [bool; 2],
}

impl Backend {
    /// No sockets yet; woken by the waker of `shared`.
    pub(super) fn new(shared: Arc<Shared>) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        epoll.add(shared.waker.as_fd(), WAKE)?;
        let nowhere = Onward { to: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0), next: NONE };
        Ok(Self {
            epoll,
            ready: Ready::new(BATCH),
            shared,
            streams: Vec::new(),
            attached: 0,
            batch: Batch::new(BATCH, ROOM),
            tokens: Vec::with_capacity(BATCH),
            onward: Box::new([nowhere; BATCH]),
            exits: Vec::with_capacity(BATCH),
        })
    }

    /// Takes a stream's sockets into its slot. Gives them back when the slot
    /// is held or beyond all bounds, or epoll has no room.
    pub(super) fn attach(&mut self, id: StreamId, sockets: StreamSockets) -> Result<(), Box<StreamSockets>> {
        let slot = id.slot as usize;
        if id.slot >= MOST_STREAMS || self.streams.get(slot).is_some_and(Option::is_some) {
            return Err(Box::new(sockets));
        }
        self.attached = self.attached.wrapping_add(1);
        let serial = self.attached;
        for (at, socket) in sockets.iter().enumerate() {
            let token = token(serial, Slot(id.slot * 4 + at as u32));
            if let Err(error) = self.epoll.add(socket.as_fd(), token) {
                tracing::warn!(%error, "epoll has no room");
                for added in &sockets[..at] {
                    self.leave(added);
                }
                return Err(Box::new(sockets));
            }
        }
        if self.streams.len() <= slot {
            self.streams.resize_with(slot + 1, || None);
        }
        let ports = sockets.map(|socket| Port { socket, used: false, head: NONE, tail: NONE });
        self.streams[slot] = Some(Stream { id, serial, ports });
        Ok(())
    }

    /// Lets the sockets of a slot go, if it has any and `meant` says that they
    /// are the right stream's.
    pub(super) fn detach(&mut self, slot: u32, meant: impl FnOnce(StreamId) -> bool) -> Option<Detached> {
        let place = self.streams.get_mut(slot as usize)?;
        let stream = place.take_if(|stream| meant(stream.id))?;
        for port in &stream.ports {
            self.leave(&port.socket);
        }
        let [a, b, c, d] = &stream.ports;
        let used = [a.used || b.used, c.used || d.used];
        Some(Detached { stream: stream.id, sockets: stream.ports.map(|port| port.socket), used })
    }

    /// Waits for packets, orders, or `left` to pass (forever if `None`).
    pub(super) fn wait(&mut self, left: Option<Duration>) -> io::Result<()> {
        // Sockets that the last batch had no room for come first, or one flooded
        // socket at the head of the kernel's list would starve those behind it.
        if self.ready.is_empty() { self.epoll.wait(&mut self.ready, left) } else { Ok(()) }
    }

    /// Receives a batch from the ready sockets.
    pub(super) fn receive(&mut self) {
        self.batch.clear();
        self.tokens.clear();
        while self.batch.free() > 0 {
            let Some(token) = self.ready.next() else { break };
            if token == WAKE {
                self.shared.waker.clear();
                continue;
            }
            let Some(port) = find(&mut self.streams, token) else { continue };
            let batch = &mut self.batch;
            let received = batch.receive(port.socket.as_fd(), FIRST).and_then(|count| {
                if count < FIRST { Ok(count) } else { batch.receive(port.socket.as_fd(), CALL - FIRST) }
            });
            match received {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_icmp) => count(&self.shared.counts.receive_errors, 1),
            }
            port.used |= self.batch.len() > self.tokens.len();
            self.tokens.resize(self.batch.len(), token);
        }
    }

    /// Has each packet of the batch judged, in order of arrival, and sends
    /// what is to be forwarded.
    pub(super) fn judge(&mut self, mut judge: impl FnMut(Slot, SocketAddr, &[u8]) -> Verdict) {
        for at in 0..self.batch.len() {
            let (Some(packet), Some(&token)) = (self.batch.packet(at), self.tokens.get(at)) else { break };
            // Received for a stream that an order has closed since.
            if find(&mut self.streams, token).is_none() {
                continue;
            }
            if packet.truncated {
                count(&self.shared.counts.truncated, 1);
                continue;
            }
            match judge(Slot(token as u32), packet.from, packet.bytes) {
                Verdict::Forward { via, to } => self.chain(at, via, to),
                Verdict::Consumed | Verdict::Drop(_) => {}
            }
        }
        for at in 0..self.exits.len() {
            self.send_chain(self.exits[at]);
        }
        self.exits.clear();
    }

    /// Sends one packet now.
    pub(super) fn send(&mut self, via: Slot, to: SocketAddr, bytes: &[u8]) {
        let Some(port) = port(&mut self.streams, via) else { return };
        port.used = true;
        if port.socket.send_to(bytes, to).is_err() {
            count(&self.shared.counts.unsent, 1);
        }
    }

    /// Appends packet `at` to the chain of socket `via`.
    fn chain(&mut self, at: usize, via: Slot, to: SocketAddr) {
        let Some(port) = port(&mut self.streams, via) else { return };
        self.onward[at] = Onward { to, next: NONE };
        if port.head == NONE {
            port.head = at as u16;
            self.exits.push(via);
        } else {
            self.onward[usize::from(port.tail)].next = at as u16;
        }
        port.tail = at as u16;
    }

    /// Sends the chain of one socket. What the kernel has no room for or
    /// refuses is dropped: late media is worth less than none.
    fn send_chain(&mut self, via: Slot) {
        let Some(port) = port(&mut self.streams, via) else { return };
        let mut at = std::mem::replace(&mut port.head, NONE);
        port.tail = NONE;
        port.used = true;
        // An error kept from an earlier packet (ICMP) is no reason to drop this one.
        let mut retry = true;
        while at != NONE {
            let (batch, onward) = (&self.batch, &self.onward);
            let follow = |at: &u16| Some(onward[usize::from(*at)].next).filter(|next| *next != NONE);
            let chain = std::iter::successors(Some(at), follow).map_while(|at| {
                let packet = batch.packet(usize::from(at))?;
                Some(Outgoing { to: onward[usize::from(at)].to, source: None, bytes: packet.bytes })
            });
            let done = match mmsg::send(port.socket.as_fd(), chain) {
                Ok(sent) => sent,
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused && retry => {
                    retry = false;
                    continue;
                }
                // Its buffer is full of this very chain: the rest fares no better.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    count(&self.shared.counts.unsent, 1);
                    at = self.onward[usize::from(at)].next;
                    while at != NONE {
                        count(&self.shared.counts.unsent, 1);
                        at = self.onward[usize::from(at)].next;
                    }
                    return;
                }
                Err(_refused) => {
                    count(&self.shared.counts.unsent, 1);
                    1
                }
            };
            for _ in 0..done {
                at = self.onward[usize::from(at)].next;
            }
        }
    }

    fn leave(&self, socket: &UdpSocket) {
        if let Err(error) = self.epoll.remove(socket.as_fd()) {
            tracing::debug!(%error, "socket was not in the set");
        }
    }
}

fn token(serial: u32, slot: Slot) -> u64 {
    u64::from(serial) << 32 | u64::from(slot.0)
}

fn port(streams: &mut [Option<Stream>], slot: Slot) -> Option<&mut Port> {
    let stream = streams.get_mut((slot.0 / 4) as usize)?.as_mut()?;
    stream.ports.get_mut((slot.0 % 4) as usize)
}

/// The socket behind a token, if the stream is still the same.
fn find(streams: &mut [Option<Stream>], token: u64) -> Option<&mut Port> {
    let slot = token as u32;
    let stream = streams.get_mut((slot / 4) as usize)?.as_mut()?;
    if stream.serial != (token >> 32) as u32 {
        return None;
    }
    stream.ports.get_mut((slot % 4) as usize)
}

fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sockopt::{Class, bind_udp};

    fn socket() -> UdpSocket {
        bind_udp("127.0.0.1:0".parse().unwrap(), Class::Media).unwrap()
    }

    fn stream(slot: u32) -> StreamId {
        StreamId { worker: 0, slot, generation: 1 }
    }

    /// Three flooded sockets fill more than one batch; the fourth gets its turn
    /// all the same, and what leaves by one socket keeps its order.
    #[test]
    fn more_than_a_batch_is_judged_once_each_and_leaves_in_order() {
        let mut backend = Backend::new(Arc::new(Shared::new().unwrap())).unwrap();
        let sockets = [(); 4].map(|()| socket());
        let addresses = sockets.each_ref().map(|socket| socket.local_addr().unwrap());
        backend.attach(stream(2), sockets).unwrap();
        let (far, sink) = (socket(), socket());
        for number in 0..200_u8 {
            for address in &addresses[..3] {
                far.send_to(&[number], address).unwrap();
            }
        }
        far.send_to(&[200], addresses[3]).unwrap();
        let mut judged = [const { Vec::new() }; 4];
        let mut batches = 0;
        while judged.iter().map(Vec::len).sum::<usize>() < 601 {
            backend.wait(Some(Duration::from_secs(5))).unwrap();
            backend.receive();
            assert!(backend.batch.len() <= BATCH);
            batches += 1;
            assert!(batches < 100);
            backend.judge(|on, from, packet| {
                assert_eq!(from, far.local_addr().unwrap());
                let at = (on.0 - 8) as usize;
                judged[at].push(packet[0]);
                let forward = at == 0 && packet[0] < 150;
                let to = sink.local_addr().unwrap();
                if forward { Verdict::Forward { via: Slot(9), to } } else { Verdict::Consumed }
            });
        }
        for judged in &judged[..3] {
            assert!(judged.iter().copied().eq(0..200));
        }
        assert_eq!(judged[3], [200]);
        let mut room = [0; 8];
        for number in 0..150 {
            assert_eq!(sink.recv_from(&mut room).unwrap(), (1, addresses[1]));
            assert_eq!(room[0], number);
        }
        let detached = backend.detach(2, |_| true).unwrap();
        assert_eq!((detached.stream, detached.used), (stream(2), [true, true]));
    }

    /// An order that closes a stream, and opens another in its slot, comes
    /// between the receive and the judgement.
    #[test]
    fn packets_of_a_former_use_of_the_slot_are_dropped() {
        let mut backend = Backend::new(Arc::new(Shared::new().unwrap())).unwrap();
        let sockets = [(); 4].map(|()| socket());
        let first = sockets[0].local_addr().unwrap();
        backend.attach(stream(0), sockets).unwrap();
        socket().send_to(b"old", first).unwrap();
        backend.wait(Some(Duration::from_secs(5))).unwrap();
        backend.receive();
        assert!(backend.detach(0, |id| id == stream(1)).is_none(), "not the stream that is meant");
        assert!(backend.detach(0, |id| id == stream(0)).is_some());
        backend.attach(stream(0), [(); 4].map(|()| socket())).unwrap();
        backend.judge(|_, _, _| panic!("judged for the wrong stream"));
        assert!(backend.attach(stream(0), [(); 4].map(|()| socket())).is_err(), "held");
        assert!(backend.attach(stream(MOST_STREAMS), [(); 4].map(|()| socket())).is_err(), "out of bounds");
    }
}
