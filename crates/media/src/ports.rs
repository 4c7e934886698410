//! Which port pairs a leg gets: even and odd (RFC 3550 §11), random within a
//! range (an attacker must not guess the next one), bound ahead of need, rested
//! after use so that late packets of an old call never reach a new one; and
//! also when only its address was told, since whoever was told may send late.
//!
//! Decides numbers and keeps states; `net::ports` binds, drains and, where the
//! side advertises by STUN, discovers. Ranges may lie inside each other (a
//! phone's `media_ports` within `[media] ports`): a pair belongs to the
//! *narrowest* range that holds both of its ports, on every local address and
//! from the start, whether or not that range has been asked for yet. So a wider
//! pool never holds a pair of a narrower one. Ranges with the same two ends are
//! one pool, whichever of their ids is used.
//!
//! Must not hand a pair out twice, nor a port outside the range that was asked for.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use nat::Mapped;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use serde::{Deserialize, Serialize};

use pool::{Pool, State};

mod change;
mod pool;

/// A configured range, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PortRange {
    /// Lowest port.
    pub first: u16,
    /// Highest port.
    pub last: u16,
}

impl PortRange {
    /// The even ports of its pairs; empty if not one pair fits.
    fn pairs(self) -> impl Iterator<Item = u16> {
        (self.first.max(2)..self.last).filter(|port| port % 2 == 0)
    }

    fn holds(self, rtp: u16) -> bool {
        self.first <= rtp && rtp < self.last
    }

    fn width(self) -> u16 {
        self.last.saturating_sub(self.first)
    }
}

/// Index into the configured ranges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RangeId(pub u16);

/// An even RTP port and the next odd one for RTCP, on one local address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PortPair {
    /// The even port. It comes first, because tables tell most pairs apart by it.
    pub rtp: u16,
    /// Local address, never a wildcard.
    pub ip: IpAddr,
}

impl PortPair {
    /// The RTP socket's address.
    pub fn rtp(self) -> SocketAddr {
        SocketAddr::new(self.ip, self.rtp)
    }
    /// The RTCP socket's address.
    pub fn rtcp(self) -> SocketAddr {
        SocketAddr::new(self.ip, self.rtp | 1)
    }
}

/// What `net` is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Bind both ports; if `discover`, find their mapped addresses and keep
    /// these warm while the pair is idle. Answered by `Bound` (and `Mapped`) or `Refused`.
    Bind {
        /// The pair.
        pair: PortPair,
        /// Needs STUN.
        discover: bool,
    },
    /// Close an idle pair that is no longer wanted.
    Unbind {
        /// The pair.
        pair: PortPair,
    },
}

/// What `net` reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Both ports are ours.
    Bound {
        /// The pair.
        pair: PortPair,
    },
    /// Somebody else has one of them, or the system refused.
    Refused {
        /// The pair.
        pair: PortPair,
    },
    /// Mapped addresses of an idle pair, first time or changed.
    Mapped {
        /// The pair.
        pair: PortPair,
        /// Of the RTP socket.
        rtp: Mapped,
        /// Of the RTCP socket.
        rtcp: Mapped,
    },
    /// The mapping of an idle pair is not known any more.
    Unmapped {
        /// The pair.
        pair: PortPair,
    },
    /// A used pair has been quiet for 30 s.
    Rested {
        /// The pair.
        pair: PortPair,
    },
}

/// A pair that is taken, and what it looks like from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// The pair.
    pub pair: PortPair,
    /// Mapped addresses of its RTP and RTCP sockets, where these were wanted.
    pub mapped: Option<Arc<[Mapped; 2]>>,
}

/// What has become of a pair that was taken, and so how it returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Past {
    /// No peer has heard of it: idle at once.
    Untold,
    /// Its address stood in SDP, but nothing came: a peer that was given up may
    /// still send there. It rests until [`Event::Rested`], or until a thousand others do too or no other pair is left.
    Told,
    /// It carried packets: rests until [`Event::Rested`].
    Used,
}

/// Why no pair was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortage {
    /// Pairs are being bound or discovered: try again on the next event.
    NotReady,
    /// Every pair is live, resting or refused by the system.
    Exhausted,
}

