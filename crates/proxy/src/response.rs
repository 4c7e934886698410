//! Responses: RFC 3261 §16.7, with RFC 6026 and RFC 4320.

use std::time::Instant;

use media::End;
use media::offer::{Key as MediaKey, Refusal};
use registry::PassId;
use wire::sip::{self, Message, Method, Status, Stored};
use wire::{Edit, Flow};

use crate::best;
use crate::cseq;
use crate::dialog::callee;
use crate::late::ELSEWHERE;
use crate::request::Reject;
use crate::rewrite::{body, contact, record_route, via};
use crate::session_timer;
use crate::token::Token;
use crate::transaction::client::Verdict;
use crate::transaction::{Client, Context, Ours, Patch, Purpose, belongs};
use crate::upstream::{Failure, retry_after};
use crate::{Cause, DropReason, Observed, Proxy};

impl Proxy {
    /// One response from the wire.
    pub(crate) fn response(&mut self, now: Instant, flow: Flow, message: Message<'_>) {
        let Some(status) = message.status() else { return };
        let side = self.side(flow);
        self.observe(Observed::ResponseIn { side, status });
        let Some((id, number)) = via::read(message.branch()) else {
            let foreign = message.top_via().is_ok();
            let reason = if foreign { DropReason::ForeignVia } else { DropReason::Malformed };
            return self.observe(Observed::Dropped { side, reason });
        };
        if self.contexts.rest(id).is_some() {
            return;
        }
        let Some(mut context) = self.contexts.take(id) else {
            return self.observe(Observed::Dropped { side, reason: DropReason::StrayResponse });
        };
        let index = context.branches.iter().position(|b| b.number == number);
        match index.filter(|_| belongs(context.request.message(), context.answering.is_some(), message)) {
            Some(index) if self.may_answer(&context, index, flow) => {
                self.branch_response(now, &mut context, index, flow, message, status);
            }
            Some(_) => self.observe(Observed::Dropped { side, reason: DropReason::StrayResponse }),
            None => self.late_response(now, &mut context, number, flow, message),
        }
        self.keep(now, context);
    }

    /// A registration is confirmed by the registrar's side alone: by where the
    /// REGISTER went, or another address of an upstream.
    fn may_answer(&self, context: &Context, index: usize, flow: Flow) -> bool {
        let asked = context.branches[index].flow;
        !matches!(context.purpose, Purpose::Register(_) | Purpose::Ours(Ours::Renew(_)))
            || (flow.listener == asked.listener && flow.remote.ip().to_canonical() == asked.remote.ip().to_canonical())
            || self.is_upstream(flow)
    }

    fn branch_response(
        &mut self,
        now: Instant,
        context: &mut Context,
        index: usize,
        flow: Flow,
        message: Message<'_>,
        status: Status,
    ) {
        if context.invite && message.method() == Method::Cancel {
            if let Some((client, _)) = context.branches[index].cancel.as_deref_mut() {
                client.response(now, status);
            }
            return;
        }
        let Some(client) = &mut context.branches[index].client else { return };
        let verdict = client.response(now, status);
        if matches!(verdict, Verdict::Ack | Verdict::AckAndPass) {
            let flow = self.same_hop(&mut context.branches[index]);
            self.acknowledge(&context.branches[index].sent, flow, message);
        }
        match verdict {
            Verdict::Pass | Verdict::AckAndPass => self.pass_response(now, context, index, flow, message, status),
            Verdict::Ack | Verdict::Absorb => {}
        }
        self.cancel_branch(now, context, index);
    }

    /// The ACK to a non-2xx (§17.1.1.3).
    fn acknowledge(&mut self, sent: &[u8], flow: Flow, message: Message<'_>) {
        if let Ok(invite) = Stored::parse(sent.to_vec(), &self.config.limits) {
            let ack = sip::compose::ack(invite.message(), message);
            self.transmit(flow, ack);
        }
    }

