//! The network: segments with hosts, joined by NAT boxes.
//!
//! A packet looks for its destination on its own segment, else leaves through
//! the segment's NAT box, which translates it. Several segments may use the
//! same private addresses. Links say what gets lost on the way; a segment of a
//! stream is never lost on a link, it only comes later, and in order.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use wire::Transport;

use crate::alg;
use crate::clock::Time;
use crate::link::Link;
use crate::nat::{Behaviour, Dependence, NatBox};
use crate::rng::Rng;

/// Index of a node in the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NodeId(pub(crate) usize);

/// Index of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SegmentId(usize);

/// Index of a NAT box.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NatId(pub(crate) usize);

/// What a packet is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carrier {
    Datagram,
    /// A whole message that a node wants said over a stream, or heard there; on
    /// the network it is a segment. `instead`: where to, if no connection leads there.
    Message {
        transport: Transport,
        instead: Option<SocketAddr>,
    },
    Segment(Step),
}

/// What a segment does to its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Ask(Transport),
    Grant,
    /// Of a handshake: there.
    Round,
    /// And back.
    Back,
    Octets,
    End,
    Reset,
}

/// A UDP datagram, or a segment of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) bytes: Vec<u8>,
    pub(crate) carrier: Carrier,
}

impl Packet {
    pub(crate) fn datagram(from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) -> Self {
        Self { from, to, bytes, carrier: Carrier::Datagram }
    }

    /// A message over some transport.
    pub(crate) fn message(
        transport: Transport,
        (from, to): (SocketAddr, SocketAddr),
        instead: Option<SocketAddr>,
        bytes: Vec<u8>,
    ) -> Self {
        let reliable = transport.reliable();
        let carrier = if reliable { Carrier::Message { transport, instead } } else { Carrier::Datagram };
        Self { from, to, bytes, carrier }
    }

    pub(crate) fn transport(&self) -> Transport {
        match self.carrier {
            Carrier::Message { transport, .. } => transport,
            Carrier::Datagram | Carrier::Segment(_) => Transport::Udp,
        }
    }

    fn step(&self) -> Option<Step> {
        match self.carrier {
            Carrier::Segment(step) => Some(step),
            Carrier::Datagram | Carrier::Message { .. } => None,
        }
    }
}

/// A packet that will reach a segment at some time.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) at: Time,
    pub(crate) sender: NodeId,
    segment: SegmentId,
    pub(crate) packet: Packet,
    /// Its addresses as its sender knows them.
    pub(crate) origin: (SocketAddr, SocketAddr),
}

/// Why a packet went nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lost {
    /// On a link.
    Link,
    /// Nobody has that address, and no box leads further.
    NoRoute,
    /// A NAT box has no mapping for it, or filters it.
    Filtered,
    /// A NAT box does not hairpin.
    NoHairpin,
    /// A NAT box has no mapping for a segment, and says so.
    Reset,
}

#[derive(Debug, Default)]
struct Segment {
    hosts: BTreeMap<IpAddr, (NodeId, Link)>,
    /// Outer faces of boxes.
    faces: BTreeMap<IpAddr, NatId>,
    gateway: Option<NatId>,
}

#[derive(Debug)]
struct Gateway {
    nat: NatBox,
    /// Its mappings for connections: one each, for its two ends alone (RFC 5382).
    streams: NatBox,
    inside: SegmentId,
    outside: SegmentId,
    link: Link,
}

/// All segments and boxes.
#[derive(Debug)]
pub(crate) struct Net {
    segments: Vec<Segment>,
    gateways: Vec<Gateway>,
    /// When the last segment of a connection arrives, by its two ends as the receiver sees them.
    order: BTreeMap<(SocketAddr, SocketAddr), Time>,
    rng: Rng,
}

impl Net {
    pub(crate) fn new(rng: Rng) -> Self {
        Self { segments: Vec::new(), gateways: Vec::new(), order: BTreeMap::new(), rng }
    }

    pub(crate) fn segment(&mut self) -> SegmentId {
        self.segments.push(Segment::default());
        SegmentId(self.segments.len() - 1)
    }

    pub(crate) fn attach(&mut self, segment: SegmentId, ip: IpAddr, node: NodeId, link: Link) {
        self.segments[segment.0].hosts.insert(ip, (node, link));
    }

    /// A box between two segments; it is the way out of `inside`.
    pub(crate) fn gateway(
        &mut self,
        (inside, outside): (SegmentId, SegmentId),
        behaviour: Behaviour,
        public: IpAddr,
        link: Link,
    ) -> NatId {
        let id = NatId(self.gateways.len());
        let nat = NatBox::new(behaviour, public, self.rng.fork(id.0 as u64));
        let each = Dependence::AddressAndPortDependent;
        let lifetime = behaviour.stream_lifetime;
        let strict = Behaviour { mapping: each, filtering: each, lifetime, inbound_refresh: true, ..behaviour };
        let streams = NatBox::new(strict, public, self.rng.fork(1000 + id.0 as u64));
        self.gateways.push(Gateway { nat, streams, inside, outside, link });
        self.segments[inside.0].gateway = Some(id);
        self.segments[outside.0].faces.insert(public, id);
        id
    }

