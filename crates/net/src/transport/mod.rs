//! Transports of SIP: from sockets to flows and bytes, and back. A transport
//! does not parse, and answers nothing but keep-alives; what a message means is
//! decided above it.

pub mod connection;
pub mod line;
pub mod roll;
pub mod streams;
pub mod tls;
pub mod udp;
pub mod ws;

mod framer;
mod meter;
mod stream;
mod tcp;

pub use connection::{Event, Patience};
pub use line::Why;
pub use roll::{Caps, Census};
pub use streams::Streams;
pub use udp::{Datagram, SendFailure, UdpListener};
