//! What a transaction still needs once its final answer has left: the answer
//! and the key, for copies of the request (RFC 3261 §17.2.3); of an INVITE also
//! what the ACK to a late copy of the answer is made of (§17.1.1.3), and, once
//! it was accepted, what a 2xx of another branch is read by (RFC 6026 §7.1).

use wire::Edit;
use wire::sip::{Limits, Stored};

use super::client::State;
use super::context::{Branch, Context, Purpose};
use super::{Accepted, Client, Rest, server};
use crate::request::route::Routed;

impl Context {
    /// Lets go of the rest. True once, when that has come about.
    pub(crate) fn compact(&mut self) -> bool {
        if self.compact {
            if self.branches.iter().all(|branch| branch.deadline().is_none() && branch.abandoned.is_empty()) {
                self.branches = Vec::new();
            }
            return false;
        }
        if self.open() || self.parked.is_some() || self.branches.iter().any(waits) {
            return false;
        }
        let accepted = self.accepted();
        let Some(answering) = &mut self.answering else {
            // A request of our own has been answered; it only absorbs copies of the answer (Timer K).
            if !self.invite {
                self.branches.iter_mut().for_each(|branch| branch.compact(false));
            }
            return false;
        };
        self.compact = true;
        answering.last.shrink_to_fit();
        for branch in &mut self.branches {
            branch.compact(self.invite);
        }
        if accepted {
            // Each branch has what it sent; what was sent last is of one of them.
            answering.last = Vec::new();
        } else {
            self.routed = Routed::default();
        }
        if matches!(self.purpose, Purpose::Register(_)) {
            self.purpose = Purpose::Pass;
        }
        if !self.invite && !answering.machine.reliable() {
            self.branches = Vec::new();
        }
        // What is kept in another form takes of the request what it needs by itself.
        if !self.rests() && !self.packs() {
            if accepted {
                self.request.drop_body();
            } else {
                self.request.keep_essence();
            }
        }
        true
    }

    /// It is an INVITE that was accepted.
    pub(crate) fn belongs_to_call(&self) -> bool {
        self.invite && self.accepted()
    }

    fn accepted(&self) -> bool {
        self.answering.as_ref().is_some_and(|a| a.machine.state() == server::State::Accepted)
    }

    /// How many octets it takes, about.
    pub(crate) fn octets(&self) -> usize {
        if self.rests() {
            return self.answering.as_ref().map_or(0, |a| Rest::octets(a.key.len(), a.last.capacity()));
        }
        if self.packs() {
            let key = self.answering.as_ref().map_or(0, |answering| answering.key.len());
            let sent = self
                .branches
                .iter()
                .filter_map(|branch| branch.accepted.as_ref())
                .map(|(_, patch)| patch.octets())
                .sum();
            return Accepted::octets(key, self.request.message().body_span().start as usize, sent);
        }
        // The key lies in the index, too; a slot, a timer and their tables come to some 200.
        let answering = self.answering.as_ref().map_or(0, |a| 2 * a.key.len() + a.last.capacity());
        let branches: usize = self.branches.iter().map(Branch::octets).sum();
        let registration = if matches!(self.purpose, Purpose::Register(_)) { self.request.octets() / 2 } else { 0 };
        size_of::<Self>() + 200 + self.request.octets() + answering + branches + registration
    }
}

impl Branch {
    fn compact(&mut self, invite: bool) {
        let acknowledged = self.client.as_ref().is_some_and(|client| client.state() == State::Completed);
        if !(invite && acknowledged) {
            self.sent = Vec::new();
        } else if let Ok(mut sent) = Stored::parse(std::mem::take(&mut self.sent), &Limits::default()) {
            sent.keep_essence();
            self.sent = sent.message().edited(&Edit::new());
            self.sent.extend_from_slice(b"\r\n");
        }
        if !invite {
            self.abandoned = Vec::new();
        }
        self.others = Vec::new();
        self.way = self.way.take().filter(|_| !invite || acknowledged);
        self.response = None;
        self.cancel = None;
        self.target.uri = None;
        self.target.flows = Vec::new();
    }

    fn octets(&self) -> usize {
        let response = self.response.as_ref().map_or(0, |response| size_of::<Stored>() + response.octets());
        let held = self.held.as_ref().map_or(0, |held| size_of_val(&**held) + held.1.octets());
        let cancel = self.cancel.as_ref().map_or(0, |cancel| size_of_val(&**cancel) + cancel.1.capacity());
        let accepted = self.accepted.as_ref().map_or(0, |(_, patch)| patch.octets());
        let abandoned: usize = self.abandoned.iter().map(|copy| copy.sent.capacity()).sum();
        let uri = self.target.uri.as_ref().map_or(0, Vec::capacity);
        size_of::<Self>() + self.sent.capacity() + response + held + cancel + accepted + abandoned + uri
    }
}

/// Something is still to come of it, or to be sent again.
fn waits(branch: &Branch) -> bool {
    let pending = |client: &Client| client.pending();
    branch.client.as_ref().is_some_and(pending)
        || branch.cancel.as_ref().is_some_and(|cancel| pending(&cancel.0))
        || (branch.cancel_wanted.is_some() && branch.result.is_none())
        || branch.held.is_some()
}

#[cfg(test)]
mod tests;
