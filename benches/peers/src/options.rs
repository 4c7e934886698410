//! `--NAME VALUE…` on the command line.

use std::collections::BTreeMap;
use std::io;
use std::str::FromStr;

/// What was written, by name.
pub(crate) struct Options(BTreeMap<String, String>);

impl Options {
    /// Reads pairs of name and value.
    pub(crate) fn read(mut words: impl Iterator<Item = String>) -> io::Result<Self> {
        let mut found = BTreeMap::new();
        while let Some(word) = words.next() {
            let name = word.strip_prefix("--").ok_or_else(|| io::Error::other(format!("what is {word}?")))?;
            let value = words.next().ok_or_else(|| io::Error::other(format!("--{name} wants a value")))?;
            found.insert(name.to_owned(), value);
        }
        Ok(Self(found))
    }

    /// The value of `name`, or `default` where it is not written.
    pub(crate) fn or<T: FromStr>(&self, name: &str, default: T) -> io::Result<T> {
        match self.0.get(name) {
            Some(text) => parsed(text),
            None => Ok(default),
        }
    }

    /// The value of `name`, which must be there.
    pub(crate) fn must<T: FromStr>(&self, name: &str) -> io::Result<T> {
        parsed(self.0.get(name).ok_or_else(|| io::Error::other(format!("--{name} is missing")))?)
    }
}

/// A word of a command as a value.
pub(crate) fn parsed<T: FromStr>(text: &str) -> io::Result<T> {
    text.parse().map_err(|_| io::Error::other(format!("`{text}` does not fit")))
}
