//! Instructions and allocations per step, against `budget.tsv`.
//!
//! Every bench takes n steps and 2n, and the difference counts, so that
//! warm-up cancels out; for instructions it runs itself under callgrind.
//! Fails when a budget or guard is exceeded, or a bench has no line.
//! Without valgrind only allocations are counted; with `CI` set that fails.
//! With `NAME STEPS` it only takes steps.

use std::io::{self, Write};
use std::process::{Command, ExitCode};

use siplatch_benches::{BENCHES, Bench, COUNTED, find};

/// Steps of the shorter run.
const STEPS: u64 = 200;

const BUDGET: &str = include_str!("../budget.tsv");

const NO_VALGRIND: &str = "valgrind is not installed (Debian: apt-get install valgrind): instructions are not counted";

/// What one step may cost.
struct Budget {
    /// Instructions that are promised.
    promised: Option<u64>,
    /// Instructions that are usual.
    guard: u64,
    allocations: u64,
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let outcome = match arguments.as_slice() {
        [] => all(),
        [name, steps] => match (find(name), steps.parse()) {
            (Some(bench), Ok(steps)) => {
                bench.run(steps);
                Ok(true)
            }
            _ => Err(io::Error::other("no such bench")),
        },
        _ => Err(io::Error::other("either no argument or NAME STEPS")),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::from(2)
        }
    }
}

/// Every bench within its budget?
fn all() -> io::Result<bool> {
    let valgrind = Command::new("valgrind").arg("--version").output().is_ok_and(|run| run.status.success());
    if !valgrind && std::env::var_os("CI").is_some() {
        return Err(io::Error::other(NO_VALGRIND));
    }
    let mut out = io::stdout();
    let mut within = true;
    row(&mut out, &["bench", "instructions", "guard", "budget", "allocations", "budget", ""])?;
    for bench in BENCHES.iter().copied().flatten() {
        let instructions = if valgrind { Some(instructions(bench)?) } else { None };
        let allocations = bench.run(2 * STEPS).saturating_sub(bench.run(STEPS));
        let mean = format!("{:.1}", allocations as f64 / STEPS as f64);
        let counted = instructions.map_or("-".into(), |n| n.to_string());
        let Some(budget) = budget(bench.name) else {
            row(&mut out, &[bench.name, &counted, "", "", &mean, "", "no budget"])?;
            within = false;
            continue;
        };
        let most = budget.promised.map_or(budget.guard, |promised| promised.min(budget.guard));
        let fine = instructions.is_none_or(|n| n <= most) && allocations <= budget.allocations * STEPS;
        let promised = budget.promised.map_or("-".into(), |n| n.to_string());
        let (guard, allocations) = (budget.guard.to_string(), budget.allocations.to_string());
        let verdict = if fine { "" } else { "exceeded" };
        row(&mut out, &[bench.name, &counted, &guard, &promised, &mean, &allocations, verdict])?;
        within &= fine;
    }
    if !valgrind {
        writeln!(out, "{NO_VALGRIND}")?;
    }
    Ok(within)
}

fn row(out: &mut impl Write, cells: &[&str; 7]) -> io::Result<()> {
    let [bench, instructions, guard, budget, allocations, most, verdict] = cells;
    let line = format!("{bench:20}{instructions:>14}{guard:>10}{budget:>10}{allocations:>14}{most:>10}  {verdict}");
    writeln!(out, "{}", line.trim_end())
}

/// The bench's line.
fn budget(name: &str) -> Option<Budget> {
    let lines = BUDGET.lines().filter(|line| !line.starts_with('#'));
    let mut rows = lines.map(|line| line.split_whitespace().collect::<Vec<_>>());
    let row = rows.find(|row| row.first() == Some(&name))?;
    let [_, promised, guard, allocations] = row.as_slice() else { return None };
    let promised = if *promised == "-" { None } else { Some(promised.parse().ok()?) };
    Some(Budget { promised, guard: guard.parse().ok()?, allocations: allocations.parse().ok()? })
}

/// Instructions of one step.
fn instructions(bench: &Bench) -> io::Result<u64> {
    let once = counted(bench.name, STEPS)?;
    let twice = counted(bench.name, 2 * STEPS)?;
    Ok(twice.saturating_sub(once) / STEPS)
}

/// Instructions of all steps of a run.
fn counted(name: &str, steps: u64) -> io::Result<u64> {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(format!("--toggle-collect={COUNTED}"));
    let run = valgrind.arg(std::env::current_exe()?).args([name, &steps.to_string()]).output()?;
    let report = String::from_utf8_lossy(&run.stderr);
    let total = report.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    match total {
        Some(total) if total > 0 && run.status.success() => Ok(total),
        _ => Err(io::Error::other(format!("{name} under callgrind: {report}"))),
    }
}
