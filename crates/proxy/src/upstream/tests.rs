use super::*;
use crate::config::Upstream;
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
        let tag = if ours { rig.proxy.tag_for(b"spiral", b"z9hG4bKcore") } else { *b"aaaaaaaaaaaaa" };
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
