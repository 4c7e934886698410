//! Where a message ends (RFC 3261 §18.3).

use memchr::memchr_iter;

use super::{Limits, Name, index, lex};
use crate::Malformed;

/// How messages are told apart on a transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// One per datagram: octets beyond Content-Length are ignored, fewer are
    /// an error, a missing Content-Length means "to the end".
    Datagram,
    /// Content-Length decides, and must be there.
    Stream,
}

/// What the start of a stream's buffer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame {
    /// `skip` octets of CRLF keep-alive, then nothing decided yet.
    KeepAlive {
        /// Octets to consume.
        skip: usize,
        /// True for a double CRLF, which asks for a single one back (RFC 5626 §4.4.1).
        ping: bool,
    },
    /// A whole message of this many octets.
    Message(usize),
    /// More octets are needed.
    Partial,
}

/// Looks at the octets gathered so far on a stream, without indexing.
///
/// A lone CRLF is taken at once (it may be the pong, RFC 5626 §4.4.1); a
/// third octet that is CR waits for the LF that makes it a ping.
pub fn frame(buffer: &[u8], limits: &Limits) -> Result<Frame, Malformed> {
    match buffer {
        [] | [b'\r'] | [b'\r', b'\n', b'\r'] => return Ok(Frame::Partial),
        [b'\r', b'\n', b'\r', b'\n', ..] => return Ok(Frame::KeepAlive { skip: 4, ping: true }),
        [b'\r', b'\n', ..] => return Ok(Frame::KeepAlive { skip: 2, ping: false }),
        [b'\r' | b'\n', ..] => return Ok(Frame::KeepAlive { skip: 1, ping: false }),
        _ => {}
    }
    Ok(match whole(buffer, limits)? {
        Some(total) if total <= buffer.len() => Frame::Message(total),
        Some(_) | None => Frame::Partial,
    })
}

/// How many octets the message that `buffer` begins with has, its body
/// included; `None` while its header has not ended. Whoever waits for a body
/// asks once and counts, so that a sender of single octets costs little.
pub fn whole(buffer: &[u8], limits: &Limits) -> Result<Option<usize>, Malformed> {
    let limit = limits.message_bytes.min(u32::MAX as usize);
    let too_large = Malformed { at: limit, what: "message too large" };
    let header = lex::before(buffer, limit);
    let mut lines = memchr_iter(b'\n', header);
    let Some(end) = lines.next() else {
        return if buffer.len() < limit { Ok(None) } else { Err(too_large) };
    };
    let mut at = end + 1;
    let mut length = None;
    for end in lines {
        let line = header.get(at..end).unwrap_or_default();
        if matches!(line, [] | [b'\r']) {
            let missing = Malformed { at, what: "Content-Length missing" };
            let total = (end + 1).saturating_add(length.ok_or(missing)?);
            return if total > limit { Err(too_large) } else { Ok(Some(total)) };
        }
        match buffer.get(end + 1) {
            None => return Ok(None),
            Some(b' ' | b'\t') => continue,
            Some(_) => {}
        }
        if matches!(line.first(), Some(b'C' | b'c' | b'L' | b'l'))
            && let Ok(field) = index::field(buffer, at, end, end + 1)
            && field.name == Name::ContentLength
        {
            index::content_length(buffer, field.value, &mut length)?;
        }
        at = end + 1;
    }
    if buffer.len() < limit { Ok(None) } else { Err(too_large) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(buffer: &[u8]) -> Result<Frame, &'static str> {
        frame(buffer, &Limits { message_bytes: 200, header_fields: 10 }).map_err(|e| e.what)
    }

    #[test]
    fn keep_alives() {
        let skip = |skip, ping| Ok(Frame::KeepAlive { skip, ping });
        for (buffer, expected) in [
            ("", Ok(Frame::Partial)),
            ("\r", Ok(Frame::Partial)),
            ("\r\n", skip(2, false)),
            ("\r\n\r", Ok(Frame::Partial)),
            ("\r\n\r\n", skip(4, true)),
            ("\r\n\r\n\r\n", skip(4, true)),
            ("\r\nOPTIONS", skip(2, false)),
            ("\n\n", skip(1, false)),
            ("\rx", skip(1, false)),
        ] {
            assert_eq!(framed(buffer.as_bytes()), expected, "{buffer:?}");
        }
    }

    #[test]
    fn messages() {
        let message = b"A sip:b SIP/2.0\r\nTo: a\r\n b\r\nContent-Length :\r\n 4\r\n\r\nbody";
        let mut two = message.to_vec();
        two.extend_from_slice(message);
        for end in 1..message.len() {
            assert_eq!(framed(&message[..end]), Ok(Frame::Partial), "{end}");
        }
        assert_eq!(framed(message), Ok(Frame::Message(message.len())));
        assert_eq!(framed(&two), Ok(Frame::Message(message.len())));
        assert_eq!(framed(b"A\nl:0\n\n"), Ok(Frame::Message(7)));
    }

    #[test]
    fn refused() {
        for (text, what) in [
            ("GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), "Content-Length missing"),
            ("A\r\nl: 1\r\nl: 2\r\n".to_owned() + "x", "two different Content-Lengths"),
            ("A\r\nl: -1\r\n\r\n".to_owned(), "Content-Length is not a number"),
            ("A\r\nl: 193\r\n\r\n".to_owned(), "message too large"),
            ("A".repeat(200), "message too large"),
            ("A\r\n".repeat(80), "message too large"),
            ("A\r\nl: 99999999999999999999999\r\n\r\n".to_owned(), "Content-Length too large"),
        ] {
            assert_eq!(framed(text.as_bytes()), Err(what), "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes(buffer: Vec<u8>) {
            if let Ok(Frame::KeepAlive { skip: taken, .. } | Frame::Message(taken)) = framed(&buffer) {
                assert!(taken > 0 && taken <= buffer.len());
            }
        }
    }
}
