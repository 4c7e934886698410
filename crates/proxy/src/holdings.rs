//! How much memory requests in progress may take, counted in octets by whose
//! they are. A transaction lives for 64·T1 after its final answer, so that a
//! copy of the request hears the same (RFC 3261 §17.2.3); who asks fast enough
//! must not turn that into memory. Where a budget is spent, the oldest
//! transaction of the same holder that is only kept for copies is forgotten;
//! where there is none, the newcomer is refused. Where memory as a whole runs
//! short, the oldest of anybody goes before anything new is refused.
//!
//! Must not touch what belongs to a call, an INVITE that was accepted and waits
//! for its ACK, nor whatever still waits for its answer, REGISTER of strangers
//! excepted.

use std::collections::VecDeque;
use std::collections::hash_map::{Entry, HashMap};
use std::hash::{BuildHasher as _, BuildHasherDefault, Hash, Hasher};
use std::time::Instant;

use registry::by_hash::AsItIs;
use wire::Flow;
use wire::sip::{Message, Method};

use crate::request::Reject;
use crate::timer::Timer;
use crate::transaction::{Accepted, Context, Contexts, Id, Key, Purpose, Rest};
use crate::{Observed, Proxy};
use nat::sources::Source;

/// For the requests of one registered phone.
const PHONE: usize = 4 << 20;
/// For those of one source that has proven nothing; it may be a NAT with many phones.
const STRANGER: usize = 2 << 20;
/// For those of all such sources.
const STRANGERS: usize = 8 << 20;
/// For all requests, the upstream's and our own included.
const ALL: usize = 256 << 20;
/// Requests in progress at most, beside what they may hold in octets.
const MOST: usize = 400_000;
/// The share of all, in percent, from which on what is only kept for copies goes: before the newcomer is refused.
const CROWDED: usize = 70;
/// Looks at transactions that still wait for their ACK, before the search for one that does not is given up.
const LOOKS: usize = 16;
/// A request that is made room for goes with so many at most, that all of it is soon done.
const AT_ONCE: usize = 4;
/// A context comes to hold so many times what its request has: as it came, as it left, its answer.
const COPIES: usize = 3;

/// Whose a transaction is; others than we by a keyed hash, so that it is worked out once a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holder {
    /// Our own, an upstream's or a trunk's.
    Ours,
    /// A registered phone's: that of its flow.
    Phone(u64),
    /// Anybody else's: that of its source.
    Stranger(u64),
}

impl Hash for Holder {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::Ours => {}
            Self::Phone(hash) | Self::Stranger(hash) => state.write_u64(*hash),
        }
    }
}

/// What one holder has.
#[derive(Debug, Default)]
struct Holding {
    octets: usize,
    /// Transactions that may be forgotten, the oldest first; some are gone already.
    spare: VecDeque<Id>,
}

/// What all have.
#[derive(Debug, Default)]
pub(crate) struct Holdings {
    of: HashMap<Holder, Holding, BuildHasherDefault<AsItIs>>,
    strangers: Holding,
    /// Of all holders.
    spare: VecDeque<Id>,
    total: usize,
}

impl Holdings {
    /// All octets.
    pub(crate) fn total(&self) -> usize {
        self.total
    }

    /// A transaction that held `before` octets holds `after` now. What its holder
    /// has, if that is counted and not nothing.
    fn count(&mut self, holder: Holder, before: usize, after: usize) -> Option<&mut Holding> {
        let change = |octets: &mut usize| *octets = (*octets + after).saturating_sub(before);
        change(&mut self.total);
        if let Holder::Stranger(_) = holder {
            change(&mut self.strangers.octets);
        }
        if holder == Holder::Ours {
            return None;
        }
        match self.of.entry(holder) {
            Entry::Vacant(_) if after <= before => None,
            Entry::Vacant(new) => {
                let holding = new.insert(Holding::default());
                change(&mut holding.octets);
                Some(holding)
            }
            Entry::Occupied(mut known) => {
                change(&mut known.get_mut().octets);
                if known.get().octets == 0 {
                    known.remove();
                    return None;
                }
                Some(known.into_mut())
            }
        }
    }

