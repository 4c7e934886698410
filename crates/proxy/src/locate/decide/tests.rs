use std::collections::BTreeMap;

use super::*;

/// What the resolver knows in these tests.
fn world() -> BTreeMap<Question, Records> {
    let naptr = |order, preference, service: &str, replacement: &str| Naptr {
        order,
        preference,
        flags: "s".into(),
        service: service.into(),
        replacement: replacement.into(),
    };
    let srv = |priority, port, target: &str| Srv { priority, weight: 1, port, target: target.into() };
    let hosts = |ips: &[&str]| {
        let local =
            |ip: &IpAddr| if ip.is_ipv4() { [10, 0, 0, 1].into() } else { IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 1]) };
        let ips = ips.iter().map(|ip| ip.parse::<IpAddr>().expect("an address"));
        Records::Addresses(ips.map(|remote| Address { remote, local: local(&remote) }).collect())
    };
    let mut known = BTreeMap::new();
    let mut put = |name: &str, kind, records| known.insert(Question { name: name.into(), kind }, records);
    // All three transports, TLS preferred; a service that is not for SIP; a worse order.
    put(
        "full.example",
        Kind::Naptr,
        Records::Naptr(vec![
            naptr(100, 50, "SIP+D2T", "_sip._tcp.full.example."),
            naptr(100, 100, "SIP+D2U", "_sip._udp.full.example"),
            naptr(100, 10, "SIPS+D2T", "_sips._tcp.full.example"),
            naptr(50, 10, "E2U+sip", "elsewhere.example"),
            naptr(200, 1, "SIP+D2U", "_sip._udp.worse.example"),
        ]),
    );
    put("_sips._tcp.full.example", Kind::Srv, Records::Srv(vec![srv(1, 5061, "s1.full.example")]));
    put("_sip._tcp.full.example", Kind::Srv, Records::Srv(vec![srv(1, 5060, "s1.full.example")]));
    put(
        "_sip._udp.full.example",
        Kind::Srv,
        Records::Srv(vec![srv(2, 5080, "s2.full.example"), srv(1, 5070, "s1.full.example.")]),
    );
    put("s1.full.example", Kind::Addresses, hosts(&["192.0.2.1"]));
    put("s2.full.example", Kind::Addresses, hosts(&["192.0.2.2"]));
    put("full.example", Kind::Addresses, hosts(&["192.0.2.9"]));
    // No NAPTR.
    put("_sip._udp.srv.example", Kind::Srv, Records::Srv(vec![srv(1, 5070, "s1.full.example")]));
    put("_sip._tcp.srv.example", Kind::Srv, Records::Srv(vec![srv(1, 5071, "s2.full.example")]));
    put("_sips._tcp.srv.example", Kind::Srv, Records::Srv(vec![srv(1, 5072, "s2.full.example")]));
    put("srv.example", Kind::Addresses, hosts(&["192.0.2.8"]));
    // Addresses only; of both families.
    put("a.example", Kind::Addresses, hosts(&["192.0.2.7"]));
    put("dual.example", Kind::Addresses, hosts(&["2001:db8::1", "2001:db8::2", "192.0.2.5", "192.0.2.6"]));
    // Decidedly no service (RFC 2782).
    put("_sip._udp.none.example", Kind::Srv, Records::Srv(vec![srv(0, 0, ".")]));
    put("none.example", Kind::Addresses, hosts(&["192.0.2.4"]));
    known
}

fn goal(uri: &str) -> Goal {
    let (scheme, rest) = uri.split_once(':').expect("a scheme");
    let (place, transport) = match rest.split_once(";transport=") {
        Some((place, transport)) => (place, Transport::named(transport.as_bytes())),
        None => (rest, None),
    };
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port.parse().ok()),
        _ => (place, None),
    };
    let host = host.trim_matches(['[', ']']).to_owned();
    Goal { host, port, transport, sips: scheme == "sips" }
}

