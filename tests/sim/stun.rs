//! A STUN server (RFC 8489 Binding), as small as can be: it answers with
//! XOR-MAPPED-ADDRESS.

use std::net::IpAddr;

use crate::net::Packet;

const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

/// True for a Binding request.
pub(crate) fn is_request(bytes: &[u8]) -> bool {
    bytes.len() >= 20 && bytes[..2] == [0, 1] && bytes[4..8] == COOKIE
}

/// True for a Binding indication (RFC 5626, RFC 6263 keep-alives).
pub(crate) fn is_indication(bytes: &[u8]) -> bool {
    bytes.len() >= 20 && bytes[..2] == [0, 0x11] && bytes[4..8] == COOKIE
}

/// The answer to a Binding request.
pub(crate) fn answer(packet: &Packet) -> Option<Packet> {
    if !is_request(&packet.bytes) {
        return None;
    }
    let IpAddr::V4(ip) = packet.from.ip() else { return None };
    let mut bytes = vec![1, 1, 0, 12];
    bytes.extend(COOKIE);
    bytes.extend(&packet.bytes[8..20]);
    bytes.extend([0, 0x20, 0, 8, 0, 1]);
    bytes.extend((packet.from.port() ^ 0x2112).to_be_bytes());
    bytes.extend(ip.octets().iter().zip(COOKIE).map(|(a, b)| a ^ b));
    Some(Packet::datagram(packet.to, packet.from, bytes))
}

/// Several servers of one operator, told apart by address.
#[derive(Debug, Default)]
pub(crate) struct StunServer {
    /// Questions answered.
    pub(crate) answered: u64,
}

impl StunServer {
    pub(crate) fn receive(&mut self, packet: &Packet, out: &mut Vec<Packet>) {
        if let Some(reply) = answer(packet) {
            self.answered += 1;
            out.push(reply);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    /// The mapped address in an answer.
    fn mapped(bytes: &[u8]) -> Option<SocketAddr> {
        let at = bytes.windows(6).position(|w| w == [0, 0x20, 0, 8, 0, 1])? + 6;
        let port = u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]) ^ 0x2112;
        let ip: Vec<u8> = bytes.get(at + 2..at + 6)?.iter().zip(COOKIE).map(|(a, b)| a ^ b).collect();
        Some(SocketAddr::from(([ip[0], ip[1], ip[2], ip[3]], port)))
    }

    #[test]
    fn it_says_where_the_question_came_from() {
        let mut bytes = vec![0, 1, 0, 0];
        bytes.extend(COOKIE);
        bytes.extend([7; 12]);
        let from = SocketAddr::from(([203, 0, 113, 9], 40_001));
        let packet = Packet::datagram(from, SocketAddr::from(([198, 51, 100, 53], 3478)), bytes);
        let reply = answer(&packet).expect("an answer");
        assert_eq!(mapped(&reply.bytes), Some(from));
        assert_eq!(answer(&reply), None);
    }
}
