//! Common edits of SIP messages, in terms of header fields and values. Each
//! adds splices to an [`Edit`]; none touches bytes. [`Name::Other`] has no
//! spelling of its own, so an edit that would write it does nothing.

use std::net::SocketAddr;

use super::{Message, Name, Params, field::comma_list, lex};
use crate::text::Text;
use crate::{Edit, Rule, Span};

/// Adds `Name: value` above all header fields.
pub fn push_top(message: Message<'_>, edit: &mut Edit, rule: Rule, name: Name, value: &[&[u8]]) {
    line(message.head(), edit, rule, name, value);
}

/// Adds a field above the first field of the same name, or below all fields
/// when there is none. For Record-Route, Path, Via.
pub fn push(message: Message<'_>, edit: &mut Edit, rule: Rule, name: Name, value: &[&[u8]]) {
    let at = message.field(name).map_or(message.head_end(), |first| first.line.start);
    line(at, edit, rule, name, value);
}

/// Adds a field below all fields.
pub fn append(message: Message<'_>, edit: &mut Edit, rule: Rule, name: Name, value: &[&[u8]]) {
    line(message.head_end(), edit, rule, name, value);
}

/// Replaces the value of the first field of that name, or appends the field.
pub fn set(message: Message<'_>, edit: &mut Edit, rule: Rule, name: Name, value: &[&[u8]]) {
    match message.field(name) {
        Some(field) => edit.replace(field.value, rule, value),
        None => append(message, edit, rule, name, value),
    }
}

/// Removes the first `count` values of a comma-list field (over several
/// lines if need be): whole lines where all of a line's values go.
pub fn pop(message: Message<'_>, edit: &mut Edit, rule: Rule, name: Name, count: usize) {
    let mut left = count;
    for field in message.fields_of(name) {
        if left == 0 {
            return;
        }
        let mut gone = 0;
        let kept = comma_list(message.slice(field.value)).find(|_| {
            gone += 1;
            gone > left
        });
        match kept {
            Some(kept) => {
                edit.delete(Span { start: field.value.start, end: message.span(kept).start }, rule);
                return;
            }
            None => edit.delete(field.line, rule),
        }
        left -= gone;
    }
}

/// Removes those values of a comma-list field that `goes` names: whole lines
/// where all of a line's values go.
pub fn drop_values(message: Message<'_>, edit: &mut Edit, rule: Rule, name: Name, goes: impl Fn(&[u8]) -> bool) {
    for field in message.fields_of(name) {
        let values = || comma_list(message.slice(field.value)).map(|value| (message.span(value), goes(value)));
        if !values().any(|(_, goes)| goes) {
            continue;
        }
        let Some((last, _)) = values().filter(|(_, goes)| !goes).last() else {
            edit.delete(field.line, rule);
            continue;
        };
        // Each goes with the comma behind it; those behind the last that stays go with the comma before them.
        let mut from = None;
        for (span, goes) in values().take_while(|(span, _)| span.start <= last.start) {
            if goes {
                from.get_or_insert(span.start);
            } else if let Some(start) = from.take() {
                edit.delete(Span { start, end: span.start }, rule);
            }
        }
        if let Some((end, _)) = values().last().filter(|(_, goes)| *goes) {
            edit.delete(Span { start: last.end, end: end.end }, rule);
        }
    }
}

/// Adds a value to a comma-list field, behind so many of its values.
pub fn insert_value(message: Message<'_>, edit: &mut Edit, rule: Rule, name: Name, behind: usize, value: &[&[u8]]) {
    let next = message.values(name).nth(behind).map(|next| message.span(next).start);
    let last = message.values(name).last().map(|last| message.span(last).end);
    match (next, last) {
        (Some(at), _) => {
            edit.replace_with(Span { start: at, end: at }, rule, value.iter().copied().chain([&b", "[..]]))
        }
        (None, Some(at)) => {
            edit.replace_with(Span { start: at, end: at }, rule, [&b", "[..]].into_iter().chain(value.iter().copied()))
        }
        (None, None) => append(message, edit, rule, name, value),
    }
}

