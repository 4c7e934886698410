//! Inside a dialog: hold and resume (RFC 3264 §8.4), INFO, BYE, and how the
//! other end's are answered.

use super::Phone;
use super::call::{Ended, Inside, State, Timer};
use super::sdp::{self, Direction};
use crate::clock::Time;
use crate::net::Packet;
use crate::sip::Msg;
use crate::transaction::{ClientId, LONG, ServerId, T2};

impl Phone {
    /// A timer of a call ran down.
    pub(crate) fn timer(&mut self, now: Time, call: u64, timer: Timer, out: &mut Vec<Packet>) {
        let Some(at) = self.calls.iter().position(|c| c.id == call) else { return };
        let hold = self.plans.get(self.calls[at].plan).and_then(|plan| plan.hold);
        match timer {
            Timer::Ring => self.ring(now, at, out),
            Timer::Answer => self.answer(now, at, out),
            Timer::Cancel => self.give_up(now, at, out),
            Timer::HangUp => self.hang_up(now, at, out),
            Timer::Info => {
                let method = self.plans.get(self.calls[at].plan).and_then(|plan| plan.inside).unwrap_or("INFO");
                let request = self.inside(at, method, None);
                self.start_inside(now, at, Inside::Info, request, out);
            }
            Timer::Hold if hold.is_some_and(|hold| hold.inactive) => self.reinvite(now, at, Direction::Inactive, out),
            Timer::Hold => self.reinvite(now, at, Direction::SendOnly, out),
            Timer::Resume => self.reinvite(now, at, Direction::SendRecv, out),
            Timer::Vanish => self.vanish(now),
            Timer::Mute => self.calls[at].media.stop(),
            Timer::Deaf => self.deaf(now, at),
            Timer::Stuck if self.reinviting(at) => self.hang_up(now, at, out),
            Timer::Stuck => {}
            Timer::Abandon => self.abandon(now, at, out),
        }
    }

    fn reinvite(&mut self, now: Time, at: usize, direction: Direction, out: &mut Vec<Packet>) {
        if self.calls[at].state != State::Confirmed {
            return;
        }
        self.calls[at].version += 1;
        self.calls[at].media.count_none();
        if direction == Direction::SendRecv && self.profile.new_source {
            let Self { calls, rng, .. } = self;
            calls[at].media.new_source(rng);
        }
        let mut msg = self.inside(at, "INVITE", None);
        msg.push(self.name("Contact"), format!("<{}>", self.profile.contact()));
        let call = &self.calls[at];
        // Later offers keep all m-lines (RFC 3264 §8).
        let mut sdp = call.sdp(sdp::Looks { video: false, ..self.profile.looks }, direction, 0);
        let c = format!("c=IN IP4 {}\r\n", self.profile.ip);
        for _ in 1..call.sections {
            sdp += "m=video 0 RTP/AVP 96\r\n";
            sdp += if self.profile.looks.media_connection { &c } else { "" };
        }
        let msg = self.with_body(msg, sdp);
        self.start_inside(now, at, Inside::Reinvite(direction), msg, out);
        self.calls[at].timers.push((now + LONG + T2, Timer::Stuck));
    }

    /// A re-INVITE of ours has no final answer yet.
    fn reinviting(&self, at: usize) -> bool {
        let mut inside = self.calls[at].inside.iter();
        inside.any(|(id, kind)| matches!(kind, Inside::Reinvite(_)) && self.transactions.pending(*id))
    }

    pub(crate) fn hang_up(&mut self, now: Time, at: usize, out: &mut Vec<Packet>) {
        if matches!(self.calls[at].state, State::Ending | State::Over) {
            return;
        }
        let bye = self.inside(at, "BYE", None);
        self.start_inside(now, at, Inside::Bye, bye, out);
        let call = &mut self.calls[at];
        call.state = State::Ending;
        call.repeated = None;
        call.timers.clear();
        call.media.stop();
        call.log.ended = Some((now, Ended::HungUp));
    }

    /// Nothing more will come of a call that was neither answered nor refused.
    fn abandon(&mut self, now: Time, at: usize, out: &mut Vec<Packet>) {
        if let Some((server, msg)) = self.calls[at].incoming.take() {
            let reply = msg.reply(480, "Temporarily Unavailable", &self.calls[at].local_tag);
            self.reply(now, server, &reply, out);
            self.calls[at].over(now, Ended::TimedOut);
        } else if matches!(self.calls[at].state, State::Early | State::Cancelling) {
            self.calls[at].over(now, Ended::TimedOut);
        }
    }

