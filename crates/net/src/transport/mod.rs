//! Transports of SIP: from sockets to flows and bytes, and back. A transport
//! neither parses nor answers; what a message means is decided above it.

pub mod udp;

pub use udp::{Datagram, Readiness, SendFailure, UdpListener};
