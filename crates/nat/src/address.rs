//! Addresses by role: once its role is known, an address never travels as a
//! bare `SocketAddr`.
//!
//! Decides which address is written toward a side, and which ranges cannot be
//! reached or must never be aimed at (RFC 1918, RFC 6598, RFC 6890). It must
//! not know where an address came from: that is what the types are for.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::side::Advertise;

macro_rules! role {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub SocketAddr);
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

role! {
    /// Where a packet came from, as the kernel saw it (RFC 3581 `received`, `rport`).
    Source
}
role! {
    /// What a message says (RFC 3261 Contact and Via, SDP).
    Claimed
}
role! {
    /// What a STUN server reported for one of our sockets (RFC 8489 §14.2).
    Mapped
}

/// What we write into messages for the other end to send to. Made only by
/// [`Advertised::choose`], so that no other address can be written by mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Advertised(SocketAddr);

impl Advertised {
    /// The one place where an advertised address is made: by the side's
    /// policy from the socket's concrete local address and, for the STUN
    /// policies, its mapped one. `None`: the policy needs a mapping that is
    /// not known (yet), or what came out cannot be sent to (a wildcard
    /// address, port 0) and would read as "on hold" in SDP (RFC 3264 §8.4).
    pub fn choose(policy: Advertise, local: SocketAddr, mapped: Option<Mapped>) -> Option<Self> {
        let address = match policy {
            Advertise::Listen => local,
            Advertise::Ip(ip) => SocketAddr::new(ip, local.port()),
            Advertise::Stun => mapped?.0,
            Advertise::StunAddress => SocketAddr::new(mapped?.0.ip(), local.port()),
        };
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        (!is_absurd(address.ip()) && address.port() != 0).then_some(Self(address))
    }

    /// The address to write.
    pub fn get(self) -> SocketAddr {
        self.0
    }

    /// Its IP alone.
    pub fn ip(self) -> IpAddr {
        self.0.ip()
    }
}

/// True for addresses that cannot be reached across the public Internet:
/// RFC 1918, RFC 6598 (100.64/10), loopback, link-local, ULA, unspecified.
pub fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_unspecified()
                || (ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64)
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unspecified() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// True for addresses that no media or signalling may ever be aimed at:
/// unspecified, multicast, broadcast, 0/8.
pub fn is_absurd(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.octets()[0] == 0 || ip.is_multicast() || ip.is_broadcast() || ip.octets()[0] >= 240,
        IpAddr::V6(ip) => ip.is_unspecified() || ip.is_multicast(),
    }
}

/// True for addresses that no packet from `local` may be aimed at because
/// somebody wrote them into a message: absurd ones, and this machine's own
/// and its link's (loopback, link-local with the metadata services of clouds)
/// unless `local` is of that kind, too. What IPv6 wraps of IPv4 (mapped, RFC 4291 §2.5.5.2;
/// NAT64, RFC 6052 §2.1; 6to4, RFC 3056) is judged as what it wraps.
pub fn is_forbidden(ip: IpAddr, local: IpAddr) -> bool {
    let (ip, local) = (unwrapped(ip), local.to_canonical());
    let link_local = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    is_absurd(ip) || ip.is_loopback() && !local.is_loopback() || link_local(ip) && !link_local(local)
}

/// The IPv4 address inside an IPv6 one, if there is one.
fn unwrapped(ip: IpAddr) -> IpAddr {
    let ip = ip.to_canonical();
    let IpAddr::V6(v6) = ip else { return ip };
    let v4 = |high: u16, low: u16| IpAddr::from((u32::from(high) << 16 | u32::from(low)).to_be_bytes());
    match v6.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => v4(high, low),
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => v4(high, low),
        _ => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn the_policy_decides_what_is_advertised() {
        let mapped = Some(Mapped(address("203.0.113.9:41000")));
        let fixed = Advertise::Ip(address("198.51.100.1:0").ip());
        let cases = [
            (Advertise::Listen, "192.168.1.2:5060", mapped, Some("192.168.1.2:5060")),
            (Advertise::Listen, "[::ffff:192.168.1.2]:5060", None, Some("192.168.1.2:5060")),
            (Advertise::Listen, "0.0.0.0:5060", mapped, None),
            (Advertise::Listen, "[::]:5060", mapped, None),
            (fixed, "192.168.1.2:5070", None, Some("198.51.100.1:5070")),
            (fixed, "192.168.1.2:0", None, None),
            (Advertise::Stun, "192.168.1.2:5060", mapped, Some("203.0.113.9:41000")),
            (Advertise::Stun, "192.168.1.2:5060", None, None),
            (Advertise::StunAddress, "192.168.1.2:5060", mapped, Some("203.0.113.9:5060")),
            (Advertise::StunAddress, "192.168.1.2:5060", None, None),
        ];
        for (policy, local, mapped, expected) in cases {
            let chosen = Advertised::choose(policy, address(local), mapped).map(Advertised::get);
            assert_eq!(chosen, expected.map(address), "{policy:?} {local}");
        }
    }

    #[test]
    fn forbidden_unless_of_the_same_kind() {
        let (public, loopback, link) = ("192.0.2.1", "127.0.0.1", "169.254.7.7");
        for (ip, allowed_from) in [
            ("127.0.0.1", Some(loopback)),
            ("127.255.255.254", Some(loopback)),
            ("::ffff:127.0.0.1", Some(loopback)),
            ("64:ff9b::7f00:1", Some(loopback)),
            ("::127.0.0.1", Some(loopback)),
            ("2002:7f00:1::5", Some(loopback)),
            ("::1", Some("::1")),
            ("169.254.169.254", Some(link)),
            ("64:ff9b::a9fe:a9fe", Some(link)),
            ("fe80::1", Some("fe80::2")),
            ("0.0.0.0", None),
            ("0.1.2.3", None),
            ("::", None),
            ("::ffff:0.0.0.1", None),
            ("64:ff9b::e000:1", None),
            ("224.0.0.1", None),
            ("ff02::1", None),
            ("255.255.255.255", None),
        ] {
            let ip = ip.parse().expect("an IP");
            assert!(is_forbidden(ip, public.parse().expect("an IP")), "{ip}");
            assert_eq!(
                allowed_from.is_some_and(|from| !is_forbidden(ip, from.parse().expect("an IP"))),
                allowed_from.is_some()
            );
        }
        for ip in ["10.0.0.1", "203.0.113.1", "2001:db8::1", "64:ff9b::cb00:7101", "fd00::1"] {
            assert!(!is_forbidden(ip.parse().expect("an IP"), public.parse().expect("an IP")), "{ip}");
        }
    }

    #[test]
    fn ranges() {
        let cases = [
            ("10.0.0.1", true, false),
            ("172.31.255.255", true, false),
            ("172.32.0.0", false, false),
            ("100.64.0.1", true, false),
            ("100.128.0.1", false, false),
            ("169.254.1.1", true, false),
            ("127.0.0.1", true, false),
            ("0.0.0.0", true, true),
            ("0.1.2.3", false, true),
            ("224.0.0.1", false, true),
            ("240.0.0.1", false, true),
            ("255.255.255.255", false, true),
            ("203.0.113.1", false, false),
            ("::", true, true),
            ("::1", true, false),
            ("fe80::1", true, false),
            ("fd00::1", true, false),
            ("ff02::1", false, true),
            ("2001:db8::1", false, false),
            ("::ffff:10.0.0.1", true, false),
        ];
        for (ip, private, absurd) in cases {
            let ip = ip.parse().expect("an IP");
            assert_eq!((is_private(ip), is_absurd(ip)), (private, absurd), "{ip}");
        }
    }
}
