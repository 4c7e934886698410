//! A worker relays between two peers on loopback, and gives back what it got.
#![allow(clippy::unwrap_used, reason = "a test that unwraps in vain has failed")]

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use media::relay::KeepAlive;
use media::{Command, Component, Early, End, Fact, LegPlan, PortPair, Sources, StreamId, Target};
use nat::Side;
use net::datapath::{Config, Datapath, Priority, StreamSockets};
use net::dscp::{Dscp, Mark, Marks};
use net::sockopt::{Class, bind_udp};
use net::{Report, WorkerHandle, spawn_workers};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

const CONFIG: Config = Config {
    keepalive: KeepAlive::Off,
    keepalive_interval: Duration::from_secs(15),
    streams: 2,
    marks: Marks { signalling: Dscp::CS3, audio: Mark::Set(Dscp::EF), video: Mark::Set(Dscp::AF41) },
    datapath: Datapath::Userspace,
    addresses: Vec::new(),
    priority: Priority::Normal,
};

fn worker() -> (WorkerHandle, UnboundedReceiver<Report>) {
    let (sender, reports) = unbounded_channel();
    let mut workers = spawn_workers(1, &CONFIG, &sender).unwrap();
    (workers.pop().unwrap(), reports)
}

/// The next report that is no worker's totals.
async fn next(reports: &mut UnboundedReceiver<Report>) -> Report {
    loop {
        let report = tokio::time::timeout(Duration::from_secs(5), reports.recv()).await.unwrap().unwrap();
        if !matches!(report, Report::Fact { fact: Fact::Totals(_), .. }) {
            return report;
        }
    }
}

fn socket() -> UdpSocket {
    let socket = bind_udp("127.0.0.1:0".parse().unwrap(), Class::Media(Mark::Set(Dscp::EF))).unwrap();
    socket.set_nonblocking(false).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket
}

/// An even port and the next odd one, free on this machine.
fn pair() -> (PortPair, [UdpSocket; 2]) {
    loop {
        let pair = PortPair { ip: Ipv4Addr::LOCALHOST.into(), rtp: socket().local_addr().unwrap().port() & !1 };
        let bound = [
            bind_udp(pair.rtp(), Class::Media(Mark::Set(Dscp::EF))),
            bind_udp(pair.rtcp(), Class::Media(Mark::Set(Dscp::EF))),
        ];
        if let [Ok(rtp), Ok(rtcp)] = bound {
            return (pair, [rtp, rtcp]);
        }
    }
}

/// A phone or a gateway: one leg's far end.
struct Peer {
    rtp: UdpSocket,
    rtcp: UdpSocket,
}

impl Peer {
    fn new() -> Self {
        let (_, [rtp, rtcp]) = pair();
        for socket in [&rtp, &rtcp] {
            socket.set_nonblocking(false).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        }
        Self { rtp, rtcp }
    }

    fn plan(&self, pair: PortPair, side: Side) -> LegPlan {
        let target = Target::new(self.rtp.local_addr().unwrap(), self.rtcp.local_addr().unwrap());
        let sources = Sources { exact: Some(target), ..Sources::default() };
        LegPlan {
            pair,
            side,
            target: Some(target),
            sources,
            early: Early::Uncapped,
            open: false,
            muxed: false,
            ice: None,
            srtp: [].into(),
        }
    }
}

/// A stream between two peers, ready to be opened.
fn open(slot: u32, generation: u32, a: &Peer, b: &Peer) -> (StreamId, [PortPair; 2], Command, StreamSockets) {
    let ((pair_a, [rtp_a, rtcp_a]), (pair_b, [rtp_b, rtcp_b])) = (pair(), pair());
    let stream = StreamId { worker: 0, slot, generation };
    let legs = Box::new([a.plan(pair_a, Side::Inner), b.plan(pair_b, Side::Outer)]);
    let command = Command::Open { stream, epoch: 1, legs, timeout: None };
    (stream, [pair_a, pair_b], command, [rtp_a, rtcp_a, rtp_b, rtcp_b].map(Into::into))
}

