//! The media machine of one worker: streams, their legs, their deadlines.
//!
//! Takes [`Command`]s and time, keeps the state that [`crate::forward`] judges
//! packets by, and reports [`Fact`]s. Decides when a stream is silent
//! (RFC 3264 §8.4: never on hold, where the timeout is `None`), when a socket
//! sends a packet of its own, and when figures are due. One socket's state is
//! in `leg.rs`, timers in `deadline.rs`, our own packets in `opening.rs`, the
//! streams of a spiral in `join.rs`.
//!
//! Must not open a socket, read a clock or see SDP. Nothing here runs per packet.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nat::Source;
use nat::ice_lite::Credentials;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use crate::asked::Asked;
use crate::command::Proto;
use crate::latch::{Judgement, Kind, Rules};
use crate::leg::{self, Aim, Allowance, Lane};
use crate::opening::{self, Opening};
pub use crate::output::{Output, Small};
use crate::quality::{Clock, Formats, Meter};
use crate::silence::Watch;
use crate::stats::{LegCounts, Totals};
use crate::{Command, Component, Drop, End, Fact, LegPlan, Slot, StreamId};

/// A running stream reports its figures this often.
pub(crate) const COUNTED: Duration = Duration::from_secs(5);
/// A worker reports its totals this often, if they changed.
pub(crate) const TOTALS: Duration = Duration::from_secs(1);
/// No worker has more stream slots (and [`Slot`] never overflows).
const STREAMS: u32 = 1 << 18;
/// Streams that there is room for beyond those that were needed, when that grows.
const SPARE: usize = 64;

/// What a worker sends on a mapping that is otherwise silent (RFC 6263 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeepAlive {
    /// STUN Binding indications (§4.4).
    Stun,
    /// RTP headers with an unknown payload type (§4.6), and empty receiver reports.
    Rtp,
    /// Nothing. Mappings of held calls will expire.
    Off,
}

/// How a worker behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Its number, as in [`StreamId::worker`].
    pub worker: u8,
    /// On silence.
    pub keepalive: KeepAlive,
    /// After so much silence of ours; at least one second, 15 s by default (RFC 6263 §7).
    pub keepalive_interval: Duration,
    /// Somebody wants to be told of holds.
    pub holds: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { worker: 0, keepalive: KeepAlive::Stun, keepalive_interval: Duration::from_secs(15), holds: true }
    }
}

/// The media machine of one worker.
#[derive(Debug)]
pub struct Relay {
    pub(crate) config: Config,
    pub(crate) rng: ChaCha20Rng,
    pub(crate) ssrc: u32,
    /// By [`Slot`].
    pub(crate) lanes: Vec<Option<Lane>>,
    /// By stream slot.
    pub(crate) streams: Vec<Option<Box<Stream>>>,
    /// Pairs of all sockets of all streams: address and even port.
    own: BTreeSet<(IpAddr, u16)>,
    pub(crate) live: usize,
    /// When to look at which stream. Entries of streams that are gone, or
    /// whose deadline has changed, are skipped as they come up.
    pub(crate) timers: BinaryHeap<Reverse<(Instant, StreamId)>>,
    /// Arrivals of packets as numbers.
    pub(crate) clock: Clock,
    pub(crate) totals_due: Option<Instant>,
    pub(crate) totals: Totals,
    pub(crate) outputs: VecDeque<Output>,
    /// Stream slots whose holds may have changed.
    pub(crate) unsettled: Vec<u32>,
}

/// What is needed of a stream less often than per packet.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) id: StreamId,
    pub(crate) epoch: u32,
    pub(crate) legs: Box<[LegPlan; 2]>,
    pub(crate) allowance: [Allowance; 2],
    /// The leg of another stream that faces this one's leg.
    pub(crate) joined: [Option<(u32, End)>; 2],
    pub(crate) timeout: Option<Duration>,
    /// Silence counts from here at the earliest.
    pub(crate) since: Instant,
    /// The last packet before the silence that was reported.
    pub(crate) reported: Option<Instant>,
    /// What is known of the silence of either leg.
    pub(crate) watches: [Watch; 2],
    /// STUN servers that its sockets have asked, by socket.
    pub(crate) asked: Option<Box<[Option<Asked>; 4]>>,
    pub(crate) counted_due: Option<Instant>,
    /// The timer that counts.
    pub(crate) due: Option<Instant>,
    /// Its holds may have changed.
    pub(crate) unsettled: bool,
}

