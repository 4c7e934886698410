use nat::Side;

use super::*;
use crate::Input;
use crate::config::Role;
use crate::rig::{Rig, config, listener};

const PHONE: &str = "198.51.100.7:40000";

/// A border that speaks TCP toward phones (listener 1) and the core (listener 0), and TLS toward phones (2).
fn border() -> Rig {
    let mut listeners = vec![
        listener(Side::Inner, "10.0.0.2:5060"),
        listener(Side::Outer, "203.0.113.30:5060"),
        listener(Side::Outer, "203.0.113.30:5061"),
    ];
    for (listener, transport) in listeners.iter_mut().zip([Transport::Tcp, Transport::Tcp, Transport::Tls]) {
        listener.transport = transport;
    }
    Rig::new(config(Role::Border, listeners))
}

fn flow(rig: &Rig, listener: u16, connection: u32, remote: &str) -> Flow {
    let transport = rig.proxy.config.listeners[usize::from(listener)].transport;
    Flow { transport, connection, ..crate::rig::flow(&rig.proxy, listener, remote) }
}

fn open(rig: &mut Rig, listener: u16, connection: u32, remote: &str, peer: &[&str]) -> Flow {
    let flow = flow(rig, listener, connection, remote);
    let peer = peer.iter().map(|name| (*name).to_owned()).collect();
    rig.proxy.handle_input(rig.now, Input::Opened { flow, peer });
    rig.wait(Duration::ZERO);
    flow
}

/// When pings went out and when the flow was closed, in seconds from now, within so many.
fn watched(rig: &mut Rig, flow: Flow, seconds: u64, pong: bool) -> (Vec<u64>, Option<u64>) {
    let (mut pings, mut closed) = (Vec::new(), None);
    for second in 1..=seconds {
        rig.said.clear();
        rig.wait(Duration::from_secs(1));
        if rig.said.iter().any(|o| matches!(o, Output::Transmit(t) if t.flow == flow && t.bytes == b"\r\n\r\n")) {
            pings.push(second);
            if pong {
                rig.proxy.handle_input(rig.now, Input::Pong { flow });
            }
        }
        if closed.is_none() && rig.said.contains(&Output::Close { flow }) {
            closed = Some(second);
        }
    }
    (pings, closed)
}

#[test]
fn a_connection_is_used_again_for_the_same_host_alone() {
    let mut rig = border();
    let to = flow(&rig, 0, 0, "10.0.0.9:5060");
    let one = rig.proxy.outgoing(to, "a.example", CONNECT);
    assert_eq!(one.connection & OUTGOING, OUTGOING);
    assert_eq!(rig.proxy.outgoing(to, "A.Example", CONNECT), one);
    let other = rig.proxy.outgoing(to, "b.example", CONNECT);
    let elsewhere = rig.proxy.outgoing(Flow { remote: "10.0.0.10:5060".parse().unwrap(), ..to }, "a.example", CONNECT);
    assert!(
        other.connection != one.connection
            && elsewhere.connection != one.connection
            && other.connection != elsewhere.connection
    );
    rig.proxy.handle_input(rig.now, Input::Closed { flow: one });
    assert!(!rig.proxy.connections.is_open(one) && rig.proxy.connections.is_open(other));
    assert_ne!(rig.proxy.outgoing(to, "a.example", CONNECT).connection, one.connection, "an ended one is not taken");
    // Datagrams need none, and nothing is opened to ourselves.
    let udp = Flow { transport: Transport::Udp, ..to };
    assert_eq!(rig.proxy.outgoing(udp, "a.example", CONNECT), udp);
    let own = flow(&rig, 0, 0, "203.0.113.30:5060");
    assert_eq!(rig.proxy.outgoing(own, "a.example", CONNECT), own);
}

#[test]
fn numbers_of_connections_begin_again_before_they_run_out() {
    let mut rig = border();
    rig.proxy.connections.next = OUTGOING - 1;
    let to = flow(&rig, 0, 0, "10.0.0.9:5060");
    assert_eq!(rig.proxy.outgoing(to, "a.example", CONNECT).connection, u32::MAX);
    assert_eq!(rig.proxy.outgoing(to, "b.example", CONNECT).connection, OUTGOING);
}

#[test]
fn a_pong_must_come_once_one_came() {
    let mut rig = border();
    let phone = open(&mut rig, 1, 5, PHONE, &[]);
    rig.proxy.keep_connection(rig.now, phone);
    rig.proxy.keep_connection(rig.now, phone);
    let (pings, closed) = watched(&mut rig, phone, 250, false);
    assert!(matches!(pings[..], [a, b] if (95..=121).contains(&a) && (105..=131).contains(&(b - a))), "{pings:?}");
    assert_eq!(closed, None, "it never answered any");
    let mut rig = border();
    let phone = open(&mut rig, 1, 5, PHONE, &[]);
    rig.proxy.keep_connection(rig.now, phone);
    let (pings, closed) = watched(&mut rig, phone, 121, true);
    assert_eq!((pings.len(), closed), (1, None));
    let (pings, closed) = watched(&mut rig, phone, 140, false);
    assert_eq!((pings.len(), closed), (1, Some(pings[0] + 10)));
    assert!(!rig.proxy.connections.is_open(phone));
}