    pub(crate) fn pass_response(
        &mut self,
        now: Instant,
        context: &mut Context,
        index: usize,
        flow: Flow,
        message: Message<'_>,
        status: Status,
    ) {
        if context.answering.is_none() {
            self.own_response(now, context, flow, message, status);
            if !status.is_provisional() {
                context.branches[index].client.iter_mut().for_each(Client::conclude);
            }
            return;
        }
        if status.0 != 503
            && let Some(way) = &context.branches[index].way
        {
            let answered = way.flow;
            self.hop_answered(now, answered);
        }
        self.unhold(context, index, status);
        if status.0 == 100 || (status.is_provisional() && !context.invite) {
            // RFC 4320 §4.1: a non-INVITE gets no provisional response from us.
            return;
        }
        if status.is_provisional() || status.is_success() {
            // Copies of a 2xx to an INVITE come until it is acknowledged (§13.3.1.4), and go out as
            // the same bytes, whatever has become of the offer or answer in it since.
            let received = (context.invite && status.is_success()).then(|| self.long.of(&[message.bytes]));
            let accepted = context.branches[index].accepted.as_ref();
            if let Some((_, patch)) = accepted.filter(|(hash, _)| Some(*hash) == received) {
                let sent = patch.applied(message);
                self.send_response(now, context, status, sent);
                return;
            }
            let passed = self.relay_response(now, context, index, flow, message, status);
            if passed && status.is_success() {
                if let (Some(received), Some(accepted)) = (received, &mut context.branches[index].accepted) {
                    accepted.0 = received;
                }
                self.succeeded(now, context, index, message);
            }
            return;
        }
        let unasked = self.unasked_challenge(flow, message);
        let (message, status) = match &unasked {
            Some(stored) => (stored.message(), Status(403)),
            None => (message, status),
        };
        // Our own, back from a spiral, says nothing of the upstream that passed it.
        let refused = status.0 == 503 && !self.is_our_answer(message);
        if refused && self.try_next(now, context, index, Failure::Refused(retry_after(message))) {
            return;
        }
        // RFC 5626 §6: another flow of the same phone.
        if matches!(status.0, 408 | 430) && self.next_flow(now, context, index) {
            return;
        }
        let branch = &mut context.branches[index];
        branch.result = Some(status);
        branch.response = Some(Box::new(message.store()));
        self.branch_failed(context, index, status);
        if status.class() == 6 {
            self.cancel_others(now, context, None);
        }
        self.conclude(now, context);
    }

    /// Edits a response for the way back and sends it. False: it must wait
    /// for its retransmission, or is not allowed any more.
    fn relay_response(
        &mut self,
        now: Instant,
        context: &mut Context,
        index: usize,
        flow: Flow,
        message: Message<'_>,
        status: Status,
    ) -> bool {
        let mut edit = self.blank();
        via::pop(message, &mut edit);
        self.lower_cseq(&context.purpose, message, &mut edit);
        let Some(reply) = context.answering.as_ref().map(|a| a.reply) else { return false };
        let own = self.reach(reply);
        // A 100 does not come so far.
        let dialog_forming = status.class() <= 2;
        self.identities(flow, reply, message, &mut edit);
        match context.purpose.clone() {
            Purpose::Create(pass) if dialog_forming => {
                if self.registry.call(pass).is_none() {
                    // The call has ended; a fork that answers only now is told.
                    self.observe(Observed::Dropped { side: self.side(flow), reason: DropReason::StrayResponse });
                    if context.invite && status.is_success() {
                        self.end_unwanted(now, context, flow, message, ELSEWHERE);
                    }
                    return false;
                }
                let target = &context.branches[index].target;
                let here = own.text();
                let leg = self.note_callee(pass, index as u16, target, flow, context.request.message(), message);
                self.face(context, index, pass, here.get(), message, &mut edit);
                let token = || leg.map(|leg| self.key.seal(Token::Leg(pass, leg)));
                contact::to_ours(message, &mut edit, here.get(), token);
                session_timer::answer(context.request.message(), message, &mut edit);
                if context.invite {
                    let key = MediaKey { pass: pass.0, branch: index as u16 };
                    let ends = |proxy: &Self| proxy.ends_of_create(context, index, flow);
                    let fits =
                        self.body_of_response(key, leg.unwrap_or(0), End::B, context.offered, ends, message, &mut edit);
                    if let Err(refusal) = fits {
                        if refusal == Refusal::NotReady {
                            self.hold(context, index, flow, message);
                            return false;
                        }
                        if let Some(reject) = self.refused_answer(refusal, status) {
                            context.branches[index].result = Some(reject.status);
                            self.end_unwanted(now, context, flow, message, reject.reason);
                            self.branch_failed(context, index, reject.status);
                            self.fail_context(now, context, &reject);
                            self.cancel_others(now, context, None);
                        }
                        return false;
                    }
                    self.note_streams(pass);
                }
            }
            Purpose::Create(pass) => self.face(context, index, pass, own.text().get(), message, &mut edit),
            Purpose::Within { pass, from, to } => {
                cseq::lower(context.request.message(), message, &mut edit);
                if status.is_success() && self.registry.call(pass).is_none() && body::sdp(message).is_some() {
                    // A BYE overtook it: what it agreed on is gone (§15.1.2).
                    context.branches[index].result = Some(Status(487));
                    self.respond_own(now, context, &Reject::new(487, "Request Terminated"));
                    return false;
                }
                if dialog_forming {
                    let timer = session_timer::agreed(context.request.message(), message, from);
                    self.note_target(now, pass, to, flow, message, timer);
                    let here = own.text();
                    self.face(context, index, pass, here.get(), message, &mut edit);
                    contact::to_ours(message, &mut edit, here.get(), || Some(self.key.seal(Token::Leg(pass, to))));
                    session_timer::answer(context.request.message(), message, &mut edit);
                    let leg = callee(from, to);
                    let key = self.media_key(pass, leg);
                    let asked = context.flow;
                    let ends = |proxy: &Self| proxy.ends_within(pass, to, from, flow, asked);
                    // Of a call that has ended no new media is opened.
                    let offered = context.offered || self.registry.call(pass).is_none();
                    let fits = self.body_of_response(key, leg, body::end_of(to), offered, ends, message, &mut edit);
                    if let Err(refusal) = fits {
                        if refusal == Refusal::NotReady {
                            self.hold(context, index, flow, message);
                            return false;
                        }
                        if let Some(reject) = self.refused_answer(refusal, status) {
                            context.branches[index].result = Some(reject.status);
                            self.respond_own(now, context, &reject);
                            self.end_call(now, pass, Cause::MediaFailed, reject.reason);
                        }
                        return false;
                    }
                    self.note_streams(pass);
                }
            }
            Purpose::Register(mut registration) => {
                self.registered_edit(now, &mut registration, context.flow, flow, message, status, &mut edit);
            }
            Purpose::Pass => {
                if dialog_forming {
                    let binding = context.branches[index].target.binding;
                    let token = || binding.map(|id| self.key.seal(Token::Binding(id)));
                    contact::to_ours(message, &mut edit, own.text().get(), token);
                }
            }
            Purpose::Ours(_) => {}
        }
        sip::edit::content_length(message, &mut edit);
        let bytes = self.edited(message, &edit);
        let passed = self.send_response(now, context, status, bytes);
        if passed && context.invite && status.is_success() {
            context.branches[index].accepted = Some((0, Patch::of(&edit)));
        }
        self.reuse(edit);
        passed
    }

