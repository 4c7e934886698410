//! TCP: framing, keep-alives, deadlines, caps.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use nat::{Access, Side};
use net::transport::{Caps, Event, Patience, Why};
use tokio::net::TcpSocket;
use wire::{ListenerId, Transmit, Transport};

use super::world::*;

const TCP: &[Transport] = &[Transport::Tcp];

#[tokio::test]
async fn messages_come_in_and_go_out_on_the_same_connection() {
    let mut ours = Ours::new(settings(), TCP);
    let mut phone = peer_from("127.0.0.2", ours.listeners[0]).await;
    let (flow, names) = ours.opened().await;
    assert!(names.is_empty() && flow.connection > 0 && flow.connection < OURS);
    assert_eq!((flow.local, flow.remote), (ours.listeners[0], phone.local_addr().unwrap()));
    // Two in one segment, and one octet by octet.
    say(&mut phone, &[MESSAGE, MESSAGE].concat()).await;
    for octet in MESSAGE {
        say(&mut phone, &[*octet]).await;
    }
    for _ in 0..3 {
        assert_eq!(ours.message().await, (flow, MESSAGE.to_vec()));
    }
    ours.send(flow, b"one");
    ours.send(flow, b"two");
    expect(&mut phone, b"onetwo").await;
    drop(phone);
    assert_eq!(ours.closed().await, (flow, Why::Ended, String::new()));
    assert!(ours.streams.send(Transmit { flow, bytes: Vec::new() }).is_err());
    assert_eq!(ours.streams.census().total, 0);
}

#[tokio::test]
async fn whoever_may_not_speak_is_turned_away() {
    let mut ours = Ours::new(settings(), TCP);
    let access = Access::new(&[("127.0.0.3".parse().unwrap(), false)], &[Vec::new(), Vec::new()]);
    ours.streams.set_access(Arc::new(access), vec![Side::Inner]);
    let mut shut = peer_from("127.0.0.3", ours.listeners[0]).await;
    expect_end(&mut shut).await;
    assert_eq!(ours.event().await, Event::Denied);
    let mut phone = peer_from("127.0.0.2", ours.listeners[0]).await;
    let (flow, _) = ours.opened().await;
    assert_eq!(flow.remote, phone.local_addr().unwrap(), "nothing is heard of the other");
    say(&mut phone, MESSAGE).await;
    assert_eq!(ours.message().await, (flow, MESSAGE.to_vec()));
    assert_eq!(ours.streams.take_denied(), BTreeMap::from([(ListenerId(0), 1)]));
    assert_eq!(ours.streams.take_denied(), BTreeMap::new());
}

#[tokio::test]
async fn pings_are_answered_at_once_and_pongs_are_told() {
    let mut ours = Ours::new(settings(), TCP);
    let mut phone = peer(ours.listeners[0]).await;
    let (flow, _) = ours.opened().await;
    say(&mut phone, b"\r\n\r\n").await;
    expect(&mut phone, b"\r\n").await;
    assert_eq!(ours.event().await, Event::KeepAlive { flow });
    say(&mut phone, &[b"\r\n\r\n", MESSAGE, b"\r\n\r\n"].concat()).await;
    expect(&mut phone, b"\r\n\r\n").await;
    assert_eq!(ours.message().await.1, MESSAGE);
    assert_eq!(ours.event().await, Event::KeepAlive { flow });
    ours.send(flow, b"\r\n\r\n");
    expect(&mut phone, b"\r\n\r\n").await;
    say(&mut phone, b"\r\n").await;
    assert_eq!(ours.event().await, Event::Pong { flow });
    // The second half of what turns out to be a ping.
    say(&mut phone, b"\r\n").await;
    assert_eq!(ours.event().await, Event::KeepAlive { flow });
    expect(&mut phone, b"\r\n").await;
}

