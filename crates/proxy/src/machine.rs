//! The machine: its state, the four verbs, and what every step needs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use media::RangeId;
use media::offer::{EndPlan, Offers};
use media::ports::{Counts, Pools};
use nat::ledger::Ledger;
use nat::{Advertise, Advertised, Mapped, MediaMode, Network, Prefix, Side};
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};
use registry::{BindingId, PassId, Registry};
use wire::sip::{Framing, Host, Index, Message, Method, Scheme, Status, Uri};
use wire::{Edit, Flow, ListenerId, Transmit, Transport};

use crate::ack::Unacknowledged;
use crate::config::{Config, Listener, Role};
use crate::connection::{CONNECT, Connections};
use crate::digest::Nonces;
use crate::given::Given;
use crate::hashes::{Hashes, Long};
use crate::holdings::Holdings;
use crate::keepalive::Ping;
use crate::locate::Cache;
use crate::moved::Moves;
use crate::probe::Probes;
use crate::renew::Renewals;
use crate::request::attempts::Attempts;
use crate::request::refusals::Refusals;
use crate::rewrite::Own;
use crate::session_timer::Timed;
use crate::silence::Silences;
use crate::size::Streams;
use crate::timer::{Timer, Timers};
use crate::token::{Key, Token, short};
use crate::trace::Watch;
use crate::transaction::{Contexts, Id};
use crate::upstream::Upstreams;
use crate::{DropReason, Input, Observed, Output, Work};

/// What is known of a listener beyond its configuration.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Seen {
    /// By STUN.
    pub(crate) mapped: Option<Mapped>,
    /// By the upstream's `received` and `rport` on our own OPTIONS.
    pub(crate) observed: Option<SocketAddr>,
    /// It asked for a ping within so many seconds (RFC 6223).
    pub(crate) keep: Option<u32>,
    /// What we wrote for it before its address changed, the latest first: dialogs that pass us twice still say so.
    pub(crate) former: [Option<SocketAddr>; 4],
}

/// An address of a listener: where it is bound, or what we write or wrote for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct OwnAddress {
    address: SocketAddr,
    transport: Transport,
    listener: ListenerId,
}

/// The signalling core.
#[derive(Debug)]
pub struct Proxy {
    pub(crate) config: Arc<Config>,
    pub(crate) key: Key,
    pub(crate) hashes: Hashes,
    pub(crate) long: Long,
    pub(crate) nonces: Nonces,
    pub(crate) rng: ChaCha12Rng,
    pub(crate) registry: Registry,
    pub(crate) offers: Offers,
    pub(crate) contexts: Contexts,
    pub(crate) connections: Connections,
    pub(crate) streams: Streams,
    pub(crate) silences: Silences,
    pub(crate) refusals: Refusals,
    pub(crate) attempts: Attempts,
    pub(crate) ledger: Ledger,
    pub(crate) holdings: Holdings,
    pub(crate) given: Given,
    pub(crate) parked: BTreeSet<Id>,
    pub(crate) names: Cache,
    pub(crate) upstreams: Upstreams,
    pub(crate) renewals: Renewals,
    pub(crate) timers: Timers,
    pub(crate) timed: Timed,
    pub(crate) probes: Probes,
    pub(crate) moves: Moves,
    pub(crate) unacknowledged: Unacknowledged,
    pub(crate) seen: Vec<Seen>,
    /// All that name us; those of a listener stand together.
    addresses: Vec<OwnAddress>,
    /// A `[[network]]` names a side.
    sides_differ: bool,
    /// An address of ours is found out.
    discovers: bool,
    pub(crate) pings: BTreeMap<BindingId, Ping>,
    pub(crate) latching: Arc<[Prefix]>,
    /// `config.networks`, for the media half.
    pub(crate) networks: Arc<[Network]>,
    /// Counts configurations.
    pub(crate) configured: u64,
    pub(crate) stopping: bool,
    /// How long a message may have waited to be read.
    pub(crate) lag: Duration,
    pub(crate) watch: Watch,
    /// Messages to ourselves (a spiral without Record-Route in between), still to be read.
    loopback: VecDeque<(Flow, Vec<u8>)>,
    out: VecDeque<Output>,
    /// Room for the next message's index, while none is read.
    index: Option<Box<Index>>,
    /// Room for the next message's changes.
    edit: Edit,
}

/// Bits of a tag of ours that say that it is ours.
const TAG_CHECK: u64 = 0xff_ffff;

