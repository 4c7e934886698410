use nat::Side;
use wire::sip::{Limits, Stored};
use wire::{Flow, Transport};

use super::*;
use crate::config::{Listener, Role, User};
use crate::rig::{Rig, config, listener};
use crate::{Input, Output};

const PHONE: &str = "192.168.1.20:5060";
const OUTSIDE: &str = "198.51.100.7:40000";

/// Inner UDP (listener 0), inner TCP (1), outer UDP (2).
fn house() -> Rig {
    let tcp = Listener { transport: Transport::Tcp, ..listener(Side::Inner, "192.168.1.2:5060") };
    let outer = listener(Side::Outer, "203.0.113.30:5060");
    Rig::new(config(Role::Standalone, vec![listener(Side::Inner, "192.168.1.2:5060"), tcp, outer]))
}

fn flow(rig: &Rig, listener: u16, from: &str) -> Flow {
    let transport = rig.proxy.config.listeners[usize::from(listener)].transport;
    Flow { transport, connection: u32::from(transport.reliable()), ..crate::rig::flow(&rig.proxy, listener, from) }
}

fn request(from: &str, call_id: &str, cseq: u32, fields: &str) -> Stored {
    let text = format!(
        "REGISTER sip:192.168.1.2 SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bK{call_id}.{cseq}.{}\r\nMax-Forwards: \
         70\r\nFrom: <sip:alice@h>;tag=1\r\nTo: <sip:alice@h>\r\nCall-ID: {call_id}\r\nCSeq: {cseq} \
         REGISTER\r\n{fields}\r\n",
        fields.len()
    );
    Stored::parse(text.into_bytes(), &Limits::default()).unwrap()
}

/// What the registrar says to a REGISTER that comes in on a flow.
fn on(rig: &mut Rig, flow: Flow, stored: &Stored) -> Result<String, Reject> {
    let message = stored.message();
    let key = Key::of(&rig.proxy.hashes, message, &message.top_via().unwrap());
    rig.said.clear();
    rig.proxy.registrar(rig.now, flow, message, key)?;
    rig.wait(Duration::ZERO);
    let said = std::mem::take(&mut rig.said);
    let mut sent = said.into_iter().filter_map(|output| match output {
        Output::Transmit(t) => Some(String::from_utf8(t.bytes).unwrap()),
        _ => None,
    });
    Ok(sent.next().expect("an answer"))
}

/// The same for alice's phone in the house.
fn ask(rig: &mut Rig, call_id: &str, cseq: u32, fields: &str) -> Result<String, Reject> {
    let flow = flow(rig, 0, PHONE);
    on(rig, flow, &request(PHONE, call_id, cseq, fields))
}

fn refused(rig: &mut Rig, call_id: &str, cseq: u32, fields: &str) -> (u16, &'static str, String) {
    let reject = ask(rig, call_id, cseq, fields).unwrap_err();
    (reject.status.0, reject.reason, String::from_utf8(reject.extra).unwrap())
}

/// Values of the Contacts of an answer, without our own tokens.
fn contacts(answer: &str) -> Vec<&str> {
    answer.lines().filter_map(|line| line.strip_prefix("Contact: ")).collect()
}

