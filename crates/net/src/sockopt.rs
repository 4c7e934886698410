//! Socket options: how our sockets are opened.
//!
//! One function per question, so that no other file sets an option. UDP ports
//! are never shared (neither `SO_REUSEADDR` nor `SO_REUSEPORT`, but for a
//! multicast group that others hear, too): a second
//! daemon on the same port must fail to start instead of taking half of the
//! messages. TCP listeners set `SO_REUSEADDR`, which on Linux shares nothing
//! with another listener, only with connections that are fading away.
#![expect(unsafe_code, reason = "IP_PKTINFO, IPV6_RECVPKTINFO and SIOCGSTAMPNS are not among socket2's safe functions")]

use std::io;
use std::mem::size_of;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use crate::dscp::{Dscp, Mark};

/// How long data may go unacknowledged before a connection is dead.
pub const DEAD: Duration = Duration::from_secs(30);

/// Connections that the kernel keeps until we accept them.
const BACKLOG: i32 = 1024;

/// What a socket carries and how that is marked; buffers follow from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// RTP and RTCP.
    Media(Mark),
    /// SIP.
    Signalling(Dscp),
}

impl Class {
    /// Wished receive and send buffer, octets; the kernel grants at most
    /// `net.core.rmem_max` and `wmem_max`. Media keeps the system's default:
    /// 212 KiB are seconds of audio, and later is as good as lost.
    fn buffer(self) -> Option<usize> {
        match self {
            Self::Media(_) => None,
            Self::Signalling(_) => Some(4 << 20),
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
    let socket = Socket::new(Domain::for_address(local), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
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
    match class {
        Class::Media(Mark::Keep) => mark_media(&socket, local.is_ipv4(), Mark::Keep),
        // A new socket tells of no marks by itself.
        Class::Media(Mark::Set(point)) | Class::Signalling(point) => set_dscp(&socket, local.is_ipv4(), point),
    }
    socket.bind(&local.into())?;
    Ok(socket.into())
}

/// A non-blocking UDP socket that hears what is sent to a multicast group on
/// the link of `local`. The port is shared with others who listen to the group.
pub fn bind_group(group: SocketAddrV4, local: Ipv4Addr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from(group).into())?;
    socket.join_multicast_v4(group.ip(), &local)?;
    Ok(socket.into())
}

/// What the socket sends to multicast groups leaves on the link of `local`, and passes one router.
pub(crate) fn multicast_from(socket: &impl AsFd, local: Ipv4Addr) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_multicast_if_v4(&local)?;
    socket.set_multicast_ttl_v4(2)
}

/// Marks a media socket anew. One whose marks are to be kept tells of each packet what it came with.
pub(crate) fn mark_media(socket: &impl AsFd, ipv4: bool, mark: Mark) {
    set_dscp(socket, ipv4, mark.first());
    let (socket, tell) = (SockRef::from(socket), mark == Mark::Keep);
    let told = if ipv4 { socket.set_recv_tos_v4(tell) } else { socket.set_recv_tclass_v6(tell) };
    if let Err(error) = told {
        tracing::debug!(%error, "marks of packets cannot be seen");
    }
}

/// What the socket sends is marked with from here on. Best effort: a sandbox that forbids it still carries calls.
pub(crate) fn set_dscp(socket: &impl AsFd, ipv4: bool, point: Dscp) {
    let (socket, octet) = (SockRef::from(socket), u32::from(point.octet()));
    let marked = if ipv4 { socket.set_tos_v4(octet) } else { socket.set_tclass_v6(octet) };
    if let Err(error) = marked {
        tracing::debug!(%error, %point, "packets go unmarked");
    }
}

/// When the datagram came that was read last, by the wall clock; `None` where
/// the kernel does not tell: not for what came before it was asked first.
pub(crate) fn last_received(socket: &impl AsFd) -> Option<Duration> {
    // `SIOCGSTAMPNS_NEW` of linux/sockios.h: two 64-bit numbers on every machine.
    const ASK: u32 = 0x8010_8907;
    let mut at = [0_i64; 2];
    // SAFETY: the kernel writes 16 octets, and `at` has them.
    let failed = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), ASK as _, &raw mut at) } != 0;
    let (seconds, nanos) = (u64::try_from(at[0]).ok()?, u32::try_from(at[1]).ok()?);
    (!failed && seconds > 0).then(|| Duration::new(seconds, nanos))
}

/// Opens a non-blocking TCP listener on `local`; its connections have the
/// options of [`stream`], which Linux hands down. Errors as of [`bind_udp`].
pub fn listen_tcp(local: SocketAddr, point: Dscp) -> io::Result<TcpListener> {
    let socket = stream(local, point)?;
    socket.set_reuse_address(true)?;
    socket.bind(&local.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A non-blocking TCP socket that is to connect from the IP of `local`; a
/// wildcard leaves the choice to the kernel.
pub fn from_tcp(local: SocketAddr, point: Dscp) -> io::Result<TcpStream> {
    let socket = stream(local, point)?;
    if !local.ip().is_unspecified() {
        socket.bind(&SocketAddr::new(local.ip(), 0).into())?;
    }
    Ok(socket.into())
}

/// What all our TCP sockets have: no delay for small messages; a dead peer is
/// noticed within [`DEAD`] when something is sent, and within minutes else.
fn stream(local: SocketAddr, point: Dscp) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(local), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    if local.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(Some(DEAD))?;
    let every = Duration::from_secs(10);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(Duration::from_secs(120)).with_interval(every))?;
    set_dscp(&socket, local.is_ipv4(), point);
    Ok(socket)
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
        let first = bind_udp("127.0.0.1:0".parse().unwrap(), Class::Signalling(Dscp::CS3)).unwrap();
        let again = bind_udp(first.local_addr().unwrap(), Class::Signalling(Dscp::CS3));
        assert_eq!(again.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn connections_have_the_options_of_their_listener() {
        let listener = listen_tcp("127.0.0.1:0".parse().unwrap(), Dscp::CS3).unwrap();
        listener.set_nonblocking(false).unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(listen_tcp(address, Dscp::CS3).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let socket: Socket = from_tcp("127.0.0.2:5060".parse().unwrap(), Dscp::CS3).unwrap().into();
        socket.set_nonblocking(false).unwrap();
        socket.connect(&address.into()).unwrap();
        let (accepted, from) = listener.accept().unwrap();
        assert_eq!(from.ip().to_string(), "127.0.0.2");
        assert_ne!(from.port(), 5060);
        for socket in [&accepted.into(), &socket] {
            let socket: &Socket = socket;
            assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
            assert_eq!(socket.tcp_user_timeout().unwrap(), Some(DEAD));
            assert_eq!(socket.tos_v4().unwrap(), 0x60);
        }
    }

    #[test]
    fn packets_are_marked_by_class() {
        let classes = [
            (Class::Media(Mark::Set(Dscp::EF)), 0xb8, false),
            (Class::Media(Mark::Keep), 0, true),
            (Class::Signalling(Dscp::CS3), 0x60, false),
        ];
        for (class, octet, tells) in classes {
            let socket: Socket = bind_udp("127.0.0.1:0".parse().unwrap(), class).unwrap().into();
            assert_eq!((socket.tos_v4().unwrap(), socket.recv_tos_v4().unwrap()), (octet, tells));
        }
    }
}
