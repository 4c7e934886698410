//! A listener on a wildcard knows which of our addresses each datagram was sent
//! to, and answers from that one.
#![allow(clippy::unwrap_used, reason = "a test that unwraps in vain has failed")]

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use net::dscp::Dscp;
use net::sockopt::{Class, bind_udp};
use net::{Sleep, UdpListener, clock};
use wire::{Flow, ListenerId, Transmit, Transport};

/// A blocking socket of some other machine, as far as one process can have it.
fn peer(address: &str) -> UdpSocket {
    let socket = bind_udp(address.parse().unwrap(), Class::Signalling(Dscp::CS3)).unwrap();
    socket.set_nonblocking(false).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket
}

/// A listener, and what tells of it.
fn listen(id: u16, address: &str) -> Option<(UdpListener, Sleep)> {
    let listener = UdpListener::bind(ListenerId(id), address.parse().unwrap(), Dscp::CS3).ok()?;
    let sleep = Sleep::new().unwrap();
    sleep.watch(&listener, 0).unwrap();
    Some((listener, sleep))
}

/// Waits until there is something to read, but not for ever.
fn ready(sleep: &mut Sleep) {
    let most = clock::now() + Duration::from_secs(5);
    sleep.set(Some(most)).unwrap();
    while sleep.token().is_none() {
        assert!(clock::now() < most, "nothing came");
        sleep.sleep(true).unwrap();
    }
}

/// Sends back what comes, until `count` datagrams have been answered.
fn echo((listener, sleep): (&mut UdpListener, &mut Sleep), count: usize) -> BTreeMap<SocketAddr, Vec<SocketAddr>> {
    let mut locals: BTreeMap<SocketAddr, Vec<SocketAddr>> = BTreeMap::new();
    let mut answered = 0;
    while answered < count {
        ready(sleep);
        for index in 0..listener.try_recv_batch() {
            let datagram = listener.datagram(index).unwrap();
            assert!(!datagram.truncated);
            locals.entry(datagram.flow.remote).or_default().push(datagram.flow.local);
            let transmit = Transmit { flow: datagram.flow, bytes: datagram.bytes.to_vec() };
            listener.queue(transmit);
            answered += 1;
        }
        assert_eq!(listener.try_send_batch(), 0);
    }
    assert_eq!(listener.poll_failure(), None);
    locals
}

#[test]
fn a_wildcard_listener_answers_from_the_address_that_was_asked() {
    let (mut listener, mut sleep) = listen(3, "0.0.0.0:0").unwrap();
    let port = listener.local_addr().port();
    let ours = [SocketAddr::from(([127, 0, 0, 1], port)), SocketAddr::from(([127, 0, 0, 2], port))];
    let peers = [peer("127.0.0.1:0"), peer("127.0.0.1:0")];
    for number in 0..50_u8 {
        peers[0].send_to(&[number], ours[0]).unwrap();
        peers[1].send_to(&[number], ours[1]).unwrap();
    }
    let locals = echo((&mut listener, &mut sleep), 100);
    for (peer, ours) in peers.iter().zip(ours) {
        assert_eq!(locals[&peer.local_addr().unwrap()], vec![ours; 50]);
        for number in 0..50_u8 {
            let mut answer = [0; 8];
            let (len, from) = peer.recv_from(&mut answer).unwrap();
            assert_eq!((&answer[..len], from), (&[number][..], ours));
        }
    }
}

#[test]
fn a_batch_that_leaves_nothing_behind_says_so_and_the_next_datagram_wakes() {
    let (mut listener, mut sleep) = listen(0, "127.0.0.1:0").unwrap();
    let (to, peer) = (listener.local_addr(), peer("127.0.0.1:0"));
    for round in 0..20 {
        for number in 0..40_u8 {
            peer.send_to(&[number], to).unwrap();
        }
        ready(&mut sleep);
        assert_eq!((listener.try_recv_batch(), listener.is_drained()), (32, false), "{round}");
        sleep.sleep(false).unwrap();
        assert_eq!(sleep.token(), Some(0), "what is left is not forgotten");
        assert_eq!((listener.try_recv_batch(), listener.is_drained()), (8, true), "{round}");
        sleep.sleep(false).unwrap();
        assert_eq!(sleep.token(), None, "nobody is told of what is not there");
        assert_eq!((listener.try_recv_batch(), listener.is_drained()), (0, true), "{round}");
    }
}

