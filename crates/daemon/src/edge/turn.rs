//! TURN: whether media goes through it, and what becomes of that.
//!
//! Decides nothing by itself: `nat::relayed` says whether, by what discovery
//! has found. Where UDP is blocked, the server also says by which address the
//! world sees us.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Instant;

use nat::relayed::{Situation, Why};
use nat::{Mapped, Side};
use net::turn::{Client, Failure, REFRESH, Report, Settings};
use proxy::Input;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use wire::{ListenerId, Transport};

use super::Edge;
use crate::metrics::label::Label as _;
use crate::metrics::table::Name;
use crate::view::asks;

/// Reports taken in one turn.
const REPORTS: usize = 64;

/// Whether media goes through TURN, and by whom.
#[derive(Debug)]
pub(super) struct Turn {
    why: Option<Why>,
    client: Option<Arc<Client>>,
    /// Threads that may still give allocations back.
    threads: Vec<JoinHandle<()>>,
    reporting: UnboundedSender<Report>,
    reports: UnboundedReceiver<Report>,
    /// Our IP, as the server sees it.
    seen: Option<IpAddr>,
    /// The last trouble, until an allocation comes.
    trouble: Option<Failure>,
    /// Pairs that have allocations, as last told.
    allocated: usize,
}

impl Turn {
    /// Not in use.
    pub(super) fn new() -> Self {
        let (reporting, reports) = unbounded_channel();
        let (threads, seen, trouble) = (Vec::new(), None, None);
        Self { why: None, client: None, threads, reporting, reports, seen, trouble, allocated: 0 }
    }

    /// There are allocations, or there may be soon.
    pub(super) fn counts(&self) -> bool {
        self.why.is_some() || self.allocated > 0
    }

    /// Nothing more is to be waited for before the banner.
    pub(super) fn is_settled(&self) -> bool {
        self.why.is_some() && self.allocated > 0
    }

    /// The next report.
    pub(super) fn poll_report(&mut self, cx: &mut Context<'_>) -> Option<Report> {
        match self.reports.poll_recv(cx) {
            Poll::Ready(report) => report,
            Poll::Pending => None,
        }
    }

    /// Waits until all allocations are given back, or the servers' time for that is over.
    pub(super) fn stop(self) {
        drop(self.client);
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a TURN thread panicked");
            }
        }
    }
}

impl<B: FnOnce()> Edge<B> {
    /// Does what discovery has found call for TURN, or for TURN no more?
    pub(super) fn reconsider_turn(&mut self, now: Instant) {
        if self.settings.turn.is_none() && self.turn.why.is_none() {
            return;
        }
        let upstreams = &self.settings.proxy.upstreams;
        let situation = Situation {
            configured: self.settings.turn.is_some(),
            comedia: !upstreams.is_empty() && upstreams.iter().all(|upstream| upstream.comedia),
            mapping: self.stun.mapping(Side::Outer),
            unanswered: self.stun.is_unanswered(Side::Outer) || self.udp_has_ended(),
        };
        let why = situation.relayed();
        if why == self.turn.why {
            return;
        }
        match why {
            Some(why) => tracing::warn!(reason = why.label(), "media of new calls goes through the TURN server"),
            None => tracing::info!("media of new calls goes directly again"),
        }
        self.stirred = true;
        let was = std::mem::replace(&mut self.turn.why, why);
        if was.is_none() != why.is_none() {
            self.switch_turn(now);
        }
        self.tell_turn();
    }

    /// STUN servers answer no more, and signalling has left UDP as well: what is known from before is no use.
    fn udp_has_ended(&self) -> bool {
        let left = |at| matches!(self.shared.view.transport(at), Some(Transport::Tcp | Transport::Tls));
        let upstreams = self.settings.proxy.upstreams.len();
        self.stun.is_silent(Side::Outer) && upstreams > 0 && (0..upstreams).all(left)
    }

