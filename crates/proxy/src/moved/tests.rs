use media::{Command, Component, Fact, StreamId};
use nat::{Advertise, Mapped, Side};

use super::*;
use crate::config::{Listener, Password, Phone, Role};
use crate::rig::house::{observed, only, response, sent};
use crate::rig::{PUBLIC, Rig, config, listener, phone, upstream};
use crate::{Input, Output};

const PROVIDER: &str = "203.0.113.5:5060";
const FIRST: &str = "198.51.100.7:41070";
const SECOND: &str = "198.51.100.99:41171";
const PHONE: &str = "192.168.1.11:5060";
const STUN: [&str; 2] = ["203.0.113.10:3478", "203.0.113.11:3478"];

fn body(ip: &str, port: u16, version: u32) -> String {
    format!("v=0\r\no=x 1 {version} IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n")
}

/// An office behind a NAT; alice has a password, or has none.
fn office(password: bool) -> Rig {
    let outer = Listener { advertise: Advertise::Stun, ..listener(Side::Outer, "192.168.1.2:5070") };
    let mut config = config(Role::Office, vec![listener(Side::Inner, "192.168.1.2:5060"), outer]);
    config.upstreams = vec![upstream("203.0.113.5")];
    let secret = password.then(|| Password("secret".to_owned()));
    config.phones = vec![Phone { password: secret, realm: Some("p.example".to_owned()), ..phone("desk", "alice") }];
    let mut rig = Rig::new(config);
    rig.proxy.handle_input(rig.now, Input::StunServers(STUN.map(|server| server.parse().unwrap()).to_vec()));
    mapped(&mut rig, FIRST);
    rig.wait(Duration::from_secs(2));
    rig
}

fn mapped(rig: &mut Rig, address: &str) {
    let mapped = Some(Mapped(address.parse().unwrap()));
    rig.proxy.handle_input(rig.now, Input::Mapped { listener: ListenerId(1), mapped });
    rig.wait(Duration::ZERO);
}

fn registers(rig: &mut Rig) {
    let text = format!(
        "REGISTER sip:p.example SIP/2.0\r\nVia: SIP/2.0/UDP {PHONE};branch=z9hG4bKr\r\nMax-Forwards: 70\r\nFrom: \
         <sip:alice@p.example>;tag=1\r\nTo: <sip:alice@p.example>\r\nCall-ID: r\r\nCSeq: 1 REGISTER\r\nContact: \
         <sip:alice@{PHONE}>\r\nExpires: 600\r\nContent-Length: 0\r\n\r\n"
    );
    rig.said.clear();
    rig.receive(0, PHONE, &text);
    let asked = only(&sent(rig), PROVIDER, "REGISTER");
    let contact = asked.lines().find(|line| line.starts_with("Contact:")).unwrap();
    rig.receive(1, PROVIDER, &response(&asked, "200 OK", "p", &format!("{contact};expires=600\r\n"), ""));
    rig.said.clear();
}

/// A request of the phone in its call; what goes to the provider.
fn phone_says(rig: &mut Rig, method: &str, cseq: u32, more: &str, body: &str) -> String {
    let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    let text = format!(
        "{method} sip:bob@p.example SIP/2.0\r\nVia: SIP/2.0/UDP {PHONE};branch=z9hG4bK{method}{cseq}\r\nMax-Forwards: \
         70\r\nFrom: <sip:alice@p.example>;tag=a\r\nTo: <sip:bob@p.example>{}\r\nCall-ID: c\r\nCSeq: {cseq} \
         {method}\r\nContact: <sip:alice@{PHONE}>\r\n{more}{kind}Content-Length: {}\r\n\r\n{body}",
        if cseq > 1 || method != "INVITE" { ";tag=b" } else { "" },
        body.len()
    );
    rig.receive(0, PHONE, &text);
    only(&sent(rig), PROVIDER, method)
}

const FAR_CONTACT: &str = "Contact: <sip:bob@203.0.113.5>\r\n";

