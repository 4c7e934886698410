//! A reload, from the signal or the question to its end: read and validate,
//! compare, look new names up, hand over to the signalling loop. One at a
//! time. A configuration that cannot be applied changes nothing, and is said:
//! in the log, the metrics and the status.

use std::sync::Arc;
use std::time::Instant;

use net::clock;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{Receiver, UnboundedSender};
use tokio::sync::oneshot;

use crate::admin::Shared;
use crate::cli::{self, Run};
use crate::config::HostPort;
use crate::config::reload::{Plan, plan};
use crate::edge::{Order, Prepared};
use crate::metrics::label::{Label as _, Reloaded};
use crate::metrics::table::Name;

/// Somebody wants a reload.
#[derive(Debug)]
pub(crate) struct Asked {
    /// A configuration that is handed in: its name and its text. Else the file is read again.
    pub(crate) file: Option<(String, String)>,
    /// Who waits for the outcome.
    pub(crate) reply: Option<oneshot::Sender<Outcome>>,
}

/// What became of a reload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Whether the configuration counts now.
    pub(crate) applied: bool,
    /// What changed; or what is wrong, as `siplatch check` explains it.
    pub(crate) text: String,
}

/// The last reload, for the status.
#[derive(Debug, Clone)]
pub(crate) struct Last {
    pub(crate) at: Instant,
    pub(crate) outcome: Outcome,
}

/// Serves whoever asks, until nobody is left who could.
pub(crate) async fn serve(shared: Arc<Shared>, flags: Run, orders: UnboundedSender<Order>, mut asked: Receiver<Asked>) {
    while let Some(Asked { file, reply }) = asked.recv().await {
        let outcome = match reload(&shared, &flags, &orders, file).await {
            Ok(changes) if changes.is_empty() => {
                Outcome { applied: true, text: "nothing has changed in the configuration\n".to_owned() }
            }
            Ok(changes) => Outcome { applied: true, text: changes.join("\n") + "\n" },
            Err(text) => Outcome { applied: false, text },
        };
        note(&shared, &outcome);
        if let Some(reply) = reply {
            // It may have gone.
            let _ = reply.send(outcome);
        }
    }
}

async fn reload(
    shared: &Shared,
    flags: &Run,
    orders: &UnboundedSender<Order>,
    file: Option<(String, String)>,
) -> Result<Vec<String>, String> {
    let next = match file {
        Some(file) => cli::load_text(file, &flags.overrides)?,
        None => cli::load(flags.config.as_deref(), &flags.overrides)?,
    };
    let plan: Plan = plan(&shared.settings(), &next)?;
    let changes = plan.changes.clone();
    if changes.is_empty() {
        return Ok(changes);
    }
    known(&plan.names).await?;
    let (done, result) = oneshot::channel();
    let stopping = || "refused: siplatch is stopping\n".to_owned();
    orders.send(Order::Reload(Box::new(Prepared { plan, done }))).map_err(|_| stopping())?;
    result.await.map_err(|_| stopping())?.map(|()| changes)
}

/// A name that is new must resolve: most likely one that does not is misspelt.
async fn known(names: &[HostPort]) -> Result<(), String> {
    let mut faults = Vec::new();
    for name in names {
        if let Err(error) = net::resolve(&name.host, name.port).await {
            faults.push(format!(
                "refused: {} cannot be looked up: {error}\n  mend: correct the name, or try again when the resolver \
                 answers\n",
                name.host
            ));
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n")) }
}

fn note(shared: &Shared, outcome: &Outcome) {
    let result = if outcome.applied { Reloaded::Applied } else { Reloaded::Refused };
    shared.metrics.count(Name::Reloads, &[result.label()]);
    shared.metrics.set(Name::ReloadRefused, &[], f64::from(u8::from(!outcome.applied)));
    // Of faults only what they are, not the lines of the file.
    let head = |line: &&str| outcome.applied || line.starts_with("fault: ") || line.starts_with("refused: ");
    let heads = outcome.text.lines().filter(head);
    let what = heads.collect::<Vec<_>>().join("; ");
    if outcome.applied {
        tracing::info!(what, "configuration reloaded");
    } else {
        tracing::error!(what, "the configuration is refused; what ran before still runs");
    }
    shared.reloaded(Last { at: clock::now(), outcome: outcome.clone() });
}