    fn of(&self, holder: Holder) -> usize {
        self.of.get(&holder).map_or(0, |holding| holding.octets)
    }
}

/// The transactions that may be forgotten: of everybody, of all strangers, or of one holder.
#[derive(Debug, Clone, Copy)]
enum Of {
    All,
    Strangers,
    One(Holder),
}

impl Holdings {
    fn spare(&mut self, of: Of) -> Option<&mut VecDeque<Id>> {
        match of {
            Of::All => Some(&mut self.spare),
            Of::Strangers => Some(&mut self.strangers.spare),
            Of::One(holder) => self.of.get_mut(&holder).map(|holding| &mut holding.spare),
        }
    }
}

impl Proxy {
    /// How much of the room for requests in progress is taken, in percent.
    pub(crate) fn crowded(&self) -> usize {
        (self.contexts.len() * 100 / MOST).max(self.holdings.total / (ALL / 100))
    }

    /// Is there room for what this request will hold? Old ones make room. Whose it is.
    pub(crate) fn make_room(&mut self, flow: Flow, message: Message<'_>) -> Result<Holder, Reject> {
        let holder = self.holder(flow);
        self.make_room_for(holder, message)?;
        Ok(holder)
    }

    /// The same for a request of which it is known whose it is.
    pub(crate) fn make_room_for(&mut self, holder: Holder, message: Message<'_>) -> Result<(), Reject> {
        for _ in 0..AT_ONCE {
            if self.crowded() < CROWDED || !self.forget_oldest(Of::All) {
                break;
            }
        }
        // Who ends calls gives memory back.
        let grace = if message.method() == Method::Bye { 2 } else { 1 };
        let need = message.bytes.len() * COPIES + size_of::<Context>();
        let (own, all) = match holder {
            Holder::Ours => return Ok(()),
            Holder::Phone(_) => (PHONE * grace, usize::MAX),
            Holder::Stranger(_) => (STRANGER * grace, STRANGERS * grace),
        };
        let mut held = self.holdings.of(holder);
        while held + need > own && self.forget_oldest(Of::One(holder)) {
            held = self.holdings.of(holder);
        }
        while self.holdings.strangers.octets + need > all && self.forget_oldest(Of::Strangers) {
            held = self.holdings.of(holder);
        }
        let own = held + need > own && held > 0;
        let all = self.holdings.strangers.octets + need > all && self.holdings.strangers.octets > 0;
        match own || all {
            true => Err(Reject::new(503, "Too many requests in progress from here").with("Retry-After: 10")),
            false => Ok(()),
        }
    }

    /// Whose a request is that came on this flow.
    pub(crate) fn holder(&self, flow: Flow) -> Holder {
        if self.is_upstream(flow) || self.trunk_phone(flow).is_some() {
            Holder::Ours
        } else if self.registry.on_flow(flow).next().is_some() {
            self.phone(flow)
        } else {
            Holder::Stranger(self.hashes.hash_one(Source::from(flow.remote.ip())))
        }
    }

    /// A registered phone by its flow.
    pub(crate) fn phone(&self, flow: Flow) -> Holder {
        Holder::Phone(self.hashes.of(&[flow.octets().get()]))
    }

    /// Counts what a context holds now; one whose final answer has left holds less from then on.
    pub(crate) fn weigh(&mut self, context: &mut Context) {
        let finished = context.compact();
        let octets = context.octets();
        let spare = finished && (!context.belongs_to_call() || matches!(context.purpose, Purpose::Create(_)));
        self.count(context.id, context.holder, (context.counted, octets), spare);
        context.counted = octets;
    }

    /// A new context: its holder is known from now on.
    pub(crate) fn hold_for(&mut self, context: &mut Context, holder: Holder) {
        context.holder = holder;
        let registers = matches!(context.purpose, Purpose::Register(_));
        if registers && matches!(context.holder, Holder::Stranger(_)) {
            let octets = context.octets();
            self.count(context.id, context.holder, (0, octets), true);
            context.counted = octets;
        }
    }

