use wire::sip::Limits;

use super::*;
use crate::Output;
use crate::rig::Rig;

fn parsed(text: &str) -> Stored {
    Stored::parse(text.replace('\n', "\r\n").into_bytes(), &Limits::default()).expect(text)
}

#[test]
fn what_of_a_200_is_said_again() {
    let head = "SIP/2.0 200 OK\nVia: SIP/2.0/UDP a\nTo: <sip:a@b>;tag=1\nCSeq: 1 REGISTER\nDate: today\n";
    let kept = "Contact: <sip:a@c>;expires=60\nService-Route: <sip:s;lr>\np-associated-uri: <sip:n@b>\n";
    let other = "Authentication-Info: nextnonce=\"1\"\nServer: x\n";
    let answer = parsed(&format!("{head}{kept}{other}\n"));
    assert_eq!(lines(&answer), kept.replace('\n', "\r\n").into_bytes());
    let long = format!("{head}Contact: <sip:{}@c>\n\n", "a".repeat(LONGEST));
    assert_eq!(lines(&parsed(&long)), b"");
}

#[test]
fn parameters_of_credentials() {
    let value = b"Digest realm=\"r, 1\",username = \"alice\" ,uri=\"sip:r\",nc=00000001";
    assert_eq!(credential(value, "username"), Some(&b"\"alice\""[..]));
    assert_eq!(credential(value, "Realm"), Some(&b"\"r, 1\""[..]));
    assert_eq!(credential(b"Digest", "realm"), None);
}

const CORE: &str = "10.0.0.5:5060";
const HERE: &str = "198.51.100.7:40000";

/// A REGISTER of a phone behind a NAT.
fn refresh(cseq: u32) -> String {
    format!(
        "REGISTER sip:a.example SIP/2.0\r\nVia: SIP/2.0/UDP 192.168.1.10:5060;branch=z9hG4bKr{cseq}\r\nMax-Forwards: \
         70\r\nFrom: <sip:alice@a.example>;tag=1\r\nTo: <sip:alice@a.example>\r\nCall-ID: alice\r\nCSeq: {cseq} \
         REGISTER\r\nContact: <sip:alice@192.168.1.10:5060>\r\nSupported: gruu\r\nAuthorization: Digest \
         username=\"alice\", realm=\"r\"\r\nExpires: 3600\r\nContent-Length: 0\r\n\r\n"
    )
}

/// A border in which that phone is registered for an hour.
fn registered() -> Rig {
    let mut rig = Rig::border();
    rig.said.clear();
    rig.receive(1, HERE, &refresh(1));
    confirm(&mut rig, "Expires: 3600\r\n");
    rig
}

/// The core says yes to the REGISTER that it was sent.
fn confirm(rig: &mut Rig, more: &str) {
    let asked = rig.sent(CORE).into_iter().find(|text| text.starts_with("REGISTER")).expect("it goes on");
    let kept =
        |line: &&str| ["Via:", "From:", "To:", "Call-ID:", "CSeq:", "Contact:"].iter().any(|n| line.starts_with(n));
    let lines: String = asked.lines().filter(kept).map(|line| format!("{line}\r\n")).collect();
    rig.receive(0, CORE, &format!("SIP/2.0 200 OK\r\n{lines}{more}Content-Length: 0\r\n\r\n"));
}

/// True when a REGISTER is answered here, false when it goes on.
fn absorbed(rig: &mut Rig, from: &str, text: &str) -> bool {
    rig.said.clear();
    rig.receive(1, from, text);
    let on = rig.said.iter().any(|o| matches!(o, Output::Transmit(t) if t.bytes.starts_with(b"REGISTER")));
    let answered = rig.said.iter().any(|o| matches!(o, Output::Transmit(t) if t.bytes.starts_with(b"SIP/2.0 200 ")));
    assert_ne!(on, answered, "one of the two");
    let counted = Output::Observed(Observed::Refresh { absorbed: answered });
    assert!(rig.said.contains(&counted), "{:?}", rig.said);
    answered
}

/// What was checked of the REGISTER that was confirmed is not checked again of its copy, but of everything else it is.
#[test]
fn only_a_copy_is_answered_without_being_read_again() {
    let copied = |rig: &mut Rig, text: &str| {
        let stored = parsed(&text.replace("\r\n", "\n"));
        let message = stored.message();
        let again = rig.proxy.sign_again(message).expect("it has a branch and a number");
        let binding = rig.proxy.registry.bindings().next().expect("registered");
        let upstream = binding.upstream.as_deref().expect("by the core");
        rig.proxy.kept_again(Some(again), rig.proxy.own(*upstream)) == binding.confirmed.again
    };
    let mut rig = registered();
    assert!(copied(&mut rig, &refresh(2)), "another branch and number");
    assert!(absorbed(&mut rig, HERE, &refresh(2)));
    for (part, other) in [
        ("Max-Forwards: 70", "Max-Forwards: 0"),
        ("REGISTER sip", "REGISTER SIP"),
        ("Content-Length: 0\r\n", "Proxy-Require: x\r\nContent-Length: 0\r\n"),
        ("192.168.1.10:5060;branch", "192.168.1.10:5062;branch"),
        ("branch=z9hG4bKr3", "branch=z9hG4bKr3;x"),
    ] {
        assert!(!copied(&mut rig, &refresh(3).replace(part, other)), "{other}");
    }
    let config = rig.proxy.config.clone();
    rig.proxy.handle_input(rig.now, crate::Input::Reconfigure(config));
    assert!(!copied(&mut rig, &refresh(3)), "another configuration");
}

