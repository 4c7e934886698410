//! One port pair as `net` holds it: which sockets, in which state, known to
//! epoll and to discovery by which handle. Bookkeeping only; the calls are made
//! in the parent module.

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Instant;

use media::PortPair;
use media::ports::Event;
use nat::Mapped;
use nat::discovery::SocketId;

use crate::datapath::MediaSocket;
use crate::turn::{AllocationId, Client, Tunnel};

/// One socket of one pair: generation in the upper half, twice the slot plus
/// the component in the lower. A slot that is used again gets new handles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Handle(pub(super) u64);

impl Handle {
    /// Those of RTP and RTCP.
    pub(super) fn pair(slot: u32, generation: u32) -> [Self; 2] {
        let rtp = u64::from(generation) << 32 | u64::from(slot) << 1;
        [Self(rtp), Self(rtp | 1)]
    }

    /// The pair that it belongs to, if that still exists.
    pub(super) fn find(self, pairs: &mut [Option<Pair>]) -> Option<&mut Pair> {
        let slot = (self.0 as u32 >> 1) as usize;
        pairs.get_mut(slot)?.as_mut().filter(|pair| pair.handles.contains(&self))
    }

    fn component(self) -> usize {
        (self.0 & 1) as usize
    }
}

impl From<Handle> for SocketId {
    fn from(handle: Handle) -> Self {
        Self(handle.0)
    }
}

impl From<SocketId> for Handle {
    fn from(socket: SocketId) -> Self {
        Self(socket.0)
    }
}

/// A bound pair.
#[derive(Debug)]
pub(super) struct Pair {
    /// Its addresses.
    pub(super) pair: PortPair,
    /// Must its mapped addresses be known while it is idle?
    pub(super) discover: bool,
    /// What it is doing.
    pub(super) state: State,
    /// What stands for its sockets, where these cannot be reached.
    pub(super) allocation: Option<Allocation>,
    /// Its sockets are in the set: what arrives is read.
    pub(super) heard: bool,
    handles: [Handle; 2],
}

/// A pair's allocations on a TURN server, and who has them. They are given back when this is dropped.
#[derive(Debug)]
pub(super) struct Allocation {
    /// Their name.
    pub(super) id: AllocationId,
    /// Who has them.
    pub(super) client: Arc<Client>,
    /// They are there.
    pub(super) ready: bool,
}

impl Drop for Allocation {
    fn drop(&mut self) {
        self.client.release(self.id);
    }
}

/// Where the sockets of a pair are.
#[derive(Debug)]
pub(super) enum State {
    /// Here, waiting to be taken.
    Idle {
        /// RTP, RTCP.
        sockets: [UdpSocket; 2],
        /// What the world sees for each. Not all pairs are here, and most of those have none.
        mapped: Box<[Option<Mapped>; 2]>,
        /// The port plan has been told of both.
        told: bool,
    },
    /// Here, until quiet.
    Resting {
        /// RTP, RTCP.
        sockets: [UdpSocket; 2],
        /// When the last packet came, at first the start of the rest.
        heard: Instant,
        /// When to look whether it was quiet since.
        due: Instant,
    },
    /// With a worker.
    Taken {
        /// To be closed on return.
        unwanted: bool,
        /// They stayed here: the worker has an allocation.
        kept: Option<[UdpSocket; 2]>,
    },
}

/// Whole with a worker.
const TAKEN: State = State::Taken { unwanted: false, kept: None };

impl Pair {
    /// Freshly bound.
    pub(super) fn idle(pair: PortPair, discover: bool, handles: [Handle; 2], sockets: [UdpSocket; 2]) -> Self {
        let state = State::Idle { sockets, mapped: Box::default(), told: false };
        Self { pair, discover, handles, state, allocation: None, heard: discover }
    }

    /// Its handles, RTP first.
    pub(super) fn handles(&self) -> [Handle; 2] {
        self.handles
    }