/// The candidates as text.
fn decided(uri: &str, can: &[Transport]) -> String {
    let known = world();
    let nothing = |kind| match kind {
        Kind::Naptr => Records::Naptr(Vec::new()),
        Kind::Srv => Records::Srv(Vec::new()),
        Kind::Addresses => Records::Addresses(Vec::new()),
    };
    let none: BTreeMap<Kind, Records> =
        [Kind::Naptr, Kind::Srv, Kind::Addresses].into_iter().map(|kind| (kind, nothing(kind))).collect();
    let mut lookup = |question: Question| known.get(&question).or_else(|| none.get(&question.kind));
    match decide(&goal(uri), can, 1, &mut lookup) {
        Verdict::Found(found) => {
            let text = found.iter().map(|c| format!("{} {}", c.transport.via().to_ascii_lowercase(), c.remote));
            text.collect::<Vec<_>>().join(", ")
        }
        Verdict::Wait => "wait".to_owned(),
        Verdict::Nowhere => "nowhere".to_owned(),
    }
}

#[test]
fn rfc_3263_decision_table() {
    use Transport::{Tcp, Tls, Udp, Ws};
    let all: &[Transport] = &[Udp, Tcp, Tls];
    for (section, uri, can, expected) in [
        // Which transport.
        ("§4.1 ¶2, a transport parameter", "sip:192.0.2.1;transport=tcp", all, "tcp 192.0.2.1:5060"),
        ("§4.1 ¶2, one that we do not speak", "sip:192.0.2.1;transport=ws", all, "nowhere"),
        ("§4.1 ¶3, a numeric host: UDP", "sip:192.0.2.1", all, "udp 192.0.2.1:5060"),
        ("§4.1 ¶3, a numeric host: TLS for sips", "sips:192.0.2.1", all, "tls 192.0.2.1:5061"),
        ("§4.1 ¶3, IPv6 too", "sip:[2001:db8::9]", all, "udp [2001:db8::9]:5060"),
        ("§4.1 ¶3, a port is written: UDP", "sip:full.example:5090", all, "udp 192.0.2.9:5090"),
        ("§4.1 ¶3, a port is written: TLS for sips", "sips:full.example:5090", all, "tls 192.0.2.9:5090"),
        ("§4.1 ¶3, without UDP what there is", "sip:192.0.2.1", &[Tcp], "tcp 192.0.2.1:5060"),
        (
            "§4.1, NAPTR by order and preference",
            "sip:full.example",
            all,
            "tls 192.0.2.1:5061, tcp 192.0.2.1:5060, udp 192.0.2.1:5070, udp 192.0.2.2:5080",
        ),
        (
            "§4.1, NAPTR of transports that we do not speak are discarded",
            "sip:full.example",
            &[Udp],
            "udp 192.0.2.1:5070, udp 192.0.2.2:5080",
        ),
        ("§4.1, sips discards all but SIPS", "sips:full.example", all, "tls 192.0.2.1:5061"),
        ("§4.1, no NAPTR that fits: SRV of what we speak", "sip:full.example", &[Ws], "ws 192.0.2.9:80"),
        ("§4.1, no NAPTR: SRV for each transport", "sip:srv.example", all, "udp 192.0.2.1:5070, tcp 192.0.2.2:5071"),
        ("§4.1, no NAPTR: _sips for sips", "sips:srv.example", all, "tls 192.0.2.2:5072"),
        ("§4.1, no NAPTR, no SRV: UDP", "sip:a.example", all, "udp 192.0.2.7:5060"),
        ("§4.1, no NAPTR, no SRV: TLS for sips", "sips:a.example", all, "tls 192.0.2.7:5061"),
        ("§26.2.2 of RFC 3261: sips never leaves TLS", "sips:a.example", &[Udp, Tcp], "nowhere"),
        (
            "§26.2.2 of RFC 3261: sips with transport=tcp is TLS",
            "sips:192.0.2.1;transport=tcp",
            all,
            "tls 192.0.2.1:5061",
        ),
        ("§26.2.2 of RFC 3261: sips with transport=udp is nothing", "sips:192.0.2.1;transport=udp", all, "nowhere"),
        // Which port and address.
        ("§4.2 ¶2, numeric with a port", "sip:192.0.2.1:5070", all, "udp 192.0.2.1:5070"),
        ("§4.2 ¶3, a port is written: no SRV", "sip:srv.example:5060", all, "udp 192.0.2.8:5060"),
        ("§4.2 ¶3, port and transport", "sip:srv.example:5099;transport=tcp", all, "tcp 192.0.2.8:5099"),
        ("§4.2 ¶4, SRV of the transport that is written", "sip:srv.example;transport=tcp", all, "tcp 192.0.2.2:5071"),
        ("§4.2 ¶4, and no NAPTR", "sip:full.example;transport=udp", all, "udp 192.0.2.1:5070, udp 192.0.2.2:5080"),
        ("§4.2 ¶4, tls means _sips._tcp", "sip:srv.example;transport=tls", all, "tls 192.0.2.2:5072"),
        ("§4.2 ¶5, no SRV: A with the usual port", "sip:a.example;transport=tls", all, "tls 192.0.2.7:5061"),
        ("§4.2, a name that does not exist", "sip:nowhere.example", all, "nowhere"),
        ("RFC 2782, a target of . is decidedly nothing", "sip:none.example", &[Udp], "nowhere"),
        (
            "RFC 7984 §3.1, families by turns",
            "sip:dual.example",
            &[Udp],
            "udp [2001:db8::1]:5060, udp 192.0.2.5:5060, udp [2001:db8::2]:5060, udp 192.0.2.6:5060",
        ),
    ] {
        assert_eq!(decided(uri, can), expected, "{section}: {uri} with {can:?}");
    }
}

