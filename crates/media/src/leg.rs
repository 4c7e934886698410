//! One socket of a leg: its latch, its counters, and where it sends to.
//!
//! Decides the address that a leg's packets go to ([`aim`]): the latched one,
//! SDP's before the peer has spoken (RFC 7362 §4: two latching boxes must not
//! wait for each other), SDP's new one while a peer moves (RFC 3264 §8.3.1),
//! and how much may go to an address that has not spoken (RFC 8445 §19.5.1,
//! the "voice hammer").
//!
//! | the latch | SDP since it was taken | `early` | media goes to |
//! | --- | --- | --- | --- |
//! | free | – | `Uncapped`, `Proven` | SDP's address |
//! | free | – | `Capped` | SDP's address, 50 packets within 2 s |
//! | free | – | `Never` | nowhere |
//! | held | unchanged, or not yet settled by an answer | any | the latched address |
//! | held | changed | `Uncapped` | SDP's new address at once |
//! | held | changed; had named the latched address; new one has the same IP | `Capped`, `Proven` | SDP's new address at once |
//! | held | changed; had named the latched address; new one has another IP | `Capped`, `Proven` | SDP's new address, 50 packets within 2 s, then the latched one |
//! | held | changed; had named something else (a NAT stands between) | `Capped`, `Proven` | the latched address |
//! | held | changed | `Never` | the latched address |
//! | held by a valid check (ICE) | any | any | the checked address |
//!
//! Must not decide who may be heard; that is [`crate::latch`]'s.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nat::Side;

use crate::hold::Hold;
use crate::latch::{Kind, Latch};
use crate::opening::Opening;
use crate::quality::Meter;
use crate::stats::{SocketCounts, Totals};
use crate::{Component, Early, LegPlan, Slot, Target};

/// Early media toward an unproven address: so many packets …
const ALLOWANCE: u8 = 50;
/// … within this time of the first.
const ALLOWANCE_WINDOW: Duration = Duration::from_secs(2);

/// Where a socket sends to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aim {
    /// To this address.
    At(SocketAddr),
    /// To this address while the leg's [`Allowance`] lasts; then to the latched one, if any.
    Capped(SocketAddr),
    /// The peer has no address.
    Nowhere,
}

/// The state of one component of a leg (RFC 8445 §2).
#[derive(Debug, Clone)]
pub(crate) struct Lane {
    /// Whose packets are taken.
    pub(crate) latch: Latch,
    /// The socket that these are sent on from; [`NOWHERE`] for none.
    pub(crate) peer: Slot,
    /// The same for RTCP, which the other leg may have on its RTP socket, or not (RFC 5761).
    pub(crate) rtcp_peer: Slot,
    /// For counting.
    pub(crate) side: Side,
    /// Carries something else than RTP.
    pub(crate) opaque: bool,
    /// Where packets for this peer are sent to.
    pub(crate) aim: Aim,
    /// Last packet sent to this peer; before that, when the stream began.
    pub(crate) sent: Instant,
    /// What went in and out here.
    pub(crate) counts: SocketCounts,
    /// Binding indications under way.
    pub(crate) opening: Option<Box<Opening>>,
    /// How well RTP arrives here.
    /// On the socket of RTP alone.
    pub(crate) quality: Option<Box<Meter>>,
    /// RTP keep-alives sent: their sequence number.
    pub(crate) kept: u16,
    /// What was told to be held, where that is told.
    pub(crate) hold: Option<Box<Hold>>,
}

/// No socket.
pub(crate) const NOWHERE: Slot = Slot(u32::MAX);

impl Lane {
    /// A free latch, nothing sent.
    pub(crate) fn new(now: Instant, side: Side, component: Component) -> Self {
        Self {
            latch: Latch::new(now),
            peer: NOWHERE,
            rtcp_peer: NOWHERE,
            side,
            opaque: false,
            aim: Aim::Nowhere,
            sent: now,
            counts: SocketCounts::default(),
            opening: None,
            quality: (component == Component::Rtp).then(|| Box::new(Meter::new())),
            kept: 0,
            hold: None,
        }
    }

    /// The socket that a packet which came in here leaves by.
    pub(crate) fn to(&self, kind: Kind) -> Slot {
        match kind {
            Kind::Rtcp => self.rtcp_peer,
            Kind::Rtp | Kind::Dtls | Kind::Stun | Kind::Opaque => self.peer,
        }
    }

    /// Counts a packet that was accepted here.
    #[inline]
    pub(crate) fn count_in(&mut self, totals: &mut Totals, bytes: u64) {
        self.counts.packets_in += 1;
        self.counts.bytes_in += bytes;
        totals.packet_in(self.side, bytes);
    }

    /// Counts a packet that is sent from here.
    #[inline]
    pub(crate) fn count_out(&mut self, totals: &mut Totals, now: Instant, bytes: u64) {
        self.sent = now;
        self.counts.packets_out += 1;
        self.counts.bytes_out += bytes;
        totals.packet_out(self.side, bytes);
    }
}

/// What is left of the early packets toward SDP's address, for both sockets of
/// a leg. It starts anew only when a completed offer/answer names another address.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowance {
    target: Option<Target>,
    first: Option<Instant>,
    sent: u8,
}

impl Allowance {
    /// All of it.
    pub(crate) fn new(target: Option<Target>) -> Self {
        Self { target, first: None, sent: 0 }
    }

    /// SDP says this now; `settled`: by a completed offer/answer.
    pub(crate) fn plan(&mut self, target: Option<Target>, settled: bool) {
        if settled && self.target != target && self.target.is_some() {
            *self = Self::new(target);
        }
        self.target = self.target.or(target);
    }

    /// Takes one packet from it. The time runs from the first packet, not from
    /// the SDP: a callee may ring for long before its early media comes.
    pub(crate) fn spend(&mut self, now: Instant) -> bool {
        let first = *self.first.get_or_insert(now);
        let left = self.sent < ALLOWANCE && now.duration_since(first) < ALLOWANCE_WINDOW;
        self.sent += u8::from(left);
        left
    }
}

/// SDP's address for one component.
pub(crate) fn target(plan: &LegPlan, component: Component) -> Option<SocketAddr> {
    plan.target.map(|target| match component {
        Component::Rtp => target.rtp(),
        Component::Rtcp => target.rtcp(),
    })
}

/// Could anything be sent there at all? The control half refuses such SDP too.
pub(crate) fn usable(target: SocketAddr) -> bool {
    target.port() != 0 && !nat::address::is_absurd(target.ip())
}

/// Where to send, by the table at the top. `target` is usable, not our own socket and not the other end.
pub(crate) fn aim(latch: &Latch, target: Option<SocketAddr>, early: Early) -> Aim {
    match (latch.source(), target, early) {
        (Some(held), _, _) if latch.is_checked() => Aim::At(held),
        (Some(held), Some(target), Early::Uncapped | Early::Proven | Early::Capped)
            if latch.moving() && target != held =>
        {
            if early == Early::Uncapped || (latch.truthful() && target.ip() == held.ip()) {
                Aim::At(target)
            } else if latch.truthful() {
                Aim::Capped(target)
            } else {
                Aim::At(held)
            }
        }
        (Some(held), _, _) => Aim::At(held),
        (None, Some(target), Early::Uncapped | Early::Proven) => Aim::At(target),
        (None, Some(target), Early::Capped) => Aim::Capped(target),
        (None, _, _) => Aim::Nowhere,
    }
}
