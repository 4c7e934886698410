//! TCP connections, before anything is said on them: how they come in and how
//! they are made (RFC 3261 §18).

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use wire::Flow;

use crate::dscp::Dscp;
use crate::sockopt;

/// How long to wait before the system is asked again for what it has none of.
pub(super) const PAUSE: Duration = Duration::from_millis(100);

/// Opens a listener. Must be called inside the runtime that accepts.
pub(super) fn listen(local: SocketAddr, mark: Dscp) -> io::Result<TcpListener> {
    TcpListener::from_std(sockopt::listen_tcp(local, mark)?)
}

/// The next connection, its local and its remote address. An error says that
/// the system has no more descriptors or memory for one: pause before the next.
pub(super) async fn accept(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr, SocketAddr)> {
    loop {
        match listener.accept().await {
            // A peer that has gone already is no connection.
            Ok((stream, remote)) => match stream.local_addr() {
                Ok(local) => return Ok((stream, local, remote)),
                Err(_gone) => {}
            },
            Err(error) if short(&error) => return Err(error),
            Err(error) => tracing::debug!(%error, "a connection ended before it was accepted"),
        }
    }
}

/// Everything else that accept(2) may say is about the one connection.
fn short(error: &io::Error) -> bool {
    let codes = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
    error.raw_os_error().is_none_or(|code| codes.contains(&code))
}

/// Connects to the remote end of a flow, from the IP of its local end.
pub(super) async fn connect(flow: Flow, mark: Dscp) -> io::Result<TcpStream> {
    let socket = TcpSocket::from_std_stream(sockopt::from_tcp(flow.local, mark)?);
    socket.connect(flow.remote).await
}
