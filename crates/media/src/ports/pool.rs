//! One pool: the pairs of one range on one local address, and their states.
//!
//! Decides how many are kept bound, and which is taken. Every pair is in exactly
//! one place: a number in `fresh` or `refused`, or a state in `pairs`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use nat::Mapped;
use rand_chacha::ChaCha20Rng;
use rand_core::Rng;

use super::{Command, Counts, PortPair, Ready, Shortage};

/// Warm pairs cost a router mappings: no discovering pool keeps more.
const MOST_MAPPED: usize = 16;
/// Idle pairs over the reserve that are kept rather than closed.
const SLACK: usize = 4;

/// Pairs that were told and never heard rest side by side; where there are more, one of those that have rested
/// longest is taken before any other, and no further sockets are opened.
const MOST_UNHEARD: usize = 1024;

/// A bound pair, or one that is being bound. Others are numbers in `fresh` or `refused`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    Binding,
    Idle(Option<Arc<[Mapped; 2]>>),
    Live(Option<Arc<[Mapped; 2]>>),
    Resting,
}

impl State {
    fn mapped(&self) -> impl Iterator<Item = SocketAddr> {
        match self {
            Self::Idle(mapped) | Self::Live(mapped) => mapped.as_deref(),
            Self::Binding | Self::Resting => None,
        }
        .into_iter()
        .flatten()
        .map(|mapped| mapped.0)
    }
}

/// Whether a pair's sockets are discovered. Where both sides of siplatch share
/// one address, one range serves both: plain pairs and discovered ones.
pub(super) type Class = bool;

/// What a pool holds of one class.
#[derive(Debug, Default)]
struct Stock {
    /// Somebody takes pairs of this class.
    wanted: bool,
    /// An offer waits for so many at once.
    expected: usize,
    /// Pairs that can be taken.
    ready: Vec<u16>,
    /// Idle, being bound or being discovered.
    warm: usize,
    live: usize,
}

#[derive(Debug)]
pub(super) struct Pool {
    ip: IpAddr,
    pairs: BTreeMap<u16, (Class, State)>,
    /// Mapped addresses of those that are idle or live, and whose.
    mapped: BTreeSet<(SocketAddr, u16)>,
    stock: [Stock; 2],
    /// Not bound, never refused since the last round.
    pub(super) fresh: Vec<u16>,
    pub(super) refused: Vec<u16>,
    resting: usize,
    /// Resting pairs that were told and never heard, the longest rest first.
    unheard: VecDeque<u16>,
}

impl Pool {
    pub(super) fn new(ip: IpAddr, fresh: Vec<u16>) -> Self {
        Self {
            ip,
            pairs: BTreeMap::new(),
            mapped: BTreeSet::new(),
            stock: Default::default(),
            fresh,
            refused: Vec::new(),
            resting: 0,
            unheard: VecDeque::new(),
        }
    }

    /// From now on a reserve of this class is kept.
    pub(super) fn want(&mut self, class: Class) {
        self.stock[usize::from(class)].wanted = true;
    }

    pub(super) fn wants(&self, class: Class) -> bool {
        self.stock[usize::from(class)].wanted
    }

    /// Its pairs that are bound or being bound.
    pub(super) fn held(&self) -> impl Iterator<Item = (u16, Class, &State)> {
        self.pairs.iter().map(|(&rtp, (class, state))| (rtp, *class, state))
    }

    /// Takes over a pair that another pool has held.
    pub(super) fn adopt(&mut self, rtp: u16, class: Class, state: State) {
        self.fresh.retain(|&other| other != rtp);
        self.put(rtp, class, state);
    }

    /// An offer needs so many pairs at once; what is taken counts toward it.
    pub(super) fn expect(&mut self, class: Class, pairs: usize) {
        let stock = &mut self.stock[usize::from(class)];
        stock.expected = stock.expected.max(pairs);
    }

    pub(super) fn state(&self, rtp: u16) -> Option<&State> {
        self.pairs.get(&rtp).map(|(_, state)| state)
    }

