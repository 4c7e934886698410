//! What the kernel knows of links, addresses and routes (rtnetlink(7)).
//!
//! Asks, and reads answers whose every length is checked. Decides nothing.
//! An answer waits for whoever configures links at that moment: for hundreds of
//! milliseconds, where containers come and go. No thread that moves media asks.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::sys;

const ERROR: u16 = 2;
const DONE: u16 = 3;
const GETLINK: u16 = 18;
const GETADDR: u16 = 22;
const GETROUTE: u16 = 26;
const REQUEST: u16 = 1;
const DUMP: u16 = 0x300;
const HEADER: usize = 16;
const UNICAST: u8 = 1;
const LOCAL: u8 = 2;

/// Links, addresses, routes and rules, of both families.
const GROUPS: [u32; 7] = [1, 5, 7, 8, 9, 11, 19];

/// ARPHRD_ETHER.
pub(super) const ETHERNET: u16 = 1;
/// ARPHRD_LOOPBACK: with an Ethernet header, too.
pub(super) const LOOPBACK: u16 = 772;
/// ARPHRD_NONE: packets begin with the IP header.
pub(super) const BARE: u16 = 0xfffe;

/// How packets to some address leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Way {
    /// The interface.
    pub(super) ifindex: u32,
    /// The router, if there is one between.
    pub(super) hop: Option<IpAddr>,
    /// To an address of this machine, by the loopback.
    pub(super) local: bool,
}

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    /// As it is called now.
    pub(super) name: String,
    /// ARPHRD_*.
    pub(super) kind: u16,
    /// Longest IP packet.
    pub(super) mtu: u32,
}

/// A connection to the kernel.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: Socket,
    serial: u32,
}

impl Netlink {
    /// To ask with.
    pub(super) fn new() -> io::Result<Self> {
        let socket = Socket::new(
            Domain::from(libc::AF_NETLINK),
            Type::from(libc::SOCK_RAW),
            Some(Protocol::from(libc::NETLINK_ROUTE)),
        )?;
        // The kernel answers at once or never.
        socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        Ok(Self { socket, serial: 0 })
    }

    /// To hear of changes with.
    pub(super) fn listening() -> io::Result<Self> {
        let netlink = Self::new()?;
        sys::listen(netlink.socket.as_fd(), &GROUPS)?;
        netlink.socket.set_nonblocking(true)?;
        Ok(netlink)
    }

