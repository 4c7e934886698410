//! RTP and RTCP of one end of a call: what it plays, and what it hears.
//!
//! Headers are real; the payload begins with the number of the tone and a
//! mark on the packets that are counted for the verdict, so that "who hears
//! whom" is a figure.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::call::VIDEO;
use super::ice::{Checks, Credentials};
use super::sdp::{Direction, Remote, Shape};
use crate::clock::{Time, earlier};
use crate::net::Packet;
use crate::rng::Rng;

const RTCP_EVERY: Duration = Duration::from_secs(4);
/// Octets of payload; a real G.711 packet has 160.
const PAYLOAD: usize = 40;
const HEADER: usize = 12;

/// What one end played and heard in one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Heard {
    /// Counted packets sent.
    pub(crate) sent: u32,
    /// Counted packets of the other end that arrived, copies left out.
    pub(crate) heard: u32,
    /// Any packet of the other end before the call was confirmed.
    pub(crate) early: u32,
    /// Any packet of the other end.
    pub(crate) any: u32,
    /// RTCP packets of the other end.
    pub(crate) rtcp: u32,
    /// Those of them that came on the RTP port.
    pub(crate) muxed: u32,
    /// Packets that waited for an answer to a check of ICE, and such answers.
    pub(crate) withheld: u32,
    pub(crate) checked: u32,
    /// UDPTL packets of the other end (T.38).
    pub(crate) faxed: u32,
    /// Counted packets sent and heard, by stretches between the other's or our exchanges; the last takes all further ones.
    pub(crate) stretches: [[u32; 2]; STRETCHES],
}

/// Stretches of talk that are told apart.
pub(crate) const STRETCHES: usize = 16;

/// One end's media.
#[derive(Debug)]
pub(crate) struct Media {
    pub(crate) rtp: SocketAddr,
    /// Where it listened before, or will if an offer is taken.
    also: Option<SocketAddr>,
    tone: u32,
    expected: u32,
    interval: Duration,
    /// Sends to where packets come from, once they come (RFC 4961 and RFC 7362 as a client).
    comedia: bool,
    /// Speaks ICE, by credentials of this session.
    pub(crate) ice: Option<u64>,
    /// Of RTP and RTCP.
    checks: [Checks; 2],
    rng: Rng,
    learned: Option<SocketAddr>,
    remote: Option<Remote>,
    ours: Shape,
    /// Which stretch of talk this is.
    stretch: usize,
    pub(crate) ssrc: u32,
    sequence: u16,
    timestamp: u32,
    next_rtp: Option<Time>,
    next_rtcp: Option<Time>,
    counted_from: Option<Time>,
    recent: [u16; 16],
    pub(crate) confirmed: bool,
    /// When the other end was heard last, or last had nothing to say.
    pub(crate) heard_at: Time,
    pub(crate) figures: Heard,
    /// A tone that has no business here.
    pub(crate) foreign: Option<u32>,
}

impl Media {
    pub(crate) fn new(
        (ip, port): (IpAddr, u16),
        (tone, expected): (u32, u32),
        interval: Duration,
        comedia: bool,
        rng: &mut Rng,
    ) -> Self {
        Self {
            rtp: SocketAddr::new(ip, port),
            also: None,
            tone,
            expected,
            interval,
            comedia,
            ice: None,
            checks: Default::default(),
            rng: rng.fork(0x1ce),
            learned: None,
            remote: None,
            ours: Shape::default(),
            stretch: 0,
            ssrc: rng.next() as u32,
            sequence: rng.next() as u16,
            timestamp: rng.next() as u32,
            next_rtp: None,
            next_rtcp: None,
            counted_from: None,
            recent: [0; 16],
            confirmed: false,
            heard_at: Time::ZERO,
            figures: Heard::default(),
            foreign: None,
        }
    }

    /// True when the other end said that it would send from there.
    pub(crate) fn expects(&self, from: SocketAddr) -> bool {
        self.remote.is_some_and(|remote| remote.rtp == from)
    }

    pub(crate) fn rtcp(&self) -> SocketAddr {
        SocketAddr::new(self.rtp.ip(), self.rtp.port() + 1)
    }

    /// What our SDP says of ICE.
    pub(crate) fn credentials(&self, shape: Shape) -> Option<Credentials> {
        Credentials::of(self.ice?, shape.restarts)
    }

