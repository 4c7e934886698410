//! What a router says in PCP and NAT-PMP: judged first, then believed.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use wire::portmap::{self, Answer, PcpMap, Proto, Told};

use super::epoch::Verdict;
use super::lease::{Refusal, State};
use super::{Ask, Nonsense, Phase, Portmap, Protocol, server};

/// NAT-PMP and PCP: "I do not speak this version".
const UNSUPPORTED_VERSION: u16 = 1;

impl Portmap {
    /// A datagram of the router, or one that pretends to be.
    pub(super) fn received(&mut self, now: Instant, from: SocketAddr, packet: &[u8], multicast: bool) {
        let Some(gateway) = self.gateway else { return };
        let (Phase::Seeking(protocol) | Phase::Using(protocol)) = self.phase else {
            // It speaks, after all.
            if matches!(self.phase, Phase::Barren(_)) && multicast && from == server(gateway) {
                self.phase = Phase::Idle;
            }
            return;
        };
        if from != server(gateway) {
            // Any host may say to all others that it is a gateway of somebody.
            if !multicast {
                self.nonsense(Nonsense::Stranger(from));
            }
            return;
        }
        let Some(answer) = portmap::read(packet) else {
            // A request that somebody sends to all is none of our business.
            if !multicast {
                self.nonsense(Nonsense::Unreadable);
            }
            return;
        };
        match (answer, protocol) {
            (Answer::Pcp { .. }, Protocol::Pcp) | (Answer::NatPmp { .. }, Protocol::NatPmp) => {
                self.answered(now, protocol, answer, multicast);
            }
            // RFC 6887 §9, RFC 6886 §3.5: it speaks the older one alone.
            (Answer::NatPmp { result: UNSUPPORTED_VERSION, .. }, Protocol::Pcp) => {
                self.asking = None;
                self.not_spoken(now);
            }
            // In the language that we do not use with it: something has happened, so it is asked.
            (Answer::Pcp { .. } | Answer::NatPmp { .. }, _) => self.poll = self.poll.min(now),
        }
    }

    fn answered(&mut self, now: Instant, protocol: Protocol, answer: Answer, multicast: bool) {
        let (result, epoch) = match answer {
            Answer::Pcp { result, epoch, .. } => (u16::from(result), epoch),
            Answer::NatPmp { result, epoch, .. } => (result, epoch),
        };
        if result == UNSUPPORTED_VERSION {
            self.asking = None;
            self.not_spoken(now);
            return;
        }
        if let Phase::Seeking(_) = self.phase {
            self.spoken(now, protocol);
        }
        self.silent = None;
        // An error of NAT-PMP may come without its age.
        if protocol == Protocol::Pcp || result == 0 {
            match self.epoch.heard(now, epoch, protocol == Protocol::Pcp) {
                Verdict::Same => {}
                Verdict::Lost => self.forgot(now, multicast),
                Verdict::Nonsense => self.nonsense(Nonsense::Epoch),
            }
        }
        match answer {
            Answer::Pcp { result, lifetime, map: Some(map), .. } => self.pcp_mapped(now, result, lifetime, map),
            Answer::NatPmp { told: Some(Told::External(ip)), .. } => self.natpmp_external(now, ip),
            Answer::NatPmp { told: Some(Told::Mapped { proto, internal, external, lifetime }), .. } => {
                self.natpmp_mapped(now, proto, internal, external, lifetime);
            }
            // An announcement, the answer to a poll, or an error that does not say of what.
            Answer::Pcp { map: None, .. } | Answer::NatPmp { told: None, .. } => {
                if !multicast && let Some(asking) = self.asking.take() {
                    self.failed(now, asking.ask, protocol, result);
                }
            }
        }
    }

    /// An answer without a body, to this.
    fn failed(&mut self, now: Instant, ask: Ask, protocol: Protocol, result: u16) {
        match ask {
            Ask::Map(_) if result != 0 => {
                let refusal = refusal(protocol, result);
                self.refuse(now, ask, refusal, Duration::ZERO);
            }
            // No body where one is due: it is asked again.
            Ask::Map(_) => {
                if let Some(lease) = self.lease_of(ask) {
                    lease.due = Some(now + Duration::from_secs(60));
                }
            }
            Ask::Unmap(key) => self.leases.retain(|lease| !(lease.leaving && lease.key() == key)),
            Ask::External => self.external_due = Some(now + Duration::from_secs(5)),
            // Even "I do not know this opcode" tells that it is there, and its age.
            Ask::Probe | Ask::Poll(_) | Ask::Look(_) | Ask::Owner(_) | Ask::List(_) | Ask::Sweep(..) => {}
        }
    }

