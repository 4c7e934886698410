use std::time::Duration;

use super::question::{Address, Srv};
use super::*;
use crate::Input;
use crate::config::{Config, Listener, Role};
use crate::rig::{Rig, config, listener, upstream};

fn named(name: &str) -> Question {
    Question { name: name.to_owned(), kind: Kind::Addresses }
}

fn address(remote: &str, local: &str) -> Address {
    Address { remote: remote.parse().unwrap(), local: local.parse().unwrap() }
}

/// Of these, alive for 10 s.
fn found(addresses: &[&str]) -> Answer {
    let addresses = addresses.iter().map(|remote| address(remote, "10.0.0.77")).collect();
    Answer::Found { records: Records::Addresses(addresses), ttl: Duration::from_secs(10) }
}

fn tcp(side: Side, bind: &str) -> Listener {
    Listener { transport: Transport::Tcp, ..listener(side, bind) }
}

fn tls(side: Side, bind: &str) -> Listener {
    Listener { transport: Transport::Tls, ..listener(side, bind) }
}

/// A border with these listeners, of which nothing was asked yet.
fn border(listeners: Vec<Listener>) -> Rig {
    let mut rig = Rig::new(config(Role::Border, listeners));
    rig.said.clear();
    rig
}

fn reconfigured(rig: &mut Rig, change: impl FnOnce(&mut Config)) {
    let mut config = (*rig.proxy.config).clone();
    change(&mut config);
    rig.proxy.config = config.into();
}

/// On the inner side, as a URI says it.
fn aim(uri: &str) -> Aim {
    let goal = Goal::of(&Uri::parse(uri.as_bytes()).unwrap()).unwrap();
    Aim { goal, side: Side::Inner, phone: None, prefer: None }
}

/// The ways as text: listener, our address, theirs.
fn ways(rig: &mut Rig, aim: &Aim) -> Vec<String> {
    match rig.proxy.ways_to(rig.now, aim, 0) {
        Located::At(ways) => ways
            .iter()
            .map(|Way { flow, .. }| {
                format!("{} {} {}>{}", flow.listener.0, flow.transport.via(), flow.local, flow.remote)
            })
            .collect(),
        Located::Wait => vec!["wait".to_owned()],
        Located::Nowhere(reject) => vec![reject.reason.to_owned()],
    }
}

/// What was asked since the last time.
fn asked(rig: &mut Rig) -> Vec<Question> {
    rig.wait(Duration::ZERO);
    let said = std::mem::take(&mut rig.said);
    let asked = said.into_iter().filter_map(|output| match output {
        Output::Resolve(question) => Some(question),
        _ => None,
    });
    asked.collect()
}

fn answer(rig: &mut Rig, name: &str, answer: Answer) {
    rig.proxy.handle_input(rig.now, Input::Resolved { question: named(name), answer });
    rig.wait(Duration::ZERO);
}

const NOWHERE: &str = "The next hop does not resolve";

#[test]
fn a_goal_is_what_a_uri_says() {
    let sip = Goal { host: "a.example".to_owned(), port: None, transport: None, sips: false };
    for (uri, goal) in [
        ("sip:x@A.Example", Some(sip.clone())),
        ("sips:x@a.example", Some(Goal { sips: true, ..sip.clone() })),
        ("sip:a.example:5070", Some(Goal { port: Some(5070), ..sip.clone() })),
        ("sip:x@b.example;maddr=a.example", Some(sip.clone())),
        ("sip:a.example;transport=TCP", Some(Goal { transport: Some(Transport::Tcp), ..sip.clone() })),
        ("sip:a.example;transport=carrier-pigeon", None),
        ("sip:[2001:DB8::1]", Some(Goal { host: "2001:db8::1".to_owned(), ..sip })),
        ("tel:+49", None),
        ("urn:service:sos", None),
    ] {
        assert_eq!(Goal::of(&Uri::parse(uri.as_bytes()).unwrap()), goal, "{uri}");
    }
}

