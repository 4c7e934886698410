//! Packets with a hop limit, and packets that must not be cut: what the kernel
//! hears about them by ICMP (`IP_RECVERR`). IPv4 only.
#![expect(unsafe_code, reason = "the error queue and these options have no safe wrapper")]

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use nat::path::{Evidence, Hop};
use socket2::SockRef;
use wire::stun::behaviour::sized;
use wire::stun::read_answer;

use crate::dscp::Dscp;
use crate::sockopt::{Class, bind_udp};
use crate::{addresses, clock, entropy};

/// Hop limits that are tried: who has more NATs than that has other troubles.
const HOPS: u8 = 6;
/// So often, and so long is waited each time.
const ROUNDS: usize = 3;
const WAIT: Duration = Duration::from_millis(500);
/// IP packets of so many octets are tried: what Ethernet, PPPoE, tunnels and the like let through.
const SIZES: [u16; 16] =
    [1500, 1492, 1480, 1472, 1464, 1456, 1450, 1440, 1432, 1420, 1400, 1380, 1340, 1280, 1024, 576];
/// Octets of the headers of IPv4 and UDP.
const HEADERS: u16 = 28;

/// Sends packets with few hops toward `server` and toward our own public
/// address, from a port each. 2 s at most. `router` is not asked here.
pub async fn hops(server: SocketAddr, mapped: IpAddr) -> io::Result<Evidence> {
    let seed = entropy::seed()?;
    // A port that nobody has: neither a service nor, likely, a mapping.
    let closed = 33_434 + u16::from(seed[0]);
    let home = SocketAddr::new(mapped, closed);
    let local = SocketAddr::new(addresses::toward(server)?, 0);
    let open = |to: SocketAddr| (1..=HOPS).map(move |limit| probe(local, to, limit)).collect::<io::Result<Vec<_>>>();
    let (out, back) = (open(server)?, open(home)?);
    let mut seen = [vec![Hop::Silent; out.len()], vec![Hop::Silent; back.len()]];
    let mut id = [0; 12];
    id.copy_from_slice(&seed[1..13]);
    let packet = wire::stun::request(id);
    for _ in 0..ROUNDS {
        for (sockets, seen) in [&out, &back].into_iter().zip(&seen) {
            for (socket, _) in sockets.iter().zip(seen).filter(|(_, hop)| **hop == Hop::Silent) {
                // What cannot be sent is silent.
                let _ = socket.send(&packet);
            }
        }
        tokio::time::sleep(WAIT).await;
        for (sockets, seen) in [&out, &back].into_iter().zip(&mut seen) {
            for (socket, hop) in sockets.iter().zip(seen) {
                while let Some(heard) = error(socket) {
                    if let Some(told) = heard.hop() {
                        *hop = told;
                    }
                }
            }
        }
    }
    let [out, home] = seen;
    Ok(Evidence { out, home, router: None })
}

