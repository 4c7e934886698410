//! The way to the media workers and to the port pairs: orders go down with
//! their sockets, sockets come back, and whoever holds a socket is known at
//! every moment.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use media::ports::Event;
use media::relay::KeepAlive;
use media::{Command, Fact, LegPlan, PortPair, StreamId, ports};
use nat::Side;
use nat::discovery::Discovery;
use net::datapath::{Config, Report, StreamSockets, WorkerHandle, spawn_workers};
use net::ports::QUIET;
use net::turn::{self, Client};
use net::{Ports, Splices, entropy, splice};
use proxy::config::MediaKeepAlive;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::stun;
use crate::config::Settings;
use crate::view::View;

/// How often a silent leg is kept alive.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// Descriptors for everything but streams: listeners, idle and resting pairs, the admin side.
const OTHER_DESCRIPTORS: u64 = 512;

/// The share of what is left that TCP media may have.
const SPLICES: u64 = 16;

/// Workers, idle pairs, and the pairs that streams hold.
#[derive(Debug)]
pub(super) struct Relay {
    workers: Vec<WorkerHandle>,
    /// What TCP streams have beside their sockets.
    splices: Splices,
    reports: UnboundedReceiver<Report>,
    /// IPv4 and IPv6, because their STUN servers differ.
    ports: [Ports; 2],
    /// Pairs of each stream, and whether a peer may send to them when it is over.
    streams: BTreeMap<StreamId, [(PortPair, bool); 2]>,
    /// What the signalling machine must hear of orders that could not be carried out.
    failures: Vec<Failure>,
}

/// An order failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// A stream.
    Stream(StreamId),
    /// A pair that is not there.
    Pair(PortPair),
}

impl Relay {
    /// Starts the workers. Fails when threads or descriptors cannot be had.
    pub(super) fn start(settings: &Settings, descriptors: u64, view: &View) -> io::Result<Self> {
        let media = &settings.proxy.media;
        let keepalive = match media.keepalive {
            MediaKeepAlive::Stun => KeepAlive::Stun,
            MediaKeepAlive::Rtp => KeepAlive::Rtp,
            MediaKeepAlive::Off => KeepAlive::Off,
        };
        let left = descriptors.saturating_sub(OTHER_DESCRIPTORS);
        let splices = (left / SPLICES / splice::DESCRIPTORS).max(1);
        let left = left.saturating_sub(splices * splice::DESCRIPTORS);
        let streams = left / 4 / u64::from(media.workers.max(1));
        let streams = u32::try_from(streams.max(1)).unwrap_or(u32::MAX);
        let (sender, reports) = unbounded_channel();
        let mut addresses: Vec<IpAddr> = settings.proxy.listeners.iter().map(|listener| listener.bind.ip()).collect();
        addresses.sort_unstable();
        addresses.dedup();
        let (marks, datapath, priority) = (settings.marks, settings.datapath, settings.priority);
        let config = Config { keepalive, keepalive_interval: KEEPALIVE, streams, marks, datapath, addresses, priority };
        let workers = spawn_workers(media.workers, &config, &sender)?;
        let splices =
            Splices::new(usize::try_from(splices).unwrap_or(usize::MAX), settings.marks.audio.first(), sender);
        for worker in &workers {
            view.worker(worker.worker(), true);
            view.kernel(worker.in_kernel());
        }
        let ports = || {
            let discovery = Discovery::new(stun::config(settings, Side::Outer), entropy::seed()?);
            Ports::new(discovery, QUIET, settings.marks.audio)
        };
        let ports = [ports()?, ports()?];
        Ok(Self { workers, splices, reports, ports, streams: BTreeMap::new(), failures: Vec::new() })
    }

    fn family(&mut self, pair: PortPair) -> &mut Ports {
        &mut self.ports[usize::from(pair.ip.is_ipv6())]
    }

    /// The STUN servers that idle pairs ask.
    pub(super) fn set_servers(&mut self, now: Instant, stun: &stun::Stun) {
        for (ports, ipv4) in self.ports.iter_mut().zip([true, false]) {
            ports.set_servers(now, stun.family(ipv4));
        }
    }