#[tokio::test]
async fn what_cannot_be_framed_ends_its_own_connection_only() {
    let mut ours = Ours::new(settings(), TCP);
    let mut good = peer(ours.listeners[0]).await;
    let (good_flow, _) = ours.opened().await;
    for (bytes, what) in [
        (&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], "Content-Length missing"),
        (b"A sip:b SIP/2.0\r\nContent-Length: 4000000000\r\n\r\n", "too large"),
        (b"A sip:b SIP/2.0\r\nContent-Length: 99999999999999999999\r\n\r\n", "too large"),
        (&[b'x'; 5000], "too large"),
    ] {
        let mut bad = peer(ours.listeners[0]).await;
        let (flow, _) = ours.opened().await;
        say(&mut bad, bytes).await;
        let (closed, why, text) = ours.closed().await;
        assert_eq!((closed, why), (flow, Why::Unframed));
        assert!(text.contains(what), "{text}");
        expect_end(&mut bad).await;
    }
    say(&mut good, MESSAGE).await;
    assert_eq!(ours.message().await.0, good_flow);
}

fn hasty() -> net::transport::streams::Settings {
    let short = Duration::from_millis(300);
    let patience =
        Patience { message: short, first: short * 2, idle: short * 3, handshake: short, ..Patience::default() };
    net::transport::streams::Settings { patience, ..settings() }
}

