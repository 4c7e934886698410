use wire::sip::Stored;

use super::*;

#[expect(clippy::disallowed_methods, reason = "virtual time has to start somewhere")]
fn start() -> Instant {
    Instant::now()
}

fn way(reliable: bool, port: u16) -> Way {
    let server = SocketAddr::from(([203, 0, 113, 1], port));
    Way { reliable, local: "192.168.7.2:40000".parse().expect("an address"), server }
}

fn stored(bytes: &[u8]) -> Stored {
    Stored::parse(bytes.to_vec(), &Limits::default()).expect("well formed")
}

/// Rewrites nothing.
fn plain(bytes: &[u8]) -> Vec<u8> {
    bytes.to_vec()
}

/// Puts the public address wherever ours stands, or back.
fn gateway(from: &'static str, to: &'static str) -> impl Fn(&[u8]) -> Vec<u8> {
    move |bytes| String::from_utf8_lossy(bytes).replace(from, to).into_bytes()
}

fn run(way: Way, there: impl Fn(&[u8]) -> Vec<u8>, back: impl Fn(&[u8]) -> Vec<u8>) -> Outcome {
    let now = start();
    let mut alg = Alg::new(now, way, [7; 32]);
    let seen = "203.0.113.7:40000".parse().expect("an address");
    for _ in 0..20 {
        match alg.poll_output().expect("it goes on") {
            Output::Done(outcome) => return outcome,
            Output::Transmit(bytes) => {
                let arrived = stored(&there(&bytes));
                if !echo::is_probe(arrived.message()) {
                    assert_eq!(arrived.message().method(), wire::sip::Method::Ack);
                    continue;
                }
                let answer = echo::answer(arrived.message(), seen, b"t").expect("an answer");
                assert!(answer.len() <= bytes.len(), "{} for {}", answer.len(), bytes.len());
                alg.receive(now, "203.0.113.9:5060".parse().expect("an address"), &answer);
                assert_eq!(alg.poll_output(), None, "a stranger answers nothing");
                alg.receive(now, way.server, &back(&answer));
            }
        }
    }
    panic!("no end");
}

#[test]
fn what_arrives_as_it_left_is_the_same() {
    for reliable in [false, true] {
        assert_eq!(run(way(reliable, 5060), plain, plain), Outcome::Same);
    }
}

#[test]
fn every_line_that_a_gateway_changes_is_named() {
    let Outcome::Changed { out, back } = run(way(false, 5060), gateway("192.168.7.2", "203.0.113.7"), plain) else {
        panic!("not seen");
    };
    assert_eq!(out, ["Via", "From", "Call-ID", "Contact", "o=", "c=", "a=rtcp"]);
    assert_eq!(back, [""; 0]);
}

#[test]
fn what_is_changed_on_the_way_back_is_seen() {
    let Outcome::Changed { out, back } =
        run(way(true, 5060), plain, gateway("received=203.0.113.7", "received=10.0.0.1"))
    else {
        panic!("not seen");
    };
    assert_eq!((out, back), (vec![], vec!["Via".to_owned()]));
}

#[test]
fn lines_that_come_and_go_and_move_are_seen() {
    let insert = gateway("Max-Forwards: 70\r\n", "Max-Forwards: 70\r\nX-Router: 1\r\n");
    let Outcome::Changed { out, .. } = run(way(false, 5060), insert, plain) else { panic!("not seen") };
    assert_eq!(out, ["a line more"]);
    let drop = gateway("Supported: path, outbound\r\n", "");
    let Outcome::Changed { out, .. } = run(way(false, 5060), drop, plain) else { panic!("not seen") };
    assert_eq!(out, ["Supported"]);
    let turn = gateway(
        "User-Agent: siplatch\r\nSupported: path, outbound\r\n",
        "Supported: path, outbound\r\nUser-Agent: siplatch\r\n",
    );
    let Outcome::Changed { out, .. } = run(way(false, 5060), turn, plain) else { panic!("not seen") };
    assert_eq!(out, ["order of lines"]);
}

