//! The program itself, on loopback: it serves, shows what it does, copes with
//! busy ports and silent servers, and ends when it is told to.
#![allow(clippy::unwrap_used, reason = "a test that unwraps in vain has failed")]
#![allow(clippy::disallowed_methods, reason = "the test is the world around the program: its sockets and its clock")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

#[path = "serve/access.rs"]
mod access;
#[path = "serve/overload.rs"]
mod overload;
#[path = "serve/reload.rs"]
mod reload;
#[path = "serve/secure.rs"]
mod secure;
#[path = "serve/start.rs"]
mod start;
#[path = "serve/streams.rs"]
mod streams;
#[path = "serve/trace.rs"]
mod trace;

/// A running siplatch with files and ports of its own.
struct Daemon {
    child: Child,
    dir: PathBuf,
    metrics: SocketAddr,
    /// What it said at start, up to the empty line at the end of the banner.
    banner: String,
    /// How long that took.
    took: Duration,
}

impl Daemon {
    fn start(name: &str, config: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("siplatch-serve-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        let metrics = free();
        let file = dir.join("siplatch.toml");
        let rest = format!("[metrics]\nlisten = \"{metrics}\"\n[state]\ndir = \"{}/state\"\n", dir.display());
        std::fs::write(&file, format!("{config}\n{rest}")).unwrap();
        let began = Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_siplatch"))
            .args(["run", "--log", "warn", "--config"])
            .arg(&file)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut banner = String::new();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        while !banner.contains("\nStatus ") {
            assert!(lines.read_line(&mut banner).unwrap() > 0, "ended before its banner: {banner}");
        }
        let took = began.elapsed();
        // What follows the banner is not read; the pipe must stay open all the same.
        std::mem::forget(lines);
        Self { child, dir, metrics, banner, took }
    }

    fn http(&self, path: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut stream = loop {
            match TcpStream::connect(self.metrics) {
                Ok(stream) => break stream,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
        };
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        page
    }

    fn status(&self, flags: &[&str]) -> Output {
        let file = self.dir.join("siplatch.toml");
        Command::new(env!("CARGO_BIN_EXE_siplatch"))
            .args(["status", "--config"])
            .arg(file)
            .args(flags)
            .output()
            .unwrap()
    }

    fn terminate(&mut self) -> ExitStatus {
        assert!(Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap().success());
        self.child.wait().unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// An address that nobody has, below the ports that the system gives away by
/// itself, and never the same one twice.
fn free() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 10_000 + (std::process::id() as u16).wrapping_mul(64).wrapping_add(step) % 20_000;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

fn udp() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// As long as those of common phones: an answer to a stranger is never longer than what it sent.
fn options(to: SocketAddr, from: SocketAddr) -> String {
    format!(
        "OPTIONS sip:{to} SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bKone;rport\r\nMax-Forwards: 70\r\nFrom: \
         <sip:a@{from}>;tag=1\r\nTo: <sip:{to}>\r\nCall-ID: one@{from}\r\nCSeq: 1 OPTIONS\r\nContact: \
         <sip:a@{from}>\r\nAccept: application/sdp, application/dtmf-relay, text/plain\r\nAllow: INVITE, ACK, BYE, \
         CANCEL, OPTIONS, INFO, UPDATE, PRACK, REFER, SUBSCRIBE, NOTIFY, MESSAGE\r\nSupported: replaces, 100rel, path, \
         outbound, gruu\r\nUser-Agent: a test of siplatch\r\nContent-Length: 0\r\n\r\n"
    )
}

#[test]
fn serves_shows_what_it_does_and_stops() {
    let sip = free();
    let mut daemon = Daemon::start("stops", &format!("role = \"standalone\"\n[inner]\nlisten = [\"udp:{sip}\"]"));
    let (phone, from) = udp();
    phone.send_to(options(sip, from).as_bytes(), sip).unwrap();
    let mut room = [0; 4096];
    let length = phone.recv(&mut room).unwrap();
    assert!(room[..length].starts_with(b"SIP/2.0 200 "), "{}", String::from_utf8_lossy(&room[..length]));

    assert!(daemon.http("/healthz").contains("200 OK"));
    let page = daemon.http("/metrics");
    for line in [
        r#"siplatch_requests_total{direction="in",method="OPTIONS",side="inner"} 1"#,
        r#"siplatch_datagrams_total{kind="sip",side="inner"} 1"#,
        r#"siplatch_ports_free{range="30000-30999"} 500"#,
        "siplatch_listeners_bound 2",
    ] {
        assert!(page.lines().any(|found| found == line), "{line} is missing in\n{page}");
    }
    let tables = daemon.status(&[]);
    assert!(tables.status.success());
    assert!(String::from_utf8_lossy(&tables.stdout).contains(&sip.to_string()));
    let json: serde_json::Value = serde_json::from_slice(&daemon.status(&["--json"]).stdout).unwrap();
    assert_eq!(json["listeners"][0]["open"], true);
    assert_eq!(json["calls"].as_array().map(Vec::len), Some(0));

    let socket = daemon.dir.join("state/control.sock");
    assert!(socket.exists());
    assert_eq!(daemon.terminate().code(), Some(0));
    assert!(!socket.exists(), "the control socket is removed");
    let gone = daemon.status(&[]);
    assert_eq!(gone.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&gone.stderr).contains("does not run here"));
}

/// A phone that reads and writes messages by hand.
struct Phone {
    name: &'static str,
    socket: UdpSocket,
    address: SocketAddr,
    sip: SocketAddr,
}

impl Phone {
    fn register(name: &'static str, sip: SocketAddr) -> Self {
        let (socket, address) = udp();
        let phone = Self { name, socket, address, sip };
        let contact = format!("Contact: <sip:{name}@{address}>\r\nExpires: 300\r\n");
        phone.send("REGISTER", &format!("sip:{sip}"), name, "", 1, &contact);
        assert!(phone.receive("SIP/2.0").starts_with("SIP/2.0 200 "));
        phone
    }

    fn send(&self, method: &str, uri: &str, to: &str, to_tag: &str, cseq: u32, more: &str) {
        let Self { name, address, sip, .. } = self;
        let message = format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {address};branch=z9hG4bK{method}{cseq};rport\r\nMax-Forwards: \
             70\r\nFrom: <sip:{name}@{sip}>;tag={name}\r\nTo: <sip:{to}@{sip}>{to_tag}\r\nCall-ID: {to}@{address}\r\n\
             CSeq: {cseq} {method}\r\n{more}Content-Length: 0\r\n\r\n"
        );
        self.socket.send_to(message.as_bytes(), self.sip).unwrap();
    }

    fn answer(&self, request: &str, more: &str) {
        let copied = |name: &str| -> String {
            let lines = request.lines().filter(|line| line.starts_with(name));
            lines.map(|line| format!("{line}\r\n")).collect()
        };
        let to = copied("To:");
        let to = if to.contains("tag=") { to } else { to.replace("\r\n", ";tag=callee\r\n") };
        let head = ["Via:", "Record-Route:", "From:", "Call-ID:", "CSeq:"].map(copied).concat();
        let message = format!("SIP/2.0 200 OK\r\n{head}{to}{more}Content-Length: 0\r\n\r\n");
        self.socket.send_to(message.as_bytes(), self.sip).unwrap();
    }

    /// The next message that begins so.
    fn receive(&self, start: &str) -> String {
        let mut room = [0; 9000];
        loop {
            let length = self.socket.recv(&mut room).unwrap();
            let text = String::from_utf8_lossy(&room[..length]).into_owned();
            if text.starts_with(start) {
                return text;
            }
        }
    }
}

#[test]
fn a_running_call_is_ended_on_both_sides_before_the_program_ends() {
    let sip = free();
    let mut daemon = Daemon::start("farewell", &format!("[inner]\nlisten = [\"udp:{sip}\"]"));
    let (alice, bob) = (Phone::register("alice", sip), Phone::register("bob", sip));
    let contact = |phone: &Phone| format!("Contact: <sip:{}@{}>\r\n", phone.name, phone.address);
    alice.send("INVITE", &format!("sip:bob@{sip}"), "bob", "", 1, &contact(&alice));
    bob.answer(&bob.receive("INVITE "), &contact(&bob));
    let answered = alice.receive("SIP/2.0 200 ");
    let field = |name: &str| answered.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    let (route, target) = (field("Record-Route:"), field("Contact:"));
    let target = target.trim_start_matches('<').split('>').next().unwrap().to_owned();
    alice.send("ACK", &target, "bob", ";tag=callee", 1, &format!("Route: {route}\r\n"));
    bob.receive("ACK ");
    assert!(daemon.http("/metrics").contains("siplatch_calls{state=\"confirmed\"} 1"));

    let killer = std::thread::spawn(move || {
        let status = daemon.terminate();
        (status, daemon)
    });
    alice.answer(&alice.receive("BYE "), "");
    // Bob's is lost, and must come again.
    bob.receive("BYE ");
    assert!(!killer.is_finished());
    bob.answer(&bob.receive("BYE "), "");
    let began = Instant::now();
    assert_eq!(killer.join().unwrap().0.code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[test]
fn answers_stun_on_the_signalling_port_within_a_budget() {
    let sip = free();
    let _daemon = Daemon::start("stun", &format!("[inner]\nlisten = [\"udp:{sip}\"]"));
    let (phone, from) = udp();
    let request = wire::stun::request([7; 12]);
    let mut room = [0; 4096];
    phone.send_to(&request, sip).unwrap();
    let length = phone.recv(&mut room).unwrap();
    assert_eq!(room[..length], wire::stun::answer(&request, from).unwrap());
    phone.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    for _ in 0..2000 {
        phone.send_to(&request, sip).unwrap();
    }
    let mut octets = 0;
    while let Ok(length) = phone.recv(&mut room) {
        octets += length;
    }
    assert!(octets < 16_384, "{octets} octets to one source that has proven nothing");
}

#[test]
fn a_busy_port_is_said_and_taken_once_it_is_free() {
    let (busy, sip) = udp();
    let daemon = Daemon::start("busy", &format!("[inner]\nlisten = [\"udp:{sip}\"]"));
    assert!(daemon.banner.contains("NOT listening"), "{}", daemon.banner);
    assert!(daemon.banner.contains("another program has this port"), "{}", daemon.banner);
    let health = daemon.http("/healthz");
    assert!(health.contains("503") && health.contains(&sip.to_string()), "{health}");
    drop(busy);
    let deadline = Instant::now() + Duration::from_secs(8);
    while !daemon.http("/healthz").contains("200 OK") {
        assert!(Instant::now() < deadline, "the port was not taken");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn office(stun: SocketAddr, outer: SocketAddr) -> String {
    let inner = free();
    format!(
        "role = \"office\"\n[inner]\nlisten = [\"udp:{inner}\"]\n[outer]\nlisten = [\"udp:{outer}\"]\n\
         stun_servers = [\"{stun}\"]\n[[upstream]]\nuri = \"sip:127.0.0.1:{}\"",
        free().port()
    )
}

#[test]
fn a_silent_stun_server_holds_the_start_for_two_seconds_at_most() {
    let (_silent, stun) = udp();
    let daemon = Daemon::start("silent", &office(stun, free()));
    assert!(daemon.took < Duration::from_secs(3), "{:?}", daemon.took);
    assert!(daemon.banner.contains("NOT KNOWN: no STUN server answers"), "{}", daemon.banner);
    assert!(daemon.http("/healthz").contains("200 OK"));
}

#[test]
fn the_address_that_stun_finds_is_shown() {
    let (server, stun) = udp();
    let public: SocketAddr = "203.0.113.7:41234".parse().unwrap();
    std::thread::spawn(move || {
        let mut room = [0; 2048];
        while let Ok((length, from)) = server.recv_from(&mut room) {
            if let Some(answer) = wire::stun::answer(&room[..length], public) {
                server.send_to(&answer, from).unwrap();
            }
        }
    });
    let daemon = Daemon::start("found", &office(stun, free()));
    assert!(daemon.banner.contains("203.0.113.7:41234, found by STUN"), "{}", daemon.banner);
    assert!(daemon.took < Duration::from_secs(2), "{:?}", daemon.took);
    let page = daemon.http("/metrics");
    assert!(page.contains("siplatch_stun_up{side=\"outer\"} 1"), "{page}");
}

#[test]
fn a_second_daemon_with_the_same_state_leaves_the_first_ones_socket_alone() {
    let (one, two) = (free(), free());
    let first = Daemon::start("first", &format!("[inner]\nlisten = [\"udp:{one}\"]"));
    let file = first.dir.join("siplatch.toml");
    let mut second = Command::new(env!("CARGO_BIN_EXE_siplatch"))
        .args(["run", "--listen", &format!("udp:{two}"), "--metrics-listen", &free().to_string(), "--config"])
        .arg(file)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(second.stdout.take().unwrap());
    let mut banner = String::new();
    while !banner.contains("\nStatus ") {
        assert!(lines.read_line(&mut banner).unwrap() > 0, "{banner}");
    }
    assert!(banner.contains("there is no control socket"), "{banner}");
    second.kill().unwrap();
    second.wait().unwrap();
    assert!(String::from_utf8_lossy(&first.status(&[]).stdout).contains(&one.to_string()));
}
