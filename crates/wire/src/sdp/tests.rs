//! Tables for the readers and writers of `sdp`, and what must hold for any bytes.

use proptest::prelude::*;

use super::{Body, Direction, edit};
use crate::{Edit, Span};

const OFFER: &str = "v=0\r\no=alice 2890844526 2890842807 IN IP4 192.168.1.20\r\ns=-\r\nc=IN IP4 192.168.1.20\r\nt=0 0\r\n\
    a=ice-lite\r\nm=audio 49170 RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\na=ptime:20\r\na=sendrecv\r\n\
    m=video 51372/2 RTP/AVPF 96\r\ni=camera\r\nc=IN IP6 2001:db8::7\r\na=rtcp:53020 IN IP6 2001:db8::8\r\na=rtcp-mux\r\na=inactive\r\n";

fn parse(text: &str) -> Body<'_> {
    Body::parse(text.as_bytes()).expect("body reads")
}

fn applied(text: &str, edit: &Edit) -> String {
    let mut out = Vec::new();
    edit.apply(text.as_bytes(), &mut out);
    String::from_utf8(out).expect("text stays text")
}

/// Edits the body `text` and returns what comes out.
fn edited(text: &str, change: impl FnOnce(&[u8], &mut Edit, &Body<'_>)) -> String {
    let mut edit = Edit::new();
    change(text.as_bytes(), &mut edit, &parse(text));
    applied(text, &edit)
}

#[test]
fn an_offer_is_indexed() {
    let body = parse(OFFER);
    let origin = body.origin.expect("o=");
    assert_eq!((origin.session, origin.version), (&b"2890844526"[..], &b"2890842807"[..]));
    assert_eq!((origin.address, origin.host), (&b"IP4 192.168.1.20"[..], &b"192.168.1.20"[..]));
    assert_eq!(origin.version_number(), Some(2_890_842_807));
    assert_eq!(body.attributes.len(), 1);
    assert_eq!(body.media.len(), 2);
    let (audio, video) = (&body.media[0], &body.media[1]);
    assert_eq!((audio.kind, audio.port, audio.count), (&b"audio"[..], 49170, 1));
    assert_eq!((audio.protocol, audio.formats), (&b"RTP/AVP"[..], &b"0 8 101"[..]));
    assert_eq!(audio.rtp_address(&body), "192.168.1.20:49170".parse().ok());
    assert_eq!(audio.rtcp_address(&body), "192.168.1.20:49171".parse().ok());
    assert_eq!(audio.direction, Some(Direction::SendRecv));
    assert!(audio.section.starts_with(b"m=audio") && audio.section.ends_with(b"a=sendrecv\r\n"));
    assert_eq!((video.port, video.count, video.port_text), (51372, 2, &b"51372"[..]));
    assert_eq!(video.rtcp_address(&body), "[2001:db8::8]:53020".parse().ok());
    assert!(video.rtcp_mux && video.is_held(&body));
    assert_eq!(video.attribute("rtcp"), Some(&b"53020 IN IP6 2001:db8::8"[..]));
}

#[test]
fn any_number_of_sections_reads_the_same() {
    for count in [0, 1, 4, 5, 64] {
        let text: String = (0..count).map(|n| format!("m=audio {n} RTP/AVP 0\na=mid:{n}\na=rtcp:{n}\n")).collect();
        let body = parse(&text);
        assert_eq!((body.media.len(), body.media.is_empty()), (count, count == 0));
        for (number, media) in body.media.iter().enumerate() {
            let mid = number.to_string();
            assert_eq!((usize::from(media.port), media.attribute("mid")), (number, Some(mid.as_bytes())));
            assert_eq!(media.rtcp.map(|rtcp| usize::from(rtcp.port)), Some(number));
            assert_eq!(media.section, format!("m=audio {mid} RTP/AVP 0\na=mid:{mid}\na=rtcp:{mid}\n").as_bytes());
        }
    }
}

#[test]
fn attributes_are_read_in_order_and_by_name() {
    let body =
        parse("v=0\na=x:1\nb=AS:9\na=x\r\na=xy:2\na=x:3:4 \nm=audio 8 X 0\nc=IN IP4 10.0.0.1\nm=video 8 X 0\na=z");
    let read: Vec<_> = body.attributes.iter().map(|a| (a.name, a.value)).collect();
    let wanted: [(&[u8], &[u8]); 4] = [(b"x", b"1"), (b"x", b""), (b"xy", b"2"), (b"x", b"3:4 ")];
    assert_eq!(read, wanted);
    let lines: Vec<_> = body.attributes.named("x").map(|a| a.line).collect();
    assert_eq!(lines, [&b"a=x:1\n"[..], b"a=x\r\n", b"a=x:3:4 \n"]);
    assert!(body.media[0].attributes.is_empty() && body.media[0].attributes.first().is_none());
    assert_eq!((body.media[1].attributes.len(), body.media[1].attribute("z")), (1, Some(&b""[..])));
}

#[test]
fn connection_and_direction_fall_back_to_the_session() {
    let cases: &[(&str, &str, Direction, bool)] = &[
        ("", "", Direction::SendRecv, false),
        ("a=sendonly\r\n", "", Direction::SendOnly, true),
        ("a=sendonly\r\n", "a=recvonly\r\n", Direction::RecvOnly, false),
        ("", "a=inactive \r\n", Direction::Inactive, true),
        ("c=IN IP4 0.0.0.0\r\n", "", Direction::SendRecv, true),
        ("c=IN IP4 0.0.0.0\r\n", "a=x\r\nc=IN IP4 10.0.0.1\r\n", Direction::SendRecv, false),
        ("c=IN IP6 ::\r\n", "", Direction::SendRecv, true),
    ];
    for (session, media, direction, held) in cases {
        let text = format!("v=0\r\n{session}m=audio 8 RTP/AVP 0\r\n{media}");
        let body = parse(&text);
        assert_eq!((body.media[0].direction(&body), body.media[0].is_held(&body)), (*direction, *held), "{text}");
    }
}

#[test]
fn addresses_are_read_in_every_shape() {
    let cases = [
        ("IN IP4 10.0.0.1", "IP4 10.0.0.1", "10.0.0.1"),
        ("IN IP4 224.2.36.42/127", "IP4 224.2.36.42/127", "224.2.36.42"),
        ("IN IP4 224.2.1.1/127/3", "IP4 224.2.1.1/127/3", "224.2.1.1"),
        ("IN IP6 FF15::101/3", "IP6 FF15::101/3", "FF15::101"),
        ("IN IP4 media.example.com", "IP4 media.example.com", "media.example.com"),
        (" in  ip4\t10.0.0.1  ", "ip4\t10.0.0.1", "10.0.0.1"),
    ];
    for (value, address, host) in cases {
        let text = format!("c={value}\nm=audio 8 RTP/AVP 0");
        let body = parse(&text);
        let connection = body.media[0].connection(&body).expect("c=");
        assert_eq!((connection.address, connection.host), (address.as_bytes(), host.as_bytes()));
        assert_eq!(connection.ip(), host.parse().ok());
    }
    // RFC 7195: no IP address in there, so nothing for us to write.
    assert!(parse("c=PSTN E164 +35891234567\r\nm=audio 9 PSTN -\r\n").connection.is_none());
}

#[test]
fn a_user_name_with_blanks_does_not_shift_the_origin() {
    let body = parse("o=Conference Room 1 7 8 IN IP4 10.0.0.1\r\n");
    let origin = body.origin.expect("o=");
    assert_eq!((origin.session, origin.version, origin.host), (&b"7"[..], &b"8"[..], &b"10.0.0.1"[..]));
}

#[test]
fn what_cannot_be_rewritten_is_refused() {
    let many = "m=audio 8 RTP/AVP 0\r\n".repeat(65);
    let cases = [
        ("v=0\r\nm=audio\r\n", 5),
        ("c= 192.168.1.2 x y\r\n", 0),
        ("c=TN x \r\r\n", 0),
        ("m=audio x RTP/AVP 0\r\n", 0),
        ("m=audio 65536 RTP/AVP 0\r\n", 0),
        ("m=audio +8 RTP/AVP 0\r\n", 0),
        ("m=audio 8/x RTP/AVP 0\r\n", 0),
        ("m=audio -1 RTP/AVP 0\r\n", 0),
        ("v=0\nc=IN IP4\n", 4),
        ("o=- 1 1 IN IP4\r\n", 0),
        (many.as_str(), 64 * 21),
    ];
    for (text, at) in cases {
        assert_eq!(Body::parse(text.as_bytes()).map(|_| ()).map_err(|e| e.at), Err(at), "{text}");
    }
    for fine in ["", "\r\n", "v=0", "x", "=", "m", "c", "a=", "a", "a=:", "m=audio 0 -\n", "m=audio 9"] {
        assert!(Body::parse(fine.as_bytes()).is_ok(), "{fine}");
    }
}

#[test]
fn lines_are_written_in_place() {
    let (v4, v6) = ("203.0.113.7".parse().expect("ip"), "2001:db8::1".parse().expect("ip"));
    type Change = fn(&[u8], &mut Edit, &Body<'_>, std::net::IpAddr);
    let connection: Change = |w, e, b, ip| edit::connection(w, e, &b.connection.expect("c="), ip);
    let origin: Change = |w, e, b, ip| edit::origin(w, e, &b.origin.expect("o="), ip);
    let port: Change = |w, e, b, _| edit::port(w, e, &b.media[0], 30000);
    let add: Change = |w, e, b, ip| edit::add_connection(w, e, &b.media[0], ip);
    let rtcp: Change = |w, e, b, ip| edit::rtcp(w, e, &b.media[0], (ip, 30001).into());
    let cases: &[(&str, Change, &std::net::IpAddr, &str)] = &[
        ("c=IN IP4 10.0.0.1/127/2 \nz", connection, &v4, "c=IN IP4 203.0.113.7 \nz"),
        ("c=IN IP4 h.example\r\n", connection, &v6, "c=IN IP6 2001:db8::1\r\n"),
        ("o=- 1 2 IN IP4 host.example\r\n", origin, &v6, "o=- 1 2 IN IP6 2001:db8::1\r\n"),
        ("m=audio 8/2 RTP/AVP 0", port, &v4, "m=audio 30000 RTP/AVP 0"),
        ("m=audio  8  RTP/AVP 0", port, &v4, "m=audio  30000  RTP/AVP 0"),
        ("m=audio 8 X 0\na=x\n", add, &v4, "m=audio 8 X 0\nc=IN IP4 203.0.113.7\na=x\n"),
        ("m=audio 8 X 0\r\ni=it\r\na=x", add, &v4, "m=audio 8 X 0\r\ni=it\r\nc=IN IP4 203.0.113.7\r\na=x"),
        ("v=0\nm=audio 8 X 0", add, &v4, "v=0\nm=audio 8 X 0\nc=IN IP4 203.0.113.7"),
        ("m=a 8 X 0\r\na=rtcp:9\r\n", rtcp, &v4, "m=a 8 X 0\r\na=rtcp:30001 IN IP4 203.0.113.7\r\n"),
        ("m=a 8 X 0\r\na=rtcp\r\n", rtcp, &v6, "m=a 8 X 0\r\na=rtcp:30001 IN IP6 2001:db8::1\r\n"),
        ("m=a 8 X 0\na=rtcp:9\na=x\na=rtcp:7", rtcp, &v4, "m=a 8 X 0\na=rtcp:30001 IN IP4 203.0.113.7\na=x\n"),
        ("m=a 8 X 0\nb=AS:1\na=x\n", rtcp, &v4, "m=a 8 X 0\nb=AS:1\na=rtcp:30001 IN IP4 203.0.113.7\na=x\n"),
        ("m=a 8 X 0\r\na=x", rtcp, &v4, "m=a 8 X 0\r\na=rtcp:30001 IN IP4 203.0.113.7\r\na=x"),
        ("v=0\nm=a 8 X 0", rtcp, &v4, "v=0\nm=a 8 X 0\na=rtcp:30001 IN IP4 203.0.113.7"),
    ];
    for (text, change, ip, expected) in cases {
        assert_eq!(edited(text, |w, e, b| change(w, e, b, **ip)), *expected);
    }
    assert_eq!(
        edited("o=- 1 9 IN IP4 h\n", |w, e, b| edit::version(w, e, &b.origin.expect("o="), 10)),
        "o=- 1 10 IN IP4 h\n"
    );
}

#[test]
fn directions_are_written_in_place() {
    let cases = [
        ("m=a 8 X 0\r\na=sendrecv\r\na=x\r\n", "m=a 8 X 0\r\na=inactive\r\na=x\r\n"),
        ("m=a 8 X 0\r\na=x\r\nm=b 1 X 0\r\n", "m=a 8 X 0\r\na=x\r\na=inactive\r\nm=b 1 X 0\r\n"),
        ("m=a 8 X 0\na=x", "m=a 8 X 0\na=inactive\na=x"),
        ("v=0\nm=a 8 X 0", "v=0\nm=a 8 X 0\na=inactive"),
        ("m=a 8 X 0\na=sendonly\na=sendrecv\n", "m=a 8 X 0\na=inactive\n"),
    ];
    for (text, expected) in cases {
        assert_eq!(edited(text, |w, e, b| edit::direction(w, e, &b.media[0], Direction::Inactive)), expected);
    }
    let session = |text| edited(text, |w, e, b| edit::session_direction(w, e, b, Direction::SendOnly));
    assert_eq!(session("v=0\nm=a 8 X 0\n"), "v=0\na=sendonly\nm=a 8 X 0\n");
    assert_eq!(session("v=0\na=inactive\nm=a 8 X 0\n"), "v=0\na=sendonly\nm=a 8 X 0\n");
    assert_eq!(session("v=0\r\ns=-"), "v=0\r\ns=-\r\na=sendonly");
}

#[test]
fn what_is_written_twice_stays_once() {
    let once = |text| edited(text, edit::remove_repeated);
    let fine = "o=a 1 1 IN IP4 h\nc=IN IP4 a\nm=a 8 X 0\nc=IN IP4 b\nm=a 8 X 0\nc=IN IP4 c\n";
    assert_eq!(once(fine), fine);
    assert_eq!(once("o=a 1 1 IN IP4 h\no=b 1 1 IN IP4 i\ns=-\n"), "o=a 1 1 IN IP4 h\ns=-\n");
    assert_eq!(
        once("c=IN IP4 a\nc=IN IP4 b\nm=a 8 X 0\nc=ATM NSAP x\nc=IN IP4 c\nc=IN IP4 d\na=x\nm=a 8 X 0\nc=IN IP4 e\n"),
        "c=IN IP4 a\nm=a 8 X 0\nc=ATM NSAP x\nc=IN IP4 c\na=x\nm=a 8 X 0\nc=IN IP4 e\n"
    );
}

#[test]
fn connection_and_rtcp_keep_their_order_and_removed_lines_leave_no_gap() {
    let ip = "203.0.113.7".parse().expect("ip");
    let all = |text| {
        edited(text, |w, e, b| {
            edit::remove_attributes(w, e, b, &["candidate", "ice-ufrag"]);
            edit::direction(w, e, &b.media[0], Direction::SendOnly);
            edit::rtcp(w, e, &b.media[0], (ip, 9).into());
            edit::add_connection(w, e, &b.media[0], ip);
        })
    };
    let tail = "c=IN IP4 203.0.113.7\na=rtcp:9 IN IP4 203.0.113.7\na=sendonly\n";
    assert_eq!(
        all("a=ice-ufrag:x\nm=a 8 X 0\n"),
        format!(
            "m=a 8 X 0\n{}",
            tail.replace("a=rtcp:9 IN IP4 203.0.113.7\na=sendonly\n", "a=sendonly\na=rtcp:9 IN IP4 203.0.113.7\n")
        )
    );
    assert_eq!(
        all("m=a 8 X 0\na=candidate:1 1 UDP 1 10.0.0.1 1 typ host\na=ice-ufrag:x"),
        format!("m=a 8 X 0\n{tail}")
    );
}

#[test]
fn slices_lie_in_the_message_around_the_body() {
    let message = format!("INVITE sip:a@b SIP/2.0\r\n\r\n{OFFER}");
    let body = Body::parse(&message.as_bytes()[26..]).expect("body reads");
    let host = body.origin.expect("o=").host;
    assert_eq!(Span::of(host, message.as_bytes()).in_(message.as_bytes()), b"192.168.1.20");
}

fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("v=0".to_owned()),
        Just("c=IN IP4 10.1.2.3".to_owned()),
        Just("c=IN IP6 fe80::1/3".to_owned()),
        Just("o=- 1 1 IN IP4 host".to_owned()),
        Just("a=sendonly".to_owned()),
        Just("a=rtcp-mux".to_owned()),
        Just("i=x".to_owned()),
        Just("".to_owned()),
        "a=rtcp[ :0-9]{0,8}",
        "a=candidate:[0-9 ]{0,9}",
        "m=[a-z]{1,5} [0-9]{1,4}(/[1-9])? RTP/AVP [0-9 ]{0,8}",
        "[a-z]?[= ]?[ -~]{0,12}",
    ]
}

