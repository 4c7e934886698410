//! Router control: which port mappings are wanted, which are there, and what
//! to ask the router next. Speaks PCP (RFC 6887), NAT-PMP (RFC 6886) and, by
//! way of questions that the caller puts, UPnP IGD; finds out which of them the
//! router knows, the better first.
//!
//! It asks one thing at a time, and only for our own address: THIRD_PARTY
//! (RFC 6887 §13.1) is never written. What a router answers is judged before it
//! counts: source, nonce, epoch, address, lifetime. Nonsense changes nothing;
//! it is reported, and asked again later, ever more seldom.
//!
//! It must not open sockets, read the clock, or decide what is advertised.

mod answer;
mod epoch;
mod igd;
mod lease;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use rand_chacha::ChaCha12Rng;
use rand_core::{Rng as _, SeedableRng as _};
use wire::portmap::{self, MapRequest, Proto};

use epoch::Epoch;
pub use igd::{Entry, OURS, Question, Reply};
use lease::{Key, Lease};
pub use lease::{Refusal, State};

/// The lifetime that is asked for, seconds.
pub const LIFETIME: u32 = 3600;
/// The most mappings that are asked for; further ones are left out.
pub const MAX_WANTS: usize = 256;
/// A router is asked this often whether it still knows; sooner while it is silent.
const POLL: Duration = Duration::from_secs(3);
const POLL_SILENT: Duration = Duration::from_secs(2);
/// The first wait for an answer; each further one is twice as long (RFC 6886 §3.1).
const WAIT: Duration = Duration::from_millis(250);
/// How long a UPnP question may take.
const WAIT_IGD: Duration = Duration::from_secs(12);
/// A router that has been silent for this long is looked for anew: no router takes longer to start.
const LOST: Duration = Duration::from_secs(600);
/// Where no protocol answers, all are tried again after this, then after twice as long, and so on.
const BARREN: Duration = Duration::from_secs(30);
const BARREN_MOST: Duration = Duration::from_secs(1800);
/// The most where one did answer before.
const BARREN_KNOWN: Duration = Duration::from_secs(60);

/// What a router can be asked in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// RFC 6887.
    Pcp,
    /// RFC 6886.
    NatPmp,
    /// UPnP IGD, version 1 or 2.
    Upnp,
}

impl Protocol {
    /// As people write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pcp => "PCP",
            Self::NatPmp => "NAT-PMP",
            Self::Upnp => "UPnP",
        }
    }
}

/// What the operator decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Choice {
    /// The router is left alone.
    #[default]
    Off,
    /// The first protocol that it knows: PCP, NAT-PMP, UPnP.
    Auto,
    /// This one or none.
    Only(Protocol),
}

impl Choice {
    fn first(self) -> Option<Protocol> {
        match self {
            Self::Off => None,
            Self::Auto => Some(Protocol::Pcp),
            Self::Only(protocol) => Some(protocol),
        }
    }

    fn after(self, protocol: Protocol) -> Option<Protocol> {
        match (self, protocol) {
            (Self::Auto, Protocol::Pcp) => Some(Protocol::NatPmp),
            (Self::Auto, Protocol::NatPmp) => Some(Protocol::Upnp),
            (Self::Auto, Protocol::Upnp) | (Self::Off | Self::Only(_), _) => None,
        }
    }
}

/// The router, and our address on its inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gateway {
    /// Where the default route leads.
    pub router: Ipv4Addr,
    /// The address from which we reach it, and for which mappings are asked.
    pub local: Ipv4Addr,
}

/// A mapping that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// What it is for, in a few words; the router shows it to its owner (UPnP).
    pub name: String,
    /// UDP or TCP.
    pub proto: Proto,
    /// Our address, where it is a certain one. Routers map for the address that asks, so it
    /// must be that on the router's link.
    pub address: Option<Ipv4Addr>,
    /// Our port.
    pub internal: u16,
    /// The public port: this one, because it is what we write.
    pub external: u16,
}

