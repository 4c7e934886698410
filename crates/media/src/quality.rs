//! How well the RTP of a leg arrives: loss, order, jitter (RFC 3550 §6.4.1,
//! A.1, A.3, A.8), the round trip to its peer, and the score that follows.
//!
//! A packet that continues its stream costs one comparison of its sequence
//! number and the sums of the jitter; what was received up to there follows from
//! the extended sequence number. Everything else is done where something is
//! out of the ordinary.
//!
//! Must not decide where a packet goes, nor drop one: it only looks.

mod clock;
pub mod emodel;
mod formats;
mod round_trip;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wire::rtp::Header;

use crate::{Drop, End, Pace, Passed};
pub(crate) use clock::Clock;
pub use formats::{Codec, Format, Formats};
use round_trip::Trips;

/// RFC 3550 A.1: a jump ahead of so many or more is another beginning …
const MAX_DROPOUT: u16 = 3000;
/// … and so far behind, a packet is late, not lost and found.
const MAX_MISORDER: u16 = 100;
/// No payload type: what comes next is looked at.
const UNKNOWN: u8 = 0xff;
/// Nanoseconds. A clock that leaps by more is the sender's doing, not the network's.
const LEAP: u64 = 1 << 30;

/// Figures of what one leg received. Of several SSRCs one after the other they are the sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Figures {
    /// RTP packets, without duplicates.
    pub received: u64,
    /// RTP packets that should have come (RFC 3550 A.3).
    pub expected: u64,
    /// Of these, how many did not.
    pub lost: u64,
    /// Packets that were overtaken on the way.
    pub reordered: u64,
    /// Packets that came once more.
    pub duplicates: u64,
    /// Interarrival jitter (RFC 3550 §6.4.1), as of now.
    pub jitter: Duration,
    /// The way to the peer and back, by the last report block that named one of the sender reports passed on to it.
    pub round_trip: Option<Duration>,
    /// What is sent.
    pub codec: Option<Codec>,
    /// How much of it a packet holds, by SDP.
    pub packet: Duration,
    /// First RTP packet.
    pub first: Option<Instant>,
    /// Last RTP packet.
    pub last: Option<Instant>,
    /// The peer has said RTCP BYE (RFC 3550 §6.6).
    pub bye: bool,
}

impl Figures {
    /// Lost packets, as a share of the expected ones: 0 to 1.
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    pub fn loss(&self) -> f64 {
        if self.expected == 0 { 0.0 } else { self.lost as f64 / self.expected as f64 }
    }
}

/// The estimated score of what is heard from `end`, 1 to 4.5; `None` while
/// nothing came from there, or where the model knows nothing of its codec.
///
/// The delay from mouth to ear is half of both round trips, what a packet
/// holds, and a jitter buffer of twice the jitter.
pub fn score(legs: [&Figures; 2], end: End) -> Option<f64> {
    let heard = legs[end.index()];
    let codec = emodel::impairment(heard.codec.filter(|_| heard.received > 0)?)?;
    let ways: Duration = legs.iter().filter_map(|leg| leg.round_trip).sum();
    let delay = ways / 2 + heard.packet + 2 * heard.jitter;
    Some(emodel::mos(emodel::rating(codec, heard.loss(), delay.as_secs_f64() * 1000.0)))
}

/// The state of one socket; only that for RTP has something to say.
#[derive(Debug, Clone)]
pub(crate) struct Meter {
    ssrc: u32,
    /// Highest sequence number, extended by how often it wrapped; starts in the second cycle.
    highest: u32,
    /// Of the last packet whose time counts.
    timestamp: u32,
    payload_type: u8,
    /// Sixteenths of nanoseconds.
    jitter: u64,
    /// Nanoseconds in 256 ticks.
    tick: i64,
    /// When the packet of `timestamp` came, by the worker's [`Clock`].
    at: u64,
    /// Up to this extended number `seen`, `received` and the past are right; from there on all came in order.
    settled: u32,
    /// Which of the last 64 numbers have come: bit 0 is `settled`.
    seen: u64,
    base: u32,
    received: u64,
    /// What follows a packet that was far off (A.1 `bad_seq`).
    restart: Option<u16>,
    first: Option<u64>,
    /// Figures of earlier SSRCs, and those that do not depend on one.
    past: Past,
    /// The last packet whose time does not count.
    aside: Option<u64>,
    formats: Option<Arc<Formats>>,
    /// What comes is no RTP, whatever it looks like.
    mute: bool,
    /// Once there was RTCP.
    trips: Option<Box<Trips>>,
    /// Once there was one; so far away because it seldom is.
    stranger: Option<Box<(Instant, SocketAddr, Drop)>>,
}

