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

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use media::silence::Reason;
use media::stats::LegCounts;
use media::{Component, End, Fact, StreamId};
use nat::Side;
use proxy::{Cause, Observed};
use registry::{Call, CallKind, Change, Key, PassId, Record};
use wire::sip::{NameAddr, Status, Uri};

use crate::admin::Shared;
use crate::metrics::Metrics;
use crate::metrics::label::Label as _;
use crate::metrics::table::Name;
pub(crate) use unheard::Unheard;
use writer::{Lines, Writer};

/// How long streams may take to come back.
const LAST: Duration = Duration::from_secs(2);
/// How long lines are gathered for the thread that writes them, and how many octets of them.
const DELAY: Duration = Duration::from_millis(50);
const MOST: usize = 1 << 16;
/// Streams of one call that are written down; an offer has no more, but a call has many offers.
const STREAMS: usize = 16;
/// Octets of a text from outside.
const TEXT: usize = 128;

/// All calls that are not written down yet.
#[derive(Debug)]
pub(crate) struct Records {
    calls: BTreeMap<PassId, Box<Row>>,
    by_stream: BTreeMap<StreamId, PassId>,
    /// Calls that have ended, in that order.
    ending: VecDeque<(Instant, PassId)>,
    /// Whom the call that began last is for: the registry does not know before somebody answers.
    started: Option<(PassId, Box<str>)>,
    writer: Option<Writer>,
    /// Lines that the writer does not have yet, and when it must.
    lines: Lines,
    due: Option<Instant>,
    shared: Arc<Shared>,
}

/// One call.
#[derive(Debug)]
struct Row {
    call_id: Arc<[u8]>,
    /// Who calls: a From value.
    from: Arc<[u8]>,
    /// Who is called: a user part, empty while nobody knows.
    to: Box<str>,
    /// Of the caller's and the callee's leg.
    sides: [Side; 2],
    since: Instant,
    answered: Option<Instant>,
    /// In the order in which they were opened. A tree would have room for eleven at once.
    streams: Vec<(StreamId, Stream)>,
    /// Once something is known of it.
    end: Option<Box<Ending>>,
}

/// The end of a call.
#[derive(Debug, Default)]
struct Ending {
    /// What was said of it before it came.
    status: Option<Status>,
    reason: Option<String>,
    /// siplatch gave that status.
    own: bool,
    came: Option<(Instant, Cause)>,
}

/// One stream of it.
#[derive(Debug, Clone, Default)]
struct Stream {
    legs: [Leg; 2],
    /// The latest figures of both.
    counts: Option<Arc<[LegCounts; 2]>>,
    /// These are the last figures.
    closed: bool,
}

