//! Packets, addresses and a worker in virtual time, for the unit tests.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nat::Side;

use crate::relay::{Config, Output};
use crate::srtp::Key;
use crate::{Command, Component, Early, End, Fact, LegPlan, PortPair, Relay, Slot, Sources, StreamId, Target, Verdict};

/// An arbitrary beginning: tests count from here.
pub(crate) fn beginning() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "one read; all that follows is virtual time")]
    Instant::now()
}

pub(crate) fn at(address: &str) -> SocketAddr {
    address.parse().expect("an address")
}

pub(crate) fn rtp_at(ssrc: u32, sequence: u16, timestamp: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 0];
    packet.extend(sequence.to_be_bytes());
    packet.extend(timestamp.to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    packet.extend([0xd5; 160]);
    packet
}

/// 20 ms of G.711 per packet.
pub(crate) fn rtp(ssrc: u32, sequence: u16) -> Vec<u8> {
    rtp_at(ssrc, sequence, u32::from(sequence) * 160)
}

pub(crate) fn rtcp(ssrc: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 200, 0, 6];
    packet.extend(ssrc.to_be_bytes());
    packet.extend([0; 20]);
    packet
}

pub(crate) fn dtls() -> Vec<u8> {
    vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
}

pub(crate) fn stun() -> Vec<u8> {
    let mut packet = vec![0x00, 0x11, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    packet.extend([7; 12]);
    packet
}

pub(crate) fn udptl(sequence: u16) -> Vec<u8> {
    let mut packet = sequence.to_be_bytes().to_vec();
    packet.extend([1, 6, 0, 0]);
    packet
}

pub(crate) fn target(rtp: &str) -> Target {
    let rtp = at(rtp);
    Target::new(rtp, SocketAddr::new(rtp.ip(), rtp.port() + 1))
}

/// A key that SDP may show; each seed another one.
pub(crate) fn srtp_key(seed: u8) -> Key {
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let text = char::from(digits[usize::from(seed) % digits.len()]).to_string().repeat(40);
    let line = format!("1 AES_CM_128_HMAC_SHA1_80 inline:{text}");
    Key::new(&wire::sdp::Crypto::parse(line.as_bytes()).expect("a line"))
}

/// Of the stream [`rtp`], the packet with this index, as who has the key sends it.
pub(crate) fn srtp(key: &Key, ssrc: u32, index: u32) -> Vec<u8> {
    key.seal(&rtp_at(ssrc, index as u16, index.wrapping_mul(160)), index >> 16).expect("sealed")
}

/// The same of RTCP.
pub(crate) fn srtcp(key: &Key, ssrc: u32, index: u32) -> Vec<u8> {
    key.seal_rtcp(&rtcp(ssrc), index).expect("sealed")
}

/// Any port of these.
pub(crate) fn from_ip(ip: &str) -> Sources {
    Sources { exact: None, ips: [Some(ip.parse().expect("an IP")), None], prefixes: [].into() }
}

pub(crate) fn stream(slot: u32) -> StreamId {
    StreamId { worker: 0, slot, generation: 1 }
}

pub(crate) const A_RTP: Slot = Slot(0);
pub(crate) const A_RTCP: Slot = Slot(1);
pub(crate) const B_RTP: Slot = Slot(2);
pub(crate) const B_RTCP: Slot = Slot(3);

pub(crate) const PHONE: &str = "198.51.100.7:40000";
pub(crate) const SERVER: &str = "203.0.113.5:6000";
pub(crate) const SERVER_RTCP: &str = "203.0.113.5:6001";

/// A phone behind a NAT, whose SDP names a private address.
pub(crate) fn phone(slot: u32) -> LegPlan {
    LegPlan {
        pair: PortPair { ip: at("192.0.2.1:1").ip(), rtp: 30_000 + 4 * u16::try_from(slot).expect("few") },
        side: Side::Outer,
        target: Some(target("192.168.7.7:4000")),
        sources: from_ip("198.51.100.7"),
        early: Early::Never,
        open: false,
        muxed: false,
        ice: None,
        srtp: [].into(),
    }
}

/// A media server that is where its SDP says.
pub(crate) fn server(slot: u32) -> LegPlan {
    LegPlan {
        pair: PortPair { ip: at("10.0.0.1:1").ip(), rtp: 30_002 + 4 * u16::try_from(slot).expect("few") },
        side: Side::Inner,
        target: Some(target(SERVER)),
        sources: Sources { exact: Some(target(SERVER)), ..from_ip("203.0.113.5") },
        early: Early::Uncapped,
        open: false,
        muxed: false,
        ice: None,
        srtp: [].into(),
    }
}

/// What the worker sent of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Own {
    pub(crate) ms: u64,
    pub(crate) via: Slot,
    pub(crate) to: SocketAddr,
    pub(crate) bytes: Vec<u8>,
}

