use nat::{Advertise, Side};
use wire::sip::Status;

use super::*;
use crate::rig::{Rig, config, listener};
use crate::transaction::{Context, Purpose};
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

const ALICE: &str = "192.168.1.20:5060";

/// A standalone machine with one binding, which is quiet now.
fn house() -> (Rig, registry::Binding) {
    let mut rig = Rig::standalone();
    crate::rig::register(&mut rig.proxy, rig.now, 0, "alice", ALICE);
    rig.wait(Duration::from_secs(64));
    rig.said.clear();
    let binding = rig.proxy.registry.bindings().next().unwrap().clone();
    (rig, binding)
}

/// When OPTIONS went to alice, in milliseconds from now on; each is answered.
fn pinged(rig: &mut Rig, seconds: u64) -> Vec<u64> {
    let mut at = Vec::new();
    for moment in 0..seconds * 10 {
        for text in rig.sent(ALICE).into_iter().filter(|text| text.starts_with("OPTIONS ")) {
            assert!(text.starts_with("OPTIONS sip:alice@192.168.1.20:5060 SIP/2.0\r\n"), "{text}");
            let kept = |line: &&str| ["Via:", "From:", "To:", "Call-ID:", "CSeq:"].iter().any(|n| line.starts_with(n));
            let lines: String = text.lines().filter(kept).map(|line| format!("{line}\r\n")).collect();
            rig.receive(0, ALICE, &format!("SIP/2.0 486 Busy\r\n{lines}Content-Length: 0\r\n\r\n"));
            at.push(moment * 100);
        }
        rig.wait(Duration::from_millis(100));
    }
    at
}

#[test]
fn a_binding_is_pinged_while_that_is_wanted() {
    let (mut rig, alice) = house();
    assert_eq!(pinged(&mut rig, 60), [0; 0]);
    rig.proxy.keep_pinged(rig.now, alice.id, true);
    let due = rig.proxy.pings[&alice.id].due;
    rig.proxy.keep_pinged(rig.now, alice.id, true);
    assert_eq!(rig.proxy.pings[&alice.id].due, due, "it is pinged already");
    assert_eq!(rig.proxy.poll_timeout(), Some(due));
    let at = pinged(&mut rig, 120);
    assert!((4..=6).contains(&at.len()), "{at:?}");
    let apart = std::iter::once(0).chain(at.iter().copied()).zip(&at).map(|(before, at)| at - before);
    assert!(apart.into_iter().all(|apart| (20_000..=25_100).contains(&apart)), "{at:?}");
    let binding = rig.proxy.registry.binding(alice.id).unwrap();
    assert!(binding.answered && binding.missed == 0, "any final answer will do");
    rig.proxy.keep_pinged(rig.now, alice.id, false);
    assert!(rig.proxy.pings.is_empty());
    rig.proxy.stop_pings(alice.id);
    assert_eq!(pinged(&mut rig, 60), [0; 0]);
}

#[test]
fn a_binding_that_was_restored_is_pinged_within_an_interval() {
    let mut first = Vec::new();
    let (mut rig, alice) = house();
    for _ in 0..40 {
        rig.proxy.ping_again(rig.now, alice.id);
        let due = rig.proxy.pings[&alice.id].due;
        first.push(due - rig.now);
        assert_eq!(rig.proxy.poll_timeout(), Some(due));
        rig.proxy.stop_pings(alice.id);
    }
    first.sort_unstable();
    assert!(first[0] < Duration::from_secs(5) && first[39] > Duration::from_secs(20), "{first:?}");
    assert!(first[39] <= Duration::from_secs(25));
}

#[test]
fn a_binding_that_is_no_more_is_not_pinged() {
    let (mut rig, alice) = house();
    let gone = BindingId(alice.id.0 ^ 1);
    for id in [gone, alice.id] {
        rig.proxy.pings.insert(id, Ping { due: rig.now });
        rig.proxy.ping_due(rig.now, id);
    }
    rig.wait(Duration::ZERO);
    assert_eq!(rig.proxy.pings.keys().copied().collect::<Vec<_>>(), [alice.id]);
    assert_eq!(rig.sent(ALICE).len(), 1);
}

