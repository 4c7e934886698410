use super::*;
use crate::mmsg::CALL;
use crate::sockopt::{Class, bind_udp};

fn socket() -> UdpSocket {
    bind_udp("127.0.0.1:0".parse().unwrap(), Class::Media(Mark::Set(Dscp::EF))).unwrap()
}

fn stream(slot: u32) -> StreamId {
    StreamId { worker: 0, slot, generation: 1 }
}

/// Three flooded sockets fill more than one batch; the fourth gets its turn
/// all the same, and what leaves by one socket keeps its order.
#[test]
fn more_than_a_batch_is_judged_once_each_and_leaves_in_order() {
    let mut backend = Backend::new(Arc::new(Shared::new().unwrap()), Marks::default()).unwrap();
    let sockets = [(); 4].map(|()| socket());
    let addresses = sockets.each_ref().map(|socket| socket.local_addr().unwrap());
    backend.attach(stream(2), sockets.map(MediaSocket::Udp)).unwrap();
    let (far, sink) = (socket(), socket());
    for number in 0..200_u8 {
        for address in &addresses[..3] {
            far.send_to(&[number], address).unwrap();
        }
    }
    far.send_to(&[200], addresses[3]).unwrap();
    let mut judged = [const { Vec::new() }; 4];
    let mut batches = 0;
    while judged.iter().map(Vec::len).sum::<usize>() < 601 {
        backend.wait(Some(clock::now() + Duration::from_secs(5))).unwrap();
        backend.receive();
        assert!(backend.batch.len() <= BATCH);
        batches += 1;
        assert!(batches < 100);
        backend.judge(|on, from, packet| {
            assert_eq!(from, far.local_addr().unwrap());
            let at = (on.0 - 8) as usize;
            judged[at].push(packet[0]);
            let forward = at == 0 && packet[0] < 150;
            let to = sink.local_addr().unwrap();
            if forward { Verdict::Forward { via: Slot(9), to } } else { Verdict::Consumed }
        });
    }
    for judged in &judged[..3] {
        assert!(judged.iter().copied().eq(0..200));
    }
    assert_eq!(judged[3], [200]);
    let mut room = [0; 8];
    for number in 0..150 {
        assert_eq!(sink.recv_from(&mut room).unwrap(), (1, addresses[1]));
        assert_eq!(room[0], number);
    }
    let detached = backend.detach(2, |_| true).unwrap();
    assert_eq!((detached.stream, detached.used), (stream(2), [true, true]));
}

/// A hundred sockets flooded beyond what is ever read, and a packet every now
/// and then on fifty others: those wait for one round of the ring, and nothing of
/// theirs is lost. What is dropped is the flood's, and the kernel drops it.
#[test]
fn a_flood_takes_its_turn_and_no_more() {
    const FLOODED: usize = 100;
    const QUIET: usize = 52;
    let mut backend = Backend::new(Arc::new(Shared::new().unwrap()), Marks::default()).unwrap();
    let mut addresses = Vec::new();
    for slot in 0..(FLOODED + QUIET) / 4 {
        let sockets = [(); 4].map(|()| socket());
        addresses.extend(sockets.each_ref().map(|socket| socket.local_addr().unwrap()));
        backend.attach(stream(slot as u32), sockets.map(MediaSocket::Udp)).unwrap();
    }
    let (flood, calls) = (socket(), socket());
    for address in &addresses[..FLOODED] {
        for _ in 0..TRAIN * 40 {
            flood.send_to(&[0; 160], address).unwrap();
        }
    }
    let mut judged = [0; FLOODED + QUIET];
    for tick in 1..=20 {
        for address in &addresses[FLOODED..] {
            calls.send_to(&[tick; 160], address).unwrap();
        }
        // As many as one turn of everybody takes, whatever has come in the meantime.
        let mut room = FLOODED * TRAIN + QUIET;
        while room > 0 {
            backend.wait(Some(clock::now() + Duration::from_secs(5))).unwrap();
            backend.receive();
            room = room.saturating_sub(backend.batch.len().max(1));
            backend.judge(|on, _, packet| {
                let on = on.0 as usize;
                judged[on] += 1;
                assert!(on < FLOODED || packet[0] == tick, "in its own round");
                Verdict::Consumed
            });
        }
        assert!(judged[FLOODED..].iter().all(|&count| count == usize::from(tick)), "{judged:?}");
        for address in &addresses[..FLOODED] {
            for _ in 0..2 * TRAIN {
                flood.send_to(&[0; 160], address).unwrap();
            }
        }
    }
    let (least, most) = (judged[..FLOODED].iter().min().unwrap(), judged[..FLOODED].iter().max().unwrap());
    assert!(most - least <= 2 * TRAIN, "the flood, too, is served evenly: {least} to {most}");
}