    /// Our public address has changed: idle pairs ask for theirs.
    pub(super) fn doubt(&mut self, now: Instant) {
        self.ports.iter_mut().for_each(|ports| ports.doubt(now));
    }

    /// Idle pairs ask other servers, and believe what the configuration allows.
    pub(super) fn reconfigure(&mut self, now: Instant, settings: &Settings, stun: &stun::Stun) {
        for ports in &mut self.ports {
            ports.accept_private(stun::config(settings, Side::Outer).accept_private);
        }
        self.set_servers(now, stun);
    }

    /// From now on pairs that advertise by STUN have allocations on a TURN server, or none.
    pub(super) fn set_turn(&mut self, now: Instant, turn: Option<&Arc<Client>>) {
        for ports in &mut self.ports {
            ports.set_turn(now, turn);
        }
    }

    /// Allocations have come, or gone.
    pub(super) fn turned(&mut self, report: &turn::Report) {
        for ports in &mut self.ports {
            ports.turned(report);
        }
    }

    /// Pairs that have allocations now.
    pub(super) fn allocated(&self) -> usize {
        self.ports.iter().map(Ports::allocated).sum()
    }

    /// Those whom a leg may hear must have permission on the TURN server, if it has one.
    fn permit(&mut self, legs: &[LegPlan; 2]) {
        for leg in legs {
            let peers = || {
                let targets = [leg.target, leg.sources.exact].into_iter().flatten();
                let targets = targets.flat_map(|target| [target.rtp().ip(), target.rtcp().ip()]);
                let mut peers: Vec<IpAddr> = targets.chain(leg.sources.ips.into_iter().flatten()).collect();
                peers.sort_unstable();
                peers.dedup();
                peers
            };
            self.family(leg.pair).permit(leg.pair, peers);
        }
    }

    /// Does what the port plan asks.
    pub(super) fn plan(&mut self, now: Instant, command: ports::Command) {
        let (ports::Command::Bind { pair, discover: _ } | ports::Command::Unbind { pair }) = command;
        self.family(pair).handle_input(now, command);
    }

    /// Gives an order to the worker that it is for, which begins with it at the next [`deliver`](Self::deliver).
    pub(super) fn order(&mut self, now: Instant, command: Command) {
        self.splices.handle(&command);
        match &command {
            Command::Splice { .. } => {}
            Command::Open { stream, epoch: _, legs, timeout: _ } => {
                let (stream, pairs) = (*stream, [legs[0].pair, legs[1].pair]);
                // Before packets can want it: what goes to a peer without permission is lost.
                self.permit(legs);
                self.open(now, stream, pairs, command);
            }
            Command::Update { stream, legs, .. } => {
                let stream = *stream;
                self.permit(legs);
                self.tell(stream, command);
            }
            Command::Carry { stream, proto: _ }
            | Command::Formats { stream, formats: _ }
            | Command::Replace { stream, end: _ }
            | Command::Ask { stream, .. }
            | Command::Part { stream }
            | Command::Join { a: (stream, _), b: _ } => self.tell(*stream, command),
            Command::Close { stream, told } => {
                let (stream, told) = (*stream, *told);
                if let Some(pairs) = self.streams.get_mut(&stream) {
                    pairs[0].1 = told[0];
                    pairs[1].1 = told[1];
                }
                self.tell(stream, command);
            }
        }
    }

    /// Has the workers begin with their orders.
    pub(super) fn deliver(&self) {
        self.workers.iter().for_each(WorkerHandle::deliver);
    }

    /// A worker that has ended says so itself, and its streams fail then.
    fn tell(&self, stream: StreamId, command: Command) {
        let _told = self.workers.get(usize::from(stream.worker)).is_some_and(|worker| worker.tell(command));
    }

