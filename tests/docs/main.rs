//! What the documents say must exist: files that they link to, and tests that `docs/rfc.md` names.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use names::Name;

#[path = "../rfc/names.rs"]
mod names;
#[path = "../rfc/page.rs"]
mod page;

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests package lies in the workspace")
}

/// Files under `folder` with this extension; build folders and hidden ones left out.
fn files(folder: &Path, extension: &str, out: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let path = entry.expect("a folder can be listed").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.starts_with('.') && name != "target" && !name.starts_with("target-") {
                files(&path, extension, out);
            }
        } else if path.extension().is_some_and(|e| e == extension) {
            out.push(path);
        }
    }
}

/// Targets of `[text](target)`, code spans and blocks left out.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
        for part in prose.split("](").skip(1) {
            if let Some((target, _)) = part.split_once(')') {
                found.push(target.to_owned());
            }
        }
    }
    found
}

/// The anchor that a heading gets.
fn anchor(heading: &str) -> String {
    heading
        .trim_start_matches('#')
        .trim()
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

#[test]
fn every_relative_link_leads_somewhere() {
    let mut pages = Vec::new();
    files(workspace(), "md", &mut pages);
    assert!(!pages.is_empty());
    let mut dead = Vec::new();
    for page in &pages {
        let text = fs::read_to_string(page).expect("a page can be read");
        for link in links(&text) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (path, fragment) = link.split_once('#').unwrap_or((link.as_str(), ""));
            let target =
                if path.is_empty() { page.clone() } else { page.parent().expect("a page lies in a folder").join(path) };
            let alive = target.exists()
                && (fragment.is_empty()
                    || fs::read_to_string(&target)
                        .is_ok_and(|t| t.lines().any(|l| l.starts_with('#') && anchor(l) == fragment)));
            if !alive {
                dead.push(format!("{}: {link}", page.strip_prefix(workspace()).unwrap_or(page).display()));
            }
        }
    }
    assert!(dead.is_empty(), "\n{}\n", dead.join("\n"));
}

/// In `docs/rfc.md` the last cell of a row names what shows the behaviour.
#[test]
fn every_test_that_the_rfc_page_names_exists() {
    let mut sources = Vec::new();
    files(&workspace().join("crates"), "rs", &mut sources);
    files(&workspace().join("tests"), "rs", &mut sources);
    let mut functions = BTreeSet::new();
    for source in &sources {
        let text = fs::read_to_string(source).expect("a source can be read");
        functions.extend(
            text.split("fn ")
                .skip(1)
                .map(|rest| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>()),
        );
    }
    let cases = fs::read_to_string(workspace().join("tests/interop/peers/cases.py")).unwrap_or_default();
    let page = fs::read_to_string(workspace().join("docs/rfc.md")).expect("docs/rfc.md is there");
    let rows = page::rows(&page).unwrap_or_else(|why| panic!("docs/rfc.md: {why}"));
    assert_eq!(rows.last().map(|row| row.table), Some(8), "a table of behaviours is missing");
    let mut missing = Vec::new();
    for text in rows.iter().flat_map(|row| &row.names) {
        let known = match names::name(text) {
            Name::Interop(case) => cases.contains(&format!("\"{case}\"")),
            Name::Transcript(transcript) => workspace().join(format!("tests/golden/sip/{transcript}.sip")).exists(),
            Name::Cell(cell) => cells().lines().any(|line| line.split(' ').next() == Some(cell)),
            Name::File(path) => workspace().join(path).exists(),
            Name::Function(function) => functions.contains(function),
        };
        if !known {
            missing.push(text.as_str());
        }
    }
    assert!(missing.is_empty(), "docs/rfc.md names what is not there:\n{}\n", missing.join("\n"));
}

/// RFC 7092 §3: the page tells our role for each mode, and every role of the configuration has its mode.
#[test]
fn each_mode_has_its_role_by_rfc_7092() {
    let page = fs::read_to_string(workspace().join("docs/rfc.md")).expect("docs/rfc.md is there");
    let (_, said) = page.split_once("## What we are").expect("the page says what we are");
    let (said, _) = said.split_once("\n## ").expect("another heading follows");
    for (mode, section) in [("signalling-only", "§3.1.2"), ("media-relay", "§3.2.1"), ("media-aware", "§3.2.2")] {
        let row = said.lines().find(|line| line.starts_with(&format!("| {mode} |")));
        assert!(row.is_some_and(|row| row.contains(section)), "{mode}: {row:?}");
    }
    let built: BTreeSet<&str> = said
        .lines()
        .filter(|line| line.starts_with('|') && !line.contains("not built yet"))
        .filter_map(|line| line.trim_end_matches('|').rsplit('|').next())
        .flat_map(|cell| cell.split(','))
        .map(str::trim)
        .collect();
    for file in ["office", "border", "standalone"] {
        let text =
            fs::read_to_string(workspace().join(format!("config/{file}.toml"))).expect("a configuration per role");
        let role = text.lines().find_map(|line| line.strip_prefix("role = ")).expect("the configuration says its role");
        assert!(built.contains(role.trim_matches('"')), "{role} has no mode in {built:?}");
    }
}

