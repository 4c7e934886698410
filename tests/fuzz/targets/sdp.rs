//! An offer and an answer through the relay's control half: what is written
//! names our sockets and nothing of the other side, and in the end every port
//! is free again. The input says how we advertise, then the offer behind its
//! length, then the answer.

use std::net::IpAddr;
use std::time::Duration;

use media::offer::{EndPlan, Key, Offers, Settles, Text};
use media::ports::{self, Pools};
use media::{Command, End, Fact, PortRange, RangeId};
use nat::{Advertise, Mapped, Side};
use wire::Edit;
use wire::sdp::{self, Body};

use super::choices::Choices;
use super::invariants::grew_little;

const KEY: Key = Key { pass: 7, branch: 0 };
const INNER: [u8; 4] = [10, 0, 0, 2];
const OUTER: [u8; 4] = [192, 168, 1, 2];
const MAPPED: [u8; 4] = [198, 51, 100, 7];

pub(super) fn run(bytes: &[u8]) {
    let mut choices = Choices::new(bytes);
    let kind = choices.octet();
    let offer = choices.text();
    let answer = choices.rest();
    let advertise =
        *[Advertise::Listen, Advertise::Stun, Advertise::StunAddress].get(usize::from(kind % 3)).expect("one of three");
    let ends = [
        end(Side::Inner, INNER.into(), Advertise::Listen, (kind & 4 != 0).then_some([10, 0, 0, 9].into())),
        end(Side::Outer, OUTER.into(), advertise, (kind & 8 != 0).then_some([198, 51, 100, 20].into())),
    ];
    let range = PortRange { first: 30_000, last: 30_099 };
    let pools = Pools::new(vec![range], 4, [3; 32]);
    let mut play = Play { offers: Offers::new(pools, 2, Duration::from_secs(60), [5; 32]), open: Vec::new() };
    for end in &ends {
        play.offers.want(end);
    }
    play.settle();
    let Some(first) = play.offer(&ends, offer) else { return play.over() };
    let again = play.offer(&ends, offer);
    assert!(again == Some(first), "the same offer is written otherwise when it comes again");
    let settles =
        *[Settles::Nothing, Settles::Offer, Settles::Call].get(usize::from(kind >> 4 & 3)).unwrap_or(&Settles::Call);
    let mut edit = Edit::new();
    let text = Text { whole: answer, body: answer };
    if play.offers.answer(KEY, 1, End::B, ends.clone(), text, settles, &mut edit).is_ok() {
        written(answer, &edit, &ends[0]);
    }
    play.settle();
    play.over();
}

fn end(side: Side, local: IpAddr, advertise: Advertise, signalled_from: Option<IpAddr>) -> EndPlan {
    let own = match advertise {
        Advertise::Listen | Advertise::Ip(_) => local,
        Advertise::Stun | Advertise::StunAddress => MAPPED.into(),
    };
    EndPlan {
        side,
        local,
        range: RangeId(0),
        advertise,
        own,
        signalled_from,
        private_targets: signalled_from.is_none(),
        open: signalled_from.is_none(),
        prefixes: [].into(),
        networks: [].into(),
        media: nat::MediaMode::Relay,
    }
}

struct Play {
    offers: Offers,
    open: Vec<media::StreamId>,
}

impl Play {
    /// What the other end gets; `None` when it was refused.
    fn offer(&mut self, ends: &[EndPlan; 2], body: &[u8]) -> Option<Vec<u8>> {
        let mut edit = Edit::new();
        let text = Text { whole: body, body };
        // Ports that are on their way come with the next settling.
        for _ in 0..4 {
            edit.clear();
            let taken = self.offers.offer(KEY, 0, 1, End::A, ends.clone(), text, &mut edit);
            self.settle();
            if taken.is_ok() {
                return Some(written(body, &edit, &ends[1]));
            }
        }
        None
    }

