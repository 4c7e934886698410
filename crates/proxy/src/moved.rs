//! Calls outlive a change of our public address (RFC 5626 §8, RFC 3261 §14.1).
//!
//! The far end of a call knows the former address: it sends media there, and
//! its BYE. So each socket of the call asks STUN where it is seen now, and a
//! re-INVITE in the phone's name tells the far end ([`media::offer`] says what
//! the phone said last). The phone hears nothing of it: the answer ends here,
//! a challenge is answered with its password, and whoever sends an offer of its
//! own meanwhile gets 491 and tries again (§14.2). Where the media is none of
//! ours an UPDATE without a body tells the Contact alone (RFC 3311 §5.1).
//!
//! Must not: disturb a transaction that is under way, or end a call because
//! the far end did not like to be told. Only 481 says that nobody is there
//! (§12.2.1.2).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use media::offer::{Key, Settles, Text};
use media::{End, StreamId};
use registry::{Call, CallKind, CallState, PassId};
use wire::sip::compose::Request;
use wire::sip::{Contact, Message, Method, Name, Status};
use wire::{Edit, Flow, ListenerId};

use crate::dialog::{callee, standing};
use crate::request::target::party;
use crate::rewrite::body::{end_of, sdp};
use crate::rewrite::{contact, via};
use crate::session_timer;
use crate::timer::Timer;
use crate::token::Token;
use crate::transaction::{Context, Ours, Purpose};
use crate::upstream::retry_after;
use crate::{Cause, Observed, Output, Proxy, Renewed};

/// After STUN has seen a change, the upstream's own view is waited for so long.
const SETTLE: Duration = Duration::from_millis(500);
/// Between the calls of one change.
const PACE: Duration = Duration::from_millis(15);
/// A transaction of the ends is waited for in steps of this.
const BUSY: Duration = Duration::from_millis(250);
/// A call that is not answered yet is looked at again after this.
const EARLY: Duration = Duration::from_secs(1);
/// Sockets ask again after this …
const ASK_AGAIN: Duration = Duration::from_millis(300);
/// … so often in all.
const MOST_ASKS: u8 = 6;
/// One end is told so often, if it does not answer or asks for patience.
const MOST_TRIES: u8 = 5;
/// Longer than any transaction of ours takes, Timer C and its CANCEL included.
const LONGEST_TRANSACTION: Duration = Duration::from_secs(300);
/// Nobody waits longer for a Retry-After.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The pass, the leg in whose name we speak, and the leg that is told.
pub(crate) type Telling = (PassId, u8, u8);

/// Calls whose far ends are to be told.
#[derive(Debug, Default)]
pub(crate) struct Moves {
    /// Those that were up when the address changed.
    calls: BTreeMap<PassId, Instant>,
    ends: BTreeMap<Telling, Move>,
}

#[derive(Debug)]
struct Move {
    stage: Stage,
    due: Instant,
    tries: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Sockets have asked so often where they are seen.
    Asking(u8),
    /// All is known that will be.
    Telling,
    /// The re-INVITE waits for its final response.
    Told,
}

/// A re-INVITE of ours that is under way.
#[derive(Debug, Clone)]
pub(crate) struct Moving {
    telling: Telling,
    /// It carries an offer.
    offers: bool,
    /// It answers a challenge.
    challenged: bool,
}

impl Proxy {
    /// What we write for a listener has changed: the calls whose far end is reached by it are told.
    pub(crate) fn calls_moved(&mut self, now: Instant, listener: ListenerId, before: Option<SocketAddr>, settle: bool) {
        let after = self.advertised_for(listener);
        if before.is_none() || after.is_none() || before == after {
            return;
        }
        if let Some(seen) = self.seen.get_mut(usize::from(listener.0)) {
            seen.former.rotate_right(1);
            seen.former[0] = before;
        }
        self.note_addresses();
        let concerned = |call: &&Call| {
            let far = |leg| self.tells(call, leg) == Some(listener);
            call.kind == CallKind::Invite
                && call.state != CallState::Ending
                && (far(0)
                    || call.onward.get().listener == listener
                    || (1..=u8::MAX).zip(&call.callees).any(|(leg, _)| far(leg)))
        };
        let calls: Vec<PassId> = self.registry.calls().filter(concerned).map(|call| call.id).collect();
        let mut due = if settle { now + SETTLE } else { now };
        for pass in calls {
            // What was under way may speak of the address before.
            self.ends_forget(pass);
            self.arm_moved(due, pass);
            due += PACE;
        }
    }

