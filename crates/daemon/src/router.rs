//! The router beside the signalling loop: what it is asked for, and what is
//! shown of it. The talking is `net::portmap`'s, the deciding `nat::portmap`'s.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use nat::outside::Light;
use nat::portmap::{Choice, Finding, Row, Snapshot, State};
use net::portmap::{News, Order};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use wire::ListenerId;
use wire::portmap::Proto;

use crate::admin::Shared;
use crate::config::{Forwards, Settings};
use crate::edge;
use crate::log::{Pass, Throttle};
use crate::metrics::Metrics;
use crate::metrics::label::{self, Label as _, RouterFinding};
use crate::metrics::table::Name;
use crate::view::{Mapping, Router as Shown};

/// Lines per window for each kind of finding.
const LINES: u32 = 5;

/// Shared between the loop, the task that talks to the router, and the admin side.
#[derive(Debug)]
pub(crate) struct Router {
    orders: watch::Sender<Option<UnboundedSender<Order>>>,
    snapshot: watch::Sender<Snapshot>,
    /// What was seen from outside of public UDP ports.
    lights: watch::Sender<BTreeMap<u16, Light>>,
}

impl Default for Router {
    fn default() -> Self {
        let (orders, snapshot) = (watch::Sender::new(None), watch::Sender::new(Snapshot::default()));
        Self { orders, snapshot, lights: watch::Sender::new(BTreeMap::new()) }
    }
}

impl Router {
    fn order(&self, order: Order) {
        if let Some(orders) = &*self.orders.borrow() {
            // Refused only at the end, when nobody asks the router any more.
            let _ = orders.send(order);
        }
    }

    /// This is wanted from now on.
    pub(crate) fn configure(&self, forwards: &Forwards) {
        self.order(Order::Choose(forwards.choice));
        self.order(Order::Want(forwards.wants.clone()));
    }

    /// STUN servers see us at this address.
    pub(crate) fn seen(&self, ip: IpAddr) {
        if let IpAddr::V4(ip) = ip {
            self.order(Order::Seen(Some(ip)));
        }
    }

    /// What was seen from outside of a public port.
    pub(crate) fn light(&self, external: u16, light: Light) {
        if light == Light::Red {
            tracing::warn!(
                external,
                "the router says that the port is forwarded, and nothing comes through from outside"
            );
        } else {
            tracing::info!(external, outside = light.as_str(), "a forward was looked at from outside");
        }
        self.lights.send_modify(|lights| {
            lights.insert(external, light);
        });
    }

    /// All mappings are removed; the task ends.
    pub(crate) fn stop(&self) {
        self.order(Order::Stop);
    }

    fn light_of(&self, row: &Row) -> Light {
        let installed = matches!(row.state, State::Installed(_)) && row.want.proto == Proto::Udp;
        let lights = self.lights.borrow();
        installed.then(|| lights.get(&row.want.external).copied()).flatten().unwrap_or_default()
    }

    /// For the metrics.
    #[expect(clippy::cast_precision_loss, reason = "Prometheus counts in f64")]
    pub(crate) fn gauges(&self, metrics: &Metrics) {
        let snapshot = self.snapshot.borrow().clone();
        for state in label::Mapping::VALUES {
            let count = snapshot.rows.iter().filter(|row| label::Mapping::from(&row.state).label() == *state).count();
            metrics.set(Name::RouterMappings, &[state], count as f64);
        }
        let installed: Vec<Light> = snapshot
            .rows
            .iter()
            .filter(|row| matches!(row.state, State::Installed(_)))
            .map(|row| self.light_of(row))
            .collect();
        for light in label::Light::VALUES {
            let count = installed.iter().filter(|of| label::Light::from(**of).label() == *light).count();
            metrics.set(Name::RouterForwards, &[light], count as f64);
        }
    }

