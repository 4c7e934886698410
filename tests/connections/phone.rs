//! A phone on a TLS connection: it registers, answers every request with 200,
//! and can send one of its own.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use peer::{Authority, Draft, Message, credentials};
use rustls::pki_types::ServerName;
use rustls::{ALL_VERSIONS, ClientConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf, split};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Ends;

const PATIENCE: Duration = Duration::from_secs(20);

/// The user of a number.
pub(super) fn name(number: usize) -> String {
    format!("phone{number}")
}

/// How to connect.
#[derive(Debug, Clone)]
pub(super) struct Secure {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    ends: Ends,
}

impl Secure {
    pub(super) fn new(authority: &Authority, name: &'static str, to: SocketAddr, from: IpAddr) -> Self {
        let name = ServerName::try_from(name).unwrap();
        Self { config: authority.client(None, ALL_VERSIONS), name, ends: (to, SocketAddr::new(from, 0)) }
    }

    /// The same from another address.
    pub(super) fn from(&self, ip: IpAddr) -> Self {
        Self { ends: (self.ends.0, SocketAddr::new(ip, 0)), ..self.clone() }
    }

    /// TCP alone.
    pub(super) async fn connect(&self) -> std::io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(self.ends.1)?;
        socket.connect(self.ends.0).await
    }

    /// TCP and TLS.
    pub(super) async fn secure(&self) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = self.connect().await?;
        TlsConnector::from(Arc::clone(&self.config)).connect(self.name.clone(), stream).await
    }
}

/// A registered phone; a copy is the same phone.
#[derive(Debug, Clone)]
pub(super) struct Phone {
    /// Its user.
    pub(super) name: String,
    local: SocketAddr,
    out: mpsc::UnboundedSender<Vec<u8>>,
    heard: Arc<Heard>,
}

#[derive(Debug, Default)]
struct Heard {
    messages: AtomicUsize,
    /// Who waits for a final response, by branch.
    waiting: Mutex<BTreeMap<String, oneshot::Sender<Message>>>,
}

impl Phone {
    /// Connects and registers.
    pub(super) async fn register(number: usize, secure: &Secure, domain: &str) -> Self {
        let stream = secure.secure().await.unwrap();
        let local = stream.get_ref().0.local_addr().unwrap();
        let (read, write) = split(stream);
        let (out, queue) = mpsc::unbounded_channel();
        let phone = Self { name: name(number), local, out, heard: Arc::default() };
        tokio::spawn(write_all(write, queue));
        tokio::spawn(listen(read, phone.clone()));
        let uri = format!("sip:{domain}");
        let address = format!("<sip:{}@{domain}>", phone.name);
        let register = phone
            .draft("REGISTER", &uri)
            .set("To", &address)
            .set("From", &format!("{address};tag=r{number}"))
            .add("Contact", &format!("<sip:{}@{local};transport=tls>", phone.name))
            .add("Expires", "3600");
        let challenge = phone.ask(&register).await;
        assert_eq!(challenge.status(), Some(401), "{challenge:?}");
        let again = phone.draft("REGISTER", &uri);
        let credentials = credentials(&challenge, "REGISTER", &uri, &phone.name, "secret");
        let again = register
            .set("Via", again.value("Via").unwrap())
            .set("CSeq", again.value("CSeq").unwrap())
            .add("Authorization", &credentials);
        let answer = phone.ask(&again).await;
        assert_eq!(answer.status(), Some(200), "{answer:?}");
        phone
    }

    /// Sends a MESSAGE; returns the status of the final response.
    pub(super) async fn message(&self, uri: &str) -> u16 {
        let draft = self.draft("MESSAGE", uri);
        let answer = self.ask(&draft).await;
        answer.status().unwrap()
    }

    /// How many requests it has heard.
    pub(super) fn messages(&self) -> usize {
        self.heard.messages.load(Ordering::Relaxed)
    }

    fn draft(&self, method: &str, uri: &str) -> Draft {
        let draft = Draft::new(method, uri, &self.name, self.local);
        let via = draft.value("Via").unwrap().replace("/UDP", "/TLS");
        draft.set("Via", &via)
    }

    async fn ask(&self, draft: &Draft) -> Message {
        let branch = draft.value("Via").unwrap().split("branch=").nth(1).unwrap().to_owned();
        let (answer, answered) = oneshot::channel();
        self.heard.waiting.lock().unwrap().insert(branch, answer);
        self.out.send(draft.bytes()).unwrap();
        let waited = tokio::time::timeout(PATIENCE, answered).await;
        waited.unwrap_or_else(|_| panic!("{} waits in vain", self.name)).unwrap()
    }

    fn hear(&self, message: Message) {
        match message.status() {
            None => {
                self.heard.messages.fetch_add(1, Ordering::Relaxed);
                // Refused when the connection has ended.
                let _ = self.out.send(message.answer("200 OK", "", ""));
            }
            Some(status) if status >= 200 => {
                if let Some(waiting) = self.heard.waiting.lock().unwrap().remove(message.branch()) {
                    let _ = waiting.send(message);
                }
            }
            Some(_) => {}
        }
    }
}

async fn write_all(mut write: WriteHalf<TlsStream<TcpStream>>, mut queue: mpsc::UnboundedReceiver<Vec<u8>>) {
    while let Some(bytes) = queue.recv().await {
        if write.write_all(&bytes).await.is_err() || write.flush().await.is_err() {
            return;
        }
    }
}

/// No message here has a body.
async fn listen(mut read: ReadHalf<TlsStream<TcpStream>>, phone: Phone) {
    let mut octets = Vec::new();
    while read.read_buf(&mut octets).await.is_ok_and(|length| length > 0) {
        while let Some(end) = octets.windows(4).position(|four| four == b"\r\n\r\n") {
            let message: Vec<u8> = octets.drain(..end + 4).collect();
            phone.hear(Message::new(&message, phone.local));
        }
    }
}
