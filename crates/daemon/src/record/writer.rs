//! The thread that writes records: lines appended to `calls.jsonl`, whole lines
//! at a time. Whoever rotates the file moves it away; the next line begins a new
//! one. Nobody need rotate it: one that is full takes the place of the one before.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::admin::Shared;
use crate::metrics::Metrics;
use crate::metrics::label::{Label as _, Recorded};
use crate::metrics::table::Name;

/// Portions of lines that may wait for the disk.
const QUEUE: usize = 256;
/// A file of so many octets is full.
const FULL: u64 = 64 << 20;
/// How long the last lines may take at stop.
const LAST: Duration = Duration::from_secs(1);

/// Whole lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    pub(super) text: Vec<u8>,
    pub(super) count: u32,
}

/// Hands lines to the thread.
#[derive(Debug)]
pub(super) struct Writer {
    lines: mpsc::Sender<Lines>,
    ended: oneshot::Receiver<()>,
}

impl Writer {
    /// Starts the thread. The file is made with the first line.
    pub(super) fn start(dir: &Path, shared: &Arc<Shared>) -> io::Result<Self> {
        let (lines, mut waiting) = mpsc::channel::<Lines>(QUEUE);
        let (end, ended) = oneshot::channel::<()>();
        let (mut journal, shared) = (Journal::new(dir, FULL), Arc::clone(shared));
        thread::Builder::new().name("records".to_owned()).spawn(move || {
            net::background::wait_for_others();
            let _end = end;
            let mut failing = false;
            while let Some(lines) = waiting.blocking_recv() {
                let result = journal.append(&lines.text);
                let recorded = if result.is_ok() { Recorded::Written } else { Recorded::Failed };
                shared.metrics.add(Name::CallRecords, &[recorded.label()], lines.count.into());
                if let Err(error) = &result
                    && !failing
                {
                    tracing::warn!(%error, path = %journal.path.display(), "records of calls cannot be written");
                }
                failing = result.is_err();
            }
        })?;
        Ok(Self { lines, ended })
    }

    /// Takes lines, or counts them as lost.
    pub(super) fn write(&self, lines: Lines, metrics: &Metrics) {
        let count = lines.count;
        if self.lines.try_send(lines).is_err() {
            metrics.add(Name::CallRecords, &[Recorded::Dropped.label()], count.into());
        }
    }

    /// Waits for the last lines.
    pub(super) async fn finish(self) {
        drop(self.lines);
        // Its end is what we wait for; it says nothing.
        if tokio::time::timeout(LAST, self.ended).await.is_err() {
            tracing::warn!("the disk is held up; the last records of calls may be missing");
        }
    }
}

/// The file.
#[derive(Debug)]
struct Journal {
    path: PathBuf,
    full: u64,
    /// What is open, and which file that is.
    open: Option<(File, u64)>,
    /// The last line may be half a line.
    torn: bool,
}

impl Journal {
    fn new(dir: &Path, full: u64) -> Self {
        Self { path: dir.join("calls.jsonl"), full, open: None, torn: false }
    }

    /// Whole lines.
    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        // Moved away or removed: what is open has another number, or none.
        let there = fs::metadata(&self.path).ok();
        let whole = there.as_ref().is_some_and(|there| there.len() + lines.len() as u64 > self.full);
        if whole {
            fs::rename(&self.path, self.path.with_extension("1.jsonl"))?;
        }
        let number = there.filter(|_| !whole).map(|there| there.ino());
        if self.open.as_ref().is_none_or(|(_, open)| Some(*open) != number) {
            let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path)?;
            let number = file.metadata()?.ino();
            self.open = Some((file, number));
        }
        match &mut self.open {
            Some((file, _)) => {
                let written = if self.torn { file.write_all(b"\n") } else { Ok(()) };
                let written = written.and_then(|()| file.write_all(lines));
                self.torn = written.is_err();
                written
            }
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("siplatch-records-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn a_file_that_is_moved_away_or_removed_is_begun_anew() {
        let dir = dir("moved");
        let mut journal = Journal::new(&dir, 1000);
        journal.append(b"one\n").unwrap();
        fs::rename(dir.join("calls.jsonl"), dir.join("kept")).unwrap();
        journal.append(b"two\n").unwrap();
        fs::remove_file(dir.join("calls.jsonl")).unwrap();
        journal.append(b"three\n").unwrap();
        journal.append(b"four\n").unwrap();
        assert_eq!(fs::read_to_string(dir.join("kept")).unwrap(), "one\n");
        assert_eq!(fs::read_to_string(dir.join("calls.jsonl")).unwrap(), "three\nfour\n");
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_full_file_takes_the_place_of_the_one_before() {
        let dir = dir("full");
        let mut journal = Journal::new(&dir, 10);
        for line in [b"1234\n", b"5678\n", b"90ab\n", b"cdef\n", b"ghij\n"] {
            journal.append(line).unwrap();
        }
        assert_eq!(fs::read_to_string(dir.join("calls.1.jsonl")).unwrap(), "90ab\ncdef\n");
        assert_eq!(fs::read_to_string(dir.join("calls.jsonl")).unwrap(), "ghij\n");
        // Another process goes on where this one stopped.
        Journal::new(&dir, 10).append(b"klmn\n").unwrap();
        assert_eq!(fs::read_to_string(dir.join("calls.jsonl")).unwrap(), "ghij\nklmn\n");
        fs::remove_dir_all(dir).unwrap();
    }
}
