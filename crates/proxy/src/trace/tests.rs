use std::time::Duration;

use wire::Rule;

use super::*;
use crate::Input;
use crate::rig::{Rig, register};

const ALICE: &str = "192.168.1.20:5060";
const CAROL: &str = "192.168.1.22:5060";
const ZERO: Duration = Duration::ZERO;

fn watch(rig: &mut Rig, watcher: u8, text: Option<&str>) {
    let filter = text.map(|text| Filter::new(text).unwrap());
    rig.proxy.handle_input(rig.now, Input::Watch { watcher, filter });
    rig.wait(ZERO);
    rig.said.clear();
}

/// A standalone machine with alice and carol, who is the lobby.
fn house() -> Rig {
    let mut rig = Rig::standalone();
    register(&mut rig.proxy, rig.now, 0, "alice", ALICE);
    register(&mut rig.proxy, rig.now, 0, "carol", CAROL);
    rig.wait(ZERO);
    rig.said.clear();
    rig
}

fn request(method: &str, uri: &str, from: &str, call_id: &str, cseq: u32) -> String {
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bK{call_id}{cseq}\r\nMax-Forwards: 70\r\nFrom: \
         <sip:dora@elsewhere.example>;tag=1\r\nTo: <{uri}>\r\nCall-ID: {call_id}\r\nCSeq: {cseq} \
         {method}\r\nAuthorization: Digest response=\"0f0f\"\r\nContent-Length: 0\r\n\r\n"
    )
}

/// Which way each message went, and what it was: `< MESSAGE`, `> 200 MESSAGE`.
fn ladder(traced: &[Traced]) -> Vec<String> {
    let line = |traced: &Traced| {
        let way = if traced.direction == Direction::Sent { '>' } else { '<' };
        match &traced.start {
            Start::Request(_, method) => format!("{way} {}", String::from_utf8_lossy(method)),
            Start::Response(status, method) => format!("{way} {} {}", status.0, String::from_utf8_lossy(method)),
        }
    };
    traced.iter().map(line).collect()
}

/// A MESSAGE from dora to carol, and what is traced of it.
fn message(rig: &mut Rig, call_id: &str) -> Vec<Traced> {
    rig.said.clear();
    rig.receive(0, "192.168.1.30:5062", &request("MESSAGE", "sip:carol@192.168.1.2", "192.168.1.30:5062", call_id, 1));
    rig.traced()
}

#[test]
fn a_filter_finds_calls_parties_and_phones() {
    let mut rig = house();
    for (text, wanted) in [
        ("call-7@host", true),
        ("call-7", true),
        ("call-", false),
        ("call-8", false),
        ("dora", true),
        ("sip:dora@elsewhere.example", true),
        ("dora@ELSEWHERE.example", true),
        ("dora@192.168.1.2", false),
        ("elsewhere.example", false),
        ("carol", true),
        ("carol@192.168.1.2", true),
        ("alice", false),
        ("lobby", true),
        ("reception", false),
        ("192.168.1.30", true),
        ("[::ffff:192.168.1.30]", true),
        ("192.168.1.20", false),
    ] {
        watch(&mut rig, 0, Some(text));
        let traced = message(&mut rig, "call-7@host");
        assert_eq!(!traced.is_empty(), wanted, "{text}");
        // The next one is no repetition.
        watch(&mut rig, 0, None);
        rig.wait(Duration::from_secs(64));
    }
    assert!(Filter::new(" ").is_none() && Filter::new("sip:").is_none());
}

#[test]
fn a_phone_is_found_by_its_selectors_without_a_binding() {
    for (address, user, wanted) in [
        (None, Some("dora"), true),
        (None, Some("carol"), true),
        (None, Some("erin"), false),
        (Some("192.168.1.30"), None, true),
        (Some("192.168.1.31"), None, false),
    ] {
        let mut rig = Rig::standalone();
        let mut config = (*rig.proxy.config).clone();
        config.phones.truncate(1);
        config.phones[0].name = "door".to_owned();
        config.phones[0].user = user.map(str::to_owned);
        config.phones[0].address = address.map(|ip: &str| nat::Prefix { ip: ip.parse().unwrap(), bits: 32 });
        rig.proxy.handle_input(rig.now, Input::Reconfigure(config.into()));
        watch(&mut rig, 0, Some("door"));
        assert_eq!(!message(&mut rig, "c").is_empty(), wanted, "{address:?} {user:?}");
    }
}

