//! What peers say: requests, answers, requests inside a dialog, with SDP of
//! several kinds, and ways to spoil it.

use std::fmt::Write as _;

use wire::Flow;
use wire::sip::compose::{self, Response};
use wire::sip::{Contact, Limits, Message, Method, Name, Status, Stored, field::comma_list};

pub(super) const METHODS: [&str; 16] = [
    "INVITE",
    "ACK",
    "BYE",
    "REGISTER",
    "CANCEL",
    "OPTIONS",
    "UPDATE",
    "PRACK",
    "REFER",
    "SUBSCRIBE",
    "NOTIFY",
    "MESSAGE",
    "INFO",
    "PUBLISH",
    "DANCE",
    "INVITE",
];
const USERS: [&str; 5] = ["alice", "bob", "reception", "booth", "siplatch"];
const STATUSES: [u16; 24] = [
    200, 180, 183, 100, 486, 401, 407, 404, 487, 503, 202, 302, 600, 603, 408, 481, 491, 422, 500, 199, 420, 484, 699,
    299,
];

/// `{local}`: our own address on this side.
const BODIES: [&str; 10] = [
    "",
    "v=0\no=- 1 1 IN IP4 {ip}\ns=-\nc=IN IP4 {ip}\nt=0 0\nm=audio 4000 RTP/AVP 0 8\n",
    "v=0\no=- 1 2 IN IP4 {ip}\ns=-\nt=0 0\nm=audio 4000 RTP/AVP 0\nc=IN IP4 {ip}\nm=video 4010 RTP/AVP 96\nc=IN IP4 {ip}\n",
    "v=0\no=- 1 3 IN IP4 {ip}\ns=-\nc=IN IP4 {ip}\nt=0 0\na=sendonly\nm=audio 4000 RTP/AVP 0\n",
    "v=0\no=- 1 3 IN IP4 {ip}\ns=-\nc=IN IP4 0.0.0.0\nt=0 0\nm=audio 4000 RTP/AVP 0\n",
    "v=0\no=- 1 4 IN IP4 {ip}\ns=-\nc=IN IP4 {ip}\nt=0 0\nm=audio 0 RTP/AVP 0\nm=image 4004 udptl t38\n",
    "v=0\no=- 1 5 IN IP4 {ip}\ns=-\nc=IN IP4 {ip}\nt=0 0\nm=audio 4000 RTP/AVP 0\na=rtcp:4009 IN IP4 {ip}\na=rtcp-mux\na=candidate:1 1 UDP 1 {ip} 4000 typ host\n",
    "v=0\no=- 1 6 IN IP4 {local}\ns=-\nc=IN IP4 {local}\nt=0 0\nm=audio 30002 RTP/AVP 0\n",
    "v=0\no=- 1 6 IN IP4 {ip}\ns=-\nc=IN IP6 2001:db8::9\nt=0 0\nm=audio 4000 RTP/SAVP 0\nm=audio 4002 TCP/RTP/AVP 0\n",
    "v=0\nm=audio x RTP/AVP 0\n",
];
/// Lines that change what happens to a message.
const LINES: [&str; 20] = [
    "Route: <sip:203.0.113.99;lr>",
    "Record-Route: <sip:203.0.113.99;lr>",
    "Contact: *",
    "Contact: <sip:eve@203.0.113.99:5060>",
    "Expires: 0",
    "Max-Forwards: 0",
    "Max-Forwards: 255",
    "Require: 100rel",
    "Proxy-Require: dance",
    "Supported: path, outbound, 100rel, timer",
    "Via: SIP/2.0/UDP 203.0.113.99:5060;branch=z9hG4bKeve",
    "Via: SIP/2.0/TCP [::1];branch=1;rport;received=203.0.113.99",
    "Content-Length: 0",
    "Content-Type: application/sdp",
    "RSeq: 1",
    "RAck: 1 1 INVITE",
    "Session-Expires: 90;refresher=uac",
    "Refer-To: <sip:eve@203.0.113.99>",
    "To: <sip:bob@example.com>;tag=other",
    "Replaces: 1@a;to-tag=a;from-tag=b",
];

