//! The configuration as meant: what is left after this page cannot
//! contradict itself.
//!
//! Checked here is what keys mean together: sides that a role needs, sockets
//! and port ranges that collide, addresses that nobody could reach, and keys
//! whose feature is not yet built. Nothing is opened, looked up or created.

mod beyond;
mod forwards;
mod phones;
mod sides;
mod streams;
mod tls;
mod together;
mod turn;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use media::PortRange;
use nat::turn::Credentials;
use nat::{Access, Prefix, Side};
use net::datapath::{Datapath, Priority};
use net::dscp::Marks;
use net::transport::tls::Files;
use net::turn::Server;
use proxy::config::{Media, MediaKeepAlive, Role};
use wire::sip::Limits;

pub(crate) use forwards::Forwards;

use super::fault::{Fault, below};
use super::raw::{self, Raw};
use super::written::{self, HostPort, Wrong};

/// What must be known of the machine.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    /// It has IPv6.
    pub(crate) ipv6: bool,
    /// Processors, at least 1.
    pub(crate) processors: usize,
    /// Where state goes when nothing is written: the first that can be used.
    pub(crate) state_dirs: Vec<PathBuf>,
    /// The flag `--metrics-open`.
    pub(crate) metrics_open: bool,
}

/// A configuration that makes sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// What the signalling machine needs.
    pub(crate) proxy: Arc<proxy::Config>,
    /// Who may speak to us.
    pub(crate) access: Arc<Access>,
    /// The same as written: by prefix, and the lists of inner and outer.
    pub(crate) doors: (Vec<(Prefix, bool)>, [Vec<Prefix>; 2]),
    /// STUN servers of inner and outer.
    pub(crate) stun: [Vec<HostPort>; 2],
    /// What the router is asked for.
    pub(crate) forwards: Forwards,
    /// Where `/metrics` is served.
    pub(crate) metrics: SocketAddr,
    /// Where state is kept: the first that can be used.
    pub(crate) state_dirs: Vec<PathBuf>,
    /// A line is written for each call that has ended.
    pub(crate) call_records: bool,
    /// How packets are marked.
    pub(crate) marks: Marks,
    /// What forwards media.
    pub(crate) datapath: Datapath,
    /// What media workers are among other threads.
    pub(crate) priority: Priority,
    /// The files of certificates.
    pub(crate) tls: Files,
    /// The TURN server, and who we are there.
    pub(crate) turn: Option<(Server, Credentials)>,
    /// What handshakes use, once the files are read; `None` where nobody speaks TLS.
    pub(crate) certificates: Option<Arc<net::transport::tls::Settings>>,
    /// A far siplatch that the doctor asks what arrives.
    pub(crate) reflector: Option<HostPort>,
}

/// Idle pairs bound ahead per range; with STUN fewer, because every warm
/// socket costs the router a mapping (`ports` adds the running calls).
const RESERVE: usize = 16;
const RESERVE_STUN: usize = 2;

/// Resolves, or returns every fault. `spoiled` holds the keys that reading
/// has already complained about: what follows from these is not said again.
pub(crate) fn resolve(raw: &Raw, machine: &Machine, spoiled: &[String]) -> Result<Settings, Vec<Fault>> {
    let role = match (&raw.role, raw.upstream.is_empty()) {
        (Some(role), _) => written::role(role),
        (None, true) => Ok(Role::Standalone),
        (None, false) => Err((
            "with an [[upstream]] the role must be said".to_owned(),
            "write role = \"office\" or role = \"border\" at the top".to_owned(),
        )),
    };
    let role = match role {
        Ok(role) => role,
        Err((what, mend)) => return Err(vec![Fault { key: "role".to_owned(), what, mend }]),
    };
    let mut resolver = Resolver { raw, machine, role, spoiled, faults: Vec::new() };
    let settings = resolver.settings();
    resolver.faults.retain(|fault| !spoiled.iter().any(|key| below(&fault.key, key) || below(key, &fault.key)));
    if resolver.faults.is_empty() { Ok(settings) } else { Err(resolver.faults) }
}

