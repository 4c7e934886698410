//! NAT behaviour discovery on the wire (RFC 5780 §7): requests that ask for an
//! answer from elsewhere, to another port, or of a certain size, and what a
//! server with two addresses says.
//!
//! Decides nothing about a NAT (that is `nat::behaviour`), nor whether a request may be served.

use std::net::SocketAddr;

use stun_types::attribute::{
    AttributeStaticType as _, AttributeType, Fingerprint, MappedSocketAddr, RawAttribute, XorMappedAddress,
};
use stun_types::message::{
    BINDING, Message, MessageClass, MessageType, MessageWrite as _, MessageWriteExt as _, MessageWriteVec,
    TransactionId,
};

use super::{Kind, kind, unknown_beside};

pub(super) const CHANGE_REQUEST: AttributeType = AttributeType::new(0x0003);
pub(super) const PADDING: AttributeType = AttributeType::new(0x0026);
pub(super) const RESPONSE_PORT: AttributeType = AttributeType::new(0x0027);
pub(super) const RESPONSE_ORIGIN: AttributeType = AttributeType::new(0x802b);
pub(super) const OTHER_ADDRESS: AttributeType = AttributeType::new(0x802c);

/// The most octets of padding that are asked for or given: with the headers
/// more than an Ethernet frame, so that the datagram is cut in two, and not in three (§7.6).
pub const PADDING_OCTETS: u16 = 1500;

/// What a request asks for beside an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wish {
    /// The answer comes from the server's other IP (CHANGE-REQUEST, §7.2).
    pub other_ip: bool,
    /// The answer comes from the server's other port.
    pub other_port: bool,
    /// The answer goes to this port of the sender's IP (RESPONSE-PORT, §7.5).
    pub to_port: Option<u16>,
    /// Octets of padding, in the request and in the answer (PADDING, §7.6).
    pub padding: u16,
}

/// A Binding request with these wishes, and FINGERPRINT.
pub fn probe(transaction: [u8; 12], wish: Wish) -> Vec<u8> {
    let mut id = [0; 16];
    id[4..].copy_from_slice(&transaction);
    let kind = MessageType::from_class_method(MessageClass::Request, BINDING);
    let id = TransactionId::from(u128::from_be_bytes(id));
    let mut request = Message::builder(kind, id, MessageWriteVec::with_capacity(64));
    // A vector has room, and no attribute comes twice.
    if wish.other_ip || wish.other_port {
        let flags = u8::from(wish.other_ip) << 2 | u8::from(wish.other_port) << 1;
        let _ = request.add_attribute(&RawAttribute::new(CHANGE_REQUEST, &[0, 0, 0, flags]));
    }
    if let Some(port) = wish.to_port {
        let [high, low] = port.to_be_bytes();
        let _ = request.add_attribute(&RawAttribute::new(RESPONSE_PORT, &[high, low, 0, 0]));
    }
    if wish.padding > 0 {
        let _ =
            request.add_attribute(&RawAttribute::new(PADDING, &vec![0; usize::from(wish.padding.min(PADDING_OCTETS))]));
    }
    let _ = request.add_fingerprint();
    request.finish()
}

/// A Binding request of so many octets in all, up to what one packet of Ethernet holds; a
/// server gives no heed to what makes it long, and answers as to any other.
pub fn sized(transaction: [u8; 12], octets: u16) -> Vec<u8> {
    const FILLER: AttributeType = AttributeType::new(0xff51);
    let mut id = [0; 16];
    id[4..].copy_from_slice(&transaction);
    let kind = MessageType::from_class_method(MessageClass::Request, BINDING);
    let id = TransactionId::from(u128::from_be_bytes(id));
    let mut request = Message::builder(kind, id, MessageWriteVec::with_capacity(octets.into()));
    // Both heads are 20 and 4 octets long; lengths are multiples of four.
    let filler = usize::from(octets.min(2044)).saturating_sub(24) & !3;
    let _ = request.add_attribute(&RawAttribute::new(FILLER, &vec![0; filler]));
    request.finish()
}

