//! Reading and writing the few SIP messages that phones need. What comes is from a proxy under test, which is trusted to
//! speak SIP (RFC 3261); what does not fit is passed over and shows as a failed call.

use std::fmt::Write as _;
use std::net::SocketAddrV4;

/// A received message, as slices of it.
#[derive(Default)]
pub(super) struct Heard<'a> {
    /// First word of the start line.
    pub(super) first: &'a str,
    /// Second word: Request-URI, or status code.
    pub(super) second: &'a str,
    /// Whole lines, as they are echoed.
    pub(super) vias: Vec<&'a str>,
    /// Values of the fields of that name, in order.
    pub(super) record_routes: Vec<&'a str>,
    pub(super) from: &'a str,
    pub(super) to: &'a str,
    pub(super) call_id: &'a str,
    pub(super) cseq: &'a str,
    /// What stands in the angle brackets of Contact.
    pub(super) contact: &'a str,
    pub(super) body: &'a str,
}

impl<'a> Heard<'a> {
    /// Reads a message; `None` if it is no text or has no body's border.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.split("\r\n");
        let mut words = lines.next()?.splitn(3, ' ');
        let mut heard = Self { first: words.next()?, second: words.next()?, body, ..Self::default() };
        for line in lines {
            let Some((name, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            match name.trim() {
                name if name.eq_ignore_ascii_case("via") || name == "v" => heard.vias.push(line),
                name if name.eq_ignore_ascii_case("record-route") => heard.record_routes.push(value),
                name if name.eq_ignore_ascii_case("from") || name == "f" => heard.from = value,
                name if name.eq_ignore_ascii_case("to") || name == "t" => heard.to = value,
                name if name.eq_ignore_ascii_case("call-id") || name == "i" => heard.call_id = value,
                name if name.eq_ignore_ascii_case("cseq") => heard.cseq = value,
                name if name.eq_ignore_ascii_case("contact") || name == "m" => heard.contact = bracketed(value),
                _ => {}
            }
        }
        Some(heard)
    }

    /// The status code, if it is a response.
    pub(super) fn status(&self) -> Option<u16> {
        (self.first == "SIP/2.0").then(|| self.second.parse().ok()).flatten()
    }

    /// The method in CSeq.
    pub(super) fn method(&self) -> &'a str {
        self.cseq.rsplit(' ').next().unwrap_or_default()
    }

    /// The number of the call or registration, which its Call-ID begins with, if it is of this `run`.
    pub(super) fn number(&self, run: u32) -> Option<usize> {
        let (number, rest) = self.call_id.split_once('-')?;
        (rest.split('@').next()?.parse() == Ok(run)).then(|| number.parse().ok()).flatten()
    }
}

fn bracketed(value: &str) -> &str {
    value.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map_or(value, |(uri, _)| uri)
}

/// A response to `request`, with `more` lines (each with its end) and a body.
pub(super) fn answer(out: &mut String, request: &Heard<'_>, line: &str, tag: &str, more: &str, body: &str) {
    out.clear();
    let _ = write!(out, "SIP/2.0 {line}\r\n");
    for via in &request.vias {
        let _ = write!(out, "{via}\r\n");
    }
    for route in &request.record_routes {
        let _ = write!(out, "Record-Route: {route}\r\n");
    }
    let _ = write!(out, "From: {}\r\nTo: {}", request.from, request.to);
    if !request.to.contains(";tag=") {
        let _ = write!(out, ";tag={tag}");
    }
    let _ = write!(out, "\r\nCall-ID: {}\r\nCSeq: {}\r\n{more}", request.call_id, request.cseq);
    finish(out, body);
}

/// The fields that say how long the body is, and the body.
pub(super) fn finish(out: &mut String, body: &str) {
    if !body.is_empty() {
        out.push_str("Content-Type: application/sdp\r\n");
    }
    let _ = write!(out, "Content-Length: {}\r\n\r\n{body}", body.len());
}

/// An offer or answer of G.711 from this address and port.
pub(crate) fn sdp(out: &mut String, number: usize, media: SocketAddrV4) {
    out.clear();
    let (ip, port) = (media.ip(), media.port());
    let _ = write!(
        out,
        "v=0\r\no=- {id} {id} IN IP4 {ip}\r\ns=call\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0 8 101\r\n\
         a=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n\
         a=ptime:20\r\na=sendrecv\r\n",
        id = 3_900_000_000_u64 + number as u64,
    );
}

/// Where an SDP body wants its audio.
pub(crate) fn media_of(body: &str) -> Option<SocketAddrV4> {
    let after = |start: &str| body.lines().find_map(|line| line.strip_prefix(start));
    let port = after("m=audio ")?.split(' ').next()?.parse().ok()?;
    Some(SocketAddrV4::new(after("c=IN IP4 ")?.trim().parse().ok()?, port))
}
