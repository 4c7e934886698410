//! S13: whatever strangers write, the series are the same, and the log of a
//! flood stays small.

use std::collections::BTreeSet;
use std::net::UdpSocket;

use peer::{Daemon, Draft, Loopback, World, credentials};

use crate::streams::{PATIENCE, until};
use crate::{scaled, turn, verdict};

/// Octets of log for a flood, whatever its length.
const LOG: usize = 64 * 1024;

fn series(daemon: &Daemon) -> BTreeSet<String> {
    let page = daemon.metrics();
    let lines = page.lines().filter(|line| line.starts_with("siplatch_"));
    lines.map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect()
}

#[test]
fn s13_log_and_metrics() {
    let _turn = turn();
    let world = World::standalone(true, "info");
    let call = world.call();
    let (before, began) = (series(&world.daemon), world.daemon.log().len());
    let challenge = world.alice.ask(world.sip, &world.alice.draft("REGISTER", &format!("sip:{}", world.sip))).unwrap();
    let count = scaled(10_000);
    for number in 0..count {
        let socket = UdpSocket::bind((Loopback::stranger(200_000 + number as u32 % 50_000), 0)).unwrap();
        let from = socket.local_addr().unwrap();
        let user = format!("user-{number}");
        let method = ["REGISTER", "INVITE", "OPTIONS", "MESSAGE", "ZAP", "BYE", "REGISTER"][number % 7];
        let draft = Draft::new(method, &format!("sip:{user}@{}", world.domain), &user, from)
            .add("User-Agent", &format!("scanner {number} {}", "x".repeat(200)))
            .add("Contact", &format!("<sip:{user}@{from}>"));
        let draft = match number % 5 {
            0 => draft.start(&format!("ZAP{number} sip:{user}@{} SIP/2.0", world.domain)),
            1 => draft.set("Max-Forwards", "0"),
            2 => draft.start(&format!("{method} zap{number}:{user} SIP/2.0")),
            3 => draft.add("Authorization", &credentials(&challenge, method, "sip:x", &user, "guess")),
            _ => draft.set("CSeq", "none"),
        };
        let _ = socket.send_to(&draft.bytes(), world.sip);
    }
    // Read to its end once something behind it is served: as long as messages wait, new requests get 503.
    let served = || {
        let options = world.alice.draft("OPTIONS", &format!("sip:{}", world.sip));
        world.alice.ask(world.sip, &options).and_then(|answer| answer.status()) == Some(200)
    };
    until("the end of the flood", PATIENCE, served);
    let log = world.daemon.log().len() - began;
    let after = series(&world.daemon);
    assert!(log < LOG, "{log}");
    assert_eq!(after.difference(&before).collect::<Vec<_>>(), Vec::<&String>::new());
    let held = world.daemon.figure("siplatch_log_suppressed_total", "");
    assert!(held > 0.0);
    let figure =
        format!("{log} octets of log for {count} messages, {held} lines held back, {} series as before", after.len());
    verdict("S13 log and metrics", &figure, &call.hang_up());
}
