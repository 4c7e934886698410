//! Marks among the next 64 octets, all at once, as bits: what parts a line, a
//! URI or a list of parameters stands close together, and a search from one to
//! the next costs more than to look for all of them.

use wide::u8x16;

/// Octets in the widest block.
pub(crate) const WIDTH: usize = 64;
/// Octets in a narrow one.
pub(crate) const NARROW: usize = 32;

/// Up to 16 octets for each of the `PARTS`, four at most. Bit 0 of what it answers is the first
/// of them; what lies beyond the end reads as NUL.
#[derive(Clone, Copy)]
pub(crate) struct Block<const PARTS: usize>([u8x16; PARTS]);

pub(crate) type Wide = Block<4>;
pub(crate) type Narrow = Block<2>;

impl<const PARTS: usize> Block<PARTS> {
    /// The first octets of `bytes`.
    #[inline]
    pub(crate) fn of(bytes: &[u8]) -> Self {
        match bytes.as_chunks().0.first_chunk() {
            Some(parts) => Self(parts.map(u8x16::new)),
            None => {
                let mut padded = [[0; 16]; PARTS];
                if let Some(room) = padded.as_flattened_mut().get_mut(..bytes.len()) {
                    room.copy_from_slice(bytes);
                }
                Self(padded.map(u8x16::new))
            }
        }
    }

    /// Where `byte` stands.
    #[inline]
    pub(crate) fn equal(&self, byte: u8) -> u64 {
        let sought = u8x16::splat(byte);
        self.bits(|part| part.simd_eq(sought))
    }

    /// Where an octet from `low` to `high` stands that is none of `others`.
    #[inline]
    pub(crate) fn within<const N: usize>(&self, low: u8, high: u8, others: [u8; N]) -> u64 {
        let (low, high) = (u8x16::splat(low), u8x16::splat(high));
        self.bits(|part| {
            let within = part.max(low).min(high).simd_eq(part);
            others.into_iter().fold(within, |within, other| within & !part.simd_eq(u8x16::splat(other)))
        })
    }

    #[inline]
    fn bits(&self, which: impl Fn(u8x16) -> u8x16) -> u64 {
        self.0.iter().rev().fold(0, |bits, part| bits << 16 | u64::from(which(*part).to_bitmask()))
    }
}

/// The bits below `end`, which may lie beyond the block.
#[inline]
pub(crate) fn below(end: usize) -> u64 {
    if end < WIDTH { (1 << end) - 1 } else { u64::MAX }
}

/// The first of the bits, as an offset.
#[inline]
pub(crate) fn first(bits: u64) -> Option<usize> {
    (bits != 0).then(|| bits.trailing_zeros() as usize)
}

/// Offset of the first `byte`, in a value of a header field: too short to be worth a call.
#[inline]
pub(crate) fn find(byte: u8, bytes: &[u8]) -> Option<usize> {
    let sought = u8x16::splat(byte);
    let found = |part: &[u8; 16]| first(u64::from(u8x16::new(*part).simd_eq(sought).to_bitmask()));
    let (whole, rest) = bytes.as_chunks::<16>();
    for (part, at) in whole.iter().zip((0..).step_by(16)) {
        if let Some(offset) = found(part) {
            return Some(at + offset);
        }
    }
    match bytes.last_chunk() {
        // What these share with the chunk before does not hold it.
        Some(last) => found(last).map(|offset| bytes.len() - 16 + offset),
        None => rest.iter().position(|other| *other == byte),
    }
}

/// The ends of lines: offsets of the LFs, and whether a CR stands before it.
pub(crate) struct LineEnds<'a> {
    bytes: &'a [u8],
    /// Where the block begins.
    at: usize,
    /// LFs of the block that were not handed out yet.
    lf: u64,
    /// What stands right behind a CR.
    behind_cr: u64,
    /// CRs with something else behind them.
    stray: u64,
    /// The octet before the block is a CR.
    carry: bool,
    /// An earlier block has a stray CR.
    strayed: bool,
}

