//! What time, facts and failures do to contexts, bindings and calls.

use std::time::Instant;

use media::Fact;
use media::offer::News;
use registry::{BindingId, CallKind, CallState, Key, PassId};
use wire::Flow;
use wire::sip::{Message, Method, Status, Stored};

use crate::request::Reject;
use crate::rewrite::via;
use crate::timer::Timer;
use crate::transaction::client::{Expired, State};
use crate::transaction::{Branch, Client, Context, Id, Rest, server};
use crate::upstream::Failure;
use crate::{Cause, Observed, Proxy};

impl Proxy {
    /// Stores a context again and arms its timer, or forgets it when nothing is left to do.
    pub(crate) fn keep(&mut self, _now: Instant, mut context: Box<Context>) {
        self.weigh(&mut context);
        let deadline = context.deadline();
        if context.armed != deadline {
            if let Some(at) = context.armed {
                self.timers.disarm(at, Timer::Context(context.id));
            }
            if let Some(at) = deadline {
                self.timers.arm(at, Timer::Context(context.id));
            }
            context.armed = deadline;
        }
        if deadline.is_none() && !context.open() {
            self.forget(&context);
        } else if context.rests() {
            if let Some(rest) = Rest::of(&mut context) {
                self.contexts.put_rest(Box::new(rest));
            }
        } else {
            self.contexts.put_back(context);
        }
    }

    /// A retransmitted request: the last response again, or nothing.
    /// A sender that moved in between is answered where it is now.
    pub(crate) fn replay(&mut self, now: Instant, id: Id, flow: Flow, message: Message<'_>) {
        // A binding is the flow's that asked for it: elsewhere its 200 would be somebody else's news.
        let register = message.method() == Method::Register;
        let elsewhere = |from: Flow| register && flow.remote.ip() != from.remote.ip();
        if let Some(rest) = self.contexts.rest(id) {
            if !elsewhere(rest.flow()) && !rest.last.is_empty() {
                let here = rest.flow().listener == flow.listener;
                let (reply, last) = (if here { via::reply(flow, message) } else { rest.reply() }, rest.last.to_vec());
                self.again(now, reply, last);
            }
            return;
        }
        let Some(mut context) = self.contexts.take(id) else { return };
        let elsewhere = elsewhere(context.flow);
        if let Some(answering) = context.answering.as_mut().filter(|_| !elsewhere) {
            if answering.reply.listener == flow.listener {
                answering.reply = via::reply(flow, message);
            }
            if answering.machine.replays() && !answering.last.is_empty() {
                let (reply, last) = (answering.reply, answering.last.clone());
                self.again(now, reply, last);
            }
        }
        self.contexts.put_back(context);
    }

    /// Sends a response again, to whoever has not had its share yet.
    fn again(&mut self, now: Instant, reply: Flow, last: Vec<u8>) {
        let status = Stored::parse(last.clone(), &self.config.limits).ok().and_then(|last| last.message().status());
        if self.is_proven(reply) || self.books(now, reply, status.unwrap_or(Status(500)), last.len()) {
            let side = self.side(reply);
            self.observe(Observed::Retransmitted { side });
            self.transmit(reply, last);
        }
    }

    /// The earliest timer of a context fired.
    pub(crate) fn context_due(&mut self, now: Instant, id: Id) {
        if let Some(rest) = self.contexts.take_rest(id) {
            return self.forget_rest(&rest);
        }
        if let Some(accepted) = self.contexts.take_accepted(id) {
            return self.forget_accepted(&accepted);
        }
        let Some(mut context) = self.contexts.take(id) else { return };
        context.armed = None;
        if context.parked.is_some_and(|at| at <= now) {
            self.park_over(now, &mut context);
        }
        if let Some(answering) = &mut context.answering
            && let Some(server::Expired::Retransmit) = answering.machine.expire(now)
        {
            let (reply, last) = (answering.reply, answering.last.clone());
            self.again(now, reply, last);
        }
        for index in 0..context.branches.len() {
            self.branch_due(now, &mut context, index);
        }
        self.keep(now, context);
    }

    fn branch_due(&mut self, now: Instant, context: &mut Context, index: usize) {
        let flow = context.branches[index].flow;
        if let Some((client, bytes)) = context.branches[index].cancel.as_deref_mut()
            && let Some(Expired::Retransmit) = client.expire(now)
        {
            let bytes = bytes.clone();
            self.transmit(flow, bytes);
        }
        let cancelling = context.branches[index].cancel.is_some();
        let Some(client) = &mut context.branches[index].client else { return };
        let silent = client.state() == State::Calling;
        match client.expire(now) {
            // A 2xx came, but its media could not be carried in all that time.
            Some(Expired::Done) if context.open() && context.branches[index].result.is_none() => {
                let held = context.branches[index].held.take();
                let accepts = |(_, held): &(Flow, Stored)| held.message().status().is_some_and(Status::is_success);
                if let Some((flow, held)) = held.map(|held| *held).filter(accepts) {
                    self.end_unwanted(now, context, flow, held.message(), "No media port became ready in time");
                }
                self.branch_gave_up(now, context, index, 503, None);
            }
            None | Some(Expired::Done) => {}
            Some(Expired::Retransmit) => {
                let branch = &context.branches[index];
                let bytes = branch.sent.clone();
                if silent && branch.client.as_ref().is_some_and(|c| c.copies() == 3) {
                    self.suspect(now, branch);
                }
                let side = self.side(flow);
                self.observe(Observed::Retransmitted { side });
                self.transmit(flow, bytes);
            }
            Some(Expired::TimerC) if !cancelling => {
                // §16.8: a branch that rang is cancelled.
                let Some(client) = &mut context.branches[index].client else { return };
                client.revive(now);
                context.branches[index].cancel_wanted = Some(Vec::new());
                self.cancel_branch(now, context, index);
            }
            Some(Expired::TimedOut | Expired::TimerC) => {
                let side = self.side(flow);
                let method = context.request.message().method().into();
                self.observe(Observed::TimedOut { side, method });
                self.branch_gave_up(now, context, index, 408, silent.then_some(Failure::Silent));
            }
        }
    }

