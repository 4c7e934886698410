//! Strangers who never finish: half-open handshakes, half a message, a message
//! that comes an octet at a time. Whoever is closed comes again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Notify;

use super::phone::Secure;

/// Between two octets of the slow ones.
const PAUSE: Duration = Duration::from_millis(200);

const BEGUN: &[u8] = b"REGISTER sip:edge.example SIP/2.0\r\nVia: SIP/2.0/TLS 127.0.0.1;branch=z9hG4bKslow\r\nX-Long: ";

/// How they fare.
#[derive(Debug, Default)]
pub(super) struct Tally {
    open: AtomicUsize,
    closed: AtomicUsize,
    news: Notify,
}

impl Tally {
    /// Waits until so many have been there.
    pub(super) async fn there(&self, count: usize) {
        while self.open.load(Ordering::Relaxed) < count {
            self.news.notified().await;
        }
    }

    /// Waits until siplatch has closed so many.
    pub(super) async fn gone(&self, count: usize) {
        while self.closed() < count {
            self.news.notified().await;
        }
    }

    /// Connections that siplatch has closed.
    pub(super) fn closed(&self) -> usize {
        self.closed.load(Ordering::Relaxed)
    }

    fn opened(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.news.notify_one();
    }
}

/// One stranger; its number decides its way to be slow.
pub(super) async fn stranger(number: usize, secure: Secure, tally: Arc<Tally>, over: Arc<AtomicBool>) {
    while !over.load(Ordering::Relaxed) {
        let ended = match number % 3 {
            0 => half_open(&secure, &tally).await,
            1 => half_a_message(&secure, &tally).await,
            _ => octet_by_octet(&secure, &tally).await,
        };
        if ended.is_ok() {
            tally.closed.fetch_add(1, Ordering::Relaxed);
            tally.news.notify_one();
        }
    }
}

/// The first octets of a ClientHello, then nothing.
async fn half_open(secure: &Secure, tally: &Tally) -> std::io::Result<usize> {
    let mut stream = secure.connect().await?;
    stream.write_all(&[22, 3, 1, 2, 0, 1]).await?;
    tally.opened();
    stream.read(&mut [0; 64]).await
}

/// Half of a header, then nothing.
async fn half_a_message(secure: &Secure, tally: &Tally) -> std::io::Result<usize> {
    let mut stream = secure.secure().await?;
    stream.write_all(BEGUN).await?;
    stream.flush().await?;
    tally.opened();
    stream.read(&mut [0; 64]).await
}

/// A header that goes on and on.
async fn octet_by_octet(secure: &Secure, tally: &Tally) -> std::io::Result<usize> {
    let mut stream = secure.secure().await?;
    stream.write_all(BEGUN).await?;
    tally.opened();
    let mut room = [0; 64];
    loop {
        tokio::select! {
            read = stream.read(&mut room) => return read,
            () = tokio::time::sleep(PAUSE) => {}
        }
        stream.write_all(b"x").await?;
        stream.flush().await?;
    }
}
