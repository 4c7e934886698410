use std::time::Duration;

use super::*;
use crate::config::Phone;
use crate::rig::{Rig, config, flow, listener};
use crate::token::Facing;

const CORE: &str = "10.0.0.5:5060";
const PHONE: &str = "198.51.100.7:40000";

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn network(prefix: &str) -> nat::Network {
    nat::Network {
        prefix: prefix.parse().unwrap(),
        side: None,
        advertise: None,
        latch: false,
        media: nat::MediaMode::Relay,
        trusted: false,
    }
}

/// A border with these listeners toward the core, in front of one toward phones.
fn border(listeners: Vec<Listener>) -> Rig {
    let mut all = vec![listener(Side::Outer, "203.0.113.30:5060")];
    all.extend(listeners);
    Rig::new(config(Role::Border, all))
}

fn tcp(side: Side, bind: &str) -> Listener {
    Listener { transport: Transport::Tcp, ..listener(side, bind) }
}

#[test]
fn an_address_is_ours_as_it_is_bound_and_as_it_is_written() {
    let mut odd = listener(Side::Inner, "10.0.0.2:5064");
    odd.advertise = Advertise::Ip("192.0.2.9".parse().unwrap());
    odd.advertise_port = Some(5070);
    let silent = Listener { accepts: false, ..listener(Side::Inner, "10.0.0.2:5066") };
    let retired = Listener { retired: true, ..listener(Side::Inner, "10.0.0.2:5068") };
    let wild = listener(Side::Inner, "0.0.0.0:5072");
    let rig = border(vec![tcp(Side::Inner, "10.0.0.2:5062"), odd, silent, retired, wild]);
    for (transport, text, found) in [
        (Transport::Udp, "203.0.113.30:5060", Some((0, "203.0.113.30:5060"))),
        (Transport::Tcp, "203.0.113.30:5060", None),
        (Transport::Tcp, "10.0.0.2:5062", Some((1, "10.0.0.2:5062"))),
        (Transport::Udp, "10.0.0.2:5064", Some((2, "10.0.0.2:5064"))),
        (Transport::Udp, "192.0.2.9:5070", Some((2, "10.0.0.2:5064"))),
        (Transport::Udp, "192.0.2.9:5064", None),
        (Transport::Udp, "10.0.0.2:5066", None),
        (Transport::Udp, "10.0.0.2:5068", None),
        (Transport::Udp, "0.0.0.0:5072", None),
        (Transport::Udp, "10.0.0.3:5060", None),
    ] {
        let found = found.map(|(id, bind)| (ListenerId(id), address(bind)));
        assert_eq!(rig.proxy.own_listener(transport, address(text)), found, "{transport:?} {text}");
    }
}

#[test]
fn a_uri_names_us_whatever_transport_it_asks_for() {
    let mut odd = listener(Side::Inner, "10.0.0.2:5064");
    odd.advertise = Advertise::Ip("192.0.2.9".parse().unwrap());
    let rig = border(vec![tcp(Side::Inner, "10.0.0.2:5062"), odd]);
    let phones = flow(&rig.proxy, 0, PHONE);
    for (uri, ours) in [
        ("sip:203.0.113.30", true),
        ("sip:x@203.0.113.30:5060", true),
        ("sip:203.0.113.30:5061", false),
        ("sip:10.0.0.2:5062", true),
        ("sip:10.0.0.2:5062;transport=tcp", true),
        ("sip:192.0.2.9:5064", true),
        ("sip:203.0.113.31", false),
        ("sip:203.0.113.30;transport=tls", false),
        ("sips:203.0.113.30", false),
        ("sips:203.0.113.30:5060", true),
        ("sip:203.0.113.30:5060;transport=nobody", true),
        ("sip:siplatch.example", false),
        ("tel:+49", false),
    ] {
        assert_eq!(rig.proxy.names_us(phones, &Uri::parse(uri.as_bytes()).unwrap()), ours, "{uri}");
    }
    // On a listener that is bound to every address, the one that a packet came to.
    let wild = border(vec![listener(Side::Inner, "0.0.0.0:5072")]);
    let here = Flow { local: address("10.0.0.77:5072"), ..flow(&wild.proxy, 1, CORE) };
    assert!(wild.proxy.names_us(here, &Uri::parse(b"sip:10.0.0.77:5072").unwrap()));
    assert!(!wild.proxy.names_us(here, &Uri::parse(b"sip:10.0.0.78:5072").unwrap()));
}

