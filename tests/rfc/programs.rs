//! The test programs that cargo builds: what they hold, and what became of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// A test, by program and full name.
pub(crate) type Test = (usize, String);

/// What became of a test.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It ran and passed.
    Passed,
    /// It ran and failed, was ignored, or did not run; why.
    Failed(String),
    /// This machine cannot run it; why.
    Skipped(String),
}

struct Program {
    executable: PathBuf,
    /// Where its package lies.
    package: PathBuf,
    /// Its first source file, from the root of the workspace.
    root: PathBuf,
    tests: Vec<String>,
}

/// All test programs of the workspace.
pub(crate) struct Programs {
    programs: Vec<Program>,
    /// `siplatch` itself, as the tests build it.
    pub(crate) siplatch: PathBuf,
}

impl Programs {
    /// Builds them, and asks each what it holds.
    ///
    /// # Errors
    /// What cargo or a program said.
    pub(crate) fn build(workspace: &Path) -> Result<Self, String> {
        let built = Command::new(env!("CARGO"))
            .args(["test", "--workspace", "--locked", "--lib", "--bins", "--tests", "--no-run"])
            .arg("--message-format=json-render-diagnostics")
            .current_dir(workspace)
            .stderr(Stdio::inherit())
            .output()
            .map_err(|error| format!("cargo: {error}"))?;
        if !built.status.success() {
            return Err("the tests do not build".to_owned());
        }
        let messages = String::from_utf8_lossy(&built.stdout).into_owned();
        let messages: Vec<Value> = messages.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let programs: Result<Vec<_>, _> = messages.iter().filter_map(|message| program(workspace, message)).collect();
        let itself = |m: &&Value| m["profile"]["test"] == false && m["target"]["name"] == "siplatch";
        let siplatch = messages.iter().filter(itself).find_map(|message| message["executable"].as_str());
        let siplatch = siplatch.ok_or("cargo built no siplatch")?.into();
        Ok(Self { programs: programs?, siplatch })
    }

    /// Every test of this name.
    pub(crate) fn function(&self, name: &str) -> Vec<Test> {
        let last = format!("::{name}");
        self.select(|_, test| test == name || test.ends_with(&last))
    }

    /// The tests of a file. One without tests of its own is shown by all tests of the program that it is a part of.
    pub(crate) fn file(&self, file: &Path) -> Vec<Test> {
        let own = self.select(|program, test| {
            let Ok(below) = file.strip_prefix(program.root.parent().unwrap_or(Path::new(""))) else { return false };
            let path = below.with_extension("");
            let mut modules: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
            if modules.last().is_some_and(|last| last == "mod") {
                modules.pop();
            }
            // A program of one file beside others may keep its modules in a folder of its name.
            let stem = program.root.file_stem().map(|s| s.to_string_lossy()).unwrap_or_default();
            if modules.len() > 1 && modules[0] == stem {
                modules.remove(0);
            }
            program.root == file || test.starts_with(&format!("{}::", modules.join("::")))
        });
        if !own.is_empty() {
            return own;
        }
        self.select(|program, _| {
            let whole = program.root.file_name().is_some_and(|name| name == "main.rs" || name == "lib.rs");
            whole && program.root.parent().is_some_and(|folder| file.starts_with(folder))
        })
    }

    fn select(&self, wanted: impl Fn(&Program, &str) -> bool) -> Vec<Test> {
        let mut found = Vec::new();
        for (number, program) in self.programs.iter().enumerate() {
            let tests = program.tests.iter().filter(|test| wanted(program, test));
            found.extend(tests.map(|test| (number, test.clone())));
        }
        found
    }

    /// Runs these tests, each program once. Beside what became of each, every line that they printed.
    pub(crate) fn run(&self, wanted: &BTreeSet<Test>) -> (BTreeMap<Test, Outcome>, Vec<String>) {
        let (mut outcomes, mut printed) = (BTreeMap::new(), Vec::new());
        for (number, program) in self.programs.iter().enumerate() {
            let tests: Vec<&String> = wanted.iter().filter(|(n, _)| *n == number).map(|(_, test)| test).collect();
            if tests.is_empty() {
                continue;
            }
            println!("running {} of {}: {} tests", program.root.display(), program.package.display(), tests.len());
            let output = Command::new(&program.executable)
                .args(["--exact", "--show-output"])
                .args(&tests)
                .current_dir(&program.package)
                .output();
            let text = match output {
                Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
                Err(error) => error.to_string(),
            };
            let said = verdicts(&text);
            for test in tests {
                let outcome = said.get(test.as_str()).cloned();
                let outcome = outcome.unwrap_or_else(|| Outcome::Failed("did not run".to_owned()));
                outcomes.insert((number, test.clone()), outcome);
            }
            if said.values().any(|outcome| *outcome != Outcome::Passed) {
                println!("{text}");
            }
            printed.extend(text.lines().map(str::to_owned));
        }
        (outcomes, printed)
    }
}

/// The test program that a message of cargo tells of.
fn program(workspace: &Path, message: &Value) -> Option<Result<Program, String>> {
    let executable = PathBuf::from(message["executable"].as_str()?);
    if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
        return None;
    }
    let package = PathBuf::from(message["manifest_path"].as_str()?).parent()?.to_owned();
    let root = PathBuf::from(message["target"]["src_path"].as_str()?);
    let root = root.strip_prefix(workspace).ok()?.to_owned();
    let listed = Command::new(&executable).args(["--list", "--format", "terse"]).current_dir(&package).output();
    Some(match listed {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let tests = text.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect();
            Ok(Program { executable, package, root, tests })
        }
        Err(error) => Err(format!("{}: {error}", executable.display())),
    })
}

/// What a test program said of each test.
fn verdicts(text: &str) -> BTreeMap<&str, Outcome> {
    let mut said = BTreeMap::new();
    for line in text.lines() {
        let Some((name, verdict)) = line.strip_prefix("test ").and_then(|rest| rest.rsplit_once(" ... ")) else {
            continue;
        };
        let outcome = match verdict.split([' ', ',']).next() {
            Some("ok") => Outcome::Passed,
            Some("ignored") => Outcome::Failed("is ignored".to_owned()),
            _ => Outcome::Failed("failed".to_owned()),
        };
        said.insert(name, outcome);
    }
    said
}
