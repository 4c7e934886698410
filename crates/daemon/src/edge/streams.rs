//! Stream connections of the signalling loop: what the machine wants done with
//! them, and what becomes of their events. Decides nothing about SIP.

use std::sync::Arc;
use std::time::Instant;

use net::transport::streams::Settings;
use net::transport::{Caps, Event, Patience, Why};
use proxy::{Input, OUTGOING};
use wire::Flow;

use super::Edge;
use crate::metrics::label::{Direction, Label as _, StreamInput};
use crate::metrics::table::Name;

/// Threads for handshakes, encryption and framing. The media workers have the
/// processors; a registration storm must not take them all.
const THREADS: usize = 2;

/// Events taken in one turn.
const EVENTS: usize = 64;

/// What the connections begin with.
pub(super) fn settings(settings: &crate::config::Settings, descriptors: u64) -> Settings {
    let (caps, patience) = (Caps::of(descriptors), Patience::default());
    Settings { limits: settings.proxy.limits, caps, patience, threads: THREADS, mark: settings.marks.signalling }
}

impl<B: FnOnce()> Edge<B> {
    /// One event, and what else waits, up to a batch.
    pub(super) fn take_streams(&mut self, now: Instant, first: Event) {
        let mut event = Some(first);
        for _ in 1..EVENTS {
            let Some(present) = event.take() else { break };
            self.take_stream(now, present);
            event = self.streams.next_event();
        }
        // One that was taken from the queue is never lost.
        if let Some(last) = event {
            self.take_stream(now, last);
        }
    }

    fn take_stream(&mut self, now: Instant, event: Event) {
        self.streamed = true;
        self.journal.stream(now, &self.shared.metrics, &event);
        match event {
            Event::Opened { flow, peer } => {
                let (side, transport) = self.labels(flow);
                let direction = if flow.connection < OUTGOING { Direction::In } else { Direction::Out };
                self.shared.metrics.count(Name::ConnectionsOpened, &[side, transport, direction.label()]);
                self.shared.metrics.add(Name::Connections, &[side, transport], 1.0);
                // Of its own the machine knows.
                if flow.connection < OUTGOING {
                    self.proxy.handle_input(now, Input::Opened { flow, peer });
                }
            }
            Event::Message { flow, bytes: _ } if !self.may_speak(flow) => self.streams.close(flow),
            Event::Message { flow, bytes } => {
                self.count_stream(flow, StreamInput::Sip);
                self.proxy.handle_input(now, Input::Received { flow, bytes: &bytes });
            }
            Event::KeepAlive { flow } => {
                self.count_stream(flow, StreamInput::KeepAlive);
                self.proxy.handle_input(now, Input::KeepAlive { flow });
            }
            Event::Pong { flow } => {
                self.count_stream(flow, StreamInput::Pong);
                self.proxy.handle_input(now, Input::Pong { flow });
            }
            Event::Closed { flow, why, what: _, opened } => {
                let (side, transport) = self.labels(flow);
                self.shared.metrics.count(Name::ConnectionsClosed, &[side, transport, why.label()]);
                if opened {
                    self.shared.metrics.add(Name::Connections, &[side, transport], -1.0);
                }
                self.proxy.handle_input(now, Input::Closed { flow });
            }
            // Counted with the census, at the end of the turn.
            Event::Denied => {}
            Event::Short { error: _ } => self.shared.metrics.count(Name::AcceptFailures, &[]),
        }
        self.drain(now);
    }

    fn count_stream(&self, flow: Flow, input: StreamInput) {
        let side = self.settings.proxy.side(flow.listener).label();
        self.shared.metrics.count(Name::StreamInputs, &[side, flow.transport.label(), input.label()]);
    }

    fn labels(&self, flow: Flow) -> (&'static str, &'static str) {
        (self.settings.proxy.side(flow.listener).label(), flow.transport.label())
    }

    /// Whom the listeners take in, by the present configuration.
    pub(super) fn admit(&mut self) {
        let sides = self.settings.proxy.listeners.iter().map(|listener| listener.side).collect();
        self.streams.set_access(Arc::clone(&self.settings.access), sides);
    }

    /// It may have come in before it was shut out.
    fn may_speak(&self, flow: Flow) -> bool {
        let side = self.settings.proxy.side(flow.listener);
        flow.connection >= OUTGOING || self.settings.access.admits(side, flow.remote.ip())
    }

    /// Brings the figures of connections and of requests in progress up to date.
    pub(super) fn census(&mut self) {
        let requests = self.proxy.requests();
        if self.requests != requests {
            self.requests = requests;
            #[expect(clippy::cast_precision_loss, reason = "Prometheus counts in f64")]
            let [count, octets] = [requests.0, requests.1].map(|n| n as f64);
            self.shared.metrics.gauge(Name::Transactions, count);
            self.shared.metrics.gauge(Name::TransactionOctets, octets);
        }
        if !std::mem::take(&mut self.streamed) {
            return;
        }
        for (listener, denied) in self.streams.take_denied() {
            let side = self.settings.proxy.side(listener).label();
            #[expect(clippy::cast_precision_loss, reason = "Prometheus counts in f64")]
            self.shared.metrics.add(Name::ConnectionsDenied, &[side], denied as f64);
        }
        let census = self.streams.census();
        if self.census != census {
            self.census = census;
            #[expect(clippy::cast_precision_loss, reason = "Prometheus counts in f64")]
            self.shared.metrics.gauge(Name::ConnectionsStrangers, census.strangers as f64);
        }
    }
}

/// What an end looks like in the log: trouble with somebody whom we want to
/// reach, trouble that a peer makes, or the usual.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gravity {
    /// A warning.
    Ours,
    /// A line.
    Theirs,
    /// Nothing to be said.
    Usual,
}

/// How grave an end is.
pub(super) fn gravity(flow: Flow, why: Why) -> Gravity {
    let ours = flow.connection >= OUTGOING;
    match why {
        Why::Unreachable | Why::Overflow => Gravity::Ours,
        Why::Handshake | Why::Unframed | Why::Slow | Why::Lost if ours => Gravity::Ours,
        Why::Handshake | Why::Unframed | Why::Slow | Why::Evicted => Gravity::Theirs,
        Why::Ended | Why::Lost | Why::Asked | Why::Silent | Why::Idle => Gravity::Usual,
    }
}