/// Sums over SSRCs, as of [`Figures`].
#[derive(Debug, Clone, Copy, Default)]
struct Past {
    received: u64,
    expected: u64,
    lost: u64,
    reordered: u64,
    duplicates: u64,
    codec: Option<Codec>,
}

impl Meter {
    /// Nothing has come.
    pub(crate) fn new() -> Self {
        Self {
            ssrc: 0,
            highest: 0,
            timestamp: 0,
            payload_type: UNKNOWN,
            jitter: 0,
            tick: 0,
            at: 0,
            settled: 0,
            seen: 0,
            base: 0,
            received: 0,
            restart: None,
            first: None,
            past: Past::default(),
            aside: None,
            formats: None,
            mute: false,
            trips: None,
            stranger: None,
        }
    }

    /// What SDP says of the payload types from now on.
    pub(crate) fn tell(&mut self, formats: Arc<Formats>) {
        self.formats = Some(formats);
        self.payload_type = UNKNOWN;
    }

    /// The stream carries something else than RTP, or RTP again.
    pub(crate) fn mute(&mut self, mute: bool) {
        self.mute = mute;
        self.payload_type = UNKNOWN;
    }

    /// An RTP packet that was accepted.
    #[inline(always)]
    pub(crate) fn heard(&mut self, now: u64, header: Header) {
        let next = self.highest.wrapping_add(1);
        let continues = header.sequence == next as u16;
        if continues && header.ssrc == self.ssrc && header.payload_type == self.payload_type {
            self.highest = next;
            self.arrived(now, header.timestamp);
        } else {
            self.unusual(now, header);
        }
    }

    /// RFC 3550 A.8, in nanoseconds instead of ticks, so that it outlives a change of clocks.
    #[inline]
    fn arrived(&mut self, now: u64, timestamp: u32) {
        let ticks = i64::from(timestamp.wrapping_sub(self.timestamp).cast_signed());
        let passed = now.wrapping_sub(self.at).cast_signed();
        let difference = passed.wrapping_sub((ticks * self.tick) >> 8).unsigned_abs();
        self.at = now;
        self.timestamp = timestamp;
        if difference < LEAP {
            self.jitter = self.jitter + difference - ((self.jitter + 8) >> 4);
        }
    }

    /// A packet that does not simply continue the stream.
    #[cold]
    #[inline(never)]
    fn unusual(&mut self, now: u64, header: Header) {
        if self.mute {
            return;
        }
        if self.first.is_none() || header.ssrc != self.ssrc {
            return self.begin(now, header);
        }
        self.settle();
        match header.sequence.wrapping_sub(self.highest as u16) {
            0 => self.past.duplicates += 1,
            ahead @ 1..MAX_DROPOUT => {
                self.highest = self.highest.wrapping_add(ahead.into());
                self.settled = self.highest;
                self.seen = self.seen.checked_shl(ahead.into()).unwrap_or(0) | 1;
                self.received += 1;
                self.restart = None;
                self.timed(now, header);
            }
            behind if behind.wrapping_neg() <= MAX_MISORDER => {
                let bit = 1u64.checked_shl(behind.wrapping_neg().into()).unwrap_or(0);
                if self.seen & bit != 0 {
                    self.past.duplicates += 1;
                } else {
                    self.seen |= bit;
                    self.received += 1;
                    self.past.reordered += 1;
                    self.timed(now, header);
                }
            }
            _ if self.restart == Some(header.sequence) => self.begin(now, header),
            _ => self.restart = Some(header.sequence.wrapping_add(1)),
        }
    }

    /// Another SSRC, or the same after a leap.
    fn begin(&mut self, now: u64, header: Header) {
        self.past = self.sums();
        self.first = self.first.or(Some(now));
        self.ssrc = header.ssrc;
        self.highest = u32::from(header.sequence) | 0x1_0000;
        (self.base, self.settled) = (self.highest, self.highest);
        self.seen = 1;
        self.received = 1;
        self.restart = None;
        self.payload_type = UNKNOWN;
        self.timed(now, header);
    }

