//! No request goes to an address that never asked for one (siplatch is no open
//! relay), and a response only to where a request came from (RFC 3581 §4).

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{Rule, Truth};
use crate::attacker;
use crate::clock::Time;
use crate::edge::Entry;

#[derive(Debug, Default)]
pub(crate) struct NoOpenRelay {
    sources: BTreeSet<IpAddr>,
}

impl Rule for NoOpenRelay {
    fn name(&self) -> &'static str {
        "no request to an unlisted address"
    }

    fn see(&mut self, _now: Time, truth: &Truth, entry: &Entry) -> Option<String> {
        match entry {
            Entry::Received(message) => {
                self.sources.insert(message.flow.remote.ip());
                None
            }
            Entry::Sent(message) => {
                let remote = message.flow.remote;
                let Some(msg) = message.msg.as_deref() else {
                    return Some(format!("{} octets that are no SIP to {remote}", message.bytes.len()));
                };
                let upstream = truth.upstream == Some(remote.ip());
                if !msg.is_request() {
                    // The port is the Via's where there is no rport (RFC 3261 §18.2.2).
                    let known = self.sources.contains(&remote.ip());
                    return (!known && !upstream).then(|| format!("{} to {remote}, which never asked", msg.start));
                }
                if !truth.friends.contains(&remote.ip()) {
                    return Some(format!("{} to {remote}", msg.start));
                }
                // A REGISTER is the upstream's to judge; everything else of a stranger ends here.
                let judged = msg.method() == "REGISTER" && upstream;
                let forged = msg.call_id().starts_with(attacker::CALL_ID) && !judged;
                forged.then(|| format!("a stranger's {} passed to {remote}", msg.start))
            }
            Entry::Timer
            | Entry::Line(_)
            | Entry::Command(_)
            | Entry::Fact(_)
            | Entry::Changed(_)
            | Entry::Ports(..)
            | Entry::Observed(_)
            | Entry::Judged { .. }
            | Entry::Own { .. } => None,
        }
    }
}
