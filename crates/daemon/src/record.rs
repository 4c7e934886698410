//! The end record: one line per call, written when all is known of it. Made
//! from what the loop sees anyway: changes of the registry, facts of the
//! workers, events of the signalling machine.
//!
//! A call that has ended waits until its streams have come back with their
//! last figures, for a while at most. Must not wait for a disk: lines go to a
//! thread by a queue that has an end, and where it is full they are counted and
//! dropped.

mod line;
#[cfg(test)]
mod tests;
mod unheard;
mod writer;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use media::silence::Reason;
use media::stats::LegCounts;
use media::{Component, End, Fact, StreamId};
use nat::{Side, Source};
use proxy::{Cause, Observed};
use registry::{Call, CallKind, Change, PassId, Record};
use wire::sip::{NameAddr, Status, Uri};

use crate::admin::Shared;
use crate::metrics::Metrics;
use crate::metrics::label::Label as _;
use crate::metrics::table::Name;
pub(crate) use unheard::Unheard;
use writer::Writer;

/// How long streams may take to come back.
const LAST: Duration = Duration::from_secs(2);
/// Streams of one call that are written down; an offer has no more, but a call has many offers.
const STREAMS: usize = 16;
/// Octets of a text from outside.
const TEXT: usize = 128;

/// All calls that are not written down yet.
#[derive(Debug)]
pub(crate) struct Records {
    calls: BTreeMap<PassId, Row>,
    by_stream: BTreeMap<StreamId, PassId>,
    /// Calls that have ended, in that order.
    ending: VecDeque<(Instant, PassId)>,
    /// Whom the call that began last is for: the registry does not know before somebody answers.
    started: Option<(PassId, String)>,
    writer: Option<Writer>,
    shared: Arc<Shared>,
}

/// One call.
#[derive(Debug)]
struct Row {
    call_id: String,
    from: String,
    to: String,
    /// Of the caller's and the callee's leg.
    sides: [Side; 2],
    since: Instant,
    answered: Option<Instant>,
    streams: BTreeMap<StreamId, Stream>,
    /// What was said of its end before it came.
    status: Option<Status>,
    reason: Option<String>,
    /// siplatch gave that status.
    own: bool,
    ended: Option<(Instant, Cause)>,
}

/// One stream of it.
#[derive(Debug, Clone, Default)]
struct Stream {
    legs: [Leg; 2],
    /// These are the last figures.
    closed: bool,
}

/// One leg of that.
#[derive(Debug, Clone, Copy, Default)]
struct Leg {
    counts: LegCounts,
    /// Highest jitter of the reports.
    jitter: Duration,
    source: Option<Source>,
    moves: u32,
    silences: u32,
    /// Of the last silence.
    reason: Option<Reason>,
}

impl Records {
    /// Lines go to `calls.jsonl` in that directory; without one only the metrics are kept.
    pub(crate) fn new(shared: &Arc<Shared>, dir: Option<&Path>) -> Self {
        let writer = dir.and_then(|dir| match Writer::start(dir, shared) {
            Ok(writer) => Some(writer),
            Err(error) => {
                tracing::warn!(%error, "records of calls are not written: no thread for them");
                None
            }
        });
        Self {
            calls: BTreeMap::new(),
            by_stream: BTreeMap::new(),
            ending: VecDeque::new(),
            started: None,
            writer,
            shared: Arc::clone(shared),
        }
    }

    /// A mutation of the registry.
    pub(crate) fn change(&mut self, change: &Change) {
        let Change::Put(Record::Call(call)) = change else { return };
        if call.kind != CallKind::Invite {
            return;
        }
        let proxy = &self.shared.settings().proxy;
        let sides = [proxy.side(call.caller.flow.listener), proxy.side(call.onward.listener)];
        let started = self.started.take_if(|(started, _)| *started == call.id);
        let row = self.calls.entry(call.id).or_insert_with(|| Row::of(call, sides));
        if let Some((_, to)) = started {
            row.to = to;
        }
        if row.ended.is_some() {
            return;
        }
        row.sides = sides;
        row.answered = call.answered;
        for stream in &call.streams {
            if row.streams.len() < STREAMS && !row.streams.contains_key(stream) {
                row.streams.insert(*stream, Stream::default());
                self.by_stream.insert(*stream, call.id);
            }
        }
        if let Some(callee) = call.callees.first().filter(|_| row.to.is_empty()) {
            row.to = user(&callee.identity);
        }
    }

    /// An event of the signalling machine. Most are for the metrics only.
    pub(crate) fn observe(&mut self, now: Instant, event: &Observed) {
        if let Observed::CallEnding { call, status, reason, own } = event {
            if let Some(row) = self.calls.get_mut(call) {
                row.status = status.or(row.status);
                row.reason = reason.as_deref().map(bounded).or(row.reason.take());
                row.own |= own;
            }
        } else if let Observed::CallStarted { call, from: _, to, session: _ } = event {
            self.started = Some((*call, user(to.as_bytes())));
        } else if let Observed::CallEnded { call, cause, answered: _ } = event {
            if let Some(row) = self.calls.get_mut(call) {
                row.ended = Some((now, *cause));
                self.ending.push_back((now, *call));
            }
            self.settle(*call, now, false);
        }
    }