    /// An answer of our own over UDP, kept for copies of its request. `flows`: the request's and the answer's.
    pub(crate) fn keep_answer(&mut self, now: Instant, flows: [Flow; 2], key: Key, last: Vec<u8>, holder: Holder) {
        let rest = Rest::answered(now, flows, key, last, holder);
        let (until, octets) = (rest.until, rest.held().1);
        let id = self.contexts.insert_rest(rest);
        self.timers.arm(until, Timer::Context(id));
        self.count(id, holder, (0, octets), true);
    }

    /// A transaction holds so many octets more or less; it may be forgotten from
    /// now on, when room is needed, where it is `spare`.
    fn count(&mut self, id: Id, holder: Holder, (before, after): (usize, usize), spare: bool) {
        let own = self.holdings.count(holder, before, after);
        if !spare {
            return;
        }
        if let Some(own) = own {
            add(&mut own.spare, id, &self.contexts);
        }
        add(&mut self.holdings.spare, id, &self.contexts);
        if matches!(holder, Holder::Stranger(_)) {
            add(&mut self.holdings.strangers.spare, id, &self.contexts);
        }
    }

    /// Forgets the oldest transaction that may be; false if there is none.
    fn forget_oldest(&mut self, of: Of) -> bool {
        for _ in 0..LOOKS {
            let Some(id) = self.holdings.spare(of).and_then(|spare| next(spare, &self.contexts)) else { return false };
            let waits = |purpose: &Purpose| purpose.pass().is_some_and(|pass| self.awaits_acks(pass));
            let whole = self.contexts.get(id).filter(|context| context.belongs_to_call());
            let purpose = whole.map(|context| &context.purpose);
            let purpose = purpose.or_else(|| self.contexts.accepted(id).map(|accepted| &accepted.purpose));
            if purpose.is_some_and(waits) {
                self.holdings.spare(of).into_iter().for_each(|spare| spare.push_back(id));
            } else {
                self.let_go(id);
                return true;
            }
        }
        false
    }

    fn let_go(&mut self, id: Id) {
        if let Some(rest) = self.contexts.take_rest(id) {
            let side = self.side(rest.flow());
            self.observe(Observed::Forgotten { side });
            self.timers.disarm(rest.until, Timer::Context(id));
            self.forget_rest(&rest);
        } else if let Some(accepted) = self.contexts.take_accepted(id) {
            let side = self.side(accepted.flow());
            self.observe(Observed::Forgotten { side });
            self.timers.disarm(accepted.until, Timer::Context(id));
            self.forget_accepted(&accepted);
        } else if let Some(context) = self.contexts.take(id) {
            let side = self.side(context.flow);
            self.observe(Observed::Forgotten { side });
            self.forget(&context);
        }
    }

    /// The end of a context that was taken out.
    pub(crate) fn forget(&mut self, context: &Context) {
        if let Some(at) = context.armed {
            self.timers.disarm(at, Timer::Context(context.id));
        }
        self.parked.remove(&context.id);
        self.holdings.count(context.holder, context.counted, 0);
        self.contexts.forget(context.id, context.answering.as_ref().map(|answering| &answering.key));
    }

    /// The end of what was left of an INVITE that was accepted, whose timer has fired or was disarmed.
    pub(crate) fn forget_accepted(&mut self, accepted: &Accepted) {
        let (holder, octets) = accepted.held();
        self.holdings.count(holder, octets, 0);
        self.contexts.forget(accepted.id, Some(&accepted.key));
    }

    /// The end of what was left of a context, whose timer has fired or was disarmed.
    pub(crate) fn forget_rest(&mut self, rest: &Rest) {
        let (holder, octets) = rest.held();
        self.holdings.count(holder, octets, 0);
        self.contexts.forget(rest.id, Some(&rest.key));
    }
}

/// Behind all others. Those that are gone are thrown out when they have become many.
fn add(spare: &mut VecDeque<Id>, id: Id, contexts: &Contexts) {
    spare.push_back(id);
    if spare.len() > 64 + 2 * contexts.len() {
        spare.retain(|known| *known == id || contexts.holds(*known));
    }
}

/// The first that is still there.
fn next(spare: &mut VecDeque<Id>, contexts: &Contexts) -> Option<Id> {
    std::iter::from_fn(|| spare.pop_front()).find(|id| contexts.holds(*id))
}

#[cfg(test)]
mod tests;
