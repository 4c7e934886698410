use std::time::Duration;

use nat::Side;
use wire::sip::Limits;

use super::*;
use crate::Output;
use crate::config::Role;
use crate::locate::Hop;
use crate::request::Target;
use crate::rig::house::{ALICE, BOB, DOOR, SDP, house, invite, observed, only, request, response, sent, told};
use crate::rig::{Rig, config, flow, listener, upstream};
use crate::transaction::context::Answering;
use crate::transaction::{Branch, Key, Server};

const CONTACT: &str = "Contact: <sip:b@192.168.1.21>\r\n";
const NOBODY: [&str; 0] = [];

/// Alice calls bob at these; what each of them got.
fn calling<const N: usize>(phones: [&str; N], offer: &str) -> (Rig, [String; N]) {
    let mut rig = house(&phones);
    rig.receive(0, ALICE, &invite("call", offer));
    let sent = sent(&mut rig);
    (rig, phones.map(|phone| only(&sent, phone, "INVITE ")))
}

fn dropped(rig: &Rig) -> Vec<DropReason> {
    let reasons = observed(rig).into_iter().filter_map(|observed| match observed {
        Observed::Dropped { reason, .. } => Some(*reason),
        _ => None,
    });
    reasons.collect()
}

#[test]
fn a_response_that_is_nobodys_is_dropped() {
    let (mut rig, [asked]) = calling([BOB], "");
    let answer = response(&asked, "180 Ringing", "b", "", "");
    let branch = answer.split("branch=").nth(1).unwrap().split([';', '\r']).next().unwrap();
    let (context, number) = branch.split_at(branch.len() - 13);
    let other = String::from_utf8(crate::token::short(7 << 32 | 1).to_vec()).unwrap();
    for (text, reason) in [
        (answer.replace("Via: SIP", "X-Via: SIP"), DropReason::Malformed),
        (answer.replace(branch, "z9hG4bKother"), DropReason::ForeignVia),
        (answer.replace(branch, &format!("z9hG4bK{other}{number}")), DropReason::StrayResponse),
        (answer.replace(branch, &format!("{context}{other}")), DropReason::StrayResponse),
        (answer.replace("1 INVITE", "1 BYE"), DropReason::StrayResponse),
    ] {
        rig.said.clear();
        rig.receive(0, BOB, &text);
        assert_eq!(dropped(&rig), [reason], "{text}");
        assert_eq!(told(&mut rig), NOBODY, "{text}");
    }
    rig.receive(0, BOB, &answer);
    assert_eq!(told(&mut rig), ["alice 180"]);
}

#[test]
fn a_registration_is_confirmed_by_the_registrars_side_alone() {
    for (listener, from, heard) in [
        (0, "10.0.0.5:5060", true),
        (0, "10.0.0.5:6060", true),
        (0, "10.0.0.6:5060", true),
        (0, "10.0.0.7:5060", false),
        (1, "10.0.0.5:5060", false),
        (1, "198.51.100.9:5060", false),
    ] {
        let listeners =
            vec![self::listener(Side::Inner, "10.0.0.2:5060"), self::listener(Side::Outer, "203.0.113.30:5060")];
        let mut config = config(Role::Border, listeners);
        config.upstreams = vec![upstream("10.0.0.5"), upstream("10.0.0.6")];
        let mut rig = Rig::new(config);
        rig.said.clear();
        let phone = "198.51.100.7:40000";
        let register = request("REGISTER", phone, "alice", "r", "Contact: <sip:alice@198.51.100.7:40000>\r\n", "");
        rig.receive(1, phone, &register.replace("192.168.1.2", "a.example"));
        let asked = rig.said.iter().find_map(|o| match o {
            Output::Transmit(t) if t.bytes.starts_with(b"REGISTER") => Some(t.clone()),
            _ => None,
        });
        let asked = asked.unwrap();
        assert_eq!(asked.flow.remote.to_string(), "10.0.0.5:5060");
        let text = String::from_utf8(asked.bytes).unwrap();
        rig.said.clear();
        rig.receive(listener, from, &response(&text, "200 OK", "r", "", ""));
        assert_eq!(dropped(&rig).is_empty(), heard, "{listener} {from}");
        assert_eq!(rig.proxy.work().bindings, usize::from(heard), "{listener} {from}");
    }
}

