//! Offers and answers (RFC 3264, RFC 6337): an SDP body in; edits of that
//! body and commands to the media workers out.
//!
//! A *session* belongs to one branch of one pass of a call: every m-line that
//! is relayed has a stream with a port pair facing each end, kept over
//! re-INVITEs. Where the branch is forked behind us, each callee has offers
//! and answers of its own, told apart by its leg (0 is the INVITE itself,
//! which all of them answer); the one whose 2xx comes first owns the streams. An offer that is refused leaves the former path untouched; a
//! completed offer/answer re-arms the latches. SDP that names a live port of
//! our own is a spiral, and the two streams are joined inside.
//!
//! Must not: decide which message carries an offer (the proxy knows), touch
//! sockets, or write an address of one side into a body for the other.

mod audit;
mod body;
mod formats;
mod ice;
#[cfg(test)]
mod ice_tests;
mod session;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use body::{As, relayed, signalled, write};
use nat::{Advertise, Advertised, Network, Prefix, Side};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;
use session::{Agreed, Line, Pairs, Pending, Session, Stream};
use wire::sdp::Body;
use wire::{Edit, Malformed};

use crate::ports::{self, Past, Pools, Ready, Shortage};
use crate::{Command, End, Fact, PortPair, RangeId, StreamId, Target};

/// Names a session: the pass of the call, and the branch of its INVITE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The pass (`registry::PassId`).
    pub pass: u64,
    /// The branch.
    pub branch: u16,
}

/// What the proxy knows of one end of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndPlan {
    /// Its side.
    pub side: Side,
    /// The local address that its sockets are bound to.
    pub local: IpAddr,
    /// The range its ports come from.
    pub range: RangeId,
    /// What is written for these sockets.
    pub advertise: Advertise,
    /// What is written where no socket is meant (`o=`, refused m-lines).
    pub own: IpAddr,
    /// The IP that its signalling was seen from; any port of it may latch.
    /// `None` toward the upstream, where the SDP address counts instead.
    pub signalled_from: Option<IpAddr>,
    /// Media may be sent to private SDP addresses before the peer has spoken.
    pub private_targets: bool,
    /// Our own NAT must be opened toward the SDP address (office role, outer side).
    pub open: bool,
    /// Prefixes whose addresses may latch, too.
    pub prefixes: Arc<[Prefix]>,
    /// Networks with rules: no address in one of the other side is ever sent to from here.
    pub networks: Arc<[Network]>,
    /// Its network needs no relay: SDP passes as it is (RFC 7584 §3).
    pub signalling_only: bool,
}

/// An SDP body inside the message that carries it.
#[derive(Debug, Clone, Copy)]
pub struct Text<'a> {
    /// The whole message: edits are over it.
    pub whole: &'a [u8],
    /// The body, a slice of it.
    pub body: &'a [u8],
}

/// Why an offer or answer was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Port pairs are on their way: park the message and try again.
    NotReady,
    /// No pair is left in the range of this side: 503.
    Exhausted(Side),
    /// The SDP cannot be rewritten safely: 488 with a Warning. The line counts from 1.
    Malformed {
        /// Which line of the body.
        line: usize,
        /// What is wrong with it.
        what: &'static str,
    },
    /// It names a port of our own that is not in use (RFC 3550 §8.2): 488.
    OwnPort,
}

/// What an answer settles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settles {
    /// Nothing: SDP in an unreliable 18x is a preview that the 2xx will repeat (RFC 6337 §2).
    Nothing,
    /// The offer, while the call may still ring: a reliable 18x, PRACK, UPDATE.
    Offer,
    /// The offer, in an answered call: from here on silence ends it.
    Call,
}

/// What a fact means for a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// No media in either direction for the configured time.
    Dead(Key),
    /// The worker lost a stream.
    Lost(Key),
}

/// New streams of one offer at most; further lines are passed on as refused (port 0).
const MOST_NEW: usize = 8;

