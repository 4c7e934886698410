//! The same messages as a stream brings them (RFC 3261 §18.3).

use wire::sip::framing::{Frame, frame};
use wire::sip::{Framing, Index, Limits, Name};

use crate::table::{RFC4475, RFC5118};
use crate::verdict::verdict;

/// All messages that may come on a stream, each after a keep-alive, as one run of octets.
fn run() -> (Vec<u8>, usize) {
    let mut run = Vec::new();
    let mut count = 0;
    for case in RFC4475.iter().chain(RFC5118) {
        let Ok(index) = verdict(case.bytes) else { continue };
        let message = index.view(case.bytes);
        if message.field(Name::ContentLength).is_some() {
            run.extend_from_slice(b"\r\n\r\n");
            run.extend_from_slice(&case.bytes[..message.end() as usize]);
            count += 1;
        }
    }
    (run, count)
}

#[test]
fn messages_are_told_apart() {
    let (run, count) = run();
    let mut rest = &run[..];
    let mut index = Index::new();
    let (mut messages, mut pings) = (0, 0);
    while !rest.is_empty() {
        let taken = match frame(rest, &Limits::default()) {
            Ok(Frame::Message(length)) => {
                assert_eq!(index.parse(&rest[..length], Framing::Stream, &Limits::default()), Ok(()));
                assert_eq!(index.view(rest).end() as usize, length);
                messages += 1;
                length
            }
            Ok(Frame::KeepAlive { skip, ping }) => {
                pings += usize::from(ping);
                skip
            }
            other => panic!("{other:?}"),
        };
        rest = &rest[taken..];
    }
    assert_eq!((messages, pings), (count, count));
}

#[test]
fn nothing_is_decided_too_early() {
    for case in RFC4475.iter().filter(|c| ["wsinv", "mpart01", "dblreq", "noreason"].contains(&c.name)) {
        let Ok(Frame::Message(length)) = frame(case.bytes, &Limits::default()) else { panic!("{}", case.name) };
        for end in 1..length {
            assert_eq!(frame(&case.bytes[..end], &Limits::default()), Ok(Frame::Partial), "{} {end}", case.name);
        }
    }
}

#[test]
fn what_has_no_end_is_refused() {
    for (name, what) in [
        ("ncl", "Content-Length is not a number"),
        ("mcl01", "two different Content-Lengths"),
        ("inv2543", "Content-Length missing"),
    ] {
        let case = crate::table::case(RFC4475, name);
        assert_eq!(frame(case.bytes, &Limits::default()).map_err(|e| e.what), Err(what), "{name}");
    }
    let clerr = crate::table::case(RFC4475, "clerr");
    assert_eq!(frame(clerr.bytes, &Limits::default()), Ok(Frame::Partial));
}
