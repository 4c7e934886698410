//! Several upstreams: which of them a new request may go to, and what is
//! known of their health.
//!
//! Candidates are the upstreams of the request's domain, in written order;
//! only new requests and REGISTER choose among them, a dialog keeps its route
//! set. Health is kept per listener and address. An address is *down* after a
//! missed probe or a transport error (§16.9), and *busy* for as long as the
//! Retry-After of its 503 says (§21.5.4): it gets no new request. After a
//! request that it left without any response it is no longer first choice.
//! It comes back slowly, so that phones do not flap: after three answered
//! probes in a row and half a minute since its last failure ([`health`]).
//! Must not end or move what is under way inside a dialog.

mod fallback;
mod health;
mod stun;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use nat::alg::Rewritten;
use nat::keepalive::Schedule;
use wire::sip::{Message, Status, Uri};
use wire::{Flow, ListenerId, Transport};

use crate::config::Role;
use crate::locate::{Aim, Goal, Hop, Located, Way, numeric, unresolved};
use crate::request::Reject;
use crate::transaction::{Branch, Context, Id};
use crate::{FailoverCause, Observed, Proxy, UpstreamState};
use health::{Health, SPREAD};
use stun::Stun;

/// Longest Retry-After that is respected.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
/// A new request that an upstream leaves without any response goes to the next
/// one after this: three copies sent (RFC 3261 §17.1.1.2), none answered.
pub(crate) const PATIENCE: Duration = Duration::from_millis(3500);
/// A probe is missed after this: three copies sent.
pub(crate) const PROBE_PATIENCE: Duration = Duration::from_millis(2500);
/// Probes while an address is down or coming back.
const OFTEN: Schedule = Schedule::new(Duration::from_secs(5), 20);
/// Addresses of one upstream that are probed.
const MOST_PROBED: usize = 8;

/// Which address, out of which listener.
pub(crate) type Key = (ListenerId, SocketAddr);

/// What is known of all upstreams.
#[derive(Debug, Default)]
pub(crate) struct Upstreams {
    health: BTreeMap<Key, Health>,
    /// Where each upstream was last found.
    found: BTreeMap<usize, Vec<Key>>,
    /// Those that are ways only while others do not work.
    spare: BTreeSet<Key>,
    /// Where somebody on the way rewrites what we say.
    rewritten: Rewritten,
    /// As last reported.
    said: BTreeMap<usize, UpstreamState>,
    /// The transport of first choice, as last reported.
    transports: BTreeMap<usize, Transport>,
    /// The next round of probes of each listener.
    due: BTreeMap<u16, Instant>,
    /// Keep-alives by STUN.
    stun: Stun,
    /// How rarely they may come, where our own mapping is to be kept.
    interval: Option<Duration>,
}

/// What went wrong with an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// A request got no response at all.
    Silent,
    /// A probe got none.
    Missed,
    /// It could not be sent, or its connection ended.
    Unsent,
    /// A 503, with its Retry-After.
    Refused(Option<Duration>),
}

impl Failure {
    fn cause(self) -> FailoverCause {
        match self {
            Self::Silent | Self::Missed => FailoverCause::Silent,
            Self::Unsent => FailoverCause::Unreachable,
            Self::Refused(_) => FailoverCause::Unavailable,
        }
    }
}

impl Proxy {
    /// The upstreams that serve a domain, in written order: those that name
    /// it, else those that name none, else the first.
    pub(crate) fn upstreams_for(&self, uri: &Uri<'_>) -> Vec<usize> {
        let named = |domain: &str| uri.host.is_some_and(|h| h.0.eq_ignore_ascii_case(domain.as_bytes()));
        let all = self.config.upstreams.iter().enumerate();
        let these = |fits: &dyn Fn(Option<&str>) -> bool| -> Vec<usize> {
            all.clone().filter(|(_, u)| fits(u.domain.as_deref())).map(|(index, _)| index).collect()
        };
        let mut of = these(&|domain| domain.is_some_and(named));
        if of.is_empty() {
            of = these(&|domain| domain.is_none());
        }
        if of.is_empty() {
            of = these(&|_| true);
            of.truncate(1);
        }
        of
    }

