//! Lines of whole calls, from what the loop would see.

use std::net::SocketAddr;

use media::quality::{Codec, Figures};
use registry::{CallState, Party};
use serde_json::Value;
use wire::{Flow, ListenerId, Transport};

use super::*;
use crate::config::{Machine, Sources, load};

const CALL: PassId = PassId(7);
const STREAM: StreamId = StreamId { worker: 0, slot: 3, generation: 1 };

struct Desk {
    records: Records,
    shared: Arc<Shared>,
    dir: std::path::PathBuf,
    now: Instant,
}

impl Desk {
    fn new(name: &str, state: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("siplatch-record-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        let text = format!(
            "role = \"border\"\n[inner]\nlisten = [\"udp:127.0.0.1:5060\"]\n[outer]\nlisten = [\"udp:127.0.0.1:5070\"]\n\
             [[upstream]]\nuri = \"sip:127.0.0.2\"\n[state]\n{state}"
        );
        let sources = Sources { file: Some(("a.toml".to_owned(), text)), ..Sources::default() };
        let machine = Machine { ipv6: false, processors: 1, state_dirs: Vec::new(), metrics_open: false };
        let settings = load(&sources, &machine).unwrap();
        let shared = Arc::new(Shared::new(settings.clone(), Metrics::new(settings.proxy.role).unwrap()));
        Self { records: Records::new(&shared, Some(&dir)), shared, dir, now: net::clock::now() }
    }

    fn pass(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
        self.records.handle_timeout(self.now);
    }

    fn start(&mut self, to: &str) {
        let started = Observed::CallStarted { call: CALL, from: String::new(), to: to.to_owned(), session: None };
        self.records.observe(self.now, &started);
        self.records.change(&Change::Put(Record::Call(Arc::new(call(self.now)))));
    }

    fn answer(&mut self) {
        let known = Call { answered: Some(self.now), streams: [STREAM].into(), ..call(self.now) };
        self.records.change(&Change::Put(Record::Call(Arc::new(known))));
    }

    fn fact(&mut self, fact: Fact) {
        self.records.fact(self.now, &fact);
    }

    fn ending(&mut self, status: Option<u16>, reason: Option<&str>, own: bool) {
        let (status, reason) = (status.map(Status), reason.map(str::to_owned));
        self.records.observe(self.now, &Observed::CallEnding { call: CALL, status, reason, own });
    }

    fn end(&mut self, cause: Cause) {
        self.records.observe(self.now, &Observed::CallEnded { call: CALL, cause, answered: true });
        // What has changed in the registry is told behind what was observed.
        self.records.change(&Change::Put(Record::Call(Arc::new(call(self.now)))));
        self.records.change(&Change::Delete(Key::Call(CALL)));
    }

