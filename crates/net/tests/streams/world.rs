//! Our end, and what is common to all peers.

use std::net::SocketAddr;
use std::time::Duration;

use net::transport::streams::Settings;
use net::transport::{Caps, Event, Patience, Streams, Why};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use wire::sip::Limits;
use wire::{Flow, ListenerId, Transmit, Transport};

/// The first number of connections that we open.
pub(crate) const OURS: u32 = 1 << 31;

/// Longer than anything here may take.
pub(crate) const LONG: Duration = Duration::from_secs(10);

pub(crate) const MESSAGE: &[u8] = b"OPTIONS sip:a@b SIP/2.0\r\nContent-Length: 4\r\n\r\nbody";

pub(crate) fn settings() -> Settings {
    Settings {
        limits: Limits { message_bytes: 4096, header_fields: 64 },
        caps: Caps { total: 5000, strangers: 4000, per_source: 4000, handshakes: 4000 },
        patience: Patience::default(),
        threads: 2,
        mark: net::dscp::Dscp::CS3,
    }
}

/// Our end, with a listener for each transport that is asked for.
pub(crate) struct Ours {
    pub(crate) streams: Streams,
    pub(crate) listeners: Vec<SocketAddr>,
}

impl Ours {
    pub(crate) fn new(settings: Settings, transports: &[Transport]) -> Self {
        let mut streams = Streams::new(settings).unwrap();
        let listen = |(index, transport): (usize, &Transport)| {
            let id = ListenerId(u16::try_from(index).unwrap());
            streams.listen(id, *transport, "127.0.0.1:0".parse().unwrap()).unwrap()
        };
        let listeners = transports.iter().enumerate().map(listen).collect();
        Self { streams, listeners }
    }

    pub(crate) async fn event(&mut self) -> Event {
        tokio::time::timeout(LONG, self.streams.event()).await.expect("an event")
    }

    /// The next one must be a connection that has opened.
    pub(crate) async fn opened(&mut self) -> (Flow, Vec<String>) {
        match self.event().await {
            Event::Opened { flow, peer } => (flow, peer),
            other => panic!("{other:?}"),
        }
    }

    /// The next one must be a message.
    pub(crate) async fn message(&mut self) -> (Flow, Vec<u8>) {
        match self.event().await {
            Event::Message { flow, bytes } => (flow, bytes),
            other => panic!("{other:?}"),
        }
    }

    /// The next one must be an end.
    pub(crate) async fn closed(&mut self) -> (Flow, Why, String) {
        match self.event().await {
            Event::Closed { flow, why, what, .. } => (flow, why, what),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn send(&self, flow: Flow, bytes: &[u8]) {
        self.streams.send(Transmit { flow, bytes: bytes.to_vec() }).unwrap();
    }

    /// Opens a connection of ours.
    pub(crate) fn connect(&self, transport: Transport, number: u32, to: SocketAddr, name: &str) -> Flow {
        let local = "127.0.0.3:5060".parse().unwrap();
        let flow = Flow { transport, listener: ListenerId(9), connection: OURS + number, local, remote: to };
        self.streams.connect(flow, name.to_owned(), LONG);
        flow
    }
}

/// A peer's connection, from an address of its own.
pub(crate) async fn peer_from(ip: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(ip.parse().unwrap(), 0)).unwrap();
    let stream = socket.connect(to).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

pub(crate) async fn peer(to: SocketAddr) -> TcpStream {
    peer_from("127.0.0.1", to).await
}

/// Somebody else's server.
pub(crate) async fn server() -> (tokio::net::TcpListener, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(16).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Reads exactly what is expected.
pub(crate) async fn expect(stream: &mut (impl tokio::io::AsyncRead + Unpin), expected: &[u8]) {
    let mut got = vec![0; expected.len()];
    tokio::time::timeout(LONG, stream.read_exact(&mut got)).await.expect("in time").unwrap();
    assert_eq!(got, expected, "{}", String::from_utf8_lossy(&got));
}

/// The other end must close, after whatever it still says.
pub(crate) async fn expect_end(stream: &mut (impl tokio::io::AsyncRead + Unpin)) {
    let mut rest = Vec::new();
    // A reset is an end, too.
    let _ = tokio::time::timeout(LONG, stream.read_to_end(&mut rest)).await.expect("an end in time");
}

pub(crate) async fn say(stream: &mut (impl tokio::io::AsyncWrite + Unpin), bytes: &[u8]) {
    stream.write_all(bytes).await.unwrap();
    stream.flush().await.unwrap();
}
