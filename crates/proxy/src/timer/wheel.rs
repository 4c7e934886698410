//! A timer wheel: a deadline within about a minute lies in the slot of its
//! tick, so that to arm and to disarm it does not depend on how many there
//! are. What comes out is in order all the same: a slot is sorted when its
//! turn comes. Whatever does not fit waits in a tree: a deadline that lies
//! further ahead or has passed, or more of one tick than may be searched.

use std::collections::BTreeSet;
use std::time::Instant;

/// Ticks in a second.
const PER_SECOND: u64 = 250;
/// Slots; one turn of the wheel is 65 s, and nearly all that is armed ends after 64·T1 = 32 s.
const SLOTS: usize = 1 << 14;
/// Deadlines of one tick that are in its slot at most.
const MOST: usize = 1024;
/// Deadlines that such a slot has room for at most.
const USUAL: usize = 16;
/// Emptied slots' room that is kept for the next ones.
const SPARE: usize = 256;
const WORD: usize = u64::BITS as usize;
const WORDS: usize = SLOTS / WORD;

/// All deadlines, each with what it is for.
#[derive(Debug)]
pub(super) struct Wheel<T> {
    /// When tick 0 began.
    base: Instant,
    /// The tick whose turn it is: no deadline in a slot lies before it. Its slot is in order, the earliest last.
    current: u64,
    /// By tick, modulo their number.
    slots: Vec<Vec<(Instant, T)>>,
    /// Which of them are not empty, one bit each.
    taken: Box<[u64; WORDS]>,
    /// Which words of `taken` are not zero, one bit each.
    words: [u64; WORDS / WORD],
    /// Room of slots that are empty now.
    spare: Vec<Vec<(Instant, T)>>,
    others: BTreeSet<(Instant, T)>,
    first: Option<(Instant, T)>,
}

impl<T: Copy + Ord> Wheel<T> {
    /// No deadline yet.
    pub(super) fn new(now: Instant) -> Self {
        let slots = std::iter::repeat_with(Vec::new).take(SLOTS).collect();
        Self {
            base: now,
            current: 0,
            slots,
            taken: Box::new([0; WORDS]),
            words: [0; WORDS / WORD],
            spare: Vec::new(),
            others: BTreeSet::new(),
            first: None,
        }
    }

    pub(super) fn arm(&mut self, at: Instant, what: T) {
        let entry = (at, what);
        if self.first.is_none_or(|first| entry < first) {
            self.first = Some(entry);
        }
        let current = self.current_slot();
        match self.slot(at).map(|slot| (slot, &mut self.slots[slot])) {
            Some((slot, entries)) if entries.len() < MOST => {
                if entries.capacity() == 0 {
                    *entries = self.spare.pop().unwrap_or_default();
                }
                if slot != current {
                    entries.push(entry);
                } else if let Err(place) = entries.binary_search_by(|known| entry.cmp(known)) {
                    entries.insert(place, entry);
                }
                self.fill(slot);
            }
            Some(_) | None => _ = self.others.insert(entry),
        }
    }

    pub(super) fn disarm(&mut self, at: Instant, what: T) {
        let entry = (at, what);
        if !self.slot(at).is_some_and(|slot| self.remove(slot, entry)) {
            self.others.remove(&entry);
        }
        if self.first == Some(entry) {
            self.first = self.look();
        }
    }

    /// The earliest.
    pub(super) fn first(&self) -> Option<(Instant, T)> {
        self.first
    }