/// The context of the ping that is under way.
fn ping(rig: &mut Rig, id: BindingId) -> Box<Context> {
    rig.proxy.ping_due(rig.now, id);
    rig.wait(Duration::ZERO);
    let ping =
        rig.proxy.contexts.iter().find(|c| matches!(c.purpose, Purpose::Ours(Ours::Ping(of)) if of == id)).unwrap().id;
    rig.proxy.contexts.take(ping).unwrap()
}

#[test]
fn only_the_phone_itself_proves_that_it_is_there() {
    for (status, from, moved, answered) in [
        (200, ALICE, false, true),
        (404, ALICE, false, true),
        (100, ALICE, false, false),
        (200, "192.168.1.20:5061", false, false),
        (200, "192.168.1.21:5060", false, false),
        (200, ALICE, true, false),
    ] {
        let (mut rig, alice) = house();
        let mut context = ping(&mut rig, alice.id);
        if moved {
            let flow = crate::rig::flow(&rig.proxy, 0, "192.168.1.99:5060");
            rig.proxy.registry.bind(registry::Binding { flow: flow.into(), ..alice.clone() });
        }
        let text = format!("SIP/2.0 {status} X\r\nCSeq: 1 OPTIONS\r\n\r\n");
        let stored = wire::sip::Stored::parse(text.into_bytes(), &rig.proxy.config.limits).unwrap();
        let flow = crate::rig::flow(&rig.proxy, 0, from);
        rig.proxy.own_response(rig.now, &mut context, flow, stored.message(), Status(status));
        let binding = rig.proxy.registry.binding(alice.id).unwrap();
        assert_eq!(binding.answered, answered, "{status} {from} {moved}");
    }
}

#[test]
fn a_phone_is_gone_with_the_third_ping_that_it_missed() {
    for (answered, moved, told, missed) in [(true, false, &[3][..], 5), (false, false, &[], 5), (true, true, &[], 0)] {
        let (mut rig, alice) = house();
        let context = ping(&mut rig, alice.id);
        let flow = if moved { crate::rig::flow(&rig.proxy, 0, "192.168.1.99:5060") } else { alice.flow.get() };
        rig.proxy.registry.bind(registry::Binding { flow: flow.into(), answered, ..alice.clone() });
        rig.said.clear();
        let mut gone = Vec::new();
        for round in 1..=5 {
            rig.proxy.own_timeout(rig.now, &context);
            rig.wait(Duration::ZERO);
            let said = std::mem::take(&mut rig.said);
            let aor = |o: &Output| match o {
                Output::Observed(Observed::PhoneGone { aor }) => Some(aor.clone()),
                _ => None,
            };
            gone.extend(said.iter().filter_map(aor).map(|aor| (round, aor)));
        }
        assert_eq!(gone, told.iter().map(|round| (*round, "alice".to_owned())).collect::<Vec<_>>());
        assert_eq!(rig.proxy.registry.binding(alice.id).unwrap().missed, missed);
    }
}

#[test]
fn who_cannot_be_named_is_not_asked() {
    let (mut rig, alice) = house();
    for (uri, asked) in [(None, false), (Some(&b"sip:a@192.168.1.20"[..]), true), (Some(b"a b"), false)] {
        let target = Target {
            uri: uri.map(<[u8]>::to_vec),
            hop: Hop::Flow(alice.flow.get()),
            binding: None,
            phone: None,
            flows: Vec::new(),
        };
        let id = rig.proxy.ask_options(rig.now, alice.flow.get(), target, Ours::Ping(alice.id), "<sip:a@b>");
        rig.wait(Duration::ZERO);
        assert_eq!(id.is_some(), asked);
        assert_eq!(rig.sent(ALICE).len(), usize::from(asked), "{uri:?}");
    }
}

