//! State that outlives the process: bindings and dialogs, kept in a file of
//! the state directory and read again at start, also after a kill.
//!
//! The loop's side of it: what has changed in the registry is gathered by key
//! and handed to a thread that writes it, at most [`DELAY`] later and as it is
//! then: a call that has come and gone in between costs next to nothing. While
//! the thread is held up by its disk changes go on being gathered, and nobody
//! waits.

mod file;
mod fold;
mod keeper;
mod line;
mod load;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use proxy::config::Listener;
use registry::snapshot::{self, Place};
use registry::{Binding, BindingId, CallState, Change, Key, PassId, Record, Registry};
use tokio::runtime;
use tokio::sync::{mpsc, oneshot};

use crate::admin::Shared;
use file::Log;
use fold::Fold;
use keeper::{Batch, Keeper};
pub(crate) use load::Restored;

/// How long changes are gathered before they are written.
const DELAY: Duration = Duration::from_millis(50);
/// How long they may be while the loop lags: then calls live longer, and more of them would be written.
const LAGGING: Duration = Duration::from_secs(1);
/// How often a thread that is held up is asked whether it takes the next.
const HELD_UP: Duration = Duration::from_millis(500);
/// Beyond so many gathered changes it is cheaper to forget them and to hand over everything later.
const MOST: usize = 65_536;
/// How long the last changes may take at stop.
const LAST: Duration = Duration::from_secs(1);

/// Gathers changes for the file.
#[derive(Debug)]
pub(crate) struct Store {
    gathered: Gathered,
    /// Everything must be handed over, not only what was gathered.
    whole: bool,
    due: Option<Instant>,
    /// The first of what was gathered.
    since: Option<Instant>,
    /// The thread, and word of its end; `None` where nothing is kept.
    keeper: Option<(mpsc::Sender<Batch>, oneshot::Receiver<()>)>,
}

/// What has changed.
#[derive(Debug, Default)]
struct Gathered {
    /// As they are now, shared with the registry.
    bindings: BTreeMap<BindingId, Option<Arc<Binding>>>,
    /// Whose state is looked up when it is needed; the same may stand there twice.
    calls: Vec<PassId>,
}

impl Store {
    /// Keeps nothing.
    pub(crate) fn off() -> Self {
        Self { gathered: Gathered::default(), whole: false, due: None, since: None, keeper: None }
    }

    /// Reads what an earlier process left in the directory, and begins to
    /// keep what this one has: everything at once, since the file is another's.
    pub(crate) fn open(dir: &Path, shared: &Arc<Shared>, now: Instant) -> io::Result<(Self, Restored)> {
        let lock = lock(dir)?;
        let path = dir.join("snapshot");
        let places: Vec<Place> = shared.settings().proxy.listeners.iter().map(place).collect();
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        // Without one, two boots must not be taken for the same.
        let boot = Some(boot.trim()).filter(|boot| !boot.is_empty()).map_or_else(unknown_boot, str::to_owned);
        let restored = load::load(&path, &boot, now, &places).unwrap_or_else(|error| {
            tracing::warn!(%error, path = %path.display(), "what was kept cannot be read; phones must register anew");
            Restored::default()
        });
        let keeper =
            Keeper { log: Log::new(path), fold: Fold::new(&boot, places), shared: Arc::clone(shared), retry: None };
        let (batches, receiver) = mpsc::channel(1);
        let (ended, end) = oneshot::channel();
        let runtime = runtime::Builder::new_current_thread().enable_time().build()?;
        thread::Builder::new().name("snapshot".to_owned()).spawn(move || {
            net::background::wait_for_others();
            // The lock goes first: word of the end means that another may begin.
            let _kept = (lock, ended);
            runtime.block_on(keeper.run(receiver));
        })?;
        let (gathered, keeper) = (Gathered::default(), Some((batches, end)));
        let store = Self { gathered, whole: true, due: Some(now), since: None, keeper };
        Ok((store, restored))
    }

