//! Cryptographic contexts of one socket's peer (RFC 3711 §3.2): which keys it
//! may send with, and how far each of its senders has come.
//!
//! Decides whether a packet is authentic *and newer than all that was heard*:
//! a packet that was captured and sent again vouches for nobody. The packets of
//! the held source are followed by their headers, so that the roll-over counter
//! (§3.3.1) is right whenever another source has to be judged; every 64th, a
//! leap and an SSRC that is new are authenticated, or they do not count. So
//! whoever holds a latch without the key cannot shut out who has it.
//!
//! | keys that SDP names | what counts |
//! | --- | --- |
//! | the same, or some of those before | index and senders go on |
//! | others | indices begin at 0 (RFC 4568 §7.1.4) or, where a peer does not do so, go on; those before are good until the first packet with a new one |

use wire::rtp::{self, Header};

use super::Key;
use crate::latch::Kind;

/// So many SSRCs are told apart. Of more, none that is new vouches for itself.
const SENDERS: usize = 8;
/// So many keys are kept; of more, the oldest that SDP names no longer goes.
const KEYS: usize = 16;
/// By so much the header alone is believed beyond what was authenticated.
const RUN: u64 = 64;
/// One more roll-over.
const TURN: u64 = 1 << 16;

/// A key, and how often its sequence numbers had rolled over when ours were counted from 0.
#[derive(Debug, Clone)]
struct Keyed {
    key: Key,
    turns: u32,
    /// SDP names it now.
    current: bool,
}

/// One SSRC, the highest index that was heard of it, and the last that was authenticated.
#[derive(Debug, Clone, Copy, Default)]
struct Sender {
    ssrc: u32,
    highest: u64,
    proven: u64,
}

/// The last one that spoke stands first.
#[derive(Debug, Clone, Copy, Default)]
struct Senders {
    known: [Sender; SENDERS],
    count: usize,
    /// There were more.
    crowded: bool,
}

impl Senders {
    fn of(&self, ssrc: u32) -> Option<Sender> {
        self.known[..self.count].iter().find(|sender| sender.ssrc == ssrc).copied()
    }

    /// This one speaks, if it is known.
    fn turn(&mut self, ssrc: u32) -> bool {
        let at = self.known[..self.count].iter().position(|sender| sender.ssrc == ssrc);
        at.is_some_and(|at| {
            self.known[..=at].rotate_right(1);
            true
        })
    }

    /// This index was authenticated.
    fn proven(&mut self, ssrc: u32, index: u64) {
        if !self.turn(ssrc) {
            self.crowded |= self.count == SENDERS;
            self.count = (self.count + 1).min(SENDERS);
            self.known[..self.count].rotate_right(1);
        }
        self.known[0] = Sender { ssrc, highest: index, proven: index };
    }

    /// The speaker goes on, as far as its header can tell.
    #[inline]
    fn goes_on(&mut self, header: Header) -> bool {
        let Sender { ssrc, highest, proven } = &mut self.known[0];
        let ahead = header.sequence.wrapping_sub(*highest as u16);
        let next = if ahead.cast_signed() > 0 { *highest + u64::from(ahead) } else { *highest };
        let believed = *ssrc == header.ssrc && self.count > 0 && next <= *proven + RUN;
        if believed {
            *highest = next;
        }
        believed
    }

    /// May this be the first packet of a sender that nobody has heard?
    fn admits(&self, known: Option<Sender>) -> bool {
        known.is_some() || !self.crowded
    }
}

/// What a latch knows of its peer's keys.
#[derive(Debug, Clone)]
pub(crate) struct Contexts {
    keys: Vec<Keyed>,
    rtp: Senders,
    rtcp: Senders,
    /// The keys are others than before, and no packet with one of them was heard.
    fresh: bool,
}

impl Contexts {
    pub(crate) fn new(keys: &[Key]) -> Self {
        let keyed = |key: &Key| Keyed { key: key.clone(), turns: 0, current: true };
        let (rtp, rtcp) = Default::default();
        Self { keys: keys.iter().map(keyed).collect(), rtp, rtcp, fresh: false }
    }

