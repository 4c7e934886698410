//! `make rfc`: every behaviour of `docs/rfc.md` that a release must have, with the tests that show it, run for real.
//!
//! A row passes when the page says *yes* and each test that it names ran here and passed. The run fails when one
//! did not, and as long as a row is open: *partly* or *no*.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a table is what it is for")]

mod names;
mod page;
mod peers;
mod programs;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::ExitCode;

use names::Name;
use page::Row;
use peers::{Interop, Lab};
use programs::{Outcome, Programs, Test};

/// The tables of the page that the run covers: signalling, and the conduct of a border controller. `--all` takes all.
const TABLES: [usize; 5] = [1, 2, 3, 4, 8];

/// The test that plays all transcripts, and what it prints for each that came out right.
const TRANSCRIPTS: &str = "every_transcript_comes_out_as_written";

fn main() -> ExitCode {
    match run(std::env::args().any(|argument| argument == "--all")) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("rfc: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(all: bool) -> Result<bool, String> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("the tests package lies in the workspace")?;
    let page = std::fs::read_to_string(workspace.join("docs/rfc.md")).map_err(|e| format!("docs/rfc.md: {e}"))?;
    let mut rows = page::rows(&page)?;
    rows.retain(|row| row.level.starts_with("must") && (all || TABLES.contains(&row.table)));
    let evidence = Evidence::gather(workspace, &rows)?;
    Ok(report(&rows, &evidence))
}

/// What became of everything that the rows name.
struct Evidence {
    outcomes: BTreeMap<String, Outcome>,
    /// How many test functions ran.
    functions: usize,
}

impl Evidence {
    fn gather(workspace: &Path, rows: &[Row]) -> Result<Self, String> {
        let said: BTreeSet<&str> =
            rows.iter().filter(|row| row.holds == "yes").flat_map(|row| &row.names).map(String::as_str).collect();
        let programs = Programs::build(workspace)?;
        let tests: BTreeMap<&str, Vec<Test>> = said.iter().map(|text| (*text, tests_of(&programs, text))).collect();
        let wanted: BTreeSet<Test> = tests.values().flatten().cloned().collect();
        let (of_tests, printed) = programs.run(&wanted);
        let (mut cases, mut cells) = (0, Vec::new());
        for text in &said {
            match names::name(text) {
                Name::Interop(_) => cases += 1,
                Name::Cell(cell) => cells.push(cell),
                Name::Transcript(_) | Name::File(_) | Name::Function(_) => {}
            }
        }
        let interop = if cases == 0 { None } else { Some(Interop::run(workspace, &programs.siplatch)) };
        let lab = if cells.is_empty() { None } else { Some(Lab::run(workspace, &programs.siplatch, &cells)) };

        let mut outcomes = BTreeMap::new();
        for text in said {
            let outcome = match names::name(text) {
                Name::Interop(case) => interop.as_ref().map(|interop| interop.outcome(case)),
                Name::Cell(cell) => lab.as_ref().map(|lab| lab.outcome(cell)),
                Name::Transcript(transcript) => Some(match printed.contains(&format!("golden: {transcript} ok")) {
                    true => Outcome::Passed,
                    false => Outcome::Failed("did not come out as written, or did not run".to_owned()),
                }),
                Name::File(_) | Name::Function(_) => tests.get(text).map(|tests| together(tests, &of_tests)),
            };
            outcomes.insert(text.to_owned(), outcome.unwrap_or_else(|| Outcome::Failed("did not run".to_owned())));
        }
        Ok(Self { outcomes, functions: wanted.len() })
    }
}

fn tests_of(programs: &Programs, text: &str) -> Vec<Test> {
    match names::name(text) {
        Name::Function(function) => programs.function(function),
        Name::File(path) => programs.file(Path::new(path)),
        Name::Transcript(_) => programs.function(TRANSCRIPTS),
        Name::Interop(_) | Name::Cell(_) => Vec::new(),
    }
}

/// A name that stands for several tests passes when all of them do.
fn together(tests: &[Test], outcomes: &BTreeMap<Test, Outcome>) -> Outcome {
    if tests.is_empty() {
        return Outcome::Failed("names no test that can be run".to_owned());
    }
    let not = tests.iter().find_map(|test| match outcomes.get(test) {
        Some(Outcome::Passed) => None,
        Some(other) => Some(other.clone()),
        None => Some(Outcome::Failed("did not run".to_owned())),
    });
    not.unwrap_or(Outcome::Passed)
}

/// Prints the table and the sum; whether every row passed.
fn report(rows: &[Row], evidence: &Evidence) -> bool {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    println!();
    for row in rows {
        let (verdict, notes) = verdict(row, evidence);
        *counts.entry(verdict).or_default() += 1;
        println!("{verdict:<7} {} {:<24} {}", row.table, row.section, row.behaviour);
        println!("{:34}{}", "", if row.names.is_empty() { "–".to_owned() } else { row.names.join(", ") });
        for note in notes {
            println!("{:34}{note}", "");
        }
    }
    let count = |verdict| counts.get(verdict).copied().unwrap_or(0);
    println!(
        "\nrfc: {} rows that a release must have: {} passed, {} failed, {} skipped, {} open, {} due later; {} names, {} \
         test functions run",
        rows.len(),
        count("PASS"),
        count("FAIL"),
        count("SKIPPED"),
        count("OPEN"),
        count("LATER"),
        evidence.outcomes.len(),
        evidence.functions
    );
    count("FAIL") == 0 && count("OPEN") == 0
}

/// The verdict on a row, and what there is to say about it.
fn verdict(row: &Row, evidence: &Evidence) -> (&'static str, Vec<String>) {
    if row.holds != "yes" {
        let open = if row.level == "must" { "OPEN" } else { "LATER" };
        return (open, vec![format!("the page says: {}", row.holds)]);
    }
    let (mut notes, mut failed, mut skipped) = (Vec::new(), false, 0);
    for name in &row.names {
        match evidence.outcomes.get(name) {
            Some(Outcome::Passed) => {}
            Some(Outcome::Failed(why)) => {
                failed = true;
                notes.push(format!("FAILED {name}: {why}"));
            }
            Some(Outcome::Skipped(why)) => {
                skipped += 1;
                notes.push(format!("SKIPPED {name}: {why}"));
            }
            None => {
                failed = true;
                notes.push(format!("FAILED {name}: did not run"));
            }
        }
    }
    let verdict = match (failed, skipped) {
        (true, _) => "FAIL",
        (false, n) if n == row.names.len() => "SKIPPED",
        (false, _) => "PASS",
    };
    (verdict, notes)
}
