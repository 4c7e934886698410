//! Who is where.
//!
//! One owned, ordered truth of bindings (RFC 3261 §10) and calls. Every
//! mutation is published as a [`Change`], an idempotent "put this record" or
//! "delete this key"; the admin view, the snapshot on disk and a replica are
//! folds of that stream; [`snapshot`] says what of a record outlives the process. No clock is read and nothing is shared here.
#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        clippy::wildcard_enum_match_arm,
        clippy::unwrap_used,
        reason = "a test reads the clock once, to have an instant to count from"
    )
)]

pub mod binding;
pub mod by_hash;
pub mod call;
pub mod change;
pub mod confirmed;
mod expiry;
#[allow(clippy::module_inception, reason = "the room's main type has the room's name")]
pub mod registry;
pub mod snapshot;
pub mod texts;

pub use binding::{Binding, BindingId, FlowId};
pub use call::{Call, CallKind, CallState, Party, PassId};
pub use change::{Change, Key, Record};
pub use confirmed::{Confirmed, Renewal};
pub use registry::Registry;
pub use texts::{Said, Texts};
