//! Next hops (RFC 3263): where a request goes, as addresses to try in order.
//!
//! [`decide`] turns what a URI says and what is known of names into
//! candidates; here each gets the listener that it leaves by, and what is not
//! known is asked. Which of several upstreams serves is decided in
//! [`upstream`](crate::upstream).

mod cache;
mod decide;
pub mod question;
mod weight;

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use nat::address::is_forbidden;
use nat::{Network, Side};
use wire::sip::{Host, Scheme, Uri};
use wire::{Flow, ListenerId, Transport};

use crate::connection::CONNECT;
use crate::request::Reject;
use crate::timer::Timer;
use crate::{Output, Proxy};
use cache::Asked;
pub(crate) use cache::Cache;
pub(crate) use decide::Goal;
use decide::{Candidate, Verdict};
use question::{Answer, Kind, Question, Records};

/// Where a request goes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Hop {
    /// Over a known flow.
    Flow(Flow),
    /// To whatever a URI names.
    Host(Aim),
    /// To the first of these upstreams that serves.
    Upstream { of: Vec<usize>, phone: Option<usize> },
    /// To one address that an upstream or a name came to; `of` are the upstreams.
    Way { way: Way, of: Vec<usize> },
}

impl Hop {
    /// The upstreams that it may go to; empty for every other next hop.
    pub(crate) fn upstreams(&self) -> &[usize] {
        match self {
            Self::Upstream { of, .. } | Self::Way { of, .. } => of,
            Self::Flow(_) | Self::Host(_) => &[],
        }
    }

    /// The upstreams have other numbers now, or are gone.
    pub(crate) fn follow_upstreams(&mut self, place: &impl Fn(usize) -> Option<usize>) {
        match self {
            Self::Upstream { of, .. } => *of = of.iter().filter_map(|at| place(*at)).collect(),
            Self::Way { way, of } => {
                *of = of.iter().filter_map(|at| place(*at)).collect();
                way.upstream = way.upstream.and_then(place);
            }
            Self::Flow(_) | Self::Host(_) => {}
        }
    }
}

/// A goal, and from where it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Aim {
    pub(crate) goal: Goal,
    pub(crate) side: Side,
    /// The `[[phone]]` whose own listener goes first.
    pub(crate) phone: Option<usize>,
    /// The listener that goes before all others, where it fits.
    pub(crate) prefer: Option<ListenerId>,
}

/// One address to try, and the listener to leave by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Way {
    /// Without a connection, for streams.
    pub(crate) flow: Flow,
    /// The name that was asked for: whom a certificate must prove (RFC 5922 §4), not the SRV
    /// target. Empty for a flow that is there already.
    pub(crate) name: String,
    /// The upstream that it leads to.
    pub(crate) upstream: Option<usize>,
    /// UDP after all for a request that is too long for it.
    pub(crate) sized: bool,
}

impl Way {
    /// Over a flow that is there.
    pub(crate) fn over(flow: Flow) -> Self {
        Self { flow, name: String::new(), upstream: None, sized: false }
    }
}

/// What is known of a hop: `At` is one flow, or all ways in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Located<T> {
    /// Send here.
    At(T),
    /// Asked; the answer is an input.
    Wait,
    /// There is no way, or none that serves now.
    Nowhere(Reject),
}

/// A name that came to nothing.
pub(crate) fn unresolved() -> Reject {
    Reject::new(503, "The next hop does not resolve").with("Retry-After: 5")
}

impl Goal {
    /// What a SIP URI asks for (§4): `maddr` stands for the host; a name of
    /// a transport that nobody knows is no goal.
    pub(crate) fn of(uri: &Uri<'_>) -> Option<Self> {
        let sips = match uri.scheme {
            Scheme::Sip => false,
            Scheme::Sips => true,
            Scheme::Tel | Scheme::Urn | Scheme::Other => return None,
        };
        let host = match uri.params.value("maddr") {
            Some(maddr) => maddr,
            None => uri.host?.0,
        };
        let transport = match uri.params.value("transport") {
            Some(name) => Some(Transport::named(name)?),
            None => None,
        };
        let host = std::str::from_utf8(host).ok()?.trim_start_matches('[').trim_end_matches(']');
        Some(Self { host: host.to_ascii_lowercase(), port: uri.port, transport, sips })
    }
}

