use std::time::Duration;

use nat::Side;

use super::*;
use crate::Output;
use crate::config::Role;
use crate::rig::{Rig, config, listener, upstream};

const ALICE: &str = "198.51.100.7:40000";
const FIRST: &str = "10.0.0.5:5060";
const SECOND: &str = "10.0.0.6:5060";
const SDP: &str =
    "v=0\r\no=- 1 1 IN IP4 198.51.100.7\r\ns=-\r\nc=IN IP4 198.51.100.7\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";

/// What was sent since the last time: to whom, and the message.
fn said(rig: &mut Rig) -> Vec<(String, String)> {
    let said = std::mem::take(&mut rig.said);
    let sent = said.into_iter().filter_map(|output| match output {
        Output::Transmit(t) => Some((t.flow.remote.to_string(), String::from_utf8(t.bytes).unwrap())),
        _ => None,
    });
    sent.filter(|(_, text)| !text.starts_with("OPTIONS")).collect()
}

fn lines(text: &str, names: &[&str]) -> String {
    let kept = text.lines().filter(|line| names.iter().any(|name| line.starts_with(name)));
    kept.map(|line| format!("{line}\r\n")).collect()
}

fn body(sdp: &str) -> String {
    let content = if sdp.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    format!("{content}Content-Length: {}\r\n\r\n{sdp}", sdp.len())
}

/// A request of alice that the first core left without an answer, so that the
/// second one has it; as the first one has it.
fn moved_on(method: &str, sdp: &str) -> (Rig, String) {
    let listeners = vec![listener(Side::Inner, "10.0.0.2:5060"), listener(Side::Outer, "203.0.113.30:5060")];
    let mut config = config(Role::Border, listeners);
    config.upstreams.push(upstream("10.0.0.6"));
    let mut rig = Rig::new(config);
    rig.registered("a.example", "alice", ALICE, FIRST);
    let text = format!(
        "{method} sip:bob@a.example SIP/2.0\r\nVia: SIP/2.0/UDP {ALICE};branch=z9hG4bKi\r\nMax-Forwards: 70\r\nFrom: \
         <sip:alice@a.example>;tag=1\r\nTo: <sip:bob@a.example>\r\nCall-ID: c\r\nCSeq: 5 {method}\r\nSession-ID: \
         ab30317f1a784dc48ff824d0d3715d86;remote=00000000000000000000000000000000\r\nContact: <sip:alice@{ALICE}>\r\n{}",
        body(sdp)
    );
    rig.receive(1, ALICE, &text);
    let asked = said(&mut rig).into_iter().find(|(to, text)| to == FIRST && text.starts_with(method)).unwrap().1;
    rig.wait(Duration::from_millis(3600));
    assert!(said(&mut rig).iter().any(|(to, text)| to == SECOND && text.starts_with(method)), "it goes on");
    (rig, asked)
}

/// The first core answers after all.
fn answers(rig: &mut Rig, asked: &str, status: &str, more: &str) -> Vec<(String, String)> {
    rig.said.clear();
    let kept = lines(asked, &["Via:", "From:", "Call-ID:", "CSeq:"]);
    let tail = if more.contains("Content-Length") { "" } else { "Content-Length: 0\r\n\r\n" };
    rig.receive(0, FIRST, &format!("SIP/2.0 {status}\r\n{kept}{more}{tail}"));
    let stray =
        |o: &&Output| matches!(o, Output::Observed(Observed::Dropped { reason: DropReason::StrayResponse, .. }));
    assert_eq!(rig.said.iter().filter(stray).count(), 1, "{status}");
    said(rig)
}

const BOB: &str = "To: <sip:bob@a.example>;tag=b\r\nContact: <sip:bob@10.0.0.41:5070>\r\n";

#[test]
fn what_still_rings_is_cancelled_and_what_failed_is_acknowledged() {
    for (status, method) in [("180 Ringing", "CANCEL"), ("486 Busy Here", "ACK"), ("302 Moved", "ACK")] {
        let (mut rig, asked) = moved_on("INVITE", "");
        for _ in 0..2 {
            let sent = answers(&mut rig, &asked, status, BOB);
            let [(to, text)] = &sent[..] else { panic!("{status}: {sent:?}") };
            assert_eq!(to, FIRST);
            assert!(text.starts_with(&format!("{method} sip:bob@a.example SIP/2.0\r\n")), "{status}: {text}");
            assert!(text.contains(&format!("CSeq: 5 {method}\r\n")));
            assert!(lines(&asked, &["Via:"]).starts_with(&lines(text, &["Via:"])), "the same transaction");
            assert_eq!(text.contains(";tag=b"), method == "ACK");
        }
    }
}

#[test]
fn a_cancel_is_told_of() {
    let (mut rig, asked) = moved_on("INVITE", "");
    let kept = lines(&asked, &["Via:", "From:", "Call-ID:", "CSeq:"]);
    rig.receive(0, FIRST, &format!("SIP/2.0 180 Ringing\r\n{kept}{BOB}Content-Length: 0\r\n\r\n"));
    let told = |o: &&Output| {
        matches!(o, Output::Observed(Observed::RequestOut { method: MethodLabel::Cancel, side: Side::Inner }))
    };
    assert_eq!(rig.said.iter().filter(told).count(), 1);
}

