//! The rules as memory that workers share with the program: two for each stream,
//! and for each pair of ports of our addresses the number of one.
//!
//! What keeps them right is the word `turn` of each: a rule's serial number, above
//! the extended sequence number of the last packet.
//!
//! | who | what | and then |
//! | --- | --- | --- |
//! | the program, with a packet | reads `turn`, then all else; swaps `turn` for the same with the next number | only if that was still the same, the packet is forwarded |
//! | the worker of the stream, to put a rule | swaps `turn` for 0, writes all else | stores a serial number that was never used |
//! | the same, to take it | swaps `turn` for 0 | what the number says has passed, and not one more |
//!
//! So a rule that is half written, taken or replaced is never obeyed, and every
//! packet that passed is counted once. Octets and times are written after the
//! swap: the last packet's may be missed by who looks at that moment. The numbers
//! are hints: a rule itself says whose packets it is for.
//! Must not decide whether there is to be a rule.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use media::End;

use super::rule::{LINE, Rule, octets};
use super::sys::Shared;

/// So many addresses of each family can have rules.
pub(super) const PLACES: usize = 8;
/// Octets of `struct ours`.
pub(super) const OURS: usize = PLACES * (4 + 16);
/// Pairs of ports of an address.
const PAIRS: usize = 1 << 15;
/// Of rules in a word.
const NUMBERS: usize = 4;
/// Streams that can have rules: as many as have numbers.
pub(super) const STREAMS: u32 = (1 << 15) - 1;

/// The words of `struct state`.
const TURN: usize = 0;
const BYTES: usize = 1;
const AT: usize = 2;
const JITTER: usize = 3;
const TIMESTAMP: usize = 4;
const HOP: usize = 5;

/// The addresses that can have rules.
#[derive(Debug)]
pub(super) struct Ours {
    four: Vec<IpAddr>,
    six: Vec<IpAddr>,
}

/// All rules.
#[derive(Debug)]
pub(super) struct Rules {
    ours: Ours,
    four: Family,
    six: Family,
    /// Of the last rule.
    serial: AtomicU32,
}

#[derive(Debug)]
struct Family {
    numbers: Shared,
    rules: Shared,
    /// Of one rule: `struct rule4`, `struct rule6`.
    words: usize,
}

/// How many orders each stream was given.
#[derive(Debug)]
pub(super) struct Orders(Shared);

/// Where the rule of a socket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    six: bool,
    /// Of its ports.
    pair: usize,
    number: u16,
}

/// A rule that was put.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    place: Place,
    serial: u32,
}

/// Where a stream stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    /// Extended sequence number of the last packet.
    pub(super) highest: u32,
    /// Octets of all packets that were ever forwarded by rules of this number.
    pub(super) bytes: u64,
    /// When that packet came, in nanoseconds since the machine started.
    pub(super) at: u64,
    /// Sixteenths of nanoseconds.
    pub(super) jitter: u64,
    /// Of that packet.
    pub(super) timestamp: u32,
}

impl Ours {
    /// The first of these in each family, and those for which there is no room.
    pub(super) fn of(addresses: &[IpAddr]) -> (Self, Vec<IpAddr>) {
        let (mut ours, mut left) = (Self { four: Vec::new(), six: Vec::new() }, Vec::new());
        for address in addresses.iter().filter(|address| !address.is_unspecified()) {
            let list = if address.is_ipv4() { &mut ours.four } else { &mut ours.six };
            match list.len() {
                _ if list.contains(address) => {}
                PLACES.. => left.push(*address),
                _ => list.push(*address),
            }
        }
        (ours, left)
    }

    /// For each family: how many words there are of numbers, and how many rules for so many streams. None at all
    /// cannot be had.
    pub(super) fn room(&self, streams: u32) -> [(u32, u32); 2] {
        let rules = streams.min(STREAMS) * 2 + 1;
        [&self.four, &self.six].map(|list| match list.len() {
            0 => (1, 1),
            places => ((places * PAIRS / NUMBERS) as u32, rules),
        })
    }

    /// `struct ours`: as they are on the wire, the rest zeroes.
    pub(super) fn octets(&self) -> [u8; OURS] {
        let mut all = [0; OURS];
        let (four, six) = all.split_at_mut(PLACES * 4);
        let places = four.chunks_exact_mut(4).zip(&self.four).chain(six.chunks_exact_mut(16).zip(&self.six));
        for (place, address) in places {
            place.copy_from_slice(&octets(*address));
        }
        all
    }
}

