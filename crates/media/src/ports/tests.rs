//! Pools against a model of `net` that binds, refuses, discovers and rests at random.

use std::collections::BTreeSet;

use rand_core::Rng;

use super::*;

const IP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

fn range(first: u16, last: u16) -> PortRange {
    PortRange { first, last }
}

fn pools(ranges: &[PortRange]) -> Pools {
    Pools::new(ranges.to_vec(), 4, [3; 32])
}

fn mapped(pair: PortPair) -> [Mapped; 2] {
    let outside = |port: u16| Mapped(SocketAddr::new(IpAddr::from([203, 0, 113, 1]), port ^ 0x1234));
    [outside(pair.rtp), outside(pair.rtp | 1)]
}

/// Obeys every command at once; `refuse` says which ports are somebody else's.
fn obey(pools: &mut Pools, refuse: impl Fn(PortPair) -> bool) -> Vec<Command> {
    let mut seen = Vec::new();
    while let Some(command) = pools.poll_command() {
        seen.push(command);
        if let Command::Bind { pair, discover } = command {
            if refuse(pair) {
                pools.handle_event(Event::Refused { pair });
                continue;
            }
            pools.handle_event(Event::Bound { pair });
            if discover {
                let [rtp, rtcp] = mapped(pair);
                pools.handle_event(Event::Mapped { pair, rtp, rtcp });
            }
        }
    }
    seen
}

fn counts(pools: &Pools) -> Counts {
    pools.counts().next().expect("a pool").2
}

/// Everything that a pool gives, until it has no more.
fn drain(pools: &mut Pools, id: RangeId) -> Vec<u16> {
    let mut taken = Vec::new();
    loop {
        obey(pools, |_| false);
        match pools.take(IP, id, false) {
            Ok(ready) => taken.push(ready.pair.rtp),
            Err(Shortage::NotReady) => {}
            Err(Shortage::Exhausted) => return taken,
        }
    }
}

#[test]
fn pairs_of_a_range() {
    for (first, last, pairs) in [
        (30_000, 30_003, &[30_000, 30_002][..]),
        (30_001, 30_004, &[30_002]),
        (30_000, 30_000, &[]),
        (30_001, 30_002, &[]),
        (30_003, 30_000, &[]),
        (0, 3, &[2]),
        (0, 0, &[]),
        (65_533, 65_535, &[65_534]),
    ] {
        let mut pools = pools(&[range(first, last)]);
        pools.want(IP, RangeId(0), false);
        let mut taken = drain(&mut pools, RangeId(0));
        taken.sort_unstable();
        assert_eq!(taken, pairs, "{first}-{last}");
        assert_eq!(counts(&pools), Counts { total: pairs.len(), live: pairs.len(), ..Counts::default() });
    }
}

#[test]
fn a_pair_belongs_to_the_narrowest_range() {
    let ranges = [range(30_000, 30_099), range(30_010, 30_019), range(30_015, 30_017), range(30_010, 30_019)];
    let mut pools = pools(&ranges);
    // The wide one first, and alone: the others' pairs stay theirs even before they are asked for.
    pools.want(IP, RangeId(0), false);
    let wide: BTreeSet<_> = drain(&mut pools, RangeId(0)).into_iter().collect();
    assert_eq!(wide, (30_000..30_100).step_by(2).filter(|p| !(30_010..30_020).contains(p)).collect());
    for id in [2, 1] {
        pools.want(IP, RangeId(id), false);
    }
    assert_eq!(drain(&mut pools, RangeId(2)), [30_016]);
    let middle: BTreeSet<_> = drain(&mut pools, RangeId(1)).into_iter().collect();
    assert_eq!(middle, BTreeSet::from([30_010, 30_012, 30_014, 30_018]));
    // Ranges with the same ends are one pool.
    assert_eq!(pools.take(IP, RangeId(3), false), Err(Shortage::Exhausted));
    pools.give_back(PortPair { ip: IP, rtp: 30_012 }, Past::Untold);
    assert_eq!(pools.take(IP, RangeId(3), false).map(|ready| ready.pair.rtp), Ok(30_012));
    // Another address has pools of its own.
    let other = IpAddr::from([10, 0, 0, 2]);
    assert_eq!(pools.take(other, RangeId(0), false), Err(Shortage::Exhausted));
    pools.want(other, RangeId(0), false);
    assert_eq!(pools.take(other, RangeId(0), false), Err(Shortage::NotReady));
}

