//! S5: line ends and control characters in whatever we copy: nothing raw comes
//! out in a message, a log line, a metric label or the status.

use std::time::Duration;

use peer::{Agent, Daemon, Message, World};

use crate::{turn, verdict};

const NASTY: [&str; 12] = [
    "%0d%0aX-Injected:%201",
    "\rX-Injected: 1",
    "\nX-Injected: 1",
    "\r\nX-Injected: 1",
    "\r\n\r\nX-Injected: 1",
    "\x1b[2J\x1b]0;X-Injected\x07",
    "\0X-Injected",
    "\x7fX-Injected\x08\x08",
    "\u{85}X-Injected\u{2028}",
    "\"} 1\nX_Injected{a=\"",
    "\\\r\\\nX-Injected",
    "\tX-Injected\x0b\x0c",
];

fn messages(agent: &Agent, domain: &str) -> Vec<Vec<u8>> {
    let address = agent.address;
    let mut all = Vec::new();
    for (number, nasty) in NASTY.iter().enumerate() {
        for method in ["REGISTER", "MESSAGE", "INVITE"] {
            let mut drafts = Vec::new();
            let draft = || agent.draft(method, &format!("sip:bob@{domain}")).add("Contact", &agent.contact());
            drafts.push(draft().set("Contact", &format!("<sip:a{nasty}@{address}>")));
            drafts.push(draft().set("Contact", &format!("\"a{nasty}\" <sip:a@{address}>")));
            drafts.push(draft().set("Contact", &format!("<sip:a@{address};x={nasty}>")));
            drafts.push(draft().set("Contact", &format!("<sip:a@{address}>;+sip.instance=\"<urn:{nasty}>\"")));
            drafts.push(draft().set("From", &format!("\"f{nasty}\" <sip:f{number}@{domain}>;tag=1")));
            drafts.push(draft().set("From", &format!("<sip:f{nasty}@{domain}>;tag=1")));
            drafts.push(draft().set("From", &format!("<sip:f@{domain}>;tag=t{nasty}")));
            drafts.push(draft().set("To", &format!("\"t{nasty}\" <sip:t{number}@{domain}>")));
            drafts.push(draft().set("To", &format!("<sip:t{nasty}@{domain}>")));
            drafts.push(draft().set("Call-ID", &format!("c{number}{nasty}")));
            drafts.push(draft().add("User-Agent", &format!("ua{nasty}")));
            drafts.push(draft().add("Reason", &format!("SIP;text=\"{nasty}\"")));
            drafts.push(draft().add("Proxy-Require", &format!("x{nasty}")));
            drafts.push(
                draft().set("Via", &format!("SIP/2.0/UDP {address};rport;branch=z9hG4bKi{number}{method}{nasty}")),
            );
            drafts.push(draft().set(
                "Via",
                &format!("SIP/2.0/UDP h{number}.example;rport;received={nasty};branch=z9hG4bKj{number}{method}"),
            ));
            drafts.push(
                draft().set("Via", &format!("SIP/2.0/UDP {address};rport={nasty};branch=z9hG4bKk{number}{method}")),
            );
            drafts.push(draft().start(&format!("{method}{nasty} sip:bob@{domain} SIP/2.0")));
            drafts.push(draft().start(&format!("{method} sip:bob{nasty}@{domain} SIP/2.0")));
            all.extend(drafts.into_iter().map(|draft| draft.bytes()));
        }
    }
    all
}

/// A line end that only some readers take for one, or a field that came out of a value.
fn faults(message: &Message) -> Option<&'static str> {
    let end = message.bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = &message.bytes[..end];
    for (at, octet) in head.iter().enumerate() {
        match octet {
            b'\r' if head.get(at + 1) != Some(&b'\n') => return Some("a bare CR"),
            b'\n' if at == 0 || head[at - 1] != b'\r' => return Some("a bare LF"),
            _ => {}
        }
    }
    None
}

fn is_clean(text: &[u8]) -> bool {
    let text = std::str::from_utf8(text).expect("text is UTF-8");
    text.chars().all(|c| c == '\n' || !c.is_control()) && !text.lines().any(|line| line.starts_with("X-Injected"))
}

fn looked_at(daemon: &Daemon) {
    let page = daemon.metrics();
    let (_, body) = page.split_once("\r\n\r\n").unwrap();
    assert!(is_clean(body.as_bytes()) && !body.contains("njected"), "{body}");
    for flags in [&[][..], &["--json"][..]] {
        let status = daemon.status(flags);
        assert!(status.status.success());
        assert!(is_clean(&status.stdout), "{:?}", String::from_utf8_lossy(&status.stdout));
    }
}

#[test]
fn s5_injection() {
    let _turn = turn();
    for role in ["standalone", "border"] {
        let world = if role == "border" { World::border("debug") } else { World::standalone(false, "debug") };
        let call = world.call();
        let evil = Agent::stranger(world.net.ip(60));
        let (mut sent, mut seen) = (0, 0);
        let mut look = |agents: [&Agent; 3]| {
            for agent in agents {
                for message in agent.heard() {
                    assert_eq!(faults(&message), None, "{role}: {:?}", String::from_utf8_lossy(&message.bytes));
                    seen += 1;
                }
                agent.forget();
            }
        };
        for source in [&world.alice, &evil] {
            for (number, bytes) in messages(source, &world.domain).into_iter().enumerate() {
                source.send(world.sip, &bytes);
                sent += 1;
                if number % 64 == 63 {
                    std::thread::sleep(Duration::from_millis(20));
                    look([&world.alice, &world.bob, &evil]);
                    looked_at(&world.daemon);
                }
            }
        }
        std::thread::sleep(Duration::from_millis(200));
        look([&world.alice, &world.bob, &evil]);
        looked_at(&world.daemon);
        let log = world.daemon.log();
        assert!(is_clean(&log), "{}", String::from_utf8_lossy(&log));
        let figure =
            format!("{role}: {sent} sent, 0 of {seen} messages, {} octets of log and the status are raw", log.len());
        verdict("S5 injection", &figure, &call.hang_up());
    }
}