/// Both ends and both components.
pub(crate) const SOCKETS: [(End, Component); 4] =
    [(End::A, Component::Rtp), (End::A, Component::Rtcp), (End::B, Component::Rtp), (End::B, Component::Rtcp)];

impl Relay {
    /// Without streams.
    pub fn new(config: Config, seed: [u8; 32]) -> Self {
        let mut rng = ChaCha20Rng::from_seed(seed);
        let keepalive_interval = config.keepalive_interval.max(Duration::from_secs(1));
        Self {
            config: Config { keepalive_interval, ..config },
            ssrc: rng.next_u32(),
            rng,
            lanes: Vec::new(),
            streams: Vec::new(),
            own: BTreeSet::new(),
            live: 0,
            timers: BinaryHeap::new(),
            clock: Clock::default(),
            totals_due: None,
            totals: Totals::default(),
            outputs: VecDeque::new(),
            unsettled: Vec::new(),
        }
    }

    /// Obeys a command. Those that name a stream which is not (any more) here are ignored.
    pub fn handle_input(&mut self, now: Instant, command: Command) {
        match command {
            Command::Open { stream, epoch, legs, timeout } => self.open(now, stream, epoch, legs, timeout),
            Command::Update { stream, epoch, legs, timeout, rearm } => {
                self.update(now, stream, epoch, legs, timeout, rearm);
            }
            Command::Replace { stream, end } => self.replace(now, stream, end),
            Command::Carry { stream, proto } => self.carry(stream, proto),
            Command::Formats { stream, formats } => self.formats(stream, &formats),
            // Connections are not the worker's.
            Command::Splice { stream: _, splice: _ } => {}
            Command::Ask { stream, end, server, transactions } => self.ask(stream, end, server, transactions),
            Command::Join { a, b } => self.join(now, a, b),
            Command::Part { stream } => self.part(now, stream),
            Command::Close { stream, told: _ } => self.close(now, stream),
        }
    }

    /// True for the address of a socket of some stream.
    pub(crate) fn is_own(&self, address: SocketAddr) -> bool {
        self.own.contains(&even(address))
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.settle();
        self.outputs.pop_front()
    }

    fn open(&mut self, now: Instant, id: StreamId, epoch: u32, legs: Box<[LegPlan; 2]>, timeout: Option<Duration>) {
        let taken = self.streams.get(id.slot as usize).is_some_and(Option::is_some);
        if taken || id.worker != self.config.worker || id.slot >= STREAMS {
            return self.report(Fact::Failed { stream: id });
        }
        let slot = id.slot as usize;
        if self.streams.len() <= slot {
            // Room for twice as many, as a list grows by itself, would be megabytes that nobody uses.
            let more = slot + 1 - self.streams.len();
            if self.streams.capacity() <= slot {
                self.streams.reserve_exact(more + SPARE);
                self.lanes.reserve_exact(4 * (more + SPARE));
            }
            self.streams.resize_with(slot + 1, || None);
            self.lanes.resize_with(4 * (slot + 1), || None);
        }
        for plan in legs.iter() {
            self.own.insert(even(plan.pair.rtp()));
        }
        for (end, component) in SOCKETS {
            let mut lane = Lane::new(now, legs[end.index()].side, component);
            lane.latch.secure(&legs[end.index()].srtp);
            self.lanes[Slot::of(id.slot, end, component).0 as usize] = Some(lane);
        }
        let allowance = [Allowance::new(legs[0].target), Allowance::new(legs[1].target)];
        self.streams[slot] = Some(Box::new(Stream {
            id,
            epoch,
            legs,
            allowance,
            joined: [None; 2],
            timeout,
            since: now,
            reported: None,
            watches: [Watch::default(); 2],
            asked: None,
            counted_due: now.checked_add(COUNTED),
            due: None,
            unsettled: false,
        }));
        self.live += 1;
        self.totals_due = self.totals_due.or(now.checked_add(TOTALS));
        self.relink(now, id.slot);
    }

