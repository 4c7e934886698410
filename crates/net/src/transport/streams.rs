//! All stream connections: what the signalling loop holds of them.
//!
//! Accepting, handshakes, encryption and framing run on a small runtime of its
//! own, so that none of it costs the signalling thread time; what has become a
//! message comes out of [`poll_event`](Streams::poll_event), what is to be sent
//! goes in by [`send`](Streams::send), and neither ever waits.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use nat::{Access, Side};
use socket2::SockRef;
use tokio::net::TcpListener;
use tokio::runtime::{self, Runtime};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinHandle;
use wire::sip::Limits;
use wire::{Flow, ListenerId, Transmit, Transport};

use super::connection::{Connection, Event, Goal, Patience};
use super::line::Line;
use super::roll::{Caps, Census, Roll};
use super::{tcp, tls};
use crate::dscp::Dscp;

/// Events that may wait for the signalling loop, each with at most one message.
/// Connections beyond that wait in the order in which they came.
const EVENTS: usize = 256;

/// What [`Streams`] begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Limits on messages.
    pub limits: Limits,
    /// How many connections there may be.
    pub caps: Caps,
    /// How long is waited for what.
    pub patience: Patience,
    /// Threads for handshakes, encryption and framing; at least 1.
    pub threads: usize,
    /// How packets are marked.
    pub mark: Dscp,
}

/// The stream listeners and all their connections.
#[derive(Debug)]
pub struct Streams {
    /// There until the end; it must not be dropped where blocking is forbidden.
    runtime: Option<Runtime>,
    listeners: BTreeMap<ListenerId, Listener>,
    within: Arc<Within>,
    events: Receiver<Event>,
}

/// A listener, and the task that accepts on it.
#[derive(Debug)]
struct Listener {
    socket: Arc<TcpListener>,
    task: JoinHandle<()>,
}

impl Listener {
    /// The task lets go of its socket some time later; the address is free at once.
    fn close(&self) {
        self.task.abort();
        if let Err(error) = SockRef::from(&*self.socket).shutdown(Shutdown::Both) {
            tracing::debug!(%error, "a listener was closed already");
        }
    }
}

/// What the tasks share.
#[derive(Debug)]
struct Within {
    settings: Settings,
    roll: Arc<Roll>,
    events: Sender<Event>,
    tls: Mutex<Option<Arc<tls::Settings>>>,
    door: Mutex<Door>,
}

/// Whom listeners take in.
#[derive(Debug, Default)]
struct Door {
    access: Arc<Access>,
    /// Of each listener, by its number.
    sides: Vec<Side>,
    /// How many were turned away.
    denied: BTreeMap<ListenerId, u64>,
}

impl Streams {
    /// No listener and no connection yet. Fails when the system gives no threads or descriptors.
    pub fn new(settings: Settings) -> io::Result<Self> {
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(settings.threads.max(1))
            .thread_name("streams")
            .enable_all()
            .build()?;
        let (sender, events) = channel(EVENTS);
        let within = Within {
            settings,
            roll: Arc::new(Roll::new(settings.caps)),
            events: sender,
            tls: Mutex::default(),
            door: Mutex::default(),
        };
        Ok(Self { runtime: Some(runtime), listeners: BTreeMap::new(), within: Arc::new(within), events })
    }

    /// How packets are marked.
    pub fn mark(&self) -> Dscp {
        self.within.settings.mark
    }

    /// Opens a listener; returns its address, which matters for port 0. Errors
    /// as of [`bind_udp`](crate::sockopt::bind_udp).
    pub fn listen(&mut self, id: ListenerId, transport: Transport, local: SocketAddr) -> io::Result<SocketAddr> {
        let Some(runtime) = &self.runtime else { return Err(io::ErrorKind::NotConnected.into()) };
        let socket = {
            let _inside = runtime.enter();
            Arc::new(tcp::listen(local, self.mark())?)
        };
        let local = socket.local_addr()?;
        let task = runtime.spawn(Arc::clone(&self.within).accept(id, transport, Arc::clone(&socket)));
        if let Some(former) = self.listeners.insert(id, Listener { socket, task }) {
            former.close();
        }
        Ok(local)
    }

    /// Closes a listener, and its connections once what is queued on them has left. Its
    /// address may be listened on again at once.
    pub fn unlisten(&mut self, id: ListenerId) {
        if let Some(listener) = self.listeners.remove(&id) {
            listener.close();
            self.within.roll.finish(id);
        }
    }

