//! Next hops (RFC 3263) as a decision: a cache of located names, and the
//! question that goes out when one is missing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use wire::sip::Host;
use wire::{Flow, ListenerId};

use crate::connection::CONNECT;
use crate::timer::Timer;
use crate::{Location, Output, Proxy};

/// A located name is looked up again after this.
const REFRESH: Duration = Duration::from_secs(60);
/// A name that did not resolve is tried again after this.
const RETRY: Duration = Duration::from_secs(5);
/// Names kept at most; signalling can make us look up only what a proven peer asks for.
const MOST: usize = 1024;

/// Where a request goes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Hop {
    /// Over a known flow.
    Flow(Flow),
    /// To a host, out of this listener.
    Host { host: String, port: u16, listener: ListenerId },
}

/// What is known of a hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Located {
    /// Send here.
    At(Flow),
    /// Asked; the answer is an input.
    Wait,
    /// It does not resolve.
    Nowhere,
}

#[derive(Debug)]
struct Entry {
    locations: Vec<Location>,
    asked: bool,
    listener: ListenerId,
    refresh: Instant,
    keep: bool,
}

/// The cache.
#[derive(Debug, Default)]
pub(crate) struct Locations(BTreeMap<(String, u16), Entry>);

impl Locations {
    /// What was located for a listener that is gone.
    pub(crate) fn forget(&mut self, gone: impl Fn(ListenerId) -> bool) {
        self.0.retain(|_, entry| !gone(entry.listener));
    }

    /// No host is a configured one any more.
    pub(crate) fn keep_none(&mut self) {
        self.0.values_mut().for_each(|entry| entry.keep = false);
    }

    /// True if a packet from `ip` may be from this host.
    pub(crate) fn has(&self, host: &str, port: u16, ip: std::net::IpAddr) -> bool {
        self.0
            .get(&(host.to_owned(), port))
            .is_some_and(|entry| entry.locations.iter().any(|l| l.remote.ip().to_canonical() == ip.to_canonical()))
    }
}

impl Proxy {
    /// Where a hop is; asks when that is not known.
    pub(crate) fn locate(&mut self, now: Instant, hop: &Hop) -> Located {
        let (host, port, listener) = match hop {
            Hop::Flow(flow) => return Located::At(*flow),
            Hop::Host { host, port, listener } => (host, *port, *listener),
        };
        let Some(config) = self.config.listeners.get(usize::from(listener.0)).filter(|l| !l.retired) else {
            return Located::Nowhere;
        };
        let (bind, transport) = (config.bind, config.transport);
        let flow = |remote, local| Flow {
            transport,
            listener,
            connection: 0,
            local: std::net::SocketAddr::new(local, bind.port()),
            remote,
        };
        if let (Some(ip), false) = (Host(host.as_bytes()).ip(), bind.ip().is_unspecified()) {
            let flow = flow(std::net::SocketAddr::new(ip, port), bind.ip());
            return Located::At(self.outgoing(flow, host, CONNECT));
        }
        match self.locations.0.get(&(host.clone(), port)) {
            Some(entry) => match entry.locations.iter().find(|l| l.remote.is_ipv4() == bind.is_ipv4()) {
                Some(l) => {
                    let flow = flow(l.remote, if bind.ip().is_unspecified() { l.local } else { bind.ip() });
                    Located::At(self.outgoing(flow, host, CONNECT))
                }
                None if entry.asked => Located::Wait,
                None => Located::Nowhere,
            },
            None => {
                self.ask(now, host.clone(), port, listener, false);
                Located::Wait
            }
        }
    }

    /// The other addresses of a hop, the next one last (RFC 3263 §4.3).
    pub(crate) fn others(&self, hop: &Hop, first: Flow) -> Vec<Flow> {
        let Hop::Host { host, port, listener } = hop else { return Vec::new() };
        let Some(entry) = self.locations.0.get(&(host.clone(), *port)) else { return Vec::new() };
        let bind = self.config.listeners.get(usize::from(listener.0)).map(|l| l.bind.ip());
        let wildcard = bind.is_none_or(|ip| ip.is_unspecified());
        let fits = |l: &&Location| l.remote.is_ipv4() == first.remote.is_ipv4() && l.remote != first.remote;
        let flow = |l: &Location| {
            let local = if wildcard { l.local } else { first.local.ip() };
            Flow { remote: l.remote, local: std::net::SocketAddr::new(local, first.local.port()), ..first }
        };
        entry.locations.iter().rev().filter(fits).map(flow).collect()
    }

    /// Keeps a configured host located.
    pub(crate) fn keep_located(&mut self, now: Instant, host: String, port: u16, listener: ListenerId) {
        self.ask(now, host, port, listener, true);
    }

    fn ask(&mut self, now: Instant, host: String, port: u16, listener: ListenerId, keep: bool) {
        if self.locations.0.len() >= MOST
            && let Some(key) = self.locations.0.iter().find(|(_, e)| !e.keep && !e.asked).map(|(k, _)| k.clone())
        {
            self.locations.0.remove(&key);
        }
        let entry = self.locations.0.entry((host.clone(), port)).or_insert_with(|| Entry {
            locations: Vec::new(),
            asked: false,
            listener,
            refresh: now,
            keep,
        });
        entry.keep |= keep;
        if !entry.asked {
            entry.asked = true;
            self.emit(Output::Locate { host, port, listener });
        }
    }

    /// The answer of the resolver. An answer without addresses keeps the last good ones.
    pub(crate) fn located(&mut self, now: Instant, host: &str, port: u16, locations: Vec<Location>) {
        if let Some(entry) = self.locations.0.get_mut(&(host.to_owned(), port)) {
            entry.asked = false;
            let found = !locations.is_empty();
            if found {
                entry.locations = locations;
            }
            entry.refresh = now + if found { REFRESH } else { RETRY };
            self.timers.arm(entry.refresh, Timer::Locate);
        }
        self.resume(now);
    }

    /// Looks configured hosts up again, forgets the others.
    pub(crate) fn locate_due(&mut self, now: Instant) {
        let due: Vec<(String, u16, ListenerId, bool)> = self
            .locations
            .0
            .iter()
            .filter(|(_, e)| !e.asked && e.refresh <= now)
            .map(|((host, port), e)| (host.clone(), *port, e.listener, e.keep))
            .collect();
        for (host, port, listener, keep) in due {
            if keep {
                self.ask(now, host, port, listener, true);
            } else {
                self.locations.0.remove(&(host, port));
            }
        }
    }
}
