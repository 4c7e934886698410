//! UPnP IGD: the questions, and what follows from the answers. It has no epoch
//! and no announcements that could be relied on, so mappings are looked at in
//! turn; but it says whose a port is, and lists what there is.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use wire::portmap::Proto;

use super::lease::Refusal;
use super::{Ask, Gateway, LIFETIME, Nonsense, Phase, Portmap, Protocol};

/// Mappings whose description begins so are ours, if they lead to our address.
pub const OURS: &str = "siplatch ";

/// The most places of the router's list that are looked at.
const LIST_MOST: u16 = 512;

/// What a router is asked by UPnP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// Is there a gateway that maps ports? `Found` or `Failed`.
    Find,
    /// Its public address. `External`.
    External,
    /// Map for so many seconds; without end, if 0. `Done`.
    Add {
        /// UDP or TCP.
        proto: Proto,
        /// The public port.
        external: u16,
        /// Our address.
        client: Ipv4Addr,
        /// Our port.
        internal: u16,
        /// What the router shows.
        description: String,
        /// Seconds.
        lease: u32,
    },
    /// Remove. `Done`.
    Delete(Proto, u16),
    /// Whose is this public port? `Entry`, or `Fault(714)`: nobody's.
    Look(Proto, u16),
    /// What is at this place of your list? `Entry`, or a fault after the last.
    List(u16),
}

/// What came of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// There is a gateway.
    Found,
    /// It was done.
    Done,
    /// The public address.
    External(Ipv4Addr),
    /// A mapping.
    Entry(Entry),
    /// An error of this number.
    Fault(u16),
    /// No answer, or none that can be read.
    Failed,
}

/// A mapping of the router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// UDP or TCP.
    pub proto: Proto,
    /// The public port.
    pub external: u16,
    /// Where it leads, as written.
    pub client: String,
    /// Its port there.
    pub internal: u16,
    /// What it is said to be for.
    pub description: String,
}

impl Entry {
    /// It leads to us, and to this port or from an earlier process.
    fn ours(&self, local: Ipv4Addr, internal: u16) -> bool {
        self.client == local.to_string() && (self.internal == internal || self.description.starts_with(OURS))
    }

    fn owner(&self) -> String {
        let plain = |text: &str| text.chars().filter(|c| !c.is_control()).take(60).collect::<String>();
        format!("{}:{} (\"{}\")", plain(&self.client), self.internal, plain(&self.description))
    }
}

const NO_SUCH_ENTRY: u16 = 714;
const CONFLICT: u16 = 718;
const PERMANENT_ONLY: u16 = 725;
const INVALID_ARGS: u16 = 402;

impl Portmap {
    /// In which words this is asked.
    pub(super) fn question(&mut self, gateway: Gateway, ask: Ask) -> Question {
        let lease = if self.permanent { 0 } else { LIFETIME };
        let want = self.lease_of(ask).map(|lease| lease.want.clone());
        match (ask, want) {
            (Ask::Probe, _) => Question::Find,
            (Ask::List(at), _) => Question::List(at),
            (Ask::Sweep(proto, external), _) => Question::Delete(proto, external),
            (Ask::Map(_), Some(want)) => Question::Add {
                proto: want.proto,
                external: want.external,
                client: gateway.local,
                internal: want.internal,
                description: format!("{OURS}{}", want.name),
                lease,
            },
            (Ask::Unmap(_), Some(want)) => Question::Delete(want.proto, want.external),
            (Ask::Look(_) | Ask::Owner(_) | Ask::Poll(_), Some(want)) => Question::Look(want.proto, want.external),
            (Ask::External | Ask::Poll(_) | Ask::Map(_) | Ask::Unmap(_) | Ask::Look(_) | Ask::Owner(_), _) => {
                Question::External
            }
        }
    }

    /// The answer to the last question.
    pub(super) fn igd_replied(&mut self, now: Instant, reply: Reply) {
        let (Some(gateway), Some(asking)) = (self.gateway, self.asking.take()) else { return };
        let ask = asking.ask;
        if reply == Reply::Failed {
            self.unanswered(now, ask);
            return;
        }
        self.silent = None;
        match ask {
            Ask::Probe => match (reply, self.phase) {
                (Reply::Found, Phase::Seeking(Protocol::Upnp)) => self.spoken(now, Protocol::Upnp),
                // There again: what it still knows is looked at now.
                (_, Phase::Using(_)) => self.poll = now,
                _ => self.not_spoken(now),
            },
            Ask::External | Ask::Poll(None) => self.igd_external(now, reply),
            Ask::List(at) => self.igd_listed(gateway, at, reply),
            Ask::Sweep(..) => {
                // One that cannot be removed must not hold us up.
                if let (Some(at), Reply::Fault(_)) = (&mut self.sweep, &reply) {
                    *at += 1;
                }
            }
            Ask::Unmap(key) => self.leases.retain(|lease| !(lease.leaving && lease.key() == key)),
            Ask::Look(_) => self.igd_looked(now, gateway, ask, reply),
            Ask::Owner(_) => {
                let owner = if let Reply::Entry(entry) = reply { Some(entry.owner()) } else { None };
                self.conflict(now, ask, owner);
            }
            Ask::Map(_) => self.igd_added(now, ask, reply),
            Ask::Poll(Some(_)) => self.igd_polled(now, gateway, ask, reply),
        }
    }

