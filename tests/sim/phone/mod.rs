//! A phone: small, honest, and without any knowledge of siplatch.
//!
//! It registers, calls and is called by plan ([`crate::plan`]), holds and
//! resumes, and plays a tone. Whatever it is told that an honest peer would
//! not have told it, it notes as a complaint.

mod call;
mod callee;
mod caller;
mod connection;
mod dialog;
pub(crate) mod digest;
mod exchange;
mod ice;
mod media;
mod register;
mod reinvite;
pub(crate) mod sdp;

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use wire::Transport;

pub(crate) use call::{CallLog, Ended};
pub(crate) use media::STRETCHES;

use self::call::{Call, Timer};
use self::digest::Challenge;
use self::register::Registration;
use crate::clock::{Time, earlier};
use crate::net::{Carrier, Packet};
use crate::plan::CallPlan;
use crate::rng::Rng;
use crate::sip::{self, Msg};
use crate::stack::Stack;
use crate::transaction::{Event, ServerId, Transactions, Way};

/// What kind of phone it is.
#[derive(Debug, Clone)]
pub(crate) struct Profile {
    pub(crate) user: String,
    pub(crate) domain: String,
    pub(crate) ip: IpAddr,
    pub(crate) port: u16,
    /// What it speaks with its proxy.
    pub(crate) transport: Transport,
    /// How often it pings a connection.
    pub(crate) pings: Duration,
    /// Requests without an answer go again when a connection ends; else they have failed.
    pub(crate) repeats: bool,
    /// Where all requests outside dialogs go.
    pub(crate) proxy: SocketAddr,
    pub(crate) password: Option<String>,
    pub(crate) expires: u32,
    /// Compact field names.
    pub(crate) compact: bool,
    /// Odd but legal fields: folds, blanks, unknown names.
    pub(crate) odd: bool,
    pub(crate) comedia: bool,
    /// Comes back from a hold with a new SSRC.
    pub(crate) new_source: bool,
    pub(crate) looks: sdp::Looks,
    pub(crate) interval: Duration,
    /// Its router rewrites what it says of itself.
    pub(crate) meddled: bool,
    /// Its router names public ports for others that may be its own, and lets in whatever comes to it.
    pub(crate) misnamed: bool,
}

impl Profile {
    pub(crate) fn local(&self) -> SocketAddr {
        SocketAddr::new(self.ip, self.port)
    }

    /// Where all requests outside dialogs go.
    pub(crate) fn way(&self) -> Way {
        Way { transport: self.transport, from: self.local(), to: self.proxy }
    }

    /// What it calls itself: its address, or a name that means nothing, as browsers write it (RFC 7118 §5).
    fn host(&self) -> String {
        match self.transport {
            Transport::Ws | Transport::Wss => {
                format!("df7jal23ls0d{}p{}.invalid", self.ip.to_string().replace('.', ""), self.port)
            }
            Transport::Udp | Transport::Tcp | Transport::Tls => self.local().to_string(),
        }
    }

    pub(crate) fn aor(&self) -> String {
        format!("sip:{}@{}", self.user, self.domain)
    }

    pub(crate) fn contact(&self) -> String {
        let transport = match self.transport {
            Transport::Udp => "",
            Transport::Tcp => ";transport=tcp",
            Transport::Tls => ";transport=tls",
            Transport::Ws | Transport::Wss => ";transport=ws",
        };
        format!("sip:{}@{};line={}{transport}", self.user, self.host(), self.user.len())
    }
}

/// One phone.
#[derive(Debug)]
pub(crate) struct Phone {
    pub(crate) profile: Profile,
    pub(crate) me: usize,
    plans: Rc<[CallPlan]>,
    /// Users of all phones, by index.
    book: Rc<[String]>,
    rng: Rng,
    pub(crate) transactions: Transactions,
    stack: Stack,
    line: connection::Line,
    registration: Registration,
    /// The last challenge to a request other than REGISTER.
    challenge: Option<Challenge>,
    nonce_count: u32,
    calls: Vec<Call>,
    /// Finished and running calls' records, by plan and end.
    pub(crate) log: Vec<CallLog>,
    /// What an honest peer would not have done.
    pub(crate) complaints: Vec<String>,
    /// Unplugged.
    pub(crate) vanished: bool,
    next_port: u16,
}