struct Resolver<'a> {
    raw: &'a Raw,
    machine: &'a Machine,
    role: Role,
    spoiled: &'a [String],
    faults: Vec<Fault>,
}

impl Resolver<'_> {
    fn fault(&mut self, key: impl Into<String>, what: impl Into<String>, mend: impl Into<String>) {
        self.faults.push(Fault { key: key.into(), what: what.into(), mend: mend.into() });
    }

    /// A key that should be there. Silent when the same section has a fault
    /// of spelling, which is probably that key.
    fn missing(&mut self, section: &str, key: &str, mend: impl Into<String>) {
        let sibling = |other: &String| match section {
            "" => !other.contains(['.', '[']),
            section => other.strip_prefix(section).is_some_and(|rest| rest.starts_with('.')),
        };
        if !self.spoiled.iter().any(sibling) {
            let path = if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") };
            self.fault(path, "this is missing", mend);
        }
    }

    fn later(&mut self, key: impl Into<String>, mend: &str) {
        self.fault(key, "this is not yet built", mend);
    }

    fn take<T>(&mut self, key: &str, value: Result<T, Wrong>) -> Option<T> {
        value.map_err(|(what, mend)| self.fault(key, what, mend)).ok()
    }

    fn number(&mut self, key: &str, value: Option<i64>, default: i64, least: i64, most: i64) -> i64 {
        let value = value.unwrap_or(default);
        if !(least..=most).contains(&value) {
            self.fault(key, format!("{value} is out of bounds"), format!("write a number from {least} to {most}"));
            return default;
        }
        value
    }

    fn settings(&mut self) -> Settings {
        let (datapath, priority) = (self.datapath(), self.priority());
        let (upstreams, upstream_keys) = self.upstreams();
        let (networks, by_prefix) = self.networks();
        let doors = (by_prefix, [self.allowed(Side::Inner), self.allowed(Side::Outer)]);
        let mut listeners = Vec::new();
        let mut keys = Vec::new();
        let stun =
            [self.side(Side::Inner, &mut listeners, &mut keys), self.side(Side::Outer, &mut listeners, &mut keys)];
        let (media, range_keys) = self.media();
        let (phones, media, range_keys) = self.phones(media, range_keys, &mut listeners, &mut keys, &stun);
        self.unwritten(&mut listeners, &mut keys, &upstreams, &upstream_keys);
        self.collisions(&listeners, &keys, &media.ranges);
        self.reachable(&listeners, &keys, &upstreams, &networks);
        let tls = self.tls(&listeners, &keys);
        let turn = self.turn(&listeners);
        let users = self.users();
        let digest = self.digest();
        let limits = Limits {
            message_bytes: self.number("limits.message_bytes", self.raw.limits.message_bytes, 65_536, 1_200, 65_536)
                as usize,
            header_fields: self.number("limits.header_fields", self.raw.limits.header_fields, 256, 32, 4_096) as usize,
        };
        let metrics = self.metrics();
        let state_dirs = self.state_dirs();
        let call_records = self.raw.state.call_records.unwrap_or(true);
        let marks = self.marks();
        let names = self.names();
        let forwards = self.forwards(&listeners, &phones, &media, &range_keys);
        let proxy = proxy::Config {
            role: self.role,
            names,
            listeners,
            upstreams,
            networks,
            phones,
            users,
            digest,
            media,
            limits,
        };
        let access = Arc::new(Access::new(&doors.0, &doors.1));
        Settings {
            proxy: Arc::new(proxy),
            access,
            doors,
            stun,
            forwards,
            metrics,
            state_dirs,
            call_records,
            marks,
            datapath,
            priority,
            tls,
            turn,
            certificates: None,
            reflector: self.reflector(),
        }
    }

    fn datapath(&mut self) -> Datapath {
        let datapath = self.raw.media.datapath.as_deref().map_or(Ok(Datapath::Auto), written::datapath);
        self.take("media.datapath", datapath).unwrap_or(Datapath::Auto)
    }

    fn priority(&mut self) -> Priority {
        let priority = self.raw.media.priority.as_deref().map_or(Ok(Priority::Realtime), written::priority);
        self.take("media.priority", priority).unwrap_or(Priority::Realtime)
    }

    fn prefix(&mut self, key: &str, text: &str) -> Option<Prefix> {
        let value = text.parse::<Prefix>().map_err(|what| {
            (format!("\"{text}\": {what}"), "write an address with a prefix length, \"10.20.0.0/16\"".to_owned())
        });
        self.take(key, value)
    }

    fn media(&mut self) -> (Media, Vec<String>) {
        let raw = &self.raw.media;
        let text = raw.ports.as_deref().unwrap_or("30000-30999");
        let range = self.take("media.ports", written::ports(text, 2));
        let keepalive = raw.keepalive.as_deref().map_or(Ok(MediaKeepAlive::Stun), written::keepalive);
        let keepalive = self.take("media.keepalive", keepalive).unwrap_or(MediaKeepAlive::Stun);
        let timeout = self.number("media.timeout_s", raw.timeout_s, 60, 5, 86_400);
        let asks = |side: &Option<raw::Side>| side.as_ref().and_then(|side| side.advertise.as_deref()) == Some("stun");
        let office = self.role == Role::Office && self.raw.outer.as_ref().is_none_or(|side| side.advertise.is_none());
        let stun = office || asks(&self.raw.inner) || asks(&self.raw.outer);
        let media = Media {
            ranges: vec![range.unwrap_or(PortRange { first: 30_000, last: 30_999 })],
            keepalive,
            timeout: Duration::from_secs(timeout.unsigned_abs()),
            workers: u8::try_from(self.machine.processors.clamp(1, 64)).unwrap_or(1),
            reserve: if stun { RESERVE_STUN } else { RESERVE },
        };
        (media, vec!["media.ports".to_owned()])
    }

    fn marks(&mut self) -> Marks {
        let (raw, usual) = (&self.raw.dscp, Marks::default());
        let signalling = raw.signalling.as_deref().map_or(Ok(usual.signalling), written::dscp);
        let audio = raw.audio.as_deref().map_or(Ok(usual.audio), written::mark);
        let video = raw.video.as_deref().map_or(Ok(usual.video), written::mark);
        Marks {
            signalling: self.take("dscp.signalling", signalling).unwrap_or(usual.signalling),
            audio: self.take("dscp.audio", audio).unwrap_or(usual.audio),
            video: self.take("dscp.video", video).unwrap_or(usual.video),
        }
    }

    fn metrics(&mut self) -> SocketAddr {
        let text = self.raw.metrics.listen.as_deref().unwrap_or("127.0.0.1:9090");
        let fallback = SocketAddr::from(([127, 0, 0, 1], 9090));
        let value = text
            .parse::<SocketAddr>()
            .map_err(|_| (format!("\"{text}\" is not an address with a port"), "write \"127.0.0.1:9090\"".to_owned()));
        let Some(address) = self.take("metrics.listen", value) else { return fallback };
        if address.ip().is_unspecified() && !self.machine.metrics_open {
            let what = format!("{address} would show to everybody who calls when");
            let mend = "write \"127.0.0.1:9090\" or another single address; if a firewall stands in front, start with \
                        --metrics-open";
            self.fault("metrics.listen", what, mend);
        }
        address
    }

    fn reflector(&mut self) -> Option<HostPort> {
        let text = self.raw.doctor.as_ref()?.reflector.as_deref()?;
        self.take("doctor.reflector", written::host_port(text, 3478))
    }

    fn state_dirs(&mut self) -> Vec<PathBuf> {
        match self.raw.state.dir.as_deref() {
            None => self.machine.state_dirs.clone(),
            Some(dir) if dir.starts_with('/') => vec![PathBuf::from(dir)],
            Some(dir) => {
                let what = format!("\"{dir}\" would depend on where siplatch is started");
                self.fault("state.dir", what, "write the whole path, from the first /");
                self.machine.state_dirs.clone()
            }
        }
    }
}
