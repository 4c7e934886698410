//! A phone's connection to its proxy: opened when there is something to say,
//! kept by pings (RFC 5626 §4.4.1), opened again when it has ended. Then the
//! phone registers again, since only it can be found again that way (§4.5).

use std::time::Duration;

use super::Phone;
use crate::clock::{Time, earlier};
use crate::net::{Carrier, Packet, Step};
use crate::stack::{Event, PING, PONG, Pair};

/// A ping is answered within this, or the connection is dead.
const PONG_DUE: Duration = Duration::from_secs(10);

/// When the connection is pinged next, and when the answer is overdue.
#[derive(Debug, Default)]
pub(crate) struct Line {
    ping: Option<Time>,
    pong: Option<Time>,
    /// How often a connection of ours has ended.
    pub(crate) ended: u64,
}

impl Line {
    pub(crate) fn next(&self) -> Option<Time> {
        earlier(self.ping, self.pong)
    }
}

impl Phone {
    /// The connection to the proxy, while there is one.
    fn trunk(&self) -> Option<Pair> {
        self.stack.to(self.profile.transport, self.profile.proxy)
    }

    /// News of connections.
    pub(super) fn connected(&mut self, now: Time, events: Vec<Event>, out: &mut Vec<Packet>) {
        for event in events {
            match event {
                Event::Opened { pair, .. } => {
                    if pair.1 == self.profile.proxy {
                        self.line.ping = Some(now + self.profile.pings);
                        self.line.pong = None;
                    }
                }
                Event::Said { pair, bytes, .. } if bytes == PING => {
                    self.stack.send(pair, PONG.to_vec(), out);
                }
                Event::Said { bytes, .. } if bytes == PONG => {
                    if self.line.pong.take().is_some() {
                        self.line.ping = Some(now + self.profile.pings);
                    }
                }
                Event::Said { pair, transport, bytes } => {
                    let carrier = Carrier::Message { transport, instead: None };
                    let (from, to) = (pair.1, self.profile.local());
                    self.signalling(now, &Packet { from, to, bytes, carrier }, out);
                }
                Event::Ended { pair } => self.cut_off(now, pair, out),
            }
        }
    }

    /// Pings, or finds that no answer came.
    pub(super) fn keep_line(&mut self, now: Time, out: &mut Vec<Packet>) {
        let Some(pair) = self.trunk() else { return };
        if self.line.pong.is_some_and(|at| at <= now) {
            self.stack.close(pair, Step::Reset, out);
            self.cut_off(now, pair, out);
        } else if self.line.ping.is_some_and(|at| at <= now) {
            self.stack.send(pair, PING.to_vec(), out);
            (self.line.ping, self.line.pong) = (None, Some(now + PONG_DUE));
        }
    }

    /// A connection has ended. Whether the phone was registered on it or tried to: it does so again.
    fn cut_off(&mut self, now: Time, pair: Pair, out: &mut Vec<Packet>) {
        if pair.1 != self.profile.proxy || self.trunk().is_some() {
            return;
        }
        (self.line.ping, self.line.pong) = (None, None);
        self.line.ended += 1;
        let Self { registration, rng, .. } = self;
        if !registration.left() {
            registration.cut(now, rng);
        }
        let failed = self.transactions.cut(now, &[self.profile.proxy], self.profile.repeats, out);
        for event in failed {
            self.event(now, event, out);
        }
    }

    /// The network did not take a segment to its end, and may have said so.
    pub(crate) fn undelivered(&mut self, now: Time, pair: Pair, reset: bool, out: &mut Vec<Packet>) {
        let ended = self.stack.undelivered(now, pair, reset);
        self.connected(now, ended.into_iter().collect(), out);
    }

    /// Messages for streams become segments.
    pub(crate) fn say(&mut self, now: Time, out: &mut Vec<Packet>) {
        self.stack.say(now, self.profile.ip, out);
    }

    /// The connection ends at once, by our own doing.
    pub(crate) fn hang(&mut self, now: Time, step: Step, out: &mut Vec<Packet>) {
        if let Some(pair) = self.trunk().filter(|_| !self.vanished) {
            self.stack.close(pair, step, out);
            self.cut_off(now, pair, out);
        }
    }

    /// How often its connection has ended.
    pub(crate) fn reopened(&self) -> u64 {
        self.line.ended
    }
}
