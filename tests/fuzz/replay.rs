//! The corpus again, without libFuzzer and on any compiler: every seed and every
//! kept input, each also with a few changes that are the same in every run.
//! `SIPLATCH_FUZZ_TARGET=uri` replays one target.

#![allow(clippy::print_stdout, reason = "a test tells what it ran")]

mod seeds;
mod targets;

use std::fs;
use std::path::Path;

use targets::{TARGETS, Target};

/// Most octets in the corpus: it is for regressions, not for exploring.
const MOST: usize = 1_000_000;

/// Kept inputs of a target.
fn corpus(target: &Target) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target.name);
    let mut files: Vec<_> =
        fs::read_dir(folder).expect("a folder per target").map(|entry| entry.expect("readable").path()).collect();
    files.sort();
    let read = |path: &Path| (path.display().to_string(), fs::read(path).expect("readable"));
    files.iter().map(|path| read(path)).collect()
}

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((u128::from(z ^ (z >> 31)) * n as u128) >> 64) as usize
    }

    /// One change of a few octets.
    fn change(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        let at = self.below(bytes.len());
        let end = (at + 1 + self.below(16)).min(bytes.len());
        match self.below(6) {
            0 if at < end => bytes[at] = self.below(256) as u8,
            1 if at < end => bytes[at] ^= 1 << self.below(8),
            2 => drop(bytes.drain(at.min(end)..end)),
            3 => {
                let again = bytes[at.min(end)..end].to_vec();
                bytes.splice(at..at, again);
            }
            4 => {
                let from = self.below(other.len());
                let part = other[from..].iter().take(32).copied().collect::<Vec<u8>>();
                bytes.splice(at..at, part);
            }
            _ => bytes.truncate(at),
        }
    }
}

/// Says which input it was, should the target panic.
struct Running<'a>(&'a str, &'a str, &'a [u8]);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{} breaks on {}:\n{}", self.0, self.1, self.2.escape_ascii());
        }
    }
}

fn replay(name: &str, changes: usize) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target");
    if std::env::var("SIPLATCH_FUZZ_TARGET").is_ok_and(|only| only != name) {
        return;
    }
    let mut inputs = seeds::of(name);
    let seeds = inputs.len();
    inputs.extend(corpus(target));
    let mut dice = Dice(inputs.len() as u64);
    for (number, (file, bytes)) in inputs.iter().enumerate() {
        let running = Running(name, file, bytes);
        (target.run)(bytes);
        drop(running);
        let (_, other) = &inputs[(number * 7 + 3) % inputs.len()];
        let mut changed = bytes.clone();
        for _ in 0..changes {
            dice.change(&mut changed, other);
            let running = Running(name, file, &changed);
            (target.run)(&changed);
            drop(running);
        }
    }
    println!("{name}: {seeds} seeds, {} kept inputs, {changes} changes of each", inputs.len() - seeds);
}

#[test]
fn message() {
    replay("message", 40);
}

#[test]
fn uri() {
    replay("uri", 40);
}

#[test]
fn sdp() {
    replay("sdp", 40);
}

#[test]
fn stun() {
    replay("stun", 40);
}

#[test]
fn latch() {
    replay("latch", 200);
}

#[test]
fn stream() {
    replay("stream", 40);
}

#[test]
fn websocket() {
    replay("websocket", 40);
}

#[test]
fn transactions() {
    replay("transactions", 30);
}

#[test]
fn world() {
    replay("world", 0);
}

#[test]
fn the_corpus_is_small_and_every_target_is_replayed() {
    let here = include_str!("replay.rs");
    let mut size = 0;
    for target in &TARGETS {
        assert!(here.contains(&format!("\n    replay(\"{}\", ", target.name)), "{} is not replayed", target.name);
        size += corpus(target).iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
    }
    assert!(size <= MOST, "{size} octets; `tests/fuzz/run --keep` minimises");
}
