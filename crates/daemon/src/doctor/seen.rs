//! All that was seen, before anybody says what it means; and which transports
//! get through, by comparing what was answered with what was not.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use ::nat::alg::{Outcome, Way};
use ::nat::behaviour::Verdict;
use ::nat::lifetime::Bracket;
use ::nat::path::Path;
use net::survey::reach::Reached;
use wire::Transport;

use super::plan::Plan;
use super::turn::Tried;
use super::upstream::Asked;

/// A transport gets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Through {
    /// It does.
    Open,
    /// It does not: something else on the same way was answered.
    Blocked,
    /// TLS: whoever answers is not who we want.
    Untrusted,
    /// It was not seen.
    Unknown,
}

impl Through {
    /// For programs.
    pub(super) fn word(self) -> Option<&'static str> {
        match self {
            Self::Open => Some("open"),
            Self::Blocked => Some("blocked"),
            Self::Untrusted => Some("untrusted"),
            Self::Unknown => None,
        }
    }
}

/// The results.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) plan: Plan,
    pub(super) behaviour: Verdict,
    /// STUN servers, by name: where each of them is, and whether it answered.
    pub(super) stun: Vec<(String, Option<SocketAddr>, bool)>,
    pub(super) upstreams: Vec<Asked>,
    pub(super) turn: Option<Tried>,
    pub(super) alg: Vec<(Way, Outcome)>,
    pub(super) path: Path,
    pub(super) mtu: Option<u16>,
    /// How long a silent mapping lives, if that was seen, and whether it was looked for to the end.
    pub(super) lifetime: Option<Bracket>,
    pub(super) one_to_one: Option<bool>,
    /// Of our own ports, whether strangers reach them.
    pub(super) doors: Vec<(SocketAddr, Option<bool>)>,
}

impl Seen {
    /// Everything that was tried: where, over what, and whether it was answered.
    fn tries(&self) -> Vec<(IpAddr, Transport, bool)> {
        let mut all: Vec<(IpAddr, Transport, bool)> = Vec::new();
        let stun =
            self.stun.iter().filter_map(|(_, at, answered)| Some((at.as_ref()?.ip(), Transport::Udp, *answered)));
        all.extend(stun);
        for (way, outcome) in &self.alg {
            let transport = if way.reliable { Transport::Tcp } else { Transport::Udp };
            all.push((way.server.ip(), transport, *outcome != Outcome::Silent));
        }
        for asked in &self.upstreams {
            for (transport, at, reached) in &asked.tried {
                // What its URI does not promise proves nothing by silence.
                let (Some(at), true) = (at, asked.allows(*transport) || through(reached)) else { continue };
                all.push((at.ip(), *transport, through(reached)));
            }
        }
        if let Some(Tried { turn, at: Some(at), reached, .. }) = &self.turn {
            all.push((at.ip(), turn.transport, through(reached)));
        }
        all
    }

    pub(super) fn udp(&self) -> Through {
        let tries = self.tries();
        let of = |udp: bool| tries.iter().filter(move |(_, transport, _)| (*transport == Transport::Udp) == udp);
        if self.behaviour.answered || of(true).any(|(.., answered)| *answered) {
            return Through::Open;
        }
        // The reflector answers alike over both.
        let reflector = self
            .alg
            .iter()
            .any(|(way, outcome)| way.reliable && matches!(outcome, Outcome::Same | Outcome::Changed { .. }));
        let udp_of_reflector = self.alg.iter().any(|(way, _)| !way.reliable);
        let silent: BTreeSet<IpAddr> = of(true).map(|(ip, ..)| *ip).collect();
        let others = of(false).any(|(.., answered)| *answered);
        if reflector && udp_of_reflector || others && silent.len() > 1 { Through::Blocked } else { Through::Unknown }
    }

    pub(super) fn tcp(&self) -> Through {
        let tries = self.tries();
        let stream = tries.iter().filter(|(_, transport, _)| *transport != Transport::Udp);
        let (mut tried, mut compared) = (false, false);
        for (ip, _, answered) in stream {
            if *answered {
                return Through::Open;
            }
            tried = true;
            let by_udp = |(other, transport, answered): &(IpAddr, Transport, bool)| {
                other == ip && *transport == Transport::Udp && *answered
            };
            compared |= tries.iter().any(by_udp);
        }
        // The reflector is known to take connections; of others silence may be their will.
        let reflector = self.alg.iter().any(|(way, _)| way.reliable);
        if tried && compared && reflector { Through::Blocked } else { Through::Unknown }
    }

    pub(super) fn tls(&self) -> Through {
        let mut all: Vec<(Through, bool)> = Vec::new();
        for asked in &self.upstreams {
            for (_, _, reached) in asked.tried.iter().filter(|(transport, ..)| *transport == Transport::Tls) {
                let plain = asked.tried.iter().any(|(of, _, reached)| *of != Transport::Tls && through(reached));
                all.push((shaken(reached), plain));
            }
        }
        if let Some(tried) = self.turn.as_ref().filter(|tried| tried.turn.transport == Transport::Tls) {
            all.push((shaken(&tried.reached), false));
        }
        let find = |wanted: Through| all.iter().any(|(of, _)| *of == wanted);
        if find(Through::Open) {
            Through::Open
        } else if find(Through::Untrusted) {
            Through::Untrusted
        } else if all.iter().any(|(_, plain)| *plain) {
            Through::Blocked
        } else {
            Through::Unknown
        }
    }

    /// What the configuration's TURN server could carry, if it is there.
    pub(super) fn turn_state(&self) -> Option<(Transport, bool)> {
        let tried = self.turn.as_ref()?;
        let there = matches!(tried.reached, Reached::Answers(..)) && !tried.refuses_us();
        there.then(|| (tried.turn.transport, tried.works()))
    }
}

/// Something came back from the server itself.
fn through<T>(reached: &Reached<T>) -> bool {
    match reached {
        Reached::Answers(..) | Reached::Connects | Reached::Untrusted => true,
        Reached::Refused | Reached::Silent => false,
    }
}

fn shaken<T>(reached: &Reached<T>) -> Through {
    match reached {
        Reached::Answers(..) => Through::Open,
        Reached::Untrusted => Through::Untrusted,
        Reached::Connects | Reached::Refused | Reached::Silent => Through::Unknown,
    }
}

/// For programs.
pub(super) fn word<T>(reached: &Reached<T>) -> &'static str {
    match reached {
        Reached::Answers(..) => "answers",
        Reached::Connects => "connects",
        Reached::Refused => "refused",
        Reached::Silent => "silent",
        Reached::Untrusted => "untrusted",
    }
}
