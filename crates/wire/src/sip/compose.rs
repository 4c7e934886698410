//! Messages that we write ourselves: responses to a request, ACK to a
//! non-2xx, CANCEL, and requests of our own (BYE, OPTIONS).
//!
//! Values that are copied from a received message are copied as written.

use std::net::SocketAddr;

use super::{Field, Message, Method, Name, SessionId, Status, edit, lex, session_id};
use crate::Span;

/// True when a [`Response`] to this request can be read by everybody: what it
/// copies is there, and holds no CR or LF that some reader would take for a line's end.
pub fn answerable(request: Message<'_>) -> bool {
    let copied = [Name::From, Name::To, Name::CallId, Name::CSeq];
    let whole = |field: &Field| {
        let line = request.slice(field.line);
        let no_cr =
            line.iter().zip(line.iter().skip(1).chain(b"\n")).all(|(byte, next)| *byte != b'\r' || *next == b'\n');
        let value = request.slice(field.value);
        no_cr && value.iter().zip(b"x".iter().chain(value)).all(|(byte, last)| *byte != b'\n' || *last == b'\r')
    };
    copied.iter().all(|name| request.value(*name).is_some_and(|value| !value.is_empty()))
        && request.fields().iter().filter(|field| field.name == Name::Via || copied.contains(&field.name)).all(whole)
}

/// A response to `request` (RFC 3261 §8.2.6): all Via values, From, To,
/// Call-ID and CSeq copied as written, and Timestamp into a 100. Fields that
/// the request lacks are left out.
#[derive(Debug, Clone, Copy)]
pub struct Response<'a> {
    /// What is answered; may be the remains of a malformed message that has
    /// the fields needed.
    pub request: Message<'a>,
    /// Status code.
    pub status: Status,
    /// Reason phrase; control characters are left out when written.
    pub reason: &'a str,
    /// Added to To when the request's To has no tag and the status is not 100.
    pub to_tag: &'a [u8],
    /// `received` and `rport` of the top Via are set from here
    /// (RFC 3261 §18.2.1, RFC 3581 §4).
    pub source: SocketAddr,
    /// The answer to `keep` on the top Via, seconds (RFC 6223 §4.4).
    pub keep: Option<&'a [u8]>,
    /// The UUID of the end that the request is for, if it is known (RFC 7989 §7).
    pub peer: Option<&'a [u8]>,
    /// Whole extra header lines, each with its CRLF.
    pub extra: &'a [u8],
    /// Content-Type and body, if any.
    pub body: Option<(&'a str, &'a [u8])>,
}

