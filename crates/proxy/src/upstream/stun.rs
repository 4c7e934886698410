//! STUN keep-alives toward an upstream that is reached through our own NAT
//! (RFC 5626 §4.4.2): a Binding request to its SIP port, from the socket that
//! our messages leave by. Its answer shows the very mapping that the upstream
//! sees, at less cost than OPTIONS.
//!
//! Whether it answers STUN there is asked once, as soon as it has answered
//! OPTIONS; from then on three keep-alives of four are STUN, and the fourth is
//! OPTIONS, for a server may answer STUN and no SIP. One that stays silent is
//! asked by OPTIONS at once, and goes on with OPTIONS. Must not: believe an
//! answer that was not asked for, or say anything about the health of the
//! upstream.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand_core::Rng as _;
use wire::{Flow, Transmit, Transport, stun};

use super::Key;
use crate::timer::Timer;
use crate::{Output, Proxy};

/// First interval between copies of a request; it doubles (RFC 8489 §6.2.1).
const RTO: Duration = Duration::from_millis(500);
/// Copies of a request. More would outlast the mapping that they are to keep.
const COPIES: u8 = 3;
/// The last copy is waited for so long.
const PATIENCE: Duration = Duration::from_secs(1);
/// Every so many keep-alives one is OPTIONS.
const OPTIONS_EACH: u32 = 4;

/// What is known of STUN at the addresses of the upstreams.
#[derive(Debug, Default)]
pub(crate) struct Stun {
    asked: BTreeMap<Key, Asked>,
    /// How many were asked; a timer names its question by that.
    asks: u64,
    /// Does it answer?
    answers: BTreeMap<Key, bool>,
    rounds: BTreeMap<Key, u32>,
}

impl Stun {
    /// What is known of other addresses counts no more.
    pub(super) fn retain(&mut self, known: impl Fn(&Key) -> bool) {
        self.answers.retain(|key, _| known(key));
        self.rounds.retain(|key, _| known(key));
    }
}

#[derive(Debug)]
struct Asked {
    number: u64,
    flow: Flow,
    transaction: [u8; 12],
    copies: u8,
    due: Instant,
}

impl Proxy {
    /// Sends the keep-alive that is due as STUN. False: OPTIONS is to be sent.
    pub(crate) fn stun_keepalive(&mut self, now: Instant, flow: Flow) -> bool {
        let key = (flow.listener, flow.remote);
        if self.upstreams.stun.answers.get(&key) != Some(&true) {
            return false;
        }
        let round = self.upstreams.stun.rounds.entry(key).or_default();
        *round += 1;
        if round.is_multiple_of(OPTIONS_EACH) {
            return false;
        }
        self.ask_stun(now, flow);
        true
    }

    /// An upstream has answered OPTIONS: does it answer STUN, too?
    pub(crate) fn try_stun(&mut self, now: Instant, flow: Flow) {
        let key = (flow.listener, flow.remote);
        let worth = flow.transport == Transport::Udp && self.is_discovered(flow.listener);
        if worth && !self.upstreams.stun.answers.contains_key(&key) {
            self.ask_stun(now, flow);
        }
    }

    /// What is known of it counts no more, because it had failed.
    pub(crate) fn forget_stun(&mut self, key: Key) {
        self.upstreams.stun.answers.remove(&key);
    }

    fn ask_stun(&mut self, now: Instant, flow: Flow) {
        let key = (flow.listener, flow.remote);
        if self.upstreams.stun.asked.contains_key(&key) {
            return;
        }
        let mut transaction = [0; 12];
        self.rng.fill_bytes(&mut transaction);
        self.upstreams.stun.asks += 1;
        let number = self.upstreams.stun.asks;
        self.upstreams.stun.asked.insert(key, Asked { number, flow, transaction, copies: 0, due: now });
        self.stun_due(now, number);
    }

    /// The next copy, or the end of patience.
    pub(crate) fn stun_due(&mut self, now: Instant, number: u64) {
        let mut all = self.upstreams.stun.asked.iter_mut();
        let Some((key, asked)) = all.find(|(_, asked)| asked.number == number) else { return };
        let key = *key;
        if asked.copies == COPIES {
            self.upstreams.stun.asked.remove(&key);
            let before = self.upstreams.stun.answers.insert(key, false);
            if before == Some(true) {
                self.arm_upstream(now, key.0.0, now);
            }
            return;
        }
        asked.copies += 1;
        let pause = if asked.copies == COPIES { PATIENCE } else { RTO * (1 << (asked.copies - 1)) };
        asked.due = now + pause;
        let (flow, bytes) = (asked.flow, stun::request(asked.transaction));
        self.timers.arm(now + pause, Timer::Stun(number));
        self.emit(Output::KeepAlive(Transmit { flow, bytes }));
    }

    /// True for the answer to a Binding request of this machine.
    pub fn asked_stun(&self, flow: Flow, packet: &[u8]) -> bool {
        let asked = self.upstreams.stun.asked.get(&(flow.listener, flow.remote));
        asked.is_some_and(|asked| stun::read_answer(packet).is_ok_and(|a| a.transaction == asked.transaction))
    }

    /// An upstream has answered a Binding request: that keeps the mapping, and shows it.
    pub(crate) fn stun_answer(&mut self, now: Instant, flow: Flow, packet: &[u8]) {
        let key = (flow.listener, flow.remote);
        if !self.asked_stun(flow, packet) {
            return;
        }
        let Some(asked) = self.upstreams.stun.asked.remove(&key) else { return };
        self.timers.disarm(asked.due, Timer::Stun(asked.number));
        let answer = stun::read_answer(packet).ok().filter(|answer| answer.error.is_none() && !answer.unknown);
        let seen = answer.and_then(|answer| answer.xor_mapped.or(answer.mapped));
        self.upstreams.stun.answers.insert(key, seen.is_some());
        if let Some(seen) = seen {
            self.seen_by_upstream(now, flow.listener.0, flow, seen);
        }
    }
}

#[cfg(test)]
mod tests;
