//! The signalling sockets: opened and tried again while they cannot be. Those
//! for datagrams are read here in batches and written in order; what comes in
//! at the others is [`net::Streams`]' affair.

mod change;

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use net::{Sleep, Streams, UdpListener};
use proxy::config::Listener;
use wire::{ListenerId, Transmit, Transport};

use crate::metrics::label::Label as _;
use crate::view::View;

pub(super) use change::Opened;

/// How long to wait before a socket that could not be opened is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// One for each configured listener, in its order.
#[derive(Debug)]
pub(super) struct Sockets {
    all: Vec<Socket>,
    retry: Option<Instant>,
}

#[derive(Debug)]
struct Socket {
    config: Listener,
    open: Open,
    /// There is something to read, as the last sleep told.
    readable: bool,
    /// Its room is waited for.
    narrow: bool,
    said: bool,
}

/// Whether a socket is open.
#[derive(Debug)]
enum Open {
    /// It is not, or not yet.
    Not,
    /// For datagrams.
    Udp(Box<UdpListener>),
    /// For connections; it lives elsewhere.
    Stream,
}

impl Socket {
    fn new(config: &Listener) -> Self {
        Self { config: config.clone(), open: Open::Not, readable: false, narrow: false, said: false }
    }
}

impl Open {
    /// Opens it.
    fn new(id: ListenerId, transport: Transport, bind: SocketAddr, on: (&mut Streams, &Sleep)) -> io::Result<Self> {
        let (streams, sleep) = on;
        match transport {
            Transport::Udp => {
                let listener = UdpListener::bind(id, bind, streams.mark())?;
                sleep.watch(&listener, id.0.into())?;
                Ok(Self::Udp(Box::new(listener)))
            }
            Transport::Tcp | Transport::Tls | Transport::Ws | Transport::Wss => {
                streams.listen(id, transport, bind).map(|_bound| Self::Stream)
            }
        }
    }

    fn udp(&mut self) -> Option<&mut UdpListener> {
        match self {
            Self::Udp(listener) => Some(listener),
            Self::Not | Self::Stream => None,
        }
    }
}

impl Sockets {
    /// None open yet; the first [`open`](Self::open) is due at once.
    pub(super) fn new(now: Instant, listeners: &[Listener]) -> Self {
        Self { all: listeners.iter().map(Socket::new).collect(), retry: Some(now) }
    }

    /// Opens what is not open, if it is time; returns what was opened.
    pub(super) fn open(&mut self, now: Instant, on: (&mut Streams, &Sleep), view: &View) -> Vec<ListenerId> {
        let (streams, sleep) = on;
        let mut opened = Vec::new();
        if self.retry.is_none_or(|at| at > now) {
            return opened;
        }
        self.retry = None;
        let wanted =
            |socket: &Socket| matches!(socket.open, Open::Not) && socket.config.accepts && !socket.config.retired;
        for (index, socket) in self.all.iter_mut().enumerate().filter(|(_, socket)| wanted(socket)) {
            let (Ok(index), bind, transport) = (u16::try_from(index), socket.config.bind, socket.config.transport)
            else {
                break;
            };
            let id = ListenerId(index);
            match Open::new(id, transport, bind, (streams, sleep)) {
                Ok(open) => {
                    tracing::info!(side = socket.config.side.as_str(), %bind, "listening on {}", transport.label());
                    socket.open = open;
                    view.listener(id, Ok(()));
                    opened.push(id);
                }
                Err(error) => {
                    let mend = mend(error.kind(), transport, bind.port());
                    if !std::mem::replace(&mut socket.said, true) {
                        let transport = transport.label();
                        tracing::error!(transport, %bind, %error, "cannot listen; {mend}; tried again every 5 s");
                    }
                    view.listener(id, Err(format!("{error}; {mend}")));
                    self.retry = Some(now + RETRY);
                }
            }
        }
        opened
    }

    /// When [`open`](Self::open) is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.retry
    }

    /// The socket at an index has something to read, or room.
    pub(super) fn tell(&mut self, index: usize) {
        if let Some(socket) = self.all.get_mut(index) {
            socket.readable = true;
        }
    }

    /// How many there are, open or not.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// True when the socket at an index has something to read, and was not asked since.
    pub(super) fn is_readable(&mut self, index: usize) -> bool {
        self.all.get_mut(index).is_some_and(|socket| std::mem::take(&mut socket.readable))
    }

    /// Where the kernel has no room for what is to be sent, the next sleep ends when it has.
    pub(super) fn wait_for_room(&mut self, sleep: &Sleep) -> io::Result<()> {
        for (socket, token) in self.all.iter_mut().zip(0..) {
            if let Open::Udp(listener) = &socket.open
                && listener.waits() != socket.narrow
            {
                sleep.watch_room(listener, token, listener.waits())?;
                socket.narrow = listener.waits();
            }
        }
        Ok(())
    }

    /// The open socket at an index.
    pub(super) fn at(&mut self, index: usize) -> Option<&mut UdpListener> {
        self.all.get_mut(index)?.open.udp()
    }

    /// The open socket of a listener.
    pub(super) fn of(&mut self, listener: ListenerId) -> Option<&mut UdpListener> {
        self.at(usize::from(listener.0))
    }

    /// Queues a message; it comes back if its socket is not open.
    pub(super) fn queue(&mut self, transmit: Transmit) -> Result<(), Transmit> {
        match self.of(transmit.flow.listener) {
            Some(listener) => {
                listener.queue(transmit);
                Ok(())
            }
            None => Err(transmit),
        }
    }

    /// Sends what is queued, as far as the kernel takes it, before anything else is done.
    pub(super) fn flush(&mut self) {
        for listener in self.all.iter_mut().filter_map(|socket| socket.open.udp()).filter(|listener| listener.waits()) {
            listener.try_send_batch();
        }
    }

    /// Sends what is queued, as far as the kernel takes it; returns what failed.
    pub(super) fn send(&mut self) -> Vec<net::transport::SendFailure> {
        let mut failures = Vec::new();
        for listener in self.all.iter_mut().filter_map(|socket| socket.open.udp()) {
            listener.try_send_batch();
            failures.extend(std::iter::from_fn(|| listener.poll_failure()));
        }
        failures
    }
}

/// What to do about a socket that cannot be opened.
fn mend(error: ErrorKind, transport: Transport, port: u16) -> String {
    if error == ErrorKind::AddrInUse {
        let kind = if transport.reliable() { "-tlpn" } else { "-ulpn" };
        format!(
            "another program has this port (\"ss {kind} sport = :{port}\" shows which): stop it, or write another listen"
        )
    } else if error == ErrorKind::AddrNotAvailable {
        "this machine does not have this address now: wait for it, or write another listen".to_owned()
    } else if error == ErrorKind::PermissionDenied {
        format!("port {port} needs the right CAP_NET_BIND_SERVICE, or a port above 1023")
    } else {
        "write another listen if this lasts".to_owned()
    }
}
