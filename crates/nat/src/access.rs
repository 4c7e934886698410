//! Who may speak to our signalling sockets at all (RFC 5853 §3.5): decided by
//! the source address alone, before anything of a message is read.
//!
//! A `[[network]]` with an access decides for its prefix, the longest prefix
//! first; else, where a side has an allow list, only who is on it gets in. The
//! cost does not grow with the number of rules but with that of different
//! prefix lengths.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::{Prefix, Side};

/// The access lists of both sides.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Access {
    networks: Table,
    /// Of inner and outer; `None` lets everybody in.
    sides: [Option<Table>; 2],
}

impl Access {
    /// `networks`: prefixes and whether they may speak. `allowed`: the lists of
    /// inner and outer; an empty one is none.
    pub fn new(networks: &[(Prefix, bool)], allowed: &[Vec<Prefix>; 2]) -> Self {
        let list = |list: &Vec<Prefix>| (!list.is_empty()).then(|| Table::new(list.iter().map(|p| (*p, true))));
        Self { networks: Table::new(networks.iter().copied()), sides: [list(&allowed[0]), list(&allowed[1])] }
    }

    /// True when `ip` may speak to a listener of that side.
    pub fn admits(&self, side: Side, ip: IpAddr) -> bool {
        let listed = || {
            let list = &self.sides[usize::from(side == Side::Outer)];
            list.as_ref().is_none_or(|list| list.find(ip).is_some())
        };
        self.networks.find(ip).unwrap_or_else(listed)
    }
}

/// Rules by mask, the longest first; of IPv4 and of IPv6.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Table([Vec<(u128, BTreeMap<u128, bool>)>; 2]);

impl Table {
    fn new(rules: impl Iterator<Item = (Prefix, bool)>) -> Self {
        let mut by_mask: [BTreeMap<u128, BTreeMap<u128, bool>>; 2] = Default::default();
        for (prefix, verdict) in rules {
            let (family, ip) = bits(prefix.ip);
            let mapped = family == 0 && prefix.ip.is_ipv6();
            let length = u32::from(if mapped { prefix.bits.saturating_sub(96) } else { prefix.bits });
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(length)).unwrap_or(0);
            // Of a prefix that is written twice the first counts.
            by_mask[family].entry(mask).or_default().entry(ip & mask).or_insert(verdict);
        }
        Self(by_mask.map(|rules| rules.into_iter().rev().collect()))
    }

    fn find(&self, ip: IpAddr) -> Option<bool> {
        let (family, ip) = bits(ip);
        self.0[family].iter().find_map(|(mask, rules)| rules.get(&(ip & mask)).copied())
    }
}

/// Family, and the address from the highest bit on; IPv4-mapped IPv6 counts as IPv4.
fn bits(ip: IpAddr) -> (usize, u128) {
    match ip.to_canonical() {
        IpAddr::V4(ip) => (0, u128::from(u32::from(ip)) << 96),
        IpAddr::V6(ip) => (1, u128::from(ip)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().expect(text)
    }

    #[test]
    fn the_longest_prefix_decides_and_then_the_list_of_the_side() {
        let networks = [
            (prefix("198.51.100.0/24"), false),
            (prefix("198.51.100.7"), true),
            (prefix("2001:db8::/32"), false),
            (prefix("203.0.113.128/25"), true),
        ];
        let allowed = [Vec::new(), vec![prefix("203.0.113.0/25"), prefix("192.0.2.0/24")]];
        let access = Access::new(&networks, &allowed);
        for (ip, inner, outer) in [
            ("198.51.100.7", true, true),
            ("198.51.100.8", false, false),
            ("::ffff:198.51.100.8", false, false),
            ("::ffff:198.51.100.7", true, true),
            ("2001:db8::1", false, false),
            ("2001:db9::1", true, false),
            ("192.0.2.200", true, true),
            ("203.0.113.5", true, true),
            ("203.0.113.200", true, true),
            ("10.0.0.1", true, false),
        ] {
            let ip: IpAddr = ip.parse().expect(ip);
            assert_eq!((access.admits(Side::Inner, ip), access.admits(Side::Outer, ip)), (inner, outer), "{ip}");
        }
    }

    #[test]
    fn without_any_rule_everybody_gets_in_and_a_rule_may_be_about_everybody() {
        let ip = IpAddr::from([192, 0, 2, 1]);
        assert!(Access::default().admits(Side::Outer, ip));
        assert!(!Access::new(&[(prefix("0.0.0.0/0"), false)], &[Vec::new(), Vec::new()]).admits(Side::Inner, ip));
        assert!(Access::new(&[(prefix("::/0"), false)], &[Vec::new(), Vec::new()]).admits(Side::Inner, ip));
        let mapped = Access::new(&[(prefix("::ffff:192.0.2.0/120"), false)], &[Vec::new(), Vec::new()]);
        assert!(!mapped.admits(Side::Inner, ip) && mapped.admits(Side::Inner, IpAddr::from([192, 0, 3, 1])));
    }
}