#[test]
fn what_is_not_known_yet_is_asked_step_by_step() {
    let known = world();
    let mut have: BTreeMap<Question, Records> = BTreeMap::new();
    let mut rounds = Vec::new();
    loop {
        let mut missing = Vec::new();
        let verdict = {
            let mut lookup = |question: Question| {
                let found = have.get(&question);
                if found.is_none() {
                    missing.push(question);
                }
                found
            };
            decide(&goal("sip:full.example"), &[Transport::Udp, Transport::Tls], 1, &mut lookup)
        };
        if verdict != Verdict::Wait {
            assert!(matches!(verdict, Verdict::Found(found) if found.len() == 3));
            break;
        }
        rounds.push(missing.iter().map(|q| format!("{:?} {}", q.kind, q.name)).collect::<Vec<_>>().join(", "));
        for question in missing {
            let records = known.get(&question).cloned().expect("it exists");
            have.insert(question, records);
        }
    }
    assert_eq!(
        rounds,
        [
            "Naptr full.example",
            "Srv _sips._tcp.full.example, Srv _sip._udp.full.example",
            "Addresses s1.full.example, Addresses s1.full.example, Addresses s2.full.example",
        ]
    );
}

#[test]
fn a_peer_cannot_make_the_list_long() {
    let servers = (0..60_000u32).map(|n| Srv {
        priority: 1,
        weight: 1,
        port: (n % 50_000) as u16 + 1,
        target: "many.example".into(),
    });
    let servers = Records::Srv(servers.collect());
    let address = |n: u32| Address { remote: IpAddr::from(n.to_be_bytes()), local: [10, 0, 0, 1].into() };
    let addresses = Records::Addresses((1..5000).map(address).collect());
    let mut lookup = |question: Question| Some(if question.kind == Kind::Srv { &servers } else { &addresses });
    let verdict = decide(&goal("sip:many.example;transport=udp"), &[Transport::Udp], 1, &mut lookup);
    assert!(matches!(verdict, Verdict::Found(found) if found.len() == MOST_ADDRESSES));
}

