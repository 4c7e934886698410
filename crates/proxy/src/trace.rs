//! Which messages somebody watches, and what they are told of each: whole
//! messages as they came and left, and every line that was changed, with the
//! rule that changed it. Credentials and media keys never leave this page.
//!
//! Costs one branch per message while nobody watches. Must not change what is
//! sent, when, or where to.

mod filter;
mod redact;

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hasher};
use std::net::SocketAddr;

use nat::Side;
use wire::sip::{Framing, Index, Message, Status};
use wire::{Change, Edit, Flow};

use crate::config::Role;
use crate::{MethodLabel, Output, Proxy};

pub use filter::Filter;
use redact::redacted;

/// Most watchers at a time.
pub const WATCHERS: usize = 8;

/// Calls remembered for each watcher: once a message of a call was its, all are.
const CALLS: usize = 128;
/// Messages remembered to tell repeated ones, over all watchers.
const SEEN: usize = 1024;
/// Edited messages that have not left yet.
const PENDING: usize = 32;
/// Longest field value that is copied beside the message.
const LONGEST: usize = 256;

/// Which way a message went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To us.
    Received,
    /// From us.
    Sent,
}

/// What a message is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// A request, its method as written.
    Request(MethodLabel, Vec<u8>),
    /// A response, its status and the CSeq method.
    Response(Status, Vec<u8>),
}

/// One message of a watched call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traced {
    /// Who watches it: bit n is watcher n.
    pub watchers: u8,
    /// Which way it went.
    pub direction: Direction,
    /// The way it came or leaves.
    pub flow: Flow,
    /// The side of that way.
    pub side: Side,
    /// It is of the phone's end of the call (standalone: of the end that was seen first).
    pub near: bool,
    /// Its Call-ID.
    pub call_id: Vec<u8>,
    /// What it is.
    pub start: Start,
    /// Number in CSeq, if it can be read.
    pub cseq: Option<u32>,
    /// The very same message went the same way before.
    pub repeated: bool,
    /// A message that was passed on, not made by us (only for what is sent).
    pub forwarded: bool,
    /// The whole of it, credentials and keys left out; empty for a repeated one.
    pub bytes: Vec<u8>,
    /// What differs from the message as it was received.
    pub changes: Vec<Change>,
}

/// The watchers, and what must be remembered for them.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// There is a watcher: all that a message costs while there is none.
    on: bool,
    slots: [Option<Watched>; WATCHERS],
    /// Messages seen, by hash.
    seen: VecDeque<u64>,
    /// Edited messages by hash, and what was changed.
    pending: VecDeque<(u64, Vec<Change>)>,
    /// Which end of a call was seen first.
    first: VecDeque<(Vec<u8>, SocketAddr)>,
}

#[derive(Debug)]
struct Watched {
    filter: Filter,
    calls: VecDeque<Vec<u8>>,
}

impl Proxy {
    /// Somebody watches, or no longer does.
    pub(crate) fn watch(&mut self, watcher: u8, filter: Option<Filter>) {
        let calls = filter.as_ref().map(|filter| self.calls_named(filter)).unwrap_or_default();
        if let Some(slot) = self.watch.slots.get_mut(usize::from(watcher)) {
            *slot = filter.map(|filter| Watched { filter, calls });
        }
        self.watch.on = self.watch.slots.iter().any(Option::is_some);
        if !self.watch.on {
            self.watch = Watch::default();
        }
    }

    /// Calls that run already, named as the log and the status name them.
    fn calls_named(&self, filter: &Filter) -> VecDeque<Vec<u8>> {
        let named = self.registry.calls().filter(|call| filter.names(&call.id.to_string()));
        named.map(|call| call.call_id.to_vec()).take(CALLS).collect()
    }

    /// Applies an edit; whoever watches is told of it when the message leaves.
    pub(crate) fn edited(&mut self, message: Message<'_>, edit: &Edit) -> Vec<u8> {
        let bytes = message.edited(edit);
        if self.watch.on {
            remember(&mut self.watch.pending, PENDING, (hash(&[&bytes]), edit.changes(message.bytes)));
        }
        bytes
    }