    /// All ways to the first upstream that serves and to those behind it:
    /// first choice before those that are only just back.
    pub(crate) fn ways_to_upstreams(
        &mut self,
        now: Instant,
        of: &[usize],
        phone: Option<usize>,
        seed: u64,
    ) -> Located<Vec<Way>> {
        let mut all: Vec<(u8, Way)> = Vec::new();
        let mut known = false;
        for upstream in of {
            match self.ways_to_upstream(now, *upstream, phone, None, seed) {
                Located::At(ways) => {
                    known = true;
                    let spares = self.config.upstreams.get(*upstream).is_some_and(|u| !u.fallback.is_empty());
                    let best = spares.then(|| self.upstreams.best_answers(now, &ways)).flatten();
                    for way in ways {
                        let key = (way.flow.listener, way.flow.remote);
                        let tier = self.upstreams.tier(now, key);
                        let tier = tier.map(|tier| best.map_or(tier, |best| self.upstreams.demoted(tier, best, &way)));
                        all.extend(tier.map(|tier| (tier, way)));
                    }
                }
                Located::Wait if all.is_empty() => return Located::Wait,
                Located::Wait | Located::Nowhere(_) => {}
            }
        }
        all.sort_by_key(|(tier, _)| *tier);
        match (all.is_empty(), known) {
            (false, _) => Located::At(all.into_iter().map(|(_, way)| way).collect()),
            (true, true) => Located::Nowhere(self.unavailable(now, of)),
            (true, false) => Located::Nowhere(unresolved()),
        }
    }

    fn ways_to_upstream(
        &mut self,
        now: Instant,
        upstream: usize,
        phone: Option<usize>,
        prefer: Option<ListenerId>,
        seed: u64,
    ) -> Located<Vec<Way>> {
        let Some(config) = self.config.upstreams.get(upstream) else { return Located::Nowhere(unresolved()) };
        let goal = Goal {
            host: config.host.to_ascii_lowercase(),
            port: config.port,
            transport: config.transport,
            sips: config.sips,
        };
        let side = self.config.role.phones().other();
        let own = prefer.and_then(|id| self.config.listeners.get(usize::from(id.0))).and_then(|l| l.phone);
        let aim = Aim { goal, side, phone: phone.or(own), prefer };
        let located = self.ways_to(now, &aim, seed);
        match self.with_spares(now, upstream, &aim, located, seed) {
            Located::At(mut ways) => {
                for way in &mut ways {
                    way.upstream = Some(upstream);
                }
                Located::At(ways)
            }
            Located::Wait => Located::Wait,
            Located::Nowhere(reject) => Located::Nowhere(reject),
        }
    }

    /// What a new request gets when none of its upstreams serves (§21.5.4).
    fn unavailable(&self, now: Instant, of: &[usize]) -> Reject {
        let keys = || of.iter().filter_map(|upstream| self.upstreams.found.get(upstream)).flatten();
        let left = |key: &Key| self.upstreams.health.get(key)?.pause?.checked_duration_since(now);
        let who = self.config.role;
        match keys().filter_map(left).min() {
            Some(left) if !left.is_zero() => {
                let reason = match who {
                    Role::Office => "The provider asked for a pause",
                    Role::Border | Role::Standalone => "The core asked for a pause",
                };
                // Rounded up: not before that time.
                let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
                Reject::new(503, reason).with(&format!("Retry-After: {seconds}"))
            }
            Some(_) | None => {
                let reason = match who {
                    Role::Office => "The provider does not answer",
                    Role::Border | Role::Standalone => "The core does not answer",
                };
                Reject::new(503, reason).with("Retry-After: 5")
            }
        }
    }

    /// True when a further request to these upstreams would fail, too: only
    /// then may a 503 be passed on (§16.7(6)).
    pub(crate) fn all_unavailable(&self, now: Instant, of: &[usize]) -> Option<Reject> {
        let keys = of.iter().filter_map(|upstream| self.upstreams.found.get(upstream)).flatten();
        let mut keys = keys.filter(|key| self.upstreams.counts(**key)).peekable();
        let failed = |key: &Key| matches!(self.upstreams.state(now, *key), UpstreamState::Down | UpstreamState::Busy);
        let all = keys.peek().is_some() && keys.all(failed);
        all.then(|| self.unavailable(now, of))
    }

    /// A way that was found before may have failed since.
    pub(crate) fn still_serves(&self, now: Instant, way: &Way) -> bool {
        way.upstream.is_none() || self.upstreams.tier(now, (way.flow.listener, way.flow.remote)).is_some()
    }

    /// True for an address that has failed and is not back yet.
    pub(crate) fn is_down(&self, now: Instant, flow: Flow) -> bool {
        self.upstreams.state(now, (flow.listener, flow.remote)) == UpstreamState::Down
    }

