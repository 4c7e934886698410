//! `keep` on a Via (RFC 6223): a neighbour that offers to keep its way to us
//! open is told how often (§4.4); toward an upstream that is reached through
//! our own NAT we offer the same, and go by its answer.

use std::time::Instant;

use wire::sip::Message;
use wire::{Edit, Flow, sip};

use crate::Proxy;

/// Seconds for a datagram's mapping; routers forget one after 30.
const DATAGRAM: &[u8] = b"25";
/// Seconds for a connection (RFC 5626 §4.4.1).
const STREAM: &[u8] = b"120";
/// Our own mapping needs a ping as often as this, whatever the upstream says.
const LONGEST: u32 = 29;

impl Proxy {
    /// How often we want to hear from a sender: phones may be behind a NAT, an upstream is not.
    pub(crate) fn wants_keep(&self, flow: Flow) -> Option<&'static [u8]> {
        let seconds = if flow.transport.reliable() { STREAM } else { DATAGRAM };
        self.on_phones_side(flow).then_some(seconds)
    }

    /// Answers an offer on the sender's Via.
    pub(crate) fn grant_keep(&self, flow: Flow, message: Message<'_>, edit: &mut Edit) {
        if let Some(seconds) = self.wants_keep(flow) {
            sip::edit::keep(message, edit, seconds);
        }
    }

    /// Our own offer, on a REGISTER whose way goes through our own NAT.
    pub(crate) fn offers_keep(&self, flow: Flow) -> bool {
        self.is_discovered(flow.listener)
    }

    /// The answer to it: pings to the upstream follow.
    pub(crate) fn note_keep(&mut self, now: Instant, upstream: Flow, message: Message<'_>) {
        let granted = message.top_via().ok().and_then(|via| via.params.value("keep"));
        let Some(seconds) = granted.and_then(|v| std::str::from_utf8(v).ok()?.trim().parse::<u32>().ok()) else {
            return;
        };
        if seconds == 0 {
            // Willing, without a wish (§8).
            return;
        }
        if upstream.transport.reliable() {
            self.flow_timer(now, upstream, seconds);
        } else if let Some(seen) = self.seen.get_mut(usize::from(upstream.listener.0)) {
            seen.keep = Some(seconds.clamp(5, LONGEST));
        }
    }
}

#[cfg(test)]
mod tests;