    /// Forgets what was heard; true when there was something. An overrun is news, too.
    pub(super) fn heard(&mut self) -> bool {
        let mut room = [0; 8192];
        let mut any = false;
        loop {
            match self.socket.read(&mut room) {
                Ok(_) => any = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return any,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_overrun) => return true,
            }
        }
    }

    /// How packets from our address `from` get to `to`; `None`: not, or neither by way of a neighbour on a link nor within this machine.
    pub(super) fn way(&mut self, from: IpAddr, to: IpAddr) -> Option<Way> {
        let family = family(to);
        let bits = if to.is_ipv4() { 32 } else { 128 };
        let mut body = vec![family, bits, bits, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        attribute(&mut body, 1, &octets(to));
        attribute(&mut body, 2, &octets(from));
        let mut found = None;
        self.ask(GETROUTE, REQUEST, &body, |message| {
            let kind = message.get(7).copied();
            let (mut ifindex, mut hop) = (None, None);
            for (name, value) in attributes(message.get(12..).unwrap_or_default()) {
                match name {
                    4 => ifindex = number(value),
                    5 => hop = ip(value),
                    18 => hop = ip(value.get(2..).unwrap_or_default()),
                    _ => {}
                }
            }
            let usable = matches!(kind, Some(UNICAST | LOCAL));
            let local = kind == Some(LOCAL);
            found = ifindex.filter(|_| usable).map(|ifindex| Way { ifindex, hop, local });
        })
        .ok()?;
        found
    }

    /// The interface of this number.
    pub(super) fn link(&mut self, ifindex: u32) -> Option<Link> {
        let mut body = vec![0; 16];
        body[4..8].copy_from_slice(&ifindex.to_ne_bytes());
        let mut link = None;
        self.ask(GETLINK, REQUEST, &body, |message| {
            let kind = message.get(2..4).map_or(0, |kind| u16::from_ne_bytes([kind[0], kind[1]]));
            let (mut called, mut mtu) = (None, None);
            for (name, value) in attributes(message.get(16..).unwrap_or_default()) {
                match name {
                    3 => called = value.split(|octet| *octet == 0).next(),
                    4 => mtu = number(value),
                    _ => {}
                }
            }
            let called = called.and_then(|name| String::from_utf8(name.to_vec()).ok());
            link = called.zip(mtu).map(|(name, mtu)| Link { name, kind, mtu });
        })
        .ok()?;
        link
    }

    /// Which interface has which of our addresses.
    pub(super) fn addresses(&mut self) -> io::Result<Vec<(IpAddr, u32)>> {
        let mut found = Vec::new();
        self.ask(GETADDR, REQUEST | DUMP, &[0; 8], |message| {
            let Some(ifindex) = message.get(4..8).and_then(number) else { return };
            let (mut address, mut local) = (None, None);
            for (name, value) in attributes(message.get(8..).unwrap_or_default()) {
                match name {
                    1 => address = ip(value),
                    2 => local = ip(value),
                    _ => {}
                }
            }
            found.extend(local.or(address).map(|ip| (ip, ifindex)));
        })?;
        Ok(found)
    }

    /// Sends one request, and has every answer to it read.
    fn ask(&mut self, kind: u16, flags: u16, body: &[u8], mut read: impl FnMut(&[u8])) -> io::Result<()> {
        self.serial = self.serial.wrapping_add(1);
        let length = u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX);
        let mut request = Vec::with_capacity(HEADER + body.len());
        request.extend(length.to_ne_bytes());
        request.extend(kind.to_ne_bytes());
        request.extend(flags.to_ne_bytes());
        request.extend(self.serial.to_ne_bytes());
        request.extend([0; 4]);
        request.extend(body);
        self.socket.write_all(&request)?;
        let mut room = vec![0; 32 * 1024];
        loop {
            let length = self.socket.read(&mut room)?;
            let mut rest = room.get(..length).unwrap_or_default();
            while let Some(head) = rest.first_chunk::<HEADER>() {
                let [a, b, c, d, e, f, _, _, g, h, i, j, ..] = *head;
                let length = (u32::from_ne_bytes([a, b, c, d]) as usize).max(HEADER);
                let kind = u16::from_ne_bytes([e, f]);
                let ours = u32::from_ne_bytes([g, h, i, j]) == self.serial;
                let message = rest.get(HEADER..length).unwrap_or_default();
                match kind {
                    _ if !ours => {}
                    ERROR => {
                        let code = message.get(..4).and_then(number).map_or(0, u32::cast_signed);
                        return if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-code)) };
                    }
                    DONE => return Ok(()),
                    _ => {
                        read(message);
                        if flags & DUMP == 0 {
                            return Ok(());
                        }
                    }
                }
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            }
        }
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn family(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { libc::AF_INET as u8 } else { libc::AF_INET6 as u8 }
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn ip(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => <[u8; 4]>::try_from(octets).ok().map(|ip| Ipv4Addr::from(ip).into()),
        16 => <[u8; 16]>::try_from(octets).ok().map(|ip| Ipv6Addr::from(ip).into()),
        _ => None,
    }
}

fn number(octets: &[u8]) -> Option<u32> {
    octets.first_chunk().map(|octets| u32::from_ne_bytes(*octets))
}

fn attribute(body: &mut Vec<u8>, name: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    body.extend(length.to_ne_bytes());
    body.extend(name.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// Names and values, as far as they are whole.
fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let [a, b, c, d] = *rest.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([c, d]) & 0x3fff, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_is_known() {
        let mut netlink = Netlink::new().unwrap();
        let local: IpAddr = Ipv4Addr::LOCALHOST.into();
        let addresses = netlink.addresses().unwrap();
        let (_, ifindex) = addresses.iter().find(|(ip, _)| *ip == local).unwrap();
        let link = netlink.link(*ifindex).unwrap();
        assert_eq!(link.name, "lo");
        assert!(link.mtu >= 1500, "{link:?}");
        let way = Way { ifindex: *ifindex, hop: None, local: true };
        assert_eq!(netlink.way(local, local), Some(way));
        assert_eq!(netlink.way(local, [127, 255, 255, 255].into()), None, "a broadcast");
        assert_eq!(netlink.link(u32::MAX >> 1), None);
    }

    #[test]
    fn attributes_that_are_cut_off_end_the_list() {
        let mut body = Vec::new();
        attribute(&mut body, 3, b"lo\0");
        attribute(&mut body, 4, &1500_u32.to_ne_bytes());
        for end in 0..body.len() {
            let known = attributes(&body[..end]).count();
            assert!(known <= 2 && (end > 8 || known <= 1), "{end}: {known}");
        }
        assert_eq!(attributes(&body).collect::<Vec<_>>(), [(3, &b"lo\0"[..]), (4, &1500_u32.to_ne_bytes()[..])]);
        assert_eq!(attributes(&[3, 0, 1, 0]).count(), 0);
    }
}
