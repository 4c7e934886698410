//! Port pairs: binds what `media::ports` asks for and keeps the pairs that no
//! stream uses.
//!
//! Idle pairs wait to be taken; those of a side that advertises by STUN are
//! kept mapped meanwhile by one `nat::Discovery`, or have allocations on a TURN
//! server where their own sockets cannot be reached. Pairs that come back from a
//! worker rest until the network has been quiet toward them, so that no late
//! packet of an old call reaches a new one. What arrives on those that rest for longer than
//! a moment, or ask where they are seen, is read and thrown away, in bounded bites: a flood may fill the
//! kernel's buffers, it may not keep the signalling thread. What arrives on others that
//! wait is thrown away when they are taken; they are few, and their buffers have an end.
//!
//! Must not choose ports, and must not forward anything.

mod pair;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use media::PortPair;
use media::ports::{Command, Event};
use nat::discovery::{self, Finding};
use nat::{Discovery, Mapped};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use self::pair::{Allocation, Handle, Pair, State};
use crate::datapath::MediaSocket;
use crate::dscp::Mark;
use crate::mmsg::{Batch, CALL};
use crate::poll::{Epoll, Ready};
use crate::sockopt::{Class, bind_udp};
use crate::turn::{Client, Report};

/// How long a used pair must have been quiet before it is used again
/// (`docs/flows/packet.md`).
pub const QUIET: Duration = Duration::from_secs(30);

/// How long a pair rests before what arrives is read: most of those that go from call to call
/// are taken before that.
const DEAF: Duration = Duration::from_secs(1);

/// Sockets read per bite, one batch of at most 32 packets each.
const BITE: usize = 16;

/// The pause after a bite that used up its budget: a flood. The kernel drops meanwhile.
const BREATHER: Duration = Duration::from_millis(10);

/// More packets than the buffer of a socket holds.
const MOST_BUFFERED: usize = 2048;

/// Octets of room per packet; a STUN answer has some hundred, the rest is thrown away anyway.
const ROOM: usize = 2048 + 64;

/// The pairs that no stream uses. Lives on a tokio runtime with its I/O driver on.
#[derive(Debug)]
pub struct Ports {
    set: AsyncFd<Epoll>,
    ready: Ready,
    batch: Batch,
    discovery: Discovery,
    /// Who makes allocations for discovered pairs, while that is how it is done.
    turn: Option<Arc<Client>>,
    /// Some pairs may have allocations: there has been such a server.
    turns: bool,
    quiet: Duration,
    mark: Mark,
    pairs: Vec<Option<Pair>>,
    vacant: Vec<u32>,
    births: u32,
    index: BTreeMap<PortPair, u32>,
    /// Those that rest and are not read yet, by when that begins; some have been taken since.
    deaf: VecDeque<(Instant, u32)>,
    resting: BTreeSet<(Instant, u32)>,
    breather: Option<Instant>,
    events: VecDeque<Event>,
    findings: VecDeque<Finding>,
}

/// Pairs that there is room for beyond those that were needed, when that grows.
const SPARE: usize = 64;

impl Ports {
    /// No pairs yet. `discovery` finds the mapped addresses of idle pairs,
    /// `quiet` is the resting time (normally [`QUIET`]), `mark` what sockets are
    /// bound with. Must be called inside
    /// the runtime whose thread waits for them, whoever polls it; fails when descriptors have run out.
    pub fn new(discovery: Discovery, quiet: Duration, mark: Mark) -> io::Result<Self> {
        Ok(Self {
            set: Epoll::new()?.on_runtime()?,
            ready: Ready::new(BITE),
            batch: Batch::new(CALL, ROOM),
            discovery,
            turn: None,
            turns: false,
            quiet,
            mark,
            pairs: Vec::new(),
            vacant: Vec::new(),
            births: 0,
            index: BTreeMap::new(),
            deaf: VecDeque::new(),
            resting: BTreeSet::new(),
            breather: None,
            events: VecDeque::new(),
            findings: VecDeque::new(),
        })
    }