    /// A mutation of the registry.
    pub(crate) fn change(&mut self, now: Instant, change: Change) {
        if self.keeper.is_none() || self.whole {
            return;
        }
        match change {
            Change::Put(Record::Binding(binding)) => {
                self.gathered.bindings.insert(binding.id, Some(binding));
            }
            Change::Delete(Key::Binding(id)) => {
                self.gathered.bindings.insert(id, None);
            }
            // Nothing of it is kept, and nothing of it was.
            Change::Put(Record::Call(call)) if call.state == CallState::Early => return,
            Change::Put(Record::Call(call)) => self.gathered.calls.push(call.id),
            Change::Delete(Key::Call(id)) => self.gathered.calls.push(id),
        }
        if self.due.is_none() {
            (self.since, self.due) = (Some(now), Some(now + DELAY));
        }
        if self.gathered.are_too_many() {
            self.gathered = Gathered::default();
            self.whole = true;
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// The loop lags: what is due waits, but not for ever.
    pub(crate) fn put_off(&mut self, now: Instant) {
        if self.due.is_some_and(|at| at <= now) {
            self.due = self.since.map(|since| (now + DELAY).min(since + LAGGING)).or(self.due);
        }
    }

    /// Hands over what was gathered, if it is time and the thread takes it.
    pub(crate) fn handle_timeout(&mut self, now: Instant, registry: &Registry, listeners: &[Listener]) {
        if self.due.is_none_or(|at| at > now) {
            return;
        }
        let Some((batches, _)) = &self.keeper else { return };
        let closed = match batches.try_reserve() {
            Ok(place) => {
                place.send(batch(&mut self.gathered, self.whole, registry, listeners));
                self.whole = false;
                self.due = None;
                false
            }
            Err(mpsc::error::TrySendError::Full(())) => {
                self.due = Some(now + HELD_UP);
                false
            }
            Err(mpsc::error::TrySendError::Closed(())) => true,
        };
        if closed {
            tracing::error!("the thread that writes the snapshot has ended; nothing is kept any more");
            *self = Self::off();
        }
    }

    /// Hands over the last changes and waits until they are written, but not for ever.
    pub(crate) async fn finish(mut self, registry: &Registry, listeners: &[Listener]) {
        let Some((batches, end)) = self.keeper.take() else { return };
        let last = async {
            if self.due.is_some()
                && let Ok(place) = batches.reserve().await
            {
                place.send(batch(&mut self.gathered, self.whole, registry, listeners));
            }
            drop(batches);
            // Its end is what we wait for; it says nothing.
            let _ = end.await;
        };
        if tokio::time::timeout(LAST, last).await.is_err() {
            tracing::warn!("the disk is held up; the last changes may be missing from the snapshot");
        }
    }
}

impl Gathered {
    fn are_too_many(&mut self) -> bool {
        if self.calls.len() <= MOST {
            return self.bindings.len() > MOST;
        }
        self.calls.sort_unstable();
        self.calls.dedup();
        // With less room than that the list would be sorted again too soon.
        self.calls.len() > MOST / 2
    }

    /// What each is now, and nothing is gathered any more.
    fn take(&mut self, registry: &Registry) -> Vec<(Key, Option<Record>)> {
        self.calls.sort_unstable();
        self.calls.dedup();
        let bindings = std::mem::take(&mut self.bindings).into_iter();
        let bindings = bindings.map(|(id, binding)| (Key::Binding(id), binding.map(Record::Binding)));
        let calls = self.calls.drain(..).map(|id| (Key::Call(id), registry.record_of_call(id)));
        bindings.chain(calls).map(|(key, record)| (key, record.filter(snapshot::outlives))).collect()
    }
}

fn batch(gathered: &mut Gathered, whole: bool, registry: &Registry, listeners: &[Listener]) -> Batch {
    let changes = if whole {
        *gathered = Gathered::default();
        registry.records().map(|record| (record.key(), Some(record).filter(snapshot::outlives))).collect()
    } else {
        gathered.take(registry)
    };
    Batch { places: listeners.iter().map(place).collect(), whole, changes }
}

/// Two processes that write one file would undo each other's work. The lock
/// ends with the process, however that ends.
fn lock(dir: &Path) -> io::Result<File> {
    let path = dir.join("snapshot.lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(io::Error::other("another siplatch keeps its own there")),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn place(listener: &Listener) -> Place {
    Place { side: listener.side, transport: listener.transport, bind: listener.bind }
}

fn unknown_boot() -> String {
    format!("unknown-{}-{}", std::process::id(), net::clock::unix_time().as_nanos())
}