/// One party's next words.
pub(super) struct Speech {
    pub(super) flow: Flow,
    pub(super) role: usize,
    /// Makes branches, tags and Call-IDs fresh.
    pub(super) number: usize,
    pub(super) body: u8,
}

/// What kind of request inside a dialog.
pub(super) struct Inside {
    pub(super) method: &'static str,
    /// With the branch and CSeq of what it follows: ACK to a refusal, CANCEL.
    pub(super) same_transaction: bool,
    pub(super) cseq: u32,
}

impl Speech {
    fn user(&self) -> &'static str {
        USERS[usize::from(self.flow.remote.port()) % 2 + usize::from(self.role == 0) * 2]
    }

    fn sdp(&self) -> String {
        let body = BODIES[usize::from(self.body) % BODIES.len()].replace('\n', "\r\n");
        body.replace("{ip}", &self.flow.remote.ip().to_string()).replace("{local}", &self.flow.local.ip().to_string())
    }

    /// The end of a message: an own Contact, and the body.
    fn finish(&self, mut text: String, method: &str) -> Vec<u8> {
        let (user, at, sdp) = (self.user(), self.flow.remote, self.sdp());
        let _ = write!(text, "Contact: <sip:{user}@{at}>\r\n");
        let sdp = if matches!(method, "INVITE" | "ACK" | "UPDATE" | "PRACK") { sdp.as_str() } else { "" };
        if !sdp.is_empty() {
            text.push_str("Content-Type: application/sdp\r\n");
        }
        let _ = write!(text, "Content-Length: {}\r\n\r\n{sdp}", sdp.len());
        text.into_bytes()
    }

    /// A request outside of any dialog.
    pub(super) fn ask(&self, method: &str, whom: u8) -> Vec<u8> {
        let (n, at, user) = (self.number, self.flow.remote, self.user());
        let callee = USERS[usize::from(whom) % USERS.len()];
        let to = if method == "REGISTER" { user } else { callee };
        let uri = match (method, whom >> 6) {
            ("REGISTER", _) => "sip:example.com".to_owned(),
            (_, 0) => format!("sip:{callee}@example.com"),
            (_, 1) => format!("sip:{callee}@{}", self.flow.local),
            (_, 2) => format!("sip:{callee}@203.0.113.99"),
            _ => "tel:+1-201-555-0123".to_owned(),
        };
        let expires =
            if method == "REGISTER" { format!("Expires: {}\r\n", u32::from(self.body) * 15) } else { String::new() };
        let text = format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {at};rport;branch=z9hG4bKf{n}\r\nMax-Forwards: 70\r\n\
             From: <sip:{user}@example.com>;tag=f{n}\r\nTo: <sip:{to}@example.com>\r\nCall-ID: f{n}\r\n\
             CSeq: {n} {method}\r\n{expires}"
        );
        self.finish(text, method)
    }

    pub(super) fn answer(&self, request: &[u8], status: u8, tag: u8) -> Option<Vec<u8>> {
        let stored = read(request)?;
        let request = stored.message();
        if !request.is_request() || request.method() == Method::Ack {
            return None;
        }
        let status = Status(STATUSES[usize::from(status) % STATUSES.len()]);
        let register = request.method() == Method::Register;
        let mut extra = String::new();
        for field in request.fields_of(Name::RecordRoute) {
            let _ = write!(extra, "Record-Route: {}\r\n", String::from_utf8_lossy(request.slice(field.value)));
        }
        let contact = match request.contacts().next() {
            Some(Ok(Contact::Addr(addr))) if register => String::from_utf8_lossy(addr.addr).into_owned(),
            Some(_) | None => format!("<sip:{}@{}>", self.user(), self.flow.remote),
        };
        let expires = if register { ";expires=600" } else { "" };
        let _ = write!(extra, "Contact: {contact}{expires}\r\n");
        match status.0 {
            401 => extra.push_str("WWW-Authenticate: Digest realm=\"example.com\", nonce=\"1\"\r\n"),
            407 => extra.push_str("Proxy-Authenticate: Digest realm=\"example.com\", nonce=\"1\"\r\n"),
            101..=199 if tag & 1 != 0 => extra.push_str("Require: 100rel\r\nRSeq: 1\r\n"),
            _ => {}
        }
        let sdp = self.sdp();
        let tag = format!("a{}", tag >> 1);
        let mut out = Vec::new();
        Response {
            request,
            status,
            reason: "",
            to_tag: tag.as_bytes(),
            source: self.flow.local,
            keep: None,
            peer: None,
            extra: extra.as_bytes(),
            body: (!sdp.is_empty()).then_some(("application/sdp", sdp.as_bytes())),
        }
        .write(&mut out);
        Some(out)
    }

    /// In the dialog that a message from us belongs to, as its recipient.
    pub(super) fn inside(&self, known: &[u8], inside: &Inside) -> Option<Vec<u8>> {
        let stored = read(known)?;
        let known = stored.message();
        let method = inside.method;
        let mut routes: Vec<&[u8]> =
            known.fields_of(Name::RecordRoute).flat_map(|field| comma_list(known.slice(field.value))).collect();
        let (mut from, to) = match known.is_request() {
            true => (text(known, Name::To), text(known, Name::From)),
            false => (text(known, Name::From), text(known, Name::To)),
        };
        if known.is_request() {
            if !from.contains(";tag=") {
                let _ = write!(from, ";tag=a{}", inside.cseq % 2);
            }
        } else {
            routes.reverse();
        }
        let uri = match known.contacts().next() {
            Some(Ok(Contact::Addr(addr))) => String::from_utf8_lossy(addr.uri).into_owned(),
            Some(_) | None => format!("sip:{}", self.flow.local),
        };
        let last = known.cseq().map_or(1, |cseq| cseq.number);
        let (via, cseq) = if inside.same_transaction {
            (text(known, Name::Via), last)
        } else {
            let via = format!("SIP/2.0/UDP {};rport;branch=z9hG4bKi{}", self.flow.remote, self.number);
            (via, last.wrapping_add(inside.cseq) & 0x7fff_ffff)
        };
        let mut text = format!("{method} {uri} SIP/2.0\r\nVia: {via}\r\n");
        for route in routes {
            let _ = write!(text, "Route: {}\r\n", String::from_utf8_lossy(route));
        }
        let call_id = String::from_utf8_lossy(known.call_id());
        let _ = write!(
            text,
            "Max-Forwards: 70\r\nFrom: {from}\r\nTo: {to}\r\nCall-ID: {call_id}\r\nCSeq: {cseq} {method}\r\n"
        );
        if method == "PRACK" {
            let _ = write!(text, "RAck: 1 {last} INVITE\r\n");
        }
        Some(self.finish(text, method))
    }
}