#[test]
fn a_hop_follows_its_upstreams_to_their_new_numbers() {
    let rig = border(vec![listener(Side::Inner, "10.0.0.2:5060")]);
    let flow = crate::rig::flow(&rig.proxy, 0, "10.0.0.5:5060");
    let way = |upstream| Way { flow, name: String::new(), upstream, sized: false };
    let place = |at: usize| [Some(4), None, Some(0)][at];
    for (mut hop, before, after, of) in [
        (
            Hop::Upstream { of: vec![0, 1, 2], phone: None },
            &[0, 1, 2][..],
            Hop::Upstream { of: vec![4, 0], phone: None },
            &[4, 0][..],
        ),
        (Hop::Way { way: way(Some(2)), of: vec![2] }, &[2], Hop::Way { way: way(Some(0)), of: vec![0] }, &[0]),
        (Hop::Way { way: way(Some(1)), of: vec![1] }, &[1], Hop::Way { way: way(None), of: vec![] }, &[]),
        (Hop::Flow(flow), &[], Hop::Flow(flow), &[]),
    ] {
        assert_eq!(hop.upstreams(), before);
        hop.follow_upstreams(&place);
        assert_eq!(hop, after);
        assert_eq!(hop.upstreams(), of);
    }
}

#[test]
fn chance_decides_only_where_there_can_be_several_servers() {
    let upstreams = |hosts: &[(&str, Option<u16>)]| {
        let of = |(host, port): &(&str, _)| crate::config::Upstream { port: *port, ..upstream(host) };
        let mut rig = border(vec![listener(Side::Inner, "10.0.0.2:5060")]);
        reconfigured(&mut rig, |config| config.upstreams = hosts.iter().map(of).collect());
        rig.proxy.chance(&Hop::Upstream { of: (0..hosts.len()).collect(), phone: None }) != 0
    };
    assert!(upstreams(&[("a.example", None)]));
    assert!(upstreams(&[("10.0.0.5", None), ("a.example", None)]), "one of them");
    assert!(!upstreams(&[("a.example", Some(5060))]));
    assert!(!upstreams(&[("10.0.0.5", None)]));
    assert!(!upstreams(&[("10.0.0.5", Some(5060))]));
    let mut rig = border(vec![listener(Side::Inner, "10.0.0.2:5060")]);
    let flow = crate::rig::flow(&rig.proxy, 0, "10.0.0.5:5060");
    for (hop, drawn) in [
        (Hop::Host(aim("sip:a.example")), true),
        (Hop::Host(aim("sip:a.example:5060")), false),
        (Hop::Host(aim("sip:192.0.2.1")), false),
        (Hop::Flow(flow), false),
        (
            Hop::Way { way: Way { flow, name: "a.example".to_owned(), upstream: None, sized: false }, of: vec![0] },
            false,
        ),
    ] {
        assert_eq!(rig.proxy.chance(&hop) != 0, drawn, "{hop:?}");
    }
}

#[test]
fn a_hop_that_is_known_needs_nobody() {
    let mut rig = border(vec![listener(Side::Inner, "10.0.0.2:5060")]);
    let flow = crate::rig::flow(&rig.proxy, 0, "10.0.0.5:5060");
    let way = Way { flow, name: "core".to_owned(), upstream: Some(0), sized: true };
    let now = rig.now;
    assert_eq!(
        rig.proxy.ways(now, &Hop::Flow(flow), 0),
        Located::At(vec![Way { name: String::new(), upstream: None, sized: false, ..way }])
    );
    assert_eq!(rig.proxy.ways(now, &Hop::Way { way: way.clone(), of: vec![0] }, 0), Located::At(vec![way]));
    let Located::At(to_host) = rig.proxy.ways(now, &Hop::Host(aim("sip:10.0.0.9:5070")), 0) else { panic!() };
    assert_eq!((to_host[0].flow.remote.to_string(), to_host[0].upstream), ("10.0.0.9:5070".to_owned(), None));
    let Located::At(up) = rig.proxy.ways(now, &Hop::Upstream { of: vec![0], phone: None }, 0) else { panic!() };
    assert_eq!((up[0].flow, up[0].upstream), (flow, Some(0)));
    for (hop, at) in [(Hop::Flow(flow), flow), (Hop::Upstream { of: vec![0], phone: None }, flow)] {
        assert_eq!(rig.proxy.locate(now, &hop), Located::At(at));
        assert_eq!(rig.proxy.locate_by(now, &hop, 7), Located::At(at));
    }
    assert_eq!(asked(&mut rig), []);
}

