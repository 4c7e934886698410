//! The datapath: threads that move media packets.
//!
//! Each worker is one thread that owns its sockets and its
//! `media::Relay`. Orders go down through a [`WorkerHandle`], [`Report`]s
//! come up through a tokio channel that the signalling loop awaits. Nothing is
//! asked in the middle of a packet, in either direction.
//!
//! What receives and sends is a backend, one file each, all with the functions
//! of `epoll`, the portable one. A backend never judges; `Relay::forward`
//! does, whichever backend it is called from.

mod ebpf;
mod epoll;
mod gather;
mod handle;
mod realtime;
mod worker;

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use media::relay::KeepAlive;
use media::{Command, Fact, Relay, StreamId};
use tokio::sync::mpsc::UnboundedSender;

pub use handle::{Counts, Undelivered, WorkerHandle};

use crate::dscp::Marks;
use crate::entropy;
use crate::turn::Tunnel;
use ebpf::Kernel;

/// The sockets of a stream, in the order of their `media::Slot`s: RTP and RTCP
/// of end A, RTP and RTCP of end B.
pub type StreamSockets = [MediaSocket; 4];

/// What a leg sends from and receives on.
#[derive(Debug)]
pub enum MediaSocket {
    /// A socket of our own.
    Udp(UdpSocket),
    /// An allocation on a TURN server.
    Turn(Tunnel),
}

impl MediaSocket {
    /// The address of a socket of our own.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Udp(socket) => socket.local_addr().ok(),
            Self::Turn(_) => None,
        }
    }
}

impl From<UdpSocket> for MediaSocket {
    fn from(socket: UdpSocket) -> Self {
        Self::Udp(socket)
    }
}

impl AsFd for MediaSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Udp(socket) => socket.as_fd(),
            Self::Turn(tunnel) => tunnel.as_fd(),
        }
    }
}

/// What all workers have in common.
#[derive(Debug, Clone)]
pub struct Config {
    /// What keeps the mappings of quiet legs alive.
    pub keepalive: KeepAlive,
    /// How often that is sent on a quiet leg.
    pub keepalive_interval: Duration,
    /// Most streams per worker; four descriptors each. Reaching it makes
    /// [`WorkerHandle::has_room`] false. No more than 2¹⁸.
    pub streams: u32,
    /// How packets are marked; sockets come with the mark of audio.
    pub marks: Marks,
    /// Where packets of a stream that goes on as it did are forwarded.
    pub datapath: Datapath,
    /// Our addresses that have media ports, for the kernel's part.
    pub addresses: Vec<IpAddr>,
    /// Whether workers go before other threads.
    pub priority: Priority,
}

/// What a worker's thread is among others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// As all others.
    Normal,
    /// Before all that have no such priority (`SCHED_RR`), where the system allows it, and
    /// as long as the worker leaves time to others.
    Realtime,
}

/// Where packets are forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Datapath {
    /// In the kernel where it can be done, else by the workers.
    Auto,
    /// By the workers.
    Userspace,
    /// In the kernel, or the workers do not start.
    Kernel,
}

/// What a worker is told, by way of its handle.
#[derive(Debug)]
enum Order {
    /// Start a stream.
    Open {
        /// A `Command::Open`.
        command: Command,
        /// Its sockets; they come back with [`Report::Sockets`].
        sockets: StreamSockets,
    },
    /// Anything else that the relay understands.
    Relay(Command),
    /// Stop the thread and close its sockets; calls should have been closed before.
    Stop,
}

impl Order {
    /// The streams that it concerns.
    fn streams(&self) -> impl Iterator<Item = StreamId> {
        let command = match self {
            Self::Open { command, .. } | Self::Relay(command) => Some(command),
            Self::Stop => None,
        };
        command.into_iter().flat_map(Command::streams)
    }
}

/// What a worker tells.
#[derive(Debug)]
pub enum Report {
    /// Something happened to a stream, or a worker's totals.
    Fact {
        /// Who tells it.
        worker: u8,
        /// What.
        fact: Fact,
    },
    /// The sockets of a stream that the worker has let go. Comes before
    /// `Fact::Closed` of the same stream (or before `Fact::Failed`, when the
    /// stream could not be opened).
    Sockets {
        /// The stream.
        stream: StreamId,
        /// For `Ports::rest`.
        sockets: StreamSockets,
        /// For each end: did anything arrive at or leave from its pair? After
        /// a failure always true.
        used: [bool; 2],
    },
    /// The thread has ended, on order or by a fault; its streams are gone.
    Stopped {
        /// Which.
        worker: u8,
    },
}

/// Starts `count` workers (normally one per core), numbered from 0, each with a
/// relay of its own seed. Reports of all go to `reports`. Fails when threads,
/// descriptors or entropy cannot be had; workers already started then stop.
pub fn spawn_workers(count: u8, config: &Config, reports: &UnboundedSender<Report>) -> io::Result<Vec<WorkerHandle>> {
    let kernel = kernel(count, config)?;
    (0..count)
        .map(|worker| {
            let relay = media::relay::Config {
                worker,
                keepalive: config.keepalive,
                keepalive_interval: config.keepalive_interval,
                holds: kernel.is_some(),
            };
            WorkerHandle::spawn(
                worker,
                Relay::new(relay, entropy::seed()?),
                config.streams,
                config.marks,
                config.priority,
                kernel.clone(),
                reports.clone(),
            )
        })
        .collect()
}

/// The kernel's part, if it is wanted and can be had; the reason is said once.
fn kernel(workers: u8, config: &Config) -> io::Result<Option<Arc<Kernel>>> {
    if config.datapath == Datapath::Userspace {
        return Ok(None);
    }
    let streams = config.streams.min(epoll::MOST_STREAMS);
    match Kernel::start(&config.addresses, workers, streams, config.datapath == Datapath::Kernel) {
        Ok(kernel) => Ok(Some(Arc::new(kernel))),
        Err(error) if config.datapath == Datapath::Kernel => {
            Err(io::Error::new(error.kind(), format!("media.datapath = \"kernel\": {error}")))
        }
        Err(error) => {
            tracing::info!(%error, "media is relayed in user space");
            Ok(None)
        }
    }
}
