//! What an earlier process left is taken up again: bindings are pinged and run
//! out, calls answer to their tokens and end by their timers, as if the
//! machine had never stopped. Their media is gone; an offer inside such a call
//! (RFC 3264 §8) opens new ports, as the first one did.
//!
//! Must not: announce anything on the wire. Nobody but the owner of the
//! records knows that we were away.

use std::sync::Arc;
use std::time::Instant;

use registry::{Binding, Call, CallState, Record};

use crate::session_timer::Timer;
use crate::{Proxy, probe};

impl Proxy {
    /// Fills the registry, before the first message.
    pub(crate) fn restore(&mut self, now: Instant, records: Vec<Record>) {
        let mut calls = Vec::new();
        for record in records {
            match record {
                Record::Binding(binding) => self.bind_again(now, Arc::unwrap_or_clone(binding)),
                Record::Call(call) => calls.push(Arc::unwrap_or_clone(call)),
            }
        }
        // They name bindings.
        for call in calls {
            self.call_again(now, call);
        }
    }

    /// The same but that nobody is told of a phone that never left. To which
    /// `[[phone]]` it belongs is what the configuration says now.
    fn bind_again(&mut self, now: Instant, mut binding: Binding) {
        binding.phone = self.phone_of(binding.aor(), binding.instance.as_deref(), binding.flow.get());
        let (id, flow, natted) = (binding.id, binding.flow.get(), binding.natted);
        // Ports of the phone's side are bound before its first call.
        let end = self.end(flow, binding.phone);
        self.offers.want(&end);
        self.registry.bind(binding);
        if self.needs_pings(flow, natted) {
            self.ping_again(now, id);
        }
    }

    fn call_again(&mut self, now: Instant, mut call: Call) {
        if call.state == CallState::Early {
            return;
        }
        // Without media no silence will end it, but its ends can be asked.
        let expires = *call.expires.get_or_insert(now + probe::EVERY);
        // More time than that is a session timer's.
        let timer = expires.checked_duration_since(now).filter(|left| *left > probe::EVERY);
        let timer = timer.map(|interval| Timer { interval, caller: None });
        self.timed.note(call.id, timer.filter(|_| call.answered.is_some()));
        let parties = std::iter::once(&call.caller).chain(&call.callees);
        let bindings = parties.filter_map(|party| self.registry.binding(party.binding?));
        call.phone = bindings.into_iter().find_map(|binding| binding.phone);
        self.registry.put_call(call);
    }
}

#[cfg(test)]
mod tests;
