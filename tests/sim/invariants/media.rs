//! Media goes only to allowed destinations, and no third party gets any,
//! injects any, or moves a held latch (`docs/flows/packet.md`, RFC 7362 §5).
//!
//! A shadow of the legs is kept from commands and facts; where packets then
//! really go must fit it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use ::media::{Command, Component, Early, End, Fact, LegPlan, StreamId, Verdict};
use nat::Side;
use proxy::config::Role;

use super::{Rule, Truth};
use crate::clock::Time;
use crate::edge::Entry;

/// Packets to a phone that has not spoken, per component and exchange.
const CAP: u32 = 50;

#[derive(Debug)]
struct Leg {
    plan: LegPlan,
    stream: StreamId,
    end: End,
    /// Who holds the latch: RTP, RTCP.
    latched: [Option<SocketAddr>; 2],
    /// Sent while nobody held it.
    early: [u32; 2],
    /// The STUN server that its sockets were told to ask.
    asked: Option<SocketAddr>,
    /// Who has sent a valid connectivity check (RFC 8445 §7.3): it is answered where it came from, wherever that is.
    checked: BTreeSet<SocketAddr>,
}

#[derive(Debug, Default)]
pub(crate) struct MediaPaths {
    /// By our own RTP address.
    legs: BTreeMap<SocketAddr, Leg>,
}

impl Rule for MediaPaths {
    fn name(&self) -> &'static str {
        "media only to and from the parties of a call"
    }

    fn see(&mut self, _now: Time, truth: &Truth, entry: &Entry) -> Option<String> {
        match entry {
            Entry::Command(command) => self.command(truth, command),
            Entry::Fact(fact) => self.fact(truth, fact),
            Entry::Judged { on, from, len, sent: Some((via, to)), .. } => {
                if truth.strangers.contains(&from.ip()) {
                    return Some(format!("{len} octets of stranger {from} on {on} went on to {to}"));
                }
                self.sent(truth, *via, *to, true)
            }
            Entry::Judged { on, from, verdict: Verdict::Consumed, .. } => {
                let rtp = SocketAddr::new(on.ip(), on.port() & !1);
                if let Some(leg) = self.legs.get_mut(&rtp).filter(|leg| leg.plan.ice.is_some()) {
                    leg.checked.insert(*from);
                }
                None
            }
            Entry::Own { from, to } => self.sent(truth, *from, *to, false),
            Entry::Judged { .. }
            | Entry::Received(_)
            | Entry::Sent(_)
            | Entry::Timer
            | Entry::Line(_)
            | Entry::Changed(_)
            | Entry::Ports(..)
            | Entry::Observed(_) => None,
        }
    }
}

impl MediaPaths {
    fn command(&mut self, truth: &Truth, command: &Command) -> Option<String> {
        match command {
            Command::Open { stream, legs, .. } => {
                for (end, plan) in [End::A, End::B].into_iter().zip(legs.iter()) {
                    let leg = Leg {
                        plan: plan.clone(),
                        stream: *stream,
                        end,
                        latched: [None; 2],
                        early: [0; 2],
                        asked: None,
                        checked: BTreeSet::new(),
                    };
                    if self.legs.insert(plan.pair.rtp(), leg).is_some() {
                        return Some(format!("{} is given to two streams", plan.pair.rtp()));
                    }
                }
                plans(truth, &legs[..])
            }
            Command::Update { stream, legs, rearm, .. } => {
                for plan in legs.iter() {
                    let leg = self.legs.get_mut(&plan.pair.rtp()).filter(|leg| leg.stream == *stream);
                    let Some(leg) = leg else {
                        return Some(format!("update of {stream:?}, which does not hold {}", plan.pair.rtp()));
                    };
                    if *rearm || leg.plan.target != plan.target {
                        leg.early = [0; 2];
                    }
                    leg.plan = plan.clone();
                }
                plans(truth, &legs[..])
            }
            Command::Ask { stream, end, server, .. } => {
                let mut legs = self.legs.values_mut();
                if let Some(leg) = legs.find(|leg| leg.stream == *stream && leg.end == *end) {
                    leg.asked = Some(*server);
                }
                None
            }
            Command::Close { stream, told: _ } => {
                self.legs.retain(|_, leg| leg.stream != *stream);
                None
            }
            Command::Join { .. }
            | Command::Part { .. }
            | Command::Carry { .. }
            | Command::Formats { .. }
            | Command::Splice { .. }
            | Command::Replace { .. } => None,
        }
    }

    fn fact(&mut self, truth: &Truth, fact: &Fact) -> Option<String> {
        let Fact::Latched { stream, end, component, source, .. } = fact else { return None };
        if truth.strangers.contains(&source.0.ip()) {
            return Some(format!("stranger {source} holds the latch of {stream:?} {end:?}"));
        }
        let mut legs = self.legs.values_mut();
        if let Some(leg) = legs.find(|leg| leg.stream == *stream && leg.end == *end) {
            leg.latched[index(*component)] = Some(source.0);
        }
        None
    }

    fn sent(&mut self, truth: &Truth, via: SocketAddr, to: SocketAddr, relayed: bool) -> Option<String> {
        if truth.strangers.contains(&to.ip()) {
            return Some(format!("media to stranger {to}"));
        }
        let (rtp, component) = match via.port() % 2 {
            0 => (via, Component::Rtp),
            _ => (SocketAddr::new(via.ip(), via.port() - 1), Component::Rtcp),
        };
        let Some(leg) = self.legs.get_mut(&rtp) else {
            return Some(format!("a packet from {via}, which is in no call, to {to}"));
        };
        let at = index(component);
        let held = leg.latched[at];
        if held == Some(to) || !relayed && (leg.asked == Some(to) || leg.checked.contains(&to)) {
            return None;
        }
        let target = leg.plan.target.map(|t| if component == Component::Rtp { t.rtp() } else { t.rtcp() });
        if target != Some(to) {
            return Some(format!("a packet from {via} to {to}, but the latch is {held:?} and SDP says {target:?}"));
        }
        // An indication opens our own NAT; where none is to be opened, it counts like media.
        if !relayed && leg.plan.open {
            return None;
        }
        let private = nat::address::is_private(to.ip());
        if truth.role == Role::Border && leg.plan.side == Side::Outer && private {
            return Some(format!("media to {to}, a private address, on the outer side of a border"));
        }
        match leg.plan.early {
            Early::Uncapped | Early::Proven => None,
            Early::Never => Some(format!("media from {via} to {to} before it spoke")),
            Early::Capped => {
                leg.early[at] += 1;
                (leg.early[at] > CAP).then(|| format!("more than {CAP} packets from {via} to {to} before it spoke"))
            }
        }
    }
}

/// Nobody but the parties may ever latch.
fn plans(truth: &Truth, legs: &[LegPlan]) -> Option<String> {
    let stranger = |ip: &IpAddr| truth.strangers.contains(ip);
    let ips = legs.iter().flat_map(|leg| {
        let exact = leg.sources.exact.into_iter().flat_map(|t| [t.rtp().ip(), t.rtcp().ip()]);
        exact.chain(leg.sources.ips.into_iter().flatten())
    });
    let found = ips.into_iter().find(stranger);
    found.map(|ip| format!("stranger {ip} may latch"))
}

fn index(component: Component) -> usize {
    usize::from(component == Component::Rtcp)
}