    /// The time of a packet, if it belongs to what is sent at a pace.
    fn timed(&mut self, now: u64, header: Header) {
        if header.payload_type == self.payload_type {
            return self.arrived(now, header.timestamp);
        }
        let format = formats::look_up(self.formats.as_deref(), header.payload_type);
        if format.codec.sporadic() {
            self.aside = Some(now);
            return;
        }
        self.payload_type = header.payload_type;
        self.past.codec = Some(format.codec);
        // A clock beyond these is no clock; so the sums above cannot overflow.
        let clock = if (1000..=1_000_000).contains(&format.clock) { format.clock } else { 8000 };
        self.tick = 256_000_000_000 / i64::from(clock);
        self.at = now;
        self.timestamp = header.timestamp;
    }

    /// Counts what came in order since.
    fn settle(&mut self) {
        let run = self.highest.wrapping_sub(self.settled);
        self.seen = self.seen.checked_shl(run).map_or(u64::MAX, |seen| seen | ((1 << run) - 1));
        self.received += u64::from(run);
        self.settled = self.highest;
    }

    /// What the next packet must be like to continue the stream; `None`: any would be judged one by one.
    pub(crate) fn pace(&self, clock: &Clock) -> Option<Pace> {
        let runs = self.first.is_some() && !self.mute && self.payload_type != UNKNOWN && self.restart.is_none();
        let at = clock.instant(self.at).filter(|_| runs)?;
        Some(Pace {
            ssrc: self.ssrc,
            sequence: self.highest as u16,
            timestamp: self.timestamp,
            payload_type: self.payload_type,
            tick: self.tick,
            jitter: self.jitter,
            at,
        })
    }

    /// Packets that continued the stream were not judged; the last came at `now`. Tells SSRC and number of that.
    pub(crate) fn passed(&mut self, passed: &Passed, now: u64) -> Option<(u32, u16)> {
        self.first?;
        self.settle();
        self.highest = self.highest.wrapping_add(passed.packets as u32);
        self.settle();
        self.at = now;
        self.timestamp = passed.timestamp;
        self.jitter = passed.jitter;
        Some((self.ssrc, self.highest as u16))
    }

    /// When the last RTP packet came.
    pub(crate) fn last(&self) -> Option<u64> {
        let paced = (self.past.codec.is_some()).then_some(self.at);
        paced.max(self.aside)
    }

    /// SDP says that this is audio.
    pub(crate) fn audio(&self) -> bool {
        self.formats.as_ref().is_some_and(|formats| formats.audio)
    }

    /// The last source that may not speak here and did, when, and why it may not.
    pub(crate) fn stranger(&self) -> Option<(Instant, SocketAddr, Drop)> {
        self.stranger.as_deref().copied()
    }

    /// A source that may not speak here did.
    pub(crate) fn refused(&mut self, now: Instant, from: SocketAddr, why: Drop) {
        match &mut self.stranger {
            Some(stranger) => **stranger = (now, from, why),
            None => self.stranger = Some(Box::new((now, from, why))),
        }
    }

    /// What is to be told.
    pub(crate) fn figures(&self, clock: &Clock) -> Figures {
        let packet_ms = self.formats.as_ref().map_or(0, |formats| formats.packet_ms);
        let Past { received, expected, lost, reordered, duplicates, codec } = self.sums();
        Figures {
            received,
            expected,
            lost,
            reordered,
            duplicates,
            codec,
            jitter: Duration::from_nanos(self.jitter >> 4),
            round_trip: self.trips.as_ref().and_then(|trips| trips.last()),
            packet: Duration::from_millis(if packet_ms == 0 { 20 } else { packet_ms.into() }),
            first: self.first.and_then(|at| clock.instant(at)),
            last: self.last().and_then(|at| clock.instant(at)),
            bye: self.trips.as_ref().is_some_and(|trips| trips.bye()),
        }
    }

    /// Packets of all SSRCs.
    fn sums(&self) -> Past {
        let begun = self.first.is_some();
        let expected = if begun { u64::from(self.highest.wrapping_sub(self.base)) + 1 } else { 0 };
        let received = self.received + u64::from(self.highest.wrapping_sub(self.settled));
        Past {
            received: self.past.received + received,
            expected: self.past.expected + expected,
            lost: self.past.lost + expected.saturating_sub(received),
            ..self.past
        }
    }
}
