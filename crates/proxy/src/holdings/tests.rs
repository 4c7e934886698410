use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nat::Side;
use wire::{ListenerId, Transmit, Transport};

use super::*;
use crate::config::{Config, Role};
use crate::rig::{config, listener};
use crate::{Input, Output};

const CORE: &str = "10.0.0.5:5060";
/// The slack of a budget: what the last request may add beyond what it was thought to need.
const ONE: usize = 64 << 10;

struct World {
    proxy: Proxy,
    now: Instant,
    number: usize,
}

impl World {
    /// A border; phones on listener 1, the core on listener 0.
    fn new() -> Self {
        let listeners = vec![listener(Side::Inner, "10.0.0.1:5060"), listener(Side::Outer, "192.0.2.1:5060")];
        let config = Config { phones: Vec::new(), ..config(Role::Border, listeners) };
        let now = Instant::now();
        let mut world = Self { proxy: Proxy::new(now, Arc::new(config), [7; 32], [9; 32]), now, number: 0 };
        world.sent();
        world
    }

    /// What left, our own OPTIONS left out.
    fn sent(&mut self) -> Vec<Transmit> {
        let outputs = std::iter::from_fn(|| self.proxy.poll_output());
        let sent =
            outputs.filter_map(|output| if let Output::Transmit(transmit) = output { Some(transmit) } else { None });
        sent.filter(|transmit| !text(&transmit.bytes).starts_with("OPTIONS")).collect()
    }

    fn receive(&mut self, listener: u16, from: &str, bytes: &[u8]) -> Vec<Transmit> {
        let (remote, local): (SocketAddr, _) =
            (from.parse().unwrap(), self.proxy.config.listeners[usize::from(listener)].bind);
        let flow = Flow { transport: Transport::Udp, listener: ListenerId(listener), connection: 0, local, remote };
        self.proxy.handle_input(self.now, Input::Received { flow, bytes });
        self.sent()
    }

    /// A request in a transaction of its own, and what left for it.
    fn ask(&mut self, method: &str, user: &str, from: &str, more: &str) -> (String, Vec<Transmit>) {
        self.number += 1;
        let number = self.number;
        let request = format!(
            "{method} sip:{user}@example.net SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bK{number}\r\nMax-Forwards: \
             70\r\nFrom: <sip:{user}@example.net>;tag=1\r\nTo: <sip:{user}@example.net>\r\nCall-ID: {number}\r\nCSeq: 1 \
             {method}\r\nContact: <sip:{user}@{from}>\r\n{more}Content-Length: 0\r\n\r\n"
        );
        let sent = self.receive(1, from, request.as_bytes());
        (request, sent)
    }

    /// The core answers what it was sent; what leaves for that.
    fn answer(&mut self, asked: &Transmit, status: &str, more: &str) -> Vec<Transmit> {
        let request = text(&asked.bytes);
        let kept = |line: &&str| ["Via:", "From:", "To:", "Call-ID:", "CSeq:"].iter().any(|n| line.starts_with(n));
        let tag = |line: &str| if line.starts_with("To:") && !line.contains("tag=") { ";tag=2" } else { "" };
        let lines: String = request.lines().filter(kept).map(|line| format!("{line}{}\r\n", tag(line))).collect();
        let answer = format!("SIP/2.0 {status}\r\n{lines}{more}Content-Length: 0\r\n\r\n");
        self.receive(0, CORE, answer.as_bytes())
    }

    /// The caller's ACK of this 2xx.
    fn acknowledge(&mut self, accepted: &Transmit, from: &str) -> Vec<Transmit> {
        let accepted = text(&accepted.bytes);
        let value = |name: &str| accepted.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
        let target = value("Contact:").split(['<', '>']).nth(1).unwrap_or_default();
        let route = accepted.lines().filter_map(|line| line.strip_prefix("Record-Route:")).next();
        let route = route.map(|route| format!("Route:{route}\r\n")).unwrap_or_default();
        let ack = format!(
            "ACK {target} SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bKa{}\r\nMax-Forwards: 70\r\n{route}From: {}\r\n\
             To: {}\r\nCall-ID: {}\r\nCSeq: 1 ACK\r\nContent-Length: 0\r\n\r\n",
            self.number,
            value("From:"),
            value("To:"),
            value("Call-ID:"),
        );
        self.receive(1, from, ack.as_bytes())
    }

    /// A phone that is registered.
    fn phone(&mut self, user: &str, from: &str) {
        let (_, sent) = self.ask("REGISTER", user, from, "");
        let contact = text(&sent[0].bytes).lines().find(|line| line.starts_with("Contact:")).unwrap().to_owned();
        let answered = self.answer(&sent[0], "200 OK", &format!("{contact};expires=3600\r\n"));
        assert!(text(&answered[0].bytes).starts_with("SIP/2.0 200 "));
    }

