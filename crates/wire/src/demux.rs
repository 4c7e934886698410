//! What kind of packet is this? RFC 7983 on media ports; SIP, STUN or
//! keep-alive on signalling ports.

/// Kinds of packet on a media port, by first octet (RFC 7983 §7) and, for
/// RTP against RTCP, by payload type (RFC 5761 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Media {
    /// 128–191, payload type outside 64–95 (of the low seven bits).
    Rtp,
    /// 128–191, second octet 192–223.
    Rtcp,
    /// 0–3 with the magic cookie (RFC 8489 §5).
    Stun,
    /// 20–63.
    Dtls,
    /// 64–79: TURN channel data.
    Channel,
    /// 16–19: ZRTP.
    Zrtp,
    /// Anything else, empty packets included.
    Unknown,
}

/// Kinds of datagram on a signalling port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signalling {
    /// Looks like a SIP message: to be indexed.
    Sip,
    /// STUN by first octet, length and magic cookie.
    Stun,
    /// CRLFs, zero octets or nothing at all: a keep-alive, no answer due.
    KeepAlive,
}

/// Classifies a packet that came in on a media port.
pub fn media(packet: &[u8]) -> Media {
    match packet {
        [128..=191, second, ..] if packet.len() >= 8 && (192..=223).contains(second) => Media::Rtcp,
        [128..=191, ..] if packet.len() >= 12 => Media::Rtp,
        [0..=3, ..] if is_stun(packet) => Media::Stun,
        [20..=63, ..] => Media::Dtls,
        [64..=79, ..] => Media::Channel,
        [16..=19, ..] => Media::Zrtp,
        _ => Media::Unknown,
    }
}

/// Classifies a datagram that came in on a signalling port.
pub fn signalling(datagram: &[u8]) -> Signalling {
    if is_stun(datagram) {
        Signalling::Stun
    } else if datagram.iter().all(|b| matches!(b, b'\r' | b'\n' | 0 | b' ')) {
        Signalling::KeepAlive
    } else {
        Signalling::Sip
    }
}

fn is_stun(packet: &[u8]) -> bool {
    packet.len() >= 20 && packet[0] < 4 && packet[4..8] == [0x21, 0x12, 0xa4, 0x42]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A packet of `length` octets that begins so.
    fn packet(start: &[u8], length: usize) -> Vec<u8> {
        let mut packet = start.to_vec();
        packet.resize(length, 0);
        packet
    }

    const BINDING: [u8; 8] = [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];

    #[test]
    fn media_by_first_octets() {
        for (start, length, kind) in [
            (&[0x80, 0][..], 12, Media::Rtp),
            (&[0x80, 0x80 | 96], 172, Media::Rtp),
            (&[0xbf, 63], 12, Media::Rtp),
            (&[0x80, 0], 11, Media::Unknown),
            (&[0x80, 200], 8, Media::Rtcp),
            (&[0x81, 223], 32, Media::Rtcp),
            (&[0x80, 200], 7, Media::Unknown),
            (&[0x80, 224], 12, Media::Rtp),
            (&BINDING, 20, Media::Stun),
            (&BINDING, 19, Media::Unknown),
            (&[0, 1], 20, Media::Unknown),
            (&[22], 13, Media::Dtls),
            (&[0x40, 0], 4, Media::Channel),
            (&[16], 12, Media::Zrtp),
            (&[4], 20, Media::Unknown),
            (&[192], 20, Media::Unknown),
            (&[], 0, Media::Unknown),
        ] {
            assert_eq!(media(&packet(start, length)), kind, "{start:?} {length}");
        }
    }

    #[test]
    fn signalling_datagrams() {
        for (datagram, kind) in [
            (&b""[..], Signalling::KeepAlive),
            (b"\r\n\r\n", Signalling::KeepAlive),
            (b"\0\0\0\0", Signalling::KeepAlive),
            (b"\r\n\r\nINVITE", Signalling::Sip),
            (b"\0INVITE", Signalling::Sip),
            (&packet(&BINDING, 20), Signalling::Stun),
        ] {
            assert_eq!(signalling(datagram), kind, "{datagram:?}");
        }
    }
}
