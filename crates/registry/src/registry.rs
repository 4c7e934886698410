//! The registry itself: ordered maps, and an outbox of changes.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hasher as _};
use std::sync::Arc;
use std::time::Instant;

use wire::Flow;

use crate::by_hash::Index;
use crate::expiry::Expiry;
use crate::{Binding, BindingId, Call, Change, FlowId, Key, PassId, Record};

/// What [`Registry::bind`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// A phone that was not there before.
    New,
    /// A known phone over another flow.
    Moved,
    /// A known phone over the same flow.
    Refreshed,
}

/// Bindings and calls.
#[derive(Debug, Default)]
pub struct Registry {
    /// Shared with those who fold the changes.
    bindings: BTreeMap<BindingId, Arc<Binding>>,
    by_aor: Index<BindingId>,
    by_flow: Index<BindingId>,
    /// The flow that was asked for last and its hash: one message asks for its own again and again.
    asked: Cell<Option<(Flow, u64)>>,
    /// Those with a `reg-id`: of other flows nobody was told a name.
    by_flow_id: BTreeSet<(FlowId, BindingId)>,
    /// Shared with those who fold the changes, until the next one.
    calls: BTreeMap<PassId, Arc<Call>>,
    by_call_id: Index<PassId>,
    expiry: Expiry,
    /// That of the latest binding: the next one has most likely the same, and shares it.
    upstream: Option<Arc<Flow>>,
    changes: VecDeque<Pending>,
}

/// What is still to be published.
#[derive(Debug)]
enum Pending {
    Change(Change),
    /// As this call will be by then: of several changes at once the last one counts.
    Call(PassId),
}

fn hashed(what: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(what);
    hasher.finish()
}

fn hashed_flow(flow: Flow) -> u64 {
    hashed(flow.octets().get())
}

/// How a binding is found by the name of its flow.
fn named(binding: &Binding) -> Option<(FlowId, BindingId)> {
    binding.reg_id.map(|_| (binding.flow_id, binding.id))
}

const FIRST: BindingId = BindingId(0);

impl Registry {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stores or replaces a binding (RFC 3261 §10.3; only after a 2xx).
    pub fn bind(&mut self, mut binding: Binding) -> Bound {
        let id = binding.id;
        if binding.upstream == self.upstream {
            binding.upstream.clone_from(&self.upstream);
        } else {
            self.upstream.clone_from(&binding.upstream);
        }
        let binding = Arc::new(binding);
        self.publish(Change::Put(Record::Binding(binding.clone())));
        self.by_aor.insert(hashed(binding.aor()), id);
        self.by_flow.insert(hashed_flow(binding.flow.get()), id);
        let (flow, name, expires) = (binding.flow.get(), named(&binding), binding.expires);
        let old = self.bindings.insert(id, binding);
        self.expiry.change(Key::Binding(id), old.as_ref().map(|b| b.expires), Some(expires));
        if let Some(name) = old.as_deref().and_then(named) {
            self.by_flow_id.remove(&name);
        }
        self.by_flow_id.extend(name);
        match old {
            None => Bound::New,
            Some(old) if old.flow == flow => Bound::Refreshed,
            Some(old) => {
                self.by_flow.remove(hashed_flow(old.flow.get()), id);
                Bound::Moved
            }
        }
    }

    /// Removes a binding.
    pub fn unbind(&mut self, id: BindingId) -> Option<Binding> {
        let binding = Arc::unwrap_or_clone(self.bindings.remove(&id)?);
        self.by_aor.remove(hashed(binding.aor()), id);
        self.by_flow.remove(hashed_flow(binding.flow.get()), id);
        if let Some(name) = named(&binding) {
            self.by_flow_id.remove(&name);
        }
        self.expiry.change(Key::Binding(id), Some(binding.expires), None);
        self.publish(Change::Delete(Key::Binding(id)));
        Some(binding)
    }

    /// Notes an answered or missed ping; published when it changes whether the phone is gone.
    pub fn pinged(&mut self, id: BindingId, answered: bool) -> Option<&Binding> {
        let binding = self.bindings.get_mut(&id)?;
        let before = (binding.gone(), binding.answered);
        let missed = if answered { 0 } else { binding.missed.saturating_add(1) };
        if (missed, answered) != (binding.missed, binding.answered) {
            let binding = Arc::make_mut(binding);
            (binding.missed, binding.answered) = (missed, answered || binding.answered);
        }
        if before != (binding.gone(), binding.answered) {
            self.changes.push_back(Pending::Change(Change::Put(Record::Binding(binding.clone()))));
        }
        Some(binding)
    }

    /// A binding by name.
    pub fn binding(&self, id: BindingId) -> Option<&Binding> {
        self.bindings.get(&id).map(Arc::as_ref)
    }

