//! Who lives in a world: phones of many makes, the core, and strangers.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use proxy::config::Role;
use wire::Transport;

use super::{DOMAIN, PORTS, SPOOF, Stage, USERS, VICTIM, door, sip, v4};
use crate::attacker::{Attack, Attacker, Campaign};
use crate::core::Core;
use crate::link::Link;
use crate::net::{NatId, SegmentId};
use crate::phone::sdp::Looks;
use crate::phone::{Phone, Profile};
use crate::scenario::FIRST_CALL;
use crate::world::Node;

impl Stage {
    pub(super) fn password(&self, index: usize) -> Option<String> {
        self.passwords.then(|| format!("secret-of-{}", self.book[index]))
    }

    pub(super) fn core(&mut self, segment: SegmentId, ip: IpAddr) {
        let passwords = self.book.iter().enumerate();
        let passwords = passwords.filter_map(|(n, user)| Some((user.clone(), self.password(n)?))).collect();
        // Through a router it cannot open connections: it must use those that came in.
        let reuses = ip != v4(10, 0, 0, 5) || self.rng.chance(500);
        let core = Core::new(sip(ip), DOMAIN, passwords, self.algorithm, reuses, self.rng.fork(77));
        let id = self.world.add("core", Node::Core(Box::new(core)));
        self.world.net.attach(segment, ip, id, Link::LAN);
        self.friends.insert(ip);
    }

    /// A phone of some make.
    pub(super) fn phone(
        &mut self,
        index: usize,
        (segment, ip, link): (SegmentId, IpAddr, Link),
        proxy: SocketAddr,
        domain: &str,
        nat: Option<NatId>,
    ) {
        let password = self.password(index);
        let core = self.world.nodes.iter().any(|node| matches!(node, Node::Core(core) if core.address == proxy));
        let all = if core { &Transport::ALL[..3] } else { &Transport::ALL };
        let transport = if self.rng.chance(300) { Transport::Udp } else { self.rng.pick(all) };
        self.transports.push(transport);
        let misnamed = nat.is_some_and(|nat| self.world.net.nat(nat).behaviour.meddles);
        let meddled = misnamed && transport == Transport::Udp;
        let rng = &mut self.rng;
        let looks = Looks {
            media_connection: rng.chance(300),
            rtcp: rng.chance(300),
            video: rng.chance(200),
            ice: rng.chance(200),
        };
        let profile = Profile {
            user: self.book[index].clone(),
            domain: domain.to_owned(),
            ip,
            port: if rng.chance(700) { 5060 } else { 5060 + 2 * rng.between(1, 500) as u16 },
            transport,
            pings: if rng.chance(300) { Duration::from_secs(30) } else { rng.millis(95_000, 120_000) },
            repeats: rng.chance(500),
            proxy: if transport == Transport::Udp { proxy } else { door(proxy.ip(), transport) },
            password,
            expires: rng.pick(&[120, 600, 3600]),
            compact: rng.chance(300),
            odd: rng.chance(300),
            comedia: rng.chance(500),
            new_source: rng.chance(300),
            looks,
            interval: Duration::from_millis(20),
            meddled,
            misnamed,
        };
        let start = rng.millis(300, 2_500);
        let (plans, book) = (Rc::clone(&self.world.plans), Rc::clone(&self.book));
        let phone = Phone::new(profile, index, plans, book, start, rng.fork(index as u64));
        let id = self.world.add(USERS[index], Node::Phone(Box::new(phone)));
        self.world.net.attach(segment, ip, id, link);
        self.friends.insert(ip);
        self.boxes.push(nat);
    }

    pub(super) fn strangers(&mut self, role: Role, target: SocketAddr) {
        let same_net = target.ip() == v4(10, 1, 1, 2);
        let victim = if same_net { v4(10, 1, 1, 99) } else { VICTIM };
        let id = self.world.add("bystander", Node::Bystander);
        self.world.net.attach(self.public, victim, id, Link::LAN);
        self.strangers.insert(victim);
        if !self.script.attacked {
            return;
        }
        let (first, last) = if role == Role::Office { (20_000, 29_999) } else { PORTS };
        let spray = Attack::Spray { first, last, per_second: if role == Role::Office { 1_000 } else { 400 } };
        let open = role == Role::Standalone && !self.passwords;
        // In an open LAN everybody may register and call: there, forging is no attack.
        let others = if open { &[Attack::Stray][..] } else { &[Attack::Forge, Attack::Stray, Attack::Garbage] };
        let mut attacks = vec![spray, self.rng.pick(others)];
        if let Some(as_if) = self.gateways.first().filter(|_| self.script.spoofed && role == Role::Border) {
            attacks.push(Attack::Spoof { first, last, as_if: self.world.net.nat(*as_if).public });
        }
        for (n, attack) in attacks.into_iter().enumerate() {
            let last_octet = 90 + n as u8;
            let ip = if same_net { v4(10, 1, 1, last_octet) } else { v4(203, 0, 113, last_octet) };
            let from = if n == 0 { FIRST_CALL } else { self.rng.millis(1_000, 14_000) };
            let mut campaign = Campaign { attack, from, until: from + self.rng.millis(5_000, 15_000) };
            if matches!(attack, Attack::Spoof { .. }) {
                // While the first call is on, and its latches are held.
                (campaign.from, campaign.until) = (FIRST_CALL + SPOOF.0, FIRST_CALL + SPOOF.1);
            }
            let rng = self.rng.fork(n as u64 + 900);
            let attacker = Attacker::new(sip(ip), target, sip(victim), campaign, rng);
            let id = self.world.add(format!("stranger{n}"), Node::Attacker(Box::new(attacker)));
            self.world.net.attach(self.public, ip, id, Link::LAN);
            self.strangers.insert(ip);
        }
    }
}