/// Removes every field of that name.
pub fn remove(message: Message<'_>, edit: &mut Edit, rule: Rule, name: Name) {
    for field in message.fields_of(name) {
        edit.delete(field.line, rule);
    }
}

/// Sets Content-Length to the body's length after the splices made so far
/// within the body; adds the field when the message had none and a body.
/// Does nothing when the length stays the same.
pub fn content_length(message: Message<'_>, edit: &mut Edit) {
    let body = message.body_span();
    let length = (body.len() as i64 + edit.growth(body)).max(0) as u64;
    let buffer = &mut [0; 20];
    let digits = lex::digits(length, buffer);
    let mut fields = message.fields_of(Name::ContentLength).peekable();
    if fields.peek().is_none() && length > 0 {
        append(message, edit, Rule::ContentLength, Name::ContentLength, &[digits]);
    }
    for field in fields {
        if lex::decimal(message.slice(field.value)) != Some(length) {
            edit.replace(field.value, Rule::ContentLength, &[digits]);
        }
    }
}

/// Writes into the top Via where the request came from: `received` when its
/// host is not the source address (RFC 3261 §18.2.1), `rport` and `received`
/// when it asks for `rport` (RFC 3581 §4). Values that were there give way.
/// A Via that cannot be read stays as it is.
pub fn received(message: Message<'_>, edit: &mut Edit, source: SocketAddr) {
    for stamp in stamps(message, source).iter().flatten() {
        let (span, start, value) = stamp.parts();
        edit.replace(span, Rule::ViaReceived, &[start, value]);
    }
}

/// A parameter of the top Via that says where its request came from.
pub(super) struct Stamp {
    /// What it takes the place of; empty behind the other parameters.
    span: Span,
    /// `;name=`
    start: &'static [u8],
    value: Text,
}

impl Stamp {
    pub(super) fn parts(&self) -> (Span, &[u8], &[u8]) {
        (self.span, self.start, self.value.get())
    }
}

/// What [`received`] writes.
pub(super) fn stamps(message: Message<'_>, source: SocketAddr) -> [Option<Stamp>; 2] {
    let Ok(via) = message.top_via() else { return [None, None] };
    let ip = source.ip().to_canonical();
    let differs = via.host.ip().is_none_or(|host| host.to_canonical() != ip);
    let (received, rport) = (via.named.received, via.named.rport);
    let place = |there: Option<&[u8]>| match there {
        Some(param) => message.span(param),
        None => Span { start: message.span(via.raw).end, ..message.span(via.raw) },
    };
    let stamped = received.is_some() || rport.is_some() || differs;
    [
        stamped.then(|| Stamp { span: place(received), start: b";received=", value: Text::address(ip) }),
        rport.map(|_| Stamp { span: place(rport), start: b";rport=", value: Text::number(source.port().into()) }),
    ]
}

/// The offer of `keep` on the top Via, to keep the way open (RFC 6223 §4.4).
/// One that has a value already is none.
pub(super) fn keep_offer(message: Message<'_>) -> Option<Span> {
    let offer = message.keep()?;
    Params(offer).iter().all(|keep| keep.value.is_none()).then(|| message.span(offer))
}

/// Answers `keep` on the top Via with seconds (RFC 6223 §4.4).
pub fn keep(message: Message<'_>, edit: &mut Edit, seconds: &[u8]) {
    if let Some(span) = keep_offer(message) {
        edit.replace(span, Rule::ViaReceived, &[b";keep=", seconds]);
    }
}

