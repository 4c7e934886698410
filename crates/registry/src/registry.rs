//! The registry itself: ordered maps, and an outbox of changes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use wire::Flow;

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
    /// Boxed, because the table has room for more than is in it.
    bindings: BTreeMap<BindingId, Box<Binding>>,
    by_aor: BTreeSet<(Vec<u8>, BindingId)>,
    by_flow: BTreeSet<(Flow, BindingId)>,
    by_flow_id: BTreeSet<(FlowId, BindingId)>,
    calls: BTreeMap<PassId, Call>,
    by_call_id: BTreeSet<(Vec<u8>, PassId)>,
    expiry: Expiry,
    changes: VecDeque<Change>,
}

const FIRST: BindingId = BindingId(0);
const FIRST_PASS: PassId = PassId(0);

impl Registry {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stores or replaces a binding (RFC 3261 §10.3; only after a 2xx).
    pub fn bind(&mut self, binding: Binding) -> Bound {
        let id = binding.id;
        let binding = Box::new(binding);
        self.changes.push_back(Change::Put(Record::Binding(binding.clone())));
        self.by_aor.insert((binding.aor.clone(), id));
        self.by_flow.insert((binding.flow, id));
        let (flow, flow_id, expires) = (binding.flow, binding.flow_id, binding.expires);
        let old = self.bindings.insert(id, binding);
        self.expiry.change(Key::Binding(id), old.as_ref().map(|b| b.expires), Some(expires));
        if let Some(old) = &old {
            self.by_flow_id.remove(&(old.flow_id, id));
        }
        self.by_flow_id.insert((flow_id, id));
        match old {
            None => Bound::New,
            Some(old) if old.flow == flow => Bound::Refreshed,
            Some(old) => {
                self.by_flow.remove(&(old.flow, id));
                Bound::Moved
            }
        }
    }

    /// Removes a binding.
    pub fn unbind(&mut self, id: BindingId) -> Option<Binding> {
        let mut binding = self.bindings.remove(&id)?;
        let by_aor = (std::mem::take(&mut binding.aor), id);
        self.by_aor.remove(&by_aor);
        (binding.aor, _) = by_aor;
        self.by_flow.remove(&(binding.flow, id));
        self.by_flow_id.remove(&(binding.flow_id, id));
        self.expiry.change(Key::Binding(id), Some(binding.expires), None);
        self.changes.push_back(Change::Delete(Key::Binding(id)));
        Some(*binding)
    }

    /// Notes an answered or missed ping; published when it changes whether the phone is gone.
    pub fn pinged(&mut self, id: BindingId, answered: bool) -> Option<&Binding> {
        let binding = self.bindings.get_mut(&id)?;
        let before = (binding.gone(), binding.answered);
        if answered {
            binding.answered = true;
            binding.missed = 0;
        } else {
            binding.missed = binding.missed.saturating_add(1);
        }
        if before != (binding.gone(), binding.answered) {
            self.changes.push_back(Change::Put(Record::Binding(binding.clone())));
        }
        Some(binding)
    }

    /// A binding by name.
    pub fn binding(&self, id: BindingId) -> Option<&Binding> {
        self.bindings.get(&id).map(Box::as_ref)
    }

    /// All bindings.
    pub fn bindings(&self) -> impl Iterator<Item = &Binding> {
        self.bindings.values().map(Box::as_ref)
    }

    /// How many there are.
    pub fn binding_count(&self) -> usize {
        self.bindings.len()
    }

    /// The bindings of an address of record.
    pub fn of_aor<'a>(&'a self, aor: &'a [u8]) -> impl Iterator<Item = &'a Binding> {
        self.by_aor
            .range((aor.to_vec(), FIRST)..)
            .take_while(move |(a, _)| a == aor)
            .filter_map(|(_, id)| self.binding(*id))
    }

    /// The bindings of a flow: usually one phone's.
    pub fn on_flow(&self, flow: Flow) -> impl Iterator<Item = &Binding> {
        self.by_flow.range((flow, FIRST)..).take_while(move |(f, _)| *f == flow).filter_map(|(_, id)| self.binding(*id))
    }

    /// The same by the name of the flow; none when it has vanished.
    pub fn on_flow_id(&self, flow: FlowId) -> impl Iterator<Item = &Binding> {
        self.by_flow_id
            .range((flow, FIRST)..)
            .take_while(move |(f, _)| *f == flow)
            .filter_map(|(_, id)| self.binding(*id))
    }

    /// Moves the time at which a binding runs out.
    pub fn prolong(&mut self, id: BindingId, expires: Instant) {
        if let Some(binding) = self.bindings.get_mut(&id) {
            self.expiry.change(Key::Binding(id), Some(binding.expires), Some(expires));
            binding.expires = expires;
            self.changes.push_back(Change::Put(Record::Binding(binding.clone())));
        }
    }

    /// Stores or replaces a call.
    pub fn put_call(&mut self, call: Call) {
        let id = call.id;
        self.by_call_id.insert((call.call_id.clone(), id));
        self.changes.push_back(Change::Put(Record::Call(Box::new(call.clone()))));
        let expires = call.expires;
        let old = self.calls.insert(id, call);
        self.expiry.change(Key::Call(id), old.and_then(|c| c.expires), expires);
    }

    /// Changes a call in place and publishes it if it differs afterwards.
    pub fn update_call<T>(&mut self, id: PassId, update: impl FnOnce(&mut Call) -> T) -> Option<T> {
        let call = self.calls.get_mut(&id)?;
        let before = call.clone();
        let result = update(call);
        if *call != before {
            self.expiry.change(Key::Call(id), before.expires, call.expires);
            self.changes.push_back(Change::Put(Record::Call(Box::new(call.clone()))));
        }
        Some(result)
    }

    /// Removes a call.
    pub fn remove_call(&mut self, id: PassId) -> Option<Call> {
        let mut call = self.calls.remove(&id)?;
        let by_call_id = (std::mem::take(&mut call.call_id), id);
        self.by_call_id.remove(&by_call_id);
        (call.call_id, _) = by_call_id;
        self.expiry.change(Key::Call(id), call.expires, None);
        self.changes.push_back(Change::Delete(Key::Call(id)));
        Some(call)
    }

    /// A call by its pass.
    pub fn call(&self, id: PassId) -> Option<&Call> {
        self.calls.get(&id)
    }

    /// All calls.
    pub fn calls(&self) -> impl Iterator<Item = &Call> {
        self.calls.values()
    }

    /// How many calls there are.
    pub fn call_count(&self) -> usize {
        self.calls.len()
    }

    /// The calls, one per pass, that share a Call-ID.
    pub fn by_call_id<'a>(&'a self, call_id: &'a [u8]) -> impl Iterator<Item = &'a Call> {
        self.by_call_id
            .range((call_id.to_vec(), FIRST_PASS)..)
            .take_while(move |(c, _)| c == call_id)
            .filter_map(|(_, id)| self.calls.get(id))
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
        self.changes.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use wire::{ListenerId, Transport};

    use super::*;

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
            aor: aor.into(),
            contact: b"sip:a@192.168.1.9".to_vec(),
            instance: None,
            reg_id: None,
            call_id: b"c".to_vec(),
            cseq: 1,
            flow: flow(port),
            flow_id: FlowId(u64::from(port)),
            upstream: None,
            natted: true,
            phone: None,
            q: 1000,
            user_agent: Vec::new(),
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
            registry.bindings().map(|b| (Key::Binding(b.id), Record::Binding(Box::new(b.clone())))).collect();
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