impl Phone {
    pub(crate) fn new(
        profile: Profile,
        me: usize,
        plans: Rc<[CallPlan]>,
        book: Rc<[String]>,
        start: Time,
        mut rng: Rng,
    ) -> Self {
        let registration = Registration::new(start, &mut rng);
        let mut stack = Stack::default();
        if profile.transport.reliable() {
            stack.listen(profile.transport, profile.local());
        }
        let next_port = 16_384 + 2 * rng.below(4000) as u16;
        Self {
            profile,
            me,
            plans,
            book,
            rng,
            transactions: Transactions::default(),
            stack,
            line: connection::Line::default(),
            registration,
            challenge: None,
            nonce_count: 0,
            calls: Vec::new(),
            log: Vec::new(),
            complaints: Vec::new(),
            vanished: false,
            next_port,
        }
    }

    pub(crate) fn registered(&self) -> bool {
        self.registration.granted
    }

    pub(crate) fn retransmitted(&self) -> u64 {
        self.transactions.retransmitted
    }

    /// Calls that have not ended.
    pub(crate) fn busy(&self) -> usize {
        if self.vanished { 0 } else { self.calls.len() + self.transactions.unanswered() }
    }

    /// The way between the phones has changed: nothing counts until then.
    pub(crate) fn unsettle(&mut self, until: Time) {
        for call in &mut self.calls {
            call.media.unsettle(until);
            call.log.disturbed = true;
        }
    }

    /// Pulls the plug.
    pub(crate) fn vanish(&mut self, now: Time) {
        self.vanished = true;
        for mut call in std::mem::take(&mut self.calls) {
            call.over(now, Ended::Vanished);
            self.log.push(call.record());
        }
    }

    /// A packet came in.
    pub(crate) fn receive(&mut self, now: Time, packet: &Packet, out: &mut Vec<Packet>) {
        if self.vanished {
            return;
        }
        if matches!(packet.carrier, Carrier::Segment(_)) {
            let event = self.stack.receive(now, packet, out);
            return self.connected(now, event.into_iter().collect(), out);
        }
        if packet.to == self.profile.local() {
            self.signalling(now, packet, out);
            return;
        }
        for call in &mut self.calls {
            if call.video.receive(now, packet) {
                if let Some(tone) = call.video.foreign.take().filter(|_| !self.profile.misnamed) {
                    self.complaints.push(format!("sees tone {tone:08x} in call {}", call.plan));
                }
                return;
            }
            if call.media.receive(now, packet) {
                let misled = self.profile.misnamed && !call.media.expects(packet.from);
                if let Some(tone) = call.media.foreign.take().filter(|_| !misled) {
                    self.complaints.push(format!("hears tone {tone:08x} in call {}", call.plan));
                }
                return;
            }
        }
    }

    fn signalling(&mut self, now: Time, packet: &Packet, out: &mut Vec<Packet>) {
        let Some(msg) = Msg::parse(&packet.bytes) else { return };
        let Some(event) = self.transactions.receive(now, packet, msg, out) else { return };
        self.event(now, event, out);
    }

    fn event(&mut self, now: Time, event: Event, out: &mut Vec<Packet>) {
        match event {
            Event::Request { server, msg } => self.request(now, server, &msg, out),
            Event::Ack(msg) => self.acknowledged(now, &msg),
            Event::Response { client, msg } if self.registration.owns(client) => self.registered_by(now, &msg, out),
            Event::Response { client, msg } => self.response(now, client, &msg, out),
            Event::Timeout { client } if self.registration.owns(client) => self.registration.failed(now, &mut self.rng),
            Event::Timeout { client } => self.request_timed_out(now, client, out),
            Event::Stray(msg) => self.stray(now, &msg, out),
        }
    }

    fn request(&mut self, now: Time, server: ServerId, msg: &Msg, out: &mut Vec<Packet>) {
        if let Some(at) = self.call_of(msg) {
            return self.in_dialog(now, at, server, msg, out);
        }
        let in_dialog = !msg.tag("to").is_empty();
        match msg.method() {
            "INVITE" if !in_dialog => self.invited(now, server, msg, out),
            "CANCEL" => self.cancelled(now, server, msg, out),
            "OPTIONS" if !in_dialog => self.reply(now, server, &msg.reply(200, "OK", "ping"), out),
            _ => self.reply(now, server, &msg.reply(481, "Call/Transaction Does Not Exist", "none"), out),
        }
    }

