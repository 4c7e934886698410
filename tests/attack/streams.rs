//! S2: connections that burst and vanish, drip, promise giants or stay half
//! open. They cost what strangers may cost and no more; phones on connections
//! of their own do not notice, but for what is new while a burst makes siplatch lag
//! (503, ADR 13), and a transaction outlives its connection.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use peer::{Draft, Message, StreamPhone, World, accept, connect_from, credentials, reset};

use crate::{full, scaled, turn, verdict};

pub(crate) const ROW: &str = "S2 streams";
/// What any of these may add to the memory.
pub(crate) const GROWTH_KIB: u64 = 24 * 1024;
/// Longer than anything here may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(8);

/// The lag in seconds from which on whatever is new is refused, by 503 with Retry-After.
const REFUSED_FROM: f64 = 0.1;

/// How long a message may have waited before it was read, in seconds.
fn lag(world: &World) -> f64 {
    let page = world.daemon.metrics();
    let line = page.lines().find(|line| line.starts_with("siplatch_signalling_lag_seconds ")).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// Connections that have ended, by reason.
pub(crate) fn closed(world: &World) -> BTreeMap<String, u64> {
    let page = world.daemon.metrics();
    let mut by_reason = BTreeMap::new();
    for line in page.lines().filter(|line| line.starts_with("siplatch_connections_closed_total{")) {
        let reason = line.split("reason=\"").nth(1).unwrap().split('"').next().unwrap();
        let count = line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64;
        *by_reason.entry(reason.to_owned()).or_default() += count;
    }
    by_reason
}

/// What has ended since, by reason.
pub(crate) fn since(world: &World, before: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let now = closed(world);
    now.into_iter().map(|(reason, count)| (reason.clone(), count - before[&reason])).filter(|(_, n)| *n > 0).collect()
}

pub(crate) fn listed(reasons: &BTreeMap<String, u64>) -> String {
    let all: Vec<String> = reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    all.join(", ")
}

/// As many sockets as this process may have beside what it needs otherwise.
pub(crate) fn most_sockets() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    line.split_whitespace().nth(3).unwrap().parse::<usize>().unwrap_or(usize::MAX).saturating_sub(300)
}

/// Waits until it is so.
pub(crate) fn until(what: &str, patience: Duration, so: impl Fn() -> bool) {
    let deadline = Instant::now() + patience;
    while !so() {
        assert!(Instant::now() < deadline, "{what} does not come about");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A world with a call, and a phone on a connection beside it.
pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) carol: StreamPhone,
}

impl Scene {
    fn new() -> Self {
        let world = World::standalone(true, "warn");
        let carol = StreamPhone::tcp("carol", world.net.ip(50), world.sip);
        assert_eq!(carol.register(&world.domain, "secret"), 200);
        Self { world, carol }
    }

    /// The phone on its connection is reached, and reaches.
    pub(crate) fn is_unharmed(&self) {
        let Self { world, carol } = self;
        let answer = carol.ask(&carol.draft("OPTIONS", &format!("sip:alice@{}", world.sip))).expect("an answer");
        assert_eq!(answer.status(), Some(200), "{answer:?}");
        let call_in = world.alice.draft("OPTIONS", &format!("sip:carol@{}", world.sip));
        let id = call_in.value("Call-ID").unwrap().to_owned();
        assert_eq!(world.alice.ask(world.sip, &call_in).unwrap().status(), Some(200));
        let seen = carol.wait(PATIENCE, |m| m.method() == Some("OPTIONS") && m.value("Call-ID") == Some(&id));
        assert!(seen.is_some(), "the phone on its connection is not reached");
    }

    /// Somebody new registers from there.
    fn lets_in(&self, ip: IpAddr) {
        let dave = StreamPhone::tcp("dave", ip, self.world.sip);
        assert_eq!(dave.register(&self.world.domain, "secret"), 200, "a newcomer from {ip}");
    }
}

