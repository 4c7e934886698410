//! Spirals: SDP that names a live port of ours joins two streams inside
//! (RFC 3550 §8.2 by avoidance), and what becomes of a leg that was joined.
//!
//! Decides which legs face each other; [`crate::join`] ties them in the worker.

use super::session::Session;
use super::{Command, End, Offers, Target};
use crate::StreamId;
use crate::command::place;

impl Offers {
    /// Points one leg at what its peer's SDP says, or joins it to the stream
    /// of ours that the SDP names.
    pub(super) fn aim(&mut self, session: &mut Session, line: usize, end: End, target: Option<Target>) {
        let other = target.and_then(|t| self.live.get(&place(t.rtp())).copied());
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

    pub(super) fn join(&mut self, session: &mut Session, line: usize, end: End, other: (StreamId, End)) {
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

    pub(super) fn part(&mut self, id: StreamId, partner: (StreamId, End)) {
        if let Some(stream) = self.stream_mut(partner.0) {
            stream.joined[partner.1.index()] = None;
        }
        self.out.push_back(Command::Part { stream: id });
    }

    /// The stream that a leg was joined to has ended. If nobody tells the other
    /// pass so (its BYE may be lost with a mapping), silence ends it, also on hold.
    pub(super) fn bereave(&mut self, (id, end): (StreamId, End)) {
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
}
