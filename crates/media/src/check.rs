//! Connectivity checks on the media path (RFC 8445 §7.3): the STUN branch of
//! [`crate::forward`].
//!
//! Has `nat::ice_lite` judge a check, sends the answer from where the check
//! came in, and lets the latch know of a valid one. A leg without ICE answers
//! nothing. An answer is never longer than its check, so whoever forges a
//! source gains nothing; a check with wrong credentials changes nothing.
//!
//! Decides also when a path has no consent any more (RFC 7675 §5.1, as far as an agent
//! that never checks can know): 30 s without a check or a packet from the
//! peer, and nothing is sent until it is heard again by a valid check.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nat::ice_lite::Verdict as Worth;

use crate::latch::Judgement;
use crate::leg::Aim;
use crate::{Drop, Relay, Slot, Verdict};

/// RFC 7675 §5.1.
pub(crate) const CONSENT: Duration = Duration::from_secs(30);

impl Relay {
    /// Takes a STUN packet as a check; `None`: it is none, or the leg has no ICE.
    pub(crate) fn check(&mut self, now: Instant, on: Slot, from: SocketAddr, packet: &[u8]) -> Option<Verdict> {
        let stream = self.streams.get(on.stream() as usize)?.as_ref()?;
        let end = on.end().index();
        let agent = stream.legs[end].ice.as_ref()?;
        if stream.joined[end].is_some() || self.is_own(from) || from.port() == 0 || nat::address::is_absurd(from.ip()) {
            return None;
        }
        let (worth, answer) = agent.judge(packet, from)?;
        let verdict = match worth {
            Worth::Valid { nominated, priority, current } => {
                self.checked(now, on, from, (nominated && current).then_some(priority), packet.len() as u64);
                Verdict::Consumed
            }
            Worth::Refused => self.drop(Drop::BadCheck),
        };
        if let Some(answer) = answer {
            self.transmit(now, on, from, answer);
        }
        Some(verdict)
    }

    fn checked(&mut self, now: Instant, on: Slot, from: SocketAddr, nomination: Option<u32>, bytes: u64) {
        let target = self.target(on);
        let Some(Some(lane)) = self.lanes.get_mut(on.0 as usize) else { return };
        let judgement = lane.latch.check(now, from, nomination, target);
        lane.count_in(&mut self.totals, bytes);
        match judgement {
            Judgement::Take => self.latched(on, from, false),
            Judgement::Move => self.latched(on, from, true),
            Judgement::Pass | Judgement::Refuse(_) => self.aim(on),
        }
    }

    /// When this socket's peer will have given no sign of life for too long.
    pub(crate) fn consent_ends(&self, on: Slot) -> Option<Instant> {
        let lane = self.lane(on).filter(|lane| lane.latch.is_checked() && lane.aim != Aim::Nowhere)?;
        lane.latch.last_heard().checked_add(CONSENT)
    }

    /// Stops sending, if it has.
    pub(crate) fn consent(&mut self, now: Instant, on: Slot) {
        if self.consent_ends(on).is_some_and(|at| at <= now)
            && let Some(lane) = self.lane_mut(on)
        {
            lane.aim = Aim::Nowhere;
            self.unsettle(on.stream());
            tracing::debug!(?on, "no consent");
        }
    }
}

#[cfg(test)]
mod tests;
