//! Plain counters of legs and workers: integers that a worker adds to and
//! hands up as facts. Decides nothing, knows no clock and no metric library.

use nat::Side;

use crate::forward::{DROPS, Drop};
use crate::quality::Figures;

/// One socket of a leg.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SocketCounts {
    pub(crate) packets_in: u64,
    pub(crate) bytes_in: u64,
    pub(crate) packets_out: u64,
    pub(crate) bytes_out: u64,
    pub(crate) refused: u64,
}

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
    /// The sum of a leg's sockets, and the quality of what comes to that for RTP.
    pub(crate) fn of(sockets: [SocketCounts; 2], quality: Figures) -> Self {
        let [rtp, rtcp] = sockets;
        Self {
            packets_in: rtp.packets_in + rtcp.packets_in,
            bytes_in: rtp.bytes_in + rtcp.bytes_in,
            packets_out: rtp.packets_out + rtcp.packets_out,
            bytes_out: rtp.bytes_out + rtcp.bytes_out,
            refused: rtp.refused + rtcp.refused,
            quality,
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
    /// Of the packets in, those that went out by a hold without being judged here.
    pub passed: u64,
}

impl Totals {
    /// Counts packets in.
    pub(crate) fn packets_in(&mut self, side: Side, packets: u64, bytes: u64) {
        let side = index(side);
        self.packets_in[side] += packets;
        self.bytes_in[side] += bytes;
    }

    /// Counts packets out.
    pub(crate) fn packets_out(&mut self, side: Side, packets: u64, bytes: u64) {
        let side = index(side);
        self.packets_out[side] += packets;
        self.bytes_out[side] += bytes;
    }

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
