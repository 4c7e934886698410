use nat::Side;
use wire::sip::Limits;

use super::*;
use crate::config::User;
use crate::rig::{Rig, config, flow, listener};

fn house(role: Role, users: bool) -> Rig {
    let listeners = vec![listener(Side::Inner, "10.0.0.2:5060"), listener(Side::Outer, "203.0.113.30:5060")];
    let mut config = config(role, listeners);
    if users {
        config.users = vec![User { name: "alice".to_owned(), password: "secret".to_owned() }];
    }
    Rig::new(config)
}

fn response(status: &str) -> Stored {
    let text = format!(
        "SIP/2.0 {status}\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nWWW-Authenticate: Digest realm=\"a\"\r\nCSeq: 1 \
         BYE\r\nProxy-Authenticate: Digest realm=\"b\"\r\nServer: x\r\n\r\n"
    );
    Stored::parse(text.into_bytes(), &Limits::default()).unwrap()
}

#[test]
fn only_who_keeps_the_passwords_may_ask() {
    for (role, users, listener, passes) in [
        (Role::Border, false, 0, true),
        (Role::Border, false, 1, false),
        (Role::Office, false, 0, false),
        (Role::Office, false, 1, true),
        (Role::Standalone, false, 0, true),
        (Role::Standalone, true, 0, false),
    ] {
        let rig = house(role, users);
        let from = flow(&rig.proxy, listener, "198.51.100.7:5060");
        for status in ["401 Unauthorized", "407 Proxy Authentication Required"] {
            let stripped = rig.proxy.unasked_challenge(from, response(status).message());
            assert_eq!(stripped.is_none(), passes, "{role:?} {users} {listener} {status}");
        }
        assert!(rig.proxy.unasked_challenge(from, response("403 Forbidden").message()).is_none());
    }
}

#[test]
fn the_rest_of_it_goes_back_as_403() {
    let rig = house(Role::Border, false);
    let from = flow(&rig.proxy, 1, "198.51.100.7:5060");
    let stripped = rig.proxy.unasked_challenge(from, response("407 Proxy Authentication Required").message()).unwrap();
    let text = String::from_utf8(stripped.message().bytes.to_vec()).unwrap();
    assert_eq!(text, "SIP/2.0 403 Forbidden\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nCSeq: 1 BYE\r\nServer: x\r\n\r\n");
}