impl Proxy {
    /// Where a hop is; asks when that is not known. Of several servers with
    /// the same priority the seed says which one.
    pub(crate) fn locate_by(&mut self, now: Instant, hop: &Hop, seed: u64) -> Located<Flow> {
        if let Hop::Flow(flow) = hop {
            return Located::At(*flow);
        }
        match self.ways(now, hop, seed) {
            Located::At(ways) => match ways.first() {
                Some(way) => Located::At(self.take(way)),
                None => Located::Nowhere(unresolved()),
            },
            Located::Wait => Located::Wait,
            Located::Nowhere(reject) => Located::Nowhere(reject),
        }
    }

    /// Where a hop is, by chance where chance decides.
    pub(crate) fn locate(&mut self, now: Instant, hop: &Hop) -> Located<Flow> {
        let seed = self.chance(hop);
        self.locate_by(now, hop, seed)
    }

    /// A way as a flow: for a stream, the connection that leads there.
    pub(crate) fn take(&mut self, way: &Way) -> Flow {
        if way.name.is_empty() { way.flow } else { self.outgoing(way.flow, &way.name, CONNECT) }
    }

    /// A fresh seed for the order of servers, where there can be several.
    pub(crate) fn chance(&mut self, hop: &Hop) -> u64 {
        let named = |host: &str, port: Option<u16>| port.is_none() && numeric(host).is_none();
        let drawn = match hop {
            Hop::Flow(_) | Hop::Way { .. } => false,
            Hop::Host(aim) => named(&aim.goal.host, aim.goal.port),
            Hop::Upstream { of, .. } => {
                of.iter().filter_map(|at| self.config.upstreams.get(*at)).any(|u| named(&u.host, u.port))
            }
        };
        if drawn { self.random() } else { 0 }
    }

    /// All ways to a hop, in the order in which they are tried, at least one.
    pub(crate) fn ways(&mut self, now: Instant, hop: &Hop, seed: u64) -> Located<Vec<Way>> {
        match hop {
            Hop::Flow(flow) => Located::At(vec![Way::over(*flow)]),
            Hop::Way { way, .. } => Located::At(vec![way.clone()]),
            Hop::Host(aim) => self.ways_to(now, aim, seed),
            Hop::Upstream { of, phone } => self.ways_to_upstreams(now, of, *phone, seed),
        }
    }

    /// All ways to what a URI names.
    pub(crate) fn ways_to(&mut self, now: Instant, aim: &Aim, seed: u64) -> Located<Vec<Way>> {
        let mut goal = aim.goal.clone();
        let mut can = self.transports(aim);
        let trusted = self.config.listeners.iter().any(|l| l.side == aim.side && l.secure && !l.retired);
        if goal.sips && trusted && !can.iter().any(|t| t.is_secure()) {
            goal.sips = false;
        }
        can.dedup();
        let mut missing: Vec<Question> = Vec::new();
        let mut looked: Vec<Question> = Vec::new();
        let verdict = {
            let names = &self.names;
            let mut known = |question: Question| {
                let records = names.known(&question);
                if records.is_some() { &mut looked } else { &mut missing }.push(question);
                records
            };
            decide::decide(&goal, &can, seed, &mut known)
        };
        for question in &looked {
            self.names.touch(question);
        }
        match verdict {
            Verdict::Found(candidates) => {
                let mut ways = Vec::with_capacity(candidates.len());
                for candidate in candidates {
                    match self.way(aim, candidate) {
                        Some(Ok(way)) => ways.push(way),
                        // A wildcard listener's own address toward a numeric host.
                        Some(Err(question)) => missing.push(question),
                        None => {}
                    }
                }
                match (ways.is_empty(), missing.is_empty()) {
                    (false, _) => Located::At(ways),
                    (true, true) => Located::Nowhere(unresolved()),
                    (true, false) => self.ask(now, missing),
                }
            }
            Verdict::Wait => self.ask(now, missing),
            Verdict::Nowhere => Located::Nowhere(unresolved()),
        }
    }

    /// What we can speak toward an aim: the transports of that side's
    /// listeners, the usual ones first.
    pub(crate) fn transports(&self, aim: &Aim) -> Vec<Transport> {
        // A listener that stands for connections of ours is for whoever names its transport.
        let named = aim.goal.transport.is_some() || aim.goal.sips;
        let mut can: Vec<Transport> = self
            .config
            .listeners
            .iter()
            .filter(|l| l.side == aim.side && !l.retired && (l.phone.is_none() || l.phone == aim.phone))
            .filter(|l| named || l.accepts || !l.transport.is_secure())
            .map(|l| l.transport)
            .collect();
        can.sort_unstable();
        can
    }

