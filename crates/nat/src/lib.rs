//! Which address is true.
//!
//! A SIP message claims addresses, the kernel sees others, a STUN server
//! reports yet others. This room keeps them apart by type, decides which one
//! is written toward which side, finds our own mapped addresses by STUN
//! (RFC 8489), says when a mapping must be refreshed, and which mappings a router
//! is asked for (RFC 6886, RFC 6887, UPnP). It opens no socket
//! and reads no clock.
#![forbid(unsafe_code)]

pub mod access;
pub mod address;
pub mod alg;
pub mod behaviour;
pub mod detect;
pub mod discovery;
pub mod ice_lite;
pub mod keepalive;
pub mod ledger;
pub mod lifetime;
pub mod options;
pub mod outside;
pub mod path;
pub mod portmap;
pub mod reflector;
pub mod relayed;
pub mod side;
pub mod sources;
pub mod turn;
pub mod unasked;

pub use access::Access;
pub use address::{Advertised, Claimed, Mapped, Source};
pub use discovery::Discovery;
pub use outside::Outside;
pub use side::{Advertise, MediaMode, Network, Prefix, Side};
pub use turn::Turn;
