//! ICE, rtcp-mux and BUNDLE, leg by leg, as bodies.

use std::time::Duration;

use nat::Side;
use wire::Edit;

use super::tests::{KEY, bind, end};
use super::{EndPlan, Offers, Settles, Text};
use crate::ports::Pools;
use crate::{Command, End, LegPlan, PortRange};

/// A phone (end A, inner) and a server (end B, outer).
pub(super) struct Call {
    pub(super) offers: Offers,
    pub(super) ends: [EndPlan; 2],
}

impl Call {
    pub(super) fn new() -> Self {
        let pools = Pools::new(vec![PortRange { first: 30_000, last: 30_099 }], 4, [1; 32]);
        let mut offers = Offers::new(pools, 1, Duration::from_secs(60), [2; 32]);
        let ends = [end(Side::Inner, [10, 0, 0, 2]), end(Side::Outer, [192, 0, 2, 1])];
        ends.iter().for_each(|end| offers.want(end));
        bind(&mut offers);
        Self { offers, ends }
    }

    pub(super) fn offer(&mut self, from: End, body: &str) -> String {
        bind(&mut self.offers);
        let (mut edit, mut out) = (Edit::new(), Vec::new());
        let text = Text { whole: body.as_bytes(), body: body.as_bytes() };
        assert_eq!(self.offers.offer(KEY, 0, 0, from, self.ends.clone(), text, &mut edit), Ok(()));
        edit.apply(body.as_bytes(), &mut out);
        String::from_utf8(out).expect("text")
    }

    pub(super) fn answer(&mut self, from: End, body: &str) -> String {
        let (mut edit, mut out) = (Edit::new(), Vec::new());
        let text = Text { whole: body.as_bytes(), body: body.as_bytes() };
        let settles = Settles::Call;
        assert_eq!(self.offers.answer(KEY, 0, from, self.ends.clone(), text, settles, &mut edit), Ok(()));
        edit.apply(body.as_bytes(), &mut out);
        String::from_utf8(out).expect("text")
    }

    /// What the worker was told last of the legs toward A and B.
    pub(super) fn plans(&mut self) -> [LegPlan; 2] {
        let commands = std::iter::from_fn(|| self.offers.poll_command());
        let plans = commands.filter_map(|command| match command {
            Command::Open { legs, .. } | Command::Update { legs, .. } => Some(*legs),
            Command::Carry { .. }
            | Command::Splice { .. }
            | Command::Ask { .. }
            | Command::Formats { .. }
            | Command::Replace { .. }
            | Command::Join { .. }
            | Command::Part { .. }
            | Command::Close { .. } => None,
        });
        plans.last().expect("a plan")
    }
}

/// `more`: attribute lines of the one m-line.
fn body(host: &str, more: &str) -> String {
    format!("v=0\r\no=- 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n{more}")
}

const ICE: &str =
    "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=candidate:1 1 UDP 9 10.0.0.9 4000 typ host\r\n";
const RESTARTED: &str =
    "a=ice-ufrag:efgh\r\na=ice-pwd:0123456789012345678901\r\na=candidate:1 1 UDP 9 10.0.0.9 4000 typ host\r\n";

fn lines<'a>(body: &'a str, start: &str) -> Vec<&'a str> {
    body.lines().filter(|line| line.starts_with(start)).collect()
}

