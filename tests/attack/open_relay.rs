//! S7: nothing that a stranger, a registered phone, a party of a call or the
//! upstream writes into Request-URI or Route makes us send to a third party.

use std::net::SocketAddr;
use std::time::Duration;

use peer::{Agent, Draft, World, silent};

use crate::{turn, verdict};

const METHODS: [&str; 9] =
    ["INVITE", "MESSAGE", "SUBSCRIBE", "OPTIONS", "REFER", "PUBLISH", "NOTIFY", "REGISTER", "FOO"];

/// Every way to name the third party.
fn named(draft: &Draft, method: &str, us: SocketAddr, third: SocketAddr) -> Vec<Draft> {
    let start = |uri: &str| draft.clone().start(&format!("{method} {uri} SIP/2.0"));
    vec![
        start(&format!("sip:x@{third}")),
        start(&format!("sip:{third}")),
        start(&format!("sip:x@{third};lr")),
        start(&format!("sip:x@{us};maddr={};transport=udp", third.ip())),
        start(&format!("sip:x%40{third}@{us}")),
        draft.clone().add("Route", &format!("<sip:{third};lr>")),
        draft.clone().add("Route", &format!("<sip:{third}>")),
        draft.clone().add("Route", &format!("<sip:{us};lr>, <sip:{third};lr>")),
        draft.clone().add("Route", &format!("<sip:{us};lr>")).add("Route", &format!("<sip:{third}>")),
        draft
            .clone()
            .top("Route", &format!("<sip:{us};lr>"))
            .add("Route", &format!("<sip:{third};lr;maddr={}>", third.ip())),
        draft.clone().top("Via", &format!("SIP/2.0/UDP {third};branch=z9hG4bKthird")),
    ]
}

fn spray(source: &Agent, to: SocketAddr, user: &str, domain: &str, third: SocketAddr) -> usize {
    let mut count = 0;
    for method in METHODS {
        let draft = source.draft(method, &format!("sip:{user}@{domain}")).add("Contact", &source.contact());
        for draft in named(&draft, method, to, third) {
            source.send(to, &draft.bytes());
            count += 1;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    count
}

#[test]
fn s7_open_relay() {
    let _turn = turn();
    for role in ["standalone", "border", "office"] {
        let world = match role {
            "border" => World::border("warn"),
            "office" => World::office("warn"),
            _ => World::standalone(true, "warn"),
        };
        let call = world.call();
        let third = Agent::new("third", world.net.at(99, 5060), silent());
        let near = Agent::stranger(world.net.ip(50));
        let far = Agent::stranger(world.net.ip(51));
        let mut tried = 0;
        for (source, to) in
            [(&near, world.sip), (&far, world.upstream), (&world.alice, world.sip), (&world.bob, world.upstream)]
        {
            tried += spray(source, to, "bob", &world.domain, third.address);
        }
        for method in ["INFO", "INVITE", "MESSAGE", "UPDATE", "ACK"] {
            for (draft, source, to) in
                [(call.within(method), &world.alice, world.sip), (call.within_back(method), &world.bob, world.upstream)]
            {
                for draft in [
                    draft.clone().add("Route", &format!("<sip:{};lr>", third.address)),
                    draft.clone().add("Route", &format!("<sip:{}>", third.address)),
                ] {
                    source.send(to, &draft.bytes());
                    tried += 1;
                }
            }
        }
        // Answered by us, so all that came before it was read.
        world.alice.ask(world.sip, &world.alice.draft("OPTIONS", &format!("sip:{}", world.sip))).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(third.messages(), 0, "{role}: {:?}", third.heard());
        verdict("S7 open relay", &format!("{role}: 0 of {tried} reached the third party"), &call.hang_up());
    }
}