#[test]
fn each_watcher_is_told_of_what_is_its_own() {
    let mut rig = house();
    watch(&mut rig, 0, Some("alice"));
    watch(&mut rig, 3, Some("dora"));
    watch(&mut rig, 7, Some("carol"));
    watch(&mut rig, 8, Some("dora"));
    let traced = message(&mut rig, "c1");
    assert_eq!(ladder(&traced), ["< MESSAGE", "> MESSAGE"]);
    assert!(traced.iter().all(|traced| traced.watchers == 0b1000_1000), "{traced:?}");
    watch(&mut rig, 3, None);
    assert_eq!(message(&mut rig, "c2")[0].watchers, 0b1000_0000);
    watch(&mut rig, 7, None);
    assert!(message(&mut rig, "c3").is_empty());
    watch(&mut rig, 0, None);
    assert!(message(&mut rig, "c4").is_empty());
    assert!(!rig.proxy.watch.on && rig.proxy.watch.seen.is_empty(), "nothing is remembered for nobody");
}

#[test]
fn a_traced_message_tells_what_was_changed_and_no_secret() {
    let mut rig = house();
    watch(&mut rig, 0, Some("carol"));
    let traced = message(&mut rig, "c1");
    let [received, sent] = &traced[..] else { panic!("{traced:?}") };
    assert_eq!((received.near, sent.near), (true, false), "who was seen first is near");
    assert_eq!((received.forwarded, sent.forwarded), (false, true));
    assert_eq!((received.repeated, sent.repeated), (false, false));
    assert_eq!((received.cseq, &received.call_id[..], received.side), (Some(1), &b"c1"[..], Side::Inner));
    assert_eq!(
        (received.flow.remote.to_string(), sent.flow.remote.to_string()),
        ("192.168.1.30:5062".to_owned(), CAROL.to_owned())
    );
    for bytes in [&received.bytes, &sent.bytes] {
        let text = String::from_utf8_lossy(bytes);
        assert!(text.contains("Authorization: Digest (not shown)") && !text.contains("0f0f"), "{text}");
    }
    assert!(received.changes.is_empty());
    let rules: Vec<_> = sent.changes.iter().flat_map(|change| &change.rules).collect();
    for rule in [Rule::Via, Rule::MaxForwards, Rule::RequestUri] {
        assert!(rules.contains(&&rule), "{rule:?}: {rules:?}");
    }
    let [_, response] = &{
        let via = String::from_utf8_lossy(&sent.bytes)
            .lines()
            .filter(|l| l.starts_with("Via:"))
            .collect::<Vec<_>>()
            .join("\r\n");
        rig.receive(0, CAROL, &format!("SIP/2.0 200 OK\r\n{via}\r\nFrom: <sip:dora@elsewhere.example>;tag=1\r\nTo: <sip:carol@192.168.1.2>;tag=2\r\nCall-ID: c1\r\nCSeq: 1 MESSAGE\r\nContent-Length: 0\r\n\r\n"));
        rig.traced()
    }[..] else {
        panic!("the response came and left")
    };
    assert_eq!((response.near, response.forwarded, response.direction), (true, true, Direction::Sent));
    assert_eq!(response.start, Start::Response(Status(200), b"MESSAGE".to_vec()));
}

#[test]
fn a_repeated_message_is_named_and_not_shown_again() {
    let mut rig = house();
    watch(&mut rig, 0, Some("carol"));
    assert!(message(&mut rig, "c1").iter().all(|traced| !traced.repeated));
    let again = message(&mut rig, "c1");
    assert_eq!(ladder(&again), ["< MESSAGE"], "it is absorbed");
    assert!(again[0].repeated && again[0].bytes.is_empty() && again[0].changes.is_empty());
    rig.wait(Duration::from_millis(500));
    let retransmitted = rig.traced();
    assert_eq!(ladder(&retransmitted), ["> MESSAGE"]);
    assert!(retransmitted[0].repeated && retransmitted[0].bytes.is_empty());
}

#[test]
fn what_we_say_ourselves_is_not_forwarded() {
    let mut rig = house();
    watch(&mut rig, 0, Some("dora"));
    rig.receive(0, "192.168.1.30:5062", &request("MESSAGE", "sip:nobody@192.168.1.2", "192.168.1.30:5062", "c1", 1));
    let traced = rig.traced();
    assert_eq!(ladder(&traced), ["< MESSAGE", "> 404 MESSAGE"]);
    assert!(!traced[1].forwarded && traced[1].near && traced[1].changes.is_empty());
}

