//! Path (RFC 3327) and outbound (RFC 5626) at the edge: by which token a
//! registrar names the way to a phone, and which way a request takes that
//! comes back with it.
//!
//! A phone that keeps several flows (`reg-id`) is reached over the very flow
//! that the token names, or not at all (430): its registrar tries the next
//! one. Any other phone is reached where it is now. Must not: look for another
//! flow where the named one has vanished.

use std::net::SocketAddr;
use std::time::Instant;

use registry::{Binding, FlowId, Party};
use wire::sip::{self, Message, Name, Uri};
use wire::{Edit, Flow, Rule};

use crate::request::route::Routed;
use crate::request::target::party;
use crate::request::{Reject, Target};
use crate::rewrite::Own;
use crate::token::Token;
use crate::transaction::context::Id;
use crate::transaction::{Branch, Client, Context, Purpose};
use crate::upstream::Failure;
use crate::{Proxy, gruu};

/// The flow that a token names has vanished (§5.3.1).
const FLOW_FAILED: Reject = Reject { status: sip::Status(430), reason: "Flow Failed", extra: Vec::new() };

/// Our entry in the Path of a REGISTER.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Path {
    /// The way back.
    pub(crate) token: Token,
    /// We are the first hop of a phone that keeps several flows (§5.1).
    pub(crate) ob: bool,
}

/// `reg-id` where it counts: beside an instance id, from a phone that knows outbound (§4.2).
pub(crate) fn reg_id(message: Message<'_>, contact: &sip::NameAddr<'_>) -> Option<u32> {
    contact.params.find("+sip.instance")?;
    let known = message.lists(Name::Supported, "outbound") || message.lists(Name::Require, "outbound");
    let number = contact.params.value("reg-id").filter(|_| known)?;
    std::str::from_utf8(number).ok()?.trim().parse().ok().filter(|n| *n > 0)
}

impl Proxy {
    /// The name of a flow: keyed, so that it tells no address and cannot be made up (§5.2).
    pub(crate) fn flow_id(&self, flow: Flow) -> FlowId {
        let Flow { transport, listener, connection, local, remote } = flow;
        let ends = [local, remote].map(|end| match end {
            SocketAddr::V4(end) => (end.ip().to_ipv6_mapped().octets(), 0, end.port()),
            SocketAddr::V6(end) => (end.ip().octets(), end.scope_id(), end.port()),
        });
        let [local, remote] = ends.map(|(ip, scope, port)| (ip, scope.to_be_bytes(), port.to_be_bytes()));
        FlowId(self.key.digest(
            "flow",
            &[
                transport.via().as_bytes(),
                &listener.0.to_be_bytes(),
                &connection.to_be_bytes(),
                &local.0,
                &local.1,
                &local.2,
                &remote.0,
                &remote.1,
                &remote.2,
            ],
        ))
    }

    /// Our Path entry for a REGISTER that allows one (RFC 3327 §5.2); without
    /// `path` in Supported it goes on without.
    pub(crate) fn path(
        &self,
        flow: Flow,
        message: Message<'_>,
        outbound: bool,
        binding: Option<Token>,
    ) -> Option<Path> {
        if !message.lists(Name::Supported, "path") {
            return None;
        }
        let first_hop = message.values(Name::Via).count() == 1;
        let token = if outbound { Token::Flow(self.flow_id(flow)) } else { binding? };
        Some(Path { token, ob: outbound && first_hop })
    }

    /// Puts our Path entry on top.
    pub(crate) fn path_edit(&self, path: Option<Path>, message: Message<'_>, own: Own, edit: &mut Edit) {
        let Some(path) = path else { return };
        let token = self.key.seal(path.token);
        let ob: &[u8] = if path.ob { b";lr;ob>" } else { b";lr>" };
        sip::edit::push(message, edit, Rule::Path, Name::Path, &[b"<sip:", &token, b"@", own.text().get(), ob]);
    }

    /// What a Route entry says that was a Path entry of ours.
    pub(crate) fn path_token(&self, uri: &Uri<'_>) -> Option<Token> {
        match self.key.open(uri.user?)? {
            token @ (Token::Flow(_) | Token::Binding(_)) => Some(token),
            Token::Leg(..) | Token::Route(..) => None,
        }
    }

    /// True for an entry that claims to be ours and bears a token that is not:
    /// upstream has our address with a user part from us only.
    pub(crate) fn is_forged(&self, flow: Flow, uri: &Uri<'_>) -> bool {
        let Some(user) = uri.user else { return false };
        self.names_us(flow, uri)
            && self.key.open(user).is_none()
            && (uri.params.find("ob").is_some() || user.len() == crate::token::LENGTH)
    }

    /// §5.3.1: a token that names the way that the request came says that it
    /// is on its way out, and nothing more.
    pub(crate) fn is_outgoing(&self, flow: Flow, token: Token) -> bool {
        match token {
            Token::Flow(id) => id == self.flow_id(flow),
            Token::Binding(id) => self.registry.binding(id).is_some_and(|b| b.flow == flow),
            Token::Leg(..) | Token::Route(..) => false,
        }
    }

