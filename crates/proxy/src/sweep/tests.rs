use std::time::Duration;

use media::ports;

use super::*;
use crate::rig::house::{
    ALICE, BOB, DOOR, SDP, house, house_without_ports, invite, observed, only, registers, request,
};
use crate::rig::house::{response, sent, told};
use crate::rig::{Rig, flow};
use crate::{Input, Output};

const NOBODY: [&str; 0] = [];
const RINGING: &str = "180 Ringing";

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// What is due, without any port being bound; the pairs that are asked for.
fn turn(rig: &mut Rig) -> Vec<ports::PortPair> {
    let mut pairs = Vec::new();
    loop {
        while let Some(output) = rig.proxy.poll_output() {
            if let Output::Ports(ports::Command::Bind { pair, .. }) = output {
                pairs.push(pair);
            }
            rig.said.push(output);
        }
        match rig.proxy.poll_timeout().filter(|at| *at <= rig.now) {
            Some(at) => rig.proxy.handle_timeout(at),
            None => return pairs,
        }
    }
}

fn receive(rig: &mut Rig, from: &str, text: &str) -> Vec<ports::PortPair> {
    let flow = flow(&rig.proxy, 0, from);
    rig.proxy.handle_input(rig.now, Input::Received { flow, bytes: text.as_bytes() });
    turn(rig)
}

#[test]
fn a_copy_of_a_request_is_answered_where_it_comes_from() {
    let (near, far) = ("192.168.1.20:6060", "192.168.1.99:5060");
    for (method, user, from, to, heard) in [
        ("MESSAGE", "bob", ALICE, ALICE, true),
        ("MESSAGE", "bob", near, near, true),
        ("MESSAGE", "bob", far, far, true),
        // The answer to a REGISTER is its sender's alone, whatever port it has now.
        ("REGISTER", "alice", ALICE, ALICE, true),
        ("REGISTER", "alice", near, near, true),
        ("REGISTER", "alice", far, far, false),
    ] {
        let mut rig = house(&[BOB]);
        let text = request(method, ALICE, user, "m", "Contact: <sip:alice@192.168.1.20:5060>\r\n", "");
        let text = text.replace(";branch", ";rport;branch");
        rig.receive(0, ALICE, &text);
        let first = sent(&mut rig);
        if method == "MESSAGE" {
            rig.receive(0, ALICE, &text);
            assert_eq!(told(&mut rig), NOBODY, "there is no answer yet");
            rig.receive(0, BOB, &response(&only(&first, BOB, "MESSAGE "), "200 OK", "b", "", ""));
            only(&sent(&mut rig), ALICE, "SIP/2.0 200 ");
        }
        // A place that nobody is bound at gets no more than it sent.
        let big = text.replace("Content-Length", &format!("X-Long: {}\r\nContent-Length", "x".repeat(400)));
        rig.receive(0, from, &big);
        let repeated = |o: &&&Observed| matches!(o, Observed::Retransmitted { .. });
        assert_eq!(observed(&rig).iter().filter(repeated).count(), usize::from(heard), "{method} {from}");
        let again = sent(&mut rig);
        assert_eq!(again.len(), usize::from(heard), "{method} {from}: {again:?}");
        assert!(again.iter().all(|(at, text)| at == to && text.starts_with("SIP/2.0 200 ")), "{method} {from}");
    }
}

#[test]
fn who_has_proven_nothing_gets_no_more_copies_than_it_paid_for() {
    let mut rig = Rig::standalone();
    let from = flow(&rig.proxy, 0, "192.168.1.99:5060");
    let answer = b"SIP/2.0 404 Not Found\r\nVia: SIP/2.0/UDP 192.168.1.99;branch=z9hG4bK1\r\n\r\n".to_vec();
    rig.proxy.credit(rig.now, from, answer.len());
    for heard in [1, 0] {
        rig.said.clear();
        rig.proxy.again(rig.now, from, answer.clone());
        rig.wait(Duration::ZERO);
        assert_eq!(sent(&mut rig).len(), heard);
    }
}

