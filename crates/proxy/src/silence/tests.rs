use nat::Side;
use wire::Transport;

use super::*;
use crate::Input;
use crate::config::Role;
use crate::rig::{Rig, config, listener};

/// A border with a TCP listener for phones, and one connection on it.
fn connected() -> (Rig, Flow) {
    let mut outer = listener(Side::Outer, "203.0.113.30:5060");
    outer.transport = Transport::Tcp;
    let mut rig = Rig::new(config(Role::Border, vec![listener(Side::Inner, "10.0.0.2:5060"), outer]));
    let flow =
        Flow { transport: Transport::Tcp, connection: 5, ..crate::rig::flow(&rig.proxy, 1, "198.51.100.7:40000") };
    rig.proxy.handle_input(rig.now, Input::Opened { flow, peer: Vec::new() });
    (rig, flow)
}

/// Seconds until the flow is closed, if it is within two hours.
fn closes_after(rig: &mut Rig, flow: Flow) -> Option<u64> {
    (0..=7200).find(|_| {
        rig.said.clear();
        rig.wait(Duration::from_secs(1));
        rig.said.contains(&Output::Close { flow })
    })
}

#[test]
fn a_silent_connection_is_closed_after_the_announced_time_and_some_grace() {
    for (seconds, after) in [(120, 149), (0, 30), (1, 30), (3600, 3629), (90_000, 3629)] {
        let (mut rig, flow) = connected();
        rig.proxy.expect_keepalives(rig.now, flow, seconds);
        assert_eq!(closes_after(&mut rig, flow), Some(after), "{seconds}");
        assert!(rig.proxy.silences.0.is_empty() && !rig.proxy.connections.is_open(flow));
    }
}

#[test]
fn whatever_is_heard_counts_from_then_on() {
    let (mut rig, flow) = connected();
    rig.proxy.expect_keepalives(rig.now, flow, 60);
    for input in [Input::KeepAlive { flow }, Input::Pong { flow }, Input::Received { flow, bytes: b"x" }] {
        rig.wait(Duration::from_secs(80));
        assert!(rig.proxy.connections.is_open(flow));
        rig.proxy.handle_input(rig.now, input);
    }
    // Another connection, and a datagram, are somebody else.
    rig.wait(Duration::from_secs(80));
    rig.proxy.handle_input(rig.now, Input::KeepAlive { flow: Flow { connection: 6, ..flow } });
    rig.proxy.handle_input(rig.now, Input::KeepAlive { flow: Flow { connection: 0, ..flow } });
    assert_eq!(closes_after(&mut rig, flow), Some(9));
}

#[test]
fn a_new_announcement_takes_the_place_of_the_old_one() {
    let (mut rig, flow) = connected();
    rig.proxy.expect_keepalives(rig.now, flow, 3000);
    rig.wait(Duration::from_secs(10));
    rig.proxy.expect_keepalives(rig.now, flow, 3300);
    assert_eq!(closes_after(&mut rig, flow), Some(3329));
}

#[test]
fn only_connections_that_are_open_can_be_silent() {
    let (mut rig, flow) = connected();
    for other in [Flow { connection: 0, ..flow }, Flow { connection: 6, ..flow }] {
        rig.proxy.expect_keepalives(rig.now, other, 60);
        assert!(rig.proxy.silences.0.is_empty());
    }
    rig.proxy.expect_keepalives(rig.now, flow, 60);
    rig.proxy.handle_input(rig.now, Input::Closed { flow });
    assert_eq!(closes_after(&mut rig, flow), None);
    assert!(rig.proxy.silences.0.is_empty());
}
