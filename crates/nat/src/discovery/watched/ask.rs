//! Whom to ask, and when.
//!
//! Decides between three ways to ask. A *check* asks all servers at once; it
//! starts a socket off, follows a list of servers that changed, and follows
//! any doubt. A *refresh* asks only the anchor, the server whose word the
//! known address rests on. After a check without a result, the next one waits
//! 2 s, doubling up to 30 s. An anchor that leaves three requests unanswered
//! loses its place, and the others are asked while its own request goes on.

use std::time::Duration;

use super::{Context, Watched};
use crate::discovery::Finding;
use crate::discovery::transaction::Transaction;
use crate::keepalive::Schedule;

/// Wait after the first check without a result, doubled after each further one.
const BACK_OFF: Duration = Duration::from_secs(2);
/// The longest such wait.
const BACK_OFF_MOST: Duration = Duration::from_secs(30);
/// No refresh comes faster than this.
const REFRESH_LEAST: Duration = Duration::from_secs(1);
/// Jitter of every wait, in percent of it.
const JITTER: u8 = 20;
/// Requests to one server in one check or refresh (each may be retransmitted).
const ASKS: u8 = 4;
/// Ids of ended transactions that are remembered, so that a second answer to
/// a retransmitted request is not taken for a forgery.
const ENDED: usize = 8;

impl Watched {
    /// Asks all servers afresh.
    pub(in crate::discovery) fn check(&mut self, cx: &mut Context<'_>) {
        self.start_over();
        self.ask_all(cx);
    }

    /// Asks the anchor whether all is as before; without one, all servers.
    pub(in crate::discovery) fn refresh(&mut self, cx: &mut Context<'_>) {
        match self.anchor() {
            Some(anchor) => {
                self.start_over();
                self.ask(cx, anchor);
            }
            None => self.check(cx),
        }
    }

    fn start_over(&mut self) {
        self.evidence.clear();
        self.checking = false;
        self.next_ask = None;
        for asked in &mut self.asked {
            asked.asks = 0;
        }
    }

    pub(super) fn ask_all(&mut self, cx: &mut Context<'_>) {
        self.checking = true;
        self.next_ask = None;
        for server in 0..self.asked.len() {
            self.ask(cx, server);
        }
    }

    /// Sends a request, unless one is under way to that server.
    pub(super) fn ask(&mut self, cx: &mut Context<'_>, server: usize) {
        let Some(asked) = self.asked.get_mut(server).filter(|asked| asked.transaction.is_none()) else { return };
        let transaction = Transaction::new(cx.now, cx.rng);
        cx.send(server, transaction.bytes());
        asked.asks = asked.asks.saturating_add(1);
        asked.transaction = Some(transaction);
    }

    /// Asks a server once more, within reason.
    pub(super) fn ask_again(&mut self, cx: &mut Context<'_>, server: usize) {
        if self.asked[server].asks < ASKS {
            self.ask(cx, server);
        }
    }

    /// A transaction is over, one way or the other.
    pub(super) fn end(&mut self, server: usize) {
        if let Some(transaction) = self.asked.get_mut(server).and_then(|asked| asked.transaction.take()) {
            if self.ended.len() == ENDED {
                self.ended.pop_front();
            }
            self.ended.push_back(transaction.id());
        }
    }

    /// A server gave no usable answer.
    pub(super) fn fail(&mut self, cx: &mut Context<'_>, server: usize) {
        if !std::mem::replace(&mut self.asked[server].silent, true)
            && let Some(address) = cx.servers.get(server)
        {
            cx.find(Finding::NoAnswer(*address));
        }
        self.lose(cx, server);
    }

    /// A server is of no use for now: somebody else's word may suffice.
    pub(super) fn lose(&mut self, cx: &mut Context<'_>, server: usize) {
        self.unseat(cx, server);
        self.judge(cx);
    }

    /// Takes a server's place as anchor away, and asks all.
    fn unseat(&mut self, cx: &mut Context<'_>, server: usize) {
        let Some(known) = self.known.as_mut().filter(|known| known.anchor == Some(server)) else { return };
        known.anchor = None;
        if !self.checking {
            self.check(cx);
        }
    }

    /// All is well until the next refresh.
    pub(super) fn rest(&mut self, cx: &mut Context<'_>) {
        let interval = if self.fast { cx.config.fast_refresh } else { cx.config.refresh };
        self.failures = 0;
        self.next_ask = Some(Schedule::new(interval.max(REFRESH_LEAST), JITTER).next(cx.now, cx.rng));
    }

    /// When nothing is under way and nothing planned: the next check, later each time.
    pub(super) fn settle(&mut self, cx: &mut Context<'_>) {
        if self.next_ask.is_none() && !self.asked.is_empty() && self.asked.iter().all(|a| a.transaction.is_none()) {
            self.next_ask = Some(cx.now + self.back_off(cx));
            self.failures += 1;
        }
    }

    pub(super) fn back_off(&self, cx: &mut Context<'_>) -> Duration {
        let wait = (BACK_OFF * (1 << self.failures.min(4))).min(BACK_OFF_MOST);
        Schedule::new(wait, JITTER).interval(cx.rng)
    }
}