#[test]
fn a_stream_to_a_host_is_opened_and_a_flow_that_is_there_is_not() {
    let mut rig = border(vec![listener(Side::Inner, "10.0.0.2:5060"), tcp(Side::Inner, "10.0.0.2:5060")]);
    let connects = |rig: &mut Rig| {
        rig.wait(Duration::ZERO);
        std::mem::take(&mut rig.said).iter().filter(|o| matches!(o, Output::Connect { .. })).count()
    };
    let hop = Hop::Host(aim("sip:10.0.0.9;transport=tcp"));
    let Located::At(flow) = rig.proxy.locate(rig.now, &hop) else { panic!() };
    assert_ne!(flow.connection, 0);
    assert_eq!((flow.transport, flow.remote.to_string()), (Transport::Tcp, "10.0.0.9:5060".to_owned()));
    assert_eq!(connects(&mut rig), 1);
    let bare = Flow { connection: 0, ..flow };
    assert_eq!(rig.proxy.locate(rig.now, &Hop::Flow(bare)), Located::At(bare), "it is taken as it is");
    assert_eq!(rig.proxy.locate(rig.now, &hop), Located::At(flow));
    assert_eq!(connects(&mut rig), 0);
}

#[test]
fn a_name_is_asked_for_once_and_kept_while_it_is_of_use() {
    let mut rig = border(vec![listener(Side::Inner, "10.0.0.2:5060")]);
    let host = aim("sip:a.example:5060");
    let hop = Hop::Host(host.clone());
    assert_eq!(rig.proxy.locate(rig.now, &hop), Located::Wait);
    assert_eq!(asked(&mut rig), [named("a.example")]);
    assert_eq!(ways(&mut rig, &host), ["wait"]);
    assert_eq!(asked(&mut rig), [], "it is asked already");
    answer(&mut rig, "a.example", found(&["10.0.0.9", "10.0.0.8"]));
    let there = ["0 UDP 10.0.0.2:5060>10.0.0.9:5060", "0 UDP 10.0.0.2:5060>10.0.0.8:5060"];
    assert_eq!(ways(&mut rig, &host), there);
    let Located::At(flow) = rig.proxy.locate(rig.now, &hop) else { panic!() };
    assert_eq!(flow.remote.to_string(), "10.0.0.9:5060", "the first of them");
    rig.wait(Duration::from_millis(9_999));
    assert_eq!(asked(&mut rig), []);
    rig.wait(Duration::from_millis(1));
    assert_eq!(asked(&mut rig), [named("a.example")], "it was of use");
    assert_eq!(ways(&mut rig, &host), there, "what is old serves until there is news");
    answer(&mut rig, "a.example", Answer::Nothing { ttl: Duration::from_secs(10) });
    assert_eq!(ways(&mut rig, &host), [NOWHERE]);
    let Located::Nowhere(reject) = rig.proxy.locate(rig.now, &hop) else { panic!() };
    assert_eq!((reject.status.0, &reject.extra[..]), (503, &b"Retry-After: 5\r\n"[..]));
    rig.wait(Duration::from_secs(10));
    assert_eq!(asked(&mut rig), [named("a.example")]);
    answer(&mut rig, "a.example", found(&["10.0.0.9"]));
    rig.wait(Duration::from_secs(60));
    assert_eq!(asked(&mut rig), [], "nobody used it");
    assert_eq!(rig.proxy.names.known(&named("a.example")), None);
}