    /// A message came.
    pub(crate) fn trace_received(&mut self, flow: Flow, message: Message<'_>) {
        if self.watch.on {
            self.trace(Direction::Received, flow, message, None);
        }
    }

    /// A message leaves.
    pub(crate) fn trace_sent(&mut self, flow: Flow, bytes: &[u8]) {
        if !self.watch.on {
            return;
        }
        let mut index = Index::new();
        if index.parse(bytes, Framing::Datagram, &self.config.limits).is_err() {
            // What we passed on may have grown beyond the limits for what we take; as far as it was read is enough.
            tracing::trace!("a message to be traced exceeds the limits");
        }
        let hash = hash(&[bytes]);
        let at = self.watch.pending.iter().position(|(edited, _)| *edited == hash);
        let changes = at.and_then(|at| self.watch.pending.remove(at)).map(|(_, changes)| changes);
        self.trace(Direction::Sent, flow, index.view(bytes), changes);
    }

    fn trace(&mut self, direction: Direction, flow: Flow, message: Message<'_>, changes: Option<Vec<Change>>) {
        let watchers = self.watchers(flow, message);
        if watchers == 0 {
            return;
        }
        let sent = [u8::from(direction == Direction::Sent)];
        let hash = hash(&[&sent, flow.remote.to_string().as_bytes(), message.bytes]);
        let repeated = self.watch.seen.contains(&hash);
        if !repeated {
            remember(&mut self.watch.seen, SEEN, hash);
        }
        let method = message.cseq().map(|cseq| cut(cseq.method.as_bytes())).unwrap_or_default();
        let start = match message.status() {
            Some(status) => Start::Response(status, method),
            None => Start::Request(message.method().into(), cut(message.method().as_bytes())),
        };
        let changes = changes.map(|changes| changes.into_iter().map(hidden).collect());
        let traced = Traced {
            watchers,
            direction,
            flow,
            side: self.side(flow),
            near: self.near(flow, message.call_id()),
            call_id: cut(message.call_id()),
            start,
            cseq: message.cseq().ok().map(|cseq| cseq.number),
            repeated,
            forwarded: changes.is_some(),
            bytes: if repeated { Vec::new() } else { redacted(message.bytes) },
            changes: if repeated { Vec::new() } else { changes.unwrap_or_default() },
        };
        self.emit(Output::Traced(Box::new(traced)));
    }

    /// Whose a message is.
    fn watchers(&mut self, flow: Flow, message: Message<'_>) -> u8 {
        let call_id = cut(message.call_id());
        let mut watchers = 0;
        let mut watch = std::mem::take(&mut self.watch);
        for (number, slot) in watch.slots.iter_mut().enumerate() {
            let Some(watched) = slot else { continue };
            let known = !call_id.is_empty() && watched.calls.contains(&call_id);
            if known || watched.filter.wants(self, flow, message) {
                watchers |= 1 << number;
                if !known && !call_id.is_empty() {
                    remember(&mut watched.calls, CALLS, call_id.clone());
                }
            }
        }
        self.watch = watch;
        watchers
    }

    fn near(&mut self, flow: Flow, call_id: &[u8]) -> bool {
        match self.config.role {
            Role::Office | Role::Border => self.on_phones_side(flow),
            Role::Standalone => {
                let call_id = cut(call_id);
                match self.watch.first.iter().find(|(id, _)| *id == call_id) {
                    Some((_, first)) => *first == flow.remote,
                    None => {
                        remember(&mut self.watch.first, CALLS, (call_id, flow.remote));
                        true
                    }
                }
            }
        }
    }
}

fn hidden(change: Change) -> Change {
    Change { before: redacted(&change.before), after: redacted(&change.after), ..change }
}

fn cut(value: &[u8]) -> Vec<u8> {
    value[..value.len().min(LONGEST)].to_vec()
}

/// Keeps the newest.
fn remember<T>(kept: &mut VecDeque<T>, most: usize, one: T) {
    if kept.len() >= most {
        kept.pop_front();
    }
    kept.push_back(one);
}

fn hash(parts: &[&[u8]]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for part in parts {
        hasher.write(part);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests;
