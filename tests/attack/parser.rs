//! S1: the shapes that broke other people's parsers, the torture messages, and
//! those with octets changed: the program stands, answers what it should, and
//! does not grow.

use std::time::Duration;

use peer::{Agent, Draft, Message, World};

use crate::{scaled, turn, verdict};

#[path = "../torture/table.rs"]
#[expect(dead_code, reason = "the verdicts are compared by the torture tests")]
mod table;

const GROWTH_KIB: u64 = 24 * 1024;

/// What broke others, and what we say to it: a status, or one of "passes on".
struct Shape {
    name: &'static str,
    status: &'static [u16],
    bytes: Vec<u8>,
}

const PASSES: &[u16] = &[200, 404, 480, 481, 405, 486];

fn shapes(agent: &Agent, domain: &str) -> Vec<Shape> {
    let draft = |method: &str| agent.draft(method, &format!("sip:bob@{domain}")).add("Contact", &agent.contact());
    let shape = |name, status, draft: Draft| Shape { name, status, bytes: draft.bytes() };
    let sdp = |lines: &str| format!("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n{lines}");
    let many = |line: &str, count: usize| line.repeat(count);
    vec![
        shape("CSeq of 4,000 digits", &[400], draft("MESSAGE").set("CSeq", &format!("{} MESSAGE", "9".repeat(4000)))),
        shape("CSeq with a long method", &[400], draft("MESSAGE").set("CSeq", &format!("1 {}", "A".repeat(4000)))),
        shape("CSeq without a number", &[400], draft("MESSAGE").set("CSeq", "MESSAGE")),
        shape("CSeq negative", &[400], draft("MESSAGE").set("CSeq", "-1 MESSAGE")),
        shape("600 Accept fields", &[400], (0..600).fold(draft("MESSAGE"), |d, n| d.add("Accept", &format!("a/{n}")))),
        shape("200 Accept fields", PASSES, (0..200).fold(draft("MESSAGE"), |d, n| d.add("Accept", &format!("a/{n}")))),
        shape("one Accept of 9,000 values", PASSES, draft("MESSAGE").add("Accept", &many("a/b,", 9000))),
        shape(
            "fmtp of 30,000 octets",
            PASSES,
            draft("INVITE").sdp(&sdp(&format!("m=audio 4000 RTP/AVP 0\r\na=fmtp:0 {}\r\n", "x".repeat(30_000)))),
        ),
        shape(
            "fmtp of no format",
            PASSES,
            draft("INVITE").sdp(&sdp("m=audio 4000 RTP/AVP 0\r\na=fmtp:\r\na=rtpmap:\r\n")),
        ),
        shape(
            "media formats by the thousand",
            PASSES,
            draft("INVITE").sdp(&sdp(&format!("m=audio 4000 RTP/AVP{}\r\n", many(" 0", 9000)))),
        ),
        shape(
            "media format that is no number",
            PASSES,
            draft("INVITE").sdp(&sdp("m=audio 4000 RTP/AVP 99999999999999999999\r\n")),
        ),
        shape("media port beyond 65535", &[488, 400], draft("INVITE").sdp(&sdp("m=audio 99999999999 RTP/AVP 0\r\n"))),
        shape(
            "600 media lines",
            &[488, 400, 503, 606],
            draft("INVITE").sdp(&sdp(&many("m=audio 4000 RTP/AVP 0\r\n", 600))),
        ),
        shape("two To fields", &[400], draft("MESSAGE").add("To", "<sip:other@b.example>")),
        shape("two To fields, one compact", &[400], draft("MESSAGE").add("t", "<sip:other@b.example>")),
        shape("To with two tags", PASSES, draft("MESSAGE").set("To", &format!("<sip:bob@{domain}>;tag=;tag=a"))),
        shape(
            "From tag of 30,000 octets",
            PASSES,
            draft("MESSAGE").set("From", &format!("<sip:a@b.example>;tag={}", "t".repeat(30_000))),
        ),
        shape("From tag that ends the field", PASSES, draft("MESSAGE").set("From", "<sip:a@b.example>;tag=")),
        shape(
            "branch that is the cookie",
            &[400],
            draft("MESSAGE").set("Via", &format!("SIP/2.0/UDP {};rport;branch=z9hG4bK", agent.address)),
        ),
        shape(
            "branch one octet shorter than the cookie",
            PASSES,
            draft("MESSAGE").set("Via", &format!("SIP/2.0/UDP {};rport;branch=z9hG4b", agent.address)),
        ),
        shape(
            "branch one octet longer",
            PASSES,
            draft("MESSAGE").set("Via", &format!("SIP/2.0/UDP {};rport;branch=z9hG4bKa", agent.address)),
        ),
        shape(
            "branch of 30,000 octets",
            PASSES,
            draft("MESSAGE")
                .set("Via", &format!("SIP/2.0/UDP {};rport;branch=z9hG4bK{}", agent.address, "b".repeat(30_000))),
        ),
        shape("Via without a host", &[400], draft("MESSAGE").add("Via", "SIP/2.0/UDP ;branch=z9hG4bKx")),
        shape(
            "Via of 3,000 values",
            PASSES,
            draft("MESSAGE").add("Via", many("SIP/2.0/UDP h;branch=z9hG4bKx,", 1500).trim_end_matches(',')),
        ),
        shape("Contact that ends in a quote", &[400], draft("MESSAGE").set("Contact", "<sip:a@b.example>\"")),
        shape("Contact that is a quote", &[400], draft("MESSAGE").set("Contact", "\"")),
        shape("Contact with an open quote", &[400], draft("MESSAGE").set("Contact", "\"a <sip:a@b.example>")),
        shape("Contact that ends in a backslash", &[400], draft("MESSAGE").set("Contact", "\"a\\")),
        shape("Contact with an open bracket", &[400], draft("MESSAGE").set("Contact", "<sip:a@b.example")),
        shape(
            "comments a thousand deep",
            PASSES,
            draft("MESSAGE").add("User-Agent", &format!("{}{}", many("(", 15_000), many(")", 15_000))),
        ),
        shape("Subject of backslashes", PASSES, draft("MESSAGE").add("Subject", &many("\\", 40_000))),
        shape("multipart in multipart", PASSES, {
            let body: String = (0..800)
                .map(|n| format!("--b{n}\r\nContent-Type: multipart/mixed;boundary=b{}\r\n\r\n", n + 1))
                .collect();
            draft("MESSAGE").sdp(&body).set("Content-Type", "multipart/mixed;boundary=b0")
        }),
        shape("multipart around an offer", PASSES, {
            let body: String = (0..800)
                .map(|n| format!("--b{n}\r\nContent-Type: multipart/mixed;boundary=b{}\r\n\r\n", n + 1))
                .collect();
            draft("INVITE").sdp(&body).set("Content-Type", "multipart/mixed;boundary=b0")
        }),
        shape(
            "multipart without a boundary",
            PASSES,
            draft("INVITE").sdp("--\r\n\r\n--").set("Content-Type", "multipart/mixed"),
        ),
        shape(
            "multipart with an empty boundary",
            PASSES,
            draft("INVITE").sdp("--\r\n--\r\n----").set("Content-Type", "multipart/mixed;boundary=\"\""),
        ),
        shape(
            "message-summary that tempts scanf",
            PASSES,
            draft("NOTIFY")
                .add("Event", "message-summary")
                .sdp(&format!(
                    "Messages-Waiting: yes\r\nVoice-Message: {}/{}\r\n",
                    "9".repeat(4000),
                    "%n%s".repeat(2000)
                ))
                .set("Content-Type", "application/simple-message-summary"),
        ),
        shape(
            "percent signs everywhere",
            &[400, 404, 200, 416],
            draft("MESSAGE").start(&format!("MESSAGE sip:{}@{domain} SIP/2.0", "%s%n".repeat(500))),
        ),
        shape("Content-Length of 40 digits", &[400], draft("MESSAGE").set("Content-Length", &"9".repeat(40))),
        shape("Content-Length one too many", &[400], draft("MESSAGE").set("Content-Length", "1")),
        shape("Max-Forwards of 40 digits", &[400], draft("MESSAGE").set("Max-Forwards", &"9".repeat(40))),
        shape(
            "Expires of 40 digits",
            &[200, 400],
            draft("REGISTER")
                .start(&format!("REGISTER sip:{domain} SIP/2.0"))
                .set("To", &format!("<sip:x@{domain}>"))
                .add("Expires", &"9".repeat(40)),
        ),
        shape(
            "Request-URI of parameters",
            PASSES,
            draft("MESSAGE").start(&format!("MESSAGE sip:bob@{domain}{} SIP/2.0", many(";a=b", 9000))),
        ),
        shape("Request-URI of brackets", &[400], draft("MESSAGE").start("MESSAGE sip:a@[[[[::1 SIP/2.0")),
        shape("Request-URI without an end", &[400], draft("MESSAGE").start("MESSAGE sip:")),
        shape(
            "Route of 200 entries",
            PASSES,
            draft("MESSAGE").add("Route", many("<sip:a.example;lr>,", 200).trim_end_matches(',')),
        ),
        shape("Route that is empty", &[400, 200, 404], draft("MESSAGE").add("Route", "")),
        shape("Record-Route of garbage", PASSES, draft("MESSAGE").add("Record-Route", &many("<<>>,", 500))),
        shape("method of 30,000 octets", &[400, 404, 405, 200, 501], {
            let method = "M".repeat(20_000);
            draft("MESSAGE").start(&format!("{method} sip:bob@{domain} SIP/2.0")).set("CSeq", &format!("1 {method}"))
        }),
        shape("header names of 30,000 octets", PASSES, draft("MESSAGE").add(&"N".repeat(30_000), "v")),
        shape(
            "Authorization of commas",
            PASSES,
            draft("MESSAGE").add("Authorization", &format!("Digest {}", many("a=\"b\",", 5000))),
        ),
        shape("Authorization with an open quote", PASSES, draft("MESSAGE").add("Authorization", "Digest username=\"")),
        shape(
            "Replaces and Refer-To of garbage",
            PASSES,
            draft("MESSAGE").add("Replaces", &many(";=", 5000)).add("Refer-To", "<sip:?"),
        ),
        shape(
            "Session-Expires of 40 digits",
            PASSES,
            draft("INVITE").sdp(&agent.sdp()).add("Session-Expires", &"9".repeat(40)),
        ),
        shape(
            "RAck of garbage",
            &[400, 481],
            draft("PRACK").set("To", "<sip:b@b.example>;tag=1").add("RAck", &"9 ".repeat(3000)),
        ),
    ]
}

