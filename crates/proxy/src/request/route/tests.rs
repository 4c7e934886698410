use nat::Side;
use registry::{BindingId, FlowId};
use wire::sip::{Limits, Stored};

use super::*;
use crate::config::{Listener, Role};
use crate::rig::{Rig, config, flow, listener};
use crate::token::Facing;

const PHONE: &str = "198.51.100.7:40000";
const CORE: &str = "10.0.0.5:5060";

fn border() -> Rig {
    let odd = Listener { advertise_port: Some(5090), ..listener(Side::Outer, "203.0.113.30:5070") };
    let silent = Listener { accepts: false, ..listener(Side::Outer, "203.0.113.30:5072") };
    let retired = Listener { retired: true, ..listener(Side::Outer, "203.0.113.30:5074") };
    let (inner, outer) = (listener(Side::Inner, "10.0.0.2:5060"), listener(Side::Outer, "203.0.113.30:5060"));
    let mut config = config(Role::Border, vec![inner, outer, odd, silent, retired]);
    config.names = vec!["sbc.example".to_owned()];
    Rig::new(config)
}

fn request(uri: &str, routes: &[String]) -> Stored {
    let routes: String = routes.iter().map(|route| format!("Route: {route}\r\n")).collect();
    let text = format!("INVITE {uri} SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\n{routes}CSeq: 1 INVITE\r\n\r\n");
    Stored::parse(text.into_bytes(), &Limits::default()).unwrap()
}

fn routed(rig: &Rig, uri: &str, routes: &[String]) -> Routed {
    let core = flow(&rig.proxy, 0, CORE);
    rig.proxy.route(core, request(uri, routes).message()).map_err(|reject| reject.reason).unwrap()
}

fn text(rig: &Rig, token: Token) -> String {
    String::from_utf8(rig.proxy.key.seal(token).to_vec()).unwrap()
}

#[test]
fn what_the_route_says() {
    let rig = border();
    let entry = |token| format!("<sip:{}@10.0.0.2:5060;lr>", text(&rig, token));
    let (pass, other) = (PassId(7), PassId(8));
    let (callee, caller) = (entry(Token::Route(pass, Facing::Callee)), entry(Token::Route(pass, Facing::Caller)));
    let spiral = entry(Token::Route(other, Facing::Caller));
    let (binding, path) = (Token::Binding(BindingId(9)), Token::Flow(FlowId(9)));
    let (to_binding, to_flow) = (entry(binding), entry(path));
    let (us, proxy) = ("<sip:10.0.0.2:5060;lr>".to_owned(), "<sip:next.example;lr>".to_owned());
    let forged = format!("<sip:{}@10.0.0.2:5060;lr>", "x".repeat(32));
    let next = |text: &str| Some(text.as_bytes().to_vec());
    let none = Routed::default;
    for (routes, expected) in [
        (vec![], none()),
        (vec![us.clone()], Routed { pops: 1, ..none() }),
        (vec![proxy.clone(), us.clone()], Routed { next: next(&proxy), ..none() }),
        (vec![us.clone(), us.clone(), proxy.clone()], Routed { pops: 2, next: next(&proxy), ..none() }),
        (
            vec![caller.clone(), callee, proxy.clone()],
            Routed { pops: 2, pass: Some(pass), next: next(&proxy), ..none() },
        ),
        // Another pass of a spiral: that one's turn comes later.
        (vec![caller, spiral.clone(), us.clone()], Routed { pops: 1, pass: Some(pass), next: next(&spiral), ..none() }),
        (vec![to_binding.clone()], Routed { pops: 1, path: Some(binding), ..none() }),
        (
            vec![to_flow.clone(), to_binding.clone()],
            Routed { pops: 1, path: Some(path), next: next(&to_binding), ..none() },
        ),
        (vec![to_flow, proxy.clone()], Routed { pops: 1, path: Some(path), next: next(&proxy), ..none() }),
        (vec![forged.clone()], Routed { pops: 1, forged: true, ..none() }),
        (vec![forged, us], Routed { pops: 2, forged: true, ..none() }),
        // A Contact of ours is no Route entry of ours.
        (
            vec![format!("<sip:a@10.0.0.2;sl={};lr>", text(&rig, Token::Leg(pass, 1)))],
            Routed { next: next(&format!("<sip:a@10.0.0.2;sl={};lr>", text(&rig, Token::Leg(pass, 1)))), ..none() },
        ),
    ] {
        assert_eq!(routed(&rig, "sip:x@y", &routes), expected, "{routes:?}");
    }
}

