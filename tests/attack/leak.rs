//! S9: a callee that challenges requests within a call gets no digest to guess
//! a password from, of a phone, of the core or of ours.

use std::sync::Arc;

use peer::{Agent, Answers, World, accept, credentials};

use crate::{turn, verdict};

const ROW: &str = "S9 digest leak";

/// Accepts calls, and challenges whatever comes later.
fn rogue(realm: &'static str) -> Answers {
    let others = accept();
    Arc::new(move |message, sdp| {
        let later = message.value("To").is_some_and(|to| to.contains("tag="));
        match message.method() {
            Some("ACK") | None => Vec::new(),
            Some(_) if later => {
                let names = [
                    ("407 Proxy Authentication Required", "Proxy-Authenticate"),
                    ("401 Unauthorized", "WWW-Authenticate"),
                ];
                let (status, name) = names[usize::from(message.method() == Some("BYE"))];
                let more = format!("{name}: Digest realm=\"{realm}\", nonce=\"evil\", qop=\"auth\", algorithm=MD5\r\n");
                vec![message.answer(status, &more, "")]
            }
            Some(_) => others(message, sdp),
        }
    })
}

#[test]
fn s9_a_rogue_callee_is_not_shown_a_digest() {
    let _turn = turn();
    let mut world = World::standalone_with(rogue("siplatch"), true, "warn");
    let call = world.call();
    let mut asked = 0;
    for method in ["INVITE", "INFO", "UPDATE", "MESSAGE", "OPTIONS"] {
        let answer = world.alice.ask(world.sip, &call.within(method)).expect(method);
        assert_eq!(answer.status(), Some(403), "{answer:?}");
        asked += 1;
    }
    // Credentials that are for us end here; and a phone that is not registered is asked for them by us.
    let caller = Agent::new("alice", world.net.at(44, 5060), accept());
    let uri = format!("sip:bob@{}", world.sip);
    let draft = || caller.draft("MESSAGE", &uri);
    let challenge = caller.ask(world.sip, &draft()).unwrap();
    assert_eq!(challenge.status(), Some(407));
    let given = credentials(&challenge, "MESSAGE", &uri, "alice", "secret");
    let answer = caller.ask(world.sip, &draft().add("Proxy-Authorization", &given)).unwrap();
    assert_eq!(answer.status(), Some(200));
    let audio = call.leave();
    // Our own BYE is challenged, too.
    world.daemon.terminate();
    let shown = |agent: &Agent, what: &str| agent.heard().iter().filter(|m| m.all(what).next().is_some()).count();
    assert!(world.bob.heard().iter().any(|message| message.method() == Some("BYE")));
    assert_eq!(shown(&world.bob, "Proxy-Authorization") + shown(&world.bob, "Authorization"), 0);
    assert_eq!(world.alice.heard().iter().filter(|message| message.bytes.windows(4).any(|w| w == b"evil")).count(), 0);
    verdict(ROW, &format!("0 of {asked} challenges of a callee pass, 0 credentials reach it"), &audio);
}

#[test]
fn s9_a_phone_does_not_challenge_the_core() {
    let _turn = turn();
    let world = World::border("warn");
    let evil = Agent::new("evil", world.net.at(44, 5060), rogue("core"));
    assert_eq!(evil.register(world.sip, "example.net", "x"), 200);
    let call = peer::Call::up(&evil, world.sip, "sip:bob@example.net", &world.bob);
    let mut asked = 0;
    for method in ["INVITE", "INFO", "UPDATE", "MESSAGE", "NOTIFY"] {
        let answer = world.bob.ask(world.upstream, &call.within_back(method)).unwrap();
        assert_eq!(answer.status(), Some(403), "{answer:?}");
        asked += 1;
    }
    assert_eq!(world.bob.heard().iter().filter(|message| message.bytes.windows(4).any(|w| w == b"evil\"")).count(), 0);
    verdict(ROW, &format!("0 of {asked} challenges of a phone reach the core"), &call.hang_up());
}
