//! A mapped address that has changed is a flow that has failed (RFC 5626 §8):
//! the upstream calls phones where nobody is any more. Those whose password we
//! hold are registered again in their place, one after the other; the others
//! come back by themselves, within the half minute that they are told.
//!
//! Our REGISTER is the phone's last one: the same address of record, Call-ID
//! and options, our present Contact, and a CSeq above all before it. The
//! phone's own numbers are raised from then on, for a registrar takes no lower
//! one (RFC 3261 §10.3). A challenge is answered for one realm, the configured
//! one or that which accepted the phone. Must not: keep a phone that does not
//! speak, or show credentials to anybody but the upstream that was asked.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use registry::{Binding, BindingId, Renewal};
use wire::sip::{self, Message, Name, Status, Stored};
use wire::{Edit, Flow, Rule};

use crate::credentials::{self, Login};
use crate::locate::Located;
use crate::register::Registration;
use crate::request::breadth;
use crate::timer::Timer;
use crate::transaction::{Context, Ours, Purpose};
use crate::{Observed, Proxy, Renewed};

/// After STUN has seen a change, the upstream's own view is waited for so long.
const SETTLE: Duration = Duration::from_millis(500);
/// Between two REGISTERs of ours: a hundred phones within two seconds.
const PACE: Duration = Duration::from_millis(15);
/// Copies of one REGISTER with ever newer credentials.
const MOST_TRIES: u8 = 3;
/// Octets that are kept of a phone's REGISTER; of a longer one nothing is.
const LONGEST: usize = 4096;

/// Phones that are to be registered again.
#[derive(Debug, Default)]
pub(crate) struct Renewals {
    waiting: BTreeSet<BindingId>,
    due: Option<Instant>,
}

/// A REGISTER of ours that is under way.
#[derive(Debug, Clone)]
pub(crate) struct Renewing {
    id: BindingId,
    registration: Registration,
    tries: u8,
}

impl Proxy {
    /// What of a phone's REGISTER is kept: all but its credentials, of a phone whose password is known.
    pub(crate) fn renewal(&self, phone: Option<usize>, message: Message<'_>, shift: u32) -> Option<Renewal> {
        let shifted = (shift > 0).then(|| Renewal { shift, ..Renewal::default() });
        if self.password(phone).is_none() {
            return shifted;
        }
        let mut edit = Edit::new();
        for name in [Name::Authorization, Name::ProxyAuthorization] {
            sip::edit::remove(message, &mut edit, Rule::Credentials, name);
        }
        let request = message.edited(&edit);
        if request.len() > LONGEST {
            return shifted;
        }
        let (realm, username) = credentials::whose(message).unwrap_or_default();
        Some(Renewal { request, realm: realm.into_bytes(), username: username.into_bytes(), shift })
    }

    /// By how much a phone's CSeq numbers are raised under this Call-ID.
    pub(crate) fn shift_of(&self, aor: &[u8], call_id: &[u8]) -> u32 {
        let same = self.registry.of_aor(aor).filter(|b| b.call_id() == call_id);
        same.filter_map(|b| b.confirmed.renewal.as_ref()).map(|renewal| renewal.shift).max().unwrap_or_default()
    }

    /// The CSeq of a phone's REGISTER on its way to the registrar, above any of ours.
    pub(crate) fn raise_cseq(&self, registration: &Registration, message: Message<'_>, edit: &mut Edit) {
        write_cseq(message, edit, registration.cseq.saturating_add(registration.shift()), registration.shift());
    }

    /// The same in a response, as the phone counts.
    pub(crate) fn lower_cseq(&self, purpose: &Purpose, message: Message<'_>, edit: &mut Edit) {
        if let Purpose::Register(registration) = purpose {
            write_cseq(message, edit, registration.cseq, registration.shift());
        }
    }

    /// The address that we write somewhere has changed, by what STUN (`settle`) or the upstream says.
    pub(crate) fn address_changed(&mut self, now: Instant, settle: bool) {
        let stale: Vec<BindingId> = self.registry.bindings().filter(|b| self.is_stale(b)).map(|b| b.id).collect();
        if stale.is_empty() && self.renewals.waiting.is_empty() {
            return;
        }
        self.renewals.waiting.extend(stale);
        let due = if settle { now + SETTLE } else { now };
        if self.renewals.due.is_none_or(|before| due < before) {
            self.arm_renewals(due);
        }
    }

    /// The next phone is registered again.
    pub(crate) fn renewal_due(&mut self, now: Instant) {
        self.renewals.due = None;
        while let Some(id) = self.renewals.waiting.pop_first() {
            if self.registry.binding(id).is_some_and(|binding| self.is_stale(binding)) {
                self.renew(now, id, None, 1);
                break;
            }
        }
        if !self.renewals.waiting.is_empty() {
            self.arm_renewals(now + PACE);
        }
    }

    fn arm_renewals(&mut self, due: Instant) {
        if let Some(before) = self.renewals.due.replace(due) {
            self.timers.disarm(before, Timer::Renewal);
        }
        self.timers.arm(due, Timer::Renewal);
    }

    fn password(&self, phone: Option<usize>) -> Option<&str> {
        let phone = self.config.phones.get(phone?)?;
        phone.password.as_ref().map(|password| password.0.as_str())
    }

    /// True when the upstream knows a phone by an address that is not ours any more, and we can mend it.
    fn is_stale(&self, binding: &Binding) -> bool {
        let Some((upstream, renewal)) = binding.upstream.as_deref().copied().zip(binding.confirmed.renewal.as_ref())
        else {
            return false;
        };
        if binding.gone() || self.password(binding.phone).is_none() || self.advertised(upstream).is_none() {
            return false;
        }
        let request = Stored::parse(renewal.request.clone(), &self.config.limits);
        request.is_ok_and(|request| {
            let sign = self.sign(request.message());
            self.kept_sign(sign, self.own(upstream)) != binding.confirmed.asked
        })
    }