    fn octets(&self) -> usize {
        self.proxy.work().octets
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn status(sent: &[Transmit]) -> String {
    sent.first().map(|transmit| text(&transmit.bytes).lines().next().unwrap_or_default().to_owned()).unwrap_or_default()
}

fn source(number: usize) -> String {
    format!("198.51.{}.{}:5060", 100 + number / 250, 1 + number % 250)
}

#[test]
fn a_flood_of_registers_holds_no_more_than_its_budget_and_newcomers_are_served() {
    let mut world = World::new();
    world.phone("carol", "203.0.113.9:5060");
    for number in 0..12_000 {
        let (request, sent) = world.ask("REGISTER", &format!("user{number}"), &source(number), "");
        assert_eq!(sent.len(), 1, "{number}");
        assert!(world.octets() < STRANGERS + ONE, "{} after {number}", world.octets());
        if number % 2 == 0 {
            let answered =
                world.answer(&sent[0], "401 Unauthorized", "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\"\r\n");
            // The answer is kept for copies (§17.2.3): the core is not asked again.
            let again = world.receive(1, &source(number), request.as_bytes());
            let (first, second) = (answered.first().map(|t| &t.bytes), again.first().map(|t| &t.bytes));
            assert!(second.is_none() || first == second, "{number}");
            assert!(!again.iter().any(|t| t.flow.listener == ListenerId(0)), "{number}");
        }
    }
    world.phone("dave", "203.0.113.10:5060");
    assert_eq!(world.proxy.registry.bindings().count(), 2);
    let (most, waiting) = (world.proxy.work().contexts, world.proxy.work().octets);
    assert!(most > 2000 && waiting > STRANGERS / 2, "{most} hold {waiting}");
    world.now += Duration::from_secs(80);
    world.proxy.handle_timeout(world.now);
    while world.proxy.poll_timeout().is_some_and(|at| at <= world.now) {
        world.proxy.handle_timeout(world.now);
    }
    world.sent();
    assert!(world.octets() < ONE, "{} are left", world.octets());
}

#[test]
fn one_source_has_a_share_of_what_strangers_have() {
    let mut world = World::new();
    let (lone, _) = world.ask("REGISTER", "lone", "203.0.113.7:5060", "");
    for number in 0..6000 {
        world.ask("REGISTER", &format!("user{number}"), "198.51.100.1:5060", "");
        assert!(world.octets() < STRANGER + ONE, "{} after {number}", world.octets());
    }
    // Whose transaction was the first of all still has it.
    assert!(world.receive(1, "203.0.113.7:5060", lone.as_bytes()).is_empty());
}

#[test]
fn a_registered_phone_has_a_budget_and_ends_its_calls_beyond_it() {
    let mut world = World::new();
    let phone = "203.0.113.9:5060";
    world.phone("carol", phone);
    let before = world.octets();
    let long = format!("Subject: {}\r\n", "x".repeat(20_000));
    let mut refused = 0;
    for _ in 0..500 {
        let (_, sent) = world.ask("MESSAGE", "dave", phone, &long);
        refused += usize::from(status(&sent).starts_with("SIP/2.0 503 "));
        assert!(world.octets() < before + PHONE + ONE, "{}", world.octets());
    }
    assert!(refused > 300, "{refused} were refused while none was answered");
    assert!(world.octets() > PHONE - 2 * ONE, "{} is not all of it", world.octets());
    let (_, sent) = world.ask("BYE", "dave", phone, "");
    assert!(!status(&sent).starts_with("SIP/2.0 503 "), "{}", status(&sent));
    // Nobody else is touched.
    world.phone("dave", "203.0.113.10:5060");
    let (_, sent) = world.ask("MESSAGE", "carol", "203.0.113.10:5060", "");
    assert!(status(&sent).starts_with("MESSAGE "), "{}", status(&sent));
}

#[test]
fn answered_requests_of_a_phone_make_room_for_new_ones() {
    let mut world = World::new();
    let phone = "203.0.113.9:5060";
    world.phone("carol", phone);
    let long = format!("Subject: {}\r\n", "x".repeat(20_000));
    let mut last = None;
    for number in 0..3000 {
        let (request, sent) = world.ask("MESSAGE", "dave", phone, if number % 50 == 0 { &long } else { "" });
        assert!(status(&sent).starts_with("MESSAGE "), "{number}: {}", status(&sent));
        let answered = world.answer(&sent[0], "200 OK", "");
        last = Some((request, answered));
    }
    assert!(world.octets() < PHONE + ONE, "{}", world.octets());
    let (request, answered) = last.unwrap();
    assert_eq!(world.receive(1, phone, request.as_bytes()), answered, "a copy hears the same");
}

#[test]
fn a_finished_transaction_keeps_its_answer_and_little_else() {
    let mut world = World::new();
    let phone = "203.0.113.9:5060";
    world.phone("carol", phone);
    let before = world.octets();
    let long = format!("Subject: {}\r\n", "x".repeat(20_000));
    let (request, sent) = world.ask("MESSAGE", "dave", phone, &long);
    assert!(world.octets() > before + 40_000);
    let answered = world.answer(&sent[0], "486 Busy Here", "");
    assert!(world.octets() < before + 4000, "{} more", world.octets() - before);
    assert_eq!(world.receive(1, phone, request.as_bytes()), answered, "a copy hears the same (§17.2.3)");
    // A copy from a mapping that moved is known by what is left of the request.
    let moved = request.replacen(phone, "203.0.113.9:6060", 1);
    let again = world.receive(1, "203.0.113.9:6060", moved.as_bytes());
    assert_eq!(again.len(), 1);
    assert_eq!((again[0].flow.remote, &again[0].bytes), ("203.0.113.9:6060".parse().unwrap(), &answered[0].bytes));

    // An INVITE that failed: a late copy of the answer is acknowledged as the first was.
    let (_, sent) = world.ask("INVITE", "dave", phone, &long);
    let invite = sent.iter().find(|t| text(&t.bytes).starts_with("INVITE ")).unwrap().clone();
    let first = world.answer(&invite, "486 Busy Here", "");
    let second = world.answer(&invite, "486 Busy Here", "");
    let ack = |sent: &[Transmit]| sent.iter().find(|t| text(&t.bytes).starts_with("ACK ")).map(|t| t.bytes.clone());
    assert!(ack(&first).is_some());
    assert_eq!(ack(&first), ack(&second));
    assert!(world.octets() < before + 8000, "{} more", world.octets() - before);
}

#[test]
fn how_long_a_branch_is_costs_no_memory() {
    let mut world = World::new();
    world.phone("carol", "203.0.113.9:5060");
    for number in 0..200 {
        let request = format!(
            "NOTHING sip:x@example.net SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.1;branch=z9hG4bK{}\r\nMax-Forwards: \
             70\r\nFrom: <sip:x@example.net>;tag=1\r\nTo: <sip:x@example.net>\r\nCall-ID: {number}\r\nCSeq: 1 \
             NOTHING\r\nProxy-Require: {}\r\nContent-Length: 0\r\n\r\n",
            format!("{number:04}").repeat(5000),
            "x,".repeat(10_000)
        );
        world.receive(1, "198.51.100.1:5060", request.as_bytes());
        let answer = world.receive(1, "198.51.100.1:5060", request.as_bytes());
        assert!(status(&answer).starts_with("SIP/2.0 420 ") || answer.is_empty(), "{}", status(&answer));
    }
    assert!(world.proxy.refusals.octets() < 1 << 20, "{}", world.proxy.refusals.octets());
}

#[test]
fn a_call_that_was_acknowledged_makes_room_and_one_that_was_not_stays() {
    let mut world = World::new();
    let phone = "203.0.113.9:5060";
    world.phone("carol", phone);
    let contact = "Contact: <sip:b@10.0.0.5>\r\n";
    let mut first = None;
    for number in 0..3000 {
        let (invite, sent) = world.ask("INVITE", "dave", phone, "");
        let Some(asked) = sent.iter().find(|t| text(&t.bytes).starts_with("INVITE ")).cloned() else {
            panic!("{number}: {}", status(&sent));
        };
        let accepted = world.answer(&asked, "200 OK", contact);
        let accepted = accepted.iter().find(|t| text(&t.bytes).starts_with("SIP/2.0 200 ")).unwrap().clone();
        if number == 0 {
            first = Some((asked, accepted, invite));
        } else {
            world.acknowledge(&accepted, phone);
        }
        assert!(world.octets() < PHONE + ONE, "{}", world.octets());
    }
    let (asked, accepted, invite) = first.unwrap();
    let again = world.answer(&asked, "200 OK", contact);
    assert_eq!(again.iter().map(|t| &t.bytes).collect::<Vec<_>>(), [&accepted.bytes], "its ACK is still to come");
    assert!(world.receive(1, phone, invite.as_bytes()).is_empty(), "a copy is absorbed");
}

#[test]
fn where_all_room_is_taken_what_is_kept_for_copies_goes_first() {
    let mut world = World::new();
    let long = format!("Subject: {}\r\n", "x".repeat(20_000));
    let mut first = None;
    for number in 0..400 {
        let phone = source(number);
        world.phone("carol", &phone);
        for _ in 0..40 {
            let (request, sent) = world.ask("MESSAGE", "dave", &phone, "");
            assert!(status(&sent).starts_with("MESSAGE "), "{number}: {}", status(&sent));
            let answered = world.answer(&sent[0], "200 OK", &long);
            first.get_or_insert((phone.clone(), request, answered));
        }
        assert!(world.octets() < ALL / 100 * 72, "{}", world.octets());
    }
    let (phone, request, answered) = first.unwrap();
    let again = world.receive(1, &phone, request.as_bytes());
    assert_ne!(again, answered, "the oldest is forgotten");
    assert!(status(&again).starts_with("MESSAGE "), "and nobody was refused");
}