#[test]
fn a_reserve_is_bound_ahead_and_refilled() {
    let mut pools = pools(&[range(30_000, 30_999)]);
    assert_eq!(pools.take(IP, RangeId(0), false), Err(Shortage::Exhausted), "nobody wanted it");
    assert_eq!(pools.take(IP, RangeId(9), false), Err(Shortage::Exhausted));
    pools.want(IP, RangeId(0), false);
    pools.want(IP, RangeId(0), false);
    assert_eq!(pools.take(IP, RangeId(0), false), Err(Shortage::NotReady));
    assert_eq!(obey(&mut pools, |_| false).len(), 4);
    assert_eq!(counts(&pools), Counts { total: 500, free: 500, idle: 4, live: 0, resting: 0 });
    let ready = pools.take(IP, RangeId(0), false).expect("a reserve");
    assert_eq!(ready.mapped, None);
    assert_eq!(obey(&mut pools, |_| false).len(), 1);
    assert_eq!(counts(&pools), Counts { total: 500, free: 499, idle: 4, live: 1, resting: 0 });
    assert!(pools.owns(ready.pair.rtp()) && pools.owns(ready.pair.rtcp()));
    assert!(!pools.owns("10.0.0.2:30000".parse().unwrap()) && !pools.owns("10.0.0.1:40000".parse().unwrap()));
}

#[test]
fn a_pair_on_its_way_is_no_exhaustion() {
    let mut pools = pools(&[range(30_000, 30_001)]);
    pools.want(IP, RangeId(0), true);
    let pair = PortPair { ip: IP, rtp: 30_000 };
    assert_eq!(pools.poll_command(), Some(Command::Bind { pair, discover: true }));
    assert_eq!(pools.take(IP, RangeId(0), true), Err(Shortage::NotReady));
    pools.handle_event(Event::Bound { pair });
    assert_eq!(pools.take(IP, RangeId(0), true), Err(Shortage::NotReady));
    let [rtp, rtcp] = mapped(pair);
    pools.handle_event(Event::Mapped { pair, rtp, rtcp });
    assert!(pools.take(IP, RangeId(0), true).is_ok());
    assert_eq!(pools.take(IP, RangeId(0), true), Err(Shortage::Exhausted));
}

#[test]
fn a_used_pair_rests_and_an_unused_one_returns_at_once() {
    let mut pools = pools(&[range(30_000, 30_003)]);
    pools.want(IP, RangeId(0), false);
    assert_eq!(drain(&mut pools, RangeId(0)).len(), 2);
    let pair = PortPair { ip: IP, rtp: 30_002 };
    pools.handle_event(Event::Rested { pair }); // of an earlier life: ignored
    pools.give_back(pair, Past::Used);
    pools.give_back(pair, Past::Untold); // twice: ignored
    assert_eq!(pools.take(IP, RangeId(0), false), Err(Shortage::Exhausted));
    assert_eq!(counts(&pools).resting, 1);
    pools.handle_event(Event::Rested { pair });
    assert_eq!(pools.take(IP, RangeId(0), false).map(|ready| ready.pair), Ok(pair));
    pools.give_back(pair, Past::Untold);
    assert_eq!(pools.take(IP, RangeId(0), false).map(|ready| ready.pair), Ok(pair));
    for stray in [PortPair { ip: IP, rtp: 30_001 }, PortPair { ip: IP, rtp: 9 }] {
        pools.give_back(stray, Past::Untold);
        pools.handle_event(Event::Bound { pair: stray });
    }
    assert_eq!(counts(&pools).live, 2);
}

#[test]
fn a_pair_that_was_told_rests_too_unless_no_other_is_left() {
    let mut pools = pools(&[range(30_000, 30_005)]);
    pools.want(IP, RangeId(0), false);
    assert_eq!(drain(&mut pools, RangeId(0)).len(), 3);
    let [used, told, later] = [30_000, 30_002, 30_004].map(|rtp| PortPair { ip: IP, rtp });
    pools.give_back(used, Past::Used);
    pools.give_back(told, Past::Told);
    pools.give_back(later, Past::Told);
    assert_eq!((counts(&pools).resting, counts(&pools).idle), (3, 0));
    pools.handle_event(Event::Rested { pair: later });
    pools.give_back(told, Past::Told); // twice: ignored
    assert_eq!(pools.take(IP, RangeId(0), false).map(|ready| ready.pair), Ok(later), "the one that has rested");
    // Whoever needs one now gets the told one as it is, and never the used one.
    assert!(pools.can_serve(IP, RangeId(0), 1) && !pools.can_serve(IP, RangeId(0), 2));
    assert_eq!(pools.take(IP, RangeId(0), false).map(|ready| ready.pair), Ok(told));
    assert_eq!(obey(&mut pools, |_| false), []);
    pools.handle_event(Event::Rested { pair: told }); // of its rest before: ignored
    assert_eq!(pools.take(IP, RangeId(0), false), Err(Shortage::Exhausted));
    assert_eq!((counts(&pools).resting, counts(&pools).live), (1, 2));
}