/// Alice's call is up, with header lines of its 200.
fn called(rig: &mut Rig, more: &str) {
    registers(rig);
    let asked = phone_says(rig, "INVITE", 1, "Supported: timer\r\n", &body("192.168.1.11", 4000, 41));
    let answer = body("203.0.113.80", 6000, 1);
    rig.receive(1, PROVIDER, &response(&asked, "200 OK", "b", &format!("{FAR_CONTACT}{more}"), &answer));
    rig.said.clear();
    phone_says(rig, "ACK", 1, "", "");
    rig.said.clear();
}

/// The sockets that were told to ask, with their transactions, and whom.
fn asked(rig: &mut Rig) -> Vec<(StreamId, SocketAddr)> {
    let said = std::mem::take(&mut rig.said);
    let asked = said.into_iter().filter_map(|output| match output {
        Output::Media(Command::Ask { stream, end: End::B, server, .. }) => Some((stream, server)),
        _ => None,
    });
    asked.collect()
}

/// STUN has seen the new address, and the sockets of the call have found theirs.
fn moves(rig: &mut Rig) -> String {
    mapped(rig, SECOND);
    rig.wait(SETTLE);
    let (stream, server) = asked(rig)[0];
    assert_eq!(server.to_string(), STUN[0]);
    found(rig, stream);
    only(&sent(rig), PROVIDER, "INVITE")
}

fn found(rig: &mut Rig, stream: StreamId) {
    for (component, port) in [(Component::Rtp, 50_100), (Component::Rtcp, 50_200)] {
        let mapped = Mapped(SocketAddr::new(SECOND.parse::<SocketAddr>().unwrap().ip(), port));
        rig.proxy.handle_input(rig.now, Input::Fact(Fact::Mapped { stream, end: End::B, component, mapped }));
    }
    rig.wait(Duration::ZERO);
}

fn outcomes(rig: &Rig) -> Vec<Renewed> {
    let told = observed(rig).into_iter().filter_map(|observed| match observed {
        Observed::CallTold { outcome, .. } => Some(*outcome),
        _ => None,
    });
    told.collect()
}

fn cseq(text: &str) -> &str {
    text.lines().find_map(|line| line.strip_prefix("CSeq: ")).unwrap()
}

/// Nothing of it reaches the phone.
fn to_phone(sent: &[(String, String)]) -> usize {
    sent.iter().filter(|(at, _)| at == PHONE).count()
}

#[test]
fn the_far_end_is_told_and_the_phone_hears_nothing_of_it() {
    let mut rig = office(false);
    called(&mut rig, "Session-Expires: 600;refresher=uac\r\nRequire: timer\r\n");
    let told = moves(&mut rig);
    assert!(told.starts_with("INVITE sip:bob@203.0.113.5 SIP/2.0\r\n"), "{told}");
    assert!(told.contains("Contact: <sip:alice@198.51.100.99:41171;sl="), "{told}");
    assert!(told.contains("From: <sip:alice@p.example>;tag=a\r\n") && cseq(&told) == "2 INVITE", "{told}");
    assert!(told.contains("Supported: timer\r\nSession-Expires: 600;refresher=uac\r\n"), "{told}");
    assert!(told.contains("o=x 1 42 IN IP4 198.51.100.99\r\n") && told.contains("m=audio 50100 "), "{told}");
    assert!(told.contains("a=rtcp:50200 IN IP4 198.51.100.99\r\n"), "{told}");
    let answer = response(&told, "200 OK", "b", FAR_CONTACT, &body("203.0.113.80", 6000, 1));
    rig.said.clear();
    rig.receive(1, PROVIDER, &answer);
    assert_eq!(outcomes(&rig), [Renewed::Confirmed]);
    assert!(rig.said.iter().any(|o| matches!(o, Output::Media(Command::Update { rearm: true, .. }))));
    let acknowledged = sent(&mut rig);
    let ack = only(&acknowledged, PROVIDER, "ACK sip:bob@203.0.113.5 ");
    assert_eq!((cseq(&ack), to_phone(&acknowledged)), ("2 ACK", 0));
    // A copy of the answer gets the same ACK, and changes nothing.
    rig.receive(1, PROVIDER, &answer);
    assert_eq!((outcomes(&rig), only(&sent(&mut rig), PROVIDER, "ACK")), (Vec::new(), ack));
    // What the phone says next is above ours, and its answer as the phone counts.
    let hold = phone_says(&mut rig, "INVITE", 2, "", &body("192.168.1.11", 4000, 42));
    assert_eq!(cseq(&hold), "3 INVITE");
    assert!(hold.contains("o=x 1 43 IN IP4 198.51.100.99\r\n"), "{hold}");
    rig.receive(1, PROVIDER, &response(&hold, "200 OK", "b", FAR_CONTACT, &body("203.0.113.80", 6000, 2)));
    assert_eq!(cseq(&only(&sent(&mut rig), PHONE, "SIP/2.0 200")), "2 INVITE");
    assert_eq!(cseq(&phone_says(&mut rig, "ACK", 2, "", "")), "3 ACK");
    assert_eq!(cseq(&phone_says(&mut rig, "BYE", 3, "", "")), "4 BYE");
}

