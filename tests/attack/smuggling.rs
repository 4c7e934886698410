//! S4: a header field is what its name says, however it is spelled: white
//! space before the colon, folded, compact, in capitals, twice.

use std::time::Duration;

use peer::{Agent, Draft, Message, World, accept, credentials, silent};

use crate::{turn, verdict};

const ROW: &str = "S4 smuggling";
/// What must not leave: the phone's own address, in the fields that we rewrite.
const PRIVATE: &str = "192.168.77.77";

/// Spellings of one field, to be written between other lines.
fn spellings(long: &str, compact: Option<&str>, value: &str) -> Vec<String> {
    let mut names = vec![long.to_owned(), long.to_uppercase(), long.to_lowercase()];
    names.extend(compact.map(str::to_owned));
    let mut all = Vec::new();
    for name in names {
        all.push(format!("{name}: {value}\r\n"));
        all.push(format!("{name} : {value}\r\n"));
        all.push(format!("{name}\t: {value}\r\n"));
        all.push(format!("{name} \t :{value}\r\n"));
        all.push(format!("{name}:\r\n {value}\r\n"));
        all.push(format!("{name}:\r\n\t \r\n {value}\r\n"));
        all.push(format!("{name}\t:\r\n\t{value}  \r\n"));
    }
    all
}

/// The message with lines put in above the last one.
fn with(draft: &Draft, lines: &str) -> Vec<u8> {
    let text = String::from_utf8(draft.bytes()).unwrap();
    let (head, rest) = text.split_once("Content-Length:").unwrap();
    format!("{head}{lines}Content-Length:{rest}").into_bytes()
}

/// Sends it and waits for its final answer.
fn ask(agent: &Agent, world: &World, draft: &Draft, lines: &str) -> Option<Message> {
    agent.send(world.sip, &with(draft, lines));
    let branch = draft.value("Via").unwrap().split("branch=").nth(1).unwrap().to_owned();
    let wanted = |message: &Message| message.status().is_some_and(|s| s >= 200) && message.branch() == branch;
    agent.wait(Duration::from_secs(4), wanted)
}

#[test]
fn s4_header_smuggling() {
    let _turn = turn();
    let world = World::border("warn");
    let call = world.call();
    let third = Agent::new("third", world.net.at(99, 5060), silent());
    let (alice, core) = (&world.alice, &world.bob);
    let mut tried = 0;

    // Our rule for Contact holds for every spelling, and for each of several.
    let contact = format!("<sip:alice@{PRIVATE}:5060>");
    let mut contacts = spellings("Contact", Some("m"), &contact);
    contacts.push(format!("Contact: {contact}, {contact};q=0.5\r\n"));
    contacts.push(format!("m: {contact}\r\nContact\t: {contact};q=0.5\r\n"));
    for lines in &contacts {
        for method in ["REGISTER", "MESSAGE"] {
            core.forget();
            let draft = alice.draft(method, "sip:example.net").set("To", "<sip:alice2@example.net>");
            let answer = ask(alice, &world, &draft, lines).expect(lines);
            assert_eq!(answer.status(), Some(200), "{lines:?}");
            let id = draft.value("Call-ID");
            let seen = core.wait(Duration::from_secs(4), |m| m.method() == Some(method) && m.value("Call-ID") == id);
            let seen = seen.unwrap();
            assert!(seen.all("Contact").next().is_some(), "{lines:?}");
            assert!(!String::from_utf8_lossy(&seen.bytes).contains(PRIVATE), "{lines:?}: {seen:?}");
            tried += 1;
        }
    }

    // What we refuse, we refuse in every spelling.
    let refused = [
        ("Max-Forwards", None, "0", 483),
        ("Proxy-Require", None, "smuggled", 420),
        ("Max-Forwards", None, "many", 400),
        ("Content-Length", Some("l"), "700", 400),
        ("Content-Length", Some("l"), "-1", 400),
        ("CSeq", None, "1 INVITE", 400),
        ("Contact", Some("m"), "\"unbalanced <sip:a@b>", 400),
    ];
    for (long, compact, value, status) in refused {
        for lines in spellings(long, compact, value) {
            let base = alice.draft("MESSAGE", "sip:bob@example.net");
            let base = if long == "Content-Length" { base } else { base.without(long) };
            // The fault may stand above or below the true field.
            let answer = ask(alice, &world, &base, &lines).unwrap_or_else(|| panic!("{lines:?}"));
            assert_eq!(answer.status(), Some(status), "{lines:?}");
            tried += 1;
        }
    }
    for (long, compact, value) in [
        ("Call-ID", Some("i"), "another@call"),
        ("CSeq", None, "7 MESSAGE"),
        ("From", Some("f"), "<sip:mallory@example.net>;tag=x"),
        ("To", Some("t"), "<sip:mallory@example.net>"),
        ("Max-Forwards", None, "12"),
    ] {
        for lines in spellings(long, compact, value) {
            let answer = ask(alice, &world, &alice.draft("MESSAGE", "sip:bob@example.net"), &lines).expect(&lines);
            assert_eq!(answer.status(), Some(400), "{lines:?}");
            tried += 1;
        }
    }

    // Route is read in every spelling, and leads nowhere else.
    for lines in spellings("Route", None, &format!("<sip:{};lr>, <sip:{};lr>", world.sip, third.address)) {
        core.forget();
        ask(alice, &world, &alice.draft("MESSAGE", "sip:bob@example.net"), &lines).expect(&lines);
        let seen = core.heard();
        let routes: Vec<&str> = seen.iter().flat_map(|message| message.all("Route")).collect();
        assert!(!routes.iter().any(|route| route.contains(&world.sip.to_string())), "{lines:?}: {routes:?}");
        tried += 1;
    }
    assert_eq!(third.messages(), 0);
    verdict(ROW, &format!("{tried} of {tried} spellings read as what they name"), &call.hang_up());
}

#[test]
fn s4_credentials_for_us_stay_here() {
    let _turn = turn();
    let world = World::standalone(true, "warn");
    let call = world.call();
    let caller = Agent::new("alice", world.net.at(44, 5060), accept());
    let uri = format!("sip:bob@{}", world.sip);
    let mut tried = 0;
    for number in 0..spellings("Proxy-Authorization", None, "").len() {
        world.bob.forget();
        let draft = || caller.draft("MESSAGE", &uri);
        let challenge = caller.ask(world.sip, &draft()).unwrap();
        assert_eq!(challenge.status(), Some(407));
        let given = credentials(&challenge, "MESSAGE", &uri, "alice", "secret");
        let lines = &spellings("Proxy-Authorization", None, &given)[number];
        let answer = ask(&caller, &world, &draft(), lines).expect(lines);
        assert_eq!(answer.status(), Some(200), "{lines:?}");
        let seen = world.bob.heard();
        assert!(!seen.iter().any(|m| String::from_utf8_lossy(&m.bytes).contains("siplatch\"")), "{lines:?}");
        tried += 1;
    }
    verdict(ROW, &format!("{tried} spellings of credentials for us: none is shown on"), &call.hang_up());
}