    /// Checks go on, begin again, or end.
    fn check(&mut self, now: Time, remote: Remote) {
        // Who names no address keeps the pair that there is.
        if remote.rtp.ip().is_unspecified() {
            return;
        }
        let muxed = self.ours.mux && remote.shape.mux;
        let pair = self.credentials(self.ours).zip(remote.ice).filter(|_| !self.ours.fax);
        for (checks, to) in self.checks.iter_mut().zip([Some(remote.rtp), (!muxed).then_some(remote.rtcp)]) {
            match pair.zip(to) {
                Some((pair, to)) => checks.begin(now, pair, to),
                None => checks.without(),
            }
        }
    }

    /// An offer of ours names this port, which may soon be the one.
    pub(crate) fn listen(&mut self, port: u16) {
        self.also = Some(SocketAddr::new(self.rtp.ip(), port));
    }

    /// The offer was taken: this is where packets go to and come from now. Late ones may still come to the old place.
    pub(crate) fn move_to(&mut self, port: u16) {
        self.also = Some(self.rtp);
        self.rtp.set_port(port);
    }

    /// The other's SDP, and our own, take effect.
    pub(crate) fn apply(&mut self, now: Time, remote: Remote, ours: Shape) {
        if self.remote.is_none_or(|old| old.rtp != remote.rtp) {
            self.learned = None;
        }
        self.remote = Some(remote);
        self.ours = ours;
        self.check(now, remote);
        self.counted_from = None;
        self.stretch = (self.stretch + 1).min(STRETCHES - 1);
        self.heard_at = now;
        if self.sending() {
            self.next_rtp.get_or_insert(now);
            self.next_rtcp.get_or_insert(now + Duration::from_millis(300));
        } else {
            (self.next_rtp, self.next_rtcp) = (None, None);
        }
    }

    /// Early media may have come from another fork.
    pub(crate) fn unlearn(&mut self) {
        self.learned = None;
    }

    /// From then on packets count, if both ends speak and listen.
    pub(crate) fn count_from(&mut self, at: Time) {
        self.counted_from = Some(at);
    }

    /// Nothing counts any more: what is said from now on may go unheard by agreement.
    pub(crate) fn count_none(&mut self) {
        self.counted_from = None;
    }

    /// Nothing counts until then: the way there has changed.
    pub(crate) fn unsettle(&mut self, until: Time) {
        self.counted_from = self.counted_from.map(|from| from.max(until));
    }

    /// Phones of some makes start a new source after a hold.
    pub(crate) fn new_source(&mut self, rng: &mut Rng) {
        (self.ssrc, self.sequence, self.timestamp) = (rng.next() as u32, rng.next() as u16, rng.next() as u32);
    }

    pub(crate) fn stop(&mut self) {
        (self.next_rtp, self.next_rtcp) = (None, None);
        self.checks.iter_mut().for_each(Checks::stop);
    }

    fn sending(&self) -> bool {
        self.ours.direction.sends()
            && self.remote.is_some_and(|r| r.direction.receives() && !r.rtp.ip().is_unspecified())
    }

    /// True while both ends speak. On hold a phone that says nothing may lose its mapping, and hear nothing.
    pub(crate) fn both_ways(&self) -> bool {
        let talks = |shape: Shape| shape.direction == Direction::SendRecv && !shape.fax;
        talks(self.ours) && self.remote.is_some_and(|r| talks(r.shape))
    }

    pub(crate) fn next(&self) -> Option<Time> {
        let checks = earlier(self.checks[0].next(), self.checks[1].next());
        earlier(earlier(self.next_rtp, self.next_rtcp), checks)
    }

    pub(crate) fn timeout(&mut self, now: Time, out: &mut Vec<Packet>) {
        let Some(remote) = self.remote else { return };
        let (rtp, rtcp) = (self.rtp, self.rtcp());
        let Self { checks, rng, .. } = self;
        for (checks, from) in checks.iter_mut().zip([rtp, rtcp]) {
            checks.timeout(now, from, rng, out);
        }
        let waits = [0, 1].map(|at| self.checks[at].waits());
        if let Some(at) = self.next_rtp.filter(|at| *at <= now && waits[0]) {
            self.figures.withheld += 1;
            self.next_rtp = Some(at + self.interval);
        } else if let Some(at) = self.next_rtp.filter(|at| *at <= now) {
            let counted = self.both_ways() && self.counted_from.is_some_and(|from| from <= now);
            let to = self.learned.filter(|_| self.comedia).unwrap_or(remote.rtp);
            let bytes = if self.ours.fax { self.image() } else { self.packet(counted, remote.shape.codec) };
            out.push(Packet::datagram(self.rtp, to, bytes));
            self.figures.sent += u32::from(counted);
            self.figures.stretches[self.stretch][0] += u32::from(counted);
            self.next_rtp = Some(at + self.interval);
        }
        if self.next_rtcp.is_some_and(|at| at <= now) {
            let muxed = self.ours.mux && remote.shape.mux;
            let (from, to) = if muxed { (self.rtp, remote.rtp) } else { (self.rtcp(), remote.rtcp) };
            if !self.ours.fax && !waits[usize::from(!muxed)] {
                out.push(Packet::datagram(from, to, self.report()));
            }
            self.next_rtcp = Some(now + RTCP_EVERY);
        }
    }

