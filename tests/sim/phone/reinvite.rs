//! Inside a dialog: timers, INFO, BYE, and how the other end's are answered.
//! Offers are in `exchange`.

use super::Phone;
use super::call::{Ended, Inside, State, Timer};
use crate::clock::Time;
use crate::net::Packet;
use crate::sip::Msg;
use crate::transaction::{ClientId, ServerId};

impl Phone {
    /// A timer of a call ran down.
    pub(crate) fn timer(&mut self, now: Time, call: u64, timer: Timer, out: &mut Vec<Packet>) {
        let Some(at) = self.calls.iter().position(|c| c.id == call) else { return };
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
            Timer::Turn(turn) => self.turn(now, at, turn, out),
            Timer::Vanish => self.vanish(now),
            Timer::Mute => self.calls[at].mute(),
            Timer::Deaf => self.deaf(now, at),
            Timer::Stuck if self.exchanging(at) => self.hang_up(now, at, out),
            Timer::Stuck => {}
            Timer::Abandon => self.abandon(now, at, out),
        }
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
        call.mute();
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
            Inside::Exchange(turn) => self.exchanged(now, at, turn, msg, out),
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
            } else if matches!(kind, Inside::Exchange(_)) {
                self.calls[at].dropped(now);
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

    pub(crate) fn inside_timed_out(&mut self, now: Time, at: usize, client: ClientId, out: &mut Vec<Packet>) {
        let Some((_, kind)) = self.calls[at].inside.iter().find(|(id, _)| *id == client).copied() else { return };
        match kind {
            Inside::Bye => self.calls[at].over(now, Ended::TimedOut),
            Inside::Cancel => self.calls[at].over(now, Ended::TimedOut),
            Inside::Exchange(_) => self.hang_up(now, at, out),
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
            "UPDATE" if !msg.body.is_empty() => self.offered_again(now, at, server, msg, out),
            _ => self.reply(now, server, &msg.reply(200, "OK", ""), out),
        }
    }
}
