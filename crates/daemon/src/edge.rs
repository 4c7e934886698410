//! The signalling loop: one thread, one machine. Drain all outputs; sleep until
//! the earliest deadline or an input; take one batch; drain again.
//!
//! What the machines want is done in their order, so a port is always open
//! before the message that names it leaves. Decides nothing about SIP.

mod budget;
mod corners;
mod journal;
mod lookup;
mod pressure;
mod relay;
mod reload;
mod sockets;
mod streams;
mod stun;
mod turn;
mod uplink;
mod watchers;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use nat::{Outside, Side, discovery, outside};
use net::datapath::Report;
use net::transport::Readiness;
use net::transport::{Census, Streams};
use net::{Alarm, clock, entropy};
use proxy::config::Role;
use proxy::{Input, MethodLabel, Observed, Output, Proxy};
use registry::Record;
use tokio::sync::mpsc::UnboundedReceiver;
use wire::demux::{self, Signalling};
use wire::stun::Kind;
use wire::{Flow, ListenerId, Transmit, Transport};

use crate::admin::Shared;
use crate::config::Settings;
use crate::metrics::label::{Datagram, Finding, Label as _, Lookup};
use crate::metrics::table::Name;
use crate::record::Records;
use crate::store::Store;
use crate::view::asks;
use budget::Budget;
use corners::Corners;
use journal::Journal;
use lookup::{Answer, Lookups};
use pressure::Pressure;
use relay::Relay;
pub(crate) use reload::Prepared;
use sockets::Sockets;
use stun::Stun;
use turn::Turn;
use uplink::Uplink;
use watchers::Watchers;
pub(crate) use watchers::{News, Watch};

/// How long a silent STUN server may hold the banner.
const STUN_PATIENCE: Duration = Duration::from_secs(2);
/// How long calls have to end at stop.
const STOP_PATIENCE: Duration = Duration::from_secs(2);
/// Reports of workers taken in one turn.
const REPORTS: usize = 256;
/// Rounds of sending in one turn; a message that fails may cause another.
const ROUNDS: usize = 64;

/// What the rest of the program tells the loop.
#[derive(Debug)]
pub(crate) enum Order {
    /// Another configuration.
    Reload(Box<Prepared>),
    /// Tell somebody what is said in some calls.
    Watch(Box<Watch>),
    /// Mappings of the router that lead to these sockets, by their public ports.
    Forwards(Vec<(ListenerId, u16)>),
    /// Whoever had this name no longer wants to know.
    Unwatch(u64),
    /// End all calls, then return.
    Stop,
}

/// What the loop begins with.
#[derive(Debug)]
pub(crate) struct Begin {
    /// The key for tokens.
    pub(crate) token_key: [u8; 32],
    /// Where bindings and calls are kept.
    pub(crate) store: Store,
    /// What is written down of calls.
    pub(crate) records: Records,
    /// What an earlier process left.
    pub(crate) restored: Vec<Record>,
    /// How many descriptors there may be.
    pub(crate) descriptors: u64,
    /// Orders of the rest of the program.
    pub(crate) orders: UnboundedReceiver<Order>,
}

/// What woke the loop.
#[derive(Debug, Default)]
struct Wake {
    sockets: Vec<(usize, Readiness)>,
    stream: Option<net::transport::Event>,
    ports: bool,
    corners: bool,
    report: Option<Report>,
    turn: Option<net::turn::Report>,
    answer: Option<Answer>,
    interval: Option<Duration>,
    order: Option<Order>,
}

struct Edge<B> {
    shared: Arc<Shared>,
    /// What counts now.
    settings: Arc<Settings>,
    proxy: Proxy,
    sockets: Sockets,
    streams: Streams,
    census: Census,
    /// Requests in progress and their octets, as last told.
    requests: (usize, usize),
    stun: Stun,
    outside: Outside,
    relay: Relay,
    turn: Turn,
    store: Store,
    records: Records,
    alarm: Alarm,
    orders: UnboundedReceiver<Order>,
    lookups: Lookups,
    uplink: Uplink,
    /// What the machine must hear next.
    inputs: VecDeque<Input<'static>>,
    budget: Budget,
    /// A border with two addresses tells others of their NATs.
    corners: Option<Corners>,
    journal: Journal,
    /// Called once, when the banner is due.
    begun: Option<B>,
    patience: Instant,
    stop: Option<Instant>,
    farewell: Farewell,
    watchers: Watchers,
    lag: Lag,
    pressure: Pressure,
}