#[test]
fn s1_parser() {
    let _turn = turn();
    for role in ["standalone", "border"] {
        let mut world = if role == "border" { World::border("warn") } else { World::standalone(false, "warn") };
        let call = world.call();
        let before = world.daemon.resident();
        // Sent by a registered phone: nothing is refused for who sends it.
        let shapes = shapes(&world.alice, &world.domain);
        for Shape { name, status, bytes } in &shapes {
            let branch = Message::new(bytes, world.sip).branch().to_owned();
            world.alice.send(world.sip, bytes);
            let answer = world.alice.wait(Duration::from_secs(4), |message| {
                message.status().is_some_and(|status| status >= 200) && message.branch() == branch
            });
            let answer = answer.unwrap_or_else(|| panic!("{role}: {name} is not answered"));
            assert!(status.contains(&answer.status().unwrap()), "{role}: {name}: {}", answer.start());
            world.alice.forget();
        }
        let evil = Agent::stranger(world.net.ip(60));
        let mut mutated = 0;
        let total = scaled(60_000);
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as usize % below
        };
        let sources: Vec<&[u8]> = table::RFC4475
            .iter()
            .chain(table::RFC5118)
            .map(|c| c.bytes)
            .chain(shapes.iter().map(|s| &s.bytes[..]))
            .collect();
        while mutated < total {
            for source in &sources {
                let mut bytes = source.to_vec();
                for _ in 0..=random(3) {
                    let at = random(bytes.len().max(1)).min(bytes.len().saturating_sub(1));
                    if bytes.is_empty() {
                        break;
                    }
                    match random(4) {
                        0 => bytes[at] = b"\0\r\n \t\"<>;,:@[]\\=%*/a\xff"[random(21)],
                        1 => drop(bytes.remove(at)),
                        2 => bytes.truncate(at.max(1)),
                        _ => bytes.insert(at, b"\r\n\"<>;,:\\"[random(9)]),
                    }
                }
                let from = if mutated % 2 == 0 { &evil } else { &world.alice };
                from.send(world.sip, &bytes);
                mutated += 1;
                if mutated % 16 == 0 {
                    std::thread::sleep(Duration::from_micros(500));
                }
            }
        }
        let here = world.alice.draft("OPTIONS", &format!("sip:{}", world.sip));
        assert_eq!(world.alice.ask(world.sip, &here).unwrap().status(), Some(200));
        let growth = world.daemon.resident().saturating_sub(before);
        assert!(growth < GROWTH_KIB, "{role}: {growth} KiB");
        let audio = call.hang_up();
        assert!(world.daemon.is_alive());
        let figure = format!(
            "{role}: {} shapes answered rightly, {mutated} mutants, +{:.1} MiB",
            shapes.len(),
            growth as f64 / 1024.0
        );
        verdict("S1 parser", &figure, &audio);
    }
}
