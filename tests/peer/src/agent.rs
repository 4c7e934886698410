//! One peer: a UDP socket, a thread that answers by a policy, and an ear.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::digest::credentials;
use crate::{Draft, Message};

/// What a peer sends back for a message; it also gets the SDP of its own media socket.
pub type Answers = Arc<dyn Fn(&Message, &str) -> Vec<Vec<u8>> + Send + Sync>;

/// Answers nothing.
pub fn silent() -> Answers {
    Arc::new(|_, _| Vec::new())
}

/// A phone that is always there: 200 to everything, with SDP to an INVITE.
pub fn accept() -> Answers {
    Arc::new(|message, sdp| match message.method() {
        None | Some("ACK") => Vec::new(),
        Some("INVITE") => {
            let here = message.uri().to_owned();
            vec![message.answer("200 OK", &format!("Contact: <{here}>\r\n"), sdp)]
        }
        Some(_) => vec![message.answer("200 OK", "", "")],
    })
}

/// A core: registers whoever asks, and is otherwise as [`accept`].
pub fn accept_registrations() -> Answers {
    let others = accept();
    Arc::new(move |message, sdp| match message.method() {
        Some("REGISTER") => {
            let contacts = message.all("Contact").filter(|contact| *contact != "*");
            let more: String = contacts.map(|contact| format!("Contact: {contact};expires=3600\r\n")).collect();
            vec![message.answer("200 OK", &more, "")]
        }
        Some("INVITE") => {
            // Its own address, that it was reached at, is not in the Request-URI.
            vec![message.answer("200 OK", &format!("Contact: <sip:core@{}>\r\n", own(sdp)), sdp)]
        }
        Some(_) | None => others(message, sdp),
    })
}

/// The address that an agent writes into its SDP is the one it listens on.
fn own(sdp: &str) -> String {
    let ip = sdp.lines().find_map(|line| line.strip_prefix("c=IN IP4 ")).unwrap_or_default().trim();
    format!("{ip}:5060")
}

/// A core that challenges every REGISTER without credentials for a user in
/// `users`; as [`accept_registrations`] otherwise. It looks at no password.
pub fn challenge_registrations() -> Answers {
    let others = accept_registrations();
    Arc::new(move |message, sdp| match message.method() {
        Some("REGISTER") if message.value("Authorization").is_none() => {
            let more =
                "WWW-Authenticate: Digest realm=\"core\", nonce=\"0123456789abcdef\", qop=\"auth\", algorithm=MD5\r\n";
            vec![message.answer("401 Unauthorized", more, "")]
        }
        Some(_) | None => others(message, sdp),
    })
}

/// Messages kept at most; a flood must not fill the memory of the test.
const KEPT: usize = 4096;

#[derive(Debug, Default)]
struct Ear {
    heard: Mutex<VecDeque<Message>>,
    news: Condvar,
    messages: AtomicU64,
    octets: AtomicU64,
    closed: AtomicBool,
}

impl Ear {
    fn keep(&self, message: Message) {
        let mut heard = self.heard.lock().unwrap();
        if heard.len() >= KEPT {
            heard.pop_front();
        }
        heard.push_back(message);
        self.news.notify_all();
    }
}

/// A peer. Dropped, it is gone.
#[derive(Debug)]
pub struct Agent {
    /// User part of its address.
    pub name: String,
    /// Where it is.
    pub address: SocketAddr,
    socket: UdpSocket,
    media: UdpSocket,
    ear: Arc<Ear>,
    thread: Option<JoinHandle<()>>,
}

impl Agent {
    /// A peer at this address; port 0 for any.
    pub fn new(name: &str, address: SocketAddr, answers: Answers) -> Self {
        let socket = UdpSocket::bind(address).unwrap();
        let address = socket.local_addr().unwrap();
        let media = UdpSocket::bind((address.ip(), 0)).unwrap();
        let ear = Arc::new(Ear::default());
        let (ours, theirs) = (socket.try_clone().unwrap(), Arc::clone(&ear));
        ours.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let body = sdp(media.local_addr().unwrap());
        let thread = std::thread::spawn(move || {
            let mut room = vec![0; 65_536];
            while !theirs.closed.load(Ordering::Relaxed) {
                let Ok((length, from)) = ours.recv_from(&mut room) else { continue };
                let message = Message::new(&room[..length], from);
                let answers = answers(&message, &body);
                // Whoever has an answer finds here what it answers.
                theirs.messages.fetch_add(1, Ordering::Relaxed);
                theirs.octets.fetch_add(length as u64, Ordering::Relaxed);
                theirs.keep(message);
                for answer in answers {
                    let _ = ours.send_to(&answer, from);
                }
            }
        });
        Self { name: name.to_owned(), address, socket, media, ear, thread: Some(thread) }
    }

