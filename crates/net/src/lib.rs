//! Touches the machine.
//!
//! The only room that opens sockets, reads the clock, takes randomness and
//! asks the kernel directly. It decides nothing about SIP, media or NATs: it
//! feeds the machines (`nat::Discovery` here, `media::Relay` in the workers)
//! and does what they answer. The signalling loop that drives this room lives
//! in the daemon; [`transport::UdpListener`], [`Ports`] and [`Sleep`] are what
//! it waits on, [`datapath`] is what it commands.
//!
//! Linux only: the batches are `recvmmsg` and `sendmmsg`, the waiting is epoll.
//! Each file that makes system calls by hand says so in its first attribute.
#![deny(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that unwraps in vain has failed"))]

pub mod addresses;
pub mod background;
pub mod clock;
pub mod datapath;
pub mod dns;
pub mod dscp;
pub mod entropy;
pub mod limits;
pub mod portmap;
pub mod ports;
pub mod sockopt;
pub mod splice;
pub mod survey;
pub mod transport;
pub mod turn;

mod alarm;
mod mmsg;
mod poll;
mod sleep;

pub use addresses::addresses;
pub use datapath::{Report, WorkerHandle, spawn_workers};
pub use dns::{Resolver, resolve};
pub use limits::raise_nofile;
pub use ports::Ports;
pub use sleep::{Ringer, Sleep};
pub use splice::Splices;
pub use transport::{Streams, UdpListener};
