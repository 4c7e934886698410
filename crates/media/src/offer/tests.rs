//! What cannot be shown by a transcript.

use std::net::IpAddr;
use std::time::Duration;

use nat::{Advertise, Side};
use wire::Edit;
use wire::sdp::Body;

use super::{EndPlan, Key, MOST_NEW, Offers, Refusal, Settles, Text};
use crate::ports::{self, Pools};
use crate::{Command, End, Fact, PortRange, RangeId};

pub(super) const KEY: Key = Key { pass: 1, branch: 0 };

pub(super) fn end(side: Side, local: [u8; 4]) -> EndPlan {
    EndPlan {
        side,
        local: local.into(),
        range: RangeId(0),
        advertise: Advertise::Listen,
        own: IpAddr::from(local),
        signalled_from: None,
        private_targets: true,
        open: false,
        prefixes: [].into(),
        networks: [].into(),
        media: nat::MediaMode::Relay,
    }
}

pub(super) fn bind(offers: &mut Offers) {
    while let Some(command) = offers.poll_ports() {
        if let ports::Command::Bind { pair, .. } = command {
            offers.handle_ports(ports::Event::Bound { pair });
        }
    }
}

#[test]
fn an_offer_of_many_streams_is_written_the_same_when_it_comes_again() {
    let pools = Pools::new(vec![PortRange { first: 30_000, last: 30_099 }], 20, [1; 32]);
    let mut offers = Offers::new(pools, 1, Duration::from_secs(60), [2; 32]);
    let ends = [end(Side::Inner, [10, 0, 0, 2]), end(Side::Outer, [192, 0, 2, 1])];
    ends.iter().for_each(|end| offers.want(end));
    bind(&mut offers);
    let offer = format!("v=0\nc=IN IP4 10.0.0.9\n{}", "m=audio 4000 RTP/AVP 0\n".repeat(MOST_NEW + 3));
    let mut write = || {
        let mut edit = Edit::new();
        let text = Text { whole: offer.as_bytes(), body: offer.as_bytes() };
        assert_eq!(offers.offer(KEY, 0, 0, End::A, ends.clone(), text, &mut edit), Ok(()));
        let mut out = Vec::new();
        edit.apply(offer.as_bytes(), &mut out);
        bind(&mut offers);
        out
    };
    let (first, again) = (write(), write());
    let body = Body::parse(&first).expect("we can read what we write");
    assert_eq!(body.media.iter().filter(|media| media.port != 0).count(), MOST_NEW);
    assert_eq!(first, again);
}

#[test]
fn ports_that_belong_to_no_call_are_found() {
    let mut offers = offers();
    let ends = [end(Side::Inner, [10, 0, 0, 2]), end(Side::Outer, [192, 0, 2, 1])];
    ends.iter().for_each(|end| offers.want(end));
    bind(&mut offers);
    let sdp = "v=0\nc=IN IP4 10.0.0.9\nm=audio 4000 RTP/AVP 0\n";
    let text = Text { whole: sdp.as_bytes(), body: sdp.as_bytes() };
    assert_eq!(offers.offer(KEY, 0, 0, End::A, ends.clone(), text, &mut Edit::new()), Ok(()));
    bind(&mut offers);
    assert_eq!(offers.audit(|pass| pass == KEY.pass), 0);
    // One that was taken and that nobody has.
    let lost = offers.pools.take(ends[0].local, RangeId(0), false).expect("a pair");
    assert_eq!(offers.audit(|pass| pass == KEY.pass), 1);
    offers.pools.give_back(lost.pair, ports::Past::Untold);
    assert_eq!(offers.audit(|pass| pass == KEY.pass), 0);
    // A call that is gone, and whose session is not.
    assert_eq!(offers.audit(|_| false), 2);
    // A worker that does not let go: it may take its time once.
    offers.close(KEY);
    assert_eq!((offers.audit(|_| false), offers.audit(|_| false)), (0, 2));
    let close = std::iter::from_fn(|| offers.poll_command()).last();
    let Some(Command::Close { stream, .. }) = close else { panic!("the stream is closed last") };
    offers.handle_fact(&Fact::Closed { stream, legs: std::sync::Arc::default() });
    assert_eq!(offers.audit(|_| false), 0);
}