#[test]
fn what_is_not_heard_of_is_guessed() {
    let mut rig = office(false);
    called(&mut rig, "");
    rig.said.clear();
    mapped(&mut rig, SECOND);
    rig.wait(Duration::from_millis(499));
    assert_eq!(asked(&mut rig).len(), 0, "the provider may know better");
    rig.wait(Duration::from_millis(1));
    rig.wait(ASK_AGAIN * u32::from(MOST_ASKS) - Duration::from_millis(1));
    let said = std::mem::take(&mut rig.said);
    let is_invite = |o: &&Output| matches!(o, Output::Transmit(t) if t.bytes.starts_with(b"INVITE"));
    assert_eq!(said.iter().filter(is_invite).count(), 0);
    rig.said = said;
    let asked = asked(&mut rig);
    assert_eq!(asked.len(), usize::from(MOST_ASKS));
    assert!(asked.iter().any(|(_, server)| server.to_string() == STUN[1]), "the other server is asked, too");
    rig.wait(Duration::from_millis(1));
    let told = only(&sent(&mut rig), PROVIDER, "INVITE");
    assert!(told.contains("c=IN IP4 198.51.100.99\r\nt=0 0\r\nm=audio 3"), "{told}");
}

#[test]
fn a_challenge_is_answered_once_with_the_password_or_given_up() {
    for password in [true, false] {
        let mut rig = office(password);
        called(&mut rig, "");
        let told = moves(&mut rig);
        let challenge = "Proxy-Authenticate: Digest realm=\"p.example\", nonce=\"n\", qop=\"auth\"\r\n";
        let refuse = |told: &str| response(told, "407 Proxy Authentication Required", "b", challenge, "");
        rig.receive(1, PROVIDER, &refuse(&told));
        if password {
            let all = sent(&mut rig);
            assert_eq!(cseq(&only(&all, PROVIDER, "ACK")), "2 ACK");
            let again = only(&all, PROVIDER, "INVITE");
            assert!(again.contains("Proxy-Authorization: Digest username=\"alice\", realm=\"p.example\""), "{again}");
            assert!(cseq(&again) == "3 INVITE" && again.contains("o=x 1 43 "), "{again}");
            rig.receive(1, PROVIDER, &refuse(&again));
        }
        assert_eq!(outcomes(&rig), [Renewed::Refused], "{password}");
        let all = sent(&mut rig);
        assert_eq!((all.len(), to_phone(&all)), (1, 0), "the ACK alone: {all:?}");
        // The call stays, and the numbers are right.
        let expected = if password { "4 BYE" } else { "3 BYE" };
        assert_eq!(cseq(&phone_says(&mut rig, "BYE", 2, "", "")), expected);
    }
}

