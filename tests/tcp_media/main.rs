//! TCP media (RFC 4145) through the running program: two ends that both open
//! their connection, as ends behind NATs do, and each heard by the other octet by octet.
#![allow(clippy::unwrap_used, reason = "a test that unwraps in vain has failed")]
#![allow(clippy::disallowed_methods, reason = "the test is the world around the program: its sockets and its clock")]

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use peer::{Daemon, Dialog, Draft, Line, Loopback, Message, connect_from};

const DOMAIN: &str = "example.net";
const PATIENCE: Duration = Duration::from_secs(10);

/// A border with a phone outside and a core inside.
struct World {
    net: Loopback,
    daemon: Daemon,
    phone: Arc<Line>,
    core: Arc<Line>,
    outer: SocketAddr,
    inner: SocketAddr,
}

impl World {
    fn new() -> Self {
        let net = Loopback::new();
        let (outer, inner) = (net.at(1, 5060), net.at(2, 5060));
        let core = Arc::new(Line::udp("core", net.at(10, 5060)));
        let config = format!(
            "role = \"border\"\n[outer]\nlisten = [\"udp:{outer}\"]\nadvertise = \"listen\"\n[inner]\nlisten = \
             [\"udp:{inner}\"]\nadvertise = \"listen\"\n[[upstream]]\nuri = \"sip:{}\"\n",
            core.address
        );
        let daemon = Daemon::start(net, &config, "warn");
        let phone = Arc::new(Line::udp("alice", net.at(20, 5060)));
        phone.register(outer, DOMAIN);
        Self { net, daemon, phone, core, outer, inner }
    }

    /// A connection from one of its addresses.
    fn connect(&self, host: u8, to: SocketAddr) -> TcpStream {
        let stream = connect_from(self.net.ip(host), to).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Waits until a figure is so.
    fn settles(&self, name: &str, labels: &str, wanted: f64) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let figure = self.daemon.figure(name, labels);
            if (figure - wanted).abs() < 0.1 {
                return;
            }
            assert!(Instant::now() < deadline, "{name} {labels} is {figure}");
            std::thread::yield_now();
        }
    }
}

/// A body with audio and a line of BFCP.
fn sdp(ip: IpAddr, version: u32, port: u16, attributes: &[&str]) -> String {
    let attributes: String = attributes.iter().map(|attribute| format!("a={attribute}\r\n")).collect();
    format!(
        "v=0\r\no=- 7 {version} IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio 4000 RTP/AVP \
         0\r\nm=application {port} TCP/BFCP *\r\n{attributes}"
    )
}

/// Where the BFCP line of a body is, and whether it has this attribute.
fn bfcp(message: &Message, attribute: &str) -> SocketAddr {
    let body = message.body();
    let (head, section) = body.split_once("m=application ").unwrap();
    assert!(section.contains(&format!("a={attribute}\r\n")), "no {attribute} in {body}");
    let ip = head.lines().find_map(|line| line.strip_prefix("c=IN IP4 ")).unwrap();
    let port = section.split(' ').next().unwrap();
    SocketAddr::new(ip.parse().unwrap(), port.parse().unwrap())
}

/// Two ends of a call.
struct Call {
    caller: Dialog,
    callee: Dialog,
}

impl Call {
    fn new(world: &World) -> Self {
        let caller = Dialog::caller(&world.phone, world.outer, &format!("sip:bob@{DOMAIN}"));
        let callee = Dialog::callee(&world.core, world.inner, &caller.call_id, "there");
        Self { caller, callee }
    }

    /// The caller's INVITE, as sent and as it came.
    fn invite(&mut self, body: &str) -> (Draft, Message) {
        let invite = self.caller.draft("INVITE").sdp(body);
        self.caller.send(&invite);
        (invite, self.callee.invited().unwrap())
    }

    /// The callee's 200, as it came.
    fn accept(&mut self, invite: &Draft, invited: &Message, body: &str) -> Message {
        self.callee.reply(invited, "200 OK", "", body);
        let ok = self.caller.response(invite, 200).unwrap();
        self.caller.learn(&ok);
        let ack = self.caller.ack(invite);
        self.caller.send(&ack);
        self.callee.request("ACK").unwrap();
        ok
    }

    /// The caller's re-INVITE, as it came, and the callee's 200.
    fn again(&mut self, offer: &str, answer: &str) -> [Message; 2] {
        let invite = self.caller.draft("INVITE").sdp(offer);
        self.caller.send(&invite);
        let invited = self.callee.request("INVITE").unwrap();
        let ok = self.accept(&invite, &invited, answer);
        [invited, ok]
    }

    fn hang_up(mut self) {
        let bye = self.caller.draft("BYE");
        self.caller.send(&bye);
        let got = self.callee.request("BYE").unwrap();
        self.callee.reply(&got, "200 OK", "", "");
        self.caller.response(&bye, 200).unwrap();
    }
}

fn hears(stream: &mut TcpStream, what: &[u8]) {
    let mut room = vec![0; what.len()];
    stream.read_exact(&mut room).unwrap();
    assert_eq!(room, what);
}

