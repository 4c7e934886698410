//! What is left of a request that is not an INVITE and has its final answer,
//! over UDP: who sent it, and what a copy of it hears for 64·T1 (RFC 3261
//! §17.2.2). Most of all contexts that there are at any moment are this.
//!
//! Its client transactions are not kept: they would only absorb copies of
//! answers (Timer K), and an answer to this is absorbed as well.

use std::time::Instant;

use wire::sip::{Message, Method, Stored};
use wire::{Flow, PackedFlow};

use super::context::{Context, Id};
use super::{Key, T1, server};
use crate::holdings::Holder;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Rest {
    pub(crate) id: Id,
    pub(crate) key: Key,
    /// Where the request came from.
    flow: PackedFlow,
    /// The port there that its answer went to.
    port: u16,
    holder: Holder,
    counted: u32,
    /// Timer J.
    pub(crate) until: Instant,
    pub(crate) last: Box<[u8]>,
}

impl Rest {
    /// What is left of a context that [rests](Context::rests).
    pub(crate) fn of(context: &mut Context) -> Option<Self> {
        let answering = context.answering.take()?;
        Some(Self {
            id: context.id,
            until: answering.machine.deadline()?,
            key: answering.key,
            flow: context.flow.into(),
            port: answering.reply.remote.port(),
            holder: context.holder,
            counted: u32::try_from(context.counted).unwrap_or(u32::MAX),
            last: answering.last.into_boxed_slice(),
        })
    }

    /// Of a request that is answered at once; `flows`: its own and the answer's.
    pub(crate) fn answered(now: Instant, flows: [Flow; 2], key: Key, last: Vec<u8>, holder: Holder) -> Self {
        let [flow, reply] = flows;
        Self {
            id: Id { slot: 0, generation: 0 },
            until: now + 64 * T1,
            flow: flow.into(),
            port: reply.remote.port(),
            holder,
            counted: u32::try_from(Self::octets(key.len(), last.len())).unwrap_or(u32::MAX),
            key,
            last: last.into_boxed_slice(),
        }
    }

    /// How many octets it takes, about, with an answer and a key of this length.
    pub(super) fn octets(key: usize, last: usize) -> usize {
        size_of::<Self>() + 2 * key + last + 200
    }

    /// How many octets are counted, and for whom.
    pub(crate) fn held(&self) -> (Holder, usize) {
        (self.holder, self.counted as usize)
    }

    /// Where the request came from.
    pub(crate) fn flow(&self) -> Flow {
        self.flow.get()
    }

    /// Where its answer went.
    pub(crate) fn reply(&self) -> Flow {
        let mut reply = self.flow();
        reply.remote.set_port(self.port);
        reply
    }

    /// It is of the same sender as this message, and of that method: its answer says so (§8.2.6.2).
    pub(super) fn is_of(&self, message: Message<'_>, method: Method<'_>) -> bool {
        let last = Stored::headed(self.last.to_vec());
        last.message().method() == method && same(last.message(), message)
    }
}

impl Context {
    /// True when a [`Rest`] does as well.
    pub(crate) fn rests(&self) -> bool {
        let completed = |machine: &super::Server| machine.state() == server::State::Completed && !machine.reliable();
        self.compact
            && !self.invite
            && self.branches.is_empty()
            && self.answering.as_ref().is_some_and(|answering| completed(&answering.machine))
    }
}

/// Two messages whose branch is the same have the same sender: Call-ID, From tag and CSeq number agree.
pub(super) fn same(one: Message<'_>, other: Message<'_>) -> bool {
    let number = |m: Message<'_>| m.cseq().ok().map(|c| c.number);
    one.call_id() == other.call_id() && number(one) == number(other) && one.tag_in_from() == other.tag_in_from()
}
