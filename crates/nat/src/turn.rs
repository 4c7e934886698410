//! One allocation on a TURN server, from the client's side (RFC 8656).
//!
//! Decides when it is asked for, refreshed (§8) and given back, which peers
//! have permission (§9) and which a channel (§12), and answers 401, 437 and 438
//! by itself (RFC 8489 §9.2.5): a stale nonce costs one more request, an
//! allocation that the server does not know any more is lost. Lifetimes are
//! the server's, also short ones: an allocation is refreshed a minute (or a
//! fifth of its time) before it ends at the latest, and so often that a NAT
//! keeps the way open and a server that has forgotten it is noticed; a
//! permission after four of its five minutes, a channel after nine of its ten.
//!
//! Media passes by [`Turn::send`] and [`Turn::receive`], which allocate
//! nothing. It must not open connections: whoever owns it has one connected
//! socket or stream for it, and cuts streams into messages.
//!
//! Whatever a server says is bounded: it cannot make us ask faster than
//! requests time out, or more often than three times for one nonce.

mod pending;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};
use wire::stun::turn::{self, Attribute, Granted, Key, Login, Method, Refused};

use crate::Mapped;
use crate::address::is_absurd;
use pending::{Due, Pending, What};

/// Peers that may have permission at a time; further ones are left out.
pub const MOST_PEERS: usize = 16;
/// Channels at a time; to further peers go Send indications.
const MOST_CHANNELS: usize = 8;
/// What is asked for, in seconds (§7.1).
const LIFETIME: u32 = 600;
/// No server's lifetime counts for longer.
const LONGEST: Duration = Duration::from_secs(3600);
/// Before the end of an allocation.
const MARGIN: Duration = Duration::from_secs(60);
/// A permission lasts five minutes (§9).
const PERMISSION_REFRESH: Duration = Duration::from_secs(240);
/// A channel lasts ten (§12).
const CHANNEL: Duration = Duration::from_secs(600);
const CHANNEL_REFRESH: Duration = Duration::from_secs(540);
/// After a refusal or silence, while there is time.
const AGAIN: Duration = Duration::from_secs(10);
/// Challenges to one request that are answered.
const MOST_CHALLENGES: u8 = 3;

/// Who we are to the server. `Debug` hides the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// User name.
    pub username: String,
    /// Password.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).field("password", &"***").finish()
    }
}

/// Which port is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// Any.
    Any,
    /// An even one, and the next one kept for [`Port::Reserved`].
    Even,
    /// The one that was kept.
    Reserved([u8; 8]),
}

/// What an allocation is to be like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Who asks.
    pub credentials: Credentials,
    /// The relayed address is IPv6.
    pub ipv6: bool,
    /// Which port.
    pub port: Port,
    /// The server is reached over TCP or TLS.
    pub stream: bool,
    /// Refreshed at least so often: over UDP below the 30 s after which many routers forget a mapping.
    pub refresh: Duration,
}

/// An allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allocated {
    /// The relayed transport address: peers send there.
    pub relayed: SocketAddr,
    /// We, as the server sees us.
    pub mapped: Option<Mapped>,
    /// For the port behind this one, where it was asked for and given.
    pub token: Option<[u8; 8]>,
}

/// Why there is no allocation, or not any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum End {
    /// The server does not answer.
    Silent,
    /// It does not accept the credentials.
    Unauthorized,
    /// It refuses with this code (403, 440, 442, 486, 508, …).
    Refused(u16),
    /// What it says makes no sense.
    Absurd,
    /// It does not know the allocation any more (437), or it has run out.
    Lost,
    /// We gave it back.
    Closed,
}

/// What happens.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// A STUN message came from the server, whole and alone.
    Received(&'a [u8]),
    /// From now on these peers may be heard, and no others (their permissions run out).
    Permit(&'a [IpAddr]),
    /// It is no longer wanted.
    Close,
}

/// What is to be done, or has come about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send this to the server.
    Transmit(Vec<u8>),
    /// Here it is.
    Allocated(Allocated),
    /// The server does not let this peer be heard: error code.
    Denied(IpAddr, u16),
    /// A refresh was not answered. Until its time is over the allocation may be there all the same.
    Unanswered,
    /// It is over; nothing follows.
    Ended(End),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Asking,
    Ready { until: Instant, refresh: Instant },
    Leaving,
    Over,
}

