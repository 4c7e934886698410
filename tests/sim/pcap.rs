//! A run as a capture file (libpcap 2.4, raw IPv4), to be opened in Wireshark:
//! what each receiver saw, with virtual times.

use std::net::IpAddr;

use crate::clock::Time;
use crate::net::{Carrier, Packet, Step};

/// A capture file in memory.
#[derive(Debug)]
pub(crate) struct Capture(Vec<u8>);

const RAW_IP: u32 = 101;

impl Capture {
    pub(crate) fn new() -> Self {
        let mut file = Vec::new();
        for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, RAW_IP] {
            file.extend(word.to_le_bytes());
        }
        Self(file)
    }

    /// What is said over a stream stands there as if it were a datagram; its handshakes do not.
    pub(crate) fn add(&mut self, at: Time, packet: &Packet) {
        if matches!(packet.carrier, Carrier::Segment(step) if step != Step::Octets) {
            return;
        }
        let (IpAddr::V4(from), IpAddr::V4(to)) = (packet.from.ip(), packet.to.ip()) else { return };
        let udp = 8 + packet.bytes.len() as u16;
        let mut ip = vec![0x45, 0];
        ip.extend((20 + udp).to_be_bytes());
        ip.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
        ip.extend(from.octets());
        ip.extend(to.octets());
        let sum = checksum(&ip);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        for half in [packet.from.port(), packet.to.port(), udp, 0] {
            ip.extend(half.to_be_bytes());
        }
        ip.extend(&packet.bytes);
        let len = ip.len() as u32;
        for word in [at.as_secs() as u32, at.subsec_micros(), len, len] {
            self.0.extend(word.to_le_bytes());
        }
        self.0.extend(ip);
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// RFC 1071, over the header with a checksum of zero.
fn checksum(header: &[u8]) -> u16 {
    let sum: u32 = header.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !(((folded & 0xffff) + (folded >> 16)) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_a_sound_ip_header() {
        let (from, to) = ("192.0.2.1:5060", "198.51.100.1:5060");
        let mut capture = Capture::new();
        let at = |text: &str| text.parse().expect("a literal address");
        capture.add(Time::from_millis(1500), &Packet::datagram(at(from), at(to), b"hello".to_vec()));
        let record = &capture.bytes()[24..];
        assert_eq!(record[..4], 1_u32.to_le_bytes());
        let header = &record[16..36];
        let sum: u32 = header.chunks(2).map(|p| u32::from(u16::from_be_bytes([p[0], p[1]]))).sum();
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff, "RFC 1071: the sum over a sound header is all ones");
        assert_eq!(&record[44..], b"hello");
    }
}
