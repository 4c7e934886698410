//! Ethernet frames with IPv4, UDP and RTP: 20 ms of G.711, written once per leg; what changes from packet to packet is
//! written over, with its part of the UDP checksum.

use std::net::SocketAddrV4;

/// Octets of a frame: 14 Ethernet, 20 IPv4, 8 UDP, 12 RTP, 160 audio.
pub(super) const LENGTH: usize = AUDIO + 160;
const IP: usize = 14;
const UDP: usize = IP + 20;
const RTP: usize = UDP + 8;
const AUDIO: usize = RTP + 12;
/// What the audio of one packet begins with: when it was sent (8 octets) and by which leg (4).
const MARK: usize = 12;

/// One leg's next packet.
pub(super) struct Frame {
    pub(super) bytes: [u8; LENGTH],
    /// Sum of all that the UDP checksum covers and that stays.
    fixed: u32,
    sequence: u16,
    timestamp: u32,
}

impl Frame {
    pub(super) fn new(macs: [[u8; 6]; 2], from: SocketAddrV4, to: SocketAddrV4, leg: u32) -> Self {
        let mut bytes = [0xd5; LENGTH];
        bytes[..6].copy_from_slice(&macs[1]);
        bytes[6..12].copy_from_slice(&macs[0]);
        bytes[12..14].copy_from_slice(&[8, 0]);
        let total = u16::try_from(LENGTH - IP).expect("a small packet");
        bytes[IP..UDP].copy_from_slice(&[0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        bytes[IP + 2..IP + 4].copy_from_slice(&total.to_be_bytes());
        bytes[IP + 12..IP + 16].copy_from_slice(&from.ip().octets());
        bytes[IP + 16..UDP].copy_from_slice(&to.ip().octets());
        let checksum = !folded(sum(&bytes[IP..UDP]));
        bytes[IP + 10..IP + 12].copy_from_slice(&checksum.to_be_bytes());
        let length = total - 20;
        bytes[UDP..UDP + 2].copy_from_slice(&from.port().to_be_bytes());
        bytes[UDP + 2..UDP + 4].copy_from_slice(&to.port().to_be_bytes());
        bytes[UDP + 4..UDP + 6].copy_from_slice(&length.to_be_bytes());
        bytes[UDP + 6..RTP].fill(0);
        bytes[RTP..AUDIO].fill(0);
        bytes[RTP] = 0x80;
        bytes[RTP + 8..AUDIO].copy_from_slice(&(0x5349_0000 | leg).to_be_bytes());
        bytes[AUDIO..AUDIO + 8].fill(0);
        bytes[AUDIO + 8..AUDIO + MARK].copy_from_slice(&leg.to_be_bytes());
        let pseudo = sum(&bytes[IP + 12..UDP]) + 17 + u32::from(length);
        let fixed = pseudo + sum(&bytes[UDP..]);
        Self { bytes, fixed, sequence: 0, timestamp: 0 }
    }

    /// The next packet, sent at `now`.
    pub(super) fn next(&mut self, now: u64) {
        self.sequence = self.sequence.wrapping_add(1);
        self.timestamp = self.timestamp.wrapping_add(160);
        self.bytes[RTP + 2..RTP + 4].copy_from_slice(&self.sequence.to_be_bytes());
        self.bytes[RTP + 4..RTP + 8].copy_from_slice(&self.timestamp.to_be_bytes());
        self.bytes[AUDIO..AUDIO + 8].copy_from_slice(&now.to_be_bytes());
        let changed = sum(&self.bytes[RTP + 2..RTP + 8]) + sum(&self.bytes[AUDIO..AUDIO + 8]);
        let checksum = match !folded(self.fixed + changed) {
            0 => 0xffff,
            checksum => checksum,
        };
        self.bytes[UDP + 6..RTP].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// What a received frame says: where it went, when it was sent, by which leg. `None` if it is none of ours.
pub(super) fn read(bytes: &[u8]) -> Option<(SocketAddrV4, u64, usize)> {
    if bytes.len() < AUDIO + MARK || bytes[12..14] != [8, 0] || bytes[IP] != 0x45 || bytes[IP + 9] != 17 {
        return None;
    }
    let four = |at: usize| <[u8; 4]>::try_from(&bytes[at..at + 4]).ok();
    let port = u16::from_be_bytes([bytes[UDP + 2], bytes[UDP + 3]]);
    let sent = u64::from_be_bytes(bytes[AUDIO..AUDIO + 8].try_into().ok()?);
    let leg = usize::try_from(u32::from_be_bytes(four(AUDIO + 8)?)).ok()?;
    (port >= crate::sip::MEDIA).then(|| four(IP + 16).map(|ip| (SocketAddrV4::new(ip.into(), port), sent, leg)))?
}

fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum()
}

fn folded(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).expect("folded")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_true_checksums_and_is_read_back() {
        let (from, to) = ("10.77.1.1:32768".parse().unwrap(), "10.77.2.3:40000".parse().unwrap());
        let mut frame = Frame::new([[2; 6]; 2], from, to, 7);
        for now in [1, 0x0123_4567_89ab_cdef] {
            frame.next(now);
            assert_eq!(folded(sum(&frame.bytes[IP..UDP])), 0xffff, "IPv4 header");
            let pseudo = sum(&frame.bytes[IP + 12..UDP]) + 17 + u32::from_be_bytes([0, 0, 0, 180]);
            assert_eq!(folded(pseudo + sum(&frame.bytes[UDP..])), 0xffff, "UDP");
            assert_eq!(read(&frame.bytes), Some((to, now, 7)));
        }
    }
}
