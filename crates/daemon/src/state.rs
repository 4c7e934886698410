//! The state directory: which one is used when none is written, and the keys
//! that are kept in it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Where state goes on a server.
const SYSTEM: &str = "/var/lib/siplatch";

/// The directories to try when none is configured, the likely one first: the
/// system's for root and for whoever owns it, one below the user's own else.
pub(crate) fn candidates() -> Vec<PathBuf> {
    let system = PathBuf::from(SYSTEM);
    let Some(users) = users_dir() else { return vec![system] };
    let ours = fs::metadata("/proc/self").map(|own| own.uid()).unwrap_or_default();
    let owner = fs::metadata(&system).map(|dir| dir.uid());
    if ours == 0 || owner.is_ok_and(|owner| owner == ours) { vec![system, users] } else { vec![users, system] }
}

fn users_dir() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    Some(base.join("siplatch"))
}

/// The first of the directories that exists or can be made, and can be
/// written; or why the first one cannot.
pub(crate) fn open(dirs: &[PathBuf]) -> io::Result<PathBuf> {
    let mut failure = None;
    for dir in dirs {
        match prepare(dir) {
            Ok(()) => return Ok(dir.clone()),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    Err(failure.unwrap_or_else(|| io::ErrorKind::NotFound.into()))
}

/// Makes the directory, for us alone, if it is not there, and tries to write.
fn prepare(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let probe = dir.join(format!(".probe.{}", std::process::id()));
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&probe)?;
    fs::remove_file(&probe)
}

/// The key for tokens: read, or made from `fresh` and kept. An error says that
/// it could be neither, so that tokens will not outlive this process.
pub(crate) fn token_key(dir: &Path, fresh: [u8; 32]) -> io::Result<[u8; 32]> {
    key(dir, "token.key", fresh)
}

/// The seed of what routers know our mappings by, likewise.
pub(crate) fn router_key(dir: &Path, fresh: [u8; 32]) -> io::Result<[u8; 32]> {
    key(dir, "router.key", fresh)
}

fn key(dir: &Path, name: &str, fresh: [u8; 32]) -> io::Result<[u8; 32]> {
    let path = dir.join(name);
    match File::open(&path) {
        Ok(file) => {
            let mut read = Vec::new();
            file.take(64).read_to_end(&mut read)?;
            <[u8; 32]>::try_from(read.as_slice()).map_err(|_| {
                let what = format!("{} is not 32 octets long; remove it and a new one is made", path.display());
                io::Error::new(io::ErrorKind::InvalidData, what)
            })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            keep(dir, &path, name, fresh)?;
            Ok(fresh)
        }
        Err(error) => Err(error),
    }
}

/// Written beside and renamed, so that there is never half a key.
fn keep(dir: &Path, path: &Path, name: &str, key: [u8; 32]) -> io::Result<()> {
    let draft = dir.join(format!(".{name}.{}", std::process::id()));
    let written =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft).and_then(|mut file| {
            file.write_all(&key)?;
            file.sync_all()
        });
    let kept = written.and_then(|()| fs::rename(&draft, path));
    if kept.is_err() {
        // The draft is of no use; that it may stay behind is the lesser harm.
        let _ = fs::remove_file(&draft);
    }
    kept
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn dir(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("siplatch-state-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        open(std::slice::from_ref(&dir)).unwrap()
    }

    #[test]
    fn the_first_directory_that_works_is_taken() {
        let dir = dir("first");
        let file = dir.join("file");
        fs::write(&file, b"").unwrap();
        assert_eq!(open(&[file.join("below"), dir.join("new")]).unwrap(), dir.join("new"));
        assert!(open(&[file.join("below")]).is_err());
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn key_is_made_once_and_then_read() {
        let dir = dir("key");
        assert_eq!(token_key(&dir, [7; 32]).unwrap(), [7; 32]);
        assert_eq!(token_key(&dir, [8; 32]).unwrap(), [7; 32]);
        let mode = fs::metadata(dir.join("token.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "no draft stays behind");
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_damaged_key_is_an_error_and_stays() {
        let dir = dir("damaged");
        fs::write(dir.join("token.key"), b"short").unwrap();
        assert!(token_key(&dir, [7; 32]).is_err());
        assert_eq!(fs::read(dir.join("token.key")).unwrap(), b"short");
        fs::remove_dir_all(dir).unwrap();
    }
}
