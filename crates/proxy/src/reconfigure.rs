//! Another configuration while calls are up. Whoever prepared it has kept the
//! ids of listeners that stay and marked those that are gone; here everything
//! that was decided by an index or a setting follows: phones by their names,
//! upstreams by their addresses, ports by their ranges.
//!
//! Must not end a call. What is bound to a listener that is gone has lost its
//! way and ends.

use std::sync::Arc;
use std::time::Instant;

use registry::{Binding, BindingId, PassId};
use wire::ListenerId;

use crate::config::{Config, Role, Upstream};
use crate::machine::Seen;
use crate::timer::Timer;
use crate::transaction::{Id, Ours, Purpose};
use crate::{Output, Proxy};

impl Proxy {
    /// From now on this configuration counts.
    pub(crate) fn reconfigure(&mut self, now: Instant, config: Arc<Config>) {
        let before = std::mem::replace(&mut self.config, config);
        self.configured += 1;
        self.latching = self.config.networks.iter().filter(|n| n.latch).map(|n| n.prefix).collect();
        self.networks = self.config.networks.clone().into();
        let media = &self.config.media;
        self.offers.reconfigure(media.ranges.clone(), media.reserve, media.timeout);
        self.follow_listeners(now, &before);
        self.follow_phones(&before);
        self.follow_upstreams(&before);
        self.follow_users();
        let ends: Vec<_> = self.registry.bindings().map(|b| self.end(b.flow.get(), b.phone)).collect();
        for end in ends {
            self.offers.want(&end);
        }
        self.begin(now);
        self.resume(now);
    }

    fn follow_listeners(&mut self, now: Instant, before: &Config) {
        self.seen.resize(self.config.listeners.len(), Seen::default());
        let was = |index: usize| before.listeners.get(index);
        let mut gone = Vec::new();
        for (index, listener) in self.config.listeners.iter().enumerate() {
            if was(index).is_some_and(|was| was.advertise != listener.advertise || was.retired != listener.retired) {
                // Its address has to be found anew, or need not be found any more.
                self.seen[index] = Seen::default();
            }
            if listener.retired && was(index).is_some_and(|was| !was.retired) {
                gone.extend(u16::try_from(index).map(ListenerId));
            }
        }
        self.note_addresses();
        for listener in &gone {
            for flow in self.connections.of_listener(*listener) {
                self.emit(Output::Close { flow });
                self.closed(now, flow);
            }
        }
        let lost = |b: &&Binding| {
            gone.contains(&b.flow.get().listener)
                || b.upstream.as_ref().is_some_and(|flow| gone.contains(&flow.listener))
        };
        let lost: Vec<BindingId> = self.registry.bindings().filter(lost).map(|b| b.id).collect();
        for id in lost {
            self.release(id, true);
        }
    }

    /// Bindings, calls and requests in progress stay with the phone of that name.
    fn follow_phones(&mut self, before: &Config) {
        let place = |name: &str| self.config.phones.iter().position(|phone| phone.name == name);
        let moved: Vec<Option<usize>> = before.phones.iter().map(|phone| place(&phone.name)).collect();
        let follow = |phone: Option<usize>| phone.and_then(|at| moved.get(at).copied().flatten());
        let mut bindings = Vec::new();
        for binding in self.registry.bindings() {
            // One that was nobody's may be of a phone that is known from now on.
            let named = || self.phone_of(binding.aor(), binding.instance.as_deref(), binding.flow.get());
            let phone = follow(binding.phone).or_else(named);
            if phone != binding.phone {
                bindings.push(Binding { phone, ..binding.clone() });
            }
        }
        for binding in bindings {
            self.registry.bind(binding);
        }
        let calls: Vec<PassId> = self.registry.calls().filter(|c| c.phone.is_some()).map(|c| c.id).collect();
        for id in calls {
            self.registry.update_call(id, |call| call.phone = follow(call.phone));
        }
        let contexts: Vec<Id> = self.contexts.ids().collect();
        for id in contexts {
            let Some(mut context) = self.contexts.take(id) else { continue };
            for branch in &mut context.branches {
                branch.target.phone = follow(branch.target.phone);
            }
            self.contexts.put_back(context);
        }
    }

    /// Requests in progress and what is known of an upstream stay with the one
    /// of that URI and domain; pings go to those that there are now.
    fn follow_upstreams(&mut self, before: &Config) {
        let place = |was: &Upstream| {
            self.config.upstreams.iter().position(|now| now.uri() == was.uri() && now.domain == was.domain)
        };
        let moved: Vec<Option<usize>> = before.upstreams.iter().map(place).collect();
        let follow = |at: usize| moved.get(at).copied().flatten();
        let contexts: Vec<Id> = self.contexts.ids().collect();
        for id in contexts {
            let Some(mut context) = self.contexts.take(id) else { continue };
            if let Purpose::Ours(Ours::PingUpstream { listener }) = context.purpose
                && self.config.listeners.get(usize::from(listener)).is_none_or(|l| l.retired)
            {
                self.forget(&context);
                continue;
            }
            for branch in &mut context.branches {
                branch.target.hop.follow_upstreams(&follow);
                for way in branch.way.iter_mut().chain(&mut branch.others) {
                    way.upstream = way.upstream.and_then(follow);
                }
            }
            self.contexts.put_back(context);
        }
        self.upstreams.follow(&follow);
        for index in 0..self.config.listeners.len() {
            if let Ok(listener) = u16::try_from(index) {
                self.timers.disarm_all(Timer::Upstream(listener));
            }
        }
    }

    /// An account that is gone loses its registrations.
    fn follow_users(&mut self) {
        if self.config.role != Role::Standalone || self.config.users.is_empty() {
            return;
        }
        let known = |b: &&Binding| self.config.users.iter().any(|user| user.name.as_bytes() == b.aor());
        let strangers: Vec<BindingId> = self.registry.bindings().filter(|b| !known(b)).map(|b| b.id).collect();
        for id in strangers {
            self.release(id, false);
        }
    }
}

#[cfg(test)]
mod tests;
