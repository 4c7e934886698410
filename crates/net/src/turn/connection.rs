//! The way to a TURN server: a connected UDP socket, or a stream over TCP or
//! TLS that is cut into messages (RFC 8656 §12.5).
//!
//! Decides how much waits to be sent. A message of control always does; media
//! is dropped when more than [`WAITING`] octets wait already, for what comes
//! late is worth less than none.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, UdpSocket};
use wire::stun::turn::{Frame, frame, is_short};

use super::{Over, Settings};
use crate::dscp::Mark;
use crate::sockopt::{self, Class};

/// Octets that may wait on a stream before media is dropped: a tenth of a second of a video call.
const WAITING: usize = 32 * 1024;
/// Octets of control that may wait beside that; more, and the stream is dead.
const MOST_WAITING: usize = 128 * 1024;
/// Octets read at a time.
const READ: usize = 16 * 1024;
/// Datagrams read in a turn.
const BITE: usize = 32;
/// For a TCP connection, and again for a TLS handshake.
const PATIENCE: Duration = Duration::from_secs(8);
/// What was sent is acknowledged within this, or the connection is dead (RFC 5482).
const DEAD: Duration = Duration::from_secs(20);
/// The longest message.
const LONGEST: usize = 65_535 + 20;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// One connection; one allocation belongs to it.
pub(super) struct Connection {
    way: Way,
    buffer: Box<[u8]>,
}

enum Way {
    Datagrams(UdpSocket),
    Stream { io: Box<dyn Stream>, read: Vec<u8>, write: Vec<u8>, unflushed: bool },
}

impl Connection {
    /// From `local` to the server.
    pub(super) async fn open(settings: &Settings, local: SocketAddr, server: SocketAddr) -> io::Result<Self> {
        let dscp = settings.mark.first();
        let way = match settings.server.over {
            Over::Udp => {
                let socket = sockopt::bind_udp(local, Class::Media(Mark::Set(dscp)))?;
                let socket = UdpSocket::from_std(socket)?;
                socket.connect(server).await?;
                // Nothing is sent before the runtime has seen that it can be.
                socket.writable().await?;
                Way::Datagrams(socket)
            }
            Over::Tcp | Over::Tls => {
                let socket = TcpSocket::from_std_stream(sockopt::from_tcp(local, dscp)?);
                let stream = within(socket.connect(server)).await?;
                stream.set_nodelay(true)?;
                SockRef::from(&stream).set_tcp_user_timeout(Some(DEAD))?;
                let io: Box<dyn Stream> = match (settings.server.over, &settings.tls) {
                    (Over::Tls, Some(tls)) => Box::new(within(tls.connect(stream, &settings.server.host)).await?.0),
                    (Over::Tls, None) => return Err(io::Error::other("no TLS settings")),
                    (Over::Udp | Over::Tcp, _) => Box::new(stream),
                };
                Way::Stream { io, read: Vec::new(), write: Vec::new(), unflushed: false }
            }
        };
        Ok(Self { way, buffer: vec![0; READ].into_boxed_slice() })
    }

    /// Waits until something can be taken with [`take`](Self::take), and sends
    /// what waits meanwhile. Loses nothing when it is dropped before its end.
    pub(super) async fn ready(&mut self) -> io::Result<()> {
        match &mut self.way {
            Way::Datagrams(socket) => socket.readable().await,
            Way::Stream { io, read, write, unflushed } => {
                let buffer = &mut self.buffer;
                std::future::poll_fn(|cx| {
                    while !write.is_empty() {
                        match Pin::new(&mut *io).poll_write(cx, write) {
                            Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                            Poll::Ready(Ok(count)) => {
                                write.drain(..count);
                                *unflushed = true;
                            }
                            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                            Poll::Pending => break,
                        }
                    }
                    if *unflushed {
                        match Pin::new(&mut *io).poll_flush(cx) {
                            Poll::Ready(Ok(())) => *unflushed = false,
                            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                            Poll::Pending => {}
                        }
                    }
                    let mut room = ReadBuf::new(buffer);
                    match Pin::new(&mut *io).poll_read(cx, &mut room) {
                        Poll::Ready(Ok(())) if room.filled().is_empty() => {
                            Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()))
                        }
                        Poll::Ready(Ok(())) => {
                            read.extend_from_slice(room.filled());
                            Poll::Ready(Ok(()))
                        }
                        Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                        Poll::Pending => Poll::Pending,
                    }
                })
                .await
            }
        }
    }

    /// Hands out each message that has come. An error ends the connection; what
    /// ICMP says of a datagram does not.
    pub(super) fn take(&mut self, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        match &mut self.way {
            Way::Datagrams(socket) => {
                for _ in 0..BITE {
                    match socket.try_recv(&mut self.buffer) {
                        Ok(count) => each(&self.buffer[..count]),
                        Err(_) => break,
                    }
                }
                Ok(())
            }
            Way::Stream { read, .. } => {
                let mut done = 0;
                loop {
                    let rest = &read[done..];
                    if is_short(rest) {
                        break;
                    }
                    let Some(frame) = frame(rest) else { return Err(io::ErrorKind::InvalidData.into()) };
                    let (Frame::Message(length) | Frame::Channel(length)) = frame;
                    if length > LONGEST {
                        return Err(io::ErrorKind::InvalidData.into());
                    }
                    let Some(message) = rest.get(..length).filter(|_| rest.len() >= frame.on_stream()) else { break };
                    each(message);
                    done += frame.on_stream();
                }
                read.drain(..done);
                Ok(())
            }
        }
    }

    /// Sends a request, or queues it.
    pub(super) fn send(&mut self, message: &[u8]) -> io::Result<()> {
        match &mut self.way {
            // What has no room is sent again when it is due.
            Way::Datagrams(socket) => drop(socket.try_send(message)),
            Way::Stream { write, .. } => {
                if write.len() + message.len() > MOST_WAITING {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                write.extend_from_slice(message);
            }
        }
        Ok(())
    }

    /// Sends media; false when it was dropped.
    pub(super) fn send_media(&mut self, message: &[u8]) -> bool {
        match &mut self.way {
            Way::Datagrams(socket) => socket.try_send(message).is_ok(),
            Way::Stream { write, .. } => {
                let room = write.len() + message.len() <= WAITING;
                if room {
                    write.extend_from_slice(message);
                }
                room
            }
        }
    }
}

async fn within<T>(step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout(PATIENCE, step).await {
        Ok(done) => done,
        Err(_elapsed) => Err(io::ErrorKind::TimedOut.into()),
    }
}