fn contact(port: u16) -> String {
    format!("Contact: <sip:alice@192.168.1.20:{port}>\r\n")
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn what_is_refused_and_why() {
    for (fields, status, reason, extra) in [
        ("Contact: <sip:alice@192.168.1.20\r\n", 400, "Bad Contact", ""),
        ("Contact: *\r\n", 400, "Contact: * goes alone and with Expires: 0", ""),
        ("Contact: *\r\nExpires: 60\r\n", 400, "Contact: * goes alone and with Expires: 0", ""),
        (
            "Contact: *\r\nContact: <sip:alice@192.168.1.20>\r\nExpires: 0\r\n",
            400,
            "Contact: * goes alone and with Expires: 0",
            "",
        ),
        ("Contact: <sip:alice@192.168.1.20>;expires=9\r\n", 423, "Interval Too Brief", "Min-Expires: 10\r\n"),
        ("Contact: <sip:alice@192.168.1.20>\r\nExpires: 1\r\n", 423, "Interval Too Brief", "Min-Expires: 10\r\n"),
    ] {
        let mut rig = house();
        assert_eq!(refused(&mut rig, "c", 1, fields), (status, reason, extra.to_owned()), "{fields}");
        assert_eq!(rig.proxy.work().bindings, 0, "{fields}");
    }
    let mut rig = house();
    let text = "REGISTER sip:h SIP/2.0\r\nVia: SIP/2.0/UDP 192.168.1.20;branch=z9hG4bK1\r\nFrom: <sip:h>;tag=1\r\nTo: \
                <sip:h>\r\nCall-ID: c\r\nCSeq: 1 REGISTER\r\n\r\n";
    let stored = Stored::parse(text.as_bytes().to_vec(), &Limits::default()).unwrap();
    let flow = flow(&rig, 0, PHONE);
    assert_eq!(on(&mut rig, flow, &stored), Err(Reject::new(400, "To has no user part")));
}

#[test]
fn how_long_a_binding_lasts() {
    for (fields, granted) in [
        ("Contact: <sip:alice@192.168.1.20:5060>;expires=10\r\n", 10),
        ("Contact: <sip:alice@192.168.1.20:5060>;expires=100\r\nExpires: 200\r\n", 100),
        ("Contact: <sip:alice@192.168.1.20:5060>\r\nExpires: 200\r\n", 200),
        ("Contact: <sip:alice@192.168.1.20:5060>;expires=soon\r\nExpires: 200\r\n", 200),
        ("Contact: <sip:alice@192.168.1.20:5060>\r\nExpires: soon\r\n", 3600),
        ("Contact: <sip:alice@192.168.1.20:5060>\r\n", 3600),
        ("Contact: <sip:alice@192.168.1.20:5060>;expires=7200\r\n", 3600),
        ("Contact: <sip:alice@192.168.1.20:5060>;expires=4294967297\r\n", 3600),
        // What it says of itself is not where it is: a NAT, whose mapping is short-lived.
        ("Contact: <sip:alice@10.0.0.9:5060>;expires=7200\r\n", 60),
        ("Contact: <sip:alice@10.0.0.9:5060>;expires=50\r\n", 50),
    ] {
        let mut rig = house();
        let answer = ask(&mut rig, "c", 1, fields).unwrap();
        let [listed] = contacts(&answer)[..] else { panic!("{answer}") };
        assert!(listed.ends_with(&format!(";expires={granted}")), "{fields}: {answer}");
        let binding = rig.proxy.registry.bindings().next().unwrap();
        assert_eq!((binding.expires, binding.until), (rig.now + seconds(granted), rig.now + seconds(granted)));
        assert_eq!(binding.natted, fields.contains("10.0.0.9"), "{fields}");
        rig.wait(seconds(7));
        let answer = ask(&mut rig, "c", 2, "").unwrap();
        assert!(contacts(&answer)[0].ends_with(&format!(";expires={}", granted - 7)), "what is left of it: {answer}");
    }
    // A connection shows its end.
    let mut rig = house();
    let tcp = flow(&rig, 1, PHONE);
    rig.proxy.handle_input(rig.now, Input::Opened { flow: tcp, peer: Vec::new() });
    let answer = on(&mut rig, tcp, &request(PHONE, "c", 1, "Contact: <sip:alice@10.0.0.9:5060>\r\n")).unwrap();
    assert!(answer.contains(";expires=3600\r\n"), "{answer}");
}

#[test]
fn what_is_kept_of_a_phone() {
    let mut rig = house();
    let fields = "Contact: <sip:alice@192.168.1.20:5060>;q=0.4;+sip.instance=\"<urn:uuid:1>\"\r\nUser-Agent: \
                  Desk/1\r\n";
    let answer = ask(&mut rig, "c", 5, fields).unwrap();
    assert!(answer.starts_with("SIP/2.0 200 OK\r\n") && !answer.contains("Require:") && !answer.contains("reg-id"));
    assert_eq!(contacts(&answer), ["<sip:alice@192.168.1.20:5060>;expires=3600"]);
    let binding = rig.proxy.registry.bindings().next().unwrap();
    assert_eq!(
        (binding.aor(), binding.contact(), binding.call_id(), binding.cseq, binding.q, binding.phone),
        (&b"alice"[..], &b"sip:alice@192.168.1.20:5060"[..], &b"c"[..], 5, 400, Some(1))
    );
    assert_eq!((binding.instance.as_deref(), binding.reg_id), (Some(&b"\"<urn:uuid:1>\""[..]), None));
    assert_eq!((binding.said().user_agent, binding.flow.get()), (&b"Desk/1"[..], flow(&rig, 0, PHONE)));
    assert_eq!(binding.flow_id, rig.proxy.flow_id(binding.flow.get()));
}

#[test]
fn a_lower_cseq_counts_under_another_call_id_alone() {
    let mut rig = house();
    ask(&mut rig, "c", 5, &contact(5060)).unwrap();
    for cseq in [4, 5] {
        assert_eq!(refused(&mut rig, "c", cseq, &format!("{}X: 1\r\n", contact(5060))).0, 500, "{cseq}");
    }
    ask(&mut rig, "c", 6, &contact(5060)).unwrap();
    ask(&mut rig, "d", 1, &contact(5060)).unwrap();
    assert_eq!(rig.proxy.work().bindings, 1);
    // Of another Contact nothing is known yet.
    ask(&mut rig, "d", 1, &contact(5062)).unwrap();
    assert_eq!(rig.proxy.work().bindings, 2);
}

#[test]
fn a_binding_is_of_so_many_octets_at_most() {
    let head = "<sip:alice@192.168.1.20:5060;x=";
    let instance = "\"<urn:uuid:1>\"";
    // alice, the URI without its brackets, the instance, the Call-ID.
    let rest = 5 + head.len() - 1 + instance.len() + "call-id".len();
    let fields = |octets: usize| format!("Contact: {head}{}>;+sip.instance={instance}\r\n", "y".repeat(octets - rest));
    let mut rig = house();
    assert_eq!(refused(&mut rig, "call-id", 1, &fields(2049)).1, "Contact, instance or Call-ID too long");
    ask(&mut rig, "call-id", 1, &fields(2048)).unwrap();
}

#[test]
fn a_user_has_so_many_phones_at_most() {
    let mut rig = house();
    for port in 1..=15 {
        ask(&mut rig, "c", u32::from(port), &contact(port)).unwrap();
    }
    let two = contact(16) + &contact(17);
    assert_eq!(refused(&mut rig, "c", 16, &two).1, "Too many phones for this user");
    ask(&mut rig, "c", 16, &contact(16)).unwrap();
    assert_eq!(refused(&mut rig, "c", 17, &contact(17)), (403, "Too many phones for this user", String::new()));
    ask(&mut rig, "c", 17, &(contact(1) + &contact(2))).unwrap();
    assert_eq!(rig.proxy.work().bindings, 16);
}

#[test]
fn who_has_gone_makes_room_only_when_there_is_none() {
    let mut rig = house();
    for port in 1..=16 {
        ask(&mut rig, "c", u32::from(port), &contact(port)).unwrap();
    }
    let bindings: Vec<Binding> = rig.proxy.registry.bindings().cloned().collect();
    let silent = Binding { answered: true, missed: 3, ..bindings[2].clone() };
    let ended = Binding { flow: Flow { connection: 9, ..bindings[7].flow.get() }.into(), ..bindings[7].clone() };
    for gone in [&silent, &ended] {
        rig.proxy.registry.bind(gone.clone());
    }
    ask(&mut rig, "c", 17, &contact(1)).unwrap();
    assert_eq!(rig.proxy.work().bindings, 16, "they may come back");
    ask(&mut rig, "c", 18, &contact(17)).unwrap();
    assert_eq!(rig.proxy.work().bindings, 15);
    assert!([silent.id, ended.id].iter().all(|id| rig.proxy.registry.binding(*id).is_none()));
}

#[test]
fn without_users_there_are_so_many_phones_at_most() {
    let mut rig = house();
    ask(&mut rig, "c", 1, &contact(5060)).unwrap();
    let one = rig.proxy.registry.bindings().next().unwrap().clone();
    for number in 2..MOST_OPEN as u64 {
        rig.proxy.registry.bind(Binding {
            id: BindingId(number),
            texts: Said { aor: number.to_string().as_bytes(), ..one.said() }.into(),
            ..one.clone()
        });
    }
    assert_eq!(rig.proxy.registry.binding_count(), MOST_OPEN - 1);
    let full = (503, "Too many phones for a registrar without users", "Retry-After: 60\r\n".to_owned());
    assert_eq!(refused(&mut rig, "c", 2, &(contact(5062) + &contact(5064))), full);
    ask(&mut rig, "c", 3, &contact(5062)).unwrap();
    assert_eq!(refused(&mut rig, "c", 4, &contact(5064)), full);
    // What is there already, and what goes, takes no place.
    ask(&mut rig, "c", 5, &contact(5060)).unwrap();
    ask(&mut rig, "c", 6, "Contact: <sip:alice@192.168.1.20:5066>;expires=0\r\n").unwrap();
    // With users everybody has proven who he is.
    let mut config = (*rig.proxy.config).clone();
    config.users = vec![User { name: "alice".to_owned(), password: "secret".to_owned() }];
    rig.proxy.config = config.into();
    ask(&mut rig, "c", 7, &contact(5064)).unwrap();
    assert_eq!(rig.proxy.registry.binding_count(), MOST_OPEN + 1);
}

#[test]
fn what_goes_is_what_was_named() {
    let mut rig = house();
    crate::rig::register(&mut rig.proxy, rig.now, 0, "bob", "192.168.1.21:5060");
    ask(&mut rig, "c", 1, &(contact(5060) + &contact(5062))).unwrap();
    let answer = ask(
        &mut rig,
        "c",
        2,
        "Contact: <sip:alice@192.168.1.20:5060>;expires=0\r\nContact: <sip:alice@192.168.1.20:5064>\r\n",
    )
    .unwrap();
    let mut listed = contacts(&answer);
    listed.sort_unstable();
    assert_eq!(listed, ["<sip:alice@192.168.1.20:5062>;expires=3600", "<sip:alice@192.168.1.20:5064>;expires=3600"]);
    let answer = ask(&mut rig, "c", 3, "Contact: *\r\nExpires: 0\r\n").unwrap();
    assert_eq!(contacts(&answer), [""; 0]);
    let left: Vec<_> = rig.proxy.registry.bindings().map(|b| b.aor().to_vec()).collect();
    assert_eq!(left, [b"bob"], "others stay");
}

#[test]
fn a_phone_of_the_other_side_is_seen_as_reached_through_us() {
    let mut rig = house();
    ask(&mut rig, "c", 1, &contact(5060)).unwrap();
    let outside = flow(&rig, 2, OUTSIDE);
    let answer = on(&mut rig, outside, &request(OUTSIDE, "o", 1, "Contact: <sip:me@198.51.100.7:40000>\r\n")).unwrap();
    let id = rig.proxy.registry.bindings().find(|b| b.contact().starts_with(b"sip:alice")).unwrap().id;
    let token = String::from_utf8(rig.proxy.key.seal(Token::Binding(id)).to_vec()).unwrap();
    let mut listed = contacts(&answer);
    listed.sort_unstable();
    assert_eq!(
        listed,
        [
            format!("<sip:alice@203.0.113.30:5060;sl={token}>;expires=3600"),
            "<sip:me@198.51.100.7:40000>;expires=3600".to_owned()
        ]
    );
}

#[test]
fn several_flows_of_a_phone_need_a_first_hop_that_keeps_them_apart() {
    let outbound = "Supported: path, outbound\r\nContact: \
                    <sip:alice@192.168.1.20:5060>;reg-id=2;+sip.instance=\"<urn:uuid:1>\"\r\n";
    let mut rig = house();
    let answer = ask(&mut rig, "c", 1, outbound).unwrap();
    assert!(answer.contains("\r\nRequire: outbound\r\n") && !answer.contains("Flow-Timer"), "{answer}");
    assert_eq!(
        contacts(&answer),
        ["<sip:alice@192.168.1.20:5060>;expires=3600;reg-id=2;+sip.instance=\"<urn:uuid:1>\""]
    );
    // Through a proxy that says nothing of it.
    let via = "Via: SIP/2.0/UDP 192.168.1.77;branch=z9hG4bK0\r\n";
    let reject = refused(&mut rig, "d", 1, &format!("{via}{outbound}"));
    assert_eq!(reject, (439, "First Hop Lacks Outbound Support", String::new()));
    let path = "Path: <sip:192.168.1.77;lr;ob>\r\n";
    ask(&mut rig, "d", 2, &format!("{via}{path}{outbound}")).unwrap();
    // A phone that keeps one flow needs nothing.
    ask(&mut rig, "d", 3, &format!("{via}{}", contact(5062))).unwrap();
}

#[test]
fn a_connection_with_outbound_is_told_how_often_it_is_to_be_heard() {
    let outbound = "Supported: path, outbound\r\nContact: \
                    <sip:alice@192.168.1.20:5060>;reg-id=2;+sip.instance=\"<urn:uuid:1>\"\r\n";
    for (fields, told) in [(outbound.to_owned(), true), (contact(5060), false)] {
        let mut rig = house();
        let tcp = flow(&rig, 1, PHONE);
        rig.proxy.handle_input(rig.now, Input::Opened { flow: tcp, peer: Vec::new() });
        let answer = on(&mut rig, tcp, &request(PHONE, "c", 1, &fields)).unwrap();
        assert_eq!(answer.contains("\r\nFlow-Timer: 120\r\n"), told, "{answer}");
        rig.wait(seconds(149));
        assert!(!rig.said.contains(&Output::Close { flow: tcp }));
        rig.wait(seconds(2));
        assert_eq!(rig.said.contains(&Output::Close { flow: tcp }), told, "silence is failure where it was announced");
    }
}

/// What the whole machine says to a REGISTER, and what the registrar alone would.
#[test]
fn a_copy_hears_what_one_that_is_read_would() {
    let text =
        |cseq, fields: &str| String::from_utf8(request(PHONE, "again", cseq, fields).message().bytes.to_vec()).unwrap();
    let fields = format!("{}Expires: 300\r\n", contact(5060));
    let (mut rig, mut read) = (house(), house());
    let known = |rig: &Rig| {
        let left = |b: &Binding| (b.cseq, b.expires - rig.now, b.until - rig.now);
        rig.proxy.registry.bindings().map(left).collect::<Vec<_>>()
    };
    for cseq in 1..4 {
        let mut heard = Vec::new();
        for (rig, copies) in [(&mut rig, true), (&mut read, false)] {
            rig.wait(seconds(100));
            rig.said.clear();
            if !copies {
                for binding in rig.proxy.registry.bindings().cloned().collect::<Vec<_>>() {
                    rig.proxy.registry.bind(Binding { confirmed: Confirmed::default(), ..binding });
                }
            }
            let from = flow(rig, 0, PHONE);
            let stored = request(PHONE, "again", cseq, &fields);
            let key = Key::of(&rig.proxy.hashes, stored.message(), &stored.message().top_via().unwrap());
            let copied = copies && rig.proxy.register_copy(rig.now, from, stored.message(), &key) == Ok(true);
            assert_eq!(copied, copies && cseq > 1, "{cseq}");
            if !copied {
                rig.receive(0, PHONE, &text(cseq, &fields));
            }
            rig.wait(Duration::ZERO);
            heard.extend(rig.sent(PHONE));
        }
        assert_eq!(heard.len(), 2, "{heard:?}");
        assert_eq!(heard[0], heard[1]);
        assert!(heard[0].contains(";expires=300"), "{}", heard[0]);
        assert_eq!(known(&rig), known(&read));
    }
    let copied = |rig: &mut Rig, from: &str, cseq, fields: &str| {
        let stored = request(PHONE, "again", cseq, fields);
        let key = Key::of(&rig.proxy.hashes, stored.message(), &stored.message().top_via().unwrap());
        let from = flow(rig, 0, from);
        rig.proxy.register_copy(rig.now, from, stored.message(), &key).unwrap()
    };
    assert!(!copied(&mut rig, PHONE, 3, &fields), "an old number");
    assert!(!copied(&mut rig, "192.168.1.21:5060", 4, &fields), "another flow");
    assert!(!copied(&mut rig, PHONE, 4, &format!("{fields}Subject: x\r\n")), "another field");
    assert!(copied(&mut rig, PHONE, 4, &fields));
    let mut house = config(Role::Standalone, rig.proxy.config.listeners.clone());
    house.users = vec![User { name: "alice".into(), password: "secret".into() }];
    rig.proxy.handle_input(rig.now, Input::Reconfigure(house.into()));
    assert!(!copied(&mut rig, PHONE, 5, &fields), "who must prove who he is");
}