fn over_tcp(draft: &Draft) -> Draft {
    draft.clone().set("Via", &draft.value("Via").unwrap().replacen("/UDP ", "/TCP ", 1))
}

/// INVITEs in one segment, and the connection is gone: half of them with a reset.
#[test]
fn s2_bursts_then_close() {
    let _turn = turn();
    let scene = Scene::new();
    let world = &scene.world;
    let call = world.call();
    let (before, began) = (closed(world), world.daemon.resident());
    let (count, burst) = (scaled(5000), 10);
    let mut refused = 0;
    for number in 0..count {
        let ip = world.net.ip(100 + (number % 100) as u8);
        let Ok(mut stream) = connect_from(ip, world.sip) else {
            refused += 1;
            continue;
        };
        let from = stream.local_addr().unwrap();
        let mut bytes = Vec::new();
        for _ in 0..burst {
            let draft = Draft::new("INVITE", &format!("sip:bob@{}", world.sip), "mallory", from);
            let draft = over_tcp(&draft).add("Contact", &format!("<sip:mallory@{from};transport=tcp>"));
            bytes.extend(draft.sdp("v=0\r\n").bytes());
        }
        let _ = stream.write_all(&bytes);
        if number % 2 == 0 {
            reset(stream);
        }
        if number == count / 2 {
            until("the end of the lag", PATIENCE, || lag(world) < REFUSED_FROM);
            scene.is_unharmed();
            scene.lets_in(world.net.ip(100));
        }
    }
    until("the end of the lag", PATIENCE, || lag(world) < REFUSED_FROM);
    scene.is_unharmed();
    let ended = || since(world, &before).values().sum::<u64>();
    until("the end of all bursts", PATIENCE * 4, || ended() >= (count - refused) as u64);
    let growth = world.daemon.resident().saturating_sub(began);
    assert!(growth < GROWTH_KIB, "{growth} KiB");
    let figure = format!(
        "{count} bursts of {burst} INVITE then close: {refused} not let in, ended: {}; +{:.1} MiB",
        listed(&since(world, &before)),
        growth as f64 / 1024.0
    );
    verdict(ROW, &figure, &call.hang_up());
}

/// A length that nobody sends, and one that is a lie.
#[test]
fn s2_giant_content_length() {
    let _turn = turn();
    let scene = Scene::new();
    let world = &scene.world;
    let call = world.call();
    let (before, began) = (closed(world), world.daemon.resident());
    let lengths = ["4294967295", "18446744073709551616", &"9".repeat(40), "65537", "-1", "0x10", "1e9"];
    let count = scaled(2000);
    for number in 0..count {
        let mut stream = connect_from(world.net.ip(60 + (number % 4) as u8), world.sip).unwrap();
        let from = stream.local_addr().unwrap();
        let draft = over_tcp(&Draft::new("INVITE", &format!("sip:bob@{}", world.sip), "mallory", from));
        stream.write_all(&draft.set("Content-Length", lengths[number % lengths.len()]).bytes()).unwrap();
        // It is told nothing that it could not know, and its connection ends.
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut room = [0; 4096];
        while stream.read(&mut room).is_ok_and(|length| length > 0) {}
    }
    scene.is_unharmed();
    let ended = since(world, &before);
    assert_eq!(ended.get("unframed"), Some(&(count as u64)), "{ended:?}");
    let growth = world.daemon.resident().saturating_sub(began);
    assert!(growth < GROWTH_KIB, "{growth} KiB");
    let figure =
        format!("{count} giant Content-Lengths, closed: {}; +{:.1} MiB", listed(&ended), growth as f64 / 1024.0);
    verdict(ROW, &figure, &call.hang_up());
}

