//! Does a router rewrite SIP? What `nat::alg` proved, in words.

use std::net::SocketAddr;

use ::nat::alg::{Outcome, SIP_PORT, Verdict, Way};
use serde::Serialize;

use super::finding::{Finding, Weight};

/// One way that was tried, for programs.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    transport: &'static str,
    port: u16,
    result: &'static str,
    out: Vec<String>,
    back: Vec<String>,
}

impl Row {
    pub(super) fn of((way, outcome): &(Way, Outcome)) -> Self {
        let (out, back) = match outcome {
            Outcome::Changed { out, back } => (out.clone(), back.clone()),
            Outcome::Same | Outcome::Silent | Outcome::Other => (Vec::new(), Vec::new()),
        };
        let result = match outcome {
            Outcome::Same => "same",
            Outcome::Changed { .. } => "changed",
            Outcome::Silent => "silent",
            Outcome::Other => "other",
        };
        Self { transport: if way.reliable { "tcp" } else { "udp" }, port: way.server.port(), result, out, back }
    }
}

/// For programs.
pub(super) fn word(tried: &[(Way, Outcome)]) -> Option<&'static str> {
    match Verdict::of(tried) {
        Verdict::Found => Some("found"),
        Verdict::None => Some("none"),
        Verdict::Unknown => None,
    }
}

/// Both transports, to port 5060 and to the reflector's own.
pub(crate) async fn try_it(reflector: SocketAddr) -> Vec<(Way, Outcome)> {
    let mut ports = vec![SIP_PORT];
    if reflector.port() != SIP_PORT {
        ports.push(reflector.port());
    }
    let servers =
        ports.iter().flat_map(|port| [false, true].map(|reliable| (reliable, SocketAddr::new(reflector.ip(), *port))));
    net::survey::alg(&servers.collect::<Vec<_>>()).await
}

pub(super) fn finding(tried: &[(Way, Outcome)], secure: bool) -> Finding {
    let tested = "SIP ALG";
    if tried.is_empty() {
        let means = "whether the router rewrites SIP cannot be seen without somebody who says what arrives";
        let mend = "name a far siplatch: --reflector HOST, or [doctor] reflector";
        return Finding::new(Weight::Unknown, tested, "not tested", means).mend(mend);
    }
    let name = |way: &Way| format!("{} port {}", if way.reliable { "TCP" } else { "UDP" }, way.server.port());
    match Verdict::of(tried) {
        Verdict::Found => {
            let changed = tried.iter().filter_map(|(way, outcome)| match outcome {
                Outcome::Changed { out, back } => {
                    let list = |way: &str, lines: &[String]| match lines {
                        [] => String::new(),
                        lines => format!(" {way} {}", lines.join(" ")),
                    };
                    Some(format!("{}:{}{}", name(way), list("out", out), list("back", back)))
                }
                Outcome::Same | Outcome::Silent | Outcome::Other => None,
            });
            let found = format!("proven; lines that arrive changed: {}", changed.collect::<Vec<_>>().join("; "));
            if secure {
                let means = "the upstream is spoken to by TLS, which it cannot read";
                return Finding::new(Weight::Notice, tested, found, means)
                    .mend("switch SIP ALG off in the router all the same");
            }
            let means = "addresses in SIP are not those that were written: one-way audio, lost calls";
            let elsewhere =
                tried.iter().any(|(way, outcome)| *outcome == Outcome::Same && way.server.port() != SIP_PORT);
            let mend = match elsewhere {
                true => "switch SIP ALG off in the router; or use another port than 5060, or TLS",
                false => "switch SIP ALG off in the router; or use TLS",
            };
            Finding::new(Weight::Unknown, tested, found, means).mend(mend)
        }
        Verdict::None => {
            let same = tried.iter().filter(|(_, outcome)| *outcome == Outcome::Same).map(|(way, _)| name(way));
            let found = format!("none: all lines arrive as they were sent ({})", same.collect::<Vec<_>>().join(", "));
            Finding::new(Weight::Good, tested, found, "what siplatch writes is what the provider reads")
        }
        Verdict::Unknown => {
            let answered = tried.iter().any(|(_, outcome)| *outcome == Outcome::Same);
            let other = tried.iter().any(|(_, outcome)| *outcome == Outcome::Other);
            let (found, means) = if other {
                ("not known: whoever answers is no siplatch", "whether the router rewrites SIP cannot be seen by it")
            } else if answered {
                let means = "SIP to port 5060 is swallowed on the way, or the reflector does not listen there";
                ("not known: no answer over UDP from port 5060, and one elsewhere", means)
            } else {
                ("not known: the reflector does not answer", "it is down, or blocked on the way")
            };
            Finding::new(Weight::Notice, tested, found, means).mend("try another reflector")
        }
    }
}
