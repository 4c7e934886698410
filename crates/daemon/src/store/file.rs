//! The file itself: lines are appended to it, and now and then it is written
//! anew beside and renamed, so that there is always a whole one.
//!
//! All that is written is forced to the disk, a batch at a time: it outlives
//! the process, and a loss of power as well.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// The snapshot, as far as this process has written it.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    /// The file that lines are appended to; `None` until it was written anew.
    open: Option<File>,
    /// Octets of whole lines in it.
    length: u64,
}

impl Log {
    /// Nothing is written yet.
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, open: None, length: 0 }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// True when lines may be appended.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Octets in it.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Appends whole lines, the last of a batch: all of it is forced to the disk.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        self.write(lines)?;
        let Some(file) = &mut self.open else { return Err(io::ErrorKind::NotFound.into()) };
        let forced = file.sync_data();
        if forced.is_err() {
            // What the kernel holds and what the disk has may differ from here on.
            self.open = None;
        }
        forced
    }

    /// Appends whole lines of a batch. On an error none of them is in it: what came of
    /// them is cut off again, or the file must be written anew.
    pub(super) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let Some(file) = &mut self.open else { return Err(io::ErrorKind::NotFound.into()) };
        let written = file.write_all(lines);
        match written {
            Ok(()) => self.length += lines.len() as u64,
            Err(_) => {
                let cut = file.set_len(self.length).and_then(|()| file.seek(SeekFrom::Start(self.length)));
                if cut.is_err() {
                    self.open = None;
                }
            }
        }
        written
    }

    /// Replaces the whole.
    pub(super) fn rewrite(&mut self, whole: &[u8]) -> io::Result<()> {
        let draft = self.path.with_extension("new");
        let written = write(&draft, whole).and_then(|file| fs::rename(&draft, &self.path).map(|()| file));
        match written {
            Ok(file) => {
                // The new name, too. Not every file system knows how; the file itself is safe.
                let _ = self.path.parent().map(|dir| File::open(dir).and_then(|dir| dir.sync_all()));
                self.open = Some(file);
                self.length = whole.len() as u64;
                Ok(())
            }
            Err(error) => {
                // It takes the space that may be missing.
                let _ = fs::remove_file(&draft);
                Err(error)
            }
        }
    }
}

/// For us alone: it says who calls whom, and whoever could write it could call in another's name.
fn write(path: &Path, whole: &[u8]) -> io::Result<File> {
    // One that was left behind may have other rights.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(whole)?;
    file.sync_data()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn log(name: &str) -> Log {
        let dir = std::env::temp_dir().join(format!("siplatch-log-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        Log::new(dir.join("snapshot"))
    }

    fn end(log: &Log) {
        fs::remove_dir_all(log.path().parent().unwrap()).unwrap();
    }

    #[test]
    fn lines_are_appended_to_the_last_whole_file() {
        let mut log = log("append");
        assert!(log.append(b"x\n").is_err());
        log.rewrite(b"a\n").unwrap();
        log.append(b"b\n").unwrap();
        log.rewrite(b"c\n").unwrap();
        log.append(b"d\n").unwrap();
        assert_eq!(fs::read(log.path()).unwrap(), b"c\nd\n");
        assert_eq!(log.length(), 4);
        let mode = fs::metadata(log.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(log.path().parent().unwrap()).unwrap().count(), 1, "no draft stays behind");
        end(&log);
    }

    #[test]
    fn a_whole_file_stays_when_no_new_one_can_be_written() {
        let mut log = log("stays");
        log.rewrite(b"a\n").unwrap();
        let draft = log.path().with_extension("new");
        fs::create_dir(&draft).unwrap();
        assert!(log.rewrite(b"b\n").is_err());
        log.append(b"c\n").unwrap();
        assert_eq!(fs::read(log.path()).unwrap(), b"a\nc\n");
        fs::remove_dir(draft).unwrap();
        log.rewrite(b"b\n").unwrap();
        assert_eq!(fs::read(log.path()).unwrap(), b"b\n");
        end(&log);
    }

    #[test]
    fn a_full_disk_leaves_whole_lines() {
        // Of every write to it the kernel says: no space left.
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut log = log("full");
        log.open = Some(full);
        let error = log.append(b"b\n").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(!log.is_open(), "a device cannot be cut: written anew");
        log.rewrite(b"a\n").unwrap();
        assert_eq!(fs::read(log.path()).unwrap(), b"a\n");
        end(&log);
    }
}
