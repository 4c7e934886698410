//! The world's dice. SplitMix64: small, the same on every machine, and split
//! by purpose, so that one more draw in one place does not shift all others.
//!
//! With a tape, choices come from its octets as long as there are any: that is
//! how a fuzzer steers a world. Names and seeds for others never do.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// A stream of numbers that only its seed, or its tape, decides.
#[derive(Debug, Clone)]
pub(crate) struct Rng {
    state: u64,
    tape: Option<Rc<Tape>>,
}

/// Octets that are read once.
#[derive(Debug)]
struct Tape {
    octets: Box<[u8]>,
    read: Cell<usize>,
}

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Self { state: seed ^ 0x9e37_79b9_7f4a_7c15, tape: None };
        rng.next();
        rng
    }

    /// The first octet is the seed of what the others do not decide.
    pub(crate) fn on_tape(octets: &[u8]) -> Self {
        let tape = Tape { octets: octets.into(), read: Cell::new(1) };
        Self { tape: Some(Rc::new(tape)), ..Self::new(octets.first().copied().map_or(0, u64::from)) }
    }

    /// An independent stream for one purpose.
    pub(crate) fn fork(&mut self, salt: u64) -> Self {
        Self::new(self.next() ^ salt.wrapping_mul(0xd134_2543_de82_ef95))
    }

    /// As [`Rng::fork`], on the same tape.
    pub(crate) fn branch(&mut self, salt: u64) -> Self {
        Self { tape: self.tape.clone(), ..self.fork(salt) }
    }

    /// A choice: two octets of the tape decide it, down to one in 65,536.
    fn choice(&mut self) -> u64 {
        let number = self.next();
        let Some(tape) = &self.tape else { return number };
        let at = tape.read.get();
        let Some(&[high, low]) = tape.octets.get(at..).and_then(<[u8]>::first_chunk) else { return number };
        tape.read.set(at + 2);
        u64::from(u16::from_be_bytes([high, low])) << 48 | number >> 16
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`; 0 when `n` is 0.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.choice()) * n as u128) >> 64) as usize
    }

    /// Both ends included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + ((u128::from(self.choice()) * u128::from(high - low + 1)) >> 64) as u64
    }

    /// True `per_mille` times in a thousand.
    pub(crate) fn chance(&mut self, per_mille: u32) -> bool {
        per_mille > 0 && self.between(0, 999) < u64::from(per_mille)
    }

    /// A length of time, both ends included.
    pub(crate) fn millis(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_micros(self.between(low * 1000, high * 1000))
    }

    /// One of several; `choices` is never empty.
    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// For constructors that take a seed of 32 octets.
    pub(crate) fn seed(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for chunk in bytes.chunks_exact_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes());
        }
        bytes
    }

    /// Lower-case hexadecimal text of 16 digits: tags, branches, Call-IDs.
    pub(crate) fn word(&mut self) -> String {
        format!("{:016x}", self.next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tape_decides_as_long_as_it_lasts() {
        let draws = |tape: &[u8]| {
            let mut rng = Rng::on_tape(tape);
            let mut other = rng.branch(1);
            [rng.below(4), other.below(4), rng.below(1000)]
        };
        let (a, b) = (draws(&[7, 0xff, 0, 0x40, 0]), draws(&[7, 0, 0, 0xc0, 0]));
        assert_eq!((&a[..2], &b[..2]), (&[3, 1][..], &[0, 3][..]));
        assert_eq!(a[2], b[2], "what is not on the tape is the seed's");
        assert_ne!(a[2], draws(&[8])[2]);
    }
}
