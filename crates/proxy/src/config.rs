//! What the machine must know, as resolved by the daemon: by construction
//! ranges do not contradict each other and every listener has a side.

use std::net::SocketAddr;
use std::time::Duration;

use media::{PortRange, RangeId};
use nat::{Advertise, Network, Prefix, Side};
use wire::Transport;
use wire::sip::Limits;

/// Where siplatch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// In front of phones behind one NAT: phones inner, provider outer.
    Office,
    /// In front of a core: phones outer, core inner.
    Border,
    /// No upstream: an embedded registrar.
    Standalone,
}

impl Role {
    /// For labels and the banner.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Office => "office",
            Self::Border => "border",
            Self::Standalone => "standalone",
        }
    }

    /// The side that phones are on (standalone: both may carry phones, inner first).
    pub fn phones(self) -> Side {
        match self {
            Self::Office | Self::Standalone => Side::Inner,
            Self::Border => Side::Outer,
        }
    }
}

/// One listening socket; its index is its `ListenerId`, for as long as the process lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Its side.
    pub side: Side,
    /// What it speaks.
    pub transport: Transport,
    /// False when nothing comes in here: a transport that is only used to connect to the upstream.
    pub accepts: bool,
    /// The network of this side is trusted: what must be secure may cross it in the clear (`secure`).
    pub secure: bool,
    /// Bound address; may be a wildcard.
    pub bind: SocketAddr,
    /// What we write for it.
    pub advertise: Advertise,
    /// The port to write instead of the socket's, with `Advertise::Ip` (`advertise_port`).
    pub advertise_port: Option<u16>,
    /// The `[[phone]]` whose own outer listener this is.
    pub phone: Option<usize>,
    /// It was configured once and is closed now; its id is not used again.
    pub retired: bool,
}

/// A next hop toward the core or the provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Host name or numeric address, IPv6 without brackets.
    pub host: String,
    /// Port, if written: a name without one is looked up as RFC 3263 §4.2 says.
    pub port: Option<u16>,
    /// Transport, if written.
    pub transport: Option<Transport>,
    /// The scheme is sips: nothing but TLS.
    pub sips: bool,
    /// Only for requests of this domain.
    pub domain: Option<String>,
    /// It latches (RFC 7362), so our own address in SDP need not be reachable.
    pub comedia: bool,
    /// The `[[phone]]` of a trunk without registration: calls that fit no binding go to it.
    pub default_phone: Option<usize>,
    /// Other ways there, for when those before them do not work; none where the URI says how.
    pub fallback: Vec<Fallback>,
}

/// A way to an upstream that is tried when those before it do not work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fallback {
    /// UDP: from another port of ours.
    pub transport: Transport,
    /// Port there, if written.
    pub port: Option<u16>,
}

impl Upstream {
    /// Its URI as it would be written.
    pub fn uri(&self) -> String {
        let scheme = if self.sips { "sips" } else { "sip" };
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        let transport = self.transport.map(|t| format!(";transport={}", t.via().to_ascii_lowercase()));
        format!("{scheme}:{host}{port}{}", transport.unwrap_or_default())
    }
}

/// A secret that `Debug` does not show.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(pub String);

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// A `[[phone]]`: selectors, and what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Phone {
    /// Its name, for people.
    pub name: String,
    /// User part of its AOR.
    pub user: Option<String>,
    /// Domain of its AOR.
    pub domain: Option<String>,
    /// Where it sends from.
    pub address: Option<Prefix>,
    /// Its `+sip.instance` value.
    pub instance: Option<String>,
    /// Its password at the upstream: it is registered again in its place when our address changes.
    pub password: Option<Password>,
    /// The realm that the password is for; `None` for the one that accepted its REGISTER.
    pub realm: Option<String>,
    /// Its own outer signalling listener (office), index into `listeners`.
    pub outer_listener: Option<u16>,
    /// Its own public address (one-to-one NAT).
    pub advertise: Option<Advertise>,
    /// Its own media range, `None` for the default one.
    pub range: Option<RangeId>,
    /// Most calls at a time.
    pub max_calls: Option<usize>,
}

/// A `[[user]]` of the embedded registrar. `Debug` hides the password.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// User part of the AOR and digest user name.
    pub name: String,
    /// Digest password.
    pub password: String,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User").field("name", &self.name).field("password", &"***").finish()
    }
}

/// Hash of digest authentication (RFC 8760).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DigestAlgorithm {
    /// SHA-256.
    Sha256,
    /// SHA-512-256.
    Sha512_256,
    /// MD5.
    Md5,
}

impl DigestAlgorithm {
    /// The strongest that phones know first, what every phone knows last (RFC 8760 §2.4).
    pub const PREFERRED: [Self; 3] = [Self::Sha256, Self::Sha512_256, Self::Md5];

    /// As it is written in messages and settings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "SHA-256",
            Self::Sha512_256 => "SHA-512-256",
            Self::Md5 => "MD5",
        }
    }
}

/// How pinholes of held or silent media are kept (RFC 6263 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MediaKeepAlive {
    /// STUN Binding indications.
    Stun,
    /// RTP packets.
    Rtp,
    /// None.
    Off,
}

/// Media settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Media {
    /// All ranges; index 0 is `[media] ports`.
    pub ranges: Vec<PortRange>,
    /// How pinholes are kept.
    pub keepalive: MediaKeepAlive,
    /// Silence after which a call is ended.
    pub timeout: Duration,
    /// How many media workers there are, at least 1.
    pub workers: u8,
    /// Idle pairs kept bound ahead per range.
    pub reserve: usize,
}

/// The whole configuration of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where it stands.
    pub role: Role,
    /// Host names that are ours in a Route, lower case.
    pub names: Vec<String>,
    /// Listening sockets.
    pub listeners: Vec<Listener>,
    /// Next hops, at least one unless standalone.
    pub upstreams: Vec<Upstream>,
    /// Prefixes with rules of their own.
    pub networks: Vec<Network>,
    /// Known phones.
    pub phones: Vec<Phone>,
    /// Accounts of the embedded registrar.
    pub users: Vec<User>,
    /// What they are challenged with, in this order; nothing else is accepted.
    pub digest: Vec<DigestAlgorithm>,
    /// Media.
    pub media: Media,
    /// Limits on messages.
    pub limits: Limits,
}

impl Config {
    /// The side of a listener.
    pub fn side(&self, listener: wire::ListenerId) -> Side {
        self.listeners.get(usize::from(listener.0)).map_or(Side::Inner, |l| l.side)
    }
}

#[cfg(test)]
mod tests;