    pub(crate) fn nat(&self, id: NatId) -> &NatBox {
        &self.gateways[id.0].nat
    }

    /// The box forgets its mappings, and may come back with another address.
    pub(crate) fn rebind(&mut self, id: NatId, public: Option<IpAddr>) {
        let gateway = &mut self.gateways[id.0];
        gateway.nat.flush();
        gateway.streams.flush();
        if let Some(public) = public {
            let faces = &mut self.segments[gateway.outside.0].faces;
            faces.remove(&gateway.nat.public);
            faces.insert(public, id);
            gateway.nat.public = public;
            gateway.streams.public = public;
        }
    }

    /// Sends a packet from a node: where and when it arrives, once, twice or never.
    /// A source address that the node does not have is a forged one, sent from its first segment.
    pub(crate) fn send(&mut self, now: Time, node: NodeId, packet: Packet) -> Result<[Option<Arrival>; 2], Lost> {
        let owns = |s: &Segment, ip: &IpAddr| s.hosts.get(ip).is_some_and(|(n, _)| *n == node);
        let own = self.segments.iter().position(|s| owns(s, &packet.from.ip()));
        let any = || self.segments.iter().position(|s| s.hosts.values().any(|(n, _)| *n == node));
        let mut segment = SegmentId(own.or_else(any).ok_or(Lost::NoRoute)?);
        let (origin, step) = ((packet.from, packet.to), packet.step());
        let Packet { mut from, mut to, mut bytes, carrier } = packet;
        let mut links = Vec::with_capacity(4);
        links.extend(self.segments[segment.0].hosts.get(&from.ip()).map(|(_, link)| *link));
        loop {
            let here = &self.segments[segment.0];
            if let Some((_, link)) = here.hosts.get(&to.ip()) {
                links.push(*link);
                break;
            }
            if let Some(face) = here.faces.get(&to.ip()) {
                links.push(self.gateways[face.0].link);
                break;
            }
            let gateway = &mut self.gateways[here.gateway.ok_or(Lost::NoRoute)?.0];
            let inner = from;
            let nat = if step.is_some() { &mut gateway.streams } else { &mut gateway.nat };
            let begins = matches!(step, None | Some(Step::Ask(_)));
            if !begins && !nat.maps(now, inner, to) {
                return Err(if nat.behaviour.resets { Lost::Reset } else { Lost::Filtered });
            }
            from = nat.outbound(now, inner, to);
            if nat.behaviour.meddles && step.is_none() {
                bytes = alg::outward(&bytes, inner, from).unwrap_or(bytes);
            }
            if to.ip() == nat.public {
                if !nat.behaviour.hairpin {
                    return Err(Lost::NoHairpin);
                }
                to = nat.inbound(now, to.port(), from).ok_or(Lost::Filtered)?;
                continue;
            }
            links.push(gateway.link);
            segment = gateway.outside;
        }
        let packet = Packet { from, to, bytes, carrier };
        if step.is_some() {
            return Ok([Some(self.pass(now, (node, segment), &links, packet, origin)), None]);
        }
        Ok(self.carry(now, (node, segment), &links, packet))
    }

    /// A segment: what a link loses is sent again, and nothing overtakes.
    fn pass(
        &mut self,
        now: Time,
        (sender, segment): (NodeId, SegmentId),
        links: &[Link],
        packet: Packet,
        origin: (SocketAddr, SocketAddr),
    ) -> Arrival {
        let arrives = links.iter().fold(now, |at, link| at + link.insist(&mut self.rng));
        let last = self.order.entry((packet.from, packet.to)).or_default();
        *last = arrives.max(*last);
        Arrival { at: *last, sender, segment, packet, origin }
    }

    fn carry(
        &mut self,
        now: Time,
        (sender, segment): (NodeId, SegmentId),
        links: &[Link],
        packet: Packet,
    ) -> [Option<Arrival>; 2] {
        let mut times = [Some(now), None];
        for link in links {
            let [first, second] = link.carry(&mut self.rng);
            let plus = |at: Option<Time>, by| at.zip(by).map(|(at, by)| at + by);
            times = [plus(times[0], first), plus(times[1], first).or(plus(times[0], second))];
        }
        let [first, second] = times;
        let origin = (packet.from, packet.to);
        let copy = second.map(|at| Arrival { at, sender, segment, packet: packet.clone(), origin });
        [first.map(|at| Arrival { at, sender, segment, packet, origin }), copy]
    }

