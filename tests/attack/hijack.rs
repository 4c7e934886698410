//! S8: a registration is the registrar's word about the flow that asked for
//! it. Nobody becomes alice by asking, by forging the answer or by replaying
//! hers, and her Contact aims at nobody.

use std::sync::Arc;
use std::time::Duration;

use peer::{Agent, Answers, World, accept, challenge_registrations, credentials, silent};

use crate::{turn, verdict};

const ROW: &str = "S8 hijack";
const PATIENCE: Duration = Duration::from_secs(4);

/// A core that says nothing to a REGISTER of `victim`.
fn core() -> Answers {
    let others = challenge_registrations();
    Arc::new(move |message, sdp| {
        let silent =
            message.method() == Some("REGISTER") && message.value("To").is_some_and(|to| to.contains("victim"));
        if silent { Vec::new() } else { others(message, sdp) }
    })
}

#[test]
fn s8_behind_a_registrar() {
    let _turn = turn();
    let world = World::border_with(core(), "warn");
    let call = world.call();
    let registered = world.bob.wait(PATIENCE, |m| m.method() == Some("REGISTER") && m.value("Authorization").is_some());
    let alice = registered.unwrap().uri_of("Contact").unwrap().to_owned();
    let mallory = Agent::new("alice", world.net.at(66, 5060), silent());
    let third = Agent::new("third", world.net.at(99, 5060), silent());
    let bound = || world.daemon.figure("siplatch_registrations", "");
    let before = bound();

    // Asking, with alice's own Contact and Call-ID, too.
    let mut asked = 0;
    for contact in [mallory.contact(), world.alice.contact(), format!("<{alice}>"), "*".to_owned()] {
        for expires in ["600", "0"] {
            let draft = mallory.draft("REGISTER", "sip:example.net").set("To", "<sip:alice@example.net>");
            let answer = mallory.ask(world.sip, &draft.add("Contact", &contact).add("Expires", expires)).unwrap();
            assert_eq!(answer.status(), Some(401));
            asked += 1;
        }
    }

    // Forging the answer: the branch is known, the address is not the core's.
    let draft = mallory.draft("REGISTER", "sip:example.net").set("To", "<sip:victim@example.net>");
    mallory.send(world.sip, &draft.add("Contact", &mallory.contact()).bytes());
    let victim = |message: &peer::Message| message.value("To").is_some_and(|to| to.contains("victim"));
    let forwarded = world.bob.wait(PATIENCE, victim).unwrap();
    let contact = forwarded.value("Contact").unwrap();
    let yes = forwarded.answer("200 OK", &format!("Contact: {contact};expires=3600\r\n"), "");
    let forger = Agent::stranger(world.net.ip(67));
    for _ in 0..20 {
        forger.send(world.upstream, &yes);
        mallory.send(world.sip, &yes);
    }

    // A Contact that names somebody else: what comes for it goes to who registered it.
    let phone = Agent::new("carol", world.net.at(68, 5060), accept());
    let draft = || {
        let draft = phone.draft("REGISTER", "sip:example.net").set("To", "<sip:carol@example.net>");
        draft.add("Contact", &format!("<sip:carol@{}>", third.address)).add("Expires", "600")
    };
    let challenge = phone.ask(world.sip, &draft()).unwrap();
    let given = credentials(&challenge, "REGISTER", "sip:example.net", "carol", "secret");
    let answer = phone.ask(world.sip, &draft().add("Authorization", &given)).unwrap();
    assert_eq!(answer.status(), Some(200));
    let carol = world
        .bob
        .wait(PATIENCE, |m| m.value("To").is_some_and(|to| to.contains("carol")) && m.value("Authorization").is_some());
    let carol = carol.unwrap().uri_of("Contact").unwrap().to_owned();
    for _ in 0..20 {
        let answer = world.bob.ask(world.upstream, &world.bob.draft("MESSAGE", &carol)).unwrap();
        assert_eq!(answer.status(), Some(200));
    }

    assert_eq!(bound(), before + 1.0, "carol alone");
    let answer = world.bob.ask(world.upstream, &world.bob.draft("MESSAGE", &alice)).unwrap();
    assert_eq!(answer.status(), Some(200));
    assert!(world.alice.heard().iter().any(|m| m.method() == Some("MESSAGE")));
    assert!(!mallory.heard().iter().any(|m| m.method().is_some() || m.status() == Some(200)), "{:?}", mallory.heard());
    assert_eq!(third.messages(), 0);
    let figure = format!("0 of {asked} asked and 40 forged answers bind; a third party's Contact gets 0 of 20");
    verdict(ROW, &figure, &call.hang_up());
}

#[test]
fn s8_replay_to_our_own_registrar() {
    let _turn = turn();
    let world = World::standalone(true, "warn");
    let call = world.call();
    let alice = &world.alice;
    let uri = format!("sip:{}", world.sip);
    let draft = || {
        let draft = alice.draft("REGISTER", &uri).set("To", &format!("<sip:alice@{}>", world.sip));
        draft.add("Contact", &alice.contact()).add("Expires", "600")
    };
    let challenge = alice.ask(world.sip, &draft()).unwrap();
    let given = credentials(&challenge, "REGISTER", &uri, "alice", "secret");
    let good = draft().add("Authorization", &given);
    assert_eq!(alice.ask(world.sip, &good).unwrap().status(), Some(200));
    // Heard on the way, sent from elsewhere: as it was, and as a new request.
    let mallory = Agent::new("alice", world.net.at(66, 5060), silent());
    let mut replayed = 0;
    for number in 0..50 {
        mallory.send(world.sip, &good.bytes());
        let via = format!("SIP/2.0/UDP {};rport;branch=z9hG4bKagain{number}", mallory.address);
        let again = good.clone().set("Via", &via).set("Contact", &mallory.contact());
        mallory.send(world.sip, &again.bytes());
        mallory.send(world.sip, &again.set("CSeq", &format!("{} REGISTER", 900_000 + number)).bytes());
        replayed += 3;
    }
    assert_eq!(
        world.bob.ask(world.sip, &world.bob.draft("MESSAGE", &format!("sip:alice@{}", world.sip))).unwrap().status(),
        Some(200)
    );
    assert!(world.alice.heard().iter().any(|m| m.method() == Some("MESSAGE")));
    assert!(!mallory.heard().iter().any(|m| m.method().is_some() || m.status() == Some(200)), "{:?}", mallory.heard());
    verdict(ROW, &format!("0 of {replayed} replayed REGISTER bind"), &call.hang_up());
}
