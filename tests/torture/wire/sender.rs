//! Whoever sends the messages: a registered phone, so that nothing is refused
//! for who sends it, on UDP or on a TCP connection.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use peer::{Agent, Draft, Message, World, silent};
use wire::sip::Limits;
use wire::sip::framing::{Frame, frame};

const PATIENCE: Duration = Duration::from_secs(8);
/// For what is on its way already.
const MOMENT: Duration = Duration::from_millis(20);
/// Where answers go to when the Via names a port and asks for no `rport` (RFC 3261 §18.2.2).
const VIA_PORTS: [u16; 4] = [5050, 5070, 6050, 19823];

/// What becomes of the stream that brought a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// What follows is a message of its own. So it always is over UDP.
    Goes,
    /// It waits for the rest of a message.
    Waits,
    /// It is closed: nobody can tell where the next message begins.
    Closed,
}

/// What came back for one message.
#[derive(Debug)]
pub(crate) struct Heard {
    /// Responses and requests, in order.
    pub(crate) messages: Vec<Message>,
    pub(crate) then: Then,
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
        phone.forget();
        let ears = VIA_PORTS.map(|port| Agent::new("ear", world.net.at(40, port), silent()));
        Self::Udp(phone, ears.into())
    }

    pub(crate) fn tcp() -> Self {
        Self::Tcp(None)
    }

    /// Sends these octets, and what came back. Nothing more will come: a request
    /// behind them has its answer from the far end. Where the stream is said to
    /// wait, that one goes another way, and `finals` responses are waited for.
    pub(crate) fn say(&mut self, world: &World, bytes: &[u8], then: Then, finals: usize) -> Heard {
        match self {
            Self::Udp(phone, ears) => {
                phone.send(world.sip, bytes);
                let answer = phone.ask(world.sip, &phone.draft("OPTIONS", &far(world))).expect("the far end answers");
                assert_eq!(answer.status(), Some(200), "{answer:?}");
                let mut messages = Vec::new();
                for ear in ears.iter().chain([&*phone]) {
                    messages.extend(ear.heard().into_iter().filter(|message| message != &answer));
                    ear.forget();
                }
                Heard { messages, then: Then::Goes }
            }
            Self::Tcp(stream) => {
                let mut open = stream.take().unwrap_or_else(|| Stream::open(world));
                let heard = open.say(world, bytes, then, finals);
                *stream = (heard.then == Then::Goes).then_some(open);
                heard
            }
        }
    }
}

/// Another phone asks the far end: what was on its way there has arrived.
fn settle(world: &World) {
    let elsewhere = world.alice.draft("OPTIONS", &far(world));
    assert_eq!(world.alice.ask(world.sip, &elsewhere).expect("the far end answers").status(), Some(200));
}

fn far(world: &World) -> String {
    format!("sip:bob@{}", world.domain)
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

    fn say(&mut self, world: &World, bytes: &[u8], then: Then, finals: usize) -> Heard {
        let mut messages = Vec::new();
        // One that was closed in between says so when it is read.
        let _ = self.socket.write_all(bytes);
        let after = self.draft("OPTIONS", &far(world));
        let branch = after.value("Via").unwrap().split("branch=").nth(1).unwrap().to_owned();
        if then == Then::Goes {
            let _ = self.socket.write_all(&after.bytes());
        }
        let deadline = Instant::now() + PATIENCE;
        let is_final = |message: &Message| message.status().is_some_and(|status| status >= 200);
        while then != Then::Waits || messages.iter().filter(|message| is_final(message)).count() < finals {
            match self.next(deadline) {
                Err(()) => {
                    settle(world);
                    return Heard { messages, then: Then::Closed };
                }
                Ok(None) => return Heard { messages, then: Then::Waits },
                Ok(Some(message)) if message.branch() == branch && is_final(&message) => {
                    return Heard { messages, then: Then::Goes };
                }
                Ok(Some(message)) => messages.push(message),
            }
        }
        settle(world);
        loop {
            match self.next(Instant::now() + MOMENT) {
                Err(()) => return Heard { messages, then: Then::Closed },
                Ok(None) => return Heard { messages, then: Then::Waits },
                Ok(Some(message)) => messages.push(message),
            }
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
