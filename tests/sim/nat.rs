//! A NAT box, with the behaviours that RFC 4787 names.
//!
//! Mapping (§4.1) and filtering (§5) are types; so are port preservation
//! (§4.2.1), the mapping's lifetime and what refreshes it (§4.3), hairpinning
//! (§6), and two misfortunes: all mappings flushed, and another public address.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::clock::Time;
use crate::rng::Rng;

/// What mapping or filtering depends on, in the words of RFC 4787.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dependence {
    EndpointIndependent,
    AddressDependent,
    AddressAndPortDependent,
}

impl Dependence {
    pub(crate) const ALL: [Self; 3] =
        [Self::EndpointIndependent, Self::AddressDependent, Self::AddressAndPortDependent];

    /// The part of a remote address that counts.
    fn key(self, remote: SocketAddr) -> (Option<IpAddr>, u16) {
        match self {
            Self::EndpointIndependent => (None, 0),
            Self::AddressDependent => (Some(remote.ip()), 0),
            Self::AddressAndPortDependent => (Some(remote.ip()), remote.port()),
        }
    }
}

/// How a box behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Behaviour {
    pub(crate) mapping: Dependence,
    pub(crate) filtering: Dependence,
    /// Tries the inner port first; else a random one.
    pub(crate) preserves_port: bool,
    /// A mapping ends this long after its last refresh.
    pub(crate) lifetime: Duration,
    /// Inbound packets refresh too (REQ-6 asks only for outbound).
    pub(crate) inbound_refresh: bool,
    /// Inner hosts reach each other by their outer addresses.
    pub(crate) hairpin: bool,
    /// It rewrites SIP in datagrams that pass, badly.
    pub(crate) meddles: bool,
    /// The mapping of a connection ends this long after its last segment (RFC 5382 asks for two hours).
    pub(crate) stream_lifetime: Duration,
    /// It resets what comes on a connection that it does not know, instead of dropping it.
    pub(crate) resets: bool,
}

impl Behaviour {
    /// Everything endpoint-independent.
    pub(crate) fn full_cone(lifetime: Duration) -> Self {
        Self {
            mapping: Dependence::EndpointIndependent,
            filtering: Dependence::EndpointIndependent,
            preserves_port: false,
            lifetime,
            inbound_refresh: false,
            hairpin: false,
            meddles: false,
            stream_lifetime: Duration::from_secs(7_440),
            resets: false,
        }
    }

    /// One mapping for all, filtered by address and port.
    pub(crate) fn port_restricted(lifetime: Duration) -> Self {
        Self { filtering: Dependence::AddressAndPortDependent, ..Self::full_cone(lifetime) }
    }

    /// A new mapping for each remote address and port.
    pub(crate) fn symmetric(lifetime: Duration) -> Self {
        Self { mapping: Dependence::AddressAndPortDependent, ..Self::port_restricted(lifetime) }
    }
}

#[derive(Debug)]
struct Mapping {
    inner: SocketAddr,
    key: (Option<IpAddr>, u16),
    /// To whom the inner host has sent, and until when that counts.
    peers: BTreeMap<(Option<IpAddr>, u16), Time>,
    expires: Time,
}

/// One box between an inside and an outside network.
#[derive(Debug)]
pub(crate) struct NatBox {
    pub(crate) behaviour: Behaviour,
    /// Its outer address.
    pub(crate) public: IpAddr,
    by_inner: BTreeMap<(SocketAddr, (Option<IpAddr>, u16)), u16>,
    by_port: BTreeMap<u16, Mapping>,
    /// Random ports are drawn from here on; another range after a flush.
    first_port: u16,
    rng: Rng,
}

impl NatBox {
    pub(crate) fn new(behaviour: Behaviour, public: IpAddr, rng: Rng) -> Self {
        Self { behaviour, public, by_inner: BTreeMap::new(), by_port: BTreeMap::new(), first_port: 20_000, rng }
    }

    /// Translates a packet on its way out: the address that the world sees.
    pub(crate) fn outbound(&mut self, now: Time, inner: SocketAddr, remote: SocketAddr) -> SocketAddr {
        let key = self.behaviour.mapping.key(remote);
        let expires = now + self.behaviour.lifetime;
        let port = match self.by_inner.get(&(inner, key)) {
            Some(port) if self.by_port.get(port).is_some_and(|m| m.expires > now) => *port,
            _ => {
                let port = self.allocate(now, inner.port());
                self.by_inner.insert((inner, key), port);
                self.by_port.insert(port, Mapping { inner, key, peers: BTreeMap::new(), expires });
                port
            }
        };
        if let Some(mapping) = self.by_port.get_mut(&port) {
            mapping.expires = expires;
            mapping.peers.insert(self.behaviour.filtering.key(remote), expires);
        }
        SocketAddr::new(self.public, port)
    }

    /// True when there is a mapping for a packet on its way out.
    pub(crate) fn maps(&self, now: Time, inner: SocketAddr, remote: SocketAddr) -> bool {
        let port = self.by_inner.get(&(inner, self.behaviour.mapping.key(remote)));
        port.and_then(|port| self.by_port.get(port)).is_some_and(|m| m.expires > now)
    }

