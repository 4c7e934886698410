//! No inner address leaves on the outer side in a field that we write, and
//! what we write there is our own address on that side.
//!
//! These fields are ours: our Via, Record-Route, Path, Contact; SDP
//! `o=`, `c=`, `a=rtcp`, `a=candidate`. The peers' own Via, Call-ID and
//! Record-Route stay by transparency (RFC 3261 §16.6).

use std::net::IpAddr;

use nat::Side;

use super::{Rule, Truth};
use crate::clock::Time;
use crate::edge::Entry;
use crate::sip::{self, Msg};

#[derive(Debug, Default)]
pub(crate) struct InnerAddresses;

impl Rule for InnerAddresses {
    fn name(&self) -> &'static str {
        "no inner address on the outer side, and our own on each"
    }

    fn see(&mut self, _now: Time, truth: &Truth, entry: &Entry) -> Option<String> {
        let Entry::Sent(message) = entry else { return None };
        let msg = message.msg.as_deref()?;
        let side = truth.side(message.flow);
        let own = truth.own(side);
        for (field, host) in written(msg) {
            let Some(ip) = ip(host) else { continue };
            // A registrar lists where all phones of an AOR are, each in its own words (§10.3(8)).
            let registered = msg.method() == "REGISTER" && !msg.is_request();
            if field == "Contact" && registered {
                continue;
            }
            if side == Side::Outer && truth.is_inner(ip) {
                return Some(format!("{field} names {ip} toward {}: {}", message.flow.remote, msg.start));
            }
            if field == "Contact" && !own.contains(&ip) {
                return Some(format!("Contact toward {} names {ip}, not us: {}", message.flow.remote, msg.start));
            }
        }
        // Entries of earlier passes stay as they are; the one of this pass stands on top of a request.
        for ours in ["record-route", "path"] {
            let entry = msg.all(ours).next().filter(|_| msg.is_request());
            let named = entry.and_then(|entry| ip(sip::host(sip::uri_of(entry))));
            let other = truth.own(side.other());
            if named.is_some_and(|ip| side == Side::Outer && other.contains(&ip) && !own.contains(&ip)) {
                return Some(format!("{ours} {entry:?} names our inner face toward {}", message.flow.remote));
            }
        }
        media(msg, truth, side)
    }
}

/// Fields of ours with one host each: the Via that we put on a request, and Contact.
fn written(msg: &Msg) -> Vec<(&'static str, &str)> {
    let via = msg.all("via").next().filter(|_| msg.is_request());
    let via = via.and_then(|via| via.split([' ', ';']).filter(|p| !p.is_empty()).nth(1));
    let contacts = msg.all("contact").filter(|c| *c != "*").map(|c| ("Contact", sip::host(sip::uri_of(c))));
    via.map(|host| ("Via", host)).into_iter().chain(contacts).collect()
}

/// SDP: what names an address names ours, unless it is nobody's (hold).
fn media(msg: &Msg, truth: &Truth, side: Side) -> Option<String> {
    for line in msg.body.lines() {
        let words = line.split([' ', ':', '=']);
        let address = match line.as_bytes() {
            [b'o' | b'c', b'=', ..] => words.filter_map(ip).next_back(),
            _ if line.starts_with("a=rtcp:") || line.starts_with("a=candidate:") => words.filter_map(ip).next(),
            _ => None,
        };
        let Some(ip) = address.filter(|ip| !ip.is_unspecified()) else { continue };
        if side == Side::Outer && truth.is_inner(ip) {
            return Some(format!("SDP line {line:?} names {ip} on the outer side: {}", msg.start));
        }
        if !truth.own(side).contains(&ip) {
            return Some(format!("SDP line {line:?} does not name us on side {}: {}", side.as_str(), msg.start));
        }
    }
    None
}

fn ip(host: &str) -> Option<IpAddr> {
    sip::host_port(host).0.parse().ok()
}