#[test]
fn what_is_provisional_passes_for_an_invite_alone() {
    let (mut rig, [asked]) = calling([BOB], "");
    rig.receive(0, BOB, &response(&asked, "100 Trying", "b", "", ""));
    assert_eq!(told(&mut rig), NOBODY);
    rig.receive(0, BOB, &response(&asked, "182 Queued", "b", "", ""));
    assert_eq!(told(&mut rig), ["alice 182"]);
    rig.receive(0, ALICE, &request("MESSAGE", ALICE, "bob", "m", "", ""));
    let asked = only(&sent(&mut rig), BOB, "MESSAGE ");
    for status in ["100 Trying", "182 Queued"] {
        rig.receive(0, BOB, &response(&asked, status, "b", "", ""));
        assert_eq!(told(&mut rig), NOBODY, "{status}");
    }
    rig.receive(0, BOB, &response(&asked, "202 Accepted", "b", "", ""));
    assert_eq!(told(&mut rig), ["alice 202"]);
}

#[test]
fn a_repeated_2xx_is_the_same_and_that_of_another_fork_is_its_own() {
    let (mut rig, [asked]) = calling([BOB], "");
    let of = |tag: &str| response(&asked, "200 OK", tag, CONTACT, "");
    let passed = |rig: &mut Rig, text: &str| {
        rig.receive(0, BOB, text);
        only(&sent(rig), ALICE, "SIP/2.0 200 ")
    };
    let one = passed(&mut rig, &of("one"));
    assert_eq!(passed(&mut rig, &of("one")), one);
    let two = passed(&mut rig, &of("two"));
    assert!(two.contains(";tag=two\r\n"), "{two}");
    assert_eq!(passed(&mut rig, &of("two")), two);
    assert_eq!(rig.proxy.registry.calls().next().unwrap().callees.len(), 2);
}

#[test]
fn sdp_that_cannot_be_carried_ends_a_call_only_in_a_final_response() {
    let broken = "v=0\r\nm=broken\r\n";
    let (mut rig, [bob, door]) = calling([BOB, DOOR], SDP);
    rig.receive(0, BOB, &response(&bob, "183 Progress", "b", CONTACT, broken));
    assert_eq!(told(&mut rig), NOBODY, "a preview is only dropped");
    rig.receive(0, DOOR, &response(&door, "180 Ringing", "d", "", ""));
    assert_eq!(told(&mut rig), ["alice 180"]);
    rig.receive(0, BOB, &response(&bob, "200 OK", "b", CONTACT, broken));
    assert_eq!(told(&mut rig), ["alice 488", "bob ACK", "bob BYE", "door CANCEL"]);
    assert_eq!(rig.proxy.work().calls, 0);
}

#[test]
fn the_media_of_a_branch_that_failed_goes_unless_it_is_tried_again() {
    for (status, left) in [("486 Busy", 1), ("401 Unauthorized", 2), ("407 Proxy", 2), ("404 No", 1)] {
        let (mut rig, [bob, _]) = calling([BOB, DOOR], SDP);
        let streams = |rig: &Rig| rig.proxy.registry.calls().next().unwrap().streams.len();
        assert_eq!(streams(&rig), 2);
        rig.receive(0, BOB, &response(&bob, status, "b", "", ""));
        assert_eq!(streams(&rig), left, "{status}");
    }
}

#[test]
fn a_refused_offer_inside_a_call_leaves_the_call_as_it_was() {
    let (mut rig, [asked]) = calling([BOB], SDP);
    rig.receive(0, BOB, &response(&asked, "200 OK", "b", CONTACT, SDP));
    let answered = only(&sent(&mut rig), ALICE, "SIP/2.0 200 ");
    let contact = answered.lines().find_map(|line| line.strip_prefix("Contact: <")).unwrap().trim_end_matches('>');
    let two = format!("{SDP}m=video 4002 RTP/AVP 96\r\n");
    let update =
        request("UPDATE", ALICE, "bob", "call", "", &two).replace("sip:bob@192.168.1.2 SIP", &format!("{contact} SIP"));
    let update =
        update.replace("To: <sip:bob@192.168.1.2>", "To: <sip:bob@192.168.1.2>;tag=b").replace("CSeq: 1", "CSeq: 2");
    rig.receive(0, ALICE, &update.replace("z9hG4bKcall", "z9hG4bKup"));
    let asked = only(&sent(&mut rig), BOB, "UPDATE ");
    let call = |rig: &Rig| rig.proxy.registry.calls().next().unwrap().clone();
    let key = MediaKey { pass: call(&rig).id.0, branch: 0 };
    assert!(rig.proxy.offers.pending(key, 1, End::A));
    assert_eq!(call(&rig).streams.len(), 2);
    rig.receive(0, BOB, &response(&asked, "488 Not Acceptable Here", "b", "", ""));
    assert!(!rig.proxy.offers.pending(key, 1, End::A));
    assert_eq!(call(&rig).streams.len(), 1);
    assert_eq!(told(&mut rig), ["alice 488"]);
}

