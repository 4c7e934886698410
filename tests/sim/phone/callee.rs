//! The callee: it rings, plays an announcement, answers, refuses, or does
//! nothing (RFC 3261 §13.3).

use std::time::Duration;

use super::Phone;
use super::call::{Ended, State, Timer};
use super::sdp::{self, Remote};
use crate::clock::Time;
use crate::net::Packet;
use crate::plan::{self, Answer, CallPlan, End};
use crate::sip::Msg;
use crate::transaction::ServerId;

impl Phone {
    /// An INVITE outside any dialog.
    pub(crate) fn invited(&mut self, now: Time, server: ServerId, msg: &Msg, out: &mut Vec<Packet>) {
        let number = msg.get(plan::FIELD).and_then(|n| n.parse::<usize>().ok());
        let plan = number.and_then(|n| self.plans.get(n)).cloned();
        let Some(plan) = plan.filter(|plan| self.book[plan.to] == self.profile.user) else {
            self.complaints.push(format!("INVITE of no plan of mine: {} {:?}", msg.uri(), msg.get(plan::FIELD)));
            return self.reply(now, server, &msg.reply(404, "Not Found", "none"), out);
        };
        if msg.uri() != self.profile.contact() {
            let (uri, ours) = (msg.uri(), self.profile.contact());
            self.complaints.push(format!("INVITE for {uri}, but my Contact is {ours}"));
        }
        self.reply(now, server, &msg.reply(100, "Trying", ""), out);
        let mut call = self.new_call(&plan, End::Callee, msg.call_id().to_owned());
        call.local = without_tag(msg.get("to").unwrap_or_default());
        call.remote = without_tag(msg.get("from").unwrap_or_default());
        call.learn(msg);
        call.cseq = 500;
        call.incoming = Some((server, msg.clone()));
        call.timers.push((now + Duration::from_millis(60), Timer::Ring));
        call.timers.push((now + Duration::from_secs(100), Timer::Abandon));
        if self.answers(&plan) != Answer::Never {
            // A twin is a little slower, which is a race.
            let delay = if plan.to == self.me { plan.ring } else { plan.ring + Duration::from_millis(20) };
            call.timers.push((now + delay, Timer::Answer));
        }
        self.calls.push(call);
    }

    /// What this phone does by plan: it is the callee, or the callee's second phone.
    fn answers(&self, plan: &CallPlan) -> Answer {
        if plan.to == self.me { plan.answer } else { plan.twin }
    }

    /// 180, or 183 with an announcement.
    pub(crate) fn ring(&mut self, now: Time, at: usize, out: &mut Vec<Packet>) {
        let Some((server, msg)) = self.calls[at].incoming.clone() else { return };
        let early = self.plans.get(self.calls[at].plan).is_some_and(|plan| plan.early_media);
        let offer = sdp::read(&msg.body).filter(|_| early);
        let (status, reason) = if offer.is_some() { (183, "Session Progress") } else { (180, "Ringing") };
        let mut reply = msg.reply(status, reason, &self.calls[at].local_tag);
        reply.push(self.name("Contact"), format!("<{}>", self.profile.contact()));
        if let Some(remote) = offer {
            let call = &mut self.calls[at];
            call.answering(remote);
            call.agree(now, remote);
            let sdp = call.answer(self.profile.looks, remote);
            reply = self.with_body(reply, sdp);
        }
        self.reply(now, server, &reply, out);
    }

    /// The final answer.
    pub(crate) fn answer(&mut self, now: Time, at: usize, out: &mut Vec<Packet>) {
        let Some((server, msg)) = self.calls[at].incoming.take() else { return };
        let plan = &self.plans[self.calls[at].plan];
        if let Answer::Reject(status) = self.answers(plan) {
            let reason = if status == 486 { "Busy Here" } else { "Decline" };
            let reply = msg.reply(status, reason, &self.calls[at].local_tag);
            self.reply(now, server, &reply, out);
            return self.calls[at].over(now, Ended::Refused(status));
        }
        let offer = sdp::read(&msg.body);
        if let Some(remote) = offer {
            let call = &mut self.calls[at];
            let again = call.media.next().is_some();
            if !again {
                call.answering(remote);
                call.agree(now, remote);
            }
        }
        self.accept(now, at, (server, &msg), offer, out);
        self.calls[at].state = State::Answered;
    }

    /// 200 to an INVITE or re-INVITE, repeated until the ACK: with the answer to this offer, or an offer.
    pub(crate) fn accept(
        &mut self,
        now: Time,
        at: usize,
        (server, msg): (ServerId, &Msg),
        offer: Option<Remote>,
        out: &mut Vec<Packet>,
    ) {
        let mut reply = msg.reply(200, "OK", &self.calls[at].local_tag);
        reply.push(self.name("Contact"), format!("<{}>", self.profile.contact()));
        self.ornaments(&mut reply);
        let (call, looks) = (&self.calls[at], self.profile.looks);
        let sdp = offer.map_or_else(|| call.offer(looks), |offer| call.answer(looks, offer));
        let reply = self.with_body(reply, sdp);
        self.reply(now, server, &reply, out);
        if let Some(packet) = self.transactions.answer(server) {
            self.calls[at].repeat(now, packet, msg.cseq(), offer.is_none());
        }
    }

    /// An ACK of a 2xx.
    pub(crate) fn acknowledged(&mut self, now: Time, msg: &Msg) {
        let Some(at) = self.call_of(msg) else { return };
        let call = &mut self.calls[at];
        let Some(repeated) = call.repeated.take_if(|r| r.cseq == msg.cseq()) else { return };
        if repeated.offered {
            match sdp::read(&msg.body) {
                Some(remote) => {
                    call.shape.video = call.shape.video.or(remote.shape.video);
                    call.agree(now, remote);
                }
                None if sdp::declines(&msg.body) => {}
                None => self.complaints.push(format!("ACK without an answer in call {}", call.plan)),
            }
        }
        if self.calls[at].state == State::Answered {
            self.confirmed(now, at);
        }
    }

    /// CANCEL (§9.2).
    pub(crate) fn cancelled(&mut self, now: Time, server: ServerId, msg: &Msg, out: &mut Vec<Packet>) {
        let matches = |incoming: &Option<(ServerId, Msg)>| {
            incoming.as_ref().is_some_and(|(_, invite)| invite.branch() == msg.branch())
        };
        let Some(at) = self.calls.iter().position(|c| matches(&c.incoming)) else {
            let known = self.calls.iter().any(|c| c.call_id == msg.call_id());
            let (status, reason) = if known { (200, "OK") } else { (481, "Call/Transaction Does Not Exist") };
            return self.reply(now, server, &msg.reply(status, reason, "none"), out);
        };
        let tag = self.calls[at].local_tag.clone();
        self.reply(now, server, &msg.reply(200, "OK", &tag), out);
        if let Some((invite_server, invite)) = self.calls[at].incoming.take() {
            self.reply(now, invite_server, &invite.reply(487, "Request Terminated", &tag), out);
        }
        self.calls[at].over(now, Ended::Cancelled);
        self.bury();
    }
}

fn without_tag(value: &str) -> String {
    value.rsplit_once(";tag=").map_or(value, |(rest, _)| rest).to_owned()
}
