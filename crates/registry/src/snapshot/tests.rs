use std::sync::Arc;
use std::time::{Duration, Instant};

use nat::Side;
use wire::{Flow, ListenerId, Transport};

use super::*;
use crate::{Binding, BindingId, Call, CallKind, CallState, Confirmed, FlowId, Party, PassId, Record, Renewal, Said};

const SECOND: Duration = Duration::from_secs(1);

fn places() -> Vec<Place> {
    let place = |side, bind: &str| Place { side, transport: Transport::Udp, bind: bind.parse().unwrap() };
    vec![place(Side::Inner, "10.0.0.2:5060"), place(Side::Outer, "0.0.0.0:5060")]
}

fn flow(listener: u16, remote: &str) -> Flow {
    Flow {
        transport: Transport::Udp,
        listener: ListenerId(listener),
        connection: 0,
        local: ([203, 0, 113, 30], 5060).into(),
        remote: remote.parse().unwrap(),
    }
}

fn said() -> Said<'static> {
    Said {
        aor: b"alice@example.com",
        contact: b"sip:alice@192.168.1.10",
        call_id: &[0, b'\n', b'"', 0x7f, 0x80, 0xff],
        user_agent: "Müller".as_bytes(),
        lines: b"Contact: <sip:alice@192.168.1.10>\r\n",
    }
}

fn binding(now: Instant) -> Binding {
    Binding {
        id: BindingId(u64::MAX),
        texts: said().into(),
        instance: Some(b"\"<urn:uuid:1>\""[..].into()),
        reg_id: Some(2),
        cseq: 7,
        flow: flow(1, "198.51.100.7:51000").into(),
        flow_id: FlowId(u64::MAX),
        upstream: Some(Arc::new(flow(0, "10.0.0.5:5060"))),
        natted: true,
        phone: Some(3),
        q: 500,
        expires: now + 60 * SECOND,
        until: now + 3000 * SECOND,
        confirmed: Confirmed {
            seconds: 3600,
            told: 60,
            asked: u64::MAX,
            again: 0,
            credentials: Some(1),
            gruus: vec![b"sip:alice@example.com;gr=urn:uuid:1".to_vec()],
            renewal: Some(Box::new(Renewal {
                request: b"REGISTER sip:example.com SIP/2.0\r\n\r\n".to_vec(),
                realm: b"example.com".to_vec(),
                username: vec![0xff],
                shift: 3,
            })),
        },
        answered: true,
        missed: 2,
    }
}

fn party(tag: &str, listener: u16, state: CallState) -> Party {
    Party {
        tag: tag.as_bytes().into(),
        identity: format!("<sip:{tag}@example.com>;tag={tag}").into_bytes().into(),
        contact: format!("sip:{tag}@192.168.1.10").into_bytes().into(),
        route: vec![b"<sip:10.0.0.5;lr>".to_vec(), b"<sip:10.0.0.6;lr>".to_vec()],
        flow: flow(listener, "198.51.100.7:51000").into(),
        binding: Some(BindingId(u64::MAX)),
        cseq: 4,
        state,
        branch: 1,
        raised: [2, 0],
        session: b"ab30317f1a784dc48ff824d0d3715d86"[..].into(),
    }
}

fn call(now: Instant) -> Call {
    Call {
        id: PassId(9),
        kind: CallKind::Invite,
        state: CallState::Confirmed,
        call_id: b"call-1"[..].into(),
        caller: party("a", 1, CallState::Early),
        callees: vec![party("b", 0, CallState::Early), party("c", 0, CallState::Confirmed)],
        onward: flow(0, "10.0.0.5:5060").into(),
        streams: [media::StreamId { worker: 0, slot: 1, generation: 1 }].into(),
        since: now - 30 * SECOND,
        answered: Some(now - 20 * SECOND),
        expires: Some(now + 1800 * SECOND),
        phone: Some(0),
    }
}

/// Written and read again.
fn portable(record: Record, now: Instant, places: &[Place]) -> Option<Portable> {
    let mut text = b"before".to_vec();
    let written = write(&record, now, places, &mut text);
    assert!(written || text == b"before");
    written.then(|| serde_json::from_slice(&text[6..]).unwrap())
}

fn kept(record: Record, now: Instant) -> Portable {
    portable(record, now, &places()).unwrap()
}

fn records(now: Instant) -> [Record; 2] {
    [Record::Binding(Arc::new(binding(now))), Record::Call(Arc::new(call(now)))]
}

