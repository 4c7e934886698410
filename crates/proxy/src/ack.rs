//! ACK: of a non-2xx it ends a server transaction here (RFC 3261 §17.2.1); of
//! a 2xx it is a request of its own that belongs to the dialog (§13.2.2.4), and
//! a dialog whose 2xx gets none in 64·T1 is ended (§13.3.1.4).

use std::collections::BTreeMap;
use std::time::Instant;

use registry::{CallState, PassId};
use wire::Flow;
use wire::sip::{Message, Method, Name, edit};

use crate::dialog::callee;
use crate::locate::Located;
use crate::request::breadth;
use crate::rewrite::{body, contact, via};
use crate::timer::Timer;
use crate::token::Token;
use crate::transaction::{Key, T1};
use crate::{Cause, DropReason, Observed, Proxy};

/// Callees whose 2xx was passed and not acknowledged yet, and until when that may be.
#[derive(Debug, Default)]
pub(crate) struct Unacknowledged(BTreeMap<(PassId, u8), Instant>);

impl Proxy {
    /// The first 2xx of a callee was passed.
    pub(crate) fn expect_ack(&mut self, now: Instant, pass: PassId, leg: u8) {
        let until = now + 64 * T1;
        self.unacknowledged.0.insert((pass, leg), until);
        self.timers.arm(until, Timer::Ack(pass, leg));
    }

    /// True while the ACK of this callee's 2xx has not come.
    pub(crate) fn awaits_ack(&self, pass: PassId, leg: u8) -> bool {
        self.unacknowledged.0.contains_key(&(pass, leg))
    }

    /// True while the ACK of any 2xx of this pass has not come.
    pub(crate) fn awaits_acks(&self, pass: PassId) -> bool {
        self.unacknowledged.0.range((pass, 0)..=(pass, u8::MAX)).next().is_some()
    }

    /// The ACK came, or nobody waits for it any more.
    fn acknowledged(&mut self, pass: PassId, leg: u8) {
        if let Some(until) = self.unacknowledged.0.remove(&(pass, leg)) {
            self.timers.disarm(until, Timer::Ack(pass, leg));
        }
    }

    /// A call is over, and with it the wait for its ACKs.
    pub(crate) fn expect_no_ack(&mut self, pass: PassId) {
        let legs: Vec<u8> =
            self.unacknowledged.0.range((pass, 0)..=(pass, u8::MAX)).map(|((_, leg), _)| *leg).collect();
        for leg in legs {
            self.acknowledged(pass, leg);
        }
    }

    /// No ACK came in all that time: the caller does not know of this dialog,
    /// or cannot be heard, and the callee itself may be gone.
    pub(crate) fn ack_due(&mut self, now: Instant, pass: PassId, leg: u8) {
        if self.unacknowledged.0.remove(&(pass, leg)).is_some() {
            self.end_dialog(now, pass, leg, Cause::Lost, "No ACK");
        }
    }

    /// An ACK is never answered, whatever is wrong with it.
    pub(crate) fn ack(&mut self, now: Instant, flow: Flow, message: Message<'_>, key: &Key) {
        if let Some(id) = self.contexts.of_server(key)
            && let Some(mut context) = self.contexts.take(id)
        {
            let accepted = context.answering.as_mut().is_none_or(|answering| {
                answering.machine.ack(now);
                answering.machine.state() == crate::transaction::server::State::Accepted
            });
            self.keep(now, context);
            if !accepted {
                return;
            }
        }
        if self.pass_ack(now, flow, message).is_none() {
            let side = self.side(flow);
            self.observe(Observed::Dropped { side, reason: DropReason::StrayAck });
        }
    }

    /// Passes the ACK of a 2xx along the dialog, without a transaction. A
    /// retransmitted one leaves as the same bytes.
    fn pass_ack(&mut self, now: Instant, flow: Flow, message: Message<'_>) -> Option<()> {
        crate::request::validate::validate(message).ok()?;
        let routed = self.route_of(flow, message)?;
        let (pass, from, to) = self.within(flow, message, &routed)?;
        self.acknowledged(pass, callee(from, to));
        let call = self.registry.call(pass)?;
        if call.state == CallState::Ending && body::sdp(message).is_some() {
            // Only a repeated one comes so late, and its media is gone.
            return None;
        }
        let target = self.toward(call, to, routed.next.as_deref())?;
        let branch = message.branch();
        let digest = self.key.digest("ack", &[branch, message.call_id(), &pass.0.to_be_bytes()]);
        // A retransmitted one goes to the same server (RFC 3263 §4.3).
        let Located::At(out) = self.locate_by(now, &target.hop, digest) else { return None };
        if !self.connections.is_open(out) {
            return None;
        }
        let own = self.known_own(out)?;
        let reach = self.reach_beside(own, out);
        let value = via::Ours::stateless(own, digest);
        let mut edit = self.blank();
        self.route_edit(flow, message, &target, &value, &routed, &mut edit);
        breadth::write(message, &mut edit, 0, 1);
        self.identities(flow, out, message, &mut edit);
        self.raise(pass, from, to, message, &mut edit);
        contact::to_ours(message, &mut edit, reach.text().get(), || Some(self.key.seal(Token::Leg(pass, from))));
        if message.field(Name::ContentType).is_some() {
            let leg = callee(from, to);
            let media = self.media_key(pass, leg);
            let ends = |proxy: &Self| proxy.ends_within(pass, from, to, flow, out);
            if let Err(refusal) = self.body_of_request(media, leg, body::end_of(from), ends, message, &mut edit) {
                let reject = self.refusal(refusal);
                self.end_call(now, pass, Cause::MediaFailed, reject.reason);
                return Some(());
            }
        }
        edit::content_length(message, &mut edit);
        let side = self.side(out);
        self.observe(Observed::RequestOut { side, method: Method::Ack.into() });
        let bytes = self.edited(message, &edit);
        self.reuse(edit);
        self.transmit(out, bytes);
        Some(())
    }
}

#[cfg(test)]
mod tests;
