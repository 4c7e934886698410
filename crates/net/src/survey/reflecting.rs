//! The sockets of a [`Reflector`]: UDP and TCP on each of its addresses.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nat::reflector::Reflector;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::line::next_message;
use super::{ROOM, bind};
use crate::clock;
use crate::dscp::Dscp;
use crate::sockopt::listen_tcp;

/// Connections at a time; the next one waits in the kernel.
const CONNECTIONS: usize = 64;
/// A connection lives so long, and is answered so often.
const LIFE: Duration = Duration::from_secs(10);
const ANSWERS: usize = 8;

/// A [`Reflector`] and its sockets, bound.
#[derive(Debug)]
pub struct Reflecting {
    reflector: Reflector,
    sockets: Vec<UdpSocket>,
    listeners: Vec<TcpListener>,
}

impl Reflecting {
    /// Binds them; `more` as of [`Reflector::new`]. Must be called inside a
    /// runtime; errors as of [`crate::sockopt::bind_udp`].
    pub fn bind(first: SocketAddr, other: Option<SocketAddr>, more: &[u16]) -> io::Result<Self> {
        let reflector = Reflector::new(first, other, more);
        let sockets = reflector.sockets().iter().map(|local| bind(*local)).collect::<io::Result<_>>()?;
        let listen = |local: &SocketAddr| TcpListener::from_std(listen_tcp(*local, Dscp::DEFAULT)?);
        let listeners = reflector.sockets().iter().map(listen).collect::<io::Result<_>>()?;
        Ok(Self { reflector, sockets, listeners })
    }

    /// Where it is asked.
    pub fn addresses(&self) -> &[SocketAddr] {
        self.reflector.sockets()
    }

    /// Answers, until a socket fails for good.
    pub async fn serve(self) -> io::Result<()> {
        let reflector = Arc::new(Mutex::new(self.reflector));
        let sockets = Arc::new(self.sockets);
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        let mut tasks = JoinSet::new();
        for at in 0..sockets.len() {
            tasks.spawn(datagrams(at, Arc::clone(&reflector), Arc::clone(&sockets)));
        }
        for listener in self.listeners {
            tasks.spawn(connections(listener, Arc::clone(&reflector), Arc::clone(&room)));
        }
        match tasks.join_next().await {
            Some(Ok(error)) => Err(error),
            Some(Err(_)) | None => Ok(()),
        }
    }
}

async fn datagrams(at: usize, reflector: Arc<Mutex<Reflector>>, sockets: Arc<Vec<UdpSocket>>) -> io::Error {
    let mut room = [0; ROOM];
    loop {
        let (len, from) = match sockets[at].recv_from(&mut room).await {
            Ok(came) => came,
            // An ICMP error about something sent earlier.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
            Err(error) => return error,
        };
        let answer = {
            let mut reflector = reflector.lock().unwrap_or_else(PoisonError::into_inner);
            reflector.receive(clock::now(), at, from, &room[..len])
        };
        if let Some(answer) = answer {
            // What has no room in the socket's buffer is lost, and asked for again.
            let _ = sockets[answer.via].try_send_to(&answer.bytes, answer.to);
        }
    }
}

async fn connections(listener: TcpListener, reflector: Arc<Mutex<Reflector>>, room: Arc<Semaphore>) -> io::Error {
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return io::Error::other("closed") };
        match listener.accept().await {
            Ok((stream, from)) => {
                let reflector = Arc::clone(&reflector);
                tokio::spawn(async move {
                    // Whoever is too slow, or goes, is not answered.
                    let _ = tokio::time::timeout(LIFE, connection(stream, from, &reflector)).await;
                    drop(place);
                });
            }
            Err(error) => {
                // Descriptors ran out, or the peer has gone already: it is tried again.
                tracing::debug!(%error, "a connection was not taken");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(mut stream: TcpStream, from: SocketAddr, reflector: &Mutex<Reflector>) -> io::Result<()> {
    let mut buffer = Vec::new();
    for _ in 0..ANSWERS {
        let Some(message) = next_message(&mut stream, &mut buffer).await? else { break };
        let answer = reflector.lock().unwrap_or_else(PoisonError::into_inner).receive_stream(from, &message);
        if let Some(answer) = answer {
            stream.write_all(&answer).await?;
        }
    }
    stream.shutdown().await
}