    /// A request got no good answer from where it went.
    pub(crate) fn hop_failed(&mut self, now: Instant, flow: Flow, failure: Failure) {
        let spread = self.random() % (SPREAD.as_millis() as u64 + 1);
        let Some(health) = self.upstreams.health.get_mut(&(flow.listener, flow.remote)) else { return };
        match failure {
            Failure::Missed | Failure::Unsent => health.fail(now, Duration::from_millis(spread)),
            Failure::Silent => {
                health.fail(now, Duration::from_millis(spread));
                // It answers probes, so perhaps only this request: no longer first choice, but not given up.
                health.good = u8::from(health.answers);
            }
            Failure::Refused(Some(pause)) => {
                let until = now + pause.min(LONGEST_PAUSE);
                health.pause = Some(health.pause.map_or(until, |before| before.max(until)));
            }
            // As if a 500 had come (§21.5.4): it says nothing about the next request.
            Failure::Refused(None) => {}
        }
        self.note_upstreams(now);
        if self.upstreams.tier(now, (flow.listener, flow.remote)) != Some(0) {
            self.probe_often(now, flow.listener.0);
            self.wake_spares(now);
        }
    }

    /// A response that is no 503 came from there.
    pub(crate) fn hop_answered(&mut self, now: Instant, flow: Flow) {
        if let Some(health) = self.upstreams.health.get_mut(&(flow.listener, flow.remote)) {
            health.serves = true;
            if health.failed.is_some() {
                health.answered(now, false);
                self.note_upstreams(now);
            }
        }
    }

    /// Says that a request goes on to another address.
    pub(crate) fn note_failover(&mut self, from: Option<usize>, to: &Way, failure: Failure) {
        if let Some(upstream) = to.upstream {
            let other = from != Some(upstream);
            self.observe(Observed::Failover { upstream, other, cause: failure.cause() });
        }
    }

    /// A request waits for its first response, and its upstream seems silent:
    /// a probe finds out whether it lives.
    pub(crate) fn suspect(&mut self, now: Instant, branch: &Branch) {
        let Some(way) = &branch.way else { return };
        let key = (way.flow.listener, way.flow.remote);
        let alive = self.upstreams.health.get(&key).is_some_and(|h| h.answers && !h.probing && h.failed.is_none());
        if alive && !branch.target.hop.upstreams().is_empty() {
            self.arm_upstream(now, key.0.0, now);
        }
    }

    /// What is due on a listener: where its upstreams are, and which of these addresses to probe.
    pub(crate) fn probes_due(&mut self, now: Instant, listener: u16) -> (Vec<Way>, bool) {
        let (mut probes, mut complete) = (Vec::new(), true);
        for upstream in 0..self.config.upstreams.len() {
            let listener = ListenerId(listener);
            match self.ways_to_upstream(now, upstream, None, Some(listener), 0) {
                Located::At(ways) => {
                    let ways = self.upstreams.wanted(now, ways);
                    let mine = ways.into_iter().filter(|way| way.flow.listener == listener).take(MOST_PROBED);
                    probes.extend(mine);
                }
                Located::Wait => complete = false,
                Located::Nowhere(_) => complete &= numeric(&self.config.upstreams[upstream].host).is_some(),
            }
        }
        self.note_ways(now);
        let health = &self.upstreams.health;
        probes.retain(|way: &Way| !health.get(&(way.flow.listener, way.flow.remote)).is_some_and(|h| h.probing));
        (probes, complete)
    }

    /// A probe was sent.
    pub(crate) fn probing(&mut self, flow: Flow) {
        self.upstreams.health.entry((flow.listener, flow.remote)).or_default().probing = true;
    }

    /// A probe was answered, or missed (`None`).
    pub(crate) fn probed(&mut self, now: Instant, flow: Flow, response: Option<Message<'_>>) {
        let key = (flow.listener, flow.remote);
        let was = self.upstreams.tier(now, key);
        let Some(health) = self.upstreams.health.get_mut(&key) else { return };
        (health.probing, health.probed) = (false, true);
        match response {
            Some(message) if message.status() == Some(Status(503)) => {
                let pause = retry_after(message);
                self.hop_failed(now, flow, Failure::Refused(pause));
                if pause.is_none() {
                    self.hop_failed(now, flow, Failure::Missed);
                }
            }
            Some(_) => {
                let back = health.failed.is_some();
                health.answered(now, true);
                if back {
                    self.forget_stun(key);
                }
            }
            // From one that never answered any, silence means nothing.
            None if !health.answers => self.wake_spares(now),
            None => self.hop_failed(now, flow, Failure::Missed),
        }
        self.note_upstreams(now);
        if was.is_some() && self.upstreams.tier(now, key).is_none() {
            self.fail_waiting(now, flow);
        }
    }

