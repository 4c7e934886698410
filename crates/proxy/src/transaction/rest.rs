//! What is left of a request that is not an INVITE and has its final answer,
//! over UDP: who sent it, and what a copy of it hears for 64·T1 (RFC 3261
//! §17.2.2). Most of all contexts that there are at any moment are this.
//!
//! Its client transactions are not kept: they would only absorb copies of
//! answers (Timer K), and an answer to this is absorbed as well.

use std::time::Instant;

use nat::sources::Source;
use wire::sip::{Message, Method};
use wire::{Flow, PackedFlow};

use super::context::{Context, Id};
use super::{Key, T1, server};
use crate::hashes::Hashes;
use crate::holdings::Holder;

/// Whose it is; with its flow that makes the [`Holder`].
#[derive(Debug, Clone, Copy)]
pub(super) enum Whose {
    Ours,
    Phone,
    Stranger,
}

impl Whose {
    pub(super) fn of(holder: Holder) -> Self {
        match holder {
            Holder::Ours => Self::Ours,
            Holder::Phone(_) => Self::Phone,
            Holder::Stranger(_) => Self::Stranger,
        }
    }

    pub(super) fn holder(self, flow: Flow) -> Holder {
        match self {
            Self::Ours => Holder::Ours,
            Self::Phone => Holder::Phone(flow),
            Self::Stranger => Holder::Stranger(Source::from(flow.remote.ip())),
        }
    }
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Rest {
    pub(crate) id: Id,
    pub(crate) key: Key,
    /// Where the request came from.
    flow: PackedFlow,
    /// The port there that its answer went to.
    port: u16,
    whose: Whose,
    counted: u32,
    /// What [`same`] compares, as a hash.
    sender: u64,
    /// Timer J.
    pub(crate) until: Instant,
    pub(crate) last: Box<[u8]>,
}

impl Rest {
    /// What is left of a context that [rests](Context::rests).
    pub(crate) fn of(context: Context, hashes: &Hashes) -> Option<Self> {
        let request = context.request.message();
        let sender = sender(hashes, request, request.method());
        let answering = context.answering?;
        Some(Self {
            id: context.id,
            until: answering.machine.deadline()?,
            key: answering.key,
            flow: context.flow.into(),
            port: answering.reply.remote.port(),
            whose: Whose::of(context.holder),
            counted: u32::try_from(context.counted).unwrap_or(u32::MAX),
            sender,
            last: answering.last.into_boxed_slice(),
        })
    }

    /// Of a request that is answered at once; `flows`: its own and the answer's.
    pub(crate) fn answered(
        now: Instant,
        flows: [Flow; 2],
        message: Message<'_>,
        key: Key,
        last: Vec<u8>,
        holder: Holder,
        hashes: &Hashes,
    ) -> Self {
        let [flow, reply] = flows;
        Self {
            id: Id { slot: 0, generation: 0 },
            until: now + 64 * T1,
            sender: sender(hashes, message, message.method()),
            flow: flow.into(),
            port: reply.remote.port(),
            whose: Whose::of(holder),
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
        (self.whose.holder(self.flow()), self.counted as usize)
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

    /// It is of the same sender as this message, and of that method.
    pub(super) fn is_of(&self, hashes: &Hashes, message: Message<'_>, method: Method<'_>) -> bool {
        self.sender == sender(hashes, message, method)
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

/// What [`same`] compares and the method; keyed, for all of it is the sender's choice.
pub(super) fn sender(hashes: &Hashes, message: Message<'_>, method: Method<'_>) -> u64 {
    let number = message.cseq().map_or(0, |cseq| cseq.number).to_le_bytes();
    let tag = message.tag_in_from().unwrap_or_default();
    hashes.of(&[method.as_bytes(), message.call_id(), &number, tag])
}