#[test]
fn a_told_pair_is_bound_anew_where_its_mapped_addresses_are_wanted() {
    let mut pools = pools(&[range(30_000, 30_001)]);
    pools.want(IP, RangeId(0), false);
    assert_eq!(drain(&mut pools, RangeId(0)).len(), 1);
    let told = PortPair { ip: IP, rtp: 30_000 };
    pools.give_back(told, Past::Told);
    assert_eq!(pools.take(IP, RangeId(0), true), Err(Shortage::NotReady));
    let commands = obey(&mut pools, |_| false);
    assert_eq!(commands, [Command::Unbind { pair: told }, Command::Bind { pair: told, discover: true }]);
}

#[test]
fn under_many_calls_without_packets_pairs_go_from_one_to_the_next() {
    let mut pools = pools(&[range(20_000, 29_999)]);
    pools.want(IP, RangeId(0), false);
    obey(&mut pools, |_| false);
    let mut last: BTreeMap<PortPair, usize> = BTreeMap::new();
    let (mut opened, mut again, mut soonest) = (0, 0, usize::MAX);
    for call in 0..10_000 {
        let pair = pools.take(IP, RangeId(0), false).unwrap().pair;
        if let Some(before) = last.insert(pair, call) {
            again += 1;
            soonest = soonest.min(call - before);
        }
        pools.give_back(pair, Past::Told);
        opened += obey(&mut pools, |_| false).len();
    }
    assert!(opened < 1100 && again > 8900, "{opened} opened, {again} taken again");
    assert!(soonest > 512, "the soonest after {soonest} others");
    assert_eq!(counts(&pools).live, 0);
}

#[test]
fn refused_ports_are_tried_again_after_all_others() {
    let mut pools = pools(&[range(30_000, 30_019)]);
    pools.want(IP, RangeId(0), false);
    let refuse = |pair: PortPair| pair.rtp < 30_016;
    let mut taken = BTreeSet::new();
    for _ in 0..3 {
        let commands = obey(&mut pools, refuse);
        assert!(commands.len() <= 10, "no busy loop: {commands:?}");
        if let Ok(ready) = pools.take(IP, RangeId(0), false) {
            taken.insert(ready.pair.rtp);
        }
    }
    assert_eq!(taken, BTreeSet::from([30_016, 30_018]));
    // That last failure has queued a new round; meanwhile the ports have become free.
    assert_eq!(pools.take(IP, RangeId(0), false), Err(Shortage::NotReady));
    assert_eq!(drain(&mut pools, RangeId(0)).len(), 8);
    assert_eq!(counts(&pools).live, 10);
}

#[test]
fn a_discovered_pair_is_ready_only_with_both_mappings() {
    let mut pools = pools(&[range(30_000, 30_099)]);
    pools.want(IP, RangeId(0), true);
    let mut pairs = Vec::new();
    while let Some(Command::Bind { pair, discover }) = pools.poll_command() {
        assert!(discover);
        pools.handle_event(Event::Bound { pair });
        pairs.push(pair);
    }
    assert_eq!(pools.take(IP, RangeId(0), true), Err(Shortage::NotReady));
    let [rtp, rtcp] = mapped(pairs[0]);
    pools.handle_event(Event::Mapped { pair: pairs[0], rtp, rtcp });
    pools.handle_event(Event::Unmapped { pair: pairs[0] });
    assert_eq!(pools.take(IP, RangeId(0), true), Err(Shortage::NotReady));
    pools.handle_event(Event::Mapped { pair: pairs[0], rtp: rtcp, rtcp: rtp });
    pools.handle_event(Event::Mapped { pair: pairs[0], rtp, rtcp });
    assert_eq!(
        pools.take(IP, RangeId(0), true),
        Ok(Ready { pair: pairs[0], mapped: Some(std::sync::Arc::new([rtp, rtcp])) })
    );
    assert!(pools.owns(rtp.0));
    // Rested, it must be discovered again; unused, it still is.
    pools.give_back(pairs[0], Past::Used);
    pools.handle_event(Event::Rested { pair: pairs[0] });
    assert_eq!(pools.take(IP, RangeId(0), true), Err(Shortage::NotReady));
    assert!(!pools.owns(rtp.0));
    pools.handle_event(Event::Mapped { pair: pairs[0], rtp, rtcp });
    assert!(pools.take(IP, RangeId(0), true).is_ok());
    pools.give_back(pairs[0], Past::Untold);
    assert!(pools.take(IP, RangeId(0), true).is_ok());
}