#[test]
fn only_what_changes_nothing_is_answered_here() {
    for (part, other, wanted) in [
        ("", "", true),
        ("Max-Forwards: 70", "Max-Forwards: 60", true),
        ("CSeq: 2", "CSeq: 1", false),
        ("Call-ID: alice", "Call-ID: other", false),
        ("From: <sip:alice", "From: <sip:other", false),
        ("sip:a.example SIP", "sip:A.example SIP", false),
        ("<sip:alice@192.168.1.10:5060>", "<sip:alice@192.168.1.10:5062>", false),
        ("<sip:alice@192.168.1.10:5060>", "<sip:alice@192.168.1.10:5060>, <sip:alice@192.168.1.11>", false),
        ("<sip:alice@192.168.1.10:5060>", "<sip:alice@192.168.1.10:5060>;expires=0", false),
        ("Expires: 3600", "Expires: 1800", false),
        ("Supported: gruu", "Supported: path", false),
        ("Supported: gruu\r\n", "", false),
        ("Supported: gruu", "Supported: gruu\r\nRequire: gruu", false),
        ("username=\"alice\"", "username=\"other\"", false),
        ("realm=\"r\"", "realm=\"s\"", false),
        ("Authorization: Digest username=\"alice\", realm=\"r\"\r\n", "", true),
    ] {
        let mut rig = registered();
        let text = refresh(2);
        assert!(text.contains(part), "{part}");
        assert_eq!(absorbed(&mut rig, HERE, &text.replace(part, other)), wanted, "{part} {other}");
    }
    assert!(!absorbed(&mut registered(), "198.51.100.7:40001", &refresh(2)), "another flow");
}

#[test]
fn refreshes_end_here_until_half_of_what_was_granted_is_over() {
    let mut rig = registered();
    let began = rig.now;
    let (mut cseq, mut last) = (1, Duration::ZERO);
    loop {
        rig.wait(Duration::from_secs(50));
        cseq += 1;
        if !absorbed(&mut rig, HERE, &refresh(cseq)) {
            break;
        }
        last = rig.now - began;
    }
    assert_eq!(last, Duration::from_secs(1750), "at 1,800 s half is left, not more");
}

#[test]
fn a_short_grant_leaves_nothing_to_absorb() {
    for (granted, wanted) in [(60, false), (92, false), (93, true), (400, true)] {
        let mut rig = Rig::border();
        rig.said.clear();
        rig.receive(1, HERE, &refresh(1));
        confirm(&mut rig, &format!("Expires: {granted}\r\n"));
        assert_eq!(absorbed(&mut rig, HERE, &refresh(2)), wanted, "{granted}");
    }
}

#[test]
fn what_the_registrar_hears_of_goes_on_when_it_is_down() {
    let mut rig = registered();
    let flow = crate::rig::flow(&rig.proxy, 0, CORE);
    rig.proxy.hop_failed(rig.now, flow, crate::upstream::Failure::Unsent);
    assert!(!absorbed(&mut rig, HERE, &refresh(2)));
}

#[test]
fn a_phone_that_registers_no_more_stays_while_it_answers() {
    let mut rig = registered();
    let id = rig.proxy.registry.bindings().next().unwrap().id;
    rig.wait(Duration::from_secs(91));
    assert!(rig.proxy.registry.binding(id).is_some(), "60 s, and the time of its retransmissions");
    rig.wait(Duration::from_secs(2));
    assert!(rig.proxy.registry.binding(id).is_none());
    for (answered, late, stays) in
        [(vec![true], 0, true), (vec![true, false], 0, false), (vec![], 0, false), (vec![true], 3600, false)]
    {
        let mut rig = registered();
        let id = rig.proxy.registry.bindings().next().unwrap().id;
        for answered in answered {
            rig.proxy.registry.pinged(id, answered);
        }
        let due = rig.now + Duration::from_secs(92 + late);
        rig.proxy.binding_due(due, id);
        let expires = rig.proxy.registry.binding(id).map(|b| b.expires);
        assert_eq!(expires, stays.then_some(due + Duration::from_secs(92)));
    }
}