#[test]
fn a_pair_that_stood_in_sdp_rests_although_nothing_came() {
    let mut offers = offers();
    let ends = [end(Side::Inner, [10, 0, 0, 2]), end(Side::Outer, [192, 0, 2, 1])];
    ends.iter().for_each(|end| offers.want(end));
    bind(&mut offers);
    let sdp = "v=0\nc=IN IP4 10.0.0.9\nm=audio 4000 RTP/AVP 0\n";
    let text = Text { whole: sdp.as_bytes(), body: sdp.as_bytes() };
    let resting = |offers: &Offers| offers.ports().map(|(.., counts)| counts.resting).collect::<Vec<_>>();
    // The callee's connection ends while it rings: it has the offer, the caller never got an answer.
    // Then the same with an answer that was passed on.
    for (answered, told, at_rest) in [(false, [false, true], [0, 1]), (true, [true, true], [1, 2])] {
        assert_eq!(offers.offer(KEY, 0, 0, End::A, ends.clone(), text, &mut Edit::new()), Ok(()));
        if answered {
            let settles = Settles::Nothing;
            assert_eq!(offers.answer(KEY, 1, End::B, ends.clone(), text, settles, &mut Edit::new()), Ok(()));
        }
        bind(&mut offers);
        offers.close(KEY);
        let close = std::iter::from_fn(|| offers.poll_command()).last();
        let Some(Command::Close { stream, told: said }) = close else { panic!("the stream is closed last") };
        assert_eq!(said, told);
        assert_eq!(offers.handle_fact(&Fact::Closed { stream, legs: std::sync::Arc::default() }), None);
        assert_eq!(resting(&offers), at_rest);
    }
}

fn write(offers: &mut Offers, ends: &[EndPlan; 2], body: &str) -> Result<String, Refusal> {
    bind(offers);
    let (mut edit, mut out) = (Edit::new(), Vec::new());
    let text = Text { whole: body.as_bytes(), body: body.as_bytes() };
    offers.offer(KEY, 0, 0, End::A, ends.clone(), text, &mut edit)?;
    edit.apply(body.as_bytes(), &mut out);
    Ok(String::from_utf8(out).expect("text"))
}

pub(super) fn offers() -> Offers {
    Offers::new(
        Pools::new(vec![PortRange { first: 30_000, last: 30_099 }], 4, [1; 32]),
        1,
        Duration::from_secs(60),
        [2; 32],
    )
}

const SDP: &str =
    "v=0\r\no=- 1 1 IN IP4 10.0.0.9\r\nc=IN IP4 10.0.0.9\r\nm=audio 4000 RTP/AVP 0\r\na=ice-ufrag:abcd\r\n";

#[test]
fn where_media_is_none_of_ours_not_an_octet_changes() {
    for whose in 0..2 {
        let mut offers = offers();
        let mut ends = [end(Side::Inner, [10, 0, 0, 2]), end(Side::Outer, [192, 0, 2, 1])];
        ends.iter().for_each(|end| offers.want(end));
        ends[whose].media = nat::MediaMode::SignallingOnly;
        assert_eq!(write(&mut offers, &ends, SDP).as_deref(), Ok(SDP));
        let mut edit = Edit::new();
        let text = Text { whole: SDP.as_bytes(), body: SDP.as_bytes() };
        assert_eq!(offers.answer(KEY, 0, End::B, ends.clone(), text, Settles::Call, &mut edit), Ok(()));
        assert!(edit.is_empty() && offers.open_streams() == 0 && offers.poll_command().is_none());
        // A call that was relayed before the setting changed is relayed to its end.
        ends[whose].media = nat::MediaMode::Relay;
        let relayed = write(&mut offers, &ends, SDP).expect("taken");
        assert_ne!(relayed, SDP);
        ends[whose].media = nat::MediaMode::SignallingOnly;
        assert_eq!(write(&mut offers, &ends, SDP), Ok(relayed));
    }
}