#[test]
fn glare_is_settled_by_waiting() {
    let mut rig = office(false);
    called(&mut rig, "");
    let told = moves(&mut rig);
    // Either end re-INVITEs meanwhile.
    let far = format!(
        "INVITE sip:alice@{SECOND} SIP/2.0\r\nVia: SIP/2.0/UDP {PROVIDER};branch=z9hG4bKf\r\nMax-Forwards: 70\r\nFrom: \
         <sip:bob@p.example>;tag=b\r\nTo: <sip:alice@p.example>;tag=a\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n{FAR_CONTACT}\
         Content-Length: 0\r\n\r\n"
    );
    rig.receive(1, PROVIDER, &far);
    only(&sent(&mut rig), PROVIDER, "SIP/2.0 491 ");
    rig.receive(1, PROVIDER, &response(&told, "491 Request Pending", "b", "", ""));
    assert_eq!(outcomes(&rig), []);
    rig.wait(Duration::from_millis(2099));
    assert!(!sent(&mut rig).iter().any(|(_, text)| text.starts_with("INVITE")), "whose Call-ID it is waits longer");
    rig.wait(Duration::from_millis(1901));
    let (_, again) = sent(&mut rig).into_iter().find(|(_, text)| text.starts_with("INVITE")).unwrap();
    assert_eq!(cseq(&again), "3 INVITE");
    rig.receive(1, PROVIDER, &response(&again, "200 OK", "b", FAR_CONTACT, &body("203.0.113.80", 6000, 1)));
    assert_eq!(outcomes(&rig), [Renewed::Confirmed]);
    // From now on it passes again.
    rig.said.clear();
    rig.receive(1, PROVIDER, &far.replace("z9hG4bKf", "z9hG4bKg").replace("CSeq: 1", "CSeq: 2"));
    only(&sent(&mut rig), PHONE, "INVITE");
}

#[test]
fn a_transaction_of_the_ends_is_waited_for() {
    let mut rig = office(false);
    called(&mut rig, "");
    let hold = phone_says(&mut rig, "INVITE", 2, "", &body("192.168.1.11", 4000, 42));
    mapped(&mut rig, SECOND);
    rig.wait(SETTLE);
    let stream = asked(&mut rig)[0].0;
    found(&mut rig, stream);
    rig.wait(Duration::from_millis(300));
    assert!(!sent(&mut rig).iter().any(|(_, text)| text.contains("o=x 1 43 ")));
    rig.receive(1, PROVIDER, &response(&hold, "200 OK", "b", FAR_CONTACT, &body("203.0.113.80", 6000, 2)));
    rig.said.clear();
    assert_eq!(cseq(&phone_says(&mut rig, "ACK", 2, "", "")), "2 ACK");
    rig.wait(BUSY);
    let told = only(&sent(&mut rig), PROVIDER, "INVITE");
    assert!(cseq(&told) == "3 INVITE" && told.contains("o=x 1 43 "), "{told}");
}

#[test]
fn only_481_ends_the_call() {
    for (status, ended) in [("481 Gone", true), ("488 Not Acceptable Here", false), ("603 Decline", false)] {
        let mut rig = office(false);
        called(&mut rig, "");
        let told = moves(&mut rig);
        rig.receive(1, PROVIDER, &response(&told, status, "b", "", ""));
        let all = sent(&mut rig);
        assert_eq!(all.iter().any(|(at, text)| at == PHONE && text.starts_with("BYE")), ended, "{status}");
        assert_eq!(rig.proxy.work().calls, usize::from(!ended), "{status}");
    }
}

#[test]
fn one_that_does_not_answer_is_told_again_and_then_left_alone() {
    let mut rig = office(false);
    called(&mut rig, "");
    moves(&mut rig);
    let mut told = Vec::new();
    for _ in 0..MOST_TRIES + 1 {
        rig.wait(Duration::from_secs(35));
        told.extend(outcomes(&rig));
        rig.said.clear();
    }
    assert_eq!(told, [Renewed::Unanswered]);
    assert_eq!((rig.proxy.work().calls, rig.proxy.moves.ends.len()), (1, 0));
}

