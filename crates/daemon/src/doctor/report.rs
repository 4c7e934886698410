//! What is found out, for programs and for people. The fields are those of
//! `docs/doctor.md`: they are never left out, and what is not known is null.

use std::net::IpAddr;

use ::nat::behaviour::Dependence;
use net::survey::reach::Reached;
use serde::Serialize;

use super::clock::Clock;
use super::finding::Finding;
use super::seen::{Seen, word};
use super::verdict::{Calls, Facts};
use super::{alg, forwards, nat, path, turn, upstream};
use wire::Transport;

/// All of it.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(super) calls: &'static str,
    nat: Nat,
    udp: Option<&'static str>,
    tcp: Option<&'static str>,
    tls: Option<&'static str>,
    stun: Option<&'static str>,
    turn: Option<&'static str>,
    turn_transport: Option<String>,
    alg: Option<&'static str>,
    alg_tests: Vec<alg::Row>,
    mtu: Option<u16>,
    largest_sip: Option<u16>,
    forwards: Option<&'static str>,
    clock: Option<&'static str>,
    clock_off_s: Option<i64>,
    upstreams: Vec<Upstream>,
    findings: Vec<Finding>,
    #[serde(skip)]
    why: &'static str,
    #[serde(skip)]
    advice: Advice,
}

#[derive(Debug, Serialize)]
struct Nat {
    #[serde(flatten)]
    behaviour: nat::Facts,
    one_to_one: Option<bool>,
    double_nat: Option<bool>,
    cgnat: Option<bool>,
    hops: Vec<Option<IpAddr>>,
    public_hop: Option<usize>,
}

#[derive(Debug, Serialize)]
struct Upstream {
    uri: String,
    udp: Option<&'static str>,
    tcp: Option<&'static str>,
    tls: Option<&'static str>,
}

/// What a configuration should be like, as far as was seen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Advice {
    /// Our address is another one outside.
    pub(crate) translated: Option<bool>,
    /// The public address of a one-to-one NAT.
    pub(crate) one_to_one: Option<IpAddr>,
    /// Ports outside cannot be foretold.
    pub(crate) symmetric: bool,
    /// An upstream answers over TCP, and not over UDP.
    pub(crate) tcp_alone: bool,
}

impl Advice {
    fn of(seen: &Seen) -> Self {
        let verdict = &seen.behaviour;
        let over = |asked: &upstream::Asked, transport| matches!(asked.over(transport), Some(Reached::Answers(..)));
        let tcp_alone = |asked: &upstream::Asked| over(asked, Transport::Tcp) && !over(asked, Transport::Udp);
        Self {
            translated: verdict.translated,
            one_to_one: verdict.mapped.map(|mapped| mapped.0.ip()).filter(|_| seen.one_to_one == Some(true)),
            symmetric: verdict.mapping.is_some_and(|mapping| mapping != Dependence::EndpointIndependent),
            tcp_alone: !seen.upstreams.is_empty() && seen.upstreams.iter().all(tcp_alone),
        }
    }
}

impl Report {
    /// What a configuration should be like.
    pub(crate) fn advice(&self) -> Advice {
        self.advice.clone()
    }

    /// Judges. `now`: the wall clock, seconds since 1970; `more`: findings that stand in front.
    pub(super) fn of(seen: &Seen, now: u64, more: Vec<Finding>) -> Self {
        let facts = Facts::of(seen);
        let (calls, why) = facts.judge();
        let clock = Clock::of(&seen.upstreams, now);
        let needed = seen.plan.phones_outside || seen.plan.written == super::plan::Written::Fixed;
        let mut findings = more;
        findings.extend(nat::findings(seen));
        if seen.behaviour.translated == Some(true) {
            findings.push(path::nats(&seen.path));
            findings.push(nat::lifetime(seen.lifetime));
        }
        findings.push(alg::finding(&seen.alg, facts.answered == Some(super::verdict::Clear::Hidden)));
        findings.extend(upstream::findings(seen));
        findings.extend(seen.turn.as_ref().map(turn::Tried::finding));
        if seen.behaviour.answered {
            findings.push(path::mtu(seen.mtu));
        }
        if !seen.doors.is_empty() {
            findings.push(forwards::finding(&seen.doors, needed));
        }
        if !seen.upstreams.is_empty() || clock.right.is_some() {
            findings.push(clock.finding());
        }
        let answered = |wanted: bool| seen.stun.iter().any(|(_, _, answered)| *answered == wanted);
        Self {
            calls: calls.word(),
            nat: Nat {
                behaviour: nat::Facts::of(&seen.behaviour, seen.lifetime),
                one_to_one: seen.one_to_one,
                double_nat: seen.path.double_nat,
                cgnat: seen.path.cgnat,
                hops: seen.path.hops.clone(),
                public_hop: seen.path.public_hop,
            },
            udp: seen.udp().word(),
            tcp: seen.tcp().word(),
            tls: seen.tls().word(),
            stun: if answered(true) { Some("answers") } else { answered(false).then_some("silent") },
            turn: seen.turn.as_ref().and_then(turn::Tried::word),
            turn_transport: seen.turn_state().map(|(transport, _)| transport.via().to_ascii_lowercase()),
            alg: alg::word(&seen.alg),
            alg_tests: seen.alg.iter().map(alg::Row::of).collect(),
            mtu: seen.mtu,
            largest_sip: seen.mtu.map(|mtu| mtu - path::HEADERS),
            forwards: forwards::word(&seen.doors),
            clock: clock.word(),
            clock_off_s: clock.off_s,
            upstreams: seen.upstreams.iter().map(row).collect(),
            findings,
            advice: Advice::of(seen),
            why: if calls == Calls::Work && facts.role.is_none() && !facts.upstreams {
                "as far as was seen"
            } else {
                why
            },
        }
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut text: String = self.findings.iter().map(Finding::text).collect();
        let sum = match self.calls {
            "work" => "Calls will work",
            "fail" => "Calls will not work",
            _ => "Whether calls will work is not known",
        };
        text.push_str(&format!("\n{sum}: {}.\n", self.why));
        text
    }
}

fn row(asked: &upstream::Asked) -> Upstream {
    let over = |transport| asked.over(transport).map(word);
    Upstream {
        uri: asked.upstream.uri(),
        udp: over(Transport::Udp),
        tcp: over(Transport::Tcp),
        tls: over(Transport::Tls),
    }
}