/// All but the end of the longest message, on as many connections as one can have.
#[test]
fn s2_messages_that_do_not_end() {
    let _turn = turn();
    let scene = Scene::new();
    let world = &scene.world;
    let call = world.call();
    let (before, began) = (closed(world), world.daemon.resident());
    let count = scaled(2400).min(most_sockets());
    let draft = Draft::new("MESSAGE", &format!("sip:bob@{}", world.sip), "mallory", world.sip);
    let mut bytes = over_tcp(&draft).set("Content-Length", "64000").bytes();
    bytes.resize(bytes.len() + 63_000, b'x');
    let mut held = Vec::new();
    let mut peak = 0;
    for number in 0..count {
        let mut stream = connect_from(world.net.ip(60 + (number % 8) as u8), world.sip).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let _ = stream.write_all(&bytes);
        held.push(stream);
        if number % 50 == 0 {
            peak = peak.max(world.daemon.resident());
        }
        if number == count / 2 {
            scene.is_unharmed();
            scene.lets_in(world.net.ip(60));
        }
    }
    scene.is_unharmed();
    let growth = peak.max(world.daemon.resident()).saturating_sub(began);
    let ended = since(world, &before);
    assert!(growth < GROWTH_KIB, "{growth} KiB, {ended:?}");
    let figure = format!(
        "{count} messages of 64,000 octets that do not end: closed: {}; +{:.1} MiB at most",
        listed(&ended),
        growth as f64 / 1024.0
    );
    verdict(ROW, &figure, &call.hang_up());
}

/// Half-open connections from one source, and headers that come octet by octet.
#[test]
fn s2_half_open_and_slow() {
    let _turn = turn();
    let scene = Scene::new();
    let world = &scene.world;
    let call = world.call();
    let (before, began) = (closed(world), world.daemon.resident());
    let count = scaled(1500).min(most_sockets() / 2);
    let ip = world.net.ip(60);
    let open = |_| connect_from(ip, world.sip).unwrap();
    let half_open: Vec<TcpStream> = (0..count).map(open).collect();
    let mut slow: Vec<TcpStream> = (0..scaled(300)).map(open).collect();
    let header = b"INVITE sip:bob@example.net SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1;branch=z9hG4bKslow\r\nTo: ";
    let mut drip = |at: usize| {
        for stream in &mut slow {
            let _ = stream.write_all(&header[at % header.len()..=at % header.len()]);
        }
    };
    drip(0);
    scene.is_unharmed();
    // The oldest of that source make room for whoever comes from there.
    scene.lets_in(ip);
    let strangers = world.daemon.figure("siplatch_connections_strangers", "");
    let sockets = count + scaled(300);
    assert!(strangers <= 512.0 && strangers < sockets as f64 + 1.0, "{strangers} of {sockets}");
    let mut seconds = 0;
    if full() {
        let gone = Instant::now();
        let mut at = 1;
        while since(world, &before).values().sum::<u64>() < sockets as u64 {
            assert!(gone.elapsed() < Duration::from_secs(60), "{:?} of {sockets}", since(world, &before));
            drip(at);
            at += 1;
            std::thread::sleep(Duration::from_millis(500));
        }
        seconds = gone.elapsed().as_secs();
        scene.is_unharmed();
    }
    drop(half_open);
    let growth = world.daemon.resident().saturating_sub(began);
    assert!(growth < GROWTH_KIB, "{growth} KiB");
    let waited = if full() { format!(", all of them within {seconds} s") } else { String::new() };
    let figure = format!(
        "{count} half-open and {} dripping connections of one source: {strangers} kept, closed: {}{waited}; +{:.1} MiB",
        scaled(300),
        listed(&since(world, &before)),
        growth as f64 / 1024.0
    );
    verdict(ROW, &figure, &call.hang_up());
}