#[test]
fn a_question_that_finds_no_room_is_put_a_second_later() {
    let mut rig = border(vec![listener(Side::Inner, "10.0.0.2:5060")]);
    let host = aim("sip:a.example:5060");
    ways(&mut rig, &host);
    answer(&mut rig, "a.example", found(&["10.0.0.9"]));
    ways(&mut rig, &host);
    asked(&mut rig);
    for number in 0..128 {
        assert_eq!(ways(&mut rig, &aim(&format!("sip:n{number}.example:5060"))), ["wait"]);
    }
    assert_eq!(asked(&mut rig).len(), 128);
    assert_eq!(ways(&mut rig, &aim("sip:more.example:5060")), ["Too many names are being looked up"]);
    assert_eq!(ways(&mut rig, &aim("sip:n0.example:5060")), ["wait"], "it is under way");
    rig.wait(Duration::from_secs(10));
    assert_eq!(asked(&mut rig), []);
    answer(&mut rig, "n0.example", found(&["10.0.0.8"]));
    rig.wait(Duration::from_millis(999));
    assert_eq!(asked(&mut rig), []);
    rig.wait(Duration::from_millis(1));
    assert_eq!(asked(&mut rig), [named("a.example")]);
}

#[test]
fn a_listener_is_of_the_side_the_transport_the_family_and_the_phone() {
    let phones = Listener { phone: Some(0), ..tcp(Side::Inner, "10.0.0.2:5064") };
    let mut rig = border(vec![
        listener(Side::Outer, "203.0.113.30:5060"),
        tcp(Side::Inner, "10.0.0.2:5060"),
        Listener { retired: true, ..listener(Side::Inner, "10.0.0.2:5066") },
        listener(Side::Inner, "10.0.0.2:5062"),
        phones,
        listener(Side::Inner, "[2001:db8::2]:5060"),
        listener(Side::Inner, "10.0.0.3:5060"),
        Listener { phone: Some(0), ..tls(Side::Inner, "10.0.0.2:5061") },
    ]);
    reconfigured(&mut rig, |config| config.phones[0].outer_listener = Some(4));
    let to = aim("sip:10.0.0.9");
    assert_eq!(rig.proxy.transports(&to), [Transport::Udp, Transport::Udp, Transport::Udp, Transport::Tcp]);
    let of_phone = Aim { phone: Some(0), ..to.clone() };
    assert_eq!(rig.proxy.transports(&of_phone)[3..], [Transport::Tcp, Transport::Tcp, Transport::Tls]);
    let outer = Aim { side: Side::Outer, ..to.clone() };
    assert_eq!(rig.proxy.transports(&outer), [Transport::Udp]);
    let own = Aim { phone: Some(0), ..aim("sip:10.0.0.9;transport=tcp") };
    let prefer = |listener| Aim { prefer: Some(ListenerId(listener)), ..to.clone() };
    for (aim, way) in [
        (to.clone(), "3 UDP 10.0.0.2:5062>10.0.0.9:5060"),
        (outer, "0 UDP 203.0.113.30:5060>10.0.0.9:5060"),
        (aim("sip:10.0.0.9;transport=tcp"), "1 TCP 10.0.0.2:5060>10.0.0.9:5060"),
        (own, "4 TCP 10.0.0.2:5064>10.0.0.9:5060"),
        (aim("sip:10.0.0.9;transport=tls"), NOWHERE),
        (aim("sip:[2001:db8::9]"), "5 UDP [2001:db8::2]:5060>[2001:db8::9]:5060"),
        (prefer(6), "6 UDP 10.0.0.3:5060>10.0.0.9:5060"),
        (prefer(2), "3 UDP 10.0.0.2:5062>10.0.0.9:5060"),
        (prefer(1), "3 UDP 10.0.0.2:5062>10.0.0.9:5060"),
        (prefer(5), "3 UDP 10.0.0.2:5062>10.0.0.9:5060"),
        (prefer(99), "3 UDP 10.0.0.2:5062>10.0.0.9:5060"),
    ] {
        assert_eq!(ways(&mut rig, &aim), [way], "{aim:?}");
    }
    // A phone's own listener of the other family leads nowhere.
    let other = Aim { phone: Some(0), ..aim("sip:[2001:db8::9];transport=tcp") };
    assert_eq!(ways(&mut rig, &other), [NOWHERE]);
    assert_eq!(asked(&mut rig), []);
    let now = rig.now;
    let Located::At(ways) = rig.proxy.ways_to(now, &to, 0) else { panic!() };
    assert_eq!(
        (&ways[0].name[..], ways[0].upstream, ways[0].sized, ways[0].flow.connection),
        ("10.0.0.9", None, false, 0)
    );
}

