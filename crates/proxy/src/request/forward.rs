//! Step 7, once per branch: RFC 3261 §16.6. Everything that must be known
//! (an address, ports) is obtained before the first edit; what is missing
//! parks the branch.

use std::time::{Duration, Instant};

use media::offer::{Key as MediaKey, Refusal};
use registry::PassId;
use wire::sip::{self, Message, Method, Name, NameAddr, Uri};
use wire::{Edit, Flow, Rule, Text};

use super::route::Routed;
use super::target::GONE;
use super::{Reject, Target, breadth};
use crate::dialog::callee;
use crate::holdings::Holder;
use crate::late::Abandoned;
use crate::locate::{Hop, Located, Way};
use crate::rewrite::{Own, body, contact, record_route, via};
use crate::session_timer;
use crate::token::Token;
use crate::transaction::context::Answering;
use crate::transaction::{Branch, Client, Context, Key, Purpose, Server};
use crate::upstream::{Failure, PATIENCE};
use crate::{Observed, Proxy};

/// A mapped port pair is waited for this long, behind the 100.
const PARK: Duration = Duration::from_millis(500);
/// An address is waited for this long.
const PARK_LOCATE: Duration = Duration::from_secs(4);

impl Proxy {
    /// Makes the response context and sends every branch.
    #[expect(clippy::too_many_arguments, reason = "a step takes what it needs by name, not through a blackboard")]
    pub(crate) fn start(
        &mut self,
        now: Instant,
        flow: Flow,
        message: Message<'_>,
        key: Key,
        holder: Holder,
        purpose: Purpose,
        targets: Vec<Target>,
        routed: Routed,
    ) -> Result<(), Reject> {
        let Some(mut context) = self.accept(flow, message, key, holder, purpose, targets, routed) else {
            return Ok(());
        };
        if context.invite {
            self.respond_own(now, &mut context, &Reject::new(100, "Trying"));
        }
        self.send_branches(now, &mut context);
        self.keep(now, context);
        Ok(())
    }

    /// Makes the response context with its server transaction, taken out.
    #[expect(clippy::too_many_arguments, reason = "a step takes what it needs by name, not through a blackboard")]
    pub(super) fn accept(
        &mut self,
        flow: Flow,
        message: Message<'_>,
        key: Key,
        holder: Holder,
        purpose: Purpose,
        targets: Vec<Target>,
        routed: Routed,
    ) -> Option<Box<Context>> {
        let branches = targets.into_iter().map(|target| Branch::new(target, flow, self.random())).collect();
        let invite = message.method() == Method::Invite;
        let machine = Server::new(invite, flow.transport.reliable());
        let reply = via::reply(flow, message);
        let id = self.contexts.insert(Context {
            answering: Some(Answering { machine, key, reply, last: Vec::new() }),
            offered: body::sdp(message).is_some(),
            routed,
            ..Context::new(flow, message.store(), purpose, branches)
        });
        let mut context = self.contexts.take(id)?;
        self.hold_for(&mut context, holder);
        Some(context)
    }

    /// Sends every branch that is not sent yet; parks the context if one must wait.
    pub(crate) fn send_branches(&mut self, now: Instant, context: &mut Context) {
        let mut wait: Option<Duration> = None;
        let mut refused: Option<Reject> = None;
        for index in 0..context.branches.len() {
            if context.branches[index].client.is_some() || context.branches[index].result.is_some() {
                continue;
            }
            match self.send_branch(now, context, index) {
                Ok(()) => {}
                Err(Stop::Wait(time)) => wait = Some(wait.map_or(time, |w| w.max(time))),
                Err(Stop::Reject(reject)) => {
                    context.branches[index].result = Some(reject.status);
                    refused = Some(reject);
                }
            }
        }
        match wait {
            Some(time) => {
                context.parked = Some(context.parked.unwrap_or(now + time));
                self.parked.insert(context.id);
            }
            None => {
                context.parked = None;
                self.parked.remove(&context.id);
            }
        }
        if let Some(reject) = refused
            && context.branches.iter().all(|b| b.result.is_some() && b.response.is_none())
        {
            self.fail_context(now, context, &reject);
        }
    }

