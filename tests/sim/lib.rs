//! The simulated world: phones, a core, NAT boxes and strangers around the
//! machines of siplatch, in virtual time, from a seed.
//!
//! `make sim` runs 2,000 seeds and says what happened in them;
//! `SIPLATCH_SIM_SEED=123 make sim` replays one with its whole ladder, and with
//! `SIPLATCH_SIM_PCAP=run.pcap` beside it writes a capture file. The fuzzer builds
//! worlds from octets instead of seeds.
#![cfg_attr(not(test), allow(dead_code, reason = "the controls, which are tests, use what nothing else does"))]

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
mod stack;
mod stats;
mod stun;
mod transaction;
mod verdict;
mod world;

pub use run::{Many, Report, many, seed, written};