/// What happens.
#[derive(Debug, Clone)]
pub enum Input<'a> {
    /// The default route leads here now.
    Gateway(Option<Gateway>),
    /// What is asked in. What was installed in another way is removed first.
    Choose(Choice),
    /// All mappings that are wanted. Others of ours are removed.
    Want(Vec<Want>),
    /// A datagram came to the socket that requests leave from.
    Received {
        /// Its source.
        from: SocketAddr,
        /// The whole of it.
        packet: &'a [u8],
    },
    /// A datagram came to 224.0.0.1, port 5350.
    Announced {
        /// Its source.
        from: SocketAddr,
        /// The whole of it.
        packet: &'a [u8],
    },
    /// The answer to the last [`Question`].
    Igd(Reply),
    /// Our public address, as STUN servers see it.
    Seen(Option<Ipv4Addr>),
    /// Remove all that is there; [`Output::Stopped`] follows.
    Stop,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send this to port 5351 of the router.
    Transmit(Vec<u8>),
    /// Put this question to the router by UPnP, in place of one that is under way.
    Igd(Question),
    /// [`Portmap::snapshot`] says something else now.
    Changed,
    /// An operator should hear of this.
    Finding(Finding),
    /// All is removed, or cannot be.
    Stopped,
}

/// What an operator should hear about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The router answers in none of the protocols that it was asked in.
    Barren(Choice),
    /// The router answers no more.
    Silent,
    /// The router has lost our mappings; they are installed again.
    Forgot,
    /// An answer or announcement was refused.
    Nonsense(Nonsense),
    /// A mapping was refused.
    Refused {
        /// What it is for.
        name: String,
        /// Why.
        refusal: Refusal,
    },
    /// A public port belongs to somebody else.
    Conflict {
        /// What it was wanted for.
        name: String,
        /// Which.
        external: u16,
        /// To whom, where the router says so.
        owner: Option<String>,
    },
    /// The router's own public address is a private one: another NAT stands beyond it.
    PrivateExternal(Ipv4Addr),
    /// The router says one public address, STUN servers see another.
    ForeignExternal {
        /// What the router says.
        router: Ipv4Addr,
        /// What STUN servers see.
        seen: Ipv4Addr,
    },
}

/// Why a datagram was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Nonsense {
    /// It did not come from the router.
    Stranger(SocketAddr),
    /// It cannot be read.
    Unreadable,
    /// It answers a request with a nonce that is not ours, or none that we made.
    WrongNonce,
    /// The router's clock jumps: what it says of its age is not believed for ten minutes.
    Epoch,
    /// An address that no router can have outside.
    External(Ipv4Addr),
}

/// What the operator sees.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// The router.
    pub gateway: Option<Gateway>,
    /// What it is asked in, once that is known.
    pub protocol: Option<Protocol>,
    /// Its public address, as it says.
    pub external: Option<Ipv4Addr>,
    /// What is wrong, each in a sentence.
    pub alarms: Vec<String>,
    /// The mappings.
    pub rows: Vec<Row>,
}

/// One mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// What is wanted.
    pub want: Want,
    /// What became of it.
    pub state: State,
    /// When it ends by itself, if it does.
    pub until: Option<Instant>,
}

/// What is known of the router's languages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing is wanted, or there is no router.
    Idle,
    /// This protocol is tried.
    Seeking(Protocol),
    /// It works.
    Using(Protocol),
    /// None does; tried again then.
    Barren(Instant),
}

/// What the router was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ask {
    /// Do you speak this?
    Probe,
    /// What is your public address?
    External,
    /// Map, or renew.
    Map(Key),
    /// Remove.
    Unmap(Key),
    /// UPnP: whose is this public port? Before it is asked for.
    Look(Key),
    /// UPnP: whose is it, that we were refused?
    Owner(Key),
    /// UPnP: which is your mapping of this place in the list?
    List(u16),
    /// UPnP: remove what an earlier process left.
    Sweep(Proto, u16),
    /// Do you still know?
    Poll(Option<Key>),
}

#[derive(Debug)]
struct Asking {
    ask: Ask,
    sent: u32,
    due: Instant,
}

