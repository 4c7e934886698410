//! Bindings (RFC 3261 §10): an address of record, the phone's own Contact,
//! and the flow that reaches it.

use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use wire::{Flow, PackedFlow};

use crate::{Confirmed, Said, Texts};

/// Names a binding; derived from AOR, Contact and instance so that the same
/// phone gets the same token again after a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BindingId(pub u64);

/// Names a flow without telling where it goes (RFC 5626 §5.2): a keyed digest of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FlowId(pub u64);

/// One registered contact of one phone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// Its name.
    pub id: BindingId,
    /// What it says in words.
    pub texts: Texts,
    /// `+sip.instance`, if given (RFC 5626 §4.1).
    pub instance: Option<Arc<[u8]>>,
    /// `reg-id`, by which the same phone keeps several flows (RFC 5626 §4.2).
    pub reg_id: Option<u32>,
    /// CSeq of the last REGISTER that was confirmed.
    pub cseq: u32,
    /// The present way to the phone.
    pub flow: PackedFlow,
    /// The name of that way.
    pub flow_id: FlowId,
    /// The flow over which the upstream confirmed it; `None` in standalone. Most have the same.
    pub upstream: Option<Arc<Flow>>,
    /// The phone's addresses showed a NAT in between.
    pub natted: bool,
    /// Index of the `[[phone]]` it matches.
    pub phone: Option<usize>,
    /// Preference among several contacts, 0 to 1000 (q value × 1000).
    pub q: u16,
    /// When the expiry that the phone was told runs out.
    pub expires: Instant,
    /// When the expiry that the upstream granted runs out; not before `expires`.
    pub until: Instant,
    /// What the upstream said to it.
    pub confirmed: Confirmed,
    /// It answered a ping at some time.
    pub answered: bool,
    /// Pings in a row without an answer.
    pub missed: u8,
}

impl Binding {
    /// Address of record, as of [`Said::aor`].
    pub fn aor(&self) -> &[u8] {
        self.said().aor
    }

    /// The phone's own Contact URI, as it wrote it.
    pub fn contact(&self) -> &[u8] {
        self.said().contact
    }

    /// Call-ID of its REGISTER.
    pub fn call_id(&self) -> &[u8] {
        self.said().call_id
    }

    /// All that it says in words.
    pub fn said(&self) -> Said<'_> {
        self.texts.get()
    }

    /// True when pings prove that nobody is there: it had answered before and
    /// then missed three.
    pub fn gone(&self) -> bool {
        self.answered && self.missed >= 3
    }
}