/// All sessions, and the pools their ports come from.
#[derive(Debug)]
pub struct Offers {
    pools: Pools,
    timeout: Duration,
    workers: Vec<Slots>,
    sessions: BTreeMap<Key, Session>,
    by_stream: BTreeMap<StreamId, Key>,
    /// Pairs whose worker has not let go yet, and which of them a peer was told.
    closing: BTreeMap<StreamId, [(PortPair, bool); 2]>,
    /// Those that were closing at the last audit.
    closed_late: BTreeSet<StreamId>,
    /// Advertised addresses of live legs: what a spiral's SDP names.
    live: BTreeMap<SocketAddr, (StreamId, End)>,
    out: VecDeque<Command>,
    /// For the credentials of ICE.
    rng: ChaCha20Rng,
}

/// Stream slots of one worker.
#[derive(Debug, Default)]
struct Slots {
    generations: Vec<u32>,
    free: Vec<u32>,
}

impl Offers {
    /// `workers`: how many media workers there are, at least one.
    /// `timeout`: silence after which a call is dead. `seed`: for the credentials of
    /// ICE; it may be that of the pools, of which another stream is used.
    pub fn new(pools: Pools, workers: u8, timeout: Duration, seed: [u8; 32]) -> Self {
        let mut rng = ChaCha20Rng::from_seed(seed);
        rng.set_stream(1);
        Self {
            pools,
            timeout,
            workers: (0..workers.max(1)).map(|_| Slots::default()).collect(),
            sessions: BTreeMap::new(),
            by_stream: BTreeMap::new(),
            closing: BTreeMap::new(),
            closed_late: BTreeSet::new(),
            live: BTreeMap::new(),
            out: VecDeque::new(),
            rng,
        }
    }

    /// Other ranges, another reserve, another timeout: what is up keeps its ports and its timeout.
    pub fn reconfigure(&mut self, ranges: Vec<ports::PortRange>, reserve: usize, timeout: Duration) {
        self.pools.reconfigure(ranges, reserve);
        self.timeout = timeout;
    }

    /// Makes sure that pairs for this end are bound ahead of need.
    pub fn want(&mut self, end: &EndPlan) {
        self.pools.want(end.local, end.range, discovered(end.advertise));
    }

    /// Takes an offer from `from`; the edits turn its body into what the other end gets. `worker_hint` spreads calls over workers.
    ///
    /// An offer seen again (a retransmission that reached us as a new
    /// message, an INVITE again after 401) changes nothing and gives the same edits.
    #[expect(clippy::too_many_arguments, reason = "a step takes what it needs by name, not through a blackboard")]
    pub fn offer(
        &mut self,
        key: Key,
        leg: u8,
        worker_hint: u64,
        from: End,
        ends: [EndPlan; 2],
        text: Text<'_>,
        edit: &mut Edit,
    ) -> Result<(), Refusal> {
        if self.passes(key, &ends) {
            return Ok(());
        }
        let sdp = self.read(text.body, &ends[from.index()])?;
        let fresh = !self.sessions.contains_key(&key);
        let mut session = self.sessions.remove(&key).unwrap_or_else(|| Session::new(ends.clone()));
        session.ends = ends;
        // What the same offer opened when it came first counts, or a line refused then would be opened now.
        let before = session.opened(leg, from);
        let mut opened = Vec::new();
        for (line, media) in sdp.media.iter().enumerate() {
            session.reach(line);
            let wanted = media.port != 0 && relayed(media.protocol) && session.streams[line].is_none();
            if wanted && before + opened.len() < MOST_NEW {
                opened.push(line);
            }
        }
        // All ports or none: nothing is opened that would have to be closed again.
        let taken = match self.take_all(&session.ends, opened.len()) {
            Ok(taken) => taken,
            Err(refusal) => {
                if !fresh {
                    self.sessions.insert(key, session);
                }
                return Err(refusal);
            }
        };
        let mut read = Pending::default();
        read.read(&sdp, &session.ends[from.index()]);
        let lines = read.media.clone();
        if let Some(mark) = lines.iter().find_map(|line| line.ice.mark()) {
            session.ice[from.index()].offered(mark, &mut self.rng);
            session.ice[from.other().index()].ready(&mut self.rng);
        }
        for (line, pairs) in opened.iter().zip(taken) {
            self.open(&mut session, key, worker_hint, *line, from, lines[*line], pairs);
        }
        session.said(from, &lines);
        write(&session, from.other(), As::Offer, text.whole, &sdp, edit);
        session.told(from.other());
        session.offered(leg, from, read, opened);
        self.sessions.insert(key, session);
        Ok(())
    }

