//! Calls: INVITE, 100, 180, 200, ACK, and at once or later BYE, 200. Six messages go into the proxy and seven come out.

use std::fmt::Write as _;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use super::text::{self, Heard};
use super::{Load, Pace};
use crate::clock;
use crate::phones::{Came, Phones};
use crate::reply::{Delays, Reply};

/// Behind schedule by this much, the load itself is what cannot.
const BEHIND: u64 = 100_000_000;
/// Calls that start between two looks at the sockets.
const BURST: usize = 32;
/// The first port for media; all above are dropped unread by the namespace that we run in.
pub(crate) const MEDIA: u16 = 32_768;

/// Where both ends of a call have their media, and where they are told to send it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends {
    /// Own address of the caller and of the called.
    pub(crate) own: [SocketAddrV4; 2],
    /// Where each sends to.
    pub(crate) to: [SocketAddrV4; 2],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Stage {
    #[default]
    Invited,
    Up,
    Ended,
    Refused,
}

#[derive(Default)]
struct Call {
    stage: Stage,
    invited: u64,
    tried: bool,
    accepted: u64,
    /// Request-URI and Route fields of what the caller sends within the dialog, and To with its tag.
    target: String,
    routes: String,
    to: String,
    told: [Option<SocketAddrV4>; 2],
}

/// The calls of one command, and what was seen of them.
#[derive(Default)]
pub(crate) struct Calls {
    run: u32,
    calls: Vec<Call>,
    sdp: bool,
    hold: bool,
    /// Number of the first call's media.
    media: usize,
    ended: usize,
    up: usize,
    refused: usize,
    overloaded: usize,
    retry_after: usize,
    tried: Delays,
    accepted: Delays,
    set_up: Delays,
}

/// Media of call `number` at its caller (0) or called (1): one address of eight a phone, a port pair each.
pub(crate) fn media_at(first: Ipv4Addr, number: usize) -> SocketAddrV4 {
    let ip = Ipv4Addr::from_bits(first.to_bits() + u32::try_from(number % 8).unwrap_or(0));
    SocketAddrV4::new(ip, MEDIA + u16::try_from(number / 8 % 16_000).unwrap_or(0) * 2)
}

impl Load {
    /// `count` calls at `rate` a second; they end at once, unless they are to `hold`.
    pub(super) fn call(&mut self, rate: u64, count: usize, sdp: bool, hold: bool) -> io::Result<String> {
        if self.users == 0 {
            return Err(io::Error::other("nobody has registered"));
        }
        self.run += 1;
        let mut calls = Calls { run: self.run, sdp, hold, media: self.held, ..Calls::default() };
        calls.calls.reserve(count);
        let pace = Pace::from_now(rate);
        let (mut text, mut body, mut behind, mut last) = (String::new(), String::new(), false, pace.began);
        loop {
            let now = clock::now();
            let through = calls.refused + if hold { calls.up } else { calls.ended };
            let due = pace.due(now, through).min(count);
            for _ in 0..due.saturating_sub(calls.calls.len()).min(BURST) {
                self.invite(&mut calls, &mut text, &mut body)?;
                last = now;
            }
            let sent = calls.calls.len();
            behind |= due - sent > usize::try_from(rate * BEHIND / 1_000_000_000).unwrap_or(0).max(BURST);
            if sent == count && (through == count || now > last + pace.patience()) {
                break;
            }
            self.hear(&mut calls, pace.patience_ms(now, sent))?;
        }
        let done = if hold { calls.up } else { calls.ended };
        let answer = Reply::default()
            .with("calls", count)
            .with("done", done)
            .with("refused", calls.refused)
            .with("overloaded", calls.overloaded)
            .with("retry_after", calls.retry_after)
            .with("lost", count - done - calls.refused)
            .with("behind", behind)
            .with("elapsed_ns", clock::now() - pace.began)
            .with_delays("trying", &mut calls.tried)
            .with_delays("accepted", &mut calls.accepted)
            .with_delays("set_up", &mut calls.set_up)
            .done();
        self.calls = calls;
        Ok(answer)
    }

