//! PCP (RFC 6887) and NAT-PMP (RFC 6886) as octets: requests are composed,
//! responses read. Both speak to port 5351 of the gateway and tell by the first
//! octet which of the two they are. IPv4 only.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};

/// Where a gateway is asked.
pub const SERVER_PORT: u16 = 5351;
/// Where a gateway tells all hosts at once (224.0.0.1) that it has begun anew.
pub const ANNOUNCE_PORT: u16 = 5350;

const PCP: u8 = 2;
const RESPONSE: u8 = 0x80;
const ANNOUNCE: u8 = 0;
const MAP: u8 = 1;
const HEADER: usize = 24;
const MAP_LEN: usize = HEADER + 36;

/// What a mapping is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Proto {
    /// Datagrams.
    Udp,
    /// Connections.
    Tcp,
}

impl Proto {
    /// As people and UPnP write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
        }
    }

    /// Its number in the IP header.
    fn number(self) -> u8 {
        match self {
            Self::Udp => 17,
            Self::Tcp => 6,
        }
    }

    /// Its opcode in NAT-PMP.
    fn opcode(self) -> u8 {
        match self {
            Self::Udp => 1,
            Self::Tcp => 2,
        }
    }
}

/// A mapping that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MapRequest {
    /// UDP or TCP.
    pub proto: Proto,
    /// Our port.
    pub internal: u16,
    /// The wished public port; any, if 0.
    pub external: u16,
    /// Seconds; 0 removes the mapping.
    pub lifetime: u32,
}

/// A response, or an announcement, which looks the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// PCP.
    Pcp {
        /// 0 for success (RFC 6887 §7.4).
        result: u8,
        /// Seconds that a mapping, or an error, lasts.
        lifetime: u32,
        /// Seconds since the server began (§8.5).
        epoch: u32,
        /// What a MAP response says.
        map: Option<PcpMap>,
    },
    /// NAT-PMP.
    NatPmp {
        /// 0 for success (RFC 6886 §3.5).
        result: u16,
        /// Seconds since the gateway began (§3.6); 0 where an error came without.
        epoch: u32,
        /// What a successful response says.
        told: Option<Told>,
    },
}

/// The body of a MAP response (RFC 6887 §11.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PcpMap {
    /// That of the request.
    pub nonce: [u8; 12],
    /// UDP or TCP.
    pub proto: Proto,
    /// Our port.
    pub internal: u16,
    /// The public address and port.
    pub external: SocketAddrV4,
}

/// What a NAT-PMP response says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// The gateway's public address (§3.2).
    External(Ipv4Addr),
    /// A mapping (§3.3).
    Mapped {
        /// UDP or TCP.
        proto: Proto,
        /// Our port.
        internal: u16,
        /// The public port.
        external: u16,
        /// Seconds.
        lifetime: u32,
    },
}

/// "Are you there, and since when?" (RFC 6887 §14.1.) `client`: the address that this leaves from.
pub fn pcp_announce(client: Ipv4Addr) -> Vec<u8> {
    pcp_header(ANNOUNCE, 0, client)
}

/// A mapping for ourselves alone (RFC 6887 §11.1): no THIRD_PARTY option is ever written.
pub fn pcp_map(client: Ipv4Addr, nonce: [u8; 12], wish: MapRequest) -> Vec<u8> {
    let mut packet = pcp_header(MAP, wish.lifetime, client);
    packet.extend(nonce);
    packet.extend([wish.proto.number(), 0, 0, 0]);
    packet.extend(wish.internal.to_be_bytes());
    packet.extend(wish.external.to_be_bytes());
    packet.extend(Ipv4Addr::UNSPECIFIED.to_ipv6_mapped().octets());
    packet
}

fn pcp_header(opcode: u8, lifetime: u32, client: Ipv4Addr) -> Vec<u8> {
    let mut packet = Vec::with_capacity(MAP_LEN);
    packet.extend([PCP, opcode, 0, 0]);
    packet.extend(lifetime.to_be_bytes());
    packet.extend(client.to_ipv6_mapped().octets());
    packet
}

/// "What is your public address?" (RFC 6886 §3.2.)
pub fn natpmp_external() -> Vec<u8> {
    vec![0, 0]
}

/// A mapping (RFC 6886 §3.3); with lifetime 0 it is removed (§3.4), and then no public port is wished.
pub fn natpmp_map(wish: MapRequest) -> Vec<u8> {
    let external = if wish.lifetime == 0 { 0 } else { wish.external };
    let mut packet = vec![0, wish.proto.opcode(), 0, 0];
    packet.extend(wish.internal.to_be_bytes());
    packet.extend(external.to_be_bytes());
    packet.extend(wish.lifetime.to_be_bytes());
    packet
}

/// Reads a response or an announcement. `None`: it is neither, or not whole.
pub fn read(packet: &[u8]) -> Option<Answer> {
    let (version, opcode) = (*packet.first()?, *packet.get(1)?);
    if opcode & RESPONSE == 0 {
        return None;
    }
    match version {
        PCP => read_pcp(opcode & !RESPONSE, packet),
        0 => read_natpmp(opcode & !RESPONSE, packet),
        _ => None,
    }
}

fn read_pcp(opcode: u8, packet: &[u8]) -> Option<Answer> {
    // RFC 6887 §8.3: whole words, no longer than 1100 octets.
    if packet.len() < HEADER || packet.len() > 1100 || !packet.len().is_multiple_of(4) {
        return None;
    }
    let (result, lifetime, epoch) = (packet[3], u32_at(packet, 4)?, u32_at(packet, 8)?);
    let map = if opcode == MAP { read_map(packet) } else { None };
    if opcode == MAP && result == 0 && map.is_none() {
        return None;
    }
    Some(Answer::Pcp { result, lifetime, epoch, map })
}

