//! S10: who asks whether a user exists, or guesses a password, learns nothing
//! from the answer or from how long it took, and may not guess for long.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use peer::{Agent, Draft, Loopback, Message, World, accept, credentials};

use crate::{scaled, turn, verdict};

const ROW: &str = "S10 enumeration";

#[test]
fn s10_users_cannot_be_told_apart() {
    let _turn = turn();
    let world = World::standalone(true, "warn");
    let call = world.call();
    let tries = scaled(2000).max(400);
    let mut figures = Vec::new();
    for guess in [false, true] {
        let mut times = [Vec::new(), Vec::new()];
        let mut answers = [String::new(), String::new()];
        let mut number = 0;
        for round in 0..tries {
            for (class, user) in ["alice", "alicf"].into_iter().enumerate() {
                number += 1;
                // A source of its own each, so that no budget plays a part.
                let (time, answer) = ask(&world, 150_000 + number, user, guess);
                times[class].push(time);
                if round == 0 {
                    answers[class] = answer;
                }
            }
        }
        assert_eq!(answers[0], answers[1]);
        let [known, unknown] = times.map(|mut times| median(&mut times));
        let differs = known.abs_diff(unknown);
        assert!(differs <= (known / 10).max(15_000), "{known} ns and {unknown} ns");
        let what = if guess { "guessing" } else { "asking" };
        figures.push(format!("{what} {:.1} us apart (median {:.0} us)", differs as f64 / 1e3, known as f64 / 1e3));
    }
    let figure = format!("known and unknown users in {tries} tries each: {}, same octets", figures.join(", "));
    verdict(ROW, &figure, &call.hang_up());
}

/// The time until the answer, in nanoseconds, and the answer without what differs every time.
fn ask(world: &World, source: u32, user: &str, guess: bool) -> (u128, String) {
    let socket = UdpSocket::bind((Loopback::stranger(source), 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let from = socket.local_addr().unwrap();
    let uri = format!("sip:{}", world.sip);
    let aor = format!("<sip:{user}@{}>", world.sip);
    // As long as a phone's: of one less than half as long as its challenge, only the next copy is answered.
    let draft = Draft::new("REGISTER", &uri, user, from)
        .set("From", &format!("{aor};tag=1"))
        .set("To", &aor)
        .add("Contact", &format!("<sip:{user}@{from}>"))
        .add("Expires", "600");
    let draft = if guess {
        let nonce = "0".repeat(43);
        let value = format!(
            "Digest username=\"{user}\", realm=\"siplatch\", nonce=\"{nonce}\", uri=\"{uri}\", algorithm=MD5, \
             qop=auth, nc=00000001, cnonce=\"a\", response=\"{}\"",
            "0".repeat(32)
        );
        draft.add("Authorization", &value)
    } else {
        draft
    };
    let bytes = draft.bytes();
    let mut room = [0; 4096];
    let began = Instant::now();
    socket.send_to(&bytes, world.sip).unwrap();
    let length = socket.recv(&mut room).unwrap();
    let time = began.elapsed().as_nanos();
    let answer = Message::new(&room[..length], world.sip);
    assert_eq!(answer.status(), Some(401), "{answer:?}");
    let names = ["WWW-Authenticate", "Supported", "Server", "Allow", "Retry-After", "Content-Length"];
    let lines: Vec<String> = names.iter().flat_map(|name| answer.all(name)).map(without_nonce).collect();
    let text = String::from_utf8_lossy(&room[..length]);
    let fields: Vec<&str> = text.lines().map(|line| line.split(':').next().unwrap()).collect();
    (time, format!("{} {lines:?} {fields:?}", answer.start()))
}

fn without_nonce(value: &str) -> String {
    let (head, rest) = value.split_once("nonce=\"").unwrap_or((value, ""));
    let tail = rest.split_once('"').map_or("", |(nonce, tail)| if nonce.len() == 43 { tail } else { rest });
    format!("{head}{tail}")
}

fn median(times: &mut [u128]) -> u128 {
    times.sort_unstable();
    times[times.len() / 2]
}

#[test]
fn s10_guessing_is_slow_and_shuts_nobody_else_out() {
    let _turn = turn();
    let world = World::standalone(true, "info");
    let call = world.call();
    // From behind the same NAT as bob, who is registered.
    let guesser = Agent::stranger(world.bob.address.ip());
    let uri = format!("sip:{}", world.sip);
    let draft = || guesser.draft("REGISTER", &uri).set("To", &format!("<sip:alice@{}>", world.sip));
    let challenge = guesser.ask(world.sip, &draft()).unwrap();
    assert_eq!(challenge.status(), Some(401));
    guesser.forget();
    let guesses = scaled(2000);
    for number in 0..guesses {
        let given = credentials(&challenge, "REGISTER", &uri, "alice", &format!("guess{number}"));
        guesser.send(world.sip, &draft().add("Authorization", &given).bytes());
        if number % 32 == 31 {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    let looked_at = world.daemon.figure("siplatch_authentication_failures_total", "");
    assert!((1.0..=24.0).contains(&looked_at), "{looked_at}");
    // Not even the right one is told apart now.
    let right = credentials(&challenge, "REGISTER", &uri, "alice", "secret");
    let answer = guesser.ask(world.sip, &draft().add("Authorization", &right)).unwrap();
    assert_eq!(answer.status(), Some(503), "{answer:?}");
    assert_eq!(world.bob.register(world.sip, &world.domain, "secret"), 200, "bob is not shut out");
    let elsewhere = Agent::new("alice", SocketAddr::new(world.net.ip(70), 0), accept());
    assert_eq!(elsewhere.register(world.sip, &world.domain, "secret"), 200);
    let log = String::from_utf8(world.daemon.log()).unwrap();
    let line = format!("authentication failed source={}", guesser.address);
    let lines = log.lines().filter(|found| found.contains(&line)).count();
    assert!(lines > 0 && lines as f64 <= looked_at, "{log}");
    let figure = format!("{looked_at} of {guesses} passwords looked at, {lines} lines for fail2ban");
    verdict(ROW, &figure, &call.hang_up());
}
