use std::sync::Arc;
use std::time::Duration;

use nat::Side;
use registry::{BindingId, CallKind, Confirmed, FlowId, Party, PassId, Said};
use wire::Flow;

use super::*;
use crate::config::Role;
use crate::rig::house::{observed, sent};
use crate::rig::{Rig, config, flow, listener};
use crate::{Input, Observed};

const CORE: &str = "10.0.0.5:5060";
const PHONE: &str = "198.51.100.7:40000";

fn border() -> Rig {
    let mut rig = Rig::new(config(
        Role::Border,
        vec![listener(Side::Inner, "10.0.0.2:5060"), listener(Side::Outer, "203.0.113.30:5060")],
    ));
    rig.said.clear();
    rig
}

fn binding(rig: &Rig, id: u64, user: &str, flow: Flow) -> Binding {
    let until = rig.now + Duration::from_secs(3000);
    Binding {
        id: BindingId(id),
        texts: Said {
            aor: format!("{user}@a.example").as_bytes(),
            contact: format!("sip:{user}@{}", flow.remote).as_bytes(),
            call_id: b"r",
            ..Said::default()
        }
        .into(),
        instance: None,
        reg_id: None,
        cseq: 1,
        flow: flow.into(),
        flow_id: FlowId(id),
        upstream: None,
        natted: false,
        phone: Some(7),
        q: 1000,
        expires: until,
        until,
        confirmed: Confirmed::default(),
        answered: false,
        missed: 0,
    }
}

fn party(tag: &str, flow: Flow, binding: Option<u64>) -> Party {
    Party {
        tag: tag.as_bytes().into(),
        identity: format!("<sip:{tag}@a.example>;tag={tag}").into_bytes().into(),
        contact: format!("sip:{tag}@{}", flow.remote).into_bytes().into(),
        route: Vec::new(),
        flow: flow.into(),
        binding: binding.map(BindingId),
        cseq: 1,
        state: CallState::Confirmed,
        branch: 0,
        raised: [0; 2],
        session: Box::default(),
    }
}

fn call(rig: &Rig, state: CallState, left: Option<Duration>) -> Call {
    let (core, phone) = (flow(&rig.proxy, 0, CORE), flow(&rig.proxy, 1, PHONE));
    Call {
        id: PassId(5),
        kind: CallKind::Invite,
        state,
        call_id: b"c".to_vec().into(),
        caller: party("1", core, None),
        callees: vec![party("2", phone, Some(1))],
        onward: phone.into(),
        streams: Arc::default(),
        since: rig.now,
        answered: (state != CallState::Early).then_some(rig.now),
        expires: left.map(|left| rig.now + left),
        phone: None,
    }
}

fn restore(rig: &mut Rig, records: Vec<Record>) {
    rig.proxy.handle_input(rig.now, Input::Restore(records));
    rig.wait(Duration::ZERO);
}

#[test]
fn a_binding_is_of_the_phone_that_is_configured_now_and_nobody_is_told() {
    let mut rig = border();
    let alice = binding(&rig, 1, "alice", flow(&rig.proxy, 1, PHONE));
    let dora = binding(&rig, 2, "dora", flow(&rig.proxy, 1, "198.51.100.8:40000"));
    // Calls may come before the bindings that they name.
    let call = call(&rig, CallState::Confirmed, None);
    let records = vec![Record::Call(Arc::new(call)), Record::Binding(Arc::new(alice)), Record::Binding(Arc::new(dora))];
    restore(&mut rig, records);
    assert_eq!(rig.proxy.registry.binding(BindingId(1)).unwrap().phone, Some(1));
    assert_eq!(rig.proxy.registry.binding(BindingId(2)).unwrap().phone, None);
    assert_eq!(rig.proxy.registry.call(PassId(5)).unwrap().phone, Some(1));
    let announced = |o: &&&Observed| matches!(o, Observed::Registered { .. } | Observed::CallStarted { .. });
    assert_eq!(observed(&rig).iter().filter(announced).count(), 0);
    assert_eq!(sent(&mut rig), []);
}

#[test]
fn phones_outside_are_pinged_again() {
    for (listener, natted, pinged) in [(1, false, true), (1, true, true), (0, false, false)] {
        let mut rig = border();
        let at = flow(&rig.proxy, listener, "198.51.100.7:40000");
        let record = Binding { natted, ..binding(&rig, 1, "alice", at) };
        restore(&mut rig, vec![Record::Binding(Arc::new(record))]);
        rig.wait(Duration::from_secs(30));
        let pings = sent(&mut rig).iter().filter(|(to, _)| to == PHONE).count();
        assert_eq!(pings > 0, pinged, "{listener} {natted}");
    }
}

#[test]
fn a_call_that_only_rang_is_over() {
    let mut rig = border();
    let records = [CallState::Early, CallState::Confirmed].map(|state| {
        let call = call(&rig, state, None);
        Record::Call(Arc::new(Call { id: PassId(if state == CallState::Early { 4 } else { 5 }), ..call }))
    });
    restore(&mut rig, records.into());
    assert!(rig.proxy.registry.call(PassId(4)).is_none() && rig.proxy.registry.call(PassId(5)).is_some());
}

#[test]
fn a_longer_time_than_between_two_questions_is_a_session_timers() {
    let second = Duration::from_secs(1);
    for (left, answered, timed, expires) in [
        (None, true, false, probe::EVERY),
        (Some(probe::EVERY), true, false, probe::EVERY),
        (Some(probe::EVERY + second), true, true, probe::EVERY + second),
        (Some(probe::EVERY + second), false, false, probe::EVERY + second),
        (Some(second), true, false, second),
    ] {
        let mut rig = border();
        let mut call = call(&rig, CallState::Confirmed, left);
        call.answered = answered.then_some(rig.now);
        restore(&mut rig, vec![Record::Call(Arc::new(call))]);
        assert_eq!(rig.proxy.timed.has(PassId(5)), timed, "{left:?} {answered}");
        assert_eq!(rig.proxy.registry.call(PassId(5)).unwrap().expires, Some(rig.now + expires));
    }
}

#[test]
fn ports_of_the_phones_side_are_wanted_ahead() {
    let mut rig = border();
    let at = flow(&rig.proxy, 1, PHONE);
    let mut config = (*rig.proxy.config).clone();
    config.media.ranges.push(media::PortRange { first: 40_000, last: 40_009 });
    config.phones[1].range = Some(media::RangeId(1));
    rig = Rig::new(config);
    rig.said.clear();
    let record = binding(&rig, 1, "alice", at);
    restore(&mut rig, vec![Record::Binding(Arc::new(record))]);
    let known = |rig: &Rig| rig.proxy.ports().any(|(ip, range, _)| ip == at.local.ip() && range == media::RangeId(1));
    assert!(known(&rig));
}
