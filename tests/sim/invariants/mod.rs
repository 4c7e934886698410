//! What must hold after every step, one rule a file, each with the RFC or the
//! decision that it comes from.
//!
//! Rules see what crosses the machines' border and judge it by what the
//! scenario knows to be true, never by asking the machines.

mod bounds;
mod exchanges;
mod finals;
mod fold;
mod guard;
mod leak;
mod media;
mod ports;
mod retransmission;
mod streams;
mod transparency;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::net::IpAddr;

use nat::{Prefix, Side};
use proxy::config::Role;

use crate::clock::Time;
use crate::edge::{Edge, Entry};
use crate::net::Packet;
use crate::phone::Phone;
use crate::stats::Tally;
use crate::world::Node;

/// What the scenario knows.
#[derive(Debug, Clone)]
pub(crate) struct Truth {
    pub(crate) role: Role,
    /// Side of each listener.
    pub(crate) sides: Vec<Side>,
    /// Addresses that must not be seen on the outer side.
    pub(crate) inner: Vec<Prefix>,
    /// What we may write as our own address, by side: inner, outer.
    pub(crate) own: [BTreeSet<IpAddr>; 2],
    /// Public addresses of phones and their NATs, the core, phones on our LAN.
    pub(crate) friends: BTreeSet<IpAddr>,
    /// Attackers and bystanders.
    pub(crate) strangers: BTreeSet<IpAddr>,
    pub(crate) upstream: Option<IpAddr>,
}

impl Truth {
    pub(crate) fn side(&self, flow: wire::Flow) -> Side {
        self.sides.get(usize::from(flow.listener.0)).copied().unwrap_or(Side::Inner)
    }

    pub(crate) fn is_inner(&self, ip: IpAddr) -> bool {
        self.inner.iter().any(|prefix| prefix.contains(ip))
    }

    pub(crate) fn own(&self, side: Side) -> &BTreeSet<IpAddr> {
        match side {
            Side::Inner => &self.own[0],
            Side::Outer => &self.own[1],
        }
    }
}

/// How things stand at the end of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Finish<'a> {
    pub(crate) now: Time,
    pub(crate) edge: &'a Edge,
    pub(crate) phones: &'a [&'a Phone],
}

/// One rule.
pub(crate) trait Rule: Debug {
    /// A few words, as they stand in a report.
    fn name(&self) -> &'static str;

    /// Looks at one crossing; says what is wrong with it.
    fn see(&mut self, now: Time, truth: &Truth, entry: &Entry) -> Option<String>;

    /// Looks back at the end of the run.
    fn finish(&mut self, _truth: &Truth, _end: &Finish<'_>) -> Option<String> {
        None
    }
}

/// A broken rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Broken {
    pub(crate) at: Time,
    pub(crate) rule: &'static str,
    pub(crate) what: String,
}

/// All rules, and the first that broke.
#[derive(Debug)]
pub(crate) struct Watch {
    truth: Option<Truth>,
    rules: Vec<Box<dyn Rule>>,
    pub(crate) broken: Option<Broken>,
    /// Every rule that broke in that step.
    pub(crate) rules_broken: Vec<&'static str>,
    pub(crate) tally: Tally,
}

impl Watch {
    /// A watch over a world with siplatch in it; without, only the phones' complaints count.
    pub(crate) fn new(truth: Option<Truth>) -> Self {
        let rules: Vec<Box<dyn Rule>> = vec![
            Box::<leak::InnerAddresses>::default(),
            Box::<finals::OneFinalResponse>::default(),
            Box::<transparency::Transparency>::default(),
            Box::<retransmission::SameBytes>::default(),
            Box::<media::MediaPaths>::default(),
            Box::<exchanges::Exchanges>::default(),
            Box::<guard::NoOpenRelay>::default(),
            Box::<streams::Connections>::default(),
            Box::<bounds::Bounds>::default(),
            Box::<fold::Fold>::default(),
            Box::<ports::PortsComeBack>::default(),
        ];
        Self { truth, rules, broken: None, rules_broken: Vec::new(), tally: Tally::default() }
    }

    pub(crate) fn holds(&self) -> bool {
        self.broken.is_none()
    }

    pub(crate) fn fail(&mut self, at: Time, rule: &'static str, what: String) {
        self.rules_broken.push(rule);
        self.broken.get_or_insert(Broken { at, rule, what });
    }

    /// After each step of siplatch; notes for the ladder, if they are wanted.
    pub(crate) fn look(&mut self, now: Time, edge: &mut Edge, talk: bool) -> Vec<String> {
        let journal = edge.take_journal();
        let notes = if talk { journal.iter().filter_map(Entry::note).collect() } else { Vec::new() };
        if let Some(truth) = &self.truth {
            for entry in &journal {
                self.tally.count(entry);
                for rule in &mut self.rules {
                    if let Some(what) = rule.see(now, truth, entry) {
                        self.rules_broken.push(rule.name());
                        self.broken.get_or_insert(Broken { at: now, rule: rule.name(), what });
                    }
                }
            }
        }
        edge.reuse(journal);
        notes
    }

    /// After each step of a phone: an honest peer has nothing to complain of.
    pub(crate) fn hear(&mut self, name: &str, at: Time, phone: &mut Phone) {
        if let Some(complaint) = phone.complaints.pop() {
            self.fail(at, "an honest phone has nothing to complain of", format!("{name} {complaint}"));
        }
    }

    /// Before each delivery: a stranger gets no media, a bystander gets nothing.
    pub(crate) fn delivered(&mut self, now: Time, node: &Node, packet: &Packet) {
        let media = crate::ladder::is_media(&packet.bytes);
        let wrong = match node {
            Node::Bystander => true,
            Node::Attacker(_) => media,
            Node::Phone(_) | Node::Core(_) | Node::Stun(_) | Node::Edge(_) => false,
        };
        if wrong {
            let (from, to, len) = (packet.from, packet.to, packet.bytes.len());
            self.fail(now, "strangers get nothing", format!("{len} octets from {from} reached {to}"));
        }
    }

    /// At the end of the run.
    pub(crate) fn finish(&mut self, end: &Finish<'_>) {
        let Some(truth) = &self.truth else { return };
        for rule in &mut self.rules {
            if let Some(what) = rule.finish(truth, end) {
                self.rules_broken.push(rule.name());
                self.broken.get_or_insert(Broken { at: end.now, rule: rule.name(), what });
            }
        }
    }
}