    /// When a listener probes again.
    pub(crate) fn next_probes(&mut self, now: Instant, listener: u16) -> Instant {
        let troubled =
            |(key, health): (&Key, &Health)| key.0.0 == listener && health.answers && health.failed.is_some();
        let wished = self.seen.get(usize::from(listener)).and_then(|seen| seen.keep);
        let wished = wished.map(|seconds| Duration::from_secs(u64::from(seconds)));
        let learnt = self.upstreams.interval.filter(|_| self.is_discovered(ListenerId(listener)));
        let wished = wished.into_iter().chain(learnt).min().map(|most| Schedule::new(most, 20));
        let troubled = self.upstreams.health.iter().any(troubled);
        let schedule = if troubled { OFTEN } else { wished.unwrap_or(Schedule::UPSTREAM) };
        schedule.next(now, &mut self.rng)
    }

    /// Our own mappings are to be refreshed at least so often from here on.
    pub(crate) fn keep_alive_every(&mut self, now: Instant, interval: Duration) {
        let before = self.upstreams.interval.replace(interval);
        if before.is_some_and(|before| before <= interval) {
            return;
        }
        let sooner = Schedule::new(interval, 20);
        for listener in self.upstreams.due.keys().copied().collect::<Vec<_>>() {
            let next = sooner.next(now, &mut self.rng);
            if self.is_discovered(ListenerId(listener))
                && self.upstreams.due.get(&listener).is_some_and(|due| *due > next)
            {
                self.arm_upstream(now, listener, next);
            }
        }
    }

    fn probe_often(&mut self, now: Instant, listener: u16) {
        let soon = OFTEN.next(now, &mut self.rng);
        if self.upstreams.due.get(&listener).is_some_and(|due| *due > soon) {
            self.arm_upstream(now, listener, soon);
        }
    }

    /// Arms the one timer of a listener's probes.
    pub(crate) fn arm_upstream(&mut self, now: Instant, listener: u16, at: Instant) {
        let timer = crate::timer::Timer::Upstream(listener);
        if let Some(before) = self.upstreams.due.insert(listener, at.max(now)) {
            self.timers.disarm(before, timer);
        }
        self.timers.arm(at.max(now), timer);
    }

    /// Requests that wait for a first answer from an address that is down now
    /// need not wait any longer.
    fn fail_waiting(&mut self, now: Instant, flow: Flow) {
        let there = |way: &Way| way.flow.listener == flow.listener && way.flow.remote == flow.remote;
        let hit = |b: &Branch| b.way.as_ref().is_some_and(there) && !b.target.hop.upstreams().is_empty();
        let contexts = self.contexts.iter().filter(|c| c.answering.is_some() && c.branches.iter().any(hit));
        let waiting: Vec<Id> = contexts.map(|c| c.id).collect();
        for id in waiting {
            self.unsent_branches(now, id, &hit, Failure::Missed);
        }
    }

    /// Where the upstreams are now.
    pub(crate) fn note_ways(&mut self, now: Instant) {
        let listeners: Vec<u16> = self.upstreams.due.keys().copied().collect();
        for upstream in 0..self.config.upstreams.len() {
            let mut keys: Vec<Key> = Vec::new();
            for listener in &listeners {
                let listener = Some(ListenerId(*listener));
                if let Located::At(ways) = self.ways_to_upstream(now, upstream, None, listener, 0) {
                    for way in ways {
                        let key = (way.flow.listener, way.flow.remote);
                        if !keys.contains(&key) {
                            keys.push(key);
                        }
                    }
                }
            }
            // A name that is nowhere now is where it was.
            if !keys.is_empty() {
                self.upstreams.found.insert(upstream, keys);
            }
        }
        let found = &self.upstreams.found;
        self.upstreams.health.retain(|key, h| h.probing || found.values().any(|keys| keys.contains(key)));
        for key in found.values().flatten() {
            self.upstreams.health.entry(*key).or_default();
        }
        let health = &self.upstreams.health;
        self.upstreams.stun.retain(|key| health.contains_key(key));
        self.upstreams.spare.retain(|key| health.contains_key(key));
    }

