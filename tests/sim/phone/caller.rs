//! The caller: INVITE, its answers, CANCEL (RFC 3261 §13.2, §9.1).

use std::time::Duration;

use super::Phone;
use super::call::{Call, Ended, Inside, State, Timer};
use super::sdp;
use crate::clock::Time;
use crate::net::Packet;
use crate::plan::{self, CallPlan, End};
use crate::sip::{self, Msg};
use crate::transaction::{self, ClientId, LONG, T2};

/// The longest that a caller waits for any final answer.
const PATIENCE: Duration = Duration::from_secs(60);

impl Phone {
    /// Places a call.
    pub(crate) fn place(&mut self, now: Time, plan: &CallPlan, out: &mut Vec<Packet>) {
        let callee = format!("sip:{}@{}", self.book[plan.to], self.profile.domain);
        let call_id = format!("{}@{}", self.rng.word(), self.profile.ip);
        let mut call = self.new_call(plan, End::Caller, call_id);
        call.local = format!("\"Phone {}\" <{}>", self.me, self.profile.aor());
        call.remote = format!("<{callee}>");
        call.target = callee;
        call.timers.push((now + PATIENCE, Timer::Cancel));
        if let Some(after) = plan.cancel {
            call.timers.push((now + after, Timer::Cancel));
        }
        self.calls.push(call);
        let at = self.calls.len() - 1;
        let msg = self.invite(at, plan);
        self.send_invite(now, at, msg, out);
    }

    fn invite(&mut self, at: usize, plan: &CallPlan) -> Msg {
        let contact = format!("<{}>", self.profile.contact());
        let call = &self.calls[at];
        let mut msg = Msg::request("INVITE", &call.target);
        msg.push(self.name("From"), format!("{};tag={}", call.local, call.local_tag));
        msg.push(self.name("To"), call.remote.clone());
        msg.push(self.name("Call-ID"), call.call_id.clone());
        msg.push("Max-Forwards", "70");
        msg.push(self.name("Contact"), contact);
        msg.push(plan::FIELD, plan.id.to_string());
        let sdp = call.offer(self.profile.looks);
        self.ornaments(&mut msg);
        if plan.delayed_offer { msg } else { self.with_body(msg, sdp) }
    }

    fn send_invite(&mut self, now: Time, at: usize, mut msg: Msg, out: &mut Vec<Packet>) {
        let via = self.via();
        let call = &mut self.calls[at];
        call.cseq += 1;
        msg.fields.retain(|(n, _)| !sip::same_name(n, "cseq") && !sip::same_name(n, "via"));
        msg.push("CSeq", format!("{} INVITE", call.cseq));
        msg.top(self.name("Via"), via);
        let way = self.profile.way();
        let client = self.transactions.request(now, msg, way, out);
        let call = &mut self.calls[at];
        (call.invite, call.provisional) = (Some(client), false);
    }

    /// An answer to anything but REGISTER.
    pub(crate) fn response(&mut self, now: Time, client: ClientId, msg: &Msg, out: &mut Vec<Packet>) {
        if let Some(at) = self.calls.iter().position(|c| c.invite == Some(client)) {
            self.invite_response(now, at, client, msg, out);
        } else if let Some(at) = self.calls.iter().position(|c| c.inside.iter().any(|(id, _)| *id == client)) {
            self.inside_response(now, at, client, msg, out);
        }
        self.bury();
    }

    fn invite_response(&mut self, now: Time, at: usize, client: ClientId, msg: &Msg, out: &mut Vec<Packet>) {
        let call = &mut self.calls[at];
        match msg.status() {
            ..200 => {
                call.provisional = true;
                if let Some(remote) = sdp::read(&msg.body).filter(|_| call.state == State::Early) {
                    call.shape.video = remote.shape.video;
                    call.agree(now, remote);
                }
                if call.state == State::Cancelling {
                    self.send_cancel(now, at, out);
                }
            }
            200..300 => self.accepted(now, at, msg, out),
            401 | 407 if call.tries < 2 && call.state == State::Early => {
                call.tries += 1;
                let sent = self.transactions.sent(client).map(|(sent, _)| sent.clone());
                match sent.and_then(|sent| self.authorised(&sent, msg)) {
                    Some(again) => self.send_invite(now, at, again, out),
                    None => self.calls[at].over(now, Ended::Refused(msg.status())),
                }
            }
            487 if call.state == State::Cancelling => call.over(now, Ended::Cancelled),
            status => call.over(now, Ended::Refused(status)),
        }
    }

