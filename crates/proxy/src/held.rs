//! Responses that wait: an offer in a response (RFC 3261 §13.2.1, RFC 3262 §5)
//! needs port pairs as one in a request does. Until they are bound the response
//! is held; its sender repeats it meanwhile, and the latest one is kept.

use std::time::Instant;

use wire::Flow;
use wire::sip::{Message, Status};

use crate::Proxy;
use crate::transaction::Context;

impl Proxy {
    /// Keeps a response until ports arrive.
    pub(crate) fn hold(&mut self, context: &mut Context, index: usize, flow: Flow, message: Message<'_>) {
        context.branches[index].held = Some(Box::new((flow, message.store())));
        self.parked.insert(context.id);
    }

    /// A final response has come: what is held of the same branch is over.
    pub(crate) fn unhold(&mut self, context: &mut Context, index: usize, status: Status) {
        if !status.is_provisional() {
            context.branches[index].held = None;
        }
    }

    /// Ports arrived: what was held passes, or waits on.
    pub(crate) fn release_held(&mut self, now: Instant, context: &mut Context) {
        for index in 0..context.branches.len() {
            let Some(held) = context.branches[index].held.take() else { continue };
            let (flow, stored) = *held;
            if let Some(status) = stored.message().status() {
                self.pass_response(now, context, index, flow, stored.message(), status);
            }
        }
    }
}
