use nat::{Advertise, Side};

use super::*;
use crate::config::{Listener, Role};
use crate::rig::{Rig, config, listener};
use crate::{Input, Output};

const PROVIDER: &str = "203.0.113.5:5060";
const SEEN: &str = "198.51.100.7:1024";

/// An office behind a NAT, that pings its provider through listener 1.
fn office(transport: Transport, advertise: Advertise) -> Rig {
    let outer = Listener { advertise, transport, ..listener(Side::Outer, "192.168.1.2:5070") };
    let mut config = config(Role::Office, vec![listener(Side::Inner, "192.168.1.2:5060"), outer]);
    config.upstreams[0].host = "203.0.113.5".to_owned();
    config.upstreams[0].transport = Some(transport);
    Rig::new(config)
}

fn provider(rig: &Rig) -> Flow {
    Flow { transport: rig.proxy.config.listeners[1].transport, ..crate::rig::flow(&rig.proxy, 1, PROVIDER) }
}

fn known(rig: &Rig) -> Option<bool> {
    let flow = provider(rig);
    rig.proxy.upstreams.stun.answers.get(&(flow.listener, flow.remote)).copied()
}

/// Answers each OPTIONS that went to the provider; what else went there.
fn spoken(rig: &mut Rig) -> (usize, Vec<Vec<u8>>) {
    let said = std::mem::take(&mut rig.said);
    let mut stun = Vec::new();
    let mut options = Vec::new();
    for output in said {
        match output {
            Output::KeepAlive(t) => stun.push(t.bytes),
            Output::Transmit(t) => options.extend(String::from_utf8(t.bytes).ok()),
            _ => {}
        }
    }
    options.retain(|text| text.starts_with("OPTIONS"));
    for text in &options {
        let kept = |line: &&str| ["Via:", "From:", "To:", "Call-ID:", "CSeq:"].iter().any(|n| line.starts_with(n));
        let lines: String = text.lines().filter(kept).map(|line| format!("{line}\r\n")).collect();
        rig.receive(1, PROVIDER, &format!("SIP/2.0 200 OK\r\n{lines}Content-Length: 0\r\n\r\n"));
        let more = std::mem::take(&mut rig.said);
        stun.extend(more.into_iter().filter_map(|output| match output {
            Output::KeepAlive(t) => Some(t.bytes),
            _ => None,
        }));
    }
    (options.len(), stun)
}

fn answer(rig: &mut Rig, packet: &[u8]) -> bool {
    let flow = provider(rig);
    let asked = rig.proxy.asked_stun(flow, packet);
    rig.proxy.handle_input(rig.now, Input::Stun { flow, bytes: packet });
    rig.wait(Duration::ZERO);
    asked
}

fn mapped(request: &[u8]) -> Vec<u8> {
    stun::answer(request, SEEN.parse().unwrap()).unwrap()
}

/// The milliseconds from now on at which something is sent, for so long.
fn moments(rig: &mut Rig, length: u64) -> Vec<u64> {
    let mut at = Vec::new();
    for moment in (0..=length).step_by(100) {
        if rig.said.drain(..).any(|output| matches!(output, Output::KeepAlive(_))) {
            at.push(moment);
        }
        rig.wait(Duration::from_millis(100));
    }
    at
}

#[test]
fn stun_is_tried_where_the_address_must_be_found_out_over_udp() {
    for (transport, advertise, tried) in [
        (Transport::Udp, Advertise::Stun, 1),
        (Transport::Udp, Advertise::StunAddress, 1),
        (Transport::Udp, Advertise::Listen, 0),
        (Transport::Tcp, Advertise::Stun, 0),
    ] {
        let mut rig = office(transport, advertise);
        let flow = provider(&rig);
        rig.said.clear();
        rig.proxy.try_stun(rig.now, flow);
        rig.wait(Duration::ZERO);
        let asked = rig.said.iter().filter(|output| matches!(output, Output::KeepAlive(t) if t.flow == flow)).count();
        assert_eq!(asked, tried, "{transport:?} {advertise:?}");
    }
}

#[test]
fn three_copies_are_sent_and_then_it_is_known_that_nobody_answers() {
    let mut rig = office(Transport::Udp, Advertise::Stun);
    let (options, stun) = spoken(&mut rig);
    assert_eq!((options, stun.len(), known(&rig)), (1, 1, None));
    let flow = provider(&rig);
    rig.proxy.try_stun(rig.now, flow);
    rig.wait(Duration::ZERO);
    assert_eq!(spoken(&mut rig).1, [[0; 0]; 0], "it is asked already");
    rig.wait(Duration::from_millis(400));
    assert_eq!(moments(&mut rig, 1900), [100, 1100], "after 500 ms, and after twice as long");
    assert_eq!(known(&rig), None);
    rig.wait(Duration::from_millis(100));
    assert_eq!(known(&rig), Some(false));
    assert_eq!(spoken(&mut rig).0, 0, "it answers OPTIONS, and is asked in its time");
    rig.proxy.try_stun(rig.now, flow);
    assert!(!rig.proxy.stun_keepalive(rig.now, flow));
    rig.wait(Duration::from_secs(10));
    assert_eq!(spoken(&mut rig).1, [[0; 0]; 0], "it is not asked again");
}