    /// Translates a packet on its way in, or filters it.
    pub(crate) fn inbound(&mut self, now: Time, outer_port: u16, remote: SocketAddr) -> Option<SocketAddr> {
        let Behaviour { filtering, inbound_refresh, lifetime, .. } = self.behaviour;
        let mapping = self.by_port.get_mut(&outer_port).filter(|m| m.expires > now)?;
        let allowed = mapping.peers.get_mut(&filtering.key(remote)).filter(|until| **until > now);
        let admitted = filtering == Dependence::EndpointIndependent || allowed.is_some();
        if !admitted {
            return None;
        }
        if inbound_refresh {
            mapping.expires = now + lifetime;
            if let Some(until) = allowed {
                *until = now + lifetime;
            }
        }
        Some(mapping.inner)
    }

    /// Forgets every mapping, as a reboot does; new ones come from another range of ports.
    pub(crate) fn flush(&mut self) {
        self.by_inner.clear();
        self.by_port.clear();
        self.first_port = if self.first_port >= 50_000 { 20_000 } else { self.first_port + 10_000 };
    }

    /// How many mappings are alive.
    pub(crate) fn live(&self, now: Time) -> usize {
        self.by_port.values().filter(|m| m.expires > now).count()
    }

    fn allocate(&mut self, now: Time, wanted: u16) -> u16 {
        let free = |port: u16, by_port: &BTreeMap<u16, Mapping>| by_port.get(&port).is_none_or(|m| m.expires <= now);
        let preserved = self.behaviour.preserves_port && self.first_port == 20_000;
        let mut port = if preserved && wanted >= 1024 { wanted } else { self.draw() };
        while !free(port, &self.by_port) {
            port = self.draw();
        }
        if let Some(old) = self.by_port.remove(&port) {
            // The same inner address may have moved on to another port long since.
            if self.by_inner.get(&(old.inner, old.key)) == Some(&port) {
                self.by_inner.remove(&(old.inner, old.key));
            }
        }
        port
    }

    fn draw(&mut self) -> u16 {
        self.first_port + self.rng.below(10_000) as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INNER: &str = "192.168.1.10:5060";
    const A: &str = "198.51.100.1:5060";
    const A2: &str = "198.51.100.1:6000";
    const B: &str = "198.51.100.2:5060";

    fn at(text: &str) -> SocketAddr {
        text.parse().expect("a literal address")
    }

    fn boxed(behaviour: Behaviour) -> NatBox {
        NatBox::new(behaviour, at("203.0.113.1:0").ip(), Rng::new(1))
    }

    /// RFC 4787 §4.1 and §5: all nine combinations, by what two other endpoints see and reach.
    #[test]
    fn mapping_and_filtering_are_independent_of_each_other() {
        for mapping in Dependence::ALL {
            for filtering in Dependence::ALL {
                let life = Duration::from_secs(30);
                let mut nat = boxed(Behaviour { mapping, filtering, ..Behaviour::full_cone(life) });
                let to_a = nat.outbound(Time::ZERO, at(INNER), at(A));
                let reach = |nat: &mut NatBox, from: &str| nat.inbound(Time::ZERO, to_a.port(), at(from)).is_some();
                assert!(reach(&mut nat, A));
                assert_eq!(reach(&mut nat, A2), filtering != Dependence::AddressAndPortDependent);
                assert_eq!(reach(&mut nat, B), filtering == Dependence::EndpointIndependent);
                let to_a2 = nat.outbound(Time::ZERO, at(INNER), at(A2));
                let to_b = nat.outbound(Time::ZERO, at(INNER), at(B));
                assert_eq!(to_a2 == to_a, mapping != Dependence::AddressAndPortDependent);
                assert_eq!(to_b == to_a, mapping == Dependence::EndpointIndependent);
            }
        }
    }

    /// §4.3: outbound traffic refreshes, inbound only where the box says so.
    #[test]
    fn a_mapping_lives_as_long_as_it_is_refreshed() {
        for inbound_refresh in [false, true] {
            let life = Duration::from_secs(30);
            let mut nat = boxed(Behaviour { inbound_refresh, ..Behaviour::port_restricted(life) });
            let outer = nat.outbound(Time::ZERO, at(INNER), at(A));
            assert!(nat.inbound(Duration::from_secs(20), outer.port(), at(A)).is_some());
            assert_eq!(nat.inbound(Duration::from_secs(40), outer.port(), at(A)).is_some(), inbound_refresh);
            let again = nat.outbound(Duration::from_secs(200), at(INNER), at(A));
            assert_eq!(nat.live(Duration::from_secs(200)), 1);
            assert_ne!(again, outer, "a new mapping takes a new random port");
        }
    }

    #[test]
    fn a_flush_moves_to_other_ports_and_closes_the_old_ones() {
        let mut nat = boxed(Behaviour { preserves_port: true, ..Behaviour::full_cone(Duration::from_secs(30)) });
        let before = nat.outbound(Time::ZERO, at(INNER), at(A));
        assert_eq!(before.port(), 5060);
        nat.flush();
        let after = nat.outbound(Time::ZERO, at(INNER), at(A));
        assert_ne!(before, after);
        assert_eq!(nat.inbound(Time::ZERO, before.port(), at(A)), None);
    }
}
