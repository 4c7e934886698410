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

/// Words of a block that is summed up at once.
const WORDS: usize = 32;

/// For whole messages, a third of the work: of each block a sum of products that nobody can aim at without the
/// key (NH of UMAC, RFC 4418 §5.2, with words of 64 bits as in VMAC), and the hash of these.
#[derive(Debug, Clone)]
pub(crate) struct Long {
    key: [u64; WORDS],
    hashes: Hashes,
}

impl Long {
    pub(crate) fn new(key: &Key, hashes: Hashes) -> Self {
        Self { key: std::array::from_fn(|word| key.digest("sums", &[&word.to_be_bytes()])), hashes }
    }

    /// As [`Hashes::of`].
    pub(crate) fn of(&self, pieces: &[&[u8]]) -> u64 {
        let mut input = Gathered::new(self.hashes.0);
        for piece in pieces {
            piece.chunks(8 * WORDS).for_each(|block| input.gather(&self.sum(block).to_le_bytes()));
            input.gather(&(piece.len() as u64).to_le_bytes());
        }
        input.all().finish()
    }

    fn sum(&self, block: &[u8]) -> u128 {
        let (pairs, rest) = block.as_chunks::<16>();
        let mut last = [0; 16];
        last[..rest.len()].copy_from_slice(rest);
        let product = |([one, other], pair): (&[u64; 2], &[u8; 16])| {
            let pair = u128::from_le_bytes(*pair);
            let (low, high) = (pair as u64, (pair >> 64) as u64);
            u128::from(low.wrapping_add(*one)) * u128::from(high.wrapping_add(*other))
        };
        let (keys, _) = self.key.as_chunks();
        let whole = keys.iter().zip(pairs).map(product).fold(0_u128, u128::wrapping_add);
        // A block that is full has none.
        let end = keys.get(pairs.len()).map_or(0, |key| product((key, &last)));
        whole.wrapping_add(end)
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

    #[test]
    fn of_a_long_one_every_octet_counts_and_so_do_its_length_and_the_key() {
        let [key, foreign] = [[1; 32], [2; 32]].map(|key| Key::new(&key));
        let [one, other] = [&key, &foreign].map(|key| Long::new(key, Hashes::default()));
        let text: Vec<u8> = (0..=255).cycle().take(700).collect();
        let mut seen = std::collections::BTreeSet::new();
        let mut new = |hash| assert!(seen.insert(hash));
        for length in [0, 1, 8, 15, 16, 17, 255, 256, 257, 512, 700] {
            new(one.of(&[&text[..length]]));
            new(one.of(&[&text[..length], b""]));
            assert_ne!(one.of(&[&text[..length]]), one.of(&[&[&text[..length], b"\0"].concat()]));
        }
        for at in 0..text.len() {
            let mut changed = text.clone();
            changed[at] ^= 1;
            new(one.of(&[&changed]));
        }
        new(other.of(&[&text]));
        assert_ne!(one.of(&[&text[..300], &text[300..]]), one.of(&[&text[..301], &text[301..]]));
        assert_eq!(one.of(&[&text]), one.of(&[&text.clone()]));
    }
}
