//! TLS and WebSocket through the program: phones on every transport reach each
//! other, certificates change while phones are connected, a core speaks TLS.

use peer::{Authority, Identity};
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
use tokio_tungstenite::tungstenite::{Message, WebSocket, client};

use super::streams::{Caller, Wire, message};
use super::*;

/// Octets of SIP over the messages of a WebSocket.
struct Framed<S: Wire> {
    socket: WebSocket<S>,
    read: Vec<u8>,
}

impl<S: Wire> Framed<S> {
    fn new(stream: S, to: SocketAddr) -> Self {
        let uri = format!("ws://{to}/").parse().unwrap();
        let request = ClientRequestBuilder::new(uri).with_sub_protocol("sip");
        let (socket, response) = client::client(request, stream).map_err(|error| error.to_string()).unwrap();
        assert_eq!(response.headers()["sec-websocket-protocol"], "sip");
        Self { socket, read: Vec::new() }
    }
}

impl<S: Wire> std::io::Read for Framed<S> {
    fn read(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
        while self.read.is_empty() {
            match self.socket.read().map_err(std::io::Error::other)? {
                Message::Text(text) => self.read.extend_from_slice(text.as_bytes()),
                Message::Binary(bytes) => self.read.extend_from_slice(&bytes),
                Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => {}
            }
        }
        let length = room.len().min(self.read.len());
        room[..length].copy_from_slice(&self.read[..length]);
        self.read.drain(..length);
        Ok(length)
    }
}

