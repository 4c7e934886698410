//! Deadlines: when a worker looks at a stream without a packet asking for it.
//!
//! Each stream has one timer, set to the earliest of what it waits for: a
//! packet of its own to send ([`crate::opening`]), the silence of its peers,
//! its figures. Packets only move deadlines later, so none of them touches a
//! timer: what comes up too early is looked at, and set again.
//!
//! Must not run per packet, nor end a call: silence is a fact, the control half decides.

use std::cmp::Reverse;
use std::time::Instant;

use crate::relay::{COUNTED, Output, SOCKETS, Stream, TOTALS};
use crate::stats::Totals;
use crate::{Component, End, Fact, Relay, Slot, StreamId};

impl Relay {
    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.handle_timeout_after(now, |_, _| {});
    }

    /// The same, where packets pass by holds: `recall` is called for each
    /// stream that is due, before it is looked at, to say what has passed.
    pub fn handle_timeout_after(&mut self, now: Instant, mut recall: impl FnMut(&mut Self, StreamId)) {
        while let Some(&Reverse((at, id))) = self.timers.peek()
            && at <= now
        {
            self.timers.pop();
            if let Some(stream) = self.stream_mut(id)
                && stream.due == Some(at)
            {
                stream.due = None;
                recall(self, id);
                self.serve(now, id);
            }
        }
        if self.totals_due.is_some_and(|due| due <= now) {
            if self.totals != Totals::default() {
                let totals = std::mem::take(&mut self.totals);
                self.outputs.push_back(Output::Fact(Fact::Totals(Box::new(totals))));
            }
            self.totals_due = now.checked_add(TOTALS).filter(|_| self.live > 0);
        }
    }

    /// When [`Relay::handle_timeout`] wants to be called; it may then find nothing to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let stream = self.timers.peek().map(|Reverse((at, _))| *at);
        stream.into_iter().chain(self.totals_due).min()
    }

    /// Everything that is due for one stream.
    fn serve(&mut self, now: Instant, id: StreamId) {
        for (end, component) in SOCKETS {
            self.open_nat(now, Slot::of(id.slot, end, component));
            self.keep_alive(now, Slot::of(id.slot, end, component));
            self.consent(now, Slot::of(id.slot, end, component));
        }
        self.listen(now, id);
        let last = self.last_heard(id.slot);
        let Some(stream) = self.stream_mut(id) else { return };
        let epoch = stream.epoch;
        let silent = stream.silent_at(last).is_some_and(|at| at <= now);
        if silent {
            stream.reported = last;
        }
        let counted = stream.counted_due.is_some_and(|at| at <= now);
        if counted {
            stream.counted_due = now.checked_add(COUNTED);
        }
        if silent {
            self.report(Fact::Silent { stream: id, epoch });
        }
        if counted {
            let legs = self.counts(id.slot);
            self.report(Fact::Counted { stream: id, legs });
        }
        self.schedule(id);
    }

    /// Sets the stream's timer to its earliest deadline. What cannot be that is not looked into.
    pub(crate) fn schedule(&mut self, id: StreamId) {
        let Some(stream) = self.stream(id) else { return };
        let known = stream.due;
        let mut first = First([known, stream.counted_due].into_iter().flatten().min());
        for (end, component) in SOCKETS {
            let on = Slot::of(id.slot, end, component);
            let Some(lane) = self.lane(on) else { continue };
            match &lane.opening {
                Some(opening) => first.or(Some(opening.due)),
                None if first.beats(lane.sent.checked_add(self.config.keepalive_interval)) => {}
                None => first.or(self.keepalive_due(on)),
            }
            first.or(self.consent_ends(on));
        }
        if let Some(timeout) = stream.timeout {
            [End::A, End::B].into_iter().for_each(|end| first.or(self.silence_due(id, end)));
            if !first.beats(stream.since.checked_add(timeout)) {
                first.or(stream.silent_at(self.last_heard(id.slot)));
            }
        }
        if let First(Some(due)) = first
            && first.0 != known
            && let Some(stream) = self.stream_mut(id)
        {
            stream.due = first.0;
            self.timers.push(Reverse((due, id)));
        }
    }

    /// The last packet that either peer of a stream sent; in a spiral, of the legs behind the join.
    fn last_heard(&self, slot: u32) -> Option<Instant> {
        let ends = [End::A, End::B].into_iter().filter_map(|end| self.far(slot, end));
        let lanes = ends.flat_map(|(slot, end)| {
            [Component::Rtp, Component::Rtcp].into_iter().filter_map(move |c| self.lane(Slot::of(slot, end, c)))
        });
        lanes.map(|lane| lane.latch.last_heard()).max()
    }
}

/// The first of several moments.
#[derive(Debug, Clone, Copy)]
struct First(Option<Instant>);

impl First {
    /// It comes no later than this one.
    fn beats(self, at: Option<Instant>) -> bool {
        at.is_none_or(|at| self.0.is_some_and(|first| first <= at))
    }

    /// This one counts too.
    fn or(&mut self, at: Option<Instant>) {
        if !self.beats(at) {
            self.0 = at;
        }
    }
}

impl Stream {
    /// When its silence is to be reported: once, and never on hold.
    fn silent_at(&self, last: Option<Instant>) -> Option<Instant> {
        let last = last.filter(|_| self.reported != last)?;
        last.max(self.since).checked_add(self.timeout?)
    }
}