/// The cells of the lab, one in each line.
fn cells() -> String {
    let listed = Command::new(workspace().join("tests/lab/run")).arg("--list").output();
    let listed = listed.expect("the lab can list its cells, given Python");
    String::from_utf8_lossy(&listed.stdout).into_owned()
}

#[test]
fn rows_of_the_rfc_page_are_read() {
    let head = "| section | level | | behaviour | shown by |\n| --- | --- | --- | --- | --- |\n";
    let other = "| rule | what | why |\n| --- | --- | --- |\n| `Via` | ours | §16.6 |\n\n";
    let good = format!(
        "{other}{head}| §1 | must | yes | it works | `one`, `a/b.rs`; and so on |\n\n{head}| §2 | next | no | – | |\n"
    );
    let rows = page::rows(&good).expect("these are rows");
    let read =
        |row: &page::Row| (row.table, row.section.clone(), row.level.clone(), row.holds.clone(), row.names.clone());
    let names = vec!["one".to_owned(), "a/b.rs".to_owned()];
    assert_eq!(read(&rows[0]), (1, "§1".to_owned(), "must".to_owned(), "yes".to_owned(), names));
    assert_eq!(rows[0].behaviour, "it works");
    assert_eq!(read(&rows[1]), (2, "§2".to_owned(), "next".to_owned(), "no".to_owned(), Vec::new()));
    for (bad, why) in [
        ("| §1 | must | yes | it works | |", "no test is named"),
        ("| §1 | must | partly | some of it works | said in words |", "no test is named"),
        ("| §1 | perhaps | yes | it works | `one` |", "the level is none"),
        ("| §1 | must | maybe | it works | `one` |", "yes, partly or no"),
        ("| §1 | must | yes | `one` |", "five cells"),
        ("| §1 | must | yes | it works | `one |", "code span"),
    ] {
        let refused = page::rows(&format!("{head}{bad}\n")).err().unwrap_or_default();
        assert!(refused.contains(why), "{bad}: {refused}");
    }
}

/// Alerts and pages speak of series that there are.
#[test]
fn every_metric_that_is_named_exists() {
    let known = fs::read_to_string(workspace().join("docs/metrics.md")).expect("docs/metrics.md is there");
    let mut pages = vec![workspace().join("README.md")];
    files(&workspace().join("deploy"), "yml", &mut pages);
    let mut missing = Vec::new();
    for page in &pages {
        let text = fs::read_to_string(page).expect("a page can be read");
        for (at, _) in text.match_indices("siplatch_") {
            let name: String = text[at..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            if !known.contains(&format!("`{name}`")) {
                missing.push(format!("{}: {name}", page.display()));
            }
        }
    }
    assert!(missing.is_empty(), "\n{}\n", missing.join("\n"));
}

/// A comment that sends the reader to a page must name one that is there.
#[test]
fn every_page_that_a_source_names_exists() {
    let mut pages = Vec::new();
    files(workspace(), "md", &mut pages);
    let mut sources = Vec::new();
    for folder in ["crates", "tests", "benches"] {
        for extension in ["rs", "py", "toml"] {
            files(&workspace().join(folder), extension, &mut sources);
        }
    }
    let mut missing = Vec::new();
    for source in &sources {
        let text = fs::read_to_string(source).expect("a source can be read");
        for (number, line) in text.lines().enumerate() {
            let spans = line.split('`').skip(1).step_by(2);
            for name in spans.filter(|s| s.ends_with(".md") && !s.contains(' ')) {
                if !pages.iter().any(|page| page.ends_with(name)) {
                    let source = source.strip_prefix(workspace()).unwrap_or(source);
                    missing.push(format!("{}:{}: {name}", source.display(), number + 1));
                }
            }
        }
    }
    assert!(missing.is_empty(), "\n{}\n", missing.join("\n"));
}

#[test]
fn links_are_found_outside_code_only() {
    let text = "[a](b.md) and `[c](d)` and [e](f#g)\n```\n[h](i)\n```\n";
    assert_eq!(links(text), ["b.md", "f#g"]);
    assert_eq!(anchor("## Who may do what?"), "who-may-do-what");
}