    /// SDP names these keys from now on.
    pub(crate) fn rekey(&mut self, keys: &[Key]) {
        if keys.iter().any(|key| self.keys.iter().any(|known| known.key == *key)) {
            for known in &mut self.keys {
                known.current = keys.contains(&known.key);
            }
            let new = keys.iter().filter(|key| !self.keys.iter().any(|known| known.key == **key));
            let new: Vec<Keyed> = Self::new(&new.cloned().collect::<Vec<_>>()).keys;
            self.keys.extend(new);
            while self.keys.len() > KEYS
                && let Some(oldest) = self.keys.iter().position(|known| !known.current)
            {
                self.keys.remove(oldest);
            }
            return;
        }
        let turns = (self.rtp.known[0].highest / TURN) as u32;
        self.rtp.known[0].highest %= TURN;
        self.rtp.known[0].proven = self.rtp.known[0].highest;
        self.rtp.count = self.rtp.count.min(1);
        (self.rtp.crowded, self.rtcp, self.fresh) = (false, Senders::default(), true);
        self.keys.retain(|known| known.current);
        for known in &mut self.keys {
            known.turns = known.turns.wrapping_add(turns);
            known.current = false;
        }
        for turns in [Some(0), Some(turns).filter(|turns| *turns > 0)].into_iter().flatten() {
            self.keys.extend(keys.iter().map(|key| Keyed { key: key.clone(), turns, current: true }));
        }
    }

    /// Keys from before are those of another peer.
    pub(crate) fn forget_former(&mut self) {
        self.keys.retain(|known| known.current);
    }

    /// An RTP packet of the held source.
    #[inline]
    pub(crate) fn follow(&mut self, header: Header, packet: &[u8]) {
        if self.fresh || !self.rtp.goes_on(header) {
            self.verify(header, packet);
        }
    }

    /// Another SSRC or other keys than before, a leap, or enough believed.
    #[cold]
    #[inline(never)]
    fn verify(&mut self, header: Header, packet: &[u8]) {
        if self.fresh || !(self.rtp.turn(header.ssrc) && self.rtp.goes_on(header)) {
            self.vouch_rtp(packet);
        }
    }

    /// Is this packet of the peer, and newer than all that was heard of it?
    pub(crate) fn vouch(&mut self, kind: Kind, packet: &[u8]) -> bool {
        match kind {
            Kind::Rtp => self.vouch_rtp(packet),
            Kind::Rtcp => self.vouch_rtcp(packet),
            Kind::Dtls | Kind::Stun | Kind::Opaque => false,
        }
    }

    /// Its index is above what was heard, by less than a roll-over, or by one
    /// more if nothing was heard for so long. A sender or a key that is new
    /// begins anywhere, and may have lost the packets before its first roll-over.
    fn vouch_rtp(&mut self, packet: &[u8]) -> bool {
        let Some(Header { ssrc, sequence, .. }) = Header::parse(packet) else { return false };
        let known = self.rtp.of(ssrc);
        if !self.rtp.admits(known) {
            return false;
        }
        let anew = (self.fresh || known.is_none()).then_some(u64::from(sequence));
        let next = known.map(|Sender { highest, .. }| {
            highest + 1 + u64::from(sequence.wrapping_sub(highest as u16).wrapping_sub(1))
        });
        for (first, anew) in [(next, false), (anew, true)] {
            for index in first.into_iter().flat_map(|index| [index, index + TURN]) {
                let roc = |turns| ((index / TURN) as u32).wrapping_add(turns);
                let genuine = self.keys.iter().position(|Keyed { key, turns, current }| {
                    (!anew || *current && *turns == 0) && key.vouches(packet, roc(*turns))
                });
                if let Some(at) = genuine {
                    self.rtp.proven(ssrc, index);
                    self.settle(at);
                    return true;
                }
            }
        }
        false
    }

    /// SRTCP says its index itself (§3.4).
    fn vouch_rtcp(&mut self, packet: &[u8]) -> bool {
        let Some(ssrc) = rtp::rtcp_ssrc(packet) else { return false };
        let known = self.rtcp.of(ssrc);
        let mut current = self.keys.iter().enumerate().filter(|(_, keyed)| keyed.current);
        let genuine = current.find_map(|(at, keyed)| Some((at, keyed.key.vouches_rtcp(packet)?)));
        let newer = |index: u32| known.is_none_or(|known| u64::from(index) > known.highest);
        let Some((at, index)) = genuine.filter(|(_, index)| newer(*index) && self.rtcp.admits(known)) else {
            return false;
        };
        self.rtcp.proven(ssrc, index.into());
        self.settle(at);
        true
    }

    /// The first packet with a key of now: those from before are void.
    fn settle(&mut self, at: usize) {
        if self.keys[at].current {
            self.fresh = false;
            self.forget_former();
        }
    }
}

#[cfg(test)]
mod tests;
