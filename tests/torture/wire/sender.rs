//! Whoever sends the messages: a registered phone, so that nothing is refused
//! for who sends it, on UDP or on a TCP connection.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use peer::{Agent, Draft, Message, World, silent};
use wire::sip::Limits;
use wire::sip::framing::{Frame, frame};

const PATIENCE: Duration = Duration::from_secs(8);
/// How long a stream may say nothing before it counts as waiting for the rest of a message.
const PAUSE: Duration = Duration::from_millis(400);
/// Where answers go to when the Via names a port and asks for no `rport` (RFC 3261 §18.2.2).
const VIA_PORTS: [u16; 4] = [5050, 5070, 6050, 19823];

/// What came back for one message.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// Responses and requests, in order.
    pub(crate) messages: Vec<Message>,
    /// The connection was closed.
    pub(crate) closed: bool,
    /// The connection is open, and says nothing to what follows either.
    pub(crate) waits: bool,
}

/// A registered phone.
#[derive(Debug)]
pub(crate) enum Sender {
    /// With its socket, and those that its answers may be sent to instead.
    Udp(Agent, Vec<Agent>),
    /// With a connection that is opened again when it was closed.
    Tcp(Option<Stream>),
}

impl Sender {
    pub(crate) fn udp(world: &World) -> Self {
        let phone = Agent::new("carol", world.net.at(40, 5060), silent());
        assert_eq!(phone.register(world.sip, &world.domain, "secret"), 200);
        let ears = VIA_PORTS.map(|port| Agent::new("ear", world.net.at(40, port), silent()));
        Self::Udp(phone, ears.into())
    }

    pub(crate) fn tcp() -> Self {
        Self::Tcp(None)
    }

    /// Sends these octets, then a request that the far end answers; what came back before that answer.
    pub(crate) fn say(&mut self, world: &World, bytes: &[u8]) -> Heard {
        let far = format!("sip:bob@{}", world.domain);
        match self {
            Self::Udp(phone, ears) => {
                phone.send(world.sip, bytes);
                let answer = phone.ask(world.sip, &phone.draft("OPTIONS", &far)).expect("the far end answers");
                assert_eq!(answer.status(), Some(200), "{answer:?}");
                let mut messages = Vec::new();
                for ear in ears.iter().chain([&*phone]) {
                    messages.extend(ear.heard().into_iter().filter(|message| message != &answer));
                    ear.forget();
                }
                Heard { messages, ..Heard::default() }
            }
            Self::Tcp(stream) => {
                let mut open = stream.take().unwrap_or_else(|| Stream::open(world));
                let heard = open.say(bytes, &far);
                *stream = (!heard.closed && !heard.waits).then_some(open);
                heard
            }
        }
    }
}

/// A phone's TCP connection.
#[derive(Debug)]
pub(crate) struct Stream {
    socket: TcpStream,
    own: SocketAddr,
    to: SocketAddr,
    read: Vec<u8>,
}

impl Stream {
    fn open(world: &World) -> Self {
        let socket = TcpStream::connect(world.sip).unwrap();
        let mut stream = Self { own: socket.local_addr().unwrap(), socket, to: world.sip, read: Vec::new() };
        let aor = format!("<sip:carol@{}>", world.domain);
        let draft = stream.draft("REGISTER", &format!("sip:{}", world.domain)).set("To", &aor);
        let contact = format!("<sip:carol@{};transport=tcp>", stream.own);
        let draft = draft.set("From", &format!("{aor};tag=r")).add("Contact", &contact).add("Expires", "600");
        stream.socket.write_all(&draft.bytes()).unwrap();
        let answer = stream.next(Instant::now() + PATIENCE).unwrap().expect("REGISTER is answered");
        assert_eq!(answer.status(), Some(200), "{answer:?}");
        stream
    }

    fn draft(&self, method: &str, uri: &str) -> Draft {
        let draft = Draft::new(method, uri, "carol", self.own);
        let via = draft.value("Via").unwrap().replace("/UDP ", "/TCP ");
        draft.set("Via", &via)
    }

    fn say(&mut self, bytes: &[u8], far: &str) -> Heard {
        let mut heard = Heard::default();
        let after = self.draft("OPTIONS", far);
        let branch = after.value("Via").unwrap().split("branch=").nth(1).unwrap().to_owned();
        // A connection that was closed in between says so when it is read.
        let _ = self.socket.write_all(bytes).and_then(|()| self.socket.write_all(&after.bytes()));
        loop {
            match self.next(Instant::now() + PAUSE) {
                Err(()) => heard.closed = true,
                Ok(None) => heard.waits = true,
                Ok(Some(message)) if message.branch() == branch && message.status().is_some() => {}
                Ok(Some(message)) => {
                    heard.messages.push(message);
                    continue;
                }
            }
            return heard;
        }
    }

    /// The next message; `None` when none comes in time, an error when the connection was closed.
    fn next(&mut self, deadline: Instant) -> Result<Option<Message>, ()> {
        loop {
            match frame(&self.read, &Limits::default()).expect("what siplatch sends can be framed") {
                Frame::Message(length) => {
                    let bytes: Vec<u8> = self.read.drain(..length).collect();
                    return Ok(Some(Message::new(&bytes, self.to)));
                }
                Frame::KeepAlive { skip, .. } => {
                    self.read.drain(..skip);
                }
                Frame::Partial => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Ok(None);
                    }
                    self.socket.set_read_timeout(Some(left)).unwrap();
                    let mut room = [0; 4096];
                    match self.socket.read(&mut room) {
                        Ok(0) => return Err(()),
                        Ok(length) => self.read.extend_from_slice(&room[..length]),
                        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(None),
                        Err(_) => return Err(()),
                    }
                }
            }
        }
    }
}
