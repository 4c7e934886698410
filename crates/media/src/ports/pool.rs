//! One pool: the pairs of one range on one local address, and their states.
//!
//! Decides how many are kept bound, and which is taken. Every pair is in exactly
//! one place: a number in `fresh` or `refused`, or a state in `pairs`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};

use nat::Mapped;
use rand_chacha::ChaCha20Rng;
use rand_core::Rng;

use super::{Command, Counts, PortPair, Ready, Shortage};

/// Warm pairs cost a router mappings: no discovering pool keeps more.
const MOST_MAPPED: usize = 16;
/// Idle pairs over the reserve that are kept rather than closed.
const SLACK: usize = 4;

/// A bound pair, or one that is being bound. Others are numbers in `fresh` or `refused`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Binding,
    Idle(Option<[Mapped; 2]>),
    Live(Option<[Mapped; 2]>),
    Resting,
}

#[derive(Debug)]
pub(super) struct Pool {
    ip: IpAddr,
    pub(super) discover: bool,
    pub(super) pairs: BTreeMap<u16, State>,
    /// Those of `pairs` that can be taken.
    ready: Vec<u16>,
    /// Not bound, never refused since the last round.
    pub(super) fresh: Vec<u16>,
    pub(super) refused: Vec<u16>,
    /// Bound before the pool's need for discovery changed: closed once idle.
    pub(super) outdated: BTreeSet<u16>,
    live: usize,
    resting: usize,
}

impl Pool {
    pub(super) fn new(ip: IpAddr, discover: bool, fresh: Vec<u16>) -> Self {
        let (pairs, outdated) = (BTreeMap::new(), BTreeSet::new());
        let (ready, refused) = (Vec::new(), Vec::new());
        Self { ip, discover, pairs, ready, fresh, refused, outdated, live: 0, resting: 0 }
    }

    pub(super) fn take(&mut self, rng: &mut ChaCha20Rng) -> Result<Ready, Shortage> {
        if let Some(rtp) = pick(&mut self.ready, rng)
            && let Some(&State::Idle(mapped)) = self.pairs.get(&rtp)
        {
            self.put(rtp, State::Live(mapped));
            let mapped = mapped.filter(|_| self.discover);
            return Ok(Ready { pair: self.pair(rtp), mapped });
        }
        let waiting = self.warm() > 0 || !self.fresh.is_empty();
        Err(if waiting { Shortage::NotReady } else { Shortage::Exhausted })
    }

    /// Binds random numbers until the reserve is there or on the way.
    pub(super) fn fill(&mut self, reserve: usize, rng: &mut ChaCha20Rng, commands: &mut VecDeque<Command>) {
        while self.warm() < self.reserve(reserve)
            && let Some(rtp) = pick(&mut self.fresh, rng)
        {
            self.put(rtp, State::Binding);
            commands.push_back(Command::Bind { pair: self.pair(rtp), discover: self.discover });
        }
    }

    /// Closes idle pairs over `most`; those without a mapping first.
    pub(super) fn unbind_down_to(&mut self, most: usize, commands: &mut VecDeque<Command>) {
        while self.warm() > most {
            let idle = |state: &State| matches!(state, State::Idle(_));
            let waiting = self.pairs.iter().find(|(rtp, state)| idle(state) && !self.ready.contains(rtp));
            let Some(rtp) = waiting.map(|(&rtp, _)| rtp).or_else(|| self.ready.first().copied()) else { return };
            self.unbind(rtp, commands);
        }
    }

    pub(super) fn unbind_outdated(&mut self, rtp: u16, commands: &mut VecDeque<Command>) {
        if self.outdated.contains(&rtp) {
            match self.pairs.get(&rtp) {
                Some(State::Idle(_)) => self.unbind(rtp, commands),
                Some(State::Binding | State::Live(_) | State::Resting) => return,
                None => {}
            }
            self.outdated.remove(&rtp);
        }
    }

    fn unbind(&mut self, rtp: u16, commands: &mut VecDeque<Command>) {
        self.remove(rtp);
        self.fresh.push(rtp);
        commands.push_back(Command::Unbind { pair: self.pair(rtp) });
    }

    /// Idle, being bound or being discovered.
    fn warm(&self) -> usize {
        self.pairs.len() - self.live - self.resting
    }

    fn reserve(&self, reserve: usize) -> usize {
        if self.discover { reserve.max(self.live + 2).min(MOST_MAPPED) } else { reserve }
    }

    pub(super) fn most(&self, reserve: usize) -> usize {
        let most = self.reserve(reserve) + SLACK;
        if self.discover { most.min(MOST_MAPPED) } else { most }
    }

    /// The one place where a pair changes its state.
    pub(super) fn put(&mut self, rtp: u16, state: State) {
        self.remove(rtp);
        self.pairs.insert(rtp, state);
        match state {
            State::Binding => {}
            State::Idle(mapped) if self.discover && mapped.is_none() => {}
            State::Idle(_) => self.ready.push(rtp),
            State::Live(_) => self.live += 1,
            State::Resting => self.resting += 1,
        }
    }

    pub(super) fn remove(&mut self, rtp: u16) {
        match self.pairs.remove(&rtp) {
            Some(State::Live(_)) => self.live -= 1,
            Some(State::Resting) => self.resting -= 1,
            Some(State::Idle(_)) => self.ready.retain(|&other| other != rtp),
            Some(State::Binding) | None => {}
        }
    }

    pub(super) fn mapped_to(&self, address: SocketAddr) -> bool {
        self.pairs.values().any(|state| match state {
            State::Idle(Some(mapped)) | State::Live(Some(mapped)) => mapped.contains(&Mapped(address)),
            State::Idle(None) | State::Live(None) | State::Binding | State::Resting => false,
        })
    }

    fn pair(&self, rtp: u16) -> PortPair {
        PortPair { ip: self.ip, rtp }
    }

    pub(super) fn counts(&self) -> Counts {
        let total = self.pairs.len() + self.fresh.len() + self.refused.len();
        let (idle, live, resting) = (self.ready.len(), self.live, self.resting);
        Counts { total, free: total - live - resting, idle, live, resting }
    }
}

/// Takes a random element out.
fn pick(from: &mut Vec<u16>, rng: &mut ChaCha20Rng) -> Option<u16> {
    let count = u64::try_from(from.len()).ok()?;
    let index = usize::try_from((u64::from(rng.next_u32()) * count) >> 32).ok()?;
    (index < from.len()).then(|| from.swap_remove(index))
}