impl<'a> LineEnds<'a> {
    /// From `start` on.
    #[inline]
    pub(crate) fn new(bytes: &'a [u8], start: usize) -> Self {
        let mut ends = Self { bytes, at: start, lf: 0, behind_cr: 0, stray: 0, carry: false, strayed: false };
        ends.load();
        ends
    }

    #[inline]
    fn load(&mut self) {
        let block = Wide::of(self.bytes.get(self.at..).unwrap_or_default());
        let (lf, cr) = (block.equal(b'\n'), block.equal(b'\r'));
        self.behind_cr = cr << 1 | u64::from(self.carry);
        self.strayed |= self.carry && lf & 1 == 0;
        self.carry = cr >> (WIDTH - 1) != 0;
        // Of a CR at the end of the block the next one tells.
        self.stray = cr & !(lf >> 1) & (u64::MAX >> 1);
        self.lf = lf;
    }

    /// True when a CR that no LF follows stands before offset `end`, the last that was handed out.
    #[inline]
    pub(crate) fn has_stray_cr(&self, end: usize) -> bool {
        self.strayed || self.stray & below(end - self.at) != 0
    }
}

impl Iterator for LineEnds<'_> {
    type Item = (usize, bool);

    #[inline]
    fn next(&mut self) -> Option<(usize, bool)> {
        while self.lf == 0 {
            if self.at + WIDTH >= self.bytes.len() {
                return None;
            }
            self.at += WIDTH;
            self.strayed |= self.stray != 0;
            self.load();
        }
        let bit = self.lf.trailing_zeros();
        self.lf &= self.lf - 1;
        Some((self.at + bit as usize, self.behind_cr >> bit & 1 != 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn bits_are_those_of_the_octets(bytes in proptest::collection::vec(0..=255_u8, 0..150), byte: u8, high: u8) {
            let (block, narrow) = (Wide::of(&bytes), Narrow::of(&bytes));
            let told = |wanted: &dyn Fn(u8) -> bool| {
                let padded = bytes.iter().copied().chain(std::iter::repeat(0)).take(WIDTH);
                padded.enumerate().fold(0, |bits, (at, byte)| bits | u64::from(wanted(byte)) << at)
            };
            assert_eq!(block.equal(byte), told(&|b| b == byte));
            let (low, high) = (byte.min(high), byte.max(high));
            assert_eq!(block.within(low, high, [byte]), told(&|b| (low..=high).contains(&b) && b != byte));
            assert_eq!(narrow.equal(byte), block.equal(byte) & below(NARROW));
            assert_eq!(narrow.within(low, high, []), block.within(low, high, []) & below(NARROW));
        }

        #[test]
        fn the_first_is_found(bytes in proptest::collection::vec(0..5_u8, 0..70), fill in 0..70_usize, byte in 0..6_u8) {
            let rare: Vec<u8> = std::iter::repeat_n(9, fill).chain(bytes.iter().copied()).collect();
            for bytes in [&bytes, &rare] {
                assert_eq!(find(byte, bytes), bytes.iter().position(|other| *other == byte));
            }
        }

        #[test]
        fn lines_end_where_an_lf_stands(text in "[\r\na]{0,300}", start in 0..310_usize) {
            let bytes = text.as_bytes();
            let mut ends = LineEnds::new(bytes, start);
            for end in (start..bytes.len()).filter(|at| bytes[*at] == b'\n') {
                let before = &bytes[start..end];
                assert_eq!(ends.next(), Some((end, before.ends_with(b"\r"))));
                let stray = before.iter().zip(&bytes[start + 1..]).any(|(byte, next)| *byte == b'\r' && *next != b'\n');
                assert_eq!(ends.has_stray_cr(end), stray);
            }
            assert_eq!(ends.next(), None);
        }
    }

    #[test]
    fn bits_below_an_end() {
        assert_eq!([below(0), below(1), below(63), below(64), below(500)], [0, 1, u64::MAX >> 1, u64::MAX, u64::MAX]);
        assert_eq!([first(0), first(0b1000), first(1 << 63)], [None, Some(3), Some(63)]);
    }
}