/// Decides over a world of a few records, and says what was asked.
fn among(uri: &str, can: &[Transport], records: &[(&str, Records)]) -> (String, Vec<String>) {
    let nothing = [Records::Naptr(Vec::new()), Records::Srv(Vec::new()), Records::Addresses(Vec::new())];
    let kind = |records: &Records| match records {
        Records::Naptr(_) => Kind::Naptr,
        Records::Srv(_) => Kind::Srv,
        Records::Addresses(_) => Kind::Addresses,
    };
    let mut asked = Vec::new();
    let mut lookup = |question: Question| {
        let found = records.iter().find(|(name, of)| *name == question.name && kind(of) == question.kind);
        let none = nothing.iter().find(|none| kind(none) == question.kind);
        asked.push(format!("{:?} {}", question.kind, question.name));
        found.map(|(_, records)| records).or(none)
    };
    let text = match decide(&goal(uri), can, 1, &mut lookup) {
        Verdict::Found(found) => {
            let text = found.iter().map(|c| format!("{} {}", c.transport.via().to_ascii_lowercase(), c.remote));
            text.collect::<Vec<_>>().join(", ")
        }
        Verdict::Wait => "wait".to_owned(),
        Verdict::Nowhere => "nowhere".to_owned(),
    };
    (text, asked)
}

fn naptr(flags: &str, service: &str, replacement: &str) -> Naptr {
    let (flags, service, replacement) = (flags.into(), service.into(), replacement.into());
    Naptr { order: 1, preference: 1, flags, service, replacement }
}

fn srv(priority: u16, port: u16, target: &str) -> Srv {
    Srv { priority, weight: 0, port, target: target.into() }
}

fn host(ips: &[&str]) -> Records {
    let address = |ip: &&str| Address { remote: ip.parse().unwrap(), local: [10, 0, 0, 1].into() };
    Records::Addresses(ips.iter().map(address).collect())
}

#[test]
fn each_transport_has_its_service_and_its_port() {
    use Transport::{Tcp, Tls, Udp, Ws, Wss};
    for (transport, name, naptr_service, port) in [
        (Udp, "_sip._udp.a.example", "SIP+D2U", 5060),
        (Tcp, "_sip._tcp.a.example", "sip+d2t", 5060),
        (Tls, "_sips._tcp.a.example", "SIPS+D2T", 5061),
        (Ws, "_sip._ws.a.example", "SIP+D2W", 80),
        (Wss, "_sips._ws.a.example", "SIPS+D2W", 443),
    ] {
        let text = transport.via().to_ascii_lowercase();
        let records = [("a.example", host(&["192.0.2.1"]))];
        let (found, asked) = among(&format!("sip:a.example;transport={text}"), &[transport], &records);
        assert_eq!(found, format!("{text} 192.0.2.1:{port}"));
        assert_eq!(asked, [format!("Srv {name}"), "Addresses a.example".to_owned()]);
        let records = [
            ("a.example", Records::Naptr(vec![naptr("S", naptr_service, "Odd.Example.")])),
            ("odd.example", Records::Srv(vec![srv(1, 7000, "S.Example")])),
            ("s.example", host(&["192.0.2.2"])),
        ];
        assert_eq!(among("sip:a.example", &[transport], &records).0, format!("{text} 192.0.2.2:7000"));
    }
}

#[test]
fn what_a_transport_means_under_sips() {
    use Transport::{Tcp, Tls, Udp, Ws, Wss};
    for (uri, found) in [
        ("sips:192.0.2.1;transport=tcp", "tls 192.0.2.1:5061"),
        ("sips:192.0.2.1;transport=tls", "tls 192.0.2.1:5061"),
        ("sips:192.0.2.1;transport=ws", "wss 192.0.2.1:443"),
        ("sips:192.0.2.1;transport=wss", "wss 192.0.2.1:443"),
        ("sips:192.0.2.1;transport=udp", "nowhere"),
        ("sip:192.0.2.1;transport=ws", "ws 192.0.2.1:80"),
    ] {
        assert_eq!(among(uri, &[Udp, Tcp, Tls, Ws, Wss], &[]).0, found, "{uri}");
    }
}

