use wire::sip::{Limits, Stored};

use super::*;

fn stored(start: &str, via: &str, fields: &str) -> Stored {
    let text = format!("{start}\r\nVia: SIP/2.0/UDP {via}\r\n{fields}\r\n");
    Stored::parse(text.into_bytes(), &Limits::default()).unwrap()
}

fn request(method: &str, via: &str) -> Stored {
    let fields = format!("From: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\nCall-ID: c\r\nCSeq: 1 {method}\r\n");
    stored(&format!("{method} sip:c@d SIP/2.0"), via, &fields)
}

fn key(stored: &Stored) -> Key {
    let message = stored.message();
    Key::of(&Hashes::default(), message, &message.top_via().unwrap())
}

#[test]
fn branch_sent_by_and_method_tell_transactions_apart() {
    let invite = key(&request("INVITE", "192.0.2.1;branch=z9hG4bK1"));
    assert_eq!(key(&request("INVITE", "192.0.2.1;branch=z9hG4bK1;received=192.0.2.9")), invite);
    assert_eq!(key(&request("ACK", "192.0.2.1;branch=z9hG4bK1")), invite, "the ACK of a failure is of its INVITE");
    for other in [
        request("CANCEL", "192.0.2.1;branch=z9hG4bK1"),
        request("INVITE", "192.0.2.1:5070;branch=z9hG4bK1"),
        request("INVITE", "192.0.2.1;branch=z9hG4bK2"),
        request("INVITE", "192.0.2.1;branch=z9hG4bK"),
        request("INVITE", "192.0.2.1"),
    ] {
        assert_ne!(key(&other), invite);
    }
    let cancel = request("CANCEL", "192.0.2.1;branch=z9hG4bK1");
    let via = cancel.message().top_via().unwrap();
    assert_eq!(Key::of_invite(&Hashes::default(), cancel.message(), &via), invite);
}

#[test]
fn without_the_magic_cookie_the_fields_tell_them_apart() {
    let via = "192.0.2.1;branch=7";
    let one = request("OPTIONS", via);
    assert_eq!(key(&one), key(&request("OPTIONS", via)));
    let text = String::from_utf8(one.message().bytes.to_vec()).unwrap();
    for (from, to) in [
        ("tag=1", "tag=2"),
        ("Call-ID: c", "Call-ID: d"),
        ("CSeq: 1", "CSeq: 2"),
        ("sip:c@d SIP", "sip:e@d SIP"),
        ("branch=7", "branch=8"),
    ] {
        let other = Stored::parse(text.replace(from, to).into_bytes(), &Limits::default()).unwrap();
        assert_ne!(key(&other), key(&one), "{to}");
    }
    // The cookie alone says nothing either.
    assert_ne!(key(&request("OPTIONS", "192.0.2.1;branch=z9hG4bK")), key(&one));
    let bare = request("OPTIONS", "192.0.2.1;branch=z9hG4bK");
    let moved = Stored::parse(
        String::from_utf8(bare.message().bytes.to_vec()).unwrap().replace("CSeq: 1", "CSeq: 2").into_bytes(),
        &Limits::default(),
    )
    .unwrap();
    assert_ne!(key(&moved), key(&bare));
}

#[test]
fn all_keys_of_a_branch_begin_alike() {
    let branch = |stored: &Stored| Key::of_branch(&Hashes::default(), &stored.message().top_via().unwrap());
    let invite = request("INVITE", "192.0.2.1;branch=z9hG4bK1");
    let same = branch(&invite).unwrap();
    assert!(key(&invite).is_of(&same) && key(&request("CANCEL", "192.0.2.7;branch=z9hG4bK1")).is_of(&same));
    assert!(!key(&request("INVITE", "192.0.2.1;branch=z9hG4bK12")).is_of(&same));
    assert!(branch(&request("INVITE", "192.0.2.1;branch=z9hG4bK")).is_none());
    assert!(branch(&request("INVITE", "192.0.2.1;branch=1234567890")).is_none());
}

#[test]
fn a_response_belongs_by_its_method_and_a_via_below_ours() {
    let response = |method: &str, more: &str| {
        stored(
            "SIP/2.0 200 OK",
            "192.0.2.1;branch=z9hG4bK1",
            &format!("{more}From: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\nCall-ID: c\r\nCSeq: 1 {method}\r\n"),
        )
    };
    let below = "Via: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK9\r\n";
    for (asked, passed, answered, more, theirs) in [
        ("INVITE", true, "INVITE", below, true),
        ("INVITE", true, "INVITE", "", false),
        ("INVITE", false, "INVITE", "", true),
        ("INVITE", true, "CANCEL", "", true),
        ("INVITE", true, "BYE", below, false),
        ("OPTIONS", true, "CANCEL", below, false),
        ("OPTIONS", true, "OPTIONS", below, true),
    ] {
        let (request, response) = (request(asked, "192.0.2.1;branch=z9hG4bK1"), response(answered, more));
        assert_eq!(
            belongs(request.message(), passed, response.message()),
            theirs,
            "{asked} {passed} {answered} {more}"
        );
    }
}