#[test]
fn no_leg_is_aimed_at_this_machine_its_link_or_a_network_of_the_other_side() {
    let network = |prefix: &str, side| nat::Network {
        prefix: prefix.parse().expect("a prefix"),
        side: Some(side),
        advertise: None,
        latch: false,
        media: nat::MediaMode::Relay,
        trusted: false,
    };
    let networks = [network("172.16.0.0/12", Side::Outer), network("172.16.9.0/24", Side::Inner)];
    for (host, aimed) in [
        ("10.0.0.9", true),
        ("127.0.0.1", false),
        ("::ffff:127.0.0.1", false),
        ("64:ff9b::7f00:1", false),
        ("169.254.169.254", false),
        ("224.0.0.1", false),
        ("0.1.2.3", false),
        ("172.16.1.1", false),
        ("172.16.9.1", true),
    ] {
        let mut offers = offers();
        let mut ends = [end(Side::Inner, [10, 0, 0, 2]), end(Side::Outer, [192, 0, 2, 1])];
        ends.iter_mut().for_each(|end| end.networks = networks.into());
        ends.iter().for_each(|end| offers.want(end));
        let kind = if host.contains(':') { "IP6" } else { "IP4" };
        write(&mut offers, &ends, &SDP.replace("IP4 10.0.0.9", &format!("{kind} {host}"))).expect("taken");
        let Some(Command::Open { legs, .. }) = offers.poll_command() else { panic!("a stream") };
        assert_eq!(legs[0].target.is_some(), aimed, "{host}");
    }
}

#[test]
fn what_cannot_be_read_is_refused_with_its_line() {
    let mut offers = offers();
    let ends = [end(Side::Inner, [10, 0, 0, 2]), end(Side::Outer, [192, 0, 2, 1])];
    let refused = write(&mut offers, &ends, &SDP.replace("audio 4000", "audio many"));
    assert_eq!(refused, Err(Refusal::Malformed { line: 4, what: "unreadable port in SDP m= line" }));
    assert_eq!(offers.open_streams(), 0);
}

#[test]
fn the_fork_that_answers_first_owns_the_stream_and_no_other_takes_it() {
    let mut offers = offers();
    let ends = [end(Side::Outer, [192, 0, 2, 1]), end(Side::Inner, [10, 0, 0, 2])];
    ends.iter().for_each(|end| offers.want(end));
    bind(&mut offers);
    let sdp = |port: u16| format!("v=0\nc=IN IP4 10.0.0.9\nm=audio {port} RTP/AVP 0\n");
    let offer = sdp(4000);
    let text = Text { whole: offer.as_bytes(), body: offer.as_bytes() };
    assert_eq!(offers.offer(KEY, 0, 0, End::A, ends.clone(), text, &mut Edit::new()), Ok(()));
    // Where media goes to, which ports of the callee's address may latch, and whether others are forgotten.
    let news = |offers: &mut Offers| {
        let mut last = (0, true, false);
        while let Some(command) = offers.poll_command() {
            match command {
                Command::Update { legs, .. } => {
                    let plan = &legs[End::B.index()];
                    last.0 = plan.target.map_or(0, |target| target.rtp().port());
                    last.1 = plan.sources.ips != [None; 2];
                }
                Command::Replace { end: End::B, .. } => last.2 = true,
                Command::Open { .. } | Command::Formats { .. } => {}
                command @ (Command::Replace { .. }
                | Command::Splice { .. }
                | Command::Ask { .. }
                | Command::Carry { .. }
                | Command::Join { .. }
                | Command::Part { .. }
                | Command::Close { .. }) => panic!("{command:?}"),
            }
        }
        last
    };
    assert_eq!(news(&mut offers), (0, true, false));
    let answer = |offers: &mut Offers, leg, port, settles| {
        let answer = sdp(port);
        let text = Text { whole: answer.as_bytes(), body: answer.as_bytes() };
        let mut edit = Edit::new();
        assert_eq!(offers.answer(KEY, leg, End::B, ends.clone(), text, settles, &mut edit), Ok(()));
        let mut told = Vec::new();
        edit.apply(answer.as_bytes(), &mut told);
        let told = Body::parse(&told).expect("we can read what we write").media[0].port;
        (told, news(offers))
    };
    // Both ring reliably at one address: each answers the INVITE's offer, and the caller is told one port.
    let (told, first) = answer(&mut offers, 1, 5000, Settles::Offer);
    assert_eq!(first, (5000, true, false));
    assert_eq!(answer(&mut offers, 2, 5002, Settles::Offer), (told, (5002, false, false)));
    // The first of them answers, with what it said before; the other one goes on, and answers, too.
    offers.confirm(KEY, 1, End::A);
    assert_eq!(news(&mut offers), (5000, false, true));
    for settles in [Settles::Nothing, Settles::Offer, Settles::Call] {
        assert_eq!(answer(&mut offers, 2, 5002, settles), (told, (0, true, false)));
    }
    offers.confirm(KEY, 2, End::A);
    assert_eq!(news(&mut offers), (0, true, false));
    // The caller leaves the first for the second.
    offers.hand_over(KEY, 1, 2);
    assert_eq!(news(&mut offers), (5002, false, true));
}