impl Proxy {
    /// `token_key`: kept in `[state] dir`, so that tokens outlive a restart.
    /// `seed`: 32 octets from the operating system.
    pub fn new(now: Instant, config: Arc<Config>, token_key: [u8; 32], seed: [u8; 32]) -> Self {
        let mut rng = ChaCha12Rng::from_seed(seed);
        let mut fresh = || {
            let mut bytes = [0; 32];
            rng.fill_bytes(&mut bytes);
            bytes
        };
        let media_seed = fresh();
        let key = Key::new(&token_key);
        let hashes = Hashes::new(&key);
        let long = Long::new(&key, hashes);
        let pools = Pools::new(config.media.ranges.clone(), config.media.reserve, media_seed);
        let nonces = Nonces::new(now, fresh());
        let offers = Offers::new(pools, config.media.workers, config.media.timeout, media_seed);
        let mut proxy = Self {
            key,
            hashes,
            long,
            nonces,
            rng,
            registry: Registry::new(),
            offers,
            contexts: Contexts::new(hashes),
            connections: Connections::default(),
            streams: Streams::default(),
            silences: Silences::default(),
            refusals: Refusals::default(),
            attempts: Attempts::default(),
            ledger: Ledger::default(),
            holdings: Holdings::default(),
            given: Given::default(),
            parked: BTreeSet::new(),
            names: Cache::default(),
            upstreams: Upstreams::default(),
            renewals: Renewals::default(),
            timers: Timers::new(now),
            timed: Timed::default(),
            probes: Probes::default(),
            moves: Moves::default(),
            unacknowledged: Unacknowledged::default(),
            seen: vec![Seen::default(); config.listeners.len()],
            pings: BTreeMap::new(),
            addresses: Vec::new(),
            sides_differ: false,
            discovers: false,
            latching: config.networks.iter().filter(|n| n.latch).map(|n| n.prefix).collect(),
            networks: config.networks.clone().into(),
            configured: 0,
            stopping: false,
            lag: Duration::ZERO,
            watch: Watch::default(),
            loopback: VecDeque::new(),
            out: VecDeque::new(),
            index: None,
            edit: Edit::new(),
            config,
        };
        proxy.begin(now);
        proxy
    }

