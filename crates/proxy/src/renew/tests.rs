use std::sync::Arc;

use nat::{Advertise, Mapped, Side};
use registry::Said;
use wire::sip::Limits;
use wire::{ListenerId, Transport};

use super::*;
use crate::Input;
use crate::config::{Listener, Password, Phone, Role};
use crate::rig::house::{observed, only, response, sent};
use crate::rig::{Rig, config, listener, phone, upstream};

const PROVIDER: &str = "203.0.113.5:5060";
const FIRST: &str = "198.51.100.7:41070";
const SECOND: &str = "198.51.100.99:41171";
const PHONE: &str = "192.168.1.11:5060";

fn with_password(name: &str, realm: Option<&str>) -> Phone {
    Phone { password: Some(Password("secret".to_owned())), realm: realm.map(str::to_owned), ..phone(name, name) }
}

/// An office behind a NAT; the phones alice, bob and carol have a password, dora has none.
fn office(realm: Option<&str>) -> Rig {
    let outer = Listener { advertise: Advertise::Stun, ..listener(Side::Outer, "192.168.1.2:5070") };
    let mut config = config(Role::Office, vec![listener(Side::Inner, "192.168.1.2:5060"), outer]);
    config.upstreams = vec![upstream("203.0.113.5")];
    config.phones = ["alice", "bob", "carol"].map(|name| with_password(name, realm)).into();
    config.phones.push(phone("dora", "dora"));
    let mut rig = Rig::new(config);
    mapped(&mut rig, Some(FIRST));
    rig.wait(Duration::from_secs(2));
    rig
}

fn mapped(rig: &mut Rig, address: Option<&str>) {
    let mapped = address.map(|address| Mapped(address.parse().unwrap()));
    rig.proxy.handle_input(rig.now, Input::Mapped { listener: ListenerId(1), mapped });
    rig.wait(Duration::ZERO);
    rig.said.clear();
}

fn register(user: &str, cseq: u32, more: &str) -> String {
    format!(
        "REGISTER sip:p.example SIP/2.0\r\nVia: SIP/2.0/UDP {PHONE};branch=z9hG4bK{user}{cseq}\r\nMax-Forwards: 70\r\nFrom: \
         <sip:{user}@p.example>;tag=1\r\nTo: <sip:{user}@p.example>\r\nCall-ID: {user}\r\nCSeq: {cseq} \
         REGISTER\r\nContact: <sip:{user}@{PHONE}>\r\nExpires: 600\r\n{more}Content-Length: 0\r\n\r\n"
    )
}

/// A phone registers and its registrar says yes.
fn registers(rig: &mut Rig, user: &str, cseq: u32, more: &str) {
    rig.said.clear();
    rig.receive(0, PHONE, &register(user, cseq, more));
    let asked = registers_out(rig).pop().unwrap();
    rig.receive(1, PROVIDER, &confirm(&asked));
    assert!(only(&sent(rig), PHONE, "SIP/2.0 200 ").contains(&format!("CSeq: {cseq} REGISTER")));
}

fn confirm(asked: &str) -> String {
    let contact = asked.lines().find(|line| line.starts_with("Contact:")).unwrap();
    response(asked, "200 OK", "r", &format!("{contact};expires=600\r\n"), "")
}

/// The REGISTERs that the provider got.
fn registers_out(rig: &mut Rig) -> Vec<String> {
    let sent = sent(rig);
    sent.into_iter()
        .filter(|(to, text)| to == PROVIDER && text.starts_with("REGISTER "))
        .map(|(_, text)| text)
        .collect()
}

fn cseq(text: &str) -> u32 {
    text.lines().find_map(|line| line.strip_prefix("CSeq: ")).unwrap().split(' ').next().unwrap().parse().unwrap()
}

