//! The SDP of the same messages, read by sdp-rs and by us.
//!
//! sdp-rs is right about well-formed bodies in the customary order; the two
//! things in these bodies that it cannot read are changed for both.

use std::net::IpAddr;

use sdp_rs::SessionDescription;
use wire::sdp::Body;
use wire::sip::{Framing, Index, Limits, Name};

use crate::table::{RFC4475, RFC5118};

/// What sdp-rs refuses here, and what both are given in its place.
const CHANGED: [(&str, &str); 2] = [
    ("a=rtpmap:31 LPC\r\n", "a=rtpmap:31 LPC/90000\r\n"), // RFC 8866 §6.6 asks for the clock rate
    ("IN IP4 host.example.com", "IN IP4 192.0.2.99"),     // RFC 8866 §5.2 allows the name
];

/// It has no `s=` and no `t=` line, which sdp-rs insists on.
const INCOMPLETE: &str = "mismatch02";

/// Kind, port, protocol, formats and address of a media section.
type Section = (String, u16, String, String, Option<IpAddr>);

#[test]
fn sdp_rs_on_bodies() {
    let (mut bodies, mut sections) = (0, 0);
    for case in RFC4475.iter().chain(RFC5118) {
        let mut index = Index::new();
        let _ = index.parse(case.bytes, Framing::Datagram, &Limits::default());
        let message = index.view(case.bytes);
        if message.value(Name::ContentType) != Some(b"application/sdp") {
            continue;
        }
        let start = message.body_span().start as usize;
        let text = std::str::from_utf8(&case.bytes[start..]).expect("the bodies are ASCII");
        let text = CHANGED.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
        let theirs = SessionDescription::try_from(text.as_str());
        assert_eq!(theirs.is_ok(), case.name != INCOMPLETE, "{}: {:?}", case.name, theirs.err());
        let Ok(theirs) = theirs else { continue };
        let ours = Body::parse(text.as_bytes()).expect(case.name);
        let ours = ours_of(&ours);
        assert_eq!(ours, theirs_of(&theirs), "{}", case.name);
        bodies += 1;
        sections += ours.len();
    }
    crate::announce(&format!("sdp-rs: agrees on {bodies} bodies, {sections} media sections"));
}

fn ours_of(body: &Body<'_>) -> Vec<Section> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let sections = body.media.iter();
    sections.map(|m| (text(m.kind), m.port, text(m.protocol), text(m.formats), m.ip(body))).collect()
}

fn theirs_of(body: &SessionDescription) -> Vec<Section> {
    body.media_descriptions
        .iter()
        .map(|m| {
            let connection = m.connections.first().or(body.connection.as_ref());
            let ip = connection.map(|c| c.connection_address.base);
            (m.media.media.to_string(), m.media.port, m.media.proto.to_string(), m.media.fmt.clone(), ip)
        })
        .collect()
}
