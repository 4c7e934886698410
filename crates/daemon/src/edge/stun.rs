//! Discovery for the signalling sockets: who is asked, and what came of it.
//! One `nat::Discovery` for each side and address family, because servers are
//! a side's and an answer tells about one family.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nat::Side;
use nat::discovery::{Config, Discovery, Input, Mapping, Output, SocketId};
use wire::ListenerId;

use crate::config::{HostPort, Settings};
use crate::view::asks;

/// Names of servers are resolved again after this; sooner while some do not resolve.
const FRESH: Duration = Duration::from_secs(300);
const RETRY: Duration = Duration::from_secs(5);

/// Discovery for all listeners that want it.
#[derive(Debug)]
pub(super) struct Stun {
    groups: Vec<Group>,
    servers: [Servers; 2],
}

#[derive(Debug)]
struct Group {
    side: Side,
    ipv4: bool,
    listeners: Vec<ListenerId>,
    discovery: Discovery,
}

#[derive(Debug)]
struct Servers {
    names: Vec<HostPort>,
    resolved: Vec<SocketAddr>,
    /// No name resolved when that was last tried.
    lost: bool,
    due: Option<Instant>,
}

impl Stun {
    /// Nothing asked yet. `seed` makes as many seeds as are needed.
    pub(super) fn new(
        now: Instant,
        settings: &Settings,
        mut seed: impl FnMut() -> std::io::Result<[u8; 32]>,
    ) -> std::io::Result<Self> {
        let mut groups: Vec<Group> = Vec::new();
        for (index, listener) in settings.proxy.listeners.iter().enumerate().filter(|(_, listener)| asks(listener)) {
            let Ok(id) = u16::try_from(index).map(ListenerId) else { break };
            let (side, ipv4) = (listener.side, listener.bind.is_ipv4());
            match groups.iter_mut().find(|group| group.side == side && group.ipv4 == ipv4) {
                Some(group) => group.listeners.push(id),
                None => {
                    let discovery = Discovery::new(config(settings, side), seed()?);
                    groups.push(Group { side, ipv4, listeners: vec![id], discovery });
                }
            }
        }
        let servers = settings.stun.clone().map(|names| {
            let due = (!names.is_empty()).then_some(now);
            Servers { names, resolved: Vec::new(), lost: false, due }
        });
        Ok(Self { groups, servers })
    }

    /// Other listeners, other servers. An answer that is known stays known.
    /// `seeds`: as many as there are sides and families.
    pub(super) fn reconfigure(&mut self, now: Instant, settings: &Settings, mut seeds: Vec<[u8; 32]>) {
        let mut wanted: Vec<(Side, bool, ListenerId)> = Vec::new();
        for (listener, id) in settings.proxy.listeners.iter().zip(0..).filter(|(listener, _)| asks(listener)) {
            wanted.push((listener.side, listener.bind.is_ipv4(), ListenerId(id)));
        }
        for group in &mut self.groups {
            group.discovery.accept_private(config(settings, group.side).accept_private);
            for id in group.listeners.iter().filter(|id| !wanted.iter().any(|(.., wanted)| wanted == *id)) {
                group.discovery.handle_input(now, Input::Forget { socket: SocketId(u64::from(id.0)) });
            }
            group.listeners.retain(|id| wanted.iter().any(|(.., wanted)| wanted == id));
        }
        for (side, ipv4, id) in wanted {
            match self.groups.iter_mut().find(|group| group.side == side && group.ipv4 == ipv4) {
                Some(group) if group.listeners.contains(&id) => {}
                Some(group) => group.listeners.push(id),
                None => {
                    let Some(seed) = seeds.pop() else { break };
                    let mut discovery = Discovery::new(config(settings, side), seed);
                    let known = &self.servers[usize::from(side == Side::Outer)].resolved;
                    let list = known.iter().copied().filter(|server| server.is_ipv4() == ipv4).collect();
                    discovery.handle_input(now, Input::Servers(list));
                    self.groups.push(Group { side, ipv4, listeners: vec![id], discovery });
                }
            }
        }
        for (at, side) in [Side::Inner, Side::Outer].into_iter().enumerate() {
            let names = settings.stun[at].clone();
            if self.servers[at].names == names {
                continue;
            }
            self.servers[at].due = (!names.is_empty()).then_some(now);
            if names.is_empty() {
                self.servers[at].resolved.clear();
                for group in self.groups.iter_mut().filter(|group| group.side == side) {
                    group.discovery.handle_input(now, Input::Servers(Vec::new()));
                }
            }
            self.servers[at].names = names;
        }
    }

    /// The servers of a side whose names are to be resolved now.
    pub(super) fn unresolved(&mut self, now: Instant) -> Vec<(Side, Vec<HostPort>)> {
        let mut due = Vec::new();
        for (side, servers) in [Side::Inner, Side::Outer].into_iter().zip(&mut self.servers) {
            if servers.due.is_some_and(|at| at <= now) {
                // Until the answer is there, nothing more is due.
                servers.due = None;
                due.push((side, servers.names.clone()));
            }
        }
        due
    }

