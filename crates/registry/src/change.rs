//! What the registry publishes: whole records, so that folding a change
//! twice, or only the last of several, gives the same result.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Binding, BindingId, Call, PassId};

/// Names a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Key {
    /// A binding.
    Binding(BindingId),
    /// A call.
    Call(PassId),
}

/// A whole record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A binding. There are many, they live long, and each who folds changes keeps it: it is there once.
    Binding(Arc<Binding>),
    /// A call. It changes often: whoever keeps the record has it copied at the next change.
    Call(Arc<Call>),
}

impl Record {
    /// Its name.
    pub fn key(&self) -> Key {
        match self {
            Self::Binding(binding) => Key::Binding(binding.id),
            Self::Call(call) => Key::Call(call.id),
        }
    }
}

/// One mutation of the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Now it is this.
    Put(Record),
    /// Now it is gone.
    Delete(Key),
}