#[test]
fn a_pong_that_nobody_asked_for_means_nothing() {
    let mut rig = border();
    let phone = open(&mut rig, 1, 5, PHONE, &[]);
    rig.proxy.keep_connection(rig.now, phone);
    rig.wait(Duration::from_secs(60));
    rig.proxy.handle_input(rig.now, Input::Pong { flow: phone });
    let (pings, closed) = watched(&mut rig, phone, 100, false);
    assert!(pings[0] <= 60, "{pings:?}");
    assert_eq!(closed, None);
}

#[test]
fn the_far_end_may_say_how_often_it_wants_to_be_pinged() {
    for (seconds, between) in [(30, 24..=31), (0, 4..=6), (100_000, 2880..=3601)] {
        let mut rig = border();
        let phone = open(&mut rig, 1, 5, PHONE, &[]);
        rig.proxy.keep_connection(rig.now, phone);
        rig.proxy.flow_timer(rig.now, phone, seconds);
        let (pings, closed) = watched(&mut rig, phone, 3700, false);
        assert!(between.contains(&pings[0]), "{seconds}: {pings:?}");
        assert_eq!((pings.len(), closed), (1, Some(pings[0] + 10)), "who announces it will answer");
    }
}

#[test]
fn a_connection_that_came_in_carries_requests_back_for_whom_its_certificate_names() {
    let via = |text: &str| format!("SIP/2.0/TLS {text}");
    let (name, other) = ("pbx.example", "other.example");
    for (listener, value, port, asked, reused) in [
        (2, "pbx.example:5071;alias;branch=z9hG4bK1", 5071, name, true),
        (2, "pbx.example;alias;branch=z9hG4bK1", 5061, name, true),
        (2, "pbx.example:5071;branch=z9hG4bK1", 5071, name, false),
        (2, "pbx.example:5071;alias;branch=z9hG4bK1", 5072, name, false),
        (2, "pbx.example:5071;alias;branch=z9hG4bK1", 5071, other, false),
        (1, "pbx.example:5071;alias;branch=z9hG4bK1", 5071, name, false),
    ] {
        let mut rig = border();
        let came = open(&mut rig, listener, 5, PHONE, &[name]);
        let value = via(value);
        rig.proxy.note_alias(came, &Via::parse(value.as_bytes()).unwrap());
        let to = Flow { connection: 0, remote: SocketAddr::new(came.remote.ip(), port), ..came };
        let taken = rig.proxy.outgoing(to, asked, CONNECT);
        assert_eq!(taken == came, reused, "{value} {port} {asked}");
        if reused {
            rig.proxy.handle_input(rig.now, Input::Closed { flow: came });
            assert!(rig.proxy.connections.aliases.is_empty());
        }
    }
}

#[test]
fn an_end_takes_its_own_aliases_along_and_no_others() {
    let mut rig = border();
    let value = b"SIP/2.0/TLS pbx.example:5071;alias;branch=z9hG4bK1";
    let [one, two] = [(5, "a.example"), (6, "b.example")].map(|(number, name)| {
        let came = open(&mut rig, 2, number, PHONE, &[name]);
        rig.proxy.note_alias(came, &Via::parse(value).unwrap());
        came
    });
    assert_eq!(rig.proxy.connections.of_listener(ListenerId(2)), [one, two]);
    assert!(rig.proxy.connections.of_listener(ListenerId(1)).is_empty());
    rig.proxy.handle_input(rig.now, Input::Closed { flow: one });
    let left: Vec<u32> = rig.proxy.connections.aliases.values().copied().collect();
    assert_eq!(left, [two.connection]);
}

#[test]
fn so_many_names_of_a_certificate_count() {
    let mut rig = border();
    let names: Vec<String> = (0..=MOST_NAMES).map(|n| format!("n{n}.example")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let came = open(&mut rig, 2, 5, PHONE, &names);
    rig.proxy.note_alias(came, &Via::parse(b"SIP/2.0/TLS pbx.example:5071;alias;branch=z9hG4bK1").unwrap());
    assert_eq!(rig.proxy.connections.aliases.len(), MOST_NAMES);
}

#[test]
fn whoever_is_known_behind_a_connection_is_said_once() {
    let mut rig = border();
    let proven = |rig: &mut Rig| {
        rig.wait(Duration::ZERO);
        let said = std::mem::take(&mut rig.said);
        said.iter().filter(|o| matches!(o, Output::Proven { .. })).count()
    };
    rig.said.clear();
    let phone = open(&mut rig, 1, 5, PHONE, &[]);
    assert_eq!(proven(&mut rig), 0);
    rig.proxy.keep_connection(rig.now, phone);
    rig.proxy.keep_connection(rig.now, phone);
    assert_eq!(proven(&mut rig), 1);
    open(&mut rig, 0, 6, "10.0.0.5:40000", &[]);
    assert_eq!(proven(&mut rig), 1, "an upstream");
    let to = flow(&rig, 0, 0, "10.0.0.9:5060");
    rig.proxy.outgoing(to, "a.example", CONNECT);
    assert_eq!(proven(&mut rig), 0, "ours needs no proof");
}
