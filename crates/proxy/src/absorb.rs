//! Refreshes that end here (RFC 5853 §3.4): a phone behind a NAT registers
//! each minute, its registrar hears of it as often as its own expiry demands.
//!
//! Answered in the registrar's place is only what changes nothing: the flow,
//! Contact, dialog and options that it confirmed for this address of record,
//! while more than half of what it granted is left. Everything else goes on:
//! another flow, other credentials, a query, a removal. Must not: judge
//! credentials, or keep a phone that neither registers nor answers pings. The
//! upstream's binding of such a phone is left to run out.

use std::time::{Duration, Instant};

use registry::{Binding, BindingId, Said};
use wire::sip::{Message, Name, Status, Stored};
use wire::{Flow, Span};

use crate::config::Role;
use crate::holdings::Holder;
use crate::register::Registration;
use crate::request::Reject;
use crate::rewrite::Own;
use crate::transaction::Key;
use crate::{Observed, Proxy};

/// A phone may be late by the time that its retransmissions take (64·T1).
const MARGIN: Duration = Duration::from_secs(32);
/// Octets that are kept of a 200, to be said again; of a longer one nothing is.
const LONGEST: usize = 2048;

/// What must be the same for a REGISTER to be a mere refresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Sign {
    asked: u64,
    /// Of all of it but its branch and number: of a copy nothing has to be looked at twice.
    pub(crate) again: Option<u64>,
    pub(crate) credentials: Option<u64>,
}

impl Proxy {
    /// The sign of a REGISTER.
    pub(crate) fn sign(&self, message: Message<'_>) -> Sign {
        let mut pieces: Vec<&[u8]> = Vec::with_capacity(16);
        pieces.extend([message.request_uri(), message.call_id()]);
        pieces.extend(message.from().ok().map(|from| from.uri));
        pieces.extend(message.to().ok().map(|to| to.uri));
        for name in [Name::Contact, Name::Expires, Name::Supported, Name::Require, Name::Path, Name::Route] {
            // Each list ends with a piece that no value is.
            pieces.extend(message.fields_of(name).map(|field| message.slice(field.value)));
            pieces.push(b"\n");
        }
        let mut who: Vec<&[u8]> = Vec::new();
        for name in [Name::Authorization, Name::ProxyAuthorization] {
            for field in message.fields_of(name) {
                let value = message.slice(field.value);
                who.extend(credential(value, "username").into_iter().chain(credential(value, "realm")));
            }
        }
        let credentials = (!who.is_empty()).then(|| self.key.digest("credentials", &who));
        Sign { asked: self.key.digest("refresh", &pieces), again: self.sign_again(message), credentials }
    }

    /// See [`Sign::again`].
    pub(crate) fn sign_again(&self, message: Message<'_>) -> Option<u64> {
        let branch = message.span(message.top_via().ok()?.branch()?);
        let number = message.span(message.cseq().ok()?.digits);
        let (first, last) = if branch.start < number.start { (branch, number) } else { (number, branch) };
        let between = |start, end| message.slice(Span { start, end });
        let pieces = [between(0, first.start), between(first.end, last.start), between(last.end, message.end())];
        Some(self.long.of(&pieces))
    }

    /// It as it is kept: it counts only while upstream reaches us where it
    /// did, and while the same configuration is in force.
    pub(crate) fn kept_again(&self, again: Option<u64>, own: Own) -> u64 {
        let Some(again) = again else { return 0 };
        self.hashes.of(&[&again.to_be_bytes(), &self.configured.to_be_bytes(), &own.octets()]).max(1)
    }

    /// The sign as it is kept: it counts only while upstream reaches us where it did.
    pub(crate) fn kept_sign(&self, sign: Sign, own: Own) -> u64 {
        self.key.digest("confirmed", &[&sign.asked.to_be_bytes(), own.text().get()])
    }

    /// When a binding runs out whose phone was told `told` seconds.
    pub(crate) fn patience(&self, now: Instant, told: u32, until: Instant) -> Instant {
        until.min(now + Duration::from_secs(u64::from(told)) + MARGIN)
    }

    /// Answers a refresh that changes nothing. False: it goes on.
    pub(crate) fn absorb(
        &mut self,
        now: Instant,
        flow: Flow,
        message: Message<'_>,
        key: &Key,
        registration: &Registration,
    ) -> bool {
        let Some(id) = registration.only() else { return false };
        let sign = registration.sign;
        let Some(binding) = self.registry.binding(id) else { return false };
        let confirmed = &binding.confirmed;
        let same = binding.upstream.as_deref().is_some_and(|up| self.kept_sign(sign, self.own(*up)) == confirmed.asked)
            && (sign.credentials.is_none() || sign.credentials == confirmed.credentials);
        if !same || !self.refreshes(now, flow, message, binding) {
            return false;
        }
        let holder = self.holder(flow);
        self.say_again(now, flow, message, key.clone(), id, holder);
        true
    }