    /// An answer to a request inside a dialog.
    pub(crate) fn inside_response(&mut self, now: Time, at: usize, client: ClientId, msg: &Msg, out: &mut Vec<Packet>) {
        let Some((_, kind)) = self.calls[at].inside.iter().find(|(id, _)| *id == client).copied() else { return };
        let status = msg.status();
        if status < 200 {
            return;
        }
        let challenged = matches!(status, 401 | 407) && self.calls[at].tries < 6;
        if challenged && kind != Inside::Cancel {
            self.calls[at].tries += 1;
            return self.challenged_inside(now, at, (client, kind), msg, out);
        }
        match kind {
            Inside::Bye => self.calls[at].over(now, Ended::HungUp),
            Inside::Cancel => {}
            Inside::Info => self.calls[at].log.informed += u32::from(status == 200),
            Inside::Reinvite(direction) if status < 300 => self.reinvited(now, at, direction, msg, out),
            Inside::Reinvite(direction) if status == 491 || status == 500 => {
                let again = if direction == Direction::SendRecv { Timer::Resume } else { Timer::Hold };
                let wait = self.rng.millis(2_100, 4_000);
                self.calls[at].timers.push((now + wait, again));
            }
            // RFC 3261 §12.2.1.2: these end the dialog.
            Inside::Reinvite(_) if matches!(status, 408 | 481) => self.hang_up(now, at, out),
            Inside::Reinvite(_) => {}
        }
    }

    fn challenged_inside(
        &mut self,
        now: Time,
        at: usize,
        (client, kind): (ClientId, Inside),
        msg: &Msg,
        out: &mut Vec<Packet>,
    ) {
        let sent = self.transactions.sent(client).map(|(sent, _)| sent.clone());
        let Some(mut again) = sent.and_then(|sent| self.authorised(&sent, msg)) else {
            if kind == Inside::Bye {
                self.calls[at].over(now, Ended::HungUp);
            }
            return;
        };
        let via = self.via();
        let call = &mut self.calls[at];
        call.cseq += 1;
        call.inside.retain(|(id, _)| *id != client);
        let method = again.method().to_owned();
        for (name, value) in &mut again.fields {
            if crate::sip::same_name(name, "via") {
                value.clone_from(&via);
            } else if name == "CSeq" {
                *value = format!("{} {method}", call.cseq);
            }
        }
        self.start_inside(now, at, kind, again, out);
    }

    fn reinvited(&mut self, now: Time, at: usize, direction: Direction, msg: &Msg, out: &mut Vec<Packet>) {
        if self.calls[at].acks.iter().any(|(cseq, _)| *cseq == msg.cseq()) {
            return self.acknowledge_again(msg.cseq(), at, out);
        }
        let ack = self.inside(at, "ACK", Some(msg.cseq()));
        self.acknowledge(at, msg.cseq(), &ack, out);
        if self.calls[at].state != State::Confirmed {
            return;
        }
        let hold = self.plans.get(self.calls[at].plan).and_then(|plan| plan.hold);
        let call = &mut self.calls[at];
        call.learn(msg);
        match sdp::read(&msg.body) {
            Some(remote) => call.agree(now, remote, direction),
            None => self.complaints.push(format!("2xx to a re-INVITE without SDP in call {}", call.plan)),
        }
        let call = &mut self.calls[at];
        if direction == Direction::SendRecv {
            call.log.resumed += 1;
        } else if let Some(hold) = hold {
            call.timers.push((now + hold.length, Timer::Resume));
        }
    }

    pub(crate) fn inside_timed_out(&mut self, now: Time, at: usize, client: ClientId, out: &mut Vec<Packet>) {
        let Some((_, kind)) = self.calls[at].inside.iter().find(|(id, _)| *id == client).copied() else { return };
        match kind {
            Inside::Bye => self.calls[at].over(now, Ended::TimedOut),
            Inside::Cancel => self.calls[at].over(now, Ended::TimedOut),
            Inside::Reinvite(_) => self.hang_up(now, at, out),
            Inside::Info => {}
        }
    }

    /// A request of the other end.
    pub(crate) fn in_dialog(&mut self, now: Time, at: usize, server: ServerId, msg: &Msg, out: &mut Vec<Packet>) {
        match msg.method() {
            "BYE" => {
                self.reply(now, server, &msg.reply(200, "OK", ""), out);
                let how = if msg.get("reason").is_some() { Ended::ByeWithReason } else { Ended::Bye };
                self.calls[at].over(now, how);
                self.bury();
            }
            "INVITE" => self.offered_again(now, at, server, msg, out),
            _ => self.reply(now, server, &msg.reply(200, "OK", ""), out),
        }
    }

    fn offered_again(&mut self, now: Time, at: usize, server: ServerId, msg: &Msg, out: &mut Vec<Packet>) {
        let glare = self.reinviting(at);
        let call = &mut self.calls[at];
        if glare || call.repeated.is_some() {
            return self.reply(now, server, &msg.reply(491, "Request Pending", ""), out);
        }
        let Some(remote) = sdp::read(&msg.body) else {
            self.complaints.push(format!("re-INVITE without a usable offer in call {}", call.plan));
            return self.reply(now, server, &msg.reply(488, "Not Acceptable Here", ""), out);
        };
        call.learn(msg);
        call.version += 1;
        let direction = remote.direction.answer(Direction::SendRecv);
        call.agree(now, remote, direction);
        self.accept(now, at, (server, msg), direction, remote.sections, out);
    }
}
