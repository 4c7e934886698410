//! What `siplatch status` shows: a copy of the view at one moment, as JSON
//! between the processes and as tables for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Instant;

use nat::Side;
use registry::{CallKind, CallState};
use serde::{Deserialize, Serialize};
use wire::{Flow, ListenerId};

use super::{View, relayed};
use crate::config::Settings;
use crate::metrics::label::Label as _;

/// The whole status.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) version: String,
    pub(crate) role: String,
    pub(crate) uptime_s: u64,
    pub(crate) troubles: Vec<String>,
    /// Registered phones that stand in each other's way.
    pub(crate) collisions: Vec<String>,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) upstreams: Vec<Upstream>,
    pub(crate) phones: Vec<Phone>,
    pub(crate) flows: Vec<FlowRow>,
    pub(crate) calls: Vec<Call>,
    pub(crate) ports: Vec<Ports>,
    /// What the router holds for us; `None` where it is left alone.
    pub(crate) router: Option<Router>,
    /// The TURN server, and whether media goes through it; `None` where there is none.
    #[serde(default)]
    pub(crate) turn: Option<String>,
    /// The last reload of the configuration, if there was one.
    pub(crate) reload: Option<Reload>,
}

/// A reload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reload {
    pub(crate) ago_s: u64,
    /// Applied; else nothing has changed.
    pub(crate) applied: bool,
    /// What changed, or why nothing did.
    pub(crate) lines: Vec<String>,
}

/// The router.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Router {
    /// Its address on our side.
    pub(crate) address: Option<String>,
    /// PCP, NAT-PMP or UPnP, once it is known.
    pub(crate) protocol: Option<String>,
    /// Its public address, as it says.
    pub(crate) external: Option<String>,
    /// What is wrong, each in a sentence.
    pub(crate) alarms: Vec<String>,
    pub(crate) mappings: Vec<Mapping>,
}

/// Mappings that stand side by side and fare alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mapping {
    /// What they are for.
    pub(crate) of: String,
    /// udp or tcp.
    pub(crate) transport: String,
    /// A public port, or the first and the last.
    pub(crate) external: String,
    /// How many.
    pub(crate) count: usize,
    /// waiting, installed, conflict or refused.
    pub(crate) state: String,
    /// Whose the port is, or why it is refused.
    pub(crate) why: Option<String>,
    /// When the first of them ends, if it is not renewed.
    pub(crate) ends_s: Option<u64>,
    /// What a stranger outside sees: green, red or unknown.
    pub(crate) outside: String,
}

/// A signalling socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Listener {
    pub(crate) side: String,
    pub(crate) transport: String,
    pub(crate) bind: String,
    pub(crate) open: bool,
    pub(crate) trouble: Option<String>,
    /// The address that had to be found, and how it was.
    pub(crate) found: Option<String>,
    pub(crate) by: Option<String>,
}

/// A next hop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Upstream {
    pub(crate) uri: String,
    /// `None` until the first ping was answered or missed; then up, returning, silent, busy or down.
    pub(crate) state: Option<String>,
    /// By which transport it is reached, where it has several.
    #[serde(default)]
    pub(crate) transport: Option<String>,
}

/// A binding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Phone {
    pub(crate) aor: String,
    pub(crate) name: Option<String>,
    pub(crate) contact: String,
    pub(crate) source: String,
    pub(crate) behind_nat: bool,
    pub(crate) gone: bool,
    pub(crate) expires_s: u64,
    pub(crate) user_agent: String,
}

/// A signalling association, and how many phones share it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FlowRow {
    pub(crate) side: String,
    pub(crate) transport: String,
    pub(crate) local: String,
    pub(crate) remote: String,
    pub(crate) phones: usize,
}

/// A call, one pass of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Call {
    pub(crate) id: String,
    pub(crate) state: CallState,
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) phone: Option<String>,
    pub(crate) since_s: u64,
    pub(crate) answered_s: Option<u64>,
    pub(crate) streams: Vec<Stream>,
}

/// A media stream of a call: caller's leg, callee's leg.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stream {
    pub(crate) worker: u8,
    pub(crate) caller: Leg,
    pub(crate) callee: Leg,
}

