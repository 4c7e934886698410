use std::time::Duration;

use super::*;
use crate::Output;
use crate::rig::{Rig, register};

const ALICE: &str = "192.168.1.20:5060";
const CAROL: &str = "192.168.1.22:5060";

/// What was sent since the last time: to whom, and the message.
fn said(rig: &mut Rig) -> Vec<(String, String)> {
    let said = std::mem::take(&mut rig.said);
    let sent = said.into_iter().filter_map(|output| match output {
        Output::Transmit(t) => Some((t.flow.remote.to_string(), String::from_utf8(t.bytes).unwrap())),
        _ => None,
    });
    sent.collect()
}

/// To whom a request of this method went.
fn went(said: &[(String, String)], method: &str) -> Vec<String> {
    said.iter().filter(|(_, text)| text.starts_with(&format!("{method} "))).map(|(to, _)| to.clone()).collect()
}

fn lines(text: &str, names: &[&str]) -> String {
    let kept = text.lines().filter(|line| names.iter().any(|name| line.starts_with(name)));
    kept.map(|line| format!("{line}\r\n")).collect()
}

/// A call from alice to carol, who has answered with this status; the answer as alice has it.
fn answered(status: &str) -> (Rig, String) {
    let mut rig = Rig::standalone();
    register(&mut rig.proxy, rig.now, 0, "alice", ALICE);
    register(&mut rig.proxy, rig.now, 0, "carol", CAROL);
    rig.wait(Duration::ZERO);
    rig.said.clear();
    let invite = "INVITE sip:carol@192.168.1.2 SIP/2.0\r\nVia: SIP/2.0/UDP 192.168.1.20:5060;branch=z9hG4bKi\r\n\
                  Max-Forwards: 70\r\nFrom: <sip:alice@192.168.1.2>;tag=1\r\nTo: <sip:carol@192.168.1.2>\r\n\
                  Call-ID: c\r\nCSeq: 1 INVITE\r\nContact: <sip:alice@192.168.1.20>\r\nContent-Length: 0\r\n\r\n";
    rig.receive(0, ALICE, invite);
    let passed = said(&mut rig).into_iter().find(|(to, text)| to == CAROL && text.starts_with("INVITE")).unwrap().1;
    let answer = format!(
        "SIP/2.0 {status}\r\n{}To: <sip:carol@192.168.1.2>;tag=2\r\nContact: <sip:carol@192.168.1.22>\r\n\
         Content-Length: 0\r\n\r\n",
        lines(&passed, &["Via:", "From:", "Call-ID:", "CSeq:", "Record-Route:"])
    );
    rig.receive(0, CAROL, &answer);
    let first = format!("SIP/2.0 {status}");
    let all = said(&mut rig);
    let (_, text) = all.into_iter().find(|(to, text)| to == ALICE && text.starts_with(&first)).unwrap();
    (rig, text)
}

/// The ACK of alice; that of a 2xx has a branch of its own.
fn ack(answer: &str, branch: &str) -> String {
    let contact =
        answer.lines().find_map(|line| line.strip_prefix("Contact: <")).and_then(|line| line.split('>').next());
    let routes = lines(answer, &["Record-Route:"]).replace("Record-Route:", "Route:");
    format!(
        "ACK {} SIP/2.0\r\nVia: SIP/2.0/UDP 192.168.1.20:5060;branch={branch}\r\nMax-Forwards: 70\r\n{routes}{}CSeq: 1 \
         ACK\r\nContent-Length: 0\r\n\r\n",
        contact.unwrap_or("sip:carol@192.168.1.2"),
        lines(answer, &["From:", "To:", "Call-ID:"])
    )
}

fn stray(rig: &Rig) -> usize {
    let stray = |o: &&Output| matches!(o, Output::Observed(Observed::Dropped { reason: DropReason::StrayAck, .. }));
    rig.said.iter().filter(stray).count()
}

#[test]
fn a_call_whose_2xx_nobody_acknowledges_is_ended() {
    let (mut rig, _) = answered("200 OK");
    rig.wait(Duration::from_millis(31_999));
    assert_eq!(went(&said(&mut rig), "BYE"), [""; 0]);
    rig.wait(Duration::from_millis(1));
    let lost = |o: &Output| matches!(o, Output::Observed(Observed::CallEnded { cause: Cause::Lost, .. }));
    assert_eq!(rig.said.iter().filter(|o| lost(o)).count(), 1);
    let all = said(&mut rig);
    assert_eq!(went(&all, "BYE"), [ALICE, CAROL]);
    assert!(all.iter().any(|(_, text)| text.contains("No ACK")));
}