#[test]
fn a_listener_fits_by_side_transport_family_and_phone() {
    let own = Listener { phone: Some(0), ..listener(Side::Inner, "10.0.0.2:5080") };
    let other = Listener { phone: Some(1), ..tcp(Side::Inner, "10.0.0.2:5082") };
    let v6 = listener(Side::Inner, "[fd00::2]:5060");
    let retired = Listener { retired: true, ..listener(Side::Inner, "10.0.0.2:5058") };
    let mut rig = border(vec![retired, own, other, v6, listener(Side::Inner, "10.0.0.2:5060")]);
    let mut config = (*rig.proxy.config).clone();
    config.phones = vec![
        Phone { name: "a".to_owned(), outer_listener: Some(2), ..Phone::default() },
        Phone { name: "b".to_owned(), outer_listener: Some(3), ..Phone::default() },
        Phone { name: "c".to_owned(), outer_listener: Some(1), ..Phone::default() },
    ];
    rig.proxy.config = config.into();
    let (v4, v6) = (Some(address(CORE).ip()), Some(address("[fd00::5]:5060").ip()));
    for (side, transport, phone, like, found) in [
        (Side::Outer, Transport::Udp, None, v4, Some(0)),
        (Side::Inner, Transport::Udp, None, v4, Some(5)),
        (Side::Inner, Transport::Udp, None, None, Some(4)),
        (Side::Inner, Transport::Udp, None, v6, Some(4)),
        (Side::Inner, Transport::Udp, Some(0), v4, Some(2)),
        // Its own one speaks something else, or is gone.
        (Side::Inner, Transport::Udp, Some(1), v4, Some(5)),
        (Side::Inner, Transport::Udp, Some(2), v4, Some(5)),
        (Side::Inner, Transport::Tcp, Some(1), v4, Some(3)),
        (Side::Inner, Transport::Tcp, None, v4, None),
        (Side::Outer, Transport::Udp, Some(0), v4, Some(0)),
        (Side::Outer, Transport::Udp, None, v6, None),
    ] {
        let found = found.map(ListenerId);
        assert_eq!(
            rig.proxy.listener(side, transport, phone, like),
            found,
            "{side:?} {transport:?} {phone:?} {like:?}"
        );
    }
}

#[test]
fn the_longest_prefix_says_which_side_an_address_is_on_and_what_is_written_there() {
    let mut rig = border(vec![listener(Side::Inner, "10.0.0.2:5060")]);
    let mut config = (*rig.proxy.config).clone();
    config.networks = vec![
        nat::Network {
            side: Some(Side::Outer),
            advertise: Some(Advertise::Ip("192.0.2.1".parse().unwrap())),
            ..network("10.1.0.0/16")
        },
        nat::Network { side: Some(Side::Inner), ..network("10.1.2.0/24") },
        network("10.1.2.3/32"),
    ];
    rig.proxy.config = config.into();
    rig.proxy.note_addresses();
    for (remote, side, written) in [
        ("10.9.9.9:5060", Side::Inner, "10.0.0.2:5060"),
        ("10.1.9.9:5060", Side::Outer, "192.0.2.1:5060"),
        ("10.1.2.9:5060", Side::Inner, "10.0.0.2:5060"),
        ("10.1.2.3:5060", Side::Inner, "10.0.0.2:5060"),
    ] {
        let flow = flow(&rig.proxy, 1, remote);
        assert_eq!(rig.proxy.side(flow), side, "{remote}");
        assert_eq!(rig.proxy.on_phones_side(flow), side == Side::Outer, "{remote}");
        assert_eq!(rig.proxy.advertised(flow), Some(address(written)), "{remote}");
    }
    let alone = Rig::standalone();
    assert!(alone.proxy.on_phones_side(flow(&alone.proxy, 0, CORE)), "standalone, phones may be anywhere");
}

#[test]
fn a_streams_address_is_that_of_its_neighbour_on_udp_with_its_own_port() {
    let stun = |l: Listener| Listener { advertise: Advertise::Stun, ..l };
    let own = Listener { phone: Some(0), ..listener(Side::Outer, "192.168.1.2:5074") };
    let mut rig = Rig::new(config(
        Role::Office,
        vec![
            stun(own),
            stun(listener(Side::Outer, "192.168.1.3:5070")),
            stun(listener(Side::Inner, "192.168.1.2:5070")),
            Listener { retired: true, ..stun(listener(Side::Outer, "192.168.1.2:5076")) },
            stun(listener(Side::Outer, "192.168.1.2:5070")),
            stun(tcp(Side::Outer, "192.168.1.2:5072")),
        ],
    ));
    let toward = |rig: &Rig, listener: u16| {
        let transport = rig.proxy.config.listeners[usize::from(listener)].transport;
        rig.proxy.advertised(Flow { transport, ..flow(&rig.proxy, listener, "203.0.113.5:5060") })
    };
    assert_eq!(toward(&rig, 5), None);
    for number in 0..4 {
        rig.proxy.seen[number].mapped = Some(Mapped(address("198.51.100.66:1066")));
    }
    assert_eq!(toward(&rig, 5), None, "no neighbour of these is the right one");
    rig.proxy.seen[4].mapped = Some(Mapped(address("198.51.100.7:1024")));
    assert_eq!(toward(&rig, 4), Some(address("198.51.100.7:1024")));
    assert_eq!(toward(&rig, 5), Some(address("198.51.100.7:5072")));
    rig.proxy.seen[4].observed = Some(address("198.51.100.8:2048"));
    assert_eq!(toward(&rig, 4), Some(address("198.51.100.8:2048")), "what the upstream sees goes before");
}

