//! Client transactions: RFC 3261 §17.1 with RFC 6026 §7.2, as a pure machine.

use std::time::{Duration, Instant};

use wire::sip::Status;

use super::{T1, T2, T4, TIMER_C};

/// State of a client transaction. `Calling` is called Trying for a non-INVITE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Calling,
    Proceeding,
    Completed,
    Accepted,
    Terminated,
}

/// What to do with a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Give it to the response context.
    Pass,
    /// A final response to an INVITE other than 2xx: acknowledge, then pass.
    AckAndPass,
    /// The same again: acknowledge only.
    Ack,
    /// Drop.
    Absorb,
}

/// What a deadline means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expired {
    /// Timer A or E: send the request again.
    Retransmit,
    /// Timer B or F: nobody answered.
    TimedOut,
    /// Timer C: a ringing branch took too long (§16.8).
    TimerC,
    /// Timer D, K or M: the transaction is over.
    Done,
}

/// One client transaction.
#[derive(Debug)]
pub(crate) struct Client {
    invite: bool,
    reliable: bool,
    state: State,
    retransmit: Option<(Instant, Duration)>,
    timeout: Option<Instant>,
    /// Timer B or F, where a shorter one stands before it.
    hurried: Option<Instant>,
    copies: u8,
}

impl Client {
    /// The request has just been sent.
    pub(crate) fn new(now: Instant, invite: bool, reliable: bool) -> Self {
        Self {
            invite,
            reliable,
            state: State::Calling,
            retransmit: (!reliable).then_some((now + T1, T1)),
            timeout: Some(now + 64 * T1),
            hurried: None,
            copies: 1,
        }
    }

    /// One that got a 2xx to its INVITE, until Timer M.
    pub(super) fn accepted(until: Instant, reliable: bool, copies: u8) -> Self {
        let state = State::Accepted;
        Self { invite: true, reliable, state, retransmit: None, timeout: Some(until), hurried: None, copies }
    }

    /// True when it was sent over a connection.
    pub(super) fn reliable(&self) -> bool {
        self.reliable
    }

