//! Socket options: how our UDP sockets are opened.
//!
//! One function per question, so that no other file sets an option. UDP ports
//! are never shared (neither `SO_REUSEADDR` nor `SO_REUSEPORT`): a second
//! daemon on the same port must fail to start instead of taking half of the
//! messages.
#![expect(unsafe_code, reason = "IP_PKTINFO and IPV6_RECVPKTINFO are not among socket2's safe setters")]

use std::io;
use std::mem::size_of;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use socket2::{Domain, Protocol, Socket, Type};

/// What a socket carries; its priority marking and buffers follow from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// RTP and RTCP: DSCP EF (RFC 4594 §4.1).
    Media,
    /// SIP: DSCP CS3, the class of "broadcast video" and call signalling as
    /// routers in the field are set up for it.
    Signalling,
}

impl Class {
    /// The octet in the IP header: DSCP in the upper six bits, ECN zero.
    pub fn octet(self) -> u8 {
        match self {
            Self::Media => 46 << 2,
            Self::Signalling => 24 << 2,
        }
    }

    /// Wished receive and send buffer, octets; the kernel grants at most
    /// `net.core.rmem_max` and `wmem_max`. Media keeps the system's default:
    /// 212 KiB are seconds of audio, and later is as good as lost.
    fn buffer(self) -> Option<usize> {
        match self {
            Self::Media => None,
            Self::Signalling => Some(4 << 20),
        }
    }
}

/// Opens a non-blocking UDP socket on `local`. An IPv6 one never takes IPv4
/// traffic; one on a wildcard learns the destination of each packet (pktinfo).
///
/// Fails with `AddrInUse` when somebody has the port, `AddrNotAvailable` when
/// the address is not ours, `PermissionDenied` below port 1024 without the
/// right, and the raw EMFILE or ENFILE when descriptors have run out.
pub fn bind_udp(local: SocketAddr, class: Class) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if local.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if local.ip().is_unspecified() {
        receive_pktinfo(&socket, local)?;
    }
    if let Some(octets) = class.buffer() {
        socket.set_recv_buffer_size(octets)?;
        socket.set_send_buffer_size(octets)?;
    }
    mark(&socket, local, class);
    socket.bind(&local.into())?;
    Ok(socket.into())
}

/// Best effort: a sandbox that forbids marking still carries calls.
fn mark(socket: &Socket, local: SocketAddr, class: Class) {
    let octet = u32::from(class.octet());
    let marked = if local.is_ipv4() { socket.set_tos_v4(octet) } else { socket.set_tclass_v6(octet) };
    if let Err(error) = marked {
        tracing::debug!(%error, %local, "packets go unmarked");
    }
}

fn receive_pktinfo(socket: &Socket, local: SocketAddr) -> io::Result<()> {
    let (level, name) = match local {
        SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_PKTINFO),
        SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
    };
    let on: libc::c_int = 1;
    // SAFETY: the value pointer and its length describe `on`.
    let failed = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    } != 0;
    if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_never_shared() {
        let first = bind_udp("127.0.0.1:0".parse().unwrap(), Class::Signalling).unwrap();
        let again = bind_udp(first.local_addr().unwrap(), Class::Signalling);
        assert_eq!(again.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn packets_are_marked_by_class() {
        for (class, octet) in [(Class::Media, 0xb8), (Class::Signalling, 0x60)] {
            let socket: Socket = bind_udp("127.0.0.1:0".parse().unwrap(), class).unwrap().into();
            assert_eq!(socket.tos_v4().unwrap(), octet);
        }
    }
}
