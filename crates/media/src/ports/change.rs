//! Other ranges while calls are up: pairs that are held stay held. One whose
//! port belongs to a range of the new configuration moves to that range's
//! pool; one that belongs to none any more is kept until its call is over and
//! it has rested, then closed.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use nat::Mapped;

use super::pool::{Class, Pool, State};
use super::{Command, Event, Past, Pools, PortPair, PortRange, RangeId};

/// Pairs that no range holds any more.
pub(super) type Leftovers = BTreeMap<PortPair, State>;

impl Pools {
    /// From now on these ranges and this reserve count. Nobody loses a pair;
    /// idle ones outside the ranges are closed at once.
    pub fn reconfigure(&mut self, ranges: Vec<PortRange>, reserve: usize) {
        let before = std::mem::replace(&mut self.ranges, ranges);
        self.reserve = reserve.max(1);
        let mut held: Vec<(PortPair, Class, State)> = Vec::new();
        for ((ip, id), pool) in std::mem::take(&mut self.pools) {
            let stays = before.get(usize::from(id.0)).and_then(|range| self.ranges.iter().position(|r| r == range));
            if let Some(id) = stays.and_then(|at| u16::try_from(at).ok()).map(RangeId) {
                let next = self.pool(ip, id);
                [false, true].into_iter().filter(|class| pool.wants(*class)).for_each(|class| next.want(class));
            }
            held.extend(pool.held().map(|(rtp, class, state)| (PortPair { ip, rtp }, class, state.clone())));
        }
        let leftovers = std::mem::take(&mut self.leftovers);
        held.extend(leftovers.into_iter().map(|(pair, state)| (pair, false, state)));
        for (pair, class, state) in held {
            match self.owner(pair.rtp) {
                Some(id) => self.pool(pair.ip, id).adopt(pair.rtp, class, state),
                None => match state {
                    State::Idle(_) => self.commands.push_back(Command::Unbind { pair }),
                    State::Binding | State::Live(_) | State::Resting => {
                        self.leftovers.insert(pair, state);
                    }
                },
            }
        }
        for pool in self.pools.values_mut() {
            pool.trim(self.reserve, &mut self.commands);
            pool.fill(self.reserve, &mut self.rng, &mut self.commands);
        }
    }

    /// The pool of a range on a local address, made if it is not there.
    pub(super) fn pool(&mut self, ip: IpAddr, id: RangeId) -> &mut Pool {
        let range = self.ranges.get(usize::from(id.0)).copied();
        let fresh = |pools: &Self| -> Vec<u16> {
            let pairs = range.into_iter().flat_map(PortRange::pairs);
            pairs.filter(|&rtp| pools.owner(rtp) == Some(id)).collect()
        };
        let numbers = if self.pools.contains_key(&(ip, id)) { Vec::new() } else { fresh(self) };
        self.pools.entry((ip, id)).or_insert_with(|| Pool::new(ip, numbers))
    }

    /// True when the pair was one that no range holds any more: its call is over.
    pub(super) fn returned(&mut self, pair: PortPair, past: Past) -> bool {
        let Some(state) = self.leftovers.get_mut(&pair) else { return false };
        if matches!(state, State::Live(_)) {
            *state = State::Resting;
            if past == Past::Untold {
                self.dismiss(pair);
            }
        }
        true
    }

    /// True when the event was of a pair that no range holds any more.
    pub(super) fn of_leftover(&mut self, event: Event) -> bool {
        let (Event::Bound { pair }
        | Event::Refused { pair }
        | Event::Mapped { pair, .. }
        | Event::Unmapped { pair }
        | Event::Rested { pair }) = event;
        let Some(state) = self.leftovers.get_mut(&pair) else { return false };
        match (event, &state) {
            (Event::Bound { .. }, State::Binding) | (Event::Rested { .. }, State::Resting) => self.dismiss(pair),
            (Event::Refused { .. }, State::Binding | State::Resting) => {
                self.leftovers.remove(&pair);
            }
            (Event::Mapped { rtp, rtcp, .. }, State::Live(_)) => *state = State::Live(Some(Arc::new([rtp, rtcp]))),
            (Event::Unmapped { .. }, State::Live(_)) => *state = State::Live(None),
            (
                Event::Bound { .. }
                | Event::Rested { .. }
                | Event::Refused { .. }
                | Event::Mapped { .. }
                | Event::Unmapped { .. },
                State::Binding | State::Idle(_) | State::Live(_) | State::Resting,
            ) => {}
        }
        true
    }

    /// Is this one of them, by its local or its mapped address?
    pub(super) fn is_leftover(&self, address: SocketAddr) -> bool {
        let (ip, rtp) = (address.ip().to_canonical(), address.port() & !1);
        self.leftovers.iter().any(|(pair, state)| {
            let mapped = matches!(state, State::Live(Some(mapped)) if mapped.contains(&Mapped(address)));
            mapped || (pair.ip.to_canonical() == ip && pair.rtp == rtp)
        })
    }