    fn update(
        &mut self,
        now: Instant,
        id: StreamId,
        epoch: u32,
        legs: Box<[LegPlan; 2]>,
        timeout: Option<Duration>,
        rearm: bool,
    ) {
        let Some(stream) = self.stream_mut(id) else { return };
        let pairs = [stream.legs[0].pair, stream.legs[1].pair];
        if rearm || stream.timeout.is_none() {
            stream.since = now;
            stream.reported = None;
        }
        stream.epoch = epoch;
        stream.timeout = timeout;
        if timeout.is_none() {
            stream.watches = [Watch::default(); 2];
        }
        let spoke = std::mem::replace(&mut stream.legs, legs).map(|plan| credentials(&plan));
        let speaks = [credentials(&stream.legs[0]), credentials(&stream.legs[1])];
        let keys = [Arc::clone(&stream.legs[0].srtp), Arc::clone(&stream.legs[1].srtp)];
        stream.legs[0].pair = pairs[0];
        stream.legs[1].pair = pairs[1];
        for (allowance, plan) in stream.allowance.iter_mut().zip(stream.legs.iter()) {
            allowance.plan(plan.target, rearm);
        }
        for (end, component) in SOCKETS {
            let on = Slot::of(id.slot, end, component);
            let held = rearm && self.lane(on).is_some_and(|lane| lane.latch.source().is_some());
            let target = if held { self.target(on) } else { None };
            let Some(lane) = self.lane_mut(on) else { continue };
            match (spoke[end.index()], speaks[end.index()]) {
                (Some(_), None) => lane.latch.forget_checks(),
                (Some(before), Some(now)) if before != now => lane.latch.restart(),
                (Some(_) | None, _) => {}
            }
            if rearm {
                lane.latch.rearm(now, target);
            }
            lane.latch.secure(&keys[end.index()]);
        }
        self.relink(now, id.slot);
    }

    fn replace(&mut self, now: Instant, id: StreamId, end: End) {
        if self.stream_mut(id).is_none() {
            return;
        }
        for component in [Component::Rtp, Component::Rtcp] {
            let on = Slot::of(id.slot, end, component);
            let target = self.target(on);
            if let Some(lane) = self.lane_mut(on) {
                lane.latch.replace(now, target);
            }
        }
        self.refresh(now, id.slot);
    }

    fn carry(&mut self, id: StreamId, proto: Proto) {
        if self.stream_mut(id).is_some() {
            for (end, component) in SOCKETS {
                if let Some(lane) = self.lane_mut(Slot::of(id.slot, end, component)) {
                    lane.opaque = proto == Proto::Udptl;
                    if let Some(quality) = &mut lane.quality {
                        quality.mute(lane.opaque);
                    }
                }
            }
        }
    }

    fn formats(&mut self, id: StreamId, formats: &Arc<Formats>) {
        let Some(stream) = self.stream_mut(id) else { return };
        let watched = stream.timeout.is_some();
        for end in [End::A, End::B] {
            if let Some(quality) = self.meter_mut(Slot::of(id.slot, end, Component::Rtp)) {
                quality.tell(Arc::clone(formats));
            }
        }
        // Silence is of audio, and of a stream that is not watched nobody tells it.
        if watched {
            self.schedule(id);
        }
    }

    fn close(&mut self, now: Instant, id: StreamId) {
        self.part(now, id);
        if self.stream_mut(id).is_none() {
            return;
        }
        let legs = self.counts(id.slot);
        self.free(id.slot);
        for (end, component) in SOCKETS {
            if let Some(lane) = self.lanes.get_mut(Slot::of(id.slot, end, component).0 as usize) {
                *lane = None;
            }
        }
        if let Some(stream) = self.streams.get_mut(id.slot as usize).and_then(Option::take) {
            for plan in stream.legs.iter() {
                self.own.remove(&even(plan.pair.rtp()));
            }
        }
        self.live -= 1;
        self.outputs.push_back(Output::Release { slot: id.slot });
        self.report(Fact::Closed { stream: id, legs });
    }

    /// A packet from the held source is heard; of any other, the latch judges.
    pub(crate) fn hear(&mut self, now: Instant, on: Slot, from: SocketAddr, kind: Kind, packet: &[u8]) -> Judgement {
        match self.lane_mut(on) {
            Some(lane) if lane.latch.holds(from) => {
                lane.latch.heard(now, kind, packet);
                Judgement::Pass
            }
            Some(_) | None => self.judge(now, on, from, kind, packet),
        }
    }

