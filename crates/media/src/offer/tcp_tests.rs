//! Who opens which connection, and what either end is told of it.

use nat::{Advertise, Side};
use wire::Edit;

use super::tests::{KEY, bind, end, offers};
use super::{EndPlan, Offers, Settles, Text};
use crate::{Command, End, Fact, Part, Splice};

/// A phone at 198.51.100.7, an upstream at 10.0.0.9.
fn ends() -> [EndPlan; 2] {
    let mut ends = [end(Side::Outer, [192, 0, 2, 1]), end(Side::Inner, [10, 0, 0, 2])];
    ends[0].signalled_from = Some([198, 51, 100, 7].into());
    ends[0].private_targets = false;
    ends
}

fn sdp(ip: &str, proto: &str, port: u16, attributes: &str) -> String {
    let attributes: String = attributes.split_whitespace().map(|a| format!("a={a}\r\n")).collect();
    format!(
        "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=application {port} {proto} *\r\n{attributes}"
    )
}

/// One call with one TCP line.
struct Call {
    offers: Offers,
    ends: [EndPlan; 2],
    established: bool,
}

/// The port that was written, `a=setup`, `a=connection`.
type Written = (u16, String, String);

impl Call {
    fn new(ends: [EndPlan; 2]) -> Self {
        let mut offers = offers();
        ends.iter().for_each(|end| offers.want(end));
        bind(&mut offers);
        Self { offers, ends, established: false }
    }

    fn offer(&mut self, from: End, body: &str) -> Written {
        bind(&mut self.offers);
        let leg = u8::from(self.established);
        let (mut edit, text) = (Edit::new(), Text { whole: body.as_bytes(), body: body.as_bytes() });
        assert_eq!(self.offers.offer(KEY, leg, 0, from, self.ends.clone(), text, &mut edit), Ok(()));
        read(&edit, body)
    }

    fn answer(&mut self, from: End, body: &str, settles: Settles) -> Written {
        let (mut edit, text) = (Edit::new(), Text { whole: body.as_bytes(), body: body.as_bytes() });
        assert_eq!(self.offers.answer(KEY, 1, from, self.ends.clone(), text, settles, &mut edit), Ok(()));
        self.established |= settles == Settles::Call;
        read(&edit, body)
    }

    /// What the splice was told last, of all that waited to be told.
    fn splice(&mut self) -> Option<Splice> {
        let spliced = |command| {
            let Command::Splice { stream: _, splice } = command else { return None };
            splice.map(|splice: Box<Splice>| *splice)
        };
        let told = std::iter::from_fn(|| self.offers.poll_command()).filter_map(spliced);
        told.last()
    }

    fn parts(&mut self) -> [Part; 2] {
        self.splice().expect("a splice").legs.map(|leg| leg.part)
    }
}

fn read(edit: &Edit, body: &str) -> Written {
    let mut out = Vec::new();
    edit.apply(body.as_bytes(), &mut out);
    let body = wire::sdp::Body::parse(&out).expect("we can read what we write");
    let media = &body.media[0];
    let value = |name| String::from_utf8_lossy(media.attribute(name).unwrap_or(b"-")).into_owned();
    assert!(media.attributes.named("setup").count() <= 1);
    (media.port, value("setup"), value("connection"))
}

const PHONE: &str = "198.51.100.7";
const CORE: &str = "10.0.0.9";