    /// Does what the port plan asks.
    pub fn handle_input(&mut self, now: Instant, command: Command) {
        match command {
            Command::Bind { pair, discover } => self.bind(now, pair, discover),
            Command::Unbind { pair } => self.unbind(now, pair),
        }
    }

    /// The STUN servers to ask from now on, of the pairs' address family.
    pub fn set_servers(&mut self, now: Instant, servers: Vec<SocketAddr>) {
        self.discovery.handle_input(now, discovery::Input::Servers(servers));
        self.carry_out();
    }

    /// The uplink has changed: all pairs that wait for calls ask where they are seen.
    pub fn doubt(&mut self, now: Instant) {
        self.discovery.handle_input(now, discovery::Input::DoubtAll);
        self.carry_out();
    }

    /// From now on pairs of a side that advertises by STUN have allocations on a
    /// TURN server, or again mapped addresses (`None`). Pairs that are taken stay as they are.
    pub fn set_turn(&mut self, now: Instant, turn: Option<&Arc<Client>>) {
        self.turn = turn.cloned();
        self.turns |= turn.is_some();
        let idle: Vec<u32> = self.index.values().copied().collect();
        for slot in idle {
            let Some(entry) = self.pairs.get_mut(slot as usize).and_then(Option::as_mut) else { continue };
            if !entry.is_idle() || !entry.discover {
                continue;
            }
            let (watched, handles) = (entry.watched(), entry.handles());
            entry.allocation = None;
            self.events.extend(entry.relayed(None));
            if watched {
                for handle in handles {
                    self.discovery.handle_input(now, discovery::Input::Forget { socket: handle.into() });
                }
            }
            self.watch(now, slot);
        }
        self.carry_out();
    }

    /// Learns what became of allocations.
    pub fn turned(&mut self, report: &Report) {
        let (id, found) = match report {
            Report::Allocated { id, relayed, mapped: _ } => (*id, Some(relayed.map(Mapped))),
            Report::Ended { id, why: _ } => (*id, None),
            Report::Denied { .. } | Report::Dropped { .. } => return,
        };
        let of = |entry: &&mut Pair| entry.allocation.as_ref().is_some_and(|allocation| allocation.id == id);
        if let Some(entry) = self.pairs.iter_mut().flatten().find(of) {
            if let Some(allocation) = &mut entry.allocation {
                allocation.ready = found.is_some();
            }
            self.events.extend(entry.relayed(found));
        }
    }

    /// Pairs that have allocations now.
    pub fn allocated(&self) -> usize {
        let ready = |entry: &&Pair| entry.allocation.as_ref().is_some_and(|allocation| allocation.ready);
        self.pairs.iter().flatten().filter(ready).count()
    }

    /// These peers, and no others, may reach the pair through its TURN server, if it has one.
    pub fn permit(&self, pair: PortPair, peers: impl FnOnce() -> Vec<IpAddr>) {
        if !self.turns {
            return;
        }
        let entry = self.index.get(&pair).and_then(|slot| self.pairs.get(*slot as usize)?.as_ref());
        if let Some(allocation) = entry.and_then(|entry| entry.allocation.as_ref()) {
            allocation.client.permit(allocation.id, peers());
        }
    }

    /// Whether private mapped addresses are believed from now on.
    pub fn accept_private(&mut self, accept: bool) {
        self.discovery.accept_private(accept);
    }

    /// Hands out the sockets of a pair, RTP first, with nothing left to read in
    /// them; they go to a worker with `WorkerHandle::open`. `None` when the pair is not
    /// bound or already taken. A resting one is handed out too: the port plan
    /// knows better than we whether its call carried anything.
    pub fn take(&mut self, now: Instant, pair: PortPair) -> Option<[MediaSocket; 2]> {
        let slot = *self.index.get(&pair)?;
        let entry = self.pairs.get_mut(slot as usize)?.as_mut()?;
        let (handles, watched) = (entry.handles(), entry.watched());
        if let Some(due) = entry.rests_until().filter(|_| entry.heard) {
            self.resting.remove(&(due, slot));
        }
        let tunnels = match &entry.allocation {
            Some(allocation) => Some(allocation.client.attach(allocation.id).ok()?),
            None => None,
        };
        let heard = std::mem::take(&mut entry.heard);
        for handle in handles {
            if let Some(socket) = entry.socket(handle) {
                if heard && let Err(error) = self.set.get_ref().remove(socket.as_fd()) {
                    tracing::debug!(%error, ?pair, "socket was not being drained");
                }
                empty(socket);
            }
            if watched {
                self.discovery.handle_input(now, discovery::Input::Forget { socket: handle.into() });
            }
        }
        let sockets = entry.take(tunnels)?;
        self.carry_out();
        Some(sockets)
    }

