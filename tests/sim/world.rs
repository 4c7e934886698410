//! The world: nodes, the network between them, virtual time, and the script.
//!
//! One thing happens at a time: a packet arrives, a deadline passes, or the
//! script acts. After each, what the node sends goes out, and what siplatch
//! did is shown to the invariants.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::attacker::Attacker;
use crate::clock::{Agenda, Time};
use crate::core::Core;
use crate::edge::Edge;
use crate::invariants::{Finish, Watch};
use crate::ladder::{self, Ladder};
use crate::net::{Arrival, Carrier, Lost, NatId, Net, NodeId, Packet, Step};
use crate::phone::Phone;
use crate::plan::CallPlan;
use crate::stack::Pair;
use crate::stun::StunServer;

/// Whoever can be sent to.
#[derive(Debug)]
pub(crate) enum Node {
    Phone(Box<Phone>),
    Core(Box<Core>),
    Stun(StunServer),
    Attacker(Box<Attacker>),
    /// Somebody who has nothing to do with all this, and must get nothing.
    Bystander,
    /// siplatch.
    Edge(Box<Edge>),
}

/// What the script does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// A phone places the call of this plan.
    Place(usize),
    /// A NAT box reboots, and may come back with another address.
    Rebind(NatId, Option<IpAddr>),
    /// A phone removes its registration.
    Leave(usize),
    /// siplatch is told to stop.
    Stop,
    /// A phone's connection ends, closed or broken.
    Hang(usize, Step),
    /// All connections of the core end.
    HangCore(Step),
}

#[derive(Debug)]
enum Happening {
    Arrive(Arrival),
    Wake(NodeId),
    Act(Act),
}

/// How long after a change of the network media must flow again.
pub(crate) const SETTLES: Duration = Duration::from_secs(2);

/// More things at one instant are a deadline that never moves on.
const STANDSTILL: u64 = 20_000;

/// Everything.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) net: Net,
    pub(crate) nodes: Vec<Node>,
    pub(crate) names: Vec<String>,
    pub(crate) plans: Rc<[CallPlan]>,
    pub(crate) ladder: Ladder,
    pub(crate) watch: Watch,
    /// Packets lost, by reason.
    pub(crate) lost: [u64; 5],
    pub(crate) steps: u64,
    agenda: Agenda<Happening>,
    wakes: Vec<Option<Time>>,
    out: Vec<Packet>,
    /// Segments that went nowhere: whose, its addresses, and whether its sender is told.
    stuck: Vec<(NodeId, Pair, bool)>,
}

impl World {
    pub(crate) fn new(net: Net, plans: Rc<[CallPlan]>, watch: Watch, keep: usize) -> Self {
        Self {
            now: Time::ZERO,
            net,
            nodes: Vec::new(),
            names: Vec::new(),
            plans,
            ladder: Ladder::new(keep),
            watch,
            lost: [0; 5],
            steps: 0,
            agenda: Agenda::new(),
            wakes: Vec::new(),
            out: Vec::new(),
            stuck: Vec::new(),
        }
    }

    /// The id that the next node will have.
    pub(crate) fn next_id(&self) -> NodeId {
        NodeId(self.nodes.len())
    }

    pub(crate) fn add(&mut self, name: impl Into<String>, node: Node) -> NodeId {
        let id = self.next_id();
        self.nodes.push(node);
        self.names.push(name.into());
        self.wakes.push(None);
        self.settle(id);
        id
    }

    pub(crate) fn script(&mut self, at: Time, act: Act) {
        self.agenda.at(at, Happening::Act(act));
    }

    pub(crate) fn phones(&self) -> impl Iterator<Item = &Phone> {
        self.nodes.iter().filter_map(|node| match node {
            Node::Phone(phone) => Some(&**phone),
            Node::Core(_) | Node::Stun(_) | Node::Attacker(_) | Node::Bystander | Node::Edge(_) => None,
        })
    }

    pub(crate) fn edge(&self) -> Option<&Edge> {
        self.nodes.iter().find_map(|node| match node {
            Node::Edge(edge) => Some(&**edge),
            Node::Core(_) | Node::Stun(_) | Node::Attacker(_) | Node::Bystander | Node::Phone(_) => None,
        })
    }