    fn packet(&mut self, counted: bool, codec: u8) -> Vec<u8> {
        self.sequence = self.sequence.wrapping_add(1);
        self.timestamp = self.timestamp.wrapping_add(self.interval.as_millis() as u32 * 8);
        let mut bytes = Vec::with_capacity(HEADER + PAYLOAD);
        bytes.extend([0x80, codec]);
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(self.timestamp.to_be_bytes());
        bytes.extend(self.ssrc.to_be_bytes());
        bytes.extend(self.tone.to_be_bytes());
        bytes.push(if counted { 1 + self.stretch as u8 } else { 0 });
        bytes.resize(HEADER + PAYLOAD, 0xd5);
        bytes
    }

    /// A UDPTL packet (T.38 §9.1): a sequence number, and octets of a fax; the tone stands where RTP has it.
    fn image(&mut self) -> Vec<u8> {
        self.sequence = self.sequence.wrapping_add(1) & 0x0fff;
        let mut bytes = self.sequence.to_be_bytes().to_vec();
        bytes.resize(HEADER, 0);
        bytes.extend(self.tone.to_be_bytes());
        bytes.resize(HEADER + PAYLOAD, 0);
        bytes
    }

    /// An empty sender report (RFC 3550 §6.4.1); the tone stands in its time stamp.
    fn report(&self) -> Vec<u8> {
        let mut bytes = vec![0x80, 200, 0, 6];
        bytes.extend(self.ssrc.to_be_bytes());
        bytes.extend(self.tone.to_be_bytes());
        bytes.resize(28, 0);
        bytes
    }

    /// A packet on one of our two ports; false if it is for neither.
    pub(crate) fn receive(&mut self, now: Time, packet: &Packet) -> bool {
        let bytes = &packet.bytes;
        let word = |at: usize| bytes.get(at..at + 4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
        let mut places = [Some(self.rtp), self.also].into_iter().flatten();
        let near = |place: SocketAddr| packet.to.ip() == place.ip() && packet.to.port() & !1 == place.port();
        if !places.any(near) {
            return false;
        }
        let on_rtp = packet.to.port().is_multiple_of(2);
        if self.checks[usize::from(!on_rtp)].receive(now, bytes) {
            self.figures.checked += 1;
            return true;
        }
        if bytes.get(1) == Some(&200) && word(8) == Some(self.expected) {
            self.figures.rtcp += 1;
            self.figures.muxed += u32::from(on_rtp);
            return true;
        }
        if !on_rtp {
            return true;
        }
        if bytes.first().is_some_and(|first| first & 0xf0 == 0) && word(4) == Some(0) {
            let tone = word(HEADER).unwrap_or_default();
            self.foreign = (tone != self.expected).then_some(tone);
            self.figures.faxed += u32::from(tone == self.expected);
            (self.learned, self.heard_at) = (Some(packet.from), now);
            return true;
        }
        if let Some(tone) = word(HEADER).filter(|_| bytes[0] == 0x80 && matches!(bytes[1], 0 | 8 | 9 | VIDEO)) {
            if tone != self.expected {
                self.foreign = Some(tone);
                return true;
            }
            self.learned = Some(packet.from);
            self.heard_at = now;
            let sequence = u16::from_be_bytes([bytes[2], bytes[3]]);
            let slot = usize::from(sequence) % self.recent.len();
            let fresh = self.recent[slot] != sequence || self.figures.any == 0;
            self.recent[slot] = sequence;
            self.figures.any += u32::from(fresh);
            self.figures.early += u32::from(fresh && !self.confirmed);
            let mark = bytes.get(HEADER + 4).map_or(0, |mark| usize::from(*mark));
            if let Some(stretch) = mark.checked_sub(1).filter(|_| fresh) {
                self.figures.heard += 1;
                self.figures.stretches[stretch.min(STRETCHES - 1)][1] += 1;
            }
        }
        true
    }
}
