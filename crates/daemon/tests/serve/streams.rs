//! Phones on connections.

use super::*;

/// Anything that a phone's messages go through.
pub(super) trait Wire: std::io::Read + std::io::Write {}
impl<T: std::io::Read + std::io::Write> Wire for T {}

/// A phone that keeps its connection.
pub(super) struct Caller<W> {
    name: &'static str,
    transport: &'static str,
    wire: W,
    /// Of its address of record.
    pub(super) domain: String,
    read: Vec<u8>,
}

impl Caller<TcpStream> {
    pub(super) fn tcp(name: &'static str, sip: SocketAddr) -> Self {
        let wire = TcpStream::connect(sip).unwrap();
        wire.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        Self::over(name, "TCP", wire, sip)
    }
}

impl<W: Wire> Caller<W> {
    pub(super) fn over(name: &'static str, transport: &'static str, wire: W, sip: SocketAddr) -> Self {
        Self { name, transport, wire, domain: sip.to_string(), read: Vec::new() }
    }

    fn send(&mut self, method: &str, uri: &str, to: &str, cseq: u32, more: &str) {
        let Self { name, transport, domain, .. } = self;
        let message = format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/{transport} {name}.invalid;branch=z9hG4bK{method}{cseq}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:{name}@{domain}>;tag={name}\r\nTo: <sip:{to}@{domain}>\r\nCall-ID: \
             {to}@{name}\r\nCSeq: {cseq} {method}\r\n{more}Content-Length: 0\r\n\r\n"
        );
        self.wire.write_all(message.as_bytes()).unwrap();
        self.wire.flush().unwrap();
    }

    pub(super) fn register(&mut self) {
        let (name, domain, transport) = (self.name, self.domain.clone(), self.transport.to_ascii_lowercase());
        let contact = format!("Contact: <sip:{name}@{name}.invalid;transport={transport}>\r\nExpires: 300\r\n");
        self.send("REGISTER", &format!("sip:{domain}"), name, 1, &contact);
        let answer = self.receive();
        assert!(answer.starts_with("SIP/2.0 200 "), "{answer}");
    }

    /// The next message; none of those here has a body.
    fn receive(&mut self) -> String {
        loop {
            if let Some(end) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                let message = self.read.drain(..end + 4).collect();
                return String::from_utf8(message).unwrap();
            }
            let mut room = [0; 4096];
            let length = self.wire.read(&mut room).unwrap();
            assert!(length > 0, "closed");
            self.read.extend_from_slice(&room[..length]);
        }
    }
}

/// Alice sends bob a message, which must come over the connection that he registered on.
pub(super) fn message<A: Wire, B: Wire>(alice: &mut Caller<A>, bob: &mut Caller<B>, cseq: u32) {
    let name = bob.name;
    alice.send("MESSAGE", &format!("sip:{name}@{}", alice.domain.clone()), name, cseq, "");
    let request = bob.receive();
    assert!(request.starts_with(&format!("MESSAGE sip:{name}@{name}.invalid;transport=")), "{request}");
    let copied = |name: &str| -> String {
        request.lines().filter(|line| line.starts_with(name)).map(|line| format!("{line}\r\n")).collect()
    };
    let head = ["Via:", "From:", "To:", "Call-ID:", "CSeq:"].map(copied).concat();
    bob.wire.write_all(format!("SIP/2.0 200 OK\r\n{head}Content-Length: 0\r\n\r\n").as_bytes()).unwrap();
    let answer = alice.receive();
    assert!(answer.starts_with("SIP/2.0 200 "), "{answer}");
}

#[test]
fn tcp_beside_udp_without_being_asked() {
    let sip = free();
    let daemon = Daemon::start("tcp", &format!("role = \"standalone\"\n[inner]\nlisten = [\"udp:{sip}\"]"));
    assert!(daemon.banner.contains(&format!("tcp {sip} (inner)")), "{}", daemon.banner);
    let (mut alice, mut bob) = (Caller::tcp("alice", sip), Caller::tcp("bob", sip));
    alice.register();
    bob.register();
    message(&mut alice, &mut bob, 2);
    alice.wire.write_all(b"\r\n\r\n").unwrap();
    let mut pong = [0; 2];
    std::io::Read::read_exact(&mut alice.wire, &mut pong).unwrap();
    assert_eq!(&pong, b"\r\n");
    // The answer to a keep-alive overtakes its count.
    let deadline = Instant::now() + Duration::from_secs(5);
    let page = loop {
        let page = daemon.http("/metrics");
        if page.contains(r#"kind="keep_alive",side="inner",transport="tcp"} 1"#) {
            break page;
        }
        assert!(Instant::now() < deadline, "{page}");
    };
    for line in [
        r#"siplatch_connections{side="inner",transport="tcp"} 2"#,
        r#"siplatch_connections_opened_total{direction="in",side="inner",transport="tcp"} 2"#,
        r#"siplatch_stream_inputs_total{kind="keep_alive",side="inner",transport="tcp"} 1"#,
        "siplatch_connections_strangers 0",
        "siplatch_listeners_bound 2",
    ] {
        assert!(page.lines().any(|found| found == line), "{line} is missing in\n{page}");
    }
    let status = String::from_utf8(daemon.status(&[]).stdout).unwrap();
    assert_eq!(status.matches(" tcp ").count(), 3, "{status}");
}
