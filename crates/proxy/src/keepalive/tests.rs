use nat::{Advertise, Side};

use super::*;
use crate::rig::{Rig, config, listener};
use crate::{Input, Output};

const PROVIDER: &str = "203.0.113.5:5060";

/// An office whose outer listener finds its address out.
fn office(advertise: Advertise) -> Rig {
    let mut outer = listener(Side::Outer, "192.168.1.2:5070");
    outer.advertise = advertise;
    let mut config = config(Role::Office, vec![listener(Side::Inner, "192.168.1.2:5060"), outer]);
    config.upstreams[0].host = "203.0.113.5".to_owned();
    Rig::new(config)
}

fn seen(rig: &Rig) -> Option<String> {
    rig.proxy.seen[1].observed.map(|address| address.to_string())
}

#[test]
fn an_upstream_is_believed_only_where_the_address_must_be_found_out_and_can_be_true() {
    let public = "198.51.100.7:1024";
    for (advertise, remote, address, believed) in [
        (Advertise::Stun, PROVIDER, public, true),
        (Advertise::StunAddress, PROVIDER, public, true),
        (Advertise::Listen, PROVIDER, public, false),
        (Advertise::Ip("198.51.100.9".parse().unwrap()), PROVIDER, public, false),
        (Advertise::Stun, PROVIDER, "198.51.100.7:0", false),
        (Advertise::Stun, PROVIDER, "127.0.0.1:5070", false),
        (Advertise::Stun, PROVIDER, "0.0.0.0:5070", false),
        (Advertise::Stun, PROVIDER, "224.0.0.1:5070", false),
        (Advertise::Stun, PROVIDER, "192.168.1.2:5070", false),
        (Advertise::Stun, "10.0.0.5:5060", "192.168.1.2:5070", true),
    ] {
        let mut rig = office(advertise);
        let flow = Flow { remote: remote.parse().unwrap(), ..crate::rig::flow(&rig.proxy, 1, PROVIDER) };
        rig.proxy.seen_by_upstream(rig.now, 1, flow, address.parse().unwrap());
        rig.wait(Duration::ZERO);
        assert_eq!(seen(&rig), believed.then(|| address.to_owned()), "{advertise:?} {remote} {address}");
        let told = |o: &Output| matches!(o, Output::Observed(Observed::AdvertisedChanged { listener: ListenerId(1), address: Some(to), by: "upstream" }) if to.to_string() == address);
        assert_eq!(rig.said.iter().filter(|o| told(o)).count(), usize::from(believed));
        rig.said.clear();
        rig.proxy.seen_by_upstream(rig.now, 1, flow, address.parse().unwrap());
        rig.wait(Duration::ZERO);
        assert!(!rig.said.iter().any(told), "the same again is no news");
    }
}

#[test]
fn a_mapping_that_moved_makes_what_the_upstream_saw_untrue() {
    let mut rig = office(Advertise::Stun);
    let address = |text: &str| text.parse().unwrap();
    let (first, second) = (Mapped(address("198.51.100.7:1024")), Mapped(address("198.51.100.7:2048")));
    let map = |rig: &mut Rig, mapped| {
        rig.said.clear();
        rig.proxy.handle_input(rig.now, Input::Mapped { listener: ListenerId(1), mapped });
        rig.wait(Duration::ZERO);
        let news = rig.said.iter().filter_map(|o| match o {
            Output::Observed(Observed::AdvertisedChanged { address, by: "stun", .. }) => Some(*address),
            _ => None,
        });
        news.collect::<Vec<_>>()
    };
    assert_eq!(map(&mut rig, Some(first)), [Some(first.0)]);
    assert!(map(&mut rig, Some(first)).is_empty(), "the same again is no news");
    let flow = crate::rig::flow(&rig.proxy, 1, PROVIDER);
    rig.proxy.seen_by_upstream(rig.now, 1, flow, address("198.51.100.7:3000"));
    assert_eq!(map(&mut rig, None), [Some(address("198.51.100.7:3000"))], "lost, but the upstream sees one");
    assert_eq!(seen(&rig).as_deref(), Some("198.51.100.7:3000"));
    map(&mut rig, Some(first));
    assert_eq!(seen(&rig).as_deref(), Some("198.51.100.7:3000"), "found again is not moved");
    // What was asked at the start is not waited for any more.
    rig.wait(PROBE_PATIENCE);
    assert_eq!(map(&mut rig, Some(second)), [Some(second.0)]);
    assert_eq!(seen(&rig), None);
    let pinged = |o: &Output| matches!(o, Output::Transmit(t) if t.bytes.starts_with(b"OPTIONS"));
    assert!(rig.said.iter().any(pinged), "the upstream is asked at once what it sees now");
}

#[test]
fn listeners_that_face_phones_ping_no_upstream() {
    let options = |rig: &mut Rig| {
        rig.wait(Duration::from_secs(60));
        let mut from: Vec<u16> = rig
            .said
            .iter()
            .filter_map(|o| match o {
                Output::Transmit(t) if t.bytes.starts_with(b"OPTIONS") => Some(t.flow.listener.0),
                _ => None,
            })
            .collect();
        from.dedup();
        from
    };
    assert_eq!(options(&mut office(Advertise::Listen)), [1]);
    assert_eq!(options(&mut Rig::border()), [0]);
    assert_eq!(options(&mut Rig::standalone()), [0; 0]);
}
