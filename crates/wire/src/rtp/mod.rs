//! RTP and RTCP headers (RFC 3550 §5.1, §6), as far as a relay reads them.

pub mod rtcp;

/// The fixed RTP header's fields that a latch needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Synchronisation source.
    pub ssrc: u32,
    /// Sequence number.
    pub sequence: u16,
    /// Timestamp in units of the payload's clock.
    pub timestamp: u32,
    /// Payload type, 0–127.
    pub payload_type: u8,
}

impl Header {
    /// Reads the first 12 octets; `None` if shorter or not version 2.
    pub fn parse(packet: &[u8]) -> Option<Self> {
        let [a, b, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3, ..] = *packet else { return None };
        (a >> 6 == 2).then_some(Self {
            ssrc: u32::from_be_bytes([c0, c1, c2, c3]),
            sequence: u16::from_be_bytes([s0, s1]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            payload_type: b & 0x7f,
        })
    }
}

/// SSRC of the sender of an RTCP packet (§6.4), `None` if too short.
pub fn rtcp_ssrc(packet: &[u8]) -> Option<u32> {
    let [_, _, _, _, c0, c1, c2, c3, ..] = *packet else { return None };
    Some(u32::from_be_bytes([c0, c1, c2, c3]))
}