#[test]
fn when_one_branch_is_answered_the_others_reach_the_caller_no_more_until_they_are() {
    let mut offers = offers();
    let ends = [end(Side::Outer, [192, 0, 2, 1]), end(Side::Inner, [10, 0, 0, 2])];
    ends.iter().for_each(|end| offers.want(end));
    let other = Key { branch: 1, ..KEY };
    let text = Text { whole: SDP.as_bytes(), body: SDP.as_bytes() };
    for key in [KEY, other] {
        bind(&mut offers);
        assert_eq!(offers.offer(key, 0, 0, End::A, ends.clone(), text, &mut Edit::new()), Ok(()));
        assert_eq!(offers.answer(key, 1, End::B, ends.clone(), text, Settles::Nothing, &mut Edit::new()), Ok(()));
    }
    let streams = [KEY, other].map(|key| offers.sessions[&key].streams[0].as_ref().expect("a stream").id);
    // Which streams may hear the caller, by what the worker was told last, and whose caller is forgotten.
    let news = |offers: &mut Offers| {
        let (mut heard, mut forgotten) = ([None; 2], [false; 2]);
        while let Some(command) = offers.poll_command() {
            let at = |id| streams.iter().position(|stream| *stream == id).expect("one of them");
            match command {
                Command::Update { stream, legs, .. } => {
                    heard[at(stream)] = Some(legs[0].target.is_some() && legs[0].sources != Default::default());
                }
                Command::Replace { stream, end: End::A } => forgotten[at(stream)] = true,
                Command::Open { .. }
                | Command::Replace { .. }
                | Command::Carry { .. }
                | Command::Formats { .. }
                | Command::Splice { .. }
                | Command::Ask { .. }
                | Command::Join { .. }
                | Command::Part { .. }
                | Command::Close { .. } => {}
            }
        }
        (heard, forgotten)
    };
    assert_eq!(news(&mut offers), ([Some(true), Some(true)], [false, false]));
    assert_eq!(offers.answer(KEY, 1, End::B, ends.clone(), text, Settles::Call, &mut Edit::new()), Ok(()));
    assert_eq!(news(&mut offers), ([Some(true), Some(false)], [false, true]));
    // It was answered all the same: the caller has two calls, and will end one.
    assert_eq!(offers.answer(other, 1, End::B, ends, text, Settles::Call, &mut Edit::new()), Ok(()));
    assert_eq!(news(&mut offers), ([None, Some(true)], [false, false]));
}
