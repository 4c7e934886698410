//! Tables by a hash that is there already.
//!
//! An [`Index`] finds what bears the hash of what is asked for; whoever is
//! found is asked for the thing itself, so that a collision costs a look.

use std::collections::BTreeSet;
use std::collections::hash_map::{Entry, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

/// A table whose keys are hashes.
pub type ByHash<T> = HashMap<u64, T, BuildHasherDefault<AsItIs>>;

/// What is hashed already.
#[derive(Debug, Clone, Copy, Default)]
pub struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// Ids by hash, as a rule one of each.
#[derive(Debug)]
pub(crate) struct Index<I> {
    /// The lowest of each hash.
    first: ByHash<I>,
    others: BTreeSet<(u64, I)>,
}

impl<I> Default for Index<I> {
    fn default() -> Self {
        Self { first: ByHash::default(), others: BTreeSet::new() }
    }
}

impl<I: Copy + Ord> Index<I> {
    pub(crate) fn insert(&mut self, hash: u64, id: I) {
        match self.first.entry(hash) {
            Entry::Vacant(free) => _ = free.insert(id),
            Entry::Occupied(taken) if *taken.get() == id => {}
            Entry::Occupied(mut taken) => {
                let lowest = id.min(*taken.get());
                let other = taken.insert(lowest).max(id);
                self.others.insert((hash, other));
            }
        }
    }

    pub(crate) fn remove(&mut self, hash: u64, id: I) {
        if self.first.get(&hash) != Some(&id) {
            self.others.remove(&(hash, id));
            return;
        }
        let next = self.others_of(hash, id).next();
        match next {
            Some(next) => {
                self.others.remove(&(hash, next));
                self.first.insert(hash, next);
            }
            None => _ = self.first.remove(&hash),
        }
    }

    /// All of that hash, in order.
    pub(crate) fn of(&self, hash: u64) -> impl Iterator<Item = I> {
        let first = self.first.get(&hash).copied();
        let others = first.filter(|_| !self.others.is_empty()).map(|first| self.others_of(hash, first));
        first.into_iter().chain(others.into_iter().flatten())
    }

    fn others_of(&self, hash: u64, first: I) -> impl Iterator<Item = I> {
        self.others.range((hash, first)..).take_while(move |(of, _)| *of == hash).map(|(_, id)| *id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn an_index_is_a_set_of_pairs(steps in proptest::collection::vec((0..3_u64, 0..5_u8, proptest::bool::ANY), 0..60)) {
            let (mut index, mut pairs) = (Index::default(), BTreeSet::new());
            for (hash, id, add) in steps {
                if add {
                    index.insert(hash, id);
                    pairs.insert((hash, id));
                } else {
                    index.remove(hash, id);
                    pairs.remove(&(hash, id));
                }
                for hash in 0..3 {
                    let expected: Vec<u8> = pairs.iter().filter(|pair| pair.0 == hash).map(|pair| pair.1).collect();
                    assert_eq!(index.of(hash).collect::<Vec<_>>(), expected);
                }
            }
        }
    }
}
