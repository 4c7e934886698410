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

/// Lines that may wait for the disk.
const QUEUE: usize = 4096;
/// A file of so many octets is full.
const FULL: u64 = 64 << 20;
/// How long the last lines may take at stop.
const LAST: Duration = Duration::from_secs(1);

/// Hands lines to the thread.
#[derive(Debug)]
pub(super) struct Writer {
    lines: mpsc::Sender<String>,
    ended: oneshot::Receiver<()>,
}

impl Writer {
    /// Starts the thread. The file is made with the first line.
    pub(super) fn start(dir: &Path, shared: &Arc<Shared>) -> io::Result<Self> {
        let (lines, mut waiting) = mpsc::channel::<String>(QUEUE);
        let (end, ended) = oneshot::channel::<()>();
        let (mut journal, shared) = (Journal::new(dir, FULL), Arc::clone(shared));
        thread::Builder::new().name("records".to_owned()).spawn(move || {
            let _end = end;
            let mut failing = false;
            while let Some(line) = waiting.blocking_recv() {
                let result = journal.append(&line);
                let recorded = if result.is_ok() { Recorded::Written } else { Recorded::Failed };
                shared.metrics.count(Name::CallRecords, &[recorded.label()]);
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

    /// Takes a line, or counts it as lost.
    pub(super) fn write(&self, line: String, metrics: &Metrics) {
        if self.lines.try_send(line).is_err() {
            metrics.count(Name::CallRecords, &[Recorded::Dropped.label()]);
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

    fn append(&mut self, line: &str) -> io::Result<()> {
        // Moved away or removed: what is open has another number, or none.
        let there = fs::metadata(&self.path).ok();
        let whole = there.as_ref().is_some_and(|there| there.len() + line.len() as u64 > self.full);
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
                let end = if self.torn { "\n" } else { "" };
                let written = file.write_all(format!("{end}{line}").as_bytes());
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
        journal.append("one\n").unwrap();
        fs::rename(dir.join("calls.jsonl"), dir.join("kept")).unwrap();
        journal.append("two\n").unwrap();
        fs::remove_file(dir.join("calls.jsonl")).unwrap();
        journal.append("three\n").unwrap();
        journal.append("four\n").unwrap();
        assert_eq!(fs::read_to_string(dir.join("kept")).unwrap(), "one\n");
        assert_eq!(fs::read_to_string(dir.join("calls.jsonl")).unwrap(), "three\nfour\n");
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_full_file_takes_the_place_of_the_one_before() {
        let dir = dir("full");
        let mut journal = Journal::new(&dir, 10);
        for line in ["1234\n", "5678\n", "90ab\n", "cdef\n", "ghij\n"] {
            journal.append(line).unwrap();
        }
        assert_eq!(fs::read_to_string(dir.join("calls.1.jsonl")).unwrap(), "90ab\ncdef\n");
        assert_eq!(fs::read_to_string(dir.join("calls.jsonl")).unwrap(), "ghij\n");
        // Another process goes on where this one stopped.
        Journal::new(&dir, 10).append("klmn\n").unwrap();
        assert_eq!(fs::read_to_string(dir.join("calls.jsonl")).unwrap(), "ghij\nklmn\n");
        fs::remove_dir_all(dir).unwrap();
    }
}
