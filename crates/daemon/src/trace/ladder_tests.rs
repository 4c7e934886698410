use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use media::ports;
use proxy::{Filter, Input, Output, Proxy};
use wire::{Flow, ListenerId, Transmit, Transport};

use super::*;
use crate::config::{Machine, Sources, load};

const PHONE: &str = "192.168.1.20:5060";
const PROVIDER: &str = "203.0.113.5:5060";

/// An office with one phone, a machine of fixed seed and its watcher's paper.
struct Office {
    proxy: Proxy,
    now: Instant,
    at: Duration,
    ladder: Ladder,
    paper: String,
    sent: VecDeque<Transmit>,
}

fn office() -> Office {
    let text = "role = \"office\"\n[inner]\nlisten = [\"udp:192.168.1.2:5060\"]\n[outer]\nlisten = \
                [\"udp:192.168.1.2:5070\"]\nadvertise = \"198.51.100.7\"\n[[upstream]]\nuri = \
                \"sip:203.0.113.5\"\n[[phone]]\nname = \"reception\"\nuser = \"alice\"\n";
    let sources = Sources { file: Some(("office.toml".to_owned(), text.to_owned())), ..Sources::default() };
    let machine = Machine { ipv6: false, processors: 1, state_dirs: vec!["/var/lib".into()], metrics_open: false };
    let config = load(&sources, &machine).unwrap().proxy;
    let now = net::clock::now();
    let proxy = Proxy::new(now, config, [7; 32], [9; 32]);
    // 2026-01-02 03:04:05.
    let at = Duration::from_secs(1_767_323_045);
    let mut office = Office { proxy, now, at, ladder: Ladder::default(), paper: String::new(), sent: VecDeque::new() };
    office.drain();
    office.sent.clear();
    office
}

impl Office {
    fn watch(&mut self, target: &str) {
        self.proxy.handle_input(self.now, Input::Watch { watcher: 0, filter: Filter::new(target) });
    }

    fn drain(&mut self) {
        while let Some(output) = self.proxy.poll_output() {
            if let Output::Transmit(transmit) = output {
                self.sent.push_back(transmit);
            } else if let Output::Traced(traced) = output {
                self.paper += &self.ladder.text(&Entry::new(self.at, &traced));
            } else if let Output::Ports(ports::Command::Bind { pair, discover: _ }) = output {
                self.proxy.handle_input(self.now, Input::Ports(ports::Event::Bound { pair }));
            }
        }
    }

    fn receive(&mut self, from: &str, text: &str) {
        self.now += Duration::from_millis(7);
        self.at += Duration::from_millis(7);
        let remote: SocketAddr = from.parse().unwrap();
        let inner = remote.ip() == PHONE.parse::<SocketAddr>().unwrap().ip();
        let (listener, port) = if inner { (ListenerId(0), 5060) } else { (ListenerId(1), 5070) };
        let local = SocketAddr::from(([192, 168, 1, 2], port));
        let flow = Flow { transport: Transport::Udp, listener, connection: 0, local, remote };
        self.proxy.handle_input(self.now, Input::Received { flow, bytes: text.as_bytes() });
        self.drain();
    }

    /// The last message that was sent to this address.
    fn sent(&self, to: &str) -> String {
        let last = self.sent.iter().rfind(|transmit| transmit.flow.remote.to_string() == to).unwrap();
        String::from_utf8(last.bytes.clone()).unwrap()
    }

    /// The phone sends a request.
    fn phone(&mut self, method: &str, uri: &str, to: &str, cseq: u32, more: &str, body: &str) {
        let call = if method == "REGISTER" { "r1" } else { "c1" };
        let text = format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {PHONE};branch=z9hG4bK{method}{cseq};rport\r\nMax-Forwards: \
             70\r\nFrom: <sip:alice@provider.example>;tag=a\r\nTo: {to}\r\nCall-ID: {call}@192.168.1.20\r\nCSeq: {cseq} \
             {method}\r\n{more}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.receive(PHONE, &text);
    }

    /// The provider answers what it was sent last.
    fn answer(&mut self, status: &str, more: &str, body: &str) {
        let request = self.sent(PROVIDER);
        let copied = |name: &str| -> String {
            let lines = request.lines().filter(|line| line.starts_with(name));
            lines.map(|line| format!("{line}\r\n")).collect()
        };
        let to = copied("To:");
        let to = if to.contains("tag=") { to } else { to.replace("\r\n", ";tag=b\r\n") };
        let head = ["Via:", "Record-Route:", "From:", "Call-ID:", "CSeq:"].map(copied).concat();
        let text = format!("SIP/2.0 {status}\r\n{head}{to}{more}Content-Length: {}\r\n\r\n{body}", body.len());
        self.receive(PROVIDER, &text);
    }
}

