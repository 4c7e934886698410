use wire::sip::{Limits, Stored};

use super::*;
use crate::Output;
use crate::rig::{Rig, flow};

fn response(line: &str) -> Stored {
    let text = format!("SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP a\r\nCSeq: 1 INVITE\r\n{line}\r\n\r\n");
    Stored::parse(text.into_bytes(), &Limits::default()).expect(line)
}

#[test]
fn an_answered_call_lasts_as_its_session_timer_says() {
    let timer = |interval| Some(Timer { interval, caller: None });
    assert_eq!(lasts(timer(Duration::from_secs(1800))), Duration::from_secs(1800) + GRACE);
    assert_eq!(lasts(timer(Duration::MAX)), LONGEST + GRACE);
    assert_eq!(lasts(None), probe::EVERY);
}

#[test]
fn a_peer_cannot_make_us_keep_anything_for_ever() {
    assert_eq!(seconds(b" 60 "), Some(Duration::from_secs(60)));
    assert_eq!(seconds(b"18446744073709551615"), Some(LONGEST));
    assert_eq!(seconds(b"18446744073709551616"), None);
    assert_eq!(seconds(b"-1"), None);
}

#[test]
fn the_callee_is_the_leg_that_is_not_0() {
    assert_eq!((callee(0, 3), callee(3, 0)), (3, 3));
}

#[test]
fn only_an_address_makes_a_remote_target() {
    for (line, expected) in [
        ("m: \"A\" <sip:a@192.0.2.1;x=1>;q=1, <sip:b@192.0.2.2>", Some(&b"sip:a@192.0.2.1;x=1"[..])),
        ("Contact: sip:a@192.0.2.1;q=1", Some(b"sip:a@192.0.2.1")),
        ("Contact: <nonsense>", Some(b"")),
        ("Contact: *", None),
        ("Contact: <broken", None),
        ("To: <sip:a@b>", None),
    ] {
        assert_eq!(contact_of(response(line).message()), expected, "{line}");
    }
}

const CALLER: &str = "192.168.1.20:5060";
const CALLEE: &str = "192.168.1.22:5060";

fn request(method: &str, from: &str, to: &str, cseq: u32, more: &str) -> Stored {
    let text = format!(
        "{method} sip:x@192.168.1.2 SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag={from}\r\nTo: \
         <sip:c@d>{to}\r\nCall-ID: c\r\nCSeq: {cseq} {method}\r\n{more}\r\n"
    );
    Stored::parse(text.into_bytes(), &Limits::default()).unwrap()
}

/// A machine with one pass of a call, made by this method.
fn calling(method: &str) -> (Rig, PassId) {
    let mut rig = Rig::standalone();
    let caller = flow(&rig.proxy, 0, CALLER);
    let stored = request(method, "1", "", 5, "Contact: <sip:a@192.168.1.20>\r\n");
    let pass = rig.proxy.create(rig.now, caller, stored.message(), &[]).map_err(|r| r.status).unwrap();
    (rig, pass)
}

fn callee_of(rig: &Rig, tag: &str) -> Party {
    Party {
        tag: tag.as_bytes().into(),
        identity: Arc::default(),
        contact: b"sip:c@192.168.1.22".to_vec().into(),
        route: Vec::new(),
        flow: flow(&rig.proxy, 0, CALLEE).into(),
        binding: None,
        cseq: 0,
        state: CallState::Confirmed,
        branch: 0,
        raised: [0; 2],
        session: Box::default(),
    }
}

fn call(rig: &Rig, pass: PassId) -> &Call {
    rig.proxy.registry.call(pass).unwrap()
}

#[test]
fn a_call_that_was_challenged_is_taken_up_again() {
    for (from, tag, expires, state, again) in [
        (CALLER, "1", true, CallState::Early, true),
        (CALLER, "2", true, CallState::Early, false),
        ("192.168.1.21:5060", "1", true, CallState::Early, false),
        (CALLER, "1", false, CallState::Early, false),
        (CALLER, "1", true, CallState::Confirmed, false),
    ] {
        let (mut rig, pass) = calling("INVITE");
        let until = expires.then(|| rig.now + RETRY);
        let callee = callee_of(&rig, "2");
        rig.proxy.registry.update_call(pass, |call| {
            (call.expires, call.state) = (until, state);
            call.callees.push(callee);
        });
        let from = flow(&rig.proxy, 0, from);
        let stored = request("INVITE", tag, "", 6, "");
        let next = rig.proxy.create(rig.now, from, stored.message(), &[]).map_err(|r| r.status).unwrap();
        assert_eq!(next == pass, again, "{tag} {expires} {state:?}");
        if again {
            let call = call(&rig, pass);
            assert_eq!((call.caller.cseq, call.callees.len(), call.expires), (6, 0, None));
        }
    }
}

