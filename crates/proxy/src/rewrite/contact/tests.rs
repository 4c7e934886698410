use wire::Transport;
use wire::sip::{Limits, Stored};

use super::*;

const OWN: &str = "10.0.0.2:5060";

fn own() -> Own {
    Own { address: OWN.parse().unwrap(), transport: Transport::Udp }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

#[test]
fn our_uri_for_a_contact() {
    let token = [b't'; crate::token::LENGTH];
    let sl = format!(";sl={}", "t".repeat(32));
    for (theirs, token, ours) in [
        ("sip:alice@192.0.2.7:5070", None, "sip:alice@10.0.0.2:5060".to_owned()),
        ("sip:a%20b@192.0.2.7", Some(&token), format!("sip:a%20b@10.0.0.2:5060{sl}")),
        ("sips:alice@192.0.2.7;transport=tcp;x=y", Some(&token), format!("sips:alice@10.0.0.2:5060{sl}")),
        ("sip:192.0.2.7", Some(&token), format!("sip:10.0.0.2:5060{sl}")),
        ("sip:192.0.2.7;bnc;x=y", Some(&token), format!("sip:10.0.0.2:5060;bnc{sl}")),
        (
            "sip:alice@192.0.2.7;pn-provider=apns;x=y;PN-PRID=1;pn=2",
            Some(&token),
            format!("sip:alice@10.0.0.2:5060;pn-provider=apns;PN-PRID=1{sl}"),
        ),
        ("tel:+49", None, "sip:10.0.0.2:5060".to_owned()),
        ("nonsense", None, "sip:10.0.0.2:5060".to_owned()),
    ] {
        assert_eq!(text(uri(theirs.as_bytes(), own(), token)), ours, "{theirs}");
    }
}

#[test]
fn a_phone_gets_its_own_contact_back() {
    for (contact, asked, got) in [
        ("sip:alice@192.0.2.7:5070;x=y", "sip:bob@10.0.0.2", Some("sip:alice@192.0.2.7:5070;x=y")),
        ("sip:alice@192.0.2.7", "sip:alice@10.0.0.2;sl=1", Some("sip:alice@192.0.2.7")),
        // Many numbers at one PBX: the one that was called.
        ("sip:192.0.2.7:5070;bnc;x=y", "sip:+49@10.0.0.2", Some("sip:+49@192.0.2.7:5070;x=y")),
        ("sips:192.0.2.7;bnc", "sip:+49@10.0.0.2", Some("sips:+49@192.0.2.7")),
        ("sip:pbx@192.0.2.7;x=y", "sip:+49@10.0.0.2;sl=1", Some("sip:+49@192.0.2.7;x=y")),
        ("sip:pbx@192.0.2.7", "sip:10.0.0.2;sl=1", Some("sip:pbx@192.0.2.7")),
        ("nonsense", "sip:+49@10.0.0.2;sl=1", None),
    ] {
        let asked = Uri::parse(asked.as_bytes()).unwrap();
        assert_eq!(of_phone(contact.as_bytes(), &asked).map(text).as_deref(), got, "{contact}");
    }
}

#[test]
fn every_contact_of_a_message_names_us_and_keeps_its_name_and_parameters() {
    let message = "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP a\r\nContact: \"A\" <sip:a@192.0.2.7>;q=0.5, \
                   sip:b@192.0.2.8;expires=5\r\nm: *\r\nCSeq: 1 INVITE\r\n\r\n";
    let stored = Stored::parse(message.as_bytes().to_vec(), &Limits::default()).unwrap();
    let mut edit = Edit::new();
    to_ours(stored.message(), &mut edit, OWN.as_bytes(), || None);
    assert_eq!(
        text(stored.message().edited(&edit)),
        "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP a\r\nContact: \"A\" <sip:a@10.0.0.2:5060>;q=0.5, \
         <sip:b@10.0.0.2:5060>;expires=5\r\nm: *\r\nCSeq: 1 INVITE\r\n\r\n"
    );
}