#[test]
fn each_leg_has_its_own_agent_and_nothing_of_the_peers_crosses() {
    let mut call = Call::new();
    let offer = call.offer(End::A, &body("10.0.0.9", ICE));
    for own in ["abcd", "0123456789012345678901", "10.0.0.9"] {
        assert!(!offer.contains(own), "{offer}");
    }
    let (port, ufrag) =
        (lines(&offer, "m=")[0].split(' ').nth(1).expect("port").to_owned(), lines(&offer, "a=ice-ufrag"));
    assert_eq!(lines(&offer, "a=ice-lite"), ["a=ice-lite"]);
    assert!(offer.find("a=ice-lite") < offer.find("m="), "at session level (RFC 8839 §5.3)");
    let rtcp = port.parse::<u16>().expect("number") + 1;
    let candidates = [
        format!("a=candidate:1 1 UDP 2130706431 192.0.2.1 {port} typ host"),
        format!("a=candidate:1 2 UDP 2130706430 192.0.2.1 {rtcp} typ host"),
    ];
    assert_eq!(lines(&offer, "a=candidate"), candidates);
    // The server checks as soon as it has the offer.
    assert_eq!(call.plans().map(|plan| plan.ice.is_some()), [false, true]);
    // It answers without ICE: that leg latches, the phone's has an agent of its own.
    let answer = call.answer(End::B, &body("192.0.2.77", ""));
    let theirs = lines(&answer, "a=ice-ufrag");
    assert!(theirs.len() == 1 && theirs != ufrag, "{answer}");
    assert_eq!(lines(&answer, "a=candidate").len(), 2);
    let plans = call.plans();
    let agent = plans[0].ice.as_ref().expect("an agent");
    assert_eq!(format!("a=ice-ufrag:{}", agent.credentials().ufrag()), theirs[0]);
    assert_eq!((plans[1].ice.as_ref(), plans[0].early), (None, crate::Early::Capped));
    // What is answered again is written as before.
    assert_eq!(call.answer(End::B, &body("192.0.2.77", "")), answer);
}

#[test]
fn who_does_not_speak_ice_never_sees_any() {
    let mut call = Call::new();
    let plain = call.offer(End::A, &body("10.0.0.9", "a=ptime:20\r\n"));
    assert!(!plain.contains("ice-") && !plain.contains("candidate"), "{plain}");
    let answer = call.answer(End::B, &body("192.0.2.77", &ICE.replace("10.0.0.9", "192.0.2.77")));
    assert!(!answer.contains("ice-") && !answer.contains("candidate"), "{answer}");
    assert_eq!(call.plans().map(|plan| plan.ice), [None, None]);
}

#[test]
fn who_is_in_a_network_with_ice_is_offered_it_whatever_the_offerer_speaks() {
    let mut call = Call::new();
    call.ends[1].media = nat::MediaMode::Ice;
    let offer = call.offer(End::A, &body("10.0.0.9", "a=ptime:20\r\n"));
    assert_eq!((lines(&offer, "a=ice-lite").len(), lines(&offer, "a=candidate").len()), (1, 2), "{offer}");
    assert_eq!(call.plans().map(|plan| plan.ice.is_some()), [false, true], "it may check before it answers");
    // It takes that up; the offerer hears nothing of it.
    let answer = call.answer(End::B, &body("192.0.2.77", &ICE.replace("10.0.0.9", "192.0.2.77")));
    assert!(!answer.contains("ice-") && !answer.contains("candidate"), "{answer}");
    assert_eq!(call.plans().map(|plan| plan.ice.is_some()), [false, true]);
    // It does not: that leg latches. What it offers itself has no ICE, and is answered so.
    let mut plain = Call::new();
    plain.ends[1].media = nat::MediaMode::Ice;
    plain.offer(End::A, &body("10.0.0.9", ""));
    plain.answer(End::B, &body("192.0.2.77", ""));
    assert_eq!(plain.plans().map(|plan| plan.ice), [None, None]);
    plain.offer(End::B, &body("192.0.2.77", ""));
    assert!(!plain.answer(End::A, &body("10.0.0.9", "")).contains("ice-"));
}

#[test]
fn a_default_address_that_is_no_candidate_is_a_mismatch() {
    let mut call = Call::new();
    call.offer(End::A, &body("203.0.113.66", ICE));
    let answer = call.answer(End::B, &body("192.0.2.77", ""));
    assert_eq!(lines(&answer, "a=ice-mismatch").len(), 1, "{answer}");
    assert!(!answer.contains("ice-ufrag") && !answer.contains("ice-lite"), "{answer}");
    assert_eq!(call.plans()[0].ice, None);
}