    /// What stands in the file at the end.
    fn lines(self) -> Vec<Value> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(self.records.finish(self.now));
        let text = std::fs::read_to_string(self.dir.join("calls.jsonl")).unwrap_or_default();
        std::fs::remove_dir_all(&self.dir).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// From a phone outside to the core inside.
fn call(since: Instant) -> Call {
    let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let flow = |listener| Flow {
        transport: Transport::Udp,
        listener: ListenerId(listener),
        connection: 0,
        local: at(5060),
        remote: at(4000),
    };
    let caller = Party {
        tag: b"1".to_vec().into(),
        identity: b"\"Alice\" <sip:alice:secret@example.com>;tag=1".to_vec().into(),
        contact: Box::default(),
        route: Vec::new(),
        flow: flow(1).into(),
        binding: None,
        cseq: 1,
        state: CallState::Early,
        branch: 0,
        raised: [0; 2],
        session: Box::default(),
    };
    Call {
        id: CALL,
        kind: CallKind::Invite,
        state: CallState::Early,
        call_id: b"a84b4c76e66710".to_vec().into(),
        caller,
        callees: Vec::new(),
        onward: flow(0).into(),
        streams: Arc::default(),
        since,
        answered: None,
        expires: None,
        phone: None,
    }
}

fn legs(now: Instant) -> Arc<[LegCounts; 2]> {
    let ms = Duration::from_millis;
    let quality = Figures {
        received: 95,
        expected: 100,
        lost: 5,
        reordered: 2,
        duplicates: 1,
        jitter: Duration::from_micros(3_250),
        round_trip: Some(ms(80)),
        codec: Some(Codec::Pcma),
        packet: ms(20),
        first: Some(now),
        last: Some(now),
        bye: true,
    };
    let counts = LegCounts { packets_in: 96, bytes_in: 16_512, packets_out: 50, bytes_out: 8600, refused: 4, quality };
    Arc::new([counts, LegCounts::default()])
}

#[test]
fn a_call_leaves_one_line_with_all_that_is_known_of_it() {
    let mut desk = Desk::new("whole", "");
    desk.start("sip:bob:pw@example.com");
    desk.pass(2_000);
    desk.answer();
    let source = nat::Source("198.51.100.7:4000".parse().unwrap());
    for moved in [false, true] {
        let (stream, side, component) = (STREAM, Side::Outer, Component::Rtp);
        desk.fact(Fact::Latched { stream, epoch: 1, end: End::A, component, side, source, moved });
    }
    let silence = media::Silence { side: Side::Outer, reason: Reason::Private, target: None, refused: None };
    let unheard = Fact::Unheard { stream: STREAM, epoch: 1, end: End::B, silence };
    assert_eq!(desk.records.unheard(&unheard).map(|unheard| unheard.who).as_deref(), Some("bob"));
    desk.fact(unheard);
    desk.pass(60_000);
    let mut worst = legs(desk.now);
    Arc::make_mut(&mut worst)[0].quality.jitter = Duration::from_millis(40);
    desk.fact(Fact::Counted { stream: STREAM, legs: worst });
    desk.ending(None, Some("Q.850;cause=16"), false);
    desk.end(Cause::CalleeBye);
    desk.pass(1_000);
    let last = legs(desk.now);
    desk.fact(Fact::Closed { stream: STREAM, legs: last });
    let page = desk.shared.metrics.page().unwrap();
    for expected in [
        r#"siplatch_media_loss_ratio_bucket{side="outer",le="0.05"} 1"#,
        r#"siplatch_media_round_trip_seconds_count{side="outer"} 1"#,
        r#"siplatch_media_mos_count{side="outer"} 1"#,
        r#"siplatch_media_jitter_seconds_count{side="inner"} 0"#,
    ] {
        assert!(page.contains(expected), "{expected}");
    }
    let lines = desk.lines();
    let [line] = lines.as_slice() else { panic!("{lines:?}") };
    for (key, expected) in [
        ("pass", "0000000000000007"),
        ("call_id", "a84b4c76e66710"),
        ("from", "alice"),
        ("to", "bob"),
        ("ended_by", "inner"),
        ("cause", "callee_bye"),
        ("reason", "Q.850;cause=16"),
    ] {
        assert_eq!(line[key], expected, "{key}");
    }
    assert_eq!((line["duration_s"].as_f64(), &line["status"]), (Some(60.0), &Value::Null));
    let (start, answered) = (line["start"].as_str().unwrap(), line["answered"].as_str().unwrap());
    assert!(start < answered && answered < line["end"].as_str().unwrap() && start.ends_with('Z'));
    let caller = &line["streams"][0]["caller"];
    for (key, expected) in [
        ("packets_in", 96.0),
        ("packets_out", 50.0),
        ("refused", 4.0),
        ("expected", 100.0),
        ("lost", 5.0),
        ("reordered", 2.0),
        ("duplicates", 1.0),
        ("jitter_ms", 3.25),
        ("jitter_max_ms", 40.0),
        ("rtt_ms", 80.0),
        ("mos", 3.86),
        ("latch_moves", 1.0),
    ] {
        assert_eq!(caller[key].as_f64(), Some(expected), "{key}");
    }
    assert_eq!((&caller["side"], &caller["codec"]), (&Value::from("outer"), &Value::from("PCMA")));
    assert_eq!((&caller["source"], &caller["rtcp_bye"]), (&Value::from("198.51.100.7:4000"), &Value::from(true)));
    assert!(caller["first_media"].is_string() && caller["last_media"].is_string());
    let callee = &line["streams"][0]["callee"];
    assert_eq!((&callee["silences"], &callee["silence"]), (&Value::from(1), &Value::from("private")));
    assert_eq!((&callee["side"], &callee["mos"]), (&Value::from("inner"), &Value::Null));
}

#[test]
fn who_ended_a_call_that_nobody_answered() {
    for (status, own, cause, by) in [
        (Some(486), false, Cause::Failed, "inner"),
        (Some(503), true, Cause::Failed, "siplatch"),
        (Some(487), false, Cause::Cancelled, "outer"),
    ] {
        let mut desk = Desk::new(by, "");
        desk.start("tel:+4930123456");
        desk.ending(status, None, own);
        desk.end(cause);
        let lines = desk.lines();
        assert_eq!((&lines[0]["ended_by"], &lines[0]["status"]), (&Value::from(by), &Value::from(status)));
        assert_eq!((&lines[0]["to"], &lines[0]["answered"]), (&Value::from("+4930123456"), &Value::Null));
    }
}

#[test]
fn streams_that_never_come_back_hold_a_record_for_two_seconds() {
    let mut desk = Desk::new("late", "");
    desk.start("sip:bob@example.com");
    desk.answer();
    desk.end(Cause::Stopped);
    assert_eq!(desk.records.poll_timeout(), Some(desk.now + LAST));
    desk.pass(1_999);
    assert_eq!(desk.records.calls.len(), 1);
    desk.pass(1);
    assert_eq!((desk.records.calls.len(), desk.records.by_stream.len()), (0, 0));
    assert_eq!(desk.records.poll_timeout(), Some(desk.now + DELAY), "its line is on the way");
    desk.pass(50);
    assert_eq!(desk.records.poll_timeout(), None);
    assert_eq!(desk.lines()[0]["ended_by"], "siplatch");
}

#[test]
fn lines_are_bounded_whatever_is_written_in_messages() {
    let mut desk = Desk::new("bounded", "");
    let long = "ä\"\\\n".repeat(5_000);
    desk.start(&format!("sip:{}@example.com", "x".repeat(5_000)));
    desk.ending(Some(486), Some(&long), false);
    desk.answer();
    for slot in 0..100 {
        let stream = StreamId { worker: 0, slot, generation: 1 };
        let known = Call { streams: [stream].into(), ..call(desk.now) };
        desk.records.change(&Change::Put(Record::Call(Arc::new(known))));
    }
    desk.end(Cause::Failed);
    let lines = desk.lines();
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["streams"].as_array().unwrap().len(), STREAMS);
    assert!(lines[0].to_string().len() < 32_768, "{}", lines[0].to_string().len());
}

