//! One packet on a signalling port: told apart, answered, read as an answer.
//! The first octets are the sender's address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use wire::demux::{self, Signalling};
use wire::stun::{Kind, answer, indication, kind, read_answer, request};

use super::choices::Choices;

pub(super) fn run(bytes: &[u8]) {
    let mut choices = Choices::new(bytes);
    let ip: IpAddr = match choices.octet() % 3 {
        0 => Ipv4Addr::from(choices.number()).into(),
        1 => Ipv4Addr::from(choices.number()).to_ipv6_mapped().into(),
        _ => Ipv6Addr::from(u128::from(choices.number()) << 96 | 0xabcd).into(),
    };
    let from = SocketAddr::new(ip, choices.number() as u16);
    packet(choices.rest(), from);
}

fn packet(packet: &[u8], from: SocketAddr) {
    let _ = demux::media(packet);
    let written = answer(packet, from);
    assert_eq!(answer(packet, from), written);
    let read = read_answer(packet);
    assert_eq!(read_answer(packet), read);
    match kind(packet) {
        Kind::BindingRequest | Kind::BindingIndication => assert!(read.is_err()),
        Kind::Response | Kind::Other => assert_eq!(written, None),
    }
    assert!(read.is_err() || kind(packet) == Kind::Response);
    if let Some(written) = written {
        assert_eq!(kind(packet), Kind::BindingRequest);
        answered(packet, &written, from);
    }
    if let Some(id) = packet.first_chunk() {
        ours(*id);
    }
}

/// Whoever forges an address has little of us.
fn answered(packet: &[u8], written: &[u8], from: SocketAddr) {
    // A bare request over IPv6 has 44 octets for its 20.
    assert!(written.len() <= (2 * packet.len()).max(44), "{} octets for {}", written.len(), packet.len());
    assert_eq!(demux::signalling(written), Signalling::Stun);
    let read = read_answer(written).expect("we can read our own answer");
    assert_eq!(read.transaction[..], packet[8..20]);
    match read.error {
        None => assert_eq!(read.xor_mapped, Some(SocketAddr::new(from.ip().to_canonical(), from.port()))),
        Some(error) => assert_eq!((error, read.xor_mapped), (420, None)),
    }
}

/// What we send ourselves.
fn ours(id: [u8; 12]) {
    let mut out = [0; 20];
    let length = indication(id, &mut out);
    assert_eq!(kind(&out[..length]), Kind::BindingIndication);
    let asked = request(id);
    assert_eq!(kind(&asked), Kind::BindingRequest);
    assert!(answer(&asked, "192.0.2.1:1".parse().expect("an address")).is_some());
}
