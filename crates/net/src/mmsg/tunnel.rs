//! Datagrams with the address of a peer before them: what passes between a
//! worker and the task that has the connection to a TURN server, on a pair of
//! connected Unix sockets. A socket's buffer is the bound: what has no room is
//! dropped, as late media is.
#![expect(unsafe_code, reason = "sendmsg and recvmsg in pieces have no safe wrapper in std")]

use std::io;
use std::mem::zeroed;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};

use super::{Batch, LINE, Meta};
use crate::dscp::Dscp;

/// Octets before the payload: port and address; IPv4 as mapped into IPv6.
pub(crate) const HEADER: usize = 18;

/// A peer's address as it stands there.
pub(crate) fn encode(peer: SocketAddr) -> [u8; HEADER] {
    let ip = match peer.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    let mut header = [0; HEADER];
    header[..2].copy_from_slice(&peer.port().to_be_bytes());
    header[2..].copy_from_slice(&ip.octets());
    header
}

/// The reverse.
pub(crate) fn decode(header: [u8; HEADER]) -> SocketAddr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&header[2..]);
    let port = u16::from_be_bytes([header[0], header[1]]);
    match Ipv6Addr::from(octets).to_canonical() {
        IpAddr::V4(ip) => SocketAddr::new(ip.into(), port),
        IpAddr::V6(ip) => SocketAddr::V6(SocketAddrV6::new(ip, port, 0, 0)),
    }
}

/// Sends one datagram, without waiting.
pub(crate) fn send(fd: BorrowedFd<'_>, peer: SocketAddr, payload: &[u8]) -> io::Result<()> {
    let mut header = encode(peer);
    let mut pieces = [
        libc::iovec { iov_base: header.as_mut_ptr().cast(), iov_len: HEADER },
        // The kernel only reads through this pointer.
        libc::iovec { iov_base: payload.as_ptr().cast_mut().cast(), iov_len: payload.len() },
    ];
    // SAFETY: an all-zero msghdr is a valid value (null pointers, zero lengths).
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_iov = pieces.as_mut_ptr();
    message.msg_iovlen = pieces.len() as _;
    // SAFETY: the message points to two pieces that outlive the call.
    let sent = unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

impl Batch {
    /// As [`receive`](Self::receive), from a tunnel: each datagram's source is the peer before it.
    pub(crate) fn receive_tunnel(&mut self, fd: BorrowedFd<'_>, limit: usize) -> io::Result<usize> {
        let mut got = 0;
        while got < limit.min(super::CALL) && self.free() > 0 {
            let start = self.filled;
            let room = &mut self.block[start..start + self.room];
            let mut header = [0; HEADER];
            let mut pieces = [
                libc::iovec { iov_base: header.as_mut_ptr().cast(), iov_len: HEADER },
                libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() },
            ];
            // SAFETY: an all-zero msghdr is a valid value (null pointers, zero lengths).
            let mut message: libc::msghdr = unsafe { zeroed() };
            message.msg_iov = pieces.as_mut_ptr();
            message.msg_iovlen = pieces.len() as _;
            // SAFETY: the message points to two pieces that outlive the call, and nobody else has.
            let count = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
            let Ok(count) = usize::try_from(count) else {
                let error = io::Error::last_os_error();
                if error.kind() == io::ErrorKind::Interrupted {
                    continue;
                }
                if got > 0 {
                    break;
                }
                return Err(error);
            };
            got += 1;
            // The other end is gone, or sends what no task sends.
            let Some(length) = count.checked_sub(HEADER) else { break };
            self.taken += 1;
            self.metas.push(Meta {
                from: decode(header),
                to: None,
                mark: Dscp::DEFAULT,
                start: start as u32,
                len: length as u32,
                truncated: message.msg_flags & libc::MSG_TRUNC != 0,
            });
            self.filled += length.next_multiple_of(LINE);
        }
        Ok(got)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn a_peer_stands_before_its_payload_and_a_full_tunnel_drops() {
        let (near, far) = UnixDatagram::pair().unwrap();
        let mut batch = Batch::new(8, 64);
        for (peer, payload) in
            [("198.51.100.7:4000", &b"voice"[..]), ("[2001:db8::7]:65535", b""), ("10.0.0.1:1", &[7; 64])]
        {
            let peer: SocketAddr = peer.parse().unwrap();
            assert_eq!(decode(encode(peer)), peer);
            send(near.as_fd(), peer, payload).unwrap();
            batch.clear();
            assert_eq!(batch.receive_tunnel(far.as_fd(), 8).unwrap(), 1);
            let packet = batch.packet(0).unwrap();
            assert_eq!((packet.from, packet.bytes, packet.truncated), (peer, payload, false));
        }
        assert_eq!(batch.receive_tunnel(far.as_fd(), 8).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let peer = "198.51.100.7:4000".parse().unwrap();
        send(near.as_fd(), peer, &[7; 65]).unwrap();
        batch.clear();
        batch.receive_tunnel(far.as_fd(), 8).unwrap();
        assert!(batch.packet(0).unwrap().truncated);
        let sent = (0..100_000).find(|_| send(near.as_fd(), peer, &[7; 160]).is_err());
        assert!(sent.is_some_and(|sent| sent > 20), "{sent:?}");
        batch.clear();
        assert_eq!(batch.receive_tunnel(far.as_fd(), 100).unwrap(), 8);
        assert_eq!(batch.len(), 8);
    }
}
