//! The kernel's part of the relay, with a phone, a server and ourselves in three network namespaces.
#![allow(clippy::unwrap_used, reason = "a test that unwraps in vain has failed")]
#![allow(clippy::disallowed_methods, reason = "speech has a pace, and the child that is killed is told where it is")]
#![allow(clippy::print_stdout, reason = "a test says what it counted, or why it is skipped")]

use std::net::{SocketAddr, UdpSocket};
use std::panic::AssertUnwindSafe;
use std::process::Command as Process;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aya::programs::{SchedClassifier, TcAttachType};
use media::relay::KeepAlive;
use media::{Command, Early, Fact, LegPlan, PortPair, Sources, StreamId, Target};
use nat::Side;
use net::datapath::{Config, Datapath, Priority};
use net::dscp::{Dscp, Mark, Marks};
use net::sockopt::{Class, bind_udp};
use net::{Report, WorkerHandle, spawn_workers};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

#[path = "kernel/place.rs"]
mod place;

use place::Place;

/// Namespaces have names, so one test at a time.
static ONE: Mutex<()> = Mutex::new(());

/// What a worker has room for.
const STREAMS: usize = 8;
const STREAM: StreamId = StreamId { worker: 0, slot: 0, generation: 1 };

fn config(place: &Place, datapath: Datapath) -> Config {
    Config {
        keepalive: KeepAlive::Off,
        keepalive_interval: Duration::from_secs(15),
        streams: STREAMS as u32,
        marks: Marks { audio: Mark::Set(Dscp::EF), ..Marks::default() },
        datapath,
        addresses: place.ours.to_vec(),
        priority: Priority::Normal,
    }
}

/// A worker in the middle namespace, with one stream between phone and server.
struct World {
    place: Place,
    worker: WorkerHandle,
    reports: UnboundedReceiver<Report>,
    /// Ours toward phone and server.
    ours: [SocketAddr; 2],
    legs: [LegPlan; 2],
    sequence: [u16; 2],
}

fn plan(pair: PortPair, side: Side, peer: SocketAddr) -> LegPlan {
    let target = Target::new(peer, SocketAddr::new(peer.ip(), peer.port() + 1));
    LegPlan {
        pair,
        side,
        target: Some(target),
        sources: Sources { exact: Some(target), ips: [Some(peer.ip()), None], prefixes: [].into() },
        early: Early::Uncapped,
        open: false,
        muxed: false,
        ice: None,
        srtp: [].into(),
    }
}

/// Has a stream between phone and server; says where, and how.
fn open(
    place: &Place,
    worker: &WorkerHandle,
    stream: StreamId,
    peers: [SocketAddr; 2],
) -> ([SocketAddr; 2], [LegPlan; 2]) {
    let ours = place.ours;
    let sockets = place.within(Place::US, move || {
        let class = Class::Media(Mark::Set(Dscp::EF));
        [ours[0], ours[0], ours[1], ours[1]].map(|ip| bind_udp(SocketAddr::new(ip, 0), class).unwrap())
    });
    let bound = [&sockets[0], &sockets[2]].map(|socket| socket.local_addr().unwrap());
    let pair = |at: SocketAddr| PortPair { ip: at.ip(), rtp: at.port() };
    let legs = [plan(pair(bound[0]), Side::Outer, peers[0]), plan(pair(bound[1]), Side::Inner, peers[1])];
    let open = Command::Open { stream, epoch: 1, legs: Box::new(legs.clone()), timeout: None };
    worker.open(open, sockets.map(Into::into)).unwrap();
    worker.deliver();
    (bound, legs)
}

impl World {
    fn new(place: Place, phone: SocketAddr, server: SocketAddr) -> Self {
        let config = config(&place, Datapath::Kernel);
        let (sender, reports) = unbounded_channel();
        let worker = place.within(Place::US, move || spawn_workers(1, &config, &sender).unwrap().pop().unwrap());
        let (ours, legs) = open(&place, &worker, STREAM, [phone, server]);
        Self { place, worker, reports, ours, legs, sequence: [0; 2] }
    }

