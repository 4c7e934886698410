//! How a message is indexed: start line, header field lines, Content-Length
//! (RFC 3261 §7, §18.3). Field values are left to the views.

use memchr::{memchr_iter, memrchr};

use super::essentials::Essentials;
use super::{Field, Framing, Index, Limits, Method, Name, Start, Status, lex};
use crate::scan::{LineEnds, find};
use crate::{Malformed, Span};

impl Index {
    /// Indexes the message at the start of `bytes` (leading CRLFs skipped).
    ///
    /// Checked here: limits; start line; every field line has a name and a
    /// colon; Content-Length (also repeated and different); line ends CRLF
    /// (bare LFs are accepted as line ends if all of them are bare). Field values are *not* parsed.
    ///
    /// After an error the index still holds what could be read, also beyond
    /// the fault, so that a 400 can be composed when start line, Via, From,
    /// To, Call-ID and CSeq were found. The first fault is the one returned;
    /// a CR that stands alone counts last.
    pub fn parse(&mut self, bytes: &[u8], framing: Framing, limits: &Limits) -> Result<(), Malformed> {
        self.clear(bytes.len());
        let limit = limits.message_bytes.min(u32::MAX as usize);
        if framing == Framing::Datagram && bytes.len() > limit {
            return Err(Malformed { at: limit, what: "message too large" });
        }
        let bytes = lex::before(bytes, limit);
        let first = bytes.iter().position(|b| !matches!(b, b'\r' | b'\n')).unwrap_or(bytes.len());
        let mut lines = LineEnds::new(bytes, first);
        let Some((end, crlf)) = lines.next() else {
            return Err(Malformed { at: bytes.len(), what: "start line does not end" });
        };
        self.first = first as u32;
        self.head = end as u32 + 1;
        let (start, mut fault) = start_line(bytes, Span::new(first, end));
        self.start = start;
        self.lone_lf = !crlf;
        if let Some(Start::Request { method, .. }) = start {
            self.method = Method::known(method.in_(bytes));
        }
        let mut length = None;
        let mut at = end + 1;
        while let Some((end, cr)) = lines.next() {
            if !cr {
                self.lone_lf = true;
                if crlf {
                    note(&mut fault, Malformed { at: end, what: "LF without CR" });
                }
            }
            let text = end - usize::from(cr);
            if text == at {
                self.head_end = at as u32;
                let cut = self.body(bytes, end + 1, length, framing, limit);
                if lines.has_stray_cr(end) {
                    fault = fault.or_else(|| stray_cr(bytes, Span::new(first, end + 1)));
                }
                return fault.map_or(cut, Err);
            }
            if matches!(bytes.get(end + 1), Some(b' ' | b'\t')) {
                continue;
            }
            if self.fields.len() >= limits.header_fields {
                return Err(Malformed { at, what: "too many header fields" });
            }
            match field(bytes, at, text, end + 1) {
                Ok(field) => {
                    if field.name == Name::ContentLength
                        && let Err(e) = content_length(bytes, field.value, &mut length)
                    {
                        note(&mut fault, e);
                    }
                    self.push(field);
                }
                Err(e) => note(&mut fault, e),
            }
            at = end + 1;
        }
        Err(fault.unwrap_or(Malformed { at: bytes.len(), what: "header does not end" }))
    }

    /// Reads what nearly every step asks of a message: top Via, From, To, CSeq
    /// and Request-URI. Else each view reads it anew. `bytes`: what was indexed.
    pub fn read_essentials(&mut self, bytes: &[u8]) {
        let essentials = Essentials::read(self.view(bytes));
        if let Some(Start::Response { .. }) = self.start {
            self.method = essentials.method();
        }
        match &mut self.essentials {
            Some(room) => **room = essentials,
            None => self.essentials = Some(Box::new(essentials)),
        }
        self.known = true;
    }