#[test]
fn what_a_request_begins() {
    let (mut rig, pass) = calling("INVITE");
    rig.wait(Duration::ZERO);
    let began = |o: &Output| matches!(o, Output::Observed(Observed::CallStarted { call, .. }) if *call == pass);
    assert_eq!(rig.said.iter().filter(|o| began(o)).count(), 1);
    let of = call(&rig, pass);
    assert_eq!(
        (of.kind, of.expires, of.caller.cseq, &of.caller.contact[..]),
        (CallKind::Invite, None, 5, &b"sip:a@192.168.1.20"[..])
    );
    let (mut rig, pass) = calling("SUBSCRIBE");
    rig.wait(Duration::ZERO);
    let began = |o: &Output| matches!(o, Output::Observed(Observed::CallStarted { .. }));
    assert!(!rig.said.iter().any(began));
    let of = call(&rig, pass);
    assert_eq!((of.kind, of.expires), (CallKind::Subscription, Some(rig.now + Duration::from_secs(300))));
}

#[test]
fn a_phone_has_no_more_calls_than_it_may_have() {
    let mut rig = Rig::standalone();
    let mut config = (*rig.proxy.config).clone();
    config.phones[1].max_calls = Some(2);
    rig.proxy.config = config.into();
    crate::rig::register(&mut rig.proxy, rig.now, 0, "alice", CALLER);
    let (alice, other) = (flow(&rig.proxy, 0, CALLER), flow(&rig.proxy, 0, CALLEE));
    let toward =
        [Target { uri: None, hop: crate::locate::Hop::Flow(alice), binding: None, phone: Some(1), flows: Vec::new() }];
    let mut begin = |method: &str, tag: &str, from, targets: &[Target]| {
        let stored = request(method, tag, "", 1, "");
        rig.proxy.create(rig.now, from, stored.message(), targets).map_err(|reject| reject.status.0).err()
    };
    assert_eq!(begin("SUBSCRIBE", "s", alice, &[]), None);
    assert_eq!(begin("INVITE", "1", alice, &[]), None);
    assert_eq!(begin("INVITE", "2", other, &toward), None);
    assert_eq!(begin("INVITE", "3", alice, &[]), Some(503), "it calls");
    assert_eq!(begin("INVITE", "4", other, &toward), Some(486), "it is called");
    assert_eq!(begin("SUBSCRIBE", "5", alice, &[]), None, "which is no call");
    assert_eq!(begin("INVITE", "6", other, &[]), None, "of somebody else");
}

#[test]
fn what_a_request_says_of_its_sender() {
    let contact = "Contact: <sip:new@192.168.1.23>\r\n";
    for (method, moved) in [
        ("INVITE", true),
        ("UPDATE", true),
        ("SUBSCRIBE", true),
        ("NOTIFY", true),
        ("REFER", true),
        ("INFO", false),
        ("BYE", false),
    ] {
        let (mut rig, pass) = calling("INVITE");
        let callee = callee_of(&rig, "2");
        rig.proxy.registry.update_call(pass, |call| call.callees.push(callee));
        let there = flow(&rig.proxy, 0, "192.168.1.23:5060");
        for (cseq, kept) in [(9, 9), (7, 9)] {
            rig.proxy.note_request(rig.now, there, pass, 1, request(method, "2", ";tag=1", cseq, contact).message());
            assert_eq!(call(&rig, pass).callees[0].cseq, kept);
        }
        let party = &call(&rig, pass).callees[0];
        assert_eq!(*party.contact == *b"sip:new@192.168.1.23", moved, "{method}");
        assert_eq!(party.flow, there);
        assert_eq!(call(&rig, pass).caller.cseq, 5, "the other end said nothing");
    }
}

#[test]
fn a_sender_that_is_bound_stays_where_it_is_bound() {
    let (mut rig, pass) = calling("INVITE");
    crate::rig::register(&mut rig.proxy, rig.now, 0, "alice", CALLER);
    let bound = rig.proxy.registry.bindings().next().map(|b| b.id);
    rig.proxy.registry.update_call(pass, |call| call.caller.binding = bound);
    let elsewhere = flow(&rig.proxy, 0, "192.168.1.20:6666");
    rig.proxy.note_request(rig.now, elsewhere, pass, 0, request("INFO", "1", ";tag=2", 6, "").message());
    assert_eq!(call(&rig, pass).caller.flow.get().remote.to_string(), CALLER);
}

#[test]
fn a_notify_that_comes_first_makes_its_sender_known() {
    let (mut rig, pass) = calling("SUBSCRIBE");
    let there = flow(&rig.proxy, 0, CALLEE);
    let notify = |state: &str| {
        request(
            "NOTIFY",
            "2",
            ";tag=1",
            3,
            &format!("Contact: <sip:n@192.168.1.22>\r\nSubscription-State: {state}\r\n"),
        )
    };
    rig.proxy.note_request(rig.now, there, pass, 1, notify("active;expires=600").message());
    let of = call(&rig, pass);
    assert_eq!(
        (of.callees.len(), &of.callees[0].tag[..], of.callees[0].flow.get(), of.callees[0].cseq),
        (1, &b"2"[..], there, 3)
    );
    assert_eq!(of.expires, Some(rig.now + Duration::from_secs(632)));
    rig.proxy.note_request(rig.now, there, pass, 1, notify("active").message());
    assert_eq!(
        (call(&rig, pass).callees.len(), call(&rig, pass).expires),
        (1, Some(rig.now + Duration::from_secs(632)))
    );
    rig.proxy.note_request(rig.now, there, pass, 1, notify("Terminated;reason=timeout").message());
    assert_eq!(call(&rig, pass).expires, Some(rig.now + GRACE));
    // In a call it says nothing about how long that lasts.
    let (mut rig, pass) = calling("INVITE");
    rig.proxy.note_request(rig.now, there, pass, 1, notify("terminated").message());
    assert_eq!(call(&rig, pass).expires, None);
}