    /// What the latch says of a packet whose source does not hold it.
    fn judge(&mut self, now: Instant, on: Slot, from: SocketAddr, kind: Kind, packet: &[u8]) -> Judgement {
        if self.is_own(from) {
            return Judgement::Refuse(Drop::Loop);
        }
        let beside = match on.component() {
            Component::Rtp => None,
            Component::Rtcp => self.lane(Slot::of(on.stream(), on.end(), Component::Rtp)).map(|lane| &lane.latch),
        };
        let (ssrc, roamed) = beside.map_or((None, None), |rtp| (rtp.ssrc(), rtp.roamed()));
        let target = self.target(on);
        let (Some(Some(stream)), Some(Some(lane))) =
            (self.streams.get(on.stream() as usize), self.lanes.get_mut(on.0 as usize))
        else {
            return Judgement::Refuse(Drop::NoStream);
        };
        if stream.joined[on.end().index()].is_some() {
            return Judgement::Refuse(Drop::RefusedSource);
        }
        let sources = &stream.legs[on.end().index()].sources;
        let rules = Rules { sources, component: on.component(), target, ssrc, roamed };
        let judgement = lane.latch.judge(now, from, kind, packet, &rules);
        if judgement == Judgement::Refuse(Drop::RefusedSource) && rules.neighbour(from) {
            self.totals.neighbours += 1;
        }
        judgement
    }

    /// RTCP that was heard on one socket of a leg is nothing new on the other.
    pub(crate) fn share(&mut self, on: Slot, packet: &[u8]) {
        let beside = match on.component() {
            Component::Rtp => Component::Rtcp,
            Component::Rtcp => Component::Rtp,
        };
        if let Some(lane) = self.lane_mut(Slot::of(on.stream(), on.end(), beside)) {
            lane.latch.heard_rtcp(packet);
        }
    }

    /// A latch took `source`.
    pub(crate) fn latched(&mut self, on: Slot, source: SocketAddr, moved: bool) {
        self.aim(on);
        if let Some(peer) = self.lane(on).map(|lane| lane.peer) {
            self.aim(peer);
        }
        let (Some(Some(stream)), Some(Some(lane))) =
            (self.streams.get(on.stream() as usize), self.lanes.get_mut(on.0 as usize))
        else {
            return;
        };
        let (end, component) = (on.end(), on.component());
        lane.opening = None;
        tracing::debug!(stream = ?stream.id, ?end, ?component, %source, moved, "latched");
        let (stream, epoch, side, source) = (stream.id, stream.epoch, lane.side, Source(source));
        self.report(Fact::Latched { stream, epoch, end, component, side, source, moved });
        self.schedule(stream);
    }

    /// Aims a socket, after its own latch or that of the other end has changed.
    pub(crate) fn aim(&mut self, on: Slot) {
        self.unsettle(on.stream());
        let target = self.target(on);
        if let (Some(Some(stream)), Some(Some(lane))) =
            (self.streams.get(on.stream() as usize), self.lanes.get_mut(on.0 as usize))
        {
            lane.aim = leg::aim(&lane.latch, target, stream.legs[on.end().index()].early);
        }
    }

    /// Aims and openings of a stream, after its plan or its joins have changed.
    pub(crate) fn refresh(&mut self, now: Instant, slot: u32) {
        self.unsettle(slot);
        let mut next = [None; 2];
        for (end, component) in SOCKETS {
            let on = Slot::of(slot, end, component);
            if component == Component::Rtp {
                next = self.targets(slot, end);
            }
            let target = next[usize::from(component == Component::Rtcp)];
            let (Some(Some(stream)), Some(Some(lane))) =
                (self.streams.get(slot as usize), self.lanes.get_mut(on.0 as usize))
            else {
                return;
            };
            let plan = &stream.legs[end.index()];
            lane.side = plan.side;
            if stream.joined[end.index()].is_some() {
                lane.aim = Aim::Nowhere;
                lane.opening = None;
                continue;
            }
            lane.aim = leg::aim(&lane.latch, target, plan.early);
            let muxed = component == Component::Rtcp && plan.muxed;
            let wanted = match (lane.latch.source(), target.filter(|&to| !muxed && opening::permitted(plan, to))) {
                (None, Some(to)) => Some(Opening::toward(to, now)),
                (Some(held), Some(to)) if lane.latch.moving() && to != held => Some(Opening::at_move(to, now)),
                (_, _) => None,
            };
            lane.opening = match (lane.opening.take(), wanted) {
                (Some(running), Some(wanted)) if running.to == wanted.to => Some(running),
                (_, wanted) => wanted.map(Box::new),
            };
        }
        if let Some(Some(stream)) = self.streams.get(slot as usize) {
            self.schedule(stream.id);
        }
    }

