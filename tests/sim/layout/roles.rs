//! The three roles: who is where, and what siplatch is told of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use media::{PortRange, RangeId};
use nat::{Advertise, Prefix, Side};
use proxy::Config;
use proxy::config::{DigestAlgorithm, Listener, Media, MediaKeepAlive, Phone, Role, Upstream, User};
use wire::Transport;

use super::{DOMAIN, EDGE, FEW, OWN, PORTS, STUN, Stage, door, other_face, sip, v4};
use crate::invariants::Truth;
use crate::link::Link;
use crate::nat::{Behaviour, Dependence};
use crate::net::SegmentId;
use crate::scenario::MEDIA_TIMEOUT;
use crate::stun::StunServer;
use crate::world::Node;

impl Stage {
    pub(super) fn border(&mut self) -> (Config, Truth, SocketAddr) {
        let inside = self.world.net.segment();
        let (own, core) = (v4(10, 0, 0, 2), v4(10, 0, 0, 5));
        self.homes = vec![(own, inside), (EDGE, self.public)];
        self.core(inside, core);
        let lans: Vec<SegmentId> = (0..self.rng.between(1, 3)).map(|n| self.lan(n as u8)).collect();
        let phones = self.book.len();
        for index in 0..phones {
            let last = index + 1 == phones;
            if last && phones > 2 && self.rng.chance(300) {
                let ip = v4(10, 0, 0, 20);
                self.phone(index, (inside, ip, Link::LAN), sip(core), DOMAIN, None);
            } else if self.rng.chance(200) {
                let ip = v4(198, 51, 100, 100 + index as u8);
                let link = self.script.weather.link(&mut self.rng);
                self.phone(index, (self.public, ip, link), sip(EDGE), DOMAIN, None);
            } else {
                let at = self.rng.below(lans.len());
                let ip = v4(192, 168, 1, 10 + index as u8);
                let nat = self.gateways[at];
                self.phone(index, (lans[at], ip, Link::LAN), sip(EDGE), DOMAIN, Some(nat));
            }
        }
        let mut listeners = vec![listener(Side::Inner, own, 5060), listener(Side::Outer, EDGE, 5060)];
        listeners.extend(streams(Side::Inner, own, &[Transport::Tcp, Transport::Tls]));
        listeners.extend(streams(Side::Outer, EDGE, &Transport::ALL[1..]));
        let truth = self.truth(Role::Border, "10.0.0.0/24", [vec![own], vec![EDGE]], Some(core));
        (self.config(Role::Border, listeners, true), truth, sip(EDGE))
    }

    pub(super) fn office(&mut self) -> (Config, Truth, SocketAddr) {
        let lan = self.world.net.segment();
        let (own, core) = (v4(192, 168, 1, 2), v4(203, 0, 113, 5));
        let face = v4(198, 51, 100, 20);
        let link = self.script.weather.link(&mut self.rng);
        let filtering = self.rng.pick(&Dependence::ALL);
        let behaviour = Behaviour { mapping: Dependence::EndpointIndependent, filtering, ..self.behaviour() };
        let nat = self.world.net.gateway((lan, self.public), behaviour, face, link);
        self.gateways.push(nat);
        self.homes = vec![(own, lan)];
        self.core(self.public, core);
        // One server suffices, if it is asked twice.
        let servers = if self.rng.chance(150) { 1 } else { STUN.len() };
        for ip in STUN.into_iter().take(servers) {
            let id = self.world.add("stun", Node::Stun(StunServer::default()));
            self.world.net.attach(self.public, ip, id, Link::LAN);
        }
        let phones = self.book.len();
        for index in 0..phones {
            if index + 1 == phones && self.rng.chance(600) {
                let ip = v4(203, 0, 113, 60);
                self.phone(index, (self.public, ip, Link::LAN), sip(core), DOMAIN, Some(nat));
            } else {
                let ip = v4(192, 168, 1, 10 + index as u8);
                self.phone(index, (lan, ip, Link::LAN), sip(own), DOMAIN, Some(nat));
            }
        }
        let mut outer = listener(Side::Outer, own, 5062);
        outer.advertise = Advertise::Stun;
        let beside = |transport, port| Listener { transport, bind: SocketAddr::new(own, port), ..outer.clone() };
        let beside = [beside(Transport::Tcp, 5062), Listener { accepts: false, ..beside(Transport::Tls, 5063) }];
        let mut listeners = vec![listener(Side::Inner, own, 5060), outer];
        listeners.extend(beside);
        listeners.extend(streams(Side::Inner, own, &Transport::ALL[1..]));
        let faces = vec![face, other_face(face)];
        let truth = self.truth(Role::Office, "192.168.1.0/24", [vec![own], faces], Some(core));
        (self.config(Role::Office, listeners, true), truth, SocketAddr::new(face, 5062))
    }

