//! The fold of all changes is the registry
//! (`docs/adr/0004-registry-owned-published-as-changes.md`): records fit their
//! keys, and when all calls have ended the fold holds none.

use std::collections::BTreeMap;

use registry::{Change, Key, Record};

use super::{Finish, Rule, Truth};
use crate::clock::Time;
use crate::edge::Entry;
use crate::phone::Phone;

#[derive(Debug, Default)]
pub(crate) struct Fold {
    records: BTreeMap<Key, Record>,
}

impl Rule for Fold {
    fn name(&self) -> &'static str {
        "the fold of all changes is the registry"
    }

    fn see(&mut self, _now: Time, _truth: &Truth, entry: &Entry) -> Option<String> {
        let Entry::Changed(change) = entry else { return None };
        match change {
            Change::Put(record) => {
                self.records.insert(record.key(), record.clone());
                None
            }
            Change::Delete(key) => {
                let gone = self.records.remove(key).is_none();
                gone.then(|| format!("{key:?} is deleted, but was never there"))
            }
        }
    }

    fn finish(&mut self, truth: &Truth, end: &Finish<'_>) -> Option<String> {
        let calls: Vec<_> = self.records.keys().filter(|key| matches!(key, Key::Call(_))).collect();
        if !calls.is_empty() {
            return Some(format!("all calls have ended, but the fold holds {calls:?}"));
        }
        let through_us = |phone: &&&Phone| truth.own.iter().flatten().any(|ip| *ip == phone.profile.proxy.ip());
        // A router that rewrites Contacts, or a phone that went without a word, leaves bindings behind.
        let clear = |user: &str| {
            let mut same = end.phones.iter().filter(|phone| phone.profile.user == user);
            same.all(|phone| !phone.profile.meddled && !phone.vanished)
        };
        for phone in end.phones.iter().filter(through_us) {
            let user = phone.profile.user.as_str();
            let phones = end.phones.iter().filter(through_us).filter(|other| other.profile.user == user);
            let wanted = phones.filter(|other| other.registered()).count();
            let bound = self.bound(user);
            if clear(user) && !end.edge.stopped && bound != wanted {
                return Some(format!("{wanted} phones of {user} are registered, but the fold holds {bound} bindings"));
            }
        }
        None
    }
}

impl Fold {
    fn bound(&self, user: &str) -> usize {
        let of = |record: &&Record| match record {
            Record::Binding(binding) => binding.aor().split(|b| *b == b'@').next() == Some(user.as_bytes()),
            Record::Call(_) => false,
        };
        self.records.values().filter(of).count()
    }
}