    /// Takes back the sockets of a taken pair. A `used` one rests until it has
    /// been quiet, another is idle at once; `Event::Rested` says when.
    pub fn rest(&mut self, now: Instant, pair: PortPair, sockets: [MediaSocket; 2], used: bool) {
        let Some(slot) = self.index.get(&pair).copied() else { return };
        let Some(entry) = self.pairs.get_mut(slot as usize).and_then(Option::as_mut) else { return };
        match entry.taken() {
            Some(false) => {}
            Some(true) => return self.forget(slot),
            None => return,
        }
        // The next call has other relayed addresses, where nothing late can arrive.
        entry.allocation = None;
        let Some(sockets) = entry.back(sockets) else { return };
        let due = now + if used { self.quiet.min(DEAF) } else { Duration::ZERO };
        entry.state = State::Resting { sockets, heard: now, due };
        if used {
            self.deaf.push_back((due, slot));
        } else {
            self.awake(now, slot);
        }
    }

    /// The sockets of a taken pair have gone down with their worker
    /// (`Report::Stopped`). `Event::Refused` tells the port plan; call this after
    /// it has heard `Fact::Failed`.
    pub fn lose(&mut self, pair: PortPair) {
        let Some(slot) = self.index.get(&pair).copied() else { return };
        let entry = self.pairs.get(slot as usize).and_then(Option::as_ref);
        if entry.is_some_and(|entry| entry.taken().is_some()) {
            self.forget(slot);
            self.events.push_back(Event::Refused { pair });
        }
    }

    /// Reads what has arrived, one bounded bite. Call when [`ready`](Self::ready) says so.
    pub fn receive(&mut self, now: Instant) {
        if self.breather.is_some_and(|until| now < until) {
            return;
        }
        self.breather = None;
        let ready = &mut self.ready;
        let waited = self.set.try_io(Interest::READABLE, |set| {
            set.wait(ready, Some(Duration::ZERO))?;
            if ready.is_empty() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        if waited.is_err() {
            return;
        }
        let mut flooded = self.ready.found() == BITE;
        while let Some(token) = self.ready.next() {
            flooded |= self.hear(now, Handle(token)) == CALL;
        }
        self.breather = flooded.then(|| now + BREATHER);
    }

    /// Lets pairs go whose rest is over, keeps mappings warm, goes on after a breather.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.receive(now);
        while let Some((at, slot)) = self.deaf.pop_front_if(|(at, _)| *at <= now) {
            let entry = self.pairs.get(slot as usize).and_then(Option::as_ref);
            if entry.is_some_and(|entry| !entry.heard && entry.rests_until() == Some(at)) {
                self.listen(slot);
                self.try_awake(now, slot);
            }
        }
        while let Some(&(at, slot)) = self.resting.first().filter(|(at, _)| *at <= now) {
            self.resting.remove(&(at, slot));
            // What nobody has read yet counts as well.
            for handle in
                self.pairs.get(slot as usize).and_then(Option::as_ref).map(Pair::handles).into_iter().flatten()
            {
                self.hear(now, handle);
            }
            self.try_awake(now, slot);
        }
        self.discovery.handle_timeout(now);
        self.carry_out();
    }

    /// The next answer to the port plan, in order.
    pub fn poll_output(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The next thing that discovery noticed beside addresses.
    pub fn poll_finding(&mut self) -> Option<Finding> {
        self.findings.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let rested = self.resting.first().map(|(at, _)| *at);
        let read = self.deaf.front().map(|(at, _)| *at);
        [self.breather, rested, read, self.discovery.poll_timeout()].into_iter().flatten().min()
    }

    /// Ready when [`receive`](Self::receive) has something to do; not during a breather.
    pub fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.breather.is_some() {
            return Poll::Pending;
        }
        ready!(self.set.poll_read_ready(cx)).map(|_guard| ()).into()
    }

    /// Waits for [`poll_ready`](Self::poll_ready).
    pub async fn ready(&self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_ready(cx)).await
    }

