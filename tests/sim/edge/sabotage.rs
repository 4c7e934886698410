//! Deliberate faults, put into the glue around the machines, so that a test
//! can show that the invariants are awake.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use ::media::{Component, Fact, Slot, Verdict};
use registry::Change;
use wire::Transmit;

use super::{Edge, Entry};
use crate::attacker;
use crate::net::Packet;
use crate::sip::Msg;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sabotage {
    /// A stranger's packet is let into a call.
    InjectedMedia,
    /// A call's packet goes to a stranger.
    LeakedMedia(SocketAddr),
    /// The Contact of a message to the outer side names an inner address.
    InnerContact,
    /// SDP to the outer side names an inner address.
    InnerSdp,
    /// Within a dialog an offer names another port.
    MovedPort,
    /// An answer takes a line that was offered at port 0.
    RevivedLine,
    /// An answer has lost its second m-line.
    LostLine,
    /// A closed stream is never reported, so its ports never come back.
    LostPort,
    /// A request gets a second, different final response.
    SecondFinal,
    /// A field that we have no business with loses an octet.
    ChangedField,
    /// A call's deletion is not published.
    LostChange,
    /// A message grows beyond all need.
    Bloat,
    /// A request goes to somebody who never asked for one.
    Stray(SocketAddr),
    /// The answer to a retransmission differs from the first.
    Forgetful,
    /// The machine does not hear that a connection has ended.
    UnheardEnd,
    /// A response goes back over somebody else's connection.
    CrossedConnections,
    /// A request is sent twice over a stream.
    Stutter,
    /// The same seed does not give the same run.
    Moody,
}

/// State that outlives a run: what no machine may have.
static MOOD: AtomicU64 = AtomicU64::new(0);

impl Edge {
    fn plan(&self) -> Option<Sabotage> {
        self.setup.sabotage
    }

    /// True when a fact gets lost.
    pub(super) fn sabotages_fact(&mut self, fact: &Fact) -> bool {
        let lost = self.plan() == Some(Sabotage::LostPort) && matches!(fact, Fact::Closed { .. });
        self.sabotaged += u32::from(lost);
        lost
    }

    /// True when the end of a connection is not told.
    pub(super) fn sabotages_end(&mut self) -> bool {
        let unheard = self.plan() == Some(Sabotage::UnheardEnd);
        self.sabotaged += u32::from(unheard);
        unheard
    }

    pub(super) fn changed(&mut self, change: Change) {
        let deleted = matches!(change, Change::Delete(registry::Key::Call(_)));
        if deleted && self.plan() == Some(Sabotage::LostChange) && self.sabotaged == 0 {
            self.sabotaged += 1;
            return;
        }
        self.journal.push(Entry::Changed(change));
    }

    pub(super) fn sabotaged_verdict(
        &mut self,
        packet: &Packet,
        verdict: Verdict,
        (worker, slot): (u8, Slot),
    ) -> Verdict {
        match (self.plan(), verdict) {
            (Some(Sabotage::InjectedMedia), Verdict::Drop(_)) => {
                let tone = packet.bytes.get(12..16) == Some(&attacker::TONE.to_be_bytes());
                let via = Slot::of(slot.stream(), slot.end().other(), Component::Rtp);
                match self.last_way(worker, via).filter(|_| tone) {
                    Some(to) => {
                        self.sabotaged += 1;
                        Verdict::Forward { via, to }
                    }
                    None => verdict,
                }
            }
            (Some(Sabotage::LeakedMedia(to)), Verdict::Forward { via, .. }) => {
                self.sabotaged += 1;
                Verdict::Forward { via, to }
            }
            (_, Verdict::Forward { via, to }) => {
                self.ways.insert((worker, via), to);
                verdict
            }
            (_, Verdict::Consumed | Verdict::Drop(_)) => verdict,
        }
    }

    fn last_way(&self, worker: u8, via: Slot) -> Option<SocketAddr> {
        self.ways.get(&(worker, via)).copied()
    }

