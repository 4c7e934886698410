//! A hash for names that are digests or random numbers of ours: nobody outside
//! can choose them so that they collide, and they need no more than mixing.

use std::hash::{BuildHasherDefault, Hasher};

/// Odd, and without pattern.
const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Makes such hashes.
pub(super) type Digesting = BuildHasherDefault<Digest>;

/// The hash.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Digest(u64);

impl Hasher for Digest {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, octets: &[u8]) {
        for eight in octets.chunks(8) {
            let mut word = [0; 8];
            word[..eight.len()].copy_from_slice(eight);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        // Twice, for what only the upper bits of a word say reaches the lower ones by the way of the middle.
        let mixed = (self.0.rotate_left(5) ^ word).wrapping_mul(ODD);
        let mixed = (mixed ^ mixed >> 32).wrapping_mul(ODD);
        self.0 = mixed ^ mixed >> 32;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::hash::BuildHasher as _;

    use super::*;

    #[test]
    fn names_that_are_alike_are_spread() {
        let hash = |name: u64| Digesting::default().hash_one(name);
        for step in [1, 1 << 20, 1 << 40, 1 << 56] {
            let all: Vec<u64> = (0..256).map(|name| hash(name * step)).collect();
            for bits in [|hash: &u64| hash >> 57, |hash: &u64| hash & 0x7f, |hash: &u64| hash >> 20 & 0x7f] {
                let different: BTreeSet<u64> = all.iter().map(bits).collect();
                assert!(different.len() > 64, "{step}: {}", different.len());
            }
        }
    }
}