#[test]
fn an_invite_that_was_accepted_is_not_answered_again_by_us() {
    let mut rig = house(&[BOB]);
    let text = invite("call", "");
    rig.receive(0, ALICE, &text);
    let asked = only(&sent(&mut rig), BOB, "INVITE ");
    rig.receive(0, ALICE, &text);
    assert_eq!(told(&mut rig), ["alice 100"], "the last one again");
    rig.receive(0, BOB, &response(&asked, "200 OK", "b", "Contact: <sip:b@192.168.1.21>\r\n", ""));
    assert_eq!(told(&mut rig), ["alice 200"]);
    rig.receive(0, ALICE, &text);
    assert_eq!(told(&mut rig), NOBODY);
}

#[test]
fn a_request_that_waits_for_ports_goes_on_when_they_come_and_is_refused_when_they_do_not() {
    for come in [true, false] {
        let mut rig = house_without_ports(&[BOB]);
        let pairs = receive(&mut rig, ALICE, &invite("call", SDP));
        assert_eq!(told(&mut rig), ["alice 100"]);
        assert_eq!(rig.proxy.work().parked, 1);
        rig.now += millis(499);
        turn(&mut rig);
        assert_eq!(told(&mut rig), NOBODY);
        if come {
            for pair in pairs {
                rig.proxy.handle_input(rig.now, Input::Ports(ports::Event::Bound { pair }));
            }
        } else {
            // To have been tried once more does not prolong it.
            rig.proxy.resume(rig.now);
        }
        rig.now += millis(1);
        turn(&mut rig);
        let sent = sent(&mut rig);
        assert_eq!((sent.len(), rig.proxy.work().parked), (1, 0));
        if come {
            only(&sent, BOB, "INVITE ");
            rig.now += millis(600);
            turn(&mut rig);
            assert_eq!(told(&mut rig), ["bob INVITE"], "its own retransmission alone");
        } else {
            let text = only(&sent, ALICE, "SIP/2.0 503 No media port or address became ready in time");
            assert!(text.contains("\r\nRetry-After: 5\r\n"), "{text}");
        }
    }
}

#[test]
fn a_branch_without_ports_fails_and_another_rings_on() {
    let mut rig = house_without_ports(&[BOB, DOOR]);
    let mut pairs = receive(&mut rig, ALICE, &invite("call", SDP));
    pairs.truncate(2);
    for pair in pairs {
        rig.proxy.handle_input(rig.now, Input::Ports(ports::Event::Bound { pair }));
    }
    turn(&mut rig);
    let first = sent(&mut rig);
    let (phone, asked) = first.iter().find(|(_, text)| text.starts_with("INVITE ")).unwrap();
    assert_eq!((first.len(), rig.proxy.work().parked), (2, 1), "100, and one INVITE");
    receive(&mut rig, phone, &response(asked, RINGING, "b", "", ""));
    assert_eq!(told(&mut rig), ["alice 180"]);
    rig.now += millis(600);
    turn(&mut rig);
    assert_eq!((told(&mut rig), rig.proxy.work().parked), (Vec::new(), 0));
    receive(&mut rig, phone, &response(asked, "486 Busy Here", "b", "", ""));
    assert!(told(&mut rig).contains(&"alice 486".to_owned()));
}

