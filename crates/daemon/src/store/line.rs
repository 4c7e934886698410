//! The format of the snapshot: a text of lines, each good or bad by itself.
//!
//! ```text
//! siplatch snapshot 1 <boot id>
//! <length, 8 hex digits> <CRC-32, 8 hex digits> <entry as JSON, no line end in it>
//! ```
//!
//! A line that was torn or altered is recognised and left out; the next one
//! begins after the next line end. Fields that a later version adds to an
//! entry must have a default, or the number in the first line grows.

use std::time::Duration;

use registry::Key;
use registry::snapshot::Portable;
use serde::{Deserialize, Serialize};

const MAGIC: &str = "siplatch snapshot 1 ";
/// Both numbers, each with a blank behind it.
const HEAD: usize = 18;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// When it was written.
    pub(super) at: Stamp,
    /// What it says.
    #[serde(flatten)]
    pub(super) change: Kept,
}

/// One change, in a form that outlives the process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kept {
    /// Now it is this.
    Put(Portable),
    /// Now it is gone.
    Delete(Key),
}

/// A moment, on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
    std::str::from_utf8(line).ok()?.strip_prefix(MAGIC)
}

/// Writes an entry; says how many octets it took.
pub(super) fn write(entry: &Entry, out: &mut Vec<u8>) -> serde_json::Result<usize> {
    let body = serde_json::to_vec(entry)?;
    let before = out.len();
    out.extend_from_slice(head(&body).as_bytes());
    out.extend_from_slice(&body);
    out.push(b'\n');
    Ok(out.len() - before)
}

/// Reads a line without its end; `None` if it is not as it was written.
pub(super) fn read(line: &[u8]) -> Option<Entry> {
    let (before, body) = line.split_at_checked(HEAD)?;
    if before != head(body).as_bytes() {
        return None;
    }
    serde_json::from_slice(body).ok()
}

fn head(body: &[u8]) -> String {
    format!("{:08x} {:08x} ", body.len(), crc32(body))
}

/// CRC-32 as in Ethernet and gzip (ISO 3309).
fn crc32(octets: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut at = 0;
        while at < 256 {
            let (mut rest, mut bit) = (at as u32, 0);
            while bit < 8 {
                rest = if rest & 1 == 1 { rest >> 1 ^ 0xedb8_8320 } else { rest >> 1 };
                bit += 1;
            }
            table[at] = rest;
            at += 1;
        }
        table
    };
    !octets.iter().fold(!0, |sum, octet| sum >> 8 ^ TABLE[usize::from(sum.to_le_bytes()[0] ^ octet)])
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
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b""), 0);
    }

    #[test]
    fn a_line_is_read_as_it_was_written_or_not_at_all() {
        let mut line = Vec::new();
        let length = write(&entry(u64::MAX), &mut line).unwrap();
        assert_eq!(length, line.len());
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
        assert_eq!(boot(b"siplatch snapshot 2 b"), None);
        assert_eq!(boot(&[0xff; 40]), None);
    }
}