#[test]
fn once_a_message_of_a_call_was_its_own_all_are() {
    let mut rig = house();
    watch(&mut rig, 0, Some("192.168.1.30"));
    // What leaves to carol is of the call, though not of that address.
    let traced = message(&mut rig, "c1");
    assert_eq!(ladder(&traced), ["< MESSAGE", "> MESSAGE"]);
    for other in 0..CALLS - 1 {
        message(&mut rig, &format!("other-{other}"));
    }
    let from_carol = request("MESSAGE", "sip:alice@192.168.1.2", CAROL, "c1", 7);
    rig.said.clear();
    rig.receive(0, CAROL, &from_carol);
    assert_eq!(rig.traced().len(), 2, "so many calls are remembered");
    message(&mut rig, "one-too-many");
    rig.said.clear();
    rig.receive(0, CAROL, &from_carol.replace("CSeq: 7", "CSeq: 8").replace("c17", "c18"));
    assert!(rig.traced().is_empty(), "the oldest is forgotten");
}

#[test]
fn a_call_that_runs_already_is_watched_by_the_id_of_the_log() {
    let mut rig = house();
    rig.receive(
        0,
        ALICE,
        &request("INVITE", "sip:carol@192.168.1.2", ALICE, "c1", 1)
            .replace("Content-Length", "Contact: <sip:alice@192.168.1.20>\r\nContent-Length"),
    );
    let id = rig.proxy.registry.calls().next().expect("the call is there").id.to_string();
    watch(&mut rig, 0, Some(&id));
    rig.receive(0, ALICE, &request("CANCEL", "sip:carol@192.168.1.2", ALICE, "c1", 1));
    assert_eq!(ladder(&rig.traced())[..2], ["< CANCEL", "> 200 CANCEL"]);
    watch(&mut rig, 0, Some("no such call"));
    rig.receive(0, ALICE, &request("CANCEL", "sip:carol@192.168.1.2", ALICE, "c1", 1));
    assert!(rig.traced().is_empty());
}

#[test]
fn long_values_are_cut() {
    let mut rig = house();
    watch(&mut rig, 0, Some("carol"));
    let traced = message(&mut rig, &"x".repeat(LONGEST + 1));
    assert_eq!(traced[0].call_id, vec![b'x'; LONGEST]);
    assert_eq!(cut(b"short"), b"short");
}

#[test]
fn a_phone_is_found_by_its_connection_whoever_it_says_that_it_is() {
    let mut rig = house();
    for (number, (text, wanted)) in [
        ("carol", true),
        ("carol@192.168.1.2", true),
        ("lobby", true),
        ("nobody", true),
        ("nobody@192.168.1.2", true),
        ("nobody@192.168.1.9", false),
        ("zed", true),
        ("alice", false),
        ("reception", false),
        ("c", false),
    ]
    .into_iter()
    .enumerate()
    {
        watch(&mut rig, 0, Some(text));
        let text_of = request("MESSAGE", "sip:nobody@192.168.1.2", CAROL, &format!("c{number}"), 1);
        rig.receive(0, CAROL, &text_of.replace("To: <sip:nobody@192.168.1.2>", "To: <sip:zed@elsewhere.example>"));
        assert_eq!(!rig.traced().is_empty(), wanted, "{text}");
    }
}

#[test]
fn a_filter_is_read_as_people_write() {
    for (text, name) in
        [(" sip:carol@b ", "carol@b"), ("sips:carol", "carol"), ("carol", "carol"), ("sip:sip:x", "sip:x")]
    {
        let filter = Filter::new(text).unwrap();
        assert!(filter.names(name) && !filter.names("other"), "{text}");
    }
    let mut rig = house();
    // A short Call-ID is named by the whole of it only.
    for (text, wanted) in [("c1", true), ("sip:192.168.1.30", true), ("sips:[::ffff:192.168.1.30]", true), ("1", false)]
    {
        watch(&mut rig, 0, Some(text));
        assert_eq!(!message(&mut rig, "c1").is_empty(), wanted, "{text}");
        watch(&mut rig, 0, None);
        rig.wait(Duration::from_secs(64));
    }
}

#[test]
fn a_phone_of_a_domain_is_found_by_its_address_of_record() {
    let mut rig = Rig::border();
    let phone = "198.51.100.7:40000";
    rig.registered("a.example", "alice", phone, "10.0.0.5:5060");
    for (number, (text, wanted)) in [
        ("alice@a.example", true),
        ("sip:alice@a.example", true),
        ("alice", true),
        ("reception", true),
        ("alice@b.example", false),
        ("a.example", false),
        ("lobby", false),
    ]
    .into_iter()
    .enumerate()
    {
        watch(&mut rig, 0, Some(text));
        rig.receive(1, phone, &request("MESSAGE", "sip:zed@elsewhere.example", phone, &format!("c{number}"), 1));
        assert_eq!(!rig.traced().is_empty(), wanted, "{text}");
    }
}