    /// An end of a call is not heard any more: where our address may change, perhaps it has.
    pub(crate) fn doubt(&mut self, stream: StreamId, end: End) {
        let Some(call) = self.offers.key_of(stream).and_then(|key| self.registry.call(PassId(key.pass))) else {
            return;
        };
        let leg = if end == End::A { 0 } else { standing(call).next().map_or(1, |(leg, _)| leg) };
        if let Some(listener) = self.tells(call, leg) {
            self.emit(Output::Doubt { listener });
        }
    }

    /// The listener toward a leg, if that leg is to be told when its address changes.
    fn tells(&self, call: &Call, leg: u8) -> Option<ListenerId> {
        let party = party(call, leg)?;
        (self.moves(party.flow.get()) && !self.on_phones_side(party.flow.get())).then_some(party.flow.get().listener)
    }

    fn arm_moved(&mut self, due: Instant, pass: PassId) {
        if let Some(before) = self.moves.calls.insert(pass, due) {
            self.timers.disarm(before, Timer::Moved(pass));
        }
        self.timers.arm(due, Timer::Moved(pass));
    }

    fn arm_move(&mut self, due: Instant, telling: Telling, stage: Stage, tries: u8) {
        let (pass, from, to) = telling;
        if let Some(before) = self.moves.ends.insert(telling, Move { stage, due, tries }) {
            self.timers.disarm(before.due, Timer::Move(pass, from, to));
        }
        self.timers.arm(due, Timer::Move(pass, from, to));
    }

    /// This end knows now, or never will.
    fn move_over(&mut self, telling: Telling) {
        let (pass, from, to) = telling;
        if let Some(before) = self.moves.ends.remove(&telling) {
            self.timers.disarm(before.due, Timer::Move(pass, from, to));
        }
    }

    fn ends_forget(&mut self, pass: PassId) {
        let ends = self.moves.ends.range((pass, 0, 0)..=(pass, u8::MAX, u8::MAX)).map(|(telling, _)| *telling);
        for telling in ends.collect::<Vec<_>>() {
            self.move_over(telling);
        }
    }

    /// A call is over.
    pub(crate) fn moves_forget(&mut self, pass: PassId) {
        if let Some(due) = self.moves.calls.remove(&pass) {
            self.timers.disarm(due, Timer::Moved(pass));
        }
        self.ends_forget(pass);
    }

    /// The sockets of a call are to ask; one that still rings is waited for.
    pub(crate) fn moved_due(&mut self, now: Instant, pass: PassId) {
        self.moves.calls.remove(&pass);
        let Some(call) = self.registry.call(pass) else { return };
        match call.state {
            CallState::Early => return self.arm_moved(now + EARLY, pass),
            CallState::Ending => return,
            CallState::Confirmed => {}
        }
        let dialogs = standing(call).flat_map(|(leg, _)| [(0, leg), (leg, 0)]);
        let told: Vec<(u8, u8)> = dialogs.filter(|(_, to)| self.tells(call, *to).is_some()).collect();
        for (from, to) in told {
            let Some(flow) = self.registry.call(pass).and_then(|call| party(call, to)).map(|party| party.flow.get())
            else {
                continue;
            };
            let former = self.seen.get(usize::from(flow.listener.0)).map(|seen| seen.former).unwrap_or_default();
            let former = former.map(|address| address.map(|address| address.ip()));
            let Some(address) = self.advertised_for(flow.listener) else { continue };
            self.offers.seek(self.media_key(pass, callee(from, to)), end_of(to), &former, address.ip());
            self.arm_move(now, (pass, from, to), Stage::Asking(0), 0);
            self.move_due(now, (pass, from, to));
        }
    }

