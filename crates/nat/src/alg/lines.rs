//! Lines of a message and their hashes: which lines of what was sent are not
//! among those that arrived.

use std::fmt::Write as _;

use wire::sip::{Message, Name};

/// Most lines that are looked at.
pub const MOST: usize = 64;

/// A line without its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    bytes: &'a [u8],
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Start,
    Header,
    Body,
}

impl Line<'_> {
    /// FNV-1a, 32 bits.
    pub fn hash(&self) -> u32 {
        self.bytes.iter().fold(0x811c_9dc5, |hash, octet| (hash ^ u32::from(*octet)).wrapping_mul(0x0100_0193))
    }

    /// True for a header field of this name, without regard to case.
    pub fn is_field(&self, name: &str) -> bool {
        let named = self.bytes.split(|octet| *octet == b':').next().unwrap_or_default();
        self.place == Place::Header && named.trim_ascii().eq_ignore_ascii_case(name.as_bytes())
    }

    /// For people: the name of the header field; `c=` or `a=rtcp` of a body line.
    fn name(&self) -> String {
        let end = match self.place {
            Place::Start => return "start line".to_owned(),
            Place::Header => self.bytes.iter().position(|octet| *octet == b':').unwrap_or(0),
            Place::Body if self.bytes.starts_with(b"a=") => {
                self.bytes.iter().position(|octet| *octet == b':').unwrap_or(self.bytes.len())
            }
            Place::Body => 2,
        };
        let name = self.bytes.iter().take(end.min(32)).map(|octet| char::from(*octet));
        name.filter(char::is_ascii_graphic).collect()
    }
}

/// All lines of a message that are not empty.
pub fn of(bytes: &[u8]) -> Vec<Line<'_>> {
    let mut place = Place::Start;
    let mut all = Vec::new();
    for line in bytes.split(|octet| *octet == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match (place, line.is_empty()) {
            (Place::Start, true) | (Place::Body, true) => {}
            (Place::Header, true) => place = Place::Body,
            (of, false) => {
                all.push(Line { bytes: line, place: of });
                place = if of == Place::Start { Place::Header } else { of };
            }
        }
    }
    all
}

/// A field that tells hashes: `NAME: 0123abcd …` with its CRLF. `None` for more than [`MOST`] lines.
pub fn field(name: &str, lines: &[Line<'_>]) -> Option<String> {
    let mut text = format!("{name}:");
    for line in lines {
        let _ = write!(text, " {:08x}", line.hash());
    }
    text.push_str("\r\n");
    (lines.len() <= MOST).then_some(text)
}

/// The hashes that a message tells in a field of this name; `None` where it tells none, or something else.
pub fn read(message: Message<'_>, name: &str) -> Option<Vec<u32>> {
    let is_it = |written: &[u8]| written.eq_ignore_ascii_case(name.as_bytes());
    let field = message.fields_of(Name::Other).find(|field| is_it(message.slice(field.written)))?;
    let text = std::str::from_utf8(message.slice(field.value)).ok()?;
    let hash = |word: &str| u32::from_str_radix(word, 16).ok().filter(|_| word.len() == 8);
    let hashes: Vec<u32> = text.split_ascii_whitespace().map(hash).collect::<Option<_>>()?;
    (1..=MOST).contains(&hashes.len()).then_some(hashes)
}

/// What differs between messages as they were sent and as they arrived, by the names of lines.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Difference {
    names: Vec<String>,
}

impl Difference {
    /// We have the lines as they were sent, and the hashes of those that arrived.
    pub fn add(&mut self, sent: &[Line<'_>], arrived: &[u32]) {
        self.note(sent, arrived, "a line more");
    }

    /// We have the lines that arrived, and the hashes of those that were sent.
    pub fn add_arrived(&mut self, arrived: &[Line<'_>], sent: &[u32]) {
        self.note(arrived, sent, "a line less");
    }

    fn note(&mut self, ours: &[Line<'_>], theirs: &[u32], other: &str) {
        let mut left = theirs.to_vec();
        let mut missing = 0;
        for line in ours {
            match left.iter().position(|hash| *hash == line.hash()) {
                Some(at) => drop(left.remove(at)),
                None => {
                    missing += 1;
                    self.name(line.name());
                }
            }
        }
        if left.len() > missing {
            self.name(other.to_owned());
        }
        let in_order = ours.iter().map(Line::hash).eq(theirs.iter().copied());
        if !in_order && missing == 0 && left.is_empty() {
            self.name("order of lines".to_owned());
        }
    }

    fn name(&mut self, name: String) {
        if !self.names.contains(&name) {
            self.names.push(name);
        }
    }

    /// In the order in which they were noticed, each once; empty where nothing differs.
    pub fn names(self) -> Vec<String> {
        self.names
    }
}