#[test]
fn silence_and_other_servers_say_nothing() {
    for (reliable, copies) in [(false, 3), (true, 1)] {
        let mut alg = Alg::new(start(), way(reliable, 5060), [1; 32]);
        let mut sent = 0;
        let outcome = loop {
            match alg.poll_output() {
                Some(Output::Transmit(_)) => sent += 1,
                Some(Output::Done(outcome)) => break outcome,
                None => {
                    let due = alg.poll_timeout().expect("not over");
                    assert!(due <= start() + Duration::from_secs(10));
                    alg.handle_timeout(due);
                }
            }
        };
        assert_eq!((sent, outcome, alg.poll_timeout()), (copies, Outcome::Silent, None));
    }
    let unlike = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes).replace("X-Siplatch-Came: ", "X-Siplatch-Came: hello ");
        text.into_bytes()
    };
    assert_eq!(run(way(false, 5060), plain, unlike), Outcome::Other);
    assert_eq!(run(way(false, 5060), plain, gateway("X-Siplatch-Went", "X-Other")), Outcome::Other);
}

#[test]
fn one_that_swallows_what_it_cannot_read_is_still_proven_by_what_it_let_through() {
    let now = start();
    let mut alg = Alg::new(now, way(false, 5060), [7; 32]);
    let Some(Output::Transmit(register)) = alg.poll_output() else { panic!("nothing sent") };
    let arrived = stored(&gateway("192.168.7.2", "203.0.113.7")(&register));
    let answer = echo::answer(arrived.message(), way(false, 5060).local, b"t").expect("an answer");
    alg.receive(now, way(false, 5060).server, &answer);
    let outcome = loop {
        match alg.poll_output() {
            Some(Output::Done(outcome)) => break outcome,
            Some(Output::Transmit(_)) => {}
            None => alg.handle_timeout(alg.poll_timeout().expect("not over")),
        }
    };
    assert!(matches!(outcome, Outcome::Changed { out, .. } if out.contains(&"Via".to_owned())));
}

#[test]
fn a_verdict_needs_proof() {
    let changed = Outcome::Changed { out: vec!["Via".to_owned()], back: Vec::new() };
    let (usual, control, tcp) = (way(false, 5060), way(false, 3478), way(true, 5060));
    for (tried, verdict) in [
        (vec![], Verdict::Unknown),
        (vec![(usual, Outcome::Silent), (control, Outcome::Same)], Verdict::Unknown),
        (vec![(usual, Outcome::Other)], Verdict::Unknown),
        (vec![(usual, Outcome::Same), (tcp, Outcome::Silent)], Verdict::None),
        (vec![(usual, Outcome::Same), (tcp, changed.clone())], Verdict::Found),
        (vec![(usual, changed), (control, Outcome::Same)], Verdict::Found),
    ] {
        assert_eq!(Verdict::of(&tried), verdict, "{tried:?}");
    }
}

#[test]
fn an_answer_is_never_longer_than_what_came() {
    let short = "INVITE sip:siplatch-reflect@x SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n\
                 To: <sip:a@b>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n\r\n";
    assert!(echo::is_probe(stored(short.as_bytes()).message()));
    assert_eq!(echo::answer(stored(short.as_bytes()).message(), way(false, 1).server, b"t"), None);
    let many = short.replace("\r\n\r\n", &format!("\r\n{}\r\n", "X: y\r\n".repeat(70)));
    assert_eq!(echo::answer(stored(many.as_bytes()).message(), way(false, 1).server, b"t"), None);
    for other in ["sip:x", "sip:siplatch@x", "tel:1"] {
        let text = short.replace("sip:siplatch-reflect@x", other);
        assert!(!echo::is_probe(stored(text.as_bytes()).message()), "{other}");
    }
    // IPv6 writes the longest addresses.
    let local = "[2001:db8:1234:5678:9abc:def0:1234:5678]:40000".parse().expect("an address");
    let long = Way { reliable: true, local, server: local };
    let mut alg = Alg::new(start(), long, [1; 32]);
    let Some(Output::Transmit(bytes)) = alg.poll_output() else { panic!("nothing sent") };
    assert!(echo::answer(stored(&bytes).message(), local, b"0123456789abcdef").is_some());
}