    pub(super) fn take(&mut self, class: Class, rng: &mut ChaCha20Rng) -> Result<Ready, Shortage> {
        if self.unheard.len() > MOST_UNHEARD
            && let Some(ready) = self.take_unheard(class, rng)
        {
            return Ok(ready);
        }
        if let Some(rtp) = pick(&mut self.stock[usize::from(class)].ready, rng)
            && let Some(State::Idle(mapped)) = self.state(rtp).cloned()
        {
            return Ok(self.taken(rtp, class, mapped));
        }
        if self.stock[usize::from(class)].warm > 0 || !self.fresh.is_empty() {
            return Err(Shortage::NotReady);
        }
        self.take_unheard(class, rng).ok_or(Shortage::Exhausted)
    }

    /// Takes one of the half that has rested longest of the pairs that never
    /// carried anything: at random, for whoever was told of one might wait for its
    /// next call. One whose mapped addresses must be known cannot go at once.
    fn take_unheard(&mut self, class: Class, rng: &mut ChaCha20Rng) -> Option<Ready> {
        if class {
            return None;
        }
        let index = below(self.unheard.len().div_ceil(2), rng)?;
        let rtp = *self.unheard.get(index)?;
        if !matches!(self.pairs.get(&rtp), Some((false, State::Resting))) {
            return None;
        }
        self.unheard.swap(0, index);
        Some(self.taken(rtp, class, None))
    }

    fn taken(&mut self, rtp: u16, class: Class, mapped: Option<Arc<[Mapped; 2]>>) -> Ready {
        self.put(rtp, class, State::Live(mapped.clone()));
        let stock = &mut self.stock[usize::from(class)];
        stock.expected = stock.expected.saturating_sub(1);
        Ready { pair: self.pair(rtp), mapped: mapped.filter(|_| class) }
    }

    /// Pairs of either kind that are idle, on the way, or could be bound.
    pub(super) fn available(&self) -> usize {
        self.fresh.len() + self.unheard.len() + self.stock.iter().map(|stock| stock.warm).sum::<usize>()
    }

    /// Binds random numbers until the reserves are there or on the way.
    pub(super) fn fill(&mut self, reserve: usize, rng: &mut ChaCha20Rng, commands: &mut VecDeque<Command>) {
        // The class that runs short comes first.
        let order = if self.stock[1].warm < self.stock[0].warm { [true, false] } else { [false, true] };
        for class in order {
            while self.stock[usize::from(class)].warm < self.reserve(class, reserve)
                && let Some(rtp) = pick(&mut self.fresh, rng)
            {
                self.put(rtp, class, State::Binding);
                commands.push_back(Command::Bind { pair: self.pair(rtp), discover: class });
            }
        }
    }

    /// Closes idle pairs over what is worth keeping; those without a mapping first.
    pub(super) fn trim(&mut self, reserve: usize, commands: &mut VecDeque<Command>) {
        for class in [false, true] {
            while self.stock[usize::from(class)].warm > self.most(class, reserve) {
                let ready = &self.stock[usize::from(class)].ready;
                let idle = |(of, state): &(Class, State)| *of == class && matches!(state, State::Idle(_));
                let waiting = self.pairs.iter().find(|(rtp, pair)| idle(pair) && !ready.contains(rtp));
                let Some(rtp) = waiting.map(|(&rtp, _)| rtp).or_else(|| ready.first().copied()) else { break };
                self.remove(rtp);
                self.fresh.push(rtp);
                commands.push_back(Command::Unbind { pair: self.pair(rtp) });
            }
        }
    }

    /// Nothing is left for the other class: an idle pair of this one is bound
    /// anew for it, at once, or this one would take it back.
    pub(super) fn yield_one(&mut self, class: Class, commands: &mut VecDeque<Command>) -> bool {
        let Some(rtp) = self.stock[usize::from(class)].ready.first().copied() else { return false };
        let pair = self.pair(rtp);
        self.put(rtp, !class, State::Binding);
        commands.extend([Command::Unbind { pair }, Command::Bind { pair, discover: !class }]);
        true
    }

    /// A pair rests of which a peer was told, and which carried nothing.
    pub(super) fn rest_unheard(&mut self, rtp: u16) {
        self.set(rtp, State::Resting);
        self.unheard.push_back(rtp);
    }

