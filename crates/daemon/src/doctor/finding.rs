//! One thing that was tested.

use serde::Serialize;

/// What it means for calls; the worst decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Weight {
    /// All is well.
    Good,
    /// Calls work, and somebody should know this.
    Notice,
    /// It could not be seen.
    Unknown,
    /// Calls do not work.
    Bad,
}

/// What was tested, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) weight: Weight,
    /// What was tested.
    pub(crate) tested: String,
    /// What was seen.
    pub(crate) found: String,
    /// What that means for calls.
    pub(crate) means: String,
    /// What to do; empty where there is nothing to do.
    pub(crate) mend: String,
}

impl Finding {
    pub(crate) fn new(weight: Weight, tested: &str, found: impl Into<String>, means: &str) -> Self {
        Self { weight, tested: tested.to_owned(), found: found.into(), means: means.to_owned(), mend: String::new() }
    }

    pub(crate) fn mend(mut self, mend: &str) -> Self {
        mend.clone_into(&mut self.mend);
        self
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mark = match self.weight {
            Weight::Good => "ok",
            Weight::Notice => "note",
            Weight::Unknown => "?",
            Weight::Bad => "BAD",
        };
        let mut text = format!("{mark:<5} {}: {}\n      {}\n", self.tested, self.found, self.means);
        if !self.mend.is_empty() {
            text.push_str(&format!("      -> {}\n", self.mend));
        }
        text
    }
}