    /// Ports are bound at once, and workers obey.
    fn settle(&mut self) {
        for _ in 0..1000 {
            let (port, media) = (self.offers.poll_ports(), self.offers.poll_command());
            match port {
                Some(ports::Command::Bind { pair, discover }) => {
                    self.offers.handle_ports(ports::Event::Bound { pair });
                    if discover {
                        let mapped = |port| Mapped((MAPPED, port).into());
                        let (rtp, rtcp) = (mapped(pair.rtp + 7), mapped(pair.rtp + 1300));
                        self.offers.handle_ports(ports::Event::Mapped { pair, rtp, rtcp });
                    }
                }
                Some(ports::Command::Unbind { .. }) => {}
                None if media.is_none() => return,
                None => {}
            }
            match media {
                Some(Command::Open { stream, legs, .. }) => {
                    assert_ne!(legs[0].pair, legs[1].pair, "one pair for two legs");
                    self.open.push(stream);
                }
                Some(Command::Close { stream, told: _ }) => {
                    self.open.retain(|open| *open != stream);
                    self.offers.handle_fact(&Fact::Closed { stream, legs: Default::default() });
                }
                Some(
                    Command::Update { stream, .. }
                    | Command::Carry { stream, .. }
                    | Command::Formats { stream, .. }
                    | Command::Splice { stream, .. }
                    | Command::Ask { stream, .. }
                    | Command::Part { stream }
                    | Command::Replace { stream, .. },
                ) => {
                    assert!(self.open.contains(&stream), "an order to a stream that is not open");
                }
                Some(Command::Join { .. }) | None => {}
            }
        }
        panic!("the control half gives orders without end");
    }

    fn over(mut self) {
        self.offers.close(KEY);
        self.settle();
        assert_eq!((self.open.len(), self.offers.open_streams()), (0, 0), "streams are left");
        assert_eq!(self.offers.ports().map(|(_, _, counts)| counts.live).sum::<usize>(), 0, "ports are left");
    }
}

/// The edited body, after a look at it.
fn written(body: &[u8], edit: &Edit, end: &EndPlan) -> Vec<u8> {
    let mut out = Vec::new();
    edit.apply(body, &mut out);
    let before = Body::parse(body).expect("it was taken");
    // Each m-line may get a `c=` and an `a=rtcp` of its own; some, ICE.
    grew_little(body.len() + before.media.len() * 80, out.len());
    let after = Body::parse(&out).expect("we wrote what we cannot read");
    assert_eq!(after.media.len(), before.media.len(), "m-lines came or went");
    for line in out.split(|b| *b == b'\n') {
        let address = line.starts_with(b"c=") || line.starts_with(b"o=");
        assert!(!address || is_ours(line, end), "not our address: {}", line.escape_ascii());
        let candidate = line.strip_prefix(b"a=candidate:").and_then(sdp::Candidate::parse);
        let ours = candidate.is_none_or(|c| c.address.is_ok_and(|address| address.ip() == end.own));
        assert!(ours, "a candidate of the other side: {}", line.escape_ascii());
    }
    for (was, media) in before.media.iter().zip(&after.media) {
        // A CR alone at the end of the body becomes a whole line end.
        let [before, after] = [was, media].map(|m| [m.kind, m.formats, m.protocol].map(<[u8]>::trim_ascii_end));
        assert!(before == after, "an m-line says something else");
        assert!(was.port != 0 || media.port == 0, "a refused stream came back to life");
        if media.port != 0 {
            let ours = (30_000..=30_099).contains(&media.port) || (30_007..=30_106).contains(&media.port);
            // Who opens a TCP connection has no port (RFC 4145 §4.1).
            let discard = media.port == 9 && media.attribute("setup") == Some(b"active");
            assert!(ours || discard, "port {} is none of ours", media.port);
            let rtcp = media.rtcp.and_then(|rtcp| rtcp.ip);
            assert!(rtcp.is_none_or(|ip| ip == end.own), "a=rtcp with {rtcp:?}");
        }
    }
    out
}

/// Our address, a hold by address, or no IP network at all (RFC 7195).
fn is_ours(line: &[u8], end: &EndPlan) -> bool {
    let text = String::from_utf8_lossy(line);
    let fields: Vec<&str> = text[2..].split([' ', '\t', '\r']).filter(|field| !field.is_empty()).collect();
    // The user name of `o=` may have blanks in it.
    let (network, host) = match (line.first(), &fields[..]) {
        (Some(b'c'), [network, _, host, ..]) | (_, [.., network, _, host]) => (*network, *host),
        _ => return false,
    };
    let host = host.split('/').next().unwrap_or_default();
    let held = host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified());
    held || host == end.own.to_string() || (line.starts_with(b"c=") && !network.eq_ignore_ascii_case("IN"))
}
