//! The task of one splice: orders, two legs, and the octets between them.
//!
//! What one end says before the other is there waits. Half-closing passes on;
//! when one end is gone the other one is ended, too, and both may connect again
//! after another offer and answer. There is no limit for silence: a call ends its splice.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use media::{End, Fact, Part, Splice, SpliceCounts, StreamId};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::time::{Sleep, sleep};

use super::leg::Leg;
use super::link::Link;
use super::{Means, Order};
use crate::Report;

/// What happened is told this often.
const TOLD: Duration = Duration::from_secs(1);
/// Reads and writes in a turn; other splices have theirs, too.
const MOVES: usize = 64;
/// Turns of taking connections in and obeying, likewise.
const TURNS: usize = 4;

/// One splice.
pub(super) struct Task {
    stream: StreamId,
    orders: UnboundedReceiver<Order>,
    reports: UnboundedSender<Report>,
    legs: [Leg; 2],
    round: u32,
    turn: u32,
    asked: Option<End>,
    /// Octets have passed.
    passed: bool,
    tell: Option<Pin<Box<Sleep>>>,
}

impl Task {
    pub(super) fn new(stream: StreamId, orders: UnboundedReceiver<Order>, reports: UnboundedSender<Report>) -> Self {
        let (legs, round, turn, asked, passed) = (Default::default(), 0, 0, None, false);
        Self { stream, orders, reports, legs, round, turn, asked, passed, tell: None }
    }

    /// Until it is ordered no more.
    pub(super) async fn run(mut self) {
        std::future::poll_fn(|cx| self.poll(cx)).await;
        self.tell();
    }

