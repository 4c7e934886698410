//! Bytes outside edits are unchanged (RFC 3261 §16.6; the documented list of
//! edits is `wire::Rule`): header fields other than those, and body lines
//! other than `o=`, `c=`, `m=` ports, `a=rtcp` and ICE, leave as they came.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::rc::Rc;

use proxy::config::Role;

use super::{Rule, Truth};
use crate::clock::Time;
use crate::edge::Entry;
use crate::edge::Message;
use crate::sip::{Msg, same_name};

/// Fields that we edit by rule, whatever the message.
const EDITED: [&str; 8] =
    ["via", "record-route", "route", "path", "contact", "max-forwards", "max-breadth", "content-length"];

#[derive(Debug, Default)]
pub(crate) struct Transparency {
    /// Requests as they came, by branch, method and CSeq.
    requests: BTreeMap<(String, String, u32), Message>,
    /// Responses as they came, by the branch below ours, and CSeq method.
    responses: BTreeMap<(String, String), Vec<Message>>,
    /// Calls with a request of our own in them: CSeq may be shifted.
    shifted: BTreeSet<String>,
    /// Calls that a BYE has ended, which may overtake a re-INVITE: its streams are refused then.
    over: BTreeSet<String>,
}

impl Rule for Transparency {
    fn name(&self) -> &'static str {
        "bytes outside edits are unchanged"
    }

    fn see(&mut self, _now: Time, truth: &Truth, entry: &Entry) -> Option<String> {
        match entry {
            Entry::Received(message) => {
                if !truth.strangers.contains(&message.flow.remote.ip()) {
                    self.received(message);
                }
                None
            }
            Entry::Sent(message) => {
                let msg = message.msg.as_deref()?;
                if msg.is_request() { self.request(truth, message, msg) } else { self.response(truth, message, msg) }
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

fn key(msg: &Msg, below: usize) -> Option<(String, String)> {
    let via = msg.all("via").nth(below)?;
    Some((crate::sip::param(via, "branch")?.to_owned(), msg.method().to_owned()))
}

const MUX: &str = "a=rtcp-mux\r\n";

impl Transparency {
    fn received(&mut self, message: &Message) {
        let Some(msg) = message.msg.as_deref() else { return };
        if msg.method() == "BYE" {
            self.over.insert(msg.call_id().to_owned());
        }
        if msg.is_request() {
            if let Some((branch, method)) = key(msg, 0) {
                self.requests.insert((branch, method, msg.cseq()), message.clone());
            }
        } else if let Some(key) = key(msg, 1) {
            self.responses.entry(key).or_default().push(message.clone());
        }
    }

    fn request(&mut self, truth: &Truth, message: &Message, msg: &Msg) -> Option<String> {
        let Some((branch, method)) = key(msg, 1) else {
            // Our own request: a ping, or BYE in a dialog, which shifts CSeq from then on.
            if msg.method() != "OPTIONS" || !msg.tag("to").is_empty() {
                self.shifted.insert(msg.call_id().to_owned());
            }
            return None;
        };
        let mut candidates = self.requests.range((branch.clone(), method.clone(), 0)..);
        let found = candidates.next().filter(|((b, m, _), _)| *b == branch && *m == method);
        let Some((_, original)) = found else {
            return Some(format!("{} to {} was never received", msg.start, message.flow.remote));
        };
        let before = original.msg.as_deref()?;
        let hops = |msg: &Msg| msg.get("max-forwards").and_then(|m| m.parse::<u32>().ok());
        if hops(msg) != hops(before).map(|n| n.saturating_sub(1)).or(Some(70)) {
            return Some(format!("Max-Forwards {:?} became {:?}: {}", hops(before), hops(msg), msg.start));
        }
        let (vias, vias_before): (Vec<_>, Vec<_>) = (msg.all("via").collect(), before.all("via").collect());
        if vias.len() != vias_before.len() + 1 || vias[2..] != vias_before[1..] {
            return Some(format!("Via {vias_before:?} became {vias:?}"));
        }
        let (routes, before_routes): (Vec<_>, Vec<_>) =
            (msg.all("record-route").collect(), before.all("record-route").collect());
        if !routes.ends_with(&before_routes) {
            return Some(format!("Record-Route {before_routes:?} became {routes:?}"));
        }
        self.differs(truth, original, message)
    }

    fn response(&mut self, truth: &Truth, message: &Message, msg: &Msg) -> Option<String> {
        let status = msg.status();
        // 100 is each hop's own (§16.7(2)).
        let key = key(msg, 0).filter(|_| status > 100)?;
        let known = self.responses.get(&key).map(Vec::as_slice).unwrap_or_default();
        let same =
            |m: &&Message| m.msg.as_deref().is_some_and(|m| m.status() == status && m.tag("to") == msg.tag("to"));
        let originals: Vec<&Message> = known.iter().filter(same).collect();
        if originals.is_empty() {
            // Ours. A 2xx or a ringing tone of an INVITE is nobody's but the callee's.
            let borrowed = msg.method() == "INVITE" && (101..300).contains(&status);
            return borrowed.then(|| format!("{} to {} was never received", msg.start, message.flow.remote));
        }
        let differences: Vec<Option<String>> =
            originals.iter().map(|original| self.differs(truth, original, message)).collect();
        if differences.iter().any(Option::is_none) { None } else { differences.into_iter().flatten().next() }
    }

    /// The first difference outside edits.
    fn differs(&self, truth: &Truth, before: &Message, after: &Message) -> Option<String> {
        let (old, new) = (before.msg.as_deref()?, after.msg.as_deref()?);
        let shifted = self.shifted.contains(new.call_id());
        let register = new.method() == "REGISTER";
        let edited = |name: &str| {
            EDITED.iter().any(|e| same_name(name, e))
                || register && (same_name(name, "expires") || same_name(name, "min-expires"))
                // Credentials for our own realm end with us (RFC 3261 §22.3).
                || truth.role == Role::Standalone && same_name(name, "proxy-authorization")
                || shifted && (same_name(name, "cseq") || same_name(name, "rack"))
        };
        let (ours, theirs) = (lines(&after.bytes), lines(&before.bytes));
        let mut ours = ours.head.iter().filter(|(name, _)| !edited(name));
        let mut theirs = theirs.head.iter().filter(|(name, _)| !edited(name));
        loop {
            match (theirs.next(), ours.next()) {
                (None, None) => break,
                (Some(a), Some(b)) if a.1 == b.1 => {}
                (a, b) => {
                    let text = |line: Option<&(String, String)>| line.map_or(String::new(), |(_, l)| l.clone());
                    return Some(format!("field {:?} became {:?}: {}", text(a), text(b), new.start));
                }
            }
        }
        let mut ours = new.body.split_inclusive('\n').filter_map(kept);
        let mut theirs = old.body.split_inclusive('\n').filter_map(kept).peekable();
        // rtcp-mux is taken from whoever offers it, whatever the other end says (RFC 5761 §5.1.1).
        let answers = new.status() > 0 || new.method() == "ACK";
        loop {
            let line = ours.next();
            if answers && line.as_deref() == Some(MUX) && theirs.peek().map(String::as_str) != Some(MUX) {
                continue;
            }
            match (theirs.next(), line) {
                (None, None) => return None,
                (a, b) if a == b => {}
                (Some(a), Some(b)) if self.over.contains(new.call_id()) && b == a.replacen(" false ", " true ", 1) => {}
                (a, b) => return Some(format!("body line {a:?} became {b:?}: {}", new.start)),
            }
        }
    }
}

struct Lines {
    /// Name, and the whole line with folds.
    head: Vec<(String, String)>,
}

/// Header lines as they stand in the message.
fn lines(bytes: &Rc<[u8]>) -> Lines {
    let text = String::from_utf8_lossy(bytes);
    let head = text.split_once("\r\n\r\n").map_or(&*text, |(head, _)| head);
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in head.split("\r\n").skip(1) {
        match (line.starts_with([' ', '\t']), fields.last_mut()) {
            (true, Some((_, whole))) => {
                whole.push_str("\r\n");
                whole.push_str(line);
            }
            _ => {
                let name = line.split(':').next().unwrap_or_default().trim().to_owned();
                fields.push((name, line.to_owned()));
            }
        }
    }
    Lines { head: fields }
}

/// A body line that must pass as it is, or what of an `m=` line must; `None` for those that we write.
fn kept(line: &str) -> Option<String> {
    let ours = ["o=", "c=", "a=rtcp:", "a=candidate:", "a=ice-", "a=remote-candidates:", "a=end-of-candidates"];
    if ours.iter().any(|prefix| line.starts_with(prefix)) {
        return None;
    }
    if line.starts_with("m=") {
        let mut words = line.split(' ');
        let kind = words.next().unwrap_or_default();
        let refused = words.next() == Some("0");
        return Some(format!("{kind} {refused} {}", words.collect::<Vec<_>>().join(" ")));
    }
    Some(line.to_owned())
}
