//! Names to addresses, through the system's resolver and with a deadline.
//! Asks and reports; which of the addresses is tried first is decided by
//! whoever asked (RFC 3263).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// How long [`resolve`] waits.
pub const DEADLINE: Duration = Duration::from_secs(2);

/// The addresses of `host` (a name, an IPv4 address, an IPv6 address with or
/// without brackets), each with `port`, in the resolver's order, each once.
///
/// Fails with `TimedOut` after [`DEADLINE`], `NotFound` when the name has no
/// address, and with whatever the system's resolver reports.
pub async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let answer = tokio::time::timeout(DEADLINE, tokio::net::lookup_host((bare, port))).await;
    let found = answer.map_err(|_elapsed| io::Error::from(io::ErrorKind::TimedOut))??;
    let mut addresses = Vec::new();
    for address in found {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(addresses) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn literals_need_no_resolver() {
        assert_eq!(resolve("192.0.2.1", 3478).await.unwrap(), ["192.0.2.1:3478".parse().unwrap()]);
        assert_eq!(resolve("[2001:db8::1]", 3478).await.unwrap(), ["[2001:db8::1]:3478".parse().unwrap()]);
        assert_eq!(resolve("2001:db8::1", 3478).await.unwrap(), ["[2001:db8::1]:3478".parse().unwrap()]);
    }

    #[tokio::test]
    async fn localhost_is_loopback_and_nonsense_is_an_error() {
        let found = resolve("localhost", 5060).await.unwrap();
        assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == 5060), "{found:?}");
        assert!(resolve("no such host", 5060).await.is_err());
    }
}