    /// A packet reaches its segment: through boxes inward, to a node.
    pub(crate) fn arrive(&mut self, now: Time, arrival: Arrival) -> Result<(NodeId, Packet), Lost> {
        let Arrival { mut segment, mut packet, .. } = arrival;
        loop {
            let here = &self.segments[segment.0];
            if let Some((node, _)) = here.hosts.get(&packet.to.ip()) {
                return Ok((*node, packet));
            }
            let face = here.faces.get(&packet.to.ip()).ok_or(Lost::NoRoute)?;
            let gateway = &mut self.gateways[face.0];
            let outer = packet.to;
            let stream = packet.step().is_some();
            let nat = if stream { &mut gateway.streams } else { &mut gateway.nat };
            packet.to = nat.inbound(now, outer.port(), packet.from).ok_or(Lost::Filtered)?;
            if nat.behaviour.meddles && !stream {
                packet.bytes = alg::inward(&packet.bytes, packet.to, outer).unwrap_or(packet.bytes);
            }
            segment = gateway.inside;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().expect("a literal address")
    }

    fn packet(from: &str, to: &str) -> Packet {
        Packet::datagram(at(from), at(to), b"x".to_vec())
    }

    fn deliver(net: &mut Net, node: NodeId, packet: Packet) -> Result<(NodeId, Packet), Lost> {
        let [first, _] = net.send(Time::ZERO, node, packet)?;
        let arrival = first.ok_or(Lost::Link)?;
        net.arrive(arrival.at, arrival)
    }

    /// Two offices with the same private addresses, and a public host.
    fn world(behaviour: Behaviour) -> Net {
        let mut net = Net::new(Rng::new(7));
        let public = net.segment();
        net.attach(public, at("198.51.100.1:0").ip(), NodeId(0), Link::LAN);
        for (n, face) in [(1, "203.0.113.1:0"), (2, "203.0.113.2:0")] {
            let lan = net.segment();
            net.attach(lan, at("192.168.1.10:0").ip(), NodeId(n), Link::LAN);
            net.attach(lan, at("192.168.1.11:0").ip(), NodeId(n + 10), Link::LAN);
            net.gateway((lan, public), behaviour, at(face).ip(), Link::LAN);
        }
        net
    }

    #[test]
    fn a_reply_comes_back_through_the_box_and_a_stranger_does_not() {
        let mut net = world(Behaviour::port_restricted(Duration::from_secs(30)));
        let (node, seen) = deliver(&mut net, NodeId(2), packet("192.168.1.10:5060", "198.51.100.1:5060")).expect("out");
        assert_eq!((node, seen.from.ip()), (NodeId(0), at("203.0.113.2:0").ip()));
        let back = Packet::datagram(seen.to, seen.from, Vec::new());
        let (node, seen_back) = deliver(&mut net, NodeId(0), back).expect("back");
        assert_eq!((node, seen_back.to), (NodeId(2), at("192.168.1.10:5060")));
        let stranger = Packet::datagram(at("198.51.100.1:9"), seen.from, Vec::new());
        assert_eq!(deliver(&mut net, NodeId(0), stranger), Err(Lost::Filtered));
        let private = packet("198.51.100.1:5060", "192.168.1.10:5060");
        assert_eq!(deliver(&mut net, NodeId(0), private), Err(Lost::NoRoute));
    }

    /// RFC 4787 §6.
    #[test]
    fn neighbours_meet_by_their_outer_address_only_with_hairpinning() {
        for hairpin in [false, true] {
            let mut net = world(Behaviour { hairpin, ..Behaviour::full_cone(Duration::from_secs(30)) });
            let (_, seen) =
                deliver(&mut net, NodeId(1), packet("192.168.1.10:5060", "198.51.100.1:5060")).expect("out");
            let across = Packet::datagram(at("192.168.1.11:5060"), seen.from, Vec::new());
            let met = deliver(&mut net, NodeId(11), across);
            assert_eq!(
                met.map(|(node, p)| (node, p.from.ip())),
                match hairpin {
                    true => Ok((NodeId(1), at("203.0.113.1:0").ip())),
                    false => Err(Lost::NoHairpin),
                }
            );
        }
    }

    #[test]
    fn a_new_public_address_leaves_the_old_one_dead() {
        let mut net = world(Behaviour::full_cone(Duration::from_secs(30)));
        let (_, seen) = deliver(&mut net, NodeId(1), packet("192.168.1.10:5060", "198.51.100.1:5060")).expect("out");
        net.rebind(NatId(0), Some(at("203.0.113.77:0").ip()));
        let back = Packet::datagram(seen.to, seen.from, Vec::new());
        assert_eq!(deliver(&mut net, NodeId(0), back), Err(Lost::NoRoute));
    }
}
