//! Stream transports on loopback, with peers as they are in the field: hasty,
//! slow, half-open, hostile.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test that unwraps in vain, or that meets another event than expected, has failed"
)]

#[path = "streams/authority.rs"]
mod authority;
#[path = "streams/world.rs"]
mod world;

#[path = "streams/tcp.rs"]
mod tcp;
#[path = "streams/tls.rs"]
mod tls;
#[path = "streams/ws.rs"]
mod ws;
