//! What stands between us and our public address?
//!
//! Packets whose hop limit runs out tell which routers they passed
//! (RFC 1812 §4.3.3). One to our own public address ends at the router that has that address:
//! it says that there is no such port, however few hops were allowed.

use std::net::IpAddr;

use crate::address::is_private;

/// What came back for a packet with a hop limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hop {
    /// Nothing.
    Silent,
    /// This router let it die (ICMP time exceeded).
    Died(IpAddr),
    /// It arrived, and nobody has the port (ICMP port unreachable).
    Arrived(IpAddr),
    /// Another ICMP error.
    Refused(IpAddr),
}

/// All that was seen. Lists begin with hop limit 1.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Evidence {
    /// Packets toward a server out there.
    pub out: Vec<Hop>,
    /// Packets toward our own public address.
    pub home: Vec<Hop>,
    /// The address that the first router says that it has outside (PCP, UPnP, NAT-PMP), if it was asked.
    pub router: Option<IpAddr>,
}

/// What that means; `None`: unknown.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Path {
    /// The routers as far as our public address, or as far as anybody answered; `None` for a silent one.
    pub hops: Vec<Option<IpAddr>>,
    /// Which of them, from 1, has our public address.
    pub public_hop: Option<usize>,
    /// There is more than one NAT.
    pub double_nat: Option<bool>,
    /// One of them is the carrier's.
    pub cgnat: Option<bool>,
}

/// 100.64/10, which only carriers use (RFC 6598).
pub fn is_shared(ip: IpAddr) -> bool {
    matches!(ip.to_canonical(), IpAddr::V4(ip) if ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64)
}

impl Path {
    /// For a machine with the address `local` that is seen as `mapped`, another one.
    pub fn of(local: IpAddr, mapped: IpAddr, evidence: &Evidence) -> Self {
        let public_hop = public_hop(mapped, &evidence.home);
        let mut hops: Vec<Option<IpAddr>> = evidence
            .out
            .iter()
            .map(|hop| match hop {
                Hop::Died(ip) => Some(*ip),
                Hop::Silent | Hop::Arrived(_) | Hop::Refused(_) => None,
            })
            .take(public_hop.unwrap_or(usize::MAX))
            .collect();
        while hops.last().is_some_and(Option::is_none) && public_hop.is_none_or(|hop| hops.len() > hop) {
            hops.pop();
        }
        let own = [Some(local), evidence.router];
        let shared = own.iter().chain(&hops).flatten().any(|ip| is_shared(*ip));
        // In front of a shared address that is not ours stands a NAT of our own.
        let before = !is_shared(local) && is_private(local);
        let double_nat = match (evidence.router, public_hop) {
            (Some(router), _) if router == mapped => Some(false),
            (Some(router), _) if is_private(router) => Some(true),
            (_, Some(1)) => Some(false),
            _ if shared && before => Some(true),
            _ => None,
        };
        let cgnat = if shared {
            Some(true)
        } else {
            // Where the first router has the public address, nobody else translates.
            (double_nat == Some(false)).then_some(false)
        };
        Self { hops, public_hop, double_nat, cgnat }
    }
}

/// The first hop limit with which our own address was reached, if all lesser ones were seen not to reach it.
fn public_hop(mapped: IpAddr, home: &[Hop]) -> Option<usize> {
    let mut before = 0;
    for hop in home {
        match hop {
            Hop::Died(_) => before += 1,
            Hop::Arrived(_) => return Some(before + 1),
            Hop::Refused(ip) if *ip == mapped => return Some(before + 1),
            Hop::Silent | Hop::Refused(_) => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    const MAPPED: &str = "203.0.113.7";

    fn path(local: &str, out: &[&str], home: &[Hop], router: Option<&str>) -> Path {
        let out = out.iter().map(|text| text.parse().map_or(Hop::Silent, Hop::Died)).collect();
        Path::of(ip(local), ip(MAPPED), &Evidence { out, home: home.to_vec(), router: router.map(ip) })
    }

    #[test]
    fn the_first_router_has_it() {
        let found = path("192.168.1.9", &["192.168.1.1", "198.51.100.1"], &[Hop::Arrived(ip(MAPPED))], None);
        assert_eq!((found.public_hop, found.double_nat, found.cgnat), (Some(1), Some(false), Some(false)));
        assert_eq!(found.hops, [Some(ip("192.168.1.1"))]);
        let filtered = path("192.168.1.9", &[], &[Hop::Refused(ip(MAPPED))], None);
        assert_eq!(filtered.public_hop, Some(1));
    }

    #[test]
    fn shared_addresses_are_the_carriers() {
        let home = [Hop::Died(ip("192.168.1.1")), Hop::Arrived(ip(MAPPED))];
        let found = path("192.168.1.9", &["192.168.1.1", "100.64.0.1"], &home, None);
        assert_eq!((found.public_hop, found.double_nat, found.cgnat), (Some(2), Some(true), Some(true)));
        // The router is a bridge, and the address ours.
        let bridged = path("100.64.3.9", &["100.64.0.1"], &[], None);
        assert_eq!((bridged.double_nat, bridged.cgnat), (None, Some(true)));
        let told = path("192.168.1.9", &[], &[], Some("100.99.1.1"));
        assert_eq!((told.double_nat, told.cgnat), (Some(true), Some(true)));
        assert!(!is_shared(ip("100.128.0.1")) && !is_shared(ip("2001:db8::1")));
    }

    #[test]
    fn a_private_router_behind_the_first_may_be_a_second_nat_or_not() {
        let home = [Hop::Died(ip("192.168.1.1")), Hop::Arrived(ip(MAPPED))];
        let found = path("192.168.1.9", &["192.168.1.1", "10.0.0.1"], &home, None);
        assert_eq!((found.public_hop, found.double_nat, found.cgnat), (Some(2), None, None));
        let told = path("192.168.1.9", &["192.168.1.1", "10.0.0.1"], &home, Some("10.0.0.2"));
        assert_eq!(told.double_nat, Some(true));
        let told = path("192.168.1.9", &["192.168.1.1"], &[], Some(MAPPED));
        assert_eq!((told.double_nat, told.cgnat), (Some(false), Some(false)));
    }

    #[test]
    fn silence_says_nothing() {
        assert_eq!(path("192.168.1.9", &["", "", ""], &[Hop::Silent, Hop::Arrived(ip(MAPPED))], None), Path::default());
        assert_eq!(path("192.168.1.9", &[], &[Hop::Refused(ip("192.168.1.1"))], None).public_hop, None);
        let lying = path("192.168.1.9", &[""; 9], &[Hop::Died(ip("192.168.1.1")); 9], None);
        assert_eq!((lying.public_hop, lying.double_nat), (None, None));
    }
}
