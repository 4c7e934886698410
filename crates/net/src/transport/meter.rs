//! Counts what a WebSocket of a stranger has taken in and not yet handed out
//! as a whole message: all such octets together are limited by the roll.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::roll::Roll;

/// Octets since the last whole message.
#[derive(Debug)]
pub(super) struct Meter {
    roll: Arc<Roll>,
    connection: u32,
    octets: AtomicUsize,
}

impl Meter {
    pub(super) fn new(roll: Arc<Roll>, connection: u32) -> Self {
        Self { roll, connection, octets: AtomicUsize::new(0) }
    }

    fn took(&self, octets: usize) {
        if octets > 0 {
            let all = self.octets.fetch_add(octets, Ordering::Relaxed) + octets;
            self.roll.holds(self.connection, all);
        }
    }

    /// A whole message, or a frame between messages, was handed out.
    pub(super) fn whole(&self) {
        if self.octets.swap(0, Ordering::Relaxed) > 0 {
            self.roll.holds(self.connection, 0);
        }
    }
}

/// A stream that is counted as it is read.
#[derive(Debug)]
pub(super) struct Metered<S> {
    stream: S,
    meter: Arc<Meter>,
}

impl<S> Metered<S> {
    pub(super) fn new(stream: S, meter: Arc<Meter>) -> Self {
        Self { stream, meter }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = room.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, room);
        self.meter.took(room.filled().len() - before);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