#[test]
fn nothing_is_written_where_it_is_switched_off() {
    let mut desk = Desk::new("off", "call_records = false\n");
    desk.start("sip:bob@example.com");
    desk.end(Cause::Failed);
    assert!(desk.lines().is_empty());
}

#[test]
fn a_plain_address_is_read_as_any_other() {
    let plain = ["<sip:alice@example.com>", "<sip:+49.30_1-2@10.0.0.1>;tag=x", "sip:bob@a-b.c", "<sip:a@b>"];
    let other = [
        "<sip:alice:secret@example.com>",
        "\"A\" <sip:alice@example.com>",
        "<sip:alice@example.com:5060>",
        "<sip:alice@example.com;transport=tcp>",
        "<sip:example.com>",
        "<sip:@example.com>",
        "<sip:alice@>",
        "<sip:alice@a..b>",
        "<sip:alice@-b>",
        "<sip:alice@b->",
        "<sip:alice@b> x",
        "<sip:alice@b",
        "sip:alice@b>",
        "sip:alice@b;tag=1",
        "<sips:alice@b>",
        "<tel:+4930>",
        "sip:alice",
        "sip:",
        "<",
        "",
    ];
    for (text, is_plain) in plain.into_iter().map(|text| (text, true)).chain(other.map(|text| (text, false))) {
        let found = plain_user(text.as_bytes());
        assert_eq!(found.is_some(), is_plain, "{text}");
        let read = NameAddr::parse(text.as_bytes()).ok().and_then(|address| Uri::parse(address.uri).ok()?.user);
        assert!(found.is_none() || found == read, "{text}");
    }
}

#[test]
fn lines_are_gathered_until_there_are_many() {
    let mut desk = Desk::new("gathered", "");
    for at in 0..1000 {
        desk.start("sip:bob@example.com");
        desk.end(Cause::Failed);
        assert!(desk.records.lines.text.len() < MOST, "{at}");
    }
    let metrics = Arc::clone(&desk.shared);
    assert_eq!(desk.lines().len(), 1000);
    assert!(metrics.metrics.page().unwrap().contains("siplatch_call_records_total{result=\"written\"} 1000"));
}