/// How long a message may have waited: since the loop last had nothing to do.
#[derive(Debug, Default)]
struct Lag {
    idle: Option<Instant>,
    told: Duration,
}

/// The machine hears of a lag in such steps.
const LAG_STEP: Duration = Duration::from_millis(50);

/// Requests that end calls at stop, and final responses that came since.
#[derive(Debug, Default)]
struct Farewell {
    asked: usize,
    answered: usize,
}

/// Runs until told to stop. `begun` is called once, as soon as it is known what
/// works and what does not. Must be called inside a current-thread runtime.
pub(crate) async fn run(shared: Arc<Shared>, begin: Begin, begun: impl FnOnce()) -> io::Result<()> {
    let now = clock::now();
    let settings = &shared.settings();
    let mut edge = Edge {
        proxy: Proxy::new(now, Arc::clone(&settings.proxy), begin.token_key, entropy::seed()?),
        sockets: Sockets::new(now, &settings.proxy.listeners),
        streams: Streams::new(streams::settings(settings, begin.descriptors))?,
        census: Census::default(),
        requests: (0, 0),
        stun: Stun::new(now, settings, entropy::seed)?,
        outside: Outside::new(entropy::seed()?),
        relay: Relay::start(settings, begin.descriptors, &shared.view)?,
        turn: Turn::new(),
        store: begin.store,
        records: begin.records,
        alarm: Alarm::new()?,
        orders: begin.orders,
        lookups: Lookups::new(),
        uplink: Uplink::new(),
        inputs: VecDeque::from([Input::Restore(begin.restored)]),
        budget: Budget::default(),
        corners: Corners::open(&settings.proxy, settings.marks.signalling),
        journal: Journal::default(),
        begun: Some(begun),
        patience: now + STUN_PATIENCE,
        stop: None,
        farewell: Farewell::default(),
        watchers: Watchers::default(),
        lag: Lag::default(),
        pressure: Pressure::default(),
        shared: Arc::clone(&shared),
        settings: Arc::clone(settings),
    };
    edge.admit();
    if let Some(certificates) = &settings.certificates {
        edge.streams.set_tls(Arc::clone(certificates));
    }
    edge.drain(now);
    edge.turn().await?;
    edge.relay.stop();
    edge.turn.stop();
    edge.records.finish(clock::now()).await;
    edge.store.finish(edge.proxy.registry(), edge.proxy.listeners()).await;
    Ok(())
}

impl<B: FnOnce()> Edge<B> {
    async fn turn(&mut self) -> io::Result<()> {
        loop {
            let now = clock::now();
            self.due(now);
            self.settle(now);
            self.announce(now);
            if self.stopped(now) {
                return Ok(());
            }
            self.alarm.set(self.deadline())?;
            let (wake, slept) = self.sleep().await?;
            let now = clock::now();
            self.note_lag(now, slept);
            self.take(now, wake);
            // Lets the tasks run and the descriptors be asked, also under load.
            tokio::task::yield_now().await;
        }
    }

