//! Pings: OPTIONS to phones behind a NAT, whose answers refresh their
//! mapping, and to the upstream, which keeps our own mapping and filter open
//! and shows us the address that it sees (RFC 3581 `received`, `rport`); an
//! upstream that answers STUN gets that instead, most of the time.

use std::time::{Duration, Instant};

use nat::Mapped;
use nat::keepalive::Schedule;
use registry::BindingId;
use wire::sip::compose::Request;
use wire::sip::{Method, Uri};
use wire::{Flow, ListenerId};

use crate::config::{Role, Upstream};
use crate::locate::Hop;
use crate::request::Target;
use crate::timer::Timer;
use crate::transaction::Ours;
use crate::upstream::PROBE_PATIENCE;
use crate::{Observed, Proxy};

/// Pause before a listener without an address tries again.
const RETRY: Duration = Duration::from_secs(2);

/// The ping schedule of one binding.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ping {
    due: Instant,
}

impl Proxy {
    /// Starts or stops the pings of a binding.
    pub(crate) fn keep_pinged(&mut self, now: Instant, id: BindingId, wanted: bool) {
        if !wanted {
            return self.stop_pings(id);
        }
        if !self.pings.contains_key(&id) {
            let due = Schedule::PHONE.next(now, &mut self.rng);
            self.pings.insert(id, Ping { due });
            self.timers.arm(due, Timer::Ping(id));
        }
    }

    /// Starts the pings of a binding that was restored: among all that were,
    /// its first one falls anywhere within an interval.
    pub(crate) fn ping_again(&mut self, now: Instant, id: BindingId) {
        let due = Schedule::PHONE.first(now, &mut self.rng);
        self.pings.insert(id, Ping { due });
        self.timers.arm(due, Timer::Ping(id));
    }

    pub(crate) fn stop_pings(&mut self, id: BindingId) {
        if let Some(ping) = self.pings.remove(&id) {
            self.timers.disarm(ping.due, Timer::Ping(id));
        }
    }

    pub(crate) fn ping_due(&mut self, now: Instant, id: BindingId) {
        let Some(binding) = self.registry.binding(id) else {
            self.pings.remove(&id);
            return;
        };
        let target = Target {
            uri: Some(binding.contact().to_vec()),
            hop: Hop::Flow(binding.flow.get()),
            binding: Some(id),
            phone: binding.phone,
            flows: Vec::new(),
        };
        let flow = binding.flow.get();
        let to = format!("<{}>", String::from_utf8_lossy(binding.contact()));
        let due = Schedule::PHONE.next(now, &mut self.rng);
        self.pings.insert(id, Ping { due });
        self.timers.arm(due, Timer::Ping(id));
        self.ask_options(now, flow, target, Ours::Ping(id), &to);
    }

    /// Every listener that faces the upstream keeps its way open.
    pub(crate) fn start_upstream_pings(&mut self, now: Instant, listener: u16) {
        let Some(config) = self.config.listeners.get(usize::from(listener)) else { return };
        if self.config.role == Role::Standalone || config.side == self.config.role.phones() {
            return;
        }
        self.arm_upstream(now, listener, now);
    }

    pub(crate) fn upstream_due(&mut self, now: Instant, listener: u16) {
        let (probes, complete) = self.probes_due(now, listener);
        for way in probes {
            let Some(uri) = way.upstream.and_then(|upstream| self.config.upstreams.get(upstream)).map(Upstream::uri)
            else {
                continue;
            };
            if !way.flow.transport.reliable() && self.stun_keepalive(now, way.flow) {
                continue;
            }
            let flow = self.take(&way);
            let probed = way.flow;
            let hop = Hop::Way { way, of: Vec::new() };
            let target =
                Target { uri: Some(uri.clone().into_bytes()), hop, binding: None, phone: None, flows: Vec::new() };
            let purpose = Ours::PingUpstream { listener };
            if let Some(id) = self.ask_options(now, flow, target, purpose, &format!("<{uri}>")) {
                self.probing(probed);
                self.hurry(now, id, PROBE_PATIENCE);
            }
        }
        let due = if complete { self.next_probes(now, listener) } else { now + RETRY };
        self.arm_upstream(now, listener, due);
    }

    pub(crate) fn ask_options(
        &mut self,
        now: Instant,
        flow: Flow,
        target: Target,
        purpose: Ours,
        to: &str,
    ) -> Option<crate::transaction::Id> {
        let own = self.own(flow);
        let (tag, call_id) = (self.fresh_text(), self.fresh_text());
        let from = format!("<sip:siplatch@{own}>;tag={tag}");
        let uri = target.uri.clone().unwrap_or_default();
        if Uri::parse(&uri).is_err() {
            return None;
        }
        self.originate(now, flow, target, purpose, |via| {
            let mut bytes = Vec::with_capacity(384);
            Request {
                method: Method::Options,
                uri: &uri,
                via,
                route: &[],
                from: from.as_bytes(),
                to: to.as_bytes(),
                call_id: call_id.as_bytes(),
                cseq: 1,
                extra: b"",
                body: None,
            }
            .write(&mut bytes);
            bytes
        })
    }

    /// True when a listener's advertised address is found out and may change.
    pub(crate) fn is_discovered(&self, listener: ListenerId) -> bool {
        self.config
            .listeners
            .get(usize::from(listener.0))
            .is_some_and(|l| matches!(l.advertise, nat::Advertise::Stun | nat::Advertise::StunAddress))
    }

    /// The upstream's view of our address; believed by the rules for mapped
    /// addresses, and only on listeners whose address must be discovered.
    pub(crate) fn seen_by_upstream(&mut self, now: Instant, listener: u16, flow: Flow, address: std::net::SocketAddr) {
        let id = ListenerId(listener);
        let discovered = self.is_discovered(id);
        let believable = !nat::address::is_absurd(address.ip())
            && !address.ip().is_loopback()
            && address.port() != 0
            && (!nat::address::is_private(address.ip()) || nat::address::is_private(flow.remote.ip()));
        let before = self.advertised_for(id);
        let Some(seen) = self.seen.get_mut(usize::from(listener)) else { return };
        if discovered && believable && seen.observed != Some(address) {
            seen.observed = Some(address);
            self.note_addresses();
            self.observe(Observed::AdvertisedChanged { listener: id, address: Some(address), by: "upstream" });
            self.address_changed(now, false);
            self.calls_moved(now, id, before, false);
        }
    }

    /// STUN's view of our address.
    pub(crate) fn mapped(&mut self, now: Instant, listener: ListenerId, mapped: Option<Mapped>) {
        let before = self.advertised_for(listener);
        let Some(seen) = self.seen.get_mut(usize::from(listener.0)) else { return };
        if seen.mapped == mapped {
            return;
        }
        let moved = seen.mapped.is_some() && mapped.is_some();
        seen.mapped = mapped;
        if moved {
            // What the upstream saw before is not true any more.
            seen.observed = None;
        }
        let address = seen.observed.or(mapped.map(|m| m.0));
        self.note_addresses();
        if moved {
            self.arm_upstream(now, listener.0, now);
        }
        self.observe(Observed::AdvertisedChanged { listener, address, by: "stun" });
        self.address_changed(now, true);
        self.calls_moved(now, listener, before, true);
    }
}

#[cfg(test)]
mod tests;
