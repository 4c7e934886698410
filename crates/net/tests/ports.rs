//! Port pairs: bound whole or not at all, handed out empty, rested until quiet,
//! and mapped by STUN while idle.
#![allow(clippy::unwrap_used, reason = "a test that unwraps in vain has failed")]

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use media::PortPair;
use media::ports::{Command, Event};
use nat::{Discovery, Mapped};
use net::datapath::MediaSocket;
use net::dscp::{Dscp, Mark};
use net::sockopt::{Class, bind_udp};
use net::{Ports, clock};

const QUIET: Duration = Duration::from_secs(30);

fn ports() -> Ports {
    Ports::new(Discovery::new(nat::discovery::Config::default(), [7; 32]), QUIET, Mark::Set(Dscp::EF)).unwrap()
}

fn socket() -> UdpSocket {
    let socket = bind_udp("127.0.0.1:0".parse().unwrap(), Class::Media(Mark::Set(Dscp::EF))).unwrap();
    socket.set_nonblocking(false).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket
}

/// Binds a pair that happens to be free on this machine.
fn bind_pair(ports: &mut Ports, now: Instant, discover: bool) -> PortPair {
    loop {
        let rtp = socket().local_addr().unwrap().port() & !1;
        let pair = PortPair { ip: Ipv4Addr::LOCALHOST.into(), rtp };
        ports.handle_input(now, Command::Bind { pair, discover });
        match ports.poll_output().unwrap() {
            Event::Bound { .. } => return pair,
            Event::Refused { .. } => {}
            other @ (Event::Mapped { .. } | Event::Unmapped { .. } | Event::Rested { .. }) => panic!("{other:?}"),
        }
    }
}

fn plain(socket: MediaSocket) -> UdpSocket {
    match socket {
        MediaSocket::Udp(socket) => socket,
        MediaSocket::Turn(_) => panic!("there is no TURN server"),
    }
}

/// Lets the ports read what has arrived.
async fn receive(ports: &mut Ports, now: Instant) {
    tokio::time::timeout(Duration::from_secs(5), ports.ready()).await.unwrap().unwrap();
    ports.receive(now);
}

#[tokio::test]
async fn a_pair_is_bound_whole_or_not_at_all() {
    let (mut ports, now) = (ports(), clock::now());
    let pair = bind_pair(&mut ports, now, false);
    let [rtp, rtcp] = ports.take(now, pair).unwrap().map(plain);
    assert_eq!((rtp.local_addr().unwrap(), rtcp.local_addr().unwrap()), (pair.rtp(), pair.rtcp()));
    assert!(ports.take(now, pair).is_none(), "taken");
    ports.handle_input(now, Command::Bind { pair, discover: false });
    assert_eq!(ports.poll_output(), Some(Event::Refused { pair }));

    // Somebody else has the odd port: the even one must be free afterwards.
    ports.handle_input(now, Command::Unbind { pair });
    ports.rest(now, pair, [rtp.into(), socket().into()], true);
    drop(rtcp);
    let stranger = bind_udp(pair.rtcp(), Class::Media(Mark::Set(Dscp::EF))).unwrap();
    ports.handle_input(now, Command::Bind { pair, discover: false });
    assert_eq!(ports.poll_output(), Some(Event::Refused { pair }));
    bind_udp(pair.rtp(), Class::Media(Mark::Set(Dscp::EF))).unwrap();
    drop(stranger);
    ports.handle_input(now, Command::Bind { pair, discover: false });
    assert_eq!(ports.poll_output(), Some(Event::Bound { pair }));
    ports.handle_input(now, Command::Unbind { pair });
    bind_udp(pair.rtp(), Class::Media(Mark::Set(Dscp::EF))).unwrap();
    assert_eq!(ports.poll_timeout(), None);
}

#[tokio::test]
async fn a_pair_lost_with_its_worker_can_be_bound_again() {
    let (mut ports, now) = (ports(), clock::now());
    let pair = bind_pair(&mut ports, now, false);
    ports.lose(pair);
    assert_eq!(ports.poll_output(), None, "not taken, not lost");
    drop(ports.take(now, pair).unwrap());
    ports.lose(pair);
    assert_eq!(ports.poll_output(), Some(Event::Refused { pair }));
    ports.handle_input(now, Command::Bind { pair, discover: false });
    assert_eq!(ports.poll_output(), Some(Event::Bound { pair }));
}