#[derive(Debug)]
struct Permission {
    ip: IpAddr,
    granted: bool,
    denied: bool,
    /// When it is asked for again; `None` while it is.
    due: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bound {
    Asked,
    Until(Instant),
    Refused,
}

#[derive(Debug)]
struct Channel {
    number: u16,
    peer: SocketAddr,
    bound: Bound,
    due: Option<Instant>,
    used: Instant,
}

/// A client's side of one allocation.
#[derive(Debug)]
pub struct Turn {
    config: Config,
    rng: ChaCha20Rng,
    login: Option<Login>,
    phase: Phase,
    pending: Vec<Pending>,
    permissions: Vec<Permission>,
    channels: Vec<Channel>,
    next_channel: u16,
    outputs: VecDeque<Output>,
}

impl Turn {
    /// Asks for an allocation. The seed makes transaction ids.
    pub fn new(now: Instant, config: Config, seed: [u8; 32]) -> Self {
        let mut turn = Self {
            config,
            rng: ChaCha20Rng::from_seed(seed),
            login: None,
            phase: Phase::Asking,
            pending: Vec::new(),
            permissions: Vec::new(),
            channels: Vec::new(),
            next_channel: 0x4000,
            outputs: VecDeque::new(),
        };
        turn.ask(now, What::Allocate, 0);
        turn
    }

    /// Takes in one event; drain [`Turn::poll_output`] afterwards.
    pub fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        match input {
            Input::Received(message) => self.received(now, message),
            Input::Permit(peers) => self.permit(now, peers),
            Input::Close => self.close(now),
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        let mut given_up = Vec::new();
        self.pending.retain_mut(|pending| match pending.advance(now) {
            None => true,
            Some(Due::Send) => {
                self.outputs.push_back(Output::Transmit(pending.bytes.clone()));
                true
            }
            Some(Due::GiveUp) => {
                given_up.push(pending.what);
                false
            }
        });
        for what in given_up {
            self.failed(now, what, None);
        }
        let Phase::Ready { until, refresh } = self.phase else { return };
        if until <= now {
            return self.end(End::Lost);
        }
        if refresh <= now && !self.asks(What::Refresh) {
            self.ask(now, What::Refresh, 0);
        }
        self.renew(now);
    }

    /// The next thing to do, in order; until `None` before the next input.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Turn::handle_timeout`] is due next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let requests = self.pending.iter().map(|pending| pending.due);
        let Phase::Ready { until, refresh } = self.phase else { return requests.min() };
        let refresh = if self.asks(What::Refresh) { until } else { refresh };
        let permissions = self.permissions.iter().filter_map(|permission| permission.due);
        let channels = self.channels.iter().filter_map(|channel| channel.due);
        requests.chain(permissions).chain(channels).chain([until, refresh]).min()
    }

    /// Appends the message that brings `payload` to `peer`: ChannelData, or a
    /// Send indication while there is no channel. False, and nothing appended,
    /// while the peer has no permission.
    pub fn send(&mut self, now: Instant, peer: SocketAddr, payload: &[u8], out: &mut Vec<u8>) -> bool {
        if !matches!(self.phase, Phase::Ready { .. }) {
            return false;
        }
        if let Some(channel) = self.channels.iter_mut().find(|channel| channel.peer == peer) {
            channel.used = now;
            if matches!(channel.bound, Bound::Until(until) if now < until) {
                return turn::wrap_channel(channel.number, payload, self.config.stream, out);
            }
        } else if self.is_permitted(peer.ip()) && self.channels.len() < MOST_CHANNELS && self.next_channel <= 0x4fff {
            let number = self.next_channel;
            self.next_channel += 1;
            self.channels.push(Channel { number, peer, bound: Bound::Asked, due: None, used: now });
            self.ask(now, What::Bind(number), 0);
        }
        self.is_permitted(peer.ip()) && turn::wrap_send(self.id(), peer, payload, out)
    }

