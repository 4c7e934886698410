//! The life of one connection: its handshakes, what it says and what is said
//! to it, its deadlines, its end. One task each, on the runtime of
//! [`Streams`](super::Streams).
//!
//! A connection waits for the signalling loop with the one thing that it read
//! last, and reads no further: TCP holds back a peer that floods, and the
//! others have their turn.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc::Sender;
use tokio_tungstenite::WebSocketStream;
use wire::sip::Limits;
use wire::{Flow, Transport};

use super::line::{Line, Why};
use super::meter::{Meter, Metered};
use super::roll::{Caps, Roll};
use super::{stream, tcp, tls, ws};
use crate::clock;
use crate::dscp::Dscp;

/// How long is waited for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For the handshakes of TLS and WebSocket, each.
    pub handshake: Duration,
    /// For the end of a message that has begun.
    pub message: Duration,
    /// For a stranger's first whole message.
    pub first: Duration,
    /// For another message of a stranger.
    pub idle: Duration,
    /// For what is queued to leave at the end.
    pub close: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            message: Duration::from_secs(15),
            first: Duration::from_secs(30),
            idle: Duration::from_secs(120),
            close: Duration::from_secs(5),
        }
    }
}

/// What happened on a connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// Somebody was turned away, the first since [`take_denied`](super::Streams::take_denied) was asked.
    Denied,
    /// It is open, its handshakes are done; one of ours, too.
    Opened {
        /// Which.
        flow: Flow,
        /// The names that its peer's certificate proves (RFC 5922 §7.1), lower case; none without one.
        peer: Vec<String>,
    },
    /// A whole message came.
    Message {
        /// On which.
        flow: Flow,
        /// The whole of it.
        bytes: Vec<u8>,
    },
    /// Keep-alives of the peer came, and are answered (RFC 5626 §4.4.1).
    KeepAlive {
        /// On which.
        flow: Flow,
    },
    /// The answer to a keep-alive of ours came.
    Pong {
        /// On which.
        flow: Flow,
    },
    /// It has ended, or did not come about. The last event of its flow.
    Closed {
        /// Which.
        flow: Flow,
        /// Why.
        why: Why,
        /// What exactly, for people; may hold the peer's own words.
        what: String,
        /// [`Opened`](Self::Opened) was told before.
        opened: bool,
    },
    /// The system gives no more connections; asked again shortly.
    Short {
        /// What it said.
        error: io::ErrorKind,
    },
}

/// Serves a peer over any stream of octets, TCP's way or as a WebSocket by the
/// flow's transport, to its end: what [`Streams`](super::Streams) does with a
/// socket that it accepted. `events` must take all that comes.
pub async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    mut flow: Flow,
    limits: Limits,
    patience: Patience,
    events: Sender<Event>,
) {
    let roll = Arc::new(Roll::new(Caps { total: 1, strangers: 1, per_source: 1, handshakes: 1 }));
    let line = Arc::new(Line::new(limits.message_bytes, false));
    if let Some(number) = roll.admit(flow.listener, flow.transport, flow.remote.ip(), &line) {
        flow.connection = number;
    }
    let mut connection = Connection::new(flow, Arc::clone(&line), roll, events, limits, patience, None);
    let end = tokio::select! {
        end = connection.talk(stream) => end,
        end = cut(&line, patience.close) => end,
    };
    connection.close(end).await;
}

/// An end, and what exactly it was.
#[derive(Debug)]
pub(super) struct End {
    pub(super) why: Why,
    pub(super) what: String,
}

impl End {
    pub(super) fn new(why: Why, what: impl ToString) -> Self {
        Self { why, what: what.to_string() }
    }
}

impl From<Why> for End {
    fn from(why: Why) -> Self {
        Self { why, what: String::new() }
    }
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        // A peer that closes TLS without a farewell has closed all the same.
        let why = if error.kind() == io::ErrorKind::UnexpectedEof { Why::Ended } else { Why::Lost };
        Self::new(why, error)
    }
}

/// Whom we are to reach.
#[derive(Debug, Clone)]
pub(super) struct Goal {
    /// Whom a certificate must name, and a WebSocket handshake asks for.
    pub(super) name: String,
    /// How long TCP may take.
    pub(super) within: Duration,
    /// How its packets are marked.
    pub(super) mark: Dscp,
}