#[test]
fn what_a_phone_has_not_answered_follows_it() {
    let moved = "192.168.1.21:6060";
    let follows = |answer: Option<&str>, cancel: bool, from: &str| {
        let mut rig = house(&[]);
        let register = |name: &str, from: &str| {
            let more = "Contact: <sip:bob@phone.example>;+sip.instance=\"<u>\"\r\n";
            request("REGISTER", from, "bob", name, more, "")
        };
        rig.receive(0, BOB, &register("r1", BOB));
        rig.said.clear();
        rig.receive(0, ALICE, &invite("call", ""));
        let asked = only(&sent(&mut rig), BOB, "INVITE ");
        if let Some(answer) = answer {
            rig.receive(0, BOB, &response(&asked, answer, "b", "Contact: <sip:b@192.168.1.21>\r\n", ""));
        }
        if cancel {
            rig.receive(0, ALICE, &request("CANCEL", ALICE, "bob", "call", "", ""));
        }
        rig.said.clear();
        rig.receive(0, from, &register("r2", from));
        let mut told = told(&mut rig);
        told.retain(|line| !line.ends_with(" 200"));
        (told, rig, asked)
    };
    assert_eq!(follows(None, false, moved).0, ["192.168.1.21:6060 INVITE"]);
    assert_eq!(follows(Some(RINGING), false, moved).0, ["192.168.1.21:6060 INVITE"]);
    assert_eq!(follows(Some(RINGING), true, moved).0, ["192.168.1.21:6060 CANCEL"]);
    assert_eq!(follows(Some("200 OK"), false, moved).0, NOBODY);
    assert_eq!(follows(None, false, BOB).0, NOBODY, "it has not moved");
    // A CANCEL that was answered has done its work.
    let (_, mut rig, asked) = follows(Some(RINGING), true, BOB);
    let cancel = response(&asked, "200 OK", "b", "", "").replace("1 INVITE", "1 CANCEL");
    rig.receive(0, BOB, &cancel);
    rig.said.clear();
    rig.receive(
        0,
        moved,
        &request("REGISTER", moved, "bob", "r3", "Contact: <sip:bob@phone.example>;+sip.instance=\"<u>\"\r\n", ""),
    );
    let mut lines = told(&mut rig);
    lines.retain(|line| !line.ends_with(" 200"));
    assert_eq!(lines, ["192.168.1.21:6060 INVITE"]);
    // From there on, too.
    let (_, mut rig, _) = follows(None, false, moved);
    rig.wait(millis(500));
    assert_eq!(told(&mut rig), ["192.168.1.21:6060 INVITE"]);
}

#[test]
fn a_message_that_could_not_be_sent_fails_its_branch_alone() {
    let mut rig = house(&[BOB, DOOR]);
    rig.receive(0, ALICE, &invite("call", ""));
    let asked = only(&sent(&mut rig), DOOR, "INVITE ");
    let (bob, door) = (flow(&rig.proxy, 0, BOB), flow(&rig.proxy, 0, DOOR));
    rig.proxy.handle_input(rig.now, Input::Unsent { flow: bob });
    rig.wait(millis(600));
    assert_eq!(told(&mut rig), ["door INVITE"], "the other one is tried on");
    rig.receive(0, DOOR, &response(&asked, RINGING, "d", "", ""));
    // Who has answered once was reached.
    rig.proxy.handle_input(rig.now, Input::Unsent { flow: door });
    rig.wait(millis(600));
    assert_eq!(told(&mut rig), ["alice 180"]);
    rig.receive(0, DOOR, &response(&asked, "486 Busy Here", "d", "", ""));
    assert_eq!(told(&mut rig), ["alice 486", "door ACK"]);
}

#[test]
fn when_nothing_could_be_sent_the_caller_hears_it_at_once() {
    let mut rig = house(&[BOB]);
    rig.receive(0, ALICE, &invite("call", ""));
    rig.said.clear();
    let bob = flow(&rig.proxy, 0, BOB);
    rig.proxy.handle_input(rig.now, Input::Unsent { flow: bob });
    rig.wait(Duration::ZERO);
    let told = told(&mut rig);
    assert!(matches!(&told[..], [one] if one.starts_with("alice 5")), "{told:?}");
}

#[test]
fn nobody_who_answers_is_told_as_such_after_32_seconds() {
    let mut rig = house(&[BOB]);
    rig.receive(0, ALICE, &invite("call", ""));
    rig.said.clear();
    rig.wait(millis(31_900));
    let copies = |o: &&&Observed| matches!(o, Observed::Retransmitted { .. });
    assert_eq!(observed(&rig).iter().filter(copies).count(), 6);
    assert_eq!(told(&mut rig), ["bob INVITE"; 6]);
    rig.wait(millis(100));
    let timed_out = |o: &&&Observed| matches!(o, Observed::TimedOut { method: crate::MethodLabel::Invite, .. });
    assert_eq!(observed(&rig).iter().filter(timed_out).count(), 1);
    assert_eq!(told(&mut rig), ["alice 408"]);
}

