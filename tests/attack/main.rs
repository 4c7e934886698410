//! Attacks on the running program, each while a call is up through it: the
//! program stands, the attack gains nothing, and the call's audio is unharmed.
//!
//! One file a row; each prints one line with its figure. Rows take turns, so
//! that no row measures another's load. In debug builds floods are a tenth as
//! long; `SIPLATCH_ATTACK_SCALE` (a percentage) sets another length.
#![allow(clippy::unwrap_used, reason = "a test that unwraps in vain has failed")]
#![allow(clippy::disallowed_methods, reason = "the test is the world around the program: its sockets and its clock")]

mod amplification;
mod enumeration;
mod forged_tokens;
mod handshakes;
mod hijack;
mod injection;
mod keyed_media;
mod leak;
mod log_flood;
mod management;
mod open_relay;
mod parser;
mod plain_flood;
mod smuggling;
mod streams;

use std::sync::{Mutex, MutexGuard, PoisonError};

use peer::{Audio, announce};

/// One row at a time.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The length that was asked for, as a percentage.
fn percent() -> usize {
    let usual = if cfg!(debug_assertions) { 10 } else { 100 };
    std::env::var("SIPLATCH_ATTACK_SCALE").map_or(usual, |text| text.parse().unwrap())
}

/// How many of something, by the length that was asked for.
fn scaled(full: usize) -> usize {
    (full * percent() / 100).max(10)
}

/// Is there time to wait for half a minute?
fn full() -> bool {
    percent() >= 100
}

/// The line of a row, once the call's audio is known to be unharmed.
fn verdict(row: &str, figure: &str, audio: &Audio) {
    assert!(audio.is_unharmed(), "{row}  {figure}; {audio}: {audio:?}");
    announce(&format!("{row:<22} {figure}; {audio}  ok"));
}
