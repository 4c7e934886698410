use std::time::Duration;

use media::ports;

use super::*;
use crate::rig::Rig;
use crate::rig::house::{ALICE, BOB, DOOR, SDP, house, house_without_ports, invite, observed, only, request, response};
use crate::rig::house::{sent, told};
use crate::{Input, Output};

const RINGING: &str = "180 Ringing";

fn cancel(name: &str, more: &str) -> String {
    request("CANCEL", ALICE, "bob", name, more, "")
}

/// Alice calls both phones; what each of them got.
fn calling() -> (Rig, [String; 2]) {
    let mut rig = house(&[BOB, DOOR]);
    rig.receive(0, ALICE, &invite("call", ""));
    let sent = sent(&mut rig);
    let asked = [BOB, DOOR].map(|phone| only(&sent, phone, "INVITE "));
    (rig, asked)
}

#[test]
fn a_cancel_goes_on_as_soon_as_it_may_with_its_reason_alone() {
    let (mut rig, [bob, door]) = calling();
    rig.receive(0, BOB, &response(&bob, RINGING, "b", "", ""));
    rig.said.clear();
    rig.receive(0, ALICE, &cancel("call", "Reason: SIP;cause=600\r\nSubject: x\r\nReason: Q.850;cause=16\r\n"));
    let counted = |o: &&&Observed| matches!(o, Observed::RequestOut { method: crate::MethodLabel::Cancel, .. });
    assert_eq!(observed(&rig).iter().filter(counted).count(), 1);
    let passed = sent(&mut rig);
    only(&passed, ALICE, "SIP/2.0 200 ");
    let text = only(&passed, BOB, "CANCEL ");
    assert!(text.contains("\r\nReason: SIP;cause=600\r\nReason: Q.850;cause=16\r\n") && !text.contains("Subject"));
    assert_eq!(passed.len(), 2, "the other one has not answered at all yet: {passed:?}");
    rig.receive(0, DOOR, &response(&door, "100 Trying", "d", "", ""));
    assert_eq!(told(&mut rig), ["door CANCEL"]);
    // Repeated, it is answered and nothing else.
    rig.receive(0, ALICE, &cancel("call", ""));
    rig.receive(0, DOOR, &response(&door, RINGING, "d", "", ""));
    assert_eq!(told(&mut rig), ["alice 180", "alice 200"]);
    for (phone, asked) in [(BOB, &bob), (DOOR, &door)] {
        rig.receive(0, phone, &response(asked, "487 Request Terminated", "x", "", ""));
    }
    assert_eq!(told(&mut rig), ["alice 487", "bob ACK", "door ACK"]);
}

#[test]
fn a_cancel_is_sent_again_until_it_is_answered() {
    let mut rig = house(&[BOB]);
    rig.receive(0, ALICE, &invite("call", ""));
    let bob = only(&sent(&mut rig), BOB, "INVITE ");
    rig.receive(0, BOB, &response(&bob, RINGING, "b", "", ""));
    rig.receive(0, ALICE, &cancel("call", ""));
    let text = only(&sent(&mut rig), BOB, "CANCEL ");
    let copies = |rig: &mut Rig, seconds| {
        rig.wait(Duration::from_secs(seconds));
        let sent = crate::rig::house::sent(rig);
        sent.iter().filter(|(to, sent)| to == BOB && *sent == text).count()
    };
    assert_eq!(copies(&mut rig, 4), 3);
    rig.receive(0, BOB, &response(&text, "200 OK", "b", "", ""));
    rig.said.clear();
    assert_eq!(copies(&mut rig, 20), 0);
    // The INVITE itself is given up 64·T1 after the CANCEL.
    rig.said.clear();
    rig.wait(Duration::from_secs(7));
    assert_eq!(told(&mut rig), [""; 0]);
    rig.wait(Duration::from_secs(1));
    assert_eq!(told(&mut rig), ["alice 487"]);
}

#[test]
fn a_branch_that_has_failed_is_not_cancelled() {
    let (mut rig, [bob, door]) = calling();
    rig.receive(0, BOB, &response(&bob, "486 Busy", "b", "", ""));
    rig.receive(0, DOOR, &response(&door, RINGING, "d", "", ""));
    rig.said.clear();
    rig.receive(0, ALICE, &cancel("call", ""));
    assert_eq!(told(&mut rig), ["alice 200", "door CANCEL"]);
}

