//! SIP over WebSocket (RFC 7118): the handshake with its subprotocol, one
//! message in each WebSocket message, keep-alives of both kinds.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "errors of other crates, which grow: whatever else it is, is said in their words"
)]

use std::sync::Arc;

use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
use tokio_tungstenite::tungstenite::error::{Error, ProtocolError};
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode, Uri, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Bytes, Message};
use tokio_tungstenite::{accept_hdr_async_with_config, client_async_with_config};

use super::connection::{Connection, End, Event, deadline};
use super::line::{Line, Why};
use crate::clock;

/// The subprotocol, without which nobody is served (RFC 7118 §4.1).
const SIP: &str = "sip";

/// Octets read at a time.
const READ: usize = 2048;

/// What the payload of one WebSocket message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload<'a> {
    /// A SIP message, without CRLFs in front.
    Message(&'a [u8]),
    /// A double CRLF, which asks for a single one (RFC 5626 §4.4.1).
    Ping,
    /// A single CRLF, the answer to that.
    Pong,
    /// Nothing.
    Empty,
}

/// Looks at a payload. There is one message in it, with or without
/// Content-Length (RFC 7118 §5.4).
pub fn payload(bytes: &[u8]) -> Payload<'_> {
    let blank = bytes.iter().take_while(|octet| matches!(octet, b'\r' | b'\n')).count();
    match bytes.split_at(blank) {
        (b"", b"") => Payload::Empty,
        (b"\r\n" | b"\n", b"") => Payload::Pong,
        (_, b"") => Payload::Ping,
        (_, message) => Payload::Message(message),
    }
}

fn config(largest: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ)
        .write_buffer_size(0)
        .max_message_size(Some(largest))
        .max_frame_size(Some(largest))
}

/// The handshake of a connection that came in.
pub(super) async fn accept<S>(stream: S, largest: usize) -> Result<WebSocketStream<S>, End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    #[expect(clippy::result_large_err, reason = "the type of an answer is not ours")]
    let answer = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
        let offered = request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
        let mut offered = offered.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
        if offered.any(|protocol| protocol.trim().eq_ignore_ascii_case(SIP)) {
            response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SIP));
            return Ok(response);
        }
        let mut refusal = ErrorResponse::new(Some("the subprotocol sip is needed\n".to_owned()));
        *refusal.status_mut() = StatusCode::BAD_REQUEST;
        Err(refusal)
    };
    accept_hdr_async_with_config(stream, answer, Some(config(largest))).await.map_err(|error| match error {
        Error::Http(_) => End::new(Why::Handshake, "the subprotocol sip was not offered"),
        other => End::new(Why::Handshake, other),
    })
}

/// The handshake of a connection of ours, to the host and port that it goes to.
pub(super) async fn connect<S>(stream: S, host: &str, port: u16, largest: usize) -> Result<WebSocketStream<S>, End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let host = match host.contains(':') && !host.starts_with('[') {
        true => format!("[{host}]"),
        false => host.to_owned(),
    };
    // What is written here goes into the Host field; the octets go where `stream` goes.
    let uri: Uri = format!("ws://{host}:{port}/").parse().map_err(|error| End::new(Why::Handshake, error))?;
    let request = ClientRequestBuilder::new(uri).with_sub_protocol(SIP);
    match client_async_with_config(request, stream, Some(config(largest))).await {
        Ok((stream, _response)) => Ok(stream),
        Err(error) => Err(End::new(Why::Handshake, error)),
    }
}

/// Both directions, until one of them ends.
pub(super) async fn talk<S>(stream: WebSocketStream<S>, connection: &mut Connection) -> End
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (line, patience) = (Arc::clone(&connection.line), connection.patience.close);
    let (mut sink, mut stream) = stream.split();
    let end = tokio::select! {
        end = read(&mut stream, connection) => end,
        end = write(&mut sink, &line) => end,
    };
    if end.why == Why::Asked {
        // A farewell; that it may fail changes nothing.
        let _ = deadline(patience, sink.close()).await;
    }
    end
}

