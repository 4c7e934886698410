//! Runs seeds: one with a ladder, or many on all cores with a summary.

use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::edge::Sabotage;
use crate::invariants::Broken;
use crate::judge;
use crate::ladder;
use crate::layout::{self, Scene};
use crate::rng::Rng;
use crate::scenario::Weather;
use crate::stats::Outcome;
use crate::verdict;

/// Every so many seeds one is run twice, and must do the same twice.
const TWICE: u64 = 20;

/// What became of a world.
#[derive(Debug, Clone)]
pub struct Report {
    pub(crate) seed: u64,
    pub(crate) hash: u64,
    pub(crate) outcome: Outcome,
    pub(crate) broken: Option<Broken>,
    /// Every rule that broke in the same step.
    pub(crate) rules_broken: Vec<&'static str>,
    /// The last rungs of a run that failed, or all that were asked for.
    pub(crate) ladder: String,
    pub(crate) about: String,
    /// A capture file, with a whole ladder.
    pub(crate) capture: Vec<u8>,
    /// Transactions that did not end as they should.
    pub(crate) wrong: Vec<String>,
    /// How often a sabotage struck.
    pub(crate) sabotaged: u32,
}

impl Report {
    /// True when an invariant broke.
    pub fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    /// A capture file, if the whole ladder was asked for.
    pub fn capture(&self) -> &[u8] {
        &self.capture
    }

    /// For a person.
    pub fn text(&self) -> String {
        let mut text = format!("── seed {}: {}\n{}", self.seed, self.about, self.ladder);
        if let Some(Broken { at, rule, what }) = &self.broken {
            let _ = writeln!(text, "── seed {} broke “{rule}” at {:.6} s:\n   {what}", self.seed, at.as_secs_f64());
            let _ = writeln!(text, "── again, with the whole ladder: SIPLATCH_SIM_SEED={} make sim", self.seed);
        }
        text
    }
}

/// The one reading of the clock: all runs count from it.
pub(crate) fn base() -> Instant {
    Instant::now()
}

/// Runs one seed with its whole ladder.
pub fn seed(seed: u64, foul: bool) -> Report {
    run(seed, base(), weather(foul), None, usize::MAX)
}

/// The same weather for all seeds: 5 % loss, 5 % copies, 10 % overtaken, 50 ms jitter on each access link.
fn weather(foul: bool) -> Option<Weather> {
    foul.then_some(Weather::Foul)
}

/// Runs the world that is written on a tape: who is there, where, and what
/// they do, while links and phones go on throwing dice. How much of each call
/// is heard is not judged: a tape heaps up mishaps that no seed would.
pub fn written(tape: &[u8], whole: bool) -> Report {
    let keep = if whole { usize::MAX } else { ladder::SHORT };
    play(0, layout::build(Rng::on_tape(tape), base(), None, None, keep), keep, false)
}

/// Runs one seed, keeping so many rungs.
pub(crate) fn run(
    seed: u64,
    base: Instant,
    weather: Option<Weather>,
    sabotage: Option<Sabotage>,
    keep: usize,
) -> Report {
    play(seed, layout::build(Rng::new(seed), base, weather, sabotage, keep), keep, true)
}

fn play(seed: u64, mut scene: Scene, keep: usize, planned: bool) -> Report {
    let about = format!(
        "{}, {} phones, {:?} weather, {} calls, {} rebinds, {}",
        scene.role.as_str(),
        scene.boxes.len(),
        scene.script.weather,
        scene.script.plans.len(),
        scene.rebound.len(),
        if scene.script.attacked { "attacked" } else { "in peace" },
    );
    let horizon = scene.horizon;
    scene.world.run(horizon);
    let score = verdict::score(&scene);
    let (outcome, failed) = judge::judge(&scene, &score);
    scene.world.finish();
    if let Some(what) = failed.filter(|_| planned) {
        scene.world.watch.fail(horizon, "calls come out as planned", what);
    }
    let broken = scene.world.watch.broken.clone();
    let rules_broken = scene.world.watch.rules_broken.clone();
    let tell = broken.is_some() || keep > ladder::SHORT;
    Report {
        seed,
        hash: scene.world.ladder.hash(),
        outcome,
        ladder: if tell { scene.world.ladder.text() } else { String::new() },
        capture: scene.world.ladder.capture.as_ref().map_or_else(Vec::new, |capture| capture.bytes().to_vec()),
        about,
        sabotaged: scene.world.edge().map_or(0, |edge| edge.sabotaged),
        wrong: score.wrong,
        broken,
        rules_broken,
    }
}

/// Runs a seed, and some seeds twice.
fn checked(seed: u64, base: Instant, foul: bool) -> Report {
    let mut report = run(seed, base, weather(foul), None, ladder::SHORT);
    if seed.is_multiple_of(TWICE) && report.broken.is_none() {
        let again = run(seed, base, weather(foul), None, ladder::SHORT).hash;
        if again != report.hash {
            let what = format!("the trace hash is {:016x} once, and {again:016x} the next time", report.hash);
            let at = report.outcome.virtual_time;
            report.broken = Some(Broken { at, rule: "same seed, same trace", what });
        }
    }
    report
}

/// What became of many worlds.
#[derive(Debug)]
pub struct Many {
    /// For a person.
    pub summary: String,
    /// Of seeds that broke a rule.
    pub broken: Vec<Report>,
    /// Transactions that ended as they should, in per cent.
    pub right: f64,
    /// Kinds of exchanges inside calls that never came about.
    pub missing: Vec<&'static str>,
}

/// Runs so many seeds from `first` on, on all cores.
pub fn many(first: u64, seeds: u64, foul: bool) -> Many {
    let base = base();
    let next = AtomicU64::new(first);
    let total = Mutex::new((Outcome::default(), Vec::new(), Vec::new()));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + seeds {
                        break;
                    }
                    let report = checked(seed, base, foul);
                    let mut total = total.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    total.0.add(&report.outcome);
                    total.2.extend(report.wrong.iter().map(|wrong| (seed, wrong.clone())));
                    if report.broken.is_some() {
                        total.1.push(report);
                    }
                }
            });
        }
    });
    let wall = base.elapsed();
    let (outcome, mut broken, mut wrong) = total.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    broken.sort_by_key(|report: &Report| report.seed);
    wrong.sort();
    let summary = summary(seeds, &outcome, (&broken, &wrong), wall);
    Many { summary, broken, right: outcome.right(), missing: outcome.missing() }
}

fn summary(seeds: u64, outcome: &Outcome, (broken, wrong): (&[Report], &[(u64, String)]), wall: Duration) -> String {
    let mut text = outcome.text(seeds as usize, wall);
    for (seed, wrong) in wrong.iter().take(20) {
        let _ = writeln!(text, "sim:   seed {seed}: {wrong}");
    }
    let _ = writeln!(text, "sim: {} of {seeds} seeds broke an invariant", broken.len());
    for report in broken.iter().take(20) {
        if let Some(Broken { rule, what, .. }) = &report.broken {
            let what: String = what.chars().take(160).collect();
            let _ = writeln!(text, "sim:   seed {}: {rule}: {what}", report.seed);
        }
    }
    text
}
