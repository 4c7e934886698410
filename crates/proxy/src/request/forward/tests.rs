use wire::sip::{Limits, Stored};

use super::*;
use crate::config::{Listener, Role};
use crate::locate::Hop;
use crate::rig::house::{ALICE, BOB, DOOR, SDP, house, invite, only, registers, request, response, sent, told};
use crate::rig::{Rig, config, flow, listener, upstream};
use nat::Side;
use registry::Party;
use wire::Transport;

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
        &via::Ours::stateless(rig.proxy.own(from), 2),
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

fn stored(text: &str) -> Stored {
    Stored::parse(text.as_bytes().to_vec(), &Limits::default()).unwrap()
}

fn target(hop: Hop, uri: Option<&str>) -> Target {
    Target { uri: uri.map(|uri| uri.as_bytes().to_vec()), hop, binding: None, phone: None, flows: Vec::new() }
}

#[test]
fn hops_are_counted_down() {
    let rig = Rig::standalone();
    let from = flow(&rig.proxy, 0, ALICE);
    for (line, left) in [
        ("Max-Forwards: 5\r\n", 4),
        ("Max-Forwards: 1\r\n", 0),
        ("Max-Forwards: 0\r\n", 0),
        ("Max-Forwards: many\r\n", 70),
        ("", 70),
    ] {
        let stored = stored(&format!("BYE sip:a SIP/2.0\r\nVia: SIP/2.0/UDP {ALICE};branch=z9hG4bK1\r\n{line}\r\n"));
        let mut edit = Edit::new();
        let target = target(Hop::Flow(from), None);
        rig.proxy.route_edit(
            from,
            stored.message(),
            &target,
            &via::Ours::stateless(rig.proxy.own(from), 2),
            &Routed::default(),
            &mut edit,
        );
        let text = String::from_utf8(stored.message().edited(&edit)).unwrap();
        let hops: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("Max-Forwards: ")).collect();
        assert_eq!(hops, [left.to_string()], "{line}");
    }
}

/// A house whose first listener speaks UDP and whose second TLS; the first is trusted, or is not.
fn guarded(trusted: bool) -> Rig {
    let first = Listener { secure: trusted, ..listener(Side::Inner, "192.168.1.2:5060") };
    let tls = Listener { transport: Transport::Tls, ..listener(Side::Inner, "192.168.1.2:5061") };
    Rig::new(config(Role::Standalone, vec![first, tls]))
}

#[test]
fn what_is_secure_takes_no_open_hop() {
    for (trusted, asked, uri, secure, passes) in [
        (false, "sips:a@b", None, false, false),
        (false, "sips:a@b", None, true, true),
        (true, "sips:a@b", None, false, true),
        (false, "sip:a@b", None, false, true),
        (false, "sip:a@b", Some("sips:c@d"), false, false),
        (false, "sips:a@b", Some("sip:c@d"), false, true),
        (false, "tel:+49", None, false, true),
    ] {
        let rig = guarded(trusted);
        let udp = flow(&rig.proxy, 0, BOB);
        let flow = if secure { Flow { transport: Transport::Tls, listener: wire::ListenerId(1), ..udp } } else { udp };
        let message = stored(&format!("BYE {asked} SIP/2.0\r\nVia: SIP/2.0/UDP {ALICE};branch=z9hG4bK1\r\n\r\n"));
        let kept = rig.proxy.keeps_secure(&target(Hop::Flow(flow), uri), message.message(), flow);
        assert_eq!(kept.is_ok(), passes, "{trusted} {asked} {uri:?} {secure}");
    }
}

#[test]
fn encrypted_ways_go_first_for_what_is_secure() {
    let rig = guarded(false);
    let udp = flow(&rig.proxy, 0, BOB);
    let way = |transport| Way { flow: Flow { transport, ..udp }, name: String::new(), upstream: None, sized: false };
    let (open, tcp, tls, wss) = (way(Transport::Udp), way(Transport::Tcp), way(Transport::Tls), way(Transport::Wss));
    for (asked, uri, ways, expected) in [
        ("sips:a@b", None, vec![&open, &tls, &tcp, &wss], vec![&tls, &wss]),
        ("sips:a@b", None, vec![&open, &tcp], vec![&open, &tcp]),
        ("sip:a@b", None, vec![&open, &tls], vec![&open, &tls]),
        ("sip:a@b", Some("sips:c@d"), vec![&open, &tls], vec![&tls]),
        ("sips:a@b", Some("sip:c@d"), vec![&open, &tls], vec![&open, &tls]),
    ] {
        let message = stored(&format!("BYE {asked} SIP/2.0\r\nVia: SIP/2.0/UDP {ALICE};branch=z9hG4bK1\r\n\r\n"));
        let ways: Vec<Way> = ways.into_iter().cloned().collect();
        let (first, others) = secure_first(&target(Hop::Flow(udp), uri), message.message(), ways);
        let found: Vec<&Way> = std::iter::once(&first).chain(&others).collect();
        assert_eq!(found, expected, "{asked} {uri:?}");
    }
}

