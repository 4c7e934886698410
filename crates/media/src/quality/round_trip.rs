//! The round trip to a peer, from RTCP that passes: a sender report goes on to
//! it, and the report block that names that one comes back (RFC 3550 §6.4.1).
//! We stand between the two, so what is measured is the way from here to the
//! peer and back.
//!
//! Must not change a packet, nor believe one: a stranger's report never gets
//! here, and a peer can only lie about itself. SRTCP is not read.

use std::time::{Duration, Instant};

use wire::rtp::rtcp::{self, Packet};

use crate::{Component, Relay, Slot};

/// A way longer than this is none.
const LONGEST: Duration = Duration::from_secs(60);

/// Sender reports that went to a peer, and what it said of them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trips {
    /// Names of the last ones, and when they went; a peer answers an earlier one where they cross.
    sent: [Option<(u32, Instant)>; 4],
    next: usize,
    last: Option<Duration>,
    bye: bool,
}

impl Trips {
    /// A sender report goes on to the peer.
    fn passed(&mut self, now: Instant, middle: u32) {
        self.sent[self.next] = Some((middle, now));
        self.next = (self.next + 1) % self.sent.len();
    }

    /// The peer has heard a sender report.
    fn heard(&mut self, now: Instant, report: rtcp::Report) {
        let named = self.sent.iter().flatten().find(|(middle, _)| *middle == report.last && report.last != 0);
        let Some((_, sent)) = named else { return };
        let held = Duration::from_nanos(u64::from(report.delay) * 1_000_000_000 / 65_536);
        let way = now.saturating_duration_since(*sent).checked_sub(held);
        if let Some(way) = way.filter(|way| *way <= LONGEST) {
            self.last = Some(way);
        }
    }

    /// The last one.
    pub(super) fn last(&self) -> Option<Duration> {
        self.last
    }

    /// The peer has said BYE.
    pub(super) fn bye(&self) -> bool {
        self.bye
    }
}

impl Relay {
    /// An RTCP packet that was accepted, on its way to the other leg.
    #[cold]
    #[inline(never)]
    pub(crate) fn overhear(&mut self, now: Instant, on: Slot, packet: &[u8]) {
        let meter = Slot::of(on.stream(), on.end(), Component::Rtp);
        let Some(quality) = self.meter_mut(meter) else { return };
        if quality.formats.as_ref().is_some_and(|formats| formats.secure) {
            return;
        }
        let onward = self.lane(on).map(|lane| lane.peer);
        for packet in rtcp::packets(packet) {
            let reports = match packet {
                Packet::SenderReport { middle, reports } => {
                    let peer = onward.map(|peer| Slot::of(peer.stream(), peer.end(), Component::Rtp));
                    if let Some(peer) = peer.and_then(|peer| self.meter_mut(peer)) {
                        peer.trips.get_or_insert_default().passed(now, middle);
                    }
                    reports
                }
                Packet::ReceiverReport { reports } => reports,
                Packet::Bye => {
                    if let Some(quality) = self.meter_mut(meter) {
                        quality.trips.get_or_insert_default().bye = true;
                    }
                    continue;
                }
                Packet::Other => continue,
            };
            if let Some(trips) = self.meter_mut(meter).and_then(|quality| quality.trips.as_mut()) {
                reports.for_each(|report| trips.heard(now, report));
            }
        }
    }
}
