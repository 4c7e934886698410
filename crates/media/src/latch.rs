//! Latching (RFC 7362 §4, §5): the security page.
//!
//! Decides whose packets a leg takes, and with that where its own go (RFC 4961):
//! *what* may latch at all (`Rules::allows`), *when* a held latch moves
//! (`Latch::judge`), and what a completed offer/answer changes
//! (`Latch::rearm`, RFC 3264 §8.3.1). RTP and RTCP have a latch each.
//!
//! | the latch | a packet from another source than the held one | outcome |
//! | --- | --- | --- |
//! | free | allowed; RTP, RTCP, DTLS | takes it |
//! | free | allowed; STUN | consumed, takes nothing |
//! | any | RTP on the socket of RTCP | refused |
//! | re-armed | allowed, and SDP's address changed or the old source is silent | moves, once |
//! | held | old source silent, same SSRC, sequence and timestamp continue; allowed | moves |
//! | held | the same from an address outside the plan, five packets in a row | moves (the phone's NAT was renewed) |
//! | held | anything else | refused |
//! | any, with ICE | a valid check; nothing that no check came from counts for more | takes or moves, as below |
//! | free, with keys | allowed or not; authentic | takes it |
//! | held, with keys | allowed or not; authentic and newer, and the old source is silent or has less right | moves |
//! | re-armed, with keys | as above without keys, and authentic and newer | moves, once |
//! | any, with keys | anything else but STUN | refused |
//!
//! Where ICE was agreed a valid connectivity check is worth more than SDP and
//! signalling: from the first one on only sources that such a check came from
//! can be heard anew. A nomination moves the latch at once, unless what is held
//! was nominated with a higher priority and still speaks.
//!
//! Where the old source goes on for `LAPSE` after a re-arm, the exchange was a
//! refresh, or the move is late. A re-arm that changed no address then lapses:
//! a gap in the speech is no chance for a neighbour behind the same address.
//! One that did change it waits for the old source's silence from then on,
//! except for the very address that SDP names.
//!
//! Where SDP shows the keys that the peer sends with (SDES, RFC 4568), nothing
//! takes or moves the latch that does not authenticate by SRTP (RFC 7362 §5), and
//! what does may come from anywhere. *Newer* is newer than all that was heard
//! of that SSRC, so whoever sends again what he has seen passing comes to
//! nothing; nor does a copy that arrives beside its original. Silence is asked
//! for all the same: a man on the way whose copy outruns the original has no
//! more than the gaps of speech. *Less right* has an address outside the plan
//! toward one within it, and whoever took over in a silence toward the one that
//! was silent; the peer itself ends such a theft with its next packet.
//! Media still goes to a source that was held before the keys were known, but
//! it is heard again only when it has authenticated. ICE counts for more: once a
//! check was valid, keys are not asked.
//!
//! RTP has no business on the socket of RTCP: where the two share one, it is
//! RTP's (RFC 5761 §4). RTCP is silent for seconds at a time, so a free or
//! re-armed latch there would fall to any RTP that bears the phone's address.
//!
//! Must not look at anything that a stranger can choose freely: no majority of
//! packets, no "most recent source", no learning period. A refused packet
//! changes nothing here, so a flood of them cannot either.

mod checked;
mod rules;
mod trail;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use wire::demux::Media;
use wire::rtp;

use crate::command::{Place, place};
use crate::srtp::Key;
use crate::srtp::context::Contexts;
use crate::{Component, Drop};
use checked::Checked;
pub(crate) use rules::Rules;
use trail::Trail;

/// So long without a packet, and a source counts as silent.
pub(crate) const SILENCE: Duration = Duration::from_millis(200);
/// So many packets in a row must continue the stream before an address outside the plan is believed.
pub(crate) const PROOF: u8 = 5;
/// A re-arm is worth less when the old source is still heard so long after it.
pub(crate) const LAPSE: Duration = Duration::from_secs(5);

