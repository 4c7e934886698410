//! Every message again with one octet changed, dropped or cut behind: nothing
//! panics, and what is accepted still goes out as it came.

use wire::sip::compose::{Response, ack, cancel};
use wire::sip::framing::frame;
use wire::sip::{Framing, Index, Limits, Name, Status, edit};
use wire::{Edit, Rule};

use crate::table::{RFC4475, RFC5118};
use crate::verdict::views;

const MARKS: &[u8] = b"\0\r\n \t\"<>;,:@[]\\=%*/a\xff";

#[test]
fn one_octet_wrong() {
    let (mut index, mut edit, mut out) = (Index::new(), Edit::new(), Vec::new());
    for case in RFC4475.iter().chain(RFC5118) {
        let mut bytes = case.bytes.to_vec();
        for at in 0..bytes.len().min(700) {
            let octet = std::mem::replace(&mut bytes[at], MARKS[at * 7 % MARKS.len()]);
            exercise(&bytes, &mut index, &mut edit, &mut out);
            bytes[at] = octet;
            exercise(&bytes[..at], &mut index, &mut edit, &mut out);
            if at % 5 == 0 {
                let octet = bytes.remove(at);
                exercise(&bytes, &mut index, &mut edit, &mut out);
                bytes.insert(at, octet);
            }
        }
    }
}

fn exercise(bytes: &[u8], index: &mut Index, edit: &mut Edit, out: &mut Vec<u8>) {
    let _ = frame(bytes, &Limits::default());
    let read = index.parse(bytes, Framing::Datagram, &Limits::default());
    let message = index.view(bytes);
    let _ = views(message);
    let mut end = message.head();
    for field in message.fields() {
        assert!(end <= field.line.start && field.line.start == field.written.start);
        assert!(field.written.end < field.value.start && field.value.end <= field.line.end);
        end = field.line.end;
    }
    assert!(end <= message.head_end() && message.head_end() <= message.body_span().start);
    edit.clear();
    out.clear();
    message.write(edit, out);
    if read.is_ok() {
        let start = bytes.len() - bytes.trim_ascii_start().len();
        assert!(bytes[start..].starts_with(out) || bytes.starts_with(out));
    }
    let source = "192.0.2.1:5060".parse().expect("an address");
    Response {
        request: message,
        status: Status(400),
        reason: "",
        to_tag: b"t",
        source,
        keep: None,
        peer: None,
        extra: b"",
        body: None,
    }
    .write(out);
    for name in [Name::Via, Name::Route, Name::Contact] {
        edit::pop(message, edit, Rule::Route, name, 1);
        edit::push(message, edit, Rule::Via, name, &[b"x"]);
    }
    edit::received(message, edit, source);
    edit::content_length(message, edit);
    message.write(edit, out);
    let _ = (ack(message, message), cancel(message, b""));
}
