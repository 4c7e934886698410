//! RTP in UDP in IP in Ethernet, by hand, and its sums checked by another sum than the program's.

use std::net::{IpAddr, SocketAddr};

/// A packet, and what is to become of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) source: SocketAddr,
    pub(super) local: SocketAddr,
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) ssrc: u32,
    pub(super) sequence: u16,
    pub(super) timestamp: u32,
    pub(super) tos: u8,
    pub(super) ttl: u8,
}

impl Shape {
    pub(super) fn v4() -> Self {
        Self::between(["198.51.100.7:40000", "192.0.2.1:30000", "10.0.0.1:30002", "203.0.113.5:6000"])
    }

    pub(super) fn v6() -> Self {
        Self::between([
            "[2001:db8:1::7]:40000",
            "[2001:db8:2::1]:30000",
            "[2001:db8:3::1]:30002",
            "[2001:db8:4::5]:6000",
        ])
    }

    fn between(addresses: [&str; 4]) -> Self {
        let [source, local, from, to] = addresses.map(|address| address.parse().unwrap());
        Self { source, local, from, to, ssrc: 0x1234_5678, sequence: 7, timestamp: 16_000, tos: 3, ttl: 50 }
    }

    pub(super) fn next(self) -> Self {
        let (sequence, timestamp) = (self.sequence.wrapping_add(1), self.timestamp.wrapping_add(160));
        Self { sequence, timestamp, ..self }
    }

    /// Where UDP begins.
    pub(super) fn udp(&self) -> usize {
        14 + if self.source.is_ipv4() { 20 } else { 40 }
    }

    /// Where the IP addresses are.
    pub(super) fn place_of_addresses(&self) -> (usize, usize) {
        if self.source.is_ipv4() { (26, 34) } else { (22, 54) }
    }

    /// From source to local, with these octets after the RTP header.
    pub(super) fn packet(&self, payload: &[u8]) -> Vec<u8> {
        let mut rtp = vec![0x80, 0];
        rtp.extend(self.sequence.to_be_bytes());
        rtp.extend(self.timestamp.to_be_bytes());
        rtp.extend(self.ssrc.to_be_bytes());
        rtp.extend(payload);
        let mut udp = [self.source.port().to_be_bytes(), self.local.port().to_be_bytes()].concat();
        udp.extend(((rtp.len() + 8) as u16).to_be_bytes());
        udp.extend([0, 0]);
        udp.extend(rtp);
        let addresses = [octets(self.source.ip()), octets(self.local.ip())].concat();
        let mut sum = sum16(&[pseudo(&addresses, udp.len()), udp.clone()].concat());
        if sum == 0 {
            sum = 0xffff;
        }
        udp[6..8].copy_from_slice(&sum.to_be_bytes());
        let mut packet = vec![0; 12];
        if self.source.is_ipv4() {
            packet.extend([8, 0]);
            let mut ip = vec![0x45, self.tos];
            ip.extend(((udp.len() + 20) as u16).to_be_bytes());
            ip.extend([0xab, 0xcd, 0x40, 0, self.ttl, 17, 0, 0]);
            ip.extend(&addresses);
            let sum = sum16(&ip);
            ip[10..12].copy_from_slice(&sum.to_be_bytes());
            packet.extend(ip);
        } else {
            packet.extend([0x86, 0xdd, 0x60 | self.tos >> 4, self.tos << 4, 0, 0]);
            packet.extend((udp.len() as u16).to_be_bytes());
            packet.extend([17, self.ttl]);
            packet.extend(&addresses);
        }
        packet.extend(udp);
        packet
    }
}

pub(super) fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn pseudo(addresses: &[u8], length: usize) -> Vec<u8> {
    [addresses, &[0, 17], &(length as u16).to_be_bytes()].concat()
}

/// RFC 1071, two octets at a time.
fn sum16(octets: &[u8]) -> u16 {
    let sum: u32 =
        octets.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |b| u32::from(*b))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}

/// Does a receiver find the sums of IP and UDP right?
pub(super) fn sum_is_right(packet: &[u8]) -> bool {
    let (header, addresses, udp) = match packet.get(12..14) {
        Some([8, 0]) => (packet.get(14..34), packet.get(26..34), packet.get(34..)),
        Some([0x86, 0xdd]) => (Some(&[][..]), packet.get(22..54), packet.get(54..)),
        _ => return false,
    };
    let (Some(header), Some(addresses), Some(udp)) = (header, addresses, udp) else { return false };
    let header_right = header.is_empty() || sum16(header) == 0;
    let none = udp.get(6..8) == Some(&[0, 0]);
    header_right && (none || sum16(&[pseudo(addresses, udp.len()), udp.to_vec()].concat()) == 0)
}
