//! The cases of `tests/interop` and the cells of `tests/lab`, which need other people's programs.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::programs::Outcome;

/// What became of each case, in all settings in which it ran; and why nothing did.
pub(crate) struct Interop {
    cases: BTreeMap<String, Outcome>,
    absent: Outcome,
}

impl Interop {
    /// Runs all cases in all settings against this program.
    pub(crate) fn run(workspace: &Path, siplatch: &Path) -> Self {
        println!("running tests/interop/run");
        let mut command = Command::new(workspace.join("tests/interop/run"));
        let text = match command.arg("--binary").arg(siplatch).stderr(Stdio::inherit()).output() {
            Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
            Err(error) => format!("interop: FAILED: {error}"),
        };
        let mut cases = BTreeMap::new();
        for line in text.lines() {
            let Some((case, passed)) = interop_row(line) else { continue };
            let outcome = if passed { Outcome::Passed } else { Outcome::Failed(line.to_owned()) };
            let known = cases.entry(case.to_owned()).or_insert_with(|| outcome.clone());
            if *known == Outcome::Passed {
                *known = outcome;
            }
        }
        if cases.values().any(|outcome| *outcome != Outcome::Passed) {
            println!("{text}");
        }
        Self { cases, absent: absent(&text, "interop: ") }
    }

    /// What became of a case.
    pub(crate) fn outcome(&self, case: &str) -> Outcome {
        self.cases.get(case).unwrap_or(&self.absent).clone()
    }
}

/// `setting  case  ok  1.0 s`
fn interop_row(line: &str) -> Option<(&str, bool)> {
    let (_, rest) = line.split_once(char::is_whitespace)?;
    let rest =
        rest.trim_end().strip_suffix(" s")?.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.').trim_end();
    let (case, passed) = match rest.strip_suffix(" ok") {
        Some(case) => (case, true),
        None => (rest.strip_suffix(" FAILED")?, false),
    };
    Some((case.trim(), passed))
}

/// Why nothing is known of a case: the peers are missing, or it did not run.
fn absent(text: &str, before: &str) -> Outcome {
    let skipped = text.lines().find_map(|line| line.strip_prefix(before)?.strip_prefix("SKIPPED: "));
    match skipped {
        Some(why) => Outcome::Skipped(why.to_owned()),
        None => Outcome::Failed("did not run".to_owned()),
    }
}

/// What became of each cell.
pub(crate) struct Lab {
    cells: BTreeMap<String, Outcome>,
    absent: Outcome,
}

impl Lab {
    /// Runs these cells and their controls with this program.
    pub(crate) fn run(workspace: &Path, siplatch: &Path, names: &[&str]) -> Self {
        println!("running tests/lab/run: {}", names.join(", "));
        let json = workspace.join("target/rfc/lab.json");
        // What an earlier run left behind says nothing about this one.
        let stale = std::fs::exists(&json).unwrap_or(true) && std::fs::remove_file(&json).is_err();
        let mut command = Command::new(workspace.join("tests/lab/run"));
        command.arg("--json").arg(&json).arg("--binary").arg(siplatch).stderr(Stdio::inherit());
        for name in names {
            command.args(["--cell", name]);
        }
        let text = match command.output() {
            Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
            Err(error) => error.to_string(),
        };
        let result = if stale { String::new() } else { std::fs::read_to_string(&json).unwrap_or_default() };
        let result: Value = serde_json::from_str(&result).unwrap_or_default();
        let mut cells = BTreeMap::new();
        for row in result["rows"].as_array().into_iter().flatten() {
            let (Some(cell), Some(verdict)) = (row["cell"].as_str(), row["verdict"].as_str()) else { continue };
            let outcome =
                if verdict == "PASS" { Outcome::Passed } else { Outcome::Failed(row["problems"].to_string()) };
            cells.insert(cell.to_owned(), outcome);
        }
        Self { cells, absent: absent(&text, "") }
    }

    /// What became of a cell.
    pub(crate) fn outcome(&self, cell: &str) -> Outcome {
        self.cells.get(cell).unwrap_or(&self.absent).clone()
    }
}