#[test]
fn the_answer_to_what_was_asked_shows_our_address() {
    let mut rig = office(Transport::Udp, Advertise::Stun);
    let (_, stun) = spoken(&mut rig);
    let packet = mapped(&stun[0]);
    assert!(!answer(&mut rig, &mapped(&stun::request([3; 12]))), "not what was asked");
    assert!(!answer(&mut rig, b"nothing"));
    let other = crate::rig::flow(&rig.proxy, 1, "203.0.113.6:5060");
    assert!(!rig.proxy.asked_stun(other, &packet), "not who was asked");
    assert_eq!((known(&rig), rig.proxy.seen[1].observed), (None, None));
    assert!(answer(&mut rig, &packet));
    assert_eq!((known(&rig), rig.proxy.seen[1].observed), (Some(true), Some(SEEN.parse().unwrap())));
    assert!(!answer(&mut rig, &packet), "once");
    rig.said.clear();
    rig.wait(Duration::from_secs(5));
    assert_eq!(spoken(&mut rig).1, [[0; 0]; 0], "no more copies");
}

#[test]
fn an_error_or_what_is_not_understood_shows_nothing() {
    for (kind, attribute, shows) in
        [([1, 1], &[][..], true), ([1, 0x11], &[], false), ([1, 1], &[0x77, 0x77, 0, 0], false)]
    {
        let mut rig = office(Transport::Udp, Advertise::Stun);
        let (_, stun) = spoken(&mut rig);
        // Without a fingerprint, so that it can be changed.
        let bare = [&[0, 1, 0, 0][..], &stun[0][4..20]].concat();
        let mut packet = mapped(&bare);
        packet[..2].copy_from_slice(&kind);
        packet.extend_from_slice(attribute);
        packet[3] = (packet.len() - 20) as u8;
        assert!(answer(&mut rig, &packet));
        let seen = shows.then(|| SEEN.parse().unwrap());
        assert_eq!((known(&rig), rig.proxy.seen[1].observed), (Some(shows), seen), "{kind:?} {attribute:?}");
    }
}

#[test]
fn every_fourth_keep_alive_is_options() {
    let mut rig = office(Transport::Udp, Advertise::Stun);
    let (_, stun) = spoken(&mut rig);
    answer(&mut rig, &mapped(&stun[0]));
    let flow = provider(&rig);
    let mut rounds = Vec::new();
    for _ in 0..9 {
        rig.said.clear();
        rounds.push(rig.proxy.stun_keepalive(rig.now, flow));
        rig.wait(Duration::ZERO);
        let (_, stun) = spoken(&mut rig);
        assert_eq!(stun.len(), usize::from(rounds[rounds.len() - 1]));
        for request in stun {
            answer(&mut rig, &mapped(&request));
        }
    }
    assert_eq!(rounds, [true, true, true, false, true, true, true, false, true]);
}

#[test]
fn one_that_answered_and_is_silent_now_gets_options_at_once() {
    let mut rig = office(Transport::Udp, Advertise::Stun);
    let (_, stun) = spoken(&mut rig);
    answer(&mut rig, &mapped(&stun[0]));
    rig.wait(Duration::from_secs(3));
    rig.said.clear();
    let flow = provider(&rig);
    assert!(rig.proxy.stun_keepalive(rig.now, flow));
    rig.wait(Duration::from_millis(2499));
    let (options, stun) = spoken(&mut rig);
    assert_eq!((options, stun.len()), (0, 3));
    rig.wait(Duration::from_millis(1));
    assert_eq!((spoken(&mut rig).0, known(&rig)), (1, Some(false)));
}

#[test]
fn one_that_is_back_is_asked_again_and_one_that_is_gone_is_forgotten() {
    let mut rig = office(Transport::Udp, Advertise::Stun);
    let (_, stun) = spoken(&mut rig);
    answer(&mut rig, &mapped(&stun[0]));
    let flow = provider(&rig);
    let key = (flow.listener, flow.remote);
    rig.proxy.forget_stun((flow.listener, "203.0.113.6:5060".parse().unwrap()));
    assert_eq!(known(&rig), Some(true));
    for failed in [false, true] {
        if failed {
            rig.proxy.hop_failed(rig.now, flow, crate::upstream::Failure::Missed);
        }
        rig.proxy.upstreams.stun.rounds.insert(key, 3);
        rig.proxy.arm_upstream(rig.now, 1, rig.now);
        rig.said.clear();
        rig.wait(Duration::ZERO);
        let (options, stun) = spoken(&mut rig);
        assert_eq!((options, stun.len(), known(&rig).is_none()), (1, usize::from(failed), failed));
        for request in stun {
            answer(&mut rig, &mapped(&request));
        }
    }
    assert_eq!(known(&rig), Some(true));
    rig.proxy.stun_keepalive(rig.now, flow);
    let stun = &mut rig.proxy.upstreams.stun;
    stun.retain(|known| *known == key);
    assert_eq!((stun.answers.len(), stun.rounds.len()), (1, 1));
    stun.retain(|known| *known != key);
    assert_eq!((stun.answers.len(), stun.rounds.len()), (0, 0));
}

#[test]
fn keep_alives_are_stun_in_their_time_and_options_each_fourth_time() {
    let mut rig = office(Transport::Udp, Advertise::Stun);
    let mut kinds = String::new();
    for _ in 0..280 {
        let (options, stun) = spoken(&mut rig);
        kinds.push_str(&"o".repeat(options));
        for request in stun {
            kinds.push('s');
            answer(&mut rig, &mapped(&request));
        }
        rig.wait(Duration::from_secs(1));
    }
    // The first one asks whether STUN is answered.
    assert!(kinds.starts_with("ossssosss"), "{kinds}");
}
