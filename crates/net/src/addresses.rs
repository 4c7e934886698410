//! Addresses of this machine: which ones it has, and which one the kernel
//! would use toward a given peer. Reports; must not choose what is advertised
//! (`nat::Advertised` does).
#![expect(unsafe_code, reason = "getifaddrs(3) has no safe wrapper in std")]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use socket2::{Domain, Socket, Type};

/// All addresses of interfaces that are up, loopback included, without IPv6
/// link-local ones (they mean nothing without their interface); sorted, each once.
pub fn addresses() -> io::Result<Vec<IpAddr>> {
    let mut list: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: `list` is a valid place for the pointer to the list.
    if unsafe { libc::getifaddrs(&raw mut list) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut found = Vec::new();
    let mut next = list;
    // SAFETY: getifaddrs returned a well-formed list that is freed only below.
    while let Some(entry) = unsafe { next.as_ref() } {
        next = entry.ifa_next;
        let up = entry.ifa_flags & libc::IFF_UP as libc::c_uint != 0;
        if up && let Some(ip) = ip_of(entry) {
            found.push(ip);
        }
    }
    // SAFETY: `list` came from getifaddrs, and nothing borrowed from it is left.
    unsafe { libc::freeifaddrs(list) };
    found.retain(|ip| !matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local()));
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// The local address from which the kernel would send to `remote`: what a
/// wildcard listener means by "our address" toward that peer. Nothing is sent.
/// Fails with `NetworkUnreachable` or `HostUnreachable` when there is no route.
pub fn toward(remote: SocketAddr) -> io::Result<IpAddr> {
    let socket = Socket::new(Domain::for_address(remote), Type::DGRAM, None)?;
    let port = if remote.port() == 0 { 9 } else { remote.port() };
    socket.connect(&SocketAddr::new(remote.ip(), port).into())?;
    Ok(UdpSocket::from(socket).local_addr()?.ip())
}

fn ip_of(entry: &libc::ifaddrs) -> Option<IpAddr> {
    // SAFETY: `ifa_addr` is null or points to a sockaddr inside the list.
    let family = i32::from(unsafe { entry.ifa_addr.as_ref() }?.sa_family);
    match family {
        libc::AF_INET => {
            // SAFETY: an address of family AF_INET is a sockaddr_in; it may be unaligned for us.
            let address: libc::sockaddr_in = unsafe { entry.ifa_addr.cast::<libc::sockaddr_in>().read_unaligned() };
            Some(Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: an address of family AF_INET6 is a sockaddr_in6; it may be unaligned for us.
            let address: libc::sockaddr_in6 = unsafe { entry.ifa_addr.cast::<libc::sockaddr_in6>().read_unaligned() };
            Some(Ipv6Addr::from(address.sin6_addr.s6_addr).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_loopback_and_no_link_local() {
        let all = addresses().unwrap();
        assert!(all.contains(&IpAddr::V4(Ipv4Addr::LOCALHOST)), "{all:?}");
        assert!(!all.iter().any(|ip| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())), "{all:?}");
    }

    #[test]
    fn toward_loopback_is_loopback() {
        assert_eq!(toward("127.0.0.1:5060".parse().unwrap()).unwrap(), IpAddr::V4(Ipv4Addr::LOCALHOST));
        assert_eq!(toward("127.0.0.1:0".parse().unwrap()).unwrap(), IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
}
