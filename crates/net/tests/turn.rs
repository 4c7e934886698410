//! Allocations on a real TURN server, coturn, over UDP, TCP and TLS: media both
//! ways through a tunnel, lifetimes and nonces that run out, a server that is gone.
#![allow(clippy::unwrap_used, reason = "a test that unwraps in vain has failed")]

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use media::ports::{Command, Event};
use media::{PortPair, StreamId, relay};
use nat::turn::{Credentials, End};
use nat::{Discovery, Side};
use net::datapath::{Config, Datapath, MediaSocket, Priority, Report as Told, spawn_workers};
use net::dscp::{Dscp, Mark, Marks};
use net::sockopt::{Class, bind_udp};
use net::transport::tls;
use net::turn::{AllocationId, Client, Failure, Over, Report, Server, Settings};
use net::{Ports, clock};
use peer::{Coturn, Loopback};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// For anything to happen.
const PATIENCE: Duration = Duration::from_secs(20);

struct World {
    net: Loopback,
    coturn: Coturn,
}

impl World {
    fn new(more: &[&str]) -> Option<Self> {
        let net = Loopback::new();
        Coturn::start(net, 2, more).map(|coturn| Self { net, coturn })
    }

    fn settings(&self, over: Over) -> Settings {
        let (user, password) = Coturn::USER;
        let address = if over == Over::Tls { self.coturn.secure } else { self.coturn.plain };
        let file = std::env::temp_dir().join(format!("siplatch-turn-ca-{}.pem", self.net.ip(2)));
        self.coturn.write_authority(&file);
        let tls = tls::Settings::load(&tls::Files { ca: Some(file.clone()), ..tls::Files::default() }).unwrap();
        std::fs::remove_file(file).unwrap();
        Settings {
            server: Server { host: address.ip().to_string(), port: address.port(), over },
            credentials: Credentials { username: user.to_owned(), password: password.to_owned() },
            tls: Some(Arc::new(tls)),
            mark: Mark::Set(Dscp::EF),
            refresh: Duration::from_secs(1),
        }
    }

    fn client(&self, over: Over) -> (Arc<Client>, UnboundedReceiver<Report>) {
        let (sender, reports) = unbounded_channel();
        (Arc::new(Client::start(self.settings(over), sender).unwrap().0), reports)
    }

    /// A peer of the relay, with a timeout.
    fn peer(&self, host: u8) -> UdpSocket {
        let socket = bind_udp(self.net.at(host, 0), Class::Media(Mark::Set(Dscp::EF))).unwrap();
        socket.set_nonblocking(false).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }
}

async fn next(reports: &mut UnboundedReceiver<Report>) -> Report {
    tokio::time::timeout(PATIENCE, reports.recv()).await.unwrap().unwrap()
}

async fn allocated(reports: &mut UnboundedReceiver<Report>) -> (AllocationId, [SocketAddr; 2]) {
    match next(reports).await {
        Report::Allocated { id, relayed, .. } => (id, relayed),
        other @ (Report::Ended { .. } | Report::Denied { .. } | Report::Dropped { .. }) => panic!("{other:?}"),
    }
}

/// A worker with one stream: end A on plain sockets, end B on the tunnels of a
/// pair of `ports`. Gives the socket of end A that a phone sends to.
struct Call {
    worker: net::WorkerHandle,
    reports: UnboundedReceiver<Told>,
    phone: UdpSocket,
    to: SocketAddr,
}

fn target(socket: &UdpSocket) -> media::Target {
    let address = socket.local_addr().unwrap();
    media::Target::new(address, SocketAddr::new(address.ip(), address.port() ^ 1))
}

