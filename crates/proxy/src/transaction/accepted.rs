//! What is left of an INVITE over UDP that was accepted on the only branch it
//! took, for 64·T1: what absorbs its copies and lets further 2xx pass (RFC 6026
//! §7.1, §7.2), from the callee that answered and from others behind a fork.
//!
//! Of its header is kept what is still asked for, and not the index over it, the
//! branch without how it came about. Whoever needs the context gets it [whole](Accepted::whole) again.

use std::time::Instant;

use registry::BindingId;
use wire::sip::{Message, Method, Status, Stored};
use wire::{Flow, PackedFlow};

use super::context::{Answering, Branch, Context, Id, Purpose};
use super::rest;
use super::{Client, Key, Patch, Server, client, server};
use crate::holdings::Holder;
use crate::locate::Hop;
use crate::request::Target;
use crate::request::route::Routed;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) id: Id,
    pub(crate) key: Key,
    /// Timers L and M, in the timer table.
    pub(crate) until: Instant,
    /// Where the request came from.
    flow: PackedFlow,
    /// The port there that its answers go to.
    port: u16,
    holder: Holder,
    offered: bool,
    cancelled: bool,
    counted: usize,
    pub(crate) purpose: Purpose,
    /// As of [`Routed::pops`].
    pub(crate) pops: usize,
    /// What is still asked of the request.
    head: Box<[u8]>,
    branch: Answered,
}

/// The branch.
#[derive(Debug)]
struct Answered {
    number: u64,
    flow: PackedFlow,
    binding: Option<BindingId>,
    phone: Option<usize>,
    result: Option<Status>,
    reliable: bool,
    copies: u8,
    /// As of [`Branch::accepted`].
    came: u64,
    sent: Patch,
}

impl Context {
    /// True when an [`Accepted`] does as well.
    pub(crate) fn packs(&self) -> bool {
        // Asked at every step of a context, and true at the last.
        if !self.compact || !self.invite {
            return false;
        }
        let [branch] = self.branches.as_slice() else { return false };
        let (Some(answering), Some(client)) = (&self.answering, &branch.client) else { return false };
        let Flow { transport, listener, connection, local, remote } = answering.reply;
        let replies = (transport, listener, connection, local, remote.ip())
            == (self.flow.transport, self.flow.listener, self.flow.connection, self.flow.local, self.flow.remote.ip());
        let settled = branch.abandoned.is_empty()
            && branch.others.is_empty()
            && branch.sent.is_empty()
            && branch.cancel.is_none()
            && branch.cancel_wanted.is_none()
            && branch.response.is_none()
            && branch.held.is_none();
        replies
            && settled
            && branch.accepted.is_some()
            && client.state() == client::State::Accepted
            && answering.machine.state() == server::State::Accepted
            && !answering.machine.reliable()
            && client.deadline().is_some()
            && client.deadline() == answering.machine.deadline()
            && self.ended.is_empty()
            && self.parked.is_none()
    }
}

impl Accepted {
    /// What is left of a context that [packs](Context::packs); the context itself if it does not.
    pub(super) fn of(mut context: Box<Context>) -> Result<Self, Box<Context>> {
        if !context.packs() {
            return Err(context);
        }
        let (Some(branch), Some(answering)) = (context.branches.pop(), context.answering.take()) else {
            return Err(context);
        };
        let (Some(client), Some(until), Some((came, sent))) =
            (branch.client, answering.machine.deadline(), branch.accepted)
        else {
            return Err(context);
        };
        Ok(Self {
            id: context.id,
            key: answering.key,
            until,
            flow: context.flow.into(),
            port: answering.reply.remote.port(),
            holder: context.holder,
            offered: context.offered,
            cancelled: context.cancelled,
            counted: context.counted,
            purpose: std::mem::replace(&mut context.purpose, Purpose::Pass),
            pops: context.routed.pops,
            head: context.request.head(),
            branch: Answered {
                number: branch.number,
                flow: branch.flow.into(),
                binding: branch.target.binding,
                phone: branch.target.phone,
                result: branch.result,
                reliable: client.reliable(),
                copies: client.copies(),
                came,
                sent,
            },
        })
    }

    /// The context again.
    pub(super) fn whole(self) -> Context {
        let Answered { number, flow, binding, phone, result, reliable, copies, came, sent } = self.branch;
        let (came_from, flow) = (self.flow.get(), flow.get());
        let mut reply = came_from;
        reply.remote.set_port(self.port);
        let target = Target { uri: None, hop: Hop::Flow(flow), binding, phone, flows: Vec::new() };
        let branch = Branch {
            client: Some(Client::accepted(self.until, reliable, copies)),
            result,
            accepted: Some((came, sent)),
            ..Branch::new(target, flow, number)
        };
        let request = Stored::headed(self.head.into());
        let mut context = Context::new(came_from, request, self.purpose, vec![branch]);
        context.answering =
            Some(Answering { machine: Server::accepted(self.until), key: self.key, reply, last: Vec::new() });
        context.id = self.id;
        context.offered = self.offered;
        context.cancelled = self.cancelled;
        context.routed = Routed { pops: self.pops, ..Routed::default() };
        context.holder = self.holder;
        context.counted = self.counted;
        context.armed = Some(self.until);
        context.compact = true;
        context
    }

    /// How many octets it takes, about, with a key of this length, this header and this change of the 2xx.
    pub(super) fn octets(key: usize, head: usize, sent: usize) -> usize {
        size_of::<Self>() + 2 * key + head + sent + 200
    }

    /// Where the request came from.
    pub(crate) fn flow(&self) -> Flow {
        self.flow.get()
    }

    /// How many octets are counted, and for whom.
    pub(crate) fn held(&self) -> (Holder, usize) {
        (self.holder, self.counted)
    }

    /// What is left of the request.
    pub(crate) fn request(&self) -> Stored {
        Stored::headed(self.head.to_vec())
    }

    /// It is of the same sender as this message, and of that method.
    pub(super) fn is_of(&self, message: Message<'_>, method: Method<'_>) -> bool {
        method == Method::Invite && rest::same(self.request().message(), message)
    }
}

#[cfg(test)]
mod tests;