#[test]
fn after_the_final_answer_there_is_nothing_to_cancel() {
    let (mut rig, [bob, door]) = calling();
    rig.receive(0, DOOR, &response(&door, RINGING, "d", "", ""));
    rig.receive(0, BOB, &response(&bob, "200 OK", "b", "Contact: <sip:b@192.168.1.21>\r\n", ""));
    let passed = sent(&mut rig);
    let text = only(&passed, DOOR, "CANCEL ");
    assert!(text.contains("\r\nReason: SIP ;cause=200 ;text=\"Call completed elsewhere\"\r\n"), "{text}");
    assert!(!passed.iter().any(|(to, text)| to == BOB && text.starts_with("CANCEL")), "not the one that answered");
    rig.receive(0, ALICE, &cancel("call", ""));
    assert_eq!(told(&mut rig), ["alice 200"]);
}

#[test]
fn declined_everywhere_is_no_call_completed_elsewhere() {
    let (mut rig, [bob, door]) = calling();
    rig.receive(0, DOOR, &response(&door, RINGING, "d", "", ""));
    rig.receive(0, BOB, &response(&bob, "603 Decline", "b", "", ""));
    let text = only(&sent(&mut rig), DOOR, "CANCEL ");
    assert!(!text.contains("Reason:"), "{text}");
}

#[test]
fn a_call_that_still_waits_for_ports_ends_at_once() {
    let mut rig = house_without_ports(&[BOB]);
    let flow = crate::rig::flow(&rig.proxy, 0, ALICE);
    let mut pairs = Vec::new();
    let mut told_to = Vec::new();
    for text in [invite("call", SDP), cancel("call", "")] {
        rig.proxy.handle_input(rig.now, Input::Received { flow, bytes: text.as_bytes() });
        while let Some(output) = rig.proxy.poll_output() {
            match output {
                Output::Ports(ports::Command::Bind { pair, .. }) => pairs.push(pair),
                Output::Transmit(t) => told_to.push(String::from_utf8(t.bytes[..11].to_vec()).unwrap()),
                _ => {}
            }
        }
    }
    assert_eq!(told_to, ["SIP/2.0 100", "SIP/2.0 200", "SIP/2.0 487"]);
    assert_eq!((rig.proxy.work().parked, pairs.is_empty()), (0, false));
    for pair in pairs {
        rig.proxy.handle_input(rig.now, Input::Ports(ports::Event::Bound { pair }));
    }
    rig.wait(Duration::from_millis(400));
    assert_eq!(told(&mut rig), [""; 0]);
}

#[test]
fn only_the_call_that_is_meant_is_aborted() {
    let mut rig = house(&[BOB]);
    for name in ["one", "two"] {
        rig.receive(0, ALICE, &invite(name, ""));
        let asked = only(&sent(&mut rig), BOB, "INVITE ");
        rig.receive(0, BOB, &response(&asked, RINGING, name, "", ""));
    }
    rig.said.clear();
    rig.proxy.abort(rig.now, registry::PassId(7), "Nobody");
    rig.wait(Duration::ZERO);
    assert_eq!(told(&mut rig), [""; 0]);
    let pass = rig.proxy.registry.by_call_id(b"two").next().unwrap().id;
    rig.proxy.abort(rig.now, pass, "Over");
    rig.wait(Duration::ZERO);
    let sent = sent(&mut rig);
    let text = only(&sent, ALICE, "SIP/2.0 503 Over");
    assert!(text.contains("Call-ID: two"));
    assert!(only(&sent, BOB, "CANCEL ").contains("Call-ID: two"));
    assert_eq!(sent.len(), 2);
}

#[test]
fn branches_that_have_ended_hold_nothing_back() {
    let (mut rig, [bob, door]) = calling();
    rig.receive(0, DOOR, &response(&door, "486 Busy", "d", "", ""));
    rig.receive(0, BOB, &response(&bob, "200 OK", "b", "Contact: <sip:b@192.168.1.21>\r\n", ""));
    let context = rig.proxy.contexts.iter().find(|context| context.invite).unwrap();
    assert!(context.compact && context.branches.iter().all(|branch| branch.cancel_wanted.is_none()));
}

#[test]
fn a_cancel_that_never_left_holds_nothing_back() {
    let mut rig = house(&[BOB, DOOR]);
    rig.receive(0, ALICE, &invite("call", ""));
    let asked = sent(&mut rig);
    let (bob, door) = (only(&asked, BOB, "INVITE "), only(&asked, DOOR, "INVITE "));
    let cancel = request("CANCEL", ALICE, "bob", "call", "", "");
    rig.receive(0, ALICE, &cancel);
    rig.receive(0, BOB, &response(&bob, "486 Busy Here", "b", "", ""));
    rig.receive(0, DOOR, &response(&door, "486 Busy Here", "d", "", ""));
    assert!(rig.proxy.contexts.iter().filter(|c| c.invite).all(|c| c.compact));
}