    /// A message on its way out, as the plan has it.
    pub(super) fn sabotaged_messages(&mut self, transmit: Transmit) -> Vec<Transmit> {
        let Some(plan) = self.plan() else { return vec![transmit] };
        let Some(msg) = Msg::parse(&transmit.bytes) else { return vec![transmit] };
        let repeated = !self.answered.insert(transmit.bytes.clone());
        let mut flow = transmit.flow;
        if let Sabotage::Stray(to) = plan {
            if msg.method() == "INVITE" && msg.is_request() {
                self.sabotaged += 1;
                flow.remote = to;
            }
            return vec![Transmit { flow, ..transmit }];
        }
        if flow.transport.reliable() {
            if plan == Sabotage::CrossedConnections && !msg.is_request() {
                if let Some(other) = self.streams.others(flow) {
                    self.sabotaged += 1;
                    flow = other;
                }
                return vec![Transmit { flow, ..transmit }];
            }
            if plan == Sabotage::Stutter && msg.is_request() && msg.method() != "ACK" {
                self.sabotaged += 1;
                return vec![transmit.clone(), transmit];
            }
        }
        let outer = self.setup.config.side(flow.listener) == nat::Side::Outer;
        let inner = self.setup.config.listeners[0].bind;
        let mut changed = msg;
        if !tamper(plan, &mut changed, (outer, inner), repeated) {
            return vec![transmit];
        }
        self.sabotaged += 1;
        let changed = Transmit { flow, bytes: changed.bytes() };
        if plan == Sabotage::SecondFinal { vec![transmit, changed] } else { vec![changed] }
    }
}

/// Does to a message what the plan says; false if it does not concern it.
fn tamper(plan: Sabotage, msg: &mut Msg, (outer, inner): (bool, SocketAddr), repeated: bool) -> bool {
    let invite = msg.method() == "INVITE";
    match plan {
        Sabotage::InnerContact => outer && invite && replace(msg, "contact", &format!("<sip:us@{inner}>")),
        Sabotage::InnerSdp => {
            let concerned = outer && msg.body.contains("c=IN IP4 ");
            let c = format!("c=IN IP4 {}\r\n", inner.ip());
            let lines = msg.body.split_inclusive("\r\n");
            msg.body = lines.map(|l| if concerned && l.starts_with("c=IN IP4 ") { c.as_str() } else { l }).collect();
            concerned
        }
        Sabotage::MovedPort => {
            let within = invite && msg.is_request() && !msg.tag("to").is_empty();
            within && port(msg, "m=audio ", |port| if port == 0 { 0 } else { port + 2 })
        }
        Sabotage::RevivedLine => invite && msg.status() == 200 && port(msg, "m=video 0", |_| 31_998),
        Sabotage::LostLine => {
            let whole = msg.body.len();
            msg.body.truncate(msg.body.find("m=video").unwrap_or(whole));
            invite && msg.status() == 200 && msg.body.len() < whole
        }
        Sabotage::SecondFinal => {
            let final_answer = invite && msg.status() >= 200;
            "SIP/2.0 500 Server Internal Error".clone_into(&mut msg.start);
            final_answer
        }
        Sabotage::ChangedField => {
            let value = msg.get("user-agent").and_then(|v| v.split_once(' ')).map(|(_, rest)| rest.to_owned());
            value.is_some_and(|value| invite && replace(msg, "user-agent", &value))
        }
        Sabotage::Bloat => {
            msg.push("X-Bloat", "x".repeat(2000));
            invite && msg.is_request()
        }
        Sabotage::Forgetful => {
            msg.push("X-Mood", "changed");
            repeated && msg.status() >= 180
        }
        Sabotage::Moody => {
            msg.push("X-Mood", MOOD.fetch_add(1, Ordering::Relaxed).to_string());
            msg.is_request() && msg.method() == "OPTIONS"
        }
        Sabotage::InjectedMedia
        | Sabotage::LeakedMedia(_)
        | Sabotage::LostPort
        | Sabotage::LostChange
        | Sabotage::UnheardEnd
        | Sabotage::CrossedConnections
        | Sabotage::Stutter
        | Sabotage::Stray(_) => false,
    }
}

/// Another port for the m-lines that begin like this; false if there is none.
fn port(msg: &mut Msg, line: &str, change: impl Fn(u16) -> u16) -> bool {
    let changed = |l: &str| {
        let mut words = l.splitn(3, ' ');
        let (kind, port, rest) = (words.next()?, words.next()?.parse().ok()?, words.next()?);
        l.starts_with(line).then(|| format!("{kind} {} {rest}", change(port)))
    };
    let body: String = msg.body.split_inclusive("\r\n").map(|l| changed(l).unwrap_or_else(|| l.to_owned())).collect();
    let differs = body != msg.body;
    msg.body = body;
    differs
}

fn replace(msg: &mut Msg, name: &str, value: &str) -> bool {
    let Some((_, old)) = msg.fields.iter_mut().find(|(n, _)| crate::sip::same_name(n, name)) else { return false };
    value.clone_into(old);
    true
}
