//! Transactions (RFC 3261 §17, RFC 6026, RFC 4320): two pure machines, the
//! keys that match messages to them, and the response contexts (§16.2) that
//! tie a server transaction to its branches.

mod accepted;
pub(crate) mod client;
mod compact;
pub(crate) mod context;
pub(crate) mod key;
mod patch;
mod rest;
pub(crate) mod server;

use std::time::Duration;

pub(crate) use accepted::Accepted;
pub(crate) use client::Client;
pub(crate) use context::{Branch, Context, Contexts, Id, Ours, Purpose};
pub(crate) use key::{Key, belongs};
pub(crate) use patch::Patch;
pub(crate) use rest::Rest;
pub(crate) use server::Server;

/// Round-trip estimate (§17.1.1.1).
pub(crate) const T1: Duration = Duration::from_millis(500);
/// Longest interval between retransmissions.
pub(crate) const T2: Duration = Duration::from_secs(4);
/// How long a message stays in the network.
pub(crate) const T4: Duration = Duration::from_secs(5);
/// Longer than three minutes (§16.6(11)).
pub(crate) const TIMER_C: Duration = Duration::from_secs(185);