impl Call {
    fn open(world: &World, sockets: [MediaSocket; 2], pair: PortPair, provider: &UdpSocket) -> Self {
        let (sender, reports) = unbounded_channel();
        let config = Config {
            keepalive: relay::KeepAlive::Off,
            keepalive_interval: Duration::from_secs(15),
            streams: 4,
            marks: Marks::default(),
            datapath: Datapath::Userspace,
            addresses: Vec::new(),
            priority: Priority::Normal,
        };
        let worker = spawn_workers(1, &config, &sender).unwrap().remove(0);
        let plain = [0, 0].map(|port| bind_udp(world.net.at(5, port), Class::Media(Mark::Set(Dscp::EF))).unwrap());
        let to = plain[0].local_addr().unwrap();
        let phone = world.peer(20);
        let leg = |pair, side, peer: &UdpSocket| media::LegPlan {
            pair,
            side,
            target: Some(target(peer)),
            sources: media::Sources {
                exact: Some(target(peer)),
                ips: [Some(peer.local_addr().unwrap().ip()), None],
                prefixes: [].into(),
            },
            early: media::Early::Uncapped,
            open: false,
            muxed: false,
            ice: None,
            srtp: [].into(),
        };
        let stream = StreamId { worker: 0, slot: 0, generation: 1 };
        let near = PortPair { ip: to.ip(), rtp: to.port() & !1 };
        let legs = Box::new([leg(near, Side::Inner, &phone), leg(pair, Side::Outer, provider)]);
        let command = media::Command::Open { stream, epoch: 1, legs, timeout: None };
        let [a, b] = plain.map(MediaSocket::Udp);
        let [c, d] = sockets;
        worker.open(command, [a, b, c, d]).unwrap();
        worker.deliver();
        Self { worker, reports, phone, to }
    }

    /// A packet there and one back; both say where they came from.
    fn exchange(&self, provider: &UdpSocket, relayed: SocketAddr, number: u16) {
        let (there, back) = (rtp(number, 7), rtp(number, 8));
        let mut room = [0; 2048];
        // Before a permission is there, what is sent is lost.
        let deadline = clock::now() + PATIENCE;
        provider.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let (length, from) = loop {
            self.phone.send_to(&there, self.to).unwrap();
            match provider.recv_from(&mut room) {
                Ok(got) => break got,
                Err(_) => assert!(clock::now() < deadline, "nothing arrives"),
            }
        };
        assert_eq!((from, &room[..length]), (relayed, &there[..]));
        provider.send_to(&back, relayed).unwrap();
        let (length, from) = self.phone.recv_from(&mut room).unwrap();
        assert_eq!((from, &room[..length]), (self.to, &back[..]));
        // Copies of what was sent more than once.
        while provider.recv_from(&mut room).is_ok() {}
    }

    /// Ends the stream; its sockets come back.
    async fn close(mut self) -> [MediaSocket; 2] {
        let stream = StreamId { worker: 0, slot: 0, generation: 1 };
        self.worker.tell(media::Command::Close { stream, told: [true; 2] });
        self.worker.deliver();
        loop {
            match tokio::time::timeout(PATIENCE, self.reports.recv()).await.unwrap().unwrap() {
                Told::Sockets { sockets: [_, _, c, d], .. } => return [c, d],
                Told::Fact { .. } | Told::Stopped { .. } => {}
            }
        }
    }
}

fn rtp(sequence: u16, ssrc: u32) -> [u8; 171] {
    let mut packet = [0xd5; 171];
    packet[..2].copy_from_slice(&[0x80, 8]);
    packet[2..4].copy_from_slice(&sequence.to_be_bytes());
    packet[4..8].copy_from_slice(&(u32::from(sequence) * 160).to_be_bytes());
    packet[8..12].copy_from_slice(&ssrc.to_be_bytes());
    packet
}

fn ports() -> Ports {
    let discovery = Discovery::new(nat::discovery::Config::default(), [7; 32]);
    Ports::new(discovery, Duration::from_secs(30), Mark::Set(Dscp::EF)).unwrap()
}

/// A pair whose addresses are known.
async fn relayed_pair(
    world: &World,
    ports: &mut Ports,
    reports: &mut UnboundedReceiver<Report>,
    at: u16,
) -> (PortPair, [SocketAddr; 2]) {
    let pair = PortPair { ip: world.net.ip(1), rtp: at };
    ports.handle_input(clock::now(), Command::Bind { pair, discover: true });
    assert_eq!(ports.poll_output(), Some(Event::Bound { pair }));
    let report = next(reports).await;
    ports.turned(&report);
    let Some(Event::Mapped { pair: whose, rtp, rtcp }) = ports.poll_output() else { panic!("{report:?}") };
    assert_eq!(whose, pair);
    (pair, [rtp.0, rtcp.0])
}

