//! The signalling core in border role, between a phone behind a NAT and the
//! core: one registration, one call each way. What the peers do is not counted.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use media::{Fact, PortPair, PortRange, StreamId, ports};
use nat::{Advertise, Side};
use proxy::config::{DigestAlgorithm, Listener, Media, MediaKeepAlive, Role, Upstream};
use proxy::question::{Address, Answer, Records};
use proxy::{Config, Input, Output, Proxy};
use wire::sip::compose::Response;
use wire::sip::{Contact, Limits, Name, Status, Stored};
use wire::{Flow, ListenerId, Transport};

use crate::{Bench, measured};

pub(crate) const BENCHES: &[Bench] = &[
    Bench { name: "register", make: register },
    Bench { name: "refresh", make: refresh },
    Bench { name: "call_setup", make: call_setup },
    Bench { name: "call_setup_out", make: call_setup_out },
];

/// Between two messages. What a transaction leaves behind for 32 s is gone before the steps that count.
const PAUSE: Duration = Duration::from_millis(50);

const SDP: &str = "v=0\r\n\
    o=- 3899123456 3899123456 IN IP4 192.168.1.10\r\n\
    s=call\r\n\
    c=IN IP4 192.168.1.10\r\n\
    t=0 0\r\n\
    m=audio 40000 RTP/AVP 0 8 101\r\n\
    a=rtcp:40001\r\n\
    a=rtpmap:0 PCMU/8000\r\n\
    a=rtpmap:8 PCMA/8000\r\n\
    a=rtpmap:101 telephone-event/8000\r\n\
    a=sendrecv\r\n";

/// Who speaks with the proxy: from where, and as whom.
#[derive(Clone, Copy)]
struct Peer {
    side: Side,
    remote: ([u8; 4], u16),
    aor: &'static str,
    contact: &'static str,
}

const PHONE: Peer = Peer {
    side: Side::Outer,
    remote: ([198, 51, 100, 7], 40_000),
    aor: "sip:alice@example.com",
    contact: "sip:alice@192.168.1.10:5060;ob",
};
const CORE: Peer = Peer {
    side: Side::Inner,
    remote: ([10, 0, 0, 5], 5060),
    aor: "sip:bob@example.com",
    contact: "sip:bob@10.0.0.9:5062",
};

/// A REGISTER that goes on to the registrar, and its 200.
fn register() -> Box<dyn FnMut()> {
    let mut border = Border::new();
    Box::new(move || {
        border.register();
    })
}

/// A REGISTER that changes nothing and is answered here.
fn refresh() -> Box<dyn FnMut()> {
    let mut border = Border::new();
    border.register();
    let call_id = border.number;
    Box::new(move || {
        border.number += 1;
        let refreshed = border.send(PHONE, PHONE, &border.register_request(call_id));
        assert!(refreshed.message().status() == Some(Status(200)), "refreshed");
    })
}

/// INVITE to the registered phone, 180, 200, ACK, BYE, 200.
fn call_setup() -> Box<dyn FnMut()> {
    let mut border = Border::new();
    let uri = border.register();
    Box::new(move || border.call(CORE, PHONE, &uri))
}

/// The same from the registered phone.
fn call_setup_out() -> Box<dyn FnMut()> {
    let mut border = Border::new();
    border.register();
    Box::new(move || border.call(PHONE, CORE, CORE.aor))
}

/// The proxy, what it asked for done at once, and its peers.
struct Border {
    proxy: Proxy,
    now: Instant,
    /// The latest CSeq; names Call-IDs and branches, too.
    number: u32,
    outputs: Vec<Output>,
    sent: Vec<(Flow, Vec<u8>)>,
    pairs: BTreeMap<StreamId, [PortPair; 2]>,
}

const LISTENERS: [(Side, [u8; 4]); 2] = [(Side::Inner, [10, 0, 0, 2]), (Side::Outer, [203, 0, 113, 30])];

fn config() -> Config {
    let listener = |(side, ip): (Side, [u8; 4])| Listener {
        side,
        transport: Transport::Udp,
        accepts: true,
        secure: false,
        bind: (ip, 5060).into(),
        advertise: Advertise::Listen,
        advertise_port: None,
        phone: None,
        retired: false,
    };
    Config {
        role: Role::Border,
        listeners: LISTENERS.map(listener).into(),
        upstreams: vec![Upstream {
            host: "10.0.0.5".into(),
            port: Some(5060),
            transport: None,
            sips: false,
            domain: None,
            comedia: false,
            default_phone: None,
            fallback: Vec::new(),
        }],
        networks: vec![],
        phones: vec![],
        users: vec![],
        digest: DigestAlgorithm::PREFERRED.to_vec(),
        media: Media {
            ranges: vec![PortRange { first: 30_000, last: 30_999 }],
            keepalive: MediaKeepAlive::Stun,
            timeout: Duration::from_secs(60),
            workers: 1,
            reserve: 8,
        },
        names: vec![],
        limits: Limits::default(),
    }
}