impl Response<'_> {
    /// Appends the response to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        let from = out.len();
        let reason = self.reason.bytes().filter(|b| !b.is_ascii_control());
        out.extend_from_slice(b"SIP/2.0 ");
        number(out, self.status.0.into());
        out.push(b' ');
        out.extend(reason);
        out.extend_from_slice(b"\r\n");
        self.vias(out);
        copy(out, self.request, Name::From);
        self.to(out);
        copy(out, self.request, Name::CallId);
        copy(out, self.request, Name::CSeq);
        if self.status.0 == 100 {
            self.timestamp(out);
        }
        self.session(out);
        out.extend_from_slice(self.extra);
        if self.request.index.lone_lf {
            whole_line_ends(out, from);
        }
        end_with(out, self.body);
    }

    /// All Via fields, the top one with `received` and `rport`.
    fn vias(&self, out: &mut Vec<u8>) {
        for (number, via) in self.request.fields_of(Name::Via).enumerate() {
            out.extend_from_slice(b"Via: ");
            match number {
                0 => self.top_via(via.value, out),
                _ => out.extend_from_slice(self.request.slice(via.value)),
            }
            out.extend_from_slice(b"\r\n");
        }
    }

    /// The value of the first Via field, its top one stamped.
    fn top_via(&self, value: Span, out: &mut Vec<u8>) {
        let [received, rport] = edit::stamps(self.request, self.source);
        let keep = self.keep.and_then(|seconds| Some((edit::keep_offer(self.request)?, &b";keep="[..], seconds)));
        let mut stamps = [received.as_ref().map(edit::Stamp::parts), rport.as_ref().map(edit::Stamp::parts), keep];
        // Those that go behind all others stay in this order.
        stamps.sort_by_key(|stamp| stamp.map_or(u32::MAX, |(span, ..)| span.start));
        let mut at = value.start;
        for (span, start, value) in stamps.into_iter().flatten() {
            for piece in [self.request.slice(Span { start: at, end: span.start }), start, value] {
                out.extend_from_slice(piece);
            }
            at = span.end;
        }
        out.extend_from_slice(self.request.slice(Span { start: at, ..value }));
    }

    fn to(&self, out: &mut Vec<u8>) {
        let Some(to) = self.request.value(Name::To) else { return };
        let tagged = self.request.tag_in_to().is_some();
        if tagged || self.status.0 == 100 || self.to_tag.is_empty() {
            field(out, Name::To, &[to]);
        } else {
            field(out, Name::To, &[to, b";tag=", self.to_tag]);
        }
    }

    /// RFC 7989 §7: for a sender that says who it is.
    fn session(&self, out: &mut Vec<u8>) {
        let asked = self.request.value(Name::SessionId).and_then(SessionId::parse);
        if let Some(SessionId { local: Some(local), remote }) = asked {
            out.extend_from_slice(&session_id::line(remote.or(self.peer), Some(local)));
        }
    }

    /// §8.2.6.1.
    fn timestamp(&self, out: &mut Vec<u8>) {
        let request = self.request;
        let named = |name: &[u8]| name.eq_ignore_ascii_case(b"Timestamp");
        if let Some(stamp) = request.fields_of(Name::Other).find(|f| named(request.slice(f.written))) {
            out.extend_from_slice(b"Timestamp: ");
            out.extend_from_slice(request.slice(stamp.value));
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// The ACK for a non-2xx final response (§17.1.1.3), from the INVITE as we
/// sent it and the To of the response.
pub fn ack(invite: Message<'_>, response: Message<'_>) -> Vec<u8> {
    companion(invite, response, Method::Ack, &[])
}

/// The CANCEL for an INVITE as we sent it (§9.1). `reason`: Reason header
/// lines (with CRLF) to carry along, or empty.
pub fn cancel(invite: Message<'_>, reason: &[u8]) -> Vec<u8> {
    companion(invite, invite, Method::Cancel, reason)
}

/// A request of the same branch as `invite`: its Request-URI, top Via, Route,
/// From, Call-ID and CSeq number, and the To of `to`.
fn companion(invite: Message<'_>, to: Message<'_>, method: Method<'_>, extra: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    request_line(&mut out, method, invite.request_uri());
    if let Some(via) = invite.values(Name::Via).next() {
        field(&mut out, Name::Via, &[via]);
    }
    for route in invite.fields_of(Name::Route) {
        field(&mut out, Name::Route, &[invite.slice(route.value)]);
    }
    field(&mut out, Name::MaxForwards, &[b"70"]);
    copy(&mut out, invite, Name::From);
    copy(&mut out, to, Name::To);
    copy(&mut out, invite, Name::CallId);
    let digits = invite.cseq().map_or(&b"0"[..], |cseq| cseq.digits);
    field(&mut out, Name::CSeq, &[digits, b" ", method.as_bytes()]);
    // Of a CANCEL the same as of its INVITE; an ACK knows who answered (RFC 7989 §7).
    if let Some(value) = invite.value(Name::SessionId) {
        let answered = to.value(Name::SessionId).filter(|_| method == Method::Ack).and_then(SessionId::parse);
        match (SessionId::parse(value), answered) {
            (Some(own), Some(peer)) => out.extend_from_slice(&session_id::line(own.local, peer.local)),
            (Some(_) | None, _) => field(&mut out, Name::SessionId, &[value]),
        }
    }
    out.extend_from_slice(extra);
    whole_line_ends(&mut out, 0);
    end(&mut out, &[]);
    out
}

/// A request of our own.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Method.
    pub method: Method<'a>,
    /// Request-URI.
    pub uri: &'a [u8],
    /// Our Via value, whole.
    pub via: &'a [u8],
    /// Route values, in order, each `<…>`.
    pub route: &'a [Vec<u8>],
    /// From value with tag.
    pub from: &'a [u8],
    /// To value with tag if in a dialog.
    pub to: &'a [u8],
    /// Call-ID.
    pub call_id: &'a [u8],
    /// CSeq number.
    pub cseq: u32,
    /// Whole extra header lines, each with its CRLF.
    pub extra: &'a [u8],
    /// Content-Type and body, if any.
    pub body: Option<(&'a str, &'a [u8])>,
}

impl Request<'_> {
    /// Appends the request (Max-Forwards 70) to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        let from = out.len();
        request_line(out, self.method, self.uri);
        field(out, Name::Via, &[self.via]);
        for route in self.route {
            field(out, Name::Route, &[route]);
        }
        field(out, Name::MaxForwards, &[b"70"]);
        field(out, Name::From, &[self.from]);
        field(out, Name::To, &[self.to]);
        field(out, Name::CallId, &[self.call_id]);
        field(out, Name::CSeq, &[lex::digits(self.cseq.into(), &mut [0; 20]), b" ", self.method.as_bytes()]);
        out.extend_from_slice(self.extra);
        whole_line_ends(out, from);
        end_with(out, self.body);
    }
}

