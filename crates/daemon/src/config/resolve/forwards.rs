//! What the router is asked to forward: the signalling ports of the outer
//! side, and the media ports where they are few.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use media::RangeId;
use nat::portmap::{Choice, Protocol, Want};
use nat::{Advertise, Side};
use proxy::config::{Listener, Media, Phone, Role};
use wire::Transport;
use wire::portmap::Proto;

use super::super::written;
use super::Resolver;

/// The most ports of one range that are asked for: PCP, NAT-PMP and UPnP map
/// single ports, and small routers hold few hundred mappings for all hosts.
pub(crate) const MOST_OF_RANGE: usize = 64;

/// What the router is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Forwards {
    /// How, if at all.
    pub(crate) choice: Choice,
    /// What.
    pub(crate) wants: Vec<Want>,
    /// Ranges that a person must forward, each with the reason.
    pub(crate) left_out: Vec<String>,
}

impl Resolver<'_> {
    pub(super) fn forwards(
        &mut self,
        listeners: &[Listener],
        phones: &[Phone],
        media: &Media,
        range_keys: &[String],
    ) -> Forwards {
        if self.raw.inner.as_ref().is_some_and(|side| side.router.is_some()) {
            let mend = "write it in [outer], or remove it";
            self.fault("inner.router", "the router stands on the outer side", mend);
        }
        let written = self.raw.outer.as_ref().and_then(|side| side.router.clone());
        let side = listeners.iter().find(|listener| listener.side == Side::Outer && listener.phone.is_none());
        let choice = match written {
            Some(text) => self.take("outer.router", written::router(&text)).unwrap_or_default(),
            None if side.is_some_and(|side| side.advertise == Advertise::StunAddress) => Choice::Auto,
            None => Choice::Off,
        };
        let mut forwards = Forwards { choice, ..Forwards::default() };
        if side.is_none() || choice == Choice::Off {
            return forwards;
        }
        for listener in listeners.iter().filter(|listener| listener.side == Side::Outer && listener.accepts) {
            // In office the provider answers on connections that we opened; nobody else need reach us by TCP.
            let proto = match (listener.transport, self.role) {
                (Transport::Udp, _) => Proto::Udp,
                (_, Role::Office) => continue,
                (Transport::Tcp | Transport::Tls | Transport::Ws | Transport::Wss, _) => Proto::Tcp,
            };
            let owner = listener.phone.and_then(|at| phones.get(at)).map_or("signalling", |phone| &phone.name);
            forwards.want(owner, proto, listener.bind, listener.advertise_port.unwrap_or(listener.bind.port()));
        }
        let general = listeners.iter().filter(|listener| listener.side == Side::Outer && listener.phone.is_none());
        let bind = general.map(|listener| listener.bind.ip()).find(IpAddr::is_ipv4);
        let Some(bind) = bind else { return forwards };
        for (at, (range, key)) in media.ranges.iter().zip(range_keys).enumerate() {
            let phone = phones.iter().find(|phone| phone.range.is_some_and(|own| own == RangeId(at as u16)));
            let name = phone.map_or("media".to_owned(), |phone| format!("{} media", phone.name));
            let own = phone.and_then(|phone| listeners.get(usize::from(phone.outer_listener?)));
            let bind = own.map_or(bind, |listener| listener.bind.ip());
            let count = usize::from(range.last - range.first) + 1;
            if count > MOST_OF_RANGE {
                forwards.left_out.push(format!(
                    "{key} = \"{}-{}\" is not forwarded: {count} ports, and routers map them one by one, so at most \
                     {MOST_OF_RANGE} are asked for; forward the range by hand, or make it smaller",
                    range.first, range.last
                ));
                continue;
            }
            for port in range.first..=range.last {
                forwards.want(&name, Proto::Udp, SocketAddr::new(bind, port), port);
            }
        }
        forwards
    }
}

impl Forwards {
    /// The choice, as it is written.
    pub(crate) fn word(&self) -> &'static str {
        match self.choice {
            Choice::Off => "off",
            Choice::Auto => "auto",
            Choice::Only(Protocol::Pcp) => "pcp",
            Choice::Only(Protocol::NatPmp) => "nat-pmp",
            Choice::Only(Protocol::Upnp) => "upnp",
        }
    }

    fn want(&mut self, name: &str, proto: Proto, bind: SocketAddr, external: u16) {
        let IpAddr::V4(address) = bind.ip() else { return };
        let address = (address != Ipv4Addr::UNSPECIFIED).then_some(address);
        self.wants.push(Want { name: name.to_owned(), proto, address, internal: bind.port(), external });
    }
}