    /// All bindings.
    pub fn bindings(&self) -> impl Iterator<Item = &Binding> {
        self.bindings.values().map(Arc::as_ref)
    }

    /// How many there are.
    pub fn binding_count(&self) -> usize {
        self.bindings.len()
    }

    /// The bindings of an address of record.
    pub fn of_aor<'a>(&'a self, aor: &'a [u8]) -> impl Iterator<Item = &'a Binding> {
        let found = self.by_aor.of(hashed(aor)).filter_map(|id| self.binding(id));
        found.filter(move |binding| binding.aor() == aor)
    }

    /// The bindings of a flow: usually one phone's.
    pub fn on_flow(&self, flow: Flow) -> impl Iterator<Item = &Binding> {
        let hash = match self.asked.get() {
            Some((asked, hash)) if asked == flow => hash,
            Some(_) | None => {
                let hash = hashed_flow(flow);
                self.asked.set(Some((flow, hash)));
                hash
            }
        };
        let found = self.by_flow.of(hash).filter_map(|id| self.binding(id));
        found.filter(move |binding| binding.flow == flow)
    }

    /// The same by the name of the flow, which a phone with a `reg-id` has; none when it has vanished.
    pub fn on_flow_id(&self, flow: FlowId) -> impl Iterator<Item = &Binding> {
        let named = self.by_flow_id.range((flow, FIRST)..).next().filter(|(named, _)| *named == flow);
        let named = named.and_then(|(_, id)| self.binding(*id));
        named.into_iter().flat_map(|binding| self.on_flow(binding.flow.get()))
    }

    /// Notes a refresh that changes nothing else of a binding: when it expires, and what the registrar granted.
    pub fn refresh(&mut self, id: BindingId, cseq: u32, expires: Instant, until: Instant) {
        if let Some(binding) = self.bindings.get_mut(&id) {
            self.expiry.change(Key::Binding(id), Some(binding.expires), Some(expires));
            let own = Arc::make_mut(binding);
            (own.cseq, own.missed, own.expires, own.until) = (cseq, 0, expires, until);
            self.changes.push_back(Pending::Change(Change::Put(Record::Binding(binding.clone()))));
        }
    }

    /// Moves the time at which a binding runs out.
    pub fn prolong(&mut self, id: BindingId, expires: Instant) {
        if let Some(binding) = self.bindings.get_mut(&id) {
            self.expiry.change(Key::Binding(id), Some(binding.expires), Some(expires));
            Arc::make_mut(binding).expires = expires;
            self.changes.push_back(Pending::Change(Change::Put(Record::Binding(binding.clone()))));
        }
    }

    /// Stores or replaces a call.
    pub fn put_call(&mut self, call: Call) {
        let id = call.id;
        self.by_call_id.insert(hashed(&call.call_id[..]), id);
        let expires = call.expires;
        let old = self.calls.insert(id, Arc::new(call));
        self.expiry.change(Key::Call(id), old.and_then(|c| c.expires), expires);
        self.touch(id);
    }

    /// Changes a call in place and publishes it.
    pub fn update_call<T>(&mut self, id: PassId, update: impl FnOnce(&mut Call) -> T) -> Option<T> {
        let call = Arc::make_mut(self.calls.get_mut(&id)?);
        let before = call.expires;
        let result = update(call);
        let expires = call.expires;
        if expires != before {
            self.expiry.change(Key::Call(id), before, expires);
        }
        self.touch(id);
        Some(result)
    }

    /// Removes a call. It was published before as it was at the last.
    pub fn remove_call(&mut self, id: PassId) -> Option<Arc<Call>> {
        let call = self.calls.remove(&id)?;
        for pending in self.changes.iter_mut().filter(|p| matches!(p, Pending::Call(of) if *of == id)) {
            *pending = Pending::Change(Change::Put(Record::Call(Arc::clone(&call))));
        }
        self.by_call_id.remove(hashed(&call.call_id[..]), id);
        self.expiry.change(Key::Call(id), call.expires, None);
        self.publish(Change::Delete(Key::Call(id)));
        Some(call)
    }

    fn publish(&mut self, change: Change) {
        self.changes.push_back(Pending::Change(change));
    }

    fn touch(&mut self, id: PassId) {
        if !matches!(self.changes.back(), Some(Pending::Call(last)) if *last == id) {
            self.changes.push_back(Pending::Call(id));
        }
    }

    /// A call by its pass.
    pub fn call(&self, id: PassId) -> Option<&Call> {
        self.calls.get(&id).map(Arc::as_ref)
    }

    /// A call by its pass, as a record that is shared until the call's next change.
    pub fn record_of_call(&self, id: PassId) -> Option<Record> {
        self.calls.get(&id).cloned().map(Record::Call)
    }