/// Time passes.
fn pause(time: Duration) {
    let mut sleep = Sleep::new().unwrap();
    sleep.set(Some(clock::now() + time)).unwrap();
    sleep.sleep(true).unwrap();
}

/// The kernel begins to stamp a moment after it is first asked to; until then
/// it gives the time at which it is asked.
#[test]
fn how_old_the_newest_of_a_full_batch_is_the_kernel_tells() {
    let (mut listener, mut sleep) = listen(0, "127.0.0.1:0").unwrap();
    let (to, peer) = (listener.local_addr(), peer("127.0.0.1:0"));
    let (mut stamped, deadline) = (0, clock::now() + Duration::from_secs(10));
    while stamped < 3 {
        let began = clock::now();
        for number in 0..40_u8 {
            peer.send_to(&[number], to).unwrap();
        }
        let sent = clock::now();
        pause(Duration::from_millis(20));
        ready(&mut sleep);
        assert_eq!(listener.try_recv_batch(), 32);
        let (now, slack) = (clock::now(), Duration::from_millis(5));
        let read = listener.caught_up(now);
        let right = read.is_some_and(|at| at + slack >= began && at <= sent + slack);
        assert!(right || stamped == 0, "once it stamps, it stamps each: {read:?}, sent from {began:?} to {sent:?}");
        assert!(right || now < deadline, "never a stamp");
        stamped += u32::from(right);
        ready(&mut sleep);
        assert_eq!(listener.try_recv_batch(), 8);
        let now = clock::now();
        assert_eq!(listener.caught_up(now), Some(now), "all of it");
    }
}

#[test]
fn ipv6_wildcards_work_the_same() {
    let Some((mut listener, mut sleep)) = listen(0, "[::]:0") else { return };
    let ours = SocketAddr::new("::1".parse().unwrap(), listener.local_addr().port());
    let peer = peer("[::1]:0");
    peer.send_to(b"six", ours).unwrap();
    let locals = echo((&mut listener, &mut sleep), 1);
    assert_eq!(locals[&peer.local_addr().unwrap()], [ours]);
    assert_eq!(peer.recv_from(&mut [0; 8]).unwrap(), (3, ours));
}

#[test]
fn the_longest_datagram_passes_and_a_longer_one_is_a_failure() {
    let (mut listener, mut sleep) = listen(0, "127.0.0.1:0").unwrap();
    let peer = peer("127.0.0.1:0");
    let longest = vec![b'x'; 65_507];
    peer.send_to(&longest, listener.local_addr()).unwrap();
    echo((&mut listener, &mut sleep), 1);
    let mut room = vec![0; 65_536];
    assert_eq!(peer.recv(&mut room).unwrap(), longest.len());

    let flow = |remote| Flow {
        transport: Transport::Udp,
        listener: ListenerId(0),
        connection: 0,
        local: listener.local_addr(),
        remote,
    };
    let there = flow(peer.local_addr().unwrap());
    let forbidden = flow("255.255.255.255:5060".parse().unwrap());
    for (flow, len) in [(there, 65_508), (forbidden, 3), (there, 3)] {
        listener.queue(Transmit { flow, bytes: vec![b'y'; len] });
    }
    assert_eq!(listener.try_send_batch(), 0);
    let failure = listener.poll_failure().unwrap();
    assert_eq!((failure.flow, failure.kind), (there, ErrorKind::InvalidInput));
    let failure = listener.poll_failure().unwrap();
    assert_eq!((failure.flow, failure.kind), (forbidden, ErrorKind::PermissionDenied));
    assert_eq!(listener.poll_failure(), None);
    assert_eq!(peer.recv(&mut room).unwrap(), 3, "what follows a failure still leaves");
}