    /// A leg's figures are the sum of its two sockets'.
    pub(crate) fn counts(&self, slot: u32) -> Arc<[LegCounts; 2]> {
        Arc::new([End::A, End::B].map(|end| {
            let lanes = [Component::Rtp, Component::Rtcp].map(|component| self.lane(Slot::of(slot, end, component)));
            let quality = lanes[0].and_then(|lane| lane.quality.as_ref());
            let quality = quality.map(|quality| quality.figures(&self.clock)).unwrap_or_default();
            LegCounts::of(lanes.map(|lane| lane.map(|lane| lane.counts).unwrap_or_default()), quality)
        }))
    }

    /// SDP's address for a socket's peer, unless it is no address, one of our
    /// own, or the one that the other end speaks from: where two phones behind
    /// one NAT like the same port, a meddling router may name it for either,
    /// and whoever has it would hear himself.
    pub(crate) fn target(&self, on: Slot) -> Option<SocketAddr> {
        let stream = self.streams.get(on.stream() as usize)?.as_ref()?;
        let target = leg::target(&stream.legs[on.end().index()], on.component())?;
        (!self.is_own(target) && self.reaches(on, target)).then_some(target)
    }

    /// The same of both sockets of a leg, whose peer has a pair, too.
    fn targets(&self, slot: u32, end: End) -> [Option<SocketAddr>; 2] {
        let Some(Some(stream)) = self.streams.get(slot as usize) else { return [None; 2] };
        let Some(target) = stream.legs[end.index()].target else { return [None; 2] };
        let (rtp, rtcp) = (target.rtp(), target.rtcp());
        let own = self.is_own(rtp);
        let own = [own, if even(rtp) == even(rtcp) { own } else { self.is_own(rtcp) }];
        let [to_rtp, to_rtcp] = [Component::Rtp, Component::Rtcp].map(|component| Slot::of(slot, end, component));
        [
            Some(rtp).filter(|rtp| !own[0] && self.reaches(to_rtp, *rtp)),
            Some(rtcp).filter(|rtcp| !own[1] && self.reaches(to_rtcp, *rtcp)),
        ]
    }

    /// It is an address, and not the one that the other end speaks from.
    fn reaches(&self, on: Slot, target: SocketAddr) -> bool {
        let echoes = || {
            let (lane, other) = self.lane(on).and_then(|lane| Some((lane, self.lane(lane.peer)?)))?;
            (lane.side == other.side).then(|| other.latch.source()).flatten()
        };
        leg::usable(target) && echoes() != Some(target)
    }

    pub(crate) fn lane(&self, on: Slot) -> Option<&Lane> {
        self.lanes.get(on.0 as usize)?.as_ref()
    }

    pub(crate) fn lane_mut(&mut self, on: Slot) -> Option<&mut Lane> {
        self.lanes.get_mut(on.0 as usize)?.as_mut()
    }

    /// The meter of a socket of RTP.
    pub(crate) fn meter_mut(&mut self, on: Slot) -> Option<&mut Meter> {
        self.lane_mut(on)?.quality.as_deref_mut()
    }

    pub(crate) fn stream_mut(&mut self, id: StreamId) -> Option<&mut Stream> {
        self.streams.get_mut(id.slot as usize)?.as_deref_mut().filter(|stream| stream.id == id)
    }

    pub(crate) fn report(&mut self, fact: Fact) {
        self.outputs.push_back(Output::Fact(fact));
    }
}

fn credentials(plan: &LegPlan) -> Option<Credentials> {
    plan.ice.as_ref().map(|agent| agent.credentials())
}

/// The pair that a socket of ours is of.
fn even(address: SocketAddr) -> (IpAddr, u16) {
    (address.ip(), address.port() & !1)
}

#[cfg(test)]
mod keyed_tests;
#[cfg(test)]
mod tests;
