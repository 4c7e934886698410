//! Server transactions: RFC 3261 §17.2 with RFC 6026 §7.1, as a pure machine.

use std::time::{Duration, Instant};

use wire::sip::Status;

use super::{T1, T2, T4};

/// State of a server transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Proceeding,
    Completed,
    Confirmed,
    Accepted,
    Terminated,
}

/// What a deadline means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expired {
    /// Timer G: send the final response again.
    Retransmit,
    /// Timer H, I, J or L: the transaction is over.
    Done,
}

/// One server transaction.
#[derive(Debug)]
pub(crate) struct Server {
    invite: bool,
    reliable: bool,
    state: State,
    retransmit: Option<(Instant, Duration)>,
    timeout: Option<Instant>,
}

impl Server {
    pub(crate) fn new(invite: bool, reliable: bool) -> Self {
        Self { invite, reliable, state: State::Proceeding, retransmit: None, timeout: None }
    }

    /// One that has answered its INVITE with a 2xx over UDP, until Timer L.
    pub(super) fn accepted(until: Instant) -> Self {
        let state = State::Accepted;
        Self { invite: true, reliable: false, state, retransmit: None, timeout: Some(until) }
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// True when it answers over a connection.
    pub(crate) fn reliable(&self) -> bool {
        self.reliable
    }

    /// True until a final response was sent.
    pub(crate) fn open(&self) -> bool {
        self.state == State::Proceeding
    }

    /// A response is being sent. False: the transaction does not allow it.
    pub(crate) fn respond(&mut self, now: Instant, status: Status) -> bool {
        match self.state {
            State::Proceeding if status.is_provisional() => true,
            State::Proceeding if self.invite && status.is_success() => {
                self.state = State::Accepted;
                self.timeout = Some(now + 64 * T1);
                true
            }
            State::Proceeding => {
                // Over a connection Timer J is no time at all.
                let over = !self.invite && self.reliable;
                self.state = if over { State::Terminated } else { State::Completed };
                self.retransmit = (self.invite && !self.reliable).then_some((now + T1, T1));
                self.timeout = (!over).then(|| now + 64 * T1);
                true
            }
            State::Accepted => status.is_success(),
            State::Completed | State::Confirmed | State::Terminated => false,
        }
    }

    /// Should the last response be sent again for this retransmitted request?
    /// In Accepted the user agent behind us retransmits its own 2xx.
    pub(crate) fn replays(&self) -> bool {
        matches!(self.state, State::Proceeding | State::Completed)
    }

    /// True when its timers have run out. Over a connection they do so with the
    /// answer (Timers I and J): what comes with its branch is another request.
    pub(crate) fn over(&self) -> bool {
        self.reliable && self.state == State::Terminated
    }

    /// The ACK for a non-2xx came.
    pub(crate) fn ack(&mut self, now: Instant) {
        if self.invite && self.state == State::Completed {
            self.state = State::Confirmed;
            self.retransmit = None;
            self.timeout = Some(if self.reliable { now } else { now + T4 });
        }
    }

    /// The earliest timer.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match (self.retransmit.map(|(at, _)| at), self.timeout) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Ends it without a response (RFC 4320: no 408 to a non-INVITE).
    pub(crate) fn abandon(&mut self) {
        self.state = State::Terminated;
        self.retransmit = None;
        self.timeout = None;
    }

    /// Fires what is due.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<Expired> {
        if self.timeout.is_some_and(|at| at <= now) {
            self.abandon();
            return Some(Expired::Done);
        }
        let (at, interval) = self.retransmit?;
        if at > now {
            return None;
        }
        let next = (interval * 2).min(T2);
        self.retransmit = Some((at + next, next));
        Some(Expired::Retransmit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_retransmitted_on_timer_g_until_the_ack() {
        let start = Instant::now();
        let mut server = Server::new(true, false);
        assert!(server.respond(start, Status(486)));
        let mut sent = Vec::new();
        for _ in 0..4 {
            let at = server.deadline().expect("armed");
            assert_eq!(server.expire(at), Some(Expired::Retransmit));
            sent.push((at - start).as_millis());
        }
        assert_eq!(sent, [500, 1500, 3500, 7500]);
        server.ack(start + Duration::from_secs(8));
        assert_eq!(server.state(), State::Confirmed);
        assert_eq!(server.deadline(), Some(start + Duration::from_secs(8) + T4));
    }

    #[test]
    fn accepted_absorbs_the_invite_and_lets_further_2xx_pass_for_64_t1() {
        let now = Instant::now();
        let mut server = Server::new(true, false);
        assert!(server.respond(now, Status(180)));
        assert!(server.respond(now, Status(200)));
        assert_eq!(server.state(), State::Accepted);
        assert!(!server.replays());
        assert!(server.respond(now, Status(200)));
        assert!(!server.respond(now, Status(486)));
        assert_eq!(server.expire(now + 64 * T1), Some(Expired::Done));
    }

    #[test]
    fn a_non_invite_lingers_for_timer_j_and_sends_one_final_response() {
        let now = Instant::now();
        let mut server = Server::new(false, false);
        assert!(server.respond(now, Status(200)));
        assert!(!server.respond(now, Status(500)));
        assert!(server.replays());
        assert_eq!(server.deadline(), Some(now + 64 * T1));
    }

    #[test]
    fn over_a_connection_a_transaction_ends_with_its_answer() {
        let now = Instant::now();
        let mut server = Server::new(false, true);
        assert!(!server.over());
        assert!(server.respond(now, Status(200)));
        assert!(server.over());
        assert_eq!(server.deadline(), None);
        let mut server = Server::new(false, false);
        server.respond(now, Status(200));
        assert_eq!(server.expire(now + 64 * T1), Some(Expired::Done));
        assert!(!server.over());
    }
}