    /// The next step toward one end.
    pub(crate) fn move_due(&mut self, now: Instant, telling: Telling) {
        let (pass, from, to) = telling;
        let Some(Move { stage, tries, .. }) = self.moves.ends.get(&telling) else { return };
        let (stage, tries) = (*stage, *tries);
        let key = self.media_key(pass, callee(from, to));
        match stage {
            Stage::Asking(asks) if asks < MOST_ASKS && self.offers.ask(key, end_of(to), usize::from(asks)) => {
                self.arm_move(now + ASK_AGAIN, telling, Stage::Asking(asks + 1), tries);
            }
            Stage::Asking(_) => {
                self.offers.guess(key, end_of(to));
                self.tell(now, telling, tries, None);
            }
            Stage::Telling => self.tell(now, telling, tries, None),
            Stage::Told => self.move_over(telling),
        }
    }

    /// All sockets of a session know where they are seen.
    pub(crate) fn found(&mut self, now: Instant, key: Key, end: End) {
        let pass = PassId(key.pass);
        let here = |(_, from, to): &Telling| end_of(*to) == end && self.media_key(pass, callee(*from, *to)) == key;
        let all = self.moves.ends.range((pass, 0, 0)..=(pass, u8::MAX, u8::MAX));
        let asking = all.filter(|(telling, moving)| matches!(moving.stage, Stage::Asking(_)) && here(telling));
        for (telling, tries) in asking.map(|(telling, moving)| (*telling, moving.tries)).collect::<Vec<_>>() {
            self.tell(now, telling, tries, None);
        }
    }

    /// True while a re-INVITE of ours in this dialog waits for its answer.
    pub(crate) fn is_telling(&self, pass: PassId, from: u8, to: u8) -> bool {
        let told = |telling| self.moves.ends.get(&telling).is_some_and(|moving| moving.stage == Stage::Told);
        told((pass, from, to)) || told((pass, to, from))
    }

    /// Something of this dialog is under way that a re-INVITE must not cross (§14.1).
    fn is_busy(&self, pass: PassId, from: u8, to: u8) -> bool {
        let leg = callee(from, to);
        let key = self.media_key(pass, leg);
        let open = |context: &Context| {
            context.invite
                && matches!(&context.purpose, Purpose::Within { pass: p, from, to } if *p == pass && callee(*from, *to) == leg)
                && (context.open() || context.branches.iter().any(|branch| branch.result.is_none()))
        };
        self.offers.pending(key, leg, End::A)
            || self.offers.pending(key, leg, End::B)
            || self.awaits_ack(pass, leg)
            || self.is_telling(pass, from, to)
            || self.contexts.iter().any(open)
    }