impl Family {
    fn new([numbers, rules]: [BorrowedFd<'_>; 2], room: (u32, u32), words: usize) -> io::Result<Self> {
        let numbers = Shared::new(numbers, room.0 as usize)?;
        Ok(Self { numbers, rules: Shared::new(rules, room.1 as usize * words)?, words })
    }
}

impl Rules {
    /// In these maps, numbers and rules of each family, with room as [`Ours::room`] says.
    pub(super) fn new(ours: Ours, [four, six]: [[BorrowedFd<'_>; 2]; 2], streams: u32) -> io::Result<Self> {
        let [room4, room6] = ours.room(streams);
        let (four, six) = (Family::new(four, room4, 2 * LINE / 8)?, Family::new(six, room6, 3 * LINE / 8)?);
        Ok(Self { ours, four, six, serial: AtomicU32::new(0) })
    }

    /// Where the rule is for packets to our address `local`, if that and the stream, as counted among all, can have
    /// one. Each of both ends has its own.
    pub(super) fn place(&self, local: SocketAddr, stream: u32, end: End) -> Option<Place> {
        let six = local.is_ipv6();
        let list = if six { &self.ours.six } else { &self.ours.four };
        let at = list.iter().position(|address| *address == local.ip())?;
        let number = (stream < STREAMS).then(|| stream * 2 + 1 + end.index() as u32)?;
        let number = u16::try_from(number).ok()?;
        Some(Place { six, pair: at * PAIRS + usize::from(local.port() / 2), number })
    }

    /// Puts a rule in the place of any that is there. `None` if there is no such place.
    pub(super) fn put(&self, place: Place, rule: &Rule) -> Option<(Held, Standing)> {
        let (terms, state) = self.words(place)?;
        state[TURN].swap(0, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        let fields = [(AT, rule.at), (JITTER, rule.jitter), (TIMESTAMP, rule.timestamp.into())];
        let hop = state[HOP..].iter().zip(rule.hop);
        let fields = fields.into_iter().map(|(at, value)| (&state[at], value)).chain(hop);
        for (word, value) in terms.iter().zip(rule.terms).chain(fields) {
            word.store(value, Ordering::Relaxed);
        }
        let serial = self.serial();
        let turn = u64::from(serial) << 32 | u64::from(rule.sequence);
        state[TURN].store(turn, Ordering::Release);
        self.point(place)?;
        Some((Held { place, serial }, standing(turn, state)))
    }

    /// How far the stream of a rule has come, if that is still in its place.
    pub(super) fn look(&self, held: Held) -> Option<Standing> {
        let (_, state) = self.words(held.place)?;
        let turn = state[TURN].load(Ordering::Acquire);
        held.has(turn).then(|| standing(turn, state))
    }

    /// The same, and takes it out.
    pub(super) fn take(&self, held: Held) -> Option<Standing> {
        let (_, state) = self.words(held.place)?;
        let nothing = |turn| held.has(turn).then_some(0);
        let turn = state[TURN].fetch_update(Ordering::AcqRel, Ordering::Acquire, nothing).ok()?;
        Some(standing(turn, state))
    }

    /// Has the number of its ports say where the rule is.
    fn point(&self, place: Place) -> Option<()> {
        let [word] = self.family(place).numbers.words(place.pair / NUMBERS, 1)? else { return None };
        let shift = place.pair % NUMBERS * 16;
        let mask = u64::from(u16::MAX) << shift;
        let number = u64::from(place.number) << shift;
        // The others are other workers'.
        let other = |numbers| (numbers & mask != number).then_some(numbers & !mask | number);
        let _known = word.fetch_update(Ordering::Release, Ordering::Relaxed, other);
        Some(())
    }

    fn family(&self, place: Place) -> &Family {
        if place.six { &self.six } else { &self.four }
    }

    fn serial(&self) -> u32 {
        loop {
            // 0 is none's.
            match self.serial.fetch_add(1, Ordering::Relaxed).wrapping_add(1) {
                0 => {}
                serial => return serial,
            }
        }
    }

    /// What is said of a stream, and where it stands.
    fn words(&self, place: Place) -> Option<(&[AtomicU64], &[AtomicU64])> {
        let Family { rules, words, .. } = self.family(place);
        rules.words(usize::from(place.number) * words, *words)?.split_at_checked(words - LINE / 8)
    }
}

impl Orders {
    /// `map` is an array of so many numbers, each for one stream.
    pub(super) fn new(map: BorrowedFd<'_>, streams: u32) -> io::Result<Self> {
        Shared::new(map, streams as usize).map(Self)
    }

    /// One more order for this stream, if there is such a one: rules that do not know of it are void from here on.
    pub(super) fn give(&self, stream: u32) {
        if let Some([orders]) = self.0.words(stream as usize, 1) {
            orders.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Held {
    fn has(self, turn: u64) -> bool {
        turn >> 32 == self.serial.into()
    }
}

fn standing(turn: u64, state: &[AtomicU64]) -> Standing {
    let [bytes, at, jitter, timestamp] = [BYTES, AT, JITTER, TIMESTAMP].map(|at| state[at].load(Ordering::Relaxed));
    Standing { highest: turn as u32, bytes, at, jitter, timestamp: timestamp as u32 }
}
