//! Peers on connections: an address of their own to connect from, and a phone
//! that keeps its connection.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ALL_VERSIONS, ClientConnection, StreamOwned};
use socket2::{Domain, SockRef, Socket, Type};

use crate::digest::credentials;
use crate::{Authority, Draft, Message};

/// How long a phone's thread waits for octets before it looks for something to send.
const TURN: Duration = Duration::from_millis(10);

/// Connects from any port of `ip`.
pub fn connect_from(ip: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(ip, 0).into())?;
    socket.connect(&to.into())?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket.into())
}

/// The same, and the handshake of TLS; the certificate there must name `name`.
pub fn connect_secure(
    trusts: &Authority,
    name: &str,
    ip: IpAddr,
    to: SocketAddr,
) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
    let connection = ClientConnection::new(trusts.client(None, ALL_VERSIONS), name).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, connect_from(ip, to)?);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    stream.sock.set_read_timeout(Some(TURN))?;
    Ok(stream)
}

/// Closes with a reset, as a peer that crashes does.
pub fn reset(stream: TcpStream) {
    // A connection that has ended already needs no reset.
    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    drop(stream);
}

/// Anything that messages go through.
pub trait Wire: Read + Write + Send + 'static {}
impl<T: Read + Write + Send + 'static> Wire for T {}

/// A phone on a connection: it answers 200 to every request, and can ask.
#[derive(Debug)]
pub struct StreamPhone {
    /// User part of its address.
    pub name: String,
    /// Its end of the connection.
    pub address: SocketAddr,
    transport: &'static str,
    out: Option<Sender<Vec<u8>>>,
    heard: Receiver<Message>,
    thread: Option<JoinHandle<()>>,
}

impl StreamPhone {
    /// Over TCP.
    pub fn tcp(name: &str, ip: IpAddr, to: SocketAddr) -> Self {
        let stream = connect_from(ip, to).unwrap();
        stream.set_read_timeout(Some(TURN)).unwrap();
        let address = stream.local_addr().unwrap();
        Self::over(name, address, to, "TCP", stream)
    }

    /// Over whatever has a read timeout of some milliseconds.
    pub fn over(name: &str, address: SocketAddr, to: SocketAddr, transport: &'static str, wire: impl Wire) -> Self {
        let (out, orders) = channel();
        let (news, heard) = channel();
        let thread = std::thread::spawn(move || talk(wire, to, &orders, &news));
        Self { name: name.to_owned(), address, transport, out: Some(out), heard, thread: Some(thread) }
    }

    /// A request of its own, in a new transaction.
    pub fn draft(&self, method: &str, uri: &str) -> Draft {
        let draft = Draft::new(method, uri, &self.name, self.address);
        let via = draft.value("Via").unwrap().replacen("/UDP ", &format!("/{} ", self.transport), 1);
        draft.set("Via", &via)
    }

    /// Sends octets.
    pub fn send(&self, bytes: &[u8]) {
        // Whoever looks for an answer finds that the connection has ended.
        let _ = self.out.as_ref().unwrap().send(bytes.to_vec());
    }

    /// The next message that is wanted.
    pub fn wait(&self, patience: Duration, wanted: impl Fn(&Message) -> bool) -> Option<Message> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.checked_duration_since(Instant::now())?;
            let message = self.heard.recv_timeout(left).ok()?;
            if wanted(&message) {
                return Some(message);
            }
        }
    }

    /// Sends a request and waits for its final response.
    pub fn ask(&self, draft: &Draft) -> Option<Message> {
        self.send(&draft.bytes());
        let branch = draft.value("Via").unwrap().split("branch=").nth(1).unwrap().to_owned();
        let wanted = |m: &Message| m.status().is_some_and(|status| status >= 200) && m.branch() == branch;
        self.wait(Duration::from_secs(8), wanted)
    }

    /// Registers, with credentials if it is asked for them; the status that it comes to.
    pub fn register(&self, registrar: &str, password: &str) -> u16 {
        let uri = format!("sip:{registrar}");
        let aor = format!("<sip:{}@{registrar}>", self.name);
        let transport = self.transport.to_ascii_lowercase();
        let draft = || {
            let draft = self.draft("REGISTER", &uri).set("To", &aor).set("From", &format!("{aor};tag=r"));
            let contact = format!("<sip:{}@{};transport={transport}>", self.name, self.address);
            draft.add("Contact", &contact).add("Expires", "600")
        };
        let Some(answer) = self.ask(&draft()) else { return 0 };
        if answer.status() != Some(401) {
            return answer.status().unwrap_or_default();
        }
        let given = credentials(&answer, "REGISTER", &uri, &self.name, password);
        self.ask(&draft().add("Authorization", &given)).and_then(|answer| answer.status()).unwrap_or_default()
    }
}

impl Drop for StreamPhone {
    fn drop(&mut self) {
        self.out = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Until the connection ends, or nobody is left to send something.
fn talk(mut wire: impl Wire, from: SocketAddr, orders: &Receiver<Vec<u8>>, news: &Sender<Message>) {
    let mut read = Vec::new();
    let mut room = [0; 4096];
    loop {
        loop {
            match orders.try_recv() {
                Ok(bytes) if wire.write_all(&bytes).and_then(|()| wire.flush()).is_ok() => {}
                Ok(_) | Err(std::sync::mpsc::TryRecvError::Disconnected) => return,
                Err(std::sync::mpsc::TryRecvError::Empty) => break,
            }
        }
        match wire.read(&mut room) {
            Ok(0) => return,
            Ok(length) => read.extend_from_slice(&room[..length]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
            Err(_) => return,
        }
        while let Some(bytes) = whole(&mut read) {
            let message = Message::new(&bytes, from);
            if message.method().is_some_and(|method| method != "ACK") {
                let answer = message.answer("200 OK", "", "");
                if wire.write_all(&answer).and_then(|()| wire.flush()).is_err() {
                    return;
                }
            }
            let _ = news.send(message);
        }
    }
}

/// Takes a whole message off the front; keep-alives are left out.
pub(super) fn whole(read: &mut Vec<u8>) -> Option<Vec<u8>> {
    let blank = read.iter().take_while(|octet| matches!(octet, b'\r' | b'\n')).count();
    read.drain(..blank);
    let head = read.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let length = Message::new(&read[..head], ([0; 4], 0).into()).value("Content-Length")?.parse::<usize>().ok()?;
    (read.len() >= head + length).then(|| read.drain(..head + length).collect())
}
