//! Dialogs (RFC 3261 §12): functions over [`registry::Call`], which holds all
//! that must survive.

use std::sync::Arc;
use std::time::{Duration, Instant};

use media::offer::Key as MediaKey;
use registry::{Call, CallKind, CallState, Party, PassId};
use wire::Flow;
use wire::sip::{Contact, Message, Method, Name, SessionId};

use crate::ours::header;
use crate::request::target::party;
use crate::request::{Reject, Target};
use crate::rewrite::record_route;
use crate::session_timer::Timer;
use crate::{Cause, Observed, Proxy, probe};

/// A call that was challenged keeps its ports this long for the next try.
pub(crate) const RETRY: Duration = Duration::from_secs(10);
/// Nothing is kept for longer on a peer's word alone.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);
/// A subscription lives this much longer than granted (RFC 6665 §4.1.2).
const GRACE: Duration = Duration::from_secs(32);
/// Callees of one call at most; forks beyond are not tracked.
const MOST_CALLEES: usize = 200;

impl Proxy {
    /// A dialog-forming request: a new pass, or the one that was challenged
    /// before with the same Call-ID and From tag, whose ports it keeps.
    pub(crate) fn create(
        &mut self,
        now: Instant,
        flow: Flow,
        message: Message<'_>,
        targets: &[Target],
    ) -> Result<PassId, Reject> {
        let bad = |_| Reject::new(400, "Bad From");
        let from = message.from().map_err(bad)?;
        let tag = message.tag_in_from().unwrap_or_default();
        let kind = if message.method() == Method::Invite { CallKind::Invite } else { CallKind::Subscription };
        let binding = self.registry.on_flow(flow).next().map(|b| (b.id, b.phone));
        let caller = Party {
            tag: tag.into(),
            identity: from.raw.into(),
            contact: contact_of(message).unwrap_or_default().into(),
            route: message.values(Name::RecordRoute).map(<[u8]>::to_vec).collect(),
            flow: flow.into(),
            binding: binding.map(|(id, _)| id),
            cseq: message.cseq().map_or(0, |c| c.number),
            state: CallState::Early,
            branch: 0,
            raised: [0; 2],
            session: session_of(message).unwrap_or_default().into(),
        };
        let retried = self
            .registry
            .by_call_id(message.call_id())
            .find(|c| {
                c.state == CallState::Early && c.expires.is_some() && *c.caller.tag == *tag && c.caller.flow == flow
            })
            .map(|c| c.id);
        let expires = (kind == CallKind::Subscription).then(|| now + Duration::from_secs(300));
        if let Some(pass) = retried {
            self.registry.update_call(pass, |call| {
                call.caller = caller;
                call.callees.clear();
                call.expires = expires;
            });
            return Ok(pass);
        }
        let calling = self.phone_on(flow);
        let phone = calling.or_else(|| targets.first().and_then(|t| t.phone));
        if kind == CallKind::Invite
            && let Some(phone) = phone
            && let Some(most) = self.config.phones.get(phone).and_then(|p| p.max_calls)
            && self.registry.calls().filter(|c| c.kind == CallKind::Invite && c.phone == Some(phone)).count() >= most
        {
            return Err(if calling.is_some() {
                Reject::new(503, "The phone's calls are all in use").with("Retry-After: 10")
            } else {
                Reject::new(486, "The phone's calls are all in use")
            });
        }
        let id = self.new_pass();
        if kind == CallKind::Invite {
            self.observe(Observed::CallStarted {
                call: id,
                from: shown(from.uri),
                to: message.to().map(|t| shown(t.uri)).unwrap_or_default(),
                session: message.value(Name::SessionId).map(shown),
            });
        }
        self.registry.put_call(Call {
            id,
            kind,
            state: CallState::Early,
            call_id: message.call_id().into(),
            caller,
            callees: Vec::new(),
            onward: flow.into(),
            streams: Arc::default(),
            since: now,
            answered: None,
            expires,
            phone,
        });
        Ok(id)
    }

