//! A rule as the kernel's program reads it: `struct key` and `struct rule` of
//! `bpf/relay.bpf.c`, octet for octet.
//!
//! Makes one of a hold, the pace of its stream and the way out. Must not decide
//! whether there is to be one.

use std::net::{IpAddr, SocketAddr};

use media::Pace;

use super::netlink::Way;
use crate::clock;

/// An IPv6 address, or a mapped IPv4 one (RFC 4291 §2.5.5.2), as it is on the wire.
pub(super) type Address = [u8; 16];

/// Whose packets, to where.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Key {
    local: Address,
    source: Address,
    source_port: [u8; 2],
    local_port: [u8; 2],
}

/// What a rule knows of; it is void when there is more to know.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Standing {
    /// The routes.
    pub(super) epoch: u32,
    /// Its stream, as [`Orders`](super::sys::Orders) counts.
    pub(super) stream: u32,
    /// Orders for that.
    pub(super) orders: u32,
}

/// What to do with them, and what was done.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Rule {
    pub(super) key: Key,
    pub(super) standing: Standing,
    from: Address,
    to: Address,
    from_port: [u8; 2],
    to_port: [u8; 2],
    address_diff: u32,
    port_diff: u32,
    tos: u8,
    ttl: u8,
    most: u16,
    ifindex: u32,
    hop_family: u32,
    hop: Address,
    ssrc: u32,
    pub(super) timestamp: u32,
    sequence: u16,
    payload_type: u8,
    unused: [u8; 5],
    tick: i64,
    pub(super) jitter: u64,
    pub(super) at: u64,
    pub(super) packets: u64,
    pub(super) bytes: u64,
}

const _: () = assert!(size_of::<Key>() == 36 && size_of::<Rule>() == 176);

/// How packets leave: from one socket's address to one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exit {
    /// Our address on the far leg.
    pub(super) from: SocketAddr,
    /// The peer there.
    pub(super) to: SocketAddr,
    /// The octet of DSCP and ECN.
    pub(super) tos: u8,
    /// Hop limit of a fresh packet.
    pub(super) ttl: u8,
    /// By which interface and neighbour.
    pub(super) way: Way,
    /// The kernel is to find the route itself: it leads to a socket, not to a neighbour.
    pub(super) routed: bool,
}

impl Key {
    /// Packets from `source` to our address `local`.
    pub(super) fn new(local: SocketAddr, source: SocketAddr) -> Self {
        Self {
            local: octets(local.ip()),
            source: octets(source.ip()),
            source_port: source.port().to_be_bytes(),
            local_port: local.port().to_be_bytes(),
        }
    }
}

impl Rule {
    /// Good while nothing is newer than `standing`; `local` and `source` as in the key.
    pub(super) fn new(standing: Standing, local: SocketAddr, source: SocketAddr, exit: &Exit, pace: &Pace) -> Self {
        let ports = |from: SocketAddr, to: SocketAddr| {
            let ([a, b], [c, d]) = (from.port().to_be_bytes(), to.port().to_be_bytes());
            [a, b, c, d]
        };
        let hop = exit.way.hop.unwrap_or(exit.to.ip());
        let mut hop_octets = [0; 16];
        match hop {
            IpAddr::V4(ip) => hop_octets[..4].copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) => hop_octets = ip.octets(),
        }
        let before = [words(local.ip()), words(source.ip())];
        let after = [words(exit.from.ip()), words(exit.to.ip())];
        Self {
            key: Key::new(local, source),
            standing,
            from: octets(exit.from.ip()),
            to: octets(exit.to.ip()),
            from_port: exit.from.port().to_be_bytes(),
            to_port: exit.to.port().to_be_bytes(),
            address_diff: difference(before.iter().flatten(), after.iter().flatten()),
            port_diff: difference(
                &[u32::from_ne_bytes(ports(source, local))],
                &[u32::from_ne_bytes(ports(exit.from, exit.to))],
            ),
            tos: exit.tos,
            ttl: exit.ttl,
            most: u16::try_from(exit.way.mtu).unwrap_or(u16::MAX),
            ifindex: exit.way.ifindex,
            hop_family: match hop {
                _ if exit.routed => 0,
                IpAddr::V4(_) => libc::AF_INET as u32,
                IpAddr::V6(_) => libc::AF_INET6 as u32,
            },
            hop: hop_octets,
            ssrc: pace.ssrc,
            timestamp: pace.timestamp,
            sequence: pace.sequence,
            payload_type: pace.payload_type,
            unused: [0; 5],
            tick: pace.tick,
            jitter: pace.jitter,
            at: clock::to_boot(pace.at),
            packets: 0,
            bytes: 0,
        }
    }
}

fn octets(ip: IpAddr) -> Address {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// What of an address is in a checksum.
fn words(ip: IpAddr) -> Vec<u32> {
    let octets = match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    octets.chunks_exact(4).map(|word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]])).collect()
}

/// By how much a sum in ones' complement changes (RFC 1624).
fn difference<'a>(before: impl IntoIterator<Item = &'a u32>, after: impl IntoIterator<Item = &'a u32>) -> u32 {
    let terms = before.into_iter().map(|word| !word).chain(after.into_iter().copied());
    terms.fold(0, |sum: u32, term| {
        let (sum, carry) = sum.overflowing_add(term);
        sum + u32::from(carry)
    })
}
