//! Offers and answers inside a dialog, by re-INVITE and UPDATE (RFC 3264 §8,
//! RFC 3311 §5, RFC 6337): one at a time; what is refused leaves all as it was.

use std::time::Duration;

use super::Phone;
use super::call::{Draft, Inside, State, Timer};
use super::sdp::{self, Direction, Remote, Spelling};
use crate::clock::Time;
use crate::flows::{self, Change, How, Kind};
use crate::net::Packet;
use crate::plan::End;
use crate::sip::Msg;
use crate::transaction::{LONG, ServerId, T2};

/// How long an offer waits for the end of another exchange.
const WAITS: Duration = Duration::from_millis(400);

impl Phone {
    /// It is time for an offer of ours.
    pub(crate) fn turn(&mut self, now: Time, at: usize, index: usize, out: &mut Vec<Packet>) {
        let turn = self.plans.get(self.calls[at].plan).and_then(|plan| plan.turns.get(index).copied());
        let Some(turn) = turn.filter(|_| self.calls[at].state == State::Confirmed) else { return };
        if self.calls[at].draft.is_some() || self.calls[at].repeated.is_some() {
            return self.calls[at].timers.push((now + WAITS, Timer::Turn(index)));
        }
        let port = (turn.change == Change::Port).then(|| self.port());
        let new_source = turn.change == Change::Resume && self.profile.new_source;
        let Self { calls, rng, .. } = self;
        let call = &mut calls[at];
        let mut shape = turn.change.of(call.shape);
        if call.media.ice.is_some() {
            // An agent names an address all the time, and begins again when it is another (RFC 8839 §4.4.1.1.1).
            let named = shape.spelling != Spelling::Unspecified;
            shape.spelling = if named { shape.spelling } else { Spelling::Media };
            shape.restarts += u8::from(port.is_some());
        }
        call.draft = Some(Draft { shape, port });
        call.version += 1;
        call.media.count_none();
        if let Some(port) = port {
            call.media.listen(port);
        }
        if new_source {
            call.media.new_source(rng);
        }
        let mut msg = self.inside(at, if turn.how == How::Update { "UPDATE" } else { "INVITE" }, None);
        msg.push(self.name("Contact"), format!("<{}>", self.profile.contact()));
        msg.push(flows::FIELD, index.to_string());
        if turn.how != How::Late {
            let sdp = self.calls[at].offer(self.profile.looks);
            msg = self.with_body(msg, sdp);
        }
        self.start_inside(now, at, Inside::Exchange(index), msg, out);
        self.calls[at].timers.push((now + LONG + T2, Timer::Stuck));
    }

    /// An offer of ours has no final answer yet.
    pub(crate) fn exchanging(&self, at: usize) -> bool {
        let mut inside = self.calls[at].inside.iter();
        inside.any(|(id, kind)| matches!(kind, Inside::Exchange(_)) && self.transactions.pending(*id))
    }

    /// A final answer to an offer of ours.
    pub(crate) fn exchanged(&mut self, now: Time, at: usize, index: usize, msg: &Msg, out: &mut Vec<Packet>) {
        let turn = self.plans.get(self.calls[at].plan).and_then(|plan| plan.turns.get(index).copied());
        let Some(turn) = turn else { return };
        match msg.status() {
            ..300 => return self.taken(now, at, (index, turn), msg, out),
            491 | 500 => {
                if msg.status() == 491 {
                    self.calls[at].count(Kind::Glare);
                }
                // RFC 3261 §14.1: who owns the Call-ID waits longer.
                let caller = self.calls[at].end == End::Caller;
                let wait = if caller { self.rng.millis(2_100, 4_000) } else { self.rng.millis(0, 2_000) };
                self.calls[at].timers.push((now + wait, Timer::Turn(index)));
            }
            // RFC 3261 §12.2.1.2: these end the dialog.
            408 | 481 => self.hang_up(now, at, out),
            488 if turn.refused => self.counted(at, index),
            _ => {}
        }
        self.calls[at].dropped(now);
    }