/// A pool's figures, in pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// All that belong to it.
    pub total: usize,
    /// Neither live nor resting.
    pub free: usize,
    /// Of these, ready to be taken at once.
    pub idle: usize,
    /// In calls.
    pub live: usize,
    /// Waiting until they have been quiet.
    pub resting: usize,
}

/// All pools of port pairs, one per local address and range.
#[derive(Debug)]
pub struct Pools {
    ranges: Vec<PortRange>,
    reserve: usize,
    rng: ChaCha20Rng,
    pools: BTreeMap<(IpAddr, RangeId), Pool>,
    leftovers: change::Leftovers,
    commands: VecDeque<Command>,
}

impl Pools {
    /// Without pools. `reserve`: idle pairs that each keeps bound ahead of need.
    pub fn new(ranges: Vec<PortRange>, reserve: usize, seed: [u8; 32]) -> Self {
        let rng = ChaCha20Rng::from_seed(seed);
        let (pools, leftovers, commands) = (BTreeMap::new(), BTreeMap::new(), VecDeque::new());
        Self { ranges, reserve: reserve.max(1), rng, pools, leftovers, commands }
    }

    /// Makes sure that there is a pool, and that its reserve of such pairs is on
    /// the way. A pool may serve both kinds: one side that is discovered, one that is not.
    pub fn want(&mut self, ip: IpAddr, range: RangeId, discover: bool) {
        let Some((id, _)) = self.range(range) else { return };
        // Whatever happens to one that is wanted already fills it anyway.
        if self.pools.get(&(ip, id)).is_some_and(|pool| pool.wants(discover)) {
            return;
        }
        self.pool(ip, id).want(discover);
        if let Some(pool) = self.pools.get_mut(&(ip, id)) {
            pool.fill(self.reserve, &mut self.rng, &mut self.commands);
        }
    }

    /// An offer of several streams could not have all its pairs: so many are
    /// bound for the next try, beyond the reserve.
    pub fn expect(&mut self, ip: IpAddr, range: RangeId, discover: bool, pairs: usize) {
        let Some((id, _)) = self.range(range) else { return };
        if let Some(pool) = self.pools.get_mut(&(ip, id)) {
            pool.expect(discover, pairs);
            pool.fill(self.reserve, &mut self.rng, &mut self.commands);
        }
    }

    /// Could so many pairs be had, of both kinds together? Without them a side
    /// that is discovered and one that is not would take the last one from each other.
    pub fn can_serve(&mut self, ip: IpAddr, range: RangeId, pairs: usize) -> bool {
        let Some((id, _)) = self.range(range) else { return false };
        let Some(pool) = self.pools.get_mut(&(ip, id)) else { return false };
        let enough = pool.available() >= pairs;
        if !enough {
            pool.fresh.append(&mut pool.refused);
        }
        enough
    }

    /// Takes a pair, at random among the idle ones, and refills behind it. Under many
    /// calls that carry nothing pairs go from one to the next, and their sockets with them.
    pub fn take(&mut self, ip: IpAddr, range: RangeId, discover: bool) -> Result<Ready, Shortage> {
        let Some((id, _)) = self.range(range) else { return Err(Shortage::Exhausted) };
        let Some(pool) = self.pools.get_mut(&(ip, id)) else { return Err(Shortage::Exhausted) };
        let mut taken = pool.take(discover, &mut self.rng);
        if taken == Err(Shortage::Exhausted)
            && (pool.yield_one(!discover, &mut self.commands) || pool.wake_one(discover, &mut self.commands))
        {
            taken = Err(Shortage::NotReady);
        } else if taken == Err(Shortage::Exhausted) {
            // All others were tried: what the system once refused gets another chance, for the next caller.
            pool.fresh.append(&mut pool.refused);
        }
        pool.fill(self.reserve, &mut self.rng, &mut self.commands);
        taken
    }

    /// A call is over, or never was.
    pub fn give_back(&mut self, pair: PortPair, past: Past) {
        if self.returned(pair, past) {
            return;
        }
        self.with(pair, |pool, rtp| match (pool.state(rtp).cloned(), past) {
            (Some(State::Live(mapped)), Past::Untold) => pool.set(rtp, State::Idle(mapped)),
            (Some(State::Live(_)), Past::Told) => pool.rest_unheard(rtp),
            (Some(State::Live(_)), Past::Used) => pool.set(rtp, State::Resting),
            (Some(State::Binding | State::Idle(_) | State::Resting) | None, _) => {}
        });
    }