    /// Gives up earlier than Timer B or F when no response at all has come: for
    /// a request that can go elsewhere, and for a probe.
    pub(crate) fn hurry(&mut self, until: Instant) {
        if self.state == State::Calling && self.timeout.is_some_and(|at| until < at) {
            self.hurried = self.timeout.replace(until);
        }
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// How often the request was sent.
    pub(crate) fn copies(&self) -> u8 {
        self.copies
    }

    /// True while no final response has come.
    pub(crate) fn pending(&self) -> bool {
        matches!(self.state, State::Calling | State::Proceeding)
    }

    /// Takes a response (§17.1.1.2, §17.1.2.2, RFC 6026 §7.2).
    pub(crate) fn response(&mut self, now: Instant, status: Status) -> Verdict {
        let failed = self.invite && status.class() > 2;
        match self.state {
            State::Calling | State::Proceeding if status.is_provisional() => {
                let first = self.state == State::Calling;
                self.state = State::Proceeding;
                self.timeout = self.hurried.take().or(self.timeout);
                if self.invite {
                    self.retransmit = None;
                    // A 100 ends Timer B; it does not keep a branch that never rings (§16.6(11)).
                    if first || status.0 > 100 {
                        self.timeout = Some(now + TIMER_C);
                    }
                } else if let Some((_, interval)) = &mut self.retransmit {
                    *interval = T2;
                }
                Verdict::Pass
            }
            State::Calling | State::Proceeding => {
                self.retransmit = None;
                let linger = match (self.invite, status.is_success()) {
                    (true, true) => 64 * T1,
                    (true, false) => Duration::from_secs(32),
                    (false, _) => T4,
                };
                self.state = if self.invite && status.is_success() { State::Accepted } else { State::Completed };
                let over = self.reliable && self.state == State::Completed;
                self.timeout = Some(if over { now } else { now + linger });
                if failed { Verdict::AckAndPass } else { Verdict::Pass }
            }
            State::Accepted if status.is_success() => Verdict::Pass,
            State::Completed if failed => Verdict::Ack,
            State::Accepted | State::Completed | State::Terminated => Verdict::Absorb,
        }
    }

    /// Gives the branch 64·T1 to answer a CANCEL (§9.1).
    pub(crate) fn cancelled(&mut self, now: Instant) {
        if self.pending() {
            self.timeout = Some(now + 64 * T1);
        }
    }

    /// Timer C fired, and the branch is being cancelled instead (§16.8).
    pub(crate) fn revive(&mut self, now: Instant) {
        self.state = State::Proceeding;
        self.timeout = Some(now + 64 * T1);
    }

    /// Treats the branch as failed without a response.
    pub(crate) fn give_up(&mut self) {
        self.state = State::Terminated;
        self.retransmit = None;
        self.timeout = None;
    }

    /// A request of our own has its answer, which nobody waits for any more. Where one copy was sent
    /// one answer comes, and Timer K has nothing to absorb: with thousands of phones that are pinged
    /// this would be most of all transactions.
    pub(crate) fn conclude(&mut self) {
        if !self.invite && self.state == State::Completed && self.copies == 1 {
            self.give_up();
        }
    }

    /// The earliest timer.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match (self.retransmit.map(|(at, _)| at), self.timeout) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Fires what is due.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<Expired> {
        if self.timeout.is_some_and(|at| at <= now) {
            let before = self.state;
            let rang = self.invite && before == State::Proceeding;
            self.give_up();
            return Some(match before {
                State::Proceeding if rang => Expired::TimerC,
                State::Calling | State::Proceeding => Expired::TimedOut,
                State::Completed | State::Accepted | State::Terminated => Expired::Done,
            });
        }
        let (at, interval) = self.retransmit?;
        if at > now {
            return None;
        }
        let next = if self.invite {
            interval * 2
        } else if self.state == State::Proceeding {
            T2
        } else {
            (interval * 2).min(T2)
        };
        self.retransmit = Some((at + next, next));
        self.copies = self.copies.saturating_add(1);
        Some(Expired::Retransmit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Offsets in ms at which the request goes out again, and what ends it.
    fn run(client: &mut Client, start: Instant) -> (Vec<u128>, Expired, u128) {
        let mut sent = Vec::new();
        loop {
            let at = client.deadline().expect("a pending transaction has a deadline");
            match client.expire(at).expect("due") {
                Expired::Retransmit => sent.push((at - start).as_millis()),
                end => return (sent, end, (at - start).as_millis()),
            }
        }
    }

    #[test]
    fn invite_retransmits_on_timer_a_and_gives_up_on_timer_b() {
        let start = Instant::now();
        let mut client = Client::new(start, true, false);
        let (sent, end, at) = run(&mut client, start);
        assert_eq!(sent, [500, 1500, 3500, 7500, 15_500, 31_500]);
        assert_eq!((end, at), (Expired::TimedOut, 32_000));
    }

    #[test]
    fn a_hurried_request_gives_up_early_only_without_any_response() {
        let start = Instant::now();
        let early = start + Duration::from_millis(3500);
        for invite in [true, false] {
            let mut client = Client::new(start, invite, true);
            client.hurry(early);
            assert_eq!(client.expire(early), Some(Expired::TimedOut));

            let mut client = Client::new(start, invite, true);
            client.hurry(early);
            client.response(start, Status(100));
            assert_eq!(client.expire(early), None);
            assert_eq!(client.deadline(), Some(if invite { start + TIMER_C } else { start + 64 * T1 }));
        }
    }

    #[test]
    fn non_invite_retransmits_on_timer_e_capped_at_t2() {
        let start = Instant::now();
        let mut client = Client::new(start, false, false);
        let (sent, end, at) = run(&mut client, start);
        assert_eq!(sent, [500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500]);
        assert_eq!((end, at), (Expired::TimedOut, 32_000));
    }

    #[test]
    fn nothing_is_retransmitted_over_a_reliable_transport() {
        let start = Instant::now();
        for invite in [true, false] {
            let (sent, end, _) = run(&mut Client::new(start, invite, true), start);
            assert!(sent.is_empty());
            assert_eq!(end, Expired::TimedOut);
        }
    }

    #[test]
    fn every_2xx_passes_for_64_t1_and_a_failure_is_acknowledged_each_time() {
        let now = Instant::now();
        let mut client = Client::new(now, true, false);
        assert_eq!(client.response(now, Status(180)), Verdict::Pass);
        assert_eq!(client.response(now, Status(200)), Verdict::Pass);
        assert_eq!(client.response(now, Status(200)), Verdict::Pass);
        assert_eq!(client.response(now, Status(180)), Verdict::Absorb);
        assert_eq!(client.expire(now + 64 * T1), Some(Expired::Done));

        let mut client = Client::new(now, true, false);
        assert_eq!(client.response(now, Status(486)), Verdict::AckAndPass);
        assert_eq!(client.response(now, Status(486)), Verdict::Ack);
        assert_eq!(client.response(now, Status(200)), Verdict::Absorb);
    }

    #[test]
    fn timer_c_is_longer_than_three_minutes_and_restarted_by_ringing() {
        let now = Instant::now();
        let mut client = Client::new(now, true, false);
        client.response(now, Status(180));
        let first = client.deadline().expect("armed");
        assert!(first - now > Duration::from_secs(180));
        let later = now + Duration::from_secs(100);
        client.response(later, Status(183));
        assert_eq!(client.deadline(), Some(later + TIMER_C));
        client.response(later + TIMER_C - T1, Status(100));
        assert_eq!(client.deadline(), Some(later + TIMER_C));
        assert_eq!(client.expire(later + TIMER_C), Some(Expired::TimerC));
    }
}
