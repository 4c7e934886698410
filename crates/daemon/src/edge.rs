//! The signalling loop: one thread, one machine. Drain all outputs; sleep until
//! the earliest deadline or an input; take one batch; drain again. The thread is
//! the loop's alone: no runtime stands between it and its sockets.
//!
//! What the machines want is done in their order, so a port is always open
//! before the message that names it leaves. Decides nothing about SIP.

mod bells;
mod beside;
mod budget;
mod corners;
mod journal;
mod lag;
mod lookup;
mod pressure;
mod relay;
mod reload;
mod rewriting;
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

use nat::alg::Rewritten;
use nat::{Outside, Side, discovery, outside};
use net::datapath::Report;
use net::transport::{Census, Streams};
use net::{Sleep, clock, entropy};
use proxy::config::Role;
use proxy::{Input, MethodLabel, Observed, Output, Proxy};
use registry::Record;
use tokio::runtime::Handle;
use tokio::sync::mpsc::UnboundedReceiver;
use wire::demux::{self, Signalling};
use wire::stun::Kind;
use wire::{Flow, ListenerId, Transmit, Transport};

use crate::admin::Shared;
use crate::config::{HostPort, Settings};
use crate::metrics::label::{Datagram, Finding, Label as _, Lookup};
use crate::metrics::table::Name;
use crate::record::Records;
use crate::store::Store;
use crate::view::asks;
use bells::{Bell, Bells};
use beside::Beside;
use budget::Budget;
use corners::Corners;
use journal::Journal;
use lag::Lag;
use lookup::{Answer, Lookups};
use pressure::Pressure;
use relay::Relay;
pub(crate) use reload::Prepared;
use sockets::Sockets;
use stun::Stun;
use turn::Turn;
use watchers::Watchers;
pub(crate) use watchers::{News, Watch};

/// How long a silent STUN server may hold the banner.
const STUN_PATIENCE: Duration = Duration::from_secs(2);
/// How long calls have to end at stop.
const STOP_PATIENCE: Duration = Duration::from_secs(2);
/// Time between two looks at deadlines. Those of a thousand calls would each be a timer and a waking up,
/// and the shortest of SIP's is fifty times as long.
const GRAIN: Duration = Duration::from_millis(4);
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
    /// Where tasks run that take time, and where idle media ports are waited for.
    pub(crate) beside: Handle,
}

/// What is still to be written when the loop has ended.
#[derive(Debug)]
pub(crate) struct Last {
    proxy: Proxy,
    store: Store,
    records: Records,
}

impl Last {
    /// Writes it. Must be called inside a runtime with timers.
    pub(crate) async fn write(self) {
        self.records.finish(clock::now()).await;
        self.store.finish(self.proxy.registry(), self.proxy.listeners()).await;
    }
}

/// What of its own sockets woke the loop.
#[derive(Debug, Clone, Copy, Default)]
struct Wake {
    /// Nobody else had rung before: who has now did so a moment ago.
    silent: bool,
    sockets: bool,
    corners: bool,
}

