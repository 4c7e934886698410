//! One call through a worker, with strangers around it: whatever they send
//! and whenever, nothing of it is relayed, nothing of the call comes to them, and
//! once an offer/answer has settled and the old source is silent the phone is
//! heard. Where SDP shows the phone's SRTP keys, no packet without the tag of one
//! moves its latch, nor one that was heard before. The input is a row of
//! deeds: packets, time, and new plans.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use media::relay::{Config, Output};
use media::srtp;
use media::{Command, Component, Early, End, Fact, LegPlan, PortPair, Relay, Slot, Sources, StreamId, Target, Verdict};
use nat::Side;
use nat::ice_lite::{Agent, Credentials};
use wire::demux::{Media, media};
use wire::sdp::Crypto;
use wire::stun::check::{Key, check};

use super::choices::Choices;

const PHONE: [&str; 3] = ["198.51.100.7:40000", "198.51.100.7:40001", "198.51.100.7:52222"];
/// Where the phone is found when its NAT has forgotten it, with the stream that it had.
const MOVED: &str = "198.51.100.200:6100";
/// A candidate that nothing but a check vouches for.
const CHECKED: &str = "100.64.3.3:5000";
const SERVER: [&str; 3] = ["203.0.113.5:6000", "203.0.113.5:6001", "203.0.113.5:7777"];
const STRANGERS: [&str; 5] =
    ["198.51.100.66:40000", "203.0.113.66:6000", "192.0.2.250:9", "10.0.0.99:30000", "[2001:db8::66]:40000"];
const SSRC: [u32; 2] = [0x1111_1111, 0x2222_2222];
const STREAM: StreamId = StreamId { worker: 0, slot: 0, generation: 1 };

/// No input is worth more.
const DEEDS: usize = 400;

pub(super) fn run(bytes: &[u8]) {
    let mut choices = Choices::new(bytes);
    let mut play = Play::new(choices.octet());
    for _ in 0..DEEDS {
        if choices.is_over() {
            break;
        }
        play.deed(&mut choices);
    }
    play.over();
}

struct Play {
    relay: Relay,
    now: Instant,
    plans: [LegPlan; 2],
    sequence: [u16; 2],
    epoch: u32,
    /// Packets of ours that may be on the way to a stranger: answers to its checks.
    owed: Option<(SocketAddr, usize)>,
    /// What is being heard has no tag, or one that was heard before.
    worthless: bool,
    /// Packets with a tag, as the phone sent them last, and the socket that heard them.
    sealed: Vec<(Slot, Vec<u8>)>,
}

fn at(address: &str) -> SocketAddr {
    address.parse().expect("an address")
}

fn drawn(seed: u8) -> Credentials {
    Credentials::of([seed; 32])
}

impl Play {
    fn new(kind: u8) -> Self {
        let now = Instant::now();
        let target = |rtp: &str, rtcp: &str| Target::new(at(rtp), at(rtcp));
        let plan = |side, rtp, local: &str, signalled: &str, target| LegPlan {
            pair: PortPair { ip: at(local).ip(), rtp },
            side,
            target: Some(target),
            sources: Sources { exact: None, ips: [Some(at(signalled).ip()), None], prefixes: [].into() },
            early: Early::Capped,
            open: false,
            muxed: false,
            ice: None,
            srtp: [].into(),
        };
        let phone = plan(Side::Outer, 30_000, "192.0.2.1:1", PHONE[0], target(PHONE[0], PHONE[1]));
        let server = LegPlan {
            early: Early::Uncapped,
            open: true,
            ..plan(Side::Inner, 30_002, "10.0.0.1:1", SERVER[0], target(SERVER[0], SERVER[1]))
        };
        let mut play = Self {
            relay: Relay::new(Config::default(), [7; 32]),
            now,
            plans: [phone, server],
            sequence: [1, 1],
            epoch: 1,
            owed: None,
            worthless: false,
            sealed: Vec::new(),
        };
        if kind & 1 != 0 {
            play.plans[0].ice = Some(Box::new(Agent::new(drawn(1))));
        }
        play.plans[0].muxed = kind & 2 != 0;
        if kind & 4 != 0 {
            play.plans[0].srtp = [key('A')].into();
        }
        let legs = Box::new(play.plans.clone());
        play.relay.handle_input(now, Command::Open { stream: STREAM, epoch: 1, legs, timeout: None });
        play.settle();
        play
    }

