//! The torture messages over the wire: to the running program, in each role,
//! over UDP and over TCP, while a call with audio is up through it.
#![allow(clippy::unwrap_used, reason = "a test that unwraps in vain has failed")]
#![allow(clippy::disallowed_methods, reason = "the test is the world around the program: its sockets and its clock")]

mod sender;
#[path = "../table.rs"]
#[allow(dead_code, reason = "scratch")]
mod table;

use peer::{Message, World, announce};
use sender::Sender;
use table::{RFC4475, RFC5118};

#[test]
fn all() {
    for role in ["standalone", "border", "office"] {
        for transport in ["udp", "tcp"] {
            let world = match role {
                "border" => World::border("debug"),
                "office" => World::office("debug"),
                _ => World::standalone(false, "debug"),
            };
            let call = world.call();
            let mut sender = if transport == "udp" { Sender::udp(&world) } else { Sender::tcp() };
            for case in RFC4475.iter().chain(RFC5118) {
                let id = Message::new(case.bytes, world.sip).value("Call-ID").unwrap_or_default().to_owned();
                world.bob.forget();
                let heard = sender.say(&world, case.bytes);
                let at_core = world.bob.heard().iter().filter(|m| !id.is_empty() && m.value("Call-ID") == Some(&id)).map(|m| m.start().chars().take(40).collect::<String>()).collect::<Vec<_>>();
                let said: Vec<String> = heard.messages.iter().map(|m| format!("{} @{:?} {:?}", m.start(), m.from.port(), m.value("Warning"))).collect();
                announce(&format!("{role} {transport} {:<30} {:?} => {said:?} core {at_core:?} {}{}", case.name, case.layer, if heard.closed {"CLOSED"} else {""}, if heard.waits {"WAITS"} else {""}));
            }
            announce(&format!("{role} {transport} {}", call.hang_up()));
        }
    }
}