/// The octets of the largest IP packet that reaches a STUN server in one
/// piece, as far as a few sizes tell. `None`: not even the smallest was answered. 2 s at most.
pub async fn mtu(server: SocketAddr) -> io::Result<Option<u16>> {
    let local = SocketAddr::new(addresses::toward(server)?, 0);
    let socket = probe(local, server, 64)?;
    // The don't-fragment bit is set, and what the kernel believes of the path is not asked.
    option(&socket, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE)?;
    let seed = entropy::seed()?;
    let id = |size: u16| {
        let mut id = [0; 12];
        id.copy_from_slice(&seed[..12]);
        id[..2].copy_from_slice(&size.to_be_bytes());
        id
    };
    let mut passed: Option<u16> = None;
    let mut told: Option<u16> = None;
    let mut room = [0; 2048];
    for _ in 0..ROUNDS {
        for size in SIZES.into_iter().filter(|size| passed.is_none_or(|passed| *size > passed)) {
            let packet = sized(id(size), size - HEADERS);
            // The first attempt may be told of what an earlier packet met. One that is too large for our own network
            // fails twice.
            if socket.send(&packet).is_err() {
                while let Some(heard) = error(&socket) {
                    told = heard.mtu().or(told);
                }
                let _ = socket.send(&packet);
            }
            // Not all at once: they are to arrive.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let end = clock::now() + WAIT;
        while clock::now() < end && passed != Some(SIZES[0]) {
            while let Some(heard) = error(&socket) {
                told = heard.mtu().or(told);
            }
            while let Ok(len) = socket.recv(&mut room) {
                let answer = read_answer(&room[..len]).ok();
                let size = answer.and_then(|answer| SIZES.into_iter().find(|size| id(*size) == answer.transaction));
                passed = passed.max(size);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    // A router's word counts between what passed and the next size that did not.
    let next = passed.and_then(|passed| SIZES.into_iter().rev().find(|size| *size > passed));
    Ok(passed
        .map(|passed| told.filter(|told| *told > passed && next.is_some_and(|next| *told < next)).unwrap_or(passed)))
}

/// A socket whose packets die after so many hops, and that hears of it.
fn probe(local: SocketAddr, to: SocketAddr, limit: u8) -> io::Result<UdpSocket> {
    if !to.is_ipv4() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let socket = bind_udp(local, Class::Signalling(Dscp::DEFAULT))?;
    SockRef::from(&socket).set_ttl_v4(limit.into())?;
    option(&socket, libc::IP_RECVERR, 1)?;
    socket.connect(to)?;
    Ok(socket)
}

fn option(socket: &UdpSocket, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the value pointer and its length describe `value`.
    let failed =
        unsafe { libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_IP, name, (&raw const value).cast(), length) } != 0;
    if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// An ICMP message about something that was sent.
#[derive(Debug, Clone, Copy)]
struct Heard {
    kind: u8,
    code: u8,
    info: u32,
    from: Ipv4Addr,
}

impl Heard {
    fn hop(self) -> Option<Hop> {
        let from = IpAddr::V4(self.from);
        match (self.kind, self.code) {
            (11, 0) => Some(Hop::Died(from)),
            (3, 3) => Some(Hop::Arrived(from)),
            (3, 4) => None,
            (3, _) => Some(Hop::Refused(from)),
            _ => None,
        }
    }

    /// The next-hop MTU of "fragmentation needed" (RFC 1191 §4).
    fn mtu(self) -> Option<u16> {
        ((self.kind, self.code) == (3, 4)).then(|| u16::try_from(self.info).ok()).flatten().filter(|mtu| *mtu >= 68)
    }
}

/// What is stored in the ancillary data: the error, and who sent it.
#[repr(C)]
#[derive(Clone, Copy)]
struct Queued {
    error: libc::sock_extended_err,
    offender: libc::sockaddr_in,
}

/// The next entry of a socket's error queue.
fn error(socket: &UdpSocket) -> Option<Heard> {
    let mut room = [0_u64; 32];
    let mut payload = [0_u8; 64];
    let mut vector = libc::iovec { iov_base: payload.as_mut_ptr().cast(), iov_len: payload.len() };
    // SAFETY: all zero is a valid `msghdr`.
    let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    header.msg_iov = &raw mut vector;
    header.msg_iovlen = 1;
    header.msg_control = room.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(&room) as _;
    let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
    // SAFETY: the header points to buffers that outlive the call, with their lengths.
    if unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) } < 0 {
        return None;
    }
    // SAFETY: the kernel has filled the header, whose control buffer is aligned and lives.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
    // SAFETY: `next` is null or points to a control message inside the buffer.
    while let Some(message) = unsafe { next.as_ref() } {
        let (level, kind) = (message.cmsg_level, message.cmsg_type);
        // SAFETY: the length of the head of a control message.
        let least = unsafe { libc::CMSG_LEN(size_of::<Queued>() as libc::c_uint) };
        if level == libc::IPPROTO_IP && kind == libc::IP_RECVERR && message.cmsg_len >= least as _ {
            // SAFETY: so many octets follow the head; they may be unaligned for us.
            let queued: Queued = unsafe { libc::CMSG_DATA(next).cast::<Queued>().read_unaligned() };
            let by_icmp = queued.error.ee_origin == libc::SO_EE_ORIGIN_ICMP;
            return Some(Heard {
                kind: if by_icmp { queued.error.ee_type } else { u8::MAX },
                code: queued.error.ee_code,
                info: queued.error.ee_info,
                from: Ipv4Addr::from(u32::from_be(queued.offender.sin_addr.s_addr)),
            });
        }
        // SAFETY: both point into what the kernel has filled.
        next = unsafe { libc::CMSG_NXTHDR(&raw const header, next) };
    }
    Some(Heard { kind: u8::MAX, code: 0, info: 0, from: Ipv4Addr::UNSPECIFIED })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn loopback_has_no_routers_and_the_mtu_of_what_was_tried() {
        let socket = tokio::net::UdpSocket::from_std(
            bind_udp("127.0.9.5:0".parse().unwrap(), Class::Signalling(Dscp::DEFAULT)).unwrap(),
        )
        .unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut room = [0; 2048];
            loop {
                let (len, from) = socket.recv_from(&mut room).await.unwrap();
                let answer = wire::stun::answer(&room[..len], from).unwrap();
                socket.send_to(&answer, from).await.unwrap();
            }
        });
        assert_eq!(mtu(address).await.unwrap(), Some(1500));
        let evidence = hops(address, "127.0.9.6".parse().unwrap()).await.unwrap();
        assert_eq!(evidence.home[0], Hop::Arrived("127.0.9.6".parse().unwrap()));
        assert_eq!(evidence.out, [Hop::Silent; 6]);
    }

    #[tokio::test]
    async fn a_server_that_is_silent_tells_no_mtu() {
        let silent = bind_udp("127.0.9.7:0".parse().unwrap(), Class::Signalling(Dscp::DEFAULT)).unwrap();
        assert_eq!(mtu(silent.local_addr().unwrap()).await.unwrap(), None);
    }
}