    /// §6, as a registrar: several flows need a first hop that keeps them
    /// apart, which says so by `ob`; without one in between that is us.
    pub(crate) fn first_hop_keeps_flows(&self, message: Message<'_>) -> bool {
        let says_ob = |value: &[u8]| {
            sip::NameAddr::parse(value).and_then(|a| a.uri()).is_ok_and(|uri| uri.params.find("ob").is_some())
        };
        message.values(Name::Via).count() == 1 || message.values(Name::Path).any(says_ob)
    }

    /// Where a request goes whose Route names a way to a phone.
    pub(crate) fn along_path(&self, path: Token, uri: &Uri<'_>, routed: &Routed) -> Result<Target, Reject> {
        let named = match routed.uri {
            Some(Token::Binding(id)) => Some(id),
            Some(Token::Leg(..) | Token::Route(..) | Token::Flow(_)) | None => None,
        };
        match path {
            Token::Flow(id) => {
                let here: Vec<&Binding> = self.registry.on_flow_id(id).collect();
                let of = |fits: &dyn Fn(&Binding) -> bool| here.iter().copied().find(|b| fits(b));
                let binding = match named {
                    Some(named) => of(&|b| b.id == named),
                    None => of(&|b| gruu::names(b, uri))
                        .or_else(|| of(&|b| Uri::parse(b.contact()).is_ok_and(|c| c.user == uri.user)))
                        .or(here.first().copied().filter(|_| here.len() == 1)),
                };
                let alive = |b: &&Binding| !b.gone() && self.connections.is_open(b.flow.get());
                binding.filter(alive).map(|b| Target::binding(b, uri)).ok_or(FLOW_FAILED)
            }
            Token::Binding(id) => self.bound(named.unwrap_or(id), uri),
            Token::Leg(..) | Token::Route(..) => Err(FLOW_FAILED),
        }
    }

    /// §5.3.2: requests inside a dialog go to a phone that keeps several
    /// flows, and says so by `ob`, over the one that it used for this dialog
    /// last. `Err` where that has vanished.
    pub(crate) fn pinned(&self, party: &Party) -> Result<Option<Flow>, Reject> {
        let several = party.binding.and_then(|id| self.registry.binding(id)).is_some_and(|b| b.reg_id.is_some());
        if !several || !Uri::parse(&party.contact).is_ok_and(|uri| uri.params.find("ob").is_some()) {
            return Ok(None);
        }
        let bound = self.registry.on_flow(party.flow.get()).any(|b| !b.gone());
        if bound && self.connections.is_open(party.flow.get()) { Ok(Some(party.flow.get())) } else { Err(FLOW_FAILED) }
    }

    /// The way to a phone has ended: whatever waits for an answer over it
    /// fails now, not after 32 s.
    pub(crate) fn flow_failed(&mut self, now: Instant, flow: Flow) {
        self.fail_over(now, flow, false);
    }

    /// A phone that keeps several flows has replaced this one: what named it
    /// fails, the rest follows the phone.
    pub(crate) fn flow_replaced(&mut self, now: Instant, flow: Flow) {
        self.fail_over(now, flow, true);
    }

    fn fail_over(&mut self, now: Instant, flow: Flow, named_only: bool) {
        let waits = |b: &Branch| b.flow == flow && b.result.is_none() && b.client.as_ref().is_some_and(Client::pending);
        let hit: Vec<Id> = self.contexts.iter().filter(|c| c.branches.iter().any(waits)).map(|c| c.id).collect();
        for id in hit {
            let Some(mut context) = self.contexts.take(id) else { continue };
            let named = self.names_flow(&context);
            for index in 0..context.branches.len() {
                let branch = &mut context.branches[index];
                if waits(branch) && (named || !named_only) {
                    if let Some(client) = &mut branch.client {
                        client.give_up();
                    }
                    let status = if named { 430 } else { 480 };
                    self.branch_gave_up(now, &mut context, index, status, Some(Failure::Unsent));
                }
            }
            self.keep(now, context);
        }
    }

    /// True for a request that may take one flow only.
    fn names_flow(&self, context: &Context) -> bool {
        let pinned = match context.purpose {
            Purpose::Within { pass, to, .. } => {
                let party = self.registry.call(pass).and_then(|call| party(call, to));
                party.is_some_and(|party| self.pinned(party) != Ok(None))
            }
            Purpose::Create(_) | Purpose::Pass | Purpose::Register(_) | Purpose::Ours(_) => false,
        };
        pinned || matches!(context.routed.path, Some(Token::Flow(_)))
    }

    /// A flow of a phone did not lead to it: the request takes the next one
    /// (§6), unless somebody else has answered meanwhile.
    pub(crate) fn next_flow(&mut self, now: Instant, context: &mut Context, index: usize) -> bool {
        let branch = &context.branches[index];
        if context.cancelled || branch.cancel.is_some() || branch.cancel_wanted.is_some() || !context.open() {
            return false;
        }
        let message = context.request.message();
        let Ok(uri) = message.uri() else { return false };
        let mut left = branch.target.flows.clone();
        while let Some(id) = left.pop() {
            if let Ok(target) = self.bound(id, &uri) {
                let number = self.random();
                context.branches[index] = Branch::new(Target { flows: left, ..target }, context.flow, number);
                self.send_branches(now, context);
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests;