    /// A request within a dialog: what it says about its sender.
    pub(crate) fn note_request(&mut self, now: Instant, flow: Flow, pass: PassId, from: u8, message: Message<'_>) {
        if message.method() == Method::Bye {
            self.note_reason(pass, message);
        }
        let number = message.cseq().map_or(0, |c| c.number);
        let contact = contact_of(message);
        let binding = self.registry.on_flow(flow).next().map(|b| b.id);
        let terminated = message.method() == Method::Notify
            && message
                .value(Name::SubscriptionState)
                .is_some_and(|v| v.get(..10).is_some_and(|v| v.eq_ignore_ascii_case(b"terminated")));
        let lasts = message
            .value(Name::SubscriptionState)
            .and_then(|v| v.iter().position(|b| *b == b';').map(|i| wire::sip::Params(&v[i..])))
            .and_then(|p| p.value("expires"))
            .and_then(seconds);
        // Where the sender is bound now, its requests may still come from elsewhere.
        let sender = self.registry.call(pass).and_then(|call| party(call, from)).and_then(|p| p.binding);
        let at = sender.and_then(|id| self.registry.binding(id)).map(|b| b.flow.get());
        let identity = message.from().map(|f| (message.tag_in_from().unwrap_or_default(), f.raw)).unwrap_or_default();
        self.registry.update_call(pass, |call| {
            let unknown = from != 0 && usize::from(from) > call.callees.len();
            if unknown && call.callees.len() < MOST_CALLEES {
                // Nearly always the only one.
                call.callees.reserve_exact(1);
                call.callees.push(Party {
                    tag: identity.0.into(),
                    identity: identity.1.into(),
                    contact: contact.unwrap_or_default().into(),
                    route: message.values(Name::RecordRoute).map(<[u8]>::to_vec).collect(),
                    flow: flow.into(),
                    binding,
                    cseq: number,
                    state: CallState::Early,
                    branch: 0,
                    raised: [0; 2],
                    session: Box::default(),
                });
            }
            if let Some(party) = party_mut(call, from) {
                note_session(party, message);
                party.cseq = party.cseq.max(number);
                if at.is_none_or(|at| at == flow) {
                    party.flow = flow.into();
                }
                // The remote target is refreshed by these methods (RFC 3261 §12.2.1.2, RFC 3311, RFC 6665).
                if let Some(contact) = contact
                    && matches!(
                        message.method(),
                        Method::Invite | Method::Update | Method::Subscribe | Method::Notify | Method::Refer
                    )
                {
                    note_contact(party, contact);
                }
            }
            if call.kind == CallKind::Subscription {
                if terminated {
                    call.expires = Some(now + GRACE);
                } else if let Some(lasts) = lasts {
                    call.expires = Some(now + lasts + GRACE);
                }
            }
            if message.method() == Method::Bye && call.state == CallState::Confirmed && standing(call).count() <= 1 {
                call.state = CallState::Ending;
            }
        });
    }

    /// A response to a dialog-forming request: the callee's leg, made when its
    /// To tag is new (a fork). `None` without a tag.
    pub(crate) fn note_callee(
        &mut self,
        pass: PassId,
        branch: u16,
        target: &Target,
        flow: Flow,
        request: Message<'_>,
        message: Message<'_>,
    ) -> Option<u8> {
        let to = message.to().ok()?;
        let tag = message.tag_in_to()?;
        let contact = contact_of(message);
        // Nearest to us is the last of them.
        let mut route: Vec<Vec<u8>> =
            record_route::behind(request, message, &self.key, pass).map(<[u8]>::to_vec).collect();
        route.reverse();
        self.registry.update_call(pass, |call| {
            let position = call.callees.iter().position(|p| *p.tag == *tag && p.branch == branch);
            let position = match position {
                Some(position) => position,
                None if call.callees.len() >= MOST_CALLEES => return None,
                None => {
                    // Nearly always the only one.
                    call.callees.reserve_exact(1);
                    call.callees.push(Party {
                        tag: tag.into(),
                        identity: to.raw.into(),
                        contact: Box::default(),
                        route: Vec::new(),
                        flow: flow.into(),
                        binding: target.binding,
                        cseq: 0,
                        state: CallState::Early,
                        branch,
                        raised: [0; 2],
                        session: Box::default(),
                    });
                    call.callees.len() - 1
                }
            };
            let callee = &mut call.callees[position];
            note_session(callee, message);
            if let Some(contact) = contact {
                note_contact(callee, contact);
                callee.route = route;
            }
            Some(position as u8 + 1)
        })?
    }

