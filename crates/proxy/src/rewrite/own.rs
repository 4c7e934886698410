//! Our own address as a URI says it: host, port, and the transport parameter
//! where it is not UDP (RFC 3261 §19.1.1, RFC 7118 §5.2.2).

use std::fmt;
use std::net::SocketAddr;

use wire::Transport;

/// Where a peer reaches us. Displays as `host:port;transport=…`; the default
/// port is written, too, so that no peer looks for SRV records (RFC 3263 §4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Own {
    pub(crate) address: SocketAddr,
    pub(crate) transport: Transport,
}

impl fmt::Display for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.address, param(self.transport))
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
