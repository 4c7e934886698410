//! A rule as the kernel's program reads it: `struct terms`, the addresses behind
//! it, and what `struct state` begins with, of `bpf/relay.bpf.c`, octet for octet.
//!
//! Makes one of a hold, the pace of its stream and the way out. Must not decide
//! whether there is to be one.

use std::net::{IpAddr, SocketAddr};

use media::Pace;

use super::netlink::Way;
use crate::clock;

/// Octets of a line of the processor's cache.
pub(super) const LINE: usize = 64;
/// Octets before `struct state`, at most.
const TERMS: usize = 2 * LINE;

/// What a rule knows of; it is void when there is more to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Known {
    /// The routes.
    pub(super) epoch: u32,
    /// Orders for its stream.
    pub(super) orders: u32,
}

/// What to do with packets from one source, and with which of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    /// Of IPv4, the first line.
    pub(super) terms: [u64; TERMS / 8],
    pub(super) hop: [u64; 2],
    /// Of the last packet that was judged here.
    pub(super) sequence: u16,
    pub(super) timestamp: u32,
    pub(super) jitter: u64,
    pub(super) at: u64,
}

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
    /// Longest IP packet there.
    pub(super) mtu: u32,
    /// The kernel is to find the route itself: it leads to a socket, not to a neighbour.
    pub(super) routed: bool,
}

impl Rule {
    /// Good while nothing is newer than `known`, for packets from `source` to our address `local`.
    pub(super) fn new(known: Known, local: SocketAddr, source: SocketAddr, exit: &Exit, pace: &Pace) -> Self {
        let hop = exit.way.hop.unwrap_or(exit.to.ip());
        let family = match hop {
            _ if exit.routed => 0,
            IpAddr::V4(_) => libc::AF_INET,
            IpAddr::V6(_) => libc::AF_INET6,
        };
        let addresses = [local.ip(), source.ip(), exit.from.ip(), exit.to.ip()].map(octets);
        let ports =
            |one: SocketAddr, other: SocketAddr| [one.port().to_be_bytes(), other.port().to_be_bytes()].concat();
        let (before, after) = (ports(source, local), ports(exit.from, exit.to));
        let (was, is) = addresses.split_at(2);
        let terms: [&[u8]; 15] = [
            &before,
            &known.epoch.to_ne_bytes(),
            &known.orders.to_ne_bytes(),
            &pace.ssrc.to_ne_bytes(),
            &after,
            &difference(&was.concat(), &is.concat()).to_ne_bytes(),
            &difference(&before, &after).to_ne_bytes(),
            &u16::try_from(exit.mtu).unwrap_or(u16::MAX).to_ne_bytes(),
            &[exit.tos, exit.ttl],
            &exit.way.ifindex.to_ne_bytes(),
            &family.to_ne_bytes(),
            &[pace.payload_type],
            &[0; 3],
            &pace.tick.to_ne_bytes(),
            &addresses.concat(),
        ];
        Self {
            terms: words(&terms.concat()),
            hop: words(&octets(hop)),
            sequence: pace.sequence,
            timestamp: pace.timestamp,
            jitter: pace.jitter,
            at: clock::to_boot(pace.at),
        }
    }
}

/// An address as it is on the wire.
pub(super) fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// As the processor has them, the rest zeroes.
fn words<const WORDS: usize>(octets: &[u8]) -> [u64; WORDS] {
    let mut words = [0; WORDS];
    for (word, octets) in words.iter_mut().zip(octets.chunks(8)) {
        let mut eight = [0; 8];
        eight[..octets.len()].copy_from_slice(octets);
        *word = u64::from_ne_bytes(eight);
    }
    words
}

/// By how much a sum in ones' complement changes (RFC 1624), as a sum over the octets in their order.
fn difference(before: &[u8], after: &[u8]) -> u16 {
    let words = |octets: &[u8]| octets.chunks_exact(2).map(|two| u16::from_ne_bytes([two[0], two[1]])).collect();
    let (before, after): (Vec<u16>, Vec<u16>) = (words(before), words(after));
    before.into_iter().map(|word| !word).chain(after).fold(0, |sum: u16, term| {
        let (sum, carry) = sum.overflowing_add(term);
        sum + u16::from(carry)
    })
}