    /// A response within a dialog: a 2xx to INVITE or UPDATE refreshes the
    /// remote target of its sender (§12.2.1.2) and the session timer (RFC 4028 §7).
    pub(crate) fn note_target(
        &mut self,
        now: Instant,
        pass: PassId,
        leg: u8,
        flow: Flow,
        message: Message<'_>,
        timer: Option<Timer>,
    ) {
        let refreshes = matches!(message.method(), Method::Invite | Method::Update);
        if !refreshes || !message.status().is_some_and(|s| s.is_success()) {
            return;
        }
        let contact = contact_of(message);
        self.registry.update_call(pass, |call| {
            if call.answered.is_some() {
                call.expires = Some(now + lasts(timer));
            }
            let Some(party) = party_mut(call, leg) else { return };
            note_session(party, message);
            if let Some(contact) = contact {
                note_contact(party, contact);
                if party.binding.is_none() {
                    party.flow = flow.into();
                }
            }
        });
        self.timed.note(pass, timer.filter(|_| self.registry.call(pass).is_some()));
    }

    /// A subscription was granted for so long.
    pub(crate) fn subscribed(&mut self, now: Instant, pass: PassId, message: Message<'_>) {
        if self.registry.call(pass).is_none_or(|call| call.kind != CallKind::Subscription) {
            return;
        }
        let lasts = message.value(Name::Expires).and_then(seconds).unwrap_or(Duration::from_secs(300));
        self.registry.update_call(pass, |call| call.expires = Some(now + lasts + GRACE));
    }

    /// The call was answered, by the callee on that branch whose 2xx this is.
    pub(crate) fn answered(
        &mut self,
        now: Instant,
        pass: PassId,
        branch: u16,
        message: Message<'_>,
        timer: Option<Timer>,
    ) {
        let tag = message.tag_in_to().unwrap_or_default();
        let first = self.registry.update_call(pass, |call| {
            let mut legs = (1..=u8::MAX).zip(&mut call.callees);
            let callee = legs.find(|(_, p)| *p.tag == *tag && p.branch == branch);
            let mut new = None;
            if let Some((leg, callee)) = callee.filter(|(_, p)| p.state == CallState::Early) {
                new = (call.kind == CallKind::Invite).then_some(leg);
                callee.state = CallState::Confirmed;
                call.state = CallState::Confirmed;
            } else if call.state == CallState::Early {
                call.state = CallState::Confirmed;
            }
            let first = call.answered.is_none() && call.kind == CallKind::Invite;
            if call.kind == CallKind::Invite {
                call.answered.get_or_insert(now);
                call.expires = Some(now + lasts(timer));
            }
            (first, new)
        });
        self.timed.note(pass, timer.filter(|_| first.is_some()));
        if let Some((_, Some(leg))) = first {
            self.expect_ack(now, pass, leg);
        }
        if let Some((true, _)) = first {
            let session = message.value(Name::SessionId).map(shown);
            self.observe(Observed::CallAnswered { call: pass, session });
        }
    }

    /// The record shows which streams the call holds.
    pub(crate) fn note_streams(&mut self, pass: PassId) {
        let streams = self.offers.streams(pass.0);
        if self.registry.call(pass).is_some_and(|call| !call.streams.iter().copied().eq(streams.clone())) {
            let streams = streams.collect();
            self.registry.update_call(pass, |call| call.streams = streams);
        }
    }

