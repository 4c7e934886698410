//! A WebSocket through the code that serves one, over a stream in memory: the
//! handshake, frames and what is made of them (RFC 6455, RFC 7118). One SIP
//! message in each WebSocket message, whatever the pieces; sizes are limited,
//! pings answered, and every connection ends. The input is how it begins, the
//! row of lengths that it is cut at, then the octets.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use net::transport::connection::serve;
use net::transport::{Event, Patience, Why};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc::channel;
use wire::sip::Limits;
use wire::{Flow, ListenerId, Transport};

use super::choices::Choices;

/// Small, so that "too large" is near.
const LIMITS: Limits = Limits { message_bytes: 1500, header_fields: 64 };
/// What the answer to a handshake may have, beyond what a ping gets back.
const GREETING: usize = 1024;

pub(crate) const HANDSHAKE: &str = "GET / HTTP/1.1\r\nHost: edge.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                                    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
                                    Sec-WebSocket-Protocol: sip\r\n\r\n";

/// How the octets are taken.
pub(crate) mod how {
    /// The handshake is among them.
    pub(crate) const RAW: u8 = 1;
    /// They are frames without masks, which are put in.
    pub(crate) const UNMASKED: u8 = 2;
}

pub(super) fn run(bytes: &[u8]) {
    let mut choices = Choices::new(bytes);
    let how = choices.octet();
    let lengths = choices.text();
    let rest = choices.rest();
    let raw = how & how::RAW != 0;
    let mut stream = if raw { Vec::new() } else { HANDSHAKE.as_bytes().to_vec() };
    let begun = stream.len();
    if how & how::UNMASKED == 0 {
        stream.extend_from_slice(rest)
    } else {
        masked(rest, &mut stream)
    }
    let whole = talk(&stream, begun, &[]);
    let pieces = talk(&stream, begun, lengths);
    if raw && pieces.why == Why::Handshake {
        // One that comes in too many pieces is taken for an attack.
        return assert!(pieces.messages.is_empty());
    }
    assert!(pieces.messages == whole.messages, "other messages when cut");
    assert_eq!(pieces.why, whole.why, "another end when cut");
}

/// Frames as a client sends them, with a mask that changes nothing.
fn masked(frames: &[u8], out: &mut Vec<u8>) {
    let mut choices = Choices::new(frames);
    while !choices.is_over() {
        let (first, length) = (choices.octet(), choices.octet());
        out.extend([first, length | 0x80]);
        let more = match length & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let long: Vec<u8> = (0..more).map(|_| choices.octet()).collect();
        let claimed =
            if more == 0 { u64::from(length & 0x7f) } else { long.iter().fold(0, |n, b| n << 8 | u64::from(*b)) };
        out.extend(long);
        out.extend([0; 4]);
        let mut left = claimed;
        while left > 0 && !choices.is_over() {
            out.push(choices.octet());
            left -= 1;
        }
    }
}

#[derive(Debug)]
struct Heard {
    messages: Vec<Vec<u8>>,
    why: Why,
}

/// A connection from its beginning to its end, cut at these lengths once it has begun, and what holds of it.
fn talk(stream: &[u8], begun: usize, lengths: &[u8]) -> Heard {
    let said = Arc::new(Mutex::new(Vec::new()));
    let pipe = Pipe { rest: stream, begun, lengths, said: Arc::clone(&said) };
    let (sender, mut events) = channel(stream.len() + 8);
    let address: SocketAddr = ([127, 0, 0, 1], 5060).into();
    let flow =
        Flow { transport: Transport::Ws, listener: ListenerId(0), connection: 1, local: address, remote: address };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(serve(pipe, flow, LIMITS, Patience::default(), sender));
    let (mut heard, mut open, mut keepalives) = (Vec::new(), false, 0);
    let mut end = None;
    while let Ok(event) = events.try_recv() {
        assert!(end.is_none(), "{event:?} after the end");
        match event {
            Event::Opened { flow: opened, peer } => {
                assert!(!std::mem::replace(&mut open, true) && opened.transport == Transport::Ws && peer.is_empty());
            }
            Event::Message { bytes, .. } => {
                assert!(open && !bytes.is_empty() && bytes.len() <= LIMITS.message_bytes, "{} octets", bytes.len());
                assert!(!matches!(bytes.first(), Some(b'\r' | b'\n')), "a keep-alive before it");
                heard.push(bytes);
            }
            Event::KeepAlive { .. } | Event::Pong { .. } => keepalives += usize::from(open),
            Event::Closed { why, opened, .. } => {
                assert_eq!(opened, open);
                end = Some(why);
            }
            Event::Denied => panic!("nobody is turned away from a stream in memory"),
            Event::Short { error } => panic!("{error:?} of a stream in memory"),
        }
    }
    let why = end.expect("every connection ends");
    let octets: usize = heard.iter().map(Vec::len).sum();
    // A frame has two octets at least, and a mask.
    assert!(octets + 2 * (heard.len() + keepalives) <= stream.len(), "more came out than went in");
    let said = said.lock().unwrap_or_else(PoisonError::into_inner).len();
    assert!(said <= stream.len() + GREETING, "{said} octets said for {}", stream.len());
    Heard { messages: heard, why }
}

/// A stream in memory: what comes, cut at some lengths; and what is said, which nobody holds up.
struct Pipe<'a> {
    rest: &'a [u8],
    /// Octets that come first and at once.
    begun: usize,
    lengths: &'a [u8],
    said: Arc<Mutex<Vec<u8>>>,
}

impl AsyncRead for Pipe<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _cx: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let length = match self.lengths.split_first() {
            _ if self.begun > 0 => std::mem::take(&mut self.begun),
            Some((first, rest)) => {
                self.lengths = rest;
                usize::from(*first).max(1)
            }
            None => usize::MAX,
        };
        let (piece, rest) = self.rest.split_at(self.rest.len().min(length).min(room.remaining()));
        room.put_slice(piece);
        self.rest = rest;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe<'_> {
    fn poll_write(self: Pin<&mut Self>, _cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
