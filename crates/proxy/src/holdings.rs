//! How much memory requests in progress may take, counted in octets by whose
//! they are. A transaction lives for 64·T1 after its final answer, so that a
//! copy of the request hears the same (RFC 3261 §17.2.3); who asks fast enough
//! must not turn that into memory. Where a budget is spent, the oldest
//! transaction of the same holder that is only kept for copies is forgotten;
//! where there is none, the newcomer is refused.
//!
//! Must not touch what belongs to a call: an INVITE that was accepted, and
//! whatever still waits for its answer, REGISTER of strangers excepted.

use std::collections::{BTreeMap, VecDeque};

use wire::Flow;
use wire::sip::{Message, Method};

use crate::request::Reject;
use crate::timer::Timer;
use crate::transaction::{Context, Id, Purpose};
use crate::{Observed, Proxy};
use nat::sources::Source;

/// For the requests of one registered phone.
const PHONE: usize = 4 << 20;
/// For those of one source that has proven nothing; it may be a NAT with many phones.
const STRANGER: usize = 2 << 20;
/// For those of all such sources.
const STRANGERS: usize = 8 << 20;
/// For all requests, the upstream's and our own included.
pub(crate) const ALL: usize = 256 << 20;
/// A context comes to hold so many times what its request has: as it came, as it left, its answer.
const COPIES: usize = 3;

/// Whose a transaction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Holder {
    /// Our own, an upstream's or a trunk's.
    Ours,
    /// A registered phone's.
    Phone(Flow),
    /// Anybody else's.
    Stranger(Source),
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
    of: BTreeMap<Holder, Holding>,
    strangers: Holding,
    total: usize,
}

impl Holdings {
    /// All octets.
    pub(crate) fn total(&self) -> usize {
        self.total
    }

    /// A transaction that held `before` octets holds `after` now.
    fn count(&mut self, holder: Holder, before: usize, after: usize) {
        let change = |octets: &mut usize| *octets = (*octets + after).saturating_sub(before);
        change(&mut self.total);
        if let Holder::Stranger(_) = holder {
            change(&mut self.strangers.octets);
        }
        if holder != Holder::Ours {
            let holding = self.of.entry(holder).or_default();
            change(&mut holding.octets);
            if holding.octets == 0 {
                self.of.remove(&holder);
            }
        }
    }

    fn of(&self, holder: Holder) -> usize {
        self.of.get(&holder).map_or(0, |holding| holding.octets)
    }

    /// The oldest of a holder's transactions that may be forgotten.
    fn oldest(&mut self, holder: Holder) -> Option<Id> {
        self.of.get_mut(&holder)?.spare.pop_front()
    }
}

impl Proxy {
    /// Is there room for what this request will hold? Old ones make room.
    pub(crate) fn make_room(&mut self, flow: Flow, message: Message<'_>) -> Result<(), Reject> {
        let holder = self.holder(flow);
        // Who ends calls gives memory back.
        let grace = if message.method() == Method::Bye { 2 } else { 1 };
        let need = message.bytes.len() * COPIES + size_of::<Context>();
        let (own, all) = match holder {
            Holder::Ours => return Ok(()),
            Holder::Phone(_) => (PHONE * grace, usize::MAX),
            Holder::Stranger(_) => (STRANGER * grace, STRANGERS * grace),
        };
        while self.holdings.of(holder) + need > own {
            let Some(id) = self.holdings.oldest(holder) else { break };
            self.let_go(id);
        }
        while self.holdings.strangers.octets + need > all {
            let Some(id) = self.holdings.strangers.spare.pop_front() else { break };
            self.let_go(id);
        }
        let own = self.holdings.of(holder) + need > own && self.holdings.of(holder) > 0;
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
            Holder::Phone(flow)
        } else {
            Holder::Stranger(Source::from(flow.remote.ip()))
        }
    }

    /// Counts what a context holds now; one whose final answer has left holds less from then on.
    pub(crate) fn weigh(&mut self, context: &mut Context) {
        let finished = context.compact();
        let octets = context.octets();
        self.holdings.count(context.holder, context.counted, octets);
        context.counted = octets;
        if finished && !context.belongs_to_call() {
            self.spare(context);
        }
    }

    /// A new context: its holder is known from now on.
    pub(crate) fn hold_for(&mut self, context: &mut Context) {
        context.holder = self.holder(context.flow);
        let registers = matches!(context.purpose, Purpose::Register(_));
        if registers && matches!(context.holder, Holder::Stranger(_)) {
            self.weigh(context);
            self.spare(context);
        }
    }

    /// This one may be forgotten when room is needed.
    fn spare(&mut self, context: &Context) {
        let (id, most) = (context.id, 64 + 2 * self.contexts.len());
        let of_strangers = matches!(context.holder, Holder::Stranger(_));
        let own = self.holdings.of.get_mut(&context.holder);
        for holding in own.into_iter().chain(of_strangers.then_some(&mut self.holdings.strangers)) {
            holding.spare.push_back(id);
            if holding.spare.len() > most {
                holding.spare.retain(|known| *known == id || self.contexts.holds(*known));
            }
        }
    }

    fn let_go(&mut self, id: Id) {
        if let Some(context) = self.contexts.take(id) {
            let side = self.side(context.flow);
            self.observe(Observed::Forgotten { side });
            self.forget(context);
        }
    }

    /// The end of a context that was taken out.
    pub(crate) fn forget(&mut self, context: Context) {
        if let Some(at) = context.armed {
            self.timers.disarm(at, Timer::Context(context.id));
        }
        self.parked.remove(&context.id);
        self.holdings.count(context.holder, context.counted, 0);
        self.contexts.forget(&context);
    }
}

#[cfg(test)]
mod tests;