    /// The peer and payload of what came from the server, if it is media.
    pub fn receive<'a>(&self, packet: &'a [u8]) -> Option<(SocketAddr, &'a [u8])> {
        match turn::unwrap_channel(packet) {
            Some((number, payload)) => {
                let channel = self.channels.iter().find(|channel| channel.number == number)?;
                Some((channel.peer, payload))
            }
            None => turn::unwrap_data(packet),
        }
    }

    /// May this peer be heard, as far as the server has said?
    pub fn is_permitted(&self, ip: IpAddr) -> bool {
        self.permissions.iter().any(|permission| permission.ip == ip && permission.granted)
    }

    fn received(&mut self, now: Instant, message: &[u8]) {
        let key = self.login.as_ref().map(|login| &login.key);
        let Some(response) = turn::read_response(message, key) else { return };
        let Some(at) = self.pending.iter().position(|pending| pending.id == response.id) else { return };
        // Without MESSAGE-INTEGRITY only these say anything (RFC 8489 §9.2.5).
        let bare = matches!(&response.outcome, Err(refused) if matches!(refused.code, 400 | 401 | 438));
        if !response.signed && !bare {
            return;
        }
        let Pending { what, challenged, .. } = self.pending.swap_remove(at);
        match response.outcome {
            Ok(granted) => self.granted(now, what, granted),
            Err(refused) => self.refused(now, what, challenged, refused),
        }
    }

    fn granted(&mut self, now: Instant, what: What, granted: Granted) {
        match what {
            What::Allocate => match (granted.relayed, granted.lifetime) {
                (Some(relayed), Some(lifetime)) if lifetime > 0 && !is_absurd(relayed.ip()) && relayed.port() != 0 => {
                    self.last(now, lifetime);
                    let mapped = granted.mapped.filter(|mapped| !is_absurd(mapped.ip())).map(Mapped);
                    self.outputs.push_back(Output::Allocated(Allocated { relayed, mapped, token: granted.token }));
                    for at in 0..self.permissions.len() {
                        self.ask(now, What::Permit(self.permissions[at].ip), 0);
                    }
                }
                _ => self.end(End::Absurd),
            },
            What::Refresh => match granted.lifetime {
                Some(0) => self.end(End::Lost),
                lifetime => self.last(now, lifetime.unwrap_or(LIFETIME)),
            },
            What::Leave => self.end(End::Closed),
            What::Permit(ip) => {
                if let Some(permission) = self.permissions.iter_mut().find(|permission| permission.ip == ip) {
                    permission.granted = true;
                    permission.due = Some(now + PERMISSION_REFRESH);
                }
            }
            What::Bind(number) => {
                if let Some(channel) = self.channels.iter_mut().find(|channel| channel.number == number) {
                    channel.bound = Bound::Until(now + CHANNEL);
                    channel.due = Some(now + CHANNEL_REFRESH);
                }
            }
        }
    }

    /// The allocation lasts so long from now.
    fn last(&mut self, now: Instant, lifetime: u32) {
        let lifetime = Duration::from_secs(lifetime.into()).min(LONGEST);
        let refresh = self.config.refresh.min(lifetime - MARGIN.min(lifetime / 5));
        self.phase = Phase::Ready { until: now + lifetime, refresh: now + refresh };
    }

    fn refused(&mut self, now: Instant, what: What, challenged: u8, refused: Refused) {
        match (refused.code, refused.challenge) {
            (401 | 438, Some((realm, nonce))) => {
                let known = self.login.as_ref().is_some_and(|login| login.realm == realm);
                // Credentials were shown and refused: another nonce helps only where that one was stale.
                let wrong = refused.code == 401 && known && challenged > 0;
                if wrong || challenged >= MOST_CHALLENGES {
                    return self.failed(now, what, Some(refused.code));
                }
                let Credentials { username, password } = &self.config.credentials;
                let key = Key::of(username, &realm, password);
                self.login = Some(Login { username: username.clone(), realm, nonce, key });
                self.ask(now, what, challenged + 1);
            }
            (code, _) => self.failed(now, what, Some(code)),
        }
    }

    /// A request came to nothing: refused with a code, or not answered.
    fn failed(&mut self, now: Instant, what: What, code: Option<u16>) {
        match (what, code) {
            (What::Allocate, None) => self.end(End::Silent),
            (What::Allocate, Some(401 | 438 | 441)) => self.end(End::Unauthorized),
            (What::Allocate, Some(437)) => self.end(End::Lost),
            (What::Allocate, Some(code)) => self.end(End::Refused(code)),
            (What::Leave, _) => self.end(End::Closed),
            // Allocation Mismatch: there is none.
            (What::Refresh | What::Permit(_) | What::Bind(_), Some(437)) => self.end(End::Lost),
            (What::Refresh, _) => {
                if code.is_none() {
                    self.outputs.push_back(Output::Unanswered);
                }
                if let Phase::Ready { refresh, .. } = &mut self.phase {
                    *refresh = now + AGAIN;
                }
            }
            (What::Permit(ip), code) => {
                let Some(permission) = self.permissions.iter_mut().find(|permission| permission.ip == ip) else {
                    return;
                };
                match code {
                    // Forbidden, or of another family: that stays so.
                    Some(code @ (403 | 443)) => {
                        (permission.granted, permission.denied, permission.due) = (false, true, None);
                        self.outputs.push_back(Output::Denied(ip, code));
                    }
                    Some(_) | None => permission.due = Some(now + AGAIN),
                }
            }
            (What::Bind(number), _) => {
                if let Some(channel) = self.channels.iter_mut().find(|channel| channel.number == number) {
                    // A bound one may be tried again until it ends; else Send indications do.
                    match channel.bound {
                        Bound::Until(_) => channel.due = Some(now + AGAIN),
                        Bound::Asked | Bound::Refused => (channel.bound, channel.due) = (Bound::Refused, None),
                    }
                }
            }
        }
    }

    fn permit(&mut self, now: Instant, peers: &[IpAddr]) {
        let peers: Vec<IpAddr> =
            peers.iter().map(|ip| ip.to_canonical()).filter(|ip| ip.is_ipv6() == self.config.ipv6).collect();
        self.permissions.retain(|permission| peers.contains(&permission.ip));
        for ip in peers {
            let known = self.permissions.iter().any(|permission| permission.ip == ip);
            if known || self.permissions.len() >= MOST_PEERS || is_absurd(ip) {
                continue;
            }
            self.permissions.push(Permission { ip, granted: false, denied: false, due: None });
            if matches!(self.phase, Phase::Ready { .. }) {
                self.ask(now, What::Permit(ip), 0);
            }
        }
    }

    /// Permissions and channels that are due.
    fn renew(&mut self, now: Instant) {
        for at in 0..self.permissions.len() {
            let permission = &mut self.permissions[at];
            if !permission.denied && permission.due.is_some_and(|due| due <= now) {
                permission.due = None;
                let ip = permission.ip;
                self.ask(now, What::Permit(ip), 0);
            }
        }
        let permissions = &self.permissions;
        self.channels.retain(|channel| {
            let wanted = permissions.iter().any(|permission| permission.ip == channel.peer.ip());
            let over = matches!(channel.bound, Bound::Until(until) if until <= now);
            // Nobody was spoken to there for as long as it lasts, or nobody wants to.
            let idle = channel.due.is_some_and(|due| due <= now) && (now >= channel.used + CHANNEL || !wanted);
            !over && !idle
        });
        for at in 0..self.channels.len() {
            let channel = &mut self.channels[at];
            if channel.due.is_some_and(|due| due <= now) {
                channel.due = None;
                let number = channel.number;
                self.ask(now, What::Bind(number), 0);
            }
        }
    }

    fn close(&mut self, now: Instant) {
        match self.phase {
            Phase::Ready { .. } => {
                self.pending.clear();
                self.phase = Phase::Leaving;
                self.ask(now, What::Leave, 0);
            }
            // What was asked for and comes after all ends by itself, unused.
            Phase::Asking => self.end(End::Closed),
            Phase::Leaving | Phase::Over => {}
        }
    }

    fn end(&mut self, end: End) {
        if self.phase != Phase::Over {
            self.phase = Phase::Over;
            self.pending.clear();
            self.permissions.clear();
            self.channels.clear();
            self.outputs.push_back(Output::Ended(end));
        }
    }

    fn asks(&self, what: What) -> bool {
        self.pending.iter().any(|pending| pending.what == what)
    }

    fn ask(&mut self, now: Instant, what: What, challenged: u8) {
        if self.asks(what) {
            return;
        }
        let mut attributes = Vec::with_capacity(4);
        let method = match what {
            What::Allocate => {
                attributes.extend([Attribute::Udp, Attribute::Lifetime(LIFETIME)]);
                match self.config.port {
                    // A token says the family, too (§7.1).
                    Port::Reserved(token) => attributes.push(Attribute::Reservation(token)),
                    Port::Even => attributes.push(Attribute::EvenPort),
                    Port::Any => {}
                }
                if self.config.ipv6 && !matches!(self.config.port, Port::Reserved(_)) {
                    attributes.push(Attribute::Ipv6);
                }
                Method::Allocate
            }
            What::Refresh => {
                attributes.push(Attribute::Lifetime(LIFETIME));
                Method::Refresh
            }
            What::Leave => {
                attributes.push(Attribute::Lifetime(0));
                Method::Refresh
            }
            What::Permit(ip) => {
                attributes.push(Attribute::Peer(SocketAddr::new(ip, 0)));
                Method::CreatePermission
            }
            What::Bind(number) => {
                let Some(channel) = self.channels.iter().find(|channel| channel.number == number) else { return };
                attributes.extend([Attribute::Channel(number), Attribute::Peer(channel.peer)]);
                Method::ChannelBind
            }
        };
        let id = self.id();
        match turn::request(method, id, &attributes, self.login.as_ref()) {
            Some(bytes) => {
                self.outputs.push_back(Output::Transmit(bytes.clone()));
                self.pending.push(Pending::new(now, id, what, bytes, challenged, self.config.stream));
            }
            // A realm or nonce beyond all bounds.
            None => self.end(End::Absurd),
        }
    }

    fn id(&mut self) -> [u8; 12] {
        let mut id = [0; 12];
        self.rng.fill_bytes(&mut id);
        id
    }
}