/// 20 ms of G.711 (RFC 3550 §5.1).
fn rtp(sequence: u16, ssrc: u32) -> [u8; 172] {
    let mut packet = [0xd5; 172];
    packet[..2].copy_from_slice(&[0x80, 8]);
    packet[2..4].copy_from_slice(&sequence.to_be_bytes());
    packet[4..8].copy_from_slice(&(u32::from(sequence) * 160).to_be_bytes());
    packet[8..12].copy_from_slice(&ssrc.to_be_bytes());
    packet
}

/// A key is pressed for 100 ms while speech goes on (RFC 4733 §2.5.1.2–4): the
/// first packet has the marker bit, all have the timestamp of the start, the
/// last comes three times, and the duration grows.
#[tokio::test]
async fn telephone_events_pass_untouched_and_in_order() {
    let (worker, _reports) = worker();
    let (a, b) = (Peer::new(), Peer::new());
    let (_, [pair_a, _], command, sockets) = open(0, 1, &a, &b);
    worker.open(command, sockets).unwrap();
    worker.deliver();
    let event = |sequence: u16, first: bool, end: bool, duration: u16| {
        let mut packet = rtp(sequence, 0xaaaa)[..16].to_vec();
        packet[1] = 101 | u8::from(first) << 7;
        packet[4..8].copy_from_slice(&(40_u32 * 160).to_be_bytes());
        packet[12..14].copy_from_slice(&[5, 10 | u8::from(end) << 7]);
        packet[14..].copy_from_slice(&duration.to_be_bytes());
        packet
    };
    let mut sent: Vec<Vec<u8>> = (0..40).map(|number| rtp(number, 0xaaaa).to_vec()).collect();
    sent.extend((0..5).map(|step| event(40 + step, step == 0, false, 160 * (step + 1))));
    sent.extend((0..3).map(|copy| event(45 + copy, false, true, 800)));
    sent.extend((48..60).map(|number| rtp(number, 0xaaaa).to_vec()));
    let mut room = [0; 2048];
    for packet in &sent {
        a.rtp.send_to(packet, pair_a.rtp()).unwrap();
    }
    for packet in &sent {
        let (len, _) = b.rtp.recv_from(&mut room).unwrap();
        assert_eq!(room[..len], packet[..]);
    }
}

#[tokio::test]
async fn relays_both_ways_without_loss_and_returns_the_sockets() {
    let (worker, mut reports) = worker();
    let (a, b) = (Peer::new(), Peer::new());
    let (stream, [pair_a, pair_b], command, sockets) = open(0, 1, &a, &b);
    let local = sockets.each_ref().map(|socket| socket.local_addr().unwrap());
    worker.open(command, sockets).unwrap();
    worker.deliver();
    assert_eq!(worker.streams(), 1);

    let mut room = [0; 2048];
    for burst in 0..10_u16 {
        for number in 0..50 {
            a.rtp.send_to(&rtp(burst * 50 + number, 0xaaaa), pair_a.rtp()).unwrap();
            b.rtp.send_to(&rtp(burst * 50 + number, 0xbbbb), pair_b.rtp()).unwrap();
        }
        for number in 0..50 {
            for (peer, ours, ssrc) in [(&a, pair_a, 0xbbbb), (&b, pair_b, 0xaaaa)] {
                let (len, from) = peer.rtp.recv_from(&mut room).unwrap();
                assert_eq!(from, ours.rtp());
                assert_eq!(room[..len], rtp(burst * 50 + number, ssrc), "in order, unchanged");
            }
        }
    }
    // A receiver report stays on the odd ports.
    let report = [0x80, 201, 0, 1, 0, 0, 0xaa, 0xaa];
    a.rtcp.send_to(&report, pair_a.rtcp()).unwrap();
    assert_eq!(b.rtcp.recv_from(&mut room).unwrap(), (report.len(), pair_b.rtcp()));

    let mut latched = Vec::new();
    while latched.len() < 3 {
        let Report::Fact { fact: Fact::Latched { end, component, source, .. }, .. } = next(&mut reports).await else {
            continue;
        };
        latched.push((end, component, source.0));
    }
    latched.sort_unstable();
    let expected = [
        (End::A, Component::Rtp, a.rtp.local_addr().unwrap()),
        (End::A, Component::Rtcp, a.rtcp.local_addr().unwrap()),
        (End::B, Component::Rtp, b.rtp.local_addr().unwrap()),
    ];
    let mut expected = expected.to_vec();
    expected.sort_unstable();
    assert_eq!(latched, expected);

    assert!(worker.tell(Command::Close { stream, told: [false; 2] }));
    worker.deliver();
    let Report::Sockets { stream: whose, sockets, used } = next(&mut reports).await else {
        panic!("sockets come first")
    };
    assert_eq!((whose, used), (stream, [true, true]));
    assert_eq!(sockets.each_ref().map(|socket| socket.local_addr().unwrap()), local);
    let Report::Fact { fact: Fact::Closed { stream: closed, legs }, .. } = next(&mut reports).await else {
        panic!("closed comes next")
    };
    assert_eq!(closed, stream);
    assert_eq!(legs.each_ref().map(|leg| (leg.packets_in, leg.packets_out)), [(501, 500), (500, 501)]);
    assert_eq!(worker.streams(), 0);
    assert_eq!(worker.counts(), net::datapath::Counts::default());
}

