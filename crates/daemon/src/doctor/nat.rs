//! What a NAT's behaviour means for calls.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use nat::behaviour::{Dependence, Verdict};
use nat::lifetime::Bracket;
use serde::Serialize;

use super::finding::{Finding, Weight};
use super::seconds;
use super::seen::{Seen, Through};

use Dependence::{AddressAndPortDependent, AddressDependent, Dependent, EndpointIndependent};

/// Our keep-alives come this often at least; a NAT that forgets sooner breaks RFC 4787 REQ-5 by far.
pub(super) const KEPT: Duration = Duration::from_secs(25);

/// The verdict, for programs; what is not known is null.
#[derive(Debug, Serialize)]
pub(super) struct Facts {
    translated: Option<bool>,
    mapped: Option<SocketAddr>,
    kind: Option<&'static str>,
    mapping: Option<&'static str>,
    filtering: Option<&'static str>,
    hairpin: Option<bool>,
    fragments: Option<bool>,
    lifetime_s: Option<f64>,
    lifetime_exact: Option<bool>,
}

impl Facts {
    pub(super) fn of(verdict: &Verdict, lifetime: Option<Bracket>) -> Self {
        Self {
            translated: verdict.translated,
            mapped: verdict.mapped.map(|mapped| mapped.0),
            kind: kind(verdict),
            mapping: verdict.mapping.map(word),
            filtering: verdict.filtering.map(word),
            hairpin: verdict.hairpin,
            fragments: verdict.fragments,
            lifetime_s: lifetime.map(|bracket| bracket.estimate().as_secs_f64()),
            lifetime_exact: lifetime.map(|bracket| bracket.lost.is_some()),
        }
    }
}

fn word(of: Dependence) -> &'static str {
    match of {
        EndpointIndependent => "endpoint-independent",
        AddressDependent => "address-dependent",
        AddressAndPortDependent => "address-and-port-dependent",
        Dependent => "dependent",
    }
}

/// RFC 3489 §5, as far as the two behaviours have a name there.
fn kind(verdict: &Verdict) -> Option<&'static str> {
    match (verdict.translated?, verdict.mapping, verdict.filtering) {
        (false, _, Some(EndpointIndependent)) => Some("open"),
        (false, _, Some(_)) => Some("firewall"),
        (true, Some(EndpointIndependent), Some(EndpointIndependent)) => Some("full-cone"),
        (true, Some(EndpointIndependent), Some(AddressDependent)) => Some("address-restricted-cone"),
        (true, Some(EndpointIndependent), Some(AddressAndPortDependent)) => Some("port-restricted-cone"),
        (true, Some(AddressDependent | AddressAndPortDependent | Dependent), _) => Some("symmetric"),
        (true, Some(EndpointIndependent), Some(Dependent) | None) | (true, None, _) | (false, _, None) => None,
    }
}

/// The same for people.
fn formerly(verdict: &Verdict) -> String {
    kind(verdict).map(|kind| format!(" (\"{}\" in older books)", kind.replace('-', " "))).unwrap_or_default()
}

/// A server's name has no address.
pub(super) fn unresolved(server: &str, error: &io::Error) -> Finding {
    let found = format!("no address found: {error}");
    Finding::new(Weight::Notice, &format!("STUN server {server}"), found, "it cannot be asked")
        .mend("check its name, and the machine's DNS")
}

/// What was seen, in the order of its weight for calls.
pub(super) fn findings(seen: &Seen) -> Vec<Finding> {
    let verdict = &seen.behaviour;
    let mut all: Vec<Finding> = seen.stun.iter().filter(|(_, at, _)| at.is_some()).map(server).collect();
    all.push(udp(seen));
    if !verdict.answered {
        return all;
    }
    all.push(translation(seen));
    all.extend(verdict.translated.filter(|translated| *translated).map(|_| hairpin(verdict)));
    all.push(fragments(verdict));
    if verdict.rewritten {
        let means = "something on the way rewrites addresses inside packets (an ALG), and may do so to SIP";
        let found = "a server's two ways to write our address differ";
        all.push(Finding::new(Weight::Notice, "STUN ALG", found, means).mend("switch ALGs off in the router"));
    }
    all
}

fn server((name, _, answered): &(String, Option<SocketAddr>, bool)) -> Finding {
    let tested = format!("STUN server {name}");
    match answered {
        true => Finding::new(Weight::Good, &tested, "answers", "our public address can be found"),
        false => Finding::new(Weight::Notice, &tested, "silent", "it is down, or UDP is blocked on the way")
            .mend("name another one beside it"),
    }
}

fn udp(seen: &Seen) -> Finding {
    let tested = "UDP";
    if seen.plan.stun.is_empty() && seen.plan.reflector.is_none() && seen.udp() == Through::Unknown {
        let means = "what the network does to calls cannot be seen from here";
        let mend = "name one: --stun HOST, or stun_servers in the configuration";
        return Finding::new(Weight::Unknown, tested, "no server to ask", means).mend(mend);
    }
    match (seen.udp(), seen.behaviour.mapped) {
        (Through::Open, Some(mapped)) => {
            Finding::new(Weight::Good, tested, format!("passes; we are seen as {}", mapped.0), "sound can pass")
        }
        (Through::Open, None) => {
            let means = "sound can pass; what the NAT does was not seen";
            Finding::new(Weight::Notice, tested, "passes, and no STUN server answers", means)
        }
        (Through::Blocked, _) => {
            let means = "no sound, unless over TURN by TCP or TLS";
            let mend = "let UDP out in the firewall, and the answers in; or configure a TURN server: turns:HOST:443";
            Finding::new(Weight::Bad, tested, "blocked: other transports are answered on the same way", means)
                .mend(mend)
        }
        (Through::Unknown | Through::Untrusted, _) => {
            let means = "UDP is blocked on the way, or the servers are down: without UDP there is no sound";
            let mend = "try another server; let UDP out in the firewall, and the answers in";
            Finding::new(Weight::Unknown, tested, "no answer", means).mend(mend)
        }
    }
}

