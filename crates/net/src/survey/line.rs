//! Connections of a survey: opened within a deadline, in the clear or by TLS,
//! and read message by message.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::TcpSocket;
use wire::sip::Limits;
use wire::sip::framing::{Frame, frame};

use crate::addresses;
use crate::dscp::Dscp;
use crate::sockopt::from_tcp;
use crate::transport::tls;

/// How long connecting and shaking hands may take, each.
const PATIENCE: Duration = Duration::from_secs(4);
/// Longer messages are not awaited.
const LONGEST: usize = 16_384;

/// What is read and written.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Why there is no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Nobody answered.
    Silent,
    /// Somebody said that there is nothing, or no way there.
    Refused,
    /// The server's certificate does not verify.
    Untrusted,
    /// It took the connection, and does not speak TLS as we do.
    NoTls,
}

/// Connects to `to`, from the address that the kernel would choose; with `tls`, the handshake for that name follows.
pub(super) async fn open(
    to: SocketAddr,
    tls: Option<(&tls::Settings, &str)>,
) -> Result<(Box<dyn Stream>, SocketAddr), Failure> {
    let socket = addresses::toward(to).and_then(|ip| from_tcp(SocketAddr::new(ip, 0), Dscp::DEFAULT));
    let Ok(socket) = socket else { return Err(Failure::Refused) };
    let connecting = TcpSocket::from_std_stream(socket).connect(to);
    let socket = match tokio::time::timeout(PATIENCE, connecting).await {
        Err(_elapsed) => return Err(Failure::Silent),
        Ok(Err(error)) if error.kind() == io::ErrorKind::TimedOut => return Err(Failure::Silent),
        Ok(Err(_)) => return Err(Failure::Refused),
        Ok(Ok(socket)) => socket,
    };
    let local = socket.local_addr().map_err(|_| Failure::Refused)?;
    let Some((settings, name)) = tls else { return Ok((Box::new(socket), local)) };
    match tokio::time::timeout(PATIENCE, settings.connect(socket, name)).await {
        Err(_elapsed) => Err(Failure::NoTls),
        Ok(Err(error)) if tls::is_untrusted(&error) => Err(Failure::Untrusted),
        Ok(Err(_)) => Err(Failure::NoTls),
        Ok(Ok((stream, _names))) => Ok((Box::new(stream), local)),
    }
}

/// The next SIP message; `buffer` keeps what came too early. `None`: no more comes.
pub(super) async fn next_message(
    stream: &mut (impl AsyncRead + Unpin + ?Sized),
    buffer: &mut Vec<u8>,
) -> io::Result<Option<Vec<u8>>> {
    let limits = Limits { message_bytes: LONGEST, ..Limits::default() };
    loop {
        match frame(buffer, &limits) {
            Ok(Frame::Message(octets)) => return Ok(Some(buffer.drain(..octets).collect())),
            Ok(Frame::KeepAlive { skip, ping: _ }) => drop(buffer.drain(..skip)),
            Ok(Frame::Partial) => {
                if stream.read_buf(buffer).await? == 0 {
                    return Ok(None);
                }
            }
            Err(malformed) => return Err(io::Error::other(malformed)),
        }
    }
}
