//! Response contexts (RFC 3261 §16.2): a server transaction, the branches it
//! was forwarded on, and what its responses mean to us.

use std::time::Instant;

use registry::by_hash::ByHash;
use registry::{BindingId, PassId};
use wire::Flow;
use wire::sip::{Message, Method, Status, Stored, Via};

use super::rest::{self, Rest};
use super::{Accepted, Client, Key, Patch, Server};
use crate::hashes::Hashes;
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
    pub(crate) cancel: Option<Box<(Client, Vec<u8>)>>,
    /// CANCEL, with these Reason lines, as soon as a provisional response allows it (§9.1).
    pub(crate) cancel_wanted: Option<Vec<u8>>,
    /// Final status, however it came.
    pub(crate) result: Option<Status>,
    /// The final response other than 2xx, if there was one.
    pub(crate) response: Option<Box<Stored>>,
    /// A response whose offer waits for ports, and where it came from.
    pub(crate) held: Option<Box<(Flow, Stored)>>,
    /// The last 2xx to an INVITE, as a hash of what came, and how that was changed.
    pub(crate) accepted: Option<(u64, Patch)>,
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
        let cancel = self.cancel.as_ref().and_then(|cancel| cancel.0.deadline());
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

/// What a slot holds.
#[derive(Debug, Default)]
enum Slot {
    /// Nothing, or what was taken out.
    #[default]
    Empty,
    Whole(Box<Context>),
    Accepted(Box<Accepted>),
    Rest(Box<Rest>),
}

/// All contexts: a slab, and the index of server transactions.
#[derive(Debug, Default)]
pub(crate) struct Contexts {
    slots: Vec<Slot>,
    generations: Vec<u32>,
    free: Vec<u32>,
    /// By the hash of its branch, the latest server transaction of it.
    servers: ByHash<Id>,
    /// By slot, the one of the same branch that was there before.
    behind: Vec<Option<Id>>,
    hashes: Hashes,
    live: usize,
}

impl Contexts {
    pub(crate) fn new(hashes: Hashes) -> Self {
        Self { hashes, ..Self::default() }
    }

