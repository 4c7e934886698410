//! What is examined: from the command line, and where it is silent from the
//! configuration.

use std::net::SocketAddr;
use std::sync::Arc;

use ::nat::turn::Credentials;
use ::nat::{Advertise, Side};
use net::transport::tls;
use net::turn::Over;
use proxy::config::{Role, Upstream};
use wire::Transport;

use crate::cli::Examine;
use crate::config::{HostPort, Settings, read_upstream};

/// Ports of servers that are named without one.
pub(super) const STUN_PORT: u16 = 3478;
const TURNS_PORT: u16 = 5349;
/// So many upstreams are asked, and so many of our ports: no configuration makes the doctor slow.
const MOST: usize = 8;

/// A TURN server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) server: HostPort,
    /// UDP, TCP or TLS.
    pub(super) transport: Transport,
    /// Who we are there; `None`: the command line does not say.
    pub(super) credentials: Option<Credentials>,
}

/// What is advertised outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// Address and port as STUN finds them.
    Found,
    /// The public address with the ports of our sockets: they must be forwarded.
    Fixed,
    /// Our own address.
    Own,
}

/// What is examined.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) stun: Vec<HostPort>,
    pub(super) reflector: Option<HostPort>,
    pub(super) upstreams: Vec<Upstream>,
    pub(super) turn: Option<Turn>,
    /// `None`: there is no configuration, and the verdict is about none.
    pub(super) role: Option<Role>,
    /// UDP sockets of ours that the outside is to reach, should it reach any.
    pub(super) doors: Vec<SocketAddr>,
    /// What messages toward the outside say.
    pub(super) written: Written,
    /// Phones are on the outer side, too.
    pub(super) phones_outside: bool,
    pub(super) tls: Arc<tls::Settings>,
}

impl Plan {
    /// Reads both; faults come back as text for people.
    pub(super) fn of(asked: &Examine, settings: Option<&Settings>) -> Result<Self, String> {
        let stun = match &asked.stun[..] {
            [] => settings.map(|settings| settings.stun.iter().flatten().cloned().collect()).unwrap_or_default(),
            named => named.iter().map(|text| HostPort::read(text, STUN_PORT)).collect::<Result<_, _>>()?,
        };
        let reflector = match &asked.reflector {
            Some(text) => Some(HostPort::read(text, STUN_PORT)?),
            None => settings.and_then(|settings| settings.reflector.clone()),
        };
        let mut upstreams = match &asked.upstream[..] {
            [] => settings.map(|settings| settings.proxy.upstreams.clone()).unwrap_or_default(),
            named => named.iter().map(|text| upstream(text)).collect::<Result<_, _>>()?,
        };
        upstreams.truncate(MOST);
        let turn = match &asked.turn {
            Some(text) => Some(turn(text)?),
            None => settings.and_then(configured),
        };
        let known = settings.and_then(|settings| settings.certificates.clone());
        let load = || tls::Settings::load(&tls::Files::default()).map(Arc::new);
        let tls = match known {
            Some(tls) => tls,
            None => load().map_err(|fault| format!("{} {}\n", fault.path.display(), fault.what))?,
        };
        Ok(Self {
            stun,
            reflector,
            upstreams,
            turn,
            role: settings.map(|settings| settings.proxy.role),
            doors: settings.map(doors).unwrap_or_default(),
            written: settings.map_or(Written::Found, written),
            phones_outside: settings.is_some_and(phones_outside),
            tls,
        })
    }

    /// All upstreams send media to where ours comes from.
    pub(super) fn comedia(&self) -> bool {
        !self.upstreams.is_empty() && self.upstreams.iter().all(|upstream| upstream.comedia)
    }
}

fn outer(settings: &Settings) -> impl Iterator<Item = &proxy::config::Listener> {
    let listeners = settings.proxy.listeners.iter();
    listeners.filter(|listener| listener.side == Side::Outer && listener.accepts && listener.phone.is_none())
}

/// Outer listeners, and the first and last media port.
fn doors(settings: &Settings) -> Vec<SocketAddr> {
    let udp = |listener: &&proxy::config::Listener| {
        listener.transport == Transport::Udp && listener.advertise_port.is_none() && listener.bind.is_ipv4()
    };
    let mut all: Vec<SocketAddr> = outer(settings).filter(udp).map(|listener| listener.bind).take(MOST).collect();
    let range = settings.proxy.media.ranges.first();
    if let (Some(first), Some(range)) = (all.first().copied(), range) {
        all.extend([range.first, range.last & !1].map(|port| SocketAddr::new(first.ip(), port)));
    }
    all
}

fn written(settings: &Settings) -> Written {
    match outer(settings).next().map(|listener| listener.advertise) {
        Some(Advertise::Listen) => Written::Own,
        Some(Advertise::Ip(_) | Advertise::StunAddress) => Written::Fixed,
        Some(Advertise::Stun) | None => Written::Found,
    }
}

fn phones_outside(settings: &Settings) -> bool {
    match settings.proxy.role {
        Role::Office => false,
        Role::Border => true,
        Role::Standalone => outer(settings).next().is_some(),
    }
}

fn upstream(text: &str) -> Result<Upstream, String> {
    let (host, port, transport, sips) = read_upstream(text)?;
    Ok(Upstream { host, port, transport, sips, domain: None, comedia: false, default_phone: None, fallback: Vec::new() })
}

/// RFC 7065, `turns` over TLS alone.
pub(super) fn turn(text: &str) -> Result<Turn, String> {
    let (scheme, rest) = text.split_once(':').unwrap_or(("", text));
    let (server, transport) = rest.split_once("?transport=").map_or((rest, None), |(s, t)| (s, Some(t)));
    let (port, transport) = match (scheme, transport) {
        ("turn", None | Some("udp")) => (STUN_PORT, Transport::Udp),
        ("turn", Some("tcp")) => (STUN_PORT, Transport::Tcp),
        ("turns", None | Some("tcp")) => (TURNS_PORT, Transport::Tls),
        _ => {
            let forms = "write turn:HOST[:PORT], turn:HOST[:PORT]?transport=tcp or turns:HOST[:PORT]";
            return Err(format!("\"{text}\" is not a TURN server\n  mend: {forms}\n"));
        }
    };
    Ok(Turn { server: HostPort::read(server, port)?, transport, credentials: None })
}

fn configured(settings: &Settings) -> Option<Turn> {
    let (server, credentials) = settings.turn.clone()?;
    let transport = match server.over {
        Over::Udp => Transport::Udp,
        Over::Tcp => Transport::Tcp,
        Over::Tls => Transport::Tls,
    };
    let server = HostPort { host: server.host, port: server.port };
    Some(Turn { server, transport, credentials: Some(credentials) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turn_servers() {
        let read = |text: &str| turn(text).map(|turn| (turn.server.to_string(), turn.transport)).ok();
        assert_eq!(read("turn:t.example"), Some(("t.example:3478".to_owned(), Transport::Udp)));
        assert_eq!(read("turn:192.0.2.1:99?transport=tcp"), Some(("192.0.2.1:99".to_owned(), Transport::Tcp)));
        assert_eq!(read("turns:t.example:443"), Some(("t.example:443".to_owned(), Transport::Tls)));
        for bad in ["", "t.example", "turn:", "turns:x?transport=udp", "turn:x?transport=sctp", "stun:x"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