    /// A branch ended without a response; `failure` says whether its next hop is to blame.
    pub(crate) fn branch_gave_up(
        &mut self,
        now: Instant,
        context: &mut Context,
        index: usize,
        status: u16,
        failure: Option<Failure>,
    ) {
        if context.answering.is_none() {
            return self.own_timeout(now, context);
        }
        let open = context.branches[index].result.is_none();
        if open && !failure.is_some_and(|failure| self.try_next(now, context, index, failure)) {
            context.branches[index].result = Some(Status(status));
            self.branch_failed(context, index, Status(status));
            self.conclude(now, context);
        }
    }

    /// What a parked branch waited for did not come in time.
    fn park_over(&mut self, now: Instant, context: &mut Context) {
        context.parked = None;
        self.parked.remove(&context.id);
        for branch in &mut context.branches {
            if branch.client.is_none() && branch.result.is_none() {
                branch.result = Some(Status(503));
            }
        }
        if context.branches.iter().all(|b| b.client.is_none()) {
            let reject = Reject::new(503, "No media port or address became ready in time").with("Retry-After: 5");
            self.fail_context(now, context, &reject);
        } else {
            self.conclude(now, context);
        }
    }

    /// Ports or an address arrived: parked branches try again.
    pub(crate) fn resume(&mut self, now: Instant) {
        if self.parked.is_empty() {
            return;
        }
        let waiting: Vec<Id> = self.parked.iter().copied().collect();
        for id in waiting {
            match self.contexts.take(id) {
                Some(mut context) => {
                    self.send_branches(now, &mut context);
                    self.release_held(now, &mut context);
                    self.keep(now, context);
                }
                None => {
                    self.parked.remove(&id);
                }
            }
        }
    }

    /// A phone came back from another address: what it has not answered yet
    /// goes there at once, and from there on.
    pub(crate) fn follow(&mut self, now: Instant, id: BindingId, flow: Flow) {
        let pending = |b: &Branch| {
            b.target.binding == Some(id)
                && b.flow.listener == flow.listener
                && b.flow != flow
                && b.client.as_ref().is_some_and(Client::pending)
        };
        let behind: Vec<Id> = self.contexts.iter().filter(|c| c.branches.iter().any(pending)).map(|c| c.id).collect();
        for context in behind {
            let Some(mut context) = self.contexts.take(context) else { continue };
            for branch in context.branches.iter_mut().filter(|b| pending(b)) {
                branch.flow = flow;
                let bytes = match branch.cancel.as_deref() {
                    Some((client, cancel)) if client.pending() => cancel.clone(),
                    Some(_) | None => branch.sent.clone(),
                };
                self.transmit(flow, bytes);
            }
            self.keep(now, context);
        }
    }

    /// A message could not be sent (§16.9): as if 503 had come on that branch.
    pub(crate) fn unsent(&mut self, now: Instant, flow: Flow) {
        let hit: Vec<Id> = self
            .contexts
            .iter()
            .filter(|c| c.branches.iter().any(|b| b.flow == flow && waits(b)))
            .map(|c| c.id)
            .collect();
        for id in hit {
            self.unsent_branches(now, id, &|branch| branch.flow == flow, Failure::Unsent);
        }
    }

    /// Those branches of a context that wait for a first answer in vain.
    pub(crate) fn unsent_branches(&mut self, now: Instant, id: Id, hit: &dyn Fn(&Branch) -> bool, failure: Failure) {
        let Some(mut context) = self.contexts.take(id) else { return };
        for index in 0..context.branches.len() {
            let branch = &mut context.branches[index];
            if hit(branch) && waits(branch) {
                if let Some(client) = &mut branch.client {
                    client.give_up();
                }
                self.branch_gave_up(now, &mut context, index, 503, Some(failure));
            }
        }
        self.keep(now, context);
    }

    /// News from a media worker.
    pub(crate) fn fact(&mut self, now: Instant, fact: &Fact) {
        match self.offers.handle_fact(fact) {
            Some(News::Dead(key)) => self.end_branch(now, key, Cause::MediaTimeout, "No media"),
            Some(News::Lost(key)) => self.end_branch(now, key, Cause::MediaFailed, "Media failure"),
            Some(News::Found(key, end)) => self.found(now, key, end),
            None => {}
        }
        if matches!(fact, Fact::Closed { .. }) {
            self.resume(now);
        }
        if let Fact::Unheard { stream, end, .. } = fact {
            self.doubt(*stream, *end);
        }
    }

    /// Bindings and calls that ran out.
    pub(crate) fn expire(&mut self, now: Instant) {
        while let Some(key) = self.registry.due(now) {
            match key {
                Key::Binding(id) => self.binding_due(now, id),
                Key::Call(pass) => self.call_due(now, pass),
            }
        }
    }

    /// The daemon stops: every call is ended on both sides.
    pub(crate) fn stop(&mut self, now: Instant) {
        self.stopping = true;
        let calls: Vec<PassId> = self
            .registry
            .calls()
            .filter(|c| c.kind == CallKind::Invite && c.state != CallState::Ending)
            .map(|c| c.id)
            .collect();
        for pass in calls {
            self.end_call(now, pass, Cause::Stopped, "Service stops");
        }
    }
}

fn waits(branch: &Branch) -> bool {
    branch.client.as_ref().is_some_and(|c| c.state() == State::Calling)
}

#[cfg(test)]
mod tests;
