//! A stream, cut at any place: the same messages come out, in the same order,
//! and nothing is read twice. The input is the row of lengths, then the stream.

use wire::Malformed;
use wire::sip::framing::{Frame, frame};
use wire::sip::{Framing, Index, Limits};

use super::choices::Choices;

/// Small, so that "too large" is near.
const LIMITS: Limits = Limits { message_bytes: 1500, header_fields: 64 };

pub(super) fn run(bytes: &[u8]) {
    let mut choices = Choices::new(bytes);
    let lengths = choices.text();
    let stream = choices.rest();
    let mut whole = Reader::default();
    whole.take(stream);
    let mut pieces = Reader::default();
    let mut rest = stream;
    for length in lengths.iter().copied().chain(std::iter::repeat(255)) {
        let (piece, after) = rest.split_at(rest.len().min(usize::from(length)));
        pieces.take(piece);
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    assert!(pieces.messages == whole.messages, "other messages when cut");
    assert_eq!(pieces.fault.map(|f| f.what), whole.fault.map(|f| f.what), "another end when cut");
    // A CRLF is taken at once, unless a CR has come behind it.
    assert!(unfinished(&pieces.buffer) == unfinished(&whole.buffer), "another rest when cut");
}

fn unfinished(rest: &[u8]) -> &[u8] {
    &rest[rest.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count()..]
}

/// What stands between a socket and the machine.
#[derive(Default)]
struct Reader {
    buffer: Vec<u8>,
    messages: Vec<Vec<u8>>,
    /// The connection ends here.
    fault: Option<Malformed>,
}

impl Reader {
    fn take(&mut self, piece: &[u8]) {
        self.buffer.extend_from_slice(piece);
        while self.fault.is_none() {
            match frame(&self.buffer, &LIMITS) {
                Ok(Frame::Partial) => {
                    assert!(self.buffer.len() <= LIMITS.message_bytes, "a message that never ends is kept");
                    break;
                }
                Ok(Frame::KeepAlive { skip, ping }) => {
                    assert!(0 < skip && skip <= self.buffer.len(), "skips {skip}");
                    assert!(!ping || self.buffer.starts_with(b"\r\n\r\n"));
                    assert!(self.buffer.drain(..skip).all(|b| matches!(b, b'\r' | b'\n')));
                }
                Ok(Frame::Message(length)) => {
                    assert!(0 < length && length <= self.buffer.len().min(LIMITS.message_bytes), "{length} octets");
                    self.messages.push(self.message(length));
                    self.buffer.drain(..length);
                }
                Err(fault) => {
                    assert!(
                        fault.at <= self.buffer.len().max(LIMITS.message_bytes),
                        "{fault} of {}",
                        self.buffer.len()
                    );
                    self.fault = Some(fault);
                    self.buffer.clear();
                }
            }
        }
        if self.fault.is_some() {
            self.buffer.clear();
        }
    }

    /// What framing cuts off, the index reads to the same end, whatever else it finds in it.
    fn message(&self, length: usize) -> Vec<u8> {
        let message = &self.buffer[..length];
        let mut index = Index::new();
        if index.parse(message, Framing::Stream, &LIMITS).is_ok() {
            assert_eq!(index.view(message).end() as usize, length, "the index sees another end");
        }
        message.to_vec()
    }
}