#[test]
fn a_service_of_another_kind_is_no_service() {
    let records = [
        ("a.example", Records::Naptr(vec![naptr("a", "SIP+D2U", "x.example"), naptr("s", "E2U+sip", "y.example")])),
        ("_sip._udp.a.example", Records::Srv(vec![srv(1, 5070, "s.example")])),
        ("s.example", host(&["192.0.2.2"])),
    ];
    let (found, asked) = among("sip:a.example", &[Transport::Udp], &records);
    assert_eq!(found, "udp 192.0.2.2:5070");
    assert_eq!(asked, ["Naptr a.example", "Srv _sip._udp.a.example", "Addresses s.example"]);
}

#[test]
fn a_server_that_is_said_twice_is_tried_once() {
    let twice = [
        ("_sip._udp.a.example", Records::Srv(vec![srv(1, 5070, "s.example"), srv(2, 5070, "s.example")])),
        ("_sip._tcp.a.example", Records::Srv(vec![srv(1, 5070, "s.example"), srv(2, 5071, "s.example")])),
        ("s.example", host(&["192.0.2.2"])),
    ];
    assert_eq!(
        among("sip:a.example", &[Transport::Udp, Transport::Tcp], &twice).0,
        "udp 192.0.2.2:5070, tcp 192.0.2.2:5070, tcp 192.0.2.2:5071"
    );
}

#[test]
fn a_service_that_is_not_offered_is_not_looked_for() {
    for target in ["", "."] {
        let none =
            [("_sip._udp.a.example", Records::Srv(vec![srv(0, 0, target)])), ("a.example", host(&["192.0.2.1"]))];
        let (found, asked) = among("sip:a.example;transport=udp", &[Transport::Udp], &none);
        assert_eq!(found, "nowhere");
        assert_eq!(asked, ["Srv _sip._udp.a.example"]);
    }
}

#[test]
fn families_take_turns_while_there_are_both() {
    for (addresses, found) in [
        (&["192.0.2.1", "2001:db8::1"][..], "udp 192.0.2.1:5060, udp [2001:db8::1]:5060"),
        (
            &["192.0.2.1", "192.0.2.2", "2001:db8::1", "192.0.2.3"],
            "udp 192.0.2.1:5060, udp [2001:db8::1]:5060, udp 192.0.2.2:5060, udp 192.0.2.3:5060",
        ),
        (&["2001:db8::1", "192.0.2.1", "192.0.2.2"], "udp [2001:db8::1]:5060, udp 192.0.2.1:5060, udp 192.0.2.2:5060"),
    ] {
        assert_eq!(among("sip:a.example:5060", &[Transport::Udp], &[("a.example", host(addresses))]).0, found);
    }
}

#[test]
fn so_many_records_are_followed() {
    let name = |n: u16| format!("h{n}.example");
    let servers: Vec<Srv> = (0..40).map(|n| srv(n, 5060, &name(n))).collect();
    let (_, asked) =
        among("sip:a.example;transport=udp", &[Transport::Udp], &[("_sip._udp.a.example", Records::Srv(servers))]);
    assert_eq!(asked.len(), 1 + MOST_SERVERS);
    let services = (0..40).map(|n| naptr("s", "SIP+D2U", &name(n))).collect();
    let (_, asked) = among("sip:a.example", &[Transport::Udp], &[("a.example", Records::Naptr(services))]);
    assert_eq!(asked.iter().filter(|question| question.starts_with("Srv ")).count(), MOST_SERVICES);
    let many: Vec<String> = (1..=20).map(|n| format!("192.0.2.{n}")).collect();
    let many = host(&many.iter().map(|ip| &ip[..]).collect::<Vec<_>>());
    let servers = Records::Srv(vec![srv(1, 5060, "many.example"), srv(2, 5060, "other.example")]);
    let records = [("_sip._udp.a.example", servers), ("many.example", many)];
    let (found, asked) = among("sip:a.example;transport=udp", &[Transport::Udp], &records);
    assert_eq!(found.split(", ").count(), MOST_ADDRESSES);
    assert_eq!(asked, ["Srv _sip._udp.a.example", "Addresses many.example"], "there are enough");
}
