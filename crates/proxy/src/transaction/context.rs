//! Response contexts (RFC 3261 §16.2): a server transaction, the branches it
//! was forwarded on, and what its responses mean to us.

use std::collections::BTreeMap;
use std::time::Instant;

use registry::{BindingId, PassId};
use wire::Flow;
use wire::sip::{Message, Method, Status, Stored, Via};

use super::{Client, Key, Server};
use crate::holdings::Holder;
use crate::late::Abandoned;
use crate::locate::Way;
use crate::moved::Moving;
use crate::register::Registration;
use crate::renew::Renewing;
use crate::request::Target;
use crate::request::route::Routed;

/// Names a context; a slot that is used again has the next generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Id {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// Why a request was sent, and so what its responses change.
#[derive(Debug, Clone)]
pub(crate) enum Purpose {
    /// Passed, no state of ours depends on it.
    Pass,
    /// REGISTER through us.
    Register(Box<Registration>),
    /// It creates a dialog.
    Create(PassId),
    /// It belongs to a dialog: from one leg to another (0 is the caller, n the n-th callee).
    Within { pass: PassId, from: u8, to: u8 },
    /// Nobody asked for it: it is our own.
    Ours(Ours),
}

/// What a request of our own is for.
#[derive(Debug, Clone)]
pub(crate) enum Ours {
    /// REGISTER in a phone's place.
    Renew(Box<Renewing>),
    /// OPTIONS to a phone behind a NAT.
    Ping(BindingId),
    /// OPTIONS from a listener to its upstream.
    PingUpstream { listener: u16 },
    /// OPTIONS to an upstream over TCP, while its address is reached over UDP.
    AskTcp,
    /// OPTIONS inside a dialog, from one leg to another.
    Probe { pass: PassId, from: u8, to: u8 },
    /// The re-INVITE of an office that has moved.
    Move(Box<Moving>),
    /// BYE.
    Bye,
}

impl Purpose {
    /// The pass of the call that it is part of.
    pub(crate) fn pass(&self) -> Option<PassId> {
        match self {
            Self::Create(pass) | Self::Within { pass, .. } => Some(*pass),
            Self::Pass | Self::Register(_) | Self::Ours(_) => None,
        }
    }
}

/// The side of a context that answers.
#[derive(Debug)]
pub(crate) struct Answering {
    pub(crate) machine: Server,
    pub(crate) key: Key,
    /// Where responses go (§18.2.2, RFC 3581 §4).
    pub(crate) reply: Flow,
    /// The last response, for retransmission.
    pub(crate) last: Vec<u8>,
    /// The To tag of responses of our own.
    pub(crate) tag: [u8; 13],
}

/// One forwarded copy of the request.
#[derive(Debug)]
pub(crate) struct Branch {
    /// Where it goes.
    pub(crate) target: Target,
    /// The transaction; `None` until it is sent (parked).
    pub(crate) client: Option<Client>,
    /// The number in its Via branch.
    pub(crate) number: u64,
    /// The way out.
    pub(crate) flow: Flow,
    /// The address of the next hop that it was sent to.
    pub(crate) way: Option<Way>,
    /// Further ones, should this one fail; the next is the last.
    pub(crate) others: Vec<Way>,
    /// Copies that went to servers which were given up.
    pub(crate) abandoned: Vec<Abandoned>,
    /// As sent.
    pub(crate) sent: Vec<u8>,
    /// Our CANCEL for it: transaction and bytes.
    pub(crate) cancel: Option<(Client, Vec<u8>)>,
    /// CANCEL, with these Reason lines, as soon as a provisional response allows it (§9.1).
    pub(crate) cancel_wanted: Option<Vec<u8>>,
    /// Final status, however it came.
    pub(crate) result: Option<Status>,
    /// The final response other than 2xx, if there was one.
    pub(crate) response: Option<Stored>,
    /// A response whose offer waits for ports, and where it came from.
    pub(crate) held: Option<(Flow, Stored)>,
    /// The last 2xx to an INVITE, as a hash of what came, and what went out for it.
    pub(crate) accepted: Option<(u64, Vec<u8>)>,
}

impl Branch {
    pub(crate) fn new(target: Target, flow: Flow, number: u64) -> Self {
        Self {
            target,
            client: None,
            number,
            flow,
            way: None,
            others: Vec::new(),
            abandoned: Vec::new(),
            sent: Vec::new(),
            cancel: None,
            cancel_wanted: None,
            result: None,
            response: None,
            held: None,
            accepted: None,
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let client = self.client.as_ref().and_then(Client::deadline);
        let cancel = self.cancel.as_ref().and_then(|(client, _)| client.deadline());
        [client, cancel].into_iter().flatten().min()
    }
}

/// One request and what became of it.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) id: Id,
    /// `None` for requests of our own.
    pub(crate) answering: Option<Answering>,
    /// As received; for our own as sent.
    pub(crate) request: Stored,
    /// Where it came from.
    pub(crate) flow: Flow,
    pub(crate) invite: bool,
    /// It carried SDP.
    pub(crate) offered: bool,
    pub(crate) purpose: Purpose,
    /// What its Route entries said, for branches that are sent later.
    pub(crate) routed: Routed,
    pub(crate) branches: Vec<Branch>,
    /// Branches wait for ports or an address until then.
    pub(crate) parked: Option<Instant>,
    /// To tags of late answers that were ended.
    pub(crate) ended: Vec<Vec<u8>>,
    /// CANCEL came, or somebody else answered.
    pub(crate) cancelled: bool,
    /// The deadline in the timer table.
    pub(crate) armed: Option<Instant>,
    /// Whose budget its octets count in, and how many are counted.
    pub(crate) holder: Holder,
    pub(crate) counted: usize,
    /// The final answer has left; what only comes before it is not kept.
    pub(crate) compact: bool,
}