/// Sends packets with these marks through a stream's first socket to its second; how they come out.
fn marked(local: &str, marks: Marks, video: bool, points: &[Dscp]) -> Vec<Dscp> {
    let mut backend = Backend::new(Arc::new(Shared::new().unwrap()), marks).unwrap();
    let bind = |mark| bind_udp(local.parse().unwrap(), Class::Media(mark)).unwrap();
    let sockets = [(); 4].map(|()| bind(marks.audio));
    let (first, far, sink) = (sockets[0].local_addr().unwrap(), bind(Mark::Keep), bind(Mark::Keep));
    backend.attach(stream(0), sockets.map(MediaSocket::Udp)).unwrap();
    backend.mark(stream(0), video);
    for (number, point) in (0..).zip(points) {
        sockopt::set_dscp(&far, first.is_ipv4(), *point);
        far.send_to(&[number], first).unwrap();
    }
    let mut judged = 0;
    while judged < points.len() {
        backend.wait(Some(clock::now() + Duration::from_secs(5))).unwrap();
        backend.receive();
        backend.judge(|_, _, _| {
            judged += 1;
            Verdict::Forward { via: Slot(1), to: sink.local_addr().unwrap() }
        });
    }
    let mut batch = Batch::new(CALL, ROOM);
    assert_eq!(batch.receive(sink.as_fd(), CALL).unwrap(), points.len());
    let out = (0..points.len()).map(|at| batch.packet(at).unwrap());
    assert!(out.clone().map(|packet| packet.bytes[0]).eq(0..points.len() as u8), "in order");
    // Its sockets come back as they were bound.
    let detached = backend.detach(0, |_| true).unwrap();
    let back = |socket| socket2::SockRef::from(socket).tos_v4().unwrap();
    if first.is_ipv4() {
        assert!(detached.sockets.iter().all(|socket| back(socket) == u32::from(marks.audio.first().octet())));
    }
    out.map(|packet| packet.mark).collect()
}

#[test]
fn packets_are_marked_by_class_or_keep_their_mark() {
    let points = [Dscp::EF, Dscp::EF, Dscp::DEFAULT, Dscp::CS3, Dscp::EF];
    let set = Marks::default();
    let keep = Marks { audio: Mark::Keep, ..set };
    let keep_video = Marks { video: Mark::Keep, ..set };
    for local in ["127.0.0.1:0", "[::1]:0"] {
        if bind_udp(local.parse().unwrap(), Class::Signalling(Dscp::CS3)).is_err() {
            continue;
        }
        assert_eq!(marked(local, set, false, &points), [Dscp::EF; 5]);
        assert_eq!(marked(local, set, true, &points), [Dscp::AF41; 5]);
        assert_eq!(marked(local, keep, false, &points), points);
        assert_eq!(marked(local, keep, true, &points), [Dscp::AF41; 5]);
        assert_eq!(marked(local, keep_video, false, &points), [Dscp::EF; 5]);
        assert_eq!(marked(local, keep_video, true, &points), points);
    }
}

/// A leg behind a TURN server: packets come with the peer's own address, and go where they are sent.
#[test]
fn a_tunnel_takes_the_place_of_a_socket() {
    let mut backend = Backend::new(Arc::new(Shared::new().unwrap()), Marks::default()).unwrap();
    let ((tunnel, near), far) = (crate::turn::tunnel::pair().unwrap(), socket());
    let plain = [(); 3].map(|()| socket());
    let [first, second, third] = plain;
    let at_first = first.local_addr().unwrap();
    let sockets = [first.into(), second.into(), MediaSocket::Turn(tunnel), third.into()];
    backend.attach(stream(0), sockets).unwrap();
    let (peer, other) = ("198.51.100.7:4000".parse().unwrap(), "198.51.100.8:5000".parse().unwrap());
    let mut seen = Vec::new();
    for number in 0..3 {
        crate::mmsg::tunnel::send(near.as_fd(), peer, &[number]).unwrap();
        far.send_to(&[number + 10], at_first).unwrap();
    }
    while seen.len() < 6 {
        backend.wait(Some(clock::now() + Duration::from_secs(5))).unwrap();
        backend.receive();
        backend.judge(|on, from, packet| {
            seen.push((on.0, from, packet[0]));
            let (via, to) = if on.0 == 2 { (Slot(0), far.local_addr().unwrap()) } else { (Slot(2), other) };
            Verdict::Forward { via, to }
        });
    }
    backend.send(Slot(2), peer, b"own");
    let from_peer: Vec<_> = seen.iter().filter(|(on, ..)| *on == 2).copied().collect();
    assert_eq!(from_peer, [(2, peer, 0), (2, peer, 1), (2, peer, 2)]);
    let mut batch = Batch::new(CALL, ROOM);
    batch.receive_tunnel(near.as_fd(), CALL).unwrap();
    let out: Vec<_> = (0..batch.len()).map(|at| batch.packet(at).unwrap()).map(|p| (p.from, p.bytes)).collect();
    assert_eq!(out, [(other, &[10][..]), (other, &[11]), (other, &[12]), (peer, b"own")]);
    let mut room = [0; 8];
    for number in 0..3 {
        assert_eq!((far.recv(&mut room).unwrap(), room[0]), (1, number));
    }
    let detached = backend.detach(0, |_| true).unwrap();
    assert_eq!(detached.used, [true, true]);
    assert!(matches!(detached.sockets[2], MediaSocket::Turn(_)));
}

/// An order that closes a stream, and opens another in its slot, comes
/// between the receive and the judgement.
#[test]
fn packets_of_a_former_use_of_the_slot_are_dropped() {
    let mut backend = Backend::new(Arc::new(Shared::new().unwrap()), Marks::default()).unwrap();
    let sockets = [(); 4].map(|()| socket());
    let first = sockets[0].local_addr().unwrap();
    backend.attach(stream(0), sockets.map(MediaSocket::Udp)).unwrap();
    socket().send_to(b"old", first).unwrap();
    backend.wait(Some(clock::now() + Duration::from_secs(5))).unwrap();
    backend.receive();
    assert!(backend.detach(0, |id| id == stream(1)).is_none(), "not the stream that is meant");
    assert!(backend.detach(0, |id| id == stream(0)).is_some());
    backend.attach(stream(0), [(); 4].map(|()| socket().into())).unwrap();
    backend.judge(|_, _, _| panic!("judged for the wrong stream"));
    assert!(backend.attach(stream(0), [(); 4].map(|()| socket().into())).is_err(), "held");
    assert!(backend.attach(stream(MOST_STREAMS), [(); 4].map(|()| socket().into())).is_err(), "out of bounds");
}