    fn bind(&mut self, now: Instant, pair: PortPair, discover: bool) {
        // A new plan may ask for what an old one has left idle; its need for discovery may differ.
        let held = self.index.get(&pair).and_then(|slot| self.pairs.get(*slot as usize)?.as_ref());
        match held.map(Pair::is_idle) {
            None => {}
            Some(true) => self.unbind(now, pair),
            Some(false) => return self.events.push_back(Event::Refused { pair }),
        }
        let slot = self.vacant.last().copied().unwrap_or(self.pairs.len() as u32);
        let handles = Handle::pair(slot, self.births);
        match self.open(pair, handles, discover) {
            Ok(sockets) => {
                self.vacant.pop();
                self.births = self.births.wrapping_add(1);
                if self.pairs.len() <= slot as usize {
                    // Room for twice as many, as a list grows by itself, would mostly be used by nobody.
                    if self.pairs.capacity() <= slot as usize {
                        self.pairs.reserve_exact(SPARE.max(self.pairs.len() / 8));
                    }
                    self.pairs.resize_with(slot as usize + 1, || None);
                }
                self.pairs[slot as usize] = Some(Pair::idle(pair, discover, handles, sockets));
                self.index.insert(pair, slot);
                self.events.push_back(Event::Bound { pair });
                self.watch(now, slot);
                self.carry_out();
            }
            Err(error) => {
                tracing::debug!(%error, ?pair, "pair refused");
                self.events.push_back(Event::Refused { pair });
            }
        }
    }

    /// Both or neither: what was opened before an error is closed with it.
    fn open(&self, pair: PortPair, handles: [Handle; 2], heard: bool) -> io::Result<[UdpSocket; 2]> {
        let sockets = [bind_udp(pair.rtp(), Class::Media(self.mark))?, bind_udp(pair.rtcp(), Class::Media(self.mark))?];
        for (socket, handle) in sockets.iter().zip(handles).filter(|_| heard) {
            self.set.get_ref().add(socket.as_fd(), handle.0)?;
        }
        Ok(sockets)
    }

    fn unbind(&mut self, now: Instant, pair: PortPair) {
        let Some(slot) = self.index.get(&pair).copied() else { return };
        let Some(entry) = self.pairs.get_mut(slot as usize).and_then(Option::as_mut) else { return };
        let (watched, handles) = (entry.watched(), entry.handles());
        if !entry.abandon() {
            return;
        }
        if watched {
            for handle in handles {
                self.discovery.handle_input(now, discovery::Input::Forget { socket: handle.into() });
            }
            self.carry_out();
        }
        self.forget(slot);
    }

    /// Closes whatever sockets the pair still has.
    fn forget(&mut self, slot: u32) {
        if let Some(entry) = self.pairs.get_mut(slot as usize).and_then(Option::take) {
            if let Some(due) = entry.rests_until().filter(|_| entry.heard) {
                self.resting.remove(&(due, slot));
            }
            self.index.remove(&entry.pair);
            self.vacant.push(slot);
        }
    }