#[test]
fn who_says_bye_has_left_whatever_the_answer_unless_it_is_a_challenge() {
    for (status, calls) in [("200 OK", 0), ("481 Gone", 0), ("500 No", 0), ("401 Unauthorized", 1), ("407 Proxy", 1)] {
        let (mut rig, [asked]) = calling([BOB], "");
        rig.receive(0, BOB, &response(&asked, "200 OK", "b", CONTACT, ""));
        let answered = only(&sent(&mut rig), ALICE, "SIP/2.0 200 ");
        let contact = answered.lines().find_map(|line| line.strip_prefix("Contact: <")).unwrap().trim_end_matches('>');
        let bye =
            request("BYE", ALICE, "bob", "call", "", "").replace("sip:bob@192.168.1.2 SIP", &format!("{contact} SIP"));
        let bye =
            bye.replace("To: <sip:bob@192.168.1.2>", "To: <sip:bob@192.168.1.2>;tag=b").replace("CSeq: 1", "CSeq: 2");
        rig.receive(0, ALICE, &bye.replace("z9hG4bKcall", "z9hG4bKbye"));
        let asked = only(&sent(&mut rig), BOB, "BYE ");
        rig.receive(0, BOB, &response(&asked, status, "b", "", ""));
        assert_eq!(rig.proxy.work().calls, calls, "{status}");
        if calls > 0 {
            assert_ne!(rig.proxy.registry.calls().next().unwrap().state, registry::CallState::Ending, "{status}");
        }
    }
}

#[test]
fn why_a_call_ended_that_nobody_answered() {
    for (status, cancelled, cause) in [
        ("486 Busy", false, Some(Cause::Failed)),
        ("487 Request Terminated", true, Some(Cause::Cancelled)),
        ("401 Unauthorized", false, None),
        ("407 Proxy", false, None),
    ] {
        let (mut rig, [asked]) = calling([BOB], "");
        rig.receive(0, BOB, &response(&asked, "180 Ringing", "b", "", ""));
        if cancelled {
            rig.receive(0, ALICE, &request("CANCEL", ALICE, "bob", "call", "", ""));
        }
        rig.said.clear();
        rig.receive(0, BOB, &response(&asked, status, "b", "", ""));
        let ended = observed(&rig).into_iter().find_map(|observed| match observed {
            Observed::CallEnded { cause, .. } => Some(*cause),
            _ => None,
        });
        assert_eq!(ended, cause, "{status}");
        let kept = rig.proxy.registry.calls().next().map(|call| call.expires);
        assert_eq!(kept, cause.is_none().then_some(Some(rig.now + crate::dialog::RETRY)), "{status}");
    }
}

#[test]
fn a_subscription_lasts_as_its_answer_says() {
    let mut rig = house(&[BOB]);
    let text = request("SUBSCRIBE", ALICE, "bob", "sub", "Contact: <sip:alice@192.168.1.20>\r\n", "");
    rig.receive(0, ALICE, &text);
    let asked = only(&sent(&mut rig), BOB, "SUBSCRIBE ");
    let more = format!("{CONTACT}Expires: 1000\r\n");
    rig.receive(0, BOB, &response(&asked, "200 OK", "b", &more, ""));
    let expires = |rig: &Rig| rig.proxy.registry.calls().next().unwrap().expires.unwrap() - rig.now;
    let first = expires(&rig);
    assert!(first > Duration::from_secs(1000));
    let answered = only(&sent(&mut rig), ALICE, "SIP/2.0 200 ");
    let contact = answered.lines().find_map(|line| line.strip_prefix("Contact: <")).unwrap().trim_end_matches('>');
    let again = text.replace("sip:bob@192.168.1.2 SIP", &format!("{contact} SIP")).replace("CSeq: 1", "CSeq: 2");
    let again = again.replace("To: <sip:bob@192.168.1.2>", "To: <sip:bob@192.168.1.2>;tag=b");
    rig.receive(0, ALICE, &again.replace("z9hG4bKsub", "z9hG4bKsub2"));
    let asked = only(&sent(&mut rig), BOB, "SUBSCRIBE ");
    rig.receive(0, BOB, &response(&asked, "200 OK", "b", &more.replace("1000", "2000"), ""));
    assert_eq!(expires(&rig), first + Duration::from_secs(1000));
}