    /// Runs until then, or until an invariant breaks.
    pub(crate) fn run(&mut self, until: Time) {
        let mut standing = 0;
        while self.watch.holds() {
            let Some((at, happening)) = self.agenda.pop(until) else { break };
            standing = if at == self.now { standing + 1 } else { 0 };
            if standing > STANDSTILL {
                self.watch.fail(at, "time goes on", format!("{standing} things happened at one instant"));
            }
            self.now = at;
            self.steps += 1;
            match happening {
                Happening::Arrive(arrival) => self.arrive(arrival),
                Happening::Wake(id) if self.wakes[id.0] == Some(at) => {
                    self.wakes[id.0] = None;
                    self.with(id, |node, now, out| node.timeout(now, out));
                }
                Happening::Wake(_) => {}
                Happening::Act(act) => self.act(act),
            }
            while let Some((id, pair, reset)) = self.stuck.pop() {
                self.with(id, |node, now, out| node.undelivered(now, pair, reset, out));
            }
        }
        self.now = self.now.max(until);
    }

    /// Looks back at the end.
    pub(crate) fn finish(&mut self) {
        let mut watch = std::mem::replace(&mut self.watch, Watch::new(None));
        if let Some(edge) = self.edge() {
            let phones: Vec<&Phone> = self.phones().collect();
            watch.finish(&Finish { now: self.now, edge, phones: &phones });
        }
        self.watch = watch;
    }

    fn phone(&self, me: usize) -> Option<NodeId> {
        self.nodes.iter().position(|node| matches!(node, Node::Phone(phone) if phone.me == me)).map(NodeId)
    }

    fn arrive(&mut self, arrival: Arrival) {
        let (sender, origin) = (arrival.sender, arrival.origin);
        let copy = arrival.packet.clone();
        match self.net.arrive(self.now, arrival) {
            Err(lost) => {
                self.lose(sender, &copy, lost);
                self.stick(sender, &copy, origin, lost);
            }
            Ok((id, packet)) => {
                // Who is unplugged acknowledges nothing.
                if matches!(&self.nodes[id.0], Node::Phone(phone) if phone.vanished) {
                    self.stick(sender, &packet, origin, Lost::NoRoute);
                }
                let ends = (self.names[sender.0].as_str(), self.names[id.0].as_str());
                self.ladder.datagram(self.now, ends, &packet, None);
                self.watch.delivered(self.now, &self.nodes[id.0], &packet);
                self.with(id, |node, now, out| node.receive(now, &packet, out));
            }
        }
    }

    /// A segment that went nowhere is missed by the connection that it is of.
    fn stick(&mut self, sender: NodeId, packet: &Packet, origin: Pair, lost: Lost) {
        if matches!(packet.carrier, Carrier::Segment(_)) {
            self.stuck.push((sender, origin, lost == Lost::Reset));
        }
    }

    fn lose(&mut self, sender: NodeId, packet: &Packet, lost: Lost) {
        self.lost[lost as usize] += 1;
        self.ladder.datagram(self.now, (&self.names[sender.0], ""), packet, Some(lost));
    }

    /// Lets one node act, then sends what it has to send.
    fn with(&mut self, id: NodeId, act: impl FnOnce(&mut Node, Time, &mut Vec<Packet>)) {
        let mut out = std::mem::take(&mut self.out);
        act(&mut self.nodes[id.0], self.now, &mut out);
        match &mut self.nodes[id.0] {
            Node::Phone(phone) => phone.say(self.now, &mut out),
            Node::Core(core) => core.say(self.now, &mut out),
            Node::Stun(_) | Node::Attacker(_) | Node::Bystander | Node::Edge(_) => {}
        }
        for packet in out.drain(..) {
            let copy = (!ladder::is_media(&packet.bytes)).then(|| packet.clone());
            match self.net.send(self.now, id, packet) {
                Err(lost) => {
                    self.lost[lost as usize] += 1;
                    if let Some(packet) = copy {
                        self.stick(id, &packet, (packet.from, packet.to), lost);
                        self.ladder.datagram(self.now, (&self.names[id.0], ""), &packet, Some(lost));
                    }
                }
                Ok(arrivals) => {
                    if let (None, Some(packet)) = (&arrivals[0], copy) {
                        self.lose(id, &packet, Lost::Link);
                    }
                    for arrival in arrivals.into_iter().flatten() {
                        self.agenda.at(arrival.at, Happening::Arrive(arrival));
                    }
                }
            }
        }
        self.out = out;
        self.settle(id);
        if let Node::Edge(edge) = &mut self.nodes[id.0] {
            let talk = self.ladder.talkative();
            for note in self.watch.look(self.now, edge, talk) {
                self.ladder.note(self.now, note);
            }
            if edge.stalled {
                self.watch.fail(self.now, "time goes on", "one input led to others without end".to_owned());
            }
        }
        if let Node::Phone(phone) = &mut self.nodes[id.0] {
            self.watch.hear(&self.names[id.0], self.now, phone);
        }
    }