    fn clear(&mut self, end: usize) {
        let end = end.min(u32::MAX as usize) as u32;
        self.start = None;
        self.fields.clear();
        (self.present, self.repeated) = (0, 0);
        self.known = false;
        self.lone_lf = false;
        self.method = None;
        self.first = end;
        self.head = end;
        self.head_end = end;
        self.body = Span { start: end, end };
    }

    /// Cuts the body from `start` on as Content-Length says (§18.3).
    fn body(
        &mut self,
        bytes: &[u8],
        start: usize,
        length: Option<usize>,
        framing: Framing,
        limit: usize,
    ) -> Result<(), Malformed> {
        let there = bytes.len() - start.min(bytes.len());
        let (taken, what) = match (framing, length) {
            (_, Some(length)) if length <= there => (length, None),
            (Framing::Stream, Some(length)) if length > limit => (there, Some("message too large")),
            (Framing::Stream, Some(_)) => (there, Some("incomplete")),
            (Framing::Datagram, Some(_)) => (there, Some("body shorter than Content-Length")),
            (Framing::Stream, None) => (0, Some("Content-Length missing")),
            (Framing::Datagram, None) => (there, None),
        };
        self.body = Span::new(start, start + taken);
        what.map_or(Ok(()), |what| Err(Malformed { at: start, what }))
    }
}

/// CR stands only before LF (§7, §25.1): another reader must not find lines,
/// and so header fields, that we did not see.
fn stray_cr(bytes: &[u8], span: Span) -> Option<Malformed> {
    let header = span.in_(bytes);
    let at = memchr_iter(b'\r', header).find(|at| header.get(at + 1) != Some(&b'\n'))?;
    Some(Malformed { at: span.start as usize + at, what: "CR without LF" })
}

/// Reads the first line (§7.1, §7.2). A request line with a fault still
/// gives a start where method and Request-URI can be told, for the answer.
fn start_line(bytes: &[u8], span: Span) -> (Option<Start>, Option<Malformed>) {
    let line = span.in_(bytes);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.get(..4).is_some_and(|name| name.eq_ignore_ascii_case(b"SIP/")) {
        return status_line(bytes, line);
    }
    let refuse = |part, what| Some(Malformed { at: Span::of(part, bytes).start as usize, what });
    let length = lex::token_length(line);
    let (method, rest) = (lex::before(line, length), lex::tail(line, length));
    let Some(rest) = rest.strip_prefix(b" ").filter(|_| length > 0) else {
        return (None, refuse(line, "start line without a method"));
    };
    let request = |uri| Some(Start::Request { method: Span::of(method, bytes), uri: Span::of(uri, bytes) });
    let space = find(b' ', rest).unwrap_or(rest.len());
    let (uri, version) = (lex::before(rest, space), lex::tail(rest, space + 1));
    if !uri.is_empty() && version.eq_ignore_ascii_case(b"SIP/2.0") {
        return (request(uri), None);
    }
    let ended = lex::trim_end(rest);
    let space = memrchr(b' ', ended).unwrap_or(0);
    let (uri, version) = (lex::before(ended, space), lex::tail(ended, space + 1));
    let fault = if !version.get(..4).is_some_and(|name| name.eq_ignore_ascii_case(b"SIP/")) {
        refuse(rest, "request line without a SIP version")
    } else if !version.eq_ignore_ascii_case(b"SIP/2.0") {
        refuse(version, "version not supported")
    } else if ended.len() < rest.len() {
        refuse(lex::tail(rest, ended.len()), "white space after the version")
    } else if lex::trim(uri).len() < uri.len() || uri.is_empty() {
        refuse(rest, "more than one space in the request line")
    } else {
        refuse(uri, "white space in the Request-URI")
    };
    (request(lex::trim(uri)), fault)
}