fn is_ended(stream: &mut TcpStream) {
    let read = stream.read(&mut [0; 64]);
    assert!(matches!(&read, Ok(0)) || read.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
}

/// So many octets both ways at once, then the end, both ways.
fn exchange(a: TcpStream, b: TcpStream, octets: usize) {
    let pattern = |seed: u8| (0..octets).map(|at| (at as u8).wrapping_mul(31) ^ (at >> 8) as u8 ^ seed).collect();
    let send: [Vec<u8>; 2] = [pattern(1), pattern(2)];
    let talk = |stream: &TcpStream, octets: &[u8]| {
        let mut stream = stream;
        stream.write_all(octets).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
    };
    let listen = |stream: &TcpStream, octets: &[u8]| {
        let (mut stream, mut heard) = (stream, Vec::new());
        stream.read_to_end(&mut heard).unwrap();
        assert!(heard == octets, "octets differ");
    };
    std::thread::scope(|scope| {
        scope.spawn(|| talk(&a, &send[0]));
        scope.spawn(|| talk(&b, &send[1]));
        scope.spawn(|| listen(&a, &send[1]));
        scope.spawn(|| listen(&b, &send[0]));
    });
}

#[test]
fn two_active_ends_are_spliced_by_the_running_program() {
    let world = World::new();
    let (phone, core) = (world.phone.address.ip(), world.core.address.ip());
    let mut call = Call::new(&world);
    let active = &["setup:active", "connection:new"];
    let (invite, invited) = call.invite(&sdp(phone, 1, 9, active));
    let toward_core = bfcp(&invited, "setup:passive");
    assert_eq!(toward_core.ip(), world.inner.ip());
    // TCP is faster than SIP: it connects before its answer has come, and somebody else does, too.
    let mut stranger = world.connect(66, toward_core);
    let mut b = world.connect(10, toward_core);
    b.write_all(b"hello").unwrap();
    let ok = call.accept(&invite, &invited, &sdp(core, 1, 9, active));
    let toward_phone = bfcp(&ok, "setup:passive");
    assert_eq!(toward_phone.ip(), world.outer.ip());
    is_ended(&mut stranger);
    let mut a = world.connect(20, toward_phone);
    hears(&mut a, b"hello");
    for to in [toward_core, toward_phone] {
        is_ended(&mut world.connect(66, to));
    }
    a.write_all(b"floor request").unwrap();
    hears(&mut b, b"floor request");
    // A session refresh keeps the connection.
    let kept = &["setup:actpass", "connection:existing"];
    let [offer, answer] =
        call.again(&sdp(phone, 2, 9, kept), &sdp(core, 2, 9, &["setup:active", "connection:existing"]));
    assert_eq!(bfcp(&offer, "connection:existing"), toward_core);
    assert_eq!(bfcp(&answer, "connection:existing"), toward_phone);
    b.write_all(b"kept").unwrap();
    hears(&mut a, b"kept");
    // Another one ends it, and has the same ports.
    call.again(&sdp(phone, 3, 9, active), &sdp(core, 3, 9, active));
    is_ended(&mut a);
    is_ended(&mut b);
    exchange(world.connect(20, toward_phone), world.connect(10, toward_core), 1 << 20);
    call.hang_up();
    world.settles("siplatch_ports_live", "", 0.0);
    for to in [toward_core, toward_phone] {
        let deadline = Instant::now() + PATIENCE;
        while connect_from(world.net.ip(20), to).is_ok() {
            assert!(Instant::now() < deadline, "{to} is listened on after the call");
        }
    }
    assert_eq!(world.daemon.figure("siplatch_ports_orphaned", ""), 0.0);
    let outcome = "siplatch_media_tcp_connections_total";
    world.settles(outcome, "outcome=\"refused\",side=\"inner\"", 2.0);
    world.settles(outcome, "outcome=\"refused\",side=\"outer\"", 1.0);
    world.settles(outcome, "outcome=\"accepted\"", 4.0);
    let octets = f64::from(1 << 20);
    world.settles("siplatch_media_tcp_bytes_total", "direction=\"in\",side=\"outer\"", octets + 13.0);
    world.settles("siplatch_media_tcp_bytes_total", "direction=\"out\",side=\"outer\"", octets + 9.0);
}

#[test]
fn an_end_that_only_listens_is_connected_to_where_its_signalling_comes_from() {
    let world = World::new();
    let (phone, core) = (world.phone.address.ip(), world.core.address.ip());
    let listener = TcpListener::bind((phone, 0)).unwrap();
    // Somebody whom the phone would have us connect to; it never happens.
    let victim = TcpListener::bind((world.net.ip(77), 0)).unwrap();
    victim.set_nonblocking(true).unwrap();
    for (named, reached) in [(listener.local_addr().unwrap(), true), (victim.local_addr().unwrap(), false)] {
        let mut call = Call::new(&world);
        let (invite, invited) = call.invite(&sdp(named.ip(), 1, named.port(), &["setup:passive"]));
        let toward_core = bfcp(&invited, "setup:passive");
        let ok = call.accept(&invite, &invited, &sdp(core, 1, 9, &["setup:active"]));
        assert_eq!(bfcp(&ok, "setup:active").port(), 9);
        let mut b = world.connect(10, toward_core);
        b.write_all(b"x").unwrap();
        if reached {
            let (mut a, from) = listener.accept().unwrap();
            assert_eq!(from.ip(), world.outer.ip());
            hears(&mut a, b"x");
            exchange(a, b, 100_000);
        }
        call.hang_up();
        world.settles("siplatch_ports_live", "", 0.0);
    }
    assert_eq!(victim.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    world.settles("siplatch_media_tcp_connections_total", "outcome=\"dialled\"", 1.0);
}
