//! CANCEL: RFC 3261 §9 and §16.10.

use std::time::Instant;

use wire::Flow;
use wire::sip::{Message, Method, Name, Stored, Via, compose};

use crate::request::Reject;
use crate::transaction::client::State;
use crate::transaction::{Branch, Client, Context, Key, Purpose};
use crate::{Observed, Proxy};

impl Proxy {
    /// A CANCEL from the wire: answered at once, then passed to every branch that rings.
    pub(crate) fn cancel(
        &mut self,
        now: Instant,
        flow: Flow,
        message: Message<'_>,
        via: &Via<'_>,
    ) -> Result<(), Reject> {
        let key = Key::of_invite(&self.hashes, message, via);
        let invite = self.contexts.of_request(message, via, &key, Method::Invite);
        let id = invite.ok_or(Reject::new(481, "Call/Transaction Does Not Exist"))?;
        // Whoever knows the branch is who sent the INVITE. A repeated CANCEL hears the same (§9.2).
        let holder = self.holder(flow);
        let own = Key::of(&self.hashes, message, via);
        self.answer(now, flow, message, own, &Reject::new(200, "OK"), holder);
        let Some(mut context) = self.contexts.take(id) else { return Ok(()) };
        if context.invite && context.open() {
            context.cancelled = true;
            if let Purpose::Create(pass) = context.purpose {
                self.note_reason(pass, message);
            }
            let reason: Vec<u8> = message
                .fields()
                .iter()
                .filter(|f| f.name == Name::Reason)
                .flat_map(|f| message.slice(f.line).iter().copied())
                .collect();
            self.cancel_all(now, &mut context, None, &reason);
        }
        self.keep(now, context);
        Ok(())
    }

    /// Cancels all pending branches but one (§16.7(10)).
    pub(crate) fn cancel_others(&mut self, now: Instant, context: &mut Context, winner: Option<usize>) {
        let reason = winner.map(|_| crate::ours::header(crate::late::ELSEWHERE)).unwrap_or_default();
        self.cancel_all(now, context, winner, reason.as_bytes());
    }

    fn cancel_all(&mut self, now: Instant, context: &mut Context, keep: Option<usize>, reason: &[u8]) {
        for index in 0..context.branches.len() {
            if Some(index) == keep || context.branches[index].result.is_some() {
                continue;
            }
            match context.branches[index].client {
                // Still parked: it never leaves.
                None => context.branches[index].result = Some(wire::sip::Status(487)),
                Some(_) => {
                    context.branches[index].cancel_wanted = Some(reason.to_vec());
                    self.cancel_branch(now, context, index);
                }
            }
        }
        if context.branches.iter().all(|b| b.result.is_some()) {
            context.parked = None;
            self.parked.remove(&context.id);
            self.conclude(now, context);
        }
    }

    /// Sends the CANCEL that a branch wants once a provisional response allows it (§9.1).
    pub(crate) fn cancel_branch(&mut self, now: Instant, context: &mut Context, index: usize) {
        let branch = &mut context.branches[index];
        let Some(client) = &mut branch.client else { return };
        if client.state() != State::Proceeding || branch.cancel.is_some() {
            return;
        }
        let Some(reason) = branch.cancel_wanted.take() else { return };
        let Ok(invite) = Stored::parse(branch.sent.clone(), &self.config.limits) else { return };
        let bytes = compose::cancel(invite.message(), &reason);
        client.cancelled(now);
        let client = Client::new(now, false, branch.flow.transport.reliable());
        branch.cancel = Some(Box::new((client, bytes.clone())));
        let flow = self.same_hop(branch);
        let side = self.side(flow);
        self.observe(Observed::RequestOut { side, method: crate::MethodLabel::Cancel });
        self.transmit(flow, bytes);
    }

    /// The flow that a branch took, or a new connection to the same host where that has ended (§9.1, §17.1.1.3).
    pub(crate) fn same_hop(&mut self, branch: &mut Branch) -> Flow {
        if !self.connections.is_open(branch.flow)
            && let Some(way) = &branch.way
        {
            branch.flow = self.take(way);
        }
        branch.flow
    }

    /// Ends a call that was never answered, from our side.
    pub(crate) fn abort(&mut self, now: Instant, pass: registry::PassId, reason: &'static str) {
        let creates = |c: &&Context| matches!(c.purpose, crate::transaction::Purpose::Create(p) if p == pass);
        let Some(id) = self.contexts.iter().find(creates).map(|c| c.id) else { return };
        let Some(mut context) = self.contexts.take(id) else { return };
        self.respond_own(now, &mut context, &Reject::new(503, reason));
        self.cancel_all(now, &mut context, None, b"");
        self.keep(now, context);
    }
}

#[cfg(test)]
mod tests;
