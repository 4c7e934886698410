//! `a=candidate` (RFC 8839 §5.1): what an ICE peer offers to be reached at.
//!
//! Decides what a line says, as far as a relay asks: its component, its
//! transport, and its address if that is numeric.

use std::net::SocketAddr;

use super::body::fields;
use super::{ip, number};

/// One candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// 1 for RTP, 2 for RTCP (§5.1).
    pub component: u16,
    /// Over UDP.
    pub udp: bool,
    /// Its port, and its address unless that is a host name.
    pub address: Result<SocketAddr, u16>,
}

impl Candidate {
    /// Reads an attribute's value: `foundation component transport priority address port …`.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let mut fields = fields(value).skip(1);
        let component = number(fields.next()?)?;
        let udp = fields.next()?.eq_ignore_ascii_case(b"UDP");
        let host = fields.nth(1)?;
        let port = number(fields.next()?)?;
        let address = ip(host).map(|ip| SocketAddr::new(ip, port)).ok_or(port);
        Some(Self { component, udp, address })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates() {
        let parse = |text: &str| Candidate::parse(text.as_bytes());
        assert_eq!(
            parse("1 1 UDP 2130706431 192.0.2.1 4000 typ host"),
            Some(Candidate { component: 1, udp: true, address: Ok("192.0.2.1:4000".parse().expect("address")) })
        );
        assert_eq!(
            parse("x 2 tcp 1 2001:db8::1 9 typ srflx raddr :: rport 9 tcptype active"),
            Some(Candidate { component: 2, udp: false, address: Ok("[2001:db8::1]:9".parse().expect("address")) })
        );
        assert_eq!(
            parse("1 1 udp 1 ab12.local 4000 typ host"),
            Some(Candidate { component: 1, udp: true, address: Err(4000) })
        );
        for bad in ["", "1 1 udp 1 192.0.2.1", "1 one udp 1 192.0.2.1 4000", "1 1 udp 1 192.0.2.1 70000"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
