//! Connections: a message leaves only on one that is there; a response goes
//! back over the one that brought its request (RFC 3261 §18.2.2); one that came
//! in carries requests only to whoever registered on it, or to the core (RFC
//! 5923); nothing is retransmitted where the transport does that (§17).

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use proxy::OUTGOING;
use wire::{Flow, ListenerId};

use super::{Rule, Truth};
use crate::clock::Time;
use crate::edge::{Entry, Line, Message};
use crate::sip::{self, Msg};

type Id = (ListenerId, u32);

fn id(flow: Flow) -> Id {
    (flow.listener, flow.connection)
}

#[derive(Debug, Default)]
pub(crate) struct Connections {
    /// Each with the users that registered on it.
    open: BTreeMap<Id, BTreeSet<String>>,
    /// Which connections brought a request, by branch and method.
    brought: BTreeMap<(String, String), BTreeSet<Id>>,
    /// What was sent on which.
    sent: BTreeSet<(Id, u64)>,
}

impl Rule for Connections {
    fn name(&self) -> &'static str {
        "connections are used as RFC 3261 §18 and RFC 5923 say"
    }

    fn see(&mut self, _now: Time, truth: &Truth, entry: &Entry) -> Option<String> {
        match entry {
            Entry::Line(Line::Opened(flow)) => {
                self.open.insert(id(*flow), BTreeSet::new());
                None
            }
            Entry::Line(Line::Asked(flow)) => {
                self.open.insert(id(*flow), BTreeSet::new());
                let known = truth.friends.contains(&flow.remote.ip()) || truth.upstream == Some(flow.remote.ip());
                (!known).then(|| format!("a connection to {}, which nobody listed", flow.remote))
            }
            Entry::Line(Line::Kept(flow)) => self.gone(*flow, "a keep-alive"),
            Entry::Line(Line::Ended(flow)) => {
                self.open.remove(&id(*flow));
                None
            }
            Entry::Received(message) => {
                self.received(message);
                None
            }
            Entry::Sent(message) if message.flow.transport.reliable() => self.leaves(truth, message),
            Entry::Sent(_)
            | Entry::Timer
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

impl Connections {
    fn received(&mut self, message: &Message) {
        let Some(msg) = message.msg.as_deref().filter(|msg| msg.is_request()) else { return };
        let at = id(message.flow);
        if msg.method() == "REGISTER"
            && let Some(users) = self.open.get_mut(&at)
        {
            users.insert(sip::user(sip::uri_of(msg.get("to").unwrap_or_default())).to_owned());
        }
        self.brought.entry((msg.branch().to_owned(), msg.method().to_owned())).or_default().insert(at);
    }

    fn gone(&self, flow: Flow, what: &str) -> Option<String> {
        let gone = !self.open.contains_key(&id(flow));
        gone.then(|| format!("{what} leaves on connection {} to {}, which has ended", flow.connection, flow.remote))
    }

    fn leaves(&mut self, truth: &Truth, message: &Message) -> Option<String> {
        let (msg, flow) = (message.msg.as_deref()?, message.flow);
        if let Some(gone) = self.gone(flow, &msg.start) {
            return Some(gone);
        }
        let repeated = !self.sent.insert((id(flow), digest(message)));
        let once = if msg.is_request() { msg.method() != "ACK" } else { msg.status() >= 300 };
        if repeated && once {
            return Some(format!("{} goes again over connection {} to {}", msg.start, flow.connection, flow.remote));
        }
        if msg.is_request() { self.asks(truth, flow, msg) } else { self.answers(flow, msg) }
    }

    fn answers(&self, flow: Flow, msg: &Msg) -> Option<String> {
        let brought = self.brought.get(&(msg.branch().to_owned(), msg.method().to_owned()))?;
        let there = brought.iter().any(|at| self.open.contains_key(at));
        let astray = there && !brought.contains(&id(flow));
        astray.then(|| {
            format!("{} to {} over connection {}, not over {brought:?}", msg.start, flow.remote, flow.connection)
        })
    }

    fn asks(&self, truth: &Truth, flow: Flow, msg: &Msg) -> Option<String> {
        if flow.connection >= OUTGOING || truth.upstream == Some(flow.remote.ip()) {
            return None;
        }
        let users = self.open.get(&id(flow))?;
        let whose = sip::user(msg.uri());
        let stranger = !users.contains(whose);
        stranger.then(|| format!("{} over the connection of {users:?} at {}", msg.start, flow.remote))
    }
}

fn digest(message: &Message) -> u64 {
    let mut hasher = DefaultHasher::new();
    message.bytes.hash(&mut hasher);
    hasher.finish()
}