    fn reply(&mut self, now: Time, server: ServerId, reply: &Msg, out: &mut Vec<Packet>) {
        self.transactions.respond(now, server, reply, out);
    }

    /// A deadline passed.
    pub(crate) fn timeout(&mut self, now: Time, out: &mut Vec<Packet>) {
        if self.vanished {
            return;
        }
        for event in self.transactions.timeout(now, out) {
            self.event(now, event, out);
        }
        if self.registration.due(now) {
            self.register(now, out);
        }
        self.keep_line(now, out);
        let ended = self.stack.timeout(now);
        self.connected(now, ended, out);
        for call in &mut self.calls {
            call.media.timeout(now, out);
            call.video.timeout(now, out);
            call.repeat_answer(now, out);
        }
        while let Some((id, timer)) = self.due(now) {
            self.timer(now, id, timer, out);
        }
        self.bury();
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Time> {
        if self.vanished {
            return None;
        }
        let calls = self.calls.iter().map(Call::next).fold(None, earlier);
        let streams = earlier(self.stack.next(), self.line.next());
        earlier(earlier(earlier(self.transactions.next(), self.registration.at), calls), streams)
    }

    fn due(&mut self, now: Time) -> Option<(u64, Timer)> {
        self.calls.iter_mut().find_map(|call| Some((call.id, call.due(now)?)))
    }

    /// A new top Via of ours (RFC 3581: with `rport`).
    fn via(&mut self) -> String {
        let branch = self.rng.word();
        let (transport, host) = (self.profile.transport.via(), self.profile.host());
        format!("SIP/2.0/{transport} {host};rport;branch=z9hG4bK{branch}")
    }

    /// Field names in this phone's habit.
    fn name(&self, long: &'static str) -> &'static str {
        match long {
            "Via" if self.profile.compact => "v",
            "From" if self.profile.compact => "f",
            "To" if self.profile.compact => "t",
            "Call-ID" if self.profile.compact => "i",
            "Contact" if self.profile.compact => "m",
            "Content-Type" if self.profile.compact => "c",
            _ => long,
        }
    }

    /// Fields that nobody between the phones has any business with.
    fn ornaments(&self, msg: &mut Msg) {
        msg.push("User-Agent", "sim/1.0 (quite, a \"phone\")");
        if self.profile.odd {
            msg.push("X-Odd", "semi;colons , commas,, \"quoted \\\" text\"  <angle");
            msg.push("subject", "folded\r\n  onto a second\r\n\tand a third line");
            msg.push("Allow", "INVITE, ACK,BYE ,CANCEL, OPTIONS");
            msg.push("aLLoW", "INFO,UPDATE");
            msg.push("Date ", "Sat, 13 Nov 2010 23:29:00 GMT");
        } else {
            msg.push("Allow", "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, UPDATE");
            msg.push("Supported", "replaces");
        }
    }

    /// Answers a challenge on a request: the request again, with credentials.
    fn authorised(&mut self, request: &Msg, challenge: &Msg) -> Option<Msg> {
        let (field, name) = match challenge.status() {
            401 => ("www-authenticate", "Authorization"),
            _ => ("proxy-authenticate", "Proxy-Authorization"),
        };
        let password = self.profile.password.clone()?;
        let values = challenge.fields.iter().filter(|(n, _)| sip::same_name(n, field));
        let parsed = values.filter_map(|(_, v)| Challenge::parse(v)).next()?;
        if request.get(name).is_some_and(|old| old.contains(&parsed.nonce)) && !parsed.stale {
            return None;
        }
        self.nonce_count += 1;
        let value = parsed.answer(&self.profile.user, &password, request.method(), request.uri(), self.nonce_count);
        self.challenge = Some(parsed);
        let mut again = request.clone();
        again.fields.retain(|(n, _)| !sip::same_name(n, name));
        again.push(name, value);
        Some(again)
    }
}
