//! Plain counters of legs and workers: integers that a worker adds to and
//! hands up as facts. Decides nothing, knows no clock and no metric library.

use nat::Side;

use crate::forward::{DROPS, Drop};
use crate::quality::Figures;

/// One leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LegCounts {
    /// Packets accepted from the peer.
    pub packets_in: u64,
    /// Octets of those.
    pub bytes_in: u64,
    /// Packets sent to the peer.
    pub packets_out: u64,
    /// Octets of those.
    pub bytes_out: u64,
    /// Packets from sources that the latch refused.
    pub refused: u64,
    /// How well its RTP arrives.
    pub quality: Figures,
}

impl LegCounts {
    /// The sum of two components of a leg; only one of them knows of quality: `self`.
    pub fn plus(self, other: Self) -> Self {
        Self {
            packets_in: self.packets_in + other.packets_in,
            bytes_in: self.bytes_in + other.bytes_in,
            packets_out: self.packets_out + other.packets_out,
            bytes_out: self.bytes_out + other.bytes_out,
            refused: self.refused + other.refused,
            quality: self.quality,
        }
    }

    /// True when a packet was accepted or sent: the pair must rest until it is quiet.
    pub fn used(&self) -> bool {
        self.packets_in != 0 || self.packets_out != 0
    }
}

/// One worker since its last report.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Totals {
    /// Packets and octets in, by side (inner, outer).
    pub packets_in: [u64; 2],
    /// See `packets_in`.
    pub bytes_in: [u64; 2],
    /// Packets and octets out, by side (inner, outer).
    pub packets_out: [u64; 2],
    /// See `packets_out`.
    pub bytes_out: [u64; 2],
    /// Packets dropped, indexed by [`crate::Drop::index`].
    pub drops: [u64; DROPS],
    /// Of the refused sources, those next door to an allowed address (same
    /// /24, for IPv6 /48): a carrier whose NAT gives media another address than
    /// signalling looks like this, and is mended by a `[[network]]` with `latch = true`.
    pub neighbours: u64,
}

impl Totals {
    /// Counts one packet in.
    #[inline]
    pub(crate) fn packet_in(&mut self, side: Side, bytes: u64) {
        let side = index(side);
        self.packets_in[side] += 1;
        self.bytes_in[side] += bytes;
    }

    /// Counts one packet out.
    #[inline]
    pub(crate) fn packet_out(&mut self, side: Side, bytes: u64) {
        let side = index(side);
        self.packets_out[side] += 1;
        self.bytes_out[side] += bytes;
    }

    /// Counts one drop.
    #[inline]
    pub(crate) fn drop(&mut self, why: Drop) {
        self.drops[why.index()] += 1;
    }

    /// Drops for this reason.
    pub fn dropped(&self, why: Drop) -> u64 {
        self.drops[why.index()]
    }
}

#[inline]
fn index(side: Side) -> usize {
    match side {
        Side::Inner => 0,
        Side::Outer => 1,
    }
}
