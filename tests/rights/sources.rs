//! What the rooms' sources say against what the table forbids them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::table::{ROOMS, Room, UnsafeCode};
use crate::tokens::{Token, matches, tokens, without_tests};

/// Every forbidden name in the sources of the workspace at `root`, as `file:line: …`.
pub(crate) fn faults(root: &Path) -> Vec<String> {
    ROOMS.iter().flat_map(|room| room_faults(root, room)).collect()
}

fn room_faults(root: &Path, room: &Room) -> Vec<String> {
    let src = root.join("crates").join(room.name).join("src");
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    let mut read = Vec::new();
    let mut tests = BTreeSet::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let (code, modules) = without_tests(tokens(&text));
        tests.extend(modules.iter().map(|module| children(&file).join(module)));
        read.push((file, code));
    }
    let of_test = |file: &Path| tests.iter().any(|m| file.with_extension("") == *m || file.starts_with(m));
    let sources: Vec<(String, Vec<Token>)> = read
        .into_iter()
        .filter(|(file, _)| !of_test(file))
        .map(|(file, code)| (file.strip_prefix(&src).unwrap_or(&file).to_string_lossy().into_owned(), code))
        .collect();
    let mut faults = unsafe_faults(room, &sources);
    for (name, code) in &sources {
        for ban in room.forbidden.iter().filter(|ban| !ban.except.contains(&name.as_str())) {
            for wanted in ban.tokens {
                let wanted: Vec<String> = tokens(wanted).into_iter().map(|token| token.text).collect();
                faults.extend(occurrences(code, &wanted).map(|line| {
                    let what = wanted.join("");
                    format!(
                        "crates/{}/src/{name}:{line}: `{what}` takes a right of another room ({})",
                        room.name, ban.right
                    )
                }));
            }
        }
    }
    faults
}

/// Lines on which the sequence begins.
fn occurrences<'a>(code: &'a [Token], wanted: &'a [String]) -> impl Iterator<Item = usize> + 'a {
    (0..code.len()).filter(move |at| matches(&code[*at..], wanted)).map(move |at| code[at].line)
}

/// A room forbids `unsafe` at its root, or every exception to the workspace's ban has a reason.
fn unsafe_faults(room: &Room, sources: &[(String, Vec<Token>)]) -> Vec<String> {
    match room.unsafe_code {
        UnsafeCode::Forbidden => {
            let forbid = ["#", "!", "[", "forbid", "(", "unsafe_code", ")", "]"];
            let root = sources.iter().find(|(name, _)| matches!(name.as_str(), "lib.rs" | "main.rs"));
            let said = root.is_some_and(|(_, code)| (0..code.len()).any(|at| matches(&code[at..], &forbid)));
            if said {
                Vec::new()
            } else {
                vec![format!("the root of room `{}` lacks #![forbid(unsafe_code)]", room.name)]
            }
        }
        UnsafeCode::AllowedWithReason => {
            let exception = |code: &[Token], at: usize| {
                ["allow", "expect"].iter().any(|level| matches(&code[at..], &[level, "(", "unsafe_code"]))
                    && !matches(&code[at + 3..], &[",", "reason", "="])
            };
            let mut faults = Vec::new();
            for (name, code) in sources {
                for at in (0..code.len()).filter(|at| exception(code, *at)) {
                    let line = code[at].line;
                    faults.push(format!(
                        "crates/{}/src/{name}:{line}: unsafe code is allowed without a reason",
                        room.name
                    ));
                }
            }
            faults
        }
    }
}

/// Where the modules that `file` declares live.
fn children(file: &Path) -> PathBuf {
    let parent = file.parent().expect("a source file lies in a folder");
    match file.file_stem().and_then(|stem| stem.to_str()) {
        Some("lib" | "main" | "mod") => parent.to_owned(),
        Some(stem) => parent.join(stem),
        None => parent.to_owned(),
    }
}

fn rust_files(folder: &Path, out: &mut Vec<PathBuf>) {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a folder can be listed").path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            rust_files(&path, out);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            out.push(path);
        }
    }
}
