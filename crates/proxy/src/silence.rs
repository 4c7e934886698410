//! Flow-Timer (RFC 5626 §5.4): a phone that registered by outbound over a
//! connection is told how often we want to hear from it; when it is silent for
//! longer, its flow has failed, and who calls it is told so at once.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use wire::Flow;
use wire::sip::{Message, Name};
use wire::{Edit, Rule, sip};

use crate::connection::Id;
use crate::timer::Timer;
use crate::{Output, Proxy};

/// What we announce, seconds: as often as a client keeps a connection by itself (§4.4.1).
pub(crate) const FLOW_TIMER: u32 = 120;
/// Nothing above this is waited for on a registrar's word.
const LONGEST: u32 = 3600;
/// Transport delay, and a client that is late (§5.4).
const GRACE: Duration = Duration::from_secs(30);

/// Connections that must not be silent, each with what was last heard.
#[derive(Debug, Default)]
pub(crate) struct Silences(BTreeMap<Id, Silence>);

#[derive(Debug)]
struct Silence {
    flow: Flow,
    since: Instant,
    most: Duration,
}

impl Silences {
    /// Something came in.
    pub(crate) fn heard(&mut self, now: Instant, flow: Flow) {
        if flow.connection != 0
            && let Some(silence) = self.0.get_mut(&(flow.listener, flow.connection))
        {
            silence.since = now;
        }
    }
}

impl Proxy {
    /// Announces it in a 200 that says `outbound`; a registrar's own word stays.
    pub(crate) fn announce_flow_timer(&mut self, now: Instant, flow: Flow, message: Message<'_>, edit: &mut Edit) {
        if flow.connection == 0 || !message.lists(Name::Require, "outbound") {
            return;
        }
        let said = message.number(Name::FlowTimer).and_then(Result::ok);
        if said.is_none() {
            let seconds = FLOW_TIMER.to_string();
            sip::edit::append(message, edit, Rule::FlowTimer, Name::FlowTimer, &[seconds.as_bytes()]);
        }
        self.expect_keepalives(now, flow, said.unwrap_or(FLOW_TIMER));
    }

    /// From now on this connection fails when nothing is heard for so many seconds and some more.
    pub(crate) fn expect_keepalives(&mut self, now: Instant, flow: Flow, seconds: u32) {
        let id = (flow.listener, flow.connection);
        if flow.connection == 0 || !self.connections.is_open(flow) {
            return;
        }
        let most = Duration::from_secs(u64::from(seconds.clamp(1, LONGEST))) + GRACE;
        if self.silences.0.insert(id, Silence { flow, since: now, most }).is_none() {
            self.timers.arm(now + most, Timer::Silence(id));
        }
    }

    /// A connection may have been silent for too long.
    pub(crate) fn silence_due(&mut self, now: Instant, id: Id) {
        let Some(silence) = self.silences.0.get(&id) else { return };
        let (flow, due) = (silence.flow, silence.since + silence.most);
        if !self.connections.is_open(flow) {
            self.silences.0.remove(&id);
        } else if due <= now {
            self.silences.0.remove(&id);
            self.emit(Output::Close { flow });
            self.closed(now, flow);
        } else {
            self.timers.arm(due, Timer::Silence(id));
        }
    }
}

#[cfg(test)]
mod tests;
