//! What follows from an answer.
//!
//! Decides whether the word of a server confirms the known address, calls for
//! a check, or makes another one known. It must not report an address that
//! [`Evidence`](super::Evidence) does not bear out, nor more than two changes
//! within twenty seconds.

use std::net::SocketAddr;
use std::time::Duration;

use super::{Context, Known, PATIENCE, Watched};
use crate::Mapped;
use crate::discovery::evidence::Belief;
use crate::discovery::{Finding, Output};

/// The least time between one change of a socket's address and the second after
/// it: what a forger or a flapping uplink can make us say has a rate, but a
/// router that comes up in two steps is followed at once.
const CHANGES: Duration = Duration::from_secs(20);

impl Watched {
    /// A server reports an address.
    pub(super) fn heard(&mut self, cx: &mut Context<'_>, server: usize, address: SocketAddr) {
        let times = self.evidence.add(server, address);
        self.note_disagreement(cx);
        if !self.confirm(cx, server, address) && !self.checking && self.anchor().is_none_or(|anchor| anchor == server) {
            // The anchor has changed its mind: that is for all to confirm.
            self.ask_all(cx);
        }
        self.judge(cx);
        if self.next_ask.is_none() && times < 2 {
            self.ask_again(cx, server);
        }
    }

    /// Takes a word for the known address as its confirmation, if it is that.
    fn confirm(&mut self, cx: &mut Context<'_>, server: usize, address: SocketAddr) -> bool {
        let Some(known) = self.known.as_mut().filter(|known| known.address == address) else { return false };
        known.confirmed = cx.now;
        let anchor = *known.anchor.get_or_insert(server);
        if anchor == server {
            self.rest(cx);
        } else {
            known.agreed = true;
        }
        true
    }

    /// Draws the conclusion from the evidence so far.
    pub(super) fn judge(&mut self, cx: &mut Context<'_>) {
        let anchor = self.anchor();
        let agreed = self.known.as_ref().is_some_and(|known| known.agreed);
        let patience = if self.disputed { u8::MAX } else { PATIENCE };
        let mut pending = self.asked.iter().filter_map(|asked| asked.transaction.as_ref());
        let patient = (self.disputed || agreed) && pending.any(|transaction| transaction.sent() < patience);
        match self.evidence.belief(anchor, patient) {
            // The anchor may still answer: its word for its port comes before another's.
            Some(belief) if !belief.agreed && anchor.is_some_and(|anchor| anchor != belief.anchor) => {}
            Some(belief) => self.adopt(cx, belief),
            None if self.evidence.disagrees_on_ip() && self.known.as_ref().is_some_and(|known| !known.agreed) => {
                self.unmap(cx);
                self.failures += 1;
                self.next_ask = Some(cx.now + self.back_off(cx));
            }
            None => {}
        }
    }

    fn adopt(&mut self, cx: &mut Context<'_>, belief: Belief) {
        let Belief { address, anchor, agreed } = belief;
        let agreed = agreed || self.known.as_ref().is_some_and(|known| known.agreed && known.address == address);
        let is_new = self.known.as_ref().is_none_or(|known| known.address != address);
        if is_new && self.known.is_some() {
            let earliest = self.changes[0].map(|at| at + CHANGES).filter(|earliest| *earliest > cx.now);
            if earliest.is_some() {
                self.next_ask = earliest;
                return;
            }
        }
        self.known = Some(Known { address, anchor: Some(anchor), agreed, confirmed: cx.now });
        self.disputed = false;
        self.rest(cx);
        if is_new {
            let changed = self.reported.replace(address).is_some_and(|reported| reported != address);
            if changed {
                self.changes = [self.changes[1], Some(cx.now)];
            }
            tracing::debug!(socket = cx.socket.0, %address, changed, agreed, "mapped address");
            cx.outputs.push_back(Output::Mapped { socket: cx.socket, mapped: Mapped(address), changed });
        }
    }

    pub(super) fn unmap(&mut self, cx: &mut Context<'_>) {
        if self.known.take().is_some() {
            cx.outputs.push_back(Output::Unmapped { socket: cx.socket });
        }
    }

    fn note_disagreement(&mut self, cx: &mut Context<'_>) {
        if !self.evidence.is_plural() {
            return;
        }
        let (ip, port) = (self.evidence.disagrees_on_ip(), self.evidence.disagrees_on_port());
        if ip && !self.noted.ip {
            cx.find(Finding::ServersDisagreeOnIp);
        }
        if port && !self.noted.port {
            cx.find(Finding::ServersDisagreeOnPort);
        }
        self.noted.ip = ip;
        self.noted.port = port;
        self.noted.steady = !ip && !port;
        self.disputed |= ip;
    }
}
