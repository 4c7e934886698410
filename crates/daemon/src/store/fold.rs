//! What should stand in the file: the fold of all changes, and which of its
//! records the file does not have yet.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Instant;

use registry::snapshot::{Place, Portable};
use registry::{Key, Record};

use super::file::Log;
use super::line::{self, Entry, Kept, Stamp};

/// A file below this size is not written anew to save space.
const SMALL: u64 = 1 << 20;
/// Records that are gone while the file says otherwise; beyond so many it is written anew.
pub(super) const FORGOTTEN: usize = 65_536;
/// A file may grow to so many times what it must hold.
const GROWTH: u64 = 4;

/// Records, each its own [`registry::snapshot::essence`].
#[derive(Debug)]
pub(super) struct Fold {
    first: String,
    pub(super) places: Vec<Place>,
    live: BTreeMap<Key, Live>,
    /// Octets that they would take in a new file, about.
    needed: u64,
    /// Keys whose line is not written yet.
    pub(super) dirty: BTreeSet<Key>,
    /// What the file has is another's.
    anew: bool,
    /// It is not written anew for its size before it has so many octets.
    most: u64,
}

#[derive(Debug)]
struct Live {
    record: Record,
    octets: u64,
}

impl Fold {
    /// Empty, and nothing is written.
    pub(super) fn new(boot: &str, places: Vec<Place>) -> Self {
        let (live, dirty) = (BTreeMap::new(), BTreeSet::new());
        Self { first: line::first(boot), places, live, needed: 0, dirty, anew: true, most: SMALL }
    }

    /// All records, whatever was before.
    pub(super) fn replace(&mut self, records: impl IntoIterator<Item = (Key, Option<Record>)>) {
        self.live.clear();
        self.dirty.clear();
        self.needed = 0;
        self.anew = true;
        for (key, record) in records {
            self.change(key, record);
        }
    }

    /// A record is this now, or gone.
    pub(super) fn change(&mut self, key: Key, record: Option<Record>) {
        let before = self.live.get(&key);
        let octets = before.map_or(0, |live| live.octets);
        match record {
            Some(record) if before.is_some_and(|live| live.record == record) => {}
            Some(record) => {
                self.live.insert(key, Live { record, octets });
                self.mark(key);
            }
            None if before.is_some() => {
                self.live.remove(&key);
                self.needed = self.needed.saturating_sub(octets);
                self.mark(key);
            }
            None => {}
        }
    }

    /// While nothing can be written, calls come and go; beyond what is live
    /// their names are not remembered for ever.
    fn mark(&mut self, key: Key) {
        self.dirty.insert(key);
        if self.anew || self.dirty.len() > self.live.len() + FORGOTTEN {
            self.anew = true;
            self.dirty.clear();
        }
    }

    /// How many records there are.
    pub(super) fn len(&self) -> usize {
        self.live.len()
    }

    /// Writes what the file does not have; says how many octets that were. On
    /// an error the next call tries the same again.
    pub(super) fn write(&mut self, now: Instant, at: Stamp, log: &mut Log) -> io::Result<u64> {
        if self.anew || !log.is_open() {
            return self.write_all(now, at, log);
        }
        if log.length() > self.most.max(GROWTH * self.needed) {
            match self.write_all(now, at, log) {
                Ok(octets) => return Ok(octets),
                // A disk without room for a second file may have some for a line.
                Err(error) => {
                    tracing::debug!(%error, "the snapshot cannot be written anew; it grows on");
                    self.most = log.length() + SMALL;
                }
            }
        }
        self.append(now, at, log)
    }

    fn write_all(&mut self, now: Instant, at: Stamp, log: &mut Log) -> io::Result<u64> {
        let mut octets = self.first.clone().into_bytes();
        self.needed = 0;
        for Live { record, octets: length } in self.live.values_mut() {
            *length = put(record, now, at, &self.places, &mut octets)?;
            self.needed += *length;
        }
        log.rewrite(&octets)?;
        self.anew = false;
        self.most = SMALL;
        self.dirty.clear();
        Ok(octets.len() as u64)
    }

    fn append(&mut self, now: Instant, at: Stamp, log: &mut Log) -> io::Result<u64> {
        let mut octets = Vec::new();
        for key in &self.dirty {
            match self.live.get_mut(key) {
                Some(Live { record, octets: length }) => {
                    self.needed = self.needed.saturating_sub(*length);
                    *length = put(record, now, at, &self.places, &mut octets)?;
                    self.needed += *length;
                }
                None => {
                    line::write(&Entry { at, change: Kept::Delete(*key) }, &mut octets)?;
                }
            }
        }
        if !octets.is_empty() {
            log.append(&octets)?;
        }
        self.dirty.clear();
        Ok(octets.len() as u64)
    }
}

/// A record of which a listener has no place is left out: it could not be restored.
fn put(record: &Record, now: Instant, at: Stamp, places: &[Place], octets: &mut Vec<u8>) -> io::Result<u64> {
    match Portable::of(record, now, places) {
        Some(portable) => Ok(line::write(&Entry { at, change: Kept::Put(portable) }, octets)? as u64),
        None => Ok(0),
    }
}
