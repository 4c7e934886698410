//! Has the router begun anew? PCP and NAT-PMP tell how old the router's memory
//! is; when that does not fit the time that has passed, it has lost our mappings
//! (RFC 6886 §3.6, RFC 6887 §8.5). A router whose clock is nonsense is not
//! believed for a while, or we would ask it for everything without end.

use std::time::{Duration, Instant};

/// So many losses within this time are nonsense, and for how long nothing more is believed.
const LOSSES: usize = 3;
const WITHIN: Duration = Duration::from_secs(60);
const DISBELIEF: Duration = Duration::from_secs(600);

/// What an answer's epoch says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All is as it was.
    Same,
    /// It has begun anew.
    Lost,
    /// It says so too often.
    Nonsense,
}

/// The last that was heard.
#[derive(Debug, Default)]
pub(super) struct Epoch {
    last: Option<(u32, Instant)>,
    losses: Vec<Instant>,
    disbelieved: Option<Instant>,
}

impl Epoch {
    /// Takes in a number of seconds. `pcp`: in which of the two ways it is judged.
    pub(super) fn heard(&mut self, now: Instant, told: u32, pcp: bool) -> Verdict {
        let Some((before, at)) = self.last.replace((told, now)) else { return Verdict::Same };
        let passed = now.saturating_duration_since(at).as_secs();
        let fits = if pcp { fits_pcp(before, told, passed) } else { fits_natpmp(before, told, passed) };
        if fits || self.disbelieved.is_some_and(|until| now < until) {
            return Verdict::Same;
        }
        self.losses.retain(|loss| now.saturating_duration_since(*loss) < WITHIN);
        self.losses.push(now);
        if self.losses.len() > LOSSES {
            self.losses.clear();
            self.disbelieved = Some(now + DISBELIEF);
            return Verdict::Nonsense;
        }
        Verdict::Lost
    }
}

/// RFC 6887 §8.5: neither back, nor much slower or faster than our clock.
fn fits_pcp(before: u32, told: u32, passed: u64) -> bool {
    let (before, told) = (u64::from(before), u64::from(told));
    if told + 1 < before {
        return false;
    }
    let grown = told.saturating_sub(before);
    passed + 2 >= grown - grown / 16 && grown + 2 >= passed - passed / 16
}

/// RFC 6886 §3.6: no more than 2 s behind seven eighths of the time that has passed.
fn fits_natpmp(before: u32, told: u32, passed: u64) -> bool {
    u64::from(told) + 2 >= u64::from(before) + passed * 7 / 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_may_drift_and_not_jump() {
        for (before, told, passed, pcp, natpmp) in [
            (100, 160, 60, true, true),
            (100, 99, 0, true, true),
            (100, 98, 0, false, true),
            (100, 97, 0, false, false),
            (100, 158, 60, true, true),
            (100, 151, 60, false, true),
            (100, 149, 60, false, false),
            (100, 5, 3, false, false),
            // Ahead of time: NAT-PMP says nothing of it.
            (100, 400, 60, false, true),
            (u32::MAX, 0, 3, false, false),
        ] {
            assert_eq!(fits_pcp(before, told, passed), pcp, "PCP {before} {told} {passed}");
            assert_eq!(fits_natpmp(before, told, passed), natpmp, "NAT-PMP {before} {told} {passed}");
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "virtual time has to start somewhere")]
    fn a_clock_that_jumps_without_end_is_not_believed() {
        let (mut epoch, mut now) = (Epoch::default(), Instant::now());
        let mut verdicts = Vec::new();
        for told in [1000, 0, 500, 0, 900, 0, 7] {
            verdicts.push(epoch.heard(now, told, true));
            now += Duration::from_secs(3);
        }
        let [same, lost, nonsense] = [Verdict::Same, Verdict::Lost, Verdict::Nonsense];
        assert_eq!(verdicts, [same, lost, lost, lost, nonsense, same, same]);
        now += DISBELIEF;
        assert_eq!(epoch.heard(now, 0, true), lost);
    }
}
