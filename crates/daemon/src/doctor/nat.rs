//! What a NAT's behaviour means for calls.

use std::io;
use std::net::SocketAddr;

use nat::behaviour::{Dependence, Verdict};
use nat::lifetime::Bracket;
use serde::Serialize;

use super::finding::{Finding, Weight};
use super::seconds;

use Dependence::{AddressAndPortDependent, AddressDependent, Dependent, EndpointIndependent};

/// Our keep-alives come this often at least; a NAT that forgets sooner breaks RFC 4787 REQ-5 by far.
const KEPT_S: f64 = 25.0;

/// The verdict, for programs; what is not known is null.
#[derive(Debug, Serialize)]
pub(super) struct Facts {
    udp: bool,
    mapped: Option<SocketAddr>,
    translated: Option<bool>,
    mapping: Option<&'static str>,
    filtering: Option<&'static str>,
    /// In the words of RFC 3489, which say less.
    formerly: Option<&'static str>,
    hairpin: Option<bool>,
    fragments: Option<bool>,
    lifetime_s: Option<f64>,
}

impl Facts {
    pub(super) fn of(verdict: &Verdict, lifetime: Option<Bracket>) -> Self {
        Self {
            udp: verdict.answered,
            mapped: verdict.mapped.map(|mapped| mapped.0),
            translated: verdict.translated,
            mapping: verdict.mapping.map(word),
            filtering: verdict.filtering.map(word),
            formerly: formerly(verdict),
            hairpin: verdict.hairpin,
            fragments: verdict.fragments,
            lifetime_s: lifetime.map(|bracket| bracket.estimate().as_secs_f64()),
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
fn formerly(verdict: &Verdict) -> Option<&'static str> {
    match (verdict.translated?, verdict.mapping?, verdict.filtering) {
        (false, _, Some(EndpointIndependent)) => Some("open Internet"),
        (false, _, Some(_)) => Some("symmetric UDP firewall"),
        (true, EndpointIndependent, Some(EndpointIndependent)) => Some("full cone"),
        (true, EndpointIndependent, Some(AddressDependent)) => Some("restricted cone"),
        (true, EndpointIndependent, Some(AddressAndPortDependent)) => Some("port restricted cone"),
        (true, AddressDependent | AddressAndPortDependent | Dependent, _) => Some("symmetric"),
        (true, EndpointIndependent, Some(Dependent) | None) | (false, _, None) => None,
    }
}

/// A server's name has no address.
pub(super) fn unresolved(server: &str, error: &io::Error) -> Finding {
    let found = format!("no address found: {error}");
    Finding::new(Weight::Notice, &format!("STUN server {server}"), found, "it cannot be asked")
        .mend("check its name, and the machine's DNS")
}

/// What was seen, in the order of its weight for calls.
pub(super) fn findings(verdict: &Verdict, servers: usize) -> Vec<Finding> {
    let asked = "UDP, by STUN";
    if servers == 0 {
        let means = "what the network does to calls cannot be seen from here";
        let mend = "name one: --stun HOST, or stun_servers in the configuration";
        return vec![Finding::new(Weight::Unknown, asked, "no server to ask", means).mend(mend)];
    }
    let Some(mapped) = verdict.mapped.filter(|_| verdict.answered) else {
        let found = format!("no answer from {servers} server{}", if servers == 1 { "" } else { "s" });
        let means = "UDP is blocked on the way, or the servers are down: without UDP there is no sound";
        let mend = "let UDP out in the firewall, and the answers in; try another server to be sure";
        return vec![Finding::new(Weight::Bad, asked, found, means).mend(mend)];
    };
    let mut all = vec![Finding::new(Weight::Good, asked, format!("we are seen as {}", mapped.0), "UDP passes")];
    all.push(translation(verdict));
    all.extend(verdict.translated.filter(|translated| *translated).map(|_| hairpin(verdict)));
    all.push(fragments(verdict));
    if verdict.rewritten {
        let means = "something on the way rewrites addresses inside packets (an ALG), and may do so to SIP";
        let found = "a server's two ways to write our address differ";
        all.push(Finding::new(Weight::Notice, "ALG", found, means).mend("switch SIP ALG off in the router"));
    }
    all
}

fn translation(verdict: &Verdict) -> Finding {
    let tested = "NAT";
    let old = formerly(verdict).map(|name| format!(" (\"{name}\" in older books)")).unwrap_or_default();
    let filter = match verdict.filtering {
        Some(EndpointIndependent) => "takes packets from everybody",
        Some(AddressDependent) => "takes packets from hosts that were sent to",
        Some(AddressAndPortDependent | Dependent) => "takes packets from where was sent to",
        None => "who may send through it is not known",
    };
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
            let means = "the port that a provider sees cannot be foretold: calls work where the provider sends media to \
                         where ours comes from";
            let mend = "write comedia = true at an [[upstream]] that does so; else forward the media range in the router \
                        and write advertise = \"stun-address\"";
            Finding::new(Weight::Unknown, tested, found, means).mend(mend)
        }
        (_, None) => {
            let found = format!("there is one, and how it chooses ports is not known; it {filter}");
            let means = "one server alone does not tell whether a provider sees the same port";
            Finding::new(Weight::Unknown, tested, found, means).mend("name a second STUN server")
        }
    }
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

/// How long a silent mapping lives: measured, not measured, or not measurable.
pub(super) fn lifetime(measured: Option<Option<Bracket>>) -> Finding {
    let tested = "Lifetime of a silent mapping";
    match measured.map(|bracket| bracket.map(|bracket| (bracket, bracket.estimate()))) {
        Some(Some((bracket, estimate))) => {
            let found = match bracket.lost {
                Some(_) => format!("about {}", seconds(estimate)),
                None => format!("more than {}", seconds(bracket.survived)),
            };
            if estimate.as_secs_f64() < KEPT_S {
                let means = "phones that keep their way open every 25 s are lost in between";
                let mend = "raise the UDP timeout in the router to 120 s or more (RFC 4787 REQ-5)";
                return Finding::new(Weight::Notice, tested, found, means).mend(mend);
            }
            Finding::new(Weight::Good, tested, found, "keep-alives every 25 s are enough")
        }
        Some(None) => {
            let means = "the server that was asked cannot send to another port";
            Finding::new(Weight::Notice, tested, "not known", means).mend("ask a siplatch border with two addresses")
        }
        None => Finding::new(Weight::Notice, tested, "not measured", "it takes minutes").mend("--long measures it"),
    }
}