    /// Takes connections in, **then** obeys, **then** judges them: an order is given before its SDP leaves, so who connects
    /// because of that SDP is never judged without it.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut idle = false;
        for _ in 0..TURNS {
            idle = self.legs.each_mut().map(|leg| leg.poll_arrivals(cx)) == [false; 2];
            loop {
                match self.orders.poll_recv(cx) {
                    Poll::Ready(Some(order)) => {
                        idle = false;
                        self.obey(order);
                    }
                    Poll::Ready(None) => return Poll::Ready(()),
                    Poll::Pending => break,
                }
            }
            for end in [End::A, End::B] {
                self.legs[end.index()].poll(cx, self.asked == Some(end));
            }
            if idle {
                break;
            }
        }
        if !idle {
            cx.waker().wake_by_ref();
        }
        self.pass(cx);
        self.poll_tell(cx);
        Poll::Pending
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Plan(splice, means) => self.follow(*splice, means),
            Order::Replace(end) => self.dismiss(end),
            Order::Join(end, far) => {
                let asked = self.asked == Some(end);
                self.legs[end.index()].take(Link::new(far, None), asked);
            }
        }
    }

    fn follow(&mut self, splice: Splice, means: [Means; 2]) {
        let Splice { legs, round, turn, asked } = splice;
        let (anew, again) = (self.round != round && self.round != 0, self.turn != turn);
        (self.round, self.turn) = (round, turn);
        let answered = std::mem::replace(&mut self.asked, asked);
        if anew || again {
            self.legs.iter_mut().for_each(|leg| leg.renew(anew));
            self.passed &= !anew;
        }
        let shut = legs.iter().any(|leg| leg.part == Part::Shut);
        for ((end, plan), means) in [End::A, End::B].into_iter().zip(legs).zip(means) {
            // Whoever was taken before it was known who may connect.
            let stranger = answered == Some(end)
                && self.legs[end.index()]
                    .link
                    .as_ref()
                    .is_some_and(|link| link.from.is_some_and(|ip| !plan.sources.admit(ip)));
            if stranger {
                self.end(end);
            }
            self.legs[end.index()].follow(plan, means, asked == Some(end));
        }
        if shut && self.passed {
            self.legs.iter_mut().for_each(|leg| leg.link = None);
        }
    }

    /// Another peer has the call.
    fn dismiss(&mut self, end: End) {
        if self.legs[end.index()].is_stranger() {
            self.end(end);
        }
    }

    /// The connection of one end goes; the other one as well, if it has heard or been heard.
    fn end(&mut self, end: End) {
        self.legs[end.index()].link = None;
        if std::mem::take(&mut self.passed) {
            self.legs[end.other().index()].link = None;
        }
    }

    /// Moves what can be moved.
    fn pass(&mut self, cx: &mut Context<'_>) {
        let mut moves = 0;
        for end in [End::A, End::B] {
            loop {
                match self.step(cx, end) {
                    Ok(true) if moves < MOVES => moves += 1,
                    Ok(true) => {
                        cx.waker().wake_by_ref();
                        break;
                    }
                    Ok(false) => break,
                    Err(gone) => {
                        self.gone(gone);
                        break;
                    }
                }
            }
        }
        let [a, b] = self.legs.each_ref().map(|leg| leg.link.as_ref());
        if let (Some(a), Some(b)) = (a, b)
            && a.ended
            && b.ended
            && a.shut
            && b.shut
        {
            self.gone(End::A);
        }
    }

    /// From `end` to the other one; true if something moved. An error says whose connection is gone.
    fn step(&mut self, cx: &mut Context<'_>, end: End) -> Result<bool, End> {
        let [a, b] = &mut self.legs;
        let (from, to) = match end {
            End::A => (a, b),
            End::B => (b, a),
        };
        let Some(link) = &mut from.link else { return Ok(false) };
        let mut moved = false;
        let is = |polled: Poll<io::Result<usize>>, end: End| match polled {
            Poll::Ready(Ok(octets)) => Ok(octets),
            Poll::Ready(Err(error)) => {
                tracing::debug!(%error, ?end, "TCP media has lost a connection");
                Err(end)
            }
            Poll::Pending => Ok(0),
        };
        let was_ended = link.ended;
        let read = is(link.poll_fill(cx), end)?;
        from.counts.bytes_in += read as u64;
        moved |= read != 0 || link.ended != was_ended;
        // One that ends before anything was said never was.
        if link.ended && !link.spoke && !self.passed {
            from.link = None;
            cx.waker().wake_by_ref();
            return Ok(false);
        }
        let Some(other) = &mut to.link else { return Ok(moved) };
        let written = is(link.poll_drain(other, cx), end.other())?;
        to.counts.bytes_out += written as u64;
        self.passed |= written != 0;
        moved |= written != 0;
        if link.ended && link.is_empty() && !other.shut {
            match other.poll_shut(cx) {
                Poll::Ready(Ok(())) => moved = true,
                Poll::Ready(Err(_)) => return Err(end.other()),
                Poll::Pending => {}
            }
        }
        Ok(moved)
    }

    /// A connection is gone, and with it the other one, if there was one.
    fn gone(&mut self, end: End) {
        let both = self.legs.iter().all(|leg| leg.link.is_some());
        self.legs[end.index()].link = None;
        if both {
            self.passed = false;
            for leg in &mut self.legs {
                leg.link = None;
                leg.spent = true;
            }
        }
    }

    fn poll_tell(&mut self, cx: &mut Context<'_>) {
        if self.tell.is_none() && self.legs.iter().any(|leg| leg.counts != SpliceCounts::default()) {
            self.tell = Some(Box::pin(sleep(TOLD)));
        }
        if let Some(tell) = &mut self.tell
            && tell.as_mut().poll(cx).is_ready()
        {
            self.tell = None;
            self.tell();
        }
    }

    fn tell(&mut self) {
        let [Some(a), Some(b)] = self.legs.each_ref().map(|leg| leg.plan().map(|plan| plan.side)) else { return };
        let [of_a, of_b] = self.legs.each_mut().map(|leg| std::mem::take(&mut leg.counts));
        if [of_a, of_b] == [SpliceCounts::default(); 2] {
            return;
        }
        let legs = Box::new([(a, of_a), (b, of_b)]);
        let fact = Fact::Spliced { stream: self.stream, legs };
        // Nobody listens any more: the program ends.
        let _ = self.reports.send(Report::Fact { worker: self.stream.worker, fact });
    }
}