    /// The answer: addresses in the order of their names, and whether all names resolved.
    pub(super) fn resolved(&mut self, now: Instant, side: Side, addresses: Vec<SocketAddr>, all: bool) {
        let servers = &mut self.servers[usize::from(side == Side::Outer)];
        servers.due = Some(now + if all { FRESH } else { RETRY });
        servers.lost = addresses.is_empty();
        // A resolver that fails for a while does not make servers unknown.
        if !addresses.is_empty() {
            servers.resolved = addresses;
        }
        let resolved = &self.servers[usize::from(side == Side::Outer)].resolved;
        for group in self.groups.iter_mut().filter(|group| group.side == side) {
            let list = resolved.iter().copied().filter(|server| server.is_ipv4() == group.ipv4).collect();
            group.discovery.handle_input(now, Input::Servers(list));
        }
    }

    /// All servers, the outer side's first: what the media ports ask.
    pub(super) fn servers(&self) -> Vec<SocketAddr> {
        self.servers.iter().rev().flat_map(|servers| &servers.resolved).copied().collect()
    }

    /// Those of one family.
    pub(super) fn family(&self, ipv4: bool) -> Vec<SocketAddr> {
        self.servers().into_iter().filter(|server| server.is_ipv4() == ipv4).collect()
    }

    /// The address of this listener's socket may have changed.
    pub(super) fn doubt(&mut self, now: Instant, listener: ListenerId) {
        if let Some(group) = self.group(listener) {
            group.discovery.handle_input(now, Input::Doubt { socket: SocketId(u64::from(listener.0)) });
        }
    }

    /// The socket of this listener was opened.
    pub(super) fn opened(&mut self, now: Instant, listener: ListenerId) {
        if let Some(group) = self.group(listener) {
            let socket = SocketId(u64::from(listener.0));
            group.discovery.handle_input(now, Input::Watch { socket, fast: true });
        }
    }

    /// A STUN response came in.
    pub(super) fn received(&mut self, now: Instant, listener: ListenerId, from: SocketAddr, packet: &[u8]) {
        if let Some(group) = self.group(listener) {
            let socket = SocketId(u64::from(listener.0));
            group.discovery.handle_input(now, Input::Received { socket, from, packet });
        }
    }

    /// Sends again and gives up what is due.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        for group in &mut self.groups {
            if group.discovery.poll_timeout().is_some_and(|at| at <= now) {
                group.discovery.handle_timeout(now);
            }
        }
    }

    /// The next thing to do.
    pub(super) fn poll_output(&mut self) -> Option<Output> {
        self.groups.iter_mut().find_map(|group| group.discovery.poll_output())
    }

    /// When [`handle_timeout`](Self::handle_timeout) or [`unresolved`](Self::unresolved) is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let asked = self.groups.iter().filter_map(|group| group.discovery.poll_timeout());
        asked.chain(self.servers.iter().filter_map(|servers| servers.due)).min()
    }

    /// True when the mapped address of every listener that asks is known.
    pub(super) fn known(&self) -> bool {
        self.groups
            .iter()
            .all(|group| group.listeners.iter().all(|id| group.discovery.mapped(SocketId(u64::from(id.0))).is_some()))
    }

    /// The mapped address of a listener, if it is known.
    pub(super) fn mapped(&self, listener: ListenerId) -> Option<nat::Mapped> {
        let group = self.groups.iter().find(|group| group.listeners.contains(&listener))?;
        group.discovery.mapped(SocketId(u64::from(listener.0)))
    }

    /// What the servers of a side say of its mappings.
    pub(super) fn mapping(&self, side: Side) -> Mapping {
        self.of(side).map(|discovery| discovery.mapping()).max().unwrap_or_default()
    }

    /// True while no server of a side answers, or none is known by its name.
    pub(super) fn is_unanswered(&self, side: Side) -> bool {
        let servers = &self.servers[usize::from(side == Side::Outer)];
        let mut asked = self.of(side).peekable();
        let lost = servers.lost && servers.resolved.is_empty();
        asked.peek().is_some() && (lost || asked.all(Discovery::is_unanswered))
    }

    /// True while no server of a side answers any more.
    pub(super) fn is_silent(&self, side: Side) -> bool {
        let mut asked = self.of(side).peekable();
        asked.peek().is_some() && asked.all(Discovery::is_silent)
    }

    fn of(&self, side: Side) -> impl Iterator<Item = &Discovery> {
        self.groups.iter().filter(move |group| group.side == side && !group.listeners.is_empty()).map(|g| &g.discovery)
    }

    /// True when this is one of the servers.
    pub(super) fn is_server(&self, address: SocketAddr) -> bool {
        self.servers.iter().any(|servers| servers.resolved.contains(&address))
    }

    fn group(&mut self, listener: ListenerId) -> Option<&mut Group> {
        self.groups.iter_mut().find(|group| group.listeners.contains(&listener))
    }
}

/// What discovery believes on a side: a private mapped address only where the
/// upstream is private, a `[[network]]` says that such networks are in use, or
/// a server itself is private.
pub(super) fn config(settings: &Settings, side: Side) -> Config {
    let private = |host: &str| host.parse().is_ok_and(nat::address::is_private);
    let accept_private = settings.proxy.upstreams.iter().any(|upstream| private(&upstream.host))
        || settings.proxy.networks.iter().any(|network| network.side.is_none_or(|of| of == side))
        || settings.stun[usize::from(side == Side::Outer)].iter().any(|server| private(&server.host));
    Config { accept_private, ..Config::default() }
}