    /// Sends the re-INVITE; `login` answers a challenge.
    fn tell(&mut self, now: Instant, telling: Telling, tries: u8, login: Option<(Name, String)>) {
        let (pass, from, to) = telling;
        let leg = callee(from, to);
        if self.registry.call(pass).is_none_or(|call| !standing(call).any(|(standing, _)| standing == leg)) {
            return self.move_over(telling);
        }
        if self.is_busy(pass, from, to) {
            return self.arm_move(now + BUSY, telling, Stage::Telling, tries);
        }
        let Some(cseq) = self.next_cseq(pass, from, to) else { return self.move_over(telling) };
        let Some(call) = self.registry.call(pass).cloned() else { return };
        let (Some(speaker), Some(listener)) = (party(&call, from), party(&call, to)) else { return };
        let ends = self.ends_within(pass, from, to, speaker.flow.get(), listener.flow.get());
        let offer = self.offers.offer_again(self.media_key(pass, leg), leg, end_of(from), ends);
        let method = if offer.is_some() { Method::Invite } else { Method::Update };
        let moving = Moving { telling, offers: offer.is_some(), challenged: login.is_some() };
        let theirs = speaker.contact.clone();
        let say = |proxy: &mut Self, flow: Flow| {
            let token = proxy.key.seal(Token::Leg(pass, from));
            let ours = contact::uri(&theirs, proxy.reach(flow), Some(&token));
            let mut lines = format!("Contact: <{}>\r\n", String::from_utf8_lossy(&ours));
            lines.push_str(&proxy.timed.kept(pass, from));
            if let Some((name, value)) = login {
                lines.push_str(&format!("{}: {value}\r\n", name.as_str()));
            }
            (lines, offer)
        };
        let offers = moving.offers;
        let sent = self.inside(now, &call, (from, to), (method, cseq), say, Ours::Move(Box::new(moving)));
        if sent.is_some() {
            self.arm_move(now + LONGEST_TRANSACTION, telling, Stage::Told, tries);
        } else {
            if offers {
                self.offers.fail(self.media_key(pass, leg), leg, end_of(from));
            }
            self.tell_later(now, telling, tries, Duration::from_secs(1), Renewed::Unanswered);
        }
    }

    /// Tries once more after a pause, unless it was tried often enough.
    fn tell_later(&mut self, now: Instant, telling: Telling, tries: u8, pause: Duration, otherwise: Renewed) {
        if tries + 1 < MOST_TRIES {
            self.arm_move(now + pause, telling, Stage::Telling, tries + 1);
        } else {
            self.move_over(telling);
            self.observe(Observed::CallTold { call: telling.0, outcome: otherwise });
        }
    }

    /// The final answer of the far end.
    pub(crate) fn move_answered(
        &mut self,
        now: Instant,
        context: &mut Context,
        moving: &Moving,
        flow: Flow,
        message: Message<'_>,
        status: Status,
    ) {
        let telling @ (pass, from, to) = moving.telling;
        if status.is_success() && context.invite {
            self.acknowledge_own(context, message);
        }
        if context.branches[0].result.replace(status).is_some() {
            return;
        }
        // The address may have changed again since it was sent: what it offered is settled all the same.
        let tries = self.moves.ends.get(&telling).map(|moving| moving.tries).filter(|_| self.is_told(telling));
        let leg = callee(from, to);
        let key = self.media_key(pass, leg);
        if status.is_success() {
            let ends = self
                .registry
                .call(pass)
                .and_then(|call| Some((party(call, from)?.flow.get(), party(call, to)?.flow.get())));
            let ends = ends.map(|(here, there)| self.ends_within(pass, from, to, here, there));
            match (ends, sdp(message)) {
                (Some(ends), Some(body)) if moving.offers => {
                    let text = Text { whole: message.bytes, body };
                    let answered =
                        self.offers.answer(key, leg, end_of(to), ends, text, Settles::Call, &mut Edit::new());
                    if answered.is_err() {
                        self.offers.fail(key, leg, end_of(from));
                    }
                }
                _ if moving.offers => self.offers.fail(key, leg, end_of(from)),
                _ => {}
            }
            let timer = session_timer::agreed(context.request.message(), message, from);
            self.note_target(now, pass, to, flow, message, timer);
            self.note_streams(pass);
            if tries.is_some() {
                self.move_over(telling);
                self.observe(Observed::CallTold { call: pass, outcome: Renewed::Confirmed });
            }
            return;
        }
        if moving.offers {
            self.offers.fail(key, leg, end_of(from));
        }
        let Some(tries) = tries else { return };
        // Nothing is under way any more.
        self.arm_move(now, telling, Stage::Telling, tries);
        match status.0 {
            481 => {
                self.move_over(telling);
                self.end_dialog(now, pass, leg, Cause::Lost, "The other end has gone");
            }
            401 | 407 if !moving.challenged => match self.login_of(pass, from, context, message, status) {
                Some(login) => self.tell(now, telling, tries, Some(login)),
                None => self.told_no(telling),
            },
            491 => {
                let pause = self.glare(from);
                self.tell_later(now, telling, tries, pause, Renewed::Refused);
            }
            408 | 480 | 500 | 503 | 504 => {
                let pause = retry_after(message).unwrap_or(Duration::from_secs(2)).min(LONGEST_PAUSE);
                self.tell_later(now, telling, tries, pause, Renewed::Refused);
            }
            _ => self.told_no(telling),
        }
    }

