//! A line of a scripted phone or core: one socket or connection, whose
//! messages are handed out by Call-ID to whoever plays an end of that call.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::stream::whole;
use crate::{Authority, Draft, Message, connect_secure};

/// How long the thread waits for octets before it looks whether it is over.
const TURN: Duration = Duration::from_millis(50);

type Calls = Mutex<HashMap<String, Sender<Message>>>;

/// One line. It answers REGISTER and OPTIONS by itself with 200; what else
/// comes for a call that nobody plays here is not answered.
#[derive(Debug)]
pub struct Line {
    /// User part of its address.
    pub name: String,
    /// Its end of all that it sends and hears.
    pub address: SocketAddr,
    transport: &'static str,
    way: Way,
    calls: Arc<Calls>,
    contacts: Arc<Mutex<HashMap<String, String>>>,
    closed: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum Way {
    Udp(UdpSocket),
    Stream(Sender<Vec<u8>>),
}

impl Line {
    /// Over UDP at this address.
    pub fn udp(name: &str, address: SocketAddr) -> Self {
        let socket = UdpSocket::bind(address).unwrap();
        socket.set_read_timeout(Some(TURN)).unwrap();
        let mut line = Self::new(name, socket.local_addr().unwrap(), "UDP", Way::Udp(socket.try_clone().unwrap()));
        let (ear, closed) = (line.ear(), Arc::clone(&line.closed));
        line.thread = Some(std::thread::spawn(move || {
            let mut room = vec![0; 65_536];
            while !closed.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut room) else { continue };
                if let Some(answer) = ear.hear(Message::new(&room[..length], from)) {
                    let _ = socket.send_to(&answer, from);
                }
            }
        }));
        line
    }

    /// Over a TLS connection to `to`, whose certificate must name `host`.
    pub fn tls(name: &str, authority: &Authority, host: &str, ip: IpAddr, to: SocketAddr) -> Self {
        let mut wire = connect_secure(authority, host, ip, to).unwrap();
        let address = wire.sock.local_addr().unwrap();
        let (out, orders): (_, Receiver<Vec<u8>>) = channel();
        let mut line = Self::new(name, address, "TLS", Way::Stream(out));
        let (ear, closed) = (line.ear(), Arc::clone(&line.closed));
        line.thread = Some(std::thread::spawn(move || {
            let (mut read, mut room) = (Vec::new(), [0; 4096]);
            while !closed.load(Ordering::Relaxed) {
                for bytes in orders.try_iter() {
                    std::io::Write::write_all(&mut wire, &bytes).unwrap();
                }
                match std::io::Read::read(&mut wire, &mut room) {
                    Ok(0) => return,
                    Ok(length) => read.extend_from_slice(&room[..length]),
                    // Nothing has come.
                    Err(_) => continue,
                }
                while let Some(bytes) = whole(&mut read) {
                    if let Some(answer) = ear.hear(Message::new(&bytes, to)) {
                        std::io::Write::write_all(&mut wire, &answer).unwrap();
                    }
                }
            }
        }));
        line
    }

    fn new(name: &str, address: SocketAddr, transport: &'static str, way: Way) -> Self {
        Self {
            name: name.to_owned(),
            address,
            transport,
            way,
            calls: Arc::default(),
            contacts: Arc::default(),
            closed: Arc::default(),
            thread: None,
        }
    }

    fn ear(&self) -> Hearing {
        Hearing { calls: Arc::clone(&self.calls), contacts: Arc::clone(&self.contacts) }
    }

    /// A request outside any call, or the first of one.
    pub fn draft(&self, method: &str, uri: &str) -> Draft {
        let draft = Draft::new(method, uri, &self.name, self.address);
        let via = draft.value("Via").unwrap().replacen("/UDP ", &format!("/{} ", self.transport), 1);
        draft.set("Via", &via)
    }

    /// Its own Contact value.
    pub fn contact(&self) -> String {
        let transport = if self.transport == "UDP" { "" } else { ";transport=tls" };
        format!("<sip:{}@{}{transport}>", self.name, self.address)
    }

    /// Sends octets; over a connection `to` is its far end anyway.
    pub fn send(&self, to: SocketAddr, bytes: &[u8]) {
        match &self.way {
            // A full buffer of the kernel is a loss like any other on the way.
            Way::Udp(socket) => drop(socket.send_to(bytes, to)),
            Way::Stream(out) => drop(out.send(bytes.to_vec())),
        }
    }

    /// From now on messages of this call are heard.
    pub fn listen(&self, call_id: &str) -> Receiver<Message> {
        let (news, heard) = channel();
        self.calls.lock().unwrap().insert(call_id.to_owned(), news);
        heard
    }

    /// Messages of this call are not answered any more.
    pub fn forget(&self, call_id: &str) {
        self.calls.lock().unwrap().remove(call_id);
    }

    /// The Contact that this user was last registered with here.
    pub fn registered(&self, user: &str) -> Option<String> {
        self.contacts.lock().unwrap().get(user).cloned()
    }

    /// Registers in `domain` through `to`; panics unless that comes to 200.
    pub fn register(&self, to: SocketAddr, domain: &str) {
        let aor = format!("<sip:{}@{domain}>", self.name);
        let draft = self.draft("REGISTER", &format!("sip:{domain}")).set("To", &aor);
        let draft = draft.set("From", &format!("{aor};tag=r")).add("Contact", &self.contact()).add("Expires", "600");
        let heard = self.listen(draft.value("Call-ID").unwrap());
        let deadline = Instant::now() + Duration::from_secs(8);
        loop {
            assert!(Instant::now() < deadline, "{} is not registered", self.name);
            self.send(to, &draft.bytes());
            while let Ok(message) = heard.recv_timeout(Duration::from_millis(500)) {
                match message.status() {
                    Some(200) => return self.forget(draft.value("Call-ID").unwrap()),
                    status => assert!(status.is_some_and(|status| status < 200), "{message:?}"),
                }
            }
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Hearing {
    calls: Arc<Calls>,
    contacts: Arc<Mutex<HashMap<String, String>>>,
}

impl Hearing {
    fn hear(&self, message: Message) -> Option<Vec<u8>> {
        if let Some(call) = self.calls.lock().unwrap().get(message.value("Call-ID").unwrap_or_default()) {
            let _ = call.send(message);
            return None;
        }
        match message.method() {
            Some("REGISTER") => {
                let user = message.uri_of("To")?.split([':', '@']).nth(1)?.to_owned();
                self.contacts.lock().unwrap().insert(user, message.uri_of("Contact")?.to_owned());
                let contacts = message.all("Contact");
                let more: String = contacts.map(|contact| format!("Contact: {contact};expires=3600\r\n")).collect();
                Some(message.answer("200 OK", &more, ""))
            }
            Some("OPTIONS") => Some(message.answer("200 OK", "", "")),
            Some(_) | None => None,
        }
    }
}
