//! Our own address as a URI says it: host, port, and the transport parameter
//! where it is not UDP (RFC 3261 §19.1.1, RFC 7118 §5.2.2).

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use wire::{Text, Transport};

/// Where a peer reaches us. Displays as `host:port;transport=…`; the default
/// port is written, too, so that no peer looks for SRV records (RFC 3263 §4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Own {
    pub(crate) address: SocketAddr,
    pub(crate) transport: Transport,
}

impl Own {
    /// As it displays.
    pub(crate) fn text(self) -> Text {
        let mut text = Text::socket(self.address);
        text.push(param(self.transport).as_bytes());
        text
    }

    /// What tells it from others, to be hashed.
    pub(crate) fn octets(self) -> [u8; 19] {
        let mut octets = [0; 19];
        let ip = match self.address.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        octets[..16].copy_from_slice(&ip.octets());
        octets[16..18].copy_from_slice(&self.address.port().to_be_bytes());
        octets[18] = self.transport as u8;
        octets
    }
}

impl fmt::Display for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(self.text().get()).unwrap_or_default())
    }
}

/// The parameter that names a transport; UDP is what its absence means.
fn param(transport: Transport) -> &'static str {
    match transport {
        Transport::Udp => "",
        Transport::Tcp => ";transport=tcp",
        Transport::Tls => ";transport=tls",
        Transport::Ws | Transport::Wss => ";transport=ws",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transport_is_written_where_it_is_not_udp() {
        for (transport, address, expected) in [
            (Transport::Udp, "192.0.2.1:5060", "192.0.2.1:5060"),
            (Transport::Tcp, "192.0.2.1:5060", "192.0.2.1:5060;transport=tcp"),
            (Transport::Tls, "[2001:db8::1]:5061", "[2001:db8::1]:5061;transport=tls"),
            (Transport::Ws, "192.0.2.1:80", "192.0.2.1:80;transport=ws"),
            (Transport::Wss, "192.0.2.1:443", "192.0.2.1:443;transport=ws"),
        ] {
            let own = Own { address: address.parse().unwrap(), transport };
            assert_eq!(own.to_string(), expected);
        }
    }
}
