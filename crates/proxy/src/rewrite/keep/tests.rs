use nat::Side;
use wire::Transport;
use wire::sip::{Limits, Stored};

use super::*;
use crate::config::{Listener, Role};
use crate::rig::{Rig, config, flow, listener};

/// UDP toward the core (listener 0) and the phones (1), TCP toward both (2, 3).
fn border() -> Rig {
    let listeners = vec![
        listener(Side::Inner, "10.0.0.2:5060"),
        listener(Side::Outer, "203.0.113.30:5060"),
        Listener { transport: Transport::Tcp, ..listener(Side::Inner, "10.0.0.2:5060") },
        Listener { transport: Transport::Tcp, ..listener(Side::Outer, "203.0.113.30:5060") },
    ];
    Rig::new(config(Role::Border, listeners))
}

fn on(rig: &Rig, listener: u16) -> Flow {
    let transport = rig.proxy.config.listeners[usize::from(listener)].transport;
    Flow { transport, ..flow(&rig.proxy, listener, "198.51.100.7:5060") }
}

fn stored(via: &str) -> Stored {
    let text = format!("OPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.7;branch=z9hG4bK1{via}\r\n\r\n");
    Stored::parse(text.into_bytes(), &Limits::default()).unwrap()
}

#[test]
fn phones_are_told_how_often_and_the_core_is_not() {
    let rig = border();
    for (listener, wanted) in [(0, None), (1, Some("25")), (2, None), (3, Some("120"))] {
        let flow = on(&rig, listener);
        assert_eq!(rig.proxy.wants_keep(flow), wanted.map(str::as_bytes));
        let stored = stored(";keep");
        let mut edit = Edit::new();
        rig.proxy.grant_keep(flow, stored.message(), &mut edit);
        let text = String::from_utf8(stored.message().edited(&edit)).unwrap();
        let keep = wanted.map_or(";keep\r\n".to_owned(), |seconds| format!(";keep={seconds}\r\n"));
        assert!(text.contains(&keep), "{text}");
    }
}

#[test]
fn we_offer_it_where_our_own_address_is_discovered() {
    for (advertise, offered) in [(nat::Advertise::Listen, false), (nat::Advertise::Stun, true)] {
        let outer = Listener { advertise, ..listener(Side::Outer, "192.168.1.2:5070") };
        let rig = Rig::new(config(Role::Office, vec![outer]));
        assert_eq!(rig.proxy.offers_keep(flow(&rig.proxy, 0, "203.0.113.5:5060")), offered);
    }
}

#[test]
fn what_the_upstream_answers_is_kept_within_bounds() {
    for (via, kept) in [
        (";keep=20", Some(20)),
        (";keep=29", Some(29)),
        (";keep=30", Some(29)),
        (";keep=1", Some(5)),
        (";keep=0", None),
        (";keep", None),
        (";keep=soon", None),
        ("", None),
    ] {
        let mut rig = border();
        let upstream = on(&rig, 0);
        rig.proxy.note_keep(rig.now, upstream, stored(via).message());
        assert_eq!(rig.proxy.seen[0].keep, kept, "{via}");
        assert_eq!(rig.proxy.seen[1].keep, None);
    }
}

#[test]
fn a_connection_to_the_upstream_is_pinged_as_it_wishes() {
    let mut rig = border();
    let upstream = on(&rig, 2);
    let upstream = rig.proxy.outgoing(upstream, "core.example", crate::connection::CONNECT);
    rig.proxy.keep_fresh(rig.now);
    rig.proxy.note_keep(rig.now, upstream, stored(";keep=20").message());
    assert_eq!(rig.proxy.seen[2].keep, None);
    rig.said.clear();
    rig.wait(std::time::Duration::from_secs(20));
    let ping = |output: &crate::Output| matches!(output, crate::Output::Transmit(t) if t.flow == upstream && t.bytes == b"\r\n\r\n");
    assert!(rig.said.iter().any(ping));
}