    /// Takes the earliest, if it has come.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<(Instant, T)> {
        let first = self.first.filter(|(at, _)| *at <= now)?;
        self.turn(now);
        self.disarm(first.0, first.1);
        Some(first)
    }

    /// Those for which `keep` is false are disarmed.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&(Instant, T)) -> bool) {
        for slot in 0..SLOTS {
            self.slots[slot].retain(&mut keep);
            if self.slots[slot].is_empty() {
                self.empty(slot);
            }
        }
        self.others.retain(keep);
        self.first = self.look();
    }

    fn tick(&self, at: Instant) -> Option<u64> {
        let since = at.checked_duration_since(self.base)?;
        Some(since.as_secs() * PER_SECOND + u64::from(since.subsec_millis()) * PER_SECOND / 1000)
    }

    /// The slot of a deadline, if the wheel reaches so far.
    fn slot(&self, at: Instant) -> Option<usize> {
        let tick = self.tick(at)?;
        (self.current..self.current + SLOTS as u64).contains(&tick).then_some(tick as usize % SLOTS)
    }

    fn current_slot(&self) -> usize {
        self.current as usize % SLOTS
    }

    fn fill(&mut self, slot: usize) {
        let word = slot / WORD;
        self.taken[word] |= 1 << (slot % WORD);
        self.words[word / WORD] |= 1 << (word % WORD);
    }

    fn empty(&mut self, slot: usize) {
        let word = slot / WORD;
        self.taken[word] &= !(1 << (slot % WORD));
        if self.taken[word] == 0 {
            self.words[word / WORD] &= !(1 << (word % WORD));
        }
    }

    /// The first slot from the current one on that is not empty.
    fn next_slot(&self) -> Option<usize> {
        let start = self.current_slot();
        let in_word = |word: usize| word * WORD + self.taken[word].trailing_zeros() as usize;
        let rest = self.taken[start / WORD] & (u64::MAX << (start % WORD));
        if rest != 0 {
            return Some(start / WORD * WORD + rest.trailing_zeros() as usize);
        }
        // The words behind this one, then from the first on, up to this one again.
        next_bit(&self.words, start / WORD + 1).or_else(|| next_bit(&self.words, 0)).map(in_word)
    }

    /// On to the tick of `now`, or to the first one before it that has a deadline.
    fn turn(&mut self, now: Instant) {
        let Some(now) = self.tick(now) else { return };
        let ahead = |slot: usize| self.current + ((slot + SLOTS - self.current_slot()) % SLOTS) as u64;
        let to = self.next_slot().map_or(now, |slot| ahead(slot).min(now));
        if to > self.current {
            self.current = to;
            let slot = self.current_slot();
            self.slots[slot].sort_unstable_by(|one, other| other.cmp(one));
            // What was armed twice is due once.
            self.slots[slot].dedup();
        }
    }

    fn look(&self) -> Option<(Instant, T)> {
        let in_slot = self.next_slot().and_then(|slot| {
            let entries = &self.slots[slot];
            if slot == self.current_slot() { entries.last() } else { entries.iter().min() }.copied()
        });
        [in_slot, self.others.first().copied()].into_iter().flatten().min()
    }

    fn remove(&mut self, slot: usize, entry: (Instant, T)) -> bool {
        let is_current = slot == self.current_slot();
        let entries = &mut self.slots[slot];
        let before = entries.len();
        if !is_current {
            entries.retain(|known| *known != entry);
        } else if let Ok(place) = entries.binary_search_by(|known| entry.cmp(known)) {
            entries.remove(place);
        }
        if entries.len() == before {
            return false;
        }
        if entries.is_empty() {
            let room = std::mem::take(entries);
            if self.spare.len() < SPARE && room.capacity() <= USUAL {
                self.spare.push(room);
            }
            self.empty(slot);
        }
        true
    }
}

/// The first bit at `from` or behind it that is set.
fn next_bit(words: &[u64], from: usize) -> Option<usize> {
    let first = words.get(from / WORD)? & (u64::MAX << (from % WORD));
    let behind = words.iter().enumerate().skip(from / WORD + 1).map(|(at, word)| (at, *word));
    let found = std::iter::once((from / WORD, first)).chain(behind).find(|(_, word)| *word != 0)?;
    Some(found.0 * WORD + found.1.trailing_zeros() as usize)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    proptest::proptest! {
        #[test]
        fn a_wheel_is_an_ordered_set(steps in proptest::collection::vec((0..4_u8, 0..200_000_u64, 0..4_u8), 0..200)) {
            let start = Instant::now();
            let (mut wheel, mut set, mut now) = (Wheel::new(start), BTreeSet::new(), start);
            for (step, millis, what) in steps {
                let at = start + Duration::from_micros(millis * 500);
                match step {
                    0 | 1 => {
                        set.insert((at, what));
                        wheel.arm(at, what);
                    }
                    2 => {
                        if let Some((at, what)) = set.iter().nth(millis as usize % set.len().max(1)).copied() {
                            set.remove(&(at, what));
                            wheel.disarm(at, what);
                        }
                    }
                    _ => {
                        now += Duration::from_millis(millis % 700);
                        loop {
                            let due = set.first().copied().filter(|(at, _)| *at <= now);
                            assert_eq!(wheel.pop_due(now), due);
                            let Some(due) = due else { break };
                            set.remove(&due);
                        }
                    }
                }
                assert_eq!(wheel.first(), set.first().copied());
            }
            set.retain(|(_, what)| *what != 0);
            wheel.retain(|(_, what)| *what != 0);
            while let Some(due) = set.pop_first() {
                assert_eq!(wheel.pop_due(due.0), Some(due));
            }
            assert_eq!(wheel.first(), None);
        }
    }

    #[test]
    fn more_of_one_tick_than_a_slot_takes_come_in_order() {
        let at = Instant::now();
        let mut wheel = Wheel::new(at);
        let many = 0..3 * MOST;
        many.clone().rev().for_each(|what| wheel.arm(at, what));
        wheel.disarm(at, 7);
        wheel.disarm(at, 2 * MOST + 7);
        let out: Vec<_> = std::iter::from_fn(|| wheel.pop_due(at)).map(|(_, what)| what).collect();
        assert_eq!(out, many.filter(|what| *what != 7 && *what != 2 * MOST + 7).collect::<Vec<_>>());
    }
}