    fn deed(&mut self, choices: &mut Choices<'_>) {
        match choices.octet() % 13 {
            0 => self.pass(u64::from(choices.octet())),
            1 => self.pass(u64::from(choices.octet()) * 40),
            2 => self.plan(choices),
            3 | 4 => self.friend(choices, 0),
            5 | 6 => self.friend(choices, 1),
            7 => self.checks(choices),
            12 => self.again(choices),
            // Somebody who knows neither SSRC nor password.
            _ => self.stranger(choices),
        }
    }

    fn pass(&mut self, ms: u64) {
        let until = self.now + Duration::from_millis(ms);
        while let Some(due) = self.relay.poll_timeout().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.relay.handle_timeout(self.now);
            self.settle();
        }
        self.now = until;
    }

    fn plan(&mut self, choices: &mut Choices<'_>) {
        let what = choices.octet();
        if what & 1 != 0 {
            let rtp = at(PHONE[usize::from(what >> 1 & 1) * 2]);
            self.plans[0].target = Some(Target::new(rtp, at(PHONE[1])));
        }
        self.plans[0].ice = match what >> 2 & 3 {
            0 => None,
            1 => Some(Box::new(Agent::new(drawn(1)))),
            2 => Some(Box::new(Agent::new(drawn(1)).restarted(drawn(2)))),
            _ => self.plans[0].ice.take(),
        };
        self.plans[0].muxed = what & 16 != 0;
        let before = self.plans[0].srtp.clone();
        match what >> 6 {
            0 => {}
            1 => self.plans[0].srtp = [].into(),
            2 => self.plans[0].srtp = [key('A')].into(),
            _ => self.plans[0].srtp = [key('B')].into(),
        }
        if self.plans[0].srtp != before {
            // A key that is taken up again makes packets good that it made good before.
            self.sealed.clear();
        }
        self.update(what & 32 != 0);
    }

    fn update(&mut self, rearm: bool) {
        self.epoch += 1;
        let legs = Box::new(self.plans.clone());
        let update = Command::Update { stream: STREAM, epoch: self.epoch, legs, timeout: None, rearm };
        self.relay.handle_input(self.now, update);
        self.settle();
    }

    /// The phone or the server, from an address of its own; the phone's stream may go on elsewhere.
    fn friend(&mut self, choices: &mut Choices<'_>, who: usize) {
        let how = choices.octet();
        let from = match who {
            0 if how & 0x80 != 0 => MOVED,
            0 => PHONE[usize::from(how & 3).min(2)],
            _ => SERVER[usize::from(how & 3).min(2)],
        };
        let (end, component) = (if who == 0 { End::A } else { End::B }, component(how));
        self.sequence[who] = self.sequence[who].wrapping_add(1);
        let packet = packet(how >> 3, SSRC[who], self.sequence[who]);
        let on = Slot::of(0, end, component);
        // Or somebody behind the same address, who knows the stream and not the key.
        let sealed = if who == 0 && how & 0x40 == 0 { self.seal(&packet, self.sequence[0]) } else { None };
        self.worthless = who == 0 && sealed.is_none();
        let verdict = self.hear(on, at(from), sealed.as_ref().unwrap_or(&packet));
        self.worthless = false;
        let heard = matches!(verdict, Verdict::Forward { .. });
        self.sealed.extend(sealed.filter(|_| heard).map(|sealed| (on, sealed)));
    }

    /// With the tag of the phone's key, if it is known.
    fn seal(&self, packet: &[u8], sequence: u16) -> Option<Vec<u8>> {
        let key = self.plans[0].srtp.first()?;
        let kind = media(packet);
        let rtcp = (kind == Media::Rtcp).then(|| key.seal_rtcp(packet, sequence.into()));
        rtcp.or_else(|| (kind == Media::Rtp).then(|| key.seal(packet, 0))).flatten()
    }

    /// What the phone sent, sent again by somebody who saw it passing.
    fn again(&mut self, choices: &mut Choices<'_>) {
        let how = choices.octet();
        let Some((on, packet)) = choices.pick(&self.sealed).cloned() else { return };
        let from = at(if how & 1 == 0 { PHONE[2] } else { STRANGERS[usize::from(how) % STRANGERS.len()] });
        self.worthless = true;
        self.hear(on, from, &packet);
        self.worthless = false;
    }

    /// The phone's ICE agent.
    fn checks(&mut self, choices: &mut Choices<'_>) {
        let how = choices.octet();
        let credentials = drawn(1 + (how & 1));
        let username = format!("{}:phone", credentials.ufrag());
        let packet =
            check([9; 12], &username, &Key::of(credentials.password()), how.into(), how & 2 != 0).expect("fits");
        let from = at(if how & 4 != 0 { CHECKED } else { PHONE[0] });
        self.owed = Some((from, packet.len()));
        self.hear(Slot::of(0, End::A, component(how << 1)), from, &packet);
        self.owed = None;
    }

    fn stranger(&mut self, choices: &mut Choices<'_>) {
        let how = choices.octet();
        let from = at(choices.pick(&STRANGERS).expect("some"));
        let end = if how & 1 == 0 { End::A } else { End::B };
        let ssrc = choices.number();
        let packet = match how >> 4 {
            0..4 => choices.text().to_vec(),
            // It has seen the user name, but no password.
            4 => check([8; 12], &format!("{}:x", drawn(1).ufrag()), &Key::of("guess"), ssrc, true).expect("fits"),
            kind if SSRC.contains(&ssrc) => packet(kind, !ssrc, how.into()),
            kind => packet(kind, ssrc, how.into()),
        };
        self.owed = Some((from, packet.len()));
        let verdict = self.hear(Slot::of(0, end, component(how)), from, &packet);
        self.owed = None;
        assert!(matches!(verdict, Verdict::Drop(_)), "{from} is heard: {verdict:?}");
    }

    fn hear(&mut self, on: Slot, from: SocketAddr, packet: &[u8]) -> Verdict {
        let verdict = self.relay.forward(self.now, on, from, packet);
        if let Verdict::Forward { via, to } = verdict {
            Self::friendly(via.end(), to);
        }
        self.settle();
        verdict
    }

    /// Whoever is sent to is the end itself.
    fn friendly(end: End, to: SocketAddr) {
        let (friends, others): (&[&str], &[&str]) = match end {
            End::A => (&PHONE, &[MOVED, CHECKED]),
            End::B => (&SERVER, &[]),
        };
        assert!(friends.iter().chain(others).any(|friend| at(friend) == to), "{to} is sent to for {end:?}");
    }

    fn settle(&mut self) {
        let keyed = !self.plans[0].srtp.is_empty() && self.plans[0].ice.is_none();
        while let Some(output) = self.relay.poll_output() {
            if let Output::Fact(Fact::Latched { end: End::A, source, .. }) = &output {
                assert!(!(keyed && self.worthless), "{source:?} latches without a key");
            }
            let Output::Transmit { via, to, packet: (_, length) } = output else { continue };
            match self.owed {
                Some((owed, most)) if owed == to => {
                    assert!(usize::from(length) <= most, "an answer longer than its check")
                }
                Some(_) | None => Self::friendly(via.end(), to),
            }
        }
    }

    /// An offer/answer without ICE, and silence: the phone is heard, and hears.
    fn over(mut self) {
        self.plans[0].ice = None;
        self.plans[0].target = Some(Target::new(at(PHONE[0]), at(PHONE[1])));
        self.update(true);
        self.pass(500);
        for (end, from, ssrc) in [(End::A, PHONE[0], 0x3333_3333), (End::B, SERVER[0], 0x4444_4444)] {
            let on = Slot::of(0, end, Component::Rtp);
            let packet = packet(31, ssrc, 1);
            let sealed = if end == End::A { self.seal(&packet, 1) } else { None };
            let verdict = self.hear(on, at(from), &sealed.unwrap_or(packet));
            assert!(matches!(verdict, Verdict::Forward { .. }), "{from} is not heard any more: {verdict:?}");
        }
        let verdict = self.hear(Slot::of(0, End::B, Component::Rtp), at(SERVER[0]), &packet(31, 0x4444_4444, 2));
        assert_eq!(verdict, Verdict::Forward { via: Slot::of(0, End::A, Component::Rtp), to: at(PHONE[0]) });
    }
}

/// A key that SDP may show.
fn key(seed: char) -> srtp::Key {
    let line = format!("1 AES_CM_128_HMAC_SHA1_80 inline:{}", seed.to_string().repeat(40));
    srtp::Key::new(&Crypto::parse(line.as_bytes()).expect("a line"))
}

fn component(how: u8) -> Component {
    if how & 4 == 0 { Component::Rtp } else { Component::Rtcp }
}

/// RTP most of all, RTCP, DTLS, a Binding indication.
fn packet(kind: u8, ssrc: u32, sequence: u16) -> Vec<u8> {
    let mut packet = match kind & 7 {
        0 => vec![0x80, 200, 0, 6],
        1 => return vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        2 => return [&[0, 0x11, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12]].concat(),
        _ => {
            let mut head = vec![0x80, 0];
            head.extend(sequence.to_be_bytes());
            head.extend((u32::from(sequence) * 160).to_be_bytes());
            head
        }
    };
    packet.extend(ssrc.to_be_bytes());
    packet.extend([0xd5; 40]);
    packet
}
