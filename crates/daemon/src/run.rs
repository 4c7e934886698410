//! `siplatch run`: from the configuration to a running daemon, and its end.
//!
//! Two threads of our own beside the media workers: the signalling loop, and
//! this one, which serves the admin side and waits for signals.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use net::{clock, entropy};
use registry::Record;
use tokio::runtime::{self, Handle};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedSender, channel, unbounded_channel};
use tokio::sync::oneshot;

use crate::admin::control::Control;
use crate::admin::{Desk, Shared, http};
use crate::banner::{self, Known};
use crate::cli::{self, Run};
use crate::edge::{self, Begin, Order};
use crate::metrics::Metrics;
use crate::metrics::label::{Kept, Label as _};
use crate::metrics::table::Name;
use crate::record::Records;
use crate::reload::{self, Asked};
use crate::store::{Restored, Store};
use crate::{complain, log, print, router, state};

/// Reloads that may wait for their turn.
const RELOADS: usize = 4;

/// Runs until SIGTERM or SIGINT; SIGHUP is a reload.
pub(crate) fn run(flags: &Run) -> ExitCode {
    if let Err(why) = log::start(flags.log.as_deref(), flags.log_format) {
        return complain(&why);
    }
    let settings = match cli::load(flags.config.as_deref(), &flags.overrides) {
        Ok(settings) => settings,
        Err(faults) => return complain(&faults),
    };
    let served = runtime::Builder::new_current_thread().enable_all().build().and_then(|runtime| {
        let served = runtime.block_on(serve(settings, flags));
        // A name that is still being looked up must not hold the end.
        runtime.shutdown_background();
        served
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&format!("siplatch cannot run: {error}\n")),
    }
}

async fn serve(settings: crate::config::Settings, flags: &Run) -> io::Result<()> {
    // Taken first, so that a signal during start is not lost.
    let mut signals = [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?];
    let mut hangups = signal(SignalKind::hangup())?;
    let descriptors = net::raise_nofile().unwrap_or_else(|error| {
        tracing::warn!(%error, "the limit of open files is unknown; 1024 are assumed");
        1024
    });
    let (token_key, state_dir, forgetful) = token_key(&settings)?;
    let metrics = Metrics::new(settings.proxy.role).map_err(io::Error::other)?;
    metrics.set(Name::ProcessStart, &[], clock::unix_time().as_secs_f64());
    let shared = Arc::new(Shared::new(settings, metrics));
    let control = state_dir.as_deref().and_then(control);
    let control_path = control.as_ref().map(|control| control.path().to_owned());
    tokio::spawn(http::serve(Arc::clone(&shared)));
    let (orders, receiver) = unbounded_channel();
    let (reloads, asked) = channel(RELOADS);
    tokio::spawn(reload::serve(Arc::clone(&shared), flags.clone(), orders.clone(), asked));
    let desk = Desk { orders: orders.clone(), reloads };
    let control = control.map(|control| tokio::spawn(control.serve(Arc::clone(&shared), desk.clone())));

    let (ended, mut end) = oneshot::channel();
    let (store, restored) = open_store(state_dir.as_deref(), &shared);
    let summary = restored.summary();
    let records = Records::new(&shared, state_dir.as_deref());
    let seed = entropy::seed()?;
    let seed = state_dir.as_deref().and_then(|dir| state::router_key(dir, seed).ok()).unwrap_or(seed);
    let keeper = tokio::spawn(router::keep(Arc::clone(&shared), seed, orders.clone()));
    let (restored, beside) = (restored.records, Handle::current());
    let begin = Begin { token_key, store, records, restored, descriptors, orders: receiver, beside };
    let announce = {
        let shared = Arc::clone(&shared);
        move || {
            let settings = shared.settings();
            let rows: Vec<_> = (0..settings.proxy.listeners.len())
                .filter_map(|index| u16::try_from(index).ok())
                .map(|index| shared.view.listener_row(wire::ListenerId(index)))
                .collect();
            let known = Known {
                listeners: &rows,
                addresses: &addresses(),
                control: control_path.as_deref(),
                forgetful: forgetful.as_deref(),
                restored: summary.as_deref(),
                turn: shared.view.turn_row(),
                transports: (0..settings.proxy.upstreams.len()).map(|at| shared.view.transport(at)).collect(),
            };
            print(&banner::text(&settings, &known));
        }
    };
    let edge = start_edge(Arc::clone(&shared), begin, announce, ended)?;
    loop {
        tokio::select! {
            _ = &mut end => break,
            () = any(&mut signals) => break stop(&orders, &mut signals, end).await,
            _ = hangups.recv() => {
                if flags.config.is_none() {
                    // There is nothing to read again, and a terminal that closes ends its programs.
                    break stop(&orders, &mut signals, end).await;
                }
                // When many wait already, one of them will read what is written now.
                let _ = desk.reloads.try_send(Asked { file: None, reply: None });
            }
        }
    }
    shared.router.stop();
    // What it holds is removed, or ends by itself.
    let _ = keeper.await;
    let result = edge.join().unwrap_or_else(|_| Err(io::Error::other("the signalling loop panicked")));
    if let Some(control) = control {
        control.abort();
        // Its end removes the socket from the directory.
        let _ = control.await;
    }
    result
}