/// RFC 4145 §4.1, each row; `-` is nothing written.
#[test]
fn each_end_is_active_wherever_it_may_be() {
    let dial = |text: &str| Part::Dial(text.parse().expect("an address"));
    let (listen, rest) = (Part::Listen, Part::Rest);
    let (phone, core) = (dial("198.51.100.7:7000"), dial("10.0.0.9:6000"));
    for (proto, offer, offered, answer, answered, parts) in [
        ("TCP/BFCP", "active", "passive", "active", "passive", [listen, listen]),
        ("TCP/BFCP", "actpass", "passive", "active", "passive", [listen, listen]),
        ("TCP/BFCP", "passive", "passive", "active", "active", [phone, listen]),
        ("TCP/BFCP", "-", "passive", "active", "passive", [listen, listen]),
        // It does not know of the attribute, or says what it may not: it waits for us.
        ("TCP/BFCP", "active", "passive", "-", "passive", [listen, core]),
        ("TCP/BFCP", "actpass", "passive", "passive", "passive", [listen, core]),
        ("TCP/BFCP", "passive", "passive", "passive", "active", [phone, core]),
        ("TCP/BFCP", "actpass", "passive", "actpass", "passive", [listen, listen]),
        ("TCP/BFCP", "active", "passive", "holdconn", "holdconn", [rest, rest]),
        ("TCP/BFCP", "passive", "passive", "holdconn", "holdconn", [rest, rest]),
        ("TCP/BFCP", "actpass", "passive", "holdconn", "holdconn", [rest, rest]),
        ("TCP/BFCP", "holdconn", "holdconn", "holdconn", "holdconn", [rest, rest]),
        ("TCP/BFCP", "holdconn", "holdconn", "active", "holdconn", [rest, rest]),
        ("TCP/RTP/AVP", "ACTIVE", "passive", "active", "passive", [listen, listen]),
        // Client and server of TLS follow: at the two ends they stay opposite.
        ("TCP/TLS/BFCP", "active", "active", "passive", "passive", [listen, core]),
        ("TCP/TLS/BFCP", "passive", "passive", "active", "active", [phone, listen]),
        ("TCP/TLS/BFCP", "actpass", "active", "passive", "passive", [listen, core]),
        ("TCP/TLS/BFCP", "actpass", "active", "active", "active", [phone, listen]),
        ("TCP/MRCPv2", "active", "active", "passive", "passive", [listen, core]),
    ] {
        let case = format!("{proto} {offer} {answer}");
        let mut call = Call::new(ends());
        let setup = |value: &str| if value == "-" { String::new() } else { format!("setup:{value}") };
        let (port, written, _) = call.offer(End::A, &sdp(PHONE, proto, 7000, &setup(offer)));
        assert_eq!(written, offered, "{case}");
        assert_eq!(port == 9, offered == "active", "{case}: an active end has no port");
        let asked = call.splice().expect("a splice").asked;
        assert_eq!(asked, (offered == "passive").then_some(End::B), "{case}");
        let (port, written, _) = call.answer(End::B, &sdp(CORE, proto, 6000, &setup(answer)), Settles::Call);
        assert_eq!((written.as_str(), port == 9), (answered, answered == "active"), "{case}");
        assert_eq!(call.parts(), parts, "{case}");
    }
}

#[test]
fn where_our_own_nat_is_in_the_way_we_are_active() {
    let provider = || {
        let mut ends = ends();
        ends[1].advertise = Advertise::Stun;
        Call { offers: offers(), ends, established: false }
    };
    let body = sdp(PHONE, "TCP/BFCP", 9, "setup:active connection:new");
    let mut call = provider();
    call.offers.want(&call.ends[0]);
    call.offers.want(&call.ends[1]);
    for _ in 0..2 {
        while let Some(command) = call.offers.poll_ports() {
            if let crate::ports::Command::Bind { pair, .. } = command {
                let mapped = |port| nat::Mapped(([203, 0, 113, 5], port).into());
                call.offers.handle_ports(crate::ports::Event::Bound { pair });
                let (rtp, rtcp) = (mapped(pair.rtp + 500), mapped(pair.rtp + 501));
                call.offers.handle_ports(crate::ports::Event::Mapped { pair, rtp, rtcp });
            }
        }
    }
    assert_eq!(call.offer(End::A, &body), (9, "active".into(), "new".into()));
    assert_eq!(call.parts()[1], Part::Rest, "nobody is connected to before the answer");
    call.answer(End::B, &sdp("203.0.113.80", "TCP/BFCP", 6000, "setup:passive"), Settles::Call);
    assert_eq!(call.parts(), [Part::Listen, Part::Dial("203.0.113.80:6000".parse().expect("an address"))]);
    // It offers itself, and leaves the choice to us.
    let (port, setup, _) = call.offer(End::B, &sdp("203.0.113.80", "TCP/BFCP", 6000, "setup:actpass"));
    assert_eq!((port == 9, setup.as_str()), (false, "passive"));
    let (port, setup, _) = call.answer(End::A, &sdp(PHONE, "TCP/BFCP", 9, "setup:active"), Settles::Call);
    assert_eq!((port, setup.as_str()), (9, "active"));
}

