//! Responses of our own (RFC 3261 §8.2.6, §16.3): inside a server transaction,
//! or without one.

use std::time::Instant;

use wire::Flow;
use wire::sip::{self, Message, Name};

use super::Reject;
use crate::holdings::Holder;
use crate::rewrite::via;
use crate::transaction::{Context, Key};
use crate::{DropReason, Observed, Proxy};

impl Proxy {
    /// Answers a request that ends here, inside a server transaction: a
    /// retransmission gets the same answer and changes nothing again.
    pub(crate) fn answer(
        &mut self,
        now: Instant,
        flow: Flow,
        message: Message<'_>,
        key: Key,
        answer: &Reject,
        holder: Holder,
    ) {
        let reply = via::reply(flow, message);
        let last = self.composed(flow, message, answer);
        self.count_out(reply, answer.status);
        // Over a connection no copy comes (§17.2.2, Timer J).
        if !flow.transport.reliable() {
            self.keep_answer(now, [flow, reply], key, last.clone(), holder);
        }
        self.transmit(reply, last);
    }

    /// A response of our own, as it leaves.
    fn composed(&self, flow: Flow, request: Message<'_>, answer: &Reject) -> Vec<u8> {
        // A 100 has none.
        let tag = (answer.status.0 != 100).then(|| self.tag_for(request));
        // Of the body nothing comes back.
        let room = request.body_span().start as usize + answer.extra.len() + 64;
        let mut bytes = Vec::with_capacity(room);
        sip::compose::Response {
            request,
            status: answer.status,
            reason: answer.reason,
            to_tag: tag.as_ref().map_or(&[], |tag| tag),
            source: flow.remote,
            keep: self.wants_keep(flow),
            peer: self.peer_session(request).as_deref(),
            extra: &answer.extra,
            body: None,
        }
        .write(&mut bytes);
        bytes
    }

    /// Every branch failed before it was sent.
    pub(crate) fn fail_context(&mut self, now: Instant, context: &mut Context, reject: &Reject) {
        if !context.open() {
            return;
        }
        let side = self.side(context.flow);
        let method = context.request.message().method().into();
        let (status, reason, source) = (reject.status, reject.reason, context.flow.remote);
        self.observe(Observed::Refused { side, method, status, reason, source });
        self.respond_own(now, context, reject);
        self.request_failed(now, context, reject.status);
    }

    /// A response of our own inside a server transaction.
    pub(crate) fn respond_own(&mut self, now: Instant, context: &mut Context, reject: &Reject) {
        let Some(answering) = &mut context.answering else { return };
        if !answering.machine.respond(now, reject.status) {
            return;
        }
        let bytes = self.composed(context.flow, context.request.message(), reject);
        answering.last = bytes.clone();
        let reply = answering.reply;
        self.count_out(reply, reject.status);
        self.transmit(reply, bytes);
    }

    /// Whom a request with a Session-ID is for, as far as an answer has said
    /// so (RFC 7989 §7): one that was heard of must not be forgotten.
    fn peer_session(&self, request: Message<'_>) -> Option<Vec<u8>> {
        request.field(Name::SessionId)?;
        let from = request.tag_in_from()?;
        let call = self.registry.by_call_id(request.call_id()).find(|call| *call.caller.tag == *from)?;
        call.callees
            .iter()
            .map(|callee| &callee.session)
            .find(|session| !session.is_empty())
            .map(|session| session.to_vec())
    }

    /// A response of our own without a transaction. Whoever has proven nothing
    /// gets no more octets than its message has, twice as many for a challenge:
    /// what does not fit loses its extra fields, then its reason phrase, then
    /// stays unsent. Over all its messages the ledger has the last word.
    pub(crate) fn answer_stateless(
        &mut self,
        now: Instant,
        flow: Flow,
        message: Message<'_>,
        answer: &Reject,
        proven: bool,
    ) {
        let tag = self.tag_for(message);
        let peer = self.peer_session(message);
        let compose = |(extra, reason): (&[u8], _)| {
            let mut bytes = Vec::with_capacity(512);
            sip::compose::Response {
                request: message,
                status: answer.status,
                reason,
                to_tag: &tag,
                source: flow.remote,
                keep: None,
                peer: peer.as_deref(),
                extra,
                body: None,
            }
            .write(&mut bytes);
            bytes
        };
        let challenge = matches!(answer.status.0, 401 | 407);
        let budget = match (proven, challenge) {
            (true, _) => usize::MAX,
            (false, true) => 2 * message.bytes.len(),
            (false, false) => message.bytes.len(),
        };
        let shorter = crate::digest::shortened(&answer.extra);
        let forms = [(&answer.extra[..], answer.reason), (b"", answer.reason), (b"", "")];
        let challenges = [forms[0], (&shorter[..], answer.reason)];
        let allowed = if challenge { &challenges[..] } else { &forms[..] };
        let fitting = allowed.iter().map(|form| compose(*form)).find(|bytes| bytes.len() <= budget);
        // A challenge that is too long for a short request waits for its next copy; the ledger says when.
        let Some(bytes) = fitting.or_else(|| challenge.then(|| compose(challenges[1]))) else {
            let side = self.side(flow);
            return self.observe(Observed::Dropped { side, reason: DropReason::Budget });
        };
        if !proven && !self.books(now, flow, answer.status, bytes.len()) {
            return;
        }
        self.count_out(flow, answer.status);
        self.transmit(via::reply(flow, message), bytes);
    }
}

#[cfg(test)]
mod tests;
