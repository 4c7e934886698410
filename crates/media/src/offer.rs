//! Offers and answers (RFC 3264, RFC 6337): an SDP body in; edits of that
//! body and commands to the media workers out.
//!
//! A *session* belongs to one branch of one pass of a call: every m-line that
//! is relayed has a stream with a port pair facing each end, kept over
//! re-INVITEs. Where the branch is forked behind us, each callee has offers
//! and answers of its own, told apart by its leg (0 is the INVITE itself,
//! which all of them answer); the one whose 2xx comes first owns the streams.
//! An offer that is refused leaves the former path untouched; a completed
//! offer/answer re-arms the latches. SDP that names a live port of our own is a
//! spiral, and the two streams are joined inside.
//!
//! Must not: decide which message carries an offer (the proxy knows), touch
//! sockets, or write an address of one side into a body for the other.

mod audit;
mod body;
mod crypto;
#[cfg(test)]
mod crypto_tests;
mod follow;
mod formats;
mod ice;
#[cfg(test)]
mod ice_tests;
mod moved;
#[cfg(test)]
mod moved_tests;
mod pairs;
mod session;
mod spiral;
mod tcp;
#[cfg(test)]
mod tcp_tests;
mod terms;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use body::{As, relayed, signalled, write};
use ice::offered_on;
use nat::MediaMode;
use pairs::{Slots, discovered};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;
use session::{Agreed, Line, Pairs, Pending, Session, Stream};
pub use terms::{EndPlan, Key, News, Refusal, Settles, Text};
use wire::sdp::Body;
use wire::{Edit, Malformed};

use crate::command::{Place, place};
use crate::ports::{self, Pools};
use crate::{Command, End, Fact, PortPair, RangeId, StreamId, Target, srtp};

/// New streams of one offer at most; further lines are passed on as refused (port 0).
const MOST_NEW: usize = 8;

