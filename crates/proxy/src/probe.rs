//! Calls whose end nothing else would tell: without a session timer (RFC
//! 4028), and on hold or without media through us, so that there is no silence
//! to notice.
//!
//! Both ends are asked by an OPTIONS inside the dialog (RFC 3261 §11). 481 says
//! that it is gone there (§12.2.1.2); an end that does not answer, or cannot be
//! reached, gets a second chance. Any other answer will do: who refuses OPTIONS
//! in a dialog has the dialog, and a 404, which ends one by RFC 5057 §5.1, comes
//! from peers that look for a user to ask. Its CSeq is above all that the end for
//! which we speak has used, and that end's later ones are raised ([`crate::cseq`]).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use registry::PassId;
use wire::sip::{Method, Status};

use crate::dialog::{callee, standing};
use crate::transaction::Ours;
use crate::{Cause, Proxy};

/// How often.
pub(crate) const EVERY: Duration = Duration::from_secs(90);
/// So many failures in a row, and an end is gone.
const MOST_MISSED: u8 = 2;

/// Ends that did not answer of late: how often, by call, who asked and who was asked.
#[derive(Debug, Default)]
pub(crate) struct Probes(BTreeMap<(PassId, u8, u8), u8>);

impl Probes {
    pub(crate) fn forget(&mut self, pass: PassId) {
        let all: Vec<_> = self.0.range((pass, 0, 0)..=(pass, u8::MAX, u8::MAX)).map(|(key, _)| *key).collect();
        for key in all {
            self.0.remove(&key);
        }
    }
}

/// What an answer says of the dialog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    Stands,
    /// Nobody is there, at present.
    Nothing,
    Gone,
}

fn says(status: Status) -> Says {
    match status.0 {
        481 => Says::Gone,
        // Of a proxy on the way, that cannot reach the end.
        408 | 430 | 480 | 502..=504 => Says::Nothing,
        _ => Says::Stands,
    }
}

impl Proxy {
    /// Asks both ends of each dialog of a call.
    pub(crate) fn probe(&mut self, now: Instant, pass: PassId) {
        let Some(call) = self.registry.call(pass).cloned() else { return };
        let legs: Vec<u8> = standing(&call).map(|(leg, _)| leg).collect();
        if legs.is_empty() {
            // Answered by nobody whom a dialog could be with: a 2xx without a To tag.
            return self.finish(pass, Cause::Lost);
        }
        for (from, to) in legs.into_iter().flat_map(|leg| [(leg, 0), (0, leg)]) {
            if self.registry.call(pass).is_none() {
                // The end asked before was the last that could be missed.
                return;
            }
            let cseq = self.next_cseq(pass, from, to).unwrap_or_default();
            let method = (Method::Options, cseq);
            let purpose = Ours::Probe { pass, from, to };
            if self.inside(now, &call, (from, to), method, |_, _| (String::new(), None), purpose).is_none() {
                self.probed_end(now, pass, (from, to), None);
            }
        }
    }

    /// What came of it; `None`: nothing.
    pub(crate) fn probed_end(&mut self, now: Instant, pass: PassId, (from, to): (u8, u8), status: Option<Status>) {
        let Some(call) = self.registry.call(pass) else { return };
        if !standing(call).any(|(leg, _)| leg == callee(from, to)) {
            return;
        }
        let key = (pass, from, to);
        let missed = match status.map_or(Says::Nothing, says) {
            Says::Stands => {
                self.probes.0.remove(&key);
                return;
            }
            Says::Nothing => {
                let missed = self.probes.0.entry(key).or_default();
                *missed += 1;
                *missed
            }
            Says::Gone => MOST_MISSED,
        };
        if missed >= MOST_MISSED {
            self.end_dialog(now, pass, callee(from, to), Cause::Lost, "The other end has gone");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_refuses_options_has_the_dialog() {
        for status in [200, 405, 500, 501, 486, 401, 420, 404] {
            assert_eq!(says(Status(status)), Says::Stands, "{status}");
        }
        assert_eq!(says(Status(481)), Says::Gone);
        for status in [408, 430, 480, 502, 503, 504] {
            assert_eq!(says(Status(status)), Says::Nothing, "{status}");
        }
    }

    #[test]
    fn a_call_that_ended_leaves_no_count() {
        let mut probes = Probes::default();
        for key in [(PassId(1), 0, 1), (PassId(2), 0, 1), (PassId(2), 255, 0), (PassId(3), 1, 0)] {
            probes.0.insert(key, 1);
        }
        probes.forget(PassId(2));
        assert_eq!(probes.0.keys().map(|key| key.0.0).collect::<Vec<_>>(), [1, 3]);
    }
}