/// One worker, driven as the datapath drives it.
pub(crate) struct World {
    pub(crate) relay: Relay,
    pub(crate) start: Instant,
    pub(crate) now: Instant,
    pub(crate) facts: Vec<Fact>,
    pub(crate) own: Vec<Own>,
    pub(crate) outputs: Vec<Output>,
}

impl World {
    pub(crate) fn new(config: Config) -> Self {
        let start = beginning();
        let relay = Relay::new(config, [7; 32]);
        Self { relay, start, now: start, facts: Vec::new(), own: Vec::new(), outputs: Vec::new() }
    }

    /// One stream: A is a phone, B a server.
    pub(crate) fn call() -> Self {
        let mut world = Self::new(Config::default());
        world.open(0, phone(0), server(0), None);
        world
    }

    pub(crate) fn command(&mut self, command: Command) {
        self.relay.handle_input(self.now, command);
        self.drain();
    }

    pub(crate) fn open(&mut self, slot: u32, a: LegPlan, b: LegPlan, timeout: Option<Duration>) {
        self.command(Command::Open { stream: stream(slot), epoch: 1, legs: Box::new([a, b]), timeout });
    }

    pub(crate) fn update(&mut self, a: LegPlan, b: LegPlan, rearm: bool) {
        self.command(Command::Update { stream: stream(0), epoch: 2, legs: Box::new([a, b]), timeout: None, rearm });
    }

    /// Lets time pass, and does what is due on the way.
    pub(crate) fn pass(&mut self, ms: u64) {
        let until = self.now + Duration::from_millis(ms);
        let mut wakes = 0;
        while let Some(due) = self.relay.poll_timeout().filter(|&due| due <= until) {
            self.now = self.now.max(due);
            self.relay.handle_timeout(self.now);
            self.drain();
            wakes += 1;
            assert!(wakes < 100_000, "a deadline that never goes away");
        }
        self.now = until;
    }

    pub(crate) fn packet(&mut self, on: Slot, from: &str, packet: &[u8]) -> Verdict {
        self.relay.arrive(self.now);
        let verdict = self.relay.forward(self.now, on, at(from), packet);
        self.drain();
        verdict
    }

    pub(crate) fn latches(&mut self) -> Vec<(End, Component, String, bool)> {
        let mut found = Vec::new();
        self.facts.retain(|fact| {
            if let Fact::Latched { end, component, source, moved, .. } = fact {
                found.push((*end, *component, source.to_string(), *moved));
            }
            !matches!(fact, Fact::Latched { .. })
        });
        found
    }

    fn drain(&mut self) {
        while let Some(output) = self.relay.poll_output() {
            self.outputs.push(output.clone());
            match output {
                Output::Fact(fact) => self.facts.push(fact),
                Output::Transmit { via, to, packet: (bytes, len) } => self.own.push(Own {
                    ms: u64::try_from(self.now.duration_since(self.start).as_millis()).expect("short"),
                    via,
                    to,
                    bytes: bytes[..usize::from(len)].to_vec(),
                }),
                Output::Hold(_) | Output::Free { .. } | Output::Release { .. } => {}
            }
        }
    }
}

/// `Forward`, for comparison.
pub(crate) fn to(via: Slot, address: &str) -> Verdict {
    Verdict::Forward { via, to: at(address) }
}