/// All sessions, and the pools their ports come from.
#[derive(Debug)]
pub struct Offers {
    pools: Pools,
    timeout: Duration,
    workers: Vec<Slots>,
    sessions: BTreeMap<Key, Box<Session>>,
    by_stream: BTreeMap<StreamId, Key>,
    /// Pairs whose worker has not let go yet, and which of them a peer was told.
    closing: BTreeMap<StreamId, [(PortPair, bool); 2]>,
    /// Those that were closing at the last audit.
    closed_late: BTreeSet<StreamId>,
    /// Advertised addresses of live legs: what a spiral's SDP names.
    live: BTreeMap<Place, (StreamId, End)>,
    out: VecDeque<Command>,
    /// Whom the sockets of a call ask where they are seen.
    servers: Vec<SocketAddr>,
    /// For the credentials of ICE and transactions of STUN.
    rng: ChaCha20Rng,
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
            servers: Vec::new(),
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
        let sdp = parse(text.body)?;
        let mut read = self.read(&sdp, &ends[from.index()])?;
        let fresh = !self.sessions.contains_key(&key);
        let mut session = self.sessions.remove(&key).unwrap_or_else(|| Box::new(Session::new(ends.clone())));
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
        read.body = discovered(session.ends[from.other().index()].advertise).then(|| text.body.into());
        let lines = &read.media;
        if let Some(mark) = lines.iter().find_map(|line| line.ice.mark()) {
            session.ice[from.index()].offered(mark, &mut self.rng);
        }
        if lines.iter().enumerate().any(|(line, said)| offered_on(said.ice, &session.ends[from.other().index()], line))
        {
            session.ice[from.other().index()].ready(&mut self.rng);
        }
        for (line, pairs) in opened.iter().zip(taken) {
            let keys = read.crypto.get(*line).map(crypto::Said::offered).unwrap_or_default();
            self.open(&mut session, key, worker_hint, *line, from, (lines[*line].clone(), keys), pairs);
        }
        session.said(from, lines);
        write(&session, from.other(), As::Offer, text.whole, &sdp, edit);
        self.ask_tcp(&mut session, from);
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
        let sdp = parse(text.body)?;
        let mut answered = self.read(&sdp, &ends[from.index()])?;
        let Some(mut session) = self.sessions.remove(&key) else {
            // Nothing was offered through us: every line is refused.
            write(&Session::new(ends), from.other(), As::Answer, text.whole, &sdp, edit);
            return Ok(());
        };
        answered.body = discovered(ends[from.other().index()].advertise).then(|| text.body.into());
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
            session.agree(leg, Agreed { by: from, offer, answer: Arc::new(answered) });
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
        if answers {
            self.hush(key);
        }
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
        if answers {
            self.hush(key);
        }
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
            for line in pending.opened.iter().copied() {
                self.close_stream(&mut session, line);
            }
            self.unask_tcp(&mut session);
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
        let watched = |s: &Session| s.established && !s.held && s.streams.iter().flatten().any(|t| !t.is_tcp());
        self.sessions.range(range).any(|(_, session)| watched(session))
    }

    /// Whose a stream is.
    pub fn key_of(&self, stream: StreamId) -> Option<Key> {
        self.by_stream.get(&stream).copied()
    }

    /// The streams of a pass, for its record.
    pub fn streams(&self, pass: u64) -> impl Iterator<Item = StreamId> + Clone {
        let range = Key { pass, branch: 0 }..=Key { pass, branch: u16::MAX };
        self.sessions.range(range).flat_map(|(_, s)| s.streams.iter().flatten().map(|t| t.id))
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
                session.streams.iter().flatten().filter(|s| !s.is_tcp()).all(|s| s.silent).then_some(News::Dead(key))
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
            Fact::Mapped { stream, end, component, mapped } => self.found(*stream, *end, *component, *mapped),
            Fact::Latched { .. }
            | Fact::Unheard { .. }
            | Fact::Heard { .. }
            | Fact::Spliced { .. }
            | Fact::Totals(_) => None,
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
        ends.iter().any(|end| end.media == MediaMode::SignallingOnly) && !self.sessions.contains_key(&key)
    }

    /// What a body of this end says, unless it names a port of ours.
    fn read(&self, sdp: &Body<'_>, end: &EndPlan) -> Result<Pending, Refusal> {
        let read = Pending::read(sdp, end);
        for (media, line) in sdp.media.iter().zip(&read.media) {
            self.guard(if tcp::is(media.protocol) { signalled(sdp, media, end) } else { line.target(false) })?;
        }
        Ok(read)
    }

    /// A target that is a port of ours but no live leg is refused.
    fn guard(&self, target: Option<Target>) -> Result<(), Refusal> {
        match target {
            Some(target) if !self.live.contains_key(&place(target.rtp())) && self.pools.owns(target.rtp()) => {
                Err(Refusal::OwnPort)
            }
            Some(_) | None => Ok(()),
        }
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
        (near, keys): (Line, Arc<[srtp::Key]>),
        pairs: Pairs,
    ) {
        let target = near.target(false);
        let spiral = target.and_then(|t| self.live.get(&place(t.rtp())).copied());
        let worker = spiral.map_or((worker_hint % self.workers.len() as u64) as u8, |(stream, _)| stream.worker);
        let id = self.slot(worker);
        self.live.insert(place(pairs.advertised[0].rtp()), (id, End::A));
        self.live.insert(place(pairs.advertised[1].rtp()), (id, End::B));
        let mut stream = Stream::new(id, pairs);
        stream.targets[from.index()] = target.filter(|_| spiral.is_none());
        stream.srtp[from.index()] = keys;
        stream.tcp = near.tcp.as_ref().map(|_| Box::new(tcp::State::new(true)));
        let told = offered_on(near.ice, &session.ends[from.other().index()], line);
        stream.said[from.index()] = near.spoken();
        stream.ice[from.other().index()] = session.ice[from.other().index()].agent().filter(|_| told);
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

    fn stream_mut(&mut self, id: StreamId) -> Option<&mut Stream> {
        let key = self.by_stream.get(&id)?;
        self.sessions.get_mut(key)?.stream_mut(id)
    }

    fn close_stream(&mut self, session: &mut Session, line: usize) {
        let Some(stream) = session.streams.get_mut(line).and_then(Option::take) else { return };
        for target in stream.advertised {
            self.live.remove(&place(target.rtp()));
        }
        for partner in stream.joined.into_iter().flatten() {
            self.bereave(partner);
        }
        self.by_stream.remove(&stream.id);
        let told = stream.told;
        self.closing.insert(stream.id, [(stream.legs[0].pair, told[0]), (stream.legs[1].pair, told[1])]);
        self.out.push_back(Command::Close { stream: stream.id, told });
    }
}

/// Where a body cannot be read, the number of that line is told.
#[inline]
fn parse(body: &[u8]) -> Result<Body<'_>, Refusal> {
    match Body::parse(body) {
        Ok(sdp) => Ok(sdp),
        Err(Malformed { at, what }) => {
            let before = body.get(..at).unwrap_or(body);
            Err(Refusal::Malformed { line: 1 + before.iter().filter(|byte| **byte == b'\n').count(), what })
        }
    }
}