    /// Learns what became of a command, or of a pair. An event that does not
    /// fit the pair's state is late, and ignored.
    pub fn handle_event(&mut self, event: Event) {
        if self.of_leftover(event) {
            return;
        }
        match event {
            Event::Bound { pair } => self.with(pair, |pool, rtp| {
                if pool.state(rtp) == Some(&State::Binding) {
                    pool.set(rtp, State::Idle(None));
                }
            }),
            Event::Refused { pair } => self.with(pair, |pool, rtp| match pool.state(rtp) {
                Some(State::Binding | State::Idle(_) | State::Resting) => {
                    pool.remove(rtp);
                    pool.refused.push(rtp);
                }
                Some(State::Live(_)) | None => {}
            }),
            Event::Mapped { pair, rtp: mapped, rtcp } => self.with(pair, |pool, rtp| match pool.state(rtp) {
                Some(State::Idle(_)) => pool.set(rtp, State::Idle(Some(Arc::new([mapped, rtcp])))),
                Some(State::Live(_)) => pool.set(rtp, State::Live(Some(Arc::new([mapped, rtcp])))),
                Some(State::Binding | State::Resting) | None => {}
            }),
            Event::Unmapped { pair } => self.with(pair, |pool, rtp| match pool.state(rtp) {
                Some(State::Idle(_)) => pool.set(rtp, State::Idle(None)),
                Some(State::Live(_)) => pool.set(rtp, State::Live(None)),
                Some(State::Binding | State::Resting) | None => {}
            }),
            Event::Rested { pair } => self.with(pair, |pool, rtp| {
                if pool.state(rtp) == Some(&State::Resting) {
                    pool.set(rtp, State::Idle(None));
                }
            }),
        }
    }

    /// The next thing for `net` to do.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// Figures of every pool, in order.
    pub fn counts(&self) -> impl Iterator<Item = (IpAddr, RangeId, Counts)> {
        self.pools.iter().map(|(&(ip, range), pool)| (ip, range, pool.counts()))
    }

    /// Pairs in calls.
    pub(crate) fn live(&self) -> impl Iterator<Item = PortPair> {
        let held = self.pools.iter().flat_map(|(&(ip, _), pool)| pool.held().map(move |held| (ip, held)));
        held.filter(|(_, (_, _, state))| matches!(state, State::Live(_))).map(|(ip, (rtp, ..))| PortPair { ip, rtp })
    }

    /// Is this one of the ports that we hold, by its local or its mapped address?
    pub fn owns(&self, address: SocketAddr) -> bool {
        let (ip, rtp) = (address.ip().to_canonical(), address.port() & !1);
        self.pools
            .iter()
            .any(|((local, _), pool)| (local.to_canonical() == ip && pool.holds(rtp)) || pool.mapped_to(address))
            || self.is_leftover(address)
    }

    /// One change of one pair; then its pool is brought to its proper size.
    fn with(&mut self, pair: PortPair, change: impl FnOnce(&mut Pool, u16)) {
        let Some(id) = self.owner(pair.rtp) else { return };
        if let Some(pool) = self.pools.get_mut(&(pair.ip, id)) {
            change(pool, pair.rtp);
            pool.trim(self.reserve, &mut self.commands);
            pool.fill(self.reserve, &mut self.rng, &mut self.commands);
        }
    }

    /// The range by which a pool is known: the first of those with the same ends.
    fn range(&self, id: RangeId) -> Option<(RangeId, PortRange)> {
        let range = *self.ranges.get(usize::from(id.0))?;
        let first = self.ranges.iter().position(|other| *other == range)?;
        Some((RangeId(u16::try_from(first).ok()?), range))
    }

    /// The narrowest range that holds the pair; of several, the first.
    fn owner(&self, rtp: u16) -> Option<RangeId> {
        let holding = self.ranges.iter().enumerate().filter(|(_, range)| range.holds(rtp));
        let (index, _) = holding.min_by_key(|(_, range)| range.width())?;
        u16::try_from(index).ok().map(RangeId)
    }
}

#[cfg(test)]
mod tests;