/// What a request gets of which no branch had a final response; these are their results.
fn nobody(method: &str, cancelled: bool, results: &[u16]) -> Option<u16> {
    let mut rig = Rig::standalone();
    let here = flow(&rig.proxy, 0, ALICE);
    let stored = Stored::parse(request(method, ALICE, "bob", "x", "", "").into_bytes(), &Limits::default()).unwrap();
    let key = Key::of(&rig.proxy.hashes, stored.message(), &stored.message().top_via().unwrap());
    let branches = results.iter().map(|status| {
        let target = Target { uri: None, hop: Hop::Flow(here), binding: None, phone: None, flows: Vec::new() };
        Branch { result: Some(Status(*status)), ..Branch::new(target, here, 1) }
    });
    let mut context = Context::new(here, stored, Purpose::Pass, branches.collect());
    let machine = Server::new(context.invite, false);
    context.answering = Some(Answering { machine, key, reply: here, last: Vec::new() });
    context.cancelled = cancelled;
    rig.said.clear();
    rig.proxy.nobody_answered(rig.now, &mut context);
    rig.wait(Duration::ZERO);
    assert!(!context.open());
    let sent = sent(&mut rig);
    sent.first().map(|(_, text)| text.split(' ').nth(1).unwrap().parse().unwrap())
}

#[test]
fn what_is_said_where_nobody_answered() {
    for (method, cancelled, results, status) in [
        ("INVITE", true, &[487][..], Some(487)),
        ("INVITE", true, &[408], Some(487)),
        ("INVITE", true, &[503], Some(487)),
        ("INVITE", false, &[408], Some(408)),
        ("INVITE", false, &[408, 430], Some(408)),
        ("INVITE", false, &[503, 408], Some(408)),
        ("INVITE", false, &[430], Some(430)),
        ("INVITE", false, &[480], Some(480)),
        ("INVITE", false, &[480, 430], Some(480)),
        ("INVITE", false, &[503, 430], Some(430)),
        ("INVITE", false, &[487], Some(408)),
        // To anything but an INVITE no 408 (RFC 4320).
        ("MESSAGE", false, &[408], None),
        ("MESSAGE", true, &[408], None),
        ("MESSAGE", false, &[503, 408], None),
        ("MESSAGE", false, &[430], Some(430)),
        ("MESSAGE", false, &[480, 408], Some(480)),
    ] {
        assert_eq!(nobody(method, cancelled, results), status, "{method} {cancelled} {results:?}");
    }
    for method in ["INVITE", "MESSAGE"] {
        assert!(nobody(method, false, &[503]).is_some_and(|status| status >= 500), "{method}");
    }
}

#[test]
fn the_caller_waits_while_one_branch_is_open() {
    let (mut rig, [bob, door]) = calling([BOB, DOOR], "");
    rig.receive(0, BOB, &response(&bob, "404 Not Found", "b", "", ""));
    assert_eq!(told(&mut rig), ["bob ACK"]);
    rig.receive(0, BOB, &response(&bob, "404 Not Found", "b", "", ""));
    assert_eq!(told(&mut rig), ["bob ACK"], "each copy is acknowledged");
    rig.receive(0, DOOR, &response(&door, "500 No", "d", "", ""));
    assert_eq!(told(&mut rig), ["alice 404", "door ACK"]);
}

#[test]
fn whoever_answers_a_call_that_is_over_is_told_so() {
    let (mut rig, [bob, door]) = calling([BOB, DOOR], "");
    rig.receive(0, DOOR, &response(&door, "180 Ringing", "d", CONTACT, ""));
    rig.receive(0, BOB, &response(&bob, "200 OK", "b", CONTACT, ""));
    let pass = rig.proxy.registry.calls().next().unwrap().id;
    rig.proxy.finish(pass, Cause::CallerBye);
    rig.said.clear();
    rig.receive(0, DOOR, &response(&door, "183 Progress", "d", CONTACT, ""));
    assert_eq!(dropped(&rig), [DropReason::StrayResponse]);
    assert_eq!(told(&mut rig), NOBODY);
    rig.receive(0, DOOR, &response(&door, "200 OK", "d", CONTACT, ""));
    assert_eq!(dropped(&rig), [DropReason::StrayResponse]);
    let sent = sent(&mut rig);
    assert!(only(&sent, DOOR, "BYE ").contains(ELSEWHERE));
    only(&sent, DOOR, "ACK ");
    assert_eq!(sent.len(), 2);
}

