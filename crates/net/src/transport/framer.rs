//! From the octets of a stream to messages and keep-alives (RFC 3261 §18.3,
//! RFC 5626 §4.4.1). Holds what has come so far; decides nothing about time.
//!
//! A CRLF may be the answer to a keep-alive of ours or the first half of one of
//! the peer's. It is taken for an answer at once; when another follows, the two
//! were a keep-alive.

use wire::Malformed;
use wire::sip::Limits;
use wire::sip::framing::{Frame, frame, whole};

/// Octets read at a time.
const READ: usize = 2048;

/// One thing that a stream brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// A whole message.
    Message(Vec<u8>),
    /// A double CRLF, which asks for a single one.
    Ping,
    /// A single CRLF.
    Pong,
}

#[derive(Debug)]
pub(super) struct Framer {
    limits: Limits,
    buffer: Vec<u8>,
    /// Octets at its start that have been dealt with.
    done: usize,
    /// Octets of the present message that hold no end of its header.
    searched: usize,
    /// Octets of the present message, once its header has come.
    total: Option<usize>,
    /// A single CRLF was the last thing that came.
    half: bool,
}

impl Framer {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, buffer: Vec::new(), done: 0, searched: 0, total: None, half: false }
    }

    /// Where the next octets go: at the end, with room for some.
    pub(super) fn room(&mut self) -> &mut Vec<u8> {
        self.buffer.drain(..self.done);
        self.done = 0;
        if self.buffer.is_empty() && self.buffer.capacity() > READ {
            self.buffer = Vec::new();
        }
        self.buffer.reserve(READ);
        &mut self.buffer
    }

    /// True while a message has been begun and not finished.
    pub(super) fn begun(&self) -> bool {
        self.done < self.buffer.len()
    }

    /// Octets of a message that has been begun and not finished.
    pub(super) fn held(&self) -> usize {
        self.buffer.len().saturating_sub(self.done)
    }

    /// The next whole thing; `None` until more octets have come.
    pub(super) fn next(&mut self) -> Result<Option<Piece>, Malformed> {
        loop {
            let rest = self.buffer.get(self.done..).unwrap_or_default();
            if matches!(rest.first(), None | Some(b'\r' | b'\n')) {
                match frame(rest, &self.limits)? {
                    Frame::Partial | Frame::Message(_) => return Ok(None),
                    Frame::KeepAlive { skip, ping } => {
                        let second = self.half;
                        self.half = skip == 2 && !ping && !second;
                        self.done += skip;
                        match (skip, ping) {
                            (_, true) => return Ok(Some(Piece::Ping)),
                            (2, false) if second => return Ok(Some(Piece::Ping)),
                            (2, false) => return Ok(Some(Piece::Pong)),
                            (_, false) => continue,
                        }
                    }
                }
            }
            self.half = false;
            return self.message();
        }
    }

    fn message(&mut self) -> Result<Option<Piece>, Malformed> {
        let rest = self.buffer.get(self.done..).unwrap_or_default();
        if self.total.is_none() {
            // An empty line ends the header; as long as there is none, and room, looking closer is in vain.
            let fresh = rest.get(self.searched.saturating_sub(2)..).unwrap_or_default();
            let ends = fresh.windows(2).any(|two| two == b"\n\n") || fresh.windows(3).any(|three| three == b"\n\r\n");
            if !ends && rest.len() < self.limits.message_bytes {
                self.searched = rest.len();
                return Ok(None);
            }
            self.total = whole(rest, &self.limits)?;
            self.searched = rest.len();
        }
        let Some(message) = self.total.and_then(|total| rest.get(..total)).map(<[u8]>::to_vec) else { return Ok(None) };
        self.done += message.len();
        self.searched = 0;
        self.total = None;
        Ok(Some(Piece::Message(message)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &[u8] = b"A sip:b SIP/2.0\r\nTo: a\r\n b\r\nl: 6\r\n\r\n\r\n\r\nbo";

    fn feed(framer: &mut Framer, bytes: &[u8]) -> Result<Vec<Piece>, Malformed> {
        framer.room().extend_from_slice(bytes);
        std::iter::from_fn(|| framer.next().transpose()).collect()
    }

    fn framer() -> Framer {
        Framer::new(Limits { message_bytes: 200, header_fields: 10 })
    }

    #[test]
    fn borders_of_segments_do_not_matter() {
        let stream = [b"\r\n\r\n", MESSAGE, MESSAGE, b"\r\n\r\n", MESSAGE, b"B\nl:0\n\n"].concat();
        let short = || Piece::Message(b"B\nl:0\n\n".to_vec());
        let message = || Piece::Message(MESSAGE.to_vec());
        for size in 1..stream.len() {
            let mut framer = framer();
            let mut pieces = Vec::new();
            for segment in stream.chunks(size) {
                pieces.extend(feed(&mut framer, segment).unwrap());
            }
            // Cut after its first CRLF, a ping shows a pong beside it.
            pieces.retain(|piece| *piece != Piece::Pong);
            assert_eq!(pieces, [Piece::Ping, message(), message(), Piece::Ping, message(), short()], "{size}");
            assert!(!framer.begun());
        }
    }

    #[test]
    fn a_ping_in_two_segments_is_no_two_pongs() {
        let mut framer = framer();
        assert_eq!(feed(&mut framer, b"\r\n").unwrap(), [Piece::Pong]);
        assert_eq!(feed(&mut framer, b"\r\n").unwrap(), [Piece::Ping]);
        assert_eq!(feed(&mut framer, b"\r\n").unwrap(), [Piece::Pong]);
        assert_eq!(feed(&mut framer, b"B\nl:0\n\n").unwrap().len(), 1);
        assert_eq!(feed(&mut framer, b"\r\n").unwrap(), [Piece::Pong]);
        assert_eq!(feed(&mut framer, b"\r\n\r").unwrap(), []);
        assert_eq!(feed(&mut framer, b"\n").unwrap(), [Piece::Ping]);
    }

    #[test]
    fn what_cannot_be_framed_is_an_error_and_bounded() {
        for (text, what) in [
            ("GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), "Content-Length missing"),
            ("A\r\nl: 1\r\nl: 2\r\n\r\n".to_owned(), "two different Content-Lengths"),
            ("A\r\nl: 193\r\n\r\n".to_owned(), "message too large"),
            ("A\r\nl: 99999999999999999999\r\n\r\n".to_owned(), "Content-Length too large"),
            ("A".repeat(300), "message too large"),
            ("A\r\n".repeat(80), "message too large"),
        ] {
            let mut framer = framer();
            let mut result = Ok(Vec::new());
            for octet in text.as_bytes() {
                result = feed(&mut framer, &[*octet]);
                if result.is_err() {
                    break;
                }
            }
            assert_eq!(result.unwrap_err().what, what);
            assert!(framer.buffer.len() <= 200);
        }
    }

    #[test]
    fn room_is_given_back() {
        let mut framer = Framer::new(Limits::default());
        let mut large = b"A\r\nl: 60000\r\n\r\n".to_vec();
        large.resize(large.len() + 60_000, b'x');
        assert_eq!(feed(&mut framer, &large).unwrap(), [Piece::Message(large)]);
        assert!(framer.room().capacity() <= READ);
    }
}
