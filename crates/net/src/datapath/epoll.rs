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

use super::handle::Shared;
use super::{MediaSocket, StreamSockets};
use crate::dscp::{Dscp, Mark, Marks};
use crate::mmsg::{self, Batch, CALL, Outgoing};
use crate::poll::{Epoll, Ready};
use crate::sockopt;

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
    marks: Marks,
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
    video: bool,
    ports: [Port; 4],
}

#[derive(Debug)]
struct Port {
    socket: MediaSocket,
    /// Something has arrived or left.
    used: bool,
    /// What it marks packets with now, where each keeps its own.
    kept: Option<Dscp>,
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

impl Port {
    fn new(socket: MediaSocket, mark: Mark) -> Self {
        let kept = (mark == Mark::Keep && matches!(socket, MediaSocket::Udp(_))).then_some(Dscp::DEFAULT);
        Self { socket, used: false, kept, head: NONE, tail: NONE }
    }

    /// What goes through a TURN server is marked on the way there.
    fn mark(&mut self, mark: Mark) {
        if let MediaSocket::Udp(socket) = &self.socket {
            self.kept = (mark == Mark::Keep).then_some(Dscp::DEFAULT);
            sockopt::mark_media(socket, ipv4(socket), mark);
        }
    }

    /// Marks what is sent next as it came.
    fn keep(&mut self, mark: Option<Dscp>) {
        if let Some(mark) = mark.filter(|_| self.kept != mark) {
            self.kept = Some(mark);
            if let MediaSocket::Udp(socket) = &self.socket {
                sockopt::set_dscp(socket, ipv4(socket), mark);
            }
        }
    }

    fn send(&self, to: SocketAddr, bytes: &[u8]) -> io::Result<()> {
        match &self.socket {
            MediaSocket::Udp(socket) => socket.send_to(bytes, to).map(|_sent| ()),
            MediaSocket::Turn(tunnel) => tunnel.send(to, bytes),
        }
    }

