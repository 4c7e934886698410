use std::time::Duration;

use wire::sip::Stored;

use super::*;
use crate::rig::Rig;
use crate::rig::house::{ALICE, BOB, DOOR, SDP, house, invite, only, request, response, sent, told};

const CONTACT: &str = "Contact: <sip:b@192.168.1.21>\r\n";
const NOBODY: [&str; 0] = [];

/// Alice has called bob's phones, and the first has answered; what it was asked, what it said, and what alice heard.
fn answered(phones: &[&str]) -> (Rig, [String; 3]) {
    let mut rig = house(phones);
    rig.receive(0, ALICE, &invite("call", SDP));
    let asked = only(&sent(&mut rig), BOB, "INVITE ");
    let answer = response(&asked, "200 OK", "b", CONTACT, SDP);
    rig.receive(0, BOB, &answer);
    let heard = only(&sent(&mut rig), ALICE, "SIP/2.0 200");
    (rig, [asked, answer, heard])
}

/// The ACK of alice for what she heard.
fn ack(heard: &str, branch: &str) -> String {
    let value = |name: &str| heard.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    let contact = value("Contact:");
    let uri = contact.split(['<', '>']).nth(1).unwrap();
    let (route, to) = (value("Record-Route:"), value("To:"));
    let ack = request("ACK", ALICE, "bob", "call", &format!("Route: {route}\r\n"), "");
    ack.replace("ACK sip:bob@192.168.1.2 ", &format!("ACK {uri} "))
        .replace("To: <sip:bob@192.168.1.2>", &format!("To: {to}"))
        .replace("z9hG4bKcall", &format!("z9hG4bK{branch}"))
}

/// The name of the INVITE's context.
fn id(rig: &Rig) -> Id {
    let stored = Stored::parse(invite("call", SDP).into_bytes(), &rig.proxy.config.limits).unwrap();
    let key = Key::of(&rig.proxy.hashes, stored.message(), &stored.message().top_via().unwrap());
    rig.proxy.contexts.of_server(&key).unwrap()
}

/// Little is left of it.
fn packed(rig: &Rig) -> bool {
    let id = id(rig);
    let accepted = rig.proxy.contexts.accepted(id);
    assert_eq!(accepted.is_none(), rig.proxy.contexts.get(id).is_some());
    accepted.is_some()
}

#[test]
fn how_many_octets_it_takes() {
    assert!(size_of::<Accepted>() <= 400, "{}", size_of::<Accepted>());
    assert!(3 * size_of::<Accepted>() < size_of::<Context>() + size_of::<Branch>());
}

#[test]
fn copies_are_absorbed_and_further_2xx_pass() {
    let (mut rig, [asked, answer, first]) = answered(&[BOB]);
    assert!(packed(&rig));
    rig.receive(0, ALICE, &invite("call", SDP));
    assert_eq!(told(&mut rig), NOBODY);
    rig.receive(0, BOB, &answer);
    assert_eq!(only(&sent(&mut rig), ALICE, "SIP/2.0 200"), first, "as the first one");
    let fork = response(&asked, "200 OK", "another", CONTACT, SDP);
    rig.receive(0, BOB, &fork);
    let passed = only(&sent(&mut rig), ALICE, "SIP/2.0 200");
    assert!(passed.contains("tag=another"), "{passed}");
    rig.receive(0, BOB, &fork);
    assert_eq!(only(&sent(&mut rig), ALICE, "SIP/2.0 200"), passed);
    rig.receive(0, BOB, &response(&asked, "486 Busy Here", "third", "", ""));
    assert_eq!(told(&mut rig), NOBODY);
    rig.receive(0, ALICE, &request("CANCEL", ALICE, "bob", "call", "", ""));
    assert_eq!(told(&mut rig), ["alice 200"], "it comes too late and changes nothing");
    // Her router has another mapping for her, and writes it into her Via.
    let moved = invite("call", SDP).replace(&format!("UDP {ALICE}"), "UDP 192.168.1.20:5099");
    rig.receive(0, ALICE, &moved);
    assert_eq!(told(&mut rig), NOBODY);
    rig.receive(0, BOB, &answer);
    assert!(only(&sent(&mut rig), "192.168.1.20:5099", "SIP/2.0 200").contains("tag=b"));
    assert!(packed(&rig));
}

#[test]
fn the_ack_of_each_2xx_passes() {
    let (mut rig, [_, _, heard]) = answered(&[BOB]);
    // The last one is as old phones do it.
    for branch in ["ack", "ack", "call"] {
        rig.receive(0, ALICE, &ack(&heard, branch));
        assert_eq!(told(&mut rig), ["bob ACK"], "{branch}");
    }
    assert!(packed(&rig));
}

#[test]
fn it_lasts_for_64_t1_and_what_it_held_is_given_back() {
    let (mut rig, [_, answer, heard]) = answered(&[BOB]);
    rig.receive(0, ALICE, &ack(&heard, "ack"));
    let before = rig.proxy.holdings.total();
    rig.wait(Duration::from_millis(31_900));
    assert!(packed(&rig));
    rig.said.clear();
    rig.receive(0, BOB, &answer);
    assert!(packed(&rig));
    let (id, known) = (id(&rig), rig.proxy.contexts.len());
    rig.wait(Duration::from_millis(200));
    assert!(!rig.proxy.contexts.holds(id) && rig.proxy.contexts.len() < known);
    assert!(rig.proxy.holdings.total() < before);
}

#[test]
fn what_was_forked_by_us_is_kept_whole() {
    let (rig, _) = answered(&[BOB, DOOR]);
    assert!(!packed(&rig));
}
