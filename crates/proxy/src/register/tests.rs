use nat::{Advertise, Mapped};
use registry::{FlowId, Said};
use wire::sip::{Limits, Stored};
use wire::{ListenerId, Transport};

use super::*;
use crate::Input;
use crate::config::{Listener, Phone, Role};
use crate::rig::house::{observed, sent};
use crate::rig::{Rig, config, flow, listener};
use crate::token::Facing;

const CORE: &str = "10.0.0.5:5060";
const PHONE: &str = "198.51.100.7:40000";

fn register(lines: &str) -> Stored {
    let text = format!("REGISTER sip:r SIP/2.0\r\nVia: SIP/2.0/UDP a\r\n{lines}\r\n\r\n");
    Stored::parse(text.into_bytes(), &Limits::default()).expect(lines)
}

fn first(message: Message<'_>) -> NameAddr<'_> {
    match message.contacts().next() {
        Some(Ok(Contact::Addr(addr))) => addr,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_a_contact_asks_for() {
    for (lines, seconds, q) in [
        ("m: <sip:a@b>;expires=60;q=0.5\r\nExpires: 10", 60, 500),
        ("m: <sip:a@b;expires=5>\r\nExpires: 10", 10, 1000),
        ("m: <sip:a@b>;expires=99999999999;q=7", u32::MAX, 1000),
        ("m: <sip:a@b>;expires=soon;q=-1\r\nExpires: 0", 0, 0),
        ("m: <sip:a@b>;q=high", DEFAULT_EXPIRY, 1000),
    ] {
        let stored = register(lines);
        let addr = first(stored.message());
        assert_eq!((expiry(stored.message(), &addr), preference(&addr)), (seconds, q), "{lines}");
    }
}

#[test]
fn addresses_of_record() {
    for (to, expected) in [
        ("\"A\" <sip:Alice@Example.COM:5060;x=1>;tag=1", Some(&b"Alice@example.com"[..])),
        ("sip:example.com", Some(b"@example.com")),
        ("sips:a%20b@[2001:DB8::1]", Some(b"a%20b@[2001:db8::1]")),
        ("tel:+4930;x=1", Some(b"tel:+4930")),
        ("<broken", None),
    ] {
        assert_eq!(aor(register(&format!("t: {to}")).message()).as_deref(), expected, "{to}");
    }
}

#[test]
fn instance_ids_with_and_without_their_marks() {
    for text in [&b"\"<urn:uuid:1>\""[..], b"<urn:uuid:1>", b"urn:uuid:1"] {
        assert_eq!(trim_instance(text), b"urn:uuid:1");
    }
    assert_eq!(trim_instance(b"\""), b"");
}

/// In front of a core: UDP toward it (listener 0), UDP and TCP toward the phones (1, 2).
fn border() -> Rig {
    let tcp = Listener { transport: Transport::Tcp, ..listener(Side::Outer, "203.0.113.30:5060") };
    let listeners = vec![listener(Side::Inner, "10.0.0.2:5060"), listener(Side::Outer, "203.0.113.30:5060"), tcp];
    Rig::new(config(Role::Border, listeners))
}

fn on_tcp(rig: &mut Rig) -> Flow {
    let flow = Flow { transport: Transport::Tcp, connection: 1, ..flow(&rig.proxy, 2, PHONE) };
    rig.proxy.handle_input(rig.now, Input::Opened { flow, peer: Vec::new() });
    flow
}

/// A REGISTER of alice's; it names a place behind a NAT, or `at` where it comes from.
fn of_alice(cseq: u32, natted: bool, lines: &str) -> Stored {
    let at = if natted { "192.168.1.20:5060" } else { PHONE };
    let text = format!(
        "REGISTER sip:a.example SIP/2.0\r\nVia: SIP/2.0/UDP {at};branch=z9hG4bK{cseq}\r\nMax-Forwards: 70\r\nFrom: \
         <sip:alice@a.example>;tag=1\r\nTo: <sip:alice@a.example>\r\nCall-ID: c\r\nCSeq: {cseq} REGISTER\r\n{lines}\r\n"
    );
    Stored::parse(text.replace("HERE", at).into_bytes(), &Limits::default()).expect(lines)
}

fn text(stored: &Stored) -> String {
    String::from_utf8(stored.message().bytes.to_vec()).unwrap()
}

/// What a registration's answer becomes on its way to the phone, and the seconds of each binding that it made.
fn answered(rig: &mut Rig, flow: Flow, asked: &Stored, status: u16, lines: &str) -> (String, Vec<(u32, u64, u64)>) {
    let upstream = self::upstream(rig);
    let mut registration = rig.proxy.registration(flow, asked.message()).map_err(|r| r.reason).unwrap();
    let mut lines = lines.to_owned();
    for (number, contact) in registration.contacts.iter().enumerate() {
        let token = String::from_utf8(rig.proxy.key.seal(Token::Binding(contact.id)).to_vec()).unwrap();
        lines = lines.replace(&format!("OURS{number}"), &format!("sip:alice@10.0.0.2:5060;sl={token}"));
    }
    let answer = format!(
        "SIP/2.0 {status} X\r\nVia: SIP/2.0/UDP 10.0.0.2:5060;branch=z9hG4bKx\r\nCall-ID: c\r\nCSeq: 1 \
         REGISTER\r\n{lines}\r\n"
    );
    let answer = Stored::parse(answer.into_bytes(), &Limits::default()).unwrap();
    let mut edit = Edit::new();
    let (now, status) = (rig.now, Status(status));
    rig.proxy.registered_edit(now, &mut registration, flow, upstream, answer.message(), status, &mut edit);
    rig.wait(Duration::ZERO);
    let after = String::from_utf8(answer.message().edited(&edit)).unwrap();
    let kept = after.lines().filter(|line| line.starts_with("Contact:") || line.starts_with("Expires:"));
    let kept = kept.collect::<Vec<_>>().join("|");
    let seconds = |at: Instant| at.saturating_duration_since(now).as_secs();
    let mut bound: Vec<_> =
        rig.proxy.registry.bindings().map(|b| (b.confirmed.seconds, seconds(b.expires), seconds(b.until))).collect();
    bound.sort_unstable();
    (kept, bound)
}

fn upstream(rig: &Rig) -> Flow {
    flow(&rig.proxy, 0, CORE)
}

#[test]
fn what_is_shown_of_a_user_agent() {
    for (agent, shown) in [("Desk/1", 6), (&"x".repeat(64), 64), (&"x".repeat(65), 64)] {
        assert_eq!(user_agent(register(&format!("User-Agent: {agent}")).message()).len(), shown);
    }
    assert_eq!(user_agent(register("Subject: x").message()), b"");
}

#[test]
fn a_phone_is_behind_a_nat_when_its_via_or_its_contact_says_so() {
    let rig = border();
    let here = flow(&rig.proxy, 1, PHONE);
    let inner = "Contact: <sip:alice@192.168.1.20:5060>";
    for (natted, lines, found) in [
        (false, "", false),
        (true, "", true),
        (false, "Contact: <sip:alice@HERE>", false),
        (false, inner, true),
        (false, "Contact: <sip:alice@198.51.100.7:40001>", true),
        (false, "Contact: *", false),
        (false, "Contact: <sip:alice@phone.example>", false),
        (false, "Contact: <tel:+49>", false),
        // The first one speaks for the phone.
        (false, "Contact: <sip:alice@HERE>\r\nContact: <sip:alice@192.168.1.20>", false),
    ] {
        let lines = if lines.is_empty() { String::new() } else { format!("{lines}\r\n") };
        let stored = of_alice(1, natted, &lines);
        assert_eq!(rig.proxy.natted(here, stored.message()), found, "{natted} {lines}");
    }
}

#[test]
fn all_selectors_of_a_phone_must_match() {
    let mut rig = border();
    let mut config = (*rig.proxy.config).clone();
    let some = |text: &str| Some(text.to_owned());
    config.phones = vec![
        Phone { name: "nothing".to_owned(), ..Phone::default() },
        Phone { user: some("alice"), domain: some("A.example"), ..Phone::default() },
        Phone { user: some("alice"), instance: some("<urn:uuid:A>"), ..Phone::default() },
        Phone { address: Some("198.51.100.9".parse().unwrap()), ..Phone::default() },
        Phone { domain: some("d.example"), ..Phone::default() },
        Phone { user: some("tel:+49"), ..Phone::default() },
        Phone { instance: some("urn:uuid:b"), ..Phone::default() },
    ];
    rig.proxy.config = config.into();
    let nine = "198.51.100.9:1";
    for (aor, instance, from, phone) in [
        ("alice@a.EXAMPLE", None, PHONE, Some(1)),
        ("alice@b.example", None, PHONE, None),
        ("Alice@a.example", None, PHONE, None),
        ("alice@b.example", Some("\"<urn:uuid:a>\""), PHONE, Some(2)),
        ("alice@b.example", Some("\"<urn:uuid:c>\""), PHONE, None),
        ("bob@b.example", Some("\"<urn:uuid:a>\""), PHONE, None),
        ("bob@b.example", Some("\"<urn:uuid:B>\""), PHONE, Some(6)),
        ("bob@b.example", None, nine, Some(3)),
        ("bob@d.example", None, PHONE, Some(4)),
        ("d.example", None, PHONE, None),
        ("tel:+49", None, PHONE, Some(5)),
    ] {
        let from = flow(&rig.proxy, 1, from);
        let found = rig.proxy.phone_of(aor.as_bytes(), instance.map(str::as_bytes), from);
        assert_eq!(found, phone, "{aor} {instance:?} {from:?}");
    }
}

#[test]
fn the_binding_of_a_phone_is_known_again() {
    let mut rig = border();
    let here = flow(&rig.proxy, 1, PHONE);
    let elsewhere = flow(&rig.proxy, 1, "198.51.100.8:40000");
    let id = |rig: &Rig, uri: &str, instance: Option<&str>, reg_id, call_id: &str, flow| {
        let instance = instance.map(str::as_bytes);
        rig.proxy.binding_id(b"alice@a.example", uri.as_bytes(), instance, reg_id, call_id.as_bytes(), flow)
    };
    let plain = id(&rig, "sip:a@x", None, None, "c", here);
    let device = id(&rig, "sip:a@x", Some("i"), None, "c", here);
    let first = id(&rig, "sip:a@x", Some("i"), Some(1), "c", here);
    let second = id(&rig, "sip:a@x", Some("i"), Some(2), "c", here);
    let all = [plain, device, first, second, id(&rig, "sip:a@y", None, None, "c", here)];
    assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), 5);
    // The same after a restart, which knows none of them.
    assert_eq!(id(&rig, "sip:a@x", None, None, "d", here), plain);
    assert_eq!(id(&rig, "sip:a@y", Some("i"), Some(1), "d", elsewhere), first);
    assert_ne!(id(&rig, "sip:a@x", None, None, "c", elsewhere), plain);

    let asked = of_alice(1, false, "Contact: <sip:a@x>\r\nExpires: 100\r\n");
    answered(&mut rig, here, &asked, 200, "");
    let one = rig.proxy.registry.bindings().next().unwrap().clone();
    rig.proxy.registry.unbind(one.id);
    for (number, instance, reg_id) in [(1, None, None), (2, Some("i"), None), (3, Some("i"), Some(1))] {
        let instance = instance.map(|instance: &str| instance.as_bytes().to_vec());
        rig.proxy.registry.bind(Binding {
            id: BindingId(number),
            instance: instance.map(Into::into),
            reg_id,
            ..one.clone()
        });
    }
    for (uri, instance, reg_id, call_id, flow, known) in [
        ("sip:a@x", None, None, "d", here, Some(1)),
        ("sip:a@x", None, None, "c", elsewhere, Some(1)),
        ("sip:a@x", None, None, "d", elsewhere, None),
        ("sip:a@y", None, None, "c", here, None),
        ("sip:a@x", Some("i"), None, "d", elsewhere, Some(2)),
        ("sip:a@x", Some("j"), None, "c", here, None),
        ("sip:a@y", Some("i"), Some(1), "d", elsewhere, Some(3)),
        ("sip:a@x", Some("i"), Some(2), "c", here, None),
        ("sip:a@x", Some("j"), Some(1), "c", here, None),
    ] {
        let found = id(&rig, uri, instance, reg_id, call_id, flow);
        let known_now = rig.proxy.registry.binding(found).map(|b| b.id.0);
        assert_eq!(known_now, known, "{uri} {instance:?} {reg_id:?} {call_id}");
    }
}

#[test]
fn what_is_refused_before_the_registrar_hears_of_it() {
    let contacts = |n: usize| (0..n).map(|port| format!("Contact: <sip:a@x:{}>\r\n", port + 1)).collect::<String>();
    for (from, lines, to, status, reason) in [
        ((0, CORE), String::new(), "a.example", 403, "REGISTER belongs on the phones' side"),
        (
            (1, PHONE),
            String::new(),
            "203.0.113.30",
            403,
            "Enter this address as outbound proxy, and your provider as the domain",
        ),
        ((1, PHONE), "Contact: <broken\r\n".to_owned(), "a.example", 400, "Bad Contact"),
        ((1, PHONE), contacts(17), "a.example", 400, "Too many Contacts"),
        ((1, PHONE), contacts(16), "a.example", 0, ""),
    ] {
        let mut rig = border();
        let stored =
            text(&of_alice(1, false, &lines)).replace("To: <sip:alice@a.example>", &format!("To: <sip:alice@{to}>"));
        let stored = Stored::parse(stored.into_bytes(), &Limits::default()).unwrap();
        let (message, from) = (stored.message(), flow(&rig.proxy, from.0, from.1));
        let key = Key::of(&rig.proxy.hashes, message, &message.top_via().unwrap());
        let holder = rig.proxy.holder(from);
        let result = rig.proxy.register(rig.now, from, message, key, holder, &Routed::default());
        let expected = if status == 0 { Ok(()) } else { Err(Reject::new(status, reason)) };
        assert_eq!(result, expected, "{to} {lines}");
        rig.said.clear();
        rig.wait(Duration::ZERO);
        assert_eq!(sent(&mut rig).iter().any(|(to, _)| to == CORE), status == 0);
    }
}

#[test]
fn only_one_contact_and_nothing_else_is_the_only_binding() {
    let rig = border();
    let here = flow(&rig.proxy, 1, PHONE);
    for (lines, only) in [
        ("Contact: <sip:a@HERE>\r\n", true),
        ("Contact: <sip:a@HERE>;expires=0\r\n", false),
        ("Contact: <sip:a@HERE>\r\nContact: <sip:b@HERE>\r\n", false),
        ("Contact: <sip:a@HERE>\r\nContact: *\r\n", false),
        ("Contact: *\r\nExpires: 0\r\n", false),
        ("", false),
    ] {
        let mut registration =
            rig.proxy.registration(here, of_alice(1, false, lines).message()).map_err(|r| r.reason).unwrap();
        assert_eq!(registration.only().is_some(), only, "{lines}");
        assert_eq!(registration.shift(), 0);
        registration.renewal = Some(Renewal { shift: 3, ..Renewal::default() });
        assert_eq!(registration.shift(), 3);
    }
}

#[test]
fn what_the_registrar_granted_is_bound_and_a_phone_behind_a_nat_comes_back_soon() {
    let (plain, natted) = (false, true);
    let asked = "Contact: <sip:alice@HERE>;q=0.5\r\nExpires: 500\r\n";
    for (nat, lines, told, bound) in [
        (plain, "Contact: <OURS0>;expires=300\r\n", "Contact: <sip:alice@HERE>;expires=300", (300, 300, 300)),
        (natted, "Contact: <OURS0>;expires=300\r\n", "Contact: <sip:alice@HERE>;expires=60", (300, 92, 300)),
        (natted, "Contact: <OURS0>;expires=61\r\n", "Contact: <sip:alice@HERE>;expires=60", (61, 61, 61)),
        (natted, "Contact: <OURS0>;expires=60\r\n", "Contact: <sip:alice@HERE>;expires=60", (60, 60, 60)),
        (natted, "Contact: <OURS0>;expires=40\r\n", "Contact: <sip:alice@HERE>;expires=40", (40, 40, 40)),
        // Without a parameter of its own Expires says it for all.
        (
            natted,
            "Contact: <OURS0>;x\r\nExpires: 300\r\n",
            "Contact: <sip:alice@HERE>;x;expires=60|Expires: 60",
            (300, 92, 300),
        ),
        (plain, "Contact: <OURS0>\r\nExpires: 300\r\n", "Contact: <sip:alice@HERE>|Expires: 300", (300, 300, 300)),
        (
            natted,
            "Contact: <OURS0>;expires=50\r\nExpires: 300\r\n",
            "Contact: <sip:alice@HERE>;expires=50|Expires: 300",
            (50, 50, 50),
        ),
        (
            natted,
            "Contact: <OURS0>;expires=60\r\nExpires: 300\r\n",
            "Contact: <sip:alice@HERE>;expires=60|Expires: 300",
            (60, 60, 60),
        ),
        // Some do not list bindings.
        (plain, "Expires: 300\r\n", "Expires: 300", (300, 300, 300)),
        (natted, "Expires: 300\r\n", "Expires: 60", (300, 92, 300)),
        (natted, "Expires: 60\r\n", "Expires: 60", (60, 60, 60)),
        (plain, "", "", (500, 500, 500)),
    ] {
        let mut rig = border();
        let here = flow(&rig.proxy, 1, PHONE);
        let (left, kept) = answered(&mut rig, here, &of_alice(1, nat, asked), 200, lines);
        let at = if nat { "192.168.1.20:5060" } else { PHONE };
        assert_eq!((left, kept), (told.replace("HERE", at), vec![bound]), "{nat} {lines}");
        let binding = rig.proxy.registry.bindings().next().unwrap();
        assert_eq!(
            (binding.q, binding.natted, binding.flow.get(), binding.upstream.as_deref()),
            (500, nat, here, Some(&upstream(&rig)))
        );
    }
    // A connection shows its end, and an answer that is no success changes nothing.
    let mut rig = border();
    let tcp = on_tcp(&mut rig);
    let lines = "Contact: <OURS0>;expires=300\r\n";
    let (told, bound) = answered(&mut rig, tcp, &of_alice(1, natted, asked), 200, lines);
    assert_eq!((&told[..], bound), ("Contact: <sip:alice@192.168.1.20:5060>;expires=300", vec![(300, 300, 300)]));
    let mut rig = border();
    let here = flow(&rig.proxy, 1, PHONE);
    let (told, bound) = answered(&mut rig, here, &of_alice(1, natted, asked), 403, lines);
    assert!(told.contains("10.0.0.2") && bound.is_empty(), "{told}");
}

#[test]
fn behind_a_nat_of_our_own_everybody_comes_back_sooner_still() {
    let outer = Listener { advertise: Advertise::Stun, ..listener(Side::Outer, "192.168.1.2:5070") };
    let mut rig = Rig::new(config(Role::Office, vec![listener(Side::Inner, "192.168.1.2:5060"), outer]));
    let mapped = Some(Mapped("198.51.100.66:1024".parse().unwrap()));
    rig.proxy.handle_input(rig.now, Input::Mapped { listener: ListenerId(1), mapped });
    let here = flow(&rig.proxy, 0, PHONE);
    let asked = of_alice(1, false, "Contact: <sip:alice@HERE>\r\n");
    let mut registration = rig.proxy.registration(here, asked.message()).map_err(|r| r.reason).unwrap();
    let answer = "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 198.51.100.66:1024;branch=z9hG4bKx\r\nCall-ID: c\r\nCSeq: 1 \
                  REGISTER\r\nExpires: 300\r\n\r\n";
    let answer = Stored::parse(answer.as_bytes().to_vec(), &Limits::default()).unwrap();
    let provider = flow(&rig.proxy, 1, "203.0.113.5:5060");
    let mut edit = Edit::new();
    let now = rig.now;
    rig.proxy.registered_edit(now, &mut registration, here, provider, answer.message(), Status(200), &mut edit);
    assert!(String::from_utf8(answer.message().edited(&edit)).unwrap().contains("\r\nExpires: 30\r\n"));
    let confirmed = &rig.proxy.registry.bindings().next().unwrap().confirmed;
    assert_eq!((confirmed.told, confirmed.seconds), (30, 300));
}

#[test]
fn what_was_not_granted_or_was_removed_is_gone() {
    let mut rig = border();
    let here = flow(&rig.proxy, 1, PHONE);
    let two = "Contact: <sip:alice@HERE>\r\nContact: <sip:alice@HERE;x=2>\r\n";
    let both = "Contact: <OURS0>;expires=300, <OURS1>;expires=400\r\n";
    let (_, bound) = answered(&mut rig, here, &of_alice(1, false, two), 200, both);
    assert_eq!(bound, [(300, 300, 300), (400, 400, 400)]);
    let (_, bound) = answered(&mut rig, here, &of_alice(2, false, two), 200, "Contact: <OURS1>;expires=400\r\n");
    assert_eq!(bound, [(400, 400, 400)], "the registrar does not list it");
    let (_, bound) = answered(&mut rig, here, &of_alice(3, false, two), 200, both);
    assert_eq!(bound.len(), 2);
    let (_, bound) =
        answered(&mut rig, here, &of_alice(4, false, two), 200, "Contact: <OURS0>;expires=0, <OURS1>;expires=9\r\n");
    assert_eq!(bound, [(9, 9, 9)]);
    // Not listed at all, and one of them was to be removed.
    let one = "Contact: <sip:alice@HERE>;expires=100\r\nContact: <sip:alice@HERE;x=2>;expires=0\r\n";
    let (_, bound) = answered(&mut rig, here, &of_alice(5, false, one), 200, "");
    assert_eq!(bound, [(100, 100, 100)]);
    let (_, bound) = answered(&mut rig, here, &of_alice(6, false, "Contact: *\r\nExpires: 0\r\n"), 200, "");
    assert_eq!(bound, []);
}

#[test]
fn a_binding_that_the_registrar_lists_is_found_by_token_or_by_its_user() {
    let rig = border();
    let (here, core) = (flow(&rig.proxy, 1, PHONE), upstream(&rig));
    let one = "Contact: <sip:alice@HERE>\r\n";
    let two = "Contact: <sip:alice@HERE>\r\nContact: <sip:alice@HERE;x=2>\r\nContact: <sip:bob@HERE>\r\n";
    let sealed = |token| String::from_utf8(rig.proxy.key.seal(token).to_vec()).unwrap();
    let other = sealed(Token::Binding(BindingId(9)));
    let leg = sealed(Token::Leg(registry::PassId(9), 0));
    let route = sealed(Token::Route(registry::PassId(9), Facing::Caller));
    for (asked, listed, found) in [
        (one, format!("<sip:alice@10.0.0.2:5060;sl={other}>"), Some(None)),
        (one, format!("<sip:alice@10.0.0.2:5060;sl={leg}>"), None),
        (one, format!("<sip:{route}@10.0.0.2:5060>"), None),
        (one, "<sip:alice@10.0.0.2:5060>".to_owned(), Some(Some(0))),
        (one, "<sip:bob@10.0.0.2:5060>".to_owned(), None),
        (one, "<sip:alice@10.0.0.9:5060>".to_owned(), None),
        (two, "<sip:alice@10.0.0.2:5060>".to_owned(), None),
        (two, "<sip:bob@10.0.0.2:5060>".to_owned(), Some(Some(2))),
        (one, "<nonsense>".to_owned(), None),
    ] {
        let registration =
            rig.proxy.registration(here, of_alice(1, false, asked).message()).map_err(|r| r.reason).unwrap();
        let expected =
            found.map(|place: Option<usize>| place.map_or(BindingId(9), |place| registration.contacts[place].id));
        let addr = NameAddr::parse(listed.as_bytes()).unwrap();
        assert_eq!(rig.proxy.registered_as(&registration, core, &addr), expected, "{listed}");
    }
}

#[test]
fn a_number_that_we_used_meanwhile_is_not_used_again() {
    for (call_id, ours, theirs, shift) in
        [("c", 4, None, Some(4)), ("c", 4, Some(5), Some(5)), ("c", 0, None, None), ("other", 4, None, None)]
    {
        let mut rig = border();
        let here = flow(&rig.proxy, 1, PHONE);
        let asked = of_alice(1, false, "Contact: <sip:alice@HERE>\r\n");
        answered(&mut rig, here, &asked, 200, "Expires: 300\r\n");
        let renewal = |shift| Renewal { shift, ..Renewal::default() };
        let mut binding = rig.proxy.registry.bindings().next().unwrap().clone();
        binding.texts = Said { call_id: call_id.as_bytes(), ..binding.said() }.into();
        binding.confirmed.renewal = Some(Box::new(renewal(ours)));
        let id = binding.id;
        rig.proxy.registry.bind(binding);
        let mut registration = rig.proxy.registration(here, asked.message()).map_err(|r| r.reason).unwrap();
        registration.renewal = theirs.map(renewal);
        let kept = rig.proxy.kept_renewal(id, &registration, b"c");
        assert_eq!(kept.map(|renewal| renewal.shift), shift, "{call_id} {ours} {theirs:?}");
    }
}

#[test]
fn who_comes_from_outside_over_udp_is_pinged() {
    let mut rig = border();
    let tcp = on_tcp(&mut rig);
    let (outside, inside) = (flow(&rig.proxy, 1, PHONE), flow(&rig.proxy, 0, PHONE));
    for (flow, natted, pinged) in [
        (outside, false, true),
        (outside, true, true),
        (inside, false, false),
        (inside, true, true),
        (tcp, false, false),
        (tcp, true, false),
    ] {
        assert_eq!(rig.proxy.needs_pings(flow, natted), pinged, "{flow:?} {natted}");
    }
    let office = Rig::new(config(Role::Office, vec![listener(Side::Outer, "203.0.113.30:5060")]));
    assert!(!office.proxy.needs_pings(flow(&office.proxy, 0, PHONE), false), "outside, but no phone");
}

#[test]
fn people_hear_of_a_phone_that_comes_moves_and_leaves() {
    let mut rig = border();
    let here = flow(&rig.proxy, 1, PHONE);
    let there = flow(&rig.proxy, 1, "198.51.100.8:40000");
    let told = |rig: &mut Rig| {
        rig.wait(Duration::ZERO);
        let told = observed(rig).into_iter().filter_map(|observed| match observed {
            Observed::Registered { moved, .. } => Some(("registered", *moved)),
            Observed::Unregistered { expired, .. } => Some(("unregistered", *expired)),
            _ => None,
        });
        let told: Vec<_> = told.collect();
        rig.said.clear();
        told
    };
    let asked = of_alice(1, false, "Contact: <sip:alice@HERE>\r\n");
    answered(&mut rig, here, &asked, 200, "Expires: 300\r\n");
    assert_eq!(told(&mut rig), [("registered", false)]);
    let mut binding = rig.proxy.registry.bindings().next().unwrap().clone();
    let id = binding.id;
    // That it answers pings is known of its flow alone.
    binding.answered = true;
    rig.proxy.registry.bind(binding.clone());
    rig.proxy.bind(rig.now, Binding { answered: false, ..binding.clone() });
    assert_eq!(told(&mut rig), []);
    assert!(rig.proxy.registry.binding(id).unwrap().answered);
    rig.proxy.bind(rig.now, Binding { flow: there.into(), flow_id: FlowId(9), ..binding });
    assert_eq!(told(&mut rig), [("registered", true)]);
    assert!(!rig.proxy.registry.binding(id).unwrap().answered);
    assert!(rig.proxy.pings.contains_key(&id));
    rig.proxy.release(id, true);
    assert_eq!(told(&mut rig), [("unregistered", true)]);
    assert!(!rig.proxy.pings.contains_key(&id));
    rig.proxy.release(id, false);
    assert_eq!(told(&mut rig), []);
}