    /// All records, each shared until its next change.
    pub fn records(&self) -> impl Iterator<Item = Record> {
        let bindings = self.bindings.values().cloned().map(Record::Binding);
        bindings.chain(self.calls.values().cloned().map(Record::Call))
    }

    /// All calls.
    pub fn calls(&self) -> impl Iterator<Item = &Call> {
        self.calls.values().map(Arc::as_ref)
    }

    /// How many calls there are.
    pub fn call_count(&self) -> usize {
        self.calls.len()
    }

    /// The calls, one per pass, that share a Call-ID.
    pub fn by_call_id<'a>(&'a self, call_id: &'a [u8]) -> impl Iterator<Item = &'a Call> {
        let found = self.by_call_id.of(hashed(call_id)).filter_map(|id| self.call(id));
        found.filter(move |call| *call.call_id == *call_id)
    }

    /// The earliest expiry.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.expiry.next()
    }

    /// The first record that has run out; the caller removes it.
    pub fn due(&self, now: Instant) -> Option<Key> {
        self.expiry.due(now)
    }

    /// The next change to publish, in order.
    pub fn poll_change(&mut self) -> Option<Change> {
        loop {
            match self.changes.pop_front()? {
                Pending::Change(change) => return Some(change),
                Pending::Call(id) => {
                    if let Some(call) = self.calls.get(&id) {
                        return Some(Change::Put(Record::Call(call.clone())));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use wire::{ListenerId, Transport};

    use super::*;
    use crate::Said;

    fn flow(port: u16) -> Flow {
        Flow {
            transport: Transport::Udp,
            listener: ListenerId(0),
            connection: 0,
            local: ([10, 0, 0, 1], 5060).into(),
            remote: ([203, 0, 113, 7], port).into(),
        }
    }

    fn binding(id: u64, aor: &str, port: u16, expires: Instant) -> Binding {
        Binding {
            id: BindingId(id),
            texts: Said { aor: aor.as_bytes(), contact: b"sip:a@192.168.1.9", call_id: b"c", ..Said::default() }.into(),
            instance: None,
            reg_id: None,
            cseq: 1,
            flow: flow(port).into(),
            flow_id: FlowId(u64::from(port)),
            upstream: None,
            natted: true,
            phone: None,
            q: 1000,
            expires,
            answered: false,
            missed: 0,
            until: expires,
            confirmed: crate::Confirmed::default(),
        }
    }

    #[test]
    fn a_phone_that_moves_is_found_by_its_new_flow_only() {
        let now = Instant::now();
        let mut registry = Registry::new();
        assert_eq!(registry.bind(binding(1, "alice", 1000, now)), Bound::New);
        assert_eq!(registry.bind(binding(1, "alice", 1000, now)), Bound::Refreshed);
        assert_eq!(registry.bind(binding(1, "alice", 2000, now)), Bound::Moved);
        assert_eq!(registry.on_flow(flow(1000)).count(), 0);
        assert_eq!(registry.on_flow(flow(2000)).count(), 1);
        assert_eq!(registry.of_aor(b"alice").count(), 1);
    }

    #[test]
    fn aors_that_share_a_prefix_are_kept_apart() {
        let now = Instant::now();
        let mut registry = Registry::new();
        registry.bind(binding(1, "al", 1, now));
        registry.bind(binding(2, "alice", 2, now));
        registry.bind(binding(3, "alice", 3, now));
        assert_eq!(registry.of_aor(b"al").count(), 1);
        assert_eq!(registry.of_aor(b"alice").count(), 2);
    }

    #[test]
    fn the_fold_of_all_changes_equals_the_registry() {
        let now = Instant::now();
        let mut registry = Registry::new();
        for n in 0..20 {
            registry.bind(binding(n % 7, "bob", n as u16, now + Duration::from_secs(n)));
            if n % 3 == 0 {
                registry.unbind(BindingId(n % 5));
            }
        }
        let mut fold = BTreeMap::new();
        while let Some(change) = registry.poll_change() {
            match change {
                Change::Put(record) => fold.insert(record.key(), record),
                Change::Delete(key) => fold.remove(&key),
            };
        }
        let truth: BTreeMap<_, _> =
            registry.bindings().map(|b| (Key::Binding(b.id), Record::Binding(Arc::new(b.clone())))).collect();
        assert_eq!(fold, truth);
    }

    #[test]
    fn expiry_follows_a_refresh() {
        let now = Instant::now();
        let mut registry = Registry::new();
        registry.bind(binding(1, "alice", 1, now + Duration::from_secs(10)));
        registry.bind(binding(1, "alice", 1, now + Duration::from_secs(60)));
        assert_eq!(registry.due(now + Duration::from_secs(30)), None);
        assert_eq!(registry.due(now + Duration::from_secs(60)), Some(Key::Binding(BindingId(1))));
    }
}
