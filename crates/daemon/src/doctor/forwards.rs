//! Do strangers reach us? All ports of a one-to-one NAT, and our own ports.

use std::net::SocketAddr;

use ::nat::behaviour::{Dependence, Verdict};

use super::finding::{Finding, Weight};

/// Fresh ports that are tried: one might be forwarded by chance, not so many.
const FRESH: usize = 3;

/// Whether the NAT is one to one, and which of `doors` are reached.
pub(super) async fn look(
    server: SocketAddr,
    doors: &[SocketAddr],
    verdict: &Verdict,
) -> (Option<bool>, Vec<(SocketAddr, Option<bool>)>) {
    let ip = net::addresses::toward(server).unwrap_or(server.ip());
    let concrete = |door: &SocketAddr| {
        let bound = if door.ip().is_unspecified() { ip } else { door.ip() };
        SocketAddr::new(bound, door.port())
    };
    let fresh = std::iter::repeat_n(SocketAddr::new(ip, 0), FRESH);
    let locals: Vec<SocketAddr> = fresh.chain(doors.iter().map(concrete)).collect();
    let mut reached = net::survey::unasked(server, &locals).await.unwrap_or_else(|_| vec![None; locals.len()]);
    let own = reached.split_off(FRESH.min(reached.len()));
    let one_to_one = match verdict.translated {
        Some(false) => Some(false),
        Some(true) if reached.iter().all(|reached| *reached == Some(true)) => Some(true),
        Some(true) if reached.contains(&Some(false)) => Some(false),
        Some(true) | None => None,
    };
    // Where a mapping lets everybody in, one that siplatch left behind looks like a forward.
    let may_be_mapping = verdict.translated == Some(true)
        && verdict.filtering == Some(Dependence::EndpointIndependent)
        && one_to_one != Some(true);
    let believed = |reached: Option<bool>| reached.filter(|reached| !(*reached && may_be_mapping));
    (one_to_one, locals.into_iter().skip(FRESH).zip(own.into_iter().map(believed)).collect())
}

/// For programs.
pub(super) fn word(doors: &[(SocketAddr, Option<bool>)]) -> Option<&'static str> {
    let known: Vec<bool> = doors.iter().filter_map(|(_, reached)| *reached).collect();
    match (known.contains(&true), known.contains(&false)) {
        (true, true) => Some("some"),
        (true, false) if known.len() == doors.len() => Some("open"),
        (false, true) => Some("closed"),
        (true | false, false) => None,
    }
}

/// `needed`: the configuration relies on them.
pub(super) fn finding(doors: &[(SocketAddr, Option<bool>)], needed: bool) -> Finding {
    let tested = "Our own ports from outside";
    let list = |wanted: Option<bool>| {
        let all = doors.iter().filter(move |(_, reached)| *reached == wanted);
        all.map(|(door, _)| door.port().to_string()).collect::<Vec<_>>().join(", ")
    };
    let weight = if needed { Weight::Bad } else { Weight::Notice };
    match word(doors) {
        Some("open") => {
            let found = format!("strangers reach UDP {}", list(Some(true)));
            Finding::new(Weight::Good, tested, found, "they are forwarded, or open")
        }
        Some("some") => {
            let found = format!("strangers reach UDP {}, and not {}", list(Some(true)), list(Some(false)));
            let mend = "forward the whole range of media ports and the SIP port in the router";
            Finding::new(weight, tested, found, "what is not reached has no sound, or no calls").mend(mend)
        }
        Some(_) => {
            let found = format!("strangers do not reach UDP {}", list(Some(false)));
            if !needed {
                return Finding::new(Weight::Notice, tested, found, "this configuration does not need it");
            }
            let mend = "forward the SIP port and the media ports in the router, or open them in the firewall";
            Finding::new(weight, tested, found, "phones outside do not reach us").mend(mend)
        }
        None => {
            let means = "the ports are in use here (stop siplatch to try), or nobody answered who could tell";
            let weight = if needed { Weight::Unknown } else { Weight::Notice };
            Finding::new(weight, tested, "not known", means)
        }
    }
}