#[test]
fn a_fork_says_how_it_could_not_be_carried_only_when_no_branch_is_left() {
    let mut rig = house(&[BOB, DOOR]);
    let gone = rig.proxy.registry.bindings().find(|b| b.contact() == *b"sip:bob@192.168.1.22:5060").unwrap().clone();
    let tcp = Flow { transport: Transport::Tcp, connection: 7, ..gone.flow.get() };
    rig.receive(0, ALICE, &invite("call", ""));
    let asked = only(&sent(&mut rig), BOB, "INVITE ");
    // A branch whose connection has ended before it was sent.
    let id = rig.proxy.contexts.iter().find(|c| c.invite).unwrap().id;
    let mut context = rig.proxy.contexts.take(id).unwrap();
    let index = context.branches.iter().position(|b| b.target.binding == Some(gone.id)).unwrap();
    let lost = target(Hop::Flow(tcp), None);
    context.branches[index] = Branch::new(lost, context.flow, 9);
    rig.proxy.send_branches(rig.now, &mut context);
    assert_eq!(context.branches[index].result, Some(sip::Status(480)));
    assert!(context.open() && context.parked.is_none());
    rig.proxy.keep(rig.now, context);
    rig.wait(Duration::ZERO);
    assert_eq!(told(&mut rig), [""; 0]);
    rig.receive(0, BOB, &response(&asked, "486 Busy", "b", "", ""));
    assert_eq!(told(&mut rig), ["alice 486", "bob ACK"]);
}

#[test]
fn a_call_that_ended_while_it_waited_goes_nowhere() {
    let mut rig = house(&[BOB]);
    rig.receive(0, ALICE, &invite("call", ""));
    rig.said.clear();
    let id = rig.proxy.contexts.iter().find(|c| c.invite).unwrap().id;
    let mut context = rig.proxy.contexts.take(id).unwrap();
    let pass = context.purpose.pass().unwrap();
    context.branches[0].client = None;
    rig.proxy.finish(pass, crate::Cause::Failed);
    rig.proxy.send_branches(rig.now, &mut context);
    rig.proxy.keep(rig.now, context);
    rig.wait(Duration::ZERO);
    assert_eq!(told(&mut rig), ["alice 481"]);
}

#[test]
fn a_call_knows_the_way_that_it_took() {
    let mut rig = house(&[BOB]);
    rig.receive(0, ALICE, &invite("call", SDP));
    let call = rig.proxy.registry.calls().next().unwrap();
    assert_eq!((call.onward.get(), call.streams.len()), (flow(&rig.proxy, 0, BOB), 1));
    let asked = only(&sent(&mut rig), BOB, "INVITE ");
    assert_eq!(asked.matches("Record-Route:").count(), 1);
    assert_eq!(asked.matches(";lr>").count(), 1, "it stays on one side");
}

#[test]
fn what_is_cancelled_does_not_go_on_to_another_server() {
    for cancelled in [false, true] {
        let listeners = vec![listener(Side::Inner, "10.0.0.2:5060"), listener(Side::Outer, "203.0.113.30:5060")];
        let mut config = config(Role::Border, listeners);
        config.upstreams = vec![upstream("10.0.0.5"), upstream("10.0.0.6")];
        let mut rig = Rig::new(config);
        let phone = "198.51.100.7:40000";
        rig.registered("a.example", "alice", phone, "10.0.0.5:5060");
        rig.said.clear();
        let text = request("INVITE", phone, "bob", "call", "Contact: <sip:alice@198.51.100.7:40000>\r\n", "");
        let text = text.replace("192.168.1.2", "a.example");
        rig.receive(1, phone, &text);
        only(&sent(&mut rig), "10.0.0.5:5060", "INVITE ");
        if cancelled {
            rig.receive(1, phone, &text.replace("INVITE", "CANCEL"));
        }
        rig.said.clear();
        rig.wait(PATIENCE + Duration::from_millis(1));
        let moved = sent(&mut rig).iter().any(|(to, text)| to == "10.0.0.6:5060" && text.starts_with("INVITE "));
        assert_eq!(moved, !cancelled);
        let of = |context: &&Context| context.invite;
        let abandoned = rig.proxy.contexts.iter().find(of).map(|c| c.branches[0].abandoned.len());
        assert_eq!(abandoned, Some(usize::from(!cancelled)), "what may still be answered there is kept");
    }
}