fn status_line(bytes: &[u8], line: &[u8]) -> (Option<Start>, Option<Malformed>) {
    let refuse = |part, what| Some(Malformed { at: Span::of(part, bytes).start as usize, what });
    let space = find(b' ', line).unwrap_or(line.len());
    let (version, rest) = (lex::before(line, space), lex::tail(line, space + 1));
    if !version.eq_ignore_ascii_case(b"SIP/2.0") {
        return (None, refuse(line, "version not supported"));
    }
    let code = lex::before(rest, find(b' ', rest).unwrap_or(rest.len()));
    match lex::decimal(code) {
        Some(status @ 100..=699) if code.len() == 3 => {
            let reason = Span::of(lex::tail(rest, 4), bytes);
            (Some(Start::Response { status: Status(status as u16), reason }), None)
        }
        _ => (None, refuse(rest, "status code is not a number from 100 to 699")),
    }
}

/// The first fault counts.
#[cold]
fn note(fault: &mut Option<Malformed>, e: Malformed) {
    fault.get_or_insert(e);
}

/// Reads the header field in `start..end`, folds included; its last line ends
/// at `text`, but for white space (§7.3.1).
#[inline]
pub(super) fn field(bytes: &[u8], start: usize, text: usize, end: usize) -> Result<Field, Malformed> {
    let line = bytes.get(start..text).unwrap_or_default();
    let (name, length, colon) = match Name::of_line(line) {
        Some((name, length)) => (name, length, length),
        None => {
            let length = lex::token_length(line);
            let mut colon = length;
            while let Some(b' ' | b'\t') = line.get(colon) {
                colon += 1;
            }
            if length == 0 || line.get(colon) != Some(&b':') {
                return Err(Malformed { at: start + colon, what: "header line without a name and a colon" });
            }
            (Name::of(lex::before(line, length)), length, colon)
        }
    };
    // As nearly everybody writes it: one blank before the value and none behind it.
    let (from, to) = match (line.get(colon + 1..), line.last()) {
        (Some([b' ', first, ..]), Some(last)) if !lex::is_space(*first) && !lex::is_space(*last) => {
            (colon + 2, line.len())
        }
        _ => {
            let text = lex::trim_end(line);
            (lex::skip_space(text, colon + 1), text.len())
        }
    };
    Ok(Field {
        name,
        written: Span::new(start, start + length),
        line: Span::new(start, end),
        value: Span::new(start + from, start + to),
    })
}

