//! Late answers to an INVITE whose server was given up for the next one
//! (RFC 3263 §4.3): what rings there must stop, because the call has moved on.
//! Each provisional response is answered by a CANCEL (§9.1), each failure by
//! its ACK (§17.1.1.3). A 2xx that comes so late gets no ACK, so its sender
//! ends that call (§13.3.1.4).

use wire::Flow;
use wire::sip::{Message, Method, Status, Stored, compose};

use crate::transaction::Context;
use crate::{DropReason, MethodLabel, Observed, Proxy};

/// A copy of the request that is no longer waited for.
#[derive(Debug)]
pub(crate) struct Abandoned {
    /// The number in its Via branch.
    pub(crate) number: u64,
    pub(crate) flow: Flow,
    pub(crate) sent: Vec<u8>,
}

impl Proxy {
    /// A response that belongs to no branch of its context.
    pub(crate) fn late_response(&mut self, context: &Context, number: u64, flow: Flow, message: Message<'_>) {
        let side = self.side(flow);
        self.observe(Observed::Dropped { side, reason: DropReason::StrayResponse });
        let mut all = context.branches.iter().flat_map(|branch| &branch.abandoned);
        let Some(abandoned) = all.find(|abandoned| abandoned.number == number) else { return };
        let status = message.status().unwrap_or(Status(500));
        if message.method() != Method::Invite || status.is_success() {
            return;
        }
        let Ok(invite) = Stored::parse(abandoned.sent.clone(), &self.config.limits) else { return };
        let (flow, side) = (abandoned.flow, self.side(abandoned.flow));
        let bytes = if status.is_provisional() {
            self.observe(Observed::RequestOut { side, method: MethodLabel::Cancel });
            compose::cancel(invite.message(), b"")
        } else {
            compose::ack(invite.message(), message)
        };
        self.transmit(flow, bytes);
    }
}
