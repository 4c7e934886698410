//! A stranger on the public network: sprays media on the relay's ports, forges
//! SIP, sends garbage. Nothing that it sends may get it anything: no media, no
//! call, no registration, no answer larger than what it sent.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::clock::Time;
use crate::net::Packet;
use crate::rng::Rng;
use crate::sip::Msg;

/// The tone that nobody may ever hear.
pub(crate) const TONE: u32 = 0xdead_beef;
/// Marks its requests wherever they go.
pub(crate) const CALL_ID: &str = "attack-";

/// What it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attack {
    /// RTP over a range of ports, round and round.
    Spray { first: u16, last: u16, per_second: u32 },
    /// The same, with the source address of a phone's NAT and any port: it may be heard by no one while the latch is held.
    Spoof { first: u16, last: u16, as_if: IpAddr },
    /// INVITE, MESSAGE and REGISTER of nobody, with forged tokens and third-party Contacts.
    Forge,
    /// Responses that nobody asked for.
    Stray,
    /// Octets.
    Garbage,
}

/// One attack: from when, how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Campaign {
    pub(crate) attack: Attack,
    pub(crate) from: Time,
    pub(crate) until: Time,
}

/// One stranger.
#[derive(Debug)]
pub(crate) struct Attacker {
    pub(crate) address: SocketAddr,
    /// The signalling address under attack.
    target: SocketAddr,
    /// Somebody who would get the blame, or the traffic.
    victim: SocketAddr,
    campaign: Campaign,
    next: Option<Time>,
    cursor: u16,
    sequence: u16,
    rng: Rng,
    pub(crate) sent: u64,
    pub(crate) sent_bytes: u64,
    /// What came back, by kind.
    pub(crate) got_media: u64,
    pub(crate) got_bytes: u64,
    pub(crate) refused: u64,
}

impl Attacker {
    pub(crate) fn new(
        address: SocketAddr,
        target: SocketAddr,
        victim: SocketAddr,
        campaign: Campaign,
        rng: Rng,
    ) -> Self {
        Self {
            address,
            target,
            victim,
            campaign,
            next: Some(campaign.from),
            cursor: 0,
            sequence: 0,
            rng,
            sent: 0,
            sent_bytes: 0,
            got_media: 0,
            got_bytes: 0,
            refused: 0,
        }
    }

    pub(crate) fn next(&self) -> Option<Time> {
        self.next
    }

    pub(crate) fn receive(&mut self, packet: &Packet) {
        self.got_bytes += packet.bytes.len() as u64;
        match Msg::parse(&packet.bytes) {
            Some(msg) => self.refused += u64::from(msg.status() >= 400),
            None => self.got_media += 1,
        }
    }

    pub(crate) fn timeout(&mut self, now: Time, out: &mut Vec<Packet>) {
        if self.next.is_none_or(|at| at > now) {
            return;
        }
        let packet = match self.campaign.attack {
            Attack::Spray { first, last, .. } => self.media(self.address, first, last),
            Attack::Spoof { first, last, as_if } => {
                let port = 1024 + self.rng.below(60_000) as u16;
                self.media(SocketAddr::new(as_if, port), first, last)
            }
            Attack::Forge => self.forged(),
            Attack::Stray => self.stray(),
            Attack::Garbage => self.garbage(),
        };
        self.sent += 1;
        self.sent_bytes += packet.bytes.len() as u64;
        out.push(packet);
        let pause = match self.campaign.attack {
            Attack::Spray { per_second, .. } => Duration::from_micros(1_000_000 / u64::from(per_second)),
            Attack::Spoof { .. } => Duration::from_millis(1),
            Attack::Forge | Attack::Stray | Attack::Garbage => self.rng.millis(20, 200),
        };
        self.next = Some(now + pause).filter(|at| *at < self.campaign.until);
    }

    fn media(&mut self, from: SocketAddr, first: u16, last: u16) -> Packet {
        let ports = last - first + 1;
        self.cursor = (self.cursor + 1) % ports;
        let port = first + self.cursor;
        self.sequence = self.sequence.wrapping_add(u16::from(self.cursor == 0));
        let mut bytes = vec![0x80, if port.is_multiple_of(2) { 0 } else { 200 }];
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend((u32::from(self.sequence) * 160).to_be_bytes());
        bytes.extend([0xaa; 4]);
        bytes.extend(TONE.to_be_bytes());
        bytes.resize(52, 1);
        Packet::datagram(from, SocketAddr::new(self.target.ip(), port), bytes)
    }