/// The mappings of one router.
#[derive(Debug)]
pub struct Portmap {
    rng: ChaCha12Rng,
    /// Makes the nonces: the same for the same mapping, also after a restart.
    seed: [u8; 32],
    choice: Choice,
    gateway: Option<Gateway>,
    leases: Vec<Lease>,
    phase: Phase,
    barren: u32,
    /// This router did answer once.
    known: bool,
    asking: Option<Asking>,
    /// The next place of the router's list to look at for what is left of an earlier process.
    sweep: Option<u16>,
    /// UPnP: what follows from the last answer, at once.
    next_sweep: Option<(Proto, u16)>,
    next_owner: Option<Key>,
    epoch: Epoch,
    external: Option<Ipv4Addr>,
    external_due: Option<Instant>,
    seen: Option<Ipv4Addr>,
    poll: Instant,
    polled: usize,
    silent: Option<Instant>,
    /// The router knows mappings without an end only (UPnP error 725).
    permanent: bool,
    refused: Option<(Nonsense, u64)>,
    noted: Option<Finding>,
    stopping: bool,
    stopped: bool,
    shown: Snapshot,
    outputs: VecDeque<Output>,
}

impl Portmap {
    /// Nothing wanted, no router. The seed should outlive the process: with it,
    /// mappings that a crash left are known for ours (RFC 6887 §11.3.1).
    pub fn new(now: Instant, seed: [u8; 32]) -> Self {
        Self {
            rng: ChaCha12Rng::from_seed(seed),
            seed,
            choice: Choice::Off,
            gateway: None,
            leases: Vec::new(),
            phase: Phase::Idle,
            barren: 0,
            known: false,
            asking: None,
            sweep: None,
            next_sweep: None,
            next_owner: None,
            epoch: Epoch::default(),
            external: None,
            external_due: None,
            seen: None,
            poll: now,
            polled: 0,
            silent: None,
            permanent: false,
            refused: None,
            noted: None,
            stopping: false,
            stopped: false,
            shown: Snapshot::default(),
            outputs: VecDeque::new(),
        }
    }