/// The CANCEL of an INVITE.
pub(super) fn cancel(invite: &[u8]) -> Option<Vec<u8>> {
    let stored = read(invite)?;
    let invite = stored.message();
    (invite.is_request() && invite.method() == Method::Invite).then(|| compose::cancel(invite, b""))
}

fn read(bytes: &[u8]) -> Option<Stored> {
    Stored::parse(bytes.to_vec(), &Limits::default()).ok()
}

fn text(message: Message<'_>, name: Name) -> String {
    String::from_utf8_lossy(message.value(name).unwrap_or_default()).into_owned()
}

/// A message on its way is changed: an octet, a line more, a line less, an end too soon.
pub(super) fn spoil(message: &mut Vec<u8>, how: u8, at: usize, octet: u8) {
    let at = at % message.len().max(1);
    let line_end = |from: usize| message.iter().skip(from).position(|b| *b == b'\n').map(|n| from + n + 1);
    match how % 6 {
        0 => {
            if let Some(place) = message.get_mut(at) {
                *place = octet;
            }
        }
        1 => message.insert(at.min(message.len()), octet),
        2 => message.truncate(at),
        3 => {
            if let Some((from, to)) = line_end(at).and_then(|from| Some((from, line_end(from)?))) {
                message.drain(from..to);
            }
        }
        4 => {
            if let Some(from) = line_end(at) {
                let line = format!("{}\r\n", LINES[usize::from(octet) % LINES.len()]);
                message.splice(from..from, line.into_bytes());
            }
        }
        _ => {
            if let Some((from, to)) = line_end(at).and_then(|from| Some((from, line_end(from)?))) {
                let line = message[from..to].to_vec();
                message.splice(from..from, line);
            }
        }
    }
}