/// One leg. Figures are up to 5 s old.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Leg {
    /// Where its media comes from.
    pub(crate) source: Option<String>,
    pub(crate) packets_in: u64,
    pub(crate) packets_out: u64,
    pub(crate) refused: u64,
}

/// A pool of port pairs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ports {
    pub(crate) range: String,
    pub(crate) phone: Option<String>,
    pub(crate) address: String,
    pub(crate) total: usize,
    pub(crate) free: usize,
    pub(crate) idle: usize,
    pub(crate) live: usize,
    pub(crate) resting: usize,
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().filter(|c| !c.is_control()).collect()
}

fn seconds(from: Instant, to: Instant) -> u64 {
    to.saturating_duration_since(from).as_secs()
}

impl View {
    /// The status at `now` of a daemon that began at `began`.
    pub(crate) fn status(&self, settings: &Settings, began: Instant, now: Instant) -> Status {
        let config = &settings.proxy;
        let name = |phone: Option<usize>| phone.and_then(|at| config.phones.get(at)).map(|phone| phone.name.clone());
        let mut phones = Vec::new();
        let mut flows: BTreeMap<(Side, Flow), usize> = BTreeMap::new();
        for binding in &self.bindings {
            *flows.entry((config.side(binding.flow.get().listener), binding.flow.get())).or_default() += 1;
            if let Some(upstream) = binding.upstream.as_deref().copied() {
                *flows.entry((config.side(upstream.listener), upstream)).or_default() += 1;
            }
            phones.push(Phone {
                aor: text(binding.aor()),
                name: name(binding.phone),
                contact: text(binding.contact()),
                source: binding.flow.get().remote.to_string(),
                behind_nat: binding.natted,
                gone: binding.gone(),
                expires_s: seconds(now, binding.expires),
                user_agent: text(binding.said().user_agent),
            });
        }
        phones.sort_by(|a, b| (&a.aor, &a.source).cmp(&(&b.aor, &b.source)));
        let flows = flows.into_iter().map(|((side, flow), phones)| FlowRow {
            side: side.as_str().to_owned(),
            transport: flow.transport.via().to_ascii_lowercase(),
            local: flow.local.to_string(),
            remote: flow.remote.to_string(),
            phones,
        });
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            role: config.role.as_str().to_owned(),
            uptime_s: seconds(began, now),
            troubles: self.troubles(config),
            collisions: self.collisions().iter().map(ToString::to_string).collect(),
            listeners: self.listeners_now(config),
            upstreams: self.upstreams_now(config),
            phones,
            flows: flows.collect(),
            calls: self.calls_now(&name, now),
            ports: self.ports_now(config),
            router: None,
            turn: settings.turn.as_ref().map(|(server, _)| format!("{server}, {}", relayed(&self.turn_row()))),
            reload: None,
        }
    }

    fn listeners_now(&self, config: &proxy::Config) -> Vec<Listener> {
        let open = |listener: &proxy::config::Listener| listener.accepts && !listener.retired;
        let all = config.listeners.iter().enumerate().filter(|(_, listener)| open(listener));
        all.map(|(index, listener)| {
            let row = u16::try_from(index).map(|id| self.listener_row(ListenerId(id))).unwrap_or_default();
            Listener {
                side: listener.side.as_str().to_owned(),
                transport: listener.transport.via().to_ascii_lowercase(),
                bind: listener.bind.to_string(),
                open: row.bound,
                trouble: row.trouble,
                by: row.found.map(|_| row.by.to_owned()),
                found: row.found.map(|address| address.to_string()),
            }
        })
        .collect()
    }

    fn upstreams_now(&self, config: &proxy::Config) -> Vec<Upstream> {
        let all = config.upstreams.iter().enumerate();
        all.map(|(index, upstream)| Upstream {
            uri: upstream.uri(),
            state: self.upstreams.get(&index).map(|state| state.label().to_owned()),
            transport: self.transport(index).map(|transport| transport.label().to_owned()),
        })
        .collect()
    }

    fn calls_now(&self, name: &impl Fn(Option<usize>) -> Option<String>, now: Instant) -> Vec<Call> {
        let mut calls: Vec<Call> = self
            .calls
            .iter()
            .filter(|row| row.kind == CallKind::Invite)
            .map(|row| Call {
                id: row.key().to_string(),
                state: row.state,
                from: text(&row.from),
                to: text(row.to.as_deref().unwrap_or_default()),
                phone: name(row.phone),
                since_s: seconds(row.since, now),
                answered_s: row.answered.map(|at| seconds(at, now)),
                streams: row.streams.iter().map(|stream| self.stream_now(*stream)).collect(),
            })
            .collect();
        calls.sort_by(|a, b| b.since_s.cmp(&a.since_s).then_with(|| a.id.cmp(&b.id)));
        calls
    }

    fn stream_now(&self, stream: media::StreamId) -> Stream {
        let row = self.streams.get(&stream).map(|row| row.clone()).unwrap_or_default();
        let counts = row.legs.as_deref().copied().unwrap_or_default();
        let leg = |end: usize| Leg {
            source: row.sources[end].map(|source| std::net::SocketAddr::from(source).to_string()),
            packets_in: counts[end].packets_in,
            packets_out: counts[end].packets_out,
            refused: counts[end].refused,
        };
        Stream { worker: stream.worker, caller: leg(0), callee: leg(1) }
    }

    fn ports_now(&self, config: &proxy::Config) -> Vec<Ports> {
        let mut ports: Vec<Ports> = self
            .ports
            .iter()
            .filter_map(|row| {
                let (ip, range) = *row.key();
                let bounds = config.media.ranges.get(usize::from(range))?;
                let owner = config.phones.iter().find(|phone| phone.range.is_some_and(|own| own.0 == range));
                Some(Ports {
                    range: format!("{}-{}", bounds.first, bounds.last),
                    phone: owner.map(|phone| phone.name.clone()),
                    address: ip.to_string(),
                    total: row.total,
                    free: row.free,
                    idle: row.idle,
                    live: row.live,
                    resting: row.resting,
                })
            })
            .collect();
        ports.sort_by(|a, b| (&a.range, &a.address).cmp(&(&b.range, &b.address)));
        ports
    }
}