    /// Whatever has a deadline that has passed.
    fn due(&mut self, now: Instant) {
        for listener in self.sockets.open(now, &mut self.streams, &self.shared.view) {
            self.stun.opened(now, listener);
        }
        for (side, names) in self.stun.unresolved(now) {
            self.lookups.servers(side, names);
        }
        self.stun.handle_timeout(now);
        self.outside.handle_timeout(now);
        self.relay.handle_timeout(now);
        self.records.handle_timeout(now);
        if self.pressure.audit(now) {
            self.audit();
        }
        self.store.handle_timeout(now, self.proxy.registry(), self.proxy.listeners());
        if self.proxy.poll_timeout().is_some_and(|at| at <= now) {
            self.proxy.handle_timeout(now);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let machines = [
            self.proxy.poll_timeout(),
            self.stun.poll_timeout(),
            self.outside.poll_timeout(),
            self.relay.poll_timeout(),
        ];
        let ours = [
            self.sockets.poll_timeout(),
            self.store.poll_timeout(),
            self.records.poll_timeout(),
            self.pressure.poll_timeout(),
            self.begun.as_ref().map(|_| self.patience),
            self.stop,
        ];
        machines.into_iter().chain(ours).flatten().min()
    }

    /// All that came before the loop slept was read before it slept.
    fn note_lag(&mut self, now: Instant, slept: bool) {
        if slept || self.lag.idle.is_none() {
            self.lag.idle = Some(now);
        }
        let waited = self.lag.idle.map_or(Duration::ZERO, |idle| now.saturating_duration_since(idle));
        let steps = u32::try_from(waited.as_millis() / LAG_STEP.as_millis()).unwrap_or(u32::MAX);
        let lag = LAG_STEP.saturating_mul(steps);
        if lag != self.lag.told {
            self.lag.told = lag;
            self.shared.metrics.set(Name::Lag, &[], lag.as_secs_f64());
            self.proxy.handle_input(now, Input::Lag(lag));
        }
    }

    /// Until a deadline or an input; and whether that had to be waited for.
    async fn sleep(&mut self) -> io::Result<(Wake, bool)> {
        let mut slept = false;
        let wake = std::future::poll_fn(|cx| {
            let mut wake = Wake::default();
            // Each is asked, so that each can wake the loop.
            let rang = match self.alarm.poll_expired(cx) {
                Poll::Ready(expired) => expired.map(|()| true)?,
                Poll::Pending => false,
            };
            self.sockets.poll_ready(cx, &mut wake.sockets);
            if let Poll::Ready(event) = self.streams.poll_event(cx) {
                wake.stream = Some(event);
            }
            wake.ports = self.relay.poll_ready(cx);
            wake.corners = self.corners.as_ref().is_some_and(|corners| corners.poll_ready(cx));
            wake.report = self.relay.poll_report(cx);
            wake.turn = self.turn.poll_report(cx);
            wake.answer = self.lookups.poll_answer(cx);
            wake.interval = self.uplink.poll_interval(cx);
            if self.stop.is_none()
                && let Poll::Ready(order) = self.orders.poll_recv(cx)
            {
                // Nobody is left who could give one: the program ends.
                wake.order = Some(order.unwrap_or(Order::Stop));
            }
            let something = rang
                || wake.ports
                || wake.corners
                || !wake.sockets.is_empty()
                || wake.stream.is_some()
                || wake.report.is_some()
                || wake.turn.is_some()
                || wake.answer.is_some()
                || wake.interval.is_some()
                || wake.order.is_some();
            if something {
                return Poll::Ready(Ok(wake));
            }
            slept = true;
            Poll::Pending
        });
        let wake: io::Result<Wake> = wake.await;
        Ok((wake?, slept))
    }

    /// One batch of whatever there is.
    fn take(&mut self, now: Instant, wake: Wake) {
        let mut report = wake.report;
        for _ in 0..REPORTS {
            let Some(present) = report.take() else { break };
            self.report(now, present);
            report = self.relay.next_report();
        }
        // One that was taken from the queue is never lost.
        if let Some(last) = report {
            self.report(now, last);
        }
        for (index, readiness) in wake.sockets {
            if readiness.readable {
                self.receive(now, index);
            }
        }
        if let Some(event) = wake.stream {
            self.take_streams(now, event);
        }
        if wake.ports {
            self.relay.receive(now);
        }
        if let Some(report) = wake.turn {
            self.take_turn(now, report);
        }
        if let Some(corners) = self.corners.as_mut().filter(|_| wake.corners) {
            corners.take(now, &self.settings.access, &mut self.sockets);
            corners.send();
        }
        match wake.answer {
            Some(Answer::Resolved { question, answer }) => {
                let outcome = Lookup::of(&answer);
                self.shared.metrics.count(Name::Lookups, &[question.kind.label(), outcome.label()]);
                self.inputs.push_back(Input::Resolved { question, answer });
            }
            Some(Answer::Servers { side, addresses, all }) => {
                self.stun.resolved(now, side, addresses, all);
                self.relay.set_servers(now, &self.stun);
                self.follow_servers();
                self.outside.servers(now, self.stun.family(true));
            }
            None => {}
        }
        if let Some(interval) = wake.interval {
            self.shared.metrics.set(Name::KeepAliveInterval, &[], interval.as_secs_f64());
            self.inputs.push_back(Input::KeepAliveInterval(interval));
        }
        if let Some(order) = wake.order {
            self.obey(now, order);
        }
        self.settle(now);
    }

    /// Other STUN servers: calls may ask them, and in an office that finds its address out they tell of the router.
    fn follow_servers(&mut self) {
        self.inputs.push_back(Input::StunServers(self.stun.servers()));
        let proxy = &self.settings.proxy;
        let learns = proxy.role == Role::Office && proxy.listeners.iter().any(|l| l.side == Side::Outer && asks(l));
        self.uplink.set_servers(if learns { self.stun.family(true) } else { Vec::new() });
    }

    fn obey(&mut self, now: Instant, order: Order) {
        match order {
            Order::Reload(prepared) => self.reload(now, *prepared),
            Order::Watch(watch) => self.inputs.extend(self.watchers.add(*watch)),
            Order::Forwards(forwards) => {
                let sockets: Vec<_> =
                    forwards.iter().map(|(id, external)| (discovery::SocketId(u64::from(id.0)), *external)).collect();
                self.outside.watch(now, &sockets);
            }
            Order::Unwatch(id) => self.inputs.extend(self.watchers.remove(id)),
            Order::Stop => {
                tracing::info!("stopping: calls are ended");
                self.stop = Some(now + STOP_PATIENCE);
                self.inputs.push_back(Input::Stop);
            }
        }
    }

    fn receive(&mut self, now: Instant, index: usize) {
        let count = self.sockets.at(index).map_or(0, net::UdpListener::try_recv_batch);
        for at in 0..count {
            let Some(listener) = self.sockets.at(index) else { return };
            let Some(datagram) = listener.datagram(at) else { return };
            let (flow, bytes) = (datagram.flow, datagram.bytes);
            let side = self.settings.proxy.side(flow.listener);
            // Before anything else: whoever is shut out costs a look at its address.
            let admitted = self.settings.access.admits(side, flow.remote.ip())
                || self.stun.is_server(flow.remote)
                || self.outside.expects(flow.remote)
                || self.proxy.expects(flow);
            if !admitted {
                self.shared.metrics.count(Name::Datagrams, &[side.label(), Datagram::Denied.label()]);
                continue;
            }
            let corner = self.corners.as_ref().and_then(|corners| corners.of(flow.listener));
            let kind = match demux::signalling(bytes) {
                _ if datagram.truncated => Datagram::Truncated,
                Signalling::KeepAlive => Datagram::KeepAlive,
                Signalling::Sip => {
                    self.proxy.handle_input(now, Input::Received { flow, bytes });
                    Datagram::Sip
                }
                Signalling::Stun => match wire::stun::kind(bytes) {
                    Kind::Response if self.proxy.asked_stun(flow, bytes) => {
                        self.proxy.handle_input(now, Input::Stun { flow, bytes });
                        Datagram::StunAnswer
                    }
                    Kind::Response if self.outside.received(now, socket_id(flow), flow.remote, bytes) => {
                        Datagram::StunAnswer
                    }
                    Kind::Response => {
                        self.stun.received(now, flow.listener, flow.remote, bytes);
                        Datagram::StunAnswer
                    }
                    Kind::BindingRequest if corner.is_some() => {
                        let (bytes, corner) = (bytes.to_vec(), corner.unwrap_or_default());
                        let answered = self.corners.as_mut().is_some_and(|corners| {
                            corners.receive(now, corner, flow.remote, &bytes, &mut self.sockets)
                        });
                        if answered { Datagram::StunRequest } else { Datagram::StunRefused }
                    }
                    Kind::BindingRequest => match wire::stun::answer(bytes, flow.remote) {
                        Some(bytes) if self.budget.spend(now, flow.remote.ip(), bytes.len()) => {
                            listener.queue(Transmit { flow, bytes });
                            Datagram::StunRequest
                        }
                        Some(_) => Datagram::StunRefused,
                        None => Datagram::StunOther,
                    },
                    Kind::BindingIndication => Datagram::KeepAlive,
                    Kind::Other => Datagram::StunOther,
                },
            };
            self.shared.metrics.count(Name::Datagrams, &[side.label(), kind.label()]);
            self.drain(now);
        }
        if let Some(corners) = &mut self.corners {
            corners.send();
        }
    }

    fn report(&mut self, now: Instant, report: Report) {
        match report {
            Report::Fact { worker: _, fact } => {
                self.shared.metrics.fact(&fact);
                self.shared.view.fact(&fact);
                self.records.fact(now, &fact);
                self.journal.fact(now, &self.shared.metrics, &fact);
                if let Some(unheard) = self.records.unheard(&fact) {
                    self.journal.unheard(now, &self.shared.metrics, &unheard);
                }
                self.proxy.handle_input(now, Input::Fact(fact));
                self.drain(now);
            }
            Report::Sockets { stream, sockets, used } => {
                self.relay.rest(now, stream, sockets, used);
                self.tell_turn();
            }
            Report::Stopped { worker } => {
                if self.stop.is_none() {
                    tracing::error!(worker, "media worker has ended; its calls end, restart siplatch");
                }
                self.shared.view.worker(worker, false);
                self.relay.stopped(worker);
            }
        }
    }

    /// Until nobody has anything left to say, and everything is sent.
    fn settle(&mut self, now: Instant) {
        self.reconsider_turn(now);
        for _ in 0..ROUNDS {
            self.drain(now);
            let failures = self.sockets.send();
            if failures.is_empty() {
                break;
            }
            for failure in failures {
                self.unsent(failure.flow);
            }
        }
        self.census();
        for (ip, range, counts) in self.proxy.ports() {
            self.shared.view.ports(ip, range, counts);
            if self.pressure.note(ip, range, counts)
                && let Some(ports) = self.settings.proxy.media.ranges.get(usize::from(range.0))
            {
                let (used, total) = (counts.live + counts.resting, counts.total);
                let ports = format!("{}-{}", ports.first, ports.last);
                tracing::warn!(%ip, ports, used, total, "media ports run short; at the end calls are refused: widen the range");
            }
        }
    }

    /// Ports that are lent, against the calls that there are.
    fn audit(&mut self) {
        let orphaned = u32::try_from(self.proxy.audit_ports()).unwrap_or(u32::MAX);
        self.shared.metrics.set(Name::PortsOrphaned, &[], orphaned.into());
    }

    fn unsent(&mut self, flow: Flow) {
        let side = self.settings.proxy.side(flow.listener);
        self.shared.metrics.count(Name::SendFailures, &[side.label()]);
        // Discovery sends again by itself.
        if !self.stun.is_server(flow.remote) {
            self.inputs.push_back(Input::Unsent { flow });
        }
    }

    /// Outputs of all machines to empty, then the next input, to the end of them.
    fn drain(&mut self, now: Instant) {
        loop {
            while let Some(output) = self.proxy.poll_output() {
                self.carry_out(now, output);
            }
            while let Some(output) = self.stun.poll_output() {
                self.discovered(now, output);
            }
            while let Some(output) = self.outside.poll_output() {
                match output {
                    outside::Output::Transmit { socket, to, bytes } => self.ask_from(socket, to, bytes),
                    outside::Output::Light { socket: _, external, light } => self.shared.router.light(external, light),
                }
            }
            while let Some(failure) = self.relay.poll_failure() {
                self.inputs.push_back(failure.input());
            }
            while let Some(event) = self.relay.poll_event() {
                self.inputs.push_back(Input::Ports(event));
            }
            while let Some(finding) = self.relay.poll_finding() {
                self.found(now, finding);
            }
            let Some(input) = self.inputs.pop_front() else { break };
            self.proxy.handle_input(now, input);
        }
    }

    fn carry_out(&mut self, now: Instant, output: Output) {
        match output {
            Output::Transmit(transmit) => {
                let queued = match transmit.flow.transport.reliable() {
                    true => self.streams.send(transmit),
                    false => self.sockets.queue(transmit),
                };
                if let Err(transmit) = queued {
                    self.unsent(transmit.flow);
                }
            }
            Output::KeepAlive(transmit) => {
                // One that does not leave is sent again.
                let _ = self.sockets.queue(transmit);
            }
            Output::Doubt { listener } => self.stun.doubt(now, listener),
            Output::Connect { flow, name, within } => self.streams.connect(flow, name, within),
            Output::Close { flow } => self.streams.close(flow),
            Output::Proven { flow } => self.streams.prove(flow),
            Output::Media(command) => self.relay.order(now, command),
            Output::Ports(command) => self.relay.plan(now, command),
            Output::Resolve(question) => self.lookups.resolve(question),
            Output::Changed(change) => {
                self.shared.view.change(&change);
                self.records.change(&change);
                self.store.change(now, change);
            }
            Output::Traced(traced) => self.watchers.tell(clock::unix_time(), *traced),
            Output::Observed(event) => {
                self.shared.metrics.observe(&event);
                self.shared.view.observe(&event);
                self.records.observe(now, &event);
                self.journal.observe(now, &self.shared.metrics, &event);
                if self.stop.is_some() {
                    self.farewell.observe(&event);
                }
            }
        }
    }

    fn discovered(&mut self, now: Instant, output: discovery::Output) {
        match output {
            discovery::Output::Transmit { socket, to, bytes } => self.ask_from(socket, to, bytes),
            discovery::Output::Mapped { socket, mapped, changed } => {
                if changed {
                    self.relay.doubt(now);
                }
                // A phone's own may be on another uplink.
                let of = listener(socket).and_then(|id| self.settings.proxy.listeners.get(usize::from(id.0)));
                if of.is_some_and(|listener| listener.side == Side::Outer && listener.phone.is_none()) {
                    self.shared.router.seen(mapped.0.ip());
                }
                let input = listener(socket).map(|listener| Input::Mapped { listener, mapped: Some(mapped) });
                self.inputs.extend(input);
            }
            discovery::Output::Unmapped { socket } => {
                let input = listener(socket).map(|listener| Input::Mapped { listener, mapped: None });
                self.inputs.extend(input);
                self.borrow_address();
            }
            discovery::Output::Finding { socket: _, finding } => self.found(now, finding),
        }
    }

    /// Sends a STUN request from a listener's own socket.
    fn ask_from(&mut self, socket: discovery::SocketId, to: SocketAddr, bytes: Vec<u8>) {
        if let Some(listener) = listener(socket).and_then(|id| self.sockets.of(id)) {
            let (id, local) = (listener.id(), listener.local_addr());
            let flow = Flow { transport: Transport::Udp, listener: id, connection: 0, local, remote: to };
            listener.queue(Transmit { flow, bytes });
        }
    }

    fn found(&mut self, now: Instant, finding: discovery::Finding) {
        self.shared.metrics.count(Name::StunFindings, &[Finding::from(finding).label()]);
        self.journal.finding(now, &self.shared.metrics, finding);
    }

    /// Says that we have begun, once all is known or patience has run out.
    fn announce(&mut self, now: Instant) {
        if (self.stun.known() || self.turn.is_settled() || now >= self.patience)
            && let Some(begun) = self.begun.take()
        {
            begun();
        }
    }

    fn stopped(&self, now: Instant) -> bool {
        self.stop.is_some_and(|at| now >= at || (self.shared.view.quiet() && self.farewell.said()))
    }
}

impl Farewell {
    fn observe(&mut self, event: &Observed) {
        if let Observed::RequestOut { side: _, method: MethodLabel::Bye | MethodLabel::Cancel } = event {
            self.asked += 1;
        } else if let Observed::ResponseIn { side: _, status } = event
            && status.0 >= 200
        {
            self.answered += 1;
        }
    }

    /// Everybody has answered.
    fn said(&self) -> bool {
        self.answered >= self.asked
    }
}

fn socket_id(flow: Flow) -> discovery::SocketId {
    discovery::SocketId(u64::from(flow.listener.0))
}

fn listener(socket: discovery::SocketId) -> Option<ListenerId> {
    u16::try_from(socket.0).ok().map(ListenerId)
}