#[tokio::test]
async fn media_passes_both_ways_over_udp_tcp_and_tls() {
    for over in [Over::Udp, Over::Tcp, Over::Tls] {
        let Some(world) = World::new(&[]) else { return };
        let (sender, mut reports) = unbounded_channel();
        let (client, thread) = Client::start(world.settings(over), sender).unwrap();
        let client = Arc::new(client);
        let mut ports = ports();
        ports.set_turn(clock::now(), Some(&client));
        let (pair, [relayed, relayed_rtcp]) = relayed_pair(&world, &mut ports, &mut reports, 30_000).await;
        assert_eq!((relayed.ip(), relayed.port() % 2), (world.net.ip(2), 0), "EVEN-PORT");
        assert_eq!(relayed_rtcp.port(), relayed.port() + 1, "RESERVATION-TOKEN");
        let sockets = ports.take(clock::now(), pair).unwrap();
        assert!(sockets.iter().all(|socket| matches!(socket, MediaSocket::Turn(_))));
        let (provider, stranger) = (world.peer(30), world.peer(31));
        ports.permit(pair, || vec![world.net.ip(30)]);
        let call = Call::open(&world, sockets, pair, &provider);
        for number in 1..20 {
            call.exchange(&provider, relayed, number);
        }
        // By now over a channel; who has no permission does not come through it.
        stranger.send_to(&rtp(1, 9), relayed).unwrap();
        call.exchange(&provider, relayed, 20);
        // The same IP, another port: a permission is for the IP, the latch decides.
        let log = world.coturn.log();
        assert!(log.contains("CHANNEL_BIND processed, success"), "{over:?}: {log}");
        let sockets = call.close().await;
        ports.rest(clock::now(), pair, sockets, true);
        drop(ports);
        drop(client);
        thread.join().unwrap();
        let log = world.coturn.log();
        assert!(log.matches("REFRESH processed, success").count() >= 2, "given back: {log}");
    }
}

#[tokio::test]
async fn refreshes_and_stale_nonces_are_lived_with() {
    let Some(world) = World::new(&["--stale-nonce=2"]) else { return };
    for over in [Over::Udp, Over::Tcp] {
        let (client, mut reports) = world.client(over);
        let mut ports = ports();
        ports.set_turn(clock::now(), Some(&client));
        let (pair, [relayed, _]) = relayed_pair(&world, &mut ports, &mut reports, 31_000).await;
        let sockets = ports.take(clock::now(), pair).unwrap();
        let provider = world.peer(30);
        ports.permit(pair, || vec![world.net.ip(30)]);
        let call = Call::open(&world, sockets, pair, &provider);
        let until = clock::now() + Duration::from_secs(6);
        let mut number = 1;
        while clock::now() < until {
            call.exchange(&provider, relayed, number);
            number += 1;
        }
        // On a busy machine packets may be late, and are dropped.
        while let Ok(report) = reports.try_recv() {
            assert!(matches!(report, Report::Dropped { .. }), "it was never lost: {report:?}");
        }
        drop(call.close().await);
        let log = world.coturn.log();
        assert!(log.contains("error 438"), "{log}");
        assert!(log.matches("REFRESH processed, success").count() >= 6, "{log}");
    }
}