impl Status {
    /// Tables for people.
    pub(crate) fn tables(&self) -> String {
        let mut page = format!("siplatch {}, {}, up for {}\n", self.version, self.role, span(self.uptime_s));
        for trouble in &self.troubles {
            let _ = writeln!(page, "trouble: {trouble}");
        }
        for collision in &self.collisions {
            let _ = writeln!(page, "collision: {collision}");
        }
        if let Some(reload) = &self.reload {
            page.push_str(&reload.text());
        }
        if let Some(turn) = &self.turn {
            let _ = writeln!(page, "TURN: {turn}");
        }
        let rows = self.listeners.iter().map(|listener| {
            let state = match (&listener.found, listener.open) {
                (_, false) => "not open".to_owned(),
                (Some(found), true) => format!("is {found} by {}", listener.by.as_deref().unwrap_or("configuration")),
                (None, true) => "open".to_owned(),
            };
            vec![listener.side.clone(), listener.transport.clone(), listener.bind.clone(), state]
        });
        table(&mut page, "listeners", &["side", "transport", "address", "state"], rows);
        let rows = self.upstreams.iter().map(|upstream| {
            let state = match upstream.state.as_deref() {
                Some("up") => "answers",
                Some("returning") => "answers again, not yet first choice",
                Some("silent") => "does not answer pings; in use all the same",
                Some("busy") => "asked for a pause",
                Some("down") => "down",
                Some(_) | None => "not yet asked",
            };
            let state = match upstream.transport.as_deref() {
                Some(transport) => format!("{state}, by {transport}"),
                None => state.to_owned(),
            };
            vec![upstream.uri.clone(), state]
        });
        table(&mut page, "upstreams", &["uri", "state"], rows);
        if let Some(router) = &self.router {
            router.text(&mut page);
        }
        let rows = self.phones.iter().map(|phone| {
            let state = match (phone.gone, phone.behind_nat) {
                (true, _) => "gone",
                (false, true) => "behind NAT",
                (false, false) => "direct",
            };
            let name = phone.name.clone().unwrap_or_default();
            let (expires, agent) = (span(phone.expires_s), phone.user_agent.clone());
            vec![phone.aor.clone(), name, phone.source.clone(), state.to_owned(), expires, agent]
        });
        table(&mut page, "phones", &["address of record", "name", "from", "state", "expires", "user agent"], rows);
        let rows = self.flows.iter().map(|flow| {
            let (local, remote) = (flow.local.clone(), flow.remote.clone());
            vec![flow.side.clone(), flow.transport.clone(), local, remote, flow.phones.to_string()]
        });
        table(&mut page, "flows", &["side", "transport", "local", "remote", "phones"], rows);
        let rows = self.calls.iter().map(|call| {
            let state = match call.state {
                CallState::Early => "rings",
                CallState::Confirmed => "answered",
                CallState::Ending => "ends",
            };
            let media: Vec<String> = call
                .streams
                .iter()
                .map(|stream| {
                    let [caller, callee] = [&stream.caller, &stream.callee].map(|leg| leg.packets_in);
                    format!("{caller}/{callee}")
                })
                .collect();
            let lasts = span(call.answered_s.unwrap_or(call.since_s));
            vec![call.id.clone(), state.to_owned(), lasts, call.from.clone(), call.to.clone(), media.join(" ")]
        });
        table(&mut page, "calls", &["id", "state", "for", "from", "to", "packets caller/callee"], rows);
        let rows = self.ports.iter().map(|ports| {
            let whose = ports.phone.clone().unwrap_or_else(|| "all".to_owned());
            let figures = [ports.free, ports.live, ports.resting, ports.total].map(|figure| figure.to_string());
            [ports.range.clone(), ports.address.clone(), whose].into_iter().chain(figures).collect()
        });
        table(&mut page, "port pairs", &["range", "address", "of", "free", "live", "resting", "total"], rows);
        page
    }
}

