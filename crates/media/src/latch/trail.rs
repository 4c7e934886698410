//! Where an RTP stream stands, and whether a packet can be the next of it.
//!
//! Must not decide what follows from that.

use std::time::Instant;

use wire::rtp;

/// Where an RTP stream stands (RFC 3550 §5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Trail {
    at: Instant,
    pub(super) ssrc: u32,
    timestamp: u32,
    sequence: u16,
}

impl Trail {
    #[inline]
    pub(super) fn of(at: Instant, header: rtp::Header) -> Self {
        Self { at, ssrc: header.ssrc, timestamp: header.timestamp, sequence: header.sequence }
    }

    pub(super) fn at(at: Instant, ssrc: u32, sequence: u16, timestamp: u32) -> Self {
        Self { at, ssrc, timestamp, sequence }
    }

    /// Could `next` be the same sender, now? A blind guess must hit the SSRC
    /// (32 bits) and both windows, which grow with the time that has passed:
    /// the sequence number at most 64 + 500 packets/s ahead, never over 3000;
    /// the timestamp at most 96 kHz × time + 1 s of video ahead, or 2 s of
    /// telephony behind (the packets of a DTMF event carry its start, RFC 4733 §2.3.4).
    pub(super) fn continues(&self, next: &Self) -> bool {
        let passed = u64::try_from(next.at.duration_since(self.at).as_millis()).unwrap_or(u64::MAX);
        let ahead = u64::from(next.sequence.wrapping_sub(self.sequence));
        let ticks = next.timestamp.wrapping_sub(self.timestamp);
        next.ssrc == self.ssrc
            && (1..=(64 + passed / 2).min(3000)).contains(&ahead)
            && (u64::from(ticks) <= passed.saturating_mul(96).saturating_add(90_000) || ticks.wrapping_neg() <= 16_000)
    }

    /// A duplicate, or a packet that was overtaken on the way.
    pub(super) fn overtook(&self, next: &Self) -> bool {
        next.ssrc == self.ssrc && self.sequence.wrapping_sub(next.sequence) < 64
    }
}