#[test]
fn a_late_answer_to_another_request_changes_nothing() {
    let (mut rig, asked) = moved_on("MESSAGE", "");
    for status in ["100 Trying", "200 OK", "486 Busy Here"] {
        assert_eq!(answers(&mut rig, &asked, status, BOB), [], "{status}");
    }
}

#[test]
fn a_dialog_that_nobody_wants_is_acknowledged_each_time_and_ended_once() {
    let (mut rig, asked) = moved_on("INVITE", "");
    let sent = answers(&mut rig, &asked, "200 OK", BOB);
    let [(_, ack), (to, bye)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(to, "10.0.0.41:5070");
    assert!(ack.starts_with("ACK sip:bob@10.0.0.41:5070 SIP/2.0\r\n") && ack.contains("CSeq: 5 ACK\r\n"), "{ack}");
    assert!(bye.starts_with("BYE sip:bob@10.0.0.41:5070 SIP/2.0\r\n") && bye.contains("CSeq: 6 BYE\r\n"), "{bye}");
    assert!(bye.contains(ELSEWHERE));
    for text in [ack, bye] {
        assert!(text.contains("From: <sip:alice@a.example>;tag=1\r\nTo: <sip:bob@a.example>;tag=b\r\n"), "{text}");
        assert!(text.contains("Call-ID: c\r\n") && text.contains("Session-ID: ab30317f1a784dc48ff824d0d3715d86"));
    }
    assert!(!lines(&asked, &["Via:"]).contains(&lines(ack, &["Via:"])), "a transaction of its own");
    let again = answers(&mut rig, &asked, "200 OK", BOB);
    assert_eq!(again, sent[..1], "the same ACK, and no BYE");
    let fork = answers(&mut rig, &asked, "200 OK", &BOB.replace("tag=b", "tag=d"));
    let methods: Vec<&str> = fork.iter().map(|(_, text)| text.split(' ').next().unwrap()).collect();
    assert_eq!(methods, ["ACK", "BYE"], "another fork is another dialog");
    for number in 2..12 {
        let more = answers(&mut rig, &asked, "200 OK", &BOB.replace("tag=b", &format!("tag={number}")));
        assert_eq!(more.len(), if number < MOST_ENDED { 2 } else { 1 }, "{number}");
    }
}

#[test]
fn the_ack_of_such_a_dialog_is_told_of() {
    let (mut rig, asked) = moved_on("INVITE", "");
    let kept = lines(&asked, &["Via:", "From:", "Call-ID:", "CSeq:"]);
    rig.receive(0, FIRST, &format!("SIP/2.0 200 OK\r\n{kept}{BOB}Content-Length: 0\r\n\r\n"));
    let told = |o: &&Output| {
        matches!(o, Output::Observed(Observed::RequestOut { method: MethodLabel::Ack, side: Side::Inner }))
    };
    assert_eq!(rig.said.iter().filter(told).count(), 1);
}

#[test]
fn the_way_to_such_a_dialog_is_what_lies_behind_us() {
    let (mut rig, asked) = moved_on("INVITE", "");
    let ours = lines(&asked, &["Record-Route:"]);
    let behind = "Record-Route: <sip:10.0.0.43;lr>, <sip:10.0.0.42;lr>\r\n";
    let before = "Record-Route: <sip:10.0.0.40;lr>\r\n";
    let sent = answers(&mut rig, &asked, "200 OK", &format!("{behind}{ours}{before}{BOB}"));
    assert_eq!(sent.len(), 2);
    for (to, text) in &sent {
        assert_eq!(to, "10.0.0.42:5060");
        let routes: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("Route: ")).collect();
        assert_eq!(routes.join(", "), "<sip:10.0.0.42;lr>, <sip:10.0.0.43;lr>");
    }
}

#[test]
fn without_a_tag_or_an_address_there_is_no_dialog_to_end() {
    for more in [
        "To: <sip:bob@a.example>\r\nContact: <sip:bob@10.0.0.41:5070>\r\n",
        "To: <sip:bob@a.example>;tag=b\r\n",
        "To: <sip:bob@a.example>;tag=b\r\nContact: *\r\n",
        "To: <sip:bob@a.example>;tag=b\r\nContact: <sip:bob@not.known.example:5070>\r\n",
    ] {
        let (mut rig, asked) = moved_on("INVITE", "");
        assert_eq!(answers(&mut rig, &asked, "200 OK", more), [], "{more}");
    }
}

#[test]
fn an_offer_is_declined_and_an_answer_is_not() {
    for (offer, declined) in [("", true), (SDP, false)] {
        let (mut rig, asked) = moved_on("INVITE", offer);
        let sent = answers(&mut rig, &asked, "200 OK", &format!("{BOB}{}", body(SDP)));
        let [(_, ack), (_, bye)] = &sent[..] else { panic!("{sent:?}") };
        assert!(ack.starts_with("ACK ") && bye.starts_with("BYE "));
        assert_eq!(ack.contains("\r\nm=audio 0 RTP/AVP 0\r\n"), declined, "{ack}");
        assert_eq!(ack.contains("Content-Type: application/sdp\r\n"), declined, "{ack}");
        assert_eq!(ack.contains("c=IN IP4 10.0.0.2") || ack.contains("IN IP4 10.0.0.2"), declined, "{ack}");
    }
}