#[test]
fn the_connection_goes_where_both_say_so() {
    // What an offer and its answer say, what is told to either, and whether there is another connection then.
    for (offer, told, answer, answered, anew) in [
        ("existing", "existing", "existing", "existing", false),
        ("existing", "existing", "new", "new", true),
        ("existing", "existing", "-", "-", true),
        ("new", "new", "new", "new", true),
        ("new", "new", "existing", "new", true),
        ("-", "-", "-", "-", true),
    ] {
        for by in [End::A, End::B] {
            let case = format!("{offer} {answer} {by:?}");
            let connection = |value: &str, setup: &str| {
                let connection = if value == "-" { String::new() } else { format!(" connection:{value}") };
                format!("setup:{setup}{connection}")
            };
            let body = |end, port, attributes: &str| {
                let ip = if end == End::A { PHONE } else { CORE };
                sdp(ip, "TCP/BFCP", port, attributes)
            };
            let mut call = Call::new(ends());
            // There is none yet, whatever is said.
            let (_, _, said) = call.offer(End::A, &body(End::A, 9, "setup:active connection:existing"));
            assert_eq!(said, "new", "{case}");
            call.answer(End::B, &body(End::B, 9, "setup:active connection:new"), Settles::Call);
            let first = call.splice().expect("a splice").round;
            assert_ne!(first, 0, "{case}");
            let (_, setup, said) = call.offer(by, &body(by, 7000, &connection(offer, "actpass")));
            assert_eq!((setup.as_str(), said.as_str()), ("passive", told), "{case}");
            let waits = call.splice().expect("a splice");
            assert_eq!(waits.asked, (offer != "existing").then_some(by.other()), "{case}");
            assert_eq!(waits.round, first, "{case}: what is connected stays until the answer");
            let (_, _, said) =
                call.answer(by.other(), &body(by.other(), 9, &connection(answer, "active")), Settles::Call);
            assert_eq!(said, answered, "{case}");
            let last = call.splice().expect("a splice");
            assert_eq!((last.round != first, last.asked), (anew, None), "{case}");
            assert_eq!(last.legs.map(|leg| leg.part), [Part::Listen; 2], "{case}");
        }
    }
}

#[test]
fn on_holdconn_no_connection_is_made_or_broken() {
    let mut call = Call::new(ends());
    let body = |ip, attributes| sdp(ip, "TCP/BFCP", 9, attributes);
    call.offer(End::A, &body(PHONE, "setup:active"));
    call.answer(End::B, &body(CORE, "setup:active"), Settles::Call);
    let round = call.splice().expect("a splice").round;
    for by in [End::B, End::A] {
        let ips = if by == End::A { [PHONE, CORE] } else { [CORE, PHONE] };
        let (port, setup, _) = call.offer(by, &body(ips[0], "setup:holdconn connection:new"));
        assert_eq!((setup.as_str(), port != 9), ("holdconn", true));
        assert_eq!(call.splice().expect("a splice").asked, None);
        let (_, setup, _) = call.answer(by.other(), &body(ips[1], "setup:holdconn connection:new"), Settles::Call);
        assert_eq!(setup, "holdconn");
        let held = call.splice().expect("a splice");
        assert_eq!((held.round, held.legs.map(|leg| leg.part)), (round, [Part::Rest; 2]));
    }
    call.offer(End::A, &body(PHONE, "setup:active connection:existing"));
    call.answer(End::B, &body(CORE, "setup:active connection:existing"), Settles::Call);
    let again = call.splice().expect("a splice");
    assert_eq!((again.round, again.legs.map(|leg| leg.part)), (round, [Part::Listen; 2]));
}

#[test]
fn an_offer_that_is_refused_leaves_the_connection() {
    let mut call = Call::new(ends());
    call.offer(End::A, &sdp(PHONE, "TCP/BFCP", 7000, "setup:actpass"));
    call.answer(End::B, &sdp(CORE, "TCP/BFCP", 6000, "setup:passive"), Settles::Call);
    let before = call.splice().expect("a splice");
    assert_eq!(before.legs[1].part, Part::Dial("10.0.0.9:6000".parse().expect("an address")));
    call.offer(End::A, &sdp(PHONE, "TCP/BFCP", 7004, "setup:actpass connection:new"));
    assert_ne!(call.splice().expect("a splice"), before);
    call.offers.fail(KEY, 1, End::A);
    assert_eq!(call.splice().expect("a splice"), before);
}

