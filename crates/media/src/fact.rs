//! What a media worker tells the signalling thread. Facts carry the epoch of
//! the last command of their stream; stale ones are dropped by the reader.

use std::sync::Arc;

use nat::{Mapped, Side, Source};

use crate::splice::SpliceCounts;
use crate::stats::{LegCounts, Totals};
use crate::{Component, End, Silence, StreamId};

/// One event of a stream, or a worker's totals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// A leg's latch took a source.
    Latched {
        /// The stream.
        stream: StreamId,
        /// Epoch of the last command.
        epoch: u32,
        /// Which leg.
        end: End,
        /// RTP or RTCP.
        component: Component,
        /// The side of the leg.
        side: Side,
        /// The address.
        source: Source,
        /// True when a held latch moved.
        moved: bool,
    },
    /// No packet from either leg for the stream's timeout. Reported once per silence.
    Silent {
        /// The stream.
        stream: StreamId,
        /// Epoch of the last command.
        epoch: u32,
    },
    /// Two seconds without audio from one end of an answered call that is not
    /// on hold. Reported once per silence.
    Unheard {
        /// The stream.
        stream: StreamId,
        /// Epoch of the last command.
        epoch: u32,
        /// Which leg.
        end: End,
        /// What is known of the reason.
        silence: Silence,
    },
    /// That silence is over.
    Heard {
        /// The stream.
        stream: StreamId,
        /// Epoch of the last command.
        epoch: u32,
        /// Which leg.
        end: End,
        /// Its side.
        side: Side,
    },
    /// Figures of a running stream, every 5 s and at close.
    Counted {
        /// The stream.
        stream: StreamId,
        /// Legs of end A and B.
        legs: Arc<[LegCounts; 2]>,
    },
    /// The stream is gone from the worker and its sockets are on their way back.
    Closed {
        /// The stream.
        stream: StreamId,
        /// Final figures. A leg that received and sent nothing has an unused pair;
        /// whether it rests the order to close has said.
        legs: Arc<[LegCounts; 2]>,
    },
    /// What a TCP stream did since this was last told: at most once a second, and when it has ended.
    Spliced {
        /// The stream.
        stream: StreamId,
        /// Legs of end A and B, with their sides.
        legs: Box<[(Side, SpliceCounts); 2]>,
    },
    /// A STUN server has said where a socket is seen, because [`Command::Ask`](crate::Command::Ask) had it asked.
    Mapped {
        /// The stream.
        stream: StreamId,
        /// Which leg.
        end: End,
        /// RTP or RTCP.
        component: Component,
        /// The address.
        mapped: Mapped,
    },
    /// The worker could not take or keep the stream: the call must end.
    Failed {
        /// The stream.
        stream: StreamId,
    },
    /// What a worker did since its last report (about once a second).
    Totals(Box<Totals>),
}