#[test]
fn warm_mappings_follow_the_calls() {
    let mut pools = pools(&[range(30_000, 30_199)]);
    pools.want(IP, RangeId(0), true);
    let mut live = Vec::new();
    for calls in 0..40 {
        obey(&mut pools, |_| false);
        assert_eq!(counts(&pools).idle, (calls + 2).clamp(4, 16), "{calls} calls");
        live.push(pools.take(IP, RangeId(0), true).expect("warm").pair);
    }
    for pair in live {
        pools.give_back(pair, Past::Untold);
        obey(&mut pools, |_| false);
        assert!(counts(&pools).idle <= 16);
    }
    assert_eq!(counts(&pools), Counts { total: 100, free: 100, idle: 8, live: 0, resting: 0 });
}

#[test]
fn one_pool_serves_a_discovered_side_and_a_plain_one() {
    let mut pools = pools(&[range(30_000, 30_099)]);
    pools.want(IP, RangeId(0), false);
    pools.want(IP, RangeId(0), true);
    obey(&mut pools, |_| false);
    let plain = pools.take(IP, RangeId(0), false).expect("bound");
    let discovered = pools.take(IP, RangeId(0), true).expect("discovered");
    assert!(plain.mapped.is_none() && discovered.mapped.is_some());
    assert_ne!(plain.pair, discovered.pair);
}

#[test]
fn the_last_pairs_go_to_whoever_asks() {
    let mut pools = pools(&[range(30_000, 30_007)]);
    pools.want(IP, RangeId(0), true);
    pools.want(IP, RangeId(0), false);
    obey(&mut pools, |_| false);
    for taken in 0..4 {
        let ready = pools.take(IP, RangeId(0), true).or_else(|shortage| {
            assert_eq!(shortage, Shortage::NotReady, "after {taken}");
            obey(&mut pools, |_| false);
            pools.take(IP, RangeId(0), true)
        });
        assert!(ready.is_ok_and(|ready| ready.mapped.is_some()));
        obey(&mut pools, |_| false);
    }
    assert_eq!(pools.take(IP, RangeId(0), true), Err(Shortage::Exhausted));
    assert_eq!(pools.take(IP, RangeId(0), false), Err(Shortage::Exhausted));
    assert!(pools.can_serve(IP, RangeId(0), 0) && !pools.can_serve(IP, RangeId(0), 1));
}

#[test]
fn choice_is_random_and_the_seed_decides() {
    let order = |seed| {
        let mut pools = Pools::new(vec![range(30_000, 30_999)], 4, [seed; 32]);
        pools.want(IP, RangeId(0), false);
        drain(&mut pools, RangeId(0))
    };
    let (one, two) = (order(1), order(2));
    assert_eq!(one, order(1));
    assert_ne!(one, two);
    let steps = one.windows(2).filter(|w| w[0].abs_diff(w[1]) <= 2).count();
    assert!(steps < 20, "{steps} of 499 are next to their predecessor");
}