impl Context {
    /// A context whose request came from `flow`, or leaves on it.
    pub(crate) fn new(flow: Flow, request: Stored, purpose: Purpose, branches: Vec<Branch>) -> Self {
        Self {
            id: Id { slot: 0, generation: 0 },
            answering: None,
            invite: request.message().method() == Method::Invite,
            request,
            flow,
            offered: false,
            purpose,
            routed: Routed::default(),
            branches,
            parked: None,
            ended: Vec::new(),
            cancelled: false,
            armed: None,
            holder: Holder::Ours,
            counted: 0,
            compact: false,
        }
    }

    /// The earliest of all its timers.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let server = self.answering.as_ref().and_then(|a| a.machine.deadline());
        let branches = self.branches.iter().filter_map(Branch::deadline).min();
        [server, branches, self.parked].into_iter().flatten().min()
    }

    /// True while a final response to the sender is still due.
    pub(crate) fn open(&self) -> bool {
        self.answering.as_ref().is_some_and(|a| a.machine.open())
    }
}

/// All contexts: a slab, and the index of server transactions.
#[derive(Debug, Default)]
pub(crate) struct Contexts {
    slots: Vec<Option<Context>>,
    generations: Vec<u32>,
    free: Vec<u32>,
    servers: BTreeMap<Key, Id>,
    live: usize,
}

impl Contexts {
    /// Stores a context, whose id is filled in.
    pub(crate) fn insert(&mut self, mut context: Context) -> Id {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.generations.push(0);
            self.slots.len() as u32 - 1
        });
        let generation = &mut self.generations[slot as usize];
        *generation = generation.wrapping_add(1);
        let id = Id { slot, generation: *generation };
        context.id = id;
        if let Some(answering) = &context.answering {
            self.servers.insert(answering.key.clone(), id);
        }
        self.slots[slot as usize] = Some(context);
        self.live += 1;
        id
    }

    pub(crate) fn get(&self, id: Id) -> Option<&Context> {
        self.slots.get(id.slot as usize)?.as_ref().filter(|c| c.id == id)
    }

    /// Takes a context out for a while; [`Contexts::put_back`] returns it.
    pub(crate) fn take(&mut self, id: Id) -> Option<Context> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        if slot.as_ref().is_some_and(|c| c.id == id) { slot.take() } else { None }
    }

    pub(crate) fn put_back(&mut self, context: Context) {
        if let Some(slot) = self.slots.get_mut(context.id.slot as usize) {
            *slot = Some(context);
        }
    }

    /// Forgets a context that was taken out.
    pub(crate) fn forget(&mut self, context: &Context) {
        if let Some(answering) = &context.answering
            && self.servers.get(&answering.key) == Some(&context.id)
        {
            self.servers.remove(&answering.key);
        }
        self.free.push(context.id.slot);
        self.live -= 1;
    }

    /// The context of a server transaction.
    pub(crate) fn of_server(&self, key: &Key) -> Option<Id> {
        self.servers.get(key).copied().filter(|id| self.lasts(*id))
    }

    /// A context may outlive the transaction that it answers.
    fn lasts(&self, id: Id) -> bool {
        self.get(id).and_then(|context| context.answering.as_ref()).is_none_or(|answering| !answering.machine.over())
    }

    /// The server transaction of `method` that a request belongs to although its
    /// sent-by is another: a router that rewrites Via writes its new mapping
    /// there after a rebind. The same branch, Call-ID, From tag and CSeq.
    pub(crate) fn of_moved(&self, message: Message<'_>, via: &Via<'_>, method: Method<'_>) -> Option<Id> {
        let branch = Key::of_branch(via)?;
        let number = |m: Message<'_>| m.cseq().ok().map(|c| c.number);
        let tag = |m: Message<'_>| m.from().ok().and_then(|f| f.tag().map(<[u8]>::to_vec));
        let mut same =
            self.servers.range(branch.clone()..).take_while(|(key, _)| key.is_of(&branch)).map(|(_, id)| *id);
        same.find(|id| {
            self.lasts(*id)
                && self.get(*id).map(|context| context.request.message()).is_some_and(|request| {
                    request.method() == method
                        && request.call_id() == message.call_id()
                        && number(request) == number(message)
                        && tag(request) == tag(message)
                })
        })
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.live
    }

    /// Is there one of that id?
    pub(crate) fn holds(&self, id: Id) -> bool {
        self.get(id).is_some()
    }

    /// All contexts.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Context> {
        self.slots.iter().flatten()
    }
}

#[cfg(test)]
mod tests;
