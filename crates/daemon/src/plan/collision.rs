//! Phones that stand in each other's way, by name.

use super::written::Phone;

const SELECTORS: [&str; 4] = ["user", "domain", "address", "instance"];

/// Every collision, with the mend.
pub(super) fn find(phones: &[Phone]) -> Vec<String> {
    let mut found = Vec::new();
    for (at, later) in phones.iter().enumerate() {
        for earlier in &phones[..at] {
            let (a, b) = (&earlier.name, &later.name);
            if a == b {
                found.push(format!("two phones are called \"{a}\"\n  give each a name of its own\n"));
            } else if let Some(shared) = covers(earlier, later) {
                found.push(format!(
                    "\"{a}\" and \"{b}\" both have {shared}, and nothing tells \"{b}\" from \"{a}\": it would never be \
                     meant\n  give \"{b}\" another user, or an address or instance beside it\n"
                ));
            }
            if let Some(port) = source(earlier, later) {
                found.push(format!(
                    "\"{a}\" and \"{b}\" both speak to the provider from {port}: the router cannot tell them apart\n  \
                     give each an outer_listen of its own\n"
                ));
            }
            if let Some(public) = public(earlier, later) {
                found.push(format!(
                    "\"{a}\" and \"{b}\" are both to be reached at {public}\n  give each an advertise_port or an \
                     advertise of its own\n"
                ));
            }
        }
    }
    found
}

/// Whatever the later one is chosen by, the earlier one is chosen by, too.
fn covers(earlier: &Phone, later: &Phone) -> Option<String> {
    let mut pairs = earlier.selectors.iter().zip(&later.selectors);
    if !pairs.all(|(a, b)| a.is_none() || a == b) {
        return None;
    }
    let shared = SELECTORS.iter().zip(&earlier.selectors).filter_map(|(key, value)| Some((key, value.as_ref()?)));
    let words: Vec<String> = shared.map(|(key, value)| format!("{key} \"{value}\"")).collect();
    (!words.is_empty()).then(|| words.join(" and "))
}

/// The same socket.
fn source(earlier: &Phone, later: &Phone) -> Option<String> {
    let (a, b) = (earlier.outer_listen?, later.outer_listen?);
    let same = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    (same && a.port() == b.port()).then(|| format!("port {}", b.port()))
}

/// The same public address and port, of different sockets.
fn public(earlier: &Phone, later: &Phone) -> Option<String> {
    let port = |phone: &Phone| Some(phone.advertise_port.unwrap_or(phone.outer_listen?.port()));
    let (a, b) = ((earlier.advertise.as_ref()?, port(earlier)?), (later.advertise.as_ref()?, port(later)?));
    let fixed = a.0.parse::<std::net::IpAddr>().is_ok();
    (fixed && a == b && source(earlier, later).is_none()).then(|| format!("{}:{}", b.0, b.1))
}