    /// Answers a REGISTER that is the confirmed one but for its branch and
    /// number: whatever had to be checked of it was. False: it goes on.
    pub(crate) fn absorb_copy(
        &mut self,
        now: Instant,
        flow: Flow,
        message: Message<'_>,
        key: &Key,
    ) -> Result<bool, Reject> {
        if self.config.role == Role::Standalone {
            return self.register_copy(now, flow, message, key);
        }
        // What is hashed last is a whole message.
        let kept = |upstream: &Flow| Some(self.kept_again(Some(self.sign_again(message)?), self.own(*upstream)));
        let copied = |binding: &&Binding| {
            self.refreshes(now, flow, message, binding)
                && binding.upstream.as_deref().and_then(kept) == Some(binding.confirmed.again)
        };
        let Some(id) = self.registry.on_flow(flow).find(copied).map(|binding| binding.id) else { return Ok(false) };
        let holder = self.make_room(flow, message)?;
        self.note_refresh(true);
        self.say_again(now, flow, message, key.clone(), id, holder);
        Ok(true)
    }

    /// True where a REGISTER of this phone may be answered here: nothing has
    /// changed around it, and what was granted lasts for long enough.
    fn refreshes(&self, now: Instant, flow: Flow, message: Message<'_>, binding: &Binding) -> bool {
        let confirmed = &binding.confirmed;
        let left = binding.until.saturating_duration_since(now);
        let enough = left > Duration::from_secs(u64::from(confirmed.seconds / 2))
            && left > Duration::from_secs(u64::from(confirmed.told)) + MARGIN;
        enough
            && binding.flow == flow
            // A registration moves with the upstream.
            && binding.upstream.as_deref().is_some_and(|upstream| !self.is_down(now, *upstream))
            && binding.call_id() == message.call_id()
            && message.cseq().is_ok_and(|c| c.number > binding.cseq)
            && confirmed.told < confirmed.seconds
            && !binding.said().lines.is_empty()
    }

    /// The registrar's 200 again.
    fn say_again(&mut self, now: Instant, flow: Flow, message: Message<'_>, key: Key, id: BindingId, holder: Holder) {
        let Some(binding) = self.registry.binding(id) else { return };
        let answer = Reject { status: Status(200), reason: "OK", extra: binding.said().lines.to_vec() };
        let (expires, until) = (self.patience(now, binding.confirmed.told, binding.until), binding.until);
        self.registry.refresh(id, message.cseq().map_or(0, |c| c.number), expires, until);
        self.answer(now, flow, message, key, &answer, holder);
    }

    /// A phone has not registered again in the time that it was told. One
    /// that answers is there all the same, as long as the upstream knows it.
    pub(crate) fn binding_due(&mut self, now: Instant, id: BindingId) {
        let Some(binding) = self.registry.binding(id) else { return };
        let answers = binding.answered && binding.missed == 0;
        let connected = binding.flow.get().transport.reliable() && self.connections.is_open(binding.flow.get());
        if (answers || connected) && binding.until > now {
            let expires = self.patience(now, binding.confirmed.told, binding.until);
            self.registry.prolong(id, expires);
        } else {
            self.release(id, true);
        }
    }

    /// The phones of an address of record have changed: what the registrar
    /// said to the others is not the whole truth any more.
    pub(crate) fn no_repeats(&mut self, aor: &[u8], changed: BindingId) {
        let known = self.registry.binding(changed).is_some();
        let stale = |b: &&Binding| b.id != changed && !b.said().lines.is_empty();
        let others: Vec<Binding> = self.registry.of_aor(aor).filter(stale).cloned().collect();
        for mut binding in others.into_iter().filter(|_| !known) {
            binding.texts = Said { lines: b"", ..binding.said() }.into();
            self.registry.bind(binding);
        }
    }

    /// Counts a REGISTER that may have been absorbed.
    pub(crate) fn note_refresh(&mut self, absorbed: bool) {
        self.observe(Observed::Refresh { absorbed });
    }
}

/// The lines of a 200 that are said again when a refresh ends here. Not
/// Date, nor anything about authentication: they are true once.
pub(crate) fn lines(answer: &Stored) -> Vec<u8> {
    let message = answer.message();
    let mut lines = Vec::new();
    for field in message.fields() {
        let named = matches!(
            field.name,
            Name::Contact
                | Name::Expires
                | Name::Path
                | Name::ServiceRoute
                | Name::Require
                | Name::Supported
                | Name::FlowTimer
        );
        let again = named || message.slice(field.written).eq_ignore_ascii_case(b"P-Associated-URI");
        if again {
            lines.extend_from_slice(message.slice(field.line));
        }
    }
    if lines.len() > LONGEST || !message.body().is_empty() { Vec::new() } else { lines }
}

/// A parameter of credentials (RFC 3261 §25.1: comma-separated behind the scheme).
fn credential<'a>(value: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let start = value.iter().position(|b| *b == b' ')?;
    wire::sip::field::comma_list(&value[start..]).find_map(|item| {
        let equals = item.iter().position(|b| *b == b'=')?;
        item[..equals].trim_ascii().eq_ignore_ascii_case(name.as_bytes()).then(|| item[equals + 1..].trim_ascii())
    })
}

#[cfg(test)]
mod tests;
