//! What the signalling thread tells a media worker.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use nat::ice_lite::Agent;
use nat::{Prefix, Side};
use serde::{Deserialize, Serialize};

use crate::quality::Formats;
use crate::splice::Splice;
use crate::srtp::Key;
use crate::{End, PortPair};

/// Names one stream of one worker; a slot that is used again has the next generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StreamId {
    /// Which worker owns it.
    pub worker: u8,
    /// Index in that worker.
    pub slot: u32,
    /// Grows each time the slot is used.
    pub generation: u32,
}

/// Where SDP says that a peer wants its packets. Equal when RTCP is muxed.
///
/// Of an IPv6 address no scope: SDP has none. A stream has a dozen of these, so they are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Target {
    ips: [IpAddr; 2],
    ports: [u16; 2],
}

impl Target {
    /// Of both components; `rtcp` by RFC 3605, or the next port.
    pub fn new(rtp: SocketAddr, rtcp: SocketAddr) -> Self {
        Self { ips: [rtp.ip(), rtcp.ip()], ports: [rtp.port(), rtcp.port()] }
    }

    /// For RTP.
    pub fn rtp(&self) -> SocketAddr {
        SocketAddr::new(self.ips[0], self.ports[0])
    }

    /// For RTCP.
    pub fn rtcp(&self) -> SocketAddr {
        SocketAddr::new(self.ips[1], self.ports[1])
    }
}

/// An address as SDP names it, and small.
pub(crate) type Place = (IpAddr, u16);

pub(crate) fn place(address: SocketAddr) -> Place {
    (address.ip(), address.port())
}

/// Which sources a leg's latch may accept (`docs/flows/packet.md`): nothing else, ever.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sources {
    /// Exactly these addresses.
    pub exact: Option<Target>,
    /// Any port of these.
    pub ips: [Option<IpAddr>; 2],
    /// Any address inside these (`[[network]] latch = true`).
    pub prefixes: Arc<[Prefix]>,
}

/// May media be sent to the signalled target before the peer has spoken?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Early {
    /// No: nobody proved that the address wants it.
    Never,
    /// At most 50 packets in 2 s (toward phones).
    Capped,
    /// Yes, because signalling comes from that very address: nobody else can
    /// be flooded. Once the peer has spoken, as `Capped`: behind a NAT its SDP
    /// need not be true.
    Proven,
    /// Yes (toward the upstream's SDP address).
    Uncapped,
}

/// All that a worker needs to know of one leg.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegPlan {
    /// Our sockets.
    pub pair: PortPair,
    /// For counting.
    pub side: Side,
    /// The peer's SDP address, when known.
    pub target: Option<Target>,
    /// Who may latch.
    pub sources: Sources,
    /// Sending before the latch.
    pub early: Early,
    /// Send STUN Binding indications to the target from both sockets, to open
    /// our own NAT: 5 at 20 ms, then one a second until the first packet
    /// arrives; on silence one every keep-alive interval.
    pub open: bool,
    /// RTCP shares the RTP socket on this leg (RFC 5761 §5.1.1); the other leg may differ.
    pub muxed: bool,
    /// ICE was agreed on this leg: its checks are answered by this agent, and
    /// once one was valid, nobody latches without (RFC 8445 §2.5).
    pub ice: Option<Box<Agent>>,
    /// The keys that the peer may send with, as SDP shows them (RFC 4568); none
    /// if they are not known. Where they are, nobody latches without (RFC 7362 §5).
    pub srtp: Arc<[Key]>,
}

/// What a stream carries (RFC 8866 §5.14 `proto`), as far as a worker cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Proto {
    /// RTP, SRTP, and DTLS before them.
    #[default]
    Rtp,
    /// T.38 fax: relayed from allowed sources without any look inside, and
    /// never able to move a held latch between offers and answers.
    Udptl,
}

/// One order to a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Start relaying between two legs, whose sockets come along.
    Open {
        /// The stream.
        stream: StreamId,
        /// Offer/answer counter of the control half; facts carry it back.
        epoch: u32,
        /// Legs of end A and B.
        legs: Box<[LegPlan; 2]>,
        /// Report silence after this; `None` while the call is on hold.
        timeout: Option<Duration>,
    },
    /// A completed offer/answer: new plans (the pairs stay the same), latches re-armed.
    Update {
        /// The stream.
        stream: StreamId,
        /// Counter after this exchange.
        epoch: u32,
        /// Legs of end A and B.
        legs: Box<[LegPlan; 2]>,
        /// As in `Open`.
        timeout: Option<Duration>,
        /// False for a preview (SDP in an unreliable 18x): targets and
        /// sources change, held latches stay.
        rearm: bool,
    },
    /// At this end another peer than before has the call, of a fork that has
    /// answered: after the `Update` that names it, no source but its own
    /// address stays latched.
    Replace {
        /// The stream.
        stream: StreamId,
        /// The end.
        end: End,
    },
    /// What the stream carries from here on: RTP until told otherwise. Follows
    /// the `Open` or `Update` whose SDP says so.
    Carry {
        /// The stream.
        stream: StreamId,
        /// Its payload.
        proto: Proto,
    },
    /// What SDP says of the payload types, for the figures. Comes before the `Update` whose SDP says so.
    Formats {
        /// The stream.
        stream: StreamId,
        /// Codecs and clocks.
        formats: Arc<Formats>,
    },
    /// The stream is one of TCP: octets, not packets, pass between its legs. Not
    /// for a worker; its sockets stay open meanwhile, and silent.
    Splice {
        /// The stream.
        stream: StreamId,
        /// What is to be; `None`: a splice that it had ends.
        splice: Option<Box<Splice>>,
    },
    /// Both sockets of a leg ask a STUN server where they are seen, answered by
    /// [`Fact::Mapped`](crate::Fact::Mapped); what was asked before counts no more.
    Ask {
        /// The stream.
        stream: StreamId,
        /// Which leg.
        end: End,
        /// The server.
        server: SocketAddr,
        /// Transaction ids for RTP and RTCP (RFC 8489 §6.1).
        transactions: [[u8; 12]; 2],
    },
    /// Two streams of a spiral: the named legs face each other, so the legs
    /// behind them are tied directly and nothing is sent to ourselves.
    Join {
        /// One stream, and its leg that faces the other stream.
        a: (StreamId, End),
        /// The other stream, likewise. Same worker.
        b: (StreamId, End),
    },
    /// Undo a join of this stream, if any.
    Part {
        /// The stream.
        stream: StreamId,
    },
    /// Stop; answered by `Fact::Closed`, with which the sockets come back.
    Close {
        /// The stream.
        stream: StreamId,
        /// Ends whose peer was told the address of its pair: a pair that carried nothing rests all the same.
        told: [bool; 2],
    },
}

impl Command {
    /// The streams that it concerns: one, or the two of a [`Join`](Self::Join).
    pub fn streams(&self) -> impl Iterator<Item = StreamId> + use<> {
        let (stream, other) = match self {
            Self::Open { stream, .. }
            | Self::Update { stream, .. }
            | Self::Replace { stream, .. }
            | Self::Carry { stream, .. }
            | Self::Formats { stream, .. }
            | Self::Splice { stream, .. }
            | Self::Ask { stream, .. }
            | Self::Part { stream }
            | Self::Close { stream, .. } => (*stream, None),
            Self::Join { a, b } => (a.0, Some(b.0)),
        };
        std::iter::once(stream).chain(other)
    }
}
