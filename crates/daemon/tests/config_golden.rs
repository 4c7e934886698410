//! `siplatch check` over every file of `tests/golden/config`: what it prints
//! must be what the `.txt` beside the file says, to the letter.
//!
//! `GOLDEN_WRITE=1 cargo test -p siplatch-daemon --test config_golden` writes
//! the texts anew; read the difference before you keep it.
#![allow(clippy::unwrap_used, reason = "a test that unwraps in vain has failed")]

use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn every_file_gets_the_text_beside_it() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/config");
    let mut names: Vec<String> = fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".toml"))
        .collect();
    names.sort();
    assert!(names.iter().filter(|name| !name.starts_with("good_")).count() >= 25);
    let write = std::env::var_os("GOLDEN_WRITE").is_some();
    let mut differ = Vec::new();
    for name in &names {
        let output = check(&dir, name);
        let text = String::from_utf8(output.stdout).unwrap();
        let good = name.starts_with("good_");
        assert_eq!(output.status.success(), good, "{name}:\n{text}");
        assert!(output.stderr.is_empty(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(!text.contains("hunter") && !text.contains("correct horse"), "{name} shows a password:\n{text}");
        let golden = dir.join(name).with_extension("txt");
        if write {
            fs::write(&golden, &text).unwrap();
        } else if fs::read_to_string(&golden).unwrap_or_default() != text {
            differ.push(format!("{name} is now explained so:\n{text}"));
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}

/// The recipes that a newcomer copies.
#[test]
fn recipes_have_no_faults() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config");
    for name in ["reference.toml", "office.toml", "border.toml", "standalone.toml"] {
        let output = check(&dir, name);
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stdout));
    }
}

fn check(dir: &Path, name: &str) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_siplatch"))
        .args(["check", name])
        .current_dir(dir)
        .env_clear()
        .env("HOME", "/nonexistent")
        .output()
        .unwrap()
}