    /// Takes an answer from `from`. Without a pending offer (a retransmitted
    /// 2xx or ACK, a 2xx after a reliable 18x) only the edits are made again.
    #[expect(clippy::too_many_arguments, reason = "a step takes what it needs by name, not through a blackboard")]
    pub fn answer(
        &mut self,
        key: Key,
        leg: u8,
        from: End,
        ends: [EndPlan; 2],
        text: Text<'_>,
        settles: Settles,
        edit: &mut Edit,
    ) -> Result<(), Refusal> {
        if self.passes(key, &ends) {
            return Ok(());
        }
        let sdp = self.read(text.body, &ends[from.index()])?;
        let Some(mut session) = self.sessions.remove(&key) else {
            // Nothing was offered through us: every line is refused.
            write(&Session::new(ends), from.other(), As::Answer, text.whole, &sdp, edit);
            return Ok(());
        };
        let mut answered = Pending::default();
        answered.read(&sdp, &ends[from.index()]);
        if session.owner.is_none_or(|owner| owner == leg) {
            session.said(from, &answered.media);
        }
        write(&session, from.other(), As::Answer, text.whole, &sdp, edit);
        session.told(from.other());
        let offerer = from.other();
        let offered = match settles {
            // Of a call that is up a preview must not touch the path: the offer may still fail.
            Settles::Nothing if session.established => None,
            Settles::Nothing => session.asked(leg, offerer).cloned(),
            Settles::Offer | Settles::Call => session.take_asked(leg, offerer),
        };
        let exchanged = offered.is_some();
        if let Some(offer) = offered {
            session.agree(leg, Agreed { by: from, offer, answer: answered });
        }
        let answers = settles == Settles::Call && !std::mem::replace(&mut session.established, true);
        if answers {
            session.owner = Some(leg);
        }
        if session.owner.is_none_or(|owner| owner == leg) {
            if exchanged {
                session.ends = ends;
                self.follow(&mut session, leg, settles != Settles::Nothing);
            } else if answers {
                self.follow_again(&mut session, leg, false);
            }
            if answers && session.has_rivals(leg) {
                self.replace(&session);
            }
        }
        self.sessions.insert(key, session);
        Ok(())
    }

    /// A 2xx to the INVITE that answers no offer of `offerer`: what was
    /// previewed or settled before stands, and from here on silence ends the call.
    pub fn confirm(&mut self, key: Key, leg: u8, offerer: End) {
        let Some(mut session) = self.sessions.remove(&key) else { return };
        let answers = !std::mem::replace(&mut session.established, true);
        if answers {
            session.owner = Some(leg);
        }
        if session.epoch > 0 && session.owner == Some(leg) {
            let previewed = session.take_asked(leg, offerer).is_some();
            if previewed || answers {
                self.follow_again(&mut session, leg, previewed);
            }
            if answers && session.has_rivals(leg) {
                self.replace(&session);
            }
        }
        self.sessions.insert(key, session);
    }

    /// The dialog with `left` is over; if it owned the streams, they are now those of `leg`, which was answered, too.
    pub fn hand_over(&mut self, key: Key, left: u8, leg: u8) {
        let Some(mut session) = self.sessions.remove(&key) else { return };
        if session.owner == Some(left) {
            session.owner = Some(leg);
            if session.agreed(leg).is_some() {
                self.follow(&mut session, leg, true);
                self.replace(&session);
            }
        }
        self.sessions.insert(key, session);
    }

    /// The offer of `by` was refused: what it opened goes, the rest stays.
    pub fn fail(&mut self, key: Key, leg: u8, by: End) {
        let Some(mut session) = self.sessions.remove(&key) else { return };
        session.ice[by.index()].fail();
        if let Some(pending) = session.take_refused(leg, by) {
            for line in pending.opened {
                self.close_stream(&mut session, line);
            }
        }
        if session.established || session.streams.iter().any(Option::is_some) {
            self.sessions.insert(key, session);
        }
    }

    /// True while `by` has an offer without an answer of this callee, or to it.
    pub fn pending(&self, key: Key, leg: u8, by: End) -> bool {
        self.sessions.get(&key).is_some_and(|session| session.asked(leg, by).is_some())
    }