    fn igd_external(&mut self, now: Instant, reply: Reply) {
        self.external_due = match reply {
            Reply::External(ip) if ip.is_unspecified() => Some(now + Duration::from_secs(5)),
            // It may change, and nothing else would tell.
            Reply::External(ip) if self.outside(ip).is_ok() => Some(now + Duration::from_secs(60)),
            Reply::External(_) | Reply::Found | Reply::Done | Reply::Entry(_) | Reply::Fault(_) | Reply::Failed => {
                Some(now + Duration::from_secs(60))
            }
        };
    }

    /// What an earlier process of ours left is removed, if it is wanted no more.
    fn igd_listed(&mut self, gateway: Gateway, at: u16, reply: Reply) {
        let Reply::Entry(entry) = reply else {
            self.sweep = None;
            return;
        };
        let wanted =
            self.leases.iter().any(|lease| lease.want.proto == entry.proto && lease.want.external == entry.external);
        let stale = entry.client == gateway.local.to_string() && entry.description.starts_with(OURS) && !wanted;
        self.sweep = (at < LIST_MOST).then_some(if stale { at } else { at + 1 });
        if stale {
            tracing::info!(external = entry.external, description = entry.description, "a stale mapping is removed");
            self.next_sweep = Some((entry.proto, entry.external));
        }
    }

    fn igd_looked(&mut self, now: Instant, gateway: Gateway, ask: Ask, reply: Reply) {
        let Some(lease) = self.lease_of(ask) else { return };
        match reply {
            Reply::Entry(entry) if !entry.ours(gateway.local, lease.want.internal) => {
                self.conflict(now, ask, Some(entry.owner()));
            }
            // Ours, nobody's, or a router that cannot tell: what it says to the mapping counts.
            Reply::Entry(_) | Reply::Found | Reply::Done | Reply::External(_) | Reply::Fault(_) | Reply::Failed => {
                lease.looked = true;
                lease.due = Some(now);
            }
        }
    }

    fn igd_added(&mut self, now: Instant, ask: Ask, reply: Reply) {
        let (permanent, external) = (self.permanent, self.external);
        let lifetime = (!permanent).then_some(LIFETIME);
        let mut rng = self.rng.clone();
        let Some(lease) = self.lease_of(ask) else { return };
        match reply {
            Reply::Done => {
                // A lease that we chose ourselves is long enough.
                let _ = lease.granted(now, external, lifetime, Protocol::Upnp, &mut rng);
            }
            Reply::Fault(CONFLICT) => {
                let key = lease.key();
                self.next_owner = Some(key);
            }
            Reply::Fault(PERMANENT_ONLY | INVALID_ARGS) if !permanent => {
                lease.due = Some(now);
                self.permanent = true;
            }
            Reply::Fault(606) => self.refuse(now, ask, Refusal::NotAuthorized, Duration::ZERO),
            Reply::Fault(728) => self.refuse(now, ask, Refusal::NoResources, Duration::ZERO),
            Reply::Fault(code) => self.refuse(now, ask, Refusal::Code(code), Duration::ZERO),
            Reply::Found | Reply::External(_) | Reply::Entry(_) | Reply::Failed => {
                self.nonsense(Nonsense::Unreadable);
                self.refuse(now, ask, Refusal::Code(0), Duration::ZERO);
            }
        }
    }

    fn igd_polled(&mut self, now: Instant, gateway: Gateway, ask: Ask, reply: Reply) {
        let Some(lease) = self.lease_of(ask) else { return };
        match reply {
            Reply::Entry(entry) if !entry.ours(gateway.local, lease.want.internal) => {
                self.conflict(now, ask, Some(entry.owner()));
            }
            Reply::Fault(NO_SUCH_ENTRY) => self.forgot(now, false),
            Reply::Entry(_) | Reply::Found | Reply::Done | Reply::External(_) | Reply::Fault(_) | Reply::Failed => {}
        }
    }
}