    /// Reads one batch from one socket; returns how many packets there were.
    fn hear(&mut self, now: Instant, handle: Handle) -> usize {
        let Some(entry) = handle.find(&mut self.pairs) else { return 0 };
        let Some(socket) = entry.socket(handle) else { return 0 };
        self.batch.clear();
        let count = self.batch.receive(socket.as_fd(), CALL).unwrap_or_default();
        if let State::Resting { heard, .. } = &mut entry.state
            && count > 0
        {
            *heard = now;
        }
        if entry.watched() {
            for at in 0..self.batch.len() {
                let Some(packet) = self.batch.packet(at) else { break };
                let input =
                    discovery::Input::Received { socket: handle.into(), from: packet.from, packet: packet.bytes };
                self.discovery.handle_input(now, input);
            }
            self.carry_out();
        }
        count
    }

    /// Ends a rest if the pair was quiet all the time, else prolongs it.
    fn try_awake(&mut self, now: Instant, slot: u32) {
        let Some(entry) = self.pairs.get_mut(slot as usize).and_then(Option::as_mut) else { return };
        let State::Resting { heard, due, .. } = &mut entry.state else { return };
        *due = *heard + self.quiet;
        if *due > now {
            self.resting.insert((*due, slot));
        } else {
            self.awake(now, slot);
        }
    }

    /// From here on what arrives on a pair that waits is read.
    fn listen(&mut self, slot: u32) {
        let Some(entry) = self.pairs.get_mut(slot as usize).and_then(Option::as_mut) else { return };
        if std::mem::replace(&mut entry.heard, true) {
            return;
        }
        for handle in entry.handles() {
            let added = entry.socket(handle).map(|socket| self.set.get_ref().add(socket.as_fd(), handle.0));
            if let Some(Err(error)) = added {
                tracing::warn!(%error, pair = ?entry.pair, "socket will not be drained");
            }
        }
    }

    fn awake(&mut self, now: Instant, slot: u32) {
        let Some(entry) = self.pairs.get_mut(slot as usize).and_then(Option::as_mut) else { return };
        entry.awake();
        self.events.push_back(Event::Rested { pair: entry.pair });
        self.watch(now, slot);
        self.carry_out();
    }

    /// Finds out by which addresses an idle pair is reached, if that is wanted.
    fn watch(&mut self, now: Instant, slot: u32) {
        let Some(entry) = self.pairs.get(slot as usize).and_then(Option::as_ref) else { return };
        if !entry.discover {
            return;
        }
        self.listen(slot);
        let Some(entry) = self.pairs.get_mut(slot as usize).and_then(Option::as_mut) else { return };
        match &self.turn {
            Some(client) => {
                let id = client.allocate(entry.pair.ip);
                entry.allocation = Some(Allocation { id, client: Arc::clone(client), ready: false });
            }
            None => {
                for handle in entry.handles() {
                    self.discovery.handle_input(now, discovery::Input::Watch { socket: handle.into(), fast: false });
                }
            }
        }
    }

    /// Does what discovery wants done, until it wants nothing more.
    fn carry_out(&mut self) {
        while let Some(output) = self.discovery.poll_output() {
            match output {
                discovery::Output::Transmit { socket, to, bytes } => {
                    let handle = Handle::from(socket);
                    let socket = handle.find(&mut self.pairs).and_then(|entry| entry.socket(handle));
                    if let Some(Err(error)) = socket.map(|socket| socket.send_to(&bytes, to)) {
                        tracing::debug!(%error, %to, "STUN request not sent");
                    }
                }
                discovery::Output::Mapped { socket, mapped, .. } => {
                    let handle = Handle::from(socket);
                    let event = handle.find(&mut self.pairs).and_then(|entry| entry.mapped(handle, Some(mapped)));
                    self.events.extend(event);
                }
                discovery::Output::Unmapped { socket } => {
                    let handle = Handle::from(socket);
                    let event = handle.find(&mut self.pairs).and_then(|entry| entry.mapped(handle, None));
                    self.events.extend(event);
                }
                discovery::Output::Finding { finding, .. } => self.findings.push_back(finding),
            }
        }
    }
}

/// Throws away what waits in a socket, as much as its buffer can have held.
fn empty(socket: &UdpSocket) {
    let mut nothing = [0; 0];
    for _ in 0..MOST_BUFFERED {
        match socket.recv_from(&mut nothing) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            // What an ICMP message left behind.
            Err(_) => {}
        }
    }
}