impl Border {
    fn new() -> Self {
        let now = Instant::now();
        let proxy = Proxy::new(now, Arc::new(config()), [1; 32], [2; 32]);
        let (outputs, pairs) = (Vec::with_capacity(64), BTreeMap::new());
        let mut border = Self { proxy, now, number: 0, outputs, sent: Vec::new(), pairs };
        border.follow();
        border
    }

    /// The phone registers; the address at which the core reaches it.
    fn register(&mut self) -> String {
        self.number += 1;
        // Of the Call-ID that was confirmed it would be answered here.
        let asked = self.send(PHONE, CORE, &self.register_request(self.number));
        let bound = contact_of(&asked);
        let granted = answer(&asked, 200, &format!("Contact: <{bound}>;expires=4000000000\r\n"), "");
        let done = self.send(CORE, PHONE, &granted);
        assert!(done.message().status() == Some(Status(200)), "registered");
        bound
    }

    fn register_request(&self, call_id: u32) -> String {
        let dialog = format!("To: <{}>\r\nCall-ID: register{call_id}@192.168.1.10\r\n", PHONE.aor);
        let contact = format!("Contact: <{}>;expires=3600\r\n", PHONE.contact);
        self.request(PHONE, "REGISTER", "sip:example.com", &dialog, &contact, "")
    }

    fn call(&mut self, caller: Peer, callee: Peer, uri: &str) {
        self.number += 1;
        let call_id = format!("Call-ID: call-{}@192.168.1.10\r\n", self.number);
        let new = format!("To: <{}>\r\n{call_id}", callee.aor);
        let [from, to] = [caller, callee].map(|peer| format!("Contact: <{}>\r\n", peer.contact));
        let invited = self.send(caller, callee, &self.request(caller, "INVITE", uri, &new, &from, SDP));
        let recorded: String =
            invited.message().values(Name::RecordRoute).map(|v| format!("Record-Route: {}\r\n", text(v))).collect();
        let extra = recorded + &to;
        self.send(callee, caller, &answer(&invited, 180, &extra, ""));
        let accepted = self.send(callee, caller, &answer(&invited, 200, &extra, SDP));
        let target = contact_of(&accepted);
        let mut routes: Vec<_> =
            accepted.message().values(Name::RecordRoute).map(|v| format!("Route: {}\r\n", text(v))).collect();
        routes.reverse();
        let to = accepted.message().value(Name::To).map(text).unwrap_or_default();
        let known = format!("{}To: {to}\r\n{call_id}", routes.concat());
        self.send(caller, callee, &self.request(caller, "ACK", &target, &known, "", ""));
        self.number += 1;
        let ended = self.send(caller, callee, &self.request(caller, "BYE", &target, &known, "", ""));
        let done = self.send(callee, caller, &answer(&ended, 200, "", ""));
        assert!(done.message().status() == Some(Status(200)), "ended");
    }

    /// A request as a phone writes it, about 800 octets with SDP; `dialog`: what names the dialog.
    fn request(&self, from: Peer, method: &str, uri: &str, dialog: &str, contact: &str, body: &str) -> String {
        let (aor, number, length) = (from.aor, self.number, body.len());
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        format!(
            "{method} {uri} SIP/2.0\r\n\
             Via: SIP/2.0/UDP 192.168.1.10:5060;rport;branch=z9hG4bK-524287-1---{method}{number:08}\r\n\
             Max-Forwards: 70\r\n\
             From: <{aor}>;tag=a73kszlfl\r\n\
             {dialog}CSeq: {number} {method}\r\n\
             {contact}Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, UPDATE, PRACK\r\n\
             Supported: replaces, timer\r\n\
             User-Agent: Deskphone/4.2.1\r\n\
             {kind}Content-Length: {length}\r\n\r\n{body}"
        )
    }

