//! Where a packet goes.
//!
//! Two halves, joined only by values. The *control half* runs beside the
//! proxy: [`offer`] reads offers and answers (RFC 3264), edits SDP and emits
//! [`Command`]s; [`ports`] decides which port pairs a leg gets. The *data half*
//! runs in a worker: [`relay`] takes commands and time, [`forward`] judges one
//! packet, [`latch`] is the security page, and what happened goes up as
//! [`Fact`]s. Neither half opens a socket or reads a clock.
#![forbid(unsafe_code)]

mod asked;
mod check;
pub mod command;
mod deadline;
pub mod fact;
#[cfg(test)]
mod fixture;
pub mod forward;
mod hold;
mod join;
pub mod latch;
mod leg;
pub mod offer;
mod opening;
mod output;
pub mod ports;
pub mod quality;
pub mod relay;
pub mod silence;
pub mod splice;
pub mod srtp;
pub mod stats;

pub use command::{Command, Early, LegPlan, Proto, Sources, StreamId, Target};
pub use fact::Fact;
pub use forward::{Drop, Slot, Verdict};
pub use hold::{Hold, Pace, Passed};
pub use ports::{PortPair, PortRange, RangeId};
pub use relay::Relay;
pub use silence::Silence;
pub use splice::{Part, Splice, SpliceCounts, SpliceLeg};

use serde::{Deserialize, Serialize};

/// RTP or RTCP (RFC 8445 §2): which of a leg's two sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Component {
    /// The even port; with rtcp-mux the only one.
    Rtp,
    /// The odd port.
    Rtcp,
}

/// The two ends of a stream. `A` sent the request that created the call's
/// dialog through us, `B` received it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum End {
    /// The caller's leg.
    A,
    /// The callee's leg.
    B,
}

impl End {
    /// The opposite one.
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// Index into `[_; 2]`.
    pub fn index(self) -> usize {
        match self {
            Self::A => 0,
            Self::B => 1,
        }
    }
}
