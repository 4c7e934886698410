//! Reading a case file, and showing where text differs.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

/// One body, before and after.
pub(crate) struct Case {
    /// The file's name without its ending.
    pub(crate) name: String,
    /// What the relay is called in it.
    pub(crate) relay: IpAddr,
    /// The body as it comes in.
    pub(crate) before: String,
    /// The body as it has to go out.
    pub(crate) after: String,
}

impl Case {
    /// All cases, by name.
    pub(crate) fn all() -> Vec<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/sdp/cases");
        let mut paths: Vec<_> = fs::read_dir(&folder)
            .expect("the folder of cases")
            .map(|entry| entry.expect("a folder entry").path())
            .filter(|path| path.extension().is_some_and(|ending| ending == "diff"))
            .collect();
        paths.sort();
        let read = |path: &Path| {
            let name = path.file_stem().expect("a file name").to_string_lossy().into_owned();
            Self::parse(name, &fs::read_to_string(path).expect("a case file"))
        };
        paths.iter().map(|path| read(path)).collect()
    }

    fn parse(name: String, text: &str) -> Self {
        let (head, body) = text.split_once("\n\n").unwrap_or_else(|| panic!("{name}: no blank line after the head"));
        let setting = |key: &str| head.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
        let relay =
            setting("relay").and_then(|ip| ip.parse().ok()).unwrap_or_else(|| panic!("{name}: no relay address"));
        let eol = match setting("line ends") {
            None => "\r\n",
            Some("LF") => "\n",
            Some(other) => panic!("{name}: line ends {other}?"),
        };
        let (mut before, mut after) = (String::new(), String::new());
        for line in body.lines() {
            let (side, content) = line.split_at_checked(2).unwrap_or_else(|| panic!("{name}: {line:?}?"));
            let content = content.replace('␠', " ").replace('␉', "\t");
            let content = match content.strip_suffix('␊') {
                Some(content) => format!("{content}\n"),
                None => format!("{content}{eol}"),
            };
            match side {
                "  " => {
                    before.push_str(&content);
                    after.push_str(&content);
                }
                "- " => before.push_str(&content),
                "+ " => after.push_str(&content),
                _ => panic!("{name}: {line:?}?"),
            }
        }
        if setting("last line end") == Some("missing") {
            for body in [&mut before, &mut after] {
                body.truncate(body.trim_end_matches(['\r', '\n']).len());
            }
        }
        Self { name, relay, before, after }
    }
}

/// Both texts line by line, with every blank and line end visible.
pub(crate) fn difference(expected: &str, found: &str) -> String {
    let lines = |text: &str| text.split_inclusive('\n').map(|line| format!("{line:?}")).collect::<Vec<_>>();
    let (expected, found) = (lines(expected), lines(found));
    let mut out = String::new();
    for at in 0..expected.len().max(found.len()) {
        match (expected.get(at), found.get(at)) {
            (Some(a), Some(b)) if a == b => out.push_str(&format!("  {a}\n")),
            (a, b) => {
                let side =
                    |sign: char, line: Option<&String>| line.map(|line| format!("{sign} {line}\n")).unwrap_or_default();
                out.push_str(&side('-', a));
                out.push_str(&side('+', b));
            }
        }
    }
    out
}