    fn forged(&mut self) -> Packet {
        let (us, user) = (self.target, self.rng.pick(&["alice", "bob", "carol", "900442079460000"]));
        let word = self.rng.word();
        let token: String = (0..26).map(|_| char::from(self.rng.pick(b"abcdefghijklmnopqrstuvwxyz234567"))).collect();
        let victim = self.victim;
        let shape = self.rng.below(7);
        let (method, uri) = match shape {
            0 => ("INVITE", format!("sip:{user}@{us}")),
            1 => ("INVITE", format!("sip:{user}@{victim}")),
            2 => ("MESSAGE", format!("sip:{user}@{us};sl={token}")),
            3 => ("INVITE", format!("sip:{token}@{us};lr")),
            4 => ("REGISTER", format!("sip:{us}")),
            5 => ("BYE", format!("sip:{user}@{us}")),
            _ => ("OPTIONS", format!("sip:{victim}")),
        };
        let mut msg = Msg::request(method, &uri);
        msg.push("Via", format!("SIP/2.0/UDP {};rport;branch=z9hG4bK{word}", self.address));
        if shape == 1 || shape == 5 {
            msg.push("Route", format!("<sip:{token}@{us};lr>"));
        }
        if shape == 6 {
            msg.push("Route", format!("<sip:{us};lr>, <sip:{victim};lr>"));
        }
        msg.push("From", format!("<sip:{user}@{us}>;tag={word}"));
        let to_tag = if method == "BYE" { format!(";tag={token}") } else { String::new() };
        msg.push("To", format!("<sip:{user}@{us}>{to_tag}"));
        msg.push("Call-ID", format!("{CALL_ID}{word}"));
        msg.push("CSeq", format!("1 {method}"));
        msg.push("Max-Forwards", "70");
        msg.push("Contact", format!("<sip:{user}@{victim}>"));
        if method == "INVITE" {
            msg.push("Content-Type", "application/sdp");
            let ip: IpAddr = victim.ip();
            msg.body =
                format!("v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n");
        }
        Packet::datagram(self.address, us, msg.bytes())
    }

    fn stray(&mut self) -> Packet {
        let word = self.rng.word();
        let status = self.rng.pick(&["200 OK", "180 Ringing", "486 Busy Here", "401 Unauthorized"]);
        let mut msg = Msg { start: format!("SIP/2.0 {status}"), ..Msg::default() };
        let sent_by = if self.rng.chance(500) { self.target } else { self.victim };
        msg.push("Via", format!("SIP/2.0/UDP {sent_by};branch=z9hG4bK{word}"));
        msg.push("Via", format!("SIP/2.0/UDP {};branch=z9hG4bKvictim", self.victim));
        msg.push("From", format!("<sip:a@{}>;tag=1", self.target));
        msg.push("To", format!("<sip:b@{}>;tag=2", self.target));
        msg.push("Call-ID", format!("{CALL_ID}{word}"));
        msg.push("CSeq", "1 INVITE");
        msg.push("Contact", format!("<sip:b@{}>", self.victim));
        Packet::datagram(self.address, self.target, msg.bytes())
    }

    fn garbage(&mut self) -> Packet {
        let shape = self.rng.below(5);
        let length = self.rng.below(300);
        let bytes = match shape {
            0 => (0..length).map(|_| self.rng.next() as u8).collect(),
            1 => vec![0; length],
            2 => b"INVITE sip:x SIP/2.0\r\n\r\n".to_vec(),
            3 => {
                let whole = self.forged().bytes;
                whole[..self.rng.below(whole.len())].to_vec()
            }
            _ => {
                let mut bytes = self.forged().bytes;
                for _ in 0..8 {
                    let at = self.rng.below(bytes.len());
                    bytes[at] = self.rng.next() as u8;
                }
                bytes
            }
        };
        Packet::datagram(self.address, self.target, bytes)
    }
}
