//! The signalling sockets: opened, tried again while they cannot be, read in
//! batches and written in order.

mod change;

use std::io::ErrorKind;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use net::UdpListener;
use net::transport::Readiness;
use proxy::config::Listener;
use wire::{ListenerId, Transmit};

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
    open: Option<UdpListener>,
    said: bool,
}

impl Sockets {
    /// None open yet; the first [`open`](Self::open) is due at once.
    pub(super) fn new(now: Instant, listeners: &[Listener]) -> Self {
        let socket = |config: &Listener| Socket { config: config.clone(), open: None, said: false };
        Self { all: listeners.iter().map(socket).collect(), retry: Some(now) }
    }

    /// Opens what is not open, if it is time; returns what was opened.
    pub(super) fn open(&mut self, now: Instant, view: &View) -> Vec<ListenerId> {
        let mut opened = Vec::new();
        if self.retry.is_none_or(|at| at > now) {
            return opened;
        }
        self.retry = None;
        for (index, socket) in
            self.all.iter_mut().enumerate().filter(|(_, socket)| socket.open.is_none() && !socket.config.retired)
        {
            let (Ok(index), bind) = (u16::try_from(index), socket.config.bind) else { break };
            let id = ListenerId(index);
            match UdpListener::bind(id, bind) {
                Ok(listener) => {
                    tracing::info!(side = socket.config.side.as_str(), %bind, "listening on udp");
                    socket.open = Some(listener);
                    view.listener(id, Ok(()));
                    opened.push(id);
                }
                Err(error) => {
                    let mend = mend(error.kind(), bind.port());
                    if !std::mem::replace(&mut socket.said, true) {
                        tracing::error!(%bind, %error, "cannot listen; {mend}; tried again every 5 s");
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

    /// Adds the sockets that have something to do to `ready`.
    pub(super) fn poll_ready(&self, cx: &mut Context<'_>, ready: &mut Vec<(usize, Readiness)>) {
        for (index, socket) in self.all.iter().enumerate() {
            if let Some(listener) = &socket.open
                && let Poll::Ready(Ok(readiness)) = listener.poll_ready(cx)
            {
                ready.push((index, readiness));
            }
        }
    }

    /// The open socket at an index.
    pub(super) fn at(&mut self, index: usize) -> Option<&mut UdpListener> {
        self.all.get_mut(index)?.open.as_mut()
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

    /// Sends what is queued, as far as the kernel takes it; returns what failed.
    pub(super) fn send(&mut self) -> Vec<net::transport::SendFailure> {
        let mut failures = Vec::new();
        for listener in self.all.iter_mut().filter_map(|socket| socket.open.as_mut()) {
            listener.try_send_batch();
            failures.extend(std::iter::from_fn(|| listener.poll_failure()));
        }
        failures
    }
}

/// What to do about a socket that cannot be opened.
fn mend(error: ErrorKind, port: u16) -> String {
    if error == ErrorKind::AddrInUse {
        format!(
            "another program has this port (\"ss -ulpn sport = :{port}\" shows which): stop it, or write another listen"
        )
    } else if error == ErrorKind::AddrNotAvailable {
        "this machine does not have this address now: wait for it, or write another listen".to_owned()
    } else if error == ErrorKind::PermissionDenied {
        format!("port {port} needs the right CAP_NET_BIND_SERVICE, or a port above 1023")
    } else {
        "write another listen if this lasts".to_owned()
    }
}
