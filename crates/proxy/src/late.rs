//! Late answers to an INVITE whose server was given up for the next one
//! (RFC 3263 §4.3): what rings there must stop, because the call has moved on.
//! Each provisional response is answered by a CANCEL (§9.1), each failure by
//! its ACK (§17.1.1.3). A 2xx makes a dialog that nobody wants: it gets its ACK
//! each time (§13.2.2.4), and one BYE. The same is done for a 2xx that comes
//! when its call is over, and for one that cannot be passed on.

use std::time::Instant;

use registry::{Call, CallKind, CallState, Party, PassId};
use wire::sip::compose::Request;
use wire::sip::{Contact, Message, Method, Status, Stored, compose};
use wire::{Flow, sdp};

use crate::locate::Located;
use crate::rewrite::{body, record_route, via};
use crate::transaction::{Context, Purpose};
use crate::{DropReason, MethodLabel, Observed, Proxy};

/// Answers of one given-up server that are told apart; it may have forked.
const MOST_ENDED: usize = 8;

/// What the sender of a late answer is told.
pub(crate) const ELSEWHERE: &str = "Call completed elsewhere";

/// A copy of the request that is no longer waited for.
#[derive(Debug)]
pub(crate) struct Abandoned {
    /// The number in its Via branch.
    pub(crate) number: u64,
    pub(crate) flow: Flow,
    pub(crate) sent: Vec<u8>,
}

impl Proxy {
    /// A response that belongs to no branch of its context.
    pub(crate) fn late_response(
        &mut self,
        now: Instant,
        context: &mut Context,
        number: u64,
        flow: Flow,
        message: Message<'_>,
    ) {
        let side = self.side(flow);
        self.observe(Observed::Dropped { side, reason: DropReason::StrayResponse });
        let mut all = context.branches.iter().flat_map(|branch| &branch.abandoned);
        let Some(abandoned) = all.find(|abandoned| abandoned.number == number) else { return };
        let status = message.status().unwrap_or(Status(500));
        if message.method() != Method::Invite {
            return;
        }
        let flow = abandoned.flow;
        if status.is_success() {
            return self.end_unwanted(now, context, flow, message, ELSEWHERE);
        }
        let Ok(invite) = Stored::parse(abandoned.sent.clone(), &self.config.limits) else { return };
        let side = self.side(flow);
        let bytes = if status.is_provisional() {
            self.observe(Observed::RequestOut { side, method: MethodLabel::Cancel });
            compose::cancel(invite.message(), b"")
        } else {
            compose::ack(invite.message(), message)
        };
        self.transmit(flow, bytes);
    }

    /// A 2xx to an INVITE that nobody waits for: its sender gets the ACK, and a BYE.
    /// `reason` is what its sender is told.
    pub(crate) fn end_unwanted(
        &mut self,
        now: Instant,
        context: &mut Context,
        flow: Flow,
        message: Message<'_>,
        reason: &str,
    ) {
        // In a dialog that stands, it is that dialog's business.
        let Purpose::Create(pass) = context.purpose else { return };
        let Some(call) = self.unwanted(now, pass, context, flow, message) else { return };
        // Its offer must be answered to be declined (§13.2.2.4).
        let offer = body::sdp(message).filter(|_| !context.offered);
        if self.acknowledge_2xx(now, &call, offer).is_none() {
            return;
        }
        let tag = call.callees[0].tag.to_vec();
        if !context.ended.contains(&tag) && context.ended.len() < MOST_ENDED {
            context.ended.push(tag);
            self.bye(now, &call, 0, 1, &crate::ours::header(reason));
        }
    }

    /// The dialog that such a 2xx makes, as far as it takes to end it.
    fn unwanted(
        &self,
        now: Instant,
        pass: PassId,
        context: &Context,
        flow: Flow,
        message: Message<'_>,
    ) -> Option<Call> {
        let request = context.request.message();
        let (from, to) = (request.from().ok()?, message.to().ok()?);
        let cseq = request.cseq().ok()?.number;
        let route = |values: Vec<&[u8]>| values.into_iter().map(<[u8]>::to_vec).collect();
        let party = |tag: &[u8], identity: &[u8], flow: Flow| Party {
            tag: tag.into(),
            identity: identity.into(),
            contact: Box::default(),
            route: Vec::new(),
            flow: flow.into(),
            binding: None,
            cseq,
            state: CallState::Early,
            branch: 0,
            raised: [0; 2],
            session: Box::default(),
        };
        let caller = Party {
            session: crate::dialog::session_of(request).unwrap_or_default().into(),
            ..party(from.tag().unwrap_or_default(), from.raw, context.flow)
        };
        let contact = match message.contacts().next() {
            Some(Ok(Contact::Addr(addr))) => addr.uri.to_vec(),
            Some(Ok(Contact::Star) | Err(_)) | None => return None,
        };
        let mut behind: Vec<&[u8]> = record_route::behind(request, message, &self.key, pass).collect();
        behind.reverse();
        let callee = Party {
            contact: contact.into(),
            route: route(behind),
            session: crate::dialog::session_of(message).unwrap_or_default().into(),
            ..party(to.tag()?, to.raw, flow)
        };
        Some(Call {
            id: pass,
            kind: CallKind::Invite,
            state: CallState::Early,
            call_id: request.call_id().to_vec().into(),
            caller,
            callees: vec![callee],
            onward: flow.into(),
            streams: Vec::new().into(),
            since: now,
            answered: None,
            expires: None,
            phone: None,
        })
    }

    /// The ACK that we send for the caller (§13.2.2.4); the same octets each time.
    fn acknowledge_2xx(&mut self, now: Instant, call: &Call, offer: Option<&[u8]>) -> Option<()> {
        let (caller, callee) = (&call.caller, call.callees.first()?);
        let target = self.toward(call, 1, callee.route.first().map(Vec::as_slice))?;
        let pieces: [&[u8]; 4] = [&call.call_id, &caller.tag, &callee.tag, &call.id.0.to_be_bytes()];
        let digest = self.key.digest("ack unwanted", &pieces);
        let Located::At(flow) = self.locate_by(now, &target.hop, digest) else { return None };
        let address = self.own(flow).address.ip();
        let offer = offer.and_then(|offer| sdp::Body::parse(offer).ok());
        let answer = offer.map(|offer| sdp::decline(&offer, address, call.id.0 as u32));
        let mut bytes = Vec::with_capacity(512);
        Request {
            method: Method::Ack,
            uri: target.uri.as_deref().unwrap_or_default(),
            via: &via::Ours::stateless(self.own(flow), digest).pieces().concat(),
            route: &callee.route,
            from: &caller.identity,
            to: &callee.identity,
            call_id: &call.call_id,
            cseq: caller.cseq,
            extra: &crate::ours::session_line(caller, callee),
            body: answer.as_deref().map(|answer| ("application/sdp", answer)),
        }
        .write(&mut bytes);
        let side = self.side(flow);
        self.observe(Observed::RequestOut { side, method: MethodLabel::Ack });
        self.transmit(flow, bytes);
        Some(())
    }
}

#[cfg(test)]
mod tests;