    /// The listener for a candidate, and our address there.
    fn way(&self, aim: &Aim, candidate: Candidate) -> Option<Result<Way, Question>> {
        let Candidate { transport, remote, local } = candidate;
        let prefer = aim.prefer.filter(|id| {
            let listener = self.config.listeners.get(usize::from(id.0));
            listener.is_some_and(|l| !l.retired && l.transport == transport && l.bind.is_ipv4() == remote.is_ipv4())
        });
        let listener = prefer.or_else(|| self.listener(aim.side, transport, aim.phone, Some(remote.ip())))?;
        let bind = self.config.listeners.get(usize::from(listener.0))?.bind;
        if bind.is_ipv4() != remote.is_ipv4() {
            return None;
        }
        let local = match (bind.ip().is_unspecified(), local) {
            (false, _) => bind.ip(),
            (true, Some(local)) => local,
            (true, None) => match self.own_address_toward(remote.ip()) {
                Ok(local) => local?,
                Err(question) => return Some(Err(question)),
            },
        };
        // What somebody wrote into a message must not lead to this machine's own services, its
        // link, or a network of the other side; where the operator wants requests to go is his business.
        let configured = self.config.upstreams.iter().any(|upstream| upstream.host == aim.goal.host);
        let side = Network::covering(&self.config.networks, remote.ip()).and_then(|network| network.side);
        if !configured && (is_forbidden(remote.ip(), local) || side.is_some_and(|side| side != aim.side)) {
            return None;
        }
        let local = SocketAddr::new(local, bind.port());
        let flow = Flow { transport, listener, connection: 0, local, remote };
        Some(Ok(Way { flow, name: aim.goal.host.clone(), upstream: None, sized: false }))
    }

    fn own_address_toward(&self, remote: IpAddr) -> Result<Option<IpAddr>, Question> {
        let question = Question { name: remote.to_string(), kind: Kind::Addresses };
        match self.names.known(&question) {
            Some(Records::Addresses(addresses)) => Ok(addresses.first().map(|address| address.local)),
            Some(Records::Naptr(_) | Records::Srv(_)) => Ok(None),
            None => Err(question),
        }
    }

    fn ask(&mut self, now: Instant, questions: Vec<Question>) -> Located<Vec<Way>> {
        let mut waits = false;
        for question in questions {
            match self.names.ask(now, &question) {
                Asked::Now => {
                    self.emit(Output::Resolve(question));
                    waits = true;
                }
                Asked::Before => waits = true,
                Asked::Refused => {}
            }
        }
        if waits {
            Located::Wait
        } else {
            Located::Nowhere(Reject::new(503, "Too many names are being looked up").with("Retry-After: 5"))
        }
    }

    /// The answer of the resolver.
    pub(crate) fn resolved(&mut self, now: Instant, question: &Question, answer: Answer) {
        if let Some(refresh) = self.names.answered(now, question, answer) {
            self.timers.arm(refresh, Timer::Locate);
        }
        self.note_ways(now);
        self.resume(now);
    }

    /// Asks again what is old and of use, and what leads to the upstreams.
    pub(crate) fn locate_due(&mut self, now: Instant) {
        self.note_ways(now);
        for question in self.names.due(now) {
            match self.names.ask(now, &question) {
                Asked::Now => self.emit(Output::Resolve(question)),
                Asked::Before => {}
                Asked::Refused => {
                    self.timers.arm(now + std::time::Duration::from_secs(1), Timer::Locate);
                }
            }
        }
    }

    /// What a host that a URI names is, numeric or not, as an aim.
    pub(crate) fn aim(&self, goal: Goal, listener: ListenerId) -> Aim {
        let phone = self.config.listeners.get(usize::from(listener.0)).and_then(|l| l.phone);
        Aim { goal, side: self.config.side(listener), phone, prefer: Some(listener) }
    }
}

/// A numeric host as an address.
pub(crate) fn numeric(host: &str) -> Option<IpAddr> {
    Host(host.as_bytes()).ip()
}

#[cfg(test)]
mod tests;
