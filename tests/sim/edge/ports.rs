//! The part of `net::ports`: binds pairs, asks STUN for the idle ones, and
//! lets used ones rest until they have been quiet for 30 s.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ::media::PortPair;
use ::media::ports::{Command, Event};
use nat::Mapped;
use nat::discovery::{self, Discovery, SocketId};

use crate::clock::Time;

/// How long a used pair must have been quiet.
pub(crate) const QUIET: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    /// With a worker.
    Lent,
    /// Quiet since.
    Resting(Time),
}

#[derive(Debug)]
struct Bound {
    state: State,
    discover: bool,
    /// Of the RTP and the RTCP socket.
    sockets: [SocketId; 2],
    mapped: [Option<Mapped>; 2],
}

/// All pairs that are bound.
#[derive(Debug)]
pub(crate) struct Ports {
    pairs: BTreeMap<PortPair, Bound>,
    /// Which socket is which.
    ids: BTreeMap<SocketId, (PortPair, usize)>,
    by_address: BTreeMap<SocketAddr, SocketId>,
    resting: BTreeSet<(Time, PortPair)>,
    next_id: u64,
}

impl Ports {
    pub(crate) fn new(first_id: u64) -> Self {
        Self {
            pairs: BTreeMap::new(),
            ids: BTreeMap::new(),
            by_address: BTreeMap::new(),
            resting: BTreeSet::new(),
            next_id: first_id,
        }
    }

    pub(crate) fn bound(&self) -> usize {
        self.pairs.len()
    }

    pub(crate) fn obey(&mut self, at: Instant, command: Command, discovery: &mut Discovery) -> Option<Event> {
        match command {
            Command::Bind { pair, .. } if self.pairs.contains_key(&pair) => Some(Event::Refused { pair }),
            Command::Bind { pair, discover } => {
                let sockets = [SocketId(self.next_id), SocketId(self.next_id + 1)];
                self.next_id += 2;
                for (index, address) in [pair.rtp(), pair.rtcp()].into_iter().enumerate() {
                    self.ids.insert(sockets[index], (pair, index));
                    self.by_address.insert(address, sockets[index]);
                }
                self.pairs.insert(pair, Bound { state: State::Idle, discover, sockets, mapped: [None; 2] });
                self.watch(at, pair, discovery);
                Some(Event::Bound { pair })
            }
            Command::Unbind { pair } => {
                self.forget(at, pair, discovery);
                if let Some(bound) = self.pairs.remove(&pair) {
                    for (address, socket) in [pair.rtp(), pair.rtcp()].into_iter().zip(bound.sockets) {
                        self.by_address.remove(&address);
                        self.ids.remove(&socket);
                    }
                    if let State::Resting(since) = bound.state {
                        self.resting.remove(&(since, pair));
                    }
                }
                None
            }
        }
    }

    fn watch(&self, at: Instant, pair: PortPair, discovery: &mut Discovery) {
        if let Some(bound) = self.pairs.get(&pair).filter(|b| b.discover) {
            for socket in bound.sockets {
                discovery.handle_input(at, discovery::Input::Watch { socket, fast: false });
            }
        }
    }

    fn forget(&self, at: Instant, pair: PortPair, discovery: &mut Discovery) {
        for socket in self.pairs.get(&pair).into_iter().flat_map(|b| b.sockets) {
            discovery.handle_input(at, discovery::Input::Forget { socket });
        }
    }

    /// A pair goes to a worker.
    pub(crate) fn lend(&mut self, at: Instant, pair: PortPair, discovery: &mut Discovery) -> bool {
        self.forget(at, pair, discovery);
        let Some(bound) = self.pairs.get_mut(&pair) else { return false };
        if let State::Resting(since) = bound.state {
            self.resting.remove(&(since, pair));
        }
        bound.mapped = [None; 2];
        std::mem::replace(&mut bound.state, State::Lent) == State::Idle
    }

    /// A pair comes back from a worker.
    pub(crate) fn give_back(&mut self, now: Time, at: Instant, pair: PortPair, used: bool, discovery: &mut Discovery) {
        let Some(bound) = self.pairs.get_mut(&pair) else { return };
        if used {
            bound.state = State::Resting(now);
            self.resting.insert((now, pair));
        } else {
            bound.state = State::Idle;
            self.watch(at, pair, discovery);
        }
    }

    /// A packet reached a pair that no worker has.
    pub(crate) fn disturbed(&mut self, now: Time, on: SocketAddr) -> Option<SocketId> {
        let socket = *self.by_address.get(&on)?;
        let (pair, _) = *self.ids.get(&socket)?;
        let bound = self.pairs.get_mut(&pair)?;
        if let State::Resting(since) = bound.state {
            self.resting.remove(&(since, pair));
            self.resting.insert((now, pair));
            bound.state = State::Resting(now);
        }
        Some(socket)
    }

    /// Pairs that have been quiet long enough.
    pub(crate) fn rested(&mut self, now: Time) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some((since, pair)) = self.resting.first().copied().filter(|(since, _)| *since + QUIET <= now) {
            self.resting.remove(&(since, pair));
            if let Some(bound) = self.pairs.get_mut(&pair) {
                bound.state = State::Idle;
            }
            events.push(Event::Rested { pair });
        }
        events
    }

    pub(crate) fn next(&self) -> Option<Time> {
        self.resting.first().map(|(since, _)| *since + QUIET)
    }

    /// After [`Ports::rested`]: idle pairs are asked about again.
    pub(crate) fn watch_again(&self, at: Instant, events: &[Event], discovery: &mut Discovery) {
        for event in events {
            if let Event::Rested { pair } = event {
                self.watch(at, *pair, discovery);
            }
        }
    }

    pub(crate) fn address(&self, socket: SocketId) -> Option<SocketAddr> {
        let (pair, index) = *self.ids.get(&socket)?;
        Some(if index == 0 { pair.rtp() } else { pair.rtcp() })
    }

    /// STUN's word about a socket; news of the pair once both are known.
    pub(crate) fn mapped(&mut self, socket: SocketId, mapped: Option<Mapped>) -> Option<Event> {
        let (pair, index) = *self.ids.get(&socket)?;
        let bound = self.pairs.get_mut(&pair)?;
        let had = bound.mapped.iter().all(Option::is_some);
        bound.mapped[index] = mapped;
        match bound.mapped {
            [Some(rtp), Some(rtcp)] => Some(Event::Mapped { pair, rtp, rtcp }),
            _ => had.then_some(Event::Unmapped { pair }),
        }
    }
}