    /// A BYE that was seen does not end the call: it was challenged, or another fork stands.
    pub(crate) fn stay(&mut self, pass: PassId) {
        self.registry.update_call(pass, |call| {
            if call.state == CallState::Ending {
                call.state = CallState::Confirmed;
            }
        });
    }

    /// A BYE ended the dialog between two legs: with the last dialog the call
    /// ends; a fork that was answered, too, ends alone (§13.2.2.4).
    pub(crate) fn leave(&mut self, pass: PassId, from: u8, to: u8) {
        let leg = callee(from, to);
        let key = self.media_key(pass, leg);
        let left = self.registry.update_call(pass, |call| {
            if let Some(party) = party_mut(call, leg) {
                party.state = CallState::Ending;
            }
            let shared = standing(call).find(|(_, p)| p.branch == key.branch).map(|(leg, _)| leg);
            (call.state, standing(call).next().is_some(), shared)
        });
        match left {
            // Of an early dialog the answer to the INVITE decides.
            None | Some((CallState::Early, ..)) => {}
            Some((_, true, shared)) => {
                self.stay(pass);
                match shared {
                    Some(other) => self.offers.hand_over(key, leg, other),
                    None => self.offers.close(key),
                }
                self.note_streams(pass);
            }
            Some((_, false, _)) => self.finish(pass, if from == 0 { Cause::CallerBye } else { Cause::CalleeBye }),
        }
    }

    /// Forgets a call and releases its media.
    pub(crate) fn finish(&mut self, pass: PassId, cause: Cause) {
        self.offers.close_pass(pass.0);
        self.timed.forget(pass);
        self.probes.forget(pass);
        self.moves_forget(pass);
        self.expect_no_ack(pass);
        // Of one that came and went at once, too, the record is known before its end.
        self.publish();
        if let Some(call) = self.registry.remove_call(pass)
            && call.kind == CallKind::Invite
        {
            self.observe(Observed::CallEnded { call: pass, cause, answered: call.answered.is_some() });
        }
    }

    /// Ends a call ourselves: BYE with a Reason to both sides (RFC 3326), or
    /// CANCEL and a final response while it is not answered.
    pub(crate) fn end_call(&mut self, now: Instant, pass: PassId, cause: Cause, reason: &'static str) {
        let Some(call) = self.registry.call(pass).cloned() else { return };
        self.observe(Observed::CallEnding { call: pass, status: None, reason: Some(reason.to_owned()), own: true });
        let header = header(reason);
        if call.state == CallState::Early {
            self.abort(now, pass, reason);
        } else {
            for (leg, _) in standing(&call) {
                self.bye(now, &call, leg, 0, &header);
                self.bye(now, &call, 0, leg, &header);
            }
        }
        self.finish(pass, cause);
    }

    /// The time of a call is up. Without a session timer the silence of media
    /// decides, where media flows; where none does, both ends are asked.
    pub(crate) fn call_due(&mut self, now: Instant, pass: PassId) {
        let answered = self.registry.call(pass).is_some_and(|c| c.answered.is_some());
        if answered && !self.timed.has(pass) {
            self.registry.update_call(pass, |call| call.expires = Some(now + probe::EVERY));
            if !self.offers.watched(pass.0) {
                self.probe(now, pass);
            }
        } else if answered {
            self.end_call(now, pass, Cause::Lost, "Session timer expired");
        } else {
            self.finish(pass, Cause::Failed);
        }
    }

