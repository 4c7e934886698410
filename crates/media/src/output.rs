//! What a worker's machine wants done. Decides nothing.

use std::net::SocketAddr;

use crate::{Fact, Hold, Slot};

/// A packet of our own: octets, and how many of them count.
pub type Small = ([u8; 96], u8);

/// What a worker is to do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// To the signalling thread.
    Fact(Fact),
    /// A packet of our own.
    Transmit {
        /// Socket to send from.
        via: Slot,
        /// Where to.
        to: SocketAddr,
        /// Its octets.
        packet: Small,
    },
    /// All further packets from a source have one verdict. A backend may keep it.
    Hold(Hold),
    /// The hold of this socket is over: its packets are judged one by one again.
    Free {
        /// The socket.
        on: Slot,
    },
    /// The four sockets of this stream slot leave the worker. Sent just before [`Fact::Closed`].
    Release {
        /// The stream slot.
        slot: u32,
    },
}