fn request_line(out: &mut Vec<u8>, method: Method<'_>, uri: &[u8]) {
    out.extend_from_slice(method.as_bytes());
    out.push(b' ');
    out.extend_from_slice(uri);
    out.extend_from_slice(b" SIP/2.0\r\n");
}

fn field(out: &mut Vec<u8>, name: Name, value: &[&[u8]]) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    for piece in value {
        out.extend_from_slice(piece);
    }
    out.extend_from_slice(b"\r\n");
}

fn copy(out: &mut Vec<u8>, message: Message<'_>, name: Name) {
    if let Some(value) = message.value(name) {
        field(out, name, &[value]);
    }
}

fn number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(lex::digits(number, &mut [0; 20]));
}

fn end_with(out: &mut Vec<u8>, body: Option<(&str, &[u8])>) {
    if let Some((kind, _)) = body {
        field(out, Name::ContentType, &[kind.as_bytes()]);
    }
    end(out, body.map_or(&[], |(_, body)| body));
}

/// The end of the header, and the body.
fn end(out: &mut Vec<u8>, body: &[u8]) {
    out.extend_from_slice(b"Content-Length: ");
    number(out, body.len() as u64);
    out.extend_from_slice(b"\r\n\r\n");
    out.extend_from_slice(body);
}

/// A value that was folded with LF alone, as all lines of its message ended,
/// is folded with CRLF here.
fn whole_line_ends(out: &mut Vec<u8>, from: usize) {
    let header = &out[from..];
    if memchr::memchr_iter(b'\n', header).all(|at| at > 0 && header[at - 1] == b'\r') {
        return;
    }
    let mut whole = Vec::with_capacity(header.len() + 16);
    for byte in header {
        if *byte == b'\n' && whole.last() != Some(&b'\r') {
            whole.push(b'\r');
        }
        whole.push(*byte);
    }
    out.splice(from.., whole);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::{Framing, Index, Limits, Stored};

    const INVITE: &str = "INVITE sip:b@192.0.2.9 SIP/2.0\r\n\
        v: SIP/2.0/UDP 10.0.0.1;rport;branch=z9hG4bK2, SIP/2.0/UDP a;branch=z9hG4bK1\r\n\
        Via: SIP/2.0/TCP first\r\nRoute: <sip:p1;lr>, <sip:p2;lr>\r\nRoute: <sip:p3;lr>\r\nMax-Forwards: 9\r\n\
        f: \"A\"\r\n <sip:a@x>;tag=1\r\nt: <sip:b@x;tag=no>\r\ni: id\r\nCSeq: 0042 INVITE\r\ntimestamp: 54.2\r\n\
        Proxy-Authorization: Digest x\r\nl: 0\r\n\r\n";

    fn stored(text: &str) -> Stored {
        Stored::parse(text.as_bytes().to_vec(), &Limits::default()).expect(text)
    }

    fn respond(request: Message<'_>, status: u16, reason: &str) -> String {
        let source = "192.0.2.7:4321".parse().expect("address");
        let mut out = b"# ".to_vec();
        let response = Response {
            request,
            status: Status(status),
            reason,
            to_tag: b"T",
            source,
            keep: None,
            peer: None,
            extra: b"Retry-After: 3\r\n",
            body: (status == 488).then_some(("text/plain", b"no")),
        };
        response.write(&mut out);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn responses() {
        let invite = stored(INVITE);
        let copied = |to: &str, stamp: &str| {
            format!(
                "Via: SIP/2.0/UDP 10.0.0.1;rport=4321;branch=z9hG4bK2;received=192.0.2.7, SIP/2.0/UDP a;branch=z9hG4bK1\r\n\
                 Via: SIP/2.0/TCP first\r\nFrom: \"A\"\r\n <sip:a@x>;tag=1\r\nTo: <sip:b@x;tag=no>{to}\r\nCall-ID: id\r\n\
                 CSeq: 0042 INVITE\r\n{stamp}Retry-After: 3\r\n"
            )
        };
        assert_eq!(
            respond(invite.message(), 100, "Try\r\nEvil: \u{7}ing"),
            format!("# SIP/2.0 100 TryEvil: ing\r\n{}Content-Length: 0\r\n\r\n", copied("", "Timestamp: 54.2\r\n"))
        );
        assert_eq!(
            respond(invite.message(), 488, "No"),
            format!(
                "# SIP/2.0 488 No\r\n{}Content-Type: text/plain\r\nContent-Length: 2\r\n\r\nno",
                copied(";tag=T", "")
            )
        );
        let tagged = stored(&INVITE.replace("tag=no>", "tag=no>;Tag=yes"));
        assert!(respond(tagged.message(), 404, "Not Found").contains("To: <sip:b@x;tag=no>;Tag=yes\r\n"));
    }

    #[test]
    fn a_response_to_remains() {
        let text = INVITE.replace("l: 0", "l: x").replace("f: \"A\"", "f: \"A").replace("v: SIP", "v: S/P");
        let mut index = Index::new();
        assert!(index.parse(text.as_bytes(), Framing::Datagram, &Limits::default()).is_err());
        let answer = respond(index.view(text.as_bytes()), 400, "Content-Length is not a number");
        let answer = stored(answer.strip_prefix("# ").expect("appended"));
        assert_eq!(answer.message().values(Name::Via).count(), 3);
        assert_eq!(answer.message().call_id(), b"id");
    }

    #[test]
    fn a_lone_lf_is_not_copied_whatever_else_is_wrong() {
        let text = |fold: &str| {
            format!(
                "A sip:b SIP/2.0\r\nno colon\r\nVia: SIP/2.0/UDP a\r\nFrom: a\r\nTo: b\r\nCall-ID: c{fold} d\r\nCSeq: 1 A\r\n\r\n"
            )
        };
        for (fold, expected) in [("\r\n", true), ("\n", false), ("\r", false), ("\n\r\n", false)] {
            let (text, mut index) = (text(fold), crate::sip::Index::new());
            let read = index.parse(text.as_bytes(), crate::sip::Framing::Datagram, &Limits::default());
            assert!(read.is_err());
            assert_eq!(answerable(index.view(text.as_bytes())), expected, "{fold:?}");
        }
    }

    #[test]
    fn what_was_folded_with_lf_alone_is_folded_with_crlf() {
        let lone = INVITE.replace("\r\n", "\n").replace("f: \"A\"", "f: \"A\"\n ").replace("v: SIP", "v:\n SIP");
        let invite = stored(&lone);
        let answer = respond(invite.message(), 404, "Not Found");
        let answer = stored(answer.strip_prefix("# ").expect("appended"));
        assert_eq!(answer.message().from().ok().and_then(|from| from.tag()), Some(&b"1"[..]));
        let written = [ack(invite.message(), answer.message()), cancel(invite.message(), b"")];
        assert!(written.into_iter().all(|bytes| Stored::parse(bytes, &Limits::default()).is_ok()));
    }

    #[test]
    fn ack_and_cancel() {
        let invite = stored(INVITE);
        let response = respond(invite.message(), 486, "Busy Here");
        let response = stored(response.strip_prefix("# ").expect("appended"));
        let expected = |method: &str, tag: &str, extra: &str| {
            format!(
                "{method} sip:b@192.0.2.9 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.1;rport;branch=z9hG4bK2\r\n\
                 Route: <sip:p1;lr>, <sip:p2;lr>\r\nRoute: <sip:p3;lr>\r\nMax-Forwards: 70\r\n\
                 From: \"A\"\r\n <sip:a@x>;tag=1\r\nTo: <sip:b@x;tag=no>{tag}\r\nCall-ID: id\r\nCSeq: 0042 {method}\r\n\
                 {extra}Content-Length: 0\r\n\r\n"
            )
        };
        let text = |bytes| String::from_utf8(bytes).expect("ASCII");
        assert_eq!(text(ack(invite.message(), response.message())), expected("ACK", ";tag=T", ""));
        let reason = "Reason: SIP;cause=200\r\n";
        assert_eq!(text(cancel(invite.message(), reason.as_bytes())), expected("CANCEL", "", reason));
    }

    #[test]
    fn what_we_write_says_whose_session_it_is() {
        let (a, b, nil) = (
            "ab30317f1a784dc48ff824d0d3715d86",
            "47755a9de7794ba387653f2099600ef2",
            "00000000000000000000000000000000",
        );
        let of = |session: &str| stored(&INVITE.replace("l: 0", &format!("Session-ID: {session}\r\nl: 0")));
        let invite = of(&format!("{a};remote={nil}"));
        assert!(respond(invite.message(), 100, "Trying").contains(&format!("\r\nSession-ID: {nil};remote={a}\r\n")));
        let again = of(&format!("{a};remote={b}"));
        assert!(respond(again.message(), 491, "No").contains(&format!("\r\nSession-ID: {b};remote={a}\r\n")));
        assert!(!respond(of("strange").message(), 491, "No").contains("Session-ID"));
        let text = |bytes| String::from_utf8(bytes).expect("ASCII");
        let cancelled = text(cancel(invite.message(), b""));
        assert!(cancelled.contains(&format!("\r\nSession-ID: {a};remote={nil}\r\n")), "{cancelled}");
        let busy = format!(
            "SIP/2.0 486 Busy\r\nVia: SIP/2.0/UDP a\r\nTo: <sip:b@x>;tag=2\r\nSession-ID: {b};remote={a}\r\n\r\n"
        );
        let acknowledged = text(ack(invite.message(), stored(&busy).message()));
        assert!(acknowledged.contains(&format!("\r\nSession-ID: {a};remote={b}\r\n")), "{acknowledged}");
    }

    #[test]
    fn our_own_requests_read_back() {
        let mut out = Vec::new();
        let request = Request {
            method: Method::Bye,
            uri: b"sip:a@10.0.0.1",
            via: b"SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKx",
            route: &[b"<sip:p1;lr>".to_vec(), b"<sip:p2;lr>".to_vec()],
            from: b"<sip:b@x>;tag=2",
            to: b"<sip:a@x>;tag=1",
            call_id: b"id",
            cseq: 8,
            extra: b"Reason: SIP;cause=503\r\n",
            body: None,
        };
        request.write(&mut out);
        let stored = Stored::parse(out, &Limits::default()).expect("well formed");
        let message = stored.message();
        assert_eq!((message.method(), message.request_uri()), (Method::Bye, &b"sip:a@10.0.0.1"[..]));
        assert_eq!(message.cseq().map(|c| (c.number, c.method)), Ok((8, Method::Bye)));
        assert_eq!(message.values(Name::Route).collect::<Vec<_>>(), [b"<sip:p1;lr>", b"<sip:p2;lr>"]);
        assert_eq!(message.number(Name::MaxForwards), Some(Ok(70)));
        assert_eq!((message.body(), message.fields().len()), (&b""[..], 10));
    }
}
