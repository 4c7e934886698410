//! The simulated world: phones, a core, NAT boxes and strangers around the
//! machines of siplatch, in virtual time, from a seed.
//!
//! `make sim` runs 2,000 seeds and says what happened in them;
//! `SIPLATCH_SIM_SEED=123 make sim` replays one with its whole ladder, and with
//! `SIPLATCH_SIM_PCAP=run.pcap` beside it writes a capture file.

mod alg;
mod attacker;
mod clock;
#[cfg(test)]
mod controls;
mod core;
mod edge;
mod invariants;
mod judge;
mod ladder;
mod layout;
mod link;
mod nat;
mod net;
mod pcap;
mod phone;
mod plan;
mod rng;
mod run;
mod scenario;
mod sip;
mod stats;
mod stun;
mod transaction;
mod world;

/// How many seeds run when nothing else is said.
const SEEDS: u64 = 200;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|value| value.parse().ok())
}

#[test]
fn seeds() {
    if let Some(seed) = number("SIPLATCH_SIM_SEED") {
        let report = run::run(seed, run::base(), None, usize::MAX);
        println!("{}", report.text());
        if let Ok(path) = std::env::var("SIPLATCH_SIM_PCAP") {
            std::fs::write(path, &report.capture).expect("SIPLATCH_SIM_PCAP names a file that can be written");
        }
        assert_eq!(report.broken, None);
        return;
    }
    let (summary, broken) = run::many(number("SIPLATCH_SIM_SEEDS").unwrap_or(SEEDS));
    println!("{summary}");
    if let Some(first) = broken.first() {
        println!("{}", first.text());
        panic!("{} seeds broke an invariant", broken.len());
    }
}