#[test]
fn of_a_name_with_both_families_those_count_that_we_can_leave_by() {
    let mut rig = border(vec![listener(Side::Inner, "10.0.0.2:5060")]);
    let host = aim("sip:a.example:5060");
    ways(&mut rig, &host);
    answer(&mut rig, "a.example", found(&["2001:db8::9", "10.0.0.9"]));
    assert_eq!(ways(&mut rig, &host), ["0 UDP 10.0.0.2:5060>10.0.0.9:5060"]);
    ways(&mut rig, &aim("sip:b.example:5060"));
    answer(&mut rig, "b.example", found(&["2001:db8::9"]));
    assert_eq!(ways(&mut rig, &aim("sip:b.example:5060")), [NOWHERE]);
}

#[test]
fn a_wildcard_listener_sends_from_where_the_kernel_would() {
    let mut rig = border(vec![listener(Side::Inner, "0.0.0.0:5060")]);
    asked(&mut rig);
    let host = aim("sip:a.example:5060");
    ways(&mut rig, &host);
    answer(&mut rig, "a.example", found(&["10.0.0.9"]));
    assert_eq!(ways(&mut rig, &host), ["0 UDP 10.0.0.77:5060>10.0.0.9:5060"]);
    asked(&mut rig);
    let numeric = aim("sip:10.0.0.8:5060");
    assert_eq!(ways(&mut rig, &numeric), ["wait"]);
    assert_eq!(asked(&mut rig), [named("10.0.0.8")]);
    answer(&mut rig, "10.0.0.8", found(&["10.0.0.8"]));
    assert_eq!(ways(&mut rig, &numeric), ["0 UDP 10.0.0.77:5060>10.0.0.8:5060"]);
    answer(&mut rig, "10.0.0.8", found(&[]));
    ways(&mut rig, &aim("sip:10.0.0.6:5060"));
    answer(&mut rig, "10.0.0.6", found(&[]));
    assert_eq!(ways(&mut rig, &aim("sip:10.0.0.6:5060")), [NOWHERE], "there is no route");
    let answer = Answer::Found { records: Records::Srv(Vec::new()), ttl: Duration::from_secs(10) };
    ways(&mut rig, &aim("sip:10.0.0.7:5060"));
    rig.proxy.handle_input(rig.now, Input::Resolved { question: named("10.0.0.7"), answer });
    assert_eq!(ways(&mut rig, &aim("sip:10.0.0.7:5060")), [NOWHERE]);
}

#[test]
fn sips_leaves_tls_only_on_a_side_that_is_secure_by_itself() {
    let secure = |listener: Listener| Listener { secure: true, ..listener };
    let udp = || listener(Side::Inner, "10.0.0.2:5060");
    let plain = "0 UDP 10.0.0.2:5060>10.0.0.9:5061";
    for (listeners, way) in [
        (vec![udp()], NOWHERE),
        (vec![secure(udp())], plain),
        (vec![udp(), secure(listener(Side::Outer, "203.0.113.30:5060"))], NOWHERE),
        (vec![udp(), Listener { retired: true, ..secure(listener(Side::Inner, "10.0.0.3:5060")) }], NOWHERE),
        (vec![secure(udp()), tls(Side::Inner, "10.0.0.2:5061")], "1 TLS 10.0.0.2:5061>10.0.0.9:5061"),
    ] {
        let mut rig = border(listeners.clone());
        assert_eq!(ways(&mut rig, &aim("sips:10.0.0.9:5061")), [way], "{listeners:?}");
    }
}