#[test]
fn a_request_is_not_kept_where_nobody_can_answer_it_any_more() {
    for (method, failure, kept) in
        [("INVITE", Failure::Silent, 1), ("INVITE", Failure::Unsent, 0), ("MESSAGE", Failure::Silent, 0)]
    {
        let mut rig = house(&[BOB]);
        rig.receive(0, ALICE, &request(method, ALICE, "bob", "call", "Contact: <sip:alice@192.168.1.20>\r\n", ""));
        let invite = method == "INVITE";
        let id = rig.proxy.contexts.iter().find(|c| c.invite == invite && c.open()).unwrap().id;
        let mut context = rig.proxy.contexts.take(id).unwrap();
        let door = flow(&rig.proxy, 0, DOOR);
        let number = context.branches[0].number;
        context.branches[0].others = vec![Way { flow: door, name: String::new(), upstream: None, sized: false }];
        rig.said.clear();
        assert!(rig.proxy.try_next(rig.now, &mut context, 0, failure));
        let branch = &context.branches[0];
        assert_eq!((branch.flow, branch.abandoned.len()), (door, kept), "{method} {failure:?}");
        assert!(branch.number != number && branch.abandoned.iter().all(|a| a.number == number && a.flow != door));
        rig.proxy.keep(rig.now, context);
        rig.wait(Duration::ZERO);
        assert_eq!(told(&mut rig), [format!("door {method}")]);
    }
}

#[test]
fn media_takes_the_range_of_the_phone_at_its_end() {
    let mut config = config(Role::Standalone, vec![listener(Side::Inner, "192.168.1.2:5060")]);
    for range in [1, 2] {
        config.media.ranges.push(media::PortRange { first: 40_000 + 10 * range, last: 40_009 + 10 * range });
    }
    config.phones = vec![crate::rig::phone("a", "alice"), crate::rig::phone("b", "bob")];
    for (phone, range) in [(0, 1), (1, 2)] {
        config.phones[phone].range = Some(media::RangeId(range));
    }
    let mut rig = Rig::new(config);
    for (user, at) in [("alice", ALICE), ("bob", BOB), ("carol", DOOR)] {
        registers(&mut rig, user, at);
    }
    rig.receive(0, ALICE, &invite("call", ""));
    let pass = rig.proxy.registry.calls().next().unwrap().id;
    let binding = |rig: &Rig, user: &str| rig.proxy.registry.of_aor(user.as_bytes()).next().unwrap().id;
    let (here, there) = (flow(&rig.proxy, 0, ALICE), flow(&rig.proxy, 0, BOB));
    let caller = rig.proxy.registry.call(pass).unwrap().caller.clone();
    for (callee, ranges) in [("bob", [1, 2]), ("carol", [1, 1])] {
        let of = binding(&rig, callee);
        rig.proxy.registry.update_call(pass, |call| call.callees = vec![Party { binding: Some(of), ..caller.clone() }]);
        for (from, to) in [(0, 1), (1, 0)] {
            let (a, b) = if from == 0 { (here, there) } else { (there, here) };
            let ends = rig.proxy.ends_within(pass, from, to, a, b);
            assert_eq!(ends.map(|end| end.range.0), ranges, "{callee} {from}");
        }
        rig.proxy.registry.update_call(pass, |call| call.callees[0].binding = None);
        let ends = rig.proxy.ends_within(pass, 0, 1, here, there);
        assert_eq!(ends.map(|end| end.range.0), [1, 1]);
    }
    let id = rig.proxy.contexts.iter().find(|c| c.invite).unwrap().id;
    let mut context = rig.proxy.contexts.take(id).unwrap();
    for (phone, ranges) in [(Some(1), [1, 2]), (None, [1, 1])] {
        context.branches[0].target.phone = phone;
        assert_eq!(rig.proxy.ends_of_create(&context, 0, there).map(|end| end.range.0), ranges);
    }
    context.flow = flow(&rig.proxy, 0, DOOR);
    context.branches[0].target.phone = Some(1);
    assert_eq!(rig.proxy.ends_of_create(&context, 0, there).map(|end| end.range.0), [2, 2]);
}