    /// Reports what has changed since the last time.
    pub(crate) fn note_upstreams(&mut self, now: Instant) {
        for upstream in 0..self.config.upstreams.len() {
            let Some(keys) = self.upstreams.found.get(&upstream) else { continue };
            let rank = |state: &UpstreamState| match state {
                UpstreamState::Up => 0,
                UpstreamState::Returning => 1,
                UpstreamState::Silent => 2,
                UpstreamState::Busy => 3,
                UpstreamState::Down => 4,
            };
            let best = keys
                .iter()
                .filter(|key| self.upstreams.counts(**key))
                .map(|key| self.upstreams.state(now, *key))
                .min_by_key(rank);
            let news = |key: &Key| self.upstreams.health.get(key).is_some_and(|h| h.probed || h.failed.is_some());
            if let Some(state) = best
                && keys.iter().any(news)
                && self.upstreams.said.insert(upstream, state) != Some(state)
            {
                self.observe(Observed::Upstream { upstream, state });
            }
            self.note_transport(now, upstream);
        }
    }

    /// The upstream that a packet came from, by its address on their side.
    pub(crate) fn upstream_at(&self, flow: Flow) -> Option<usize> {
        if self.on_phones_side(flow) {
            return None;
        }
        let ip = flow.remote.ip().to_canonical();
        (0..self.config.upstreams.len()).find(|upstream| {
            let there = |key: &Key| key.1.ip().to_canonical() == ip;
            numeric(&self.config.upstreams[*upstream].host).is_some_and(|host: IpAddr| host.to_canonical() == ip)
                || self.upstreams.found.get(upstream).is_some_and(|keys| keys.iter().any(there))
                || self.own_listener(flow.transport, flow.remote).is_some()
        })
    }

    /// The hop of a new request.
    pub(crate) fn upstream_hop(&self, uri: &Uri<'_>, phone: Option<usize>) -> Result<Hop, Reject> {
        let of = self.upstreams_for(uri);
        if of.is_empty() {
            Err(Reject::new(404, "No upstream serves this domain"))
        } else {
            Ok(Hop::Upstream { of, phone })
        }
    }

    /// A 503 that may not be passed on becomes a 500, one that may says when to come back (§16.7(6)).
    pub(crate) fn instead_of_503(&self, now: Instant, context: &Context) -> Reject {
        let upstreams = context.branches.iter().map(|branch| branch.target.hop.upstreams());
        let all: Option<Vec<Reject>> = upstreams.map(|of| self.all_unavailable(now, of)).collect();
        match all.and_then(|all| all.into_iter().next()) {
            Some(reject) => reject,
            None => Reject::new(500, "The next hop is not available for this request"),
        }
    }
}

impl Upstreams {
    /// The upstreams have other numbers now, or are gone; health stays with the addresses.
    pub(crate) fn follow(&mut self, place: &impl Fn(usize) -> Option<usize>) {
        let found = std::mem::take(&mut self.found);
        self.found = found.into_iter().filter_map(|(at, keys)| Some((place(at)?, keys))).collect();
        self.said.clear();
        self.transports.clear();
        self.due.clear();
    }

    fn state(&self, now: Instant, key: Key) -> UpstreamState {
        self.health.get(&key).map_or(UpstreamState::Silent, |health| health.state(now))
    }

    /// How an address ranks among others; `None` for one that gets nothing now.
    fn tier(&self, now: Instant, key: Key) -> Option<u8> {
        let answers = self.health.get(&key).is_some_and(|health| health.answers);
        match self.state(now, key) {
            UpstreamState::Up | UpstreamState::Silent => Some(0),
            UpstreamState::Returning => Some(1),
            // Only a request can find out whether it lives again.
            UpstreamState::Down if !answers => Some(2),
            UpstreamState::Busy | UpstreamState::Down => None,
        }
    }
}

/// Seconds of a Retry-After (§20.33), whatever comments and parameters follow.
pub(crate) fn retry_after(message: Message<'_>) -> Option<Duration> {
    let value = message.value(wire::sip::Name::RetryAfter)?;
    let digits = value.iter().take_while(|b| b.is_ascii_digit()).count();
    let seconds = std::str::from_utf8(&value[..digits]).ok()?.parse::<u64>().ok()?;
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

impl Proxy {
    /// Gives a request of our own less time for its first answer.
    pub(crate) fn hurry(&mut self, now: Instant, id: Id, patience: Duration) {
        if let Some(mut context) = self.contexts.take(id) {
            for client in context.branches.iter_mut().filter_map(|branch| branch.client.as_mut()) {
                client.hurry(now + patience);
            }
            self.keep(now, context);
        }
    }
}

#[cfg(test)]
mod tests;
