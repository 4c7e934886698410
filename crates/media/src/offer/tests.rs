//! What cannot be shown by a transcript.

use std::net::IpAddr;
use std::time::Duration;

use nat::{Advertise, Side};
use wire::Edit;
use wire::sdp::Body;

use super::{EndPlan, Key, MOST_NEW, Offers, Settles, Text};
use crate::ports::{self, Pools};
use crate::{Command, End, Fact, PortRange, RangeId};

const KEY: Key = Key { pass: 1, branch: 0 };

fn end(side: Side, local: [u8; 4]) -> EndPlan {
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
    }
}

fn bind(offers: &mut Offers) {
    while let Some(command) = offers.poll_ports() {
        if let ports::Command::Bind { pair, .. } = command {
            offers.handle_ports(ports::Event::Bound { pair });
        }
    }
}

#[test]
fn an_offer_of_many_streams_is_written_the_same_when_it_comes_again() {
    let pools = Pools::new(vec![PortRange { first: 30_000, last: 30_099 }], 20, [1; 32]);
    let mut offers = Offers::new(pools, 1, Duration::from_secs(60));
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
fn a_pair_that_stood_in_sdp_rests_although_nothing_came() {
    let pools = Pools::new(vec![PortRange { first: 30_000, last: 30_099 }], 4, [1; 32]);
    let mut offers = Offers::new(pools, 1, Duration::from_secs(60));
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
        assert_eq!(offers.handle_fact(&Fact::Closed { stream, legs: Box::default() }), None);
        assert_eq!(resting(&offers), at_rest);
    }
}

#[test]
fn the_fork_that_answers_first_owns_the_stream_and_no_other_takes_it() {
    let pools = Pools::new(vec![PortRange { first: 30_000, last: 30_099 }], 4, [1; 32]);
    let mut offers = Offers::new(pools, 1, Duration::from_secs(60));
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
                    last.0 = plan.target.map_or(0, |target| target.rtp.port());
                    last.1 = plan.sources.ips != [None; 2];
                }
                Command::Replace { end: End::B, .. } => last.2 = true,
                Command::Open { .. } => {}
                command @ (Command::Replace { .. }
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
