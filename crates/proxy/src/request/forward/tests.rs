use wire::sip::{Limits, Stored};

use super::*;
use crate::locate::Hop;
use crate::rig::{Rig, flow};

/// Request-URI and Route of what leaves, for a request with this Route.
fn left(route: &str, pops: usize, strict: bool, uri: Option<&str>) -> (String, String) {
    let rig = Rig::standalone();
    let from = flow(&rig.proxy, 0, "192.168.1.20:5060");
    let route = if route.is_empty() { String::new() } else { format!("Route: {route}\r\n") };
    let text = format!(
        "BYE sip:asked@192.168.1.2 SIP/2.0\r\n{route}Via: SIP/2.0/UDP 192.168.1.20;branch=z9hG4bK1\r\nMax-Forwards: \
         70\r\nCSeq: 1 BYE\r\n\r\n"
    );
    let stored = Stored::parse(text.into_bytes(), &Limits::default()).unwrap();
    let routed = Routed { pops, strict, ..Routed::default() };
    let uri = uri.map(|uri| uri.as_bytes().to_vec());
    let target = Target { uri, hop: Hop::Flow(from), binding: None, phone: None, flows: Vec::new() };
    let mut edit = Edit::new();
    rig.proxy.route_edit(
        from,
        stored.message(),
        &target,
        "SIP/2.0/UDP 192.168.1.2;branch=z9hG4bK2",
        &routed,
        &mut edit,
    );
    let text = String::from_utf8(stored.message().edited(&edit)).unwrap();
    let asked = text.split(' ').nth(1).unwrap().to_owned();
    let routes = text.lines().filter_map(|line| line.strip_prefix("Route: "));
    (asked, routes.collect::<Vec<_>>().join(" | "))
}

#[test]
fn what_becomes_of_request_uri_and_route() {
    let (a, b, c, s) = ("<sip:a;lr>", "<sip:b;lr>", "<sip:c;lr>", "<sip:s>");
    let (asked, target) = ("sip:asked@192.168.1.2", "sip:target@192.0.2.7");
    for (route, pops, strict, uri, wanted) in [
        (String::new(), 0, false, None, (asked, String::new())),
        (String::new(), 0, false, Some(target), (target, String::new())),
        // Ours are taken off, the rest stays as it is.
        (a.to_owned(), 1, false, Some(target), (target, String::new())),
        (format!("{a}, {b}, {c}"), 0, false, None, (asked, format!("{a}, {b}, {c}"))),
        (format!("{a}, {b}, {c}"), 1, false, None, (asked, format!("{b}, {c}"))),
        (format!("{a}, {b}, {c}"), 2, false, Some(target), (target, c.to_owned())),
        // A strict router behind us: it becomes the Request-URI, what was there goes to the end.
        (format!("{a}, {s}"), 1, false, None, ("sip:s", format!("<{asked}>"))),
        (format!("{a}, {s}, {b}, {c}"), 1, false, Some(target), ("sip:s", format!("{b}, {c}, <{target}>"))),
        // A strict router before us: the last entry is the Request-URI.
        (c.to_owned(), 0, true, None, ("sip:c;lr", String::new())),
        (c.to_owned(), 0, true, Some(target), (target, String::new())),
        (format!("{a}, {b}, {c}"), 0, true, None, ("sip:c;lr", format!("{a}, {b}"))),
        (format!("{a}, {b}, {c}"), 1, true, None, ("sip:c;lr", b.to_owned())),
        (format!("{a}, {b}, {c}"), 2, true, None, ("sip:c;lr", String::new())),
        // Both.
        (format!("{s}, {b}, {c}"), 0, true, None, ("sip:s", format!("{b}, <sip:c;lr>"))),
    ] {
        let found = left(&route, pops, strict, uri);
        assert_eq!((found.0.as_str(), found.1), (wanted.0, wanted.1), "{route} {pops} {strict} {uri:?}");
    }
}