    fn send_branch(&mut self, now: Instant, context: &mut Context, index: usize) -> Result<(), Stop> {
        if context.purpose.pass().is_some_and(|pass| self.registry.call(pass).is_none()) {
            // The call ended while this was parked.
            return Err(Stop::Reject(GONE));
        }
        let target = &context.branches[index].target;
        let (way, others) = match &target.hop {
            Hop::Flow(flow) => (Way::over(*flow), Vec::new()),
            hop @ (Hop::Host(_) | Hop::Upstream { .. } | Hop::Way { .. }) => {
                let seed = self.chance(hop);
                match self.ways(now, hop, seed) {
                    Located::At(ways) => secure_first(target, context.request.message(), ways),
                    Located::Wait => return Err(Stop::Wait(PARK_LOCATE)),
                    Located::Nowhere(reject) => return Err(Stop::Reject(reject)),
                }
            }
        };
        let flow = self.take(&way);
        if !self.connections.is_open(flow) {
            return Err(Stop::Reject(Reject::new(480, "The phone's connection has ended")));
        }
        self.keeps_secure(target, context.request.message(), flow).map_err(Stop::Reject)?;
        let Some(own) = self.known_own(flow) else {
            return Err(Stop::Reject(Reject::new(503, "Public address not known yet (STUN)").with("Retry-After: 5")));
        };
        let mut bytes = self.branch_bytes(context, index, flow, own)?;
        let (mut flow, mut way) = (flow, way);
        let mut others = others;
        if let Some(stream) = self.by_size(&context.branches[index].target.hop, &way, bytes.len()) {
            flow = self.outgoing(stream.flow, &stream.name, crate::size::CONNECT);
            others.insert(0, Way { sized: true, ..std::mem::replace(&mut way, stream) });
            bytes = self.branch_bytes(context, index, flow, self.own(flow))?;
        }
        let invite = context.invite;
        let branch = &mut context.branches[index];
        branch.flow = flow;
        // The next one last; after a failure these are already there.
        branch.others.extend(others.into_iter().rev());
        let mut client = Client::new(now, invite, flow.transport.reliable());
        if way.upstream.is_some() && !branch.others.is_empty() {
            client.hurry(now + PATIENCE);
        }
        branch.client = Some(client);
        branch.way = Some(way);
        branch.sent = bytes.clone();
        let side = self.side(flow);
        let method = context.request.message().method().into();
        self.observe(Observed::RequestOut { side, method });
        match context.purpose {
            Purpose::Create(pass) => {
                self.registry.update_call(pass, |call| call.onward = flow.into());
                self.note_streams(pass);
            }
            Purpose::Within { pass, .. } if context.offered => self.note_streams(pass),
            Purpose::Within { .. } | Purpose::Pass | Purpose::Register(_) | Purpose::Ours(_) => {}
        }
        self.transmit(flow, bytes);
        Ok(())
    }

    /// A `sips:` target never goes out on an open hop, unless the network
    /// there is trusted (RFC 3261 §26.2.2, RFC 5630 §5.3).
    fn keeps_secure(&self, target: &Target, message: Message<'_>, flow: Flow) -> Result<(), Reject> {
        let sips = asks_for_sips(target, message);
        let trusted = self.config.listeners.get(usize::from(flow.listener.0)).is_some_and(|l| l.secure);
        if sips && !flow.transport.is_secure() && !trusted {
            let warning = "Warning: 380 siplatch \"SIPS not allowed: the next hop is not encrypted\"";
            return Err(Reject::new(480, "Temporarily Unavailable").with(warning));
        }
        Ok(())
    }

    /// A next hop failed: its next address, if there is one, gets the request
    /// with a new branch (§16.6(7), RFC 3263 §4.3).
    pub(crate) fn try_next(&mut self, now: Instant, context: &mut Context, index: usize, failure: Failure) -> bool {
        let branch = &mut context.branches[index];
        if let Some(way) = &branch.way {
            let flow = way.flow;
            self.hop_failed(now, flow, failure);
        }
        let cancelled = context.cancelled || branch.cancel.is_some() || branch.cancel_wanted.is_some();
        let next = std::iter::from_fn(|| branch.others.pop()).find(|way| self.still_serves(now, way));
        let Some(next) = next.filter(|_| !cancelled && context.open()) else {
            return self.next_flow(now, context, index);
        };
        let number = self.random();
        let old = &mut context.branches[index];
        let before = old.way.as_ref().and_then(|way| way.upstream);
        let from = old.flow;
        if next.sized {
            self.back_to_udp(now, from, next.flow);
        } else {
            self.note_failover(before, &next, failure);
        }
        let old = &mut context.branches[index];
        let of = old.target.hop.upstreams().to_vec();
        let target = Target { hop: Hop::Way { way: next, of }, ..old.target.clone() };
        let others = std::mem::take(&mut old.others);
        let mut abandoned = std::mem::take(&mut old.abandoned);
        if context.invite && failure == Failure::Silent {
            abandoned.push(Abandoned { number: old.number, flow: old.flow, sent: std::mem::take(&mut old.sent) });
        }
        *old = Branch { others, abandoned, ..Branch::new(target, context.flow, number) };
        self.send_branches(now, context);
        true
    }