/// What a connection's task has.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) flow: Flow,
    pub(super) line: Arc<Line>,
    pub(super) roll: Arc<Roll>,
    pub(super) events: Sender<Event>,
    pub(super) limits: Limits,
    pub(super) patience: Patience,
    tls: Option<Arc<tls::Settings>>,
    opened: bool,
    /// Since when it has been silent, and whether it ever was not.
    last: Instant,
    spoken: bool,
    /// Octets of a message that is not whole, as last told; where they are counted below us, there.
    held: usize,
    pub(super) meter: Option<Arc<Meter>>,
}

impl Connection {
    pub(super) fn new(
        flow: Flow,
        line: Arc<Line>,
        roll: Arc<Roll>,
        events: Sender<Event>,
        limits: Limits,
        patience: Patience,
        tls: Option<Arc<tls::Settings>>,
    ) -> Self {
        let (opened, last, spoken, held, meter) = (false, clock::now(), false, 0, None);
        Self { flow, line, roll, events, limits, patience, tls, opened, last, spoken, held, meter }
    }

    /// A connection that was accepted, to its end.
    pub(super) async fn came_in(mut self, socket: TcpStream) {
        let (line, patience) = (Arc::clone(&self.line), self.patience.close);
        let end = tokio::select! {
            end = self.accept(socket) => end,
            end = cut(&line, patience) => end,
        };
        self.close(end).await;
    }

    /// A connection of ours, to its end.
    pub(super) async fn goes_out(mut self, goal: Goal) {
        let (line, patience) = (Arc::clone(&self.line), self.patience.close);
        let end = tokio::select! {
            end = self.connect(goal) => end,
            end = cut(&line, patience) => end,
        };
        self.close(end).await;
    }

    async fn talk(&mut self, stream: impl AsyncRead + AsyncWrite + Unpin) -> End {
        match self.flow.transport {
            Transport::Udp | Transport::Tcp | Transport::Tls => self.octets(Ok((stream, Vec::new()))).await,
            Transport::Ws | Transport::Wss => {
                let agreed = ws::accept(self.metered(stream), self.limits.message_bytes);
                let agreed = within(self.patience.handshake, agreed).await;
                self.messages(agreed, Vec::new()).await
            }
        }
    }

    /// Each stage has a box of its own, so that a peer that stays in its handshake
    /// does not take the room of all that would come after it.
    async fn accept(&mut self, socket: TcpStream) -> End {
        let (patience, largest) = (self.patience.handshake, self.limits.message_bytes);
        let tls = async |socket| handshake(patience, self.tls()?.accept(socket)).await;
        match self.flow.transport {
            Transport::Udp | Transport::Tcp | Transport::Ws => Box::pin(self.talk(socket)).await,
            Transport::Tls => {
                let secured = Box::pin(tls(socket)).await;
                Box::pin(self.octets(secured)).await
            }
            Transport::Wss => match Box::pin(tls(socket)).await {
                Ok((stream, peer)) => {
                    let agreed = Box::pin(within(patience, ws::accept(self.metered(stream), largest))).await;
                    Box::pin(self.messages(agreed, peer)).await
                }
                Err(end) => end,
            },
        }
    }

    async fn connect(&mut self, goal: Goal) -> End {
        let (patience, largest, port) = (self.patience.handshake, self.limits.message_bytes, self.flow.remote.port());
        let tls = async |socket| handshake(patience, self.tls()?.connect(socket, &goal.name)).await;
        let socket = match deadline(goal.within, tcp::connect(self.flow, goal.mark)).await {
            Ok(Ok(socket)) => socket,
            Ok(Err(error)) => return End::new(Why::Unreachable, error),
            Err(late) => return End::new(Why::Unreachable, late),
        };
        match self.flow.transport {
            Transport::Udp | Transport::Tcp => self.octets(Ok((socket, Vec::new()))).await,
            Transport::Tls => {
                let secured = tls(socket).await;
                self.octets(secured).await
            }
            Transport::Ws => {
                let agreed = within(patience, ws::connect(socket, &goal.name, port, largest)).await;
                self.messages(agreed, Vec::new()).await
            }
            Transport::Wss => match tls(socket).await {
                Ok((stream, peer)) => {
                    let agreed = within(patience, ws::connect(stream, &goal.name, port, largest)).await;
                    self.messages(agreed, peer).await
                }
                Err(end) => end,
            },
        }
    }

