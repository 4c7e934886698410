//! Reading the snapshot at start: the fold of its lines, with the time that
//! has passed since taken off every lifetime.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::time::{Duration, Instant};

use registry::snapshot::{Lost, Place};
use registry::{Key, Record};

use super::line::{self, Entry, Kept, Stamp};

/// A file beyond that is not ours.
const MOST: u64 = 1 << 30;

/// What an earlier process left.
#[derive(Debug, Default)]
pub(crate) struct Restored {
    /// The records, as of now.
    pub(crate) records: Vec<Record>,
    /// What could not be used, and why; `Damaged` counts lines.
    pub(crate) lost: Vec<Lost>,
    /// How long ago the last line was written.
    pub(crate) age: Duration,
}

impl Restored {
    /// Bindings and calls among the records.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let bindings = self.records.iter().filter(|record| matches!(record, Record::Binding(_))).count();
        (bindings, self.records.len() - bindings)
    }

    /// In words; `None` where there was nothing.
    pub(crate) fn summary(&self) -> Option<String> {
        let (bindings, calls) = self.counts();
        let lost = match self.lost.len() {
            0 => String::new(),
            lost => format!("; {lost} could not be"),
        };
        let age = self.age.as_secs();
        (!self.records.is_empty() || !self.lost.is_empty())
            .then(|| format!("{bindings} registrations and {calls} calls, {age} s old{lost}"))
    }
}

/// Reads the file; one that is not there is empty.
pub(super) fn load(path: &Path, boot: &str, now: Instant, places: &[Place]) -> io::Result<Restored> {
    let mut octets = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(MOST).read_to_end(&mut octets)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Restored::default()),
        Err(error) => return Err(error),
    };
    fold(&octets, boot, now, Stamp::now(), places)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it is of another version or no snapshot"))
}

fn fold(octets: &[u8], boot: &str, now: Instant, at: Stamp, places: &[Place]) -> Option<Restored> {
    let mut lines = octets.split(|octet| *octet == b'\n');
    let same_boot = line::boot(lines.next()?)? == boot;
    let mut restored = Restored::default();
    let mut kept = BTreeMap::new();
    let mut last: Option<Stamp> = None;
    // What stands behind the last line end is nothing, or a line that was torn.
    for text in lines.filter(|text| !text.is_empty()) {
        match line::read(text) {
            Some(Entry { at, change }) => {
                last = Some(at);
                match change {
                    Kept::Put(portable) => _ = kept.insert(portable.key(), (at, portable)),
                    // Of one whose line was damaged nothing is known.
                    Kept::Refresh(refresh) => {
                        if let Some((then, portable)) = kept.get_mut(&Key::Binding(refresh.id)) {
                            *then = at;
                            portable.refresh(refresh);
                        }
                    }
                    Kept::Delete(key) => _ = kept.remove(&key),
                }
            }
            None => restored.lost.push(Lost::Damaged),
        }
    }
    restored.age = last.map(|last| at.since(last, same_boot)).unwrap_or_default();
    for (then, portable) in kept.into_values() {
        match portable.restore(now, at.since(then, same_boot), places) {
            Ok(record) => restored.records.push(record),
            Err(lost) => restored.lost.push(lost),
        }
    }
    Some(restored)
}