    fn claim(&mut self) -> Id {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::Empty);
            self.behind.push(None);
            self.generations.push(0);
            self.slots.len() as u32 - 1
        });
        let generation = &mut self.generations[slot as usize];
        *generation = generation.wrapping_add(1);
        self.live += 1;
        Id { slot, generation: *generation }
    }

    /// Stores a context, whose id is filled in.
    pub(crate) fn insert(&mut self, mut context: Context) -> Id {
        let id = self.claim();
        context.id = id;
        if let Some(answering) = &context.answering {
            self.index(&answering.key, id);
        }
        self.slots[id.slot as usize] = Slot::Whole(Box::new(context));
        id
    }

    /// Stores what would be left of a context that has its answer at once.
    pub(crate) fn insert_rest(&mut self, mut rest: Rest) -> Id {
        rest.id = self.claim();
        let id = rest.id;
        self.index(&rest.key, id);
        self.slots[id.slot as usize] = Slot::Rest(Box::new(rest));
        id
    }

    pub(crate) fn get(&self, id: Id) -> Option<&Context> {
        match self.slots.get(id.slot as usize)? {
            Slot::Whole(context) if context.id == id => Some(context),
            Slot::Empty | Slot::Whole(_) | Slot::Accepted(_) | Slot::Rest(_) => None,
        }
    }

    /// What is left of an INVITE that was accepted.
    pub(crate) fn accepted(&self, id: Id) -> Option<&Accepted> {
        match self.slots.get(id.slot as usize)? {
            Slot::Accepted(accepted) if accepted.id == id => Some(accepted),
            Slot::Empty | Slot::Whole(_) | Slot::Accepted(_) | Slot::Rest(_) => None,
        }
    }

    /// Takes that out, to be forgotten.
    pub(crate) fn take_accepted(&mut self, id: Id) -> Option<Box<Accepted>> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        match std::mem::take(slot) {
            Slot::Accepted(accepted) if accepted.id == id => Some(accepted),
            other @ (Slot::Empty | Slot::Whole(_) | Slot::Accepted(_) | Slot::Rest(_)) => {
                *slot = other;
                None
            }
        }
    }

    /// Takes a context out for a while; [`Contexts::put_back`] returns it.
    pub(crate) fn take(&mut self, id: Id) -> Option<Box<Context>> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        match std::mem::take(slot) {
            Slot::Whole(context) if context.id == id => Some(context),
            Slot::Accepted(accepted) if accepted.id == id => Some(Box::new(accepted.whole())),
            other @ (Slot::Empty | Slot::Whole(_) | Slot::Accepted(_) | Slot::Rest(_)) => {
                *slot = other;
                None
            }
        }
    }

    pub(crate) fn put_back(&mut self, context: Box<Context>) {
        if let Some(slot) = self.slots.get_mut(context.id.slot as usize) {
            *slot = match Accepted::of(context) {
                Ok(accepted) => Slot::Accepted(Box::new(accepted)),
                Err(context) => Slot::Whole(context),
            };
        }
    }

    /// Puts back what is left of a context.
    pub(crate) fn put_rest(&mut self, rest: Box<Rest>) {
        if let Some(slot) = self.slots.get_mut(rest.id.slot as usize) {
            *slot = Slot::Rest(rest);
        }
    }

    /// What is left of a context that has its final answer.
    pub(crate) fn rest(&mut self, id: Id) -> Option<&mut Rest> {
        match self.slots.get_mut(id.slot as usize)? {
            Slot::Rest(rest) if rest.id == id => Some(rest),
            Slot::Empty | Slot::Whole(_) | Slot::Accepted(_) | Slot::Rest(_) => None,
        }
    }

    /// Takes out what is left of a context, to be forgotten.
    pub(crate) fn take_rest(&mut self, id: Id) -> Option<Box<Rest>> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        match std::mem::take(slot) {
            Slot::Rest(rest) if rest.id == id => Some(rest),
            other @ (Slot::Empty | Slot::Whole(_) | Slot::Accepted(_) | Slot::Rest(_)) => {
                *slot = other;
                None
            }
        }
    }

    /// Forgets a context that was taken out.
    pub(crate) fn forget(&mut self, id: Id, key: Option<&Key>) {
        if let Some(key) = key {
            self.unindex(key, id);
        }
        self.free.push(id.slot);
        self.live -= 1;
    }

    fn index(&mut self, key: &Key, id: Id) {
        self.behind[id.slot as usize] = self.servers.insert(key.hash(), id);
    }

    fn unindex(&mut self, key: &Key, id: Id) {
        let behind = self.behind[id.slot as usize].take();
        let hash = key.hash();
        let Some(latest) = self.servers.get_mut(&hash) else { return };
        if *latest != id {
            let mut at = *latest;
            while let Some(next) = self.behind[at.slot as usize] {
                if next == id {
                    self.behind[at.slot as usize] = behind;
                    return;
                }
                at = next;
            }
        } else if let Some(behind) = behind {
            *latest = behind;
        } else {
            self.servers.remove(&hash);
        }
    }

    /// The server transactions whose branch has the hash of this one's, the latest first.
    fn of_branch(&self, key: &Key) -> impl Iterator<Item = Id> {
        let latest = self.servers.get(&key.hash()).copied();
        std::iter::successors(latest, |id| self.behind[id.slot as usize])
    }

    fn key(&self, id: Id) -> Option<&Key> {
        match self.slots.get(id.slot as usize)? {
            Slot::Whole(context) if context.id == id => context.answering.as_ref().map(|answering| &answering.key),
            Slot::Accepted(accepted) if accepted.id == id => Some(&accepted.key),
            Slot::Rest(rest) if rest.id == id => Some(&rest.key),
            Slot::Empty | Slot::Whole(_) | Slot::Accepted(_) | Slot::Rest(_) => None,
        }
    }

    /// The server transaction of `method` that a request belongs to: the one of
    /// its key, or else [one that moved](Self::of_moved).
    pub(crate) fn of_request(&self, message: Message<'_>, via: &Via<'_>, key: &Key, method: Method<'_>) -> Option<Id> {
        // Of nearly every request the branch is new, and one look tells.
        self.of_branch(key).next()?;
        self.of_server(key).or_else(|| self.of_moved(message, via, method))
    }

    /// The context of a server transaction.
    pub(crate) fn of_server(&self, key: &Key) -> Option<Id> {
        self.of_branch(key).find(|id| self.key(*id) == Some(key) && self.lasts(*id))
    }

    /// A context may outlive the transaction that it answers.
    fn lasts(&self, id: Id) -> bool {
        self.get(id).and_then(|context| context.answering.as_ref()).is_none_or(|answering| !answering.machine.over())
    }

    /// The server transaction of `method` that a request belongs to although its
    /// sent-by is another: a router that rewrites Via writes its new mapping
    /// there after a rebind. The same branch, Call-ID, From tag and CSeq.
    fn of_moved(&self, message: Message<'_>, via: &Via<'_>, method: Method<'_>) -> Option<Id> {
        let branch = Key::of_branch(&self.hashes, via)?;
        let mut same = self.of_branch(&branch);
        same.find(|id| {
            self.key(*id).is_some_and(|key| key.is_of(&branch))
                && self.lasts(*id)
                && match self.slots.get(id.slot as usize) {
                    Some(Slot::Whole(context)) => {
                        let request = context.request.message();
                        context.id == *id && request.method() == method && rest::same(request, message)
                    }
                    Some(Slot::Accepted(accepted)) => accepted.id == *id && accepted.is_of(message, method),
                    Some(Slot::Rest(rest)) => rest.id == *id && rest.is_of(message, method),
                    Some(Slot::Empty) | None => false,
                }
        })
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.live
    }

    /// Is there one of that id, or what is left of it?
    pub(crate) fn holds(&self, id: Id) -> bool {
        match self.slots.get(id.slot as usize) {
            Some(Slot::Whole(context)) => context.id == id,
            Some(Slot::Accepted(accepted)) => accepted.id == id,
            Some(Slot::Rest(rest)) => rest.id == id,
            Some(Slot::Empty) | None => false,
        }
    }

    /// All contexts, but for those of which less is left.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Context> {
        self.slots.iter().filter_map(|slot| match slot {
            Slot::Whole(context) => Some(context.as_ref()),
            Slot::Empty | Slot::Accepted(_) | Slot::Rest(_) => None,
        })
    }

    /// Names of all that [`Contexts::take`] would give.
    pub(crate) fn ids(&self) -> impl Iterator<Item = Id> {
        self.slots.iter().filter_map(|slot| match slot {
            Slot::Whole(context) => Some(context.id),
            Slot::Accepted(accepted) => Some(accepted.id),
            Slot::Empty | Slot::Rest(_) => None,
        })
    }
}

#[cfg(test)]
mod tests;
