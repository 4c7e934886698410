//! S3: REGISTER, INVITE and OPTIONS from thousands of sources. Memory stays
//! bounded, the call goes on, and a phone that comes in the middle of it registers.

use std::net::UdpSocket;

use peer::{Agent, Draft, Loopback, World, accept, challenge_registrations};

use crate::{scaled, turn, verdict};

/// What a flood may add to the memory: tables of fixed size, full.
const GROWTH_KIB: u64 = 48 * 1024;

#[test]
fn s3_plain_flood() {
    let _turn = turn();
    for role in ["standalone", "border", "border, challenged"] {
        let world = match role {
            "standalone" => World::standalone(true, "warn"),
            // A core that lets everybody register.
            "border" => World::border("warn"),
            _ => World::border_with(challenge_registrations(), "warn"),
        };
        let call = world.call();
        let before = world.daemon.resident();
        let count = scaled(60_000);
        let late = Agent::new("bob", world.net.at(40, 5060), accept());
        let (mut registered, mut tries) = (0, 0);
        for number in 0..count {
            let method = ["REGISTER", "INVITE", "OPTIONS"][number % 3];
            let socket = UdpSocket::bind((Loopback::stranger(number as u32 / 3), 0)).unwrap();
            let from = socket.local_addr().unwrap();
            let user = format!("user{number}");
            let draft = Draft::new(method, &format!("sip:{user}@{}", world.domain), &user, from);
            let draft = draft.add("Contact", &format!("<sip:{user}@{from}>"));
            let _ = socket.send_to(&draft.bytes(), world.sip);
            // Told to come again (503 with Retry-After), it does, and the flood goes on.
            if registered != 200 && number >= count / 2 && number % (count / 20) == 0 {
                registered = late.register(world.sip, &world.domain, "secret");
                tries += 1;
            }
        }
        assert_eq!(registered, 200, "{role}: a phone that comes in the middle of the flood, {tries} times");
        let growth = world.daemon.resident().saturating_sub(before);
        assert!(growth < GROWTH_KIB, "{role}: {growth} KiB");
        let [held, octets] =
            ["siplatch_transactions", "siplatch_transactions_bytes"].map(|n| world.daemon.figure(n, ""));
        let bound = world.daemon.figure("siplatch_registrations", "");
        let audio = call.hang_up();
        let figure = format!(
            "{role}: +{:.1} MiB for {count} requests of {} sources, {held} transactions hold {:.1} MiB, {bound} bindings; \
             a phone gets in at try {tries}",
            growth as f64 / 1024.0,
            count / 3,
            octets / 1024.0 / 1024.0
        );
        verdict("S3 plain flood", &figure, &audio);
    }
}