/// A packet, as far as latching cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// RFC 3550 §5.
    Rtp,
    /// RFC 3550 §6; on either socket (RFC 5761).
    Rtcp,
    /// RFC 5764.
    Dtls,
    /// RFC 8489.
    Stun,
    /// Whatever a stream carries that is not RTP (UDPTL, ITU-T T.38).
    Opaque,
}

impl Kind {
    /// `None`: nothing that belongs on a media port. TURN channel data and ZRTP are not served.
    pub(crate) fn of(kind: Media, opaque: bool) -> Option<Self> {
        match kind {
            Media::Stun => Some(Self::Stun),
            _ if opaque => Some(Self::Opaque),
            Media::Rtp => Some(Self::Rtp),
            Media::Rtcp => Some(Self::Rtcp),
            Media::Dtls => Some(Self::Dtls),
            Media::Channel | Media::Zrtp | Media::Unknown => None,
        }
    }
}

/// What becomes of a packet whose source does not hold the latch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// The latch was free and has taken the source.
    Take,
    /// The latch has moved to the source.
    Move,
    /// Accepted, without a change.
    Pass,
    /// Dropped.
    Refuse(Drop),
}

/// An address outside the plan that is proving itself.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    from: SocketAddr,
    trail: Trail,
    /// When the held source was last heard, as this began: one more packet from it ends the attempt.
    heard: Instant,
    run: u8,
}

/// A completed offer/answer has opened the latch for one move.
#[derive(Debug, Clone, Copy)]
struct Armed {
    at: Instant,
    /// SDP names another address than when the latch was taken.
    changed: bool,
}

/// The latch of one component of one leg.
#[derive(Debug, Clone)]
pub(crate) struct Latch {
    held: Option<SocketAddr>,
    /// Last packet from the held source; before that, when the latch was made.
    heard: Instant,
    trail: Option<Trail>,
    /// Sender of the last RTCP packet (§6.4.1).
    reporter: Option<u32>,
    /// What SDP said when the source was taken.
    base: Option<Place>,
    /// What few latches have, while they have it.
    rare: Option<Box<Rare>>,
    /// The held source is outside the plan and has proven itself.
    roamed: bool,
    /// Who has proven himself by a connectivity check, where there is ICE.
    checked: Option<Box<Checked>>,
    /// The peer's keys are known.
    contexts: Option<Box<Contexts>>,
}

/// What is seldom known of a latch.
#[derive(Debug, Clone, Default)]
struct Rare {
    armed: Option<Armed>,
    candidate: Option<Candidate>,
    /// Held before the peer's keys were known: media goes there until somebody has authenticated.
    provisional: Option<SocketAddr>,
    /// From where the latch was moved in a silence, by authentication.
    former: Option<SocketAddr>,
}