#[test]
fn an_aim_leaves_by_the_listener_it_belongs_to() {
    let rig = border(vec![
        listener(Side::Inner, "10.0.0.2:5060"),
        Listener { phone: Some(1), ..listener(Side::Outer, "203.0.113.30:5060") },
    ]);
    let goal = aim("sip:a.example").goal;
    let of = |listener| rig.proxy.aim(goal.clone(), ListenerId(listener));
    let expected = Aim { goal: goal.clone(), side: Side::Inner, phone: None, prefer: Some(ListenerId(0)) };
    assert_eq!(of(0), expected);
    assert_eq!(of(1), Aim { side: Side::Outer, phone: Some(1), prefer: Some(ListenerId(1)), ..expected });
}

#[test]
fn several_servers_are_drawn_by_the_seed() {
    let mut rig = border(vec![listener(Side::Inner, "10.0.0.2:5060")]);
    let host = aim("sip:a.example;transport=udp");
    let srv = |port| Srv { priority: 1, weight: 1, port, target: "s.example".to_owned() };
    let question = Question { name: "_sip._udp.a.example".to_owned(), kind: Kind::Srv };
    assert_eq!(ways(&mut rig, &host), ["wait"]);
    assert_eq!(asked(&mut rig), std::slice::from_ref(&question));
    let records = Records::Srv((5060..5068).map(srv).collect());
    let answer = Answer::Found { records, ttl: Duration::from_secs(600) };
    rig.proxy.handle_input(rig.now, Input::Resolved { question, answer });
    assert_eq!(ways(&mut rig, &host), ["wait"]);
    self::answer(&mut rig, "s.example", found(&["10.0.0.9"]));
    let now = rig.now;
    let mut first = |seed: Option<u64>| {
        let hop = Hop::Host(host.clone());
        let located = match seed {
            Some(seed) => rig.proxy.locate_by(now, &hop, seed),
            None => rig.proxy.locate(now, &hop),
        };
        let Located::At(flow) = located else { panic!("{located:?}") };
        flow.remote.port()
    };
    let seeded: Vec<u16> = (0..40).map(|seed| first(Some(seed))).collect();
    assert!(seeded.iter().any(|port| *port != seeded[0]));
    assert_eq!(first(Some(0)), seeded[0]);
    let drawn: Vec<u16> = (0..40).map(|_| first(None)).collect();
    assert!(drawn.iter().any(|port| *port != drawn[0]));
}

#[test]
fn a_request_goes_on_when_its_name_is_known() {
    let mut rig = border(vec![listener(Side::Inner, "10.0.0.2:5060"), listener(Side::Outer, "203.0.113.30:5060")]);
    reconfigured(&mut rig, |config| config.upstreams[0].host = "core.example".to_owned());
    let text = "REGISTER sip:a.example SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.7:40000;branch=z9hG4bK1\r\nMax-Forwards: \
                70\r\nFrom: <sip:alice@a.example>;tag=1\r\nTo: <sip:alice@a.example>\r\nCall-ID: c\r\nCSeq: 1 \
                REGISTER\r\nContact: <sip:alice@198.51.100.7:40000>\r\nContent-Length: 0\r\n\r\n";
    rig.receive(1, "198.51.100.7:40000", text);
    assert_eq!(asked(&mut rig), [named("core.example")]);
    answer(&mut rig, "core.example", found(&["10.0.0.9"]));
    let sent = rig.sent("10.0.0.9:5060");
    assert!(sent.iter().any(|text| text.starts_with("REGISTER ")), "{sent:?}");
    let from = |remote: &str| rig.proxy.upstream_at(crate::rig::flow(&rig.proxy, 0, remote));
    assert_eq!((from("10.0.0.9:5060"), from("10.0.0.5:5060")), (Some(0), None), "it is noted where the upstream is");
}