    /// Ends the calls that are held.
    pub(super) fn hang_up(&mut self) -> io::Result<String> {
        let mut calls = std::mem::take(&mut self.calls);
        let mut text = String::new();
        let held: Vec<usize> = (0..calls.calls.len()).filter(|at| calls.calls[*at].stage == Stage::Up).collect();
        for chunk in held.chunks(BURST) {
            for number in chunk {
                calls.within(&mut text, "BYE", 2, *number, self.caller(*number));
                self.callers.send(self.phone(*number), self.to_inner(), text.as_bytes())?;
            }
            let expected = calls.ended + chunk.len();
            let patience = clock::now() + 5_000_000_000;
            while calls.ended < expected && clock::now() < patience {
                self.hear(&mut calls, 10)?;
            }
        }
        Ok(Reply::default().with("ended", calls.ended).with("lost", held.len() - calls.ended.min(held.len())).done())
    }

    /// The phone that makes a call, among those that call and those that are called alike.
    fn phone(&self, number: usize) -> usize {
        (self.held + number) % self.callers.count()
    }

    fn caller(&self, number: usize) -> SocketAddrV4 {
        self.callers.address(self.phone(number))
    }

    fn invite(&mut self, calls: &mut Calls, out: &mut String, body: &mut String) -> io::Result<()> {
        let number = calls.calls.len();
        let (run, proxy, own) = (calls.run, self.proxy.ip(), self.caller(number));
        body.clear();
        if calls.sdp {
            text::sdp(body, number, media_at(*self.callers.address(0).ip(), calls.media + number));
        }
        let user = (self.held + number) % self.users;
        let target = self.contacts.get(user).cloned().unwrap_or_else(|| format!("sip:u{user}@{proxy}"));
        out.clear();
        let _ = write!(
            out,
            "INVITE {target} SIP/2.0\r\nVia: SIP/2.0/UDP {own};rport;branch=z9hG4bKi{run}n{number}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:c{number}@{proxy}>;tag=c{run}n{number}\r\nTo: <sip:u{user}@{proxy}>\r\n\
             Call-ID: {number}-{run}@{ip}\r\nCSeq: 1 INVITE\r\nContact: <sip:c{number}@{own}>\r\n\
             User-Agent: peers-load\r\nAllow: INVITE, ACK, CANCEL, BYE, OPTIONS\r\nSupported: replaces\r\n",
            ip = own.ip(),
        );
        text::finish(out, body);
        calls.calls.push(Call { invited: clock::now(), ..Call::default() });
        self.callers.send(self.phone(number), self.to_inner(), out.as_bytes())
    }

    fn hear(&mut self, calls: &mut Calls, patience_ms: i32) -> io::Result<()> {
        let (to, inner) = (self.to(), self.to_inner());
        let mut out = String::new();
        self.called.receive(0, |phones, came| calls.at_called(phones, came, to, &mut out))?;
        self.callers.receive(patience_ms, |phones, came| calls.at_caller(phones, came, inner, &mut out))?;
        Ok(())
    }
}

impl Calls {
    /// Where the media of each call that is up goes.
    pub(super) fn ends(&self, firsts: [Ipv4Addr; 2]) -> Vec<Ends> {
        let of = |(number, call): (usize, &Call)| match call.told {
            [Some(caller), Some(called)] if call.stage == Stage::Up => {
                Some(Ends { own: firsts.map(|first| media_at(first, self.media + number)), to: [caller, called] })
            }
            _ => None,
        };
        self.calls.iter().enumerate().filter_map(of).collect()
    }

    fn at_called(&mut self, phones: &Phones, came: Came<'_>, to: SocketAddr, out: &mut String) -> io::Result<()> {
        let Some(heard) = Heard::read(came.bytes) else { return Ok(()) };
        let Some(number) = heard.number(self.run).filter(|number| *number < self.calls.len()) else {
            return courtesy(phones, &came, to);
        };
        let tag = format!("u{number}");
        match heard.first {
            "INVITE" => {
                let own = phones.address(came.phone);
                let contact = format!("Contact: <sip:u@{own}>\r\n");
                self.calls[number].told[1] = text::media_of(heard.body);
                text::answer(out, &heard, "180 Ringing", &tag, &contact, "");
                phones.send(came.phone, to, out.as_bytes())?;
                let mut body = String::new();
                if !heard.body.is_empty() {
                    text::sdp(&mut body, number, media_at(*phones.address(0).ip(), self.media + number));
                }
                text::answer(out, &heard, "200 OK", &tag, &contact, &body);
                self.calls[number].accepted = clock::now();
                phones.send(came.phone, to, out.as_bytes())
            }
            "BYE" => {
                text::answer(out, &heard, "200 OK", &tag, "", "");
                phones.send(came.phone, to, out.as_bytes())
            }
            _ => Ok(()),
        }
    }

