//! The portable backend: epoll, recvfrom and sendto for a packet that comes
//! alone, recvmmsg and sendmmsg for a train of them.
//!
//! Receives from all ready sockets into one batch, hands each packet to a
//! judge, and sends what is forwarded, grouped by the socket that it leaves
//! from, in the order of arrival. No packet is copied and nothing is allocated
//! between a receive and its send. Under more than can be carried every socket
//! has its turn: the kernel's list of ready ones is a ring, and none gives more
//! than [`TRAIN`] packets a turn. Must not judge.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use media::{Slot, StreamId, Verdict};

use super::gather::Gathering;
use super::handle::Shared;
use super::{MediaSocket, StreamSockets};
use crate::alarm::Alarm;
use crate::clock;
use crate::dscp::{Dscp, Mark, Marks};
use crate::mmsg::{self, Batch, Outgoing};
use crate::poll::{Epoll, Ready};
use crate::sockopt;

/// Most streams of a worker: slots are indices of a plain array.
pub(super) const MOST_STREAMS: u32 = 1 << 18;

/// Packets per batch, over all sockets.
const BATCH: usize = 256;

/// Octets of room per packet: a jumbo frame, and not a power of two, so that
/// the packets of a batch do not compete for the same cache lines.
const ROOM: usize = 9216 + 64;

/// Packets taken at once from a socket that had one in the last round, too; from others one.
/// At 20 ms each, a socket that is read in time never has a second.
const TRAIN: usize = 8;

/// So long packets that come thick gather where that pays. The kernel may add its timer slack, 50 µs.
const GATHER: Duration = Duration::from_micros(40);

/// A batch of so many has paid for its waking up; no more are waited for.
const ENOUGH: usize = 16;

/// The waker's token; no socket has it, for slots end at `MOST_STREAMS × 4`.
const WAKE: u64 = u64::MAX;
/// The token of the alarm.
const ALARM: u64 = u64::MAX - 1;

/// Ends a chain of packets.
const NONE: u16 = u16::MAX;
/// Streams that there is room for beyond those that were needed, when that grows.
const SPARE: usize = 64;

/// The sockets of one worker.
#[derive(Debug)]
pub(super) struct Backend {
    epoll: Epoll,
    ready: Ready,
    alarm: Alarm,
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
    /// Counts waits.
    round: u32,
    gathering: Gathering,
    /// The last wait was shorter than [`GATHER`], which is looked at where gathering is on.
    thick: bool,
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
    /// When something last arrived.
    round: u32,
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
        Self { socket, used: false, kept, round: 0, head: NONE, tail: NONE }
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
    fn receive(&mut self, batch: &mut Batch, round: u32) -> io::Result<usize> {
        let again = round.wrapping_sub(self.round) <= 1;
        self.round = round;
        let fd = self.socket.as_fd();
        match self.socket {
            MediaSocket::Turn(_) => batch.receive_tunnel(fd, TRAIN),
            MediaSocket::Udp(_) if again || self.kept.is_some() => batch.receive(fd, TRAIN),
            MediaSocket::Udp(_) => batch.receive_one(fd),
        }
    }
}

fn ipv4(socket: &UdpSocket) -> bool {
    socket.local_addr().is_ok_and(|local| local.is_ipv4())
}

impl Backend {
    /// No sockets yet; woken by the waker of `shared`.
    pub(super) fn new(shared: Arc<Shared>, marks: Marks) -> io::Result<Self> {
        let (epoll, alarm) = (Epoll::new()?, Alarm::new()?);
        epoll.add(shared.waker.as_fd(), WAKE)?;
        epoll.add(alarm.as_fd(), ALARM)?;
        let nowhere = Onward { to: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0), next: NONE };
        Ok(Self {
            epoll,
            ready: Ready::new(BATCH),
            alarm,
            shared,
            marks,
            streams: Vec::new(),
            attached: 0,
            batch: Batch::new(BATCH, ROOM),
            tokens: Vec::with_capacity(BATCH),
            onward: Box::new([nowhere; BATCH]),
            exits: Vec::with_capacity(BATCH),
            round: 1,
            gathering: Gathering::new(),
            thick: false,
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
            if self.streams.capacity() <= slot {
                self.streams.reserve_exact(slot + 1 - self.streams.len() + SPARE);
            }
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

    /// Waits for packets, orders, or a deadline, which may end one wait too
    /// early where it was moved away.
    pub(super) fn wait(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        // Sockets that the last batch had no room for come first, or one flooded
        // socket at the head of the kernel's list would starve those behind it.
        if !self.ready.is_empty() {
            return Ok(());
        }
        self.round = self.round.wrapping_add(1);
        // A timeout would be a timer for each wait; most packets come long before.
        self.alarm.set(deadline)?;
        if !self.gathering.is_on() {
            self.thick = false;
            return self.epoll.wait(&mut self.ready, None);
        }
        if self.thick && self.batch.len() < ENOUGH {
            pause();
        }
        let before = clock::now();
        self.epoll.wait(&mut self.ready, None)?;
        self.thick = self.ready.found() > 0 && clock::now().saturating_duration_since(before) < GATHER;
        Ok(())
    }

    /// Receives a batch from the ready sockets.
    pub(super) fn receive(&mut self) {
        self.batch.clear();
        self.tokens.clear();
        while self.batch.free() > 0 {
            let Some(token) = self.ready.next() else { break };
            match token {
                WAKE => {
                    self.shared.waker.clear();
                    continue;
                }
                ALARM => {
                    self.alarm.rang();
                    continue;
                }
                _ => {}
            }
            let Some(port) = find(&mut self.streams, token) else { continue };
            match port.receive(&mut self.batch, self.round) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_icmp) => count(&self.shared.counts.receive_errors, 1),
            }
            port.used |= self.batch.len() > self.tokens.len();
            self.tokens.resize(self.batch.len(), token);
        }
        self.gathering.moved(self.batch.len(), clock::of_thread);
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

    /// A socket of our own whose packets all get the same mark.
    pub(super) fn plain(&self, on: Slot) -> Option<&UdpSocket> {
        let stream = self.streams.get(on.stream() as usize)?.as_ref()?;
        let port = stream.ports.get((on.0 % 4) as usize).filter(|port| port.kept.is_none())?;
        match &port.socket {
            MediaSocket::Udp(socket) => Some(socket),
            MediaSocket::Turn(_) => None,
        }
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
        // The usual case: one packet, and the socket's own mark.
        let Onward { to, next } = self.onward[usize::from(at)];
        if next == NONE
            && port.kept.is_none()
            && let MediaSocket::Udp(socket) = &port.socket
            && let Some(packet) = self.batch.packet(usize::from(at))
        {
            let sent = match socket.send_to(packet.bytes, to) {
                // Kept from an earlier packet (ICMP): no reason to drop this one.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => socket.send_to(packet.bytes, to),
                sent => sent,
            };
            if sent.is_err() {
                count(&self.shared.counts.unsent, 1);
            }
            return;
        }
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

#[expect(clippy::disallowed_methods, reason = "the next input is there already, or nearly; others are to join it")]
fn pause() {
    std::thread::sleep(GATHER);
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
mod tests;