/// Reads the wishes of a Binding request. `None` where it is none, or wants
/// something else that is not known: the plain answer to it says so.
pub fn read_probe(request: &[u8]) -> Option<Wish> {
    if kind(request) != Kind::BindingRequest {
        return None;
    }
    let message = Message::from_bytes(request).ok()?;
    if !unknown_beside(&message, &[CHANGE_REQUEST, PADDING, RESPONSE_PORT]).is_empty() {
        return None;
    }
    let raw = |kind| message.raw_attribute(kind);
    let flags = raw(CHANGE_REQUEST).and_then(|attribute| attribute.value.get(3).copied()).unwrap_or(0);
    let to_port = match raw(RESPONSE_PORT) {
        Some(attribute) => {
            let port = u16::from_be_bytes([*attribute.value.first()?, *attribute.value.get(1)?]);
            Some(port).filter(|port| *port != 0)
        }
        None => None,
    };
    let padding = raw(PADDING).map_or(0, |attribute| u16::try_from(attribute.value.len()).unwrap_or(u16::MAX));
    Some(Wish { other_ip: flags & 4 != 0, other_port: flags & 2 != 0, to_port, padding: padding.min(PADDING_OCTETS) })
}

/// The success response of a server with two addresses (§6.1): `from` is where
/// the request came from, `origin` where this answer leaves from (§7.3),
/// `other` the address that differs in IP and port (§7.4), where there is one.
/// Padded as the request was. `None` if `request` is no Binding request.
pub fn answer_probe(
    request: &[u8],
    from: SocketAddr,
    origin: SocketAddr,
    other: Option<SocketAddr>,
    padding: u16,
) -> Option<Vec<u8>> {
    let message = Message::from_bytes(request).ok().filter(|_| kind(request) == Kind::BindingRequest)?;
    let from = SocketAddr::new(from.ip().to_canonical(), from.port());
    let mut answer = Message::builder_success(&message, MessageWriteVec::with_capacity(96));
    answer.add_attribute(&XorMappedAddress::new(from, message.transaction_id())).ok()?;
    answer.add_attribute(&MappedSocketAddr::new(origin).to_raw(RESPONSE_ORIGIN)).ok()?;
    if let Some(other) = other {
        answer.add_attribute(&MappedSocketAddr::new(other).to_raw(OTHER_ADDRESS)).ok()?;
    }
    if padding > 0 {
        answer.add_attribute(&RawAttribute::new(PADDING, &vec![0; usize::from(padding.min(PADDING_OCTETS))])).ok()?;
    }
    if message.has_attribute(Fingerprint::TYPE) {
        answer.add_fingerprint().ok()?;
    }
    Some(answer.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stun::{answer, read_answer, request};

    const FROM: &str = "198.51.100.7:40000";

    #[test]
    fn wishes_are_read_as_they_were_written() {
        let wishes = [
            Wish::default(),
            Wish { other_ip: true, other_port: true, ..Wish::default() },
            Wish { other_port: true, ..Wish::default() },
            Wish { to_port: Some(40_001), ..Wish::default() },
            Wish { padding: PADDING_OCTETS, to_port: Some(1), ..Wish::default() },
        ];
        for wish in wishes {
            assert_eq!(read_probe(&probe([7; 12], wish)), Some(wish));
        }
        assert_eq!(probe([7; 12], Wish::default()), request([7; 12]));
        assert_eq!(read_probe(&probe([7; 12], Wish { to_port: Some(0), ..Wish::default() })), Some(Wish::default()));
        assert_eq!(read_probe(b"not stun at all, not at all"), None);
    }

    #[test]
    fn a_server_without_a_second_address_refuses_to_send_elsewhere() {
        let from: SocketAddr = FROM.parse().expect("an address");
        for wish in [
            Wish { other_port: true, ..Wish::default() },
            Wish { to_port: Some(9), ..Wish::default() },
            Wish { padding: 100, ..Wish::default() },
        ] {
            let refused = answer(&probe([7; 12], wish), from).expect("an answer");
            assert_eq!(read_answer(&refused).expect("reads").error, Some(420), "{wish:?}");
        }
    }

    #[test]
    fn the_answer_says_where_it_comes_from_and_where_else_one_may_ask() {
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let (from, origin, other) = (address(FROM), address("203.0.113.1:3478"), address("203.0.113.2:3479"));
        let asked = probe([7; 12], Wish { padding: 1400, ..Wish::default() });
        let bytes = answer_probe(&asked, from, origin, Some(other), 1400).expect("an answer");
        assert!(bytes.len() >= 1400 && bytes.len() <= asked.len() + 48);
        let read = read_answer(&bytes).expect("reads");
        assert_eq!((read.xor_mapped, read.origin, read.other), (Some(from), Some(origin), Some(other)));
        assert!(!read.unknown);
        let plain = answer_probe(&request([7; 12]), from, origin, None, 0).expect("an answer");
        assert_eq!(read_answer(&plain).expect("reads").other, None);
        assert!(answer_probe(b"nothing", from, origin, None, 0).is_none());
    }
}
