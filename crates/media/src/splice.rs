//! TCP media (RFC 4145): what a splice is told. Each end has a connection with
//! us, and the octets of one go out on the other; what they mean is none of our business.
//!
//! Decides who may connect to a leg, and says so in one place. Who is to
//! connect, [`crate::offer`] decides; sockets are `net`'s.

use std::net::{IpAddr, SocketAddr};

use nat::Side;

use crate::{End, Sources, StreamId};

/// What is done about the connection of one leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// The peer opens it (`a=setup:passive` is ours).
    Listen,
    /// We open it, to the peer's SDP address.
    Dial(SocketAddr),
    /// We open it, to a leg of our own: a spiral. Nothing is sent for that.
    Face(StreamId, End),
    /// None is made and none is broken (`a=setup:holdconn`, RFC 4145 §4), or none can be made.
    Rest,
    /// None is made, and one that is there ends: this peer has nothing to do with the call any more.
    Shut,
}

/// One leg of a splice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpliceLeg {
    /// Where we listen, and whose IP we connect from: the even port of the leg's pair.
    pub at: SocketAddr,
    /// For counting.
    pub side: Side,
    /// Who may connect: by address alone, for nobody knows the port that a connection comes from.
    pub sources: Sources,
    /// What is done.
    pub part: Part,
}

/// All that there is to know of a splice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Splice {
    /// Legs of end A and B.
    pub legs: [SpliceLeg; 2],
    /// Another number: what is connected ends, and is made anew (`a=connection:new`, RFC 4145 §5).
    pub round: u32,
    /// Another number: a leg whose connection has ended may have one again.
    pub turn: u32,
    /// This end has been asked to connect and has not answered yet: whoever connects is kept until it is known who may.
    pub asked: Option<End>,
}

/// What became of a leg's connections since it was last told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SpliceCounts {
    /// Octets from the peer.
    pub bytes_in: u64,
    /// Octets to the peer.
    pub bytes_out: u64,
    /// Connections that the peer opened.
    pub accepted: u32,
    /// Connections that we opened.
    pub dialled: u32,
    /// Connections from where none may come, closed at once.
    pub refused: u32,
    /// Connections beside one that lives, closed at once.
    pub busy: u32,
    /// Connections of ours that did not come about.
    pub failed: u32,
    /// Times that the port could not be listened on.
    pub unbound: u32,
}

impl Sources {
    /// May a connection come from there?
    pub fn admit(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        let named = self.exact.map(|target| target.rtp().ip()).into_iter().chain(self.ips.into_iter().flatten());
        named.map(|ip| ip.to_canonical()).any(|named| named == ip)
            || self.prefixes.iter().any(|prefix| prefix.contains(ip))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_comes_from_a_named_address_or_prefix_and_any_port() {
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        let sources = Sources {
            exact: None,
            ips: [Some(ip("192.0.2.7")), Some(ip("2001:db8::7"))],
            prefixes: vec!["198.51.100.0/24".parse().expect("a prefix")].into(),
        };
        for (from, admitted) in [
            ("192.0.2.7", true),
            ("::ffff:192.0.2.7", true),
            ("192.0.2.8", false),
            ("2001:db8::7", true),
            ("2001:db8::8", false),
            ("198.51.100.200", true),
            ("198.51.101.1", false),
        ] {
            assert_eq!(sources.admit(ip(from)), admitted, "{from}");
        }
        assert!(!Sources::default().admit(ip("192.0.2.7")));
    }
}
