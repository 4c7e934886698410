//! The thread that writes, so that no call ever waits for a disk. What cannot
//! be written is tried again: said once, counted each time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use registry::snapshot::Place;
use registry::{Key, Record};
use tokio::sync::mpsc::Receiver;

use super::file::Log;
use super::fold::Fold;
use super::line::Stamp;
use crate::admin::Shared;
use crate::metrics::table::Name;

/// The first pause after a failure, and the longest.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_MOST: Duration = Duration::from_secs(30);

/// Changes, one for each key.
#[derive(Debug)]
pub(super) struct Batch {
    /// The listeners, each at its number; a new configuration may have added some.
    pub(super) places: Vec<Place>,
    /// These are all records there are.
    pub(super) whole: bool,
    /// What each is now, or `None` if nothing of it outlives us.
    pub(super) changes: Vec<(Key, Option<Record>)>,
}

/// Writes what comes, until nobody can send any more.
#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) log: Log,
    pub(super) fold: Fold,
    pub(super) shared: Arc<Shared>,
    /// When to try again, while writing fails.
    pub(super) retry: Option<Retry>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Retry {
    at: Instant,
    pause: Duration,
}

impl Keeper {
    /// The thread.
    pub(super) async fn run(mut self, mut batches: Receiver<Batch>) {
        loop {
            let batch = match self.retry {
                None => batches.recv().await,
                Some(Retry { at, pause: _ }) => {
                    let left = at.saturating_duration_since(net::clock::now());
                    match tokio::time::timeout(left, batches.recv()).await {
                        Ok(batch) => batch,
                        Err(_) => {
                            self.write();
                            continue;
                        }
                    }
                }
            };
            let Some(batch) = batch else { break };
            self.take(batch);
            // While the disk refuses, a change is no reason to ask it more often.
            if self.retry.is_none_or(|retry| retry.at <= net::clock::now()) {
                self.write();
            }
        }
        if self.retry.is_some() {
            self.write();
        }
    }

    fn take(&mut self, batch: Batch) {
        self.fold.places = batch.places;
        if batch.whole {
            self.fold.replace(batch.changes);
        } else {
            for (key, record) in batch.changes {
                self.fold.change(key, record);
            }
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "Prometheus counts in f64")]
    fn write(&mut self) {
        let (now, metrics) = (net::clock::now(), &self.shared.metrics);
        match self.fold.write(now, Stamp::now(), &mut self.log) {
            Ok(octets) => {
                if octets > 0 {
                    metrics.tick(Name::SnapshotWrites, ());
                    metrics.add(Name::SnapshotWritten, &[], octets as f64);
                }
                if self.retry.take().is_some() {
                    tracing::info!(path = %self.log.path().display(), "the snapshot is written again");
                }
            }
            Err(error) => {
                metrics.count(Name::SnapshotFailures, &[]);
                if self.retry.is_none() {
                    let path = self.log.path().display();
                    tracing::warn!(
                        %error, %path,
                        "the snapshot cannot be written; calls go on, but after a restart phones may have to register \
                         anew; tried again"
                    );
                }
                let pause = self.retry.map_or(RETRY, |retry| (retry.pause * 2).min(RETRY_MOST));
                self.retry = Some(Retry { at: now + pause, pause });
            }
        }
        metrics.gauge(Name::SnapshotEntries, self.fold.len() as f64);
        metrics.gauge(Name::SnapshotBytes, self.log.length() as f64);
    }
}