/// Reads Content-Length; may be repeated, but not with another number (§20.14).
pub(super) fn content_length(bytes: &[u8], value: Span, known: &mut Option<usize>) -> Result<(), Malformed> {
    let refuse = |what| Err(Malformed { at: value.start as usize, what });
    let Some(number) = lex::decimal(value.in_(bytes)) else {
        return refuse("Content-Length is not a number");
    };
    match u32::try_from(number) {
        Err(_) => refuse("Content-Length too large"),
        Ok(number) if known.is_some_and(|first| first != number as usize) => refuse("two different Content-Lengths"),
        Ok(number) => {
            *known = Some(number as usize);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, framing: Framing) -> (Index, Result<(), Malformed>) {
        let mut index = Index::new();
        let result = index.parse(text.as_bytes(), framing, &Limits::default());
        (index, result)
    }

    fn fault(text: &str, framing: Framing) -> &'static str {
        parse(text, framing).1.expect_err(text).what
    }

    #[test]
    fn start_lines() {
        for line in [
            "INVITE sip:a@b SIP/2.0",
            "x sip:a sip/2.0",
            "SIP/2.0 200 OK",
            "SIP/2.0 100 ",
            "sip/2.0 699",
            "SIP/2.0 200 = 2**3",
        ] {
            assert_eq!(parse(&format!("{line}\r\nl:0\r\n\r\n"), Framing::Stream).1, Ok(()), "{line}");
        }
        for (line, what, answerable) in [
            ("OPTIONS sip:a@b SIP/7.0", "version not supported", true),
            ("INVITE sip:a@b; lr SIP/2.0", "white space in the Request-URI", true),
            ("INVITE  sip:a@b  SIP/2.0", "more than one space in the request line", true),
            ("INVITE  SIP/2.0", "more than one space in the request line", true),
            ("OPTIONS sip:a@b SIP/2.0  ", "white space after the version", true),
            ("OPTIONS sip:a@b", "request line without a SIP version", true),
            ("GET / HTTP/1.1", "request line without a SIP version", true),
            ("INVITE", "start line without a method", false),
            (" INVITE sip:a@b SIP/2.0", "start line without a method", false),
            ("IN(VITE sip:a@b SIP/2.0", "start line without a method", false),
            ("SIP/2.1 200 OK", "version not supported", false),
            ("SIP/2.0 99 OK", "status code is not a number from 100 to 699", false),
            ("SIP/2.0 4294967301 better not break the receiver", "status code is not a number from 100 to 699", false),
            ("SIP/2.0 0200 OK", "status code is not a number from 100 to 699", false),
            ("SIP/2.0", "status code is not a number from 100 to 699", false),
        ] {
            let text = format!("{line}\r\nVia: v\r\nTo: t\r\n\r\n");
            let (index, result) = parse(&text, Framing::Datagram);
            assert_eq!(result.expect_err(line).what, what, "{line}");
            assert_eq!((index.start.is_some(), index.fields.len()), (answerable, 2), "{line}");
        }
    }

    #[test]
    fn spans() {
        let text = "\r\n\r\nINVITE sip:a@b SIP/2.0\r\nv :\tx\r\n y \r\nSubject:\r\nTO:\r\n z\r\n\r\nbody";
        let (index, result) = parse(text, Framing::Datagram);
        assert_eq!(result, Ok(()));
        let message = index.view(text.as_bytes());
        let seen: Vec<_> = message
            .fields()
            .iter()
            .map(|f| (f.name, &text[f.written.start as usize..f.written.end as usize], message.slice(f.value)))
            .collect();
        assert_eq!(seen, [(Name::Via, "v", &b"x\r\n y"[..]), (Name::Other, "Subject", b""), (Name::To, "TO", b"z")]);
        assert_eq!(&text[index.first as usize..][..6], "INVITE");
        assert_eq!(&text[index.head as usize..][..4], "v :\t");
        assert_eq!(&text[index.head_end as usize..], "\r\nbody");
        assert_eq!(message.body(), b"body");
        let lines: usize = index.fields.iter().map(|f| f.line.len()).sum();
        assert_eq!(lines as u32, index.head_end - index.head);
    }

    #[test]
    fn a_field_is_found_however_far_behind() {
        let limits = Limits { header_fields: 1000, ..Limits::default() };
        for others in [0, 1, 254, 255, 256, 600] {
            let text = format!("A sip:b SIP/2.0\r\n{}To: t\r\nt: u\r\n\r\n", "X: y\r\n".repeat(others));
            let mut index = Index::new();
            assert_eq!(index.parse(text.as_bytes(), Framing::Datagram, &limits), Ok(()));
            let message = index.view(text.as_bytes());
            assert_eq!(message.value(Name::To), Some(&b"t"[..]), "{others}");
            assert_eq!(message.values(Name::To).collect::<Vec<_>>(), [b"t", b"u"], "{others}");
            assert_eq!(message.value(Name::From), None);
        }
    }

    #[test]
    fn line_ends_are_of_one_kind() {
        for (text, what) in [
            ("A sip:b SIP/2.0\r\nv: x\ry: z\r\n\r\n", Some("CR without LF")),
            ("A sip:b SIP/2.0\r\nv: x\r\r\n\r\n", Some("CR without LF")),
            ("A sip:b SIP/2.0\r\nv: x\ny: z\r\n\r\n", Some("LF without CR")),
            ("A sip:b SIP/2.0\r\nv: x\n y\r\n\r\n", Some("LF without CR")),
            ("A sip:b SIP/2.0\r\nv: x\r\n\n", Some("LF without CR")),
            ("A sip:b SIP/2.0\nv: x\ny: z\n\nbody\r", None),
            ("A sip:b SIP/2.0\r\nv: x\r\n y\r\n\r\nbody\n\r", None),
        ] {
            assert_eq!(parse(text, Framing::Datagram).1.err().map(|e| e.what), what, "{text:?}");
        }
    }

    #[test]
    fn content_lengths() {
        let text = |lines: &str| format!("A sip:b SIP/2.0\r\n{lines}\r\nbody");
        for (lines, framing, body) in [
            ("", Framing::Datagram, "body"),
            ("l: 4\r\n", Framing::Stream, "body"),
            ("Content-Length:\r\n  3\r\n", Framing::Datagram, "bod"),
            ("Content-Length: 002\r\nL: 2\r\n", Framing::Stream, "bo"),
            ("l: 0\r\n", Framing::Datagram, ""),
        ] {
            let text = text(lines);
            let (index, result) = parse(&text, framing);
            assert_eq!(result, Ok(()), "{lines}");
            assert_eq!(index.view(text.as_bytes()).body(), body.as_bytes(), "{lines}");
        }
        for (lines, framing, what) in [
            ("", Framing::Stream, "Content-Length missing"),
            ("l: 5\r\n", Framing::Stream, "incomplete"),
            ("l: 70000\r\n", Framing::Stream, "message too large"),
            ("l: 5\r\n", Framing::Datagram, "body shorter than Content-Length"),
            ("l: 4\r\nl: 3\r\n", Framing::Datagram, "two different Content-Lengths"),
            ("l: -4\r\n", Framing::Datagram, "Content-Length is not a number"),
            ("l: 4, 4\r\n", Framing::Datagram, "Content-Length is not a number"),
            ("l:\r\n", Framing::Datagram, "Content-Length is not a number"),
            ("l: 4294967300\r\n", Framing::Datagram, "Content-Length too large"),
            ("l: 99999999999999999999999\r\n", Framing::Stream, "Content-Length too large"),
        ] {
            assert_eq!(fault(&text(lines), framing), what, "{lines}");
        }
    }

    #[test]
    fn what_follows_a_fault_is_still_gathered() {
        for lines in [
            "l: x\r\nVia: v\r\n",
            "no colon here\r\nVia: v\r\n",
            ": x\r\nVia: v\r\n",
            " x: y\r\nVia: v\r\n",
            "b@d: x\r\nVia: v\r\n",
        ] {
            let text = format!("A sip:b SIP/2.0\r\n{lines}\r\n");
            let (index, result) = parse(&text, Framing::Datagram);
            assert!(result.is_err(), "{lines}");
            assert_eq!(index.view(text.as_bytes()).value(Name::Via), Some(&b"v"[..]), "{lines}");
        }
        for text in [
            "",
            "\r\n",
            "A",
            "A sip:b SIP/2.0",
            "A sip:b SIP/2.0\r\n",
            "A sip:b SIP/2.0\r\nVia: v\r\n",
            "A sip:b SIP/2.0\r\nVia: v\r\n\r",
        ] {
            assert!(parse(text, Framing::Datagram).1.is_err(), "{text}");
        }
    }

    #[test]
    fn limits_come_first() {
        let limits = Limits { message_bytes: 64, header_fields: 2 };
        let mut index = Index::new();
        let mut parse = |text: &str| index.parse(text.as_bytes(), Framing::Datagram, &limits).map_err(|e| e.what);
        assert_eq!(parse("A sip:b SIP/2.0\r\na:1\r\nb:2\r\n\r\n"), Ok(()));
        assert_eq!(parse("A sip:b SIP/2.0\r\na:1\r\nb:2\r\nc:3\r\n\r\n"), Err("too many header fields"));
        assert_eq!(parse(&" ".repeat(65)), Err("message too large"));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes(bytes: Vec<u8>, stream: bool) {
            let framing = if stream { Framing::Stream } else { Framing::Datagram };
            let _ = Index::new().parse(&bytes, framing, &Limits::default());
        }
    }
}
