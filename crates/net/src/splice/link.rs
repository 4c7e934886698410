//! One connection, and what it said that the other end has not taken yet.
//!
//! A full buffer is read into no more, so TCP holds back whoever sends too fast.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Octets that wait in one direction at most.
pub(super) const ROOM: usize = 64 << 10;

/// TCP, or a pipe to a leg of our own.
pub(super) trait Octets: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Octets for T {}

/// One connection.
pub(super) struct Link {
    stream: Box<dyn Octets>,
    /// Where it comes from, unless from a leg of our own.
    pub(super) from: Option<IpAddr>,
    /// Room for what was read; none before something was.
    octets: Box<[u8]>,
    /// Of that, what has not been passed on.
    start: usize,
    end: usize,
    /// The peer has said something.
    pub(super) spoke: bool,
    /// The peer says nothing more (half-closed).
    pub(super) ended: bool,
    /// The peer was told that nothing more comes.
    pub(super) shut: bool,
}

impl Link {
    pub(super) fn new(stream: impl Octets + 'static, from: Option<IpAddr>) -> Self {
        let (octets, start, end) = (Box::default(), 0, 0);
        Self { stream: Box::new(stream), from, octets, start, end, spoke: false, ended: false, shut: false }
    }

    /// Nothing waits to be passed on.
    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Reads, if there is room; how much. Zero: the peer has ended.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        }
        if self.ended || self.end == ROOM {
            return Poll::Pending;
        }
        if self.octets.is_empty() {
            self.octets = vec![0; ROOM].into_boxed_slice();
        }
        let mut room = ReadBuf::new(&mut self.octets[self.end..]);
        ready!(Pin::new(&mut *self.stream).poll_read(cx, &mut room))?;
        let read = room.filled().len();
        self.end += read;
        self.ended = read == 0;
        self.spoke |= read != 0;
        Poll::Ready(Ok(read))
    }

    /// Passes on what waits; how much of it.
    pub(super) fn poll_drain(&mut self, to: &mut Self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.is_empty() {
            return Poll::Pending;
        }
        let written = ready!(Pin::new(&mut *to.stream).poll_write(cx, &self.octets[self.start..self.end]))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.start += written;
        Poll::Ready(Ok(written))
    }

    /// Tells the peer that nothing more comes.
    pub(super) fn poll_shut(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut *self.stream).poll_shutdown(cx))?;
        self.shut = true;
        Poll::Ready(Ok(()))
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("from", &self.from)
            .field("waits", &(self.end - self.start))
            .finish_non_exhaustive()
    }
}