fn translation(seen: &Seen) -> Finding {
    let (tested, verdict) = ("NAT", &seen.behaviour);
    let old = formerly(verdict);
    let filter = match verdict.filtering {
        Some(EndpointIndependent) => "takes packets from everybody",
        Some(AddressDependent) => "takes packets from hosts that were sent to",
        Some(AddressAndPortDependent | Dependent) => "takes packets from where was sent to",
        None => "who may send through it is not known",
    };
    if seen.one_to_one == Some(true) {
        let found = format!(
            "one to one: all ports of {} are ours",
            verdict.mapped.map_or("".to_owned(), |m| m.0.ip().to_string())
        );
        let means = "whatever is written with that address is reached";
        return Finding::new(Weight::Good, tested, found, means);
    }
    match (verdict.translated, verdict.mapping) {
        (Some(false), _) => {
            let found = format!("none: our own address is the public one; the firewall {filter}{old}");
            Finding::new(Weight::Good, tested, found, "what we write is what others reach")
        }
        (_, Some(EndpointIndependent)) => {
            let found = format!("one port for all destinations; it {filter}{old}");
            let means =
                "the port that STUN sees is the one that a provider sees: calls work, nothing need be forwarded";
            Finding::new(Weight::Good, tested, found, means)
        }
        (_, Some(AddressDependent | AddressAndPortDependent | Dependent)) => {
            let found = format!("another port for each destination; it {filter}{old}");
            symmetric(seen, found)
        }
        (_, None) => {
            let found = format!("there is one, and how it chooses ports is not known; it {filter}");
            let means = "one server alone does not tell whether a provider sees the same port";
            Finding::new(Weight::Unknown, tested, found, means).mend("name a second STUN server")
        }
    }
}

fn symmetric(seen: &Seen, found: String) -> Finding {
    let tested = "NAT";
    if seen.plan.comedia() {
        let means = "the upstream sends media to where ours comes from (comedia), so its port need not be known";
        return Finding::new(Weight::Good, tested, found, means);
    }
    match seen.turn_state() {
        Some((_, true)) => return Finding::new(Weight::Good, tested, found, "media goes through the TURN server"),
        Some((_, false)) => {
            return Finding::new(Weight::Unknown, tested, found, "media needs the TURN server, which is there");
        }
        None => {}
    }
    let means = "the port that a provider sees cannot be foretold: calls work where the provider sends media to where ours \
                 comes from";
    let mend = "write comedia = true at an [[upstream]] that does so; else forward the media range in the router and write \
                advertise = \"stun-address\"";
    let weight = if seen.plan.role.is_some() { Weight::Bad } else { Weight::Unknown };
    Finding::new(weight, tested, found, means).mend(mend)
}

fn hairpin(verdict: &Verdict) -> Finding {
    let tested = "Hairpin";
    let (weight, found) = match verdict.hairpin {
        Some(true) => (Weight::Good, "our public address is reached from inside"),
        Some(false) => (Weight::Notice, "our public address is not reached from inside"),
        None => (Weight::Notice, "not known"),
    };
    Finding::new(weight, tested, found, "calls between phones behind us do not need it: their media is joined here")
}

fn fragments(verdict: &Verdict) -> Finding {
    let tested = "Datagrams of more than one packet";
    match verdict.fragments {
        Some(true) => Finding::new(Weight::Good, tested, "they pass, both ways", "long SIP messages arrive over UDP"),
        Some(false) => Finding::new(Weight::Notice, tested, "they are lost", "long SIP messages are lost over UDP")
            .mend("an [[upstream]] with TCP or TLS carries them; siplatch tries TCP by itself above 1,300 octets"),
        None => Finding::new(Weight::Notice, tested, "not known", "no server that was asked can answer with one"),
    }
}

/// How long a silent mapping lives: seen, or not.
pub(super) fn lifetime(seen: Option<Bracket>) -> Finding {
    let tested = "Lifetime of a silent mapping";
    let Some(bracket) = seen else {
        let means = "nobody was asked who can send to another port";
        return Finding::new(Weight::Notice, tested, "not known", means).mend("ask a siplatch with two addresses");
    };
    let estimate = bracket.estimate();
    if bracket.lost.is_none() && bracket.survived < KEPT {
        let found = format!("{} or more; longer was not waited for", seconds(bracket.survived));
        return Finding::new(Weight::Notice, tested, found, "keep-alives come every 25 s").mend("--long measures it");
    }
    let found = match bracket.lost {
        Some(_) => format!("about {}", seconds(estimate)),
        None => format!("{} or more", seconds(bracket.survived)),
    };
    if estimate < KEPT {
        let means = "phones that keep their way open every 25 s are lost in between";
        let mend = "raise the UDP timeout in the router to 120 s or more (RFC 4787 REQ-5)";
        return Finding::new(Weight::Notice, tested, found, means).mend(mend);
    }
    Finding::new(Weight::Good, tested, found, "keep-alives every 25 s are enough")
}