fn read_map(packet: &[u8]) -> Option<PcpMap> {
    let body = packet.get(HEADER..MAP_LEN)?;
    let proto = [Proto::Udp, Proto::Tcp].into_iter().find(|proto| proto.number() == body[12])?;
    let ip: [u8; 16] = body[20..36].try_into().ok()?;
    let ip = Ipv6Addr::from(ip).to_ipv4_mapped()?;
    let external = SocketAddrV4::new(ip, u16_at(body, 18)?);
    Some(PcpMap { nonce: body[..12].try_into().ok()?, proto, internal: u16_at(body, 16)?, external })
}

fn read_natpmp(opcode: u8, packet: &[u8]) -> Option<Answer> {
    let result = u16_at(packet, 2)?;
    if result != 0 {
        // Errors may be cut short (RFC 6886 §3.5).
        return Some(Answer::NatPmp { result, epoch: u32_at(packet, 4).unwrap_or(0), told: None });
    }
    let epoch = u32_at(packet, 4)?;
    let proto = [Proto::Udp, Proto::Tcp].into_iter().find(|proto| proto.opcode() == opcode);
    let told = match proto {
        None if opcode == 0 => Told::External(Ipv4Addr::from(u32_at(packet, 8)?)),
        None => return None,
        Some(proto) => Told::Mapped {
            proto,
            internal: u16_at(packet, 8)?,
            external: u16_at(packet, 10)?,
            lifetime: u32_at(packet, 12)?,
        },
    };
    Some(Answer::NatPmp { result, epoch, told: Some(told) })
}

fn u16_at(packet: &[u8], at: usize) -> Option<u16> {
    packet.get(at..at + 2)?.try_into().ok().map(u16::from_be_bytes)
}

fn u32_at(packet: &[u8], at: usize) -> Option<u32> {
    packet.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 2);
    const WISH: MapRequest = MapRequest { proto: Proto::Udp, internal: 5070, external: 5070, lifetime: 3600 };

    /// The response that a server would give to a MAP request.
    fn granted(request: &[u8], epoch: u32, external: SocketAddrV4) -> Vec<u8> {
        let mut packet = request.to_vec();
        packet[1] |= RESPONSE;
        packet[8..12].copy_from_slice(&epoch.to_be_bytes());
        packet[12..24].fill(0);
        packet[42..44].copy_from_slice(&external.port().to_be_bytes());
        packet[44..60].copy_from_slice(&external.ip().to_ipv6_mapped().octets());
        packet
    }

    #[test]
    fn a_pcp_mapping_is_asked_for_and_read() {
        let request = pcp_map(CLIENT, [7; 12], WISH);
        assert_eq!(
            (request.len(), &request[..4], &request[4..8]),
            (60, &[2, 1, 0, 0][..], &3600_u32.to_be_bytes()[..])
        );
        assert_eq!(&request[18..24], &[0xff, 0xff, 192, 168, 1, 2]);
        assert_eq!((request[36], &request[40..44]), (17, &[0x13, 0xce, 0x13, 0xce][..]));
        let external = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 9), 5070);
        let map = PcpMap { nonce: [7; 12], proto: Proto::Udp, internal: 5070, external };
        let read_back = read(&granted(&request, 99, external));
        assert_eq!(read_back, Some(Answer::Pcp { result: 0, lifetime: 3600, epoch: 99, map: Some(map) }));
        assert_eq!(pcp_announce(CLIENT).len(), 24);
    }

    #[test]
    fn natpmp_is_asked_and_read() {
        assert_eq!(natpmp_external(), [0, 0]);
        assert_eq!(natpmp_map(WISH), [0, 1, 0, 0, 0x13, 0xce, 0x13, 0xce, 0, 0, 0x0e, 0x10]);
        let removed = MapRequest { lifetime: 0, proto: Proto::Tcp, ..WISH };
        assert_eq!(natpmp_map(removed), [0, 2, 0, 0, 0x13, 0xce, 0, 0, 0, 0, 0, 0]);
        let told = Told::External(Ipv4Addr::new(203, 0, 113, 9));
        let packet = [0, 128, 0, 0, 0, 0, 0, 9, 203, 0, 113, 9];
        assert_eq!(read(&packet), Some(Answer::NatPmp { result: 0, epoch: 9, told: Some(told) }));
        let told = Told::Mapped { proto: Proto::Udp, internal: 5070, external: 5071, lifetime: 60 };
        let packet = [0, 129, 0, 0, 0, 0, 0, 9, 0x13, 0xce, 0x13, 0xcf, 0, 0, 0, 60];
        assert_eq!(read(&packet), Some(Answer::NatPmp { result: 0, epoch: 9, told: Some(told) }));
    }

    #[test]
    fn a_natpmp_gateway_says_that_it_knows_no_pcp() {
        // RFC 6887 §9: version 0, result 1.
        let answer = read(&[0, 129, 0, 1, 0, 0, 0, 5]);
        assert_eq!(answer, Some(Answer::NatPmp { result: 1, epoch: 5, told: None }));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_left(mut packet in proptest::collection::vec(any::<u8>(), 0..80), version in 0_u8..3) {
            if let Some(first) = packet.first_mut() {
                *first = version;
            }
            if let Some(Answer::Pcp { map: Some(_), .. }) = read(&packet) {
                prop_assert!(packet.len() >= MAP_LEN);
            }
        }
    }
}
