//! A kill and a restart, on loopback: a hundred phones that registered before
//! are called after, and twenty calls that were up are hung up, half of them by
//! the phones and half by the core. In front of a core (border role).
#![allow(clippy::unwrap_used, reason = "a test that unwraps in vain has failed")]
#![allow(clippy::disallowed_methods, reason = "the test is the world around the program: its sockets and its clock")]
#![allow(clippy::print_stdout, reason = "the figures are what the test is for")]

use std::io::{BufRead as _, BufReader, ErrorKind};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

const PHONES: usize = 100;
const CALLS: usize = 20;
/// Longer than any answer on loopback, also of a busy machine.
const PATIENCE: Duration = Duration::from_secs(5);

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

/// What one siplatch after another runs with.
struct Place {
    dir: PathBuf,
    /// Where phones send to, and where the core does.
    outer: SocketAddr,
    inner: SocketAddr,
}

impl Place {
    fn new(name: &str, core: SocketAddr) -> Self {
        let dir = std::env::temp_dir().join(format!("siplatch-restart-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        let (outer, inner, metrics) = (free(), free(), free());
        let config = format!(
            "role = \"border\"\n[inner]\nlisten = [\"udp:{inner}\"]\n[outer]\nlisten = [\"udp:{outer}\"]\n\
             [[upstream]]\nuri = \"sip:{core}\"\n[metrics]\nlisten = \"{metrics}\"\n[state]\ndir = \"{}/state\"\n",
            dir.display()
        );
        std::fs::write(dir.join("siplatch.toml"), config).unwrap();
        Self { dir, outer, inner }
    }

    fn start(&self) -> Daemon {
        let mut child = Command::new(env!("CARGO_BIN_EXE_siplatch"))
            .args(["run", "--log", "warn", "--config"])
            .arg(self.dir.join("siplatch.toml"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut banner, mut lines) = (String::new(), BufReader::new(child.stdout.take().unwrap()));
        while !banner.contains("\nStatus ") {
            assert!(lines.read_line(&mut banner).unwrap() > 0, "ended before its banner: {banner}");
        }
        Daemon { child, banner, _lines: lines }
    }

    fn snapshot(&self) -> String {
        std::fs::read_to_string(self.dir.join("state/snapshot")).unwrap_or_default()
    }

    /// Until the snapshot says so; how long that took.
    fn kept(&self, what: impl Fn(&str) -> bool) -> Duration {
        let began = Instant::now();
        while !what(&self.snapshot()) {
            assert!(began.elapsed() < PATIENCE, "{}", self.snapshot());
            std::thread::sleep(Duration::from_millis(1));
        }
        began.elapsed()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

struct Daemon {
    child: Child,
    banner: String,
    /// Not read any more, but open.
    _lines: BufReader<std::process::ChildStdout>,
}

impl Daemon {
    /// SIGKILL: nothing is written or said any more.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One end that reads and writes messages by hand: a phone, or the core.
struct Peer {
    socket: UdpSocket,
    address: SocketAddr,
}

impl Peer {
    fn new() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        Self { socket, address }
    }

    fn send(&self, to: SocketAddr, text: &str) {
        let length = text.split_once("\n\n").map_or(0, |(_, body)| body.len());
        let (head, body) = text.split_once("\n\n").unwrap_or((text.trim_end(), ""));
        let text = format!("{}\r\nContent-Length: {length}\r\n\r\n{body}", head.replace('\n', "\r\n"));
        self.socket.send_to(text.as_bytes(), to).unwrap();
    }

    /// The next message that fits; pings on the way are answered, so that nobody seems gone.
    fn find(&self, what: &str, fits: impl Fn(&str) -> bool) -> String {
        let (began, mut room) = (Instant::now(), [0; 9000]);
        loop {
            let left = PATIENCE.checked_sub(began.elapsed()).unwrap_or_else(|| panic!("no {what} came"));
            self.socket.set_read_timeout(Some(left)).unwrap();
            match self.socket.recv_from(&mut room) {
                Ok((length, from)) => {
                    let text = String::from_utf8_lossy(&room[..length]).replace("\r\n", "\n");
                    if text.starts_with("OPTIONS ") {
                        self.answer(from, &text, "200 OK", "");
                    } else if fits(&text) {
                        return text;
                    }
                }
                Err(error) => assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}"),
            }
        }
    }

    fn receive(&self, start: &str) -> String {
        self.find(start, |text| text.starts_with(start))
    }

    fn answer(&self, to: SocketAddr, request: &str, status: &str, more: &str) {
        let target = lines(request, "To");
        let target = if target.contains("tag=") { target } else { target.replace('\n', ";tag=callee\n") };
        let head = ["Via", "Record-Route", "From", "Call-ID", "CSeq"].map(|name| lines(request, name)).concat();
        self.send(to, &format!("SIP/2.0 {status}\n{head}{target}{more}"));
    }
}

fn lines(text: &str, name: &str) -> String {
    let head = text.split("\n\n").next().unwrap_or_default();
    let fits = |line: &&str| line.split_once(": ").is_some_and(|(found, _)| found == name);
    head.lines().filter(fits).map(|line| format!("{line}\n")).collect()
}

fn value(text: &str, name: &str) -> String {
    lines(text, name)
        .lines()
        .next()
        .and_then(|line| line.split_once(": "))
        .map(|(_, v)| v.to_owned())
        .unwrap_or_default()
}

fn uri(value: &str) -> String {
    value.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map_or(value, |(uri, _)| uri).to_owned()
}

/// Record-Route entries from top to bottom: the route set of whoever was called (RFC 3261 §12.1.1).
fn entries(text: &str) -> Vec<String> {
    let all = lines(text, "Record-Route").replace("Record-Route: ", "").replace('\n', ", ");
    all.trim_end_matches(", ").split(", ").map(str::to_owned).collect()
}

/// From bottom to top, the caller's (§12.1.2), without the entry of the core, which has taken that off.
fn turned(text: &str) -> String {
    let mut entries = entries(text);
    entries.pop();
    entries.reverse();
    entries.join(", ")
}

fn sdp(at: SocketAddr) -> String {
    format!("v=0\no=- 1 1 IN IP4 127.0.0.1\ns=-\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio {} RTP/AVP 0\n", at.port())
        .replace('\n', "\r\n")
}

/// What one end of a call needs to send a request inside it.
struct Side {
    target: String,
    route: String,
}

struct Call {
    phone: usize,
    core: Side,
    phones: Side,
}

struct World {
    place: Place,
    core: Peer,
    phones: Vec<Peer>,
    /// Our Contact that the core got with each phone's REGISTER.
    contacts: Vec<String>,
}

impl World {
    fn new(name: &str, phones: usize) -> Self {
        let core = Peer::new();
        let place = Place::new(name, core.address);
        Self { place, core, phones: (0..phones).map(|_| Peer::new()).collect(), contacts: Vec::new() }
    }

    fn register(&mut self) {
        for (n, phone) in self.phones.iter().enumerate() {
            let at = phone.address;
            phone.send(
                self.place.outer,
                &format!(
                    "REGISTER sip:example.com SIP/2.0\nVia: SIP/2.0/UDP {at};rport;branch=z9hG4bKreg{n}\nMax-Forwards: \
                     70\nFrom: <sip:phone{n}@example.com>;tag=r{n}\nTo: <sip:phone{n}@example.com>\nCall-ID: reg{n}\n\
                     CSeq: 1 REGISTER\nContact: <sip:phone{n}@{at}>\nExpires: 600\n"
                ),
            );
            let request = self.core.receive("REGISTER ");
            self.contacts.push(uri(&value(&request, "Contact")));
            let contact = format!("Contact: {};expires=600\n", value(&request, "Contact"));
            self.core.answer(self.place.inner, &request, "200 OK", &contact);
            phone.receive("SIP/2.0 200 ");
        }
    }

    /// The core's INVITE to a phone.
    fn invite(&self, phone: usize, call: &str) -> String {
        let core = self.core.address;
        self.core.send(
            self.place.inner,
            &format!(
                "INVITE {} SIP/2.0\nRecord-Route: <sip:{core};lr>\nVia: SIP/2.0/UDP {core};branch=z9hG4bKi{call}\n\
                 Max-Forwards: 70\nFrom: <sip:core@example.com>;tag=core\nTo: <sip:phone{phone}@example.com>\nCall-ID: \
                 {call}\nCSeq: 1 INVITE\nContact: <sip:core@{core}>\nContent-Type: application/sdp\n\n{}",
                self.contacts[phone],
                sdp(core)
            ),
        );
        self.phones[phone].find("INVITE", |text| text.starts_with("INVITE ") && value(text, "Call-ID") == call)
    }

    /// A call that is answered.
    fn call(&self, phone: usize) -> Call {
        let (peer, call) = (&self.phones[phone], format!("call{phone}"));
        let invite = self.invite(phone, &call);
        let contact = format!("Contact: <sip:phone{phone}@{}>\nContent-Type: application/sdp\n\n", peer.address);
        peer.answer(self.place.outer, &invite, "200 OK", &(contact + &sdp(peer.address)));
        let answer = self.core.receive("SIP/2.0 200 ");
        let core = Side { target: uri(&value(&answer, "Contact")), route: turned(&answer) };
        let phones = Side { target: uri(&value(&invite, "Contact")), route: entries(&invite).join(", ") };
        self.request("ACK", 1, phone, &self.core, self.place.inner, &core, true);
        peer.receive("ACK ");
        Call { phone, core, phones }
    }

    /// A request inside a call, from the core or from its phone.
    #[expect(clippy::too_many_arguments, reason = "a message has as many parts")]
    fn request(&self, method: &str, cseq: u32, phone: usize, by: &Peer, to: SocketAddr, side: &Side, core: bool) {
        let ends = ["<sip:core@example.com>;tag=core".to_owned(), format!("<sip:phone{phone}@example.com>;tag=callee")];
        let [from, target] = if core { [0, 1] } else { [1, 0] }.map(|end: usize| &ends[end]);
        by.send(
            to,
            &format!(
                "{method} {} SIP/2.0\nRoute: {}\nVia: SIP/2.0/UDP {};rport;branch=z9hG4bK{method}{phone}{cseq}\n\
                 Max-Forwards: 70\nFrom: {from}\nTo: {target}\nCall-ID: call{phone}\nCSeq: {cseq} {method}\n",
                side.target, side.route, by.address
            ),
        );
    }

    /// BYE from one end reaches the other, whose answer comes back. Says whether it did, as it was written.
    fn bye(&self, call: &Call, by_phone: bool) -> bool {
        let (phone, call_id) = (&self.phones[call.phone], format!("call{}", call.phone));
        let bye = |text: &str| text.starts_with("BYE ") && value(text, "Call-ID") == call_id;
        let done = |text: &str| text.starts_with("SIP/2.0 ") && value(text, "Call-ID") == call_id;
        let (sender, receiver, came_from) = if by_phone {
            self.request("BYE", 1, call.phone, phone, self.place.outer, &call.phones, false);
            (phone, &self.core, self.place.inner)
        } else {
            self.request("BYE", 2, call.phone, &self.core, self.place.inner, &call.core, true);
            (&self.core, phone, self.place.outer)
        };
        let request = receiver.find("BYE", bye);
        receiver.answer(came_from, &request, "200 OK", "");
        let answer = sender.find("answer to BYE", done);
        let wanted = if by_phone {
            // Our entries are taken off, the core's stays; the Request-URI is the core's own Contact.
            request.starts_with(&format!("BYE sip:core@{} ", self.core.address))
                && value(&request, "Route") == format!("<sip:{};lr>", self.core.address)
                && value(&request, "CSeq") == "1 BYE"
        } else {
            request.starts_with(&format!("BYE sip:phone{}@{} ", call.phone, phone.address))
                && value(&request, "Route").is_empty()
                && value(&request, "CSeq") == "2 BYE"
        };
        wanted && answer.starts_with("SIP/2.0 200 ")
    }
}

#[test]
fn phones_are_called_and_calls_are_hung_up_after_a_kill() {
    let mut world = World::new("kill", PHONES);
    let first = world.place.start();
    assert!(!first.banner.contains("Restored"), "{}", first.banner);
    world.register();
    let before = world.place.kept(|text| text.matches("\"put\":{\"binding\"").count() >= PHONES);
    let octets = world.place.snapshot().len();
    let calls: Vec<Call> = (0..CALLS).map(|phone| world.call(phone)).collect();
    // Half answered when the kill comes: nobody finds it again.
    world.invite(CALLS, "ringing");
    let last = format!("\"call_id\":\"call{}\"", CALLS - 1);
    let gathered = world.place.kept(|text| text.contains(&last)).max(before);
    let per_call = (world.place.snapshot().len() - octets) / CALLS;

    let killed = Instant::now();
    first.kill();
    let second = world.place.start();
    let started = killed.elapsed();
    let restored = second.banner.lines().find(|line| line.starts_with("Restored")).unwrap_or_default();
    assert!(restored.contains(&format!("{PHONES} registrations and {CALLS} calls, ")), "{}", second.banner);

    let asked = Instant::now();
    world.invite(PHONES - 1, "after");
    let reached = asked.elapsed();
    assert!(reached <= Duration::from_secs(5), "{reached:?}");
    let passed = [true, false].map(|by_phone| {
        let half = calls.iter().filter(|call| (call.phone % 2 == 0) == by_phone);
        half.filter(|call| world.bye(call, by_phone)).count()
    });
    println!(
        "restart: {PHONES} phones and {CALLS} calls; last change in the file after {} ms, {per_call} octets per call; up \
         again after {} ms; INVITE reached the phone in {:.1} ms; BYE passed {} of {} times from the phones, {} of {} from \
         the core",
        gathered.as_millis(),
        started.as_millis(),
        reached.as_secs_f64() * 1000.0,
        passed[0],
        CALLS / 2,
        passed[1],
        CALLS / 2,
    );
    assert_eq!(passed, [CALLS / 2; 2]);
    // A second kill finds the ends of the calls, too.
    world.place.kept(|text| text.matches("\"delete\":{\"call\"").count() >= CALLS);
    second.kill();
    let third = world.place.start();
    assert!(third.banner.contains(&format!("{PHONES} registrations and 0 calls, ")), "{}", third.banner);
}

#[test]
fn a_torn_and_damaged_file_costs_what_is_damaged() {
    let mut world = World::new("torn", 3);
    let first = world.place.start();
    world.register();
    world.place.kept(|text| text.matches("\"put\":{\"binding\"").count() >= 3);
    first.kill();
    let file = world.place.dir.join("state/snapshot");
    let mut octets = std::fs::read(&file).unwrap();
    octets.extend_from_slice(b"000002f1 89abcdef {\"at\":{\"unix_ms\":17");
    std::fs::write(&file, &octets).unwrap();
    let second = world.place.start();
    assert!(second.banner.contains("3 registrations and 0 calls, 0 s old; 1 could not be"), "{}", second.banner);
    world.invite(2, "torn");
    second.kill();
    let octets = std::fs::read(&file).unwrap();
    let at = octets.iter().position(|octet| *octet == b'\n').unwrap();
    let mut damaged = octets;
    damaged[at + 60] ^= 1;
    std::fs::write(&file, damaged).unwrap();
    let third = world.place.start();
    assert!(third.banner.contains("2 registrations and 0 calls"), "{}", third.banner);
    third.kill();
    std::fs::write(&file, b"not a snapshot").unwrap();
    let fourth = world.place.start();
    assert!(!fourth.banner.contains("Restored"), "{}", fourth.banner);
}

/// Whoever may write that directory may as well be siplatch; nobody else may read who calls whom.
#[test]
fn the_file_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let mut world = World::new("rights", 1);
    let daemon = world.place.start();
    world.register();
    world.place.kept(|text| text.contains("\"put\":{\"binding\""));
    let state = world.place.dir.join("state");
    assert_eq!((mode(&state), mode(&state.join("snapshot"))), (0o700, 0o600));
    drop(daemon);
}