    /// One forwarded copy, as it leaves on a flow.
    fn branch_bytes(&mut self, context: &Context, index: usize, flow: Flow, own: Own) -> Result<Vec<u8>, Stop> {
        let message = context.request.message();
        let mut edit = self.blank();
        let result = self.branch_edit(context, index, message, flow, own, &mut edit);
        let bytes = result.map(|()| self.edited(message, &edit));
        self.reuse(edit);
        bytes
    }

    /// All edits of one forwarded copy.
    fn branch_edit(
        &mut self,
        context: &Context,
        index: usize,
        message: Message<'_>,
        flow: Flow,
        own: Own,
        edit: &mut Edit,
    ) -> Result<(), Stop> {
        let branch = &context.branches[index];
        let reach = self.reach_beside(own, flow);
        let mut value = via::Ours::new(own, context.id, branch.number);
        if matches!(context.purpose, Purpose::Register(_)) {
            value.keep = self.offers_keep(flow);
        }
        self.route_edit(context.flow, message, &branch.target, &value, &context.routed, edit);
        breadth::write(message, edit, index, context.branches.len());
        self.strip_credentials(message, edit);
        self.identities(context.flow, flow, message, edit);
        self.transfer(flow, reach, message, edit);
        match &context.purpose {
            Purpose::Create(pass) => {
                let here = reach.text();
                if !self.moves(flow) {
                    let crossing = context.flow.listener != flow.listener;
                    record_route::push(message, edit, &self.key, *pass, here.get(), crossing);
                }
                contact::to_ours(message, edit, here.get(), || Some(self.key.seal(Token::Leg(*pass, 0))));
                session_timer::ask(message, edit);
                if message.method() == Method::Invite {
                    let ends = |proxy: &Self| proxy.ends_of_create(context, index, flow);
                    let key = MediaKey { pass: pass.0, branch: index as u16 };
                    self.body_of_request(key, 0, media::End::A, ends, message, edit)
                        .map_err(|refusal| self.stop_for(refusal))?;
                }
            }
            Purpose::Within { pass, from, to } => {
                self.raise(*pass, *from, *to, message, edit);
                contact::to_ours(message, edit, reach.text().get(), || Some(self.key.seal(Token::Leg(*pass, *from))));
                session_timer::ask(message, edit);
                let leg = callee(*from, *to);
                let key = self.media_key(*pass, leg);
                let ends = |proxy: &Self| proxy.ends_within(*pass, *from, *to, context.flow, flow);
                self.body_of_request(key, leg, body::end_of(*from), ends, message, edit)
                    .map_err(|refusal| self.stop_for(refusal))?;
            }
            Purpose::Register(registration) => {
                self.register_edit(registration, message, own, edit);
                self.raise_cseq(registration, message, edit);
            }
            Purpose::Pass => {
                let token = self.registry.on_flow(context.flow).next().map(|b| b.id);
                contact::to_ours(message, edit, reach.text().get(), || {
                    token.map(|id| self.key.seal(Token::Binding(id)))
                });
            }
            Purpose::Ours(_) => {}
        }
        sip::edit::content_length(message, edit);
        Ok(())
    }