/// Addresses of this machine, first those that lead to the rest of the world:
/// a bridge for containers is not what a phone can reach.
fn addresses() -> Vec<IpAddr> {
    // Documentation addresses (RFC 5737, RFC 3849): nothing is sent, only the route is asked for.
    let beyond = [SocketAddr::from(([192, 0, 2, 1], 9)), SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 9))];
    let mut addresses: Vec<IpAddr> = beyond.into_iter().filter_map(|to| net::addresses::toward(to).ok()).collect();
    for address in net::addresses().unwrap_or_default() {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

/// The signalling loop, on a thread of its own.
fn start_edge(
    shared: Arc<Shared>,
    begin: Begin,
    announce: impl FnOnce() + Send + 'static,
    ended: oneshot::Sender<()>,
) -> io::Result<JoinHandle<io::Result<()>>> {
    Builder::new().name("signalling".to_owned()).spawn(move || {
        let _ended = ended;
        let last = edge::run(shared, begin, announce)?;
        runtime::Builder::new_current_thread().enable_time().build()?.block_on(last.write());
        Ok(())
    })
}

/// Waits for the loop's end; a second signal ends the program at once.
async fn stop(orders: &UnboundedSender<Order>, signals: &mut [Signal; 2], end: oneshot::Receiver<()>) {
    // Refused only when the loop has ended already.
    let _ = orders.send(Order::Stop);
    tokio::select! {
        _ = end => {}
        () = any(signals) => leave(),
    }
}

#[expect(clippy::disallowed_methods, reason = "a second signal means: at once, whatever is left undone")]
fn leave() {
    std::process::exit(130);
}

async fn any([one, other]: &mut [Signal; 2]) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}

/// The key for tokens and the directory that it is kept in; without one, a key
/// for this run and the reason.
fn token_key(settings: &crate::config::Settings) -> io::Result<([u8; 32], Option<std::path::PathBuf>, Option<String>)> {
    let fresh = entropy::seed()?;
    let dir = match state::open(&settings.state_dirs) {
        Ok(dir) => dir,
        Err(error) => {
            let tried: Vec<String> = settings.state_dirs.iter().map(|dir| dir.display().to_string()).collect();
            let why = format!("{} cannot be written ({error})", tried.join(" or "));
            tracing::warn!("{why}: tokens will not outlive a restart; make it writable or write another [state] dir");
            return Ok((fresh, None, Some(why)));
        }
    };
    match state::token_key(&dir, fresh) {
        Ok(key) => Ok((key, Some(dir), None)),
        Err(error) => {
            let why = format!("the token key in {} cannot be used ({error})", dir.display());
            tracing::warn!("{why}: tokens will not outlive a restart");
            Ok((fresh, Some(dir), Some(why)))
        }
    }
}

/// What an earlier process left, and where this one leaves the same.
fn open_store(dir: Option<&Path>, shared: &Arc<Shared>) -> (Store, Restored) {
    let Some(dir) = dir else { return (Store::off(), Restored::default()) };
    let (store, restored) = match Store::open(dir, shared, clock::now()) {
        Ok(opened) => opened,
        Err(error) => {
            tracing::warn!(
                %error, dir = %dir.display(),
                "registrations and calls cannot be kept in the state directory; after a restart phones must register anew"
            );
            return (Store::off(), Restored::default());
        }
    };
    for record in &restored.records {
        let kept = match record {
            Record::Binding(_) => Kept::Registration,
            Record::Call(_) => Kept::Call,
        };
        shared.metrics.count(Name::Restored, &[kept.label()]);
    }
    for lost in &restored.lost {
        shared.metrics.count(Name::RestoreLost, &[lost.label()]);
    }
    if let Some(summary) = restored.summary() {
        tracing::info!(dir = %dir.display(), "restored {summary}");
    }
    (store, restored)
}

fn control(dir: &Path) -> Option<Control> {
    match Control::open(dir) {
        Ok(control) => Some(control),
        Err(error) => {
            tracing::warn!(%error, dir = %dir.display(), "there is no control socket; siplatch status will not work");
            None
        }
    }
}
