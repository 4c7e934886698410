//! A listener on a wildcard knows which of our addresses each datagram was sent
//! to, and answers from that one.
#![allow(clippy::unwrap_used, reason = "a test that unwraps in vain has failed")]

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use net::UdpListener;
use net::dscp::Dscp;
use net::sockopt::{Class, bind_udp};
use wire::{Flow, ListenerId, Transmit, Transport};

/// A blocking socket of some other machine, as far as one process can have it.
fn peer(address: &str) -> UdpSocket {
    let socket = bind_udp(address.parse().unwrap(), Class::Signalling(Dscp::CS3)).unwrap();
    socket.set_nonblocking(false).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket
}

/// Sends back what comes, until `count` datagrams have been answered.
async fn echo(listener: &mut UdpListener, count: usize) -> BTreeMap<SocketAddr, Vec<SocketAddr>> {
    let mut locals: BTreeMap<SocketAddr, Vec<SocketAddr>> = BTreeMap::new();
    let mut answered = 0;
    while answered < count {
        tokio::time::timeout(Duration::from_secs(5), listener.ready()).await.unwrap().unwrap();
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

#[tokio::test]
async fn a_wildcard_listener_answers_from_the_address_that_was_asked() {
    let mut listener = UdpListener::bind(ListenerId(3), "0.0.0.0:0".parse().unwrap(), Dscp::CS3).unwrap();
    let port = listener.local_addr().port();
    let ours = [SocketAddr::from(([127, 0, 0, 1], port)), SocketAddr::from(([127, 0, 0, 2], port))];
    let peers = [peer("127.0.0.1:0"), peer("127.0.0.1:0")];
    for number in 0..50_u8 {
        peers[0].send_to(&[number], ours[0]).unwrap();
        peers[1].send_to(&[number], ours[1]).unwrap();
    }
    let locals = echo(&mut listener, 100).await;
    for (peer, ours) in peers.iter().zip(ours) {
        assert_eq!(locals[&peer.local_addr().unwrap()], vec![ours; 50]);
        for number in 0..50_u8 {
            let mut answer = [0; 8];
            let (len, from) = peer.recv_from(&mut answer).unwrap();
            assert_eq!((&answer[..len], from), (&[number][..], ours));
        }
    }
}

#[tokio::test]
async fn ipv6_wildcards_work_the_same() {
    let Ok(mut listener) = UdpListener::bind(ListenerId(0), "[::]:0".parse().unwrap(), Dscp::CS3) else { return };
    let ours = SocketAddr::new("::1".parse().unwrap(), listener.local_addr().port());
    let peer = peer("[::1]:0");
    peer.send_to(b"six", ours).unwrap();
    let locals = echo(&mut listener, 1).await;
    assert_eq!(locals[&peer.local_addr().unwrap()], [ours]);
    assert_eq!(peer.recv_from(&mut [0; 8]).unwrap(), (3, ours));
}

#[tokio::test]
async fn the_longest_datagram_passes_and_a_longer_one_is_a_failure() {
    let mut listener = UdpListener::bind(ListenerId(0), "127.0.0.1:0".parse().unwrap(), Dscp::CS3).unwrap();
    let peer = peer("127.0.0.1:0");
    let longest = vec![b'x'; 65_507];
    peer.send_to(&longest, listener.local_addr()).unwrap();
    echo(&mut listener, 1).await;
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