    fn is_told(&self, telling: Telling) -> bool {
        self.moves.ends.get(&telling).is_some_and(|moving| moving.stage == Stage::Told)
    }

    fn told_no(&mut self, telling: Telling) {
        self.move_over(telling);
        self.observe(Observed::CallTold { call: telling.0, outcome: Renewed::Refused });
    }

    /// The far end did not answer.
    pub(crate) fn move_unanswered(&mut self, now: Instant, moving: &Moving) {
        let telling @ (pass, from, to) = moving.telling;
        if moving.offers {
            let leg = callee(from, to);
            self.offers.fail(self.media_key(pass, leg), leg, end_of(from));
        }
        let tries = self.moves.ends.get(&telling).map(|moving| moving.tries).filter(|_| self.is_told(telling));
        let Some(tries) = tries else { return };
        self.tell_later(now, telling, tries, Duration::from_secs(2), Renewed::Unanswered);
    }

    /// After 491: whoever made the Call-ID waits longer (§14.1).
    fn glare(&mut self, from: u8) -> Duration {
        let steps = self.random() % 191;
        let span = Duration::from_millis(10 * steps);
        if from == 0 { Duration::from_millis(2100) + span } else { span }
    }

    /// The password of the phone in whose name we speak, as an answer to this challenge.
    fn login_of(
        &mut self,
        pass: PassId,
        from: u8,
        context: &Context,
        message: Message<'_>,
        status: Status,
    ) -> Option<(Name, String)> {
        let id = party(self.registry.call(pass)?, from)?.binding?;
        let binding = self.registry.binding(id)?.clone();
        self.login(&binding, context, message, status)
    }

    /// The ACK to a 2xx of a re-INVITE of ours (§13.2.2.4); the same octets each time.
    fn acknowledge_own(&mut self, context: &Context, message: Message<'_>) {
        let request = context.request.message();
        let (Ok(from), Ok(to), Ok(cseq)) = (request.from(), message.to(), request.cseq()) else { return };
        let uri = match message.contacts().next() {
            Some(Ok(Contact::Addr(addr))) => addr.uri,
            Some(Ok(Contact::Star) | Err(_)) | None => request.request_uri(),
        };
        let route: Vec<Vec<u8>> = request.values(Name::Route).map(<[u8]>::to_vec).collect();
        let branch = context.branches[0].number.to_be_bytes();
        let flow = context.branches[0].flow;
        let digest = self.key.digest("ack own", &[&branch, request.call_id()]);
        let own = self.own(flow);
        // Credentials go along (§22.1).
        let shown =
            [Name::Authorization, Name::ProxyAuthorization].into_iter().flat_map(|name| request.fields_of(name));
        let extra: Vec<u8> = shown.flat_map(|field| request.slice(field.line)).copied().collect();
        let mut bytes = Vec::with_capacity(512);
        Request {
            method: Method::Ack,
            uri,
            via: &via::Ours::stateless(own, digest).pieces().concat(),
            route: &route,
            from: from.raw,
            to: to.raw,
            call_id: request.call_id(),
            cseq: cseq.number,
            extra: &extra,
            body: None,
        }
        .write(&mut bytes);
        let side = self.side(flow);
        self.observe(Observed::RequestOut { side, method: Method::Ack.into() });
        self.transmit(flow, bytes);
    }
}

#[cfg(test)]
mod tests;