#[test]
fn a_stopping_service_ends_calls_and_leaves_subscriptions() {
    let mut rig = house(&[BOB]);
    rig.receive(0, ALICE, &request("SUBSCRIBE", ALICE, "bob", "sub", "Contact: <sip:alice@192.168.1.20>\r\n", ""));
    let asked = only(&sent(&mut rig), BOB, "SUBSCRIBE ");
    let contact = "Contact: <sip:b@192.168.1.21>\r\n";
    rig.receive(0, BOB, &response(&asked, "200 OK", "b", contact, ""));
    for name in ["one", "two"] {
        rig.receive(0, ALICE, &invite(name, ""));
        let asked = only(&sent(&mut rig), BOB, "INVITE ");
        rig.receive(0, BOB, &response(&asked, "200 OK", "b", contact, ""));
    }
    let ending = rig.proxy.registry.by_call_id(b"two").next().unwrap().id;
    rig.proxy.registry.update_call(ending, |call| call.state = CallState::Ending);
    rig.said.clear();
    rig.proxy.handle_input(rig.now, Input::Stop);
    rig.wait(Duration::ZERO);
    let byes = sent(&mut rig);
    assert_eq!(byes.len(), 2, "{byes:?}");
    for to in [ALICE, BOB] {
        let bye = only(&byes, to, "BYE ");
        assert!(bye.contains("Call-ID: one") && bye.contains("Service stops"), "{bye}");
    }
    assert!(rig.proxy.stopping);
    assert_eq!(rig.proxy.work().calls, 2);
}

#[test]
fn what_is_over_is_forgotten() {
    let mut rig = house(&[BOB]);
    rig.wait(Duration::from_secs(40));
    assert_eq!(rig.proxy.work().contexts, 0);
    rig.receive(0, ALICE, &request("MESSAGE", ALICE, "bob", "m", "", ""));
    let asked = only(&sent(&mut rig), BOB, "MESSAGE ");
    rig.receive(0, BOB, &response(&asked, "200 OK", "b", "", ""));
    rig.wait(Duration::from_secs(31));
    assert_eq!(rig.proxy.work().contexts, 1, "for copies of the request");
    rig.wait(Duration::from_secs(1));
    assert_eq!(rig.proxy.work().contexts, 0);
    registers(&mut rig, "carol", "192.168.1.30:5060");
    assert_eq!(rig.proxy.work().contexts, 1);
}

#[test]
fn an_answer_whose_offer_never_gets_ports_is_ended() {
    let mut rig = house_without_ports(&[BOB]);
    receive(&mut rig, ALICE, &invite("call", ""));
    let asked = only(&sent(&mut rig), BOB, "INVITE ");
    receive(&mut rig, BOB, &response(&asked, "200 OK", "b", "Contact: <sip:b@192.168.1.21>\r\n", SDP));
    assert_eq!(told(&mut rig), NOBODY);
    rig.now += millis(31_999);
    turn(&mut rig);
    assert_eq!(told(&mut rig), NOBODY);
    rig.now += millis(1);
    turn(&mut rig);
    let sent = sent(&mut rig);
    assert!(only(&sent, BOB, "BYE ").contains("No media port became ready in time"));
    only(&sent, BOB, "ACK ");
    only(&sent, ALICE, "SIP/2.0 5");
    assert_eq!((sent.len(), rig.proxy.work().calls), (3, 0));
}

#[test]
fn the_ports_of_a_stream_that_has_closed_serve_whoever_waits() {
    let mut rig = house(&[BOB]);
    rig.receive(0, ALICE, &invite("call", SDP));
    let stream = rig.proxy.registry.calls().next().unwrap().streams[0];
    let id = rig.proxy.contexts.iter().find(|c| c.invite).unwrap().id;
    let totals = Fact::Closed { stream, legs: Default::default() };
    // Somebody whose context has gone waits no longer.
    rig.proxy.parked.insert(Id { slot: 99, generation: 1 });
    rig.proxy.parked.insert(id);
    rig.proxy.fact(rig.now, &Fact::Silent { stream, epoch: u32::MAX });
    assert_eq!(rig.proxy.parked.len(), 2);
    rig.proxy.fact(rig.now, &totals);
    assert_eq!(rig.proxy.parked.len(), 0);
}

