//! Holds: decisions of [`crate::forward`] that a backend may keep.
//!
//! While a lane's latch is held and the far lane knows where its peer is, every
//! packet of the held source has the same verdict. Decides when that is so and
//! when no more ([`Output::Hold`], [`Output::Free`]), and takes back what passed
//! by such a decision without being judged here ([`Relay::passed`]), so that
//! silence, keep-alives, figures and the latch's own rules see the same as if
//! it had been.
//!
//! | | told as a hold | has a [`Pace`] too: may pass unseen, packet by packet in order |
//! | --- | --- | --- |
//! | latch free, or only provisional (keys) | no | no |
//! | far lane without address, or capped | no | no |
//! | held | yes | RTP that has begun, within one stream |
//! | keys are known | yes | no: every 64th packet is authenticated |
//! | UDPTL, the socket of RTCP, legs of a spiral | yes | no |
//!
//! Must not be asked per packet. Must not decide who may be heard.

use std::net::SocketAddr;
use std::time::Instant;

use crate::leg::Aim;
use crate::relay::{Output, SOCKETS};
use crate::{Component, Relay, Slot};

/// Until it is freed: what comes from `from` on socket `on` leaves by `via`, toward `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    /// Socket that it comes in on. On one for RTP this is about all but RTCP, on the other about RTCP.
    pub on: Slot,
    /// The held source.
    pub from: SocketAddr,
    /// Socket that it leaves by.
    pub via: Slot,
    /// Where to.
    pub to: SocketAddr,
}

/// Where the RTP of a held source stands (RFC 3550 §5.1): what must come next,
/// if the next packet is to be like the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Its sender.
    pub ssrc: u32,
    /// Its last sequence number.
    pub sequence: u16,
    /// Its last timestamp.
    pub timestamp: u32,
    /// Its payload type.
    pub payload_type: u8,
    /// Nanoseconds in 256 ticks of its clock.
    pub tick: i64,
    /// Interarrival jitter (RFC 3550 A.8), sixteenths of nanoseconds.
    pub jitter: u64,
    /// When that packet came.
    pub at: Instant,
}

/// What passed by a hold since that was last told: packets that each continued
/// the [`Pace`], one sequence number after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    /// How many; none is no news.
    pub packets: u64,
    /// Octets of those, as a socket would have told.
    pub bytes: u64,
    /// When the last one came.
    pub at: Instant,
    /// Its timestamp.
    pub timestamp: u32,
    /// The jitter after it.
    pub jitter: u64,
}

impl Relay {
    /// Something that holds depend on has changed on this stream.
    pub(crate) fn unsettle(&mut self, slot: u32) {
        if self.config.holds
            && let Some(Some(stream)) = self.streams.get_mut(slot as usize)
            && !std::mem::replace(&mut stream.unsettled, true)
        {
            self.unsettled.push(slot);
        }
    }

    /// A packet that was just judged may have changed holds: what passes by
    /// them is better stopped before it is sent, and answered.
    #[inline]
    pub fn unsettled(&self) -> bool {
        !self.unsettled.is_empty()
    }

    /// Tells what has become of the holds of all streams that have changed.
    pub(crate) fn settle(&mut self) {
        while let Some(slot) = self.unsettled.pop() {
            let Some(Some(stream)) = self.streams.get_mut(slot as usize) else { continue };
            stream.unsettled = false;
            for (end, component) in SOCKETS {
                let on = Slot::of(slot, end, component);
                self.settle_socket(on);
                // In a spiral the far lane is another stream's.
                if let Some(lane) = self.lane(on)
                    && lane.peer.stream() != slot
                {
                    let (peer, rtcp_peer) = (lane.peer, lane.rtcp_peer);
                    self.settle_socket(peer);
                    self.settle_socket(rtcp_peer);
                }
            }
        }
    }

    fn settle_socket(&mut self, on: Slot) {
        let hold = self.held(on);
        let Some(lane) = self.lane_mut(on).filter(|lane| lane.hold.as_deref() != hold.as_ref()) else { return };
        let known = std::mem::replace(&mut lane.hold, hold.map(Box::new));
        if known.is_some() {
            self.outputs.push_back(Output::Free { on });
        }
        if let Some(hold) = hold {
            self.outputs.push_back(Output::Hold(hold));
        }
    }

    /// The stream ends, and its holds with it.
    pub(crate) fn free(&mut self, slot: u32) {
        for (end, component) in SOCKETS {
            let on = Slot::of(slot, end, component);
            if self.lane_mut(on).and_then(|lane| lane.hold.take()).is_some() {
                self.outputs.push_back(Output::Free { on });
            }
        }
    }

    /// What [`Relay::forward`] would say of the next packet from the held source.
    fn held(&self, on: Slot) -> Option<Hold> {
        let lane = self.lane(on)?;
        let from = lane.latch.held()?;
        let via = match on.component() {
            Component::Rtp => lane.peer,
            Component::Rtcp => lane.rtcp_peer,
        };
        match self.lane(via)?.aim {
            Aim::At(to) => Some(Hold { on, from, via, to }),
            Aim::Capped(_) | Aim::Nowhere => None,
        }
    }

    /// How the RTP of a hold goes on, where packets that continue it need not
    /// be judged. `None` while they do.
    pub fn pace(&self, on: Slot) -> Option<Pace> {
        let lane = self.lane(on)?;
        let hold = lane.hold.as_ref().filter(|hold| hold.via.stream() == on.stream())?;
        let simple = on.component() == Component::Rtp && !lane.opaque && !lane.latch.keyed();
        if !simple || !lane.latch.holds(hold.from) {
            return None;
        }
        lane.quality.as_ref()?.pace(&self.clock)
    }

    /// Packets passed by a hold; comes before anything that was received later
    /// is judged, and before a timer or a command is served that asks for
    /// figures or silence. Of a hold that is over they count, and nothing more.
    pub fn passed(&mut self, hold: &Hold, passed: &Passed) {
        if passed.packets == 0 {
            return;
        }
        let Some(Some(lane)) = self.lanes.get_mut(hold.on.0 as usize) else { return };
        let nanos = self.clock.number(passed.at);
        if lane.latch.holds(hold.from)
            && let Some(quality) = &mut lane.quality
            && let Some((ssrc, sequence)) = quality.passed(passed, nanos)
        {
            lane.latch.passed(passed.at, ssrc, sequence, passed.timestamp);
        }
        lane.counts.packets_in += passed.packets;
        lane.counts.bytes_in += passed.bytes;
        self.totals.packets_in(lane.side, passed.packets, passed.bytes);
        self.totals.passed += passed.packets;
        let Some(Some(lane)) = self.lanes.get_mut(hold.via.0 as usize) else { return };
        lane.sent = lane.sent.max(passed.at);
        lane.counts.packets_out += passed.packets;
        lane.counts.bytes_out += passed.bytes;
        self.totals.packets_out(lane.side, passed.packets, passed.bytes);
    }
}

#[cfg(test)]
mod tests;