    /// Appends what waits to the batch.
    fn receive(&self, batch: &mut Batch) -> io::Result<usize> {
        let fd = self.socket.as_fd();
        if matches!(self.socket, MediaSocket::Turn(_)) {
            return batch.receive_tunnel(fd, CALL);
        }
        let count = batch.receive(fd, FIRST)?;
        if count < FIRST { Ok(count) } else { batch.receive(fd, CALL - FIRST) }
    }
}

fn ipv4(socket: &UdpSocket) -> bool {
    socket.local_addr().is_ok_and(|local| local.is_ipv4())
}

impl Backend {
    /// No sockets yet; woken by the waker of `shared`.
    pub(super) fn new(shared: Arc<Shared>, marks: Marks) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        epoll.add(shared.waker.as_fd(), WAKE)?;
        let nowhere = Onward { to: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0), next: NONE };
        Ok(Self {
            epoll,
            ready: Ready::new(BATCH),
            shared,
            marks,
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
        let ports = sockets.map(|socket| Port::new(socket, self.marks.audio));
        self.streams[slot] = Some(Stream { id, serial, video: false, ports });
        Ok(())
    }

    /// Marks the packets of a stream as its class wants it, from here on.
    pub(super) fn mark(&mut self, id: StreamId, video: bool) {
        let stream = self.streams.get_mut(id.slot as usize).and_then(Option::as_mut);
        if let Some(stream) = stream.filter(|stream| stream.id == id && stream.video != video) {
            stream.video = video;
            let mark = self.marks.media(video);
            if mark != self.marks.media(!video) {
                for port in &mut stream.ports {
                    port.mark(mark);
                }
            }
        }
    }

    /// Lets the sockets of a slot go, if it has any and `meant` says that they
    /// are the right stream's.
    pub(super) fn detach(&mut self, slot: u32, meant: impl FnOnce(StreamId) -> bool) -> Option<Detached> {
        let place = self.streams.get_mut(slot as usize)?;
        let mut stream = place.take_if(|stream| meant(stream.id))?;
        for port in &mut stream.ports {
            // Whoever takes the sockets next finds them as they were bound.
            if port.kept.is_some() || stream.video {
                port.mark(self.marks.audio);
            }
        }
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
            match port.receive(&mut self.batch) {
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
        if port.send(to, bytes).is_err() {
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
        if let MediaSocket::Turn(tunnel) = &port.socket {
            while at != NONE {
                let Onward { to, next } = self.onward[usize::from(at)];
                let sent = self.batch.packet(usize::from(at)).map(|packet| tunnel.send(to, packet.bytes));
                count(&self.shared.counts.unsent, u64::from(!matches!(sent, Some(Ok(())))));
                at = next;
            }
        }
        while at != NONE {
            let (batch, onward) = (&self.batch, &self.onward);
            let kept = port.kept.and_then(|_| batch.packet(usize::from(at))).map(|packet| packet.mark);
            port.keep(kept);
            let follow = |at: &u16| Some(onward[usize::from(*at)].next).filter(|next| *next != NONE);
            let chain = std::iter::successors(Some(at), follow).map_while(|at| {
                let packet =
                    batch.packet(usize::from(at)).filter(|packet| kept.is_none_or(|kept| kept == packet.mark))?;
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

    fn leave(&self, socket: &MediaSocket) {
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
        bind_udp("127.0.0.1:0".parse().unwrap(), Class::Media(Mark::Set(Dscp::EF))).unwrap()
    }

    fn stream(slot: u32) -> StreamId {
        StreamId { worker: 0, slot, generation: 1 }
    }

    /// Three flooded sockets fill more than one batch; the fourth gets its turn
    /// all the same, and what leaves by one socket keeps its order.
    #[test]
    fn more_than_a_batch_is_judged_once_each_and_leaves_in_order() {
        let mut backend = Backend::new(Arc::new(Shared::new().unwrap()), Marks::default()).unwrap();
        let sockets = [(); 4].map(|()| socket());
        let addresses = sockets.each_ref().map(|socket| socket.local_addr().unwrap());
        backend.attach(stream(2), sockets.map(MediaSocket::Udp)).unwrap();
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

    /// Sends packets with these marks through a stream's first socket to its second; how they come out.
    fn marked(local: &str, marks: Marks, video: bool, points: &[Dscp]) -> Vec<Dscp> {
        let mut backend = Backend::new(Arc::new(Shared::new().unwrap()), marks).unwrap();
        let bind = |mark| bind_udp(local.parse().unwrap(), Class::Media(mark)).unwrap();
        let sockets = [(); 4].map(|()| bind(marks.audio));
        let (first, far, sink) = (sockets[0].local_addr().unwrap(), bind(Mark::Keep), bind(Mark::Keep));
        backend.attach(stream(0), sockets.map(MediaSocket::Udp)).unwrap();
        backend.mark(stream(0), video);
        for (number, point) in (0..).zip(points) {
            sockopt::set_dscp(&far, first.is_ipv4(), *point);
            far.send_to(&[number], first).unwrap();
        }
        let mut judged = 0;
        while judged < points.len() {
            backend.wait(Some(Duration::from_secs(5))).unwrap();
            backend.receive();
            backend.judge(|_, _, _| {
                judged += 1;
                Verdict::Forward { via: Slot(1), to: sink.local_addr().unwrap() }
            });
        }
        let mut batch = Batch::new(CALL, ROOM);
        assert_eq!(batch.receive(sink.as_fd(), CALL).unwrap(), points.len());
        let out = (0..points.len()).map(|at| batch.packet(at).unwrap());
        assert!(out.clone().map(|packet| packet.bytes[0]).eq(0..points.len() as u8), "in order");
        // Its sockets come back as they were bound.
        let detached = backend.detach(0, |_| true).unwrap();
        let back = |socket| socket2::SockRef::from(socket).tos_v4().unwrap();
        if first.is_ipv4() {
            assert!(detached.sockets.iter().all(|socket| back(socket) == u32::from(marks.audio.first().octet())));
        }
        out.map(|packet| packet.mark).collect()
    }

    #[test]
    fn packets_are_marked_by_class_or_keep_their_mark() {
        let points = [Dscp::EF, Dscp::EF, Dscp::DEFAULT, Dscp::CS3, Dscp::EF];
        let set = Marks::default();
        let keep = Marks { audio: Mark::Keep, ..set };
        let keep_video = Marks { video: Mark::Keep, ..set };
        for local in ["127.0.0.1:0", "[::1]:0"] {
            if bind_udp(local.parse().unwrap(), Class::Signalling(Dscp::CS3)).is_err() {
                continue;
            }
            assert_eq!(marked(local, set, false, &points), [Dscp::EF; 5]);
            assert_eq!(marked(local, set, true, &points), [Dscp::AF41; 5]);
            assert_eq!(marked(local, keep, false, &points), points);
            assert_eq!(marked(local, keep, true, &points), [Dscp::AF41; 5]);
            assert_eq!(marked(local, keep_video, false, &points), [Dscp::EF; 5]);
            assert_eq!(marked(local, keep_video, true, &points), points);
        }
    }

    /// A leg behind a TURN server: packets come with the peer's own address, and go where they are sent.
    #[test]
    fn a_tunnel_takes_the_place_of_a_socket() {
        let mut backend = Backend::new(Arc::new(Shared::new().unwrap()), Marks::default()).unwrap();
        let ((tunnel, near), far) = (crate::turn::tunnel::pair().unwrap(), socket());
        let plain = [(); 3].map(|()| socket());
        let [first, second, third] = plain;
        let at_first = first.local_addr().unwrap();
        let sockets = [first.into(), second.into(), MediaSocket::Turn(tunnel), third.into()];
        backend.attach(stream(0), sockets).unwrap();
        let (peer, other) = ("198.51.100.7:4000".parse().unwrap(), "198.51.100.8:5000".parse().unwrap());
        let mut seen = Vec::new();
        for number in 0..3 {
            crate::mmsg::tunnel::send(near.as_fd(), peer, &[number]).unwrap();
            far.send_to(&[number + 10], at_first).unwrap();
        }
        while seen.len() < 6 {
            backend.wait(Some(Duration::from_secs(5))).unwrap();
            backend.receive();
            backend.judge(|on, from, packet| {
                seen.push((on.0, from, packet[0]));
                let (via, to) = if on.0 == 2 { (Slot(0), far.local_addr().unwrap()) } else { (Slot(2), other) };
                Verdict::Forward { via, to }
            });
        }
        backend.send(Slot(2), peer, b"own");
        let from_peer: Vec<_> = seen.iter().filter(|(on, ..)| *on == 2).copied().collect();
        assert_eq!(from_peer, [(2, peer, 0), (2, peer, 1), (2, peer, 2)]);
        let mut batch = Batch::new(CALL, ROOM);
        batch.receive_tunnel(near.as_fd(), CALL).unwrap();
        let out: Vec<_> = (0..batch.len()).map(|at| batch.packet(at).unwrap()).map(|p| (p.from, p.bytes)).collect();
        assert_eq!(out, [(other, &[10][..]), (other, &[11]), (other, &[12]), (peer, b"own")]);
        let mut room = [0; 8];
        for number in 0..3 {
            assert_eq!((far.recv(&mut room).unwrap(), room[0]), (1, number));
        }
        let detached = backend.detach(0, |_| true).unwrap();
        assert_eq!(detached.used, [true, true]);
        assert!(matches!(detached.sockets[2], MediaSocket::Turn(_)));
    }

    /// An order that closes a stream, and opens another in its slot, comes
    /// between the receive and the judgement.
    #[test]
    fn packets_of_a_former_use_of_the_slot_are_dropped() {
        let mut backend = Backend::new(Arc::new(Shared::new().unwrap()), Marks::default()).unwrap();
        let sockets = [(); 4].map(|()| socket());
        let first = sockets[0].local_addr().unwrap();
        backend.attach(stream(0), sockets.map(MediaSocket::Udp)).unwrap();
        socket().send_to(b"old", first).unwrap();
        backend.wait(Some(Duration::from_secs(5))).unwrap();
        backend.receive();
        assert!(backend.detach(0, |id| id == stream(1)).is_none(), "not the stream that is meant");
        assert!(backend.detach(0, |id| id == stream(0)).is_some());
        backend.attach(stream(0), [(); 4].map(|()| socket().into())).unwrap();
        backend.judge(|_, _, _| panic!("judged for the wrong stream"));
        assert!(backend.attach(stream(0), [(); 4].map(|()| socket().into())).is_err(), "held");
        assert!(backend.attach(stream(MOST_STREAMS), [(); 4].map(|()| socket().into())).is_err(), "out of bounds");
    }
}
