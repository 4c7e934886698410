//! The sockets of PCP and NAT-PMP: one that requests leave from, and one that
//! hears what a router tells to all hosts.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::task::Poll;

use nat::portmap::Gateway;
use tokio::io::ReadBuf;
use tokio::net::UdpSocket;
use wire::portmap::{ANNOUNCE_PORT, SERVER_PORT};

use super::at;
use crate::dscp::Dscp;
use crate::sockopt::{Class, bind_group, bind_udp};

/// Octets of the largest packet (RFC 6887 §7).
pub(super) const ROOM: usize = 1104;

/// The sockets, open while there is a router.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    gateway: Option<Gateway>,
    requests: Option<UdpSocket>,
    announcements: Option<UdpSocket>,
}

/// A socket from our address on the router's link. Not connected, so that who else answers is seen.
pub(super) fn bind(local: Ipv4Addr) -> io::Result<UdpSocket> {
    let local = SocketAddr::from((local, 0));
    UdpSocket::from_std(bind_udp(local, Class::Signalling(Dscp::DEFAULT))?)
}

impl Sockets {
    /// Opens them on the link of this router, and closes those that were open.
    pub(super) fn open(&mut self, gateway: Option<Gateway>) {
        *self = Self { gateway, ..Self::default() };
        let Some(gateway) = gateway else { return };
        match bind(gateway.local) {
            Ok(socket) => self.requests = Some(socket),
            Err(error) => tracing::warn!(%error, local = %gateway.local, "the router cannot be asked"),
        }
        let group = SocketAddrV4::new(Ipv4Addr::new(224, 0, 0, 1), ANNOUNCE_PORT);
        match bind_group(group, gateway.local).and_then(UdpSocket::from_std) {
            Ok(socket) => self.announcements = Some(socket),
            // Polls find the same, some seconds later.
            Err(error) => tracing::debug!(%error, "what the router announces is not heard"),
        }
    }

    /// The router can be asked.
    pub(super) fn ready(&self) -> bool {
        self.requests.is_some()
    }

    /// What is not sent is asked again.
    pub(super) fn send(&self, packet: &[u8]) {
        if let (Some(gateway), Some(socket)) = (self.gateway, &self.requests)
            && let Err(error) = socket.try_send_to(packet, at(gateway, SERVER_PORT))
        {
            tracing::debug!(%error, "a request to the router was not sent");
        }
    }

    /// The next datagram: from where, how long, and whether it was told to all.
    pub(super) async fn next(&self, room: &mut [u8]) -> (SocketAddr, usize, bool) {
        std::future::poll_fn(|cx| {
            for (socket, multicast) in [(&self.requests, false), (&self.announcements, true)] {
                let Some(socket) = socket else { continue };
                let mut buffer = ReadBuf::new(room);
                // An ICMP error about something sent earlier says nothing that silence does not.
                while let Poll::Ready(came) = socket.poll_recv_from(cx, &mut buffer) {
                    if let Ok(from) = came {
                        return Poll::Ready((from, buffer.filled().len(), multicast));
                    }
                    buffer.clear();
                }
            }
            Poll::Pending
        })
        .await
    }
}
