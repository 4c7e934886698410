//! Is this machine's clock right? Certificates and call records need it.

use net::survey::reach::Reached;

use super::finding::{Finding, Weight};
use super::upstream::Asked;

/// Farther off than this is wrong: a message may have been on its way for some seconds.
const MOST_S: i64 = 60;
/// 2025-01-01: no such clock can be right.
const ABSURD: u64 = 1_735_689_600;

/// What is known of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Clock {
    pub(super) right: Option<bool>,
    /// Seconds that it is ahead of the upstream's.
    pub(super) off_s: Option<i64>,
}

impl Clock {
    /// By the Date of an upstream's answer, if one has it.
    pub(super) fn of(upstreams: &[Asked], now: u64) -> Self {
        let dates = upstreams.iter().flat_map(|asked| {
            asked.tried.iter().filter_map(|(_, _, reached)| match reached {
                Reached::Answers(answer, _) => Some((asked.at, answer.date?)),
                Reached::Connects | Reached::Refused | Reached::Silent | Reached::Untrusted => None,
            })
        });
        let off_s = dates.map(|(at, date)| at as i64 - date as i64).min_by_key(|off| off.abs());
        let right = match off_s {
            Some(off) => Some(off.abs() <= MOST_S),
            None => (now < ABSURD).then_some(false),
        };
        Self { right, off_s }
    }

    pub(super) fn word(self) -> Option<&'static str> {
        self.right.map(|right| if right { "right" } else { "wrong" })
    }

    pub(super) fn finding(self) -> Finding {
        let tested = "Clock";
        let mend = "let NTP set it (timedatectl set-ntp true)";
        match (self.right, self.off_s) {
            (Some(true), _) => {
                Finding::new(Weight::Good, tested, "it agrees with the upstream's", "certificates are judged rightly")
            }
            (Some(false), Some(off)) => {
                let found = format!("{} s {} the upstream's", off.abs(), if off > 0 { "ahead of" } else { "behind" });
                let means =
                    "this clock or the upstream's is wrong: certificates may seem expired, records have wrong times";
                Finding::new(Weight::Notice, tested, found, means).mend(mend)
            }
            (Some(false), None) => {
                let means = "it shows a time before this program was written: certificates seem not yet valid";
                Finding::new(Weight::Notice, tested, "wrong by years", means).mend(mend)
            }
            (None, _) => Finding::new(Weight::Notice, tested, "not known", "no upstream told its time"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use ::nat::options::Answer;
    use proxy::config::Upstream;
    use wire::Transport;

    use super::*;

    fn asked(at: u64, date: Option<u64>) -> Asked {
        let upstream = Upstream {
            host: "x".to_owned(),
            port: None,
            transport: None,
            sips: false,
            domain: None,
            comedia: false,
            default_phone: None,
            fallback: Vec::new(),
        };
        let local = SocketAddr::from(([192, 0, 2, 1], 5060));
        let answer = Reached::Answers(Answer { status: 200, date, seen: None }, local);
        Asked { upstream, tried: vec![(Transport::Udp, Some(local), answer)], at }
    }

    #[test]
    fn a_clock_is_compared_where_somebody_tells_the_time() {
        let now = 1_800_000_000;
        let of = |date, now| Clock::of(&[asked(now, date)], now);
        assert_eq!(of(Some(now - 3), now), Clock { right: Some(true), off_s: Some(3) });
        assert_eq!(of(Some(now + 3600), now), Clock { right: Some(false), off_s: Some(-3600) });
        assert_eq!(of(None, now), Clock { right: None, off_s: None });
        assert_eq!(of(None, 1_000), Clock { right: Some(false), off_s: None });
    }
}
