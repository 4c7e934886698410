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
