//! The two sides (RFC 5853 §2) and what is advertised on each.
//!
//! Decides which prefix rule covers an address. Which side a message is on is
//! the listener's business, so nothing here may guess it from addresses.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Which network a listener, flow or leg is on. Border: phones outer, core
/// inner. Office: phones inner, provider outer. Standalone: phones inner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The side of the core (border) or of the phones (office, standalone).
    Inner,
    /// The side of the phones (border) or of the provider (office).
    Outer,
}

impl Side {
    /// The opposite one.
    pub fn other(self) -> Self {
        match self {
            Self::Inner => Self::Outer,
            Self::Outer => Self::Inner,
        }
    }

    /// For labels and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inner => "inner",
            Self::Outer => "outer",
        }
    }
}

/// What a side writes as its own address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Advertise {
    /// The local address and port of the socket.
    Listen,
    /// The mapped address and port of each socket, found by STUN.
    Stun,
    /// STUN's address with local ports: static forwards behind a dynamic address.
    StunAddress,
    /// This address with local ports: one-to-one NAT.
    Ip(IpAddr),
}

/// A network prefix (RFC 4632).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Prefix {
    /// Any address inside.
    pub ip: IpAddr,
    /// Leading bits that count.
    pub bits: u8,
}

impl Prefix {
    /// True when `ip` lies inside; an IPv4-mapped IPv6 address counts as IPv4.
    pub fn contains(self, ip: IpAddr) -> bool {
        if let (IpAddr::V4(a), IpAddr::V4(b)) = (self.ip, ip) {
            let apart = a.to_bits() ^ b.to_bits();
            return apart.checked_shr(32_u32.saturating_sub(u32::from(self.bits))).unwrap_or(0) == 0;
        }
        let bits = u32::from(self.canonical_bits());
        match (self.ip.to_canonical(), ip.to_canonical()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                let shift = 32_u32.saturating_sub(bits);
                u32::from(a).checked_shr(shift).unwrap_or(0) == u32::from(b).checked_shr(shift).unwrap_or(0)
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                let shift = 128_u32.saturating_sub(bits);
                u128::from(a).checked_shr(shift).unwrap_or(0) == u128::from(b).checked_shr(shift).unwrap_or(0)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }

    /// The length as it applies to the canonical address: `::ffff:10.0.0.0/104` is `10.0.0.0/8`.
    fn canonical_bits(self) -> u8 {
        if self.ip.is_ipv6() && self.ip.to_canonical().is_ipv4() { self.bits.saturating_sub(96) } else { self.bits }
    }
}

impl std::str::FromStr for Prefix {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (ip, bits) = match text.split_once('/') {
            Some((ip, bits)) => (ip, Some(bits)),
            None => (text, None),
        };
        let ip: IpAddr = ip.parse().map_err(|_| "not an IP address")?;
        let most = if ip.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) if bits.bytes().all(|b| b.is_ascii_digit()) => {
                bits.parse().map_err(|_| "not a prefix length")?
            }
            Some(_) => return Err("not a prefix length"),
            None => most,
        };
        if bits > most { Err("prefix length out of range") } else { Ok(Self { ip, bits }) }
    }
}

impl std::fmt::Display for Prefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.ip, self.bits)
    }
}

/// What is done about the media of whoever is in a network (RFC 7584 §3, §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum MediaMode {
    /// Relayed; ICE is spoken where an end does.
    #[default]
    Relay,
    /// Relayed, and ICE is offered whatever the other end speaks (§4.1).
    Ice,
    /// Left to them: SDP passes untouched (§3).
    SignallingOnly,
}

/// A prefix with rules of its own (`[[network]]`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network {
    /// Which addresses.
    pub prefix: Prefix,
    /// The side they are on, where it differs from the listener's.
    pub side: Option<Side>,
    /// What we advertise toward them, where it differs from the side's.
    pub advertise: Option<Advertise>,
    /// Media of any source inside the prefix may latch (carrier NAT pools).
    pub latch: bool,
    /// What is done about their media.
    pub media: MediaMode,
    /// Asserted identities from there are believed, and shown there (RFC 3325).
    pub trusted: bool,
}

impl Network {
    /// The rule that covers `ip`: of those that contain it the longest prefix,
    /// of equally long ones the first.
    #[inline]
    pub fn covering(networks: &[Self], ip: IpAddr) -> Option<&Self> {
        if networks.is_empty() {
            return None;
        }
        let covering = networks.iter().rev().filter(|network| network.prefix.contains(ip));
        covering.max_by_key(|network| network.prefix.canonical_bits())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().expect("a prefix")
    }

    #[test]
    fn prefixes_contain() {
        let cases = [
            ("10.20.0.0/16", "10.20.255.1", true),
            ("10.20.0.0/16", "10.21.0.1", false),
            ("10.20.30.40/16", "10.20.0.1", true),
            ("0.0.0.0/0", "203.0.113.1", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1/32", "192.0.2.2", false),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::/0", "2001:db8::1", true),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("::ffff:10.0.0.0/104", "10.1.2.3", true),
            ("::ffff:10.0.0.0/104", "11.1.2.3", false),
        ];
        for (inside, ip, expected) in cases {
            assert_eq!(prefix(inside).contains(ip.parse().expect("an IP")), expected, "{inside} {ip}");
        }
    }

    #[test]
    fn prefixes_are_read_strictly() {
        for bad in [
            "",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.0/x",
            "host/8",
            "10.0.0.0/8/8",
            "10.0.0.0/999",
        ] {
            assert!(bad.parse::<Prefix>().is_err(), "{bad}");
        }
        assert_eq!(prefix("10.0.0.0/8").to_string(), "10.0.0.0/8");
        assert_eq!(prefix("::1").bits, 128);
    }

    #[test]
    fn the_longest_prefix_counts() {
        let network = |text, latch| Network {
            prefix: prefix(text),
            side: None,
            advertise: None,
            latch,
            media: MediaMode::Relay,
            trusted: false,
        };
        let networks = [network("10.0.0.0/8", false), network("10.1.0.0/16", true), network("10.1.0.0/16", false)];
        let latch = |ip: &str| Network::covering(&networks, ip.parse().expect("an IP")).map(|network| network.latch);
        assert_eq!(latch("10.1.2.3"), Some(true));
        assert_eq!(latch("10.2.2.3"), Some(false));
        assert_eq!(latch("192.0.2.1"), None);
    }

    #[test]
    fn sides_face_each_other() {
        assert_eq!((Side::Inner.other(), Side::Outer.other()), (Side::Outer, Side::Inner));
        assert_eq!((Side::Inner.as_str(), Side::Outer.as_str()), ("inner", "outer"));
    }
}