async fn read(stream: &mut (impl Stream<Item = Result<Message, Error>> + Unpin), connection: &mut Connection) -> End {
    loop {
        let next = match connection.limit() {
            None => stream.next().await,
            Some((at, why)) => match deadline(at.saturating_duration_since(clock::now()), stream.next()).await {
                // Whoever pings without end is late all the same.
                Ok(next) if clock::now() < at => next,
                // Who has become known meanwhile has no limit.
                Ok(next) if connection.line.proven() => next,
                Err(_) if connection.line.proven() => continue,
                Ok(_) | Err(_) => return why.into(),
            },
        };
        let told = match next {
            None => return Why::Ended.into(),
            Some(Err(error)) => return failure(error),
            Some(Ok(Message::Text(text))) => said(text.as_bytes(), connection).await,
            Some(Ok(Message::Binary(bytes))) => said(&bytes, connection).await,
            // Answered below us (RFC 6455 §5.5.2).
            Some(Ok(Message::Ping(_))) => connection.tell(Event::KeepAlive { flow: connection.flow }).await,
            Some(Ok(Message::Pong(_))) => connection.tell(Event::Pong { flow: connection.flow }).await,
            // After a Close comes the end; frames are not handed out.
            Some(Ok(Message::Close(_) | Message::Frame(_))) => Ok(()),
        };
        if let Err(end) = told {
            return end;
        }
        if let Some(meter) = &connection.meter {
            meter.whole();
        }
    }
}

async fn said(bytes: &[u8], connection: &mut Connection) -> Result<(), End> {
    match payload(bytes) {
        Payload::Message(message) => connection.message(message.to_vec()).await,
        Payload::Ping => {
            connection.line.put(b"\r\n".to_vec());
            connection.tell(Event::KeepAlive { flow: connection.flow }).await
        }
        Payload::Pong => connection.tell(Event::Pong { flow: connection.flow }).await,
        Payload::Empty => Ok(()),
    }
}

async fn write(sink: &mut (impl Sink<Message, Error = Error> + Unpin), line: &Line) -> End {
    loop {
        let message = match line.take().await {
            Ok(bytes) => message(bytes),
            Err(why) => return why.into(),
        };
        if let Err(error) = sink.send(message).await {
            return failure(error);
        }
    }
}

/// A keep-alive of ours leaves as a ping, which every browser answers by
/// itself; a message as text where it is, as RFC 7118 §4.2 has it.
fn message(bytes: Vec<u8>) -> Message {
    if bytes == b"\r\n\r\n" {
        return Message::Ping(Bytes::new());
    }
    match String::from_utf8(bytes) {
        Ok(text) => Message::text(text),
        Err(error) => Message::binary(error.into_bytes()),
    }
}

fn failure(error: Error) -> End {
    match error {
        Error::ConnectionClosed
        | Error::AlreadyClosed
        | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Why::Ended.into(),
        Error::Io(error) => error.into(),
        other => End::new(Why::Unframed, other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads() {
        for (bytes, expected) in [
            (&b""[..], Payload::Empty),
            (b"\r\n", Payload::Pong),
            (b"\r\n\r\n", Payload::Ping),
            (b"\r\n\r\n\r\n", Payload::Ping),
            (b"A", Payload::Message(b"A")),
            (b"\r\nA\r\n\r\n", Payload::Message(b"A\r\n\r\n")),
        ] {
            assert_eq!(payload(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn our_messages_are_text_where_they_are() {
        assert!(message(b"\r\n\r\n".to_vec()).is_ping());
        assert!(message(b"\r\n".to_vec()).is_text());
        assert!(message("Grüße".as_bytes().to_vec()).is_text());
        assert!(message(vec![0xff]).is_binary());
    }
}
