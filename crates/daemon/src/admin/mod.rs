//! The admin side: what is shown to people and programs beside SIP. Reads the
//! view and the metrics; touches no machine.

pub(crate) mod control;
pub(crate) mod http;
mod watch;

use std::time::Instant;

use registry::{CallKind, CallState};

use crate::config::Settings;
use crate::metrics::label::Label as _;
use crate::metrics::table::Name;
use crate::metrics::{Metrics, process};
use crate::view::{Status, View};

/// What the signalling thread writes and the admin side reads.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The configuration.
    pub(crate) settings: Settings,
    /// All series.
    pub(crate) metrics: Metrics,
    /// What is going on.
    pub(crate) view: View,
    /// When the program began.
    pub(crate) began: Instant,
}

impl Shared {
    /// The status now.
    pub(crate) fn status(&self) -> Status {
        self.view.status(&self.settings, self.began, net::clock::now())
    }

    /// The page for Prometheus, its gauges read off the view.
    #[expect(clippy::cast_precision_loss, reason = "Prometheus counts in f64")]
    pub(crate) fn metrics_page(&self) -> Result<String, prometheus::Error> {
        let (metrics, view, config) = (&self.metrics, &self.view, &self.settings.proxy);
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
        }
        process::refresh(metrics);
        metrics.page()
    }
}