impl Router {
    fn text(&self, page: &mut String) {
        let address = self.address.as_deref().unwrap_or("none found");
        let external = self.external.as_deref().unwrap_or("not known");
        let protocol = self.protocol.as_deref().unwrap_or("no answer yet");
        let _ = writeln!(page, "\nrouter: {address}, {protocol}, public address {external}");
        for alarm in &self.alarms {
            let _ = writeln!(page, "  ALARM: {alarm}");
        }
        let rows = self.mappings.iter().map(|mapping| {
            let state = match &mapping.why {
                Some(why) => format!("{}: {why}", mapping.state),
                None => mapping.state.clone(),
            };
            let ends = mapping.ends_s.map(|ends| format!("in {}", span(ends))).unwrap_or_default();
            let (of, transport, external) = (mapping.of.clone(), mapping.transport.clone(), mapping.external.clone());
            vec![of, transport, external, mapping.outside.clone(), ends, state]
        });
        let head = ["for", "transport", "public port", "from outside", "ends", "state"];
        table(page, "port mappings", &head, rows);
    }
}

impl Reload {
    fn text(&self) -> String {
        let ago = span(self.ago_s);
        let mut text = match (self.applied, self.lines.is_empty()) {
            (true, true) => format!("last reload: {ago} ago, nothing had changed\n"),
            (true, false) => format!("last reload: {ago} ago\n"),
            (false, _) => format!("last reload: {ago} ago, REFUSED; what ran before still runs\n"),
        };
        for line in &self.lines {
            let _ = writeln!(text, "  {line}");
        }
        text
    }
}

/// A table whose columns are as wide as their widest cell; nothing but its
/// title when there are no rows.
fn table(page: &mut String, title: &str, head: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let rows: Vec<Vec<String>> = rows.collect();
    if rows.is_empty() {
        let _ = writeln!(page, "\n{title}: none");
        return;
    }
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(head.get(column).map(|cell| cell.chars().count())).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let _ = writeln!(page, "\n{title}: {}", rows.len());
    let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    for row in std::iter::once(&head).chain(&rows) {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        let _ = writeln!(page, "  {}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}

fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}
