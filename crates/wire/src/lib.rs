//! What bytes mean.
//!
//! This room indexes and edits; it never decides. SIP (RFC 3261) and SDP
//! (RFC 8866) are read as ranges over the received bytes and written by
//! splicing, so whatever is not edited leaves byte for byte as it came.
//! STUN (RFC 8489) goes through the `stun-types` crate; RTP and RTCP
//! (RFC 3550) are read just far enough to relay them. Requests to routers (PCP,
//! NAT-PMP, UPnP IGD) are composed here, too.
#![forbid(unsafe_code)]

pub mod changes;
pub mod demux;
pub mod edit;
pub mod flow;
pub mod portmap;
pub mod rtp;
mod scan;
pub mod sdp;
pub mod sip;
pub mod span;
pub mod stun;
mod text;
pub mod upnp;

pub use changes::Change;
pub use edit::{Edit, Rule};
pub use flow::{Flow, ListenerId, PackedFlow, Transmit, Transport};
pub use span::Span;
pub use text::Text;

/// Why bytes could not be read as what they were taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed {
    /// Offset of the offending octet, from the start of the input.
    pub at: usize,
    /// What is wrong, in a few plain words (usable as a reason phrase).
    pub what: &'static str,
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at octet {}", self.what, self.at)
    }
}

impl std::error::Error for Malformed {}