/// Never a pair twice, never outside the range, all come back: for many seeds
/// and a `net` that refuses, loses mappings and takes its time.
#[test]
fn no_pair_is_lost_or_handed_out_twice() {
    for seed in 0..60 {
        let mut rng = ChaCha20Rng::from_seed([seed; 32]);
        let mut dice = |n: u32| rng.next_u32() % n;
        let ranges = [range(30_000, 30_079), range(30_020, 30_033), range(30_031, 30_040), range(30_070, 30_090)];
        let discover = [dice(2) == 0, dice(2) == 0, dice(2) == 0, dice(2) == 0];
        let mut pools = Pools::new(ranges.to_vec(), 1 + dice(5) as usize, [seed; 32]);
        let mut binding = Vec::new();
        let mut bound: BTreeMap<PortPair, bool> = BTreeMap::new();
        let mut live: Vec<PortPair> = Vec::new();
        let (mut resting, mut unheard): (Vec<PortPair>, Vec<PortPair>) = Default::default();
        for id in 0..4 {
            pools.want(IP, RangeId(id), discover[usize::from(id)]);
        }
        for step in 0..4_000 {
            match dice(6) {
                0 | 1 if !binding.is_empty() => {
                    let index = dice(binding.len() as u32) as usize;
                    let (pair, discover) = binding.swap_remove(index);
                    if dice(10) == 0 && step < 3_000 {
                        pools.handle_event(Event::Refused { pair });
                    } else {
                        bound.insert(pair, discover);
                        pools.handle_event(Event::Bound { pair });
                    }
                }
                2 => {
                    let discovering: Vec<_> = bound.iter().filter(|(_, d)| **d).map(|(p, _)| *p).collect();
                    if let Some(&pair) = discovering.get(dice(1 + discovering.len() as u32) as usize) {
                        let [rtp, rtcp] = mapped(pair);
                        pools.handle_event(match dice(5) {
                            0 => Event::Unmapped { pair },
                            _ => Event::Mapped { pair, rtp, rtcp },
                        });
                    }
                }
                3 => {
                    let id = dice(4) as u16;
                    if let Ok(ready) = pools.take(IP, RangeId(id), discover[usize::from(id)]) {
                        let (rtp, own) = (ready.pair.rtp, ranges[usize::from(id)]);
                        assert!(rtp % 2 == 0 && own.holds(rtp), "outside the range");
                        assert!(!live.contains(&ready.pair), "handed out twice");
                        assert!(!resting.contains(&ready.pair), "handed out unrested");
                        if let Some(at) = unheard.iter().position(|other| *other == ready.pair) {
                            // Nothing else was left.
                            assert!(!discover[usize::from(id)]);
                            assert!(pools.pools[&(IP, RangeId(id))].fresh.is_empty());
                            unheard.swap_remove(at);
                        }
                        assert!(bound.contains_key(&ready.pair), "handed out unbound");
                        assert_eq!(ready.mapped.is_some(), discover[usize::from(id)]);
                        live.push(ready.pair);
                    }
                }
                4 if !live.is_empty() => {
                    let pair = live.swap_remove(dice(live.len() as u32) as usize);
                    let past = [Past::Untold, Past::Told, Past::Used][dice(3) as usize];
                    pools.give_back(pair, past);
                    match past {
                        Past::Untold => {}
                        Past::Told => unheard.push(pair),
                        Past::Used => resting.push(pair),
                    }
                }
                5 => {
                    let from = if dice(2) == 0 { &mut resting } else { &mut unheard };
                    if !from.is_empty() {
                        let pair = from.swap_remove(dice(from.len() as u32) as usize);
                        pools.handle_event(Event::Rested { pair });
                    }
                }
                _ => {}
            }
            while let Some(command) = pools.poll_command() {
                match command {
                    Command::Bind { pair, discover } => {
                        assert!(!bound.contains_key(&pair) && !binding.contains(&(pair, discover)), "bound twice");
                        binding.push((pair, discover));
                    }
                    Command::Unbind { pair } => {
                        assert!(bound.remove(&pair).is_some() && !live.contains(&pair) && !resting.contains(&pair));
                        unheard.retain(|other| *other != pair);
                    }
                }
            }
            let sum = |of: fn(&Counts) -> usize| pools.counts().map(|(_, _, counts)| of(&counts)).sum::<usize>();
            assert_eq!((sum(|c| c.live), sum(|c| c.resting)), (live.len(), resting.len() + unheard.len()));
            assert_eq!(sum(|c| c.total), 45, "seed {seed}, step {step}");
        }
        for pair in live.drain(..) {
            pools.give_back(pair, Past::Used);
            resting.push(pair);
        }
        for pair in resting.drain(..).chain(unheard.drain(..)) {
            pools.handle_event(Event::Rested { pair });
        }
        assert!(pools.counts().all(|(_, _, counts)| counts.free == counts.total), "seed {seed}");
    }
}
