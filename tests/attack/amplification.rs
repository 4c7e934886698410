//! S11: what a forged source can make us send to it is never more than what
//! came in its name; a challenge or a STUN answer twice as much, under a budget.
//! Nothing is retransmitted to it, and a fork cannot feed itself.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use peer::{Agent, Audio, Draft, World, accept, challenge_registrations, silent};

use crate::{scaled, turn, verdict};

const ROW: &str = "S11 amplification";
/// What may go to one source ahead of what came, at once; and a second's refill.
const BURST: u64 = 8192;
const RATE: u64 = 2048;

/// Octets that went to a source, for those that came from it.
struct Mirror {
    came: u64,
    went: u64,
    seconds: u64,
}

impl Mirror {
    fn ratio(&self) -> f64 {
        self.went as f64 / self.came as f64
    }

    fn excess(&self) -> u64 {
        self.went.saturating_sub(self.came)
    }
}

fn flood(victim: &Agent, to: SocketAddr, count: usize, message: impl Fn(usize) -> Vec<u8>) -> Mirror {
    let (began, before, mut came) = (std::time::Instant::now(), victim.octets(), 0);
    for number in 0..count {
        let bytes = message(number);
        came += bytes.len() as u64;
        victim.send(to, &bytes);
        // The program has a chance to answer them all: what the kernel drops is not answered.
        if number % 32 == 31 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    std::thread::sleep(Duration::from_millis(200));
    Mirror { came, went: victim.octets() - before, seconds: began.elapsed().as_secs() + 1 }
}

#[test]
fn s11_requests_of_a_forged_source() {
    let _turn = turn();
    let world = World::standalone(true, "warn");
    let call = world.call();
    let count = scaled(10_000);
    let one = Agent::stranger(world.net.ip(90));
    let plain = flood(&one, world.sip, count, |number| match number % 4 {
        0 => {
            let draft = one.draft("OPTIONS", &format!("sip:{}", world.sip)).add("Contact", &one.contact());
            draft.add("User-Agent", "friendly-scanner").add("Accept", "application/sdp").bytes()
        }
        1 => one.draft("OPTIONS", "sip:a").without("Max-Forwards").bytes(),
        2 => one.draft("BYE", &format!("sip:x@{}", world.sip)).set("Max-Forwards", "0").bytes(),
        _ => one.draft("CANCEL", &format!("sip:x@{}", world.sip)).bytes(),
    });
    assert!(plain.went > 0 && plain.ratio() <= 1.0, "{} for {}", plain.went, plain.came);
    let two = Agent::stranger(world.net.ip(91));
    let challenged = flood(&two, world.sip, count, |number| {
        let method = ["REGISTER", "INVITE", "MESSAGE"][number % 3];
        two.draft(method, &format!("sip:alice@{}", world.sip)).bytes()
    });
    let allowed = BURST + RATE * challenged.seconds;
    assert!(challenged.excess() <= allowed && challenged.ratio() <= 2.0, "{}", challenged.excess());
    // One INVITE, then silence: one answer and no copies of it (Timer G would send two by then).
    let three = Agent::stranger(world.net.ip(92));
    let invite = three.draft("INVITE", &format!("sip:alice@{}", world.sip)).add("Contact", &three.contact());
    three.send(world.sip, &invite.sdp(&three.sdp()).bytes());
    std::thread::sleep(Duration::from_millis(1700));
    assert_eq!(three.messages(), 1);
    // A phone behind the address that was forged is let in.
    let phone = Agent::new("alice", SocketAddr::new(two.address.ip(), 0), accept());
    assert_eq!(phone.register(world.sip, &world.domain, "secret"), 200);
    let figure = format!(
        "out/in {:.2} for {count} requests, {:.2} with challenges (excess {} octets), 0 retransmissions",
        plain.ratio(),
        challenged.ratio(),
        challenged.excess()
    );
    verdict(ROW, &figure, &call.hang_up());
}

#[test]
fn s11_challenges_of_the_upstream() {
    let _turn = turn();
    let world = World::border_with(challenge_registrations(), "warn");
    let call = world.call();
    let count = scaled(10_000);
    let victim = Agent::stranger(world.net.ip(90));
    let mirror = flood(&victim, world.sip, count, |_| {
        victim.draft("REGISTER", "sip:example.net").set("Max-Forwards", "9").bytes()
    });
    let allowed = BURST + RATE * mirror.seconds;
    assert!(mirror.went > 0 && mirror.excess() <= allowed && mirror.ratio() <= 2.0, "{}", mirror.excess());
    let figure = format!(
        "out/in {:.2} for {count} REGISTER that the core challenges (excess {} octets)",
        mirror.ratio(),
        mirror.excess()
    );
    verdict(ROW, &figure, &call.hang_up());
}

#[test]
fn s11_stun() {
    let _turn = turn();
    let world = World::standalone(true, "warn");
    let call = world.call();
    let victim = UdpSocket::bind((world.net.ip(90), 0)).unwrap();
    victim.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let (began, mut came, mut went) = (std::time::Instant::now(), 0, 0);
    let count = scaled(10_000);
    let mut room = [0; 2048];
    for number in 0..count {
        let request = wire::stun::request([number as u8; 12]);
        came += request.len();
        victim.send_to(&request, world.sip).unwrap();
    }
    while let Ok(length) = victim.recv(&mut room) {
        went += length;
    }
    let allowed = (BURST + RATE * (began.elapsed().as_secs() + 1)) as usize;
    assert!(went > 0 && went <= allowed && went <= 2 * came, "{went} for {came}");
    let figure = format!("out/in {:.2} for {count} STUN requests, {went} octets", went as f64 / came as f64);
    verdict(ROW, &figure, &call.hang_up());
}

/// RFC 5393 §3: two addresses of record whose contacts are each other, at our own address.
#[test]
fn s11_forking_loop() {
    let _turn = turn();
    let world = World::standalone(false, "warn");
    let call = world.call();
    let evil = Agent::new("evil", world.net.at(80, 5060), silent());
    for user in ["left", "right"] {
        let draft = evil.draft("REGISTER", &format!("sip:{}", world.sip));
        let draft = draft.set("To", &format!("<sip:{user}@{}>", world.sip));
        let draft = ["left", "right"].iter().fold(draft, |draft, other| {
            let both = format!("<sip:{other}@{0};n=1>, <sip:{other}@{0};n=2>", world.sip);
            draft.add("Contact", &both)
        });
        assert_eq!(evil.ask(world.sip, &draft).and_then(|answer| answer.status()), Some(200));
    }
    let sent = |world: &World| world.daemon.figure("siplatch_requests_total", "direction=\"out\",method=\"INVITE\"");
    let before = sent(&world);
    let invite: Draft = evil.draft("INVITE", &format!("sip:left@{}", world.sip)).set("Max-Forwards", "255");
    evil.send(world.sip, &invite.bytes());
    std::thread::sleep(Duration::from_millis(300));
    let copies = sent(&world) - before;
    assert!((1.0..=16.0).contains(&copies), "{copies}");
    // Whoever is behind those contacts may send the copies back to us: RFC 5393 §4.2.
    let mut returned = 0;
    for _ in 0..3 {
        for message in evil.heard().iter().filter(|message| message.method() == Some("INVITE")) {
            evil.send(world.sip, &message.bytes);
            returned += 1;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let copies = sent(&world) - before;
    assert!(copies <= 4.0 * f64::from(returned + 1), "{copies} copies for {returned}");
    let audio: Audio = call.hang_up();
    verdict(ROW, &format!("forking loop: {copies} copies of 1 INVITE, {returned} sent back"), &audio);
}
