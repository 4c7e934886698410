//! What may be sent to a source that has proven nothing, counted over all its
//! messages: no more than it sent itself, twice as much where the answer is a
//! challenge, and of that excess no more than a budget. A forged source gains
//! nothing by asking us, and we are no mirror to aim at a third party.
//!
//! A phone whose first REGISTER is too short for its 401 gets it after the
//! next copy, because copies count (RFC 3261 §17.1.2.2).

use std::net::IpAddr;
use std::time::Instant;

use crate::sources::Sources;

/// Octets that challenges may be ahead of what came, and how many a second are forgiven.
const BURST: u64 = 8192;
const RATE: u64 = 2048;
/// Nothing is hoarded: what a source sent and was not answered for counts up to so many octets.
const CREDIT: u64 = 65_536;

/// One source.
#[derive(Debug, Clone, Copy)]
struct Account {
    received: u64,
    sent: u64,
    /// How much of the excess of `sent` over `received` is forgiven.
    forgiven: u64,
    since: Instant,
}

/// The accounts.
#[derive(Debug, Default)]
pub struct Ledger {
    accounts: Sources<Account>,
}

impl Ledger {
    fn account(&mut self, now: Instant, ip: IpAddr) -> &mut Account {
        let new = || Account { received: 0, sent: 0, forgiven: 0, since: now };
        let account = self.accounts.of(ip, new);
        let millis = now.saturating_duration_since(account.since).as_millis() as u64;
        let due = millis.saturating_mul(RATE) / 1000;
        if due > 0 {
            let debt = account.sent.saturating_sub(account.received + account.forgiven);
            account.forgiven += due.min(debt);
            account.since = now;
        }
        account
    }

    /// A source that has proven nothing sent so many octets.
    pub fn received(&mut self, now: Instant, ip: IpAddr, octets: usize) {
        let account = self.account(now, ip);
        account.received = (account.received + octets as u64).min(account.sent + CREDIT);
    }

    /// May it be sent so many? If so, they are booked.
    pub fn spend(&mut self, now: Instant, ip: IpAddr, octets: usize, challenge: bool) -> bool {
        let account = self.account(now, ip);
        let after = account.sent + octets as u64;
        let covered = account.received + account.forgiven;
        let allowed = after <= covered || (challenge && after <= covered + BURST && after <= 2 * account.received);
        if allowed {
            account.sent = after;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "virtual time has to start somewhere")]
    fn start() -> Instant {
        Instant::now()
    }

    const IP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    #[test]
    fn a_plain_answer_never_exceeds_what_came_in_all() {
        let (mut ledger, now) = (Ledger::default(), start());
        assert!(!ledger.spend(now, IP, 1, false));
        let (mut came, mut went) = (0, 0);
        for _ in 0..1000 {
            ledger.received(now, IP, 300);
            came += 300;
            went += if ledger.spend(now, IP, 290, false) { 290 } else { 0 };
            went += if ledger.spend(now, IP, 290, false) { 290 } else { 0 };
        }
        assert!(went <= came && went > came * 9 / 10, "{went} of {came}");
        assert!(!ledger.spend(now, IpAddr::from([192, 0, 2, 2]), 1, false), "credit is not shared");
    }

    #[test]
    fn challenges_are_twice_as_long_at_most_and_their_excess_has_a_budget() {
        let (mut ledger, now) = (Ledger::default(), start());
        let (mut came, mut went) = (0, 0);
        for _ in 0..10_000 {
            ledger.received(now, IP, 300);
            came += 300;
            went += if ledger.spend(now, IP, 590, true) { 590 } else { 0 };
        }
        assert!(went > came && went <= came + BURST, "{went} for {came}");
        let later = now + Duration::from_secs(4);
        ledger.received(later, IP, 300);
        assert!(ledger.spend(later, IP, 590, true), "debts are forgiven in time");
    }

    #[test]
    fn a_long_challenge_waits_for_the_next_copy_of_a_short_request() {
        let (mut ledger, now) = (Ledger::default(), start());
        ledger.received(now, IP, 300);
        assert!(!ledger.spend(now, IP, 700, true));
        ledger.received(now, IP, 300);
        assert!(ledger.spend(now, IP, 700, true));
    }

    #[test]
    fn credit_is_not_hoarded() {
        let (mut ledger, now) = (Ledger::default(), start());
        for _ in 0..1000 {
            ledger.received(now, IP, 65_000);
        }
        assert!(ledger.spend(now, IP, CREDIT as usize, false));
        assert!(!ledger.spend(now, IP, 1, false));
    }
}