    /// A 2xx: the first, a repeated one, or one of another fork.
    fn accepted(&mut self, now: Time, at: usize, msg: &Msg, out: &mut Vec<Packet>) {
        let call = &mut self.calls[at];
        let first = matches!(call.state, State::Early | State::Cancelling);
        let cancelled = call.state == State::Cancelling;
        if !first {
            if call.remote_tag == msg.tag("to") {
                return self.acknowledge_again(msg.cseq(), at, out);
            }
            return self.too_many(now, at, msg, out);
        }
        call.remote_tag.clear();
        call.learn(msg);
        let Some(remote) = sdp::read(&msg.body) else {
            self.complaints.push(format!("2xx without SDP in call {}", self.calls[at].plan));
            return self.calls[at].over(now, Ended::Refused(msg.status()));
        };
        let offered = self.plans.get(call.plan).is_some_and(|plan| !plan.delayed_offer);
        match offered {
            true => call.shape.video = remote.shape.video,
            false => call.answering(remote),
        }
        call.agree(now, remote);
        call.media.unlearn();
        self.confirmed(now, at);
        let mut ack = self.inside(at, "ACK", Some(msg.cseq()));
        if !offered {
            let sdp = self.calls[at].answer(self.profile.looks, remote);
            ack = self.with_body(ack, sdp);
        }
        self.acknowledge(at, msg.cseq(), &ack, out);
        if cancelled {
            self.calls[at].timers = vec![(now, Timer::HangUp)];
        }
    }

    /// Another phone of the callee's has answered, too: its 2xx is
    /// acknowledged, and its dialog ended at once (§13.2.2.4).
    fn too_many(&mut self, now: Time, at: usize, msg: &Msg, out: &mut Vec<Packet>) {
        let (call_id, tag) = (msg.call_id(), msg.tag("to"));
        if let Some(known) = self.calls.iter().position(|c| c.call_id == call_id && c.remote_tag == tag) {
            return self.acknowledge_again(msg.cseq(), known, out);
        }
        let first = &self.calls[at];
        let Some(plan) = self.plans.get(first.plan).cloned() else { return };
        let (local, remote) = (first.local.clone(), first.remote.clone());
        let (local_tag, cseq) = (first.local_tag.clone(), first.cseq);
        let mut surplus = self.new_call(&plan, End::Caller, call_id.to_owned());
        (surplus.local, surplus.remote, surplus.local_tag, surplus.cseq) = (local, remote, local_tag, cseq);
        surplus.log.surplus = true;
        surplus.learn(msg);
        let offer = sdp::read(&msg.body).filter(|_| plan.delayed_offer);
        self.calls.push(surplus);
        let at = self.calls.len() - 1;
        let mut ack = self.inside(at, "ACK", Some(msg.cseq()));
        if let Some(remote) = offer {
            self.calls[at].answering(remote);
            let sdp = self.calls[at].answer(self.profile.looks, remote);
            ack = self.with_body(ack, sdp);
        }
        self.acknowledge(at, msg.cseq(), &ack, out);
        self.hang_up(now, at, out);
    }

    /// Sends the ACK of a 2xx, and keeps it for repetitions (§13.2.2.4).
    pub(crate) fn acknowledge(&mut self, at: usize, cseq: u32, ack: &Msg, out: &mut Vec<Packet>) {
        let packet = self.way(at).packet(ack.bytes());
        out.push(packet.clone());
        self.calls[at].acks.push((cseq, packet));
    }

    pub(crate) fn acknowledge_again(&self, cseq: u32, at: usize, out: &mut Vec<Packet>) {
        out.extend(self.calls[at].acks.iter().find(|(c, _)| *c == cseq).map(|(_, packet)| packet.clone()));
    }

    /// The plan says: give up.
    pub(crate) fn give_up(&mut self, now: Time, at: usize, out: &mut Vec<Packet>) {
        let call = &mut self.calls[at];
        if call.state != State::Early {
            return;
        }
        call.state = State::Cancelling;
        call.timers.push((now + LONG + T2, Timer::Abandon));
        if call.provisional {
            self.send_cancel(now, at, out);
        }
    }

    fn send_cancel(&mut self, now: Time, at: usize, out: &mut Vec<Packet>) {
        let call = &self.calls[at];
        if call.inside.iter().any(|(_, kind)| *kind == Inside::Cancel) {
            return;
        }
        let Some((invite, way)) = call.invite.and_then(|id| self.transactions.sent(id)) else { return };
        let cancel = transaction::cancel(invite);
        let client = self.transactions.request(now, cancel, way, out);
        self.calls[at].inside.push((client, Inside::Cancel));
    }

    /// Nobody answered.
    pub(crate) fn request_timed_out(&mut self, now: Time, client: ClientId, out: &mut Vec<Packet>) {
        if let Some(call) = self.calls.iter_mut().find(|c| c.invite == Some(client)) {
            call.over(now, Ended::TimedOut);
        } else if let Some(at) = self.calls.iter().position(|c| c.inside.iter().any(|(id, _)| *id == client)) {
            self.inside_timed_out(now, at, client, out);
        }
        self.bury();
    }

    /// A response of no transaction: a 2xx may still want its ACK.
    pub(crate) fn stray(&mut self, _now: Time, msg: &Msg, out: &mut Vec<Packet>) {
        if msg.method() == "INVITE" && (200..300).contains(&msg.status()) {
            let ours = |c: &Call| c.call_id == msg.call_id() && c.remote_tag == msg.tag("to");
            if let Some(at) = self.calls.iter().position(ours) {
                self.acknowledge_again(msg.cseq(), at, out);
            }
        }
    }
}