    fn pcp_mapped(&mut self, now: Instant, result: u8, lifetime: u32, map: PcpMap) {
        let removes = self.asking.as_ref().is_some_and(|asking| matches!(asking.ask, Ask::Unmap(_)));
        let about = |lease: &&mut super::Lease| {
            let same = lease.want.proto == map.proto && lease.want.internal == map.internal;
            same && lease.nonce == map.nonce && lease.leaving == removes
        };
        let Some(lease) = self.leases.iter_mut().find(about) else {
            // A late copy is none.
            if !self.leases.iter().any(|lease| lease.nonce == map.nonce) {
                self.nonsense(Nonsense::WrongNonce);
            }
            return;
        };
        let key = lease.key();
        if lease.leaving {
            if self.asking.take_if(|asking| asking.ask == Ask::Unmap(key)).is_some() {
                self.leases.retain(|lease| !(lease.leaving && lease.key() == key));
            }
            return;
        }
        self.asking.take_if(|asking| asking.ask == Ask::Map(key));
        if result != 0 {
            let wait = Duration::from_secs(u64::from(lifetime));
            self.refuse(now, Ask::Map(key), refusal(Protocol::Pcp, u16::from(result)), wait);
            return;
        }
        if let Err(refusal) = self.outside(*map.external.ip()) {
            self.refuse(now, Ask::Map(key), refusal, Duration::ZERO);
            return;
        }
        self.granted(now, Ask::Map(key), map.external.port(), Some(*map.external.ip()), lifetime, Protocol::Pcp);
    }

    fn natpmp_external(&mut self, now: Instant, external: Ipv4Addr) {
        self.asking.take_if(|asking| matches!(asking.ask, Ask::External | Ask::Poll(_) | Ask::Probe));
        // No uplink yet.
        if external.is_unspecified() {
            self.external_due = Some(now + Duration::from_secs(5));
            return;
        }
        if self.outside(external).is_ok() {
            self.external_due = None;
        } else {
            self.external_due = Some(now + Duration::from_secs(60));
        }
    }

    fn natpmp_mapped(&mut self, now: Instant, proto: Proto, internal: u16, external: u16, lifetime: u32) {
        let Some(ask) = self.asking.as_ref().map(|asking| asking.ask) else {
            // A copy of an answer that was taken already.
            return;
        };
        let asked =
            self.lease_of(ask).is_some_and(|lease| lease.want.proto == proto && lease.want.internal == internal);
        match ask {
            Ask::Map(_) if asked => {
                self.asking = None;
                let ip = self.external;
                self.granted(now, ask, external, ip, lifetime, Protocol::NatPmp);
            }
            Ask::Unmap(key) if asked => {
                self.asking = None;
                self.leases.retain(|lease| !(lease.leaving && lease.key() == key));
            }
            Ask::Map(_)
            | Ask::Unmap(_)
            | Ask::Probe
            | Ask::External
            | Ask::Look(_)
            | Ask::Owner(_)
            | Ask::List(_)
            | Ask::Sweep(..)
            | Ask::Poll(_) => {
                let known = |lease: &super::Lease| lease.want.proto == proto && lease.want.internal == internal;
                if !self.leases.iter().any(known) {
                    self.nonsense(Nonsense::WrongNonce);
                }
            }
        }
    }

    /// Something was granted; whether it is what was wanted is seen here.
    fn granted(&mut self, now: Instant, ask: Ask, port: u16, ip: Option<Ipv4Addr>, lifetime: u32, protocol: Protocol) {
        let mut rng = self.rng.clone();
        let Some(lease) = self.lease_of(ask) else { return };
        if port != lease.want.external {
            // Another port is of no use to us: what we write names the one that was wanted.
            let stray = super::Want { external: port, ..lease.want.clone() };
            let nonce = lease.nonce;
            self.conflict(now, ask, None);
            let mut stray = super::Lease::new(now, stray, nonce);
            stray.leave();
            self.leases.push(stray);
            return;
        }
        let granted = lease.granted(now, ip, Some(lifetime), protocol, &mut rng);
        self.rng = rng;
        if let Err(refusal) = granted {
            self.refuse(now, ask, refusal, Duration::ZERO);
        }
    }

    pub(super) fn refuse(&mut self, now: Instant, ask: Ask, refusal: Refusal, wait: Duration) {
        let Some(lease) = self.lease_of(ask) else { return };
        let told = lease.state == State::Refused(refusal);
        lease.refused(now, State::Refused(refusal), wait);
        let name = lease.want.name.clone();
        if !told {
            self.outputs.push_back(super::Output::Finding(super::Finding::Refused { name, refusal }));
        }
    }

    pub(super) fn conflict(&mut self, now: Instant, ask: Ask, owner: Option<String>) {
        let Some(lease) = self.lease_of(ask) else { return };
        let told = lease.state == State::Conflict(owner.clone());
        lease.taken(now, owner.clone());
        let (name, external) = (lease.want.name.clone(), lease.want.external);
        if !told {
            self.outputs.push_back(super::Output::Finding(super::Finding::Conflict { name, external, owner }));
        }
    }
}

/// What an error means (RFC 6886 §3.5, RFC 6887 §7.4).
fn refusal(protocol: Protocol, result: u16) -> Refusal {
    match (protocol, result) {
        (_, 2) => Refusal::NotAuthorized,
        (Protocol::Pcp, 7) | (Protocol::NatPmp, 3) => Refusal::NetworkDown,
        (Protocol::Pcp, 8 | 10) | (Protocol::NatPmp, 4) => Refusal::NoResources,
        (_, code) => Refusal::Code(code),
    }
}