    /// News of a media worker.
    pub(crate) fn fact(&mut self, now: Instant, fact: &Fact) {
        match fact {
            Fact::Latched { stream, epoch: _, end, component: Component::Rtp, side: _, source, moved } => {
                if let Some((_, stream)) = self.stream(*stream) {
                    let leg = &mut stream.legs[end.index()];
                    leg.source = Some(*source);
                    leg.moves += u32::from(*moved);
                }
            }
            Fact::Counted { stream, legs } => {
                self.count(*stream, legs);
            }
            Fact::Closed { stream, legs } => {
                self.count(*stream, legs);
                self.close(now, *stream);
            }
            Fact::Failed { stream } => self.close(now, *stream),
            Fact::Unheard { stream, epoch: _, end, silence } => {
                if let Some((_, stream)) = self.stream(*stream) {
                    let leg = &mut stream.legs[end.index()];
                    leg.silences += 1;
                    leg.reason = Some(silence.reason);
                }
            }
            Fact::Latched { component: Component::Rtcp, .. }
            | Fact::Silent { .. }
            | Fact::Heard { .. }
            | Fact::Spliced { .. }
            | Fact::Mapped { .. }
            | Fact::Totals(_) => {}
        }
    }

    fn stream(&mut self, stream: StreamId) -> Option<(&[Side; 2], &mut Stream)> {
        let row = self.calls.get_mut(self.by_stream.get(&stream)?)?;
        Some((&row.sides, row.streams.get_mut(&stream)?))
    }

    fn count(&mut self, id: StreamId, counts: &[LegCounts; 2]) {
        if let Some((_, stream)) = self.stream(id) {
            for ((leg, counts), end) in stream.legs.iter_mut().zip(counts).zip([End::A, End::B]) {
                if counts.quality.bye && !leg.counts.quality.bye {
                    tracing::debug!(stream = ?id, ?end, "its RTCP says BYE");
                }
                leg.counts = *counts;
                leg.jitter = leg.jitter.max(counts.quality.jitter);
            }
        }
    }

    /// A stream has given its last figures, or will never.
    fn close(&mut self, now: Instant, stream: StreamId) {
        if let Some((sides, found)) = self.stream(stream) {
            found.closed = true;
            let (sides, legs) = (*sides, found.legs);
            measure(&self.shared.metrics, sides, &legs);
        }
        if let Some(call) = self.by_stream.remove(&stream) {
            self.settle(call, now, false);
        }
    }

    /// Writes a call down, if all is known or there is no more to wait for.
    fn settle(&mut self, call: PassId, now: Instant, late: bool) {
        let done = |row: &Row| row.ended.is_some() && (late || row.streams.values().all(|stream| stream.closed));
        if !self.calls.get(&call).is_some_and(done) {
            return;
        }
        let Some(row) = self.calls.remove(&call) else { return };
        for stream in row.streams.keys() {
            self.by_stream.remove(stream);
        }
        if let Some(writer) = self.writer.as_ref().filter(|_| self.shared.settings().call_records) {
            writer.write(line::text(call, &row, now), &self.shared.metrics);
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.ending.front().map(|(at, _)| *at + LAST)
    }

    /// Writes down what has waited for long enough.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        while let Some((_, call)) = self.ending.pop_front_if(|(at, _)| *at + LAST <= now) {
            self.settle(call, now, true);
        }
    }

    /// Writes down all that has ended, and waits for the disk, but not for ever.
    pub(crate) async fn finish(mut self, now: Instant) {
        for (_, call) in std::mem::take(&mut self.ending) {
            self.settle(call, now, true);
        }
        if let Some(writer) = self.writer.take() {
            writer.finish().await;
        }
    }
}

impl Row {
    fn of(call: &Call, sides: [Side; 2]) -> Self {
        Self {
            call_id: bounded(&String::from_utf8_lossy(&call.call_id)),
            from: user(&call.caller.identity),
            to: String::new(),
            sides,
            since: call.since,
            answered: call.answered,
            streams: BTreeMap::new(),
            status: None,
            reason: None,
            own: false,
            ended: None,
        }
    }
}

/// Figures of a stream that has ended, for the histograms.
fn measure(metrics: &Metrics, sides: [Side; 2], legs: &[Leg; 2]) {
    let qualities = [&legs[0].counts.quality, &legs[1].counts.quality];
    for end in [End::A, End::B] {
        let (quality, side) = (qualities[end.index()], [sides[end.index()].label()]);
        if quality.received > 0 {
            metrics.measure(Name::MediaLoss, &side, quality.loss());
            metrics.measure(Name::MediaJitter, &side, quality.jitter.as_secs_f64());
        }
        if let Some(way) = quality.round_trip {
            metrics.measure(Name::MediaRoundTrip, &side, way.as_secs_f64());
        }
        if let Some(score) = media::quality::score(qualities, end) {
            metrics.measure(Name::MediaScore, &side, score);
        }
    }
}

/// Who an address is: its user part, without a password; where it has none, its host.
fn user(address: &[u8]) -> String {
    let uri = NameAddr::parse(address).ok().and_then(|address| Uri::parse(address.uri).ok());
    let who = uri.and_then(|uri| uri.user.or(uri.host.map(|host| host.0))).unwrap_or_default();
    bounded(&String::from_utf8_lossy(who))
}

/// As much of a text from outside as a line has room for.
fn bounded(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT)].to_owned()
}