    /// Ends one session.
    pub fn close(&mut self, key: Key) {
        if let Some(mut session) = self.sessions.remove(&key) {
            for line in 0..session.streams.len() {
                self.close_stream(&mut session, line);
            }
        }
    }

    /// Ends all sessions of a pass.
    pub fn close_pass(&mut self, pass: u64) {
        let range = Key { pass, branch: 0 }..=Key { pass, branch: u16::MAX };
        let keys: Vec<Key> = self.sessions.range(range).map(|(k, _)| *k).collect();
        for key in keys {
            self.close(key);
        }
    }

    /// How many streams there are, those included whose worker has not let go yet.
    pub fn open_streams(&self) -> usize {
        self.by_stream.len() + self.closing.len()
    }

    /// True while the silence of some stream of a pass would be reported.
    pub fn watched(&self, pass: u64) -> bool {
        let range = Key { pass, branch: 0 }..=Key { pass, branch: u16::MAX };
        let watched = |s: &Session| s.established && !s.held && s.streams.iter().any(Option::is_some);
        self.sessions.range(range).any(|(_, session)| watched(session))
    }

    /// The streams of a pass, for its record.
    pub fn streams(&self, pass: u64) -> Vec<StreamId> {
        let range = Key { pass, branch: 0 }..=Key { pass, branch: u16::MAX };
        self.sessions.range(range).flat_map(|(_, s)| s.streams.iter().flatten().map(|t| t.id)).collect()
    }

    /// Takes a worker's fact; says when a session must end because of it.
    pub fn handle_fact(&mut self, fact: &Fact) -> Option<News> {
        match fact {
            Fact::Closed { stream, legs } => {
                self.closed(*stream, legs.map(|leg| leg.used()));
                None
            }
            Fact::Failed { stream } => {
                let key = self.by_stream.get(stream).copied();
                if let Some(key) = key
                    && let Some(mut session) = self.sessions.remove(&key)
                {
                    let line = session.streams.iter().position(|s| s.as_ref().is_some_and(|s| s.id == *stream));
                    if let Some(line) = line {
                        self.close_stream(&mut session, line);
                    }
                    self.sessions.insert(key, session);
                }
                self.closed(*stream, [true; 2]);
                key.map(News::Lost)
            }
            Fact::Silent { stream, epoch } => {
                let key = *self.by_stream.get(stream)?;
                let session = self.sessions.get_mut(&key)?;
                if session.epoch != *epoch {
                    return None;
                }
                session.stream_mut(*stream)?.silent = true;
                session.streams.iter().flatten().all(|s| s.silent).then_some(News::Dead(key))
            }
            Fact::Counted { stream, legs } => {
                let key = *self.by_stream.get(stream)?;
                let stream = self.sessions.get_mut(&key)?.stream_mut(*stream)?;
                let heard = legs.iter().map(|leg| leg.packets_in).sum();
                if heard != stream.heard {
                    stream.heard = heard;
                    stream.silent = false;
                }
                None
            }
            Fact::Latched { .. } | Fact::Unheard { .. } | Fact::Heard { .. } | Fact::Totals(_) => None,
        }
    }

    /// Takes news of port pairs.
    pub fn handle_ports(&mut self, event: ports::Event) {
        self.pools.handle_event(event);
    }