    /// Other settings: what is in use is used by them.
    pub(super) fn renew_turn(&mut self, now: Instant) {
        (self.turn.seen, self.turn.trouble) = (None, None);
        if self.turn.why.is_some() {
            self.switch_turn(now);
        }
        self.reconsider_turn(now);
        self.tell_turn();
    }

    fn switch_turn(&mut self, now: Instant) {
        self.turn.threads.retain(|thread| !thread.is_finished());
        self.turn.client = None;
        if let (Some(_), Some((server, credentials))) = (self.turn.why, &self.settings.turn) {
            let settings = Settings {
                server: server.clone(),
                credentials: credentials.clone(),
                tls: self.settings.certificates.clone(),
                mark: self.settings.marks.audio,
                refresh: REFRESH,
            };
            match Client::start(settings, self.turn.reporting.clone()) {
                Ok((client, thread)) => {
                    self.turn.client = Some(Arc::new(client));
                    self.turn.threads.push(thread);
                }
                Err(error) => tracing::error!(%error, "no thread for TURN; media goes directly"),
            }
        }
        self.relay.set_turn(now, self.turn.client.as_ref());
    }

    /// One report, and what else waits.
    pub(super) fn take_turn(&mut self, now: Instant, first: Report) {
        let mut report = Some(first);
        for _ in 0..REPORTS {
            let Some(present) = report.take() else { break };
            self.turned(now, &present);
            report = self.turn.reports.try_recv().ok();
        }
        if let Some(last) = report {
            self.turned(now, &last);
        }
        self.tell_turn();
    }

    fn turned(&mut self, now: Instant, report: &Report) {
        self.relay.turned(report);
        match report {
            Report::Allocated { mapped, .. } => {
                if self.turn.trouble.take().is_some() {
                    tracing::info!("the TURN server gives allocations again");
                }
                self.turn.seen = mapped.map(|mapped| mapped.0.ip());
                self.borrow_address();
            }
            Report::Ended { why, .. } => {
                self.shared.metrics.count(Name::TurnFailures, &[why.label()]);
                self.journal.turn(now, &self.shared.metrics, *why);
                self.turn.trouble = Some(*why);
            }
            Report::Denied { peer, code, .. } => {
                self.shared.metrics.count(Name::TurnDenied, &[]);
                self.journal.denied(now, &self.shared.metrics, *peer, *code);
            }
            Report::Dropped { packets, .. } => {
                #[expect(clippy::cast_precision_loss, reason = "Prometheus counts in f64")]
                self.shared.metrics.add(Name::TurnDropped, &[], *packets as f64);
            }
        }
    }

    /// Where no STUN server says by which address a listener is seen, the TURN server does; the port is its own.
    pub(super) fn borrow_address(&mut self) {
        let Some(ip) = self.turn.seen.filter(|_| self.turn.why == Some(Why::Blocked)) else { return };
        for (listener, id) in self.settings.proxy.listeners.iter().zip(0..).filter(|(listener, _)| asks(listener)) {
            let id = ListenerId(id);
            if listener.side == Side::Outer && ip.is_ipv4() == listener.bind.is_ipv4() && self.stun.mapped(id).is_none()
            {
                let mapped = Some(Mapped(SocketAddr::new(ip, listener.bind.port())));
                self.inputs.push_back(Input::Mapped { listener: id, mapped });
            }
        }
    }

    /// Figures and status.
    pub(super) fn tell_turn(&mut self) {
        self.turn.allocated = self.relay.allocated();
        #[expect(clippy::cast_precision_loss, reason = "Prometheus counts in f64")]
        self.shared.metrics.set(Name::TurnAllocations, &[], self.turn.allocated as f64);
        for why in [Why::Dependent, Why::Blocked] {
            let used = u8::from(self.turn.why == Some(why));
            self.shared.metrics.set(Name::TurnUsed, &[why.label()], used.into());
        }
        self.shared.view.turn(self.turn.why, self.turn.allocated, self.turn.trouble);
    }
}