    /// Nothing else is left, and none that can be taken as it is: of the pairs that
    /// never carried anything the one that has rested longest is bound anew.
    pub(super) fn wake_one(&mut self, class: Class, commands: &mut VecDeque<Command>) -> bool {
        let Some(rtp) = self.unheard.front().copied() else { return false };
        let pair = self.pair(rtp);
        self.put(rtp, class, State::Binding);
        commands.extend([Command::Unbind { pair }, Command::Bind { pair, discover: class }]);
        true
    }

    fn reserve(&self, class: Class, reserve: usize) -> usize {
        let stock = &self.stock[usize::from(class)];
        match (stock.wanted, class) {
            (false, _) => 0,
            (true, false) => reserve.max(stock.expected),
            (true, true) => reserve.max(stock.live + 2).max(stock.expected).min(MOST_MAPPED),
        }
    }

    fn most(&self, class: Class, reserve: usize) -> usize {
        let most = self.reserve(class, reserve) + SLACK;
        if class { most.min(MOST_MAPPED) } else { most }
    }

    /// A bound pair changes its state and keeps its class.
    pub(super) fn set(&mut self, rtp: u16, state: State) {
        if let Some(&(class, _)) = self.pairs.get(&rtp) {
            self.put(rtp, class, state);
        }
    }

    /// The one place where a pair's state is written.
    fn put(&mut self, rtp: u16, class: Class, state: State) {
        // In its place where it has one: the tree is not changed for a change of state.
        if let Some((class, former)) = self.pairs.insert(rtp, (class, state.clone())) {
            self.forget(rtp, class, &former);
        }
        self.mapped.extend(state.mapped().map(|address| (address, rtp)));
        let stock = &mut self.stock[usize::from(class)];
        match &state {
            State::Binding => stock.warm += 1,
            State::Idle(mapped) => {
                stock.warm += 1;
                if !class || mapped.is_some() {
                    stock.ready.push(rtp);
                }
            }
            State::Live(_) => stock.live += 1,
            State::Resting => self.resting += 1,
        }
    }

    pub(super) fn remove(&mut self, rtp: u16) {
        if let Some((class, state)) = self.pairs.remove(&rtp) {
            self.forget(rtp, class, &state);
        }
    }

    /// What is counted of a state ends with it.
    fn forget(&mut self, rtp: u16, class: Class, state: &State) {
        for address in state.mapped() {
            self.mapped.remove(&(address, rtp));
        }
        let stock = &mut self.stock[usize::from(class)];
        match state {
            State::Binding => stock.warm -= 1,
            State::Idle(_) => {
                stock.warm -= 1;
                stock.ready.retain(|&other| other != rtp);
            }
            State::Live(_) => stock.live -= 1,
            State::Resting => {
                self.resting -= 1;
                // It is nearly always the one that has rested longest.
                if self.unheard.pop_front_if(|other| *other == rtp).is_none() {
                    self.unheard.retain(|&other| other != rtp);
                }
            }
        }
    }

    pub(super) fn holds(&self, rtp: u16) -> bool {
        self.pairs.contains_key(&rtp)
    }

    pub(super) fn mapped_to(&self, address: SocketAddr) -> bool {
        self.mapped.range((address, 0)..=(address, u16::MAX)).next().is_some()
    }

    fn pair(&self, rtp: u16) -> PortPair {
        PortPair { ip: self.ip, rtp }
    }

    pub(super) fn counts(&self) -> Counts {
        let total = self.pairs.len() + self.fresh.len() + self.refused.len();
        let idle = self.stock.iter().map(|stock| stock.ready.len()).sum();
        let (live, resting) = (self.stock.iter().map(|stock| stock.live).sum(), self.resting);
        Counts { total, free: total - live - resting, idle, live, resting }
    }
}

/// Takes a random element out.
fn pick(from: &mut Vec<u16>, rng: &mut ChaCha20Rng) -> Option<u16> {
    below(from.len(), rng).map(|index| from.swap_remove(index))
}

/// A random number below `count`; `None` if there is none.
fn below(count: usize, rng: &mut ChaCha20Rng) -> Option<usize> {
    let index = usize::try_from((u64::from(rng.next_u32()) * u64::try_from(count).ok()?) >> 32).ok()?;
    (index < count).then_some(index)
}
