//! Whose messages are counted, and which answers are booked, in the ledger of
//! those who have proven nothing ([`nat::ledger`]).

use std::time::Instant;

use wire::Flow;
use wire::sip::Status;

use crate::{DropReason, Observed, Proxy};

impl Proxy {
    /// A message came; whoever has proven nothing has it counted.
    pub(crate) fn credit(&mut self, now: Instant, flow: Flow, octets: usize) {
        if !self.is_proven(flow) {
            self.ledger.received(now, flow.remote.ip(), octets);
        }
    }

    /// May this answer leave? A success was earned with whoever gives it, a
    /// proven source is answered; else the ledger decides, and a no is counted.
    pub(crate) fn affords(&mut self, now: Instant, flow: Flow, status: Status, octets: usize) -> bool {
        status.is_success() || self.is_proven(flow) || self.books(now, flow, status, octets)
    }

    /// The same, whatever the status and whoever the source.
    pub(crate) fn books(&mut self, now: Instant, flow: Flow, status: Status, octets: usize) -> bool {
        let challenge = matches!(status.0, 401 | 407);
        let allowed = self.ledger.spend(now, flow.remote.ip(), octets, challenge);
        if !allowed {
            let side = self.side(flow);
            self.observe(Observed::Dropped { side, reason: DropReason::Budget });
        }
        allowed
    }

    /// True when the source of a flow is known to be there: a bound phone, the
    /// upstream, or whoever has done the handshake of a connection.
    pub(crate) fn is_proven(&self, flow: Flow) -> bool {
        flow.transport.reliable() || self.registry.on_flow(flow).next().is_some() || self.is_upstream(flow)
    }
}
