//! An office whose public address changes while a call is up.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use nat::{Advertise, Mapped, Side};
use wire::Edit;
use wire::sdp::Body;

use super::tests::{KEY, bind, end};
use super::{EndPlan, News, Offers, Settles, Text};
use crate::ports::{self, Pools};
use crate::{Command, Component, End, Fact, PortRange, StreamId};

const OLD: [u8; 4] = [198, 51, 100, 7];
const NEW: [u8; 4] = [198, 51, 100, 99];
const SERVERS: [&str; 2] = ["203.0.113.10:3478", "203.0.113.11:3478"];
const PHONE: &str = "v=0\r\no=alice 7 41 IN IP4 192.168.1.10\r\ns=-\r\nc=IN IP4 192.168.1.10\r\nt=0 0\r\n\
                     m=audio 4000 RTP/AVP 0\r\nm=video 4002 RTP/AVP 96\r\n";
const FAR: &str = "v=0\r\no=x 1 1 IN IP4 203.0.113.80\r\ns=-\r\nc=IN IP4 203.0.113.80\r\nt=0 0\r\n\
                   m=audio 6000 RTP/AVP 0\r\nm=video 0 RTP/AVP 96\r\n";

fn at(ip: [u8; 4], port: u16) -> SocketAddr {
    SocketAddr::new(ip.into(), port)
}

/// The phone's end, and the provider's, toward which addresses are found out.
fn ends(advertise: Advertise) -> [EndPlan; 2] {
    let outer = EndPlan { advertise, own: OLD.into(), ..end(Side::Outer, [192, 168, 1, 2]) };
    [EndPlan { signalled_from: Some(IpAddr::from([192, 168, 1, 10])), ..end(Side::Inner, [192, 168, 1, 2]) }, outer]
}

/// Pairs are bound, and seen at the same ports of the old address.
fn serve(offers: &mut Offers) {
    while let Some(command) = offers.poll_ports() {
        if let ports::Command::Bind { pair, discover } = command {
            offers.handle_ports(ports::Event::Bound { pair });
            if discover {
                let seen = |local: SocketAddr| Mapped(at(OLD, local.port()));
                offers.handle_ports(ports::Event::Mapped { pair, rtp: seen(pair.rtp()), rtcp: seen(pair.rtcp()) });
            }
        }
    }
}

/// A call whose offer the provider has answered; it has declined the video.
fn up(advertise: Advertise) -> (Offers, [EndPlan; 2]) {
    let pools = Pools::new(vec![PortRange { first: 30_000, last: 30_099 }], 20, [1; 32]);
    let mut offers = Offers::new(pools, 1, Duration::from_secs(60), [2; 32]);
    offers.stun_servers(SERVERS.map(|server| server.parse().unwrap()).to_vec());
    let ends = ends(advertise);
    ends.iter().for_each(|end| offers.want(end));
    serve(&mut offers);
    offers.expect(&ends, 2);
    serve(&mut offers);
    let text = |body: &'static str| Text { whole: body.as_bytes(), body: body.as_bytes() };
    offers.offer(KEY, 0, 0, End::A, ends.clone(), text(PHONE), &mut Edit::new()).unwrap();
    let settles = Settles::Call;
    offers.answer(KEY, 1, End::B, ends.clone(), text(FAR), settles, &mut Edit::new()).unwrap();
    bind(&mut offers);
    (offers, ends)
}

fn commands(offers: &mut Offers) -> Vec<Command> {
    std::iter::from_fn(|| offers.poll_command()).collect()
}

/// Which stream is told to ask whom.
fn asked(commands: &[Command]) -> Option<(StreamId, SocketAddr, [[u8; 12]; 2])> {
    commands.iter().find_map(|command| {
        let Command::Ask { stream, end: End::B, server, transactions } = command else { return None };
        Some((*stream, *server, *transactions))
    })
}

fn moved(ends: &[EndPlan; 2]) -> [EndPlan; 2] {
    let mut ends = ends.clone();
    ends[1].own = NEW.into();
    ends
}

/// The `o=` version, and the media addresses, of what the provider is offered.
fn told(offer: &[u8]) -> (u64, IpAddr, u16, SocketAddr, u16) {
    let body = Body::parse(offer).expect("we can read what we write");
    let (origin, audio) = (body.origin.unwrap(), &body.media[0]);
    let ip = audio.connection.or(body.connection).and_then(|c| c.ip()).unwrap();
    let rtcp = audio.rtcp.unwrap();
    let rtcp = SocketAddr::new(rtcp.ip.unwrap(), rtcp.port);
    assert_eq!(origin.ip(), Some(NEW.into()));
    (origin.version_number().unwrap(), ip, audio.port, rtcp, body.media[1].port)
}