    /// Ends what one media session served: the call, unless another fork that
    /// was answered, too, still stands.
    pub(crate) fn end_branch(&mut self, now: Instant, key: MediaKey, cause: Cause, reason: &'static str) {
        let pass = PassId(key.pass);
        let Some(call) = self.registry.call(pass).cloned() else { return };
        if standing(&call).all(|(_, p)| p.branch == key.branch) {
            return self.end_call(now, pass, cause, reason);
        }
        let header = header(reason);
        for (leg, _) in standing(&call).filter(|(_, p)| p.branch == key.branch) {
            self.bye(now, &call, leg, 0, &header);
            self.bye(now, &call, 0, leg, &header);
            self.leave(pass, 0, leg);
        }
        self.offers.close(key);
        self.note_streams(pass);
    }

    /// Ends the dialog with one callee: the call, unless another fork that was answered, too, still stands.
    pub(crate) fn end_dialog(&mut self, now: Instant, pass: PassId, leg: u8, cause: Cause, reason: &'static str) {
        let Some(call) = self.registry.call(pass).cloned() else { return };
        if !standing(&call).any(|(standing, _)| standing == leg) {
            return;
        }
        if standing(&call).count() == 1 {
            return self.end_call(now, pass, cause, reason);
        }
        let header = header(reason);
        self.bye(now, &call, leg, 0, &header);
        self.bye(now, &call, 0, leg, &header);
        self.leave(pass, 0, leg);
    }

    /// The key of the media session between the caller and a callee.
    pub(crate) fn media_key(&self, pass: PassId, leg: u8) -> MediaKey {
        let branch = self.registry.call(pass).and_then(|c| party(c, leg)).map_or(0, |p| p.branch);
        MediaKey { pass: pass.0, branch }
    }
}

/// Who the sender of a message says that it is (RFC 7989).
pub(crate) fn session_of(message: Message<'_>) -> Option<Vec<u8>> {
    let session = message.value(Name::SessionId).and_then(SessionId::parse)?;
    session.local.map(<[u8]>::to_vec)
}

/// It may be another one at any time (RFC 7989 §8); of a message without any nothing follows.
fn note_session(party: &mut Party, message: Message<'_>) {
    if let Some(session) = session_of(message) {
        party.session = session.into();
    }
}

/// Of two legs of a dialog the callee's: the caller is always 0.
pub(crate) fn callee(from: u8, to: u8) -> u8 {
    from.max(to)
}

/// Callees whose dialog stands, with their legs.
pub(crate) fn standing(call: &Call) -> impl Iterator<Item = (u8, &Party)> {
    (1..=u8::MAX).zip(&call.callees).filter(|(_, p)| p.state == CallState::Confirmed)
}

pub(crate) fn party_mut(call: &mut Call, leg: u8) -> Option<&mut Party> {
    match leg {
        0 => Some(&mut call.caller),
        n => call.callees.get_mut(usize::from(n) - 1),
    }
}

/// Its remote target; nearly always the same again.
fn note_contact(party: &mut Party, contact: &[u8]) {
    if *party.contact != *contact {
        party.contact = contact.into();
    }
}

/// The URI of the first Contact; empty if it cannot be read.
fn contact_of<'a>(message: Message<'a>) -> Option<&'a [u8]> {
    if let Some((addr, _)) = message.contact() {
        return Some(addr.uri);
    }
    match message.contacts().next() {
        Some(Ok(Contact::Addr(addr))) => Some(if addr.uri().is_ok() { addr.uri } else { b"" }),
        Some(Ok(Contact::Star) | Err(_)) | None => None,
    }
}

/// How long an answered call may stay silent by its session timer (RFC 4028); without one its ends are asked.
fn lasts(timer: Option<Timer>) -> Duration {
    timer.map_or(probe::EVERY, |timer| timer.interval.min(LONGEST) + GRACE)
}

/// What logs show of a text from outside.
pub(crate) fn shown(value: &[u8]) -> String {
    String::from_utf8_lossy(&value[..value.len().min(256)]).into_owned()
}

/// A number of seconds, as far as we believe it.
fn seconds(text: &[u8]) -> Option<Duration> {
    let seconds: u64 = std::str::from_utf8(text).ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST))
}

#[cfg(test)]
mod tests;