    fn taken(&mut self, now: Time, at: usize, (index, turn): (usize, flows::Turn), msg: &Msg, out: &mut Vec<Packet>) {
        let invite = turn.how != How::Update;
        if self.calls[at].acks.iter().any(|(cseq, _)| invite && *cseq == msg.cseq()) {
            return self.acknowledge_again(msg.cseq(), at, out);
        }
        let remote = sdp::read(&msg.body);
        let late = turn.how == How::Late;
        let call = &mut self.calls[at];
        match call.draft.take() {
            Some(draft) if !late => {
                if let Some(port) = draft.port {
                    call.media.move_to(port);
                }
                call.shape = draft.shape;
            }
            Some(_) | None => {}
        }
        if let Some(remote) = remote.filter(|_| late) {
            call.version += 1;
            call.answering(remote);
        }
        if invite {
            let mut ack = self.inside(at, "ACK", Some(msg.cseq()));
            if let Some(remote) = remote.filter(|_| late) {
                let sdp = self.calls[at].answer(self.profile.looks, remote);
                ack = self.with_body(ack, sdp);
            }
            self.acknowledge(at, msg.cseq(), &ack, out);
        }
        if self.calls[at].state != State::Confirmed {
            return;
        }
        let call = &mut self.calls[at];
        call.learn(msg);
        let Some(remote) = remote else {
            return self.complaints.push(format!("{} without SDP to an offer in call {}", msg.start, call.plan));
        };
        call.agree(now, remote);
        if turn.refused {
            self.complaints.push(format!("{} to an offer that was to be refused in call {}", msg.start, call.plan));
        }
        self.counted(at, index);
    }

    /// A turn has come out as planned.
    fn counted(&mut self, at: usize, index: usize) {
        let call = &mut self.calls[at];
        let Some(turn) = self.plans.get(call.plan).and_then(|plan| plan.turns.get(index)) else { return };
        call.log.turned |= 1 << index;
        let agent = call.media.ice.is_some();
        if agent && turn.change == Change::Port && !turn.refused {
            call.count(Kind::Restart);
        }
        for kind in turn.kinds() {
            let kind = if agent && kind == Kind::Unspecified { Kind::SendOnly } else { kind };
            if agent || kind != Kind::Restart {
                call.count(kind);
            }
        }
    }

    /// The other end's re-INVITE or UPDATE.
    pub(crate) fn offered_again(&mut self, now: Time, at: usize, server: ServerId, msg: &Msg, out: &mut Vec<Packet>) {
        let call = &mut self.calls[at];
        if call.draft.is_some() || call.repeated.is_some() {
            return self.reply(now, server, &msg.reply(491, "Request Pending", ""), out);
        }
        let index = msg.get(flows::FIELD).and_then(|n| n.parse::<usize>().ok());
        let turn = index.and_then(|index| self.plans.get(call.plan)?.turns.get(index));
        if turn.is_some_and(|turn| turn.refused) {
            return self.reply(now, server, &msg.reply(488, "Not Acceptable Here", ""), out);
        }
        let invite = msg.method() == "INVITE";
        let offer = sdp::read(&msg.body);
        if offer.is_none() && !(invite && msg.body.is_empty()) {
            self.complaints.push(format!("{} without a usable offer in call {}", msg.start, call.plan));
            return self.reply(now, server, &msg.reply(488, "Not Acceptable Here", ""), out);
        }
        call.learn(msg);
        call.version += 1;
        if let Some(remote) = offer {
            call.answering(remote);
            call.agree(now, remote);
        }
        match offer {
            Some(remote) if !invite => self.updated(now, at, (server, msg), remote, out),
            Some(_) | None => self.accept(now, at, (server, msg), offer, out),
        }
    }

    /// 200 to an UPDATE.
    fn updated(
        &mut self,
        now: Time,
        at: usize,
        (server, msg): (ServerId, &Msg),
        remote: Remote,
        out: &mut Vec<Packet>,
    ) {
        let mut reply = msg.reply(200, "OK", &self.calls[at].local_tag);
        reply.push(self.name("Contact"), format!("<{}>", self.profile.contact()));
        let sdp = self.calls[at].answer(self.profile.looks, remote);
        let reply = self.with_body(reply, sdp);
        self.reply(now, server, &reply, out);
    }
}

impl super::call::Call {
    /// An offer of ours came to nothing: all is as it was before.
    pub(crate) fn dropped(&mut self, now: Time) {
        self.draft = None;
        if self.shape.direction == Direction::SendRecv {
            self.media.count_from(now + Duration::from_millis(1500));
        }
    }
}
