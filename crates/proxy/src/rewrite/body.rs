//! The body: which SDP is an offer and which an answer (RFC 3261 §13.2,
//! RFC 3262 §5, RFC 3311 §5, RFC 6337 §2.2), handed to the media half.

use media::End;
use media::offer::{EndPlan, Key, Refusal, Settles, Text};
use nat::Side;
use registry::{CallState, Party, PassId};
use wire::Edit;
use wire::sip::{self, Message, Method, Name};

use crate::request::Reject;
use crate::{Observed, Proxy};

/// The SDP body of a message, alone or as a part (RFC 5621 §3.1), if it has one.
pub(crate) fn sdp<'a>(message: Message<'a>) -> Option<&'a [u8]> {
    let kind = message.value(Name::ContentType)?;
    let body = message.body();
    if sip::multipart::is(kind, b"application/sdp") {
        Some(body).filter(|body| !body.is_empty())
    } else {
        sip::multipart::part(kind, body, b"application/sdp")
    }
}

/// True when a provisional response is reliable, so that its SDP counts (RFC 3262).
fn reliable(message: Message<'_>) -> bool {
    message.field(Name::RSeq).is_some()
}

/// The end that a leg is: the caller is A.
pub(crate) fn end_of(leg: u8) -> End {
    if leg == 0 { End::A } else { End::B }
}

impl Proxy {
    /// SDP in a request from end `from`, between `ends`, in the dialog with the callee of that
    /// leg; 0 for the INVITE that makes dialogs.
    pub(crate) fn body_of_request(
        &mut self,
        key: Key,
        leg: u8,
        from: End,
        ends: impl FnOnce(&Self) -> [EndPlan; 2],
        message: Message<'_>,
        edit: &mut Edit,
    ) -> Result<(), Refusal> {
        let Some(body) = sdp(message) else { return Ok(()) };
        let ends = ends(self);
        let text = Text { whole: message.bytes, body };
        let answers = matches!(message.method(), Method::Ack | Method::Prack)
            && (self.offers.pending(key, leg, from.other()) || message.method() == Method::Ack);
        if answers {
            let settles = if message.method() == Method::Ack { Settles::Call } else { Settles::Offer };
            self.offers.answer(key, leg, from, ends, text, settles, edit)
        } else {
            self.offers.offer(key, leg, key.pass, from, ends, text, edit)
        }
    }

    /// SDP in a response from end `from` to a request that did or did not
    /// carry an offer; `leg` is the callee's.
    #[expect(clippy::too_many_arguments, reason = "a step takes what it needs by name, not through a blackboard")]
    pub(crate) fn body_of_response(
        &mut self,
        key: Key,
        leg: u8,
        from: End,
        offered: bool,
        ends: impl FnOnce(&Self) -> [EndPlan; 2],
        message: Message<'_>,
        edit: &mut Edit,
    ) -> Result<(), Refusal> {
        let success = message.status().is_some_and(|s| s.is_success());
        let answered = success && message.method() == Method::Invite;
        let text = sdp(message).map(|body| Text { whole: message.bytes, body });
        match text {
            Some(text) if offered => {
                let settles = match (answered || success && self.stands(key), success || reliable(message)) {
                    (true, _) => Settles::Call,
                    (false, true) => Settles::Offer,
                    (false, false) => Settles::Nothing,
                };
                let ends = ends(self);
                return self.offers.answer(key, leg, from, ends, text, settles, edit);
            }
            Some(text) => {
                let ends = ends(self);
                self.offers.offer(key, leg, key.pass, from, ends, text, edit)?;
            }
            None => {}
        }
        if answered {
            self.offers.confirm(key, leg, from.other());
        }
        Ok(())
    }

    /// True when the dialog that this media belongs to was answered before: an
    /// UPDATE may be the first to offer media in it, as after a restart.
    fn stands(&self, key: Key) -> bool {
        let answered = |p: &Party| p.branch == key.branch && p.state == CallState::Confirmed;
        self.registry.call(PassId(key.pass)).is_some_and(|call| call.callees.iter().any(answered))
    }

    /// The response for an offer that we cannot carry.
    pub(crate) fn refusal(&mut self, refusal: Refusal) -> Reject {
        match refusal {
            Refusal::Exhausted(side) => {
                self.observe(Observed::PortsExhausted { side });
                no_ports(side)
            }
            Refusal::NotReady => Reject::new(503, "No mapped media port yet (STUN)").with("Retry-After: 5"),
            Refusal::Malformed { line, what } => Reject::new(488, "Not Acceptable Here")
                .with(&format!("Warning: 399 siplatch \"SDP line {line}: {what}\"")),
            Refusal::OwnPort => Reject::new(488, "Not Acceptable Here")
                .with("Warning: 399 siplatch \"SDP names a relay port that is not in use\""),
        }
    }
}

fn no_ports(side: Side) -> Reject {
    let reason = match side {
        Side::Inner => "No media port left on the inner side",
        Side::Outer => "No media port left on the outer side",
    };
    Reject::new(503, reason).with("Retry-After: 30").with(&format!("Reason: SIP ;cause=503 ;text=\"{reason}\""))
}

#[cfg(test)]
mod tests;