#[test]
fn so_many_callees_are_tracked() {
    let (mut rig, pass) = calling("SUBSCRIBE");
    let there = flow(&rig.proxy, 0, CALLEE);
    let callee = callee_of(&rig, "2");
    rig.proxy.registry.update_call(pass, |call| call.callees = vec![callee; MOST_CALLEES - 1]);
    for _ in 0..2 {
        let leg = call(&rig, pass).callees.len() as u8 + 1;
        rig.proxy.note_request(rig.now, there, pass, leg, request("NOTIFY", "9", ";tag=1", 3, "").message());
    }
    assert_eq!(call(&rig, pass).callees.len(), MOST_CALLEES);
}

#[test]
fn a_bye_ends_the_call_when_no_other_dialog_stands() {
    for (callees, state, after) in [
        (1, CallState::Confirmed, CallState::Ending),
        (2, CallState::Confirmed, CallState::Confirmed),
        (1, CallState::Early, CallState::Early),
    ] {
        let (mut rig, pass) = calling("INVITE");
        let callee = callee_of(&rig, "2");
        rig.proxy.registry.update_call(pass, |call| (call.callees, call.state) = (vec![callee; callees], state));
        let there = flow(&rig.proxy, 0, CALLEE);
        rig.proxy.note_request(rig.now, there, pass, 1, request("BYE", "2", ";tag=1", 3, "").message());
        assert_eq!(call(&rig, pass).state, after, "{callees} {state:?}");
        rig.proxy.stay(pass);
        let stays = if after == CallState::Ending { CallState::Confirmed } else { after };
        assert_eq!(call(&rig, pass).state, stays);
    }
}

#[test]
fn with_its_last_dialog_a_call_ends() {
    let (mut rig, pass) = calling("INVITE");
    let two = [callee_of(&rig, "2"), Party { branch: 1, ..callee_of(&rig, "3") }];
    rig.proxy.registry.update_call(pass, |call| (call.callees, call.state) = (two.to_vec(), CallState::Confirmed));
    rig.proxy.leave(pass, 1, 0);
    let of = call(&rig, pass);
    assert_eq!(
        (of.callees[0].state, of.callees[1].state, of.state),
        (CallState::Ending, CallState::Confirmed, CallState::Confirmed)
    );
    rig.said.clear();
    rig.proxy.leave(pass, 0, 2);
    rig.wait(Duration::ZERO);
    assert!(rig.proxy.registry.call(pass).is_none());
    let ended = |o: &&Output| {
        matches!(o, Output::Observed(Observed::CallEnded { cause: Cause::CallerBye, answered: false, .. }))
    };
    assert_eq!(rig.said.iter().filter(ended).count(), 1);
    // Of an early dialog the answer to the INVITE decides.
    let (mut rig, pass) = calling("INVITE");
    let callee = Party { state: CallState::Early, ..callee_of(&rig, "2") };
    rig.proxy.registry.update_call(pass, |call| call.callees.push(callee));
    rig.proxy.leave(pass, 0, 1);
    assert_eq!(call(&rig, pass).state, CallState::Early);
}

#[test]
fn a_call_of_ours_ends_on_both_sides_with_the_next_numbers() {
    let (mut rig, pass) = calling("INVITE");
    let callee = Party { cseq: 40, identity: b"<sip:c@d>;tag=2".to_vec().into(), ..callee_of(&rig, "2") };
    rig.proxy.registry.update_call(pass, |call| {
        (call.callees, call.state, call.answered) = (vec![callee], CallState::Confirmed, Some(call.since))
    });
    rig.said.clear();
    let interval = Duration::from_secs(90);
    rig.proxy.timed.note(pass, Some(Timer { interval, caller: None }));
    rig.proxy.call_due(rig.now, pass);
    rig.wait(Duration::ZERO);
    let ended =
        |o: &&Output| matches!(o, Output::Observed(Observed::CallEnded { cause: Cause::Lost, answered: true, .. }));
    assert_eq!(rig.said.iter().filter(ended).count(), 1);
    let number = |o: &Output| match o {
        Output::Transmit(t) => {
            let text = String::from_utf8_lossy(&t.bytes).into_owned();
            Some((t.flow.remote.to_string(), text.lines().find(|line| line.ends_with(" BYE"))?.to_owned()))
        }
        _ => None,
    };
    let said: Vec<_> = rig.said.iter().filter_map(number).collect();
    assert_eq!(said, [(CALLER.to_owned(), "CSeq: 41 BYE".to_owned()), (CALLEE.to_owned(), "CSeq: 6 BYE".to_owned())]);
}