fn body() -> impl Strategy<Value = String> {
    (prop::collection::vec((line(), prop::bool::weighted(0.8)), 0..24), any::<bool>()).prop_map(|(lines, end)| {
        let mut text = String::new();
        for (line, crlf) in &lines {
            text.push_str(line);
            text.push_str(if *crlf { "\r\n" } else { "\n" });
        }
        if !end {
            text.truncate(text.trim_end_matches(['\r', '\n']).len());
        }
        text
    })
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Body::parse(&bytes);
    }

    #[test]
    fn an_empty_edit_changes_nothing(text in body()) {
        if Body::parse(text.as_bytes()).is_ok() {
            prop_assert_eq!(applied(&text, &Edit::new()), text);
        }
    }

    #[test]
    fn an_edited_body_reads_again(text in body(), ip in any::<std::net::IpAddr>(), port in any::<u16>()) {
        let Ok(body) = Body::parse(text.as_bytes()) else { return Ok(()) };
        let (whole, mut change) = (text.as_bytes(), Edit::new());
        if let Some(origin) = &body.origin {
            edit::origin(whole, &mut change, origin, ip);
        }
        if let Some(connection) = &body.connection {
            edit::connection(whole, &mut change, connection, ip);
        }
        edit::session_direction(whole, &mut change, &body, Direction::RecvOnly);
        for media in &body.media {
            match &media.connection {
                Some(connection) => edit::connection(whole, &mut change, connection, ip),
                None => edit::add_connection(whole, &mut change, media, ip),
            }
            edit::port(whole, &mut change, media, port);
            edit::rtcp(whole, &mut change, media, (ip, port).into());
            edit::direction(whole, &mut change, media, Direction::SendOnly);
        }
        edit::remove_attributes(whole, &mut change, &body, &["candidate"]);
        let out = applied(&text, &change);
        let again = Body::parse(out.as_bytes()).expect("still reads");
        prop_assert_eq!(again.media.len(), body.media.len());
        prop_assert_eq!(again.direction, Some(Direction::RecvOnly));
        let blank = |text: &str| text.lines().filter(|line| line.is_empty()).count();
        prop_assert!(blank(&out) <= blank(&text));
        for media in &again.media {
            prop_assert_eq!(media.ip(&again), Some(ip.to_canonical()));
            prop_assert_eq!((media.port, media.count), (port, 1));
            prop_assert_eq!(media.rtcp.map(|r| (r.port, r.ip)), Some((port, Some(ip.to_canonical()))));
            prop_assert_eq!(media.direction, Some(Direction::SendOnly));
            prop_assert!(media.attribute("candidate").is_none());
        }
    }
}
