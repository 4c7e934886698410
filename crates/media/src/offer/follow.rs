//! What follows from an offer and its answer: targets, rtcp-mux and ICE of
//! every stream, refused m-lines closed, and the workers told.
//!
//! Decides nothing about whose answer counts: [`super::session`] knows that.

use std::sync::Arc;

use super::session::{Agreed, Session, Stream};
use super::tcp;
use super::{Command, End, Key, Offers};
use crate::{Early, LegPlan, Sources};

impl Offers {
    /// Both halves are known: new targets for every stream. Refused m-lines are
    /// closed once it is known whose answer counts.
    pub(super) fn follow(&mut self, session: &mut Session, leg: u8, commit: bool) {
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
            let offer = offered.media.get(line).cloned().unwrap_or_default();
            let answer = answered.media.get(line).cloned().unwrap_or_default();
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
                    let keys = offered.crypto.get(line).zip(answered.crypto.get(line));
                    let [offerer, answerer] =
                        keys.map_or_else(Default::default, |(offer, answer)| offer.agreed(answer));
                    stream.srtp[by.other().index()] = offerer;
                    stream.srtp[by.index()] = answerer;
                }
            }
            if !refused {
                self.settle_tcp(session, line, by, offered.number, commit);
            }
            self.tell_formats(session, line, &offered, &answered);
            self.update(session, line, commit);
            if let Some(stream) = &mut session.streams[line]
                && let Some(proto) = answer.proto.filter(|proto| *proto != stream.proto)
            {
                stream.proto = proto;
                self.out.push_back(Command::Carry { stream: stream.id, proto });
            }
        }
    }

    /// A 2xx says nothing new: what its sender said before holds now for good.
    pub(super) fn follow_again(&mut self, session: &mut Session, leg: u8, rearm: bool) {
        if session.agreed(leg).is_some() && session.shown != Some(leg) {
            return self.follow(session, leg, true);
        }
        session.epoch += 1;
        for line in 0..session.streams.len() {
            if session.agreed(leg).is_some_and(|agreed| agreed.refuses(line)) {
                self.close_stream(session, line);
            }
            if let Some(tcp) = session.streams[line].as_mut().and_then(|stream| stream.tcp.as_mut()) {
                tcp.stand();
            }
            self.update(session, line, rearm);
        }
    }

    /// Whoever else was heard at the callee's end while it rang is not the peer.
    /// The call was answered by another branch: what this pass's others send goes nowhere, and nobody is heard by them
    /// in the caller's name. A caller that follows whoever speaks would stay with them.
    pub(super) fn hush(&mut self, answered: Key) {
        let range = Key { branch: 0, ..answered }..=Key { branch: u16::MAX, ..answered };
        for (key, session) in self.sessions.range(range) {
            if *key == answered || session.established {
                continue;
            }
            for (line, stream) in session.streams.iter().enumerate() {
                let Some(stream) = stream.as_ref().filter(|stream| stream.joined[End::A.index()].is_none()) else {
                    continue;
                };
                let mut legs = session.plans(line, stream);
                let LegPlan { target, sources, early, ice, srtp, .. } = &mut legs[End::A.index()];
                (*target, *sources, *early, *ice) = (None, Sources::default(), Early::Never, None);
                *srtp = Arc::default();
                let told = tcp::hush(stream, &session.ends, session.epoch);
                let (stream, epoch) = (stream.id, session.epoch);
                self.out.push_back(Command::Update { stream, epoch, legs, timeout: None, rearm: false });
                self.out.push_back(Command::Replace { stream, end: End::A });
                self.out.extend(told);
            }
        }
    }

    pub(super) fn replace(&mut self, session: &Session) {
        let streams = session.streams.iter().flatten();
        self.out.extend(streams.map(|stream| Command::Replace { stream: stream.id, end: End::B }));
    }

    pub(super) fn update(&mut self, session: &mut Session, line: usize, rearm: bool) {
        let tcp = session.streams[line].as_ref().is_some_and(Stream::is_tcp);
        let timeout = (session.established && !session.held && !tcp).then_some(self.timeout);
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
        self.splice(session, line);
    }
}