#[test]
fn a_subscription_that_is_granted_when_it_is_over_is_only_dropped() {
    let mut rig = house(&[BOB]);
    rig.receive(0, ALICE, &request("SUBSCRIBE", ALICE, "bob", "sub", "Contact: <sip:alice@192.168.1.20>\r\n", ""));
    let asked = only(&sent(&mut rig), BOB, "SUBSCRIBE ");
    let pass = rig.proxy.registry.calls().next().unwrap().id;
    rig.proxy.finish(pass, Cause::Failed);
    rig.said.clear();
    rig.receive(0, BOB, &response(&asked, "200 OK", "b", CONTACT, ""));
    assert_eq!(dropped(&rig), [DropReason::StrayResponse]);
    assert_eq!(told(&mut rig), NOBODY);
}

#[test]
fn what_refuses_a_registration_stays_within_what_a_stranger_sent() {
    for (status, heard) in [("200 OK", true), ("403 Forbidden", false)] {
        let mut rig = Rig::border();
        let phone = "198.51.100.7:40000";
        let register = request("REGISTER", phone, "alice", "r", "Contact: <sip:alice@198.51.100.7:40000>\r\n", "");
        rig.receive(1, phone, &register.replace("192.168.1.2", "a.example"));
        let asked = sent(&mut rig).into_iter().find(|(_, text)| text.starts_with("REGISTER ")).unwrap().1;
        let long = format!("Server: {}\r\n", "x".repeat(1000));
        rig.receive(0, "10.0.0.5:5060", &response(&asked, status, "r", &long, ""));
        assert_eq!(dropped(&rig).is_empty(), heard, "{status}");
        assert_eq!(sent(&mut rig).iter().any(|(to, _)| to == phone), heard, "{status}");
    }
}

#[test]
fn a_branch_that_was_challenged_alone_goes_back_as_it_is() {
    let (mut rig, [asked]) = calling([BOB], "");
    let challenge = "WWW-Authenticate: Digest realm=\"a\", nonce=\"n\"\r\n";
    rig.receive(0, BOB, &response(&asked, "401 Unauthorized", "b", challenge, ""));
    let text = only(&sent(&mut rig), ALICE, "SIP/2.0 401 ");
    assert_eq!(text.matches("WWW-Authenticate").count(), 1);
    // Only challenges are gathered, and only for a challenge.
    let (mut rig, [bob, door]) = calling([BOB, DOOR], "");
    rig.receive(0, BOB, &response(&bob, "302 Elsewhere", "b", "", ""));
    rig.receive(0, DOOR, &response(&door, "401 Unauthorized", "d", challenge, ""));
    let text = only(&sent(&mut rig), ALICE, "SIP/2.0 302 ");
    assert_eq!(text.matches("WWW-Authenticate").count(), 0);
}

#[test]
fn a_refused_offer_in_a_request_that_had_none_changes_no_media() {
    let (mut rig, [asked]) = calling([BOB], SDP);
    rig.receive(0, BOB, &response(&asked, "200 OK", "b", CONTACT, SDP));
    let answered = only(&sent(&mut rig), ALICE, "SIP/2.0 200 ");
    let contact = answered.lines().find_map(|line| line.strip_prefix("Contact: <")).unwrap().trim_end_matches('>');
    let within = |method: &str, cseq: u32, body: &str| {
        let text = request(method, ALICE, "bob", "call", "Contact: <sip:alice@192.168.1.20>\r\n", body);
        let text = text.replace("sip:bob@192.168.1.2 SIP", &format!("{contact} SIP"));
        let text = text.replace("To: <sip:bob@192.168.1.2>", "To: <sip:bob@192.168.1.2>;tag=b");
        text.replace("CSeq: 1", &format!("CSeq: {cseq}")).replace("z9hG4bKcall", &format!("z9hG4bK{cseq}"))
    };
    let key = MediaKey { pass: rig.proxy.registry.calls().next().unwrap().id.0, branch: 0 };
    rig.receive(0, ALICE, &within("UPDATE", 2, SDP));
    rig.said.clear();
    rig.receive(0, ALICE, &within("INFO", 3, ""));
    let asked = only(&sent(&mut rig), BOB, "INFO ");
    rig.receive(0, BOB, &response(&asked, "500 No", "b", "", ""));
    assert!(rig.proxy.offers.pending(key, 1, End::A), "the offer of the UPDATE still waits");
}