    fn open(&mut self, now: Instant, stream: StreamId, pairs: [PortPair; 2], command: Command) {
        let [a, b] = pairs.map(|pair| self.family(pair).take(now, pair));
        let (a, b) = match (a, b) {
            (Some(a), Some(b)) => (a, b),
            (a, b) => {
                self.failures.push(Failure::Stream(stream));
                for (pair, sockets) in pairs.into_iter().zip([a, b]) {
                    match sockets {
                        Some(sockets) => self.family(pair).rest(now, pair, sockets, true),
                        None => self.failures.push(Failure::Pair(pair)),
                    }
                }
                return;
            }
        };
        let ([a_rtp, a_rtcp], [b_rtp, b_rtcp]) = (a, b);
        self.streams.insert(stream, pairs.map(|pair| (pair, false)));
        let sockets = [a_rtp, a_rtcp, b_rtp, b_rtcp];
        let Some(worker) = self.workers.get(usize::from(stream.worker)) else {
            tracing::error!(?stream, "there is no such media worker");
            self.rest(now, stream, sockets, [true; 2]);
            self.failures.push(Failure::Stream(stream));
            return;
        };
        if let Err(undelivered) = worker.open(command, sockets) {
            tracing::error!(worker = stream.worker, streams = worker.streams(), "media worker is full");
            self.rest(now, stream, undelivered.sockets, [true; 2]);
            self.failures.push(Failure::Stream(stream));
        }
    }

    /// Sockets of a stream are back.
    pub(super) fn rest(&mut self, now: Instant, stream: StreamId, sockets: StreamSockets, used: [bool; 2]) {
        let Some([(a, a_told), (b, b_told)]) = self.streams.remove(&stream) else { return };
        let [a_rtp, a_rtcp, b_rtp, b_rtcp] = sockets;
        self.family(a).rest(now, a, [a_rtp, a_rtcp], used[0] || a_told);
        self.family(b).rest(now, b, [b_rtp, b_rtcp], used[1] || b_told);
    }

    /// A worker has ended, and with it what it held.
    pub(super) fn stopped(&mut self, worker: u8) {
        let lost: Vec<StreamId> = self.streams.keys().copied().filter(|stream| stream.worker == worker).collect();
        for stream in lost {
            self.streams.remove(&stream);
            self.failures.push(Failure::Stream(stream));
        }
    }

    /// The next order that could not be carried out.
    pub(super) fn poll_failure(&mut self) -> Option<Failure> {
        (!self.failures.is_empty()).then(|| self.failures.remove(0))
    }

    /// The next thing to tell the port plan.
    pub(super) fn poll_event(&mut self) -> Option<Event> {
        self.ports.iter_mut().find_map(Ports::poll_output)
    }

    /// The next thing that the pairs' discovery noticed.
    pub(super) fn poll_finding(&mut self) -> Option<nat::discovery::Finding> {
        self.ports.iter_mut().find_map(Ports::poll_finding)
    }

    /// The next report of a worker.
    pub(super) fn poll_report(&mut self, cx: &mut Context<'_>) -> Option<Report> {
        match self.reports.poll_recv(cx) {
            Poll::Ready(report) => report,
            Poll::Pending => None,
        }
    }

    /// A further report, if one is there already.
    pub(super) fn next_report(&mut self) -> Option<Report> {
        self.reports.try_recv().ok()
    }

    /// True when an idle or resting pair has something to read.
    pub(super) fn poll_ready(&self, cx: &mut Context<'_>) -> bool {
        // Both are asked, so that both wake the loop.
        let [v4, v6] = [&self.ports[0], &self.ports[1]].map(|ports| ports.poll_ready(cx).is_ready());
        v4 || v6
    }

    /// Reads what idle and resting pairs have got.
    pub(super) fn receive(&mut self, now: Instant) {
        for ports in &mut self.ports {
            ports.receive(now);
        }
    }

    /// Does what is due; true when that was something, and pairs may be ready that were not asked meanwhile.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> bool {
        let mut due = false;
        for ports in &mut self.ports {
            if ports.poll_timeout().is_some_and(|at| at <= now) {
                ports.handle_timeout(now);
                due = true;
            }
        }
        due
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.ports.iter().filter_map(Ports::poll_timeout).min()
    }

    /// Stops the workers and waits for their end.
    pub(super) fn stop(self) {
        for worker in self.workers {
            worker.stop();
        }
    }
}

impl Failure {
    /// What the signalling machine is told.
    pub(super) fn input(self) -> proxy::Input<'static> {
        match self {
            Self::Stream(stream) => proxy::Input::Fact(Fact::Failed { stream }),
            Self::Pair(pair) => proxy::Input::Ports(Event::Refused { pair }),
        }
    }
}
