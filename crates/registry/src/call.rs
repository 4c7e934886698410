//! Calls: everything about a dialog through us that must survive.
//!
//! A record belongs to one *pass*, one traversal of us by the request that
//! created it: an office-to-office call that spirals through the core has two.

use std::sync::Arc;
use std::time::Instant;

use media::StreamId;
use serde::{Deserialize, Serialize};
use wire::PackedFlow;

use crate::BindingId;

/// Names a pass; random, and written into our dialog tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PassId(pub u64);

impl std::fmt::Display for PassId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What created the dialog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CallKind {
    /// INVITE.
    Invite,
    /// SUBSCRIBE, or a REFER's implicit subscription (RFC 6665, RFC 3515).
    Subscription,
}

/// How far a call, or one of its dialogs, has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CallState {
    /// No 2xx yet.
    Early,
    /// A 2xx passed.
    Confirmed,
    /// BYE seen or sent.
    Ending,
}

/// One end of a dialog as we see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Party {
    /// Its tag.
    pub tag: Box<[u8]>,
    /// Its From (caller) or To (callee) value, with the tag: used when we speak for it.
    pub identity: Arc<[u8]>,
    /// Its remote target: the Contact URI as it wrote it (RFC 3261 §12.1).
    pub contact: Box<[u8]>,
    /// Record-Route values between us and it, nearest to us first (§12.1.1, §12.1.2).
    pub route: Vec<Vec<u8>>,
    /// The flow that its last message came from.
    pub flow: PackedFlow,
    /// If it is a registered phone: its binding, whose present flow is used.
    pub binding: Option<BindingId>,
    /// Highest CSeq number seen from it, 0 if none (§12.2.1.1).
    pub cseq: u32,
    /// How far the dialog with this callee has come. The caller takes part in
    /// the dialogs of all callees, so its own says nothing.
    pub state: CallState,
    /// Which branch of the creating request it answered; 0 for the caller. Names the media session.
    pub branch: u16,
    /// Of a callee: by how much CSeq numbers are raised on their way, of
    /// requests toward it and of its own, because we have spoken in between.
    pub raised: [u32; 2],
    /// Its UUID in Session-ID (RFC 7989), empty while it is not known.
    pub session: Box<[u8]>,
}

/// One call, of one pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Its name.
    pub id: PassId,
    /// What created it.
    pub kind: CallKind,
    /// State.
    pub state: CallState,
    /// Call-ID.
    pub call_id: Arc<[u8]>,
    /// Who sent the creating request.
    pub caller: Party,
    /// Who answered it, one per To tag (forks, §12.1.2).
    pub callees: Vec<Party>,
    /// The flow facing the callees: where their side's listener and address are taken from.
    pub onward: PackedFlow,
    /// Its media streams.
    pub streams: Arc<[StreamId]>,
    /// When the creating request came.
    pub since: Instant,
    /// When the first 2xx passed.
    pub answered: Option<Instant>,
    /// When it runs out, if nothing more is heard of it: a subscription, a
    /// challenged call that may be tried again, an answered call without media.
    pub expires: Option<Instant>,
    /// Index of the `[[phone]]` on whose account it counts.
    pub phone: Option<usize>,
}