    /// Packets from both ends in turn; every one must arrive, in order, from where it should.
    fn talk(&mut self, ends: [&UdpSocket; 2], packets: u16) {
        for _ in 0..packets {
            // A pace, if not that of speech: what answers within microseconds finds no rule yet.
            std::thread::sleep(Duration::from_millis(2));
            for (from, to) in [(0, 1), (1, 0)] {
                self.sequence[from] = self.sequence[from].wrapping_add(1);
                let packet = rtp(from as u32 + 1, self.sequence[from]);
                ends[from].send_to(&packet, self.ours[from]).unwrap();
                let mut room = [0; 512];
                let (length, source) = ends[to].recv_from(&mut room).unwrap();
                assert_eq!((source, &room[..length]), (self.ours[to], &packet[..]), "from {from}");
            }
        }
    }

    fn update(&mut self, legs: [LegPlan; 2]) {
        self.legs = legs.clone();
        let legs = Box::new(legs);
        assert!(self.worker.tell(Command::Update { stream: STREAM, epoch: 2, legs, timeout: None, rearm: true }));
        self.worker.deliver();
    }

    /// What the relay has counted at the end of the stream, and how many packets of that passed in the kernel.
    fn close(mut self) -> ([media::stats::LegCounts; 2], u64) {
        assert!(self.worker.tell(Command::Close { stream: STREAM, told: [true; 2] }));
        self.worker.deliver();
        loop {
            match self.reports.blocking_recv().unwrap() {
                Report::Fact { fact: Fact::Closed { legs, .. }, .. } => return (*legs, self.worker.counts().kernel),
                Report::Fact { .. } | Report::Sockets { .. } | Report::Stopped { .. } => {}
            }
        }
    }
}