#[tokio::test]
async fn a_slot_can_be_used_again_and_its_old_packets_are_not_judged() {
    let (worker, mut reports) = worker();
    let (a, b) = (Peer::new(), Peer::new());
    let mut room = [0; 2048];
    for generation in 1..=20 {
        let (stream, [pair_a, _], command, sockets) = open(5, generation, &a, &b);
        worker.open(command, sockets).unwrap();
        worker.deliver();
        a.rtp.send_to(&rtp(generation as u16, generation), pair_a.rtp()).unwrap();
        let len = b.rtp.recv(&mut room).unwrap();
        assert_eq!(room[..len], rtp(generation as u16, generation));
        worker.tell(Command::Close { stream, told: [false; 2] });
        worker.deliver();
        while !matches!(next(&mut reports).await, Report::Fact { fact: Fact::Closed { stream: s, .. }, .. } if s == stream)
        {
        }
    }
}

#[tokio::test]
async fn an_unused_stream_returns_unused_pairs() {
    let (worker, mut reports) = worker();
    let (stream, _, command, sockets) = open(0, 1, &Peer::new(), &Peer::new());
    worker.open(command, sockets).unwrap();
    worker.deliver();
    worker.tell(Command::Close { stream, told: [false; 2] });
    worker.deliver();
    let Report::Sockets { used, .. } = next(&mut reports).await else { panic!("sockets come first") };
    assert_eq!(used, [false, false]);
}

#[tokio::test]
async fn a_held_slot_and_a_wrong_worker_fail_and_return_their_sockets() {
    let (worker, mut reports) = worker();
    let (a, b) = (Peer::new(), Peer::new());
    let (first, [pair_a, _], command, sockets) = open(0, 1, &a, &b);
    worker.open(command, sockets).unwrap();
    worker.deliver();
    let (second, _, command, sockets) = open(0, 2, &a, &b);
    worker.open(command, sockets).unwrap();
    worker.deliver();
    let Report::Sockets { stream, used, .. } = next(&mut reports).await else { panic!("sockets come first") };
    assert_eq!((stream, used), (second, [true, true]));
    let Report::Fact { fact, .. } = next(&mut reports).await else { panic!("a fact comes next") };
    assert_eq!(fact, Fact::Failed { stream: second });

    let (mut third, _, command, sockets) = open(1, 1, &a, &b);
    third.worker = 9;
    let Command::Open { epoch, legs, timeout, .. } = command else { unreachable!() };
    worker.open(Command::Open { stream: third, epoch, legs, timeout }, sockets).unwrap();
    worker.deliver();
    let Report::Sockets { stream, .. } = next(&mut reports).await else { panic!("sockets come first") };
    assert_eq!(stream, third);
    let Report::Fact { fact, .. } = next(&mut reports).await else { panic!("a fact comes next") };
    assert_eq!(fact, Fact::Failed { stream: third });

    // The first one never noticed.
    a.rtp.send_to(&rtp(1, 1), pair_a.rtp()).unwrap();
    assert_eq!(b.rtp.recv(&mut [0; 2048]).unwrap(), 172);
    worker.tell(Command::Close { stream: first, told: [false; 2] });
    worker.deliver();
}