#[test]
fn what_the_media_half_is_told_of_an_end() {
    let mut listeners = vec![listener(Side::Inner, "10.0.0.2:5060"), listener(Side::Outer, "203.0.113.30:5060")];
    for (role, listener, side, signalled, private, open, range) in [
        (Role::Border, 0, Side::Inner, false, true, false, 0),
        (Role::Border, 1, Side::Outer, true, false, false, 1),
        (Role::Office, 0, Side::Inner, true, true, false, 0),
        (Role::Office, 1, Side::Outer, false, true, true, 1),
        (Role::Standalone, 0, Side::Inner, true, true, false, 1),
        (Role::Standalone, 1, Side::Outer, true, true, false, 1),
    ] {
        let mut config = config(role, std::mem::take(&mut listeners));
        config.media.ranges.push(media::PortRange { first: 40_000, last: 40_009 });
        config.phones[0].range = Some(RangeId(1));
        config.phones[0].advertise = Some(Advertise::Ip("192.0.2.7".parse().unwrap()));
        listeners.clone_from(&config.listeners);
        let rig = Rig::new(config);
        let end = rig.proxy.end(flow(&rig.proxy, listener, "198.51.100.7:5060"), Some(0));
        let what = format!("{role:?} {listener}");
        assert_eq!(
            (end.side, end.signalled_from.is_some(), end.private_targets, end.open),
            (side, signalled, private, open),
            "{what}"
        );
        assert_eq!(end.range, RangeId(range), "{what}");
        let written = if range == 1 { Advertise::Ip("192.0.2.7".parse().unwrap()) } else { Advertise::Listen };
        assert_eq!(end.advertise, written, "{what}");
        assert_eq!(rig.proxy.end(flow(&rig.proxy, listener, "198.51.100.7:5060"), None).range, RangeId(0));
    }
}

#[test]
fn a_message_to_ourselves_does_not_leave() {
    let mut rig = border(vec![listener(Side::Inner, "10.0.0.2:5060")]);
    rig.said.clear();
    let options = "OPTIONS sip:203.0.113.30 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.2:5060;branch=z9hG4bKx\r\nMax-Forwards: \
                   70\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:203.0.113.30>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\n\r\n";
    let to_us = Flow { remote: address("203.0.113.30:5060"), ..flow(&rig.proxy, 1, CORE) };
    rig.proxy.transmit(to_us, options.as_bytes().to_vec());
    rig.proxy.settle(rig.now);
    rig.wait(Duration::ZERO);
    let came = rig.said.iter().any(|o| matches!(o, Output::Observed(Observed::RequestIn { .. })));
    let left = rig.said.iter().any(|o| matches!(o, Output::Transmit(t) if t.bytes.starts_with(b"OPTIONS")));
    assert!(came && !left, "{:?}", rig.said);
    // From outside, nobody comes from an address of ours.
    rig.said.clear();
    rig.receive(0, "10.0.0.2:5060", options);
    assert!(
        rig.said
            .iter()
            .any(|o| matches!(o, Output::Observed(Observed::Dropped { reason: DropReason::OwnAddress, .. })))
    );
}

#[test]
fn the_next_timeout_is_the_earliest_of_timers_and_expiries() {
    let mut rig = Rig::standalone();
    assert_eq!(rig.proxy.poll_timeout(), None);
    crate::rig::register(&mut rig.proxy, rig.now, 0, "alice", "192.168.1.20:5060");
    rig.wait(Duration::ZERO);
    let first = rig.proxy.poll_timeout().unwrap();
    assert!(first <= rig.now + Duration::from_secs(32), "the transaction's, before the binding's");
    rig.wait(Duration::from_secs(64));
    let expiry = rig.proxy.poll_timeout().unwrap();
    assert!(expiry > rig.now + Duration::from_secs(3000) && rig.proxy.work().bindings == 1);
    let left = expiry - rig.now;
    rig.wait(left);
    assert_eq!(rig.proxy.work().bindings, 0);
}

#[test]
fn a_token_is_read_from_a_parameter_or_from_the_user_of_a_route() {
    let rig = Rig::standalone();
    let text = |token: Token| String::from_utf8(rig.proxy.key.seal(token).to_vec()).unwrap();
    let (leg, route) = (Token::Leg(PassId(7), 1), Token::Route(PassId(7), Facing::Caller));
    for (uri, found) in [
        (format!("sip:a@192.0.2.1;sl={}", text(leg)), Some(leg)),
        (format!("sip:{}@192.0.2.1;lr", text(route)), Some(route)),
        (format!("sip:{}@192.0.2.1;lr", text(leg)), None),
        ("sip:a@192.0.2.1".to_owned(), None),
        ("sip:192.0.2.1".to_owned(), None),
    ] {
        assert_eq!(rig.proxy.token_in(&Uri::parse(uri.as_bytes()).unwrap()), found, "{uri}");
    }
}