impl Latch {
    /// A free one.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            held: None,
            heard: now,
            trail: None,
            reporter: None,
            base: None,
            rare: None,
            roamed: false,
            checked: None,
            contexts: None,
        }
    }

    /// Is this the held source?
    #[inline]
    pub(crate) fn holds(&self, from: SocketAddr) -> bool {
        self.held == Some(from)
    }

    /// The held source.
    pub(crate) fn held(&self) -> Option<SocketAddr> {
        self.held
    }

    /// The peer's keys are known.
    pub(crate) fn keyed(&self) -> bool {
        self.contexts.is_some()
    }

    /// The held source: where this component's peer is sent to.
    pub(crate) fn source(&self) -> Option<SocketAddr> {
        self.held.or_else(|| self.rare.as_ref()?.provisional)
    }

    /// When the held source last spoke; before that, when the latch was made.
    pub(crate) fn last_heard(&self) -> Instant {
        self.heard
    }

    /// The SSRC of the last RTP packet.
    pub(crate) fn ssrc(&self) -> Option<u32> {
        self.trail.map(|trail| trail.ssrc)
    }

    /// The address outside the plan that this latch holds by proof.
    pub(crate) fn roamed(&self) -> Option<IpAddr> {
        self.held.filter(|_| self.roamed).map(|held| held.ip())
    }

    fn armed(&self) -> Option<Armed> {
        self.rare.as_ref()?.armed
    }

    /// SDP has moved, and the peer's packets have not (RFC 3264 §8.3.1).
    pub(crate) fn moving(&self) -> bool {
        self.armed().is_some_and(|armed| armed.changed)
    }

    /// SDP named exactly the held source when it was taken: no NAT stands between.
    pub(crate) fn truthful(&self) -> bool {
        self.source().is_some() && self.source().map(place) == self.base
    }

    /// An RTP packet from the held source.
    #[inline]
    pub(crate) fn heard_rtp(&mut self, now: Instant, packet: &[u8]) -> Option<rtp::Header> {
        self.heard = now;
        let header = rtp::Header::parse(packet)?;
        self.trail = Some(Trail::of(now, header));
        if let Some(contexts) = &mut self.contexts {
            contexts.follow(header, packet);
        }
        Some(header)
    }

    /// RTP packets from the held source that were not judged; the last one was this.
    pub(crate) fn passed(&mut self, at: Instant, ssrc: u32, sequence: u16, timestamp: u32) {
        self.heard = self.heard.max(at);
        self.trail = Some(Trail::at(at, ssrc, sequence, timestamp));
    }

    /// Any packet from the held source.
    pub(crate) fn heard(&mut self, now: Instant, kind: Kind, packet: &[u8]) {
        self.heard = now;
        match kind {
            Kind::Rtp => drop(self.heard_rtp(now, packet)),
            Kind::Rtcp => {
                self.reporter = rtp::rtcp_ssrc(packet);
                self.heard_rtcp(packet);
            }
            Kind::Dtls | Kind::Stun | Kind::Opaque => {}
        }
    }

    /// RTCP that was heard here or on the leg's other socket: from nowhere does it move anything any more.
    pub(crate) fn heard_rtcp(&mut self, packet: &[u8]) {
        if let Some(contexts) = &mut self.contexts {
            contexts.vouch(Kind::Rtcp, packet);
        }
    }

    /// A completed offer/answer; `target` is what SDP says from now on. The held
    /// source stays accepted, even where the plan no longer allows it, until
    /// the new one flows (RFC 3264 §8.3.1). A target that only now becomes
    /// known, none (hold by `c=0.0.0.0`), or the held source itself is not a change.
    pub(crate) fn rearm(&mut self, now: Instant, target: Option<SocketAddr>) {
        if self.source().is_some() {
            let named = target.map(place);
            self.base = if target == self.source() { named } else { self.base.or(named) };
            let changed = target.is_some() && named != self.base;
            self.rare.get_or_insert_default().armed = Some(Armed { at: now, changed });
        }
    }

    /// A packet from a source that does not hold the latch.
    pub(crate) fn judge(
        &mut self,
        now: Instant,
        from: SocketAddr,
        kind: Kind,
        packet: &[u8],
        rules: &Rules<'_>,
    ) -> Judgement {
        if from.port() == 0 || nat::address::is_absurd(from.ip()) {
            return Judgement::Refuse(Drop::RefusedSource);
        }
        let allowed = rules.allows(from);
        let judgement = match (self.held, kind) {
            (held, _) if self.any_checked() => {
                let free = held.is_none_or(|held| !self.knows(held)) || self.nominated().is_none();
                match kind {
                    _ if !self.knows(from) => Judgement::Refuse(Drop::RefusedSource),
                    Kind::Stun => Judgement::Pass,
                    Kind::Rtp | Kind::Rtcp | Kind::Opaque | Kind::Dtls if free || self.silent(now) => Judgement::Move,
                    Kind::Rtp | Kind::Rtcp | Kind::Opaque | Kind::Dtls => Judgement::Refuse(Drop::NotLatched),
                }
            }
            (_, Kind::Stun) if allowed => Judgement::Pass,
            (_, Kind::Rtp) if allowed && rules.component == Component::Rtcp => Judgement::Refuse(Drop::NotLatched),
            (_, Kind::Rtp) if rules.component == Component::Rtcp => Judgement::Refuse(Drop::RefusedSource),
            _ if self.contexts.is_some() => return self.authenticate(now, from, kind, packet, rules, allowed),
            (None, _) if allowed => Judgement::Take,
            (Some(_), Kind::Dtls) if allowed && self.open(now, from, rules) => Judgement::Pass,
            (Some(_), Kind::Rtp | Kind::Rtcp | Kind::Opaque) if allowed && self.open(now, from, rules) => {
                Judgement::Move
            }
            (Some(_), Kind::Rtp) if self.same_sender(now, from, packet, allowed) => Judgement::Move,
            (Some(_), Kind::Rtcp) if allowed && self.same_reporter(now, packet, rules) => Judgement::Move,
            _ if allowed => Judgement::Refuse(Drop::NotLatched),
            _ => Judgement::Refuse(Drop::RefusedSource),
        };
        if matches!(judgement, Judgement::Take | Judgement::Move) {
            self.take(now, from, rules.target, !allowed);
            self.heard(now, kind, packet);
        }
        judgement
    }

    /// Where the peer's keys are known. No packet is asked for its tag that could not move the latch.
    fn authenticate(
        &mut self,
        now: Instant,
        from: SocketAddr,
        kind: Kind,
        packet: &[u8],
        rules: &Rules<'_>,
        allowed: bool,
    ) -> Judgement {
        let silent = self.silent(now);
        let former = self.rare.as_ref().and_then(|rare| rare.former);
        let right = former == Some(from) || self.roamed && allowed;
        let may = self.held.is_none() || silent || right || allowed && self.open(now, from, rules);
        let authentic = may && self.contexts.as_mut().is_some_and(|contexts| contexts.vouch(kind, packet));
        if !authentic {
            return Judgement::Refuse(match (allowed, may) {
                (false, _) => Drop::RefusedSource,
                (true, false) => Drop::NotLatched,
                (true, true) => Drop::Unauthenticated,
            });
        }
        let former = self.held.filter(|_| silent && !right);
        let judgement = if self.held.is_none() { Judgement::Take } else { Judgement::Move };
        self.take(now, from, rules.target, !allowed);
        if former.is_some() {
            self.rare.get_or_insert_default().former = former;
        }
        self.heard(now, kind, packet);
        judgement
    }

    fn take(&mut self, now: Instant, from: SocketAddr, base: Option<SocketAddr>, roamed: bool) {
        self.restart();
        let roamed = roamed && !self.any_checked();
        let (checked, contexts) = (self.checked.take(), self.contexts.take());
        *self = Self { held: Some(from), base: base.map(place), roamed, checked, contexts, ..Self::new(now) };
    }

    /// SDP shows these keys of the peer; none: they are not known.
    pub(crate) fn secure(&mut self, keys: &[Key]) {
        match &mut self.contexts {
            _ if keys.is_empty() => {
                self.contexts = None;
                self.held = self.source();
                if let Some(rare) = &mut self.rare {
                    rare.provisional = None;
                }
            }
            Some(contexts) => contexts.rekey(keys),
            None => {
                self.contexts = Some(Box::new(Contexts::new(keys)));
                if !self.is_checked() && self.held.is_some() {
                    self.rare.get_or_insert_default().provisional = self.held.take();
                }
            }
        }
    }

    /// Another peer has this end: its keys alone count, and its source.
    pub(crate) fn replace(&mut self, now: Instant, target: Option<SocketAddr>) {
        if let Some(contexts) = &mut self.contexts {
            contexts.forget_former();
        }
        if self.source() != target {
            self.reset(now);
        }
    }

    /// Free again, for the same peer.
    pub(crate) fn reset(&mut self, now: Instant) {
        *self = Self { contexts: self.contexts.take(), ..Self::new(now) };
    }

    /// A valid check came from here (RFC 8445 §7.3.1.5): `Take` and `Move` as
    /// for a packet, `Pass` if the path stays.
    pub(crate) fn check(
        &mut self,
        now: Instant,
        from: SocketAddr,
        nomination: Option<u32>,
        target: Option<SocketAddr>,
    ) -> Judgement {
        let first = !self.any_checked();
        self.checked.get_or_insert_default().learn(from, self.held);
        let judgement = match (self.held, nomination) {
            (Some(held), _) if held == from => {
                self.heard = now;
                Judgement::Pass
            }
            (None, _) => Judgement::Take,
            (Some(_), Some(priority)) if first || self.silent(now) || self.nominated() <= Some(priority) => {
                Judgement::Move
            }
            (Some(_), _) => Judgement::Pass,
        };
        if judgement != Judgement::Pass {
            self.take(now, from, target, false);
        }
        if let Some(checked) = self.checked.as_mut().filter(|_| self.held == Some(from) && nomination.is_some()) {
            checked.nominated = checked.nominated.max(nomination);
        }
        judgement
    }

    /// The held source has proven itself by a check, and so must whoever follows it.
    pub(crate) fn is_checked(&self) -> bool {
        self.held.is_some_and(|held| self.knows(held))
    }

    /// ICE restarts (RFC 8445 §9): the path stays until another is nominated.
    pub(crate) fn restart(&mut self) {
        if let Some(checked) = &mut self.checked {
            checked.nominated = None;
        }
    }

    fn any_checked(&self) -> bool {
        self.checked.as_ref().is_some_and(|checked| checked.any())
    }

    /// There was a valid check from there.
    fn knows(&self, from: SocketAddr) -> bool {
        self.checked.as_ref().is_some_and(|checked| checked.knows(from))
    }

    /// Priority of the held source's nomination.
    fn nominated(&self) -> Option<u32> {
        self.checked.as_ref()?.nominated
    }

    /// There is no ICE on this leg (any more).
    pub(crate) fn forget_checks(&mut self) {
        self.checked = None;
    }

    /// May this allowed source take over, because of a re-arm?
    fn open(&self, now: Instant, from: SocketAddr, rules: &Rules<'_>) -> bool {
        self.armed().is_some_and(|armed| {
            let went_on = self.heard.duration_since(armed.at) >= LAPSE;
            if armed.changed {
                !went_on || self.silent(now) || rules.target == Some(from)
            } else {
                !went_on && self.silent(now)
            }
        })
    }

    fn silent(&self, now: Instant) -> bool {
        now.duration_since(self.heard) >= SILENCE
    }

    /// The strict rule for RTP: does the held source's stream go on here?
    fn same_sender(&mut self, now: Instant, from: SocketAddr, packet: &[u8], allowed: bool) -> bool {
        let (Some(trail), Some(header)) = (self.trail, rtp::Header::parse(packet)) else { return false };
        let next = Trail::of(now, header);
        if !self.silent(now) || next.ssrc != trail.ssrc {
            return false;
        }
        if allowed {
            return trail.continues(&next);
        }
        let heard = self.heard;
        match self.rare.as_mut().and_then(|rare| rare.candidate.as_mut()) {
            Some(known) if known.from == from && known.heard == heard => {
                if known.trail.continues(&next) {
                    known.trail = next;
                    known.run += 1;
                    return known.run >= PROOF;
                }
                if !known.trail.overtook(&next)
                    && let Some(rare) = &mut self.rare
                {
                    rare.candidate = None;
                }
            }
            Some(_) | None if trail.continues(&next) => {
                let candidate = Candidate { from, trail: next, heard, run: 1 };
                self.rare.get_or_insert_default().candidate = Some(candidate);
            }
            Some(_) | None => {}
        }
        false
    }

    /// The strict rule for RTCP, which has no sequence number: the same sender
    /// as before, or the one that the leg's RTP latch knows. On a muxed socket RTP decides.
    fn same_reporter(&self, now: Instant, packet: &[u8], rules: &Rules<'_>) -> bool {
        let sender = rtp::rtcp_ssrc(packet);
        rules.component == Component::Rtcp
            && self.silent(now)
            && sender.is_some()
            && (sender == self.reporter || sender == rules.ssrc)
    }
}

#[cfg(test)]
mod tests;
