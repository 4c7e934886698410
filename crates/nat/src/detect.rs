//! Is this peer behind a NAT?
//!
//! Decides by comparing what a message claims about its sender with where it
//! came from (RFC 3581 §4, RFC 5626 §5.2 use the same comparison). It must not
//! look at media addresses: a gateway may send media from elsewhere.

use std::net::IpAddr;

use crate::Source;

/// True when what the peer claims about itself (Via sent-by, Contact host)
/// differs from where its packet came from; an address that only a private
/// network can use, while the packet crossed to us from elsewhere, differs too.
/// Hosts that are names prove nothing and count as "not behind a NAT".
///
/// A port is compared where one is given. For streams give none: a
/// connection's source port is never the one that its owner listens on.
pub fn behind_nat(source: Source, claimed: impl IntoIterator<Item = (Option<IpAddr>, Option<u16>)>) -> bool {
    claimed.into_iter().any(|(ip, port)| match ip {
        Some(ip) => {
            ip.to_canonical() != source.0.ip().to_canonical() || port.is_some_and(|port| port != source.0.port())
        }
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_compared_with_the_source() {
        type Claims = &'static [(&'static str, Option<u16>)];
        let cases: &[(&str, Claims, bool)] = &[
            ("203.0.113.9:40000", &[("192.168.1.20", Some(5060))], true),
            ("203.0.113.9:5060", &[("203.0.113.9", Some(5060))], false),
            ("203.0.113.9:5060", &[("203.0.113.9", None)], false),
            ("203.0.113.9:40000", &[("203.0.113.9", Some(5060))], true),
            ("192.168.1.20:5060", &[("192.168.1.20", Some(5060))], false),
            ("192.168.1.1:1025", &[("192.168.1.20", Some(5060))], true),
            ("[::ffff:203.0.113.9]:5060", &[("203.0.113.9", Some(5060))], false),
            ("203.0.113.9:5060", &[("phone.example", Some(5060))], false),
            ("203.0.113.9:5060", &[("203.0.113.9", None), ("10.0.0.7", None)], true),
            ("203.0.113.9:5060", &[], false),
        ];
        for (source, claims, expected) in cases {
            let source = Source(source.parse().expect("an address"));
            let claims = claims.iter().map(|(host, port)| (host.parse().ok(), *port));
            assert_eq!(behind_nat(source, claims), *expected, "{source}");
        }
    }
}