fn outcomes(rig: &Rig) -> Vec<Renewed> {
    let outcomes = observed(rig).into_iter().filter_map(|observed| match observed {
        Observed::Renewed { outcome } => Some(*outcome),
        _ => None,
    });
    outcomes.collect()
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn challenge(asked: &str, realm: &str) -> String {
    let lines = format!("WWW-Authenticate: Digest realm=\"{realm}\", nonce=\"n\", qop=\"auth\", algorithm=MD5\r\n");
    response(asked, "401 Unauthorized", "r", &lines, "")
}

const SHOWN: &str = "Authorization: Digest username=\"desk\", realm=\"r\", nonce=\"n\", uri=\"sip:p.example\", \
                     response=\"0\"\r\nSubject: x\r\n";

#[test]
fn phones_whose_password_is_known_follow_one_after_the_other() {
    let mut rig = office(None);
    for user in ["alice", "bob", "carol", "dora"] {
        registers(&mut rig, user, 1, "");
    }
    mapped(&mut rig, Some(SECOND));
    // What the upstream sees of us is waited for.
    rig.wait(millis(499));
    assert_eq!(registers_out(&mut rig).len(), 0);
    let mut renewed = Vec::new();
    for _ in 0..3 {
        rig.wait(millis(1));
        let [one] = &registers_out(&mut rig)[..] else { panic!() };
        assert!(one.contains(SECOND) && !one.contains(FIRST) && cseq(one) == 2, "{one}");
        renewed.push(one.lines().find(|line| line.starts_with("Call-ID")).unwrap().to_owned());
        rig.wait(millis(14));
        assert_eq!(registers_out(&mut rig).len(), 0);
    }
    renewed.sort();
    assert_eq!(renewed, ["Call-ID: alice", "Call-ID: bob", "Call-ID: carol"]);
    rig.wait(millis(100));
    assert_eq!(registers_out(&mut rig).len(), 0);
}

#[test]
fn ours_is_the_phones_last_one_in_its_place() {
    let mut rig = office(None);
    registers(&mut rig, "alice", 5, &format!("{SHOWN}Route: <sip:192.168.1.2;lr>\r\n"));
    mapped(&mut rig, Some(SECOND));
    rig.wait(millis(500));
    let [one] = &registers_out(&mut rig)[..] else { panic!() };
    assert_eq!(one.lines().filter(|line| line.starts_with("Via:")).count(), 1);
    assert!(
        one.contains(";keep\r\n") && one.contains("\r\nMax-Forwards: 70\r\n") && one.contains("\r\nSubject: x\r\n")
    );
    assert!(!one.contains("Authorization") && !one.contains("Route:"), "{one}");
    rig.receive(1, PROVIDER, &confirm(one));
    assert_eq!(outcomes(&rig), [Renewed::Confirmed]);
    let binding = rig.proxy.registry.bindings().next().unwrap();
    assert_eq!((binding.cseq, binding.confirmed.renewal.as_ref().unwrap().shift), (5, 1));
    // Nobody has heard the phone: it has the time that it was told.
    assert!(binding.expires < rig.now + Duration::from_secs(70) && binding.until > rig.now + Duration::from_secs(590));
    // The phone's own numbers are raised, and lowered in the answer.
    rig.said.clear();
    rig.receive(0, PHONE, &register("alice", 6, "Subject: y\r\nSupported: x\r\n"));
    let [own] = &registers_out(&mut rig)[..] else { panic!() };
    assert_eq!(cseq(own), 7);
    rig.receive(1, PROVIDER, &response(own, "403 No", "r", "", ""));
    assert!(only(&sent(&mut rig), PHONE, "SIP/2.0 403 ").contains("CSeq: 6 REGISTER"));
}

#[test]
fn what_has_not_changed_is_not_sent_again() {
    let mut rig = office(None);
    registers(&mut rig, "alice", 1, "");
    mapped(&mut rig, Some(FIRST));
    rig.wait(Duration::from_secs(1));
    assert_eq!(registers_out(&mut rig).len(), 0);
    // There and back within the time that is waited.
    mapped(&mut rig, Some(SECOND));
    mapped(&mut rig, Some(FIRST));
    rig.wait(Duration::from_secs(1));
    assert_eq!(registers_out(&mut rig).len(), 0);
}

#[test]
fn a_phone_that_is_gone_or_has_no_password_is_not_kept() {
    let stale = |change: &dyn Fn(&mut Rig, &mut Binding)| {
        let mut rig = office(None);
        registers(&mut rig, "alice", 1, "");
        rig.proxy.seen[1].mapped = Some(Mapped(SECOND.parse().unwrap()));
        let mut binding = rig.proxy.registry.bindings().next().unwrap().clone();
        change(&mut rig, &mut binding);
        rig.proxy.is_stale(&binding)
    };
    assert!(stale(&|_, _| {}));
    assert!(!stale(&|_, binding| (binding.answered, binding.missed) = (true, 3)));
    assert!(!stale(&|_, binding| binding.phone = Some(3)));
    assert!(!stale(&|_, binding| binding.phone = None));
    assert!(!stale(&|_, binding| binding.upstream = None));
    assert!(!stale(&|_, binding| binding.confirmed.renewal = None));
    assert!(!stale(&|rig, _| rig.proxy.seen[1].mapped = None));
    assert!(!stale(&|rig, _| rig.proxy.seen[1].mapped = Some(Mapped(FIRST.parse().unwrap()))));
}

#[test]
fn one_realm_is_answered_and_not_for_ever() {
    for (realm, more, asked, answered) in [
        (None, SHOWN, "r", true),
        (None, SHOWN, "other", false),
        (Some("p"), SHOWN, "p", true),
        (Some("p"), SHOWN, "r", false),
        // It never had to show anything: there is no realm that accepted it.
        (None, "", "r", false),
        (Some("p"), "", "p", true),
    ] {
        let mut rig = office(realm);
        registers(&mut rig, "alice", 1, more);
        mapped(&mut rig, Some(SECOND));
        rig.wait(millis(500));
        let [one] = &registers_out(&mut rig)[..] else { panic!() };
        rig.said.clear();
        rig.receive(1, PROVIDER, &challenge(one, asked));
        let given_up = !outcomes(&rig).is_empty();
        let again = registers_out(&mut rig);
        assert_eq!((again.len(), given_up), (usize::from(answered), !answered), "{realm:?} {more} {asked}");
        let Some(two) = again.first() else { continue };
        let name = if more.is_empty() { "alice" } else { "desk" };
        assert!(two.contains(&format!("\r\nAuthorization: Digest username=\"{name}\", realm=\"{asked}\"")), "{two}");
        assert_eq!(cseq(two), cseq(one) + 1);
        rig.receive(1, PROVIDER, &challenge(two, asked));
        let three = registers_out(&mut rig).pop().unwrap();
        rig.receive(1, PROVIDER, &challenge(&three, asked));
        assert_eq!(outcomes(&rig), [Renewed::Refused]);
        assert_eq!(registers_out(&mut rig).len(), 0, "three copies are enough");
    }
}

#[test]
fn a_proxys_challenge_is_answered_as_a_proxys() {
    let mut rig = office(Some("p"));
    registers(&mut rig, "alice", 1, "");
    mapped(&mut rig, Some(SECOND));
    rig.wait(millis(500));
    let [one] = &registers_out(&mut rig)[..] else { panic!() };
    let asked = challenge(one, "p").replace("401 Unauthorized", "407 Proxy").replace("WWW-", "Proxy-");
    rig.receive(1, PROVIDER, &asked);
    let [two] = &registers_out(&mut rig)[..] else { panic!() };
    assert!(two.contains("\r\nProxy-Authorization: Digest "), "{two}");
    // A challenge in a response of another kind is none.
    let asked = challenge(two, "p").replace("401 Unauthorized", "403 Forbidden");
    rig.receive(1, PROVIDER, &asked);
    assert_eq!(outcomes(&rig), [Renewed::Refused]);
    assert_eq!(registers_out(&mut rig).len(), 0);
}

#[test]
fn a_phone_that_has_begun_anew_meanwhile_is_left_alone() {
    let mut rig = office(None);
    registers(&mut rig, "alice", 1, "");
    mapped(&mut rig, Some(SECOND));
    rig.wait(millis(500));
    let [one] = &registers_out(&mut rig)[..] else { panic!() };
    let mut binding = rig.proxy.registry.bindings().next().unwrap().clone();
    binding.texts = Said { call_id: b"another", ..binding.said() }.into();
    rig.proxy.registry.bind(binding);
    rig.receive(1, PROVIDER, &confirm(one));
    assert_eq!(outcomes(&rig), []);
    assert_eq!(rig.proxy.registry.bindings().next().unwrap().call_id(), b"another");
}

#[test]
fn what_is_kept_of_a_register() {
    let rig = office(None);
    let kept = |phone, more: &str, shift| {
        let stored = Stored::parse(register("alice", 1, more).into_bytes(), &Limits::default()).unwrap();
        rig.proxy.renewal(phone, stored.message(), shift)
    };
    let shifted = Some(Renewal { shift: 4, ..Renewal::default() });
    assert_eq!(kept(Some(3), SHOWN, 0), None);
    assert_eq!(kept(Some(3), SHOWN, 4), shifted);
    assert_eq!(kept(None, SHOWN, 0), None);
    let whole = kept(Some(0), &format!("{SHOWN}Proxy-Authorization: Digest realm=\"q\"\r\n"), 4).unwrap();
    assert_eq!((&whole.realm[..], &whole.username[..], whole.shift), (&b"r"[..], &b"desk"[..], 4));
    assert_eq!(whole.request, register("alice", 1, "Subject: x\r\n").into_bytes());
    let long = |octets: usize| format!("Subject: {}\r\n", "x".repeat(octets));
    let rest = register("alice", 1, &long(0)).len();
    assert_eq!(kept(Some(0), &long(LONGEST - rest), 0).unwrap().request.len(), LONGEST);
    assert_eq!(kept(Some(0), &long(LONGEST + 1 - rest), 0), None);
    assert_eq!(kept(Some(0), &long(LONGEST + 1 - rest), 4), shifted);
}

#[test]
fn numbers_are_raised_by_the_most_under_the_same_call_id() {
    let mut rig = office(None);
    registers(&mut rig, "alice", 1, "");
    let one = rig.proxy.registry.bindings().next().unwrap().clone();
    assert_eq!(rig.proxy.shift_of(one.aor(), one.call_id()), 0);
    for (id, call_id, shift) in [(1, "alice", 3), (2, "alice", 2), (3, "other", 9)] {
        let mut binding = Binding {
            id: BindingId(id),
            texts: Said { call_id: call_id.as_bytes(), ..one.said() }.into(),
            ..one.clone()
        };
        binding.confirmed.renewal = Some(Box::new(Renewal { shift, ..Renewal::default() }));
        rig.proxy.registry.bind(binding);
    }
    assert_eq!(rig.proxy.shift_of(one.aor(), b"alice"), 3);
    assert_eq!(rig.proxy.shift_of(one.aor(), b"none"), 0);
    assert_eq!(rig.proxy.shift_of(b"bob@p.example", b"alice"), 0);
}

#[test]
fn a_number_is_written_within_what_is_allowed() {
    let written = |number, shift| {
        let stored = Stored::parse(register("alice", 1, "").into_bytes(), &Limits::default()).unwrap();
        let mut edit = Edit::new();
        write_cseq(stored.message(), &mut edit, number, shift);
        cseq(&String::from_utf8(stored.message().edited(&edit)).unwrap())
    };
    assert_eq!(written(9, 0), 1);
    assert_eq!(written(9, 1), 9);
    assert_eq!(written(u32::MAX, 1), (1 << 31) - 1);
}

#[test]
fn an_earlier_time_goes_before_a_later_one_and_never_after() {
    let mut rig = office(None);
    registers(&mut rig, "alice", 1, "");
    rig.proxy.seen[1].mapped = Some(Mapped(SECOND.parse().unwrap()));
    let now = rig.now;
    rig.proxy.address_changed(now, true);
    assert_eq!(rig.proxy.renewals.due, Some(now + SETTLE));
    rig.proxy.address_changed(now + millis(100), true);
    assert_eq!(rig.proxy.renewals.due, Some(now + SETTLE));
    rig.proxy.address_changed(now + millis(100), false);
    assert_eq!(rig.proxy.renewals.due, Some(now + millis(100)));
    rig.said.clear();
    rig.wait(Duration::from_secs(1));
    let copies = registers_out(&mut rig);
    assert_eq!((copies.len(), cseq(&copies[0]), cseq(&copies[1])), (2, 2, 2), "one, and its retransmission");
}

#[test]
fn it_is_not_sent_where_no_way_leads() {
    let mut rig = office(None);
    registers(&mut rig, "alice", 1, "");
    let id = rig.proxy.registry.bindings().next().unwrap().id;
    assert_eq!(rig.proxy.renew(rig.now, BindingId(7), None, 1), None);
    let mut config = (*rig.proxy.config).clone();
    config.upstreams[0].transport = Some(Transport::Tls);
    let whole = std::mem::replace(&mut rig.proxy.config, Arc::new(config));
    assert_eq!(rig.proxy.renew(rig.now, id, None, 1), None);
    rig.proxy.config = whole;
    assert_eq!(rig.proxy.renew(rig.now, id, None, 1), Some(()));
    let sent = rig.proxy.contexts.iter().filter(|context| matches!(context.purpose, Purpose::Ours(Ours::Renew(_))));
    assert_eq!(sent.count(), 1);
}
