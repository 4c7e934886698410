//! What should stand in the file: the fold of all changes, and which of its
//! records the file does not have yet.

use std::collections::btree_map::{BTreeMap, Entry};
use std::io;
use std::time::Instant;

use registry::snapshot::{self, Place};
use registry::{Key, Record};

use super::file::Log;
use super::line::{self, Opening, Stamp};

/// A file below this size is not written anew to save space.
const SMALL: u64 = 1 << 20;
/// Records that are gone while the file says otherwise; beyond so many it is written anew.
pub(super) const FORGOTTEN: usize = 65_536;
/// Octets of lines that go to the file at once: the room for them is kept.
const PIECE: usize = 1 << 13;
/// A file may grow to so many times what it must hold.
const GROWTH: u64 = 4;

/// Records that [outlive](snapshot::outlives) us, as the registry has them: each is there once.
#[derive(Debug)]
pub(super) struct Fold {
    first: String,
    pub(super) places: Vec<Place>,
    live: BTreeMap<Key, Live>,
    /// Octets that they would take in a new file, about.
    needed: u64,
    /// Keys of which a line is not written yet, and which line.
    pub(super) dirty: BTreeMap<Key, Due>,
    /// What the file has is another's.
    anew: bool,
    /// It is not written anew for its size before it has so many octets.
    most: u64,
    /// Where lines are written before they go to the file.
    lines: Vec<u8>,
}

/// What is to be written of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// That it is there, with all that it is, or that it is gone.
    Whole,
    /// That it was refreshed.
    Refresh,
}

#[derive(Debug)]
struct Live {
    record: Record,
    octets: u64,
}

impl Fold {
    /// Empty, and nothing is written.
    pub(super) fn new(boot: &str, places: Vec<Place>) -> Self {
        let (live, dirty) = (BTreeMap::new(), BTreeMap::new());
        Self { first: line::first(boot), places, live, needed: 0, dirty, anew: true, most: SMALL, lines: Vec::new() }
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
        let due = match (self.live.entry(key), record) {
            (Entry::Occupied(mut live), Some(record)) => {
                let Live { record: known, octets } = live.get_mut();
                let before = std::mem::replace(known, record);
                if snapshot::same(&before, known) {
                    return;
                }
                // One that had no place when it was written is not in the file.
                if *octets > 0 && snapshot::is_refresh(&before, known) { Due::Refresh } else { Due::Whole }
            }
            (Entry::Vacant(place), Some(record)) => {
                place.insert(Live { record, octets: 0 });
                Due::Whole
            }
            (Entry::Occupied(live), None) => {
                self.needed = self.needed.saturating_sub(live.remove().octets);
                Due::Whole
            }
            (Entry::Vacant(_), None) => return,
        };
        self.mark(key, due);
    }

    /// While nothing can be written, calls come and go; beyond what is live
    /// their names are not remembered for ever.
    fn mark(&mut self, key: Key, due: Due) {
        let marked = self.dirty.entry(key).or_insert(due);
        if due == Due::Whole {
            *marked = due;
        }
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
        let at = &Opening::of(at);
        for Live { record, octets: length } in self.live.values_mut() {
            *length = line::put(record, now, at, &self.places, &mut octets);
            self.needed += *length;
        }
        log.rewrite(&octets)?;
        self.anew = false;
        self.most = SMALL;
        self.dirty.clear();
        Ok(octets.len() as u64)
    }

    fn append(&mut self, now: Instant, at: Stamp, log: &mut Log) -> io::Result<u64> {
        let octets = &mut self.lines;
        octets.clear();
        if self.dirty.is_empty() {
            return Ok(0);
        }
        let (at, before) = (&Opening::of(at), log.length());
        for (key, due) in &self.dirty {
            match self.live.get_mut(key) {
                Some(Live { record: Record::Binding(binding), .. }) if *due == Due::Refresh => {
                    line::refresh(binding, now, at, octets);
                }
                Some(Live { record, octets: length }) => {
                    self.needed = self.needed.saturating_sub(*length);
                    *length = line::put(record, now, at, &self.places, octets);
                    self.needed += *length;
                }
                None => line::delete(*key, at, octets),
            }
            if octets.len() >= PIECE {
                log.write(octets)?;
                octets.clear();
                octets.shrink_to(2 * PIECE);
            }
        }
        if !octets.is_empty() || log.length() > before {
            log.append(octets)?;
        }
        self.dirty.clear();
        Ok(log.length() - before)
    }
}