#[test]
fn a_line_becomes_one_of_tcp_and_back() {
    let mut call = Call::new(ends());
    let carried = |call: &mut Call| {
        let mut heard = None;
        let mut spliced = None;
        while let Some(command) = call.offers.poll_command() {
            if let Command::Open { legs, timeout, .. } | Command::Update { legs, timeout, .. } = command {
                heard = Some((legs.each_ref().map(|leg| leg.sources.ips != [None; 2]), timeout.is_some()));
            } else if let Command::Splice { splice, .. } = command {
                spliced = Some(splice.is_some());
            }
        }
        (heard, spliced)
    };
    let udp = |ip| sdp(ip, "udptl", 5000, "");
    let tcp = |ip| sdp(ip, "TCP", 9, "setup:active");
    call.offer(End::A, &udp(PHONE));
    call.answer(End::B, &udp(CORE), Settles::Call);
    assert_eq!(carried(&mut call), (Some(([true, true], true)), None));
    // Refused.
    call.offer(End::A, &tcp(PHONE));
    assert_eq!(carried(&mut call), (None, Some(true)));
    call.offers.fail(KEY, 1, End::A);
    assert_eq!(carried(&mut call), (None, Some(false)));
    // Taken: datagrams are heard no more, and nobody waits for any.
    call.offer(End::A, &tcp(PHONE));
    call.answer(End::B, &tcp(CORE), Settles::Call);
    assert_eq!(carried(&mut call), (Some(([false, false], false)), Some(true)));
    assert!(!call.offers.watched(KEY.pass));
    call.offer(End::B, &udp(CORE));
    call.answer(End::A, &udp(PHONE), Settles::Call);
    assert_eq!(carried(&mut call), (Some(([true, true], true)), Some(false)));
    assert!(call.offers.watched(KEY.pass));
}

#[test]
fn nobody_chooses_a_third_to_connect_to() {
    for (ip, port, private_targets, latch, dialled) in [
        (PHONE, 7000, false, false, true),
        (PHONE, 9, false, false, false),
        ("192.0.2.200", 7000, false, false, false),
        ("192.0.2.200", 7000, false, true, true),
        ("192.168.1.1", 7000, false, false, false),
        ("192.168.1.1", 7000, true, false, false),
        ("192.0.2.1", 7000, true, true, false),
        ("10.0.0.2", 7000, true, true, false),
        ("127.0.0.1", 7000, true, true, false),
        ("0.0.0.0", 7000, true, true, false),
    ] {
        let mut ends = ends();
        ends[0].private_targets = private_targets;
        if latch {
            ends[0].prefixes =
                vec!["192.0.2.0/24".parse().expect("a prefix"), "127.0.0.0/8".parse().expect("one")].into();
        }
        let mut call = Call::new(ends);
        let (_, setup, _) = call.offer(End::A, &sdp(ip, "TCP/BFCP", port, "setup:passive"));
        assert_eq!(setup, "passive");
        call.answer(End::B, &sdp(CORE, "TCP/BFCP", 9, "setup:active"), Settles::Call);
        let target = format!("{ip}:{port}").parse().expect("an address");
        let wanted = if dialled { Part::Dial(target) } else { Part::Rest };
        assert_eq!(call.parts()[0], wanted, "{ip}:{port} {private_targets} {latch}");
    }
}

#[test]
fn those_may_connect_whom_signalling_and_sdp_name() {
    let admits = |leg: &crate::SpliceLeg, ip: &str| leg.sources.admit(ip.parse().expect("an address"));
    let mut call = Call::new(ends());
    // Port 9 is no port, but the address is one.
    call.offer(End::A, &sdp("192.168.1.10", "TCP/BFCP", 9, "setup:active"));
    let [phone, core] = call.splice().expect("a splice").legs;
    assert!(admits(&phone, PHONE) && !admits(&phone, "192.168.1.10") && !admits(&phone, CORE));
    assert!(!admits(&core, CORE), "the core has not said where it is");
    call.answer(End::B, &sdp(CORE, "TCP/BFCP", 9, "setup:active"), Settles::Call);
    let [phone, core] = call.splice().expect("a splice").legs;
    assert!(admits(&phone, PHONE) && admits(&core, CORE) && !admits(&core, PHONE) && !admits(&phone, CORE));
}

#[test]
fn a_preview_lets_be_connected_and_connects_to_nobody() {
    let mut call = Call::new(ends());
    call.offer(End::A, &sdp(PHONE, "TCP/BFCP", 7000, "setup:actpass"));
    call.answer(End::B, &sdp(CORE, "TCP/BFCP", 6000, "setup:passive"), Settles::Nothing);
    let early = call.splice().expect("a splice");
    assert_eq!((early.legs.map(|leg| leg.part), early.asked), ([Part::Listen, Part::Listen], Some(End::B)));
    // The 2xx without SDP: what was previewed counts.
    call.offers.confirm(KEY, 1, End::A);
    let late = call.splice().expect("a splice");
    let dial = Part::Dial("10.0.0.9:6000".parse().expect("an address"));
    assert_eq!((late.legs.map(|leg| leg.part), late.asked, late.round), ([Part::Listen, dial], None, early.round));
}