fn rtp(ssrc: u32, sequence: u16) -> Vec<u8> {
    let mut packet = vec![0x80, 0];
    packet.extend(sequence.to_be_bytes());
    packet.extend((u32::from(sequence) * 160).to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    packet.extend([0xd5; 160]);
    packet
}

fn attached(place: &Place) -> usize {
    place
        .within(Place::US, || {
            ["sl-phone", "sl-server"]
                .map(|name| SchedClassifier::query_tcx(name, TcAttachType::Ingress).unwrap().1.len())
        })
        .into_iter()
        .sum()
}

fn call(place: Place) {
    let (phone, server) = place.ends();
    let [phone_at, server_at] = [&phone, &server].map(|end| end.local_addr().unwrap());
    let mut world = World::new(place, phone_at, server_at);
    assert_eq!(attached(&world.place), 2);
    world.talk([&phone, &server], 250);
    // A stranger beside the phone, who guesses everything but the port.
    let stranger = world.place.socket(Place::PHONE);
    stranger.send_to(&rtp(1, world.sequence[0] + 1), world.ours[0]).unwrap();
    world.talk([&phone, &server], 50);
    // Another address of ours: routes are looked up anew.
    let known = world.worker.counts().kernel;
    world.talk([&phone, &server], 48);
    world.place.us(&["addr", "add", "10.99.99.1/24", "dev", "sl-phone"]);
    // As soon as the watcher of routes has seen it.
    let mut noticed = 0;
    while world.worker.counts().kernel == known && noticed < 500 {
        world.talk([&phone, &server], 2);
        noticed += 2;
    }
    let taken = world.worker.counts().kernel - known;
    assert!(taken >= 90, "rules of before are void, and what passed by them is known: {taken}");
    // The phone's NAT gives it another port: after the silence it is heard from there.
    let moved = world.place.socket(Place::PHONE);
    moved.send_to(&rtp(1, world.sequence[0] + 1), world.ours[0]).unwrap();
    std::thread::sleep(Duration::from_millis(250));
    world.talk([&moved, &server], 50);
    // The server takes its media elsewhere.
    let other = world.place.socket(Place::SERVER);
    let legs = [world.legs[0].clone(), plan(world.legs[1].pair, Side::Inner, other.local_addr().unwrap())];
    world.update(legs);
    // Its first packet is judged after the command, for that was put before.
    world.sequence[1] = 5_000;
    world.talk_back(&moved, &other);
    world.talk([&moved, &other], 50);
    let sent = u64::from(world.sequence[0]);
    let (legs, kernel) = world.close();
    assert_eq!(legs[0].packets_in, sent);
    let back = 449 + noticed;
    assert_eq!((legs[0].packets_out, legs[1].packets_in, legs[1].packets_out), (back, back, sent));
    assert_eq!((legs[0].quality.lost, legs[0].quality.reordered, legs[0].refused), (0, 0, 2));
    assert_eq!(legs[1].quality.lost + legs[1].quality.reordered, 0);
    println!("{kernel} of {} packets passed in the kernel", sent + back);
    assert!(kernel * 100 > (sent + back) * 95, "{kernel} of {}", sent + back);
}

impl World {
    /// The server's first packet from its new place.
    fn talk_back(&mut self, phone: &UdpSocket, server: &UdpSocket) {
        self.sequence[1] += 1;
        let packet = rtp(2, self.sequence[1]);
        server.send_to(&packet, self.ours[1]).unwrap();
        let mut room = [0; 512];
        let (length, _) = phone.recv_from(&mut room).unwrap();
        assert_eq!(&room[..length], &packet[..]);
    }
}

#[test]
fn a_call_passes_in_the_kernel_and_nothing_of_it_is_lost() {
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(place) = Place::v4() {
        call(place);
    }
    if let Some(place) = Place::v6() {
        call(place);
    }
}

/// One peer on this machine, or both: the loopback has the program, too.
#[test]
fn peers_on_this_machine_are_served_in_the_kernel() {
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    for place in [Place::v4, Place::v6] {
        for ours in [[true, false], [false, true], [true, true]] {
            let Some(place) = place() else { return };
            let socket = |end: usize| if ours[end] { place.own(end) } else { place.socket(2 * end) };
            let ends = [socket(0), socket(1)];
            let [phone, server] = [0, 1].map(|end| ends[end].local_addr().unwrap());
            let mut world = World::new(place, phone, server);
            // The first pass while the program is attached to the loopback.
            world.talk([&ends[0], &ends[1]], 300);
            let (legs, kernel) = world.close();
            assert_eq!([legs[0].packets_in, legs[1].packets_in], [300, 300]);
            assert!(kernel > 540, "{ours:?}: {kernel} of 600");
        }
    }
}

/// Of such a sender no rule is worth its while, and ever fewer are put.
#[test]
fn a_sender_whose_numbers_do_not_go_on_is_heard_all_the_same() {
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let Some(place) = Place::v4() else { return };
    let (phone, server) = place.ends();
    let [phone_at, server_at] = [&phone, &server].map(|end| end.local_addr().unwrap());
    let mut world = World::new(place, phone_at, server_at);
    for _ in 0..800 {
        world.sequence[0] = world.sequence[0].wrapping_add(1);
        world.talk([&phone, &server], 1);
    }
    let (legs, kernel) = world.close();
    assert_eq!([legs[0].packets_in, legs[1].packets_in], [800, 800]);
    assert!((700..=800).contains(&kernel), "the other one's pass in the kernel: {kernel}");
}

/// Whoever makes links, or removes many at once, has the kernel's lock of all of them, and each that comes or goes has
/// routes found anew. That is no matter of packets that come meanwhile.
#[test]
fn media_does_not_wait_while_links_come_and_go() {
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let Some(place) = Place::v4() else { return };
    let ends: Vec<[UdpSocket; 2]> = (0..STREAMS).map(|_| place.ends().into()).collect();
    let at = |n: usize| ends[n].each_ref().map(|end| end.local_addr().unwrap());
    let World { place, worker, ours, .. } = World::new(place, at(0)[0], at(0)[1]);
    let more = (1..STREAMS).map(|n| open(&place, &worker, StreamId { slot: n as u32, ..STREAM }, at(n)).0);
    let ours: Vec<[SocketAddr; 2]> = std::iter::once(ours).chain(more).collect();
    // In each round a packet each way on each stream; how long each took.
    let round = |sequence: u16| -> Vec<Duration> {
        std::thread::sleep(Duration::from_millis(10));
        let (packet, sent) = (rtp(1, sequence), Instant::now());
        for (ends, ours) in ends.iter().zip(&ours) {
            for (end, ours) in ends.iter().zip(ours) {
                end.send_to(&packet, ours).unwrap();
            }
        }
        let arrives = |end: &UdpSocket| {
            let mut room = [0; 512];
            let (length, _) = end.recv_from(&mut room).unwrap();
            assert_eq!(room[..length], packet);
            sent.elapsed()
        };
        ends.iter().flatten().map(arrives).collect()
    };
    let (over, links) = (AtomicBool::new(false), place.links());
    let (mut took, made) = std::thread::scope(|scope| {
        let over = &over;
        let made =
            scope.spawn(move || std::iter::repeat_with(links).take_while(|()| !over.load(Ordering::Relaxed)).count());
        let took = std::panic::catch_unwind(AssertUnwindSafe(|| (1..=200).flat_map(round).collect::<Vec<_>>()));
        over.store(true, Ordering::Relaxed);
        (took.unwrap(), made.join().unwrap())
    });
    took.sort_unstable();
    let [half, most, last] = [50, 99, 100].map(|percent| took[(took.len() - 1) * percent / 100]);
    println!("{made} times 400 links: packets took {half:?}, one in a hundred {most:?} to {last:?}");
    assert!(most < Duration::from_millis(20), "{most:?}");
}

#[test]
fn nothing_stays_attached() {
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let Some(place) = Place::v4() else { return };
    let start = |place: &Place| {
        let config = config(place, Datapath::Kernel);
        place.within(Place::US, move || spawn_workers(2, &config, &unbounded_channel().0).unwrap())
    };
    let workers = start(&place);
    assert_eq!(attached(&place), 2);
    drop(workers);
    assert_eq!(attached(&place), 0);
    // The same in a process of its own, which is killed.
    let exe = std::env::current_exe().unwrap();
    let mut child = Process::new("ip")
        .args(["netns", "exec", &place.name(Place::US)])
        .arg(exe)
        .args(["--exact", "a_process_that_waits_to_be_killed", "--nocapture"])
        .env("SIPLATCH_TEST_ADDRESSES", place.ours.map(|ip| ip.to_string()).join(","))
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    assert!(lines.any(|line| line.unwrap().contains("attached")), "the child has not started");
    assert_eq!(attached(&place), 2);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(attached(&place), 0);
}

/// Run by the test above.
#[test]
fn a_process_that_waits_to_be_killed() {
    let Ok(addresses) = std::env::var("SIPLATCH_TEST_ADDRESSES") else { return };
    let addresses = addresses.split(',').map(|ip| ip.parse().unwrap()).collect();
    let config = Config {
        keepalive: KeepAlive::Off,
        keepalive_interval: Duration::from_secs(15),
        streams: 8,
        marks: Marks::default(),
        datapath: Datapath::Kernel,
        addresses,
        priority: Priority::Normal,
    };
    let _workers = spawn_workers(1, &config, &unbounded_channel().0).unwrap();
    println!("attached");
    loop {
        std::thread::park();
    }
}

#[test]
fn what_cannot_be_had_is_named() {
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let Some(mut place) = Place::v4() else { return };
    place.ours[0] = "127.82.148.1".parse().unwrap();
    let loopback = config(&place, Datapath::Kernel);
    place.within(Place::US, move || spawn_workers(1, &loopback, &unbounded_channel().0).unwrap());
    place.ours[0] = "10.99.99.99".parse().unwrap();
    for (datapath, started) in [(Datapath::Kernel, false), (Datapath::Auto, true), (Datapath::Userspace, true)] {
        let config = config(&place, datapath);
        let result = place.within(Place::US, move || spawn_workers(1, &config, &unbounded_channel().0).map(drop));
        match result {
            Ok(()) => assert!(started, "{datapath:?}"),
            Err(error) => {
                assert!(!started, "{error}");
                assert!(error.to_string().contains("no interface has the address 10.99.99.99"), "{error}");
            }
        }
    }
}
