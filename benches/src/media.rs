//! One RTP packet through the relay, latches held on both sides.

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use media::relay::Config;
use media::{Command, Component, Early, End, LegPlan, PortPair, Relay, Slot, Sources, StreamId, Target, Verdict};
use nat::Side;

use crate::{Bench, measured};

pub(crate) const BENCHES: &[Bench] = &[
    Bench { name: "media_forward", make: || forward(1) },
    Bench { name: "media_forward_1000", make: || forward(1000) },
    Bench { name: "media_arrive", make: arrive },
];

/// What a batch costs once, however many packets it has.
fn arrive() -> Box<dyn FnMut()> {
    let mut relay = Relay::new(Config::default(), [7; 32]);
    let mut now = Instant::now();
    Box::new(move || {
        now += Duration::from_micros(700);
        measured(|| relay.arrive(black_box(now)));
    })
}

/// The phone's or the core's socket of a stream.
fn peer(slot: u32, end: End) -> SocketAddr {
    let network = if end == End::A { [198, 51, 100, 7] } else { [10, 0, 0, 5] };
    (network, 20_000 + 2 * slot as u16).into()
}

/// A leg whose peer sends from where SDP says.
fn leg(slot: u32, end: End) -> LegPlan {
    let rtp = peer(slot, end);
    let target = Target::new(rtp, SocketAddr::new(rtp.ip(), rtp.port() + 1));
    let (ip, side) = match end {
        End::A => ([203, 0, 113, 30], Side::Outer),
        End::B => ([10, 0, 0, 2], Side::Inner),
    };
    LegPlan {
        pair: PortPair { ip: ip.into(), rtp: 30_000 + 2 * slot as u16 },
        side,
        target: Some(target),
        sources: Sources { exact: Some(target), ..Sources::default() },
        early: Early::Uncapped,
        open: false,
        muxed: false,
        ice: None,
        srtp: [].into(),
    }
}

/// Streams in turn, both ways in turn, 20 ms of G.711 a packet.
fn forward(streams: u32) -> Box<dyn FnMut()> {
    let mut relay = Relay::new(Config::default(), [7; 32]);
    let mut now = Instant::now();
    for slot in 0..streams {
        let stream = StreamId { worker: 0, slot, generation: 1 };
        let legs = Box::new([leg(slot, End::A), leg(slot, End::B)]);
        relay.handle_input(now, Command::Open { stream, epoch: 1, legs, timeout: None });
    }
    let mut packet = [0xd5; 172];
    packet[..12].fill(0);
    packet[0] = 0x80;
    let mut sent = 0u32;
    let mut one = move || {
        let (slot, end) = (sent / 2 % streams, if sent.is_multiple_of(2) { End::A } else { End::B });
        let sequence = (sent / 2 / streams) as u16;
        packet[2..4].copy_from_slice(&sequence.to_be_bytes());
        packet[4..8].copy_from_slice(&(u32::from(sequence) * 160).to_be_bytes());
        let (on, from) = (Slot::of(slot, end, Component::Rtp), peer(slot, end));
        relay.arrive(now);
        let verdict = measured(|| relay.forward(now, on, from, black_box(&packet)));
        assert!(matches!(verdict, Verdict::Forward { .. }), "latched and aimed");
        while relay.poll_output().is_some() {}
        sent += 1;
        now += Duration::from_millis(20) / (2 * streams);
    };
    // Every latch takes its peer.
    for _ in 0..2 * streams {
        one();
    }
    Box::new(one)
}