    /// The next order to a media worker.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.out.pop_front()
    }

    /// The next order to the ports.
    pub fn poll_ports(&mut self) -> Option<ports::Command> {
        self.pools.poll_command()
    }

    /// State of the pools, for gauges and the status page.
    pub fn ports(&self) -> impl Iterator<Item = (IpAddr, RangeId, ports::Counts)> {
        self.pools.counts()
    }

    /// Is the media of this session none of ours? What was relayed once is relayed to its end.
    fn passes(&self, key: Key, ends: &[EndPlan; 2]) -> bool {
        ends.iter().any(|end| end.signalling_only) && !self.sessions.contains_key(&key)
    }

    fn read<'a>(&self, body: &'a [u8], end: &EndPlan) -> Result<Body<'a>, Refusal> {
        let sdp = Body::parse(body).map_err(|Malformed { at, what }| {
            let before = body.get(..at).unwrap_or(body);
            Refusal::Malformed { line: 1 + before.iter().filter(|byte| **byte == b'\n').count(), what }
        })?;
        for media in &sdp.media {
            self.guard(signalled(&sdp, media, end))?;
        }
        Ok(sdp)
    }

    /// A target that is a port of ours but no live leg is refused.
    fn guard(&self, target: Option<Target>) -> Result<(), Refusal> {
        match target {
            Some(target) if !self.live.contains_key(&target.rtp) && self.pools.owns(target.rtp) => {
                Err(Refusal::OwnPort)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Two pairs for each of so many new streams.
    fn take_all(&mut self, ends: &[EndPlan; 2], streams: usize) -> Result<Vec<Pairs>, Refusal> {
        let shared = (ends[0].local, ends[0].range) == (ends[1].local, ends[1].range);
        for end in ends {
            self.want(end);
            if !self.pools.can_serve(end.local, end.range, if shared { 2 * streams } else { streams }) {
                return Err(Refusal::Exhausted(end.side));
            }
        }
        let mut taken: Vec<Ready> = Vec::with_capacity(2 * streams);
        let mut pairs = Vec::with_capacity(streams);
        for _ in 0..streams {
            match self.take_pairs(ends, &mut taken) {
                Ok(both) => pairs.push(both),
                Err(refusal) => {
                    self.expect(ends, streams);
                    for ready in taken {
                        self.pools.give_back(ready.pair, Past::Untold);
                    }
                    return Err(refusal);
                }
            }
        }
        Ok(pairs)
    }

    fn expect(&mut self, ends: &[EndPlan; 2], streams: usize) {
        let pool = |end: &EndPlan| (end.local, end.range, discovered(end.advertise));
        let shared = pool(&ends[0]) == pool(&ends[1]);
        for (ip, range, discover) in ends.iter().map(pool) {
            self.pools.expect(ip, range, discover, if shared { 2 * streams } else { streams });
        }
    }

    fn take_pairs(&mut self, ends: &[EndPlan; 2], taken: &mut Vec<Ready>) -> Result<Pairs, Refusal> {
        let mut one = |end: &EndPlan| {
            let ready = self.take(end)?;
            taken.push(ready);
            Ok((ready, advertised(end, &ready).ok_or(Refusal::NotReady)?))
        };
        let (a, b) = (one(&ends[0])?, one(&ends[1])?);
        Ok(Pairs { legs: [a.0, b.0], advertised: [a.1, b.1] })
    }

    /// Makes a new stream and tells a worker. `near`: what the offerer's SDP
    /// says; the other end is not known yet, but may check at once.
    #[expect(clippy::too_many_arguments, reason = "a step takes what it needs by name, not through a blackboard")]
    fn open(
        &mut self,
        session: &mut Session,
        key: Key,
        worker_hint: u64,
        line: usize,
        from: End,
        near: Line,
        pairs: Pairs,
    ) {
        let target = near.target(false);
        let spiral = target.and_then(|t| self.live.get(&t.rtp).copied());
        let worker = spiral.map_or((worker_hint % self.workers.len() as u64) as u8, |(stream, _)| stream.worker);
        let id = self.slot(worker);
        self.live.insert(pairs.advertised[0].rtp, (id, End::A));
        self.live.insert(pairs.advertised[1].rtp, (id, End::B));
        let mut stream = Stream::new(id, pairs);
        stream.targets[from.index()] = target.filter(|_| spiral.is_none());
        stream.said[from.index()] = near;
        stream.ice[from.other().index()] = session.ice[from.other().index()].agent().filter(|_| near.ice.speaks());
        self.by_stream.insert(id, key);
        self.out.push_back(Command::Open {
            stream: id,
            epoch: session.epoch,
            legs: stream.plans(&session.ends),
            timeout: None,
        });
        session.streams[line] = Some(stream);
        if let Some(other) = spiral {
            self.join(session, line, from, other);
        }
    }

    fn take(&mut self, end: &EndPlan) -> Result<Ready, Refusal> {
        self.pools.want(end.local, end.range, discovered(end.advertise));
        self.pools.take(end.local, end.range, discovered(end.advertise)).map_err(|shortage| match shortage {
            Shortage::NotReady => Refusal::NotReady,
            Shortage::Exhausted => Refusal::Exhausted(end.side),
        })
    }

    /// Both halves are known: new targets for every stream. Refused m-lines are
    /// closed once it is known whose answer counts.
    fn follow(&mut self, session: &mut Session, leg: u8, commit: bool) {
        let Some(Agreed { by, offer: offered, answer: answered }) = session.agreed(leg).cloned() else { return };
        session.epoch += 1;
        session.shown = Some(leg);
        for (end, lines) in [(by.other(), &offered), (by, &answered)] {
            if let Some(mark) = lines.media.iter().find_map(|line| line.ice.mark()).filter(|_| commit) {
                session.ice[end.index()].settle(mark);
            }
        }
        session.held = offered.held || answered.held;
        for line in 0..session.streams.len() {
            let offer = offered.media.get(line).copied().unwrap_or_default();
            let answer = answered.media.get(line).copied().unwrap_or_default();
            if session.streams[line].is_none() {
                continue;
            }
            let refused = offer.refused || answer.refused;
            if refused && commit && session.owner.is_some() {
                self.close_stream(session, line);
                continue;
            }
            if !refused {
                // rtcp-mux is accepted from whoever offers it; the other leg has its own (RFC 5761 §5.1.1).
                let muxed = offer.muxed && answer.muxed;
                self.aim(session, line, by.other(), offer.target(offer.muxed));
                self.aim(session, line, by, answer.target(muxed));
                let agents = [&session.ice[0], &session.ice[1]].map(|ours| ours.agent());
                if let Some(stream) = &mut session.streams[line] {
                    stream.muxed[by.other().index()] = offer.muxed;
                    stream.muxed[by.index()] = muxed;
                    for (ice, (agent, end)) in stream.ice.iter_mut().zip(agents.into_iter().zip([End::A, End::B])) {
                        let said = if end == by { answer.ice } else { offer.ice };
                        *ice = agent.filter(|_| said.speaks());
                    }
                }
            }
            self.update(session, line, commit);
            if let Some(stream) = &mut session.streams[line]
                && let Some(proto) = answer.proto.filter(|proto| *proto != stream.proto)
            {
                stream.proto = proto;
                self.out.push_back(Command::Carry { stream: stream.id, proto });
            }
            self.tell_formats(session, line, &offered, &answered);
        }
    }

    /// A 2xx says nothing new: what its sender said before holds now for good.
    fn follow_again(&mut self, session: &mut Session, leg: u8, rearm: bool) {
        if session.agreed(leg).is_some() && session.shown != Some(leg) {
            return self.follow(session, leg, true);
        }
        session.epoch += 1;
        for line in 0..session.streams.len() {
            if session.agreed(leg).is_some_and(|agreed| agreed.refuses(line)) {
                self.close_stream(session, line);
            }
            self.update(session, line, rearm);
        }
    }

    /// Whoever else was heard at the callee's end while it rang is not the peer.
    fn replace(&mut self, session: &Session) {
        let streams = session.streams.iter().flatten();
        self.out.extend(streams.map(|stream| Command::Replace { stream: stream.id, end: End::B }));
    }

    fn update(&mut self, session: &mut Session, line: usize, rearm: bool) {
        let timeout = (session.established && !session.held).then_some(self.timeout);
        if let Some(stream) = &mut session.streams[line] {
            stream.silent = false;
        }
        if let Some(stream) = &session.streams[line] {
            self.out.push_back(Command::Update {
                stream: stream.id,
                epoch: session.epoch,
                legs: session.plans(line, stream),
                timeout,
                rearm,
            });
        }
    }

    /// Points one leg at what its peer's SDP says, or joins it to the stream
    /// of ours that the SDP names.
    fn aim(&mut self, session: &mut Session, line: usize, end: End, target: Option<Target>) {
        let other = target.and_then(|t| self.live.get(&t.rtp).copied());
        let Some(stream) = &mut session.streams[line] else { return };
        match other {
            Some(other) if other.0.worker == stream.id.worker => {
                stream.targets[end.index()] = None;
                if stream.joined[end.index()] != Some(other) {
                    self.join(session, line, end, other);
                }
            }
            Some(_) => stream.targets[end.index()] = target,
            None => {
                stream.targets[end.index()] = target;
                if let Some(partner) = stream.joined[end.index()].take() {
                    let id = stream.id;
                    self.part(id, partner);
                }
            }
        }
    }

    fn join(&mut self, session: &mut Session, line: usize, end: End, other: (StreamId, End)) {
        let Some(stream) = &mut session.streams[line] else { return };
        let own = (stream.id, end);
        if own == other {
            return;
        }
        stream.joined[end.index()] = Some(other);
        if own.0 == other.0 {
            stream.joined[other.1.index()] = Some(own);
        } else if let Some(partner) = self.stream_mut(other.0) {
            partner.joined[other.1.index()] = Some(own);
        }
        self.out.push_back(Command::Join { a: own, b: other });
    }

    fn part(&mut self, id: StreamId, partner: (StreamId, End)) {
        if let Some(stream) = self.stream_mut(partner.0) {
            stream.joined[partner.1.index()] = None;
        }
        self.out.push_back(Command::Part { stream: id });
    }

    /// The stream that a leg was joined to has ended. If nobody tells the other
    /// pass so (its BYE may be lost with a mapping), silence ends it, also on hold.
    fn bereave(&mut self, (id, end): (StreamId, End)) {
        let Some(session) = self.by_stream.get(&id).and_then(|key| self.sessions.get_mut(key)) else { return };
        let (epoch, ends, timeout) = (session.epoch, session.ends.clone(), self.timeout);
        let established = session.established;
        let Some(stream) = session.stream_mut(id) else { return };
        stream.joined[end.index()] = None;
        self.out.push_back(Command::Update {
            stream: id,
            epoch,
            legs: stream.plans(&ends),
            timeout: established.then_some(timeout),
            rearm: false,
        });
    }

    fn stream_mut(&mut self, id: StreamId) -> Option<&mut Stream> {
        let key = self.by_stream.get(&id)?;
        self.sessions.get_mut(key)?.stream_mut(id)
    }

    fn close_stream(&mut self, session: &mut Session, line: usize) {
        let Some(stream) = session.streams.get_mut(line).and_then(Option::take) else { return };
        for target in stream.advertised {
            self.live.remove(&target.rtp);
        }
        for partner in stream.joined.into_iter().flatten() {
            self.bereave(partner);
        }
        self.by_stream.remove(&stream.id);
        let told = stream.told;
        self.closing.insert(stream.id, [(stream.legs[0].pair, told[0]), (stream.legs[1].pair, told[1])]);
        self.out.push_back(Command::Close { stream: stream.id, told });
    }

    /// The worker let go: pairs rest if they carried anything or a peer may send to them, the slot is free.
    fn closed(&mut self, stream: StreamId, used: [bool; 2]) {
        let Some(pairs) = self.closing.remove(&stream) else { return };
        for ((pair, told), used) in pairs.into_iter().zip(used) {
            let past = match (used, told) {
                (true, _) => Past::Used,
                (false, true) => Past::Told,
                (false, false) => Past::Untold,
            };
            self.pools.give_back(pair, past);
        }
        if let Some(slots) = self.workers.get_mut(usize::from(stream.worker)) {
            slots.free.push(stream.slot);
        }
    }

    fn slot(&mut self, worker: u8) -> StreamId {
        let slots = &mut self.workers[usize::from(worker)];
        let slot = slots.free.pop().unwrap_or_else(|| {
            slots.generations.push(0);
            slots.generations.len() as u32 - 1
        });
        let generation = &mut slots.generations[slot as usize];
        *generation = generation.wrapping_add(1);
        StreamId { worker, slot, generation: *generation }
    }
}

/// Does this policy need a mapped address per socket?
fn discovered(advertise: Advertise) -> bool {
    matches!(advertise, Advertise::Stun | Advertise::StunAddress)
}

fn advertised(end: &EndPlan, leg: &Ready) -> Option<Target> {
    let [rtp, rtcp] = leg.mapped.map_or([None; 2], |[rtp, rtcp]| [Some(rtp), Some(rtcp)]);
    Some(Target {
        rtp: Advertised::choose(end.advertise, leg.pair.rtp(), rtp)?.get(),
        rtcp: Advertised::choose(end.advertise, leg.pair.rtcp(), rtcp)?.get(),
    })
}
