//! The control socket: a Unix socket in the state directory, over which
//! `siplatch status` and `siplatch trace` ask the running daemon. One line in;
//! out comes one JSON text, or one a line for as long as somebody watches.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream as Caller;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc::UnboundedSender;

use super::{Shared, watch};
use crate::edge::Order;
use crate::view::Status;

const NAME: &str = "control.sock";

/// How long either end waits for the other.
const PATIENCE: Duration = Duration::from_secs(5);

/// Longest line that is asked.
const LONGEST: u64 = 512;

/// The socket, removed from the directory when dropped.
#[derive(Debug)]
pub(crate) struct Control {
    listener: UnixListener,
    path: PathBuf,
}

impl Control {
    /// Makes the socket, for our user and group alone. One that a dead daemon
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
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o660))?;
        Ok(Self { listener, path })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Answers until the task is dropped.
    pub(crate) async fn serve(self, shared: Arc<Shared>, orders: UnboundedSender<Order>) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let (shared, orders) = (Arc::clone(&shared), orders.clone());
                    tokio::spawn(async move {
                        if let Err(error) = answer(stream, &shared, &orders).await {
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

async fn answer(mut stream: UnixStream, shared: &Shared, orders: &UnboundedSender<Order>) -> io::Result<()> {
    let mut line = Vec::new();
    let mut reader = BufReader::new((&mut stream).take(LONGEST));
    tokio::time::timeout(PATIENCE, reader.read_until(b'\n', &mut line)).await??;
    let line = String::from_utf8_lossy(&line);
    let (word, rest) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
    let text = match word {
        "status" => serde_json::to_string(&shared.status())?,
        "trace" => return watch::serve(stream, rest.trim(), orders).await,
        _ => r#"{"error":"there are status and trace"}"#.to_owned(),
    };
    tokio::time::timeout(PATIENCE, async {
        stream.write_all(text.as_bytes()).await?;
        stream.shutdown().await
    })
    .await?
}

/// The status of the daemon whose state directory is one of these; or says
/// plainly why it could not be asked.
pub(crate) fn ask(dirs: &[PathBuf]) -> Result<Status, String> {
    let stream = connect(dirs)?;
    let text = call(stream).map_err(|error| format!("the daemon cannot be asked: {error}\n"))?;
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

fn call(mut stream: Caller) -> io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(b"status\n")?;
    let mut text = Vec::new();
    stream.take(64 << 20).read_to_end(&mut text)?;
    Ok(text)
}
