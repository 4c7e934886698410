//! When all calls have ended and quarantine has passed, every port is back
//! (`docs/adr/0005-ports-bound-ahead-rested-after.md`).

use super::{Finish, Rule, Truth};
use crate::clock::Time;
use crate::edge::Entry;

#[derive(Debug, Default)]
pub(crate) struct PortsComeBack;

impl Rule for PortsComeBack {
    fn name(&self) -> &'static str {
        "every port comes back"
    }

    fn see(&mut self, _now: Time, _truth: &Truth, _entry: &Entry) -> Option<String> {
        None
    }

    fn finish(&mut self, _truth: &Truth, end: &Finish<'_>) -> Option<String> {
        let mut idle = 0;
        for (ip, range, counts) in end.edge.proxy().ports() {
            idle += counts.idle;
            if counts.live > 0 || counts.resting > 0 || counts.free != counts.total {
                return Some(format!("pool {ip} {range:?}: {counts:?}"));
            }
        }
        let bound = end.edge.bound();
        (bound < idle).then(|| format!("{idle} pairs are idle, but only {bound} bound"))
    }
}