    /// Our entries in Record-Route, as the sender of the request is to see them.
    fn face(&self, context: &Context, index: usize, pass: PassId, here: &[u8], message: Message<'_>, edit: &mut Edit) {
        let Some(reply) = context.answering.as_ref().map(|a| a.reply) else { return };
        let out = context.branches[index].flow;
        let creates = matches!(context.purpose, Purpose::Create(_));
        if self.moves(reply) {
            record_route::leave(message, edit, &self.key, pass);
        } else if creates && self.moves(out) && message.status().is_some_and(|s| s.class() <= 2) {
            let crossing = context.flow.listener != out.listener;
            record_route::enter(context.request.message(), message, edit, &self.key, pass, here, crossing);
        } else {
            record_route::turn(message, edit, &self.key, pass, here);
        }
    }

    /// SDP in a response that cannot be carried: what the request gets instead.
    /// `None` where the response is only dropped: a provisional one.
    fn refused_answer(&mut self, refusal: Refusal, status: Status) -> Option<Reject> {
        let reject = self.refusal(refusal);
        status.is_success().then_some(reject)
    }

    fn send_response(&mut self, now: Instant, context: &mut Context, status: Status, bytes: Vec<u8>) -> bool {
        let Some(answering) = &mut context.answering else { return false };
        if !answering.machine.respond(now, status) {
            return false;
        }
        answering.last = if answering.machine.replays() { bytes.clone() } else { Vec::new() };
        let reply = answering.reply;
        // What an unknown source gets for a REGISTER stays within its budget; a copy of the request tries again.
        if matches!(context.purpose, Purpose::Register(_)) && !self.affords(now, reply, status, bytes.len()) {
            return true;
        }
        self.count_out(reply, status);
        self.transmit(reply, bytes);
        true
    }

    /// A 2xx passed.
    fn succeeded(&mut self, now: Instant, context: &mut Context, index: usize, message: Message<'_>) {
        context.branches[index].result = message.status();
        match context.purpose {
            Purpose::Create(pass) => {
                let timer = session_timer::agreed(context.request.message(), message, 0);
                self.answered(now, pass, index as u16, message, timer);
                self.subscribed(now, pass, message);
                if context.invite {
                    self.cancel_others(now, context, Some(index));
                }
            }
            Purpose::Within { pass, from, to } => match message.method() {
                Method::Bye => self.leave(pass, from, to),
                Method::Subscribe => self.subscribed(now, pass, message),
                Method::Invite
                | Method::Ack
                | Method::Cancel
                | Method::Options
                | Method::Register
                | Method::Info
                | Method::Update
                | Method::Prack
                | Method::Refer
                | Method::Notify
                | Method::Message
                | Method::Publish
                | Method::Other(_) => {}
            },
            Purpose::Pass | Purpose::Register(_) | Purpose::Ours(_) => {}
        }
    }