struct Edge<B> {
    shared: Arc<Shared>,
    sleep: Sleep,
    /// Which sources are to be asked.
    bells: Bells,
    /// What counts now.
    settings: Arc<Settings>,
    proxy: Proxy,
    sockets: Sockets,
    streams: Streams,
    census: Census,
    /// Something has happened to connections since they were counted.
    streamed: bool,
    /// Requests in progress and their octets, as last told.
    requests: (usize, usize),
    stun: Stun,
    outside: Outside,
    relay: Relay,
    turn: Turn,
    store: Store,
    records: Records,
    orders: UnboundedReceiver<Order>,
    lookups: Lookups,
    /// How long the router remembers, as STUN servers help to find out.
    uplink: Beside<Vec<SocketAddr>, Duration>,
    /// Whether somebody on the way rewrites SIP, as a far siplatch says.
    rewriting: Beside<Option<HostPort>, Rewritten>,
    /// Somebody else than the machine may have something to say.
    stirred: bool,
    /// Ports may have been lent, or have come back.
    lent: bool,
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

/// Requests that end calls at stop, and final responses that came since.
#[derive(Debug, Default)]
struct Farewell {
    asked: usize,
    answered: usize,
}

/// Runs until told to stop. `begun` is called once, as soon as it is known what
/// works and what does not. Must not be called by a task: it keeps its thread.
pub(crate) fn run(shared: Arc<Shared>, begin: Begin, begun: impl FnOnce() + Send) -> io::Result<Box<Last>> {
    let now = clock::now();
    let settings = &shared.settings();
    let sleep = Sleep::new()?;
    let beside = begin.beside.clone();
    let _context = beside.enter();
    let mut edge = Edge {
        bells: Bells::new(sleep.ringer()),
        proxy: Proxy::new(now, Arc::clone(&settings.proxy), begin.token_key, entropy::seed()?),
        sockets: Sockets::new(now, &settings.proxy.listeners),
        streams: Streams::new(streams::settings(settings, begin.descriptors))?,
        census: Census::default(),
        streamed: true,
        requests: (0, 0),
        stun: Stun::new(now, settings, entropy::seed)?,
        outside: Outside::new(entropy::seed()?),
        relay: Relay::start(settings, begin.descriptors, &shared.view)?,
        turn: Turn::new(),
        store: begin.store,
        records: begin.records,
        orders: begin.orders,
        lookups: Lookups::new(begin.beside.clone()),
        uplink: Beside::new(uplink::USUAL, begin.beside.clone()),
        rewriting: Beside::new(Rewritten::default(), begin.beside),
        stirred: true,
        lent: true,
        inputs: VecDeque::from([Input::Restore(begin.restored)]),
        budget: Budget::default(),
        corners: Corners::open(&settings.proxy, settings.marks.signalling, &sleep),
        sleep,
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
    edge.rewriting.ask(rewriting::reflector(settings), rewriting::watch);
    if let Some(certificates) = &settings.certificates {
        edge.streams.set_tls(Arc::clone(certificates));
    }
    edge.drain(now);
    edge.turn()?;
    edge.relay.stop();
    edge.turn.stop();
    Ok(Box::new(Last { proxy: edge.proxy, store: edge.store, records: edge.records }))
}

impl<B: FnOnce()> Edge<B> {
    fn turn(&mut self) -> io::Result<()> {
        let mut served = clock::now();
        let mut next = Some(served);
        loop {
            let now = clock::now();
            if next.is_some_and(|at| at <= now) {
                self.due(now);
                served = now;
            }
            self.settle(now);
            self.relay.deliver();
            self.announce(now);
            if self.stopped(now) {
                return Ok(());
            }
            next = self.deadline().map(|at| at.max(served + GRAIN));
            self.sockets.wait_for_room(&self.sleep)?;
            let wake = self.sleep(now, next)?;
            self.take(clock::now(), wake);
            self.sockets.flush();
        }
    }

    /// Whatever has a deadline that has passed.
    fn due(&mut self, now: Instant) {
        (self.stirred, self.lent) = (true, true);
        for listener in self.sockets.open(now, (&mut self.streams, &self.sleep), &self.shared.view) {
            self.stun.opened(now, listener);
        }
        for (side, names) in self.stun.unresolved(now) {
            self.lookups.servers(side, names);
        }
        self.stun.handle_timeout(now);
        self.outside.handle_timeout(now);
        if self.relay.handle_timeout(now) {
            self.bells.ring(Bell::Ports);
        }
        self.records.handle_timeout(now);
        if self.pressure.audit(now) {
            self.audit();
        }
        if self.lag.is_felt() {
            self.store.put_off(now);
        }
        self.store.handle_timeout(now, self.proxy.registry(), self.proxy.listeners());
        if self.proxy.poll_timeout().is_some_and(|at| at <= now) {
            self.proxy.handle_timeout(now);
        }
    }

    /// When something of that is due.
    fn deadline(&self) -> Option<Instant> {
        let others = [
            self.stun.poll_timeout(),
            self.outside.poll_timeout(),
            self.relay.poll_timeout(),
            self.sockets.poll_timeout(),
            self.store.poll_timeout(),
            self.records.poll_timeout(),
            self.pressure.poll_timeout(),
            self.begun.as_ref().map(|_| self.patience),
            self.stop,
        ];
        others.into_iter().fold(self.proxy.poll_timeout(), sooner)
    }

    /// Until a deadline or an input, and not at all where there is one already.
    fn sleep(&mut self, now: Instant, deadline: Option<Instant>) -> io::Result<Wake> {
        self.sleep.set(deadline)?;
        let something = self.lag.is_suspect(now) && self.look(now)?;
        let silent = !something && self.bells.fall_asleep();
        if !something {
            self.sleep.sleep(silent)?;
        }
        self.note_lag(now);
        let mut wake = Wake { silent, ..Wake::default() };
        while let Some(token) = self.sleep.token() {
            match token {
                corners::TOKEN => wake.corners = true,
                index => {
                    wake.sockets = true;
                    self.sockets.tell(index as usize);
                }
            }
        }
        Ok(wake)
    }

    /// Whether somebody waits already; where nobody does, nobody has waited for the loop, however busy it was.
    fn look(&mut self, now: Instant) -> io::Result<bool> {
        let something = self.sleep.sleep(false)?;
        if !something && self.bells.is_silent() {
            self.lag.emptied(now);
        }
        Ok(something)
    }

    fn note_lag(&mut self, now: Instant) {
        if let Some(lag) = self.lag.change(now) {
            self.shared.metrics.gauge(Name::Lag, lag.as_secs_f64());
            self.proxy.handle_input(now, Input::Lag(lag));
        }
    }

    /// One batch of whatever there is; what it leads to is settled in the next turn.
    fn take(&mut self, now: Instant, wake: Wake) {
        let rung = self.bells.attend();
        self.stirred |= rung || wake.corners;
        let stream = if rung { self.take_reports(now) } else { None };
        let mut read = (wake.silent || stream.is_none()).then_some(now);
        if wake.sockets {
            for index in 0..self.sockets.len() {
                if self.sockets.is_readable(index) {
                    read = read.zip(self.receive(now, index)).map(|(one, other)| one.min(other));
                }
            }
        }
        if let Some(until) = read {
            self.lag.emptied(until);
        }
        if let Some(corners) = self.corners.as_mut().filter(|_| wake.corners) {
            corners.take(now, &self.settings.access, &mut self.sockets);
            corners.send();
        }
        if let Some(event) = stream {
            self.take_streams(now, event);
        }
        if rung {
            self.take_others(now);
        }
    }

    /// What workers report, and what has happened to a connection.
    fn take_reports(&mut self, now: Instant) -> Option<net::transport::Event> {
        let stream = self.bells.ask(Bell::Streams, |cx| ready(self.streams.poll_event(cx)));
        let mut report = self.bells.ask(Bell::Reports, |cx| self.relay.poll_report(cx));
        for _ in 0..REPORTS {
            let Some(present) = report.take() else { break };
            self.report(now, present);
            report = self.relay.next_report();
        }
        // One that was taken from the queue is never lost.
        if let Some(last) = report {
            self.report(now, last);
        }
        stream
    }

    /// What everybody else has to say.
    fn take_others(&mut self, now: Instant) {
        if self.bells.ask(Bell::Ports, |cx| self.relay.poll_ready(cx).then_some(())).is_some() {
            self.relay.receive(now);
        }
        if let Some(report) = self.bells.ask(Bell::Turn, |cx| self.turn.poll_report(cx)) {
            self.take_turn(now, report);
        }
        match self.bells.ask(Bell::Lookups, |cx| self.lookups.poll_answer(cx)) {
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
        if let Some(interval) = self.bells.ask(Bell::Uplink, |cx| self.uplink.poll_news(cx)) {
            self.shared.metrics.set(Name::KeepAliveInterval, &[], interval.as_secs_f64());
            self.inputs.push_back(Input::KeepAliveInterval(interval));
        }
        let rewritten = self.bells.ask(Bell::Rewriting, |cx| self.rewriting.poll_news(cx));
        self.inputs.extend(rewritten.map(Input::Rewritten));
        if self.stop.is_none() {
            // Nobody is left who could give one: the program ends.
            let order = self.bells.ask(Bell::Orders, |cx| ready(self.orders.poll_recv(cx)));
            if let Some(order) = order {
                self.obey(now, order.unwrap_or(Order::Stop));
            }
        }
    }

    /// Other STUN servers: calls may ask them, and in an office that finds its address out they tell of the router.
    fn follow_servers(&mut self) {
        self.inputs.push_back(Input::StunServers(self.stun.servers()));
        let proxy = &self.settings.proxy;
        let learns = proxy.role == Role::Office && proxy.listeners.iter().any(|l| l.side == Side::Outer && asks(l));
        self.uplink.ask(if learns { self.stun.family(true) } else { Vec::new() }, uplink::learn);
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

    /// Reads one batch of a socket; all that came to it before the returned moment has been read then.
    fn receive(&mut self, now: Instant, index: usize) -> Option<Instant> {
        let Some(listener) = self.sockets.at(index) else { return Some(now) };
        let count = listener.try_recv_batch();
        let until = listener.caught_up(now);
        for at in 0..count {
            let Some(listener) = self.sockets.at(index) else { return until };
            let Some(datagram) = listener.datagram(at) else { return until };
            let (flow, bytes) = (datagram.flow, datagram.bytes);
            let side = self.settings.proxy.side(flow.listener);
            // Before anything else: whoever is shut out costs a look at its address.
            let admitted = self.settings.access.admits(side, flow.remote.ip())
                || self.stun.is_server(flow.remote)
                || self.outside.expects(flow.remote)
                || self.proxy.expects(flow);
            if !admitted {
                self.shared.metrics.tick(Name::Datagrams, (side, Datagram::Denied));
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
            self.shared.metrics.tick(Name::Datagrams, (side, kind));
            self.stirred |= !matches!(kind, Datagram::Sip | Datagram::KeepAlive);
            self.drain(now);
        }
        if let Some(corners) = &mut self.corners {
            corners.send();
        }
        until
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
                // To count allocations is to look at every port.
                if self.turn.counts() {
                    self.tell_turn();
                }
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
        if std::mem::take(&mut self.lent) {
            self.note_ports();
        }
    }

    /// Tells of figures of pools that are new, and that one runs short.
    fn note_ports(&mut self) {
        for (ip, range, counts) in self.proxy.ports() {
            let Some(news) = self.pressure.note(ip, range, counts) else { continue };
            self.shared.view.ports(ip, range, counts);
            if news == pressure::News::Short
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
                // Most are events of single messages, of which nothing is told but their number.
                if let Output::Observed(event) = &output
                    && self.shared.metrics.traffic(event)
                {
                    if self.stop.is_some() {
                        self.farewell.observe(event);
                    }
                } else if let Output::Transmit(transmit) = output {
                    self.send(transmit);
                } else {
                    self.carry_out(now, output);
                }
            }
            if !std::mem::take(&mut self.stirred) && self.inputs.is_empty() {
                break;
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
            self.lent = true;
            self.proxy.handle_input(now, input);
        }
    }

    fn send(&mut self, transmit: Transmit) {
        let queued = match transmit.flow.transport.reliable() {
            true => self.streams.send(transmit),
            false => self.sockets.queue(transmit),
        };
        if let Err(transmit) = queued {
            self.unsent(transmit.flow);
        }
    }

    fn carry_out(&mut self, now: Instant, output: Output) {
        match output {
            Output::Transmit(transmit) => self.send(transmit),
            Output::KeepAlive(transmit) => {
                // One that does not leave is sent again.
                let _ = self.sockets.queue(transmit);
            }
            Output::Doubt { listener } => {
                self.stirred = true;
                self.stun.doubt(now, listener);
            }
            Output::Connect { flow, name, within } => {
                self.streamed = true;
                self.streams.connect(flow, name, within);
            }
            Output::Close { flow } => {
                self.streamed = true;
                self.streams.close(flow);
            }
            Output::Proven { flow } => {
                self.streamed = true;
                self.streams.prove(flow);
            }
            Output::Media(command) => {
                (self.stirred, self.lent) = (true, true);
                self.relay.order(now, command);
            }
            Output::Ports(command) => {
                (self.stirred, self.lent) = (true, true);
                self.relay.plan(now, command);
            }
            Output::Resolve(question) => self.lookups.resolve(question),
            Output::Changed(change) => {
                self.shared.view.change(&change);
                self.records.change(&change);
                self.store.change(now, change);
            }
            Output::Traced(traced) => self.watchers.tell(clock::unix_time(), *traced),
            Output::Observed(event) => {
                self.shared.metrics.observe(&event);
                if self.stop.is_some() {
                    self.farewell.observe(&event);
                }
                self.shared.view.observe(&event);
                self.records.observe(now, &event);
                self.journal.observe(now, &self.shared.metrics, &event);
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

/// The first of two deadlines.
fn sooner(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// What a source said, if it said something.
fn ready<T>(poll: Poll<T>) -> Option<T> {
    match poll {
        Poll::Ready(said) => Some(said),
        Poll::Pending => None,
    }
}

fn socket_id(flow: Flow) -> discovery::SocketId {
    discovery::SocketId(u64::from(flow.listener.0))
}

fn listener(socket: discovery::SocketId) -> Option<ListenerId> {
    u16::try_from(socket.0).ok().map(ListenerId)
}
