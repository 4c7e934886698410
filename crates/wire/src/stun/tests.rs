//! STUN by the test vectors of RFC 5769, by hand-made packets and by any bytes.

use std::net::SocketAddr;

use proptest::prelude::*;

use super::{Kind, Unreadable, answer, indication, kind, read_answer, request};

const ID: [u8; 12] = [0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae];

/// RFC 5769 §2.2, the IPv4 response.
const RFC5769_RESPONSE: &[u8] = b"\x01\x01\x00\x3c\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae\
    \x80\x22\x00\x0b\x74\x65\x73\x74\x20\x76\x65\x63\x74\x6f\x72\x20\
    \x00\x20\x00\x08\x00\x01\xa1\x47\xe1\x12\xa6\x43\
    \x00\x08\x00\x14\x2b\x91\xf5\x99\xfd\x9e\x90\xc3\x8c\x74\x89\xf9\x2a\xf9\xba\x53\xf0\x6b\xe7\xd7\
    \x80\x28\x00\x04\xc0\x7d\x4c\x96";

fn packet(kind: u16, attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (kind, value) in attributes {
        body.extend_from_slice(&kind.to_be_bytes());
        body.extend_from_slice(&(value.len() as u16).to_be_bytes());
        body.extend_from_slice(value);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    let mut out = kind.to_be_bytes().to_vec();
    out.extend_from_slice(&(body.len() as u16).to_be_bytes());
    out.extend_from_slice(&[0x21, 0x12, 0xa4, 0x42]);
    out.extend_from_slice(&ID);
    out.extend_from_slice(&body);
    out
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

#[test]
fn kinds() {
    let cases = [
        (packet(0x0001, &[]), Kind::BindingRequest),
        (packet(0x0011, &[]), Kind::BindingIndication),
        (packet(0x0101, &[]), Kind::Response),
        (packet(0x0111, &[]), Kind::Response),
        (packet(0x0003, &[]), Kind::Other),
        (packet(0x0103, &[]), Kind::Other),
        (packet(0x0001, &[])[..19].to_vec(), Kind::Other),
        ([packet(0x0001, &[]), vec![0; 4]].concat(), Kind::Other),
        (packet(0x0001, &[(0x8022, &[0; 4000])]), Kind::Other),
        (Vec::new(), Kind::Other),
    ];
    for (packet, expected) in cases {
        assert_eq!(kind(&packet), expected, "{packet:?}");
    }
}

#[test]
fn an_indication_is_twenty_octets() {
    let mut out = [0; 20];
    assert_eq!(indication(ID, &mut out), 20);
    assert_eq!(out[..], packet(0x0011, &[])[..]);
    assert_eq!(kind(&out), Kind::BindingIndication);
}

#[test]
fn a_request_is_answered_with_its_source() {
    for from in ["192.0.2.1:32853", "[2001:db8:1234:5678:11:2233:4455:6677]:32853"].map(address) {
        for ask in [request(ID), packet(0x0001, &[]), packet(0x0001, &[(0x8022, b"phone")])] {
            let reply = answer(&ask, from).expect("an answer");
            let bare_v6 = ask.len() == 20 && from.is_ipv6();
            assert!(reply.len() <= if bare_v6 { 44 } else { 2 * ask.len() });
            let read = read_answer(&reply).expect("reads");
            assert_eq!((read.transaction, read.xor_mapped, read.mapped), (ID, Some(from), None));
            assert_eq!((read.error, read.unknown), (None, false));
            let fingerprint =
                |packet: &[u8]| packet.len() >= 28 && packet[packet.len() - 8..][..4] == [0x80, 0x28, 0, 4];
            assert_eq!(fingerprint(&reply), fingerprint(&ask));
        }
    }
    let reply = answer(&request(ID), address("[::ffff:192.0.2.1]:7")).expect("an answer");
    assert_eq!(read_answer(&reply).expect("reads").xor_mapped, Some(address("192.0.2.1:7")));
}

#[test]
fn what_is_no_request_gets_no_answer() {
    let mut damaged = request(ID);
    damaged[27] ^= 1;
    for packet in [packet(0x0011, &[]), packet(0x0101, &[]), damaged, packet(0x0001, &[(0x0006, &[])])[..22].to_vec()] {
        assert_eq!(answer(&packet, address("192.0.2.1:1")), None);
    }
}

#[test]
fn a_request_to_answer_from_elsewhere_is_refused() {
    for (kind, value) in [(0x0003, &[0, 0, 0, 6][..]), (0x0002, &[0, 1, 0, 9, 192, 0, 2, 9][..])] {
        let ask = packet(0x0001, &[(kind, value)]);
        let reply = answer(&ask, address("192.0.2.1:1")).expect("an answer");
        assert!(reply.len() <= 2 * ask.len());
        let read = read_answer(&reply).expect("reads");
        assert_eq!((read.error, read.xor_mapped), (Some(420), None));
    }
}

#[test]
fn answers_are_read() {
    let read = read_answer(RFC5769_RESPONSE).expect("reads");
    assert_eq!((read.transaction, read.xor_mapped), (ID, Some(address("192.0.2.1:32853"))));
    let old = packet(0x0101, &[(0x0001, &[0, 1, 0x80, 0x55, 192, 0, 2, 1])]);
    let read = read_answer(&old).expect("reads");
    assert_eq!((read.xor_mapped, read.mapped), (None, Some(address("192.0.2.1:32853"))));
    let strange = packet(0x0101, &[(0x7777, &[0; 4])]);
    assert!(read_answer(&strange).expect("reads").unknown);
    let refused = packet(0x0111, &[(0x0009, &[0, 0, 4, 1])]);
    assert_eq!(read_answer(&refused).expect("reads").error, Some(401));
    assert_eq!(read_answer(&packet(0x0111, &[])).expect("reads").error, Some(500));
}

#[test]
fn damaged_answers_are_told_apart() {
    let mut damaged = RFC5769_RESPONSE.to_vec();
    damaged[50] ^= 1;
    assert_eq!(read_answer(&damaged), Err(Unreadable::Damaged(ID)));
    assert_eq!(read_answer(&request(ID)), Err(Unreadable::NotAResponse));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(
        kind_bits in any::<u16>(),
        attributes in prop::collection::vec((any::<u16>(), prop::collection::vec(any::<u8>(), 0..24)), 0..6),
        cut in any::<prop::sample::Index>(),
        flip in any::<(prop::sample::Index, u8)>(),
    ) {
        let attributes: Vec<_> = attributes.iter().map(|(kind, value)| (*kind, &value[..])).collect();
        let mut bytes = packet(kind_bits & 0x0111 | 1, &attributes);
        let at = flip.0.index(bytes.len());
        bytes[at] ^= flip.1;
        for packet in [&bytes[..], &bytes[..cut.index(bytes.len())]] {
            let _ = (kind(packet), read_answer(packet));
            if let Some(reply) = answer(packet, address("[2001:db8::1]:9")) {
                prop_assert!(reply.len() <= (2 * packet.len()).max(44));
            }
        }
    }
}