    /// What a branch's failure means for calls and media.
    pub(crate) fn branch_failed(&mut self, context: &Context, index: usize, status: Status) {
        match context.purpose {
            Purpose::Create(pass) if context.invite && !matches!(status.0, 401 | 407) => {
                self.offers.close(MediaKey { pass: pass.0, branch: index as u16 });
                self.note_streams(pass);
            }
            Purpose::Within { pass, from, to } if context.offered => {
                let leg = callee(from, to);
                self.offers.fail(self.media_key(pass, leg), leg, body::end_of(from));
                self.note_streams(pass);
            }
            Purpose::Create(_) | Purpose::Within { .. } | Purpose::Pass | Purpose::Register(_) | Purpose::Ours(_) => {}
        }
    }

    /// When no branch is pending any more, the best response goes back (§16.7(6)).
    pub(crate) fn conclude(&mut self, now: Instant, context: &mut Context) {
        if !context.open() || context.parked.is_some() || context.branches.iter().any(|b| b.result.is_none()) {
            return;
        }
        let Some(best) = best::of(context) else {
            return self.nobody_answered(now, context);
        };
        // A 503 would make our peer avoid us: it passes only when no hop behind us serves (§16.7(6)), or where
        // it is our own and tells of us.
        let ours = context.branches[best].response.as_ref().is_some_and(|stored| self.is_our_answer(stored.message()));
        if context.branches[best].result == Some(Status(503)) && !ours {
            let reject = self.instead_of_503(now, context);
            return self.fail_context(now, context, &reject);
        }
        let Some(stored) = context.branches[best].response.take() else { return };
        let message = stored.message();
        let status = message.status().unwrap_or(Status(500));
        let mut edit = Edit::new();
        via::pop(message, &mut edit);
        self.lower_cseq(&context.purpose, message, &mut edit);
        if matches!(status.0, 401 | 407) {
            for (index, branch) in context.branches.iter().enumerate() {
                if index != best
                    && let Some(other) = &branch.response
                {
                    best::gather_challenges(message, other.message(), &mut edit);
                }
            }
        }
        if let (Some(pass), Some(reply)) = (context.purpose.pass(), context.answering.as_ref().map(|a| a.reply)) {
            self.face(context, best, pass, self.reach(reply).text().get(), message, &mut edit);
            self.identities(context.branches[best].flow, reply, message, &mut edit);
        }
        let bytes = self.edited(message, &edit);
        self.note_challenge(context, message);
        self.send_response(now, context, status, bytes);
        self.request_failed(now, context, status);
    }

    /// No branch had a final response: 487 after a CANCEL, 503 where nothing
    /// could be sent (§16.9), else 408; to a non-INVITE no 408 (RFC 4320 §4.2).
    fn nobody_answered(&mut self, now: Instant, context: &mut Context) {
        let timed_out = context.branches.iter().any(|b| b.result == Some(Status(408)));
        let unreachable = context.branches.iter().any(|b| b.result == Some(Status(503)));
        let ended = context.branches.iter().filter_map(|b| b.result).find(|s| matches!(s.0, 430 | 480));
        let reject = match (context.invite, context.cancelled) {
            (true, true) => Reject::new(487, "Request Terminated"),
            (true, false) if timed_out => Reject::new(408, "Request Timeout"),
            _ if ended == Some(Status(430)) => Reject::new(430, "Flow Failed"),
            _ if ended.is_some() => Reject::new(480, "The phone's connection has ended"),
            _ if unreachable && !timed_out => self.instead_of_503(now, context),
            (true, false) => Reject::new(408, "Request Timeout"),
            (false, _) => {
                if let Some(answering) = &mut context.answering {
                    answering.machine.abandon();
                }
                return self.request_failed(now, context, Status(408));
            }
        };
        self.respond_own(now, context, &reject);
        self.request_failed(now, context, reject.status);
    }

    /// A request failed as a whole.
    pub(crate) fn request_failed(&mut self, now: Instant, context: &Context, status: Status) {
        match context.purpose {
            Purpose::Create(pass) => {
                let answered = self.registry.call(pass).is_some_and(|c| c.answered.is_some());
                if answered {
                    return;
                }
                if matches!(status.0, 401 | 407) && context.invite {
                    let until = Some(now + crate::dialog::RETRY);
                    self.registry.update_call(pass, |call| call.expires = until);
                } else {
                    self.note_status(pass, context, status);
                    self.finish(pass, if context.cancelled { Cause::Cancelled } else { Cause::Failed });
                }
            }
            Purpose::Within { pass, from, to } => {
                // Whatever the far end says to a BYE, its sender has left; only a challenge brings it again.
                if context.request.message().method() == Method::Bye {
                    if matches!(status.0, 401 | 407) {
                        self.stay(pass);
                    } else {
                        self.leave(pass, from, to);
                    }
                }
            }
            Purpose::Pass | Purpose::Register(_) | Purpose::Ours(_) => {}
        }
    }
}

#[cfg(test)]
mod tests;
