//! `[inner]` and `[outer]`: which sides a role has, their sockets, what they
//! advertise, and whom they ask for their address.

use nat::{Advertise, Side};
use proxy::config::{Listener, Role};

use super::super::raw;
use super::super::written::{self, HostPort};
use super::Resolver;

impl Resolver<'_> {
    /// The listeners of a side and its STUN servers.
    pub(super) fn side(&mut self, side: Side, listeners: &mut Vec<Listener>, keys: &mut Vec<String>) -> Vec<HostPort> {
        let name = side.as_str();
        let absent = raw::Side::default();
        let raw = match side {
            Side::Inner => self.raw.inner.as_ref(),
            Side::Outer => self.raw.outer.as_ref(),
        };
        if raw.is_none() && self.role != Role::Standalone {
            let faces = match (self.role, side) {
                (Role::Office, Side::Outer) => "the provider",
                (Role::Border, Side::Inner) => "the core",
                (Role::Office | Role::Standalone, Side::Inner) | (Role::Border | Role::Standalone, Side::Outer) => {
                    "the phones"
                }
            };
            let mend = format!("write [{name}] with listen = [\"udp:ADDRESS:PORT\"], the address that faces {faces}");
            self.missing("", name, mend);
            return Vec::new();
        }
        if raw.is_none() && side == Side::Outer {
            return Vec::new();
        }
        let raw = raw.unwrap_or(&absent);
        let stun = raw.advertise.is_none() && self.role == Role::Office && side == Side::Outer;
        let advertise = match &raw.advertise {
            Some(text) => self.take(&format!("{name}.advertise"), written::advertise(text)),
            None if stun => Some(Advertise::Stun),
            None => Some(Advertise::Listen),
        };
        let servers = self.stun_servers(name, raw, advertise, stun);
        let advertise = advertise.unwrap_or(Advertise::Listen);
        let secure = raw.secure.unwrap_or(false);
        let defaults: &[&str] = match (self.role, side, self.machine.ipv6) {
            (Role::Standalone, Side::Inner, true) => &["udp:0.0.0.0:5060", "udp:[::]:5060"],
            (Role::Standalone, Side::Inner, false) => &["udp:0.0.0.0:5060"],
            (Role::Standalone, Side::Outer, _) | (Role::Office | Role::Border, _, _) => &[],
        };
        let listen: Vec<String> = match &raw.listen {
            Some(listen) => listen.clone(),
            None => defaults.iter().map(|text| (*text).to_owned()).collect(),
        };
        if listen.is_empty() {
            self.missing(name, "listen", "write listen = [\"udp:ADDRESS:PORT\"], an address of this machine");
        }
        for (index, text) in listen.iter().enumerate() {
            let key = format!("{name}.listen[{index}]");
            let Some((transport, bind)) = self.take(&key, written::listen(text)) else { continue };
            if let Advertise::Ip(ip) = advertise
                && ip.is_ipv4() != bind.is_ipv4()
            {
                let mend = "write an address of the same family, or two sides";
                self.fault(format!("{name}.advertise"), format!("{ip} cannot stand for the listener {bind}"), mend);
            }
            listeners.push(Listener {
                side,
                transport,
                accepts: true,
                secure,
                bind,
                advertise,
                advertise_port: None,
                phone: None,
                retired: false,
            });
            keys.push(key);
        }
        servers
    }

    /// The names of both sides.
    pub(super) fn names(&mut self) -> Vec<String> {
        let mut names = Vec::new();
        let sides = [("inner", &self.raw.inner), ("outer", &self.raw.outer)];
        let written = sides.into_iter().flat_map(|(side, raw)| {
            let list = raw.as_ref().and_then(|raw| raw.names.as_deref()).unwrap_or_default();
            list.iter().enumerate().map(move |(index, name)| (format!("{side}.names[{index}]"), name.clone()))
        });
        for (key, name) in written.collect::<Vec<_>>() {
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
            if name.is_empty() || !name.bytes().all(plain) {
                self.fault(key, format!("\"{name}\" is not a host name"), "write \"sip.example.net\", without a port");
            } else if name.parse::<std::net::IpAddr>().is_ok() {
                self.fault(key, "addresses are known from listen and advertise", "remove it");
            } else {
                names.push(name.to_ascii_lowercase());
            }
        }
        names
    }

    fn stun_servers(
        &mut self,
        name: &str,
        raw: &raw::Side,
        advertise: Option<Advertise>,
        by_default: bool,
    ) -> Vec<HostPort> {
        let written = raw.stun_servers.as_deref().unwrap_or_default();
        let mut servers: Vec<HostPort> = Vec::new();
        for (index, text) in written.iter().enumerate() {
            let key = format!("{name}.stun_servers[{index}]");
            if let Some(server) = self.take(&key, written::host_port(text, 3478)) {
                if servers.contains(&server) {
                    self.fault(key, "this server is written twice", "keep one of the two");
                } else {
                    servers.push(server);
                }
            }
        }
        let phones = self
            .raw
            .phone
            .iter()
            .any(|phone| name == "outer" && matches!(phone.advertise.as_deref(), Some("stun" | "stun-address")));
        let asks = matches!(advertise, Some(Advertise::Stun | Advertise::StunAddress)) || phones;
        if asks && written.is_empty() {
            let what = match by_default {
                true => "missing, and the public address is to be found by STUN (the default for [outer] in office)",
                false => "missing, and the public address is to be found by STUN",
            };
            let mend =
                "write stun_servers = [\"stun.example.net\"], or advertise = \"listen\" if this side needs no NAT";
            self.fault(format!("{name}.stun_servers"), what, mend);
        }
        servers
    }
}
