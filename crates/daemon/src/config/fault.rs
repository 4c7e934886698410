//! What is wrong with a configuration: the key, where it was written, what is
//! wrong, and the mend. Passwords appear in no fault.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The key, `phone[1].media_ports`; for syntax, which has none, a number in brackets.
    pub(crate) key: String,
    /// What is wrong.
    pub(crate) what: String,
    /// What to write instead.
    pub(crate) mend: String,
}

/// Where a key was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the file, at these octets.
    File(Range<usize>),
    /// In this environment variable.
    Environment(String),
    /// In this flag.
    Flag(String),
}

/// Where every key that was written came from.
#[derive(Debug, Default)]
pub(crate) struct Origins {
    /// The file's name, as people know it.
    file: String,
    /// The file's text.
    text: String,
    places: BTreeMap<String, Place>,
}

impl Origins {
    /// No key yet.
    pub(crate) fn new(file: String, text: String) -> Self {
        Self { file, text, places: BTreeMap::new() }
    }

    /// Notes where a key was written. A later layer takes the place of an
    /// earlier one, and of what was below the key.
    pub(crate) fn note(&mut self, key: &str, place: Place) {
        if !matches!(place, Place::File(_)) {
            self.places.retain(|other, _| !below(other, key));
        }
        self.places.insert(key.to_owned(), place);
    }

    /// Where the key was written, or the nearest section around it.
    fn place(&self, key: &str) -> Option<&Place> {
        let mut key = key;
        loop {
            if let Some(place) = self.places.get(key) {
                return Some(place);
            }
            key = &key[..key.rfind(['.', '['])?];
        }
    }

    /// Order of appearance: file, environment, flags, nowhere.
    fn order(&self, fault: &Fault) -> (u8, usize) {
        match self.place(&fault.key) {
            Some(Place::File(span)) => (0, span.start),
            Some(Place::Environment(_)) => (1, 0),
            Some(Place::Flag(_)) => (2, 0),
            None => (3, 0),
        }
    }

    /// Sorts faults as a reader meets them.
    pub(crate) fn sort(&self, faults: &mut [Fault]) {
        faults.sort_by_key(|fault| self.order(fault));
    }

    /// The fault with its place, the line and a caret, for people.
    pub(crate) fn explain<'a>(&'a self, fault: &'a Fault) -> Explained<'a> {
        Explained { fault, origins: self }
    }
}

/// True if `key` is `parent` or lies below it.
pub(crate) fn below(key: &str, parent: &str) -> bool {
    key.strip_prefix(parent).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// See [`Origins::explain`].
pub(crate) struct Explained<'a> {
    fault: &'a Fault,
    origins: &'a Origins,
}

impl fmt::Display for Explained<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault { key, what, mend } = self.fault;
        match key.as_str() {
            key if key.is_empty() || key.starts_with('[') => writeln!(f, "fault: {what}")?,
            key => writeln!(f, "fault: {key}: {what}")?,
        }
        match self.origins.place(key) {
            Some(Place::File(span)) => self.excerpt(f, span)?,
            Some(Place::Environment(variable)) => writeln!(f, "  --> environment variable {variable}")?,
            Some(Place::Flag(flag)) => writeln!(f, "  --> flag {flag}")?,
            None if self.origins.file.is_empty() => {}
            None => writeln!(f, "  --> {}", self.origins.file)?,
        }
        writeln!(f, "  mend: {mend}")
    }
}

impl Explained<'_> {
    fn excerpt(&self, f: &mut fmt::Formatter<'_>, span: &Range<usize>) -> fmt::Result {
        let text = &self.origins.text;
        let start = text.floor_char_boundary(span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let number = text[..line_start].matches('\n').count() + 1;
        let column = text[line_start..start].chars().count() + 1;
        writeln!(f, "  --> {}, line {number}, column {column}", self.origins.file)?;
        let line = text[line_start..].lines().next().unwrap_or_default();
        if line.contains("password") {
            return Ok(());
        }
        let end = text.floor_char_boundary(span.end.clamp(start, line_start + line.len()).max(start));
        let width = text[start..end].chars().count().max(1);
        let gutter = " ".repeat(number.to_string().len());
        let shown: String = line.chars().map(|c| if c == '\t' { ' ' } else { c }).collect();
        writeln!(f, "{gutter} |")?;
        writeln!(f, "{number} | {shown}")?;
        writeln!(f, "{gutter} | {}{}", " ".repeat(column - 1), "^".repeat(width))
    }
}

/// The candidate that `word` was probably meant to be.
pub(crate) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    candidates
        .map(|candidate| (distance(&word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().max(word.len()) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Edit distance in which two neighbours that changed places count once.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let changed = usize::from(a[i - 1] != b[j - 1]);
            let mut least = (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + changed);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_finds_slips_and_leaves_strangers() {
        let keys = ["ports", "keepalive", "timeout_s", "datapath"];
        assert_eq!(nearest("prots", keys.into_iter()), Some("ports"));
        assert_eq!(nearest("keep_alive", keys.into_iter()), Some("keepalive"));
        assert_eq!(nearest("timeout", keys.into_iter()), Some("timeout_s"));
        assert_eq!(nearest("codec", keys.into_iter()), None);
    }

    #[test]
    fn place_falls_back_to_the_section() {
        let mut origins = Origins::new("a.toml".into(), "[media]\n".into());
        origins.note("media", Place::File(0..7));
        assert_eq!(origins.place("media.ports"), Some(&Place::File(0..7)));
        assert_eq!(origins.place("user[0].name"), None);
    }

    #[test]
    fn lines_with_passwords_are_not_shown() {
        let mut origins = Origins::new("a.toml".into(), "[[user]]\npassword = 1234\n".into());
        origins.note("user[0].password", Place::File(20..24));
        let fault = Fault { key: "user[0].password".into(), what: "not a string".into(), mend: "quote it".into() };
        let text = origins.explain(&fault).to_string();
        assert!(text.contains("line 2") && !text.contains("1234"), "{text}");
    }
}
