//! A house where alice calls bob, who may have several phones.

use nat::Side;

use super::{Rig, config, listener};
use crate::config::Role;
use crate::{Observed, Output};

pub(crate) const ALICE: &str = "192.168.1.20:5060";
pub(crate) const BOB: &str = "192.168.1.21:5060";
/// Another phone of bob's.
pub(crate) const DOOR: &str = "192.168.1.22:5060";

/// An offer, or an answer to it.
pub(crate) const SDP: &str = "v=0\r\no=a 1 1 IN IP4 192.168.1.20\r\ns=-\r\nc=IN IP4 192.168.1.20\r\nt=0 0\r\nm=audio \
                              4000 RTP/AVP 0\r\n";

/// Alice is registered, and bob at these.
pub(crate) fn house(phones: &[&str]) -> Rig {
    furnish(Rig::standalone(), phones)
}

/// The same without one port pair bound.
pub(crate) fn house_without_ports(phones: &[&str]) -> Rig {
    let mut config = config(Role::Standalone, vec![listener(Side::Inner, "192.168.1.2:5060")]);
    config.media.reserve = 0;
    furnish(Rig::new(config), phones)
}

fn furnish(mut rig: Rig, phones: &[&str]) -> Rig {
    registers(&mut rig, "alice", ALICE);
    for phone in phones {
        registers(&mut rig, "bob", phone);
    }
    rig.said.clear();
    rig
}

pub(crate) fn registers(rig: &mut Rig, user: &str, from: &str) {
    let more = format!("Contact: <sip:{user}@{from}>\r\nExpires: 3600\r\n");
    rig.receive(0, from, &request("REGISTER", from, user, &format!("r{from}"), &more, ""));
}

/// A request to a user; its Call-ID, branch and From tag are its name.
pub(crate) fn request(method: &str, from: &str, to: &str, name: &str, more: &str, body: &str) -> String {
    let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    format!(
        "{method} sip:{to}@192.168.1.2 SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bK{name}\r\nMax-Forwards: \
         70\r\nFrom: <sip:x@192.168.1.2>;tag={name}\r\nTo: <sip:{to}@192.168.1.2>\r\nCall-ID: {name}\r\nCSeq: 1 \
         {method}\r\n{more}{kind}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Alice calls bob.
pub(crate) fn invite(name: &str, body: &str) -> String {
    request("INVITE", ALICE, "bob", name, "Contact: <sip:alice@192.168.1.20>\r\n", body)
}

/// The response to what we sent somewhere.
pub(crate) fn response(asked: &str, status: &str, tag: &str, more: &str, body: &str) -> String {
    let kept =
        |line: &&str| ["Via:", "From:", "Call-ID:", "CSeq:", "Record-Route:"].iter().any(|name| line.starts_with(name));
    let lines: String = asked.lines().filter(kept).map(|line| format!("{line}\r\n")).collect();
    let to = asked.lines().find(|line| line.starts_with("To:")).unwrap();
    let tag = if to.contains(";tag=") { String::new() } else { format!(";tag={tag}") };
    let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    format!("SIP/2.0 {status}\r\n{lines}{to}{tag}\r\n{more}{kind}Content-Length: {}\r\n\r\n{body}", body.len())
}

/// All that was sent since this was asked, with its receiver.
pub(crate) fn sent(rig: &mut Rig) -> Vec<(String, String)> {
    let said = std::mem::take(&mut rig.said);
    let sent = said.into_iter().filter_map(|output| match output {
        Output::Transmit(t) => Some((t.flow.remote.to_string(), String::from_utf8(t.bytes).unwrap())),
        _ => None,
    });
    sent.collect()
}

/// The one message among these that begins so and goes there.
pub(crate) fn only(sent: &[(String, String)], to: &str, start: &str) -> String {
    let mut fitting = sent.iter().filter(|(at, text)| at == to && text.starts_with(start));
    let (Some((_, text)), None) = (fitting.next(), fitting.next()) else { panic!("{start} to {to}: {sent:?}") };
    text.clone()
}

/// Who got what, sorted: `bob INVITE`, `alice 180`.
pub(crate) fn told(rig: &mut Rig) -> Vec<String> {
    let who = |at: &str| match at {
        ALICE => "alice".to_owned(),
        BOB => "bob".to_owned(),
        DOOR => "door".to_owned(),
        other => other.to_owned(),
    };
    let what = |text: &str| {
        let mut words = text.split(' ');
        let first = words.next().unwrap();
        if first == "SIP/2.0" { words.next().unwrap().to_owned() } else { first.to_owned() }
    };
    let mut told: Vec<_> = sent(rig).iter().map(|(at, text)| format!("{} {}", who(at), what(text))).collect();
    told.sort_unstable();
    told
}

/// What was observed since the last message was taken.
pub(crate) fn observed(rig: &Rig) -> Vec<&Observed> {
    let observed = rig.said.iter().filter_map(|output| match output {
        Output::Observed(observed) => Some(observed),
        _ => None,
    });
    observed.collect()
}
