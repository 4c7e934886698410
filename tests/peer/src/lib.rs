//! The running binary and scripted peers around it, on loopback and over real
//! sockets: phones, a core, strangers, and calls with audio.
//!
//! A [`World`] is one daemon in one role with two [`Agent`]s that can call each
//! other; each world has a /24 of 127.0.0.0/8 of its own. An agent answers by
//! itself what its policy says, keeps what it heard, and can be asked to wait
//! for a message. [`Call`] sets a call up and pumps RTP both ways until asked
//! for the figures.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::missing_panics_doc,
    reason = "part of tests: one that unwraps in vain has failed, and it is the world around the program, with sockets and a clock"
)]

mod agent;
mod authority;
mod binary;
mod call;
mod coturn;
mod daemon;
mod dialog;
mod digest;
mod line;
mod loopback;
mod message;
mod rtp;
mod sockets;
mod stream;
mod world;

use std::io::Write as _;

pub use agent::{Agent, Answers, accept, accept_registrations, challenge_registrations, silent};
pub use authority::{Authority, Identity, secured};
pub use binary::binary;
pub use call::Call;
pub use coturn::Coturn;
pub use daemon::Daemon;
pub use dialog::Dialog;
pub use digest::credentials;
pub use line::Line;
pub use loopback::Loopback;
pub use message::{Draft, Message};
pub use rtp::{Audio, Heard};
pub use sockets::{Kind, Sockets, Ways, exchange};
pub use stream::{StreamPhone, Wire, connect_from, connect_secure, reset};
pub use world::World;

/// Prints a line past the capture of test output, so that it shows in every run.
pub fn announce(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").unwrap();
}
