//! The words in which the proxy and the offers speak to each other.

use std::net::IpAddr;
use std::sync::Arc;

use nat::{Advertise, MediaMode, Network, Prefix, Side};

use crate::{End, RangeId};

/// Names a session: the pass of the call, and the branch of its INVITE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The pass (`registry::PassId`).
    pub pass: u64,
    /// The branch.
    pub branch: u16,
}

/// What the proxy knows of one end of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndPlan {
    /// Its side.
    pub side: Side,
    /// The local address that its sockets are bound to.
    pub local: IpAddr,
    /// The range its ports come from.
    pub range: RangeId,
    /// What is written for these sockets.
    pub advertise: Advertise,
    /// What is written where no socket is meant (`o=`, refused m-lines).
    pub own: IpAddr,
    /// The IP that its signalling was seen from; any port of it may latch.
    /// `None` toward the upstream, where the SDP address counts instead.
    pub signalled_from: Option<IpAddr>,
    /// Media may be sent to private SDP addresses before the peer has spoken.
    pub private_targets: bool,
    /// Our own NAT must be opened toward the SDP address (office role, outer side).
    pub open: bool,
    /// Prefixes whose addresses may latch, too.
    pub prefixes: Arc<[Prefix]>,
    /// Networks with rules: no address in one of the other side is ever sent to from here.
    pub networks: Arc<[Network]>,
    /// What is done about its network's media: with no relay SDP passes as it is.
    pub media: MediaMode,
}

/// An SDP body inside the message that carries it.
#[derive(Debug, Clone, Copy)]
pub struct Text<'a> {
    /// The whole message: edits are over it.
    pub whole: &'a [u8],
    /// The body, a slice of it.
    pub body: &'a [u8],
}

/// Why an offer or answer was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Port pairs are on their way: park the message and try again.
    NotReady,
    /// No pair is left in the range of this side: 503.
    Exhausted(Side),
    /// The SDP cannot be rewritten safely: 488 with a Warning. The line counts from 1.
    Malformed {
        /// Which line of the body.
        line: usize,
        /// What is wrong with it.
        what: &'static str,
    },
    /// It names a port of our own that is not in use (RFC 3550 §8.2): 488.
    OwnPort,
}

/// What an answer settles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settles {
    /// Nothing: SDP in an unreliable 18x is a preview that the 2xx will repeat (RFC 6337 §2).
    Nothing,
    /// The offer, while the call may still ring: a reliable 18x, PRACK, UPDATE.
    Offer,
    /// The offer, in an answered call: from here on silence ends it.
    Call,
}

/// What a fact means for a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// No media in either direction for the configured time.
    Dead(Key),
    /// The worker lost a stream.
    Lost(Key),
    /// Where all sockets of the legs of this end are seen is known anew.
    Found(Key, End),
}
