use wire::ListenerId;

use super::*;
use crate::rig::{config, listener, upstream};

#[test]
fn an_upstream_as_it_would_be_written() {
    for (host, port, transport, sips, uri) in [
        ("core.example", None, None, false, "sip:core.example"),
        ("core.example", Some(5070), None, true, "sips:core.example:5070"),
        ("10.0.0.5", None, Some(Transport::Tcp), false, "sip:10.0.0.5;transport=tcp"),
        ("2001:db8::5", Some(5061), Some(Transport::Tls), false, "sip:[2001:db8::5]:5061;transport=tls"),
    ] {
        let upstream = Upstream { port, transport, sips, ..upstream(host) };
        assert_eq!(upstream.uri(), uri);
    }
}

#[test]
fn no_password_is_shown() {
    let password = Password("secret".to_owned());
    assert_eq!(format!("{password:?}"), "***");
    let user = User { name: "alice".to_owned(), password: "secret".to_owned() };
    assert_eq!(format!("{user:?}"), "User { name: \"alice\", password: \"***\" }");
}

#[test]
fn roles_have_a_name_and_a_side_of_their_phones() {
    for (role, name, side) in [
        (Role::Office, "office", Side::Inner),
        (Role::Border, "border", Side::Outer),
        (Role::Standalone, "standalone", Side::Inner),
    ] {
        assert_eq!((role.as_str(), role.phones()), (name, side));
    }
}

#[test]
fn algorithms_as_they_are_written() {
    let written: Vec<_> = DigestAlgorithm::PREFERRED.iter().map(|algorithm| algorithm.as_str()).collect();
    assert_eq!(written, ["SHA-256", "SHA-512-256", "MD5"]);
}

#[test]
fn a_listener_has_a_side_and_an_unknown_one_is_inside() {
    let listeners = vec![listener(Side::Outer, "203.0.113.30:5060"), listener(Side::Inner, "10.0.0.2:5060")];
    let config = config(Role::Border, listeners);
    for (number, side) in [(0, Side::Outer), (1, Side::Inner), (2, Side::Inner)] {
        assert_eq!(config.side(ListenerId(number)), side);
    }
}