impl<S: Wire> std::io::Write for Framed<S> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        self.socket.send(Message::text(text)).map_err(std::io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

const NAME: &str = "edge.example";

/// A directory with a certificate in it, and the section that names it.
struct Files(PathBuf);

impl Files {
    fn new(name: &str, identity: &Identity) -> Self {
        let dir = std::env::temp_dir().join(format!("siplatch-tls-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        identity.write(&dir);
        Self(dir)
    }

    fn section(&self) -> String {
        let dir = self.0.display();
        format!("[tls]\ncertificate = \"{dir}/tls.crt\"\nkey = \"{dir}/tls.key\"\n")
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn patient(stream: &TcpStream) {
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
}

#[test]
fn phones_on_every_transport_reach_each_other() {
    let authority = Authority::new();
    let files = Files::new("every", &authority.sign(&[NAME]));
    let [tcp, tls, ws, wss] = [(); 4].map(|()| free());
    let config = format!(
        "role = \"standalone\"\n[inner]\nlisten = [\"tcp:{tcp}\", \"tls:{tls}\", \"ws:{ws}\", \"wss:{wss}\"]\n{}",
        files.section()
    );
    let daemon = Daemon::start("every", &config);
    let secured = |to| {
        let stream = authority.connect(to, NAME);
        patient(stream.get_ref());
        stream
    };
    let plain = TcpStream::connect(ws).unwrap();
    patient(&plain);
    let mut on_tcp = Caller::tcp("alice", tcp);
    let mut on_tls = Caller::over("bob", "TLS", secured(tls), tls);
    let mut on_ws = Caller::over("carol", "WS", Framed::new(plain, ws), ws);
    let mut on_wss = Caller::over("dave", "WSS", Framed::new(secured(wss), wss), wss);
    on_tcp.register();
    on_tls.register();
    on_ws.register();
    on_wss.register();
    message(&mut on_tcp, &mut on_tls, 2);
    message(&mut on_tls, &mut on_ws, 2);
    message(&mut on_ws, &mut on_wss, 2);
    message(&mut on_wss, &mut on_tcp, 2);
    message(&mut on_wss, &mut on_tls, 3);
    let page = daemon.http("/metrics");
    for transport in ["tcp", "tls", "ws", "wss"] {
        let line = format!("siplatch_connections{{side=\"inner\",transport=\"{transport}\"}} 1");
        assert!(page.lines().any(|found| found == line), "{line} is missing in\n{page}");
    }
    assert!(daemon.banner.contains(&format!("ws://{ws} or wss://{wss}")), "{}", daemon.banner);
}

#[test]
fn certificates_change_and_nobody_is_cut_off() {
    let (old, new) = (Authority::new(), Authority::new());
    let files = Files::new("change", &old.sign(&[NAME]));
    let tls = free();
    let config = format!("role = \"standalone\"\n[inner]\nlisten = [\"tls:{tls}\"]\n{}", files.section());
    let daemon = Daemon::start("change", &config);
    let mut alice = Caller::over("alice", "TLS", old.connect(tls, NAME), tls);
    alice.register();

    new.sign(&[NAME]).write(&files.0);
    let outcome = daemon.reload(&[]);
    let said = String::from_utf8(outcome.stdout).unwrap();
    assert_eq!(said, "changed: certificates, for connections that begin from now on\n");
    let mut bob = Caller::over("bob", "TLS", new.connect(tls, NAME), tls);
    bob.register();
    message(&mut bob, &mut alice, 2);
    assert!(old.connect(tls, NAME).write_all(b"\r\n\r\n").is_err(), "the old authority did not sign this one");

    std::fs::write(files.0.join("tls.key"), old.sign(&[NAME]).key).unwrap();
    let outcome = daemon.reload(&[]);
    assert!(!outcome.status.success());
    let said = String::from_utf8(outcome.stderr).unwrap();
    assert!(said.contains("is not the key of the certificate") && said.contains("mend: "), "{said}");
    let mut carol = Caller::over("carol", "TLS", new.connect(tls, NAME), tls);
    carol.register();
    message(&mut carol, &mut alice, 2);
    let page = daemon.http("/metrics");
    assert!(page.lines().any(|line| line == "siplatch_reload_refused 1"), "{page}");
}

#[test]
fn a_core_that_speaks_tls() {
    let authority = Authority::new();
    let core = TcpListener::bind("127.0.0.1:0").unwrap();
    let (inner, outer) = (free(), free());
    let dir = std::env::temp_dir().join(format!("siplatch-ca-{}", std::process::id()));
    std::fs::write(&dir, &authority.pem).unwrap();
    let config = format!(
        "role = \"border\"\n[inner]\nlisten = [\"udp:{inner}\"]\n[outer]\nlisten = [\"udp:{outer}\"]\n[[network]]\n\
         prefix = \"127.0.0.0/8\"\n[[upstream]]\nuri = \"sips:{}\"\n[tls]\nca = \"{}\"\n",
        core.local_addr().unwrap(),
        dir.display()
    );
    let identity = authority.sign(&["127.0.0.1"]);
    let (heard, register) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let (stream, _) = core.accept().unwrap();
        let mut stream = peer::secured(&identity, stream);
        let (mut read, mut room) = (Vec::new(), [0; 4096]);
        loop {
            let Ok(length) = stream.read(&mut room) else { return };
            if length == 0 {
                return;
            }
            read.extend_from_slice(&room[..length]);
            while let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
                let message = String::from_utf8(read.drain(..end + 4).collect()).unwrap();
                let copied = |name: &str| -> String {
                    message.lines().filter(|line| line.starts_with(name)).map(|line| format!("{line}\r\n")).collect()
                };
                let mut head = ["Via:", "From:", "To:", "Call-ID:", "CSeq:"].map(copied).concat();
                if message.starts_with("REGISTER") {
                    head += &copied("Contact:").replace("\r\n", ";expires=300\r\n");
                }
                stream.write_all(format!("SIP/2.0 200 OK\r\n{head}Content-Length: 0\r\n\r\n").as_bytes()).unwrap();
                let _ = heard.send(message);
            }
        }
    });
    let daemon = Daemon::start("sips", &config);
    let _ = std::fs::remove_file(&dir);
    let mut alice = Caller::tcp("alice", outer);
    "core.example".clone_into(&mut alice.domain);
    alice.register();
    let message = std::iter::from_fn(|| register.recv_timeout(Duration::from_secs(5)).ok())
        .find(|message| message.starts_with("REGISTER"))
        .unwrap_or_else(|| panic!("{}", daemon.banner));
    assert!(message.contains("Via: SIP/2.0/TLS "), "{message}");
    assert!(message.contains("Contact: <sip:alice@127.0.0.1:5061;transport=tls;sl="), "{message}");
}
