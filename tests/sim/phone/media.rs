//! RTP and RTCP of one end of a call: what it plays, and what it hears.
//!
//! Headers are real; the payload begins with the number of the tone and a
//! mark on the packets that are counted for the verdict, so that "who hears
//! whom" is a figure.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::sdp::{Direction, Remote};
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
}

/// One end's media.
#[derive(Debug)]
pub(crate) struct Media {
    pub(crate) rtp: SocketAddr,
    tone: u32,
    expected: u32,
    interval: Duration,
    /// Sends to where packets come from, once they come (RFC 4961 and RFC 7362 as a client).
    comedia: bool,
    learned: Option<SocketAddr>,
    remote: Option<Remote>,
    ours: Direction,
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
            tone,
            expected,
            interval,
            comedia,
            learned: None,
            remote: None,
            ours: Direction::SendRecv,
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

    /// The other's SDP, and our own direction, take effect.
    pub(crate) fn apply(&mut self, now: Time, remote: Remote, ours: Direction) {
        if self.remote.is_none_or(|old| old.rtp != remote.rtp) {
            self.learned = None;
        }
        self.remote = Some(remote);
        self.ours = ours;
        self.counted_from = None;
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
    }

    fn sending(&self) -> bool {
        self.ours.sends() && self.remote.is_some_and(|r| r.direction.receives() && !r.rtp.ip().is_unspecified())
    }

    /// True while both ends speak. On hold a phone that says nothing may lose its mapping, and hear nothing.
    pub(crate) fn both_ways(&self) -> bool {
        self.ours == Direction::SendRecv && self.remote.is_some_and(|r| r.direction == Direction::SendRecv)
    }

    pub(crate) fn next(&self) -> Option<Time> {
        earlier(self.next_rtp, self.next_rtcp)
    }

    pub(crate) fn timeout(&mut self, now: Time, out: &mut Vec<Packet>) {
        let Some(remote) = self.remote else { return };
        if let Some(at) = self.next_rtp.filter(|at| *at <= now) {
            let counted = self.both_ways() && self.counted_from.is_some_and(|from| from <= now);
            let to = self.learned.filter(|_| self.comedia).unwrap_or(remote.rtp);
            out.push(Packet::datagram(self.rtp, to, self.packet(counted)));
            self.figures.sent += u32::from(counted);
            self.next_rtp = Some(at + self.interval);
        }
        if self.next_rtcp.is_some_and(|at| at <= now) {
            out.push(Packet::datagram(self.rtcp(), remote.rtcp, self.report()));
            self.next_rtcp = Some(now + RTCP_EVERY);
        }
    }

    fn packet(&mut self, counted: bool) -> Vec<u8> {
        self.sequence = self.sequence.wrapping_add(1);
        self.timestamp = self.timestamp.wrapping_add(self.interval.as_millis() as u32 * 8);
        let mut bytes = Vec::with_capacity(HEADER + PAYLOAD);
        bytes.extend([0x80, 0]);
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(self.timestamp.to_be_bytes());
        bytes.extend(self.ssrc.to_be_bytes());
        bytes.extend(self.tone.to_be_bytes());
        bytes.push(u8::from(counted));
        bytes.resize(HEADER + PAYLOAD, 0xd5);
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
        if packet.to == self.rtcp() {
            self.figures.rtcp += u32::from(bytes.get(1) == Some(&200) && word(8) == Some(self.expected));
            return true;
        }
        if packet.to != self.rtp {
            return false;
        }
        if let Some(tone) = word(HEADER).filter(|_| bytes[0] == 0x80 && bytes[1] == 0) {
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
            self.figures.heard += u32::from(fresh && bytes.get(HEADER + 4) == Some(&1));
        }
        true
    }
}
