//! A border with two outer addresses is a STUN server with two (RFC 5780 §6):
//! the SIP sockets are two of its four corners, the other two are opened here.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use nat::reflector::{Reflection, Reflector};
use nat::{Access, Advertise, Side};
use net::dscp::Dscp;
use net::{Sleep, UdpListener};
use proxy::config::{Config, Role};
use wire::{Flow, ListenerId, Transmit, Transport};

use super::sockets::Sockets;

/// The numbers that the sockets have in the [`Reflector`].
const SIP: [usize; 2] = [0, 3];
const OTHERS: [usize; 2] = [1, 2];

/// The number that both sockets here have in [`Sleep`], beyond those of listeners.
pub(super) const TOKEN: u32 = 1 << 16;

/// The server, and those of its sockets that are not SIP sockets.
#[derive(Debug)]
pub(super) struct Corners {
    addresses: [SocketAddr; 2],
    sip: [ListenerId; 2],
    reflector: Reflector,
    others: [UdpListener; 2],
}

impl Corners {
    /// With this configuration there is one; `None` where it has no two such
    /// addresses, or other programs have the ports.
    pub(super) fn open(config: &Config, mark: Dscp, sleep: &Sleep) -> Option<Self> {
        let (addresses, sip) = wanted(config)?;
        let reflector = Reflector::new(addresses[0], Some(addresses[1]), &[]);
        // They are no listeners of SIP: their number is nobody's.
        let bind = |at: usize| {
            let socket = UdpListener::bind(ListenerId(u16::MAX), reflector.sockets()[at], mark)?;
            sleep.watch(&socket, TOKEN).map(|()| socket)
        };
        let opened: io::Result<_> = bind(OTHERS[0]).and_then(|one| Ok([one, bind(OTHERS[1])?]));
        match opened {
            Ok(others) => {
                tracing::info!(first = %addresses[0], other = %addresses[1], "STUN tells of NATs (RFC 5780)");
                Some(Self { addresses, sip, reflector, others })
            }
            Err(error) => {
                tracing::info!(%error, "STUN tells of no NATs: the crossed addresses of [outer] listen cannot be had");
                None
            }
        }
    }

    /// It is what this configuration wants.
    pub(super) fn fits(&self, config: &Config) -> bool {
        wanted(config) == Some((self.addresses, self.sip))
    }

    /// Which of its corners a SIP socket is.
    pub(super) fn of(&self, listener: ListenerId) -> Option<usize> {
        self.sip.iter().position(|sip| *sip == listener).map(|at| SIP[at])
    }

    /// A STUN request came to a corner. False: it stays unanswered.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        corner: usize,
        from: SocketAddr,
        bytes: &[u8],
        sockets: &mut Sockets,
    ) -> bool {
        let Some(Reflection { via, to, bytes }) = self.reflector.receive(now, corner, from, bytes) else {
            return false;
        };
        let local = self.reflector.sockets()[via];
        let sip = SIP.iter().position(|corner| *corner == via).map(|at| self.sip[at]);
        let listener = sip.unwrap_or(ListenerId(u16::MAX));
        let flow = Flow { transport: Transport::Udp, listener, connection: 0, local, remote: to };
        match OTHERS.iter().position(|corner| *corner == via) {
            Some(at) => {
                self.others[at].queue(Transmit { flow, bytes });
                true
            }
            None => sockets.queue(Transmit { flow, bytes }).is_ok(),
        }
    }

    /// Reads what came to them, of those who may speak to us.
    pub(super) fn take(&mut self, now: Instant, access: &Access, sockets: &mut Sockets) {
        for (at, corner) in OTHERS.into_iter().enumerate() {
            let count = self.others[at].try_recv_batch();
            let came = (0..count).filter_map(|index| {
                let datagram = self.others[at].datagram(index)?;
                let admitted = access.admits(Side::Outer, datagram.flow.remote.ip()) && !datagram.truncated;
                admitted.then(|| (datagram.flow.remote, datagram.bytes.to_vec()))
            });
            for (from, bytes) in came.collect::<Vec<_>>() {
                self.receive(now, corner, from, &bytes, sockets);
            }
        }
    }

    /// Sends what is queued there; what the kernel does not take is lost, and asked for again.
    pub(super) fn send(&mut self) {
        for socket in &mut self.others {
            socket.try_send_batch();
            while socket.poll_failure().is_some() {}
        }
    }
}

/// The first two outer UDP listeners that differ in IP and port, known outside by their own addresses.
fn wanted(config: &Config) -> Option<([SocketAddr; 2], [ListenerId; 2])> {
    if config.role != Role::Border {
        return None;
    }
    let fits = |listener: &proxy::config::Listener| {
        let plain =
            listener.advertise == Advertise::Listen && listener.phone.is_none() && !listener.bind.ip().is_unspecified();
        let open = listener.accepts && !listener.retired && listener.transport == Transport::Udp;
        plain && open && listener.side == Side::Outer
    };
    let all: Vec<(u16, SocketAddr)> = (0..)
        .zip(&config.listeners)
        .filter(|(_, listener)| fits(listener))
        .map(|(id, listener)| (id, listener.bind))
        .collect();
    let used = |address: SocketAddr| {
        config.listeners.iter().any(|l| !l.retired && l.transport == Transport::Udp && l.bind == address)
    };
    let pairs = all.iter().flat_map(|one| all.iter().map(move |two| (*one, *two)));
    let mut fitting = pairs.filter(|((a, one), (b, two))| {
        let crossed = [SocketAddr::new(one.ip(), two.port()), SocketAddr::new(two.ip(), one.port())];
        let differ = one.ip() != two.ip() && one.port() != two.port() && one.is_ipv4() == two.is_ipv4();
        a < b && differ && !crossed.into_iter().any(used)
    });
    let ((a, one), (b, two)) = fitting.next()?;
    Some(([one, two], [ListenerId(a), ListenerId(b)]))
}