#[test]
fn its_sockets_ask_and_the_provider_is_offered_what_they_found() {
    let (mut offers, ends) = up(Advertise::Stun);
    commands(&mut offers);
    offers.seek(KEY, End::B, &[Some(OLD.into())], NEW.into());
    assert!(offers.ask(KEY, End::B, 0));
    let (stream, server, first) = asked(&commands(&mut offers)).expect("the audio asks");
    assert_eq!(server.to_string(), SERVERS[0]);
    assert!(offers.ask(KEY, End::B, 1));
    let (_, server, again) = asked(&commands(&mut offers)).expect("it asks again");
    assert_eq!(server.to_string(), SERVERS[1]);
    assert!(first[0] != first[1] && first != again);
    let mut hear = |component, mapped| {
        offers.handle_fact(&Fact::Mapped { stream, end: End::B, component, mapped: Mapped(mapped) })
    };
    // Somebody lies, and RTCP is heard of first.
    assert_eq!(hear(Component::Rtp, at([203, 0, 113, 66], 9)), None);
    assert_eq!(hear(Component::Rtcp, at(NEW, 50_001)), None);
    assert_eq!(hear(Component::Rtp, at(NEW, 50_777)), Some(News::Found(KEY, End::B)));
    assert_eq!(hear(Component::Rtp, at(NEW, 50_778)), None, "nobody asks any more");
    assert!(!offers.ask(KEY, End::B, 2));
    let offer = offers.offer_again(KEY, 1, End::A, moved(&ends)).expect("there is something to say");
    assert_eq!(told(&offer), (42, NEW.into(), 50_777, at(NEW, 50_001), 0));
    assert_eq!(offers.offer_again(KEY, 1, End::A, moved(&ends)), None, "one at a time");
    // Its answer re-arms the latches and opens nothing.
    commands(&mut offers);
    let text = Text { whole: FAR.as_bytes(), body: FAR.as_bytes() };
    offers.answer(KEY, 1, End::B, moved(&ends), text, Settles::Call, &mut Edit::new()).unwrap();
    let after = commands(&mut offers);
    assert!(matches!(&after[..], [Command::Update { rearm: true, .. }, ..]), "{after:?}");
    assert!(!after.iter().any(|command| matches!(command, Command::Open { .. } | Command::Close { .. })));
}

#[test]
fn what_the_phone_says_later_is_newer_than_what_we_have_said() {
    let (mut offers, ends) = up(Advertise::Stun);
    offers.seek(KEY, End::B, &[Some(OLD.into())], NEW.into());
    offers.guess(KEY, End::B);
    let moved = moved(&ends);
    // The first is refused, the second answered.
    assert_eq!(told(&offers.offer_again(KEY, 1, End::A, moved.clone()).unwrap()).0, 42);
    offers.fail(KEY, 1, End::A);
    assert_eq!(told(&offers.offer_again(KEY, 1, End::A, moved.clone()).unwrap()).0, 43);
    let text = Text { whole: FAR.as_bytes(), body: FAR.as_bytes() };
    offers.answer(KEY, 1, End::B, moved.clone(), text, Settles::Call, &mut Edit::new()).unwrap();
    let hold = PHONE.replace(" 41 ", " 42 ").replace("AVP 0\r\n", "AVP 0\r\na=sendonly\r\n");
    let mut edit = Edit::new();
    let text = Text { whole: hold.as_bytes(), body: hold.as_bytes() };
    offers.offer(KEY, 1, 0, End::A, moved, text, &mut edit).unwrap();
    let mut out = Vec::new();
    edit.apply(hold.as_bytes(), &mut out);
    let body = Body::parse(&out).unwrap();
    assert_eq!(body.origin.unwrap().version_number(), Some(44));
    // The other way nothing is raised.
    assert!(String::from_utf8(out).unwrap().contains("a=sendonly"));
}

#[test]
fn without_an_answer_the_ports_are_taken_for_the_same() {
    let (mut offers, ends) = up(Advertise::Stun);
    commands(&mut offers);
    let before = offers.offer_again(KEY, 1, End::A, ends.clone()).unwrap();
    offers.fail(KEY, 1, End::A);
    let port = Body::parse(&before).unwrap().media[0].port;
    offers.seek(KEY, End::B, &[Some(OLD.into())], NEW.into());
    offers.ask(KEY, End::B, 0);
    offers.guess(KEY, End::B);
    assert!(!offers.ask(KEY, End::B, 1));
    let offer = offers.offer_again(KEY, 1, End::A, moved(&ends)).unwrap();
    assert_eq!(told(&offer), (43, NEW.into(), port, at(NEW, port + 1), 0));
}

#[test]
fn forwarded_ports_need_not_be_asked_for() {
    let (mut offers, ends) = up(Advertise::StunAddress);
    commands(&mut offers);
    offers.seek(KEY, End::B, &[Some(OLD.into())], NEW.into());
    assert!(!offers.ask(KEY, End::B, 0));
    let offer = offers.offer_again(KEY, 1, End::A, moved(&ends)).unwrap();
    let (_, ip, port, rtcp, _) = told(&offer);
    assert_eq!((ip, rtcp), (NEW.into(), at(NEW, port + 1)));
}

#[test]
fn what_was_never_agreed_on_is_not_said_again() {
    let (mut offers, ends) = up(Advertise::Listen);
    assert_eq!(offers.offer_again(KEY, 1, End::A, ends), None, "nothing is kept where addresses stay");
    let (mut offers, ends) = up(Advertise::Stun);
    assert_eq!(offers.offer_again(KEY, 2, End::A, ends), None, "another callee");
}