#[test]
fn who_knows_no_address_yet_does_not_hold() {
    let mut call = Call::new();
    let trickled = format!("a=ice-options:trickle\r\n{}", &ICE[..ICE.find("a=candidate").expect("there")]);
    let offer = call.offer(End::A, &body("0.0.0.0", &trickled).replace("audio 4000", "audio 9"));
    assert_eq!(lines(&offer, "c="), ["c=IN IP4 192.0.2.1"]);
    assert!(!offer.contains("trickle"));
    let answer = call.answer(End::B, &body("192.0.2.77", ""));
    assert_eq!((lines(&answer, "a=ice-ufrag").len(), lines(&answer, "a=ice-mismatch").len()), (1, 0));
    assert!(call.plans()[0].ice.is_some());
    assert!(call.offers.watched(KEY.pass), "silence counts: nobody holds");
}

#[test]
fn a_restart_is_answered_with_new_credentials_and_undone_when_it_fails() {
    let mut call = Call::new();
    let ours = |answer: &str| lines(answer, "a=ice-ufrag")[0].to_owned();
    call.offer(End::A, &body("10.0.0.9", ICE));
    let first = ours(&call.answer(End::B, &body("192.0.2.77", "")));
    call.offer(End::A, &body("10.0.0.9", RESTARTED));
    call.offers.fail(KEY, 0, End::A);
    call.offer(End::A, &body("10.0.0.9", ICE));
    assert_eq!(ours(&call.answer(End::B, &body("192.0.2.77", ""))), first);
    let restarting = call.offer(End::A, &body("10.0.0.9", RESTARTED));
    assert_eq!(call.offer(End::A, &body("10.0.0.9", RESTARTED)), restarting);
    let second = ours(&call.answer(End::B, &body("192.0.2.77", "")));
    assert_ne!(second, first);
    assert_eq!(ours(&call.answer(End::B, &body("192.0.2.77", ""))), second);
    let plan = call.plans();
    let agent = plan[0].ice.as_deref().expect("an agent");
    assert_eq!(format!("a=ice-ufrag:{}", agent.credentials().ufrag()), second);
}

#[test]
fn rtcp_is_muxed_where_it_was_offered_and_nowhere_else() {
    let mut call = Call::new();
    let offer = call.offer(End::A, &body("10.0.0.9", "a=rtcp-mux\r\na=rtcp:4000\r\n"));
    assert_eq!((lines(&offer, "a=rtcp-mux").len(), lines(&offer, "a=rtcp:").len()), (1, 1));
    let answer = call.answer(End::B, &body("192.0.2.77", "a=rtcp:4711\r\n"));
    assert_eq!((lines(&answer, "a=rtcp-mux").len(), lines(&answer, "a=rtcp:").len()), (1, 0));
    let plans = call.plans();
    assert_eq!(plans.each_ref().map(|plan| plan.muxed), [true, false]);
    assert_eq!(plans.map(|plan| plan.target.map(|target| target.rtcp().port())), [Some(4000), Some(4711)]);
    // From the other end, without: both legs have two ports.
    let back = call.offer(End::B, &body("192.0.2.77", ""));
    assert!(!back.contains("rtcp-mux"));
    call.answer(End::A, &body("10.0.0.9", ""));
    assert_eq!(call.plans().map(|plan| plan.muxed), [false, false]);
}

#[test]
fn a_bundle_is_not_offered_on() {
    let mut call = Call::new();
    let bundled =
        body("10.0.0.9", "a=mid:0\r\n").replace("t=0 0\r\n", "t=0 0\r\na=group:BUNDLE 0 1\r\na=group:LS 0 1\r\n");
    let offer = call.offer(End::A, &format!("{bundled}m=video 0 RTP/AVP 96\r\na=mid:1\r\na=bundle-only\r\n"));
    assert_eq!(lines(&offer, "a=group"), ["a=group:LS 0 1"]);
    assert!(!offer.contains("bundle-only") && offer.contains("\r\nm=video 0 "));
}
