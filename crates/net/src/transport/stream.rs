//! SIP on an octet stream, TCP or TLS: what comes is framed, what waits on the
//! line is written (RFC 3261 §18). Keep-alives are answered here and at once.

use std::time::Instant;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::connection::{Connection, End, Event, deadline};
use super::framer::{Framer, Piece};
use super::line::{Line, Why};
use crate::clock;

/// Both directions, until one of them ends.
pub(super) async fn talk(stream: impl AsyncRead + AsyncWrite, connection: &mut Connection) -> End {
    let line = std::sync::Arc::clone(&connection.line);
    let patience = connection.patience.close;
    let (mut reader, mut writer) = tokio::io::split(stream);
    let end = tokio::select! {
        end = read(&mut reader, connection) => end,
        end = write(&mut writer, &line) => end,
    };
    if end.why == Why::Asked {
        // A farewell, where the transport has one; that it may fail changes nothing.
        let _ = deadline(patience, writer.shutdown()).await;
    }
    end
}

async fn read(reader: &mut (impl AsyncRead + Unpin), connection: &mut Connection) -> End {
    let mut framer = Framer::new(connection.limits);
    let mut begun: Option<Instant> = None;
    loop {
        match pieces(&mut framer, connection).await {
            Ok(0) if framer.begun() => {
                begun.get_or_insert_with(clock::now);
            }
            Ok(_) => begun = framer.begun().then(clock::now),
            Err(end) => return end,
        }
        connection.holds(framer.held());
        let slow = begun.map(|at| (at + connection.patience.message, Why::Slow));
        let limit = slow.into_iter().chain(connection.limit()).min();
        // Whoever has something to say all the time is late all the same.
        if let Some((at, why)) = limit
            && at <= clock::now()
        {
            return why.into();
        }
        let read = reader.read_buf(framer.room());
        let read = match limit {
            None => read.await,
            Some((at, why)) => match deadline(at.saturating_duration_since(clock::now()), read).await {
                Ok(read) => read,
                // Who has become known meanwhile has other limits.
                Err(_) if why != Why::Slow && connection.line.proven() => continue,
                Err(_) => return why.into(),
            },
        };
        match read {
            Ok(0) => return Why::Ended.into(),
            Ok(_) => {}
            Err(error) => return error.into(),
        }
    }
}

/// Deals with all that is whole; returns how many messages that were.
async fn pieces(framer: &mut Framer, connection: &mut Connection) -> Result<usize, End> {
    let (mut messages, mut pings, mut pong) = (0, 0, false);
    let outcome = loop {
        match framer.next() {
            Ok(Some(Piece::Message(bytes))) => {
                messages += 1;
                connection.message(bytes).await?;
            }
            Ok(Some(Piece::Ping)) => pings += 1,
            Ok(Some(Piece::Pong)) => pong = true,
            Ok(None) => break Ok(messages),
            Err(malformed) => break Err(End::new(Why::Unframed, malformed)),
        }
    };
    // However many came at once, the loop hears of them once.
    if pings > 0 {
        connection.line.put(b"\r\n".repeat(pings));
        connection.tell(Event::KeepAlive { flow: connection.flow }).await?;
    }
    if pong {
        connection.tell(Event::Pong { flow: connection.flow }).await?;
    }
    outcome
}

async fn write(writer: &mut (impl AsyncWrite + Unpin), line: &Line) -> End {
    loop {
        let bytes = match line.take().await {
            Ok(bytes) => bytes,
            Err(why) => return why.into(),
        };
        if let Err(error) = writer.write_all(&bytes).await {
            return error.into();
        }
        // TLS keeps what the socket did not take.
        if let Err(error) = writer.flush().await {
            return error.into();
        }
    }
}
