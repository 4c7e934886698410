//! What octets are fed to, by name. A target is a plain function that panics
//! when an invariant breaks; libFuzzer and the replay in `make test` call the
//! same ones.

mod choices;
#[path = "../../golden/digest.rs"]
mod digest;
mod edge;
#[path = "../../golden/inputs.rs"]
#[allow(dead_code, reason = "the transcripts' notes are for their own test")]
pub(crate) mod inputs;
mod invariants;
mod latch;
mod message;
#[path = "../../golden/names.rs"]
mod names;
mod recipients;
#[path = "../../golden/world.rs"]
#[allow(dead_code, reason = "its roles are played on another stage")]
mod roles;
mod sdp;
mod speech;
mod stream;
mod stun;
pub(crate) mod transactions;
mod uri;
pub(crate) mod websocket;
mod world;

/// One target.
pub(crate) struct Target {
    /// As on the command line; the folder of its corpus.
    pub(crate) name: &'static str,
    /// Takes any octets.
    pub(crate) run: fn(&[u8]),
}

/// All of them, the quick ones first.
pub(crate) const TARGETS: [Target; 9] = [
    Target { name: "message", run: message::run },
    Target { name: "uri", run: uri::run },
    Target { name: "sdp", run: sdp::run },
    Target { name: "stun", run: stun::run },
    Target { name: "latch", run: latch::run },
    Target { name: "stream", run: stream::run },
    Target { name: "websocket", run: websocket::run },
    Target { name: "transactions", run: transactions::run },
    Target { name: "world", run: world::run },
];