fn sdp(address: &str, port: u16) -> String {
    format!(
        "v=0\r\no=- 1 1 IN IP4 {address}\r\ns=-\r\nc=IN IP4 {address}\r\nt=0 0\r\nm=audio {port} RTP/SAVP 0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz\r\n"
    )
}

const ALICE: &str = "Contact: <sip:alice@192.168.1.20:5060>\r\n";
const BOB: &str = "Contact: <sip:bob@203.0.113.5:5060>\r\n";
const CREDENTIALS: &str = "Authorization: Digest username=\"alice\", realm=\"p\", nonce=\"n\", uri=\"sip:p\", response=\"0123456789abcdef0123456789abcdef\"\r\n";

fn register(office: &mut Office) {
    let more = format!("{CREDENTIALS}{ALICE}Expires: 60\r\n");
    office.phone("REGISTER", "sip:provider.example", "<sip:alice@provider.example>", 1, &more, "");
    let contact = office.sent(PROVIDER).lines().find(|line| line.starts_with("Contact:")).unwrap().to_owned();
    office.answer("200 OK", &format!("{contact};expires=60\r\n"), "");
}

fn call(office: &mut Office) {
    let (uri, bob) = ("sip:bob@provider.example", "<sip:bob@provider.example>");
    let media = "Content-Type: application/sdp\r\n";
    office.phone("INVITE", uri, bob, 1, &format!("{ALICE}{media}"), &sdp("192.168.1.20", 4000));
    office.phone("INVITE", uri, bob, 1, &format!("{ALICE}{media}"), &sdp("192.168.1.20", 4000));
    office.answer("180 Ringing", BOB, "");
    office.answer("200 OK", &format!("{BOB}{media}"), &sdp("203.0.113.9", 5000));
    let answer = office.sent(PHONE);
    let field = |name: &str| answer.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    let (target, route) = (field("Contact:"), format!("Route: {}\r\n", field("Record-Route:")));
    let target = target.trim_start_matches('<').split('>').next().unwrap().to_owned();
    let bob = format!("{bob};tag=b");
    office.phone("ACK", &target, &bob, 1, &route, "");
    office.phone("BYE", &target, &bob, 2, &route, "");
    office.answer("200 OK", "", "");
}

#[test]
fn the_ladder_of_a_call() {
    let mut office = office();
    office.watch("alice");
    register(&mut office);
    call(&mut office);
    let paper = &office.paper;
    for secret in ["0123456789abcdef", "WVNfX19zZW1j"] {
        assert!(!paper.contains(secret), "{secret} is shown");
    }
    let path = format!("{}/../../tests/golden/trace/call.txt", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("GOLDEN_WRITE").is_some() {
        std::fs::write(&path, paper).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), *paper);
}

/// How many messages a watcher of this is told of.
fn told(target: &str) -> usize {
    let mut office = office();
    register(&mut office);
    office.watch(target);
    call(&mut office);
    office.paper.lines().filter(|line| line.contains(">|") || line.contains("|<")).count()
}

#[test]
fn a_call_is_found_by_whatever_names_it() {
    let all = told("alice");
    assert!(all > 10, "{all}");
    for target in ["c1@192.168.1.20", "c1@192.", "bob", "sip:bob@provider.example", "reception"] {
        assert_eq!(told(target), all, "{target}");
    }
    // Whoever is named by address or phone is followed through the whole call.
    for target in ["192.168.1.20", "::ffff:192.168.1.20"] {
        assert_eq!(told(target), all, "{target}");
    }
    for target in ["c1@", "carol", "bob@other.example", "c1@192.168.1.21", "192.168.1.21", "ali"] {
        assert_eq!(told(target), 0, "{target}");
    }
}

#[test]
fn nobody_is_told_when_nobody_watches() {
    let mut office = office();
    register(&mut office);
    call(&mut office);
    assert_eq!(office.paper, "");
    let mut office = self::office();
    office.watch("alice");
    office.watch("");
    register(&mut office);
    assert_eq!(office.paper, "");
}