    /// Takes in one event; drain [`Portmap::poll_output`] afterwards.
    pub fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        match input {
            Input::Gateway(gateway) if gateway == self.gateway => {}
            Input::Gateway(gateway) => {
                self.gateway = gateway;
                self.begin_anew(now);
            }
            Input::Choose(choice) if choice == self.choice => {}
            Input::Choose(choice) => {
                self.choice = choice;
                let kept = matches!(self.phase, Phase::Using(protocol) if choice == Choice::Only(protocol) || choice == Choice::Auto);
                if !kept {
                    // Another language removes nothing that this one installed.
                    let wanted = self.leases.iter().filter(|lease| !lease.leaving);
                    let again = wanted.map(|lease| lease.want.clone()).collect();
                    self.leases.iter_mut().for_each(Lease::leave);
                    self.want(now, again);
                }
            }
            Input::Want(wants) => self.want(now, wants),
            Input::Received { from, packet } => self.received(now, from, packet, false),
            Input::Announced { from, packet } => self.received(now, from, packet, true),
            Input::Igd(reply) => self.igd_replied(now, reply),
            Input::Seen(seen) => {
                self.seen = seen;
                self.compare();
            }
            Input::Stop => {
                self.stopping = true;
                self.asking = None;
                self.leases.retain(|lease| lease.touched);
                self.leases.iter_mut().for_each(Lease::leave);
            }
        }
        self.go_on(now);
    }

    /// Sends and gives up what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Some(asking) = self.asking.take_if(|asking| asking.due <= now) {
            if asking.sent < self.tries(asking.ask) {
                self.ask(now, asking.ask, asking.sent);
            } else {
                self.unanswered(now, asking.ask);
            }
        }
        for lease in &mut self.leases {
            lease.expire(now);
        }
        self.go_on(now);
    }

    /// The next thing to do, in order; until `None` before the next input.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Portmap::handle_timeout`] is due next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.stopped {
            return None;
        }
        let asking = self.asking.as_ref().map(|asking| asking.due);
        let ends = self.leases.iter().filter_map(|lease| lease.ends());
        let next = match self.phase {
            Phase::Barren(until) => Some(until),
            Phase::Using(_) if asking.is_none() && !self.stopping => {
                let due = self.leases.iter().filter_map(|lease| lease.due).filter(|_| self.silent.is_none());
                let external = self.external_due.filter(|_| self.silent.is_none());
                due.chain(external).chain([self.poll]).min()
            }
            Phase::Idle | Phase::Seeking(_) | Phase::Using(_) => None,
        };
        asking.into_iter().chain(next).chain(ends).min()
    }

    /// What the operator sees.
    pub fn snapshot(&self) -> Snapshot {
        self.shown.clone()
    }

    /// The router is another one, or speaks otherwise: all that was learnt of it is forgotten.
    fn begin_anew(&mut self, now: Instant) {
        self.phase = Phase::Idle;
        self.asking = None;
        self.sweep = None;
        self.next_sweep = None;
        self.next_owner = None;
        self.epoch = Epoch::default();
        self.external = None;
        self.external_due = None;
        self.silent = None;
        self.permanent = false;
        self.barren = 0;
        self.known = false;
        self.leases.retain(|lease| !lease.leaving);
        self.leases.iter_mut().for_each(|lease| lease.begin_anew(now));
    }

    fn want(&mut self, now: Instant, mut wants: Vec<Want>) {
        wants.truncate(MAX_WANTS);
        for lease in &mut self.leases {
            if !wants.iter().any(|want| Key::of(want) == lease.key()) {
                lease.leave();
            }
        }
        let untouched = |lease: &Lease| lease.leaving && !lease.touched;
        self.leases.retain(|lease| !untouched(lease));
        for want in wants {
            let key = Key::of(&want);
            let fresh = !self.leases.iter().any(|lease| lease.key() == key && !lease.leaving);
            match self.leases.iter_mut().find(|lease| lease.key() == key && !lease.leaving) {
                Some(lease) => lease.want = want,
                None if fresh && !self.stopping => {
                    let nonce = self.nonce(key);
                    self.leases.push(Lease::new(now, want, nonce));
                }
                None => {}
            }
        }
    }

    /// The same for the same mapping, and not to be guessed (RFC 6887 §11.2).
    fn nonce(&self, key: Key) -> [u8; 12] {
        let mut rng = ChaCha12Rng::from_seed(self.seed);
        rng.set_stream(1 + key.number());
        let mut nonce = [0; 12];
        rng.fill_bytes(&mut nonce);
        nonce
    }

    /// Asks what is to be asked next, and tells what has changed.
    fn go_on(&mut self, now: Instant) {
        while self.asking.is_none() && !self.stopped {
            let Some(ask) = self.next(now) else { break };
            self.ask(now, ask, 0);
        }
        self.show();
    }

    fn next(&mut self, now: Instant) -> Option<Ask> {
        let first = self.choice.first();
        let wanted = self.leases.iter().any(|lease| !lease.leaving);
        let using = matches!(self.phase, Phase::Using(_)) && self.gateway.is_some();
        if self.stopping && (!using || self.leases.is_empty()) {
            self.stopped = true;
            self.outputs.push_back(Output::Stopped);
            return None;
        }
        self.gateway?;
        if let Phase::Using(protocol) = self.phase {
            return self.next_with(now, protocol);
        }
        // What is not known to be there cannot be removed.
        self.leases.retain(|lease| !lease.leaving);
        let first = first.filter(|_| wanted);
        match (self.phase, first) {
            (_, None) => {
                self.phase = Phase::Idle;
                None
            }
            (Phase::Barren(until), Some(_)) if now < until => None,
            (Phase::Seeking(_), Some(_)) => Some(Ask::Probe),
            (Phase::Idle | Phase::Barren(_) | Phase::Using(_), Some(first)) => {
                self.phase = Phase::Seeking(first);
                Some(Ask::Probe)
            }
        }
    }

    /// What is asked next of a router that speaks this.
    fn next_with(&mut self, now: Instant, protocol: Protocol) -> Option<Ask> {
        if let Some(leaving) = self.leases.iter().find(|lease| lease.leaving) {
            return Some(Ask::Unmap(leaving.key()));
        }
        let other = self.choice != Choice::Auto && self.choice != Choice::Only(protocol);
        if self.leases.is_empty() || other {
            self.begin_anew(now);
            return self.next(now);
        }
        if self.silent.is_some() {
            return (self.poll <= now).then(|| self.next_poll(protocol));
        }
        if let Some((proto, external)) = self.next_sweep.take() {
            return Some(Ask::Sweep(proto, external));
        }
        if let Some(key) = self.next_owner.take() {
            return Some(Ask::Owner(key));
        }
        if let Some(at) = self.sweep {
            return Some(Ask::List(at));
        }
        if self.external_due.is_some_and(|due| due <= now) {
            return Some(Ask::External);
        }
        let local = self.gateway?.local;
        while let Some(lease) = self.leases.iter().find(|lease| lease.due.is_some_and(|due| due <= now)) {
            let key = lease.key();
            if lease.want.address.is_some_and(|address| address != local) {
                self.refuse(now, Ask::Map(key), Refusal::Elsewhere(local), BARREN_MOST);
                continue;
            }
            let look = protocol == Protocol::Upnp && !lease.looked;
            return Some(if look { Ask::Look(key) } else { Ask::Map(key) });
        }
        (self.poll <= now).then(|| self.next_poll(protocol))
    }

    /// UPnP has no epoch: the mappings are looked at in turn. A router that has begun anew may be asked
    /// elsewhere, so one that is silent is searched for.
    fn next_poll(&mut self, protocol: Protocol) -> Ask {
        if protocol != Protocol::Upnp {
            return Ask::Poll(None);
        }
        if self.silent.is_some() {
            return Ask::Probe;
        }
        let there: Vec<Key> = self.leases.iter().filter(|lease| lease.installed()).map(Lease::key).collect();
        self.polled = self.polled.wrapping_add(1);
        Ask::Poll(there.get(self.polled % there.len().max(1)).copied())
    }

    fn tries(&self, ask: Ask) -> u32 {
        match (self.phase, ask) {
            (Phase::Seeking(Protocol::Upnp) | Phase::Using(Protocol::Upnp), _) => 1,
            (_, Ask::Poll(_)) => 2,
            (_, Ask::Unmap(_)) if self.silent.is_some() => 1,
            (_, Ask::Probe) => 3,
            _ => 4,
        }
    }

    fn ask(&mut self, now: Instant, ask: Ask, sent: u32) {
        let Some(gateway) = self.gateway else { return };
        let (Phase::Seeking(protocol) | Phase::Using(protocol)) = self.phase else { return };
        let wait = if protocol == Protocol::Upnp { WAIT_IGD } else { WAIT * 2_u32.saturating_pow(sent.min(4)) };
        if protocol == Protocol::Upnp {
            let question = self.question(gateway, ask);
            self.outputs.push_back(Output::Igd(question));
        } else {
            let packet = self.packet(gateway, protocol, ask);
            self.outputs.push_back(Output::Transmit(packet));
        }
        if let (Ask::Map(_), Some(lease)) = (ask, self.lease_of(ask)) {
            lease.touched = true;
        }
        if matches!(ask, Ask::Poll(_) | Ask::Probe) {
            self.poll = now + if self.silent.is_some() { POLL_SILENT } else { POLL };
        }
        self.asking = Some(Asking { ask, sent: sent + 1, due: now + wait });
    }

    fn packet(&mut self, gateway: Gateway, protocol: Protocol, ask: Ask) -> Vec<u8> {
        let lifetime = if matches!(ask, Ask::Unmap(_)) { 0 } else { LIFETIME };
        let wish = self.lease_of(ask).map(|lease| (lease.nonce, lease.wish(lifetime)));
        match (protocol, wish) {
            (Protocol::Pcp, Some((nonce, wish))) => portmap::pcp_map(gateway.local, nonce, wish),
            (Protocol::Pcp, None) => portmap::pcp_announce(gateway.local),
            (_, Some((_, wish))) => portmap::natpmp_map(wish),
            (_, None) => portmap::natpmp_external(),
        }
    }

    /// The lease that a question is about.
    fn lease_of(&mut self, ask: Ask) -> Option<&mut Lease> {
        let (key, leaving) = match ask {
            Ask::Map(key) | Ask::Look(key) | Ask::Owner(key) | Ask::Poll(Some(key)) => (key, false),
            Ask::Unmap(key) => (key, true),
            Ask::Probe | Ask::External | Ask::List(_) | Ask::Sweep(..) | Ask::Poll(None) => return None,
        };
        self.leases.iter_mut().find(|lease| lease.key() == key && lease.leaving == leaving)
    }

    /// A question was given up.
    fn unanswered(&mut self, now: Instant, ask: Ask) {
        match ask {
            Ask::Probe if matches!(self.phase, Phase::Seeking(_)) => self.not_spoken(now),
            // They end by themselves.
            Ask::Unmap(_) if self.stopping => self.leases.clear(),
            Ask::Unmap(key) => self.leases.retain(|lease| !(lease.leaving && lease.key() == key)),
            Ask::List(_) | Ask::Sweep(..) => self.sweep = None,
            Ask::Probe | Ask::External | Ask::Map(_) | Ask::Look(_) | Ask::Owner(_) | Ask::Poll(_) => {
                self.fell_silent(now);
            }
        }
    }

    /// The router does not speak what was tried.
    fn not_spoken(&mut self, now: Instant) {
        let (Phase::Seeking(tried) | Phase::Using(tried)) = self.phase else { return };
        self.phase = match self.choice.after(tried) {
            Some(next) => Phase::Seeking(next),
            None => {
                if self.barren == 0 {
                    self.outputs.push_back(Output::Finding(Finding::Barren(self.choice)));
                }
                let most = if self.known { BARREN_KNOWN } else { BARREN_MOST };
                let wait = BARREN.saturating_mul(2_u32.saturating_pow(self.barren)).min(most);
                self.barren += 1;
                Phase::Barren(now + wait)
            }
        };
    }

    /// The last good state is kept; only whether the router is there is asked from now on.
    fn fell_silent(&mut self, now: Instant) {
        let wait = match (self.phase, self.silent) {
            (Phase::Using(Protocol::Upnp), None) => Duration::ZERO,
            _ => POLL_SILENT,
        };
        let since = *self.silent.get_or_insert_with(|| {
            self.outputs.push_back(Output::Finding(Finding::Silent));
            now
        });
        self.poll = self.poll.min(now + wait);
        if now >= since + LOST {
            // Perhaps it is another one now, which speaks otherwise.
            self.phase = Phase::Idle;
            self.silent = None;
        }
    }

    /// It speaks what was tried.
    fn spoken(&mut self, now: Instant, protocol: Protocol) {
        self.phase = Phase::Using(protocol);
        self.barren = 0;
        self.known = true;
        self.poll = now + POLL;
        self.external_due = (protocol != Protocol::Pcp).then_some(now);
        self.sweep = (protocol == Protocol::Upnp).then_some(0);
    }

    /// The router has lost what it knew. `spread`: all hosts were told, and do not ask at once (RFC 6887 §8.5).
    fn forgot(&mut self, now: Instant, spread: bool) {
        let wait = if spread { Duration::from_millis(u64::from(self.rng.next_u32() % 1500)) } else { Duration::ZERO };
        if self.leases.iter().any(Lease::installed) {
            self.outputs.push_back(Output::Finding(Finding::Forgot));
        }
        for lease in &mut self.leases {
            lease.lost(now + wait);
        }
        let asks_external = !matches!(self.phase, Phase::Using(Protocol::Pcp));
        self.external_due = asks_external.then_some(now + wait);
    }

    fn nonsense(&mut self, nonsense: Nonsense) {
        let count = self.refused.map_or(0, |(_, count)| count);
        self.refused = Some((nonsense, count + 1));
        self.outputs.push_back(Output::Finding(Finding::Nonsense(nonsense)));
    }

    /// The router's public address, as it says.
    fn outside(&mut self, external: Ipv4Addr) -> Result<(), Refusal> {
        let ours = self.gateway.is_some_and(|gateway| external == gateway.router || external == gateway.local);
        if ours || external.is_loopback() || external.is_link_local() || crate::address::is_absurd(external.into()) {
            self.nonsense(Nonsense::External(external));
            return Err(Refusal::External(external));
        }
        self.external = Some(external);
        self.compare();
        Ok(())
    }

    /// Once for each episode: what the router's address tells of the world beyond.
    fn compare(&mut self) {
        let found = self.external.and_then(|router| {
            let private = crate::address::is_private(router.into()) && self.seen != Some(router);
            let foreign = self.seen.filter(|seen| *seen != router);
            foreign
                .map(|seen| Finding::ForeignExternal { router, seen })
                .or_else(|| private.then_some(Finding::PrivateExternal(router)))
        });
        if found != self.noted {
            self.noted.clone_from(&found);
            self.outputs.extend(found.map(Output::Finding));
        }
    }

    fn show(&mut self) {
        let protocol = match self.phase {
            Phase::Using(protocol) => Some(protocol),
            Phase::Idle | Phase::Seeking(_) | Phase::Barren(_) => None,
        };
        let row = |lease: &Lease| Row { want: lease.want.clone(), state: lease.state.clone(), until: lease.until };
        let shown = Snapshot {
            gateway: self.gateway,
            protocol,
            external: self.external,
            alarms: self.alarms(),
            rows: self.leases.iter().filter(|lease| !lease.leaving).map(row).collect(),
        };
        if shown != self.shown {
            self.shown = shown;
            self.outputs.push_back(Output::Changed);
        }
    }

    fn alarms(&self) -> Vec<String> {
        let mut alarms = Vec::new();
        let wanted = self.choice != Choice::Off && !self.leases.is_empty();
        if wanted && self.gateway.is_none() {
            alarms.push("there is no default route, so there is no router to ask".to_owned());
        }
        if wanted && self.barren > 0 {
            alarms.push(format!("{}; forward the ports by hand", Finding::Barren(self.choice)));
        }
        if self.silent.is_some() {
            alarms.push("the router answers no more; what it held is kept".to_owned());
        }
        alarms.extend(self.noted.as_ref().map(ToString::to_string));
        if let Some((last, count)) = self.refused {
            alarms.push(format!("{count} answers of the router were refused; the last because {last}"));
        }
        alarms
    }
}