#[test]
fn an_ack_goes_on_to_the_callee_and_repeated_it_is_the_same() {
    let (mut rig, answer) = answered("200 OK");
    assert_eq!(rig.proxy.unacknowledged.0.len(), 1);
    let mut passed = Vec::new();
    for branch in ["z9hG4bKa", "z9hG4bKa", "z9hG4bKb"] {
        rig.receive(0, ALICE, &ack(&answer, branch));
        assert_eq!(stray(&rig), 0);
        let out =
            |o: &&Output| matches!(o, Output::Observed(Observed::RequestOut { method: crate::MethodLabel::Ack, .. }));
        assert_eq!(rig.said.iter().filter(out).count(), 1);
        let all = said(&mut rig);
        assert_eq!(went(&all, "ACK"), [CAROL]);
        passed.extend(all);
    }
    assert!(passed[0].1.starts_with("ACK sip:carol@192.168.1.22 SIP/2.0\r\n"), "{}", passed[0].1);
    assert!(passed[0].1.contains("\r\nMax-Forwards: 69\r\n"));
    assert_eq!(passed[0], passed[1]);
    assert_ne!(passed[0], passed[2]);
    assert!(rig.proxy.unacknowledged.0.is_empty());
    rig.wait(Duration::from_secs(60));
    assert_eq!(went(&said(&mut rig), "BYE"), [""; 0], "nobody waits for it any more");
}

#[test]
fn an_ack_of_a_refusal_ends_here() {
    let (mut rig, answer) = answered("486 Busy Here");
    rig.said.clear();
    rig.receive(0, ALICE, &ack(&answer, "z9hG4bKi"));
    assert_eq!(stray(&rig), 0);
    assert_eq!(said(&mut rig), []);
    rig.wait(Duration::from_secs(31));
    assert_eq!(said(&mut rig), [], "the refusal is not said again");
    let (mut rig, _) = answered("486 Busy Here");
    rig.wait(Duration::from_secs(1));
    assert!(said(&mut rig).iter().any(|(to, text)| to == ALICE && text.starts_with("SIP/2.0 486")));
}

#[test]
fn an_ack_that_fits_nothing_is_dropped_without_a_word() {
    let (mut rig, answer) = answered("200 OK");
    let good = ack(&answer, "z9hG4bKa");
    for text in [
        good.replace("Call-ID: c", "Call-ID: d"),
        good.replace("tag=2", "tag=3"),
        good.replace("Max-Forwards: 70", "Max-Forwards: 0"),
    ] {
        rig.said.clear();
        rig.receive(0, ALICE, &text);
        assert_eq!(stray(&rig), 1, "{text}");
        assert_eq!(said(&mut rig), []);
    }
    // One with a body, when the call is ending, only comes again.
    let pass = rig.proxy.registry.calls().next().unwrap().id;
    rig.proxy.registry.update_call(pass, |call| call.state = CallState::Ending);
    let sdp =
        "v=0\r\no=- 1 1 IN IP4 192.168.1.20\r\ns=-\r\nc=IN IP4 192.168.1.20\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";
    let with = format!("Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}", sdp.len());
    rig.receive(0, ALICE, &good.replace("Content-Length: 0\r\n\r\n", &with));
    assert_eq!((stray(&rig), said(&mut rig)), (1, vec![]));
    rig.receive(0, ALICE, &good);
    assert_eq!(went(&said(&mut rig), "ACK"), [CAROL]);
}

#[test]
fn an_ack_for_a_connection_that_has_ended_is_not_passed() {
    let (mut rig, answer) = answered("200 OK");
    let pass = rig.proxy.registry.calls().next().unwrap().id;
    let binding =
        rig.proxy.registry.bindings().find(|binding| binding.contact().starts_with(b"sip:carol")).unwrap().clone();
    let flow = Flow { transport: wire::Transport::Tcp, connection: 7, ..binding.flow.get() };
    rig.proxy.registry.bind(registry::Binding { flow: flow.into(), ..binding });
    rig.proxy.registry.update_call(pass, |call| call.callees[0].flow = flow.into());
    rig.said.clear();
    rig.receive(0, ALICE, &ack(&answer, "z9hG4bKa"));
    assert_eq!((stray(&rig), said(&mut rig)), (1, vec![]));
}

#[test]
fn a_call_that_is_over_waits_for_none_of_its_acks() {
    let mut rig = Rig::standalone();
    let all = [(1, 1), (2, 0), (2, 1), (2, 255), (3, 1)];
    for (pass, leg) in all {
        rig.proxy.expect_ack(rig.now, PassId(pass), leg);
    }
    rig.proxy.expect_no_ack(PassId(2));
    let left = [(PassId(1), 1), (PassId(3), 1)];
    assert_eq!(rig.proxy.unacknowledged.0.keys().copied().collect::<Vec<_>>(), left);
    let until = rig.now + Duration::from_secs(32);
    assert_eq!(rig.proxy.unacknowledged.0.values().copied().collect::<Vec<_>>(), [until; 2]);
    for (pass, leg) in left {
        assert_eq!(rig.proxy.timers.pop_due(until), Some((until, Timer::Ack(pass, leg))));
    }
    assert_eq!(rig.proxy.timers.pop_due(until), None);
}

#[test]
fn what_was_acknowledged_is_not_ended_by_a_late_timer() {
    let (mut rig, answer) = answered("200 OK");
    let (pass, leg) = *rig.proxy.unacknowledged.0.keys().next().unwrap();
    rig.proxy.ack_due(rig.now, pass, leg + 1);
    rig.receive(0, ALICE, &ack(&answer, "z9hG4bKa"));
    rig.proxy.ack_due(rig.now, pass, leg);
    assert!(rig.proxy.registry.call(pass).is_some());
}