    /// Writes down when a node must be woken.
    fn settle(&mut self, id: NodeId) {
        let Some(next) = self.nodes[id.0].next() else { return };
        let next = next.max(self.now);
        if self.wakes[id.0].is_none_or(|wake| wake > next) {
            self.wakes[id.0] = Some(next);
            self.agenda.at(next, Happening::Wake(id));
        }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Place(plan) => {
                let plans = Rc::clone(&self.plans);
                let plan = &plans[plan];
                self.ladder.note(self.now, format!("── call {}: phone {} to phone {}", plan.id, plan.from, plan.to));
                if let Some(id) = self.phone(plan.from) {
                    self.with(id, |node, now, out| node.place(now, plan, out));
                }
            }
            Act::Leave(phone) => {
                if let Some(id) = self.phone(phone) {
                    self.with(id, |node, now, _| node.leave(now));
                }
            }
            Act::Stop => {
                self.ladder.note(self.now, "── siplatch is told to stop".to_owned());
                let edge = self.nodes.iter().position(|node| matches!(node, Node::Edge(_)));
                if let Some(at) = edge {
                    self.with(NodeId(at), |node, now, out| node.stop(now, out));
                }
            }
            Act::Hang(phone, step) => {
                self.ladder.note(self.now, format!("── the connection of phone {phone} ends: {step:?}"));
                if let Some(id) = self.phone(phone) {
                    self.with(id, |node, now, out| node.hang(now, step, out));
                }
            }
            Act::HangCore(step) => {
                self.ladder.note(self.now, format!("── the connections of the core end: {step:?}"));
                if let Some(at) = self.nodes.iter().position(|node| matches!(node, Node::Core(_))) {
                    self.with(NodeId(at), |node, now, out| node.hang(now, step, out));
                }
            }
            Act::Rebind(nat, public) => {
                self.ladder.note(self.now, format!("── NAT {} forgets its mappings, address {public:?}", nat.0));
                self.net.rebind(nat, public);
                let settled = self.now + SETTLES;
                for node in &mut self.nodes {
                    if let Node::Phone(phone) = node {
                        phone.unsettle(settled);
                    }
                }
            }
        }
    }
}

impl Node {
    fn receive(&mut self, now: Time, packet: &Packet, out: &mut Vec<Packet>) {
        match self {
            Self::Phone(phone) => phone.receive(now, packet, out),
            Self::Core(core) => core.receive(now, packet, out),
            Self::Stun(stun) => stun.receive(packet, out),
            Self::Attacker(attacker) => attacker.receive(packet),
            Self::Bystander => {}
            Self::Edge(edge) => edge.receive(now, packet, out),
        }
    }

    fn timeout(&mut self, now: Time, out: &mut Vec<Packet>) {
        match self {
            Self::Phone(phone) => phone.timeout(now, out),
            Self::Core(core) => core.timeout(now, out),
            Self::Attacker(attacker) => attacker.timeout(now, out),
            Self::Edge(edge) => edge.timeout(now, out),
            Self::Stun(_) | Self::Bystander => {}
        }
    }

    fn next(&self) -> Option<Time> {
        match self {
            Self::Phone(phone) => phone.next(),
            Self::Core(core) => core.next(),
            Self::Attacker(attacker) => attacker.next(),
            Self::Edge(edge) => edge.next(),
            Self::Stun(_) | Self::Bystander => None,
        }
    }

    fn undelivered(&mut self, now: Time, pair: Pair, reset: bool, out: &mut Vec<Packet>) {
        match self {
            Self::Phone(phone) if phone.vanished => {}
            Self::Phone(phone) => phone.undelivered(now, pair, reset, out),
            Self::Core(core) => core.undelivered(now, pair, reset, out),
            Self::Edge(edge) => edge.undelivered(now, pair, reset, out),
            Self::Stun(_) | Self::Bystander | Self::Attacker(_) => {}
        }
    }

    fn hang(&mut self, now: Time, step: Step, out: &mut Vec<Packet>) {
        match self {
            Self::Phone(phone) => phone.hang(now, step, out),
            Self::Core(core) => core.hang(now, step, out),
            Self::Edge(_) | Self::Stun(_) | Self::Bystander | Self::Attacker(_) => {}
        }
    }

    fn leave(&mut self, now: Time) {
        if let Self::Phone(phone) = self {
            phone.unregister(now);
        }
    }

    fn stop(&mut self, now: Time, out: &mut Vec<Packet>) {
        if let Self::Edge(edge) = self {
            edge.stop(now, out);
        }
    }

    fn place(&mut self, now: Time, plan: &CallPlan, out: &mut Vec<Packet>) {
        if let Self::Phone(phone) = self {
            phone.place(now, plan, out);
        }
    }
}
