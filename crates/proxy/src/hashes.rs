//! Hashes that do not outlive the process: for tables, and to know again what
//! came before. Keyed, for what is hashed comes from the network.

use std::hash::{BuildHasher, Hasher};

use siphasher::sip::SipHasher13;

use crate::token::Key;

/// SipHash-1-3 with a key of its own. [`Hashes::default`] has none: for tests.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Hashes(SipHasher13);

impl Hashes {
    pub(crate) fn new(key: &Key) -> Self {
        Self(SipHasher13::new_with_keys(key.digest("hashes", &[b"0"]), key.digest("hashes", &[b"1"])))
    }

    /// Of all pieces; where one ends counts.
    pub(crate) fn of(&self, pieces: &[&[u8]]) -> u64 {
        let mut input = Gathered::new(self.0);
        for piece in pieces {
            input.gather(piece);
            input.gather(&(piece.len() as u64).to_le_bytes());
        }
        input.all().finish()
    }
}

/// Octets that are hashed in one go.
const GATHERED: usize = 256;

/// What is hashed: many short pieces cost less when they come as one.
pub(crate) struct Gathered<H> {
    hasher: H,
    bytes: [u8; GATHERED],
    length: usize,
}

impl<H: Hasher> Gathered<H> {
    pub(crate) fn new(hasher: H) -> Self {
        Self { hasher, bytes: [0; GATHERED], length: 0 }
    }

    #[inline]
    pub(crate) fn gather(&mut self, piece: &[u8]) {
        if self.length + piece.len() > GATHERED {
            self.hasher.write(&self.bytes[..self.length]);
            self.length = 0;
        }
        match self.bytes.get_mut(self.length..self.length + piece.len()) {
            Some(room) => {
                room.copy_from_slice(piece);
                self.length += piece.len();
            }
            None => self.hasher.write(piece),
        }
    }

    /// The hasher that has all of it.
    pub(crate) fn all(mut self) -> H {
        self.hasher.write(&self.bytes[..self.length]);
        self.hasher
    }
}

impl BuildHasher for Hashes {
    type Hasher = Gathered<SipHasher13>;

    fn build_hasher(&self) -> Self::Hasher {
        Gathered::new(self.0)
    }
}

impl<H: Hasher + Clone> Hasher for Gathered<H> {
    fn finish(&self) -> u64 {
        let mut hasher = self.hasher.clone();
        hasher.write(&self.bytes[..self.length]);
        hasher.finish()
    }

    #[inline]
    fn write(&mut self, piece: &[u8]) {
        self.gather(piece);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_and_where_it_ends_counts_and_so_does_the_key() {
        let [one, other] = [[1; 32], [2; 32]].map(|key| Hashes::new(&Key::new(&key)));
        assert_eq!(one.of(&[b"ab", b"c"]), one.of(&[b"ab", b"c"]));
        assert_ne!(one.of(&[b"ab", b"c"]), one.of(&[b"a", b"bc"]));
        assert_ne!(one.of(&[b"ab"]), other.of(&[b"ab"]));
    }
}
