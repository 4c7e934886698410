//! Requests inside a dialog (RFC 3261 §12.2): which call they belong to, how
//! they are built, where they go.

use std::time::Duration;

use wire::Transport;

use super::Phone;
use super::call::{Inside, State, Timer};
use crate::clock::Time;
use crate::net::Packet;
use crate::sip::{self, Msg};
use crate::transaction::Way;

/// A phone that should hear something, and has not for so long, hangs up.
pub(crate) const DEAF: Duration = Duration::from_secs(40);
/// On hold it is more patient.
const FORGOTTEN: Duration = Duration::from_secs(150);

impl Phone {
    /// Which call a request inside a dialog belongs to.
    pub(crate) fn call_of(&self, msg: &Msg) -> Option<usize> {
        let (local, remote) = (msg.tag("to"), msg.tag("from"));
        self.calls.iter().position(|c| {
            !local.is_empty() && c.call_id == msg.call_id() && c.local_tag == local && c.remote_tag == remote
        })
    }

    /// A request inside a dialog; its CSeq is taken from the call. ACK takes the INVITE's.
    pub(crate) fn inside(&mut self, at: usize, method: &str, cseq: Option<u32>) -> Msg {
        let via = self.via();
        let call = &mut self.calls[at];
        call.cseq += u32::from(cseq.is_none());
        let cseq = cseq.unwrap_or(call.cseq);
        let call = &self.calls[at];
        let mut msg = Msg::request(method, &call.target);
        msg.push(self.name("Via"), via);
        for route in &call.route {
            msg.push("Route", route.clone());
        }
        msg.push(self.name("From"), format!("{};tag={}", call.local, call.local_tag));
        msg.push(self.name("To"), format!("{};tag={}", call.remote, call.remote_tag));
        msg.push(self.name("Call-ID"), call.call_id.clone());
        msg.push("CSeq", format!("{cseq} {method}"));
        msg.push("Max-Forwards", "70");
        self.ornaments(&mut msg);
        msg
    }

    /// The way of a request inside a dialog (§12.2.1.1): first route, else the remote target.
    /// What leads to the proxy goes over the connection that is there.
    pub(crate) fn way(&self, at: usize) -> Way {
        let call = &self.calls[at];
        let hop = call.route.first().map_or(call.target.as_str(), |route| sip::uri_of(route));
        let ours = self.profile.way();
        match sip::way(hop) {
            Some((transport, to)) if to.ip() != ours.to.ip() => Way { transport, to, ..ours },
            Some((Transport::Udp, to)) if ours.transport == Transport::Udp => Way { to, ..ours },
            Some(_) | None => ours,
        }
    }

    pub(crate) fn start_inside(&mut self, now: Time, at: usize, kind: Inside, msg: Msg, out: &mut Vec<Packet>) {
        let way = self.way(at);
        let client = self.transactions.request(now, msg, way, out);
        self.calls[at].inside.push((client, kind));
    }

    pub(crate) fn with_body(&self, mut msg: Msg, sdp: String) -> Msg {
        msg.push(self.name("Content-Type"), "application/sdp");
        msg.body = sdp;
        msg
    }

    /// Hangs up a call in which nothing is heard, or looks again later.
    pub(crate) fn deaf(&mut self, now: Time, at: usize) {
        let call = &mut self.calls[at];
        let heard = call.media.heard_at.max(call.log.answered.unwrap_or(now));
        let due = heard + if call.media.both_ways() { DEAF } else { FORGOTTEN };
        let timer = if due <= now { (now, Timer::HangUp) } else { (due, Timer::Deaf) };
        call.timers.push(timer);
    }

    /// Ended calls become records.
    pub(crate) fn bury(&mut self) {
        let log = &mut self.log;
        self.calls.retain(|call| {
            let over = call.state == State::Over;
            if over {
                log.push(call.record());
            }
            !over
        });
    }
}
