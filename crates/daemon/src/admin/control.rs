//! The control socket: a Unix socket in the state directory, over which
//! `siplatch status`, `trace` and `reload` ask the running daemon. One line in,
//! for a reload with the text of a configuration behind it; out comes one JSON
//! text, or one a line for as long as somebody watches.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream as Caller;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;

use super::{Desk, Shared, watcher};
use crate::reload::{Asked, Outcome};
use crate::view::Status;

const NAME: &str = "control.sock";

/// How long either end waits for the other.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a reload may take: names are looked up.
const RELOAD_PATIENCE: Duration = Duration::from_secs(60);

/// Longest line that is asked.
const LONGEST: u64 = 512;

/// Longest configuration that is handed in.
const LONGEST_FILE: u64 = 4 << 20;

/// The socket, removed from the directory when dropped.
#[derive(Debug)]
pub(crate) struct Control {
    listener: UnixListener,
    path: PathBuf,
}

impl Control {
    /// Makes the socket, for our user alone. One that a dead daemon
    /// has left is replaced; a living one is `AddrInUse`.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        let path = dir.join(NAME);
        match Caller::connect(&path) {
            Ok(_) => {
                let what = "another siplatch runs with this state directory; give each its own [state] dir";
                return Err(io::Error::new(ErrorKind::AddrInUse, what));
            }
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => std::fs::remove_file(&path)?,
            Err(_) => {}
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, path })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Answers until the task is dropped.
    pub(crate) async fn serve(self, shared: Arc<Shared>, desk: Desk) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let (shared, desk) = (Arc::clone(&shared), desk.clone());
                    tokio::spawn(async move {
                        if let Err(error) = answer(stream, &shared, &desk).await {
                            tracing::debug!(%error, "control connection failed");
                        }
                    });
                }
                Err(error) => {
                    // Descriptors ran out: they will come back.
                    tracing::debug!(%error, "control connection refused");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // A leftover is replaced at the next start.
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn answer(mut stream: UnixStream, shared: &Shared, desk: &Desk) -> io::Result<()> {
    let mut line = Vec::new();
    let mut reader = BufReader::new(&mut stream);
    tokio::time::timeout(PATIENCE, (&mut reader).take(LONGEST).read_until(b'\n', &mut line)).await??;
    let line = String::from_utf8_lossy(&line);
    let (word, rest) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
    let text = match word {
        "status" => serde_json::to_string(&shared.status())?,
        "trace" => return watcher::serve(stream, rest.trim(), &desk.orders).await,
        "reload" => {
            let file = match rest.split_once(' ') {
                Some((length, name)) => Some(tokio::time::timeout(PATIENCE, file(&mut reader, length, name)).await??),
                None => None,
            };
            serde_json::to_string(&reload(desk, file).await)?
        }
        _ => r#"{"error":"there are status, trace and reload"}"#.to_owned(),
    };
    tokio::time::timeout(PATIENCE, async {
        stream.write_all(text.as_bytes()).await?;
        stream.shutdown().await
    })
    .await?
}

/// A configuration that is handed in: `reload LENGTH NAME`, and that many octets.
async fn file(reader: &mut BufReader<&mut UnixStream>, length: &str, name: &str) -> io::Result<(String, String)> {
    let length = length.parse().ok().filter(|length| *length <= LONGEST_FILE).ok_or(ErrorKind::InvalidData)?;
    let mut text = String::new();
    if reader.take(length).read_to_string(&mut text).await? as u64 != length {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok((name.to_owned(), text))
}

async fn reload(desk: &Desk, file: Option<(String, String)>) -> Outcome {
    let (reply, outcome) = oneshot::channel();
    let sent = desk.reloads.send(Asked { file, reply: Some(reply) }).await;
    let stopping = || Outcome { applied: false, text: "refused: siplatch is stopping\n".to_owned() };
    match sent {
        Ok(()) => outcome.await.unwrap_or_else(|_| stopping()),
        Err(_) => stopping(),
    }
}

/// Makes the daemon reload: this file, or the one that it was started with.
pub(crate) fn reload_now(dirs: &[PathBuf], file: Option<(String, String)>) -> Result<Outcome, String> {
    let question = match file {
        Some((name, _)) if name.len() > 256 || name.contains('\n') => {
            return Err(format!("{name}: give the file a shorter name\n"));
        }
        Some((_, text)) if text.len() as u64 > LONGEST_FILE => {
            return Err("a configuration is not as long as that\n".to_owned());
        }
        Some((name, text)) => format!("reload {} {name}\n{text}", text.len()),
        None => "reload\n".to_owned(),
    };
    ask_for(dirs, question.as_bytes(), RELOAD_PATIENCE)
}

/// The status of the daemon whose state directory is one of these; or says
/// plainly why it could not be asked.
pub(crate) fn ask(dirs: &[PathBuf]) -> Result<Status, String> {
    ask_for(dirs, b"status\n", PATIENCE)
}

fn ask_for<T: DeserializeOwned>(dirs: &[PathBuf], question: &[u8], patience: Duration) -> Result<T, String> {
    let stream = connect(dirs)?;
    let text = call(stream, question, patience).map_err(|error| format!("the daemon does not answer: {error}\n"))?;
    serde_json::from_slice(&text)
        .map_err(|error| format!("the daemon's answer is not understood ({error}): is it of another version?\n"))
}

/// A connection to the daemon whose state directory is one of these.
pub(crate) fn connect(dirs: &[PathBuf]) -> Result<Caller, String> {
    let mut failures = Vec::new();
    for dir in dirs {
        let path = dir.join(NAME);
        match Caller::connect(&path) {
            Ok(stream) => return Ok(stream),
            Err(error) => failures.push((path, error)),
        }
    }
    let denied = failures.iter().find(|(_, error)| error.kind() == ErrorKind::PermissionDenied);
    if let Some((path, _)) = denied {
        let path = path.display();
        return Err(format!("you may not use {path}: run this as root, or as the user that siplatch runs as\n"));
    }
    let other = failures.iter().find(|(_, error)| {
        !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::NotADirectory)
    });
    if let Some((path, error)) = other {
        return Err(format!("the daemon cannot be asked over {}: {error}\n", path.display()));
    }
    let places: Vec<String> = failures.iter().map(|(path, _)| path.display().to_string()).collect();
    Err(format!(
        "siplatch does not run here: nobody answers at {}\nIf it runs with a configuration, name it with --config FILE\n",
        places.join(" or ")
    ))
}

fn call(mut stream: Caller, question: &[u8], patience: Duration) -> io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(question)?;
    let mut text = Vec::new();
    stream.take(64 << 20).read_to_end(&mut text)?;
    Ok(text)
}
