//! The admin side: what is shown to people and programs beside SIP. Reads the
//! view and the metrics; touches no machine.

pub(crate) mod control;
pub(crate) mod http;
mod watcher;

use std::sync::Arc;
use std::time::Instant;

use registry::{CallKind, CallState};
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::sync::watch;

use crate::config::Settings;
use crate::edge::Order;
use crate::metrics::label::{Backend, Collision, Label as _};
use crate::metrics::table::Name;
use crate::metrics::{Metrics, process};
use crate::reload::{Asked, Last};
use crate::router::Router;
use crate::view::{Reload, Status, View};

/// Whom the control socket turns to.
#[derive(Debug, Clone)]
pub(crate) struct Desk {
    /// The signalling loop.
    pub(crate) orders: UnboundedSender<Order>,
    /// Whoever reloads.
    pub(crate) reloads: mpsc::Sender<Asked>,
}

/// What the signalling thread writes and the admin side reads.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The configuration that counts now.
    settings: watch::Sender<Arc<Settings>>,
    /// The last reload.
    reload: watch::Sender<Option<Last>>,
    /// All series.
    pub(crate) metrics: Metrics,
    /// What is going on.
    pub(crate) view: View,
    /// The router, and what it holds for us.
    pub(crate) router: Router,
    /// When the program began.
    pub(crate) began: Instant,
}

impl Shared {
    /// What the program begins with.
    pub(crate) fn new(settings: Settings, metrics: Metrics) -> Self {
        let (settings, reload) = (watch::Sender::new(Arc::new(settings)), watch::Sender::new(None));
        let (view, router) = (View::default(), Router::default());
        Self { settings, reload, metrics, view, router, began: net::clock::now() }
    }

    /// The configuration now.
    pub(crate) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.borrow())
    }

    /// Another configuration counts from now on. Series of what is gone end.
    pub(crate) fn take(&self, settings: Arc<Settings>) {
        self.router.configure(&settings.forwards);
        let before = self.settings.send_replace(Arc::clone(&settings));
        let (was, is) = (&before.proxy, &settings.proxy);
        for range in was.media.ranges.iter().filter(|range| !is.media.ranges.contains(range)) {
            for name in [
                Name::PortsFree,
                Name::PortsIdle,
                Name::PortsLive,
                Name::PortsResting,
                Name::PortsTotal,
                Name::PortsUsed,
            ] {
                self.metrics.end(name, &[&format!("{}-{}", range.first, range.last)]);
            }
        }
        for upstream in is.upstreams.len()..was.upstreams.len() {
            self.metrics.end(Name::UpstreamUp, &[&upstream.to_string()]);
        }
    }

    /// A reload is over.
    pub(crate) fn reloaded(&self, last: Last) {
        self.reload.send_replace(Some(last));
    }

    /// The status now.
    pub(crate) fn status(&self) -> Status {
        let now = net::clock::now();
        let reload = self.reload.borrow().as_ref().map(|last| Reload {
            ago_s: now.saturating_duration_since(last.at).as_secs(),
            applied: last.outcome.applied,
            lines: last.outcome.text.lines().map(str::to_owned).collect(),
        });
        let settings = self.settings();
        let router = self.router.status(&settings.forwards, now);
        Status { reload, router, ..self.view.status(&settings, self.began, now) }
    }

    /// The page for Prometheus, its gauges read off the view.
    #[expect(clippy::cast_precision_loss, reason = "Prometheus counts in f64")]
    pub(crate) fn metrics_page(&self) -> Result<String, prometheus::Error> {
        let settings = self.settings();
        let (metrics, view, config) = (&self.metrics, &self.view, &settings.proxy);
        metrics.set(Name::Registrations, &[], view.bound() as f64);
        for state in [CallState::Early, CallState::Confirmed, CallState::Ending] {
            metrics.set(Name::Calls, &[state.label()], view.calls(CallKind::Invite, state) as f64);
        }
        let subscriptions = view.calls(CallKind::Subscription, CallState::Confirmed);
        metrics.set(Name::Subscriptions, &[], subscriptions as f64);
        let (bound, waiting) = view.listeners();
        metrics.set(Name::ListenersBound, &[], bound as f64);
        metrics.set(Name::ListenersWaiting, &[], waiting as f64);
        metrics.set(Name::WorkersAlive, &[], view.workers_alive() as f64);
        for (backend, used) in [(Backend::Userspace, !view.in_kernel()), (Backend::Kernel, view.in_kernel())] {
            metrics.set(Name::MediaDatapath, &[backend.label()], f64::from(u8::from(used)));
        }
        self.router.gauges(metrics);
        let collisions = view.collisions();
        for kind in Collision::VALUES {
            let count = collisions.iter().filter(|collision| Collision::from(*collision).label() == *kind).count();
            metrics.set(Name::Collisions, &[kind], count as f64);
        }
        for side in [nat::Side::Inner, nat::Side::Outer] {
            metrics.set(Name::StunUp, &[side.label()], f64::from(u8::from(view.stun_up(config, side))));
        }
        for (index, range) in config.media.ranges.iter().enumerate() {
            let (label, mut counts) = (format!("{}-{}", range.first, range.last), view.range(index));
            if counts.total == 0 {
                // No local address has needed the range yet: all of it is free.
                counts.total = (usize::from(range.last) + 1 - usize::from(range.first)) / 2;
                counts.free = counts.total;
            }
            metrics.set(Name::PortsFree, &[&label], counts.free as f64);
            metrics.set(Name::PortsIdle, &[&label], counts.idle as f64);
            metrics.set(Name::PortsLive, &[&label], counts.live as f64);
            metrics.set(Name::PortsResting, &[&label], counts.resting as f64);
            metrics.set(Name::PortsTotal, &[&label], counts.total as f64);
            let used = (counts.live + counts.resting) as f64 / counts.total.max(1) as f64;
            metrics.set(Name::PortsUsed, &[&label], used);
        }
        process::refresh(metrics);
        metrics.page()
    }
}