/// One leg of that.
#[derive(Debug, Clone, Copy, Default)]
struct Leg {
    /// Highest jitter of the reports.
    jitter: Duration,
    source: Option<(IpAddr, u16)>,
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
            lines: Lines::default(),
            due: None,
            shared: Arc::clone(shared),
        }
    }

    /// A mutation of the registry.
    pub(crate) fn change(&mut self, change: &Change) {
        let call = match change {
            Change::Put(Record::Call(call)) => call,
            Change::Delete(Key::Call(id)) => return self.gone(*id),
            Change::Put(Record::Binding(_)) | Change::Delete(Key::Binding(_)) => return,
        };
        if call.kind != CallKind::Invite {
            return;
        }
        let proxy = &self.shared.settings().proxy;
        let sides = [proxy.side(call.caller.flow.get().listener), proxy.side(call.onward.get().listener)];
        let started = self.started.take_if(|(started, _)| *started == call.id);
        let row = self.calls.entry(call.id).or_insert_with(|| Box::new(Row::of(call, sides)));
        if let Some((_, to)) = started {
            row.to = to;
        }
        if row.ended().is_some() {
            return;
        }
        row.sides = sides;
        row.answered = call.answered;
        for stream in call.streams.iter() {
            if row.streams.len() < STREAMS && row.streams.iter().all(|(known, _)| known != stream) {
                row.streams.reserve_exact(1);
                row.streams.push((*stream, Stream::default()));
                self.by_stream.insert(*stream, call.id);
            }
        }
        if let Some(callee) = call.callees.first().filter(|_| row.to.is_empty()) {
            row.to = user(&callee.identity).into();
        }
    }

    /// An event of the signalling machine. Most are for the metrics only.
    pub(crate) fn observe(&mut self, now: Instant, event: &Observed) {
        if let Observed::CallEnding { call, status, reason, own } = event {
            if let Some(row) = self.calls.get_mut(call) {
                let end = row.end.get_or_insert_default();
                end.status = status.or(end.status);
                end.reason = reason.as_deref().map(bounded).map(str::to_owned).or(end.reason.take());
                end.own |= own;
            }
        } else if let Observed::CallStarted { call, from: _, to, session: _ } = event {
            self.started = Some((*call, user(to.as_bytes()).into()));
        } else if let Observed::CallEnded { call, cause, answered: _ } = event
            && let Some(row) = self.calls.get_mut(call)
        {
            // What the registry says of its end comes behind.
            row.end.get_or_insert_default().came = Some((now, *cause));
            self.ending.push_back((now, *call));
        }
    }

    /// The registry has it no more: it has ended, or it was nothing to be written down.
    fn gone(&mut self, call: PassId) {
        let Some(row) = self.calls.get(&call) else { return };
        if let Some((ended, _)) = row.ended() {
            return self.settle(call, ended, false);
        }
        if let Some(row) = self.calls.remove(&call) {
            row.streams.iter().for_each(|(stream, _)| _ = self.by_stream.remove(stream));
        }
    }

    /// News of a media worker.
    pub(crate) fn fact(&mut self, now: Instant, fact: &Fact) {
        match fact {
            Fact::Latched { stream, epoch: _, end, component: Component::Rtp, side: _, source, moved } => {
                if let Some((_, stream)) = self.stream(*stream) {
                    let leg = &mut stream.legs[end.index()];
                    leg.source = Some((source.0.ip(), source.0.port()));
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
        let found = row.streams.iter_mut().find(|(known, _)| *known == stream);
        Some((&row.sides, found.map(|(_, stream)| stream)?))
    }

    fn count(&mut self, id: StreamId, counts: &Arc<[LegCounts; 2]>) {
        if let Some((_, stream)) = self.stream(id) {
            let before = stream.counts.replace(Arc::clone(counts));
            for end in [End::A, End::B] {
                let (leg, quality) = (&mut stream.legs[end.index()], &counts[end.index()].quality);
                if quality.bye && !before.as_ref().is_some_and(|before| before[end.index()].quality.bye) {
                    tracing::debug!(stream = ?id, ?end, "its RTCP says BYE");
                }
                leg.jitter = leg.jitter.max(quality.jitter);
            }
        }
    }

    /// A stream has given its last figures, or will never.
    fn close(&mut self, now: Instant, stream: StreamId) {
        if let Some((sides, found)) = self.stream(stream) {
            found.closed = true;
            let (sides, counts) = (*sides, found.counts.clone());
            if let Some(counts) = counts {
                measure(&self.shared.metrics, sides, &counts);
            }
        }
        if let Some(call) = self.by_stream.remove(&stream) {
            self.settle(call, now, false);
        }
    }

    /// Writes a call down, if all is known or there is no more to wait for.
    fn settle(&mut self, call: PassId, now: Instant, late: bool) {
        let done = |row: &Row| row.ended().is_some() && (late || row.streams.iter().all(|(_, stream)| stream.closed));
        if !self.calls.get(&call).is_some_and(|row| done(row)) {
            return;
        }
        let Some(row) = self.calls.remove(&call) else { return };
        for (stream, _) in &row.streams {
            self.by_stream.remove(stream);
        }
        if self.writer.is_some() && self.shared.settings().call_records {
            if self.lines.count == 0 {
                self.lines.text.reserve(MOST / 8);
            }
            line::write(call, &row, now, &mut self.lines.text);
            self.lines.count += 1;
            self.due.get_or_insert(now + DELAY);
            if self.lines.text.len() >= MOST {
                self.hand_over();
            }
        }
    }

    /// Gives the writer what it does not have yet.
    fn hand_over(&mut self) {
        self.due = None;
        if let Some(writer) = self.writer.as_ref().filter(|_| self.lines.count > 0) {
            writer.write(std::mem::take(&mut self.lines), &self.shared.metrics);
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let late = self.ending.front().map(|(at, _)| *at + LAST);
        [late, self.due].into_iter().flatten().min()
    }

    /// Writes down what has waited for long enough.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        while let Some((_, call)) = self.ending.pop_front_if(|(at, _)| *at + LAST <= now) {
            self.settle(call, now, true);
        }
        if self.due.is_some_and(|at| at <= now) {
            self.hand_over();
        }
    }

    /// Writes down all that has ended, and waits for the disk, but not for ever.
    pub(crate) async fn finish(mut self, now: Instant) {
        for (_, call) in std::mem::take(&mut self.ending) {
            self.settle(call, now, true);
        }
        self.hand_over();
        if let Some(writer) = self.writer.take() {
            writer.finish().await;
        }
    }
}

impl Row {
    fn of(call: &Call, sides: [Side; 2]) -> Self {
        Self {
            call_id: Arc::clone(&call.call_id),
            from: Arc::clone(&call.caller.identity),
            to: Box::default(),
            sides,
            since: call.since,
            answered: call.answered,
            streams: Vec::new(),
            end: None,
        }
    }

    /// When it ended, and why.
    fn ended(&self) -> Option<(Instant, Cause)> {
        self.end.as_ref()?.came
    }
}

/// Figures of a stream that has ended, for the histograms.
fn measure(metrics: &Metrics, sides: [Side; 2], counts: &[LegCounts; 2]) {
    let qualities = [&counts[0].quality, &counts[1].quality];
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
fn user(address: &[u8]) -> Cow<'_, str> {
    text(plain_user(address).unwrap_or_else(|| {
        let uri = NameAddr::parse(address).ok().and_then(|address| Uri::parse(address.uri).ok());
        uri.and_then(|uri| uri.user.or(uri.host.map(|host| host.0))).unwrap_or_default()
    }))
}

/// The same of what most addresses are, `<sip:user@host>` with or without what
/// stands around the URI: letters, digits and single marks between them.
fn plain_user(address: &[u8]) -> Option<&[u8]> {
    let bare = address.strip_prefix(b"<").unwrap_or(address);
    let rest = bare.strip_prefix(b"sip:")?;
    let at = rest.iter().position(|octet| PLAIN[usize::from(*octet)] == 0)?;
    let (user, host) = (&rest[..at], rest[at..].strip_prefix(b"@")?);
    let mut last = b'.';
    let end = host.iter().position(|octet| {
        let inside = match PLAIN[usize::from(*octet)] {
            LETTER => true,
            BETWEEN => PLAIN[usize::from(last)] == LETTER,
            _ => false,
        };
        last = if inside { *octet } else { last };
        !inside
    });
    let after = &host[end.unwrap_or(host.len())..];
    let whole = match bare.len() == address.len() {
        true => after.is_empty(),
        false => after == b">" || after.starts_with(b">;"),
    };
    (whole && !user.is_empty() && last.is_ascii_alphanumeric()).then_some(user)
}

/// A letter or digit.
const LETTER: u8 = 1;
/// What stands between two of those in a host.
const BETWEEN: u8 = 2;
/// What else a plain user may have.
const MARK: u8 = 3;

/// What octets of a plain address are; 0 for none of it.
static PLAIN: [u8; 256] = {
    let mut table = [0; 256];
    let mut octet = 0;
    while octet < 256 {
        table[octet] = match octet as u8 {
            b'.' | b'-' => BETWEEN,
            b'_' | b'+' => MARK,
            other => other.is_ascii_alphanumeric() as u8,
        };
        octet += 1;
    }
    table
};

/// What came from outside, as text, and as much of it as a line has room for.
fn text(octets: &[u8]) -> Cow<'_, str> {
    match String::from_utf8_lossy(octets) {
        Cow::Borrowed(text) => Cow::Borrowed(bounded(text)),
        Cow::Owned(text) => Cow::Owned(bounded(&text).to_owned()),
    }
}

fn bounded(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT)]
}
