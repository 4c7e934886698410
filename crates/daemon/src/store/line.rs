//! The format of the snapshot: a text of lines, each good or bad by itself.
//!
//! ```text
//! siplatch snapshot 2 <boot id>
//! <length, 8 hex digits> <CRC-32, 8 hex digits> <entry as JSON, no line end in it>
//! ```
//!
//! A line that was torn or altered is recognised and left out; the next one
//! begins after the next line end. Fields that a later version adds to an
//! entry must have a default, or the number in the first line grows.

use std::time::{Duration, Instant};

use registry::snapshot::json::Json;
use registry::snapshot::{self, Place, Portable, Refresh};
use registry::{Binding, Key, Record};
use serde::Deserialize;

const MAGIC: &str = "siplatch snapshot 2 ";
/// The same without refreshes.
const BEFORE: &str = "siplatch snapshot 1 ";
/// Both numbers, each with a blank behind it.
const HEAD: usize = 18;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Entry {
    /// When it was written.
    pub(super) at: Stamp,
    /// What it says.
    #[serde(flatten)]
    pub(super) change: Kept,
}

/// One change, in a form that outlives the process.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kept {
    /// Now it is this.
    Put(Portable),
    /// It is what it was, but lasts longer.
    Refresh(Refresh),
    /// Now it is gone.
    Delete(Key),
}

/// A moment, on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) struct Stamp {
    /// Milliseconds since 1970, by a clock that people and programs set.
    unix_ms: u64,
    /// Milliseconds since the machine started.
    up_ms: u64,
}

impl Stamp {
    /// Now.
    pub(super) fn now() -> Self {
        Self { unix_ms: millis(net::clock::unix_time()), up_ms: millis(net::clock::up_time()) }
    }

    /// The time from `then` to this moment. While the machine was not started
    /// again, no setting of the clock can falsify it; else a clock that was
    /// set back makes it zero at least.
    pub(super) fn since(self, then: Self, same_boot: bool) -> Duration {
        let (now, then) = if same_boot { (self.up_ms, then.up_ms) } else { (self.unix_ms, then.unix_ms) };
        Duration::from_millis(now.saturating_sub(then))
    }
}

/// The first line.
pub(super) fn first(boot: &str) -> String {
    format!("{MAGIC}{boot}\n")
}

/// The boot that the first line names; `None` if it is another format.
pub(super) fn boot(line: &[u8]) -> Option<&str> {
    let line = std::str::from_utf8(line).ok()?;
    line.strip_prefix(MAGIC).or_else(|| line.strip_prefix(BEFORE))
}

/// Writes that a record is this now; says how many octets that took. One of
/// which a listener has no place is left out: it could not be restored.
pub(super) fn put(record: &Record, now: Instant, at: &Opening, places: &[Place], out: &mut Vec<u8>) -> u64 {
    let before = at.begin(out);
    Json(out).raw("\"put\":");
    if !snapshot::write(record, now, places, out) {
        out.truncate(before);
        return 0;
    }
    at.end(before, out)
}

/// Writes that a binding was refreshed.
pub(super) fn refresh(binding: &Binding, now: Instant, at: &Opening, out: &mut Vec<u8>) {
    let before = at.begin(out);
    Json(out).raw("\"refresh\":");
    snapshot::write_refresh(binding, now, out);
    at.end(before, out);
}

/// Writes that a record is gone.
pub(super) fn delete(key: Key, at: &Opening, out: &mut Vec<u8>) {
    let before = at.begin(out);
    let (kind, id) = match key {
        Key::Binding(id) => ("binding", id.0),
        Key::Call(id) => ("call", id.0),
    };
    Json(out).raw("\"delete\":{\"").raw(kind).raw("\":").number(id).raw("}");
    at.end(before, out);
}

/// How all lines of one moment begin, with the checksum of that.
#[derive(Debug)]
pub(super) struct Opening {
    /// Room for the head, which is not known yet, and the moment.
    text: Vec<u8>,
    sum: Sum,
}

impl Opening {
    /// Of lines that are written now.
    pub(super) fn of(at: Stamp) -> Self {
        let mut text = vec![b' '; HEAD];
        Json(&mut text).raw("{\"at\":{\"unix_ms\":").number(at.unix_ms).raw(",\"up_ms\":").number(at.up_ms).raw("},");
        let sum = Sum::EMPTY.of(&text[HEAD..]);
        Self { text, sum }
    }

    /// Where the line begins.
    fn begin(&self, out: &mut Vec<u8>) -> usize {
        let before = out.len();
        out.extend_from_slice(&self.text);
        before
    }

    /// Its length, with the line end.
    fn end(&self, before: usize, out: &mut Vec<u8>) -> u64 {
        out.push(b'}');
        let (head, body) = out[before..].split_at_mut(HEAD);
        let sum = self.sum.of(&body[self.text.len() - HEAD..]);
        head.copy_from_slice(&self::head(body.len(), sum));
        out.push(b'\n');
        (out.len() - before) as u64
    }
}