    /// What a WebSocket takes in is counted on its way: its frames are put together out of our sight.
    fn metered<S>(&mut self, stream: S) -> Metered<S> {
        let meter = Arc::new(Meter::new(Arc::clone(&self.roll), self.flow.connection));
        self.meter = Some(Arc::clone(&meter));
        Metered::new(stream, meter)
    }

    fn tls(&self) -> Result<&tls::Settings, End> {
        self.tls.as_deref().ok_or_else(|| End::new(Why::Handshake, "TLS is not set up"))
    }

    /// Messages in a stream of octets.
    async fn octets(&mut self, stream: Result<(impl AsyncRead + AsyncWrite, Vec<String>), End>) -> End {
        match stream {
            Ok((stream, peer)) => match self.open(peer).await {
                Ok(()) => stream::talk(stream, self).await,
                Err(end) => end,
            },
            Err(end) => end,
        }
    }

    /// Messages of a WebSocket.
    async fn messages<S>(&mut self, agreed: Result<WebSocketStream<S>, End>, peer: Vec<String>) -> End
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        match agreed {
            Ok(stream) => match self.open(peer).await {
                Ok(()) => ws::talk(stream, self).await,
                Err(end) => end,
            },
            Err(end) => end,
        }
    }

    /// The handshakes are done.
    pub(super) async fn open(&mut self, peer: Vec<String>) -> Result<(), End> {
        self.opened = true;
        self.last = clock::now();
        self.roll.shaken(self.flow.connection);
        self.tell(Event::Opened { flow: self.flow, peer }).await
    }

    /// A whole message came.
    pub(super) async fn message(&mut self, bytes: Vec<u8>) -> Result<(), End> {
        if !std::mem::replace(&mut self.spoken, true) {
            self.roll.spoke(self.flow.connection);
        }
        let told = self.tell(Event::Message { flow: self.flow, bytes }).await;
        self.last = clock::now();
        told
    }

    /// So many octets of a message have come, and not its end.
    pub(super) fn holds(&mut self, octets: usize) {
        if std::mem::replace(&mut self.held, octets) != octets {
            self.roll.holds(self.flow.connection, octets);
        }
    }

    /// Waits until the signalling loop has room.
    pub(super) async fn tell(&self, event: Event) -> Result<(), End> {
        // Refused only when the loop has ended.
        self.events.send(event).await.map_err(|_refused| Why::Asked.into())
    }

    /// When a stranger's patience ends, and how that is called; never, once it is known.
    pub(super) fn limit(&self) -> Option<(Instant, Why)> {
        match (self.line.proven(), self.spoken) {
            (true, _) => None,
            (false, false) => Some((self.last + self.patience.first, Why::Silent)),
            (false, true) => Some((self.last + self.patience.idle, Why::Idle)),
        }
    }

    async fn close(self, end: End) {
        // First, so that a place is free when the loop hears of it.
        self.roll.remove(self.flow.connection);
        let End { why, what } = end;
        // Refused only when the loop has ended.
        let _ = self.tell(Event::Closed { flow: self.flow, why, what, opened: self.opened }).await;
    }
}

/// Waits until the line is cut, or was finished and does not empty.
async fn cut(line: &Line, patience: Duration) -> End {
    let why = line.ended().await;
    if why == Why::Asked {
        tokio::time::sleep(patience).await;
    }
    why.into()
}

/// Waits for a TLS handshake, but not longer than `patience`.
async fn handshake<T>(patience: Duration, future: impl Future<Output = io::Result<T>>) -> Result<T, End> {
    within(patience, async { future.await.map_err(|error| End::new(Why::Handshake, error)) }).await
}

/// Waits for a handshake, but not longer than `patience`.
async fn within<T>(patience: Duration, future: impl Future<Output = Result<T, End>>) -> Result<T, End> {
    deadline(patience, future).await.unwrap_or_else(|late| Err(End::new(Why::Handshake, late)))
}

/// Waits for `future`, but not longer than `patience`.
pub(super) async fn deadline<T>(patience: Duration, future: impl Future<Output = T>) -> Result<T, &'static str> {
    tokio::time::timeout(patience, future).await.map_err(|_elapsed| "took too long")
}
