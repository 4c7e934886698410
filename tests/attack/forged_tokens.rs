//! S6: a token with any bit changed, of another key, too long or empty opens
//! nothing, whoever shows it.

use std::time::Duration;

use peer::{Agent, World};

use crate::{scaled, turn, verdict};

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// Every token that differs by one bit, then others.
fn forged(token: &str, random: usize) -> Vec<String> {
    let mut all = Vec::new();
    for at in 0..token.len() {
        let value = ALPHABET.iter().position(|c| *c == token.as_bytes()[at]).unwrap();
        for bit in 0..5 {
            let mut other = token.as_bytes().to_vec();
            other[at] = ALPHABET[value ^ (1 << bit)];
            all.push(String::from_utf8(other).unwrap());
        }
    }
    assert_eq!(all.len(), 160);
    // Tokens of another key: the same thing named, with a MAC that is only guessed.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..random {
        let mut other = token.as_bytes()[..17].to_vec();
        while other.len() < 32 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            other.push(ALPHABET[(state >> 59) as usize]);
        }
        all.push(String::from_utf8(other).unwrap());
    }
    all.extend([format!("{token}a"), token[..31].to_owned(), token.repeat(2), "a".repeat(20_000), String::new()]);
    all.extend(["%61".repeat(32), format!("{}%0", &token[..31]), format!("{}\u{fffd}", &token[..29])]);
    all
}

#[test]
fn s6_forged_tokens() {
    let _turn = turn();
    let world = World::border("warn");
    let call = world.call();
    let registered = world.bob.wait(Duration::from_secs(1), |message| message.method() == Some("REGISTER")).unwrap();
    let contact = registered.uri_of("Contact").unwrap().to_owned();
    let token = contact.split("sl=").nth(1).unwrap().to_owned();
    let route = call.answered.uri_of("Record-Route").unwrap().to_owned();
    let pass = route.trim_start_matches("sip:").split('@').next().unwrap().to_owned();
    let sources = [&world.bob, &Agent::stranger(world.net.ip(50)), &Agent::stranger(world.net.ip(51))];
    let mut shown = 0;
    for token in forged(&token, scaled(3000)) {
        let uri = format!("sip:alice@{};sl={token}", world.upstream);
        for source in sources {
            source.send(world.upstream, &source.draft("MESSAGE", &uri).bytes());
            shown += 1;
        }
        if shown % 30 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    for token in forged(&pass, scaled(3000)) {
        let route = format!("<sip:{token}@{};lr>", world.upstream);
        for (source, to) in [(&sources[1], world.upstream), (&sources[2], world.sip)] {
            let draft = source.draft("MESSAGE", "sip:alice@example.net").add("Route", &route);
            source.send(to, &draft.bytes());
            shown += 1;
        }
        if shown % 30 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    // The true one opens: it is the last to come, and the only one.
    let answer = world.bob.ask(world.upstream, &world.bob.draft("MESSAGE", &contact)).unwrap();
    assert_eq!(answer.status(), Some(200), "{answer:?}");
    let messages = |agent: &Agent| agent.heard().iter().filter(|m| m.method() == Some("MESSAGE")).count();
    assert_eq!((messages(&world.alice), messages(&world.bob)), (1, 0));
    verdict("S6 forged tokens", &format!("0 of {shown} accepted, the true one is"), &call.hang_up());
}
