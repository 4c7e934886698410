//! The simulated world: phones, a core, NAT boxes and strangers around the
//! machines of siplatch, in virtual time, from a seed.
//!
//! Phones speak UDP, TCP, TLS, WebSocket and secure WebSocket, the core UDP, TCP
//! and TLS. A connection is reliable and ordered, has a mapping in each NAT box on
//! its way, and may be closed, reset or forgotten at any time.
//!
//! In the middle of calls they hold, resume, change codec, port and m-lines, fax,
//! check by ICE, refuse, and offer both at once (`flows`); audio must flow after each.
//!
//! `make sim` runs 5,000 seeds and says what happened in them;
//! `SIPLATCH_SIM_SEED=123 make sim` replays one with its whole ladder, and with
//! `SIPLATCH_SIM_PCAP=run.pcap` beside it writes a capture file.
//! `SIPLATCH_SIM_WEATHER=foul` gives all access links 5 % loss, 5 % copies, 10 %
//! overtaken packets and 50 ms of jitter, `mixed` leaves the links to the seed.
//! `SIPLATCH_SIM_FIRST` is the first seed. The fuzzer builds worlds from octets
//! instead of seeds.
#![cfg_attr(not(test), allow(dead_code, reason = "the controls, which are tests, use what nothing else does"))]

mod alg;
mod attacker;
mod clock;
#[cfg(test)]
mod controls;
mod core;
mod edge;
mod flows;
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