    /// Waiting to be taken?
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle { .. })
    }

    /// When its rest is looked at again.
    pub(super) fn rests_until(&self) -> Option<Instant> {
        match self.state {
            State::Resting { due, .. } => Some(due),
            State::Idle { .. } | State::Taken { .. } => None,
        }
    }

    /// Known to discovery: idle, in a pool that advertises by STUN, and not by TURN.
    pub(super) fn watched(&self) -> bool {
        self.discover && self.is_idle() && self.allocation.is_none()
    }

    /// With a worker? Then: is it to be closed when it comes back?
    pub(super) fn taken(&self) -> Option<bool> {
        match self.state {
            State::Taken { unwanted, .. } => Some(unwanted),
            State::Idle { .. } | State::Resting { .. } => None,
        }
    }

    /// The socket behind a handle, while it is here.
    pub(super) fn socket(&self, handle: Handle) -> Option<&UdpSocket> {
        match &self.state {
            State::Idle { sockets, .. } | State::Resting { sockets, .. } => sockets.get(handle.component()),
            State::Taken { .. } => None,
        }
    }

    /// Gives the sockets away, if they are here; or `tunnels` in their stead.
    pub(super) fn take(&mut self, tunnels: Option<[Tunnel; 2]>) -> Option<[MediaSocket; 2]> {
        let state = std::mem::replace(&mut self.state, TAKEN);
        match (state, tunnels) {
            (State::Idle { sockets, .. } | State::Resting { sockets, .. }, None) => Some(sockets.map(MediaSocket::Udp)),
            (State::Idle { sockets, .. } | State::Resting { sockets, .. }, Some(tunnels)) => {
                self.state = State::Taken { unwanted: false, kept: Some(sockets) };
                Some(tunnels.map(MediaSocket::Turn))
            }
            (state @ State::Taken { .. }, _) => {
                self.state = state;
                None
            }
        }
    }

    /// Takes the sockets back; `None` if they are not what was given away.
    pub(super) fn back(&mut self, sockets: [MediaSocket; 2]) -> Option<[UdpSocket; 2]> {
        let kept = match &mut self.state {
            State::Taken { kept, .. } => kept.take(),
            State::Idle { .. } | State::Resting { .. } => None,
        };
        match (kept, sockets) {
            (Some(kept), _) => Some(kept),
            (None, [MediaSocket::Udp(rtp), MediaSocket::Udp(rtcp)]) => Some([rtp, rtcp]),
            (None, _) => None,
        }
    }

    /// Its allocations are there, with these relayed addresses, or not any more. Returns what the port plan should hear.
    pub(super) fn relayed(&mut self, found: Option<[Mapped; 2]>) -> Option<Event> {
        let pair = self.pair;
        let State::Idle { mapped, told, .. } = &mut self.state else { return None };
        **mapped = found.map_or([None; 2], |found| found.map(Some));
        let before = std::mem::replace(told, found.is_some());
        match found {
            Some([rtp, rtcp]) => Some(Event::Mapped { pair, rtp, rtcp }),
            None => before.then_some(Event::Unmapped { pair }),
        }
    }

    /// Resting becomes idle.
    pub(super) fn awake(&mut self) {
        let state = std::mem::replace(&mut self.state, TAKEN);
        self.state = match state {
            State::Resting { sockets, .. } => State::Idle { sockets, mapped: Box::default(), told: false },
            State::Idle { .. } | State::Taken { .. } => state,
        };
    }

    /// Nobody wants it any more. True when it can be closed now.
    pub(super) fn abandon(&mut self) -> bool {
        match &mut self.state {
            State::Idle { .. } | State::Resting { .. } => true,
            State::Taken { unwanted, .. } => {
                *unwanted = true;
                false
            }
        }
    }

    /// Notes what discovery found for one socket; returns what the port plan
    /// should hear: both addresses as soon as both are known and whenever one
    /// changes, once that they are not known any more.
    pub(super) fn mapped(&mut self, handle: Handle, found: Option<Mapped>) -> Option<Event> {
        let pair = self.pair;
        let State::Idle { mapped, told, .. } = &mut self.state else { return None };
        let known = mapped.get_mut(handle.component())?;
        let changed = *known != found;
        *known = found;
        match **mapped {
            [Some(rtp), Some(rtcp)] if changed || !*told => {
                *told = true;
                Some(Event::Mapped { pair, rtp, rtcp })
            }
            [Some(_), Some(_)] => None,
            [None, _] | [_, None] => std::mem::take(told).then_some(Event::Unmapped { pair }),
        }
    }
}