    fn dismiss(&mut self, pair: PortPair) {
        self.leftovers.remove(&pair);
        self.commands.push_back(Command::Unbind { pair });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::Shortage;

    const IP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const OLD: PortRange = PortRange { first: 30_000, last: 30_019 };
    const NEW: PortRange = PortRange { first: 40_000, last: 40_019 };

    /// Obeys every command; returns the pairs that were bound and those that were closed.
    fn obey(pools: &mut Pools) -> [Vec<u16>; 2] {
        let mut seen = [Vec::new(), Vec::new()];
        while let Some(command) = pools.poll_command() {
            match command {
                Command::Bind { pair, discover: _ } => {
                    seen[0].push(pair.rtp);
                    pools.handle_event(Event::Bound { pair });
                }
                Command::Unbind { pair } => seen[1].push(pair.rtp),
            }
        }
        seen
    }

    fn pools(ranges: &[PortRange]) -> Pools {
        let mut pools = Pools::new(ranges.to_vec(), 2, [3; 32]);
        pools.want(IP, RangeId(0), false);
        obey(&mut pools);
        pools
    }

    fn take(pools: &mut Pools, range: u16) -> PortPair {
        loop {
            match pools.take(IP, RangeId(range), false) {
                Ok(ready) => return ready.pair,
                Err(Shortage::NotReady) => obey(pools),
                Err(Shortage::Exhausted) => panic!("no pair is left"),
            };
        }
    }

    #[test]
    fn a_range_that_is_gone_drains_and_running_calls_keep_their_pairs() {
        let mut pools = pools(&[OLD]);
        let (used, unused) = (take(&mut pools, 0), take(&mut pools, 0));
        obey(&mut pools);
        pools.reconfigure(vec![NEW], 2);
        pools.want(IP, RangeId(0), false);
        let [bound, closed] = obey(&mut pools);
        assert!(bound.len() == 2 && bound.iter().all(|rtp| NEW.holds(*rtp)), "{bound:?}");
        assert!(closed.len() == 2 && !closed.contains(&used.rtp) && !closed.contains(&unused.rtp), "{closed:?}");
        assert!(pools.owns(used.rtp()) && pools.owns(unused.rtcp()));
        assert!(NEW.holds(take(&mut pools, 0).rtp));
        obey(&mut pools);

        pools.give_back(unused, Past::Untold);
        assert_eq!(obey(&mut pools), [vec![], vec![unused.rtp]]);
        pools.give_back(used, Past::Used);
        assert_eq!(obey(&mut pools), [vec![], vec![]], "it rests first");
        pools.handle_event(Event::Rested { pair: used });
        assert_eq!(obey(&mut pools), [vec![], vec![used.rtp]]);
        assert!(!pools.owns(used.rtp()));
    }

    #[test]
    fn a_range_that_stays_keeps_its_pairs_whatever_its_place() {
        let mut pools = pools(&[OLD]);
        let pair = take(&mut pools, 0);
        obey(&mut pools);
        let before: Vec<_> = pools.counts().map(|(.., counts)| counts).collect();
        pools.reconfigure(vec![NEW, OLD], 2);
        assert_eq!(obey(&mut pools), [vec![], vec![]]);
        assert_eq!(pools.counts().map(|(.., counts)| counts).collect::<Vec<_>>(), before);
        pools.give_back(pair, Past::Untold);
        assert!(obey(&mut pools)[0].is_empty());
        assert_eq!(pools.counts().next().map(|(_, id, counts)| (id, counts.live)), Some((RangeId(1), 0)));
    }

    #[test]
    fn a_narrower_range_takes_over_what_is_inside_it_and_gets_the_rest_back_later() {
        let mut pools = pools(&[OLD]);
        let pairs: Vec<_> = (0..10).map(|_| take(&mut pools, 0)).collect();
        obey(&mut pools);
        let half = PortRange { first: 30_000, last: 30_009 };
        pools.reconfigure(vec![half], 2);
        pools.want(IP, RangeId(0), false);
        assert_eq!(pools.take(IP, RangeId(0), false), Err(Shortage::Exhausted));
        assert_eq!(pools.counts().map(|(.., counts)| counts.live).sum::<usize>(), 5);
        pools.reconfigure(vec![OLD], 2);
        assert_eq!(pools.counts().map(|(.., counts)| counts.live).sum::<usize>(), 10);
        for pair in pairs {
            pools.give_back(pair, Past::Untold);
        }
        obey(&mut pools);
        assert_eq!(pools.counts().map(|(.., counts)| (counts.free, counts.total)).collect::<Vec<_>>(), [(10, 10)]);
    }
}
