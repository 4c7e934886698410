use wire::sip::{Limits, Stored};

use super::*;

const PASS: PassId = PassId(7);

fn key() -> Key {
    Key::new(&[7; 32])
}

fn sealed(token: Token) -> String {
    String::from_utf8(key().seal(token).to_vec()).unwrap()
}

fn stored(start: &str, fields: &str) -> Stored {
    let text = format!("{start}\r\nVia: SIP/2.0/UDP a\r\n{fields}CSeq: 1 INVITE\r\n\r\n");
    Stored::parse(text.into_bytes(), &Limits::default()).unwrap()
}

/// The Record-Route entries that an edit leaves.
fn entries(stored: &Stored, change: impl FnOnce(Message<'_>, &mut Edit)) -> Vec<String> {
    let mut edit = Edit::new();
    change(stored.message(), &mut edit);
    let after = Stored::parse(stored.message().edited(&edit), &Limits::default()).unwrap();
    after.message().values(Name::RecordRoute).map(|value| String::from_utf8(value.to_vec()).unwrap()).collect()
}

#[test]
fn crossing_sides_takes_two_entries_on_top() {
    let callee = sealed(Token::Route(PASS, Facing::Callee));
    let caller = sealed(Token::Route(PASS, Facing::Caller));
    for (uri, crossing, scheme) in
        [("sip:a@b", true, "sip"), ("sip:a@b", false, "sip"), ("sips:a@b", true, "sips"), ("tel:+49", false, "sip")]
    {
        let request = stored(&format!("INVITE {uri} SIP/2.0"), "Record-Route: <sip:other;lr>\r\n");
        let entry = |token: &str| format!("<{scheme}:{token}@10.0.0.2:5060;transport=tcp;lr>");
        let mut expected = vec![entry(&callee)];
        expected.extend(crossing.then(|| entry(&caller)));
        expected.push("<sip:other;lr>".to_owned());
        let found = entries(&request, |message, edit| {
            push(message, edit, &key(), PASS, b"10.0.0.2:5060;transport=tcp", crossing)
        });
        assert_eq!(found, expected, "{uri} {crossing}");
    }
}

#[test]
fn an_entry_of_this_pass_is_ours() {
    for (token, ours) in [
        (sealed(Token::Route(PASS, Facing::Callee)), true),
        (sealed(Token::Route(PASS, Facing::Caller)), true),
        (sealed(Token::Route(PassId(8), Facing::Caller)), false),
        (sealed(Token::Leg(PASS, 1)), false),
        ("x".repeat(32), false),
    ] {
        let value = format!("<sip:{token}@10.0.0.2;lr>");
        assert_eq!(is_ours(&key(), PASS, value.as_bytes()), ours, "{token}");
    }
    assert!(!is_ours(&key(), PASS, b"<sip:10.0.0.2;lr>"));
    assert!(!is_ours(&key(), PASS, b"<broken"));
}

#[test]
fn our_entries_turn_to_the_receiver_and_others_stay() {
    let callee = sealed(Token::Route(PASS, Facing::Callee));
    let other = sealed(Token::Route(PassId(8), Facing::Callee));
    let fields =
        format!("Record-Route: <sip:{other}@10.0.0.2:5060;lr>, <sip:{callee}@10.0.0.2:5060;lr;x=y>;z, <sip:a;lr>\r\n");
    let response = stored("SIP/2.0 200 OK", &fields);
    let found =
        entries(&response, |message, edit| turn(message, edit, &key(), PASS, b"203.0.113.30:5062;transport=tcp"));
    assert_eq!(
        found,
        [
            format!("<sip:{other}@10.0.0.2:5060;lr>"),
            format!("<sip:{callee}@203.0.113.30:5062;transport=tcp;lr>;z"),
            "<sip:a;lr>".to_owned()
        ]
    );
}