    /// Sends a REGISTER in a phone's place. `None`: it cannot be, now.
    fn renew(&mut self, now: Instant, id: BindingId, login: Option<(Name, String)>, tries: u8) -> Option<()> {
        let mut binding = self.registry.binding(id)?.clone();
        let renewal = binding.confirmed.renewal.as_mut()?;
        renewal.shift = renewal.shift.saturating_add(1);
        let cseq = binding.cseq.saturating_add(renewal.shift).min((1 << 31) - 1);
        let request = Stored::parse(renewal.request.clone(), &self.config.limits).ok()?;
        let message = request.message();
        let uri = message.uri().ok()?;
        let target = self.upstream_target(&uri, binding.phone).ok()?;
        let Located::At(flow) = self.locate(now, &target.hop) else { return None };
        self.advertised(flow)?;
        let registration = self.registration(binding.flow.get(), message).ok().filter(|r| r.only() == Some(id))?;
        let own = self.own(flow);
        let mut edit = Edit::new();
        sip::edit::remove(message, &mut edit, Rule::Via, Name::Via);
        let routed = self.route_of(binding.flow.get(), message)?;
        sip::edit::pop(message, &mut edit, Rule::Route, Name::Route, routed.pops);
        sip::edit::set(message, &mut edit, Rule::MaxForwards, Name::MaxForwards, &[b"70"]);
        breadth::write(message, &mut edit, 0, 1);
        self.identities(binding.flow.get(), flow, message, &mut edit);
        self.register_edit(&registration, message, own, &mut edit);
        sip::edit::set(message, &mut edit, Rule::CSeq, Name::CSeq, &[cseq.to_string().as_bytes(), b" REGISTER"]);
        if let Some((name, value)) = &login {
            sip::edit::append(message, &mut edit, Rule::Credentials, *name, &[value.as_bytes()]);
        }
        sip::edit::content_length(message, &mut edit);
        self.registry.bind(binding);
        let purpose = Ours::Renew(Box::new(Renewing { id, registration, tries }));
        let keep: &[u8] = if self.is_discovered(flow.listener) { b";keep" } else { b"" };
        self.originate(now, flow, target, purpose, |via| {
            sip::edit::push_top(message, &mut edit, Rule::Via, Name::Via, &[via, keep]);
            message.edited(&edit)
        });
        Some(())
    }

    /// The answer to a REGISTER of ours.
    pub(crate) fn renewed(
        &mut self,
        now: Instant,
        context: &Context,
        renewing: &Renewing,
        flow: Flow,
        message: Message<'_>,
        status: Status,
    ) {
        let Some(before) = self.registry.binding(renewing.id).cloned() else { return };
        if before.call_id() != message.call_id() {
            // The phone has begun anew meanwhile.
            return;
        }
        if matches!(status.0, 401 | 407)
            && renewing.tries < MOST_TRIES
            && let Some(login) = self.login(&before, context, message, status)
            && self.renew(now, renewing.id, Some(login), renewing.tries + 1).is_some()
        {
            return;
        }
        if status.is_success() {
            let mut registration = renewing.registration.clone();
            registration.cseq = before.cseq;
            registration.renewal = before.confirmed.renewal.as_deref().cloned();
            self.registered_edit(now, &mut registration, before.flow.get(), flow, message, status, &mut Edit::new());
            if let Some(mut binding) = self.registry.binding(renewing.id).cloned() {
                // The phone itself was not heard.
                binding.expires = before.expires.min(binding.until);
                binding.missed = before.missed;
                self.registry.bind(binding);
            }
        }
        let outcome = if status.is_success() { Renewed::Confirmed } else { Renewed::Refused };
        self.observe(Observed::Renewed { outcome });
        // The address may have changed again since it was sent.
        self.address_changed(now, true);
    }

    /// Our answer to a challenge, if it is of the one realm that the password is for.
    pub(crate) fn login(
        &mut self,
        binding: &Binding,
        context: &Context,
        message: Message<'_>,
        status: Status,
    ) -> Option<(Name, String)> {
        let renewal = binding.confirmed.renewal.as_ref()?;
        let cnonce = format!("{:016x}", self.random());
        let phone = self.config.phones.get(binding.phone?)?;
        let accepted = String::from_utf8_lossy(&renewal.realm);
        let realm = phone.realm.as_deref().unwrap_or(&accepted);
        let of_aor = binding.aor().split(|b| *b == b'@').next().unwrap_or_default();
        let username = if renewal.username.is_empty() { of_aor } else { &renewal.username };
        let login =
            Login { username: std::str::from_utf8(username).ok()?, password: &phone.password.as_ref()?.0, realm };
        let (asked, answer) = match status.0 {
            401 => (Name::WwwAuthenticate, Name::Authorization),
            _ => (Name::ProxyAuthenticate, Name::ProxyAuthorization),
        };
        let sent = context.request.message();
        let uri = std::str::from_utf8(sent.request_uri()).ok()?;
        let challenges = message.fields_of(asked).map(|field| message.slice(field.value));
        let value = credentials::answer(challenges, &login, sent.method().as_bytes(), uri, &cnonce)?;
        Some((answer, value))
    }
}

fn write_cseq(message: Message<'_>, edit: &mut Edit, number: u32, shift: u32) {
    if shift > 0
        && let Ok(cseq) = message.cseq()
    {
        let number = number.min((1 << 31) - 1).to_string();
        edit.replace(message.span(cseq.digits), Rule::CSeq, &[number.as_bytes()]);
    }
}

#[cfg(test)]
mod tests;
