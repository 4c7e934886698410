use super::*;
use crate::config::Upstream;
use crate::question::{Address, Answer, Kind, Question, Records};
use crate::rig::{Rig, config, flow, listener, upstream};
use nat::Side;

/// A border with these upstreams, and the address of each.
fn border(upstreams: Vec<Upstream>) -> Rig {
    let listeners = vec![listener(Side::Inner, "10.0.0.2:5060"), listener(Side::Outer, "203.0.113.30:5060")];
    let mut config = config(Role::Border, listeners);
    config.upstreams = upstreams;
    Rig::new(config)
}

fn cores() -> Rig {
    border(vec![upstream("10.0.0.5"), upstream("10.0.0.6")])
}

fn core(rig: &Rig, number: usize) -> Flow {
    flow(&rig.proxy, 0, ["10.0.0.5:5060", "10.0.0.6:5060"][number])
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// An address that has answered a probe.
fn answers(rig: &mut Rig, number: usize) {
    let flow = core(rig, number);
    let key = (flow.listener, flow.remote);
    rig.proxy.upstreams.health.get_mut(&key).unwrap().answered(rig.now, true);
}

#[test]
fn a_domain_goes_to_the_upstreams_that_name_it() {
    let of = |upstreams: &[Option<&str>], uri: &str| {
        let named = |domain: &Option<&str>| Upstream { domain: domain.map(str::to_owned), ..upstream("10.0.0.5") };
        let rig = border(upstreams.iter().map(named).collect());
        rig.proxy.upstreams_for(&Uri::parse(uri.as_bytes()).unwrap())
    };
    let mixed = [Some("a.example"), None, Some("b.example"), Some("A.example"), None];
    assert_eq!(of(&mixed, "sip:x@a.EXAMPLE"), [0, 3]);
    assert_eq!(of(&mixed, "sip:x@b.example"), [2]);
    assert_eq!(of(&mixed, "sip:x@c.example"), [1, 4]);
    assert_eq!(of(&mixed, "tel:+49"), [1, 4]);
    assert_eq!(of(&[Some("a.example"), Some("b.example")], "sip:x@c.example"), [0]);
}

#[test]
fn what_is_refused_says_when_to_come_back() {
    let said = |rig: &Rig, now| {
        let reject = rig.proxy.unavailable(now, &[0, 1]);
        (reject.status.0, reject.reason, String::from_utf8(reject.extra.clone()).unwrap())
    };
    let mut rig = cores();
    assert_eq!(said(&rig, rig.now), (503, "The core does not answer", "Retry-After: 5\r\n".to_owned()));
    let [one, two] = [core(&rig, 0), core(&rig, 1)];
    rig.proxy.hop_failed(rig.now, one, Failure::Refused(Some(seconds(90))));
    rig.proxy.hop_failed(rig.now, two, Failure::Refused(Some(seconds(60))));
    assert_eq!(said(&rig, rig.now), (503, "The core asked for a pause", "Retry-After: 60\r\n".to_owned()));
    assert_eq!(said(&rig, rig.now + Duration::from_millis(100)).2, "Retry-After: 60\r\n", "rounded up");
    assert_eq!(said(&rig, rig.now + seconds(1)).2, "Retry-After: 59\r\n");
    assert_eq!(said(&rig, rig.now + seconds(60)).1, "The core does not answer", "a pause is over");
    // A shorter pause does not take the place of a longer one, and none is longer than an hour.
    rig.proxy.hop_failed(rig.now, two, Failure::Refused(Some(seconds(10))));
    assert_eq!(said(&rig, rig.now).2, "Retry-After: 60\r\n");
    let mut rig = cores();
    for flow in [one, two] {
        rig.proxy.hop_failed(rig.now, flow, Failure::Refused(Some(seconds(90_000))));
    }
    assert_eq!(said(&rig, rig.now).2, "Retry-After: 3600\r\n");
}

#[test]
fn all_are_unavailable_when_none_is_left() {
    let mut rig = cores();
    for number in [0, 1] {
        answers(&mut rig, number);
        assert!(rig.proxy.all_unavailable(rig.now, &[0, 1]).is_none());
        let flow = core(&rig, number);
        rig.proxy.hop_failed(rig.now, flow, Failure::Unsent);
        assert!(rig.proxy.is_down(rig.now, flow));
    }
    assert!(rig.proxy.all_unavailable(rig.now, &[0, 1]).is_some());
    assert!(rig.proxy.all_unavailable(rig.now, &[]).is_none(), "of nobody nothing is known");
}

#[test]
fn each_failure_weighs_as_much_as_it_says() {
    for (failure, answered, state, tier) in [
        (Failure::Missed, true, UpstreamState::Down, None),
        (Failure::Unsent, true, UpstreamState::Down, None),
        (Failure::Unsent, false, UpstreamState::Down, Some(2)),
        (Failure::Silent, true, UpstreamState::Returning, Some(1)),
        (Failure::Silent, false, UpstreamState::Down, Some(2)),
        (Failure::Refused(Some(seconds(5))), true, UpstreamState::Busy, None),
        (Failure::Refused(None), true, UpstreamState::Up, Some(0)),
    ] {
        let mut rig = cores();
        if answered {
            answers(&mut rig, 0);
        }
        let flow = core(&rig, 0);
        let key = (flow.listener, flow.remote);
        rig.proxy.hop_failed(rig.now, flow, failure);
        assert_eq!(rig.proxy.upstreams.state(rig.now, key), state, "{failure:?} {answered}");
        assert_eq!(rig.proxy.upstreams.tier(rig.now, key), tier, "{failure:?} {answered}");
        let way = Way { flow, name: String::new(), upstream: Some(0), sized: false };
        assert_eq!(rig.proxy.still_serves(rig.now, &way), tier.is_some());
        assert!(rig.proxy.still_serves(rig.now, &Way { upstream: None, ..way }), "no upstream, nothing known");
    }
}

#[test]
fn one_that_answers_again_after_a_request_failed_is_forgiven() {
    let mut rig = cores();
    let flow = core(&rig, 0);
    rig.proxy.hop_failed(rig.now, flow, Failure::Silent);
    assert!(rig.proxy.is_down(rig.now, flow));
    rig.proxy.hop_answered(rig.now, flow);
    assert!(!rig.proxy.is_down(rig.now, flow));
}

/// An office-to-office call spirals through the core, and has no port on its second pass.
#[test]
fn a_503_of_our_own_says_nothing_of_the_core_that_passed_it() {
    for (ours, state, status) in
        [(true, UpstreamState::Up, "503 No port"), (false, UpstreamState::Busy, "503 The core asked")]
    {
        let mut rig = Rig::border();
        answers(&mut rig, 0);
        let (phone, far) = ("198.51.100.7:5060", "10.0.0.5:5060");
        rig.registered("example.com", "alice", phone, far);
        rig.said.clear();
        rig.receive(
            1,
            phone,
            "MESSAGE sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.7:5060;branch=z9hG4bKm\r\n\
             Max-Forwards: 70\r\nFrom: <sip:alice@example.com>;tag=a\r\nTo: <sip:bob@example.com>\r\n\
             Call-ID: spiral\r\nCSeq: 1 MESSAGE\r\nContent-Length: 0\r\n\r\n",
        );
        let passed = rig.sent(far).pop().expect("it goes to the core");
        let lines =
            passed.lines().filter(|l| ["Via:", "From:", "Call-ID:", "CSeq:"].iter().any(|name| l.starts_with(name)));
        let lines: String = lines.map(|line| format!("{line}\r\n")).collect();
        let asked = wire::sip::Stored::parse(passed.clone().into_bytes(), &wire::sip::Limits::default()).unwrap();
        let tag = if ours { rig.proxy.tag_for(asked.message()) } else { *b"aaaaaaaaaaaaa" };
        let tag = String::from_utf8(tag.to_vec()).unwrap();
        let answer = format!(
            "SIP/2.0 503 No port\r\n{lines}To: <sip:bob@example.com>;tag={tag}\r\nRetry-After: 30\r\nContent-Length: 0\r\n\r\n"
        );
        rig.receive(0, far, &answer);
        let core = core(&rig, 0);
        assert_eq!(rig.proxy.upstreams.state(rig.now, (core.listener, core.remote)), state);
        let told = rig.sent(phone).pop().expect("a final response");
        assert!(told.starts_with(&format!("SIP/2.0 {status}")) && told.contains("\r\nRetry-After: 30\r\n"), "{told}");
    }
}

#[test]
fn the_best_address_speaks_for_an_upstream_and_news_are_told_once() {
    let mut rig = cores();
    let told = |rig: &mut Rig| {
        rig.wait(Duration::ZERO);
        let said = std::mem::take(&mut rig.said);
        let news = said.into_iter().filter_map(|o| match o {
            crate::Output::Observed(Observed::Upstream { upstream, state }) => Some((upstream, state)),
            _ => None,
        });
        news.collect::<Vec<_>>()
    };
    told(&mut rig);
    let flow = core(&rig, 1);
    answers(&mut rig, 1);
    rig.proxy.hop_failed(rig.now, flow, Failure::Unsent);
    assert_eq!(told(&mut rig), [(1, UpstreamState::Down)]);
    rig.proxy.hop_failed(rig.now, flow, Failure::Unsent);
    assert_eq!(told(&mut rig), []);
    rig.proxy.hop_failed(rig.now, flow, Failure::Refused(Some(seconds(30))));
    assert_eq!(told(&mut rig), [(1, UpstreamState::Busy)]);
    let other = (flow.listener, "10.0.0.7:5060".parse().unwrap());
    rig.proxy.upstreams.found.get_mut(&1).unwrap().push(other);
    rig.proxy.upstreams.health.insert(other, Health { answers: true, probed: true, ..Health::default() });
    rig.proxy.note_upstreams(rig.now);
    assert_eq!(told(&mut rig), [(1, UpstreamState::Up)], "one of its addresses serves");
}

#[test]
fn a_packet_is_of_the_upstream_whose_address_it_comes_from() {
    let rig = cores();
    assert_eq!(rig.proxy.upstream_at(core(&rig, 0)), Some(0));
    assert_eq!(rig.proxy.upstream_at(flow(&rig.proxy, 0, "10.0.0.6:40000")), Some(1));
    assert_eq!(rig.proxy.upstream_at(flow(&rig.proxy, 0, "10.0.0.7:5060")), None);
    assert_eq!(rig.proxy.upstream_at(flow(&rig.proxy, 1, "10.0.0.5:5060")), None, "on the phones' side");
    assert_eq!(rig.proxy.upstream_at(flow(&rig.proxy, 0, "10.0.0.2:5060")), Some(0), "a spiral, through ourselves");
    let mapped = Flow { remote: "[::ffff:10.0.0.6]:5060".parse().unwrap(), ..core(&rig, 0) };
    assert_eq!(rig.proxy.upstream_at(mapped), Some(1));
}

#[test]
fn a_troubled_listener_probes_often_and_another_as_it_is_wished() {
    let mut rig = cores();
    let next = |rig: &mut Rig| rig.proxy.next_probes(rig.now, 0).duration_since(rig.now);
    let within = |from, to, time: Duration| (seconds(from)..=seconds(to)).contains(&time);
    assert!(within(24, 29, next(&mut rig)));
    rig.proxy.seen[0].keep = Some(100);
    assert!(within(80, 100, next(&mut rig)));
    let flow = core(&rig, 0);
    rig.proxy.hop_failed(rig.now, flow, Failure::Unsent);
    assert!(within(80, 100, next(&mut rig)), "one that never answered cannot be found out by probes");
    answers(&mut rig, 1);
    let other = core(&rig, 1);
    rig.proxy.hop_failed(rig.now, other, Failure::Unsent);
    assert!(within(4, 5, next(&mut rig)));
    assert!(within(24, 29, rig.proxy.next_probes(rig.now, 1).duration_since(rig.now)), "another listener");
}

#[test]
fn retry_after_is_read_up_to_its_digits() {
    for (value, seconds) in
        [("5", Some(5)), ("18 (comment);duration=3", Some(18)), ("0", None), ("soon", None), ("", None)]
    {
        let text = format!("SIP/2.0 503 No\r\nRetry-After: {value}\r\n\r\n");
        let stored = wire::sip::Stored::parse(text.into_bytes(), &wire::sip::Limits::default()).unwrap();
        assert_eq!(retry_after(stored.message()), seconds.map(Duration::from_secs), "{value}");
    }
}

#[test]
fn a_failover_says_whether_the_upstream_is_another_one() {
    let mut rig = cores();
    let flow = core(&rig, 1);
    let way = Way { flow, name: String::new(), upstream: Some(1), sized: false };
    for (from, failure, other, cause) in [
        (Some(1), Failure::Silent, false, FailoverCause::Silent),
        (Some(0), Failure::Missed, true, FailoverCause::Silent),
        (None, Failure::Unsent, true, FailoverCause::Unreachable),
        (Some(0), Failure::Refused(None), true, FailoverCause::Unavailable),
    ] {
        rig.said.clear();
        rig.proxy.note_failover(from, &way, failure);
        rig.wait(Duration::ZERO);
        assert_eq!(rig.said, [crate::Output::Observed(Observed::Failover { upstream: 1, other, cause })]);
    }
    rig.said.clear();
    rig.proxy.note_failover(Some(0), &Way { upstream: None, ..way }, Failure::Silent);
    rig.wait(Duration::ZERO);
    assert_eq!(rig.said, []);
}

#[test]
fn who_waits_for_an_address_that_is_down_waits_no_longer_and_others_do() {
    let named = |domain: &str, host: &str| Upstream { domain: Some(domain.to_owned()), ..upstream(host) };
    let mut rig = border(vec![named("a.example", "10.0.0.5"), named("b.example", "10.0.0.6")]);
    rig.registered("a.example", "alice", "198.51.100.7:40000", "10.0.0.5:5060");
    answers(&mut rig, 0);
    let ask = |rig: &mut Rig, domain: &str| {
        let text = format!(
            "MESSAGE sip:bob@{domain} SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.7:40000;branch=z9hG4bK{domain}\r\nMax-Forwards: \
             70\r\nFrom: <sip:alice@a.example>;tag=1\r\nTo: <sip:bob@{domain}>\r\nCall-ID: {domain}\r\nCSeq: 1 \
             MESSAGE\r\nContent-Length: 0\r\n\r\n"
        );
        rig.receive(1, "198.51.100.7:40000", &text);
    };
    ask(&mut rig, "a.example");
    ask(&mut rig, "b.example");
    rig.said.clear();
    let flow = core(&rig, 0);
    rig.proxy.probed(rig.now, flow, None);
    rig.wait(Duration::ZERO);
    let answered: Vec<String> = rig.sent("198.51.100.7:40000");
    let [answer] = &answered[..] else { panic!("{answered:?}") };
    assert!(answer.starts_with("SIP/2.0 503 ") && answer.contains("Call-ID: a.example"), "{answer}");
}

#[test]
fn any_answer_but_a_503_forgives_a_core_that_was_silent() {
    for (status, down) in [("200 OK", false), ("404 Not Found", false), ("180 Ringing", false), ("503 Busy", true)] {
        let mut rig = border(vec![upstream("10.0.0.5")]);
        rig.registered("a.example", "alice", "198.51.100.7:40000", "10.0.0.5:5060");
        let text = "INVITE sip:bob@a.example SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.7:40000;branch=z9hG4bK1\r\nMax-Forwards: \
                    70\r\nFrom: <sip:alice@a.example>;tag=1\r\nTo: <sip:bob@a.example>\r\nCall-ID: c\r\nCSeq: 1 \
                    INVITE\r\nContact: <sip:alice@198.51.100.7:40000>\r\nContent-Length: 0\r\n\r\n";
        rig.receive(1, "198.51.100.7:40000", text);
        let asked = rig.sent("10.0.0.5:5060").into_iter().find(|text| text.starts_with("INVITE")).unwrap();
        let flow = core(&rig, 0);
        rig.proxy.hop_failed(rig.now, flow, Failure::Silent);
        assert!(rig.proxy.is_down(rig.now, flow));
        let kept = |line: &&str| ["Via:", "From:", "To:", "Call-ID:", "CSeq:"].iter().any(|n| line.starts_with(n));
        let lines: String = asked.lines().filter(kept).map(|line| format!("{line}\r\n")).collect();
        rig.receive(0, "10.0.0.5:5060", &format!("SIP/2.0 {status}\r\n{lines}Content-Length: 0\r\n\r\n"));
        assert_eq!(rig.proxy.is_down(rig.now, flow), down, "{status}");
    }
}

/// A border in front of named upstreams; each name is asked for, and answered where an answer is given.
fn names(hosts: &[(&str, Option<&[&str]>)]) -> Rig {
    let mut rig = border(hosts.iter().map(|(host, _)| upstream(host)).collect());
    for (host, addresses) in hosts {
        if let Some(addresses) = addresses {
            resolved(&mut rig, host, addresses);
        }
    }
    rig
}

fn resolved(rig: &mut Rig, host: &str, addresses: &[&str]) {
    let address = |remote: &&str| Address { remote: remote.parse().unwrap(), local: [10, 0, 0, 2].into() };
    let records = Records::Addresses(addresses.iter().map(address).collect());
    let question = Question { name: host.to_owned(), kind: Kind::Addresses };
    let answer = Answer::Found { records, ttl: seconds(10) };
    rig.proxy.handle_input(rig.now, crate::Input::Resolved { question, answer });
    rig.wait(Duration::ZERO);
}

/// Where requests to these upstreams would go.
fn toward(rig: &mut Rig, of: &[usize]) -> Vec<String> {
    match rig.proxy.ways_to_upstreams(rig.now, of, None, 0) {
        Located::At(ways) => {
            ways.iter().map(|way| format!("{} {}", way.upstream.unwrap(), way.flow.remote.ip())).collect()
        }
        Located::Wait => vec!["wait".to_owned()],
        Located::Nowhere(reject) => vec![reject.reason.to_owned()],
    }
}

#[test]
fn first_choice_goes_before_who_is_only_just_back() {
    let mut rig = cores();
    assert_eq!(toward(&mut rig, &[0, 1]), ["0 10.0.0.5", "1 10.0.0.6"]);
    assert_eq!(toward(&mut rig, &[1, 0]), ["1 10.0.0.6", "0 10.0.0.5"]);
    assert_eq!(toward(&mut rig, &[1]), ["1 10.0.0.6"]);
    assert_eq!(toward(&mut rig, &[7]), ["The next hop does not resolve"]);
    answers(&mut rig, 0);
    answers(&mut rig, 1);
    let [one, two] = [core(&rig, 0), core(&rig, 1)];
    rig.proxy.hop_failed(rig.now, one, Failure::Silent);
    assert_eq!(toward(&mut rig, &[0, 1]), ["1 10.0.0.6", "0 10.0.0.5"]);
    rig.proxy.hop_failed(rig.now, one, Failure::Missed);
    assert_eq!(toward(&mut rig, &[0, 1]), ["1 10.0.0.6"]);
    rig.proxy.hop_failed(rig.now, two, Failure::Missed);
    assert_eq!(toward(&mut rig, &[0, 1]), ["The core does not answer"]);
}

#[test]
fn an_upstream_whose_name_is_not_known_keeps_nobody_waiting_who_has_another() {
    let known: Option<&[&str]> = Some(&["10.0.0.5"]);
    let none: Option<&[&str]> = Some(&[]);
    for (hosts, ways) in [
        ([("a.example", None), ("b.example", None)], &["wait"][..]),
        ([("a.example", known), ("b.example", None)], &["0 10.0.0.5"]),
        ([("a.example", None), ("b.example", known)], &["wait"]),
        ([("a.example", none), ("b.example", None)], &["wait"]),
        ([("a.example", none), ("b.example", known)], &["1 10.0.0.5"]),
        ([("a.example", none), ("b.example", none)], &["The next hop does not resolve"]),
    ] {
        assert_eq!(toward(&mut names(&hosts), &[0, 1]), ways, "{hosts:?}");
    }
}

#[test]
fn an_office_speaks_of_its_provider() {
    let listeners = vec![listener(Side::Inner, "192.168.1.2:5060"), listener(Side::Outer, "192.168.1.2:5070")];
    let mut rig = Rig::new(config(Role::Office, listeners));
    assert_eq!(rig.proxy.unavailable(rig.now, &[0]).reason, "The provider does not answer");
    let provider = flow(&rig.proxy, 1, "10.0.0.5:5060");
    rig.proxy.hop_failed(rig.now, provider, Failure::Refused(Some(seconds(5))));
    assert_eq!(rig.proxy.unavailable(rig.now, &[0]).reason, "The provider asked for a pause");
}

fn response(text: &str) -> wire::sip::Stored {
    let text = format!("SIP/2.0 {text}\r\nCSeq: 1 OPTIONS\r\n\r\n");
    wire::sip::Stored::parse(text.into_bytes(), &wire::sip::Limits::default()).unwrap()
}

#[test]
fn what_a_probe_says() {
    for (answered, was_down, text, state) in [
        (false, false, Some("200 OK"), UpstreamState::Up),
        (false, false, Some("404 Who"), UpstreamState::Up),
        (true, true, Some("200 OK"), UpstreamState::Returning),
        (true, false, Some("503 No\r\nRetry-After: 9"), UpstreamState::Busy),
        (true, false, Some("503 No"), UpstreamState::Down),
        (true, false, Some("500 No"), UpstreamState::Up),
        (true, false, None, UpstreamState::Down),
        (false, false, None, UpstreamState::Silent),
    ] {
        let mut rig = cores();
        if answered {
            answers(&mut rig, 0);
        }
        let flow = core(&rig, 0);
        let key = (flow.listener, flow.remote);
        if was_down {
            rig.proxy.hop_failed(rig.now, flow, Failure::Missed);
        }
        assert!(rig.proxy.upstreams.health[&key].probing, "since the start");
        let stored = text.map(response);
        rig.proxy.probed(rig.now, flow, stored.as_ref().map(|stored| stored.message()));
        assert_eq!(rig.proxy.upstreams.state(rig.now, key), state, "{text:?}");
        let health = rig.proxy.upstreams.health[&key];
        assert_eq!((health.probing, health.probed), (false, true));
        let other = core(&rig, 1);
        assert!(rig.proxy.upstreams.health[&(other.listener, other.remote)].probing, "the other is another");
        rig.proxy.probing(flow);
        assert!(rig.proxy.upstreams.health[&key].probing);
    }
}

#[test]
fn who_waits_for_an_address_that_answers_a_probe_goes_on_waiting() {
    let mut rig = border(vec![upstream("10.0.0.5")]);
    rig.registered("a.example", "alice", "198.51.100.7:40000", "10.0.0.5:5060");
    let text = "MESSAGE sip:bob@a.example SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.7:40000;branch=z9hG4bK1\r\nMax-Forwards: \
                70\r\nFrom: <sip:alice@a.example>;tag=1\r\nTo: <sip:bob@a.example>\r\nCall-ID: c\r\nCSeq: 1 \
                MESSAGE\r\nContent-Length: 0\r\n\r\n";
    rig.receive(1, "198.51.100.7:40000", text);
    rig.said.clear();
    let flow = core(&rig, 0);
    rig.proxy.probed(rig.now, flow, Some(response("200 OK").message()));
    rig.wait(Duration::ZERO);
    assert_eq!(rig.sent("198.51.100.7:40000"), [""; 0]);
}

#[test]
fn a_probe_is_missed_after_its_time_and_the_next_comes_soon() {
    let mut rig = border(vec![upstream("10.0.0.5")]);
    answers(&mut rig, 0);
    let flow = core(&rig, 0);
    rig.wait(PROBE_PATIENCE - Duration::from_millis(1));
    assert!(!rig.proxy.is_down(rig.now, flow));
    rig.said.clear();
    rig.wait(Duration::from_millis(1));
    assert!(rig.proxy.is_down(rig.now, flow));
    rig.wait(Duration::from_millis(3999));
    assert_eq!(rig.sent("10.0.0.5:5060"), [""; 0]);
    rig.wait(Duration::from_millis(1001));
    assert!(rig.sent("10.0.0.5:5060").iter().any(|text| text.starts_with("OPTIONS ")));
}

#[test]
fn a_failure_brings_the_next_probes_near() {
    let mut rig = cores();
    let due = |rig: &Rig| rig.proxy.upstreams.due[&0].duration_since(rig.now);
    let flow = core(&rig, 0);
    assert!(due(&rig) > seconds(5));
    rig.proxy.hop_failed(rig.now, flow, Failure::Refused(None));
    assert!(due(&rig) > seconds(5), "it says nothing");
    rig.proxy.hop_failed(rig.now, flow, Failure::Unsent);
    assert!((seconds(4)..=seconds(5)).contains(&due(&rig)));
    rig.proxy.arm_upstream(rig.now, 0, rig.now + seconds(1));
    rig.proxy.hop_failed(rig.now, flow, Failure::Unsent);
    assert_eq!(due(&rig), seconds(1), "sooner anyway");
    rig.proxy.upstreams.due.clear();
    rig.proxy.hop_failed(rig.now, flow, Failure::Unsent);
    assert!(rig.proxy.upstreams.due.is_empty(), "a listener that probes nobody begins nothing");
}

#[test]
fn how_long_a_failure_lasts_is_spread() {
    let mut rig = cores();
    let flow = core(&rig, 0);
    let key = (flow.listener, flow.remote);
    answers(&mut rig, 0);
    let mut holds: Vec<Duration> = (0..50)
        .map(|_| {
            rig.proxy.hop_failed(rig.now, flow, Failure::Missed);
            rig.proxy.upstreams.health[&key].hold
        })
        .collect();
    holds.sort_unstable();
    assert!(holds[0] >= seconds(30) && holds[0] < seconds(33), "{holds:?}");
    assert!(holds[49] <= seconds(40) && holds[49] > seconds(37), "{holds:?}");
}

#[test]
fn a_listener_has_one_timer_for_its_probes() {
    let mut rig = cores();
    let timer = crate::timer::Timer::Upstream(0);
    for (at, armed) in [(50, 50), (20, 20), (70, 70)] {
        rig.proxy.arm_upstream(rig.now, 0, rig.now + seconds(at));
        let mut timers = std::mem::replace(&mut rig.proxy.timers, crate::timer::Timers::new(rig.now));
        let mut all = Vec::new();
        while let Some((at, of)) = timers.pop_due(rig.now + seconds(1000)) {
            all.extend((of == timer).then_some(at));
        }
        assert_eq!(all, [rig.now + seconds(armed)]);
        rig.proxy.timers.arm(all[0], timer);
    }
    rig.proxy.arm_upstream(rig.now, 0, rig.now - seconds(1));
    assert_eq!(rig.proxy.timers.pop_due(rig.now), Some((rig.now, timer)), "not in the past");
}

#[test]
fn a_silent_upstream_is_suspected_when_silence_means_something() {
    let fine = Health { answers: true, ..Health::default() };
    let mut rig = cores();
    let (later, failed) = (rig.now + seconds(20), Some(rig.now));
    let flow = core(&rig, 0);
    let way = Some(Way { flow, name: String::new(), upstream: Some(0), sized: false });
    let up = Hop::Upstream { of: vec![0], phone: None };
    for (health, way, hop, suspected) in [
        (fine, way.clone(), up.clone(), true),
        (Health { answers: false, ..fine }, way.clone(), up.clone(), false),
        (Health { probing: true, ..fine }, way.clone(), up.clone(), false),
        (Health { failed, ..fine }, way.clone(), up.clone(), false),
        (fine, None, up, false),
        (fine, way, Hop::Flow(flow), false),
    ] {
        rig.proxy.upstreams.health.insert((flow.listener, flow.remote), health);
        rig.proxy.arm_upstream(rig.now, 0, later);
        let target = crate::request::Target { uri: None, hop, binding: None, phone: None, flows: Vec::new() };
        let branch = Branch { way, ..Branch::new(target, flow, 0) };
        rig.proxy.suspect(rig.now, &branch);
        assert_eq!(rig.proxy.upstreams.due[&0], if suspected { rig.now } else { later }, "{health:?}");
    }
}

#[test]
fn probes_go_to_every_address_of_a_listener_that_none_is_under_way_to() {
    let many: Vec<String> = (1..=10).map(|n| format!("10.0.1.{n}")).collect();
    let many: Vec<&str> = many.iter().map(|ip| &ip[..]).collect();
    let mut rig = names(&[("a.example", Some(&many)), ("b.example", None)]);
    let due = |rig: &mut Rig| {
        let (ways, complete) = rig.proxy.probes_due(rig.now, 0);
        (ways.iter().map(|way| way.flow.remote.ip().to_string()).collect::<Vec<_>>(), complete)
    };
    assert_eq!(due(&mut rig), (many[..8].iter().map(|ip| (*ip).to_owned()).collect(), false));
    resolved(&mut rig, "b.example", &["10.0.2.1"]);
    let (ways, complete) = due(&mut rig);
    assert_eq!((ways.len(), complete), (9, true));
    let probed = flow(&rig.proxy, 0, "10.0.1.1:5060");
    rig.proxy.probing(probed);
    assert_eq!(due(&mut rig).0, ways[1..], "one is under way");
    // A name without addresses is looked up again soon, a number that we cannot leave for is not.
    let mut rig = names(&[("a.example", Some(&[]))]);
    assert_eq!(due(&mut rig), (vec![], false));
    assert_eq!(due(&mut border(vec![upstream("2001:db8::5")])), (vec![], true));
}

#[test]
fn each_listener_probes_by_itself() {
    let listeners = vec![
        listener(Side::Inner, "10.0.0.2:5060"),
        listener(Side::Inner, "10.0.0.3:5060"),
        crate::config::Listener { transport: wire::Transport::Tcp, ..listener(Side::Inner, "10.0.0.2:5060") },
    ];
    let mut rig = Rig::new(config(Role::Border, listeners));
    let key = |listener| (ListenerId(listener), "10.0.0.5:5060".parse().unwrap());
    let found = &rig.proxy.upstreams.found[&0];
    assert_eq!(*found, [key(0), key(1)], "each way once: the TCP listener has none of its own");
    for listener in [0, 1, 2] {
        for health in rig.proxy.upstreams.health.values_mut() {
            health.probing = false;
        }
        let (ways, _) = rig.proxy.probes_due(rig.now, listener);
        let from: Vec<u16> = ways.iter().map(|way| way.flow.listener.0).collect();
        assert_eq!(from, if listener == 2 { vec![] } else { vec![listener] });
    }
}

#[test]
fn health_is_of_addresses_that_an_upstream_has() {
    let mut rig = names(&[("a.example", Some(&["10.0.0.5", "10.0.0.6"]))]);
    let key = |ip: &str| (ListenerId(0), format!("{ip}:5060").parse().unwrap());
    // It is asked for again.
    rig.wait(seconds(10));
    let known = |rig: &Rig| {
        let all = rig.proxy.upstreams.health.keys();
        all.map(|key| key.1.ip().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(known(&rig), ["10.0.0.5", "10.0.0.6"]);
    for health in rig.proxy.upstreams.health.values_mut() {
        (health.probing, health.answers) = (false, true);
    }
    rig.proxy.upstreams.health.get_mut(&key("10.0.0.6")).unwrap().probing = true;
    resolved(&mut rig, "a.example", &["10.0.0.7"]);
    assert_eq!(known(&rig), ["10.0.0.6", "10.0.0.7"], "whose probe is under way stays");
    rig.proxy.upstreams.health.get_mut(&key("10.0.0.7")).unwrap().answers = true;
    rig.wait(seconds(10));
    resolved(&mut rig, "a.example", &[]);
    assert_eq!(rig.proxy.upstreams.found[&0], [key("10.0.0.7")], "it is nowhere now, so it is where it was");
    assert!(rig.proxy.upstreams.health[&key("10.0.0.7")].answers, "what is known of it stays");
}

#[test]
fn nothing_is_told_of_an_upstream_before_anything_is_known() {
    let mut rig = cores();
    rig.said.clear();
    rig.proxy.note_upstreams(rig.now);
    rig.wait(Duration::ZERO);
    assert_eq!(rig.said, []);
    let flow = core(&rig, 0);
    rig.proxy.probed(rig.now, flow, None);
    rig.wait(Duration::ZERO);
    let told = crate::Output::Observed(Observed::Upstream { upstream: 0, state: UpstreamState::Silent });
    assert_eq!(rig.said, [told]);
}

#[test]
fn upstreams_with_other_numbers_keep_their_places() {
    let mut rig = cores();
    let [one, two] = [0, 1].map(|number| {
        let flow = core(&rig, number);
        (flow.listener, flow.remote)
    });
    answers(&mut rig, 1);
    rig.proxy.upstreams.said.insert(1, UpstreamState::Up);
    rig.proxy.upstreams.follow(&|at| (at == 1).then_some(0));
    let upstreams = &rig.proxy.upstreams;
    assert_eq!(upstreams.found.iter().map(|(at, keys)| (*at, &keys[..])).collect::<Vec<_>>(), [(0, &[two][..])]);
    assert!(upstreams.said.is_empty() && upstreams.due.is_empty());
    assert!(upstreams.health[&two].answers && !upstreams.health[&one].answers);
}

#[test]
fn a_new_request_goes_to_the_upstreams_of_its_domain_or_to_none() {
    let mut rig = cores();
    let uri = Uri::parse(b"sip:x@a.example").unwrap();
    let hop = rig.proxy.upstream_hop(&uri, Some(1)).map_err(|reject| reject.status.0);
    assert_eq!(hop, Ok(Hop::Upstream { of: vec![0, 1], phone: Some(1) }));
    let mut config = (*rig.proxy.config).clone();
    config.upstreams.clear();
    rig.proxy.config = config.into();
    assert_eq!(rig.proxy.upstream_hop(&uri, None).map_err(|reject| reject.status.0), Err(404));
}

#[test]
fn a_503_is_passed_on_when_no_upstream_of_any_branch_serves() {
    let mut rig = cores();
    let flows = [core(&rig, 0), core(&rig, 1)];
    let instead = |rig: &Rig, hops: &[Hop]| {
        let target = |hop: &Hop| crate::request::Target {
            uri: None,
            hop: hop.clone(),
            binding: None,
            phone: None,
            flows: Vec::new(),
        };
        let branches = hops.iter().map(|hop| Branch::new(target(hop), flows[0], 0)).collect();
        let request = wire::sip::Stored::parse(
            b"OPTIONS sip:a SIP/2.0\r\nCSeq: 1 OPTIONS\r\n\r\n".to_vec(),
            &wire::sip::Limits::default(),
        );
        let context = Context::new(flows[0], request.unwrap(), crate::transaction::Purpose::Pass, branches);
        rig.proxy.instead_of_503(rig.now, &context).status.0
    };
    let up = |of: usize| Hop::Upstream { of: vec![of], phone: None };
    answers(&mut rig, 0);
    answers(&mut rig, 1);
    rig.proxy.hop_failed(rig.now, flows[0], Failure::Missed);
    assert_eq!(instead(&rig, &[up(0)]), 503);
    assert_eq!(instead(&rig, &[up(0), up(1)]), 500);
    assert_eq!(instead(&rig, &[up(1)]), 500);
    assert_eq!(instead(&rig, &[Hop::Flow(flows[0])]), 500);
    assert_eq!(instead(&rig, &[]), 500);
    rig.proxy.hop_failed(rig.now, flows[1], Failure::Refused(Some(seconds(9))));
    assert_eq!(instead(&rig, &[up(0), up(1)]), 503);
}

#[test]
fn a_request_of_our_own_waits_its_own_time() {
    let mut rig = cores();
    let flow = core(&rig, 0);
    let hop = Hop::Upstream { of: vec![0], phone: None };
    let target = crate::request::Target { uri: None, hop, binding: None, phone: None, flows: Vec::new() };
    let way = Some(Way { flow, name: String::new(), upstream: Some(0), sized: false });
    let client = Some(crate::transaction::Client::new(rig.now, false, false));
    let branch = Branch { way, client, ..Branch::new(target, flow, 0) };
    let request = response("200 OK");
    let context = Context::new(flow, request, crate::transaction::Purpose::Pass, vec![branch]);
    let id = rig.proxy.contexts.insert(context);
    rig.proxy.fail_waiting(rig.now, flow);
    let left = |rig: &Rig| {
        let client = rig.proxy.contexts.get(id).and_then(|context| context.branches[0].client.as_ref());
        client.map(|client| client.state())
    };
    assert_eq!(left(&rig), Some(crate::transaction::client::State::Calling));
    rig.proxy.unsent_branches(rig.now, id, &|_| true, Failure::Missed);
    assert_ne!(left(&rig), Some(crate::transaction::client::State::Calling), "it could be given up");
}
