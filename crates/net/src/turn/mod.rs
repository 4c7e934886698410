//! Allocations on a TURN server (RFC 8656), for port pairs whose own sockets
//! nobody outside can reach.
//!
//! Each pair has two allocations, RTP and RTCP, and each of these a connection
//! of its own to the server: UDP, TCP or TLS. A task on a thread of their own
//! drives their machines (`nat::Turn`). To a media worker they look like two
//! sockets: a [`Tunnel`] carries datagrams with the peer's true address before
//! them, so that the relay need not know of TURN.
//!
//! Decides when to try again. Must not decide whether TURN is needed, nor who
//! may be heard; the permissions that it asks for follow what SDP names.

mod connection;
mod task;
pub(crate) mod tunnel;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use nat::Mapped;
use nat::turn::{Credentials, End};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

pub use tunnel::Tunnel;

use crate::dscp::Mark;
use crate::transport::tls;

/// How the server is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Over {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
}

impl Over {
    /// For labels and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }
}

/// A server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Host name, or address without brackets; a certificate must name it.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Transport.
    pub over: Over,
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.over == Over::Tls { "turns" } else { "turn" };
        let transport = if self.over == Over::Tcp { "?transport=tcp" } else { "" };
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{scheme}:{open}{}{close}:{}{transport}", self.host, self.port)
    }
}

/// What all allocations have in common.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where.
    pub server: Server,
    /// Who we are there.
    pub credentials: Credentials,
    /// For `turns:`.
    pub tls: Option<Arc<tls::Settings>>,
    /// How packets to the server are marked.
    pub mark: Mark,
    /// How often allocations are refreshed at least; normally [`REFRESH`].
    pub refresh: Duration,
}

/// Keeps the mapping of a NAT, and notices a server that has forgotten.
pub const REFRESH: Duration = Duration::from_secs(25);

/// Names a pair's two allocations; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AllocationId(pub u64);

/// Why there are no allocations, or not any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Failure {
    /// The server's name does not resolve.
    Unresolved,
    /// It cannot be connected to, or the connection was lost.
    Unreachable,
    /// TURN said so.
    Turn(End),
}

impl Failure {
    /// For people.
    pub fn in_words(self) -> String {
        match self {
            Self::Unresolved => "the TURN server's name does not resolve".to_owned(),
            Self::Unreachable => "the TURN server cannot be connected to, or the connection was lost".to_owned(),
            Self::Turn(End::Silent) => "the TURN server does not answer".to_owned(),
            Self::Turn(End::Unauthorized) => "the TURN server refuses our user name and password".to_owned(),
            Self::Turn(End::Refused(code)) => format!("the TURN server gives no allocation ({code})"),
            Self::Turn(End::Absurd) => "what the TURN server says makes no sense".to_owned(),
            Self::Turn(End::Lost) => "the TURN server has forgotten an allocation".to_owned(),
            Self::Turn(End::Closed) => "an allocation was given back".to_owned(),
        }
    }
}

/// What becomes of a pair's allocations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// They are there.
    Allocated {
        /// Whose.
        id: AllocationId,
        /// The relayed addresses of RTP and RTCP.
        relayed: [SocketAddr; 2],
        /// Our own address, as the server sees it.
        mapped: Option<Mapped>,
    },
    /// There are none, or not any more. They are asked for again, later each
    /// time, until they are released; not when a worker has the sockets, for
    /// the addresses would be others.
    Ended {
        /// Whose.
        id: AllocationId,
        /// Why.
        why: Failure,
    },
    /// The server does not let a peer be heard.
    Denied {
        /// Whose.
        id: AllocationId,
        /// The peer.
        peer: IpAddr,
        /// Its error code.
        code: u16,
    },
    /// Packets of a pair that had no room on the way, since the last such report.
    Dropped {
        /// Whose.
        id: AllocationId,
        /// How many.
        packets: u64,
    },
}

/// What the tasks are told.
#[derive(Debug)]
enum Order {
    Allocate { id: AllocationId, local: IpAddr },
    Of { id: AllocationId, order: task::Order },
}

/// The way to the thread that has the allocations. Dropping it has all of them
/// given back, which takes the thread half a second at most.
#[derive(Debug)]
pub struct Client {
    orders: UnboundedSender<Order>,
}

impl Client {
    /// Starts it. What happens goes to `reports`. The thread ends after the client was dropped.
    pub fn start(settings: Settings, reports: UnboundedSender<Report>) -> io::Result<(Self, JoinHandle<()>)> {
        let (orders, queue) = unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = Builder::new()
            .name("turn".to_owned())
            .spawn(move || runtime.block_on(serve(Arc::new(settings), queue, reports)))?;
        Ok((Self { orders }, thread))
    }

    /// Makes two allocations, over connections from this address.
    pub fn allocate(&self, local: IpAddr) -> AllocationId {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = AllocationId(NEXT.fetch_add(1, Ordering::Relaxed));
        self.put(Order::Allocate { id, local });
        id
    }

    /// The tunnels that a worker gets: what it sends goes to the peers, what
    /// these send comes out. RTP first.
    pub fn attach(&self, id: AllocationId) -> io::Result<[Tunnel; 2]> {
        let ((rtp, near_rtp), (rtcp, near_rtcp)) = (tunnel::pair()?, tunnel::pair()?);
        self.put(Order::Of { id, order: task::Order::Attach([near_rtp, near_rtcp]) });
        Ok([rtp, rtcp])
    }

    /// From now on these peers may be heard, and no others.
    pub fn permit(&self, id: AllocationId, peers: Vec<IpAddr>) {
        self.put(Order::Of { id, order: task::Order::Permit(peers) });
    }

    /// They are no longer wanted.
    pub fn release(&self, id: AllocationId) {
        self.put(Order::Of { id, order: task::Order::Release });
    }

    fn put(&self, order: Order) {
        // Refused only when the thread has ended, and with it all allocations.
        let _put = self.orders.send(order);
    }
}

/// Starts tasks and passes orders on, until nobody can give any.
async fn serve(settings: Arc<Settings>, mut queue: UnboundedReceiver<Order>, reports: UnboundedSender<Report>) {
    let mut tasks = std::collections::BTreeMap::new();
    let mut running = tokio::task::JoinSet::new();
    while let Some(order) = queue.recv().await {
        match order {
            Order::Allocate { id, local } => {
                let (orders, inbox) = unbounded_channel();
                running.spawn(task::run(Arc::clone(&settings), id, local, inbox, reports.clone()));
                tasks.insert(id, orders);
            }
            Order::Of { id, order } => {
                let last = matches!(order, task::Order::Release);
                if let Some(orders) = tasks.get(&id) {
                    let _put = orders.send(order);
                }
                if last {
                    tasks.remove(&id);
                }
            }
        }
        // Those that have ended are forgotten.
        while running.try_join_next().is_some() {}
    }
    // Each gives its allocations back; a server that does not answer does not hold us.
    tasks.clear();
    let all = async { while running.join_next().await.is_some() {} };
    let _left = tokio::time::timeout(task::FAREWELL, all).await;
}