#[tokio::test]
async fn a_full_worker_gives_the_sockets_back_at_once() {
    let (worker, mut reports) = worker();
    let (a, b) = (Peer::new(), Peer::new());
    let mut streams = Vec::new();
    for slot in 0..CONFIG.streams {
        assert!(worker.has_room());
        let (stream, _, command, sockets) = open(slot, 1, &a, &b);
        worker.open(command, sockets).unwrap();
        worker.deliver();
        streams.push(stream);
    }
    assert!(!worker.has_room());
    let (_, _, command, sockets) = open(7, 1, &a, &b);
    let local = sockets[0].local_addr().unwrap();
    let refused = worker.open(command, sockets).unwrap_err();
    assert_eq!(refused.sockets[0].local_addr().unwrap(), local);
    worker.tell(Command::Close { stream: streams[0], told: [false; 2] });
    worker.deliver();
    while !matches!(next(&mut reports).await, Report::Fact { fact: Fact::Closed { .. }, .. }) {}
    assert!(worker.has_room());
}

#[tokio::test]
async fn a_stopped_worker_says_so() {
    let (worker, mut reports) = worker();
    let (_, _, command, sockets) = open(0, 1, &Peer::new(), &Peer::new());
    worker.open(command, sockets).unwrap();
    worker.deliver();
    worker.stop();
    assert!(matches!(next(&mut reports).await, Report::Stopped { worker: 0 }));
}

#[tokio::test]
async fn a_peer_that_is_gone_does_no_harm() {
    let (worker, mut reports) = worker();
    let (a, b) = (Peer::new(), Peer::new());
    let (stream, [pair_a, pair_b], command, sockets) = open(0, 1, &a, &b);
    worker.open(command, sockets).unwrap();
    worker.deliver();
    let (b_rtp, b_rtcp) = (b.rtp.local_addr().unwrap(), b.rtcp);
    drop(b.rtp);
    for number in 0..50 {
        a.rtp.send_to(&rtp(number, 1), pair_a.rtp()).unwrap();
    }
    // It comes back, and both directions work: the ICMP errors of before are forgotten.
    let again = bind_udp(b_rtp, Class::Media(Mark::Set(Dscp::EF))).unwrap();
    again.set_nonblocking(false).unwrap();
    again.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    again.send_to(&rtp(1, 2), pair_b.rtp()).unwrap();
    assert_eq!(a.rtp.recv(&mut [0; 2048]).unwrap(), 172);
    a.rtp.send_to(&rtp(51, 1), pair_a.rtp()).unwrap();
    assert_eq!(again.recv(&mut [0; 2048]).unwrap(), 172);
    drop(b_rtcp);
    worker.tell(Command::Close { stream, told: [false; 2] });
    worker.deliver();
    while !matches!(next(&mut reports).await, Report::Fact { fact: Fact::Closed { .. }, .. }) {}
}

#[tokio::test]
async fn keepalives_leave_on_time() {
    let (worker, _reports) = worker();
    let (a, b) = (Peer::new(), Peer::new());
    let (_, [pair_a, _], command, sockets) = open(0, 1, &a, &b);
    let Command::Open { stream, epoch, mut legs, timeout } = command else { unreachable!() };
    legs[0].open = true;
    worker.open(Command::Open { stream, epoch, legs, timeout }, sockets).unwrap();
    worker.deliver();
    let mut room = [0; 2048];
    let mut stamps = Vec::new();
    for _ in 0..5 {
        let (len, from) = a.rtp.recv_from(&mut room).unwrap();
        assert_eq!((from, &room[..2], len), (pair_a.rtp(), &[0x00, 0x11][..], 20), "STUN Binding indication");
        stamps.push(net::clock::now());
    }
    assert!(stamps[4] - stamps[0] >= Duration::from_millis(60), "{:?}", stamps[4] - stamps[0]);
}
