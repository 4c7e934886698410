use nat::Side;

use super::*;
use crate::config::Role;
use crate::rig::{Rig, config, listener};

/// A border with UDP and TCP toward the core, and the UDP way there.
fn border() -> (Rig, Hop, Way) {
    let mut tcp = listener(Side::Inner, "10.0.0.2:5062");
    tcp.transport = Transport::Tcp;
    let listeners = vec![listener(Side::Inner, "10.0.0.2:5060"), listener(Side::Outer, "203.0.113.30:5060"), tcp];
    let rig = Rig::new(config(Role::Border, listeners));
    let flow = crate::rig::flow(&rig.proxy, 0, "10.0.0.5:5060");
    let way = Way { flow, name: "10.0.0.5".to_owned(), upstream: Some(0), sized: false };
    (rig, Hop::Upstream { of: vec![0], phone: None }, way)
}

fn oversize(rig: &mut Rig) -> Vec<Oversize> {
    rig.wait(Duration::ZERO);
    let said = std::mem::take(&mut rig.said);
    said.into_iter()
        .filter_map(|output| match output {
            crate::Output::Observed(Observed::Oversize { outcome }) => Some(outcome),
            _ => None,
        })
        .collect()
}

/// OPTIONS sent over TCP.
fn asked(rig: &mut Rig) -> usize {
    rig.wait(Duration::ZERO);
    let said = std::mem::take(&mut rig.said);
    let over_tcp = |output: &&crate::Output| matches!(output, crate::Output::Transmit(t) if t.flow.transport == Transport::Tcp && t.bytes.starts_with(b"OPTIONS"));
    said.iter().filter(over_tcp).count()
}

#[test]
fn more_than_1300_octets_go_by_tcp_where_it_works() {
    let (mut rig, hop, way) = border();
    rig.said.clear();
    assert!(rig.proxy.by_size(&hop, &way, 1301).is_none());
    assert_eq!(oversize(&mut rig), [Oversize::Untried]);
    for (state, wanted) in [(Stream::Asked, false), (Stream::Fails { until: rig.now }, false), (Stream::Works, true)] {
        rig.proxy.streams.0.insert(way.flow.remote, state);
        assert_eq!(rig.proxy.by_size(&hop, &way, 1301).is_some(), wanted, "{state:?}");
    }
    assert_eq!(oversize(&mut rig), [Oversize::Untried, Oversize::Untried, Oversize::Tcp]);
    let stream = rig.proxy.by_size(&hop, &way, 1301).unwrap();
    assert_eq!((stream.flow.transport, stream.flow.listener), (Transport::Tcp, wire::ListenerId(2)));
    assert_eq!((stream.flow.local.to_string(), stream.flow.remote), ("10.0.0.2:5062".to_owned(), way.flow.remote));
    assert_eq!((stream.flow.connection, stream.name.as_str()), (0, "10.0.0.5"));
    oversize(&mut rig);
    // What fits, what takes a phone's flow, what is at its second try, what is not for an upstream.
    assert!(rig.proxy.by_size(&hop, &way, 1300).is_none());
    assert!(rig.proxy.by_size(&Hop::Flow(way.flow), &way, 2000).is_none());
    assert!(rig.proxy.by_size(&hop, &Way { sized: true, ..way.clone() }, 2000).is_none());
    assert!(rig.proxy.by_size(&hop, &Way { flow: stream.flow, ..way.clone() }, 2000).is_none());
    let elsewhere = Flow { remote: "10.0.0.66:5060".parse().unwrap(), ..way.flow };
    rig.proxy.streams.0.insert(elsewhere.remote, Stream::Works);
    assert!(rig.proxy.by_size(&hop, &Way { flow: elsewhere, ..way.clone() }, 2000).is_none());
    assert!(oversize(&mut rig).is_empty());
}

#[test]
fn an_upstream_is_asked_once_and_again_after_ten_minutes_when_it_failed() {
    let (mut rig, _, way) = border();
    rig.said.clear();
    let ask = |rig: &mut Rig, way: &Way| {
        rig.proxy.ask_for_tcp(rig.now, way);
        asked(rig)
    };
    assert_eq!(ask(&mut rig, &Way { upstream: None, ..way.clone() }), 0);
    assert_eq!(ask(&mut rig, &way), 1);
    assert_eq!(ask(&mut rig, &way), 0, "asked already");
    rig.proxy.tcp_answered(rig.now, way.flow, true);
    assert_eq!(rig.proxy.streams.0.get(&way.flow.remote), Some(&Stream::Works));
    assert_eq!(ask(&mut rig, &way), 0, "it works");
    let until = rig.now + Duration::from_secs(600);
    rig.proxy.tcp_answered(rig.now, way.flow, false);
    assert_eq!(rig.proxy.streams.0.get(&way.flow.remote), Some(&Stream::Fails { until }));
    rig.proxy.ask_for_tcp(until - Duration::from_millis(1), &way);
    assert_eq!(asked(&mut rig), 0, "not yet");
    rig.proxy.ask_for_tcp(until, &way);
    assert_eq!(asked(&mut rig), 1);
}

#[test]
fn so_many_addresses_are_remembered_and_no_more() {
    let (mut rig, _, way) = border();
    rig.said.clear();
    for port in 0..MOST_ADDRESSES as u16 {
        rig.proxy.streams.0.insert(SocketAddr::from(([10, 9, 9, 9], port)), Stream::Works);
    }
    rig.proxy.ask_for_tcp(rig.now, &way);
    assert_eq!(asked(&mut rig), 0);
    rig.proxy.streams.0.pop_first();
    rig.proxy.ask_for_tcp(rig.now, &way);
    assert_eq!(asked(&mut rig), 1);
}

#[test]
fn a_request_that_comes_back_to_udp_says_that_tcp_fails() {
    let (mut rig, _, way) = border();
    rig.said.clear();
    let stream = Flow { transport: Transport::Tcp, ..way.flow };
    rig.proxy.streams.0.insert(way.flow.remote, Stream::Works);
    for (from, to, counted) in
        [(way.flow, way.flow, 0), (stream, stream, 0), (way.flow, stream, 0), (stream, way.flow, 1)]
    {
        rig.proxy.back_to_udp(rig.now, from, to);
        assert_eq!(oversize(&mut rig).len(), counted);
        assert_eq!(rig.proxy.streams.0.get(&way.flow.remote) == Some(&Stream::Works), counted == 0);
    }
}