#[test]
fn the_answer_to_a_ping_shows_what_the_upstream_sees() {
    let mut rig = office(Advertise::Stun);
    let asked = rig.sent(PROVIDER).into_iter().find(|text| text.starts_with("OPTIONS")).unwrap();
    let kept = |line: &&str| ["Via:", "From:", "To:", "Call-ID:", "CSeq:"].iter().any(|n| line.starts_with(n));
    let lines: String = asked.lines().filter(kept).map(|line| format!("{line}\r\n")).collect();
    let lines = lines.replace(";rport", ";rport=1024;received=198.51.100.7");
    let answer = |status: &str| format!("SIP/2.0 {status}\r\n{lines}Content-Length: 0\r\n\r\n");
    rig.receive(1, PROVIDER, &answer("100 Trying"));
    assert_eq!(seen(&rig), None);
    let stuns = |rig: &Rig| rig.said.iter().filter(|o| matches!(o, Output::KeepAlive(_))).count();
    assert_eq!(stuns(&rig), 0);
    rig.receive(1, PROVIDER, &answer("200 OK"));
    assert_eq!(seen(&rig).as_deref(), Some("198.51.100.7:1024"));
    assert_eq!(stuns(&rig), 1, "does it answer STUN, too?");
}

#[test]
fn an_upstream_that_is_not_found_is_looked_for_again_soon() {
    let mut outer = config(Role::Border, vec![listener(Side::Inner, "10.0.0.2:5060")]);
    outer.upstreams[0].host = "core.example".to_owned();
    let mut rig = Rig::new(outer);
    assert_eq!(rig.proxy.poll_timeout(), Some(rig.now + RETRY));
    rig.wait(RETRY);
    assert_eq!(rig.proxy.poll_timeout(), Some(rig.now + RETRY));
    let mut rig = Rig::border();
    rig.wait(Duration::ZERO);
    let options = rig.sent("10.0.0.5:5060");
    assert!(options[0].starts_with("OPTIONS sip:10.0.0.5:5060;transport=udp SIP/2.0\r\n"), "{options:?}");
    assert!(options[0].contains("To: <sip:10.0.0.5:5060;transport=udp>\r\n"));
    assert!((24..=29).contains(&moment_of_options(&mut rig)), "and in its time");
}

#[test]
fn the_provider_is_pinged_as_rarely_as_the_router_allows() {
    for (advertise, seconds, expected) in [
        (Advertise::Stun, 100, 80..=101),
        (Advertise::Stun, 10, 8..=11),
        // An address that is configured needs no mapping.
        (Advertise::Ip([198, 51, 100, 7].into()), 100, 24..=30),
    ] {
        let mut rig = office(advertise);
        rig.proxy.handle_input(rig.now, Input::KeepAliveInterval(Duration::from_secs(seconds)));
        // Each request once: its copies have its Call-ID.
        let (mut known, mut moments) = (Vec::new(), Vec::new());
        rig.said.clear();
        for second in 0..400 {
            rig.wait(Duration::from_secs(1));
            for text in rig.sent(PROVIDER).iter().filter(|text| text.starts_with("OPTIONS")) {
                let call_id = text.lines().find(|line| line.starts_with("Call-ID:")).unwrap().to_owned();
                if !known.contains(&call_id) {
                    known.push(call_id);
                    moments.push(second);
                }
            }
        }
        // What is armed already is only ever brought forward.
        let apart: Vec<i32> = moments.windows(2).map(|pair| pair[1] - pair[0]).skip(1).collect();
        assert!(apart.len() > 2 && apart.iter().all(|apart| expected.contains(apart)), "{seconds}: {apart:?}");
    }
}

/// After how many seconds the core is asked next by a new request, not by a copy.
fn moment_of_options(rig: &mut Rig) -> u64 {
    rig.wait(Duration::from_secs(20));
    rig.said.clear();
    (21..60)
        .find(|_| {
            rig.wait(Duration::from_secs(1));
            rig.sent("10.0.0.5:5060").iter().any(|text| text.starts_with("OPTIONS"))
        })
        .unwrap()
}