    /// Via, Max-Forwards, Request-URI and Route: the same for every request that we pass on.
    pub(crate) fn route_edit(
        &self,
        from: Flow,
        message: Message<'_>,
        target: &Target,
        via: &via::Ours,
        routed: &Routed,
        edit: &mut Edit,
    ) {
        sip::edit::received(message, edit, from.remote);
        self.grant_keep(from, message, edit);
        via::push(message, edit, via);
        let hops = match message.number(Name::MaxForwards) {
            Some(Ok(n)) => n.saturating_sub(1),
            Some(Err(_)) | None => 70,
        };
        sip::edit::set(message, edit, Rule::MaxForwards, Name::MaxForwards, &[Text::number(hops.into()).get()]);
        let behind = || message.values(Name::Route).skip(routed.pops);
        let mut uri = target.uri.as_deref();
        let mut stays = usize::MAX;
        if routed.strict {
            // RFC 3261 §16.4: the last Route entry is the real Request-URI.
            stays = behind().count().saturating_sub(1);
            let last = || NameAddr::parse(message.values(Name::Route).last()?).ok();
            uri = uri.or_else(|| last().map(|last| last.uri).filter(|uri| Uri::parse(uri).is_ok()));
        }
        let mut entries = behind().take(stays).peekable();
        let first = entries.peek().and_then(|entry| NameAddr::parse(entry).ok());
        let to_strict = first.filter(|a| a.uri().is_ok_and(|u| u.params.find("lr").is_none()));
        match to_strict {
            // RFC 3261 §16.6(6): a strict router next.
            Some(next) => {
                let moved = uri.unwrap_or(message.request_uri());
                let kept: Vec<&[u8]> = entries.skip(1).collect();
                let mut value: Vec<&[u8]> = Vec::with_capacity(kept.len() * 2 + 3);
                for entry in kept {
                    value.extend([entry, b", "]);
                }
                value.extend([&b"<"[..], moved, b">"]);
                sip::edit::remove(message, edit, Rule::Route, Name::Route);
                sip::edit::append(message, edit, Rule::Route, Name::Route, &value);
                edit.replace(message.span(message.request_uri()), Rule::RequestUri, &[next.uri]);
                return;
            }
            None if routed.strict && stays > 0 => {
                let mut value: Vec<&[u8]> = Vec::new();
                for entry in entries {
                    if !value.is_empty() {
                        value.push(b", ");
                    }
                    value.push(entry);
                }
                sip::edit::remove(message, edit, Rule::Route, Name::Route);
                sip::edit::append(message, edit, Rule::Route, Name::Route, &value);
            }
            None => {
                let gone = if routed.strict { usize::MAX } else { routed.pops };
                sip::edit::pop(message, edit, Rule::Route, Name::Route, gone);
            }
        }
        if let Some(uri) = uri
            && uri != message.request_uri()
        {
            edit.replace(message.span(message.request_uri()), Rule::RequestUri, &[uri]);
        }
    }

    fn stop_for(&mut self, refusal: Refusal) -> Stop {
        match refusal {
            Refusal::NotReady => Stop::Wait(PARK),
            Refusal::Exhausted(_) | Refusal::Malformed { .. } | Refusal::OwnPort => {
                let reject = self.refusal(refusal);
                Stop::Reject(reject)
            }
        }
    }

    /// Both ends of the media of a dialog-forming request.
    pub(crate) fn ends_of_create(&self, context: &Context, index: usize, onward: Flow) -> [media::offer::EndPlan; 2] {
        let caller = self.phone_on(context.flow);
        let callee = context.branches[index].target.phone;
        [self.end(context.flow, caller.or(callee)), self.end(onward, callee.or(caller))]
    }

    /// Both ends of the media of a dialog: `here` is the flow of leg `from`, `there` that of leg `to`.
    pub(crate) fn ends_within(
        &self,
        pass: PassId,
        from: u8,
        to: u8,
        here: Flow,
        there: Flow,
    ) -> [media::offer::EndPlan; 2] {
        let phone = |leg| {
            let party = self.registry.call(pass).and_then(|c| super::target::party(c, leg))?;
            self.registry.binding(party.binding?)?.phone
        };
        let (at_from, at_to) = (phone(from), phone(to));
        let from_end = self.end(here, at_from.or(at_to));
        let to_end = self.end(there, at_to.or(at_from));
        if from == 0 { [from_end, to_end] } else { [to_end, from_end] }
    }
}

/// The first way and those behind it; for a `sips:` target only the encrypted
/// ones, where there are any.
fn secure_first(target: &Target, message: Message<'_>, mut ways: Vec<Way>) -> (Way, Vec<Way>) {
    let sips = asks_for_sips(target, message);
    if sips && ways.iter().any(|way| way.flow.transport.is_secure()) {
        ways.retain(|way| way.flow.transport.is_secure());
    }
    (ways.remove(0), ways)
}

fn asks_for_sips(target: &Target, message: Message<'_>) -> bool {
    let uri = target.uri.as_deref().unwrap_or(message.request_uri());
    Uri::scheme_of(uri) == sip::Scheme::Sips
}

/// Why a branch was not sent.
enum Stop {
    /// Something is on its way; wait so long at most.
    Wait(Duration),
    /// It cannot be.
    Reject(Reject),
}

#[cfg(test)]
mod tests;
