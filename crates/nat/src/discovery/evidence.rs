//! What servers have said in one check, and what follows from it.
//!
//! Decides when an address is believed (RFC 8489 §16.1.2, RFC 3489 §12.1.1 on
//! forged answers): two servers report one IP, or one server reports one
//! address twice and nobody contradicts. It must not know time or sockets.

use std::net::{IpAddr, SocketAddr};

/// One server's latest word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word {
    /// The server's place in the configured order.
    pub(super) server: usize,
    /// What it reported.
    pub(super) address: SocketAddr,
    /// How often in a row.
    pub(super) times: u8,
}

/// An address that may be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Belief {
    /// The address.
    pub(super) address: SocketAddr,
    /// The server whose port it has, and that is asked to keep it true.
    pub(super) anchor: usize,
    /// Two servers agree; otherwise it rests on one alone.
    pub(super) agreed: bool,
}

/// The words of one check, at most one per server, in the servers' order.
#[derive(Debug, Default)]
pub(super) struct Evidence(Vec<Word>);

impl Evidence {
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Notes what a server says. Returns how often in a row it has said so.
    pub(super) fn add(&mut self, server: usize, address: SocketAddr) -> u8 {
        match self.0.binary_search_by_key(&server, |word| word.server) {
            Ok(at) if self.0[at].address == address => {
                self.0[at].times = self.0[at].times.saturating_add(1);
                self.0[at].times
            }
            Ok(at) => {
                self.0[at] = Word { server, address, times: 1 };
                1
            }
            Err(at) => {
                self.0.insert(at, Word { server, address, times: 1 });
                1
            }
        }
    }

    /// More than one server has spoken.
    pub(super) fn is_plural(&self) -> bool {
        self.0.len() > 1
    }

    /// Servers report different IPs.
    pub(super) fn disagrees_on_ip(&self) -> bool {
        self.0.windows(2).any(|pair| pair[0].address.ip() != pair[1].address.ip())
    }

    /// Servers report one IP with different ports.
    pub(super) fn disagrees_on_port(&self) -> bool {
        self.0
            .iter()
            .any(|a| self.0.iter().any(|b| a.address.ip() == b.address.ip() && a.address.port() != b.address.port()))
    }

    /// What may be believed. `anchor` is the server relied on so far: it keeps
    /// giving the port while it is among those that agree. `patient`: there
    /// is reason to wait for the others; then one server alone does not suffice.
    pub(super) fn belief(&self, anchor: Option<usize>, patient: bool) -> Option<Belief> {
        if let [only] = self.0.as_slice() {
            let enough = only.times >= 2 && !patient;
            return enough.then_some(Belief { address: only.address, anchor: only.server, agreed: false });
        }
        let (ip, most) = self.most_named()?;
        let rivals = self.0.iter().filter(|word| word.address.ip() != ip);
        let second = rivals.map(|word| self.count(word.address.ip())).max().unwrap_or(0);
        if most < 2 || second >= most {
            return None;
        }
        let mut agreeing = self.0.iter().filter(|word| word.address.ip() == ip);
        let word = agreeing.clone().find(|word| Some(word.server) == anchor).or_else(|| agreeing.next())?;
        Some(Belief { address: word.address, anchor: word.server, agreed: true })
    }

    fn most_named(&self) -> Option<(IpAddr, usize)> {
        // Of equals the first: `max_by_key` takes the last, hence the reversal.
        self.0
            .iter()
            .rev()
            .map(|word| (word.address.ip(), self.count(word.address.ip())))
            .max_by_key(|(_, count)| *count)
    }

    fn count(&self, ip: IpAddr) -> usize {
        self.0.iter().filter(|word| word.address.ip() == ip).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence(words: &[(usize, &str)]) -> Evidence {
        let mut evidence = Evidence::default();
        for (server, address) in words {
            evidence.add(*server, address.parse().expect("an address"));
        }
        evidence
    }

    #[test]
    fn beliefs() {
        const X: &str = "203.0.113.1:1000";
        const X2: &str = "203.0.113.1:2000";
        const Y: &str = "198.51.100.1:1000";
        type Case = (&'static [(usize, &'static str)], Option<usize>, Option<(&'static str, usize, bool)>);
        let cases: &[Case] = &[
            (&[], None, None),
            (&[(0, X)], None, None),
            (&[(0, X), (0, X)], None, Some((X, 0, false))),
            (&[(0, X), (0, X2)], None, None),
            (&[(0, X), (0, X2), (0, X2)], None, Some((X2, 0, false))),
            (&[(1, X), (0, X2)], None, Some((X2, 0, true))),
            (&[(1, X), (0, X2)], Some(1), Some((X, 1, true))),
            (&[(0, X), (1, Y)], None, None),
            (&[(0, X), (0, X), (1, Y), (1, Y)], None, None),
            (&[(0, X), (1, Y), (2, X2)], None, Some((X, 0, true))),
            (&[(0, Y), (1, X), (2, X2)], Some(0), Some((X, 1, true))),
            (&[(0, X), (1, X), (2, Y), (3, Y)], None, None),
        ];
        for (words, anchor, expected) in cases {
            let belief = evidence(words).belief(*anchor, false);
            let expected = expected.map(|(address, anchor, agreed)| Belief {
                address: address.parse().expect("an address"),
                anchor,
                agreed,
            });
            assert_eq!(belief, expected, "{words:?} {anchor:?}");
        }
        assert_eq!(evidence(&[(0, X), (0, X)]).belief(None, true), None);
        assert!(evidence(&[(0, X), (1, X)]).belief(None, true).is_some());
    }

    #[test]
    fn disagreements() {
        type Words = &'static [(usize, &'static str)];
        let cases: &[(Words, bool, bool)] = &[
            (&[(0, "203.0.113.1:1")], false, false),
            (&[(0, "203.0.113.1:1"), (1, "203.0.113.1:1")], false, false),
            (&[(0, "203.0.113.1:1"), (1, "203.0.113.1:2")], false, true),
            (&[(0, "203.0.113.1:1"), (1, "203.0.113.2:1")], true, false),
            (&[(0, "203.0.113.1:1"), (1, "203.0.113.2:1"), (2, "203.0.113.1:3")], true, true),
        ];
        for (words, ip, port) in cases {
            let evidence = evidence(words);
            assert_eq!((evidence.disagrees_on_ip(), evidence.disagrees_on_port()), (*ip, *port), "{words:?}");
        }
    }
}