    /// A message to the proxy, after a while; what the other peer gets of it.
    fn send(&mut self, from: Peer, to: Peer, bytes: &str) -> Stored {
        self.pass();
        self.sent.clear();
        self.input(Input::Received { flow: flow(from), bytes: bytes.as_bytes() });
        let arrived = self.sent.iter().rfind(|(way, _)| way.listener == flow(to).listener);
        let bytes = arrived.map(|(_, bytes)| bytes.clone()).unwrap_or_default();
        read(bytes)
    }

    fn pass(&mut self) {
        let end = self.now + PAUSE;
        while let Some(due) = self.proxy.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            let (proxy, outputs) = (&mut self.proxy, &mut self.outputs);
            measured(|| {
                proxy.handle_timeout(self.now);
                outputs.extend(std::iter::from_fn(|| proxy.poll_output()));
            });
            self.follow();
        }
        self.now = end;
    }

    fn input(&mut self, input: Input<'_>) {
        let (proxy, outputs) = (&mut self.proxy, &mut self.outputs);
        measured(|| {
            proxy.handle_input(self.now, input);
            outputs.extend(std::iter::from_fn(|| proxy.poll_output()));
        });
        self.follow();
    }

    /// Sockets, workers and resolvers obey; pings are answered.
    fn follow(&mut self) {
        while !self.outputs.is_empty() {
            for output in std::mem::replace(&mut self.outputs, Vec::with_capacity(64)) {
                match output {
                    Output::Transmit(transmit) if transmit.bytes.starts_with(b"OPTIONS") => {
                        let pong = answer(&read(transmit.bytes), 200, "", "");
                        self.input(Input::Received { flow: transmit.flow, bytes: pong.as_bytes() });
                    }
                    Output::Transmit(transmit) => self.sent.push((transmit.flow, transmit.bytes)),
                    Output::Ports(ports::Command::Bind { pair, .. }) => {
                        self.input(Input::Ports(ports::Event::Bound { pair }));
                    }
                    Output::Media(media::Command::Open { stream, legs, .. }) => {
                        self.pairs.insert(stream, [legs[0].pair, legs[1].pair]);
                    }
                    Output::Media(media::Command::Close { stream, told: _ }) => {
                        self.input(Input::Fact(Fact::Closed { stream, legs: Default::default() }));
                        for pair in self.pairs.remove(&stream).into_iter().flatten() {
                            self.input(Input::Ports(ports::Event::Rested { pair }));
                        }
                    }
                    Output::Resolve(question) => {
                        let address = Address { remote: CORE.remote.0.into(), local: LISTENERS[0].1.into() };
                        let records = Records::Addresses(vec![address]);
                        let answer = Answer::Found { records, ttl: Duration::from_secs(60) };
                        self.input(Input::Resolved { question, answer });
                    }
                    Output::KeepAlive(_)
                    | Output::Doubt { .. }
                    | Output::Connect { .. }
                    | Output::Close { .. }
                    | Output::Proven { .. }
                    | Output::Media(_)
                    | Output::Ports(_)
                    | Output::Changed(_)
                    | Output::Observed(_)
                    | Output::Traced(_) => {}
                }
            }
        }
    }
}

/// The way between a peer and the proxy.
fn flow(peer: Peer) -> Flow {
    let listener = LISTENERS.iter().position(|(side, _)| *side == peer.side).unwrap_or_default();
    Flow {
        transport: Transport::Udp,
        listener: ListenerId(listener as u16),
        connection: 0,
        local: (LISTENERS[listener].1, 5060).into(),
        remote: peer.remote.into(),
    }
}

fn read(bytes: Vec<u8>) -> Stored {
    let shown = String::from_utf8_lossy(&bytes).into_owned();
    Stored::parse(bytes, &Limits::default()).unwrap_or_else(|fault| panic!("{fault}: {shown}"))
}

/// A peer's response.
fn answer(request: &Stored, status: u16, extra: &str, body: &str) -> String {
    let mut out = Vec::new();
    Response {
        request: request.message(),
        status: Status(status),
        reason: "As asked",
        to_tag: b"k2h4mzq7",
        source: SocketAddr::from(([203, 0, 113, 30], 5060)),
        keep: None,
        peer: None,
        extra: extra.as_bytes(),
        body: (!body.is_empty()).then_some(("application/sdp", body.as_bytes())),
    }
    .write(&mut out);
    text(&out)
}

/// The first Contact's URI.
fn contact_of(message: &Stored) -> String {
    match message.message().contacts().next() {
        Some(Ok(Contact::Addr(contact))) => text(contact.uri),
        Some(Ok(Contact::Star) | Err(_)) | None => String::new(),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
