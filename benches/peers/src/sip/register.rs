//! Registrations: user `uI` at its phone, each answered by the contender itself.

use std::fmt::Write as _;
use std::io;

use super::calls::courtesy;
use super::{Load, Pace, text};
use crate::clock;
use crate::phones::Came;
use crate::reply::{Delays, Reply};

/// In the Call-ID of a phone that registers again; those of calls and of phones that register anew count from 1.
const AGAIN: u32 = 0;
/// How long a contender may take until it answers.
const NOBODY: u64 = 60_000_000_000;

impl Load {
    /// Registers users `from` to `from + count` at `rate` a second: again as each did before, by the same Call-ID
    /// and From tag with the next CSeq (RFC 3261 §10.2.4), or `anew`, as if all phones had been started.
    pub(super) fn register(&mut self, anew: bool, rate: u64, from: usize, count: usize) -> io::Result<String> {
        self.run += 1;
        let (run, to, pace) = (self.run, self.to(), Pace::from_now(rate));
        let dialog = if anew { run } else { AGAIN };
        let mut sent_at: Vec<u64> = Vec::with_capacity(count);
        let mut delays = Delays::default();
        let (mut answered, mut refused) = (0, 0);
        let mut message = String::new();
        let mut last = clock::now();
        while answered + refused < count {
            let now = clock::now();
            if now > last + pace.patience() {
                break;
            }
            // No more at a time than a socket's buffer of the contender's certainly holds.
            for _ in 0..pace.due(now, answered + refused).min(count).saturating_sub(sent_at.len()).min(64) {
                let number = from + sent_at.len();
                self.write_register(&mut message, dialog, run, number);
                sent_at.push(clock::now());
                self.called.send(number % self.called.count(), to, message.as_bytes())?;
                last = now;
            }
            let patience = if self.core { 0 } else { pace.patience_ms(now, sent_at.len()) };
            self.called.receive(patience, |phones, came| {
                let Came { at, bytes, .. } = came;
                let Some(heard) = text::Heard::read(bytes) else { return Ok(()) };
                if heard.status().is_none() {
                    return courtesy(phones, &came, to);
                }
                let Some(sent) = heard.number(dialog).and_then(|number| sent_at.get(number.checked_sub(from)?)) else {
                    return Ok(());
                };
                match heard.status() {
                    Some(200) => answered += 1,
                    Some(300..) => refused += 1,
                    Some(_) | None => return Ok(()),
                }
                delays.add(*sent, at);
                last = at;
                Ok(())
            })?;
            if self.core {
                self.accept(dialog)?;
            }
        }
        self.users = self.users.max(from + count);
        self.answered = answered;
        Ok(Reply::default()
            .with("answered", answered)
            .with("refused", refused)
            .with("lost", count - answered - refused)
            .with_delays("register", &mut delays)
            .done())
    }

    /// Asks every millisecond until somebody answers 200; when that was.
    pub(super) fn first_answer(&mut self) -> io::Result<String> {
        let mut message = String::new();
        let (to, began, mut at) = (self.to(), clock::now(), None);
        while at.is_none() {
            if clock::now() > began + NOBODY {
                return Err(io::Error::other("nobody answers"));
            }
            self.run += 1;
            let run = self.run;
            self.write_register(&mut message, run, run, 0);
            self.called.send(0, to, message.as_bytes())?;
            self.called.receive(1, |_, came| {
                let ok = text::Heard::read(came.bytes).is_some_and(|heard| heard.status() == Some(200));
                at = at.or(ok.then_some(came.at));
                Ok(())
            })?;
        }
        Ok(Reply::default().with("at_ns", at.unwrap_or_default()).done())
    }

    /// The core takes what has come, and remembers where each user is.
    fn accept(&mut self, dialog: u32) -> io::Result<()> {
        let (to, contacts) = (self.to_inner(), &mut self.contacts);
        let mut out = String::new();
        self.callers.receive(0, |phones, came| {
            let Some(heard) = text::Heard::read(came.bytes) else { return Ok(()) };
            if let (Some(user), "REGISTER") = (heard.number(dialog), heard.first) {
                contacts.resize(contacts.len().max(user + 1), String::new());
                heard.contact.clone_into(&mut contacts[user]);
                let granted = format!("Contact: <{}>;expires=3600\r\n", heard.contact);
                text::answer(&mut out, &heard, "200 OK", "core", &granted, "");
                phones.send(came.phone, to, out.as_bytes())?;
                return Ok(());
            }
            courtesy(phones, &came, to)
        })?;
        Ok(())
    }

    fn write_register(&self, out: &mut String, dialog: u32, run: u32, number: usize) {
        let registrar = if self.core { self.callers.address(0).to_string() } else { self.proxy.ip().to_string() };
        let own = self.called.address(number % self.called.count());
        out.clear();
        let _ = write!(
            out,
            "REGISTER sip:{registrar} SIP/2.0\r\nVia: SIP/2.0/UDP {own};rport;branch=z9hG4bKr{run}n{number}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:u{number}@{registrar}>;tag=r{dialog}\r\nTo: <sip:u{number}@{registrar}>\r\n\
             Call-ID: {number}-{dialog}@{ip}\r\nCSeq: {run} REGISTER\r\nContact: <sip:u{number}@{own}>\r\n\
             Expires: 3600\r\nUser-Agent: peers-load\r\nAllow: INVITE, ACK, CANCEL, BYE, OPTIONS\r\n",
            ip = own.ip(),
        );
        text::finish(out, "");
    }
}