    fn at_caller(&mut self, phones: &Phones, came: Came<'_>, to: SocketAddr, out: &mut String) -> io::Result<()> {
        let Some(heard) = Heard::read(came.bytes) else { return Ok(()) };
        let (Some(number), Some(status)) = (heard.number(self.run), heard.status()) else {
            return courtesy(phones, &came, to);
        };
        let Some(call) = self.calls.get_mut(number) else { return Ok(()) };
        match (heard.method(), status, call.stage) {
            ("INVITE", 100, Stage::Invited) if !call.tried => {
                call.tried = true;
                self.tried.add(call.invited, came.at);
            }
            ("INVITE", 200, Stage::Invited) => {
                self.accepted.add(call.accepted, came.at);
                self.set_up.add(call.invited, came.at);
                call.stage = Stage::Up;
                self.up += 1;
                heard.contact.clone_into(&mut call.target);
                heard.to.clone_into(&mut call.to);
                // Together in one field or not, they are used in reverse order (RFC 3261 §12.1.2).
                let routes: Vec<&str> = heard.record_routes.iter().flat_map(|field| field.split(',')).collect();
                for route in routes.iter().rev() {
                    let _ = write!(call.routes, "Route: {}\r\n", route.trim());
                }
                call.told[0] = text::media_of(heard.body);
                let own = phones.address(came.phone);
                self.within(out, "ACK", 1, number, own);
                phones.send(came.phone, to, out.as_bytes())?;
                if !self.hold {
                    self.within(out, "BYE", 2, number, own);
                    phones.send(came.phone, to, out.as_bytes())?;
                }
            }
            ("INVITE", 300.., Stage::Invited) => {
                call.stage = Stage::Refused;
                self.refused += 1;
                if status == 503 {
                    self.overloaded += 1;
                    self.retry_after += usize::from(came.bytes.windows(13).any(|part| part == b"\r\nRetry-After"));
                }
                self.refusal_ack(out, &heard, number, phones.address(came.phone));
                phones.send(came.phone, to, out.as_bytes())?;
            }
            ("BYE", 200, Stage::Up) => {
                call.stage = Stage::Ended;
                self.ended += 1;
            }
            _ => {}
        }
        Ok(())
    }

    /// A request within the dialog of a call.
    fn within(&self, out: &mut String, method: &str, cseq: u32, number: usize, own: SocketAddrV4) {
        let (run, call) = (self.run, &self.calls[number]);
        let letter = method.as_bytes()[0] as char;
        out.clear();
        let _ = write!(
            out,
            "{method} {target} SIP/2.0\r\nVia: SIP/2.0/UDP {own};rport;branch=z9hG4bK{letter}{run}n{number}\r\n\
             Max-Forwards: 70\r\n{routes}From: <sip:c{number}@{ip}>;tag=c{run}n{number}\r\nTo: {to}\r\n\
             Call-ID: {number}-{run}@{ip}\r\nCSeq: {cseq} {method}\r\n",
            target = call.target,
            routes = call.routes,
            to = call.to,
            ip = own.ip(),
        );
        text::finish(out, "");
    }

    /// The ACK to a refusal belongs to the INVITE's transaction (RFC 3261 §17.1.1.3).
    fn refusal_ack(&self, out: &mut String, heard: &Heard<'_>, number: usize, own: SocketAddrV4) {
        let run = self.run;
        let uri = bracketed_uri(heard.to);
        out.clear();
        let _ = write!(
            out,
            "ACK {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {own};rport;branch=z9hG4bKi{run}n{number}\r\nMax-Forwards: 70\r\n\
             From: {from}\r\nTo: {to}\r\nCall-ID: {id}\r\nCSeq: 1 ACK\r\n",
            from = heard.from,
            to = heard.to,
            id = heard.call_id,
        );
        text::finish(out, "");
    }
}

/// Answers a ping, and what is left of an earlier command.
pub(super) fn courtesy(phones: &Phones, came: &Came<'_>, to: SocketAddr) -> io::Result<()> {
    let Some(heard) = Heard::read(came.bytes) else { return Ok(()) };
    if !matches!(heard.first, "OPTIONS" | "BYE") {
        return Ok(());
    }
    let mut out = String::new();
    text::answer(&mut out, &heard, "200 OK", "x", "", "");
    phones.send(came.phone, to, out.as_bytes())
}

fn bracketed_uri(value: &str) -> &str {
    value.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map_or(value, |(uri, _)| uri)
}
