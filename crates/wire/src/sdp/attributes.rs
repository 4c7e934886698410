//! Attributes, read when they are asked for.
//!
//! Decides where a name ends and a value begins (RFC 8866 §5.13). Most
//! attributes are never looked at, so none is kept in a list.

use super::Attribute;
use super::body::content;

/// The `a=` lines of one section, in order, among its other lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes<'a> {
    /// From the first `a=` line to the end of the section; empty if there is none.
    lines: &'a [u8],
    /// The [`mark`]s of all of them: most of those that are asked for are not there.
    marks: u64,
}

impl<'a> Attributes<'a> {
    pub(super) const EMPTY: Self = Self { lines: &[], marks: 0 };

    /// Of a section, from its first `a=` line on, with the marks of all of them.
    pub(super) fn of(lines: &'a [u8], marks: u64) -> Self {
        Self { lines, marks }
    }

    /// The lines from the first `a=` line to the end of the section.
    pub(super) fn lines(self) -> &'a [u8] {
        self.lines
    }

    /// Each attribute in turn.
    pub fn iter(self) -> impl Iterator<Item = Attribute<'a>> {
        Lines { rest: self.lines }.map(Attribute::of)
    }

    /// How many there are; walks them all.
    pub fn len(self) -> usize {
        self.iter().count()
    }

    /// True when there is none.
    pub fn is_empty(self) -> bool {
        self.lines.is_empty()
    }

    /// The first one.
    pub fn first(self) -> Option<Attribute<'a>> {
        self.iter().next()
    }

    /// False where no attribute of this name is there, for sure.
    pub(super) fn may_have(self, name: &[u8]) -> bool {
        name.len() < MARKED || self.marks & mark(name) != 0
    }

    /// Those of this name.
    pub fn named(self, name: &str) -> impl Iterator<Item = Attribute<'a>> {
        let name = name.as_bytes();
        let rest = if self.may_have(name) { self.lines } else { &[] };
        let lines = Lines { rest }.filter(move |line| line[2..].starts_with(name));
        lines.map(Attribute::of).filter(move |attribute| attribute.name == name)
    }
}

/// How many octets of a name its [`mark`] is made of.
const MARKED: usize = 3;

/// One bit for the first octets of an attribute's name. One of a shorter name
/// has none of its own: whoever asks for that looks for himself.
pub(super) fn mark(name: &[u8]) -> u64 {
    name.first_chunk().map_or(0, |[a, b, c]: &[u8; MARKED]| 1 << ((a ^ b.wrapping_mul(9) ^ c.wrapping_mul(7)) % 64))
}

/// The `a=` lines of a section.
struct Lines<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while !self.rest.is_empty() {
            let line;
            (line, self.rest) = next_line(self.rest);
            if line.starts_with(b"a=") {
                return Some(line);
            }
        }
        None
    }
}

impl<'a> Attribute<'a> {
    /// Reads an `a=` line.
    pub(super) fn of(line: &'a [u8]) -> Self {
        let content = content(line);
        // Names are short: a plain loop is there before a search for it has begun.
        let (name, value) = match content.iter().position(|b| *b == b':') {
            Some(colon) => (&content[..colon], &content[colon + 1..]),
            None => (content.trim_ascii_end(), &content[content.len()..]),
        };
        Self { name, value, line }
    }
}

/// The first line of `text` with its line end, and what follows.
pub(super) fn next_line(text: &[u8]) -> (&[u8], &[u8]) {
    text.split_at(memchr::memchr(b'\n', text).map_or(text.len(), |end| end + 1))
}