#[tokio::test]
async fn a_pair_is_handed_out_empty() {
    let (mut ports, now) = (ports(), clock::now());
    let pair = bind_pair(&mut ports, now, false);
    let stranger = socket();
    for _ in 0..1000 {
        stranger.send_to(b"stray", pair.rtp()).unwrap();
    }
    let [rtp, _rtcp] = ports.take(now, pair).unwrap().map(plain);
    assert_eq!(rtp.recv(&mut [0; 8]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn a_used_pair_rests_until_quiet_and_an_unused_one_does_not() {
    let (mut ports, start) = (ports(), clock::now());
    let pair = bind_pair(&mut ports, start, false);
    let sockets = ports.take(start, pair).unwrap();
    ports.rest(start, pair, sockets, false);
    assert_eq!(ports.poll_output(), Some(Event::Rested { pair }));

    let sockets = ports.take(start, pair).unwrap();
    ports.rest(start, pair, sockets, true);
    let moment = ports.poll_timeout().unwrap();
    assert!(moment < start + QUIET, "from then on it is read");
    ports.handle_timeout(moment);
    assert_eq!((ports.poll_output(), ports.poll_timeout()), (None, Some(start + QUIET)));
    // A late packet of the old call after 20 s, and one that nobody has read when the time is up.
    let peer = socket();
    let late = start + Duration::from_secs(20);
    peer.send_to(b"late", pair.rtcp()).unwrap();
    receive(&mut ports, late).await;
    ports.handle_timeout(start + QUIET);
    assert_eq!(ports.poll_output(), None);
    assert_eq!(ports.poll_timeout(), Some(late + QUIET));
    peer.send_to(b"later", pair.rtp()).unwrap();
    ports.handle_timeout(late + QUIET);
    assert_eq!(ports.poll_output(), None);
    let end = late + QUIET + QUIET;
    assert_eq!(ports.poll_timeout(), Some(end));
    ports.handle_timeout(end);
    assert_eq!(ports.poll_output(), Some(Event::Rested { pair }));
    assert_eq!(ports.poll_timeout(), None);
}

#[tokio::test]
async fn a_flood_is_read_in_bites_with_pauses_between() {
    let (mut ports, start) = (ports(), clock::now());
    let pair = bind_pair(&mut ports, start, false);
    // One that comes back is read from some moment on.
    let sockets = ports.take(start, pair).unwrap();
    ports.rest(start, pair, sockets, true);
    let now = ports.poll_timeout().unwrap();
    ports.handle_timeout(now);
    let flooder = socket();
    for _ in 0..200 {
        flooder.send_to(&[0; 172], pair.rtp()).unwrap();
    }
    receive(&mut ports, now).await;
    let pause = ports.poll_timeout().unwrap();
    assert!(pause > now && pause < now + Duration::from_millis(100));
    let is_ready = |ports: &Ports| {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        ports.poll_ready(&mut cx).is_ready()
    };
    assert!(!is_ready(&ports), "no reading during the pause");
    ports.receive(now);
    assert_eq!(ports.poll_timeout(), Some(pause));
    for _ in 0..20 {
        let Some(due) = ports.poll_timeout() else { break };
        ports.handle_timeout(due);
    }
    assert_eq!(ports.poll_timeout(), None, "all read");
}

#[tokio::test]
async fn an_address_that_is_not_ours_refuses_a_pair_and_no_more() {
    let (mut ports, now) = (ports(), clock::now());
    let pair = PortPair { ip: Ipv4Addr::new(192, 0, 2, 1).into(), rtp: 40_000 };
    ports.handle_input(now, Command::Bind { pair, discover: false });
    assert_eq!(ports.poll_output(), Some(Event::Refused { pair }));
    assert_eq!((ports.poll_output(), ports.poll_timeout()), (None, None));
    bind_pair(&mut ports, now, false);
}

/// A Binding success response (RFC 8489 §14.2) that reports `mapped` (IPv4).
fn binding_response(request: &[u8], mapped: SocketAddr) -> Vec<u8> {
    let SocketAddr::V4(mapped) = mapped else { panic!("IPv4 only") };
    let cookie = &request[4..8];
    let mut response = vec![0x01, 0x01, 0, 12];
    response.extend_from_slice(&request[4..20]);
    response.extend_from_slice(&[0x00, 0x20, 0, 8, 0, 1]);
    let port = mapped.port().to_be_bytes();
    response.extend(port.iter().zip(cookie).map(|(octet, mask)| octet ^ mask));
    response.extend(mapped.ip().octets().iter().zip(cookie).map(|(octet, mask)| octet ^ mask));
    response
}

#[tokio::test]
async fn idle_pairs_are_mapped_and_returned_ones_are_mapped_anew() {
    let (mut ports, mut now) = (ports(), clock::now());
    let server = socket();
    server.set_nonblocking(true).unwrap();
    ports.set_servers(now, vec![server.local_addr().unwrap()]);
    let pair = bind_pair(&mut ports, now, true);
    let world = |port: u16| Mapped(SocketAddr::from(([203, 0, 113, 9], port)));
    let expected = Event::Mapped { pair, rtp: world(pair.rtp), rtcp: world(pair.rtp | 1) };
    for round in 0..2 {
        let mut found = None;
        for _ in 0..100 {
            let (mut request, mut answered) = ([0; 548], false);
            while let Ok((len, from)) = server.recv_from(&mut request) {
                server.send_to(&binding_response(&request[..len], world(from.port()).0), from).unwrap();
                answered = true;
            }
            if answered {
                receive(&mut ports, now).await;
            }
            found = ports.poll_output();
            if found.is_some() {
                break;
            }
            now += Duration::from_millis(100);
            ports.handle_timeout(now);
        }
        assert_eq!(found, Some(expected), "round {round}");
        let sockets = ports.take(now, pair).unwrap();
        assert_eq!(ports.poll_timeout(), None, "nothing is asked for a taken pair");
        ports.rest(now, pair, sockets, false);
        assert_eq!(ports.poll_output(), Some(Event::Rested { pair }));
    }
}