#[test]
fn msrp_and_websockets_name_addresses_of_their_own_and_are_refused() {
    for proto in ["TCP/MSRP", "TCP/TLS/MSRP", "tcp/msrp", "TCP/WS/BFCP", "TCP/WSS/BFCP"] {
        let mut call = Call::new(ends());
        let (port, ..) = call.offer(End::A, &sdp(PHONE, proto, 7000, "setup:actpass"));
        assert_eq!((port, call.offers.open_streams()), (0, 0), "{proto}");
        let (port, ..) = call.answer(End::B, &sdp(CORE, proto, 0, ""), Settles::Call);
        assert_eq!((port, call.splice()), (0, None), "{proto}");
    }
}

#[test]
fn a_call_with_audio_is_judged_by_its_audio_alone() {
    let mut call = Call::new(ends());
    let both = |ip| sdp(ip, "TCP/BFCP", 9, "setup:active sendonly") + "m=audio 4000 RTP/AVP 0\r\n";
    call.offer(End::A, &both(PHONE));
    bind(&mut call.offers);
    call.answer(End::B, &both(CORE), Settles::Call);
    let mut audio = None;
    while let Some(command) = call.offers.poll_command() {
        if let Command::Update { stream, epoch, timeout: Some(_), .. } = command {
            assert!(audio.replace((stream, epoch)).is_none(), "only audio is waited for");
        }
    }
    let (stream, epoch) = audio.expect("a stream of audio");
    assert!(call.offers.watched(KEY.pass));
    assert!(call.offers.handle_fact(&Fact::Silent { stream, epoch }).is_some());
}

#[test]
fn a_spiral_is_faced_inside() {
    let mut call = Call::new(ends());
    let (port, ..) = call.offer(End::A, &sdp(PHONE, "TCP/BFCP", 9, "setup:active"));
    let first = call.offers.sessions[&KEY].streams[0].as_ref().expect("a stream").id;
    // The core sends it back to another phone.
    let other = super::Key { pass: 2, branch: 0 };
    let ends = [call.ends[1].clone(), call.ends[0].clone()];
    let (mut edit, body) = (Edit::new(), sdp("10.0.0.2", "TCP/BFCP", port, "setup:passive"));
    let text = Text { whole: body.as_bytes(), body: body.as_bytes() };
    bind(&mut call.offers);
    assert_eq!(call.offers.offer(other, 0, 0, End::A, ends.clone(), text, &mut edit), Ok(()));
    let body = sdp(PHONE, "TCP/BFCP", 9, "setup:active");
    let text = Text { whole: body.as_bytes(), body: body.as_bytes() };
    let mut edit = Edit::new();
    assert_eq!(call.offers.answer(other, 1, End::B, ends, text, Settles::Call, &mut edit), Ok(()));
    assert_eq!(read(&edit, &body).1, "active");
    assert_eq!(call.parts(), [Part::Face(first, End::B), Part::Listen]);
}

#[test]
fn the_fork_that_answers_is_the_one_that_may_connect() {
    let mut call = Call::new(ends());
    call.offer(End::A, &sdp(PHONE, "TCP/BFCP", 9, "setup:active"));
    let ips = [CORE, "10.0.0.10"];
    let mut last = None;
    // Both are heard while they ring, each in its turn; the second answers, and the first says it all again.
    for (leg, settles) in [(1, Settles::Offer), (2, Settles::Offer), (2, Settles::Call), (1, Settles::Nothing)] {
        let body = sdp(ips[leg - 1], "TCP/BFCP", 9, "setup:active");
        let text = Text { whole: body.as_bytes(), body: body.as_bytes() };
        let (ends, mut edit) = (call.ends.clone(), Edit::new());
        assert_eq!(call.offers.answer(KEY, leg as u8, End::B, ends, text, settles, &mut edit), Ok(()));
        if let Some(splice) = call.splice() {
            last = Some(splice);
        }
        let admitted = ips.map(|ip| {
            let splice = last.as_ref().expect("a splice");
            splice.legs[1].sources.admit(ip.parse().expect("an address"))
        });
        assert_eq!(admitted, [leg == 1 && settles == Settles::Offer, leg == 2 || settles == Settles::Nothing]);
    }
    let round = last.expect("a splice").round;
    assert_eq!(round, 1, "one offer, one round of connections");
}