#[tokio::test]
async fn a_server_that_is_gone_is_said_and_found_again() {
    for over in [Over::Udp, Over::Tcp] {
        let Some(mut world) = World::new(&[]) else { return };
        let (client, mut reports) = world.client(over);
        let id = client.allocate(world.net.ip(1));
        let (whose, _) = allocated(&mut reports).await;
        assert_eq!(whose, id);
        // It has forgotten all: over UDP it says so at the next refresh, a connection ends.
        world.coturn.restart(&[]);
        let Report::Ended { id: whose, why } = next(&mut reports).await else { panic!("it is lost") };
        assert_eq!(whose, id);
        match over {
            Over::Udp => assert!(matches!(why, Failure::Turn(End::Lost)), "{why:?}"),
            Over::Tcp | Over::Tls => assert_eq!(why, Failure::Unreachable),
        }
        let mut tries = 0;
        loop {
            match next(&mut reports).await {
                Report::Allocated { id: whose, .. } => break assert_eq!(whose, id),
                Report::Ended { .. } => tries += 1,
                Report::Denied { .. } | Report::Dropped { .. } => {}
            }
            assert!(tries < 10);
        }
    }
}

#[tokio::test]
async fn wrong_passwords_and_wrong_names_are_no_reason_to_hurry() {
    let Some(world) = World::new(&[]) else { return };
    let wrong = Credentials { username: "office".to_owned(), password: "guess".to_owned() };
    let cases = [
        (Settings { credentials: wrong, ..world.settings(Over::Udp) }, Failure::Turn(End::Unauthorized)),
        (
            Settings {
                tls: Some(Arc::new(tls::Settings::load(&tls::Files::default()).unwrap())),
                ..world.settings(Over::Tls)
            },
            Failure::Unreachable,
        ),
        (
            Settings {
                server: Server { host: "no.such.name.invalid".to_owned(), port: 3478, over: Over::Udp },
                ..world.settings(Over::Udp)
            },
            Failure::Unresolved,
        ),
    ];
    for (settings, expected) in cases {
        let (sender, mut reports) = unbounded_channel();
        let (client, _thread) = Client::start(settings, sender).unwrap();
        let begun = clock::now();
        client.allocate(world.net.ip(1));
        for _ in 0..2 {
            let Report::Ended { why, .. } = next(&mut reports).await else { panic!("no allocation is expected") };
            assert_eq!(why, expected);
        }
        assert!(clock::now() - begun >= Duration::from_secs(2), "a pause before the second try");
    }
}

#[tokio::test]
async fn pairs_follow_when_turn_is_needed_and_when_it_is_not_any_more() {
    let Some(world) = World::new(&[]) else { return };
    let (client, mut reports) = world.client(Over::Udp);
    let mut ports = ports();
    let now = clock::now();
    ports.set_servers(now, vec![world.coturn.plain]);
    let pair = PortPair { ip: world.net.ip(1), rtp: 32_000 };
    ports.handle_input(now, Command::Bind { pair, discover: true });
    assert_eq!(ports.poll_output(), Some(Event::Bound { pair }));
    assert!(ports.poll_timeout().is_some(), "STUN is asked");
    ports.set_turn(now, Some(&client));
    assert_eq!(ports.poll_timeout(), None, "and not any more");
    let (_, [relayed, _]) = allocated_for(&mut ports, &mut reports).await;
    assert_eq!(relayed.ip(), world.net.ip(2));
    // One that a call has stays as it is; the next one is found by STUN.
    let taken = ports.take(now, pair).unwrap();
    ports.set_turn(now, None);
    assert_eq!((ports.poll_output(), ports.poll_timeout()), (None, None));
    ports.rest(now, pair, taken, false);
    assert_eq!(ports.poll_output(), Some(Event::Rested { pair }));
    assert!(ports.poll_timeout().is_some());
    // And an idle one that loses its allocation says so.
    ports.set_turn(now, Some(&client));
    allocated_for(&mut ports, &mut reports).await;
    ports.set_turn(now, None);
    assert_eq!(ports.poll_output(), Some(Event::Unmapped { pair }));
}

async fn allocated_for(ports: &mut Ports, reports: &mut UnboundedReceiver<Report>) -> (PortPair, [SocketAddr; 2]) {
    let report = next(reports).await;
    ports.turned(&report);
    match ports.poll_output() {
        Some(Event::Mapped { pair, rtp, rtcp }) => (pair, [rtp.0, rtcp.0]),
        other => panic!("{report:?}: {other:?}"),
    }
}