impl std::fmt::Display for Nonsense {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stranger(from) => write!(f, "it came from {from}, which is not the router"),
            Self::Unreadable => f.write_str("it cannot be read"),
            Self::WrongNonce => f.write_str("it answers a request that is not ours"),
            Self::Epoch => f.write_str("the router's clock jumps"),
            Self::External(ip) => write!(f, "{ip} cannot be a public address"),
        }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Barren(Choice::Only(protocol)) => write!(f, "the router does not answer {}", protocol.as_str()),
            Self::Barren(Choice::Auto | Choice::Off) => {
                f.write_str("the router answers neither PCP nor NAT-PMP nor UPnP")
            }
            Self::Silent => f.write_str("the router answers no more"),
            Self::Forgot => f.write_str("the router has lost our mappings; they are installed again"),
            Self::Nonsense(why) => write!(f, "an answer of the router was refused: {why}"),
            Self::Refused { name, refusal } => write!(f, "the router does not map the port of {name}: {refusal}"),
            Self::Conflict { name, external, owner } => {
                let owner = owner.as_deref().unwrap_or("somebody else");
                write!(f, "port {external}, wanted for {name}, belongs to {owner}")
            }
            Self::PrivateExternal(ip) => {
                write!(f, "the router's own public address is {ip}, a private one: another NAT stands beyond it")
            }
            Self::ForeignExternal { router, seen } => {
                write!(
                    f,
                    "the router says that its address is {router}, STUN sees {seen}: another NAT stands beyond it"
                )
            }
        }
    }
}

/// A router's request port.
fn server(gateway: Gateway) -> SocketAddr {
    SocketAddrV4::new(gateway.router, portmap::SERVER_PORT).into()
}

/// Shapes a wish of [`Lease`].
fn wish(want: &Want, lifetime: u32) -> MapRequest {
    MapRequest { proto: want.proto, internal: want.internal, external: want.external, lifetime }
}