/// Who sent the request has gone: the answer finds it over a new connection
/// (RFC 3261 §18.2.2). Who was to get it has gone: the caller hears so at once.
#[test]
fn s2_a_transaction_outlives_its_connection() {
    let _turn = turn();
    // Bob tells when he is asked, and answers when he is told that the connection has ended.
    let (asked, asks) = channel();
    let (ended, ends) = channel();
    let (asked, ends, others) = (Mutex::new(asked), Mutex::new(ends), accept());
    let bob: peer::Answers = Arc::new(move |message, sdp| {
        if message.value("From").is_some_and(|from| from.ends_with("tag=s2")) && message.method() != Some("ACK") {
            asked.lock().unwrap().send(message.value("Call-ID").unwrap().to_owned()).unwrap();
            ends.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        }
        others(message, sdp)
    });
    let world = World::standalone_with(bob, true, "warn");
    let call = world.call();
    let count = scaled(100);
    let here = SocketAddr::new(world.net.ip(61), 5070);
    let listener = TcpListener::bind(here).unwrap();
    let mut answered = 0;
    for number in 0..count {
        let method = if number % 4 < 2 { "INVITE" } else { "MESSAGE" };
        let uri = format!("sip:bob@{}", world.sip);
        let request = |given: Option<&str>| {
            let draft = over_tcp(&Draft::new(method, &uri, "alice", here));
            let draft = draft.set("From", &format!("<sip:alice@{}>;tag=s2", world.domain));
            let draft = draft.add("Contact", &format!("<sip:alice@{here};transport=tcp>"));
            let draft = if method == "INVITE" { draft.sdp(&world.alice.sdp()) } else { draft };
            given.map_or(draft.clone(), |given| draft.add("Proxy-Authorization", given))
        };
        let mut stream = connect_from(here.ip(), world.sip).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&request(None).bytes()).unwrap();
        let challenge = read_message(&mut stream, world.sip);
        assert_eq!(challenge.status(), Some(407), "{challenge:?}");
        let given = credentials(&challenge, method, &uri, "alice", "secret");
        let request = request(Some(&given));
        stream.write_all(&request.bytes()).unwrap();
        let id = request.value("Call-ID").unwrap();
        assert_eq!(asks.recv_timeout(PATIENCE).as_deref(), Ok(id));
        let before = closed(&world);
        if number % 2 == 0 {
            reset(stream);
        } else {
            drop(stream);
        }
        until("its end", PATIENCE, || !since(&world, &before).is_empty());
        ended.send(()).unwrap();
        listener.set_nonblocking(true).unwrap();
        let deadline = Instant::now() + PATIENCE;
        let mut back = loop {
            match listener.accept() {
                Ok((stream, _)) => break stream,
                Err(_) => assert!(Instant::now() < deadline, "{number}: no answer over a new connection"),
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        back.set_nonblocking(false).unwrap();
        back.set_read_timeout(Some(PATIENCE)).unwrap();
        let answer = read_message(&mut back, world.sip);
        assert_eq!((answer.status(), answer.value("Call-ID")), (Some(200), Some(id)), "{answer:?}");
        answered += 1;
    }
    let mut longest = Duration::ZERO;
    for _ in 0..scaled(100).min(20) {
        let dave = StreamPhone::tcp("dave", world.net.ip(62), world.sip);
        assert_eq!(dave.register(&world.domain, "secret"), 200);
        drop(dave);
        let draft = world.alice.draft("MESSAGE", &format!("sip:dave@{}", world.sip));
        let asked = Instant::now();
        let answer = world.alice.ask(world.sip, &draft).expect("an answer");
        assert_eq!(answer.status(), Some(480), "{answer:?}");
        longest = longest.max(asked.elapsed());
    }
    assert!(longest < Duration::from_secs(1), "{longest:?}");
    let figure = format!(
        "{answered} of {count} answers over a new connection to senders that had closed; phones that had closed: 480 \
         within {} ms",
        longest.as_millis()
    );
    verdict(ROW, &figure, &call.hang_up());
}

/// One message; nothing may follow it.
fn read_message(stream: &mut TcpStream, from: SocketAddr) -> Message {
    let mut read = Vec::new();
    let mut octet = [0];
    while !read.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut octet).unwrap();
        read.push(octet[0]);
    }
    let length = Message::new(&read, from).value("Content-Length").map_or(0, |l| l.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    Message::new(&[read, body].concat(), from)
}
