//! Flows (RFC 5626 §1): transport, local and remote address of a signalling
//! association; and what is to be sent over one.

mod packed;

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

pub use packed::PackedFlow;

/// SIP transports (RFC 3261 §18, RFC 7118).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Datagrams, unreliable.
    Udp,
    /// Stream.
    Tcp,
    /// Stream inside TLS.
    Tls,
    /// WebSocket.
    Ws,
    /// WebSocket inside TLS.
    Wss,
}

impl Transport {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Udp, Self::Tcp, Self::Tls, Self::Ws, Self::Wss];

    /// By the value of a `transport` parameter, in any case (RFC 3261 §19.1.1, RFC 7118 §5.2.2).
    pub fn named(name: &[u8]) -> Option<Self> {
        let is = |transport: &Self| transport.via().as_bytes().eq_ignore_ascii_case(name);
        Self::ALL.into_iter().find(is)
    }

    /// True when nobody on the way can read it (RFC 3261 §26.2.2).
    pub fn is_secure(self) -> bool {
        matches!(self, Self::Tls | Self::Wss)
    }

    /// True when the transport retransmits by itself (RFC 3261 §17).
    pub fn reliable(self) -> bool {
        self != Self::Udp
    }

    /// The token written in a Via (RFC 3261 §20.42, RFC 7118 §5.2.1).
    pub fn via(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
            Self::Ws => "WS",
            Self::Wss => "WSS",
        }
    }

    /// The port that applies when none is written (RFC 3261 §18.2.2).
    pub fn default_port(self) -> u16 {
        match self {
            Self::Udp | Self::Tcp => 5060,
            Self::Tls => 5061,
            Self::Ws => 80,
            Self::Wss => 443,
        }
    }
}

/// Which configured listener a flow belongs to; its side follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ListenerId(pub u16);

/// One signalling association (RFC 5626).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Flow {
    /// What carries the octets.
    pub transport: Transport,
    /// The listener it came in on or goes out of.
    pub listener: ListenerId,
    /// Which connection, for streams; 0 for UDP.
    pub connection: u32,
    /// Our end, never a wildcard: the address this packet was sent to.
    pub local: SocketAddr,
    /// The far end, as the kernel saw it.
    pub remote: SocketAddr,
}

/// Room for [`Flow::octets`].
const OCTETS: usize = 52;

impl Flow {
    /// What tells it from all others, in one piece to be hashed; of IPv4 a short one.
    pub fn octets(&self) -> FlowOctets {
        let Self { transport, listener, connection, local, remote } = *self;
        let mut bytes = [0; OCTETS];
        let (head, ends) = bytes.split_at_mut(8);
        head[0] = transport as u8;
        head[2..4].copy_from_slice(&listener.0.to_le_bytes());
        head[4..].copy_from_slice(&connection.to_le_bytes());
        if let (SocketAddr::V4(local), SocketAddr::V4(remote)) = (local, remote) {
            for (place, end) in ends.chunks_exact_mut(6).zip([local, remote]) {
                place[..4].copy_from_slice(&end.ip().octets());
                place[4..].copy_from_slice(&end.port().to_le_bytes());
            }
            return FlowOctets { bytes, length: 20 };
        }
        for (place, end) in ends.chunks_exact_mut(22).zip([local, remote]) {
            let (ip, scope) = match end {
                SocketAddr::V4(end) => (end.ip().to_ipv6_mapped(), 0),
                SocketAddr::V6(end) => (*end.ip(), end.scope_id()),
            };
            place[..16].copy_from_slice(&ip.octets());
            place[16..18].copy_from_slice(&end.port().to_le_bytes());
            place[18..].copy_from_slice(&scope.to_le_bytes());
        }
        FlowOctets { bytes, length: OCTETS }
    }
}

/// See [`Flow::octets`].
#[derive(Debug, Clone, Copy)]
pub struct FlowOctets {
    bytes: [u8; OCTETS],
    length: usize,
}

impl FlowOctets {
    /// They.
    pub fn get(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// One message to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// The way out.
    pub flow: Flow,
    /// The whole message.
    pub bytes: Vec<u8>,
}