#[tokio::test]
async fn slow_silent_and_idle_strangers_are_closed() {
    let mut ours = Ours::new(hasty(), TCP);
    let mut slow = peer(ours.listeners[0]).await;
    let (slow_flow, _) = ours.opened().await;
    let silent = peer(ours.listeners[0]).await;
    let (silent_flow, _) = ours.opened().await;
    let mut idle = peer(ours.listeners[0]).await;
    let (idle_flow, _) = ours.opened().await;
    say(&mut idle, MESSAGE).await;
    ours.message().await;
    // It goes on, but not fast enough.
    let drip = tokio::spawn(async move {
        for octet in MESSAGE {
            if tokio::io::AsyncWriteExt::write_all(&mut slow, &[*octet]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let ends = [ours.closed().await, ours.closed().await, ours.closed().await].map(|(flow, why, _)| (flow, why));
    assert_eq!(ends, [(slow_flow, Why::Slow), (silent_flow, Why::Silent), (idle_flow, Why::Idle)]);
    drip.await.unwrap();
    drop((silent, idle));
}

#[tokio::test]
async fn who_is_known_may_be_silent() {
    let mut ours = Ours::new(hasty(), TCP);
    let mut phone = peer(ours.listeners[0]).await;
    let (flow, _) = ours.opened().await;
    ours.streams.prove(flow);
    tokio::time::sleep(Duration::from_millis(1200)).await;
    say(&mut phone, MESSAGE).await;
    assert_eq!(ours.message().await.0, flow);
    assert_eq!(ours.streams.census().strangers, 0);
}

#[tokio::test]
async fn a_newcomer_takes_the_place_of_the_oldest_silent_stranger() {
    let caps = Caps { total: 100, strangers: 50, per_source: 3, handshakes: 3 };
    let mut ours = Ours::new(net::transport::streams::Settings { caps, ..settings() }, TCP);
    let to = ours.listeners[0];
    let mut first = peer_from("127.0.0.2", to).await;
    let (first_flow, _) = ours.opened().await;
    say(&mut first, MESSAGE).await;
    ours.message().await;
    let mut half_open = Vec::new();
    for _ in 0..2 {
        half_open.push((peer_from("127.0.0.2", to).await, ours.opened().await.0));
    }
    let elsewhere = peer_from("127.0.0.3", to).await;
    ours.opened().await;
    let phone = peer_from("127.0.0.2", to).await;
    let (mut opened, mut closed) = (None, None);
    while opened.is_none() || closed.is_none() {
        match ours.event().await {
            Event::Opened { flow, .. } => opened = Some(flow),
            Event::Closed { flow, why, .. } => closed = Some((flow, why)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(closed, Some((half_open[0].1, Why::Evicted)));
    expect_end(&mut half_open[0].0).await;
    ours.send(first_flow, b"still here");
    expect(&mut first, b"still here").await;
    drop((elsewhere, phone));
}

#[tokio::test]
async fn a_close_lets_what_is_queued_leave() {
    let mut ours = Ours::new(settings(), TCP);
    let mut phone = peer(ours.listeners[0]).await;
    let (flow, _) = ours.opened().await;
    let large = vec![b'x'; 10_000];
    ours.send(flow, &large);
    ours.streams.close(flow);
    expect(&mut phone, &large).await;
    expect_end(&mut phone).await;
    assert_eq!(ours.closed().await.1, Why::Asked);
}

#[tokio::test]
async fn a_peer_that_takes_nothing_is_closed() {
    let mut ours = Ours::new(settings(), TCP);
    let _phone = peer(ours.listeners[0]).await;
    let (flow, _) = ours.opened().await;
    ours.streams.prove(flow);
    let why = loop {
        if ours.streams.send(Transmit { flow, bytes: vec![0; 4096] }).is_err() {
            break ours.closed().await.1;
        }
        if let Ok(event) = tokio::time::timeout(Duration::from_micros(100), ours.streams.event()).await {
            match event {
                Event::Closed { why, .. } => break why,
                other => panic!("{other:?}"),
            }
        }
    };
    assert_eq!(why, Why::Overflow);
}

#[tokio::test]
async fn a_flood_is_held_back_and_others_are_heard() {
    let mut ours = Ours::new(settings(), TCP);
    let to = ours.listeners[0];
    let flood = peer_from("127.0.0.2", to).await;
    let (flood_flow, _) = ours.opened().await;
    let mut phone = peer(to).await;
    let (phone_flow, _) = ours.opened().await;
    // As much as the kernel takes, without anybody listening to events.
    let many = MESSAGE.repeat(1000);
    let mut written = 0;
    while let Ok(Ok(())) = tokio::time::timeout(Duration::from_millis(300), flood.writable()).await {
        match flood.try_write(&many) {
            Ok(count) => written += count,
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
    }
    assert!(written > 100_000, "{written}");
    say(&mut phone, MESSAGE).await;
    let mut before = 0;
    while ours.message().await.0 != phone_flow {
        before += 1;
    }
    // It takes its turn when the runtime has looked at its socket, not behind all that was there before it.
    let waiting = written / MESSAGE.len();
    assert!(before < waiting / 4, "{before} of {waiting} messages of the flood came first");
    assert_eq!(ours.message().await.0, flood_flow);
}

#[tokio::test]
async fn connections_of_ours_carry_what_was_sent_before_they_were_open() {
    let mut ours = Ours::new(settings(), &[]);
    let (server, address) = server().await;
    let flow = ours.connect(Transport::Tcp, 7, address, "core.example");
    ours.send(flow, MESSAGE);
    let (mut core, from) = server.accept().await.unwrap();
    assert_eq!(from.ip().to_string(), "127.0.0.3", "from the address of its listener");
    assert_eq!(ours.opened().await.0, flow);
    expect(&mut core, MESSAGE).await;
    say(&mut core, MESSAGE).await;
    assert_eq!(ours.message().await, (flow, MESSAGE.to_vec()));
    assert_eq!(ours.streams.census().strangers, 0);
    drop(core);
    assert_eq!(ours.closed().await.1, Why::Ended);
}

#[tokio::test]
async fn one_that_cannot_be_opened_is_told() {
    let mut ours = Ours::new(settings(), &[]);
    // A port that is taken, so that nobody else listens there, either.
    let silent = TcpSocket::new_v4().unwrap();
    silent.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let flow = ours.connect(Transport::Tcp, 0, silent.local_addr().unwrap(), "core.example");
    ours.send(flow, MESSAGE);
    let (closed, why, what) = ours.closed().await;
    assert_eq!((closed, why), (flow, Why::Unreachable));
    assert!(what.contains("refused"), "{what}");
}

#[tokio::test]
async fn a_listener_that_is_closed_takes_its_connections_along() {
    let mut ours = Ours::new(settings(), TCP);
    let mut phone = peer(ours.listeners[0]).await;
    let (flow, _) = ours.opened().await;
    ours.send(flow, MESSAGE);
    ours.streams.unlisten(wire::ListenerId(0));
    let again = ours.streams.listen(wire::ListenerId(1), Transport::Tcp, ours.listeners[0]);
    assert_eq!(again.unwrap(), ours.listeners[0], "at once, before the connections have ended");
    expect(&mut phone, MESSAGE).await;
    expect_end(&mut phone).await;
    assert_eq!(ours.closed().await, (flow, Why::Asked, String::new()));
}