    /// One that only listens.
    pub fn stranger(ip: IpAddr) -> Self {
        Self::new("stranger", SocketAddr::new(ip, 0), silent())
    }

    /// A request of its own, in a new transaction.
    pub fn draft(&self, method: &str, uri: &str) -> Draft {
        Draft::new(method, uri, &self.name, self.address)
    }

    /// Its own Contact value.
    pub fn contact(&self) -> String {
        format!("<sip:{}@{}>", self.name, self.address)
    }

    /// The SDP of its media socket.
    pub fn sdp(&self) -> String {
        sdp(self.media.local_addr().unwrap())
    }

    /// Its media socket.
    pub fn media(&self) -> UdpSocket {
        self.media.try_clone().unwrap()
    }

    /// Sends octets.
    pub fn send(&self, to: SocketAddr, bytes: &[u8]) {
        // A full buffer of the kernel is a loss like any other on the way.
        let _ = self.socket.send_to(bytes, to);
    }

    /// Messages heard since the start.
    pub fn messages(&self) -> u64 {
        self.ear.messages.load(Ordering::Relaxed)
    }

    /// Octets heard since the start.
    pub fn octets(&self) -> u64 {
        self.ear.octets.load(Ordering::Relaxed)
    }

    /// What it heard, oldest first.
    pub fn heard(&self) -> Vec<Message> {
        self.ear.heard.lock().unwrap().iter().cloned().collect()
    }

    /// Forgets what it heard.
    pub fn forget(&self) {
        self.ear.heard.lock().unwrap().clear();
    }

    /// The first message, heard already or within `patience`, that is wanted.
    pub fn wait(&self, patience: Duration, wanted: impl Fn(&Message) -> bool) -> Option<Message> {
        let deadline = Instant::now() + patience;
        let mut heard = self.ear.heard.lock().unwrap();
        loop {
            if let Some(found) = heard.iter().find(|message| wanted(message)) {
                return Some(found.clone());
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            heard = self.ear.news.wait_timeout(heard, left).unwrap().0;
        }
    }

    /// Sends a request, again as RFC 3261 §17.1 says, until its final response comes.
    pub fn ask(&self, to: SocketAddr, draft: &Draft) -> Option<Message> {
        self.ask_within(to, draft, Duration::from_secs(8))
    }

    /// The same, giving up earlier.
    pub fn ask_within(&self, to: SocketAddr, draft: &Draft, patience: Duration) -> Option<Message> {
        let bytes = draft.bytes();
        let via = draft.value("Via").unwrap().to_owned();
        let branch = via.split("branch=").nth(1).unwrap();
        let cseq = draft.value("CSeq").unwrap();
        let deadline = Instant::now() + patience;
        let mut pause = Duration::from_millis(500);
        loop {
            self.send(to, &bytes);
            let left = deadline.checked_duration_since(Instant::now())?;
            let found = self.wait(pause.min(left), |message| {
                message.status().is_some_and(|status| status >= 200)
                    && message.branch() == branch
                    && message.value("CSeq") == Some(cseq)
            });
            if found.is_some() {
                return found;
            }
            pause = (pause * 2).min(Duration::from_secs(4));
        }
    }

    /// Registers at `registrar` through `to`, with credentials if it is asked
    /// for them; the status that it comes to.
    pub fn register(&self, to: SocketAddr, registrar: &str, password: &str) -> u16 {
        let uri = format!("sip:{registrar}");
        let aor = format!("<sip:{}@{registrar}>", self.name);
        let draft = || {
            let draft = self.draft("REGISTER", &uri).set("To", &aor);
            let from = format!("{aor};tag=r");
            draft.set("From", &from).add("Contact", &self.contact()).add("Expires", "600")
        };
        let Some(answer) = self.ask(to, &draft()) else { return 0 };
        if answer.status() != Some(401) {
            return answer.status().unwrap_or_default();
        }
        let given = credentials(&answer, "REGISTER", &uri, &self.name, password);
        let again = draft().add("Authorization", &given);
        self.ask(to, &again).and_then(|answer| answer.status()).unwrap_or_default()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.ear.closed.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn sdp(media: SocketAddr) -> String {
    format!(
        "v=0\r\no=- 1 1 IN IP4 {0}\r\ns=-\r\nc=IN IP4 {0}\r\nt=0 0\r\nm=audio {1} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n",
        media.ip(),
        media.port()
    )
}