    /// Opens a connection. Its number, `flow.connection`, is the caller's choice, 2^31 or
    /// above and not in use; `name` is whom it must reach, `within` how long TCP may take.
    /// Messages may be sent at once and wait for it; [`Event::Opened`] or
    /// [`Event::Closed`] says what came of it.
    pub fn connect(&self, flow: Flow, name: String, within: Duration) {
        let Some(runtime) = &self.runtime else { return };
        let line = Arc::new(Line::new(self.within.settings.limits.message_bytes, true));
        self.within.roll.enter(flow, Arc::clone(&line));
        runtime.spawn(self.within.connection(flow, line).goes_out(Goal { name, within, mark: self.mark() }));
    }

    /// Queues a message; it comes back when its connection is not there any more.
    pub fn send(&self, transmit: Transmit) -> Result<(), Transmit> {
        match self.within.roll.line(transmit.flow.connection) {
            Some(line) => {
                line.put(transmit.bytes);
                Ok(())
            }
            None => Err(transmit),
        }
    }

    /// Closes a connection, once what is queued on it has left.
    pub fn close(&self, flow: Flow) {
        if let Some(line) = self.within.roll.line(flow.connection) {
            line.finish();
        }
    }

    /// Whoever is behind a connection is known: it is no stranger any more.
    pub fn prove(&self, flow: Flow) {
        self.within.roll.prove(flow.connection);
    }

    /// What handshakes use from now on; connections that are open stay as they are.
    pub fn set_tls(&self, settings: Arc<tls::Settings>) {
        *self.within.tls.lock().unwrap_or_else(PoisonError::into_inner) = Some(settings);
    }

    /// Whom the listeners take in from now on; `sides` of each, by its number. Whoever
    /// may not speak is turned away before any handshake.
    pub fn set_access(&self, access: Arc<Access>, sides: Vec<Side>) {
        let mut door = self.within.door();
        (door.access, door.sides) = (access, sides);
    }

    /// How many were turned away since the last call, by listener.
    pub fn take_denied(&self) -> BTreeMap<ListenerId, u64> {
        std::mem::take(&mut self.within.door().denied)
    }

    /// How many connections there are.
    pub fn census(&self) -> Census {
        self.within.roll.census()
    }

    /// The next event, in the order of each connection.
    pub fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        match self.events.poll_recv(cx) {
            Poll::Ready(Some(event)) => Poll::Ready(event),
            // We hold a sender ourselves, so there is always another event to wait for.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    /// The next event, if there is one already.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.try_recv().ok()
    }

    /// Waits for [`poll_event`](Self::poll_event).
    pub async fn event(&mut self) -> Event {
        std::future::poll_fn(|cx| self.poll_event(cx)).await
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Within {
    fn door(&self) -> MutexGuard<'_, Door> {
        self.door.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// May it come in? Counted if not.
    fn admits(&self, id: ListenerId, ip: IpAddr) -> bool {
        let mut door = self.door();
        let side = door.sides.get(usize::from(id.0));
        let admitted = side.is_none_or(|side| door.access.admits(*side, ip));
        if !admitted {
            // One that waits is told already, and one that is busy asks soon.
            if door.denied.is_empty() {
                let _ = self.events.try_send(Event::Denied);
            }
            *door.denied.entry(id).or_default() += 1;
        }
        admitted
    }

    fn connection(&self, flow: Flow, line: Arc<Line>) -> Connection {
        let Settings { limits, patience, .. } = self.settings;
        let tls = self.tls.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Connection::new(flow, line, Arc::clone(&self.roll), self.events.clone(), limits, patience, tls)
    }

    /// Takes in what comes, for ever.
    async fn accept(self: Arc<Self>, id: ListenerId, transport: Transport, listener: Arc<TcpListener>) {
        loop {
            match tcp::accept(&listener).await {
                Ok((_, _, remote)) if !self.admits(id, remote.ip()) => {}
                Ok((socket, local, remote)) => {
                    let line = Arc::new(Line::new(self.settings.limits.message_bytes, false));
                    // Refused: dropping the socket closes it.
                    let Some(number) = self.roll.admit(id, transport, remote.ip(), &line) else { continue };
                    let flow = Flow { transport, listener: id, connection: number, local, remote };
                    tokio::spawn(self.connection(flow, line).came_in(socket));
                }
                Err(error) => {
                    self.roll.shed();
                    // The loop may be slow for the same reason; one that waits is told already.
                    let _ = self.events.try_send(Event::Short { error: error.kind() });
                    tokio::time::sleep(tcp::PAUSE).await;
                }
            }
        }
    }
}
