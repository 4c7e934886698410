//! The torture messages over the wire: to the running program, in each role,
//! over UDP and over TCP, from a registered phone, while a call with audio is up
//! through it. Each gets its verdict, and the call hears nothing of it.
//!
//! Some messages of the RFCs have the same Via and method, and are one
//! transaction to whoever gets both (RFC 3261 §17.2.3). They are told in rounds,
//! each in a world of its own.
#![allow(clippy::unwrap_used, reason = "a test that unwraps in vain has failed")]
#![allow(clippy::disallowed_methods, reason = "the test is the world around the program: its sockets and its clock")]

mod sender;
#[path = "../table.rs"]
#[expect(dead_code, reason = "by name and section the other torture tests ask")]
mod table;
mod verdict;

use std::time::Duration;

use peer::{Audio, Message, World, announce};
use sender::{Sender, Then};
use table::{Case, RFC4475, RFC5118};
use verdict::{Role, Transport, Verdict, verdict};

/// How many messages had which verdict.
#[derive(Debug, Default)]
struct Count {
    answered: usize,
    passed: usize,
    dropped: usize,
    closed: usize,
    waits: usize,
}

impl Count {
    fn note(&mut self, verdict: Verdict) {
        let place = match verdict {
            Verdict { passed: true, .. } => &mut self.passed,
            Verdict { answer: Some(_), .. } => &mut self.answered,
            Verdict { then: Then::Closed, .. } => &mut self.closed,
            Verdict { then: Then::Waits, .. } => &mut self.waits,
            Verdict { then: Then::Goes, .. } => &mut self.dropped,
        };
        *place += 1;
    }
}

/// The messages, so that no two of a round are one transaction. Those that
/// register somebody come last: calls for nobody stay calls for nobody.
fn rounds() -> Vec<Vec<&'static Case>> {
    let nowhere = "127.0.0.1:5060".parse().unwrap();
    let transaction = |case: &Case| {
        let message = Message::new(case.bytes, nowhere);
        (message.value("Via").unwrap_or_default().to_owned(), message.method().map(str::to_owned))
    };
    let mut rounds: Vec<Vec<&Case>> = Vec::new();
    for case in RFC4475.iter().chain(RFC5118) {
        let fits = |round: &&mut Vec<&Case>| round.iter().all(|other| transaction(other) != transaction(case));
        match rounds.iter_mut().find(fits) {
            Some(round) => round.push(case),
            None => rounds.push(vec![case]),
        }
    }
    for round in &mut rounds {
        round.sort_by_key(|case| case.bytes.starts_with(b"REGISTER "));
    }
    rounds
}

/// One round in a world; what went wrong.
fn round(cases: &[&Case], role: Role, transport: Transport, count: &mut Count) -> (Audio, Vec<String>) {
    let mut world = match role {
        Role::Standalone => World::standalone(false, "warn"),
        Role::Border => World::border("warn"),
        Role::Office => World::office("warn"),
    };
    let call = world.call();
    let mut sender = match transport {
        Transport::Udp => Sender::udp(&world),
        Transport::Tcp => Sender::tcp(),
    };
    let mut faults = Vec::new();
    for case in cases {
        let expected = verdict(case, role, transport);
        let id = Message::new(case.bytes, world.sip).value("Call-ID").map(str::to_owned);
        world.bob.forget();
        let heard = sender.say(&world, case.bytes, expected.then, usize::from(expected.answer.is_some()));
        let same = |message: &Message| id.is_some() && message.value("Call-ID") == id.as_deref();
        // It may still be on its way when its own connection is gone.
        let patience = if expected.passed { Duration::from_secs(8) } else { Duration::ZERO };
        let passed = world.bob.wait(patience, same).is_some();
        let statuses: Vec<u16> = heard.messages.iter().filter_map(Message::status).filter(|s| *s >= 200).collect();
        let seen = (&statuses[..], passed, heard.then);
        // What a closed connection was still to bring is lost with it.
        let right = match expected {
            Verdict { then: Then::Closed, passed: true, .. } => seen.1 && seen.2 == Then::Closed,
            Verdict { answer, passed, then } => seen == (answer.as_slice(), passed, then),
        };
        if right && heard.messages.iter().all(|message| message.status().is_some()) {
            count.note(expected);
        } else {
            faults.push(format!("{} ({}): {expected:?} expected, {seen:?} seen", case.name, case.verdict));
        }
    }
    let audio = call.hang_up();
    assert!(world.daemon.is_alive());
    (audio, faults)
}

fn torture(role: Role, transport: Transport) {
    let (mut count, mut faults, mut worst) = (Count::default(), Vec::new(), None::<Audio>);
    for cases in rounds() {
        let (audio, found) = round(&cases, role, transport, &mut count);
        assert!(audio.is_unharmed(), "{role:?} {transport:?}: {audio}: {audio:?}");
        faults.extend(found);
        let low = |audio: &Audio| audio.there.continuity().min(audio.back.continuity());
        worst = worst.filter(|worst| low(worst) <= low(&audio)).or(Some(audio));
    }
    assert!(faults.is_empty(), "{role:?} {transport:?}:\n{}", faults.join("\n"));
    let Count { answered, passed, dropped, closed, waits } = count;
    let total = answered + passed + dropped + closed + waits;
    assert_eq!(total, RFC4475.len() + RFC5118.len());
    announce(&format!(
        "{role:<10} {transport:<3} {total} of {total} torture messages: {answered} answered, {passed} passed on, {dropped} \
         dropped, {closed} closed their stream, {waits} wait for more; {}  ok",
        worst.unwrap(),
        role = format!("{role:?}"),
        transport = format!("{transport:?}"),
    ));
}

#[test]
fn torture_over_udp_as_standalone() {
    torture(Role::Standalone, Transport::Udp);
}

#[test]
fn torture_over_tcp_as_standalone() {
    torture(Role::Standalone, Transport::Tcp);
}

#[test]
fn torture_over_udp_as_border() {
    torture(Role::Border, Transport::Udp);
}

#[test]
fn torture_over_tcp_as_border() {
    torture(Role::Border, Transport::Tcp);
}

#[test]
fn torture_over_udp_as_office() {
    torture(Role::Office, Transport::Udp);
}

#[test]
fn torture_over_tcp_as_office() {
    torture(Role::Office, Transport::Tcp);
}