#[test]
fn an_address_that_changes_again_is_told_after_the_answer() {
    for refused in [false, true] {
        let mut rig = office(false);
        called(&mut rig, "");
        let first = moves(&mut rig);
        mapped(&mut rig, "198.51.100.150:41272");
        rig.wait(SETTLE + ASK_AGAIN * u32::from(MOST_ASKS));
        let of_ours = |text: &str| text.starts_with("INVITE") && text.contains("198.51.100.150");
        assert!(!sent(&mut rig).iter().any(|(_, text)| of_ours(text)), "one at a time");
        let answer = match refused {
            true => response(&first, "488 Not Acceptable Here", "b", "", ""),
            false => response(&first, "200 OK", "b", FAR_CONTACT, &body("203.0.113.80", 6000, 1)),
        };
        rig.receive(1, PROVIDER, &answer);
        assert_eq!(outcomes(&rig), [], "what it told is old");
        rig.said.clear();
        rig.wait(BUSY);
        let told = only(&sent(&mut rig), PROVIDER, "INVITE");
        assert!(cseq(&told) == "3 INVITE" && told.contains("Contact: <sip:alice@198.51.100.150:41272;"), "{told}");
        assert!(told.contains("o=x 1 43 IN IP4 198.51.100.150"), "{told}");
        rig.receive(1, PROVIDER, &response(&told, "200 OK", "b", FAR_CONTACT, &body("203.0.113.80", 6000, 1)));
        assert_eq!(outcomes(&rig), [Renewed::Confirmed]);
    }
}

#[test]
fn a_call_that_ends_takes_it_along() {
    let mut rig = office(false);
    called(&mut rig, "");
    let told = moves(&mut rig);
    phone_says(&mut rig, "BYE", 2, "", "");
    // A 2xx that comes too late is acknowledged all the same.
    rig.wait(Duration::from_secs(40));
    assert_eq!((rig.proxy.moves.ends.len(), rig.proxy.moves.calls.len()), (0, 0));
    let mut rig = office(false);
    called(&mut rig, "");
    let again = moves(&mut rig);
    assert_eq!(cseq(&told), cseq(&again));
    let bye = phone_says(&mut rig, "BYE", 2, "", "");
    rig.receive(1, PROVIDER, &response(&bye, "200 OK", "b", "", ""));
    rig.said.clear();
    rig.receive(1, PROVIDER, &response(&again, "200 OK", "b", FAR_CONTACT, &body("203.0.113.80", 6000, 1)));
    only(&sent(&mut rig), PROVIDER, "ACK");
}

#[test]
fn a_call_without_media_of_ours_is_told_by_update() {
    let mut rig = office(false);
    registers(&mut rig);
    let asked = phone_says(&mut rig, "INVITE", 1, "", "");
    rig.receive(1, PROVIDER, &response(&asked, "200 OK", "b", FAR_CONTACT, ""));
    phone_says(&mut rig, "ACK", 1, "", "");
    rig.said.clear();
    mapped(&mut rig, SECOND);
    rig.wait(SETTLE);
    let told = only(&sent(&mut rig), PROVIDER, "UPDATE");
    assert!(told.contains("Contact: <sip:alice@198.51.100.99:41171;sl=") && told.ends_with("\r\n\r\n"), "{told}");
    rig.receive(1, PROVIDER, &response(&told, "405 Method Not Allowed", "b", "", ""));
    assert_eq!(outcomes(&rig), [Renewed::Refused]);
    assert_eq!(sent(&mut rig), []);
}

#[test]
fn an_address_that_comes_to_be_known_moves_nothing() {
    assert_eq!(PUBLIC, [198, 51, 100, 7]);
    let mut rig = office(false);
    called(&mut rig, "");
    mapped(&mut rig, FIRST);
    rig.wait(Duration::from_secs(3));
    assert_eq!(asked(&mut rig), []);
}