    pub(super) fn standalone(&mut self) -> (Config, Truth, SocketAddr) {
        let lan = self.world.net.segment();
        let own = v4(10, 1, 1, 2);
        let remote = self.rng.chance(500);
        self.homes = vec![(own, lan), (EDGE, self.public)];
        self.homes.truncate(1 + usize::from(remote));
        // Remote phones are let in only by password.
        self.passwords |= remote;
        let outside: Option<SegmentId> = remote.then(|| self.lan(0));
        for index in 0..self.book.len() {
            if let Some(segment) = outside.filter(|_| self.rng.chance(500)) {
                let ip = v4(192, 168, 1, 10 + index as u8);
                let domain = EDGE.to_string();
                self.phone(index, (segment, ip, Link::LAN), sip(EDGE), &domain, Some(self.gateways[0]));
            } else {
                let ip = v4(10, 1, 1, 10 + index as u8);
                let link = self.script.weather.link(&mut self.rng);
                self.phone(index, (lan, ip, link), sip(own), &own.to_string(), None);
            }
        }
        let mut listeners = vec![listener(Side::Inner, own, 5060)];
        if remote {
            listeners.push(listener(Side::Outer, EDGE, 5060));
            listeners.extend(streams(Side::Outer, EDGE, &Transport::ALL[1..]));
        }
        listeners.extend(streams(Side::Inner, own, &Transport::ALL[1..]));
        let truth = self.truth(Role::Standalone, "10.1.1.0/24", [vec![own], vec![EDGE]], None);
        // Without a public face the stranger is a guest in the LAN.
        if !remote {
            self.public = lan;
        }
        (self.config(Role::Standalone, listeners, false), truth, sip(if remote { EDGE } else { own }))
    }

    /// A private network behind a box of some make.
    fn lan(&mut self, n: u8) -> SegmentId {
        let lan = self.world.net.segment();
        let link = self.script.weather.link(&mut self.rng);
        let face = v4(198, 51, 100, 10 + n);
        let mapping = self.rng.pick(&Dependence::ALL);
        let behaviour = Behaviour { mapping, meddles: self.rng.chance(100), ..self.behaviour() };
        let nat = self.world.net.gateway((lan, self.public), behaviour, face, link);
        self.friends.extend([face, other_face(face)]);
        self.gateways.push(nat);
        lan
    }

    fn behaviour(&mut self) -> Behaviour {
        let rng = &mut self.rng;
        Behaviour {
            mapping: Dependence::EndpointIndependent,
            filtering: rng.pick(&Dependence::ALL),
            preserves_port: rng.chance(500),
            lifetime: Duration::from_secs(rng.pick(&[30, 30, 60, 120])),
            inbound_refresh: rng.chance(500),
            hairpin: rng.chance(500),
            meddles: false,
            stream_lifetime: Duration::from_secs(rng.pick(&[300, 900, 7_440])),
            resets: rng.chance(500),
        }
    }

    fn truth(&self, role: Role, inner: &str, own: [Vec<IpAddr>; 2], upstream: Option<IpAddr>) -> Truth {
        Truth {
            role,
            sides: Vec::new(),
            inner: inner.parse::<Prefix>().into_iter().collect(),
            own: own.map(|ips| ips.into_iter().collect()),
            friends: BTreeSet::new(),
            strangers: BTreeSet::new(),
            upstream,
        }
    }

    fn config(&mut self, role: Role, listeners: Vec<Listener>, upstream: bool) -> Config {
        let upstream = upstream.then(|| Upstream {
            host: "sip.provider.example".to_owned(),
            port: Some(door(EDGE, self.upstream).port()),
            transport: Some(self.upstream).filter(|t| *t != Transport::Udp),
            sips: false,
            domain: None,
            comedia: false,
            default_phone: None,
            fallback: Vec::new(),
        });
        // The first phone's user has a range of its own, inside the common one.
        let ranged = !self.script.tight && self.rng.chance(300);
        let phone =
            Phone { name: "own".into(), user: Some(self.book[0].clone()), range: Some(RangeId(1)), ..Phone::default() };
        let common = PortRange { first: PORTS.0, last: if self.script.tight { FEW } else { PORTS.1 } };
        let own = ranged.then_some(PortRange { first: OWN.0, last: OWN.1 });
        let users = self.book.iter().enumerate().filter(|_| role == Role::Standalone);
        let users = users.filter_map(|(n, name)| Some((name.clone(), self.password(n)?)));
        let users = users.collect::<BTreeMap<_, _>>().into_iter().map(|(name, password)| User { name, password });
        Config {
            role,
            listeners,
            upstreams: upstream.into_iter().collect(),
            networks: Vec::new(),
            phones: ranged.then_some(phone).into_iter().collect(),
            users: users.collect(),
            digest: DigestAlgorithm::PREFERRED.to_vec(),
            media: Media {
                ranges: std::iter::once(common).chain(own).collect(),
                keepalive: MediaKeepAlive::Stun,
                timeout: MEDIA_TIMEOUT,
                workers: self.rng.between(1, 2) as u8,
                reserve: 4,
            },
            names: vec![],
            limits: wire::sip::Limits::default(),
        }
    }
}

fn streams(side: Side, ip: IpAddr, transports: &[Transport]) -> impl Iterator<Item = Listener> {
    let at = move |transport: &Transport| Listener {
        transport: *transport,
        bind: door(ip, *transport),
        ..listener(side, ip, 0)
    };
    transports.iter().map(at)
}

fn listener(side: Side, ip: IpAddr, port: u16) -> Listener {
    Listener {
        side,
        transport: Transport::Udp,
        accepts: true,
        secure: false,
        bind: SocketAddr::new(ip, port),
        advertise: Advertise::Listen,
        advertise_port: None,
        phone: None,
        retired: false,
    }
}
