//! Forked calls on the running program, with early media of both forks: the
//! caller hears the one that answers, and is heard by it (RFC 3960, RFC 3264).
//!
//! siplatch forks itself to two bindings of one user, or a core behind it
//! forks: then several To tags share one branch, and one pair of ports toward
//! the caller. Who answers, and who speaks first, is drawn for each of ten
//! runs. Whoever does not answer goes on sending until the call is over.
#![allow(clippy::unwrap_used, reason = "a test that unwraps in vain has failed")]
#![allow(clippy::disallowed_methods, reason = "the test is the world around the program: its sockets and its clock")]

mod call;
mod world;

use std::hash::{BuildHasher as _, RandomState};

use call::{Call, Step};
use peer::announce;
use world::World;

const RUNS: usize = 10;

/// Who answers, and who speaks first.
#[derive(Debug, Clone, Copy)]
struct Draw {
    winner: usize,
    first: usize,
}

type Way = fn(&World, Draw) -> Step<[f64; 2]>;

const OURS: [(&str, Way); 1] = [("siplatch forks", ours)];

/// A core behind us forks.
const THEIRS: [(&str, Way); 8] = [
    ("core forks, SDP in 183", |world, draw| theirs(world, draw, false, false)),
    ("the same, one media address", |world, draw| theirs(world, draw, false, true)),
    ("core forks, reliable 183", |world, draw| theirs(world, draw, true, false)),
    ("the same, one media address", |world, draw| theirs(world, draw, true, true)),
    ("core forks, UPDATE of both", updated),
    ("core forks, 183 after the 200", late),
    ("both answer, the first is kept", |world, draw| both(world, draw, true)),
    ("both answer, the second is kept", |world, draw| both(world, draw, false)),
];

#[test]
fn the_answered_fork_owns_the_stream() {
    run(&World::standalone(), &OURS);
}

#[test]
fn the_answered_fork_of_a_core_owns_the_stream() {
    run(&World::border(), &THEIRS);
}

/// The ways at once, the runs of each one after the other.
fn run(world: &World, ways: &[(&str, Way)]) {
    let rows: Vec<Row> = std::thread::scope(|scope| {
        let rows: Vec<_> = ways.iter().map(|(name, way)| scope.spawn(move || Row::of(name, world, *way))).collect();
        rows.into_iter().map(|row| row.join().unwrap()).collect()
    });
    rows.iter().for_each(|row| announce(&row.line));
    let failures: Vec<&String> = rows.iter().flat_map(|row| &row.failures).collect();
    failures.iter().for_each(|failure| announce(failure));
    assert!(failures.is_empty(), "{} failed", failures.len());
}

struct Row {
    line: String,
    failures: Vec<String>,
}

impl Row {
    fn of(name: &str, world: &World, way: Way) -> Self {
        let (mut worst, mut answered, mut failures) = ([1.0_f64; 2], [0; 2], Vec::new());
        for run in 0..RUNS {
            let drawn = RandomState::new().hash_one(run);
            let draw = Draw { winner: (drawn % 2) as usize, first: (drawn / 2 % 2) as usize };
            answered[draw.winner] += 1;
            match way(world, draw) {
                Ok(shares) => worst = [worst[0].min(shares[0]), worst[1].min(shares[1])],
                Err(why) => failures.push(format!("FAIL {name}, {draw:?}: {why}")),
            }
        }
        let verdict = match failures.len() {
            0 => format!("{:.3}/{:.3}", worst[0], worst[1]),
            failed => format!("{failed} of {RUNS} FAIL"),
        };
        Self { line: format!("{name:<34} {}+{} runs  {verdict}", answered[0], answered[1]), failures }
    }
}

/// Two bindings of one user: each fork has a branch and ports of its own.
fn ours(world: &World, draw: Draw) -> Step<[f64; 2]> {
    let mut call = Call::new(world, false)?;
    call.ring(false)?;
    if call.early_media(draw.first)? != [true; 2] {
        return Err("early media is lost".to_owned());
    }
    call.answer(draw.winner, true)?;
    call.cancelled(1 - draw.winner)?;
    call.owned_by(draw.winner)?;
    call.hang_up(draw.winner)
}

/// Two To tags on one branch of ours.
fn theirs(world: &World, draw: Draw, reliable: bool, shared: bool) -> Step<[f64; 2]> {
    let mut call = rung(world, draw, reliable, shared)?;
    call.answer(draw.winner, !reliable)?;
    call.owned_by(draw.winner)?;
    call.hang_up(draw.winner)
}

/// Both forks ring, and the caller hears one of them.
fn rung(world: &World, draw: Draw, reliable: bool, shared: bool) -> Step<Call> {
    let mut call = Call::new(world, shared)?;
    call.ring(reliable)?;
    if call.early_media(draw.first)? == [false; 2] {
        return Err("no early media is heard".to_owned());
    }
    Ok(call)
}

/// Each early dialog has an offer and an answer of its own (RFC 3311).
fn updated(world: &World, draw: Draw) -> Step<[f64; 2]> {
    let mut call = rung(world, draw, true, false)?;
    call.update(draw.first)?;
    call.update(1 - draw.first)?;
    call.answer(draw.winner, false)?;
    call.owned_by(draw.winner)?;
    call.hang_up(draw.winner)
}

/// Whoever does not answer goes on ringing.
fn late(world: &World, draw: Draw) -> Step<[f64; 2]> {
    let mut call = rung(world, draw, false, false)?;
    call.answer(draw.winner, true)?;
    call.progress(1 - draw.winner, "");
    call.owned_by(draw.winner)?;
    call.hang_up(draw.winner)
}

/// Two 2xx (RFC 3261 §13.2.2.4): the first owns the stream while its dialog stands.
fn both(world: &World, draw: Draw, keep_first: bool) -> Step<[f64; 2]> {
    let mut call = rung(world, draw, false, false)?;
    let (first, second) = (draw.winner, 1 - draw.winner);
    call.answer(first, true)?;
    call.owned_by(first)?;
    call.answer(second, true)?;
    call.owned_by(first)?;
    let (kept, left) = if keep_first { (first, second) } else { (second, first) };
    call.leave(left)?;
    call.owned_by(kept)?;
    call.hang_up(kept)
}