#[test]
fn a_record_comes_back_as_the_same() {
    let (then, now) = (Instant::now(), Instant::now() + 500 * SECOND);
    for record in records(then) {
        let key = record.key();
        let portable = kept(record.clone(), then);
        assert_eq!(portable.key(), key);
        // At the same distance from now as it was from then.
        let restored = portable.clone().restore(then, Duration::ZERO, &places()).unwrap();
        assert!(same(&record, &restored) && restored != record);
        let later = portable.restore(now, 10 * SECOND, &places()).unwrap();
        match (later, restored) {
            (Record::Binding(later), Record::Binding(before)) => {
                assert_eq!(later.expires - now, before.expires - then - 10 * SECOND);
                assert_eq!(later.until - now, before.until - then - 10 * SECOND);
                assert_eq!(*later, Binding { expires: later.expires, until: later.until, ..(*before).clone() });
            }
            (Record::Call(later), Record::Call(before)) => {
                assert_eq!(later.expires.unwrap() - now, 1790 * SECOND);
                assert_eq!((now - later.since, now - later.answered.unwrap()), (40 * SECOND, 30 * SECOND));
                let moved = |call: Call| Call { expires: None, since: now, answered: None, ..call };
                assert_eq!(moved(Arc::unwrap_or_clone(later)), moved(Arc::unwrap_or_clone(before)));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn no_clock_makes_a_lifetime_longer_and_a_long_absence_ends_it() {
    let now = Instant::now();
    for record in records(now) {
        let portable = kept(record, now);
        let restored = |passed| portable.clone().restore(now, passed, &places());
        assert!(restored(Duration::ZERO).is_ok());
        assert_eq!(restored(Duration::from_secs(3600)), Err(Lost::Expired));
        assert_eq!(restored(Duration::MAX), Err(Lost::Expired));
    }
    let mut past = binding(now);
    past.expires = now - SECOND;
    let portable = kept(Record::Binding(Arc::new(past)), now);
    assert_eq!(portable.restore(now, Duration::ZERO, &places()), Err(Lost::Expired));
}

#[test]
fn a_listener_is_found_by_its_place() {
    let now = Instant::now();
    let mut other = places();
    other.reverse();
    other.insert(0, Place { side: Side::Inner, ..other[0] });
    other.insert(0, Place { transport: Transport::Tcp, ..other[1] });
    for record in records(now) {
        match kept(record.clone(), now).restore(now, Duration::ZERO, &other) {
            Ok(Record::Binding(binding)) => {
                assert_eq!(binding.flow, Flow { listener: ListenerId(2), ..flow(1, "198.51.100.7:51000") });
                assert_eq!(binding.upstream.as_ref().map(|flow| flow.listener), Some(ListenerId(3)));
            }
            Ok(Record::Call(call)) => {
                assert_eq!(
                    (call.caller.flow.get().listener, call.onward.get().listener),
                    (ListenerId(2), ListenerId(3))
                );
            }
            Err(lost) => panic!("{lost:?}"),
        }
        for missing in [0, 1] {
            let left = places()[missing..][..1].to_vec();
            assert_eq!(kept(record.clone(), now).restore(now, Duration::ZERO, &left), Err(Lost::Listener));
        }
    }
    for record in records(now) {
        assert_eq!(portable(record, now, &places()[..1]), None);
    }
}

#[test]
fn what_ends_with_the_process_does_not_outlive_it() {
    let now = Instant::now();
    let early = Call { state: CallState::Early, ..call(now) };
    assert!(!outlives(&Record::Call(Arc::new(early))));
    let mut stream = binding(now);
    stream.flow = Flow { transport: Transport::Tcp, ..stream.flow.get() }.into();
    assert!(!outlives(&Record::Binding(Arc::new(stream))));
    assert!(records(now).iter().all(outlives));
}

#[test]
fn a_connection_of_a_party_is_not_taken_for_another() {
    let now = Instant::now();
    let place = Place { side: Side::Outer, transport: Transport::Tcp, bind: ([0, 0, 0, 0], 5060).into() };
    let places = [places()[0], place];
    let mut call = call(now);
    call.caller.flow = Flow { transport: Transport::Tcp, connection: 7, ..call.caller.flow.get() }.into();
    let portable = portable(Record::Call(Arc::new(call)), now, &places).unwrap();
    let Ok(Record::Call(call)) = portable.restore(now, SECOND, &places) else { panic!() };
    assert_eq!((call.caller.flow.get().transport, call.caller.flow.get().connection), (Transport::Tcp, 0));
}

#[test]
fn changes_that_do_not_matter_leave_the_record_the_same() {
    let now = Instant::now();
    let [of_binding, of_call] = records(now);
    let bound = |changed: Binding| same(&of_binding, &Record::Binding(Arc::new(changed)));
    assert!(bound(Binding { missed: 0, phone: None, ..binding(now) }));
    assert!(!bound(Binding { cseq: 99, ..binding(now) }));
    assert!(!bound(Binding { texts: Said { call_id: b"another", ..said() }.into(), ..binding(now) }));
    assert!(!bound(Binding { expires: now, ..binding(now) }));
    assert!(!bound(Binding { until: now, ..binding(now) }));
    assert!(!bound(Binding { texts: Said { contact: b"sip:elsewhere", ..said() }.into(), ..binding(now) }));
    let called = |changed: Call| same(&of_call, &Record::Call(Arc::new(changed)));
    assert!(called(Call { state: CallState::Ending, streams: Arc::default(), phone: None, ..call(now) }));
    assert!(!called(Call { expires: None, ..call(now) }));
    assert!(!called(Call { callees: Vec::new(), ..call(now) }));
    assert!(!called(Call { call_id: b"another"[..].into(), ..call(now) }));
    assert!(!same(&of_binding, &of_call));
}