    /// For the status.
    pub(crate) fn status(&self, forwards: &Forwards, now: Instant) -> Option<Shown> {
        if forwards.choice == Choice::Off {
            return None;
        }
        let snapshot = self.snapshot.borrow().clone();
        let mut alarms = snapshot.alarms.clone();
        alarms.extend(forwards.left_out.iter().cloned());
        let mut mappings: Vec<Mapping> = Vec::new();
        let mut before: Option<Row> = None;
        for row in snapshot.rows {
            let ends_s = row.until.map(|until| until.saturating_duration_since(now).as_secs());
            let (external, outside) = (row.want.external.to_string(), self.light_of(&row).as_str().to_owned());
            let alike = before.as_ref().is_some_and(|before| follows(before, &row));
            match mappings.last_mut().filter(|last| alike && last.outside == outside) {
                Some(last) => {
                    let first = last.external.split('-').next().unwrap_or_default().to_owned();
                    last.external = format!("{first}-{external}");
                    last.count += 1;
                    last.ends_s = last.ends_s.min(ends_s);
                }
                None => mappings.push(Mapping {
                    of: row.want.name.clone(),
                    transport: row.want.proto.as_str().to_ascii_lowercase(),
                    external,
                    count: 1,
                    state: row.state.as_str().to_owned(),
                    why: why(&row.state),
                    ends_s,
                    outside,
                }),
            }
            before = Some(row);
        }
        Some(Shown {
            address: snapshot.gateway.map(|gateway| gateway.router.to_string()),
            protocol: snapshot.protocol.map(|protocol| protocol.as_str().to_owned()),
            external: snapshot.external.map(|external| external.to_string()),
            alarms,
            mappings,
        })
    }
}

/// They can share a line.
fn follows(before: &Row, row: &Row) -> bool {
    let (a, b) = (&before.want, &row.want);
    (&a.name, a.proto) == (&b.name, b.proto)
        && a.external.checked_add(1) == Some(b.external)
        && before.state.as_str() == row.state.as_str()
        && why(&before.state) == why(&row.state)
}

fn why(state: &State) -> Option<String> {
    match state {
        State::Waiting | State::Installed(_) => None,
        State::Conflict(owner) => Some(format!("the port belongs to {}", owner.as_deref().unwrap_or("somebody else"))),
        State::Refused(refusal) => Some(refusal.to_string()),
    }
}

/// Keeps the mappings until [`Router::stop`], then removes them.
pub(crate) async fn keep(shared: Arc<Shared>, seed: [u8; 32], edge: UnboundedSender<edge::Order>) {
    let (orders, receiver) = unbounded_channel();
    shared.router.orders.send_replace(Some(orders));
    shared.router.configure(&shared.settings().forwards);
    let mut throttle = Throttle::default();
    let mut forwards = Vec::new();
    let mut installed = (0, 0);
    net::portmap::run(seed, receiver, |news| match news {
        News::Finding(finding) => found(&shared.metrics, &mut throttle, &finding),
        News::Snapshot(snapshot) => {
            let leads = leads(&shared.settings(), &snapshot);
            if leads != forwards {
                // The loop may have ended before us.
                let _ = edge.send(edge::Order::Forwards(leads.clone()));
                forwards = leads;
            }
            let there = snapshot.rows.iter().filter(|row| matches!(row.state, State::Installed(_))).count();
            let counts = (there, snapshot.rows.len());
            if counts != installed && counts.0 == counts.1 && counts.0 > 0 {
                let protocol = snapshot.protocol.map(|protocol| protocol.as_str()).unwrap_or_default();
                tracing::info!(mappings = there, protocol, "the router forwards all ports that are wanted");
            }
            installed = counts;
            shared.router.snapshot.send_replace(snapshot);
        }
    })
    .await;
}

/// Signalling sockets that an installed mapping leads to.
fn leads(settings: &Settings, snapshot: &Snapshot) -> Vec<(ListenerId, u16)> {
    let all = settings.proxy.listeners.iter().zip(0..).filter(|(listener, _)| {
        listener.side == nat::Side::Outer && listener.transport == wire::Transport::Udp && !listener.retired
    });
    all.filter_map(|(listener, id)| {
        let leads = |row: &&Row| {
            matches!(row.state, State::Installed(_))
                && (row.want.proto, row.want.internal) == (Proto::Udp, listener.bind.port())
        };
        snapshot.rows.iter().find(leads).map(|row| (ListenerId(id), row.want.external))
    })
    .collect()
}

fn found(metrics: &Metrics, throttle: &mut Throttle, finding: &Finding) {
    let kind = RouterFinding::from(finding).label();
    metrics.count(Name::RouterFindings, &[kind]);
    match throttle.pass(net::clock::now(), kind, LINES) {
        Pass::Write(held) => tracing::warn!(held, "router: {finding}"),
        Pass::Hold => metrics.count(Name::LogSuppressed, &[]),
    }
}