    /// Takes an input; outputs follow from [`Proxy::poll_output`].
    pub fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        match input {
            Input::Received { flow, .. } if self.own_listener(flow.transport, flow.remote).is_some() => {
                let side = self.side(flow);
                self.observe(Observed::Dropped { side, reason: DropReason::OwnAddress });
            }
            Input::Received { flow, bytes } => {
                self.silences.heard(now, flow);
                self.receive(now, flow, bytes);
            }
            // A phone's connection has ended, and we have yet to be told.
            Input::Unsent { flow } if flow.transport.reliable() && self.on_phones_side(flow) => {
                self.flow_failed(now, flow);
            }
            Input::Unsent { flow } => self.unsent(now, flow),
            Input::Opened { flow, peer } => self.opened(flow, peer),
            Input::Closed { flow } => self.closed(now, flow),
            Input::KeepAlive { flow } => self.silences.heard(now, flow),
            Input::Pong { flow } => {
                self.silences.heard(now, flow);
                self.pong(now, flow);
            }
            Input::Stun { flow, bytes } => self.stun_answer(now, flow, bytes),
            Input::Ports(event) => {
                self.offers.handle_ports(event);
                self.resume(now);
            }
            Input::Fact(fact) => self.fact(now, &fact),
            Input::Mapped { listener, mapped } => self.mapped(now, listener, mapped),
            Input::KeepAliveInterval(interval) => self.keep_alive_every(now, interval),
            Input::Rewritten(rewritten) => self.rewritten(now, rewritten),
            Input::StunServers(servers) => self.offers.stun_servers(servers),
            Input::Resolved { question, answer } => self.resolved(now, &question, answer),
            Input::Lag(lag) => self.lag = lag,
            Input::Restore(records) => self.restore(now, records),
            Input::Reconfigure(config) => self.reconfigure(now, config),
            Input::Watch { watcher, filter } => self.watch(watcher, filter),
            Input::Stop => self.stop(now),
        }
        self.settle(now);
    }

    /// Fires what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((_, timer)) = self.timers.pop_due(now) {
            match timer {
                Timer::Context(id) => self.context_due(now, id),
                Timer::Ping(id) => self.ping_due(now, id),
                Timer::Upstream(listener) => self.upstream_due(now, listener),
                Timer::Connection(id) => self.connection_due(now, id),
                Timer::Silence(id) => self.silence_due(now, id),
                Timer::Renewal => self.renewal_due(now),
                Timer::Stun(number) => self.stun_due(now, number),
                Timer::Ack(pass, leg) => self.ack_due(now, pass, leg),
                Timer::Moved(pass) => self.moved_due(now, pass),
                Timer::Move(pass, from, to) => self.move_due(now, (pass, from, to)),
                Timer::Locate => self.locate_due(now),
            }
            self.settle(now);
        }
        self.expire(now);
        self.settle(now);
    }

    /// The next thing to do, in order.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// When [`Proxy::handle_timeout`] must be called at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.timers.next(), self.registry.next_expiry()].into_iter().flatten().min()
    }

    /// How much is in hand.
    pub fn work(&self) -> Work {
        Work {
            contexts: self.contexts.len(),
            parked: self.parked.len(),
            octets: self.holdings.total(),
            bindings: self.registry.binding_count(),
            calls: self.registry.call_count(),
            streams: self.offers.open_streams(),
        }
    }

    /// Requests in progress, and the octets that they hold.
    pub fn requests(&self) -> (usize, usize) {
        (self.contexts.len(), self.holdings.total())
    }

    /// State of the port pools, for gauges and the status page.
    pub fn ports(&self) -> impl Iterator<Item = (IpAddr, RangeId, Counts)> {
        self.offers.ports()
    }

    /// Port pairs in use that belong to no call. Should be 0, always. Looks at
    /// every call: not to be asked all the time.
    pub fn audit_ports(&mut self) -> usize {
        let registry = &self.registry;
        self.offers.audit(|pass| registry.call(registry::PassId(pass)).is_some())
    }

    /// The truth that all published changes add up to. Readers outside fold
    /// [`Output::Changed`]; this is what their fold is checked against.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The listeners that the numbers in flows mean now.
    pub fn listeners(&self) -> &[Listener] {
        &self.config.listeners
    }

    /// What is written for a listener's socket now; `None` while it is not known.
    pub fn advertised_for(&self, listener: ListenerId) -> Option<SocketAddr> {
        let bind = self.config.listeners.get(usize::from(listener.0))?.bind;
        self.advertised(Flow {
            transport: self.config.listeners.get(usize::from(listener.0))?.transport,
            listener,
            connection: 0,
            local: bind,
            remote: bind,
        })
    }

    /// Port pairs are bound and upstreams asked ahead of the first call.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.note_addresses();
        for index in 0..self.config.listeners.len() {
            let listener = &self.config.listeners[index];
            if listener.retired {
                continue;
            }
            let bind = listener.bind;
            let known = |l: &Listener| !l.retired && l.side == listener.side && l.bind.ip() == bind.ip();
            let first = !self.config.listeners.iter().take(index).any(known);
            if first && !bind.ip().is_unspecified() {
                let flow = Flow {
                    transport: self.config.listeners[index].transport,
                    listener: ListenerId(index as u16),
                    connection: 0,
                    local: bind,
                    remote: bind,
                };
                for range in 0..self.config.media.ranges.len() {
                    let mut end = self.end(flow, None);
                    end.range = RangeId(range as u16);
                    if range == 0 || self.range_is_used_on(end.side) {
                        self.offers.want(&end);
                    }
                }
            }
            self.start_upstream_pings(now, index as u16);
        }
        self.note_ways(now);
        self.settle(now);
    }

    /// A phone's own range is used on the outer side in office, on the phones' side elsewhere.
    fn range_is_used_on(&self, side: Side) -> bool {
        match self.config.role {
            Role::Office | Role::Border => side == Side::Outer,
            Role::Standalone => true,
        }
    }

    fn receive(&mut self, now: Instant, flow: Flow, bytes: &[u8]) {
        self.credit(now, flow, bytes.len());
        let mut index = self.index.take().unwrap_or_default();
        // A WebSocket message is framed already, as a datagram is (RFC 7118 §4.2).
        let framing = match flow.transport {
            Transport::Tcp | Transport::Tls => Framing::Stream,
            Transport::Udp | Transport::Ws | Transport::Wss => Framing::Datagram,
        };
        let parsed = index.parse(bytes, framing, &self.config.limits);
        index.read_essentials(bytes);
        self.trace_received(flow, index.view(bytes));
        match parsed {
            Ok(()) if index.view(bytes).is_request() => self.request(now, flow, index.view(bytes)),
            Ok(()) => self.response(now, flow, index.view(bytes)),
            Err(malformed) => self.malformed(now, flow, index.view(bytes), malformed),
        }
        self.index = Some(index);
    }

    /// Moves what the inner machines have to say into the one ordered queue,
    /// and reads messages that we sent to ourselves.
    fn settle(&mut self, now: Instant) {
        self.flush();
        // A message may visit us as often as Max-Forwards allows, no more.
        for _ in 0..256 {
            let Some((flow, bytes)) = self.loopback.pop_front() else { break };
            self.receive(now, flow, &bytes);
            self.flush();
        }
        self.loopback.clear();
        self.keep_fresh(now);
        self.publish();
    }

    /// Publishes what has changed in the registry.
    pub(crate) fn publish(&mut self) {
        while let Some(change) = self.registry.poll_change() {
            self.out.push_back(Output::Changed(change));
        }
    }

    /// What must be done before a message may leave.
    fn flush(&mut self) {
        while let Some(command) = self.offers.poll_ports() {
            self.out.push_back(Output::Ports(command));
        }
        while let Some(command) = self.offers.poll_command() {
            self.out.push_back(Output::Media(command));
        }
    }

    pub(crate) fn observe(&mut self, observed: Observed) {
        self.out.push_back(Output::Observed(observed));
    }

    pub(crate) fn emit(&mut self, output: Output) {
        self.out.push_back(output);
    }

    /// Sends a message, after whatever had to happen before it. One to an
    /// address of our own does not leave: a NAT need not hairpin.
    pub(crate) fn transmit(&mut self, flow: Flow, bytes: Vec<u8>) {
        // A response whose connection has ended goes over a new one (RFC 3261 §18.2.2).
        let flow = if flow.transport.reliable() && flow.connection == 0 {
            self.outgoing(flow, &flow.remote.ip().to_string(), CONNECT)
        } else {
            flow
        };
        self.flush();
        self.trace_sent(flow, &bytes);
        match self.own_listener(flow.transport, flow.remote) {
            Some((listener, local)) if self.loopback.len() < 256 => {
                let from = self.advertised(flow).unwrap_or(flow.local);
                self.loopback.push_back((Flow { listener, local, remote: from, ..flow }, bytes));
            }
            Some(_) | None => self.out.push_back(Output::Transmit(Transmit { flow, bytes })),
        }
    }

    /// The side of a flow: its listener's, unless a `[[network]]` says otherwise.
    pub(crate) fn side(&self, flow: Flow) -> Side {
        let network = if self.sides_differ { self.network(flow.remote.ip()) } else { None };
        self.side_in(network, flow)
    }

    fn side_in(&self, network: Option<&Network>, flow: Flow) -> Side {
        network.and_then(|n| n.side).unwrap_or_else(|| self.config.side(flow.listener))
    }

    /// True on the side that phones are on.
    pub(crate) fn on_phones_side(&self, flow: Flow) -> bool {
        self.config.role == Role::Standalone || self.side(flow) == self.config.role.phones()
    }

    /// An edit that changes nothing. Given [back](Self::reuse), its room serves the next message.
    pub(crate) fn blank(&mut self) -> Edit {
        std::mem::take(&mut self.edit)
    }

    pub(crate) fn reuse(&mut self, mut edit: Edit) {
        edit.clear();
        self.edit = edit;
    }

    pub(crate) fn network(&self, ip: IpAddr) -> Option<&nat::Network> {
        nat::Network::covering(&self.config.networks, ip)
    }

    fn policy(&self, flow: Flow) -> Advertise {
        self.policy_in(self.network(flow.remote.ip()), flow)
    }

    fn policy_in(&self, network: Option<&Network>, flow: Flow) -> Advertise {
        network
            .and_then(|n| n.advertise)
            .or_else(|| self.config.listeners.get(usize::from(flow.listener.0)).map(|l| l.advertise))
            .unwrap_or(Advertise::Listen)
    }

    /// True where our own address is found out, and may change.
    pub(crate) fn moves(&self, flow: Flow) -> bool {
        self.discovers && is_discovered(self.policy(flow))
    }

    /// What we write as our signalling address toward this flow's remote end.
    /// Precedence for a discovered one: what the upstream saw, then STUN.
    pub(crate) fn advertised(&self, flow: Flow) -> Option<SocketAddr> {
        self.advertised_by(self.policy(flow), flow)
    }

    fn advertised_by(&self, policy: Advertise, flow: Flow) -> Option<SocketAddr> {
        let address = Advertised::choose(policy, flow.local, self.mapped_of(flow))?.get();
        let port = self.config.listeners.get(usize::from(flow.listener.0)).and_then(|l| l.advertise_port);
        Some(SocketAddr::new(address.ip(), port.unwrap_or(address.port())))
    }

    /// Where discovery says that a listener's socket is seen. STUN and the
    /// upstream are asked over UDP; of a stream's listener the address is that
    /// of its neighbour on UDP, and the port its own.
    fn mapped_of(&self, flow: Flow) -> Option<Mapped> {
        let of = |index: usize| self.seen.get(index).and_then(|seen| seen.observed.map(Mapped).or(seen.mapped));
        let own = usize::from(flow.listener.0);
        if !flow.transport.reliable() {
            return of(own);
        }
        let stream = self.config.listeners.get(own)?;
        let beside = |l: &Listener| {
            !l.retired
                && l.transport == Transport::Udp
                && l.side == stream.side
                && l.bind.ip() == stream.bind.ip()
                && l.phone == stream.phone
        };
        // Where UDP does not pass, the upstream has seen the connection alone.
        let mapped = self.config.listeners.iter().position(beside).and_then(of).or_else(|| of(own))?;
        Some(Mapped(SocketAddr::new(mapped.0.ip(), flow.local.port())))
    }

    /// How the far end of a flow reaches us, if that is known.
    pub(crate) fn known_own(&self, flow: Flow) -> Option<Own> {
        self.advertised(flow).map(|address| Own { address, transport: flow.transport })
    }

    /// How the far end of a flow reaches us; by the local address while nothing better is known.
    pub(crate) fn own(&self, flow: Flow) -> Own {
        Own { address: self.advertised(flow).unwrap_or(flow.local), transport: flow.transport }
    }

    /// What the media half must know of one end: `flow` is the way its
    /// signalling goes, `phone` the `[[phone]]` whose range applies.
    pub(crate) fn end(&self, flow: Flow, phone: Option<usize>) -> EndPlan {
        let network = self.network(flow.remote.ip());
        let side = self.side_in(network, flow);
        let phones = self.config.role == Role::Standalone || side == self.config.role.phones();
        let own_range = match self.config.role {
            Role::Office => side == Side::Outer,
            Role::Border | Role::Standalone => phones,
        };
        let phone = phone.filter(|_| own_range).and_then(|p| self.config.phones.get(p));
        let range = phone.and_then(|p| p.range).unwrap_or(RangeId(0));
        let policy = self.policy_in(network, flow);
        let advertise = phone.and_then(|p| p.advertise).unwrap_or(policy);
        EndPlan {
            side,
            local: flow.local.ip(),
            range,
            advertise,
            own: self.advertised_by(policy, flow).unwrap_or(flow.local).ip(),
            signalled_from: phones.then_some(flow.remote.ip()),
            private_targets: !(self.config.role == Role::Border && phones),
            open: self.config.role == Role::Office && side == Side::Outer,
            prefixes: self.latching.clone(),
            networks: self.networks.clone(),
            media: network.map_or(MediaMode::Relay, |network| network.media),
        }
    }

    /// The listener that an address belongs to, as bound or as advertised, and its local address.
    pub(crate) fn own_listener(&self, transport: Transport, address: SocketAddr) -> Option<(ListenerId, SocketAddr)> {
        let own = self.addresses.iter().find(|own| own.address == address && own.transport == transport)?;
        Some((own.listener, self.config.listeners.get(usize::from(own.listener.0))?.bind))
    }

    /// Works out what [`own_listener`](Self::own_listener) looks at, and whether some questions need be
    /// asked at all, after a change of the configuration or of what we write as our address.
    pub(crate) fn note_addresses(&mut self) {
        let mut addresses = Vec::new();
        for (index, listener) in self.config.listeners.iter().enumerate() {
            if !listener.accepts || listener.retired {
                continue;
            }
            let id = ListenerId(index as u16);
            let former = self.seen.get(index).map(|seen| seen.former).unwrap_or_default();
            let known = [Some(listener.bind), self.advertised_for(id)].into_iter().chain(former).flatten();
            addresses.extend(known.filter(|address| !address.ip().is_unspecified()).map(|address| OwnAddress {
                address,
                transport: listener.transport,
                listener: id,
            }));
        }
        // Where nothing translates, a listener is written as it is bound.
        addresses.dedup();
        self.addresses = addresses;
        let networks = &self.config.networks;
        self.sides_differ = networks.iter().any(|network| network.side.is_some());
        self.discovers = networks.iter().any(|network| network.advertise.is_some_and(is_discovered))
            || self.config.listeners.iter().any(|listener| is_discovered(listener.advertise));
    }

    /// True when a URI's host and port are ours, as seen on this flow.
    pub(crate) fn names_us(&self, flow: Flow, uri: &Uri<'_>) -> bool {
        let Some(ip) = uri.host.and_then(Host::ip) else { return false };
        let transport = match uri.params.value("transport") {
            Some(name) => Transport::named(name).unwrap_or(flow.transport),
            None if uri.scheme == Scheme::Sips && !flow.transport.is_secure() => Transport::Tls,
            None => flow.transport,
        };
        let address = SocketAddr::new(ip, uri.port.unwrap_or(transport.default_port()));
        let ours = |transport| self.own_listener(transport, address).is_some();
        address == flow.local || self.advertised(flow) == Some(address) || Transport::ALL.into_iter().any(ours)
    }

    /// A listener of a side that speaks a transport, preferring the phone's
    /// own one; of the family of `like`.
    pub(crate) fn listener(
        &self,
        side: Side,
        transport: Transport,
        phone: Option<usize>,
        like: Option<IpAddr>,
    ) -> Option<ListenerId> {
        let speaks = |l: &&Listener| l.side == side && l.transport == transport && !l.retired;
        let own = phone.and_then(|p| self.config.phones.get(p)).and_then(|p| p.outer_listener);
        let own = own.filter(|l| self.config.listeners.get(usize::from(*l)).is_some_and(|l| speaks(&l)));
        let fits =
            |l: &Listener| speaks(&l) && l.phone.is_none() && like.is_none_or(|ip| ip.is_ipv4() == l.bind.is_ipv4());
        own.or_else(|| self.config.listeners.iter().position(fits).map(|i| i as u16)).map(ListenerId)
    }

    pub(crate) fn random(&mut self) -> u64 {
        self.rng.next_u64()
    }

    pub(crate) fn new_pass(&mut self) -> PassId {
        PassId(self.random())
    }

    /// A token of ours in a URI: as parameter of a Contact, or as the user
    /// part of a Record-Route entry.
    pub(crate) fn token_in(&self, uri: &Uri<'_>) -> Option<Token> {
        let param = uri.params.value(crate::token::PARAM).and_then(|t| self.key.open(t));
        param.or_else(|| {
            let token = self.key.open(uri.user?)?;
            matches!(token, Token::Route(..)).then_some(token)
        })
    }

    /// A tag that comes out the same for the same request, and that we know again.
    pub(crate) fn tag_for(&self, request: Message<'_>) -> [u8; 13] {
        let call_id = request.call_id();
        self.checked_tag(call_id, self.key.digest("tag", &[call_id, request.branch()]))
    }

    /// A response that we made ourselves: after a spiral it comes back from an upstream.
    pub(crate) fn is_our_answer(&self, response: Message<'_>) -> bool {
        let tag = response.tag_in_to().unwrap_or_default();
        crate::token::long(tag).is_some_and(|number| self.checked_tag(response.call_id(), number) == *tag)
    }

    /// The low bits of a tag vouch for the high ones.
    fn checked_tag(&self, call_id: &[u8], number: u64) -> [u8; 13] {
        let head = number & !TAG_CHECK;
        short(head | (self.key.digest("tag check", &[call_id, &head.to_be_bytes()]) & TAG_CHECK))
    }

    /// Counts a request that came in.
    pub(crate) fn count_in(&mut self, flow: Flow, method: Method<'_>) {
        let side = self.side(flow);
        self.observe(Observed::RequestIn { side, method: method.into() });
    }

    pub(crate) fn count_out(&mut self, flow: Flow, status: Status) {
        let side = self.side(flow);
        self.observe(Observed::ResponseOut { side, status });
    }
}

fn is_discovered(advertise: Advertise) -> bool {
    matches!(advertise, Advertise::Stun | Advertise::StunAddress)
}

#[cfg(test)]
mod tests;
