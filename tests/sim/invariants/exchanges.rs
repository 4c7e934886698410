//! Offers and answers that leave siplatch keep within a dialog to what both
//! ends count on: the m-lines stay, in number and order (RFC 3264 §8); a line
//! that was offered at port 0 is answered so (§6); and a stream that lives
//! keeps the ports that were written for it, unless its own sockets have found
//! that they are seen at others now.

use std::collections::{BTreeMap, BTreeSet};

use ::media::Fact;
use nat::Side;

use super::{Rule, Truth};
use crate::clock::Time;
use crate::edge::{Entry, Message};
use crate::sip::Msg;

/// One m-line: what it is, and its port.
type Line = (String, u16);

/// Who says it to whom, and on which side: a spiral has both sides of a call on one.
type Way = (String, String, String, bool);

/// A transaction seen from one side: Call-ID, CSeq, method, who asked.
type Asked = (String, u32, String, String, bool);

#[derive(Debug, Default)]
pub(crate) struct Exchanges {
    /// What stands, as it was written last. Without a tag of the listener: what the first INVITE said, once per fork.
    standing: BTreeMap<Way, Vec<Vec<Line>>>,
    /// Offers that left and are not answered yet.
    asked: BTreeMap<Asked, (Way, Vec<Line>)>,
    /// Offers that came in.
    offered: BTreeMap<Asked, Vec<Line>>,
    /// Ports at which sockets of calls were seen after a change of our address.
    found: BTreeSet<u16>,
}

fn lines(msg: &Msg) -> Vec<Line> {
    let line = |m: &str| {
        let mut words = m.split(' ');
        let kind = words.next().unwrap_or_default().to_owned();
        Some((kind, words.next()?.parse().ok()?))
    };
    msg.body.lines().filter_map(|line| line.strip_prefix("m=")).filter_map(line).collect()
}

fn way(msg: &Msg, side: Side) -> Way {
    let (speaker, listener) = if msg.is_request() { ("from", "to") } else { ("to", "from") };
    (msg.call_id().to_owned(), msg.tag(speaker).to_owned(), msg.tag(listener).to_owned(), side == Side::Outer)
}

/// An ACK belongs to its INVITE; `by` is the tag of who sent the request.
fn asked(msg: &Msg, side: Side) -> Asked {
    let method = if msg.method() == "ACK" { "INVITE" } else { msg.method() };
    (msg.call_id().to_owned(), msg.cseq(), method.to_owned(), msg.tag("from").to_owned(), side == Side::Outer)
}

impl Rule for Exchanges {
    fn name(&self) -> &'static str {
        "m-lines and ports stay within a dialog"
    }

    fn see(&mut self, _now: Time, truth: &Truth, entry: &Entry) -> Option<String> {
        let message = |message: &Message| Some((message.msg.clone()?, truth.side(message.flow)));
        match entry {
            Entry::Received(received) => {
                let (msg, side) = message(received)?;
                if matches!(msg.method(), "INVITE" | "UPDATE" | "ACK") {
                    self.received(&msg, side);
                }
                None
            }
            Entry::Sent(sent) => {
                let (msg, side) = message(sent)?;
                let carries = matches!(msg.method(), "INVITE" | "UPDATE" | "ACK") && !msg.body.is_empty();
                let found = carries.then(|| self.sent(&msg, side)).flatten();
                found.map(|what| format!("{what} in {} to {}", msg.start, sent.flow.remote))
            }
            Entry::Fact(Fact::Mapped { mapped, .. }) => {
                self.found.insert(mapped.0.port());
                None
            }
            Entry::Timer
            | Entry::Line(_)
            | Entry::Command(_)
            | Entry::Fact(_)
            | Entry::Changed(_)
            | Entry::Ports(..)
            | Entry::Observed(_)
            | Entry::Judged { .. }
            | Entry::Own { .. } => None,
        }
    }
}

impl Exchanges {
    fn received(&mut self, msg: &Msg, side: Side) {
        let lines = lines(msg);
        let key = asked(msg, side);
        let answers = match msg.status() {
            0 => msg.method() == "ACK",
            101..200 => false,
            200.. => {
                let offer = self.asked.remove(&key);
                if let Some((way, said)) = offer.filter(|_| msg.status() < 300) {
                    self.stand(&way, said);
                    true
                } else {
                    false
                }
            }
            _ => return,
        };
        if lines.is_empty() {
            return;
        }
        if !answers {
            self.offered.insert(key, lines);
            return;
        }
        // What is refused lives no longer, on either side and in either direction.
        let (call, speaker, listener, _) = way(msg, side);
        for ((_, from, to, _), standing) in self.standing.iter_mut().filter(|(way, _)| way.0 == call) {
            let both = [(from, to), (to, from)];
            let of = |(a, b): (&String, &String)| *a == speaker && (*b == listener || b.is_empty());
            if both.into_iter().any(of) || to.is_empty() && *from == listener {
                for stands in standing.iter_mut() {
                    let both = stands.iter_mut().zip(&lines);
                    both.filter(|(_, answer)| answer.1 == 0).for_each(|(line, _)| line.1 = 0);
                }
            }
        }
    }

    fn sent(&mut self, msg: &Msg, side: Side) -> Option<String> {
        let (said, way) = (lines(msg), way(msg, side));
        let key = asked(msg, side);
        if !said.is_empty() {
            let wrong = self.moved(&way, &said);
            if wrong.is_some() {
                return wrong;
            }
        }
        let request = msg.is_request() && msg.method() != "ACK";
        if request {
            if way.2.is_empty() {
                self.standing.entry(way.clone()).or_default().push(said.clone());
            }
            self.asked.insert(key, (way, said));
            return None;
        }
        if msg.status() >= 300 {
            return None;
        }
        if let Some(offer) = self.offered.get(&key) {
            if offer.len() != said.len() {
                return Some(format!("{offer:?} is answered by {said:?}"));
            }
            let mut both = offer.iter().zip(&said);
            if let Some((offer, answer)) = both.find(|(offer, answer)| offer.1 == 0 && answer.1 != 0) {
                return Some(format!("{offer:?} is answered by {answer:?}"));
            }
        }
        if msg.status() == 0 || msg.status() >= 200 {
            self.stand(&way, said);
        }
        None
    }

    fn stand(&mut self, way: &Way, said: Vec<Line>) {
        if !way.2.is_empty() {
            self.standing.insert(way.clone(), vec![said]);
        }
    }

    /// What is said now against what stands.
    fn moved(&self, way: &Way, said: &[Line]) -> Option<String> {
        let (call, speaker, _, outer) = way;
        if way.2.is_empty() {
            return None;
        }
        let first = (call.clone(), speaker.clone(), String::new(), *outer);
        let standing = self.standing.get(way).or_else(|| self.standing.get(&first))?;
        let fits = |before: &Vec<Line>| {
            let kept = |(before, now): (&Line, &Line)| {
                before.1 == 0 || now.1 == 0 || before.1 == now.1 || self.found.contains(&now.1)
            };
            said.len() >= before.len() && before.iter().zip(said).all(kept)
        };
        (!standing.iter().any(fits)).then(|| format!("{:?} became {said:?}", standing.last()))
    }
}