#[test]
fn what_the_request_uri_says() {
    let rig = border();
    let (pass, leg) = (PassId(7), Token::Leg(PassId(7), 1));
    let contact = format!("sip:a@10.0.0.2;sl={}", text(&rig, leg));
    let ours = format!("sip:{}@10.0.0.2:5060;lr", text(&rig, Token::Route(pass, Facing::Caller)));
    let (to_leg, proxy) = (format!("<{contact}>"), "<sip:next.example;lr>".to_owned());
    let ours_again = format!("<sip:{}@10.0.0.2:5060;lr>", text(&rig, Token::Route(pass, Facing::Callee)));
    let next = |text: &str| Some(text.as_bytes().to_vec());
    let none = Routed::default;
    let strict = || Routed { pass: Some(pass), strict: true, ..none() };
    for (uri, routes, expected) in [
        (&contact, vec![], Routed { uri: Some(leg), ..none() }),
        (&contact, vec![proxy.clone()], Routed { uri: Some(leg), next: next(&proxy), ..none() }),
        // A strict router put our entry there: the last Route entry is where it goes.
        (&ours, vec![], Routed { pass: Some(pass), ..none() }),
        (&ours, vec![to_leg.clone()], Routed { uri: Some(leg), ..strict() }),
        (&ours, vec!["<sip:z@far.example>".to_owned()], strict()),
        (&ours, vec![proxy.clone(), to_leg.clone()], Routed { uri: Some(leg), next: next(&proxy), ..strict() }),
        (&ours, vec![ours_again, to_leg], Routed { uri: Some(leg), pops: 1, ..strict() }),
        (&ours, vec!["<sip:10.0.0.2:5060;lr>".to_owned()], strict()),
    ] {
        assert_eq!(routed(&rig, uri, &routes), expected, "{uri} {routes:?}");
    }
}

#[test]
fn a_path_that_names_the_way_that_a_request_came_is_none() {
    let rig = border();
    let phone = flow(&rig.proxy, 1, PHONE);
    let entry = format!("<sip:{}@203.0.113.30:5060;lr>", text(&rig, Token::Flow(rig.proxy.flow_id(phone))));
    let request = request("sip:x@y", &[entry]);
    let out = rig.proxy.route(phone, request.message()).map_err(|r| r.status).unwrap();
    assert_eq!((out.pops, out.path), (1, None));
    let in_ = rig.proxy.route(flow(&rig.proxy, 0, CORE), request.message()).map_err(|r| r.status).unwrap();
    assert!(in_.path.is_some());
}

#[test]
fn what_cannot_be_read_is_refused() {
    let rig = border();
    let core = flow(&rig.proxy, 0, CORE);
    for (uri, route, reason) in [
        ("nonsense", "<sip:a;lr>", "Bad Request-URI"),
        ("sip:x@y", "<sip:a;lr", "Bad Route"),
        ("sip:x@y", "<nonsense>", "Bad Route"),
    ] {
        let request = request(uri, &[route.to_owned()]);
        assert_eq!(rig.proxy.route(core, request.message()), Err(Reject::new(400, reason)), "{uri} {route}");
        assert_eq!(rig.proxy.route_of(core, request.message()), None);
    }
    let good = request("sip:x@y", &["<sip:10.0.0.2:5060;lr>".to_owned()]);
    assert_eq!(rig.proxy.route_of(core, good.message()).map(|routed| routed.pops), Some(1));
}

#[test]
fn our_name_counts_at_a_port_of_ours() {
    let rig = border();
    for (host, ours) in [
        ("sbc.example", true),
        ("SBC.Example", true),
        ("other.example", false),
        ("sbc.example:5060", true),
        ("sbc.example:5070", true),
        ("sbc.example:5090", true),
        ("sbc.example:5072", false),
        ("sbc.example:5074", false),
        ("sbc.example:5061", false),
    ] {
        let pops = routed(&rig, "sip:x@y", &[format!("<sip:{host};lr>")]).pops;
        assert_eq!(pops == 1, ours, "{host}");
    }
    let tel = routed(&rig, "sip:x@y", &["<tel:+49>".to_owned()]);
    assert_eq!(tel.pops, 0);
}

#[test]
fn what_is_asked_of_ourselves() {
    let rig = border();
    let core = flow(&rig.proxy, 0, CORE);
    let token = format!("sip:10.0.0.2:5060;sl={}", text(&rig, Token::Leg(PassId(7), 1)));
    for (uri, ours) in [
        ("sip:10.0.0.2:5060", true),
        ("sip:a@10.0.0.2:5060", false),
        ("sip:10.0.0.9:5060", false),
        (&token[..], false),
        ("nonsense", false),
    ] {
        assert_eq!(rig.proxy.is_to_us(core, request(uri, &[]).message()), ours, "{uri}");
    }
}
