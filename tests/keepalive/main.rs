//! Keep-alives that learn, beside a fixed interval of 25 s: ten phones behind
//! each of many routers for a week, whose memory for silent mappings drifts,
//! and changes at once from time to time. Every second somebody could call.
//!
//! `cargo test -p siplatch-tests --test keepalive -- --nocapture` prints the table.

use std::time::{Duration, Instant};

use nat::keepalive::{Bounds, Learner, Schedule};
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng as _, SeedableRng as _};

/// Phones behind one router.
const PHONES: usize = 10;
/// A week, in seconds.
const WEEK: u32 = 7 * 24 * 3600;
/// A mapping that has changed is registered again within this (RFC 5626 §8).
const REGISTERED: u32 = 2;
/// A trial takes so many packets of ours: one that makes the mapping, one that asks for an answer to it.
const TRIAL: u64 = 2;
/// One packet in a hundred is lost, and sent again half a second later.
const LOST: u32 = u32::MAX / 100;
/// The lifetimes that routers begin with, in seconds.
const LIFETIMES: [f64; 10] = [20.0, 25.0, 30.0, 45.0, 60.0, 120.0, 180.0, 600.0, 1800.0, 7200.0];
/// Routers of each kind.
const EACH: u64 = 3;

/// How long a router remembers.
struct Router {
    /// From when on, and how long.
    spells: Vec<(u32, f64)>,
    /// Where in the day it remembers best.
    phase: f64,
}

impl Router {
    /// About twice a week everything changes, to anything between 20 s and 2 h.
    fn new(lifetime: f64, rng: &mut ChaCha12Rng) -> Self {
        let mut spells = vec![(0, lifetime)];
        let mut at = 0_u32;
        loop {
            at = at.saturating_add(rng.next_u32() % WEEK);
            if at >= WEEK {
                break;
            }
            let share = f64::from(rng.next_u32()) / f64::from(u32::MAX);
            spells.push((at, 20.0 * 360_f64.powf(share)));
        }
        Self { spells, phase: f64::from(rng.next_u32() % 86_400) }
    }

    /// It drifts by a tenth up and down each day, and never below 20 s.
    fn lifetime(&self, at: u32) -> f64 {
        let spell = self.spells.iter().rev().find(|(from, _)| *from <= at).map_or(20.0, |(_, lifetime)| *lifetime);
        let day = (f64::from(at) + self.phase) / 86_400.0 * std::f64::consts::TAU;
        (spell * (1.0 + 0.1 * day.sin())).max(20.0)
    }
}

/// A mapping, refreshed at `since`.
#[derive(Clone, Copy)]
struct Mapping {
    since: u32,
    alive: bool,
}

impl Mapping {
    fn new(since: u32) -> Self {
        Self { since, alive: true }
    }

    fn age(&mut self, now: u32, lifetime: f64) {
        self.alive &= f64::from(now - self.since) < lifetime;
    }
}

struct Phone {
    mapping: Mapping,
    due: u32,
    /// Where the provider knows it at a mapping that is gone, until then.
    unknown: u32,
}

#[derive(Default)]
struct Figures {
    reached: u64,
    seconds: u64,
    packets: u64,
}

impl Figures {
    fn reachable(&self) -> f64 {
        self.reached as f64 / self.seconds as f64
    }

    fn packets_an_hour(&self) -> f64 {
        self.packets as f64 * 3600.0 / self.seconds as f64
    }

    fn add(&mut self, other: &Self) {
        self.reached += other.reached;
        self.seconds += other.seconds;
        self.packets += other.packets;
    }
}

/// A week behind one router; a learner, or 20 to 25 s always.
fn week(router: &Router, base: Instant, learns: bool, rng: &mut ChaCha12Rng) -> Figures {
    let mut learner = Learner::new(Bounds::UDP);
    let mut interval = learner.interval();
    let mut figures = Figures::default();
    let wait = |interval: Duration, rng: &mut ChaCha12Rng| {
        (Schedule::new(interval, 20).interval(rng).as_secs_f64().round() as u32).max(1)
    };
    let mut phones: Vec<Phone> =
        (0..PHONES as u32).map(|at| Phone { mapping: Mapping::new(0), due: 1 + at * 2, unknown: 0 }).collect();
    let mut trials: Vec<Option<(Mapping, u32)>> = Vec::new();
    for now in 0..WEEK {
        let lifetime = router.lifetime(now);
        let before = interval;
        let moment = base + Duration::from_secs(now.into());
        for place in &mut trials {
            let Some((mapping, silence)) = place else { continue };
            mapping.age(now, lifetime);
            if now >= mapping.since + *silence {
                let silence = Duration::from_secs(u64::from(*silence));
                if mapping.alive {
                    learner.survived(silence)
                } else {
                    learner.lost(moment, silence)
                }
                *place = None;
            }
        }
        if learns {
            let wanted = learner.trials(moment);
            trials.resize(wanted.len(), None);
            for (place, silence) in trials.iter_mut().zip(wanted).filter(|(place, _)| place.is_none()) {
                *place = Some((Mapping::new(now), silence.as_secs_f64().ceil() as u32));
                figures.packets += TRIAL;
            }
            interval = learner.interval();
        }
        for phone in &mut phones {
            phone.mapping.age(now, lifetime);
            // A shorter interval counts at once.
            if interval < before {
                phone.due = phone.due.min(now + rng.next_u32() % 2);
            }
            if now >= phone.due {
                figures.packets += 1 + u64::from(rng.next_u32() < LOST);
                if !phone.mapping.alive {
                    phone.unknown = now + REGISTERED;
                    figures.packets += 1;
                }
                phone.mapping = Mapping::new(now);
                phone.due = now + wait(interval, rng);
            }
            figures.seconds += 1;
            figures.reached += u64::from(phone.mapping.alive && now >= phone.unknown);
        }
    }
    figures
}

#[test]
fn what_is_learnt_reaches_more_for_less() {
    let base = Instant::now();
    let mut sums = [Figures::default(), Figures::default()];
    println!("keepalive: lifetime   learns: reachable  packets/phone/h   25 s: reachable  packets/phone/h");
    for (kind, lifetime) in LIFETIMES.into_iter().enumerate() {
        let mut both = [Figures::default(), Figures::default()];
        for each in 0..EACH {
            let mut seed = [kind as u8; 32];
            seed[0] = each as u8;
            for (figures, learns) in both.iter_mut().zip([true, false]) {
                let mut rng = ChaCha12Rng::from_seed(seed);
                let router = Router::new(lifetime, &mut rng);
                figures.add(&week(&router, base, learns, &mut rng));
            }
        }
        let [learns, fixed] = &both;
        println!(
            "keepalive: {lifetime:>6.0} s         {:>9.4} %  {:>15.1}         {:>9.4} %  {:>15.1}",
            100.0 * learns.reachable(),
            learns.packets_an_hour(),
            100.0 * fixed.reachable(),
            fixed.packets_an_hour(),
        );
        sums.iter_mut().zip(&both).for_each(|(sum, figures)| sum.add(figures));
    }
    let [learns, fixed] = &sums;
    println!(
        "keepalive:    all           {:>9.4} %  {:>15.1}         {:>9.4} %  {:>15.1}",
        100.0 * learns.reachable(),
        learns.packets_an_hour(),
        100.0 * fixed.reachable(),
        fixed.packets_an_hour(),
    );
    assert!(learns.reachable() >= 0.9999, "{}", learns.reachable());
    assert!(learns.reachable() > fixed.reachable());
    assert!(learns.packets_an_hour() < fixed.packets_an_hour());
}