#[test]
fn why_the_media_of_a_call_ended_is_said() {
    let mut rig = house(&[BOB]);
    rig.receive(0, ALICE, &invite("call", SDP));
    let asked = only(&sent(&mut rig), BOB, "INVITE ");
    rig.receive(0, BOB, &response(&asked, "200 OK", "b", "Contact: <sip:b@192.168.1.21>\r\n", SDP));
    let stream = rig.proxy.registry.calls().next().unwrap().streams[0];
    rig.said.clear();
    rig.proxy.handle_input(rig.now, Input::Fact(Fact::Failed { stream }));
    rig.wait(Duration::ZERO);
    let ended = |o: &&Observed| matches!(o, Observed::CallEnded { cause: Cause::MediaFailed, .. });
    assert!(observed(&rig).into_iter().any(|observed| ended(&observed)));
    assert!(only(&sent(&mut rig), BOB, "BYE ").contains("Media failure"));
}

/// A border in front of one core that may have answered a probe, and a MESSAGE that goes there.
fn asked_of_a_core(probed: bool) -> (Rig, Flow) {
    let mut rig = Rig::border();
    let (phone, core) = ("198.51.100.7:40000", "10.0.0.5:5060");
    let probe = only(&sent(&mut rig), core, "OPTIONS ");
    if probed {
        rig.receive(0, core, &response(&probe, "200 OK", "b", "", ""));
    }
    rig.registered("a.example", "alice", phone, core);
    let core = flow(&rig.proxy, 0, core);
    let text = request("MESSAGE", phone, "bob", "x", "Contact: <sip:alice@198.51.100.7:40000>\r\n", "");
    rig.said.clear();
    rig.receive(1, phone, &text.replace("192.168.1.2", "a.example"));
    (rig, core)
}

#[test]
fn a_core_that_is_silent_to_two_copies_is_probed_with_the_third() {
    for answered in [false, true] {
        let (mut rig, core) = asked_of_a_core(true);
        let probes = |rig: &mut Rig, time| {
            rig.wait(time);
            let sent = sent(rig);
            let to_core = sent.iter().filter(|(to, _)| *to == core.remote.to_string());
            to_core.filter(|(_, text)| text.starts_with("OPTIONS ")).count()
        };
        if answered {
            let asked = only(&sent(&mut rig), "10.0.0.5:5060", "MESSAGE ");
            rig.receive(0, "10.0.0.5:5060", &response(&asked, "100 Trying", "b", "", ""));
        }
        assert_eq!(probes(&mut rig, millis(1499)), 0);
        let more = if answered { millis(8000) } else { millis(1) };
        assert_eq!(probes(&mut rig, more), usize::from(!answered), "{answered}");
    }
}

#[test]
fn a_core_that_said_trying_is_not_to_blame_for_what_came_of_it() {
    for answered in [false, true] {
        let (mut rig, core) = asked_of_a_core(false);
        if answered {
            let asked = only(&sent(&mut rig), "10.0.0.5:5060", "MESSAGE ");
            rig.receive(0, "10.0.0.5:5060", &response(&asked, "100 Trying", "b", "", ""));
        }
        rig.wait(Duration::from_secs(31));
        assert!(!rig.proxy.is_down(rig.now, core));
        rig.wait(Duration::from_secs(1));
        assert_eq!(rig.proxy.is_down(rig.now, core), !answered);
    }
}

#[test]
fn what_rings_too_long_is_cancelled_once() {
    let mut rig = house(&[BOB]);
    rig.receive(0, ALICE, &invite("call", ""));
    let asked = only(&sent(&mut rig), BOB, "INVITE ");
    rig.receive(0, BOB, &response(&asked, "180 Ringing", "b", "", ""));
    rig.said.clear();
    rig.wait(Duration::from_secs(184));
    assert_eq!(told(&mut rig), NOBODY);
    rig.wait(Duration::from_secs(1));
    assert_eq!(told(&mut rig), ["bob CANCEL"]);
    // It ignores that, too: the INVITE is given up.
    rig.wait(millis(31_900));
    assert!(told(&mut rig).iter().all(|line| line == "bob CANCEL"));
    rig.wait(millis(100));
    assert_eq!(told(&mut rig), ["alice 408"]);
}
