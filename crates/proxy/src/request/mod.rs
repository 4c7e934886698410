//! The request chain, in order: RFC 3261 §16.3 to §16.6, one file a step.
//!
//! Once per request: [`admit`], [`validate`], [`authenticate`], [`route`],
//! [`guard`], [`target`]. Once per branch: [`forward`]. A step takes explicit
//! arguments and returns a value or a [`Reject`], which becomes the response.

pub(crate) mod admit;
mod answer;
pub(crate) mod attempts;
pub(crate) mod authenticate;
pub(crate) mod breadth;
pub(crate) mod forward;
pub(crate) mod guard;
mod reflect;
pub(crate) mod refusals;
pub(crate) mod route;
pub(crate) mod target;
pub(crate) mod validate;

use std::time::Instant;

use wire::sip::{Message, Method, Status, compose};
use wire::{Flow, Malformed};

pub(crate) use target::Target;

use crate::rewrite::via;
use crate::session_timer;
use crate::transaction::Key;
use crate::{DropReason, Observed, Proxy};

/// A refusal: a status code is the error type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reject {
    pub(crate) status: Status,
    pub(crate) reason: &'static str,
    /// Whole header lines, each with its CRLF.
    pub(crate) extra: Vec<u8>,
}

impl Reject {
    pub(crate) fn new(status: u16, reason: &'static str) -> Self {
        Self { status: Status(status), reason, extra: Vec::new() }
    }

    pub(crate) fn with(mut self, line: &str) -> Self {
        self.extra.extend_from_slice(line.as_bytes());
        self.extra.extend_from_slice(b"\r\n");
        self
    }
}

impl Proxy {
    /// One request from the wire.
    pub(crate) fn request(&mut self, now: Instant, flow: Flow, message: Message<'_>) {
        let method = message.method();
        let flow = via::home(flow, message);
        self.count_in(flow, method);
        let Ok(via) = message.top_via() else {
            let side = self.side(flow);
            self.observe(Observed::Dropped { side, reason: DropReason::Malformed });
            return;
        };
        self.note_alias(flow, &via);
        let key = Key::of(&self.hashes, message, &via);
        if method == Method::Ack {
            return self.ack(now, flow, message, &key);
        }
        if let Some(id) = self.contexts.of_request(message, &via, &key, method) {
            return self.replay(now, id, flow, message);
        }
        if let Some(reject) = self.refusals.recall(now, &key) {
            return self.refuse(now, flow, message, &reject);
        }
        let result = match method {
            Method::Cancel => self.cancel(now, flow, message, &via),
            Method::Invite
            | Method::Bye
            | Method::Options
            | Method::Register
            | Method::Info
            | Method::Update
            | Method::Prack
            | Method::Refer
            | Method::Subscribe
            | Method::Notify
            | Method::Message
            | Method::Publish
            | Method::Ack
            | Method::Other(_) => self.chain(now, flow, message, key),
        };
        if let Err(reject) = result {
            self.refuse(now, flow, message, &reject);
            self.refusals.remember(now, Key::of(&self.hashes, message, &via), reject);
        }
    }

    /// The list itself.
    fn chain(&mut self, now: Instant, flow: Flow, message: Message<'_>, key: Key) -> Result<(), Reject> {
        self.admit(flow, message)?;
        if message.method() == Method::Register && self.absorb_copy(now, flow, message, &key)? {
            return Ok(());
        }
        validate::validate(message)?;
        if self.is_probe(flow, message) {
            self.reflect(now, flow, message);
            return Ok(());
        }
        self.authenticate(now, flow, message)?;
        let routed = self.route(flow, message)?;
        self.guard(flow, message, &routed)?;
        session_timer::check(message)?;
        let holder = self.make_room(flow, message)?;
        self.dispatch(now, flow, message, key, holder, routed)
    }

    /// Answers without keeping state: whoever sends this has proven nothing,
    /// so nothing is retransmitted to it (RFC 3261 §8.2.7).
    pub(crate) fn refuse(&mut self, now: Instant, flow: Flow, message: Message<'_>, reject: &Reject) {
        let side = self.side(flow);
        let method = message.method().into();
        let (status, reason, source) = (reject.status, reject.reason, flow.remote);
        self.observe(Observed::Refused { side, method, status, reason, source });
        let proven = self.is_proven(flow);
        self.answer_stateless(now, flow, message, reject, proven);
    }

    /// What could not be read: answered 400 where enough of it was.
    pub(crate) fn malformed(&mut self, now: Instant, flow: Flow, message: Message<'_>, malformed: Malformed) {
        let side = self.side(flow);
        // Copied, a lone LF would look like another message to another reader.
        let answerable = message.is_request()
            && message.method() != Method::Ack
            && message.top_via().is_ok()
            && malformed.what != "LF without CR"
            && compose::answerable(message);
        if answerable {
            self.count_in(flow, message.method());
            let status = if malformed.what == "version not supported" { 505 } else { 400 };
            self.refuse(now, flow, message, &Reject::new(status, malformed.what));
        } else {
            self.observe(Observed::Dropped { side, reason: DropReason::Malformed });
        }
    }
}

#[cfg(test)]
mod tests;