fn line(at: u32, edit: &mut Edit, rule: Rule, name: Name, value: &[&[u8]]) {
    if name != Name::Other {
        let start = [name.as_str().as_bytes(), b": "];
        let pieces = start.into_iter().chain(value.iter().copied()).chain([&b"\r\n"[..]]);
        edit.replace_with(Span { start: at, end: at }, rule, pieces);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::{Limits, Stored};

    const HEAD: &str = "INVITE sip:b SIP/2.0\r\n";

    /// Applies `change` to a message of these header lines and gives back the lines.
    fn lines(lines: &str, change: impl Fn(Message<'_>, &mut Edit)) -> String {
        let text = format!("{HEAD}{lines}\r\n");
        let stored = Stored::parse(text.into_bytes(), &Limits::default()).expect(lines);
        let mut edit = Edit::new();
        change(stored.message(), &mut edit);
        let out = String::from_utf8(stored.message().edited(&edit)).expect("ASCII");
        out.strip_prefix(HEAD).and_then(|l| l.strip_suffix("\r\n")).expect("frame kept").to_owned()
    }

    #[test]
    fn where_lines_go() {
        let base = "To: t\r\nv: a\r\nVia: b\r\n";
        let add = |m: Message<'_>, e: &mut Edit, how: fn(Message<'_>, &mut Edit, Rule, Name, &[&[u8]]), name| {
            how(m, e, Rule::Via, name, &[b"x", b"y"]);
        };
        assert_eq!(lines(base, |m, e| add(m, e, push_top, Name::Via)), format!("Via: xy\r\n{base}"));
        assert_eq!(lines(base, |m, e| add(m, e, push, Name::Via)), "To: t\r\nVia: xy\r\nv: a\r\nVia: b\r\n");
        assert_eq!(lines(base, |m, e| add(m, e, push, Name::Path)), format!("{base}Path: xy\r\n"));
        assert_eq!(lines(base, |m, e| add(m, e, append, Name::Via)), format!("{base}Via: xy\r\n"));
        assert_eq!(lines(base, |m, e| add(m, e, set, Name::Via)), "To: t\r\nv: xy\r\nVia: b\r\n");
        assert_eq!(lines(base, |m, e| add(m, e, set, Name::Expires)), format!("{base}Expires: xy\r\n"));
        assert_eq!(lines(base, |m, e| add(m, e, append, Name::Other)), base);
        assert_eq!(lines(base, |m, e| remove(m, e, Rule::Via, Name::Via)), "To: t\r\n");
        assert_eq!(lines("", |m, e| add(m, e, push_top, Name::To)), "To: xy\r\n");
        assert_eq!(lines("Expires:  \r\n", |m, e| add(m, e, set, Name::Expires)), "Expires:xy  \r\n");
    }

    #[test]
    fn popping_values() {
        let base = "Route: <sip:a,1>, <sip:b>\r\nTo: t\r\nRoute:\r\nroute: <sip:c> ,,\r\n <sip:d>;x\r\n";
        let rest = "To: t\r\nRoute:\r\nroute: <sip:c> ,,\r\n <sip:d>;x\r\n";
        for (count, expected) in [
            (0, base.to_owned()),
            (1, format!("Route: <sip:b>\r\n{rest}")),
            (2, rest.to_owned()),
            (3, "To: t\r\nroute: <sip:d>;x\r\n".to_owned()),
            (4, "To: t\r\n".to_owned()),
            (9, "To: t\r\n".to_owned()),
        ] {
            assert_eq!(lines(base, |m, e| pop(m, e, Rule::Route, Name::Route, count)), expected, "{count}");
        }
    }

    #[test]
    fn dropping_and_inserting_values() {
        let base = "Record-Route: <a>, <b> ,<c>\r\nTo: t\r\nrecord-route: <d>\r\n";
        for (gone, expected) in [
            ("", base),
            ("a", "Record-Route: <b> ,<c>\r\nTo: t\r\nrecord-route: <d>\r\n"),
            ("b", "Record-Route: <a>, <c>\r\nTo: t\r\nrecord-route: <d>\r\n"),
            ("c", "Record-Route: <a>, <b>\r\nTo: t\r\nrecord-route: <d>\r\n"),
            ("ab", "Record-Route: <c>\r\nTo: t\r\nrecord-route: <d>\r\n"),
            ("bc", "Record-Route: <a>\r\nTo: t\r\nrecord-route: <d>\r\n"),
            ("ac", "Record-Route: <b>\r\nTo: t\r\nrecord-route: <d>\r\n"),
            ("abc", "To: t\r\nrecord-route: <d>\r\n"),
            ("d", "Record-Route: <a>, <b> ,<c>\r\nTo: t\r\n"),
            ("abcd", "To: t\r\n"),
        ] {
            let goes = |value: &[u8]| gone.as_bytes().contains(&value[1]);
            let found = lines(base, |m, e| drop_values(m, e, Rule::RecordRoute, Name::RecordRoute, goes));
            assert_eq!(found, expected, "{gone}");
        }
        for (behind, expected) in [
            (0, "Record-Route: xy, <a>, <b> ,<c>\r\nTo: t\r\nrecord-route: <d>\r\n"),
            (2, "Record-Route: <a>, <b> ,xy, <c>\r\nTo: t\r\nrecord-route: <d>\r\n"),
            (3, "Record-Route: <a>, <b> ,<c>\r\nTo: t\r\nrecord-route: xy, <d>\r\n"),
            (4, "Record-Route: <a>, <b> ,<c>\r\nTo: t\r\nrecord-route: <d>, xy\r\n"),
        ] {
            let add = |m: Message<'_>, e: &mut Edit| {
                insert_value(m, e, Rule::RecordRoute, Name::RecordRoute, behind, &[b"x", b"y"]);
            };
            assert_eq!(lines(base, add), expected, "{behind}");
            assert_eq!(lines("To: t\r\n", add), "To: t\r\nRecord-Route: xy\r\n");
        }
    }

    #[test]
    fn content_length_follows_the_body() {
        let change = |text: &str, grow: &[u8]| {
            let stored = Stored::parse(text.as_bytes().to_vec(), &Limits::default()).expect(text);
            let message = stored.message();
            let mut edit = Edit::new();
            edit.replace(Span { end: message.body_span().start + 1, ..message.body_span() }, Rule::Sdp, &[grow]);
            content_length(message, &mut edit);
            String::from_utf8(message.edited(&edit)).expect("ASCII")
        };
        assert_eq!(change("A b SIP/2.0\r\nl: 04\r\n\r\nbody", b"B"), "A b SIP/2.0\r\nl: 04\r\n\r\nBody");
        assert_eq!(
            change("A b SIP/2.0\r\nl: 4\r\nContent-Length: 4\r\n\r\nbody", b"bosom b"),
            "A b SIP/2.0\r\nl: 10\r\nContent-Length: 10\r\n\r\nbosom body"
        );
        assert_eq!(change("A b SIP/2.0\r\n\r\nbody", b""), "A b SIP/2.0\r\nContent-Length: 3\r\n\r\nody");
        assert_eq!(lines("", content_length), "");
        assert_eq!(lines("l: 0\r\n", content_length), "l: 0\r\n");
    }

    #[test]
    fn where_the_request_came_from() {
        let source: SocketAddr = "[::ffff:192.0.2.7]:4321".parse().expect("address");
        for (value, expected) in [
            ("SIP/2.0/UDP 192.0.2.7;branch=1", "SIP/2.0/UDP 192.0.2.7;branch=1"),
            ("SIP/2.0/UDP 10.0.0.1;branch=1, x", "SIP/2.0/UDP 10.0.0.1;branch=1;received=192.0.2.7, x"),
            ("SIP/2.0/UDP host", "SIP/2.0/UDP host;received=192.0.2.7"),
            ("SIP/2.0/UDP 192.0.2.7;rport;b", "SIP/2.0/UDP 192.0.2.7;rport=4321;b;received=192.0.2.7"),
            ("SIP/2.0/UDP h;rport=9 ;received=1.1.1.1", "SIP/2.0/UDP h;rport=4321 ;received=192.0.2.7"),
            ("SIP/2.0/UDP 192.0.2.7;received=1.1.1.1", "SIP/2.0/UDP 192.0.2.7;received=192.0.2.7"),
            ("broken", "broken"),
        ] {
            let via = |value| format!("Via: {value}\r\n");
            assert_eq!(lines(&via(value), |m, e| received(m, e, source)), via(expected));
        }
        let source: SocketAddr = "[2001:db8::9]:5060".parse().expect("address");
        let v6 = lines("v: SIP/2.0/UDP [2001:db8::1];rport\r\n", |m, e| received(m, e, source));
        assert_eq!(v6, "v: SIP/2.0/UDP [2001:db8::1];rport=5060;received=2001:db8::9\r\n");
    }
}