/// Reads a line without its end; `None` if it is not as it was written.
pub(super) fn read(line: &[u8]) -> Option<Entry> {
    let (before, body) = line.split_at_checked(HEAD)?;
    if before != head(body.len(), Sum::EMPTY.of(body)) {
        return None;
    }
    serde_json::from_slice(body).ok()
}

fn head(length: usize, sum: Sum) -> [u8; HEAD] {
    let mut head = [b' '; HEAD];
    for (number, start) in [(u32::try_from(length).unwrap_or(u32::MAX), 0), (sum.crc32(), 9)] {
        for (at, digit) in head[start..start + 8].iter_mut().enumerate() {
            *digit = b"0123456789abcdef"[(number >> (28 - 4 * at) & 0xf) as usize];
        }
    }
    head
}

/// CRC-32 as in Ethernet and gzip (ISO 3309), of what came so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sum(u32);

impl Sum {
    /// Of nothing.
    const EMPTY: Self = Self(!0);
    /// What an octet does to the sum, with as many octets behind it as the place of its table.
    const TABLES: [[u32; 256]; 8] = {
        let mut tables = [[0; 256]; 8];
        let mut at = 0;
        while at < 256 {
            let (mut rest, mut bit) = (at as u32, 0);
            while bit < 8 {
                rest = if rest & 1 == 1 { rest >> 1 ^ 0xedb8_8320 } else { rest >> 1 };
                bit += 1;
            }
            tables[0][at] = rest;
            at += 1;
        }
        let mut place = 1;
        while place < 8 {
            let mut at = 0;
            while at < 256 {
                let before: u32 = tables[place - 1][at];
                tables[place][at] = before >> 8 ^ tables[0][(before & 0xff) as usize];
                at += 1;
            }
            place += 1;
        }
        tables
    };

    /// With these behind it, eight octets at a time.
    fn of(self, octets: &[u8]) -> Self {
        let (eights, rest) = octets.as_chunks::<8>();
        let sum = eights.iter().fold(self.0, |sum: u32, eight| {
            let mixed = (u64::from_le_bytes(*eight) ^ u64::from(sum)).to_le_bytes();
            (0..8).fold(0, |sum, at| sum ^ Self::TABLES[7 - at][usize::from(mixed[at])])
        });
        let one = |sum: u32, octet: &u8| sum >> 8 ^ Self::TABLES[0][usize::from(sum.to_le_bytes()[0] ^ octet)];
        Self(rest.iter().fold(sum, one))
    }

    fn crc32(self) -> u32 {
        !self.0
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use registry::BindingId;

    use super::*;

    fn entry(id: u64) -> Entry {
        Entry { at: Stamp { unix_ms: 5, up_ms: 3 }, change: Kept::Delete(Key::Binding(BindingId(id))) }
    }

    #[test]
    fn the_checksum_is_the_usual_one() {
        assert_eq!(Sum::EMPTY.of(b"123456789").crc32(), 0xcbf4_3926);
        assert_eq!(Sum::EMPTY.of(b"").crc32(), 0);
        let octets: Vec<u8> = (0..=255).collect();
        assert_eq!(Sum::EMPTY.of(&octets[..13]).of(&octets[13..]).crc32(), 0x2905_8c73);
    }

    #[test]
    fn a_line_is_read_as_it_was_written_or_not_at_all() {
        let mut line = Vec::new();
        delete(Key::Binding(BindingId(u64::MAX)), &Opening::of(Stamp { unix_ms: 5, up_ms: 3 }), &mut line);
        assert_eq!(line.pop(), Some(b'\n'));
        assert_eq!(
            String::from_utf8_lossy(&line[HEAD..]),
            r#"{"at":{"unix_ms":5,"up_ms":3},"delete":{"binding":18446744073709551615}}"#
        );
        assert_eq!(read(&line), Some(entry(u64::MAX)));
        for cut in 0..line.len() {
            assert_eq!(read(&line[..cut]), None, "{cut}");
        }
        for at in 0..line.len() {
            let mut altered = line.clone();
            altered[at] ^= 4;
            assert_eq!(read(&altered).filter(|found| *found != entry(u64::MAX)), None, "{at}");
        }
    }

    #[test]
    fn time_passes_by_the_clock_that_can_be_believed() {
        let stamp = |unix_ms, up_ms| Stamp { unix_ms, up_ms };
        for (then, now, same_boot, passed) in [
            (stamp(1000, 500), stamp(4000, 700), true, 200),
            (stamp(1000, 500), stamp(0, 700), true, 200),
            (stamp(1000, 500), stamp(4000, 700), false, 3000),
            (stamp(1000, 500), stamp(900, 700), false, 0),
            (stamp(1000, 500), stamp(4000, 100), true, 0),
        ] {
            assert_eq!(now.since(then, same_boot), Duration::from_millis(passed), "{then:?} {now:?}");
        }
    }

    #[test]
    fn another_format_is_not_read() {
        assert_eq!(boot(first("b").trim_end().as_bytes()), Some("b"));
        assert_eq!(boot(b"siplatch snapshot 1 b"), Some("b"), "that of versions before");
        assert_eq!(boot(b"siplatch snapshot 3 b"), None);
        assert_eq!(boot(&[0xff; 40]), None);
    }
}
