//! Answers in JSON, and the percentiles in them.

use std::fmt::Write as _;

/// One JSON object of numbers.
#[derive(Default)]
pub(crate) struct Reply(String);

impl Reply {
    /// Adds a field; `value` is a JSON value as it is.
    pub(crate) fn with(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        let comma = if self.0.is_empty() { "" } else { ", " };
        let _ = write!(self.0, "{comma}\"{name}\": {value}");
        self
    }

    /// Adds `name_p50` and `name_p99`, in µs.
    pub(crate) fn with_delays(self, name: &str, delays: &mut Delays) -> Self {
        let (p50, p99) = (delays.micros(0.50), delays.micros(0.99));
        self.with(&format!("{name}_p50_us"), format!("{p50:.1}")).with(&format!("{name}_p99_us"), format!("{p99:.1}"))
    }

    /// The object.
    pub(crate) fn done(self) -> String {
        format!("{{{}}}", self.0)
    }
}

/// Delays in nanoseconds, all kept.
#[derive(Default)]
pub(crate) struct Delays(Vec<u32>);

impl Delays {
    /// One more, from `sent` to `received`; a clock that stepped back counts as none.
    pub(crate) fn add(&mut self, sent: u64, received: u64) {
        self.0.push(u32::try_from(received.saturating_sub(sent)).unwrap_or(u32::MAX));
    }

    /// The delay that a share of all did not exceed, in µs; 0 if there are none.
    fn micros(&mut self, share: f64) -> f64 {
        if self.0.is_empty() {
            return 0.0;
        }
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an index into a list that fits into memory"
        )]
        let at = ((self.0.len() - 1) as f64 * share).round() as usize;
        let (_, value, _) = self.0.select_nth_unstable(at);
        f64::from(*value) / 1000.0
    }
}
