//! REGISTER through us (RFC 3261 §10, RFC 5853 §3.4): the Contact becomes
//! ours with a binding token on the way to the registrar; only its 2xx binds,
//! by the expiry it granted, and the phone gets its own Contact back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nat::{Side, Source, detect};
use registry::registry::Bound;
use registry::{Binding, BindingId, Confirmed, Renewal, Said};
use wire::sip::{Contact, Host, Message, Name, NameAddr, Status, Uri};
use wire::{Edit, Flow, Rule, sip};

use crate::absorb::{Sign, lines};
use crate::holdings::Holder;
use crate::outbound::{Path, reg_id};
use crate::request::Reject;
use crate::request::route::Routed;
use crate::rewrite::{Own, contact};
use crate::token::Token;
use crate::transaction::{Key, Purpose};
use crate::{Observed, Proxy, gruu};

/// A phone behind a NAT registers again after so many seconds at most.
pub(crate) const NATED_EXPIRY: u32 = 60;
/// So does one whose way to the upstream leads through a mapping of ours: when
/// that is lost, its next REGISTER makes it known by the new one (RFC 5626 §8).
const MAPPED_EXPIRY: u32 = 30;
/// Granted when neither side says anything (RFC 3261 §10.2.1.1).
const DEFAULT_EXPIRY: u32 = 3600;
/// Contacts of one REGISTER at most.
const MOST_CONTACTS: usize = 16;

/// What a REGISTER asked for; its 2xx makes it true.
#[derive(Debug, Clone)]
pub(crate) struct Registration {
    pub(crate) aor: Vec<u8>,
    pub(crate) natted: bool,
    user_agent: Vec<u8>,
    contacts: Vec<Asked>,
    star: bool,
    path: Option<Path>,
    pub(crate) sign: Sign,
    /// As the phone counts.
    pub(crate) cseq: u32,
    /// What is kept of it, once it is confirmed.
    pub(crate) renewal: Option<Renewal>,
}

impl Registration {
    /// By how much its CSeq is raised on the way to the registrar.
    pub(crate) fn shift(&self) -> u32 {
        self.renewal.as_ref().map_or(0, |renewal| renewal.shift)
    }

    /// The binding that it asks for, if it asks for one and nothing else.
    pub(crate) fn only(&self) -> Option<BindingId> {
        match &self.contacts[..] {
            [one] if one.expires > 0 && !self.star => Some(one.id),
            _ => None,
        }
    }
}

/// One Contact of it.
#[derive(Debug, Clone)]
struct Asked {
    id: BindingId,
    uri: Vec<u8>,
    instance: Option<Vec<u8>>,
    reg_id: Option<u32>,
    q: u16,
    expires: u32,
    gruus: Vec<Vec<u8>>,
}

/// Seconds that a Contact value or the message asks for.
fn expiry(message: Message<'_>, addr: &NameAddr<'_>) -> u32 {
    let own = addr
        .params
        .value("expires")
        .and_then(|v| std::str::from_utf8(v).ok())
        .and_then(|v| v.trim().parse::<u64>().ok())
        .map(|v| v.min(u64::from(u32::MAX)) as u32);
    own.or_else(|| message.number(Name::Expires).and_then(Result::ok)).unwrap_or(DEFAULT_EXPIRY)
}

/// The address of record: `user@domain` of To, the domain in lower case; the URI
/// itself where it is of a scheme that we do not know (RFC 4475 §3.3.4).
pub(crate) fn aor(message: Message<'_>) -> Option<Vec<u8>> {
    let to = message.to().ok()?;
    let uri = to.uri().ok()?;
    let Some(host) = uri.host else { return Some(to.uri.to_vec()) };
    let user = uri.user.unwrap_or_default();
    let mut aor = Vec::with_capacity(user.len() + 1 + host.0.len());
    aor.extend_from_slice(user);
    aor.push(b'@');
    aor.extend(host.0.iter().map(u8::to_ascii_lowercase));
    Some(aor)
}

/// What the phone calls itself, shortened for the status page.
pub(crate) fn user_agent(message: Message<'_>) -> Vec<u8> {
    message.value(Name::UserAgent).map(|agent| agent[..agent.len().min(64)].to_vec()).unwrap_or_default()
}

/// q as thousandths (§20.10).
pub(crate) fn preference(addr: &NameAddr<'_>) -> u16 {
    let q = addr.params.value("q").and_then(|v| std::str::from_utf8(v).ok()).and_then(|v| v.trim().parse::<f32>().ok());
    q.map_or(1000, |q| (q.clamp(0.0, 1.0) * 1000.0) as u16)
}

impl Proxy {
    /// True when what the phone says of itself is not where it is.
    pub(crate) fn natted(&self, flow: Flow, message: Message<'_>) -> bool {
        let via = message.top_via().ok().map(|v| (v.host.ip(), v.port));
        let contact = message.contacts().find_map(|c| match c {
            Ok(Contact::Addr(addr)) => addr.uri().ok().map(|u| (u.host.and_then(Host::ip), u.port)),
            Ok(Contact::Star) | Err(_) => None,
        });
        detect::behind_nat(Source(flow.remote), via.into_iter().chain(contact))
    }

    /// Which `[[phone]]` a registration is of: all selectors that are given must match.
    pub(crate) fn phone_of(&self, aor: &[u8], instance: Option<&[u8]>, flow: Flow) -> Option<usize> {
        let at = aor.iter().position(|b| *b == b'@').unwrap_or(aor.len());
        let (user, domain) = (&aor[..at], aor.get(at + 1..).unwrap_or_default());
        self.config.phones.iter().position(|phone| {
            let given =
                phone.user.is_some() || phone.domain.is_some() || phone.address.is_some() || phone.instance.is_some();
            given
                && phone.user.as_ref().is_none_or(|u| u.as_bytes() == user)
                && phone.domain.as_ref().is_none_or(|d| d.as_bytes().eq_ignore_ascii_case(domain))
                && phone.address.is_none_or(|p| p.contains(flow.remote.ip()))
                && phone.instance.as_ref().is_none_or(|i| {
                    instance.is_some_and(|own| trim_instance(own).eq_ignore_ascii_case(trim_instance(i.as_bytes())))
                })
        })
    }

    /// Names the binding of one Contact: the known one of the same phone, else
    /// a number that comes out the same after a restart.
    pub(crate) fn binding_id(
        &self,
        aor: &[u8],
        uri: &[u8],
        instance: Option<&[u8]>,
        reg_id: Option<u32>,
        call_id: &[u8],
        flow: Flow,
    ) -> BindingId {
        // RFC 5626 §6: whatever its Contact, it is one flow of one phone.
        if let (Some(instance), Some(reg_id)) = (instance, reg_id) {
            let same_flow = |b: &&Binding| b.instance.as_deref() == Some(instance) && b.reg_id == Some(reg_id);
            let known = self.registry.of_aor(aor).find(same_flow).map(|b| b.id);
            let name = || BindingId(self.key.digest("flow of", &[aor, instance, &reg_id.to_be_bytes()]));
            return known.unwrap_or_else(name);
        }
        let same_phone = |b: &&Binding| {
            let same_instance = match (&b.instance, instance) {
                (Some(a), Some(b)) => **a == *b,
                (None, None) => b.flow.get().remote.ip() == flow.remote.ip() || b.call_id() == call_id,
                (Some(_), None) | (None, Some(_)) => false,
            };
            b.contact() == uri && same_instance && b.reg_id.is_none()
        };
        if let Some(known) = self.registry.of_aor(aor).find(same_phone) {
            return known.id;
        }
        let place = flow.remote.ip().to_string();
        BindingId(self.key.digest("binding", &[aor, uri, instance.unwrap_or(place.as_bytes())]))
    }

    /// A REGISTER from a phone, on its way to the upstream.
    pub(crate) fn register(
        &mut self,
        now: Instant,
        flow: Flow,
        message: Message<'_>,
        key: Key,
        holder: Holder,
        routed: &Routed,
    ) -> Result<(), Reject> {
        if !self.on_phones_side(flow) {
            return Err(Reject::new(403, "REGISTER belongs on the phones' side"));
        }
        let to = message.to().and_then(|to| to.uri()).map_err(|_| Reject::new(400, "Bad To"))?;
        if self.names_us(flow, &to) {
            return Err(Reject::new(403, "Enter this address as outbound proxy, and your provider as the domain"));
        }
        let mut registration = self.registration(flow, message)?;
        let absorbed = self.absorb(now, flow, message, &key, &registration);
        self.note_refresh(absorbed);
        if absorbed {
            return Ok(());
        }
        let instance = registration.contacts.first().and_then(|c| c.instance.as_deref());
        let phone = self.phone_of(&registration.aor, instance, flow);
        let shift = self.shift_of(&registration.aor, message.call_id());
        registration.renewal = self.renewal(phone, message, shift);
        let uri = message.uri().map_err(|_| Reject::new(400, "Bad Request-URI"))?;
        let target = self.upstream_target(&uri, phone)?;
        // Ports of the phone's side are bound before its first call.
        let end = self.end(flow, phone);
        self.offers.want(&end);
        let purpose = Purpose::Register(Box::new(registration));
        self.start(now, flow, message, key, holder, purpose, vec![target], routed.clone())
    }

    /// What a REGISTER asks for.
    pub(crate) fn registration(&self, flow: Flow, message: Message<'_>) -> Result<Registration, Reject> {
        let aor = aor(message).ok_or(Reject::new(400, "Bad To"))?;
        let mut registration = Registration {
            natted: self.natted(flow, message),
            user_agent: user_agent(message),
            contacts: Vec::new(),
            star: false,
            path: None,
            sign: self.sign(message),
            cseq: message.cseq().map_or(0, |c| c.number),
            renewal: None,
            aor,
        };
        for contact in message.contacts() {
            match contact {
                Ok(Contact::Star) => registration.star = true,
                Ok(Contact::Addr(addr)) => {
                    let instance = addr.params.value("+sip.instance");
                    let reg_id = reg_id(message, &addr);
                    let call_id = message.call_id();
                    let id = self.binding_id(&registration.aor, addr.uri, instance, reg_id, call_id, flow);
                    let known = self.registry.binding(id);
                    registration.contacts.push(Asked {
                        id,
                        uri: addr.uri.to_vec(),
                        instance: instance.map(<[u8]>::to_vec),
                        reg_id,
                        q: preference(&addr),
                        expires: expiry(message, &addr),
                        gruus: known.map(|b| b.confirmed.gruus.clone()).unwrap_or_default(),
                    });
                }
                Err(_) => return Err(Reject::new(400, "Bad Contact")),
            }
        }
        if registration.contacts.len() > MOST_CONTACTS {
            return Err(Reject::new(400, "Too many Contacts"));
        }
        let outbound = registration.contacts.iter().any(|c| c.reg_id.is_some());
        let binding = registration.contacts.first().map(|c| Token::Binding(c.id));
        registration.path = self.path(flow, message, outbound, binding);
        Ok(registration)
    }

    /// The Contacts of a forwarded REGISTER.
    pub(crate) fn register_edit(&self, registration: &Registration, message: Message<'_>, own: Own, edit: &mut Edit) {
        self.path_edit(registration.path, message, own, edit);
        let mut asked = registration.contacts.iter();
        for contact in message.contacts() {
            if let Ok(Contact::Addr(addr)) = contact
                && let Some(asked) = asked.next()
            {
                let token = self.key.seal(Token::Binding(asked.id));
                contact::replace(message, edit, &addr, &contact::uri(addr.uri, own, Some(&token)));
            }
        }
    }

    /// The answer to a REGISTER: binds what was granted, and edits the response for the phone.
    #[expect(clippy::too_many_arguments, reason = "a step takes what it needs by name, not through a blackboard")]
    pub(crate) fn registered_edit(
        &mut self,
        now: Instant,
        registration: &mut Registration,
        flow: Flow,
        upstream: Flow,
        message: Message<'_>,
        status: Status,
        edit: &mut Edit,
    ) {
        if !status.is_success() {
            return;
        }
        // A stream shows its end; a mapping of UDP is lost in silence.
        let short = (registration.natted && !flow.transport.reliable()) || self.is_discovered(upstream.listener);
        if let Some(Ok(seconds)) = message.number(Name::FlowTimer) {
            self.flow_timer(now, upstream, seconds);
        }
        self.note_keep(now, upstream, message);
        self.announce_flow_timer(now, flow, message, edit);
        self.turn_ours(upstream, self.own(flow), message, edit);
        let told = if self.is_discovered(upstream.listener) { MAPPED_EXPIRY } else { NATED_EXPIRY };
        let mut granted: Vec<(BindingId, u32)> = Vec::new();
        let mut listed = false;
        let mut shortened = false;
        for contact in message.contacts() {
            let Ok(Contact::Addr(addr)) = contact else { continue };
            listed = true;
            let Some(id) = self.registered_as(registration, upstream, &addr) else { continue };
            let asked = registration.contacts.iter().find(|c| c.id == id);
            // Other phones of the same user are seen as reached through us: their
            // own Contact is an address of another network.
            let theirs = asked.map(|c| c.uri.clone()).or_else(|| {
                let token = self.key.seal(Token::Binding(id));
                Some(contact::uri(addr.uri, self.own(flow), Some(&token)))
            });
            if let Some(theirs) = theirs {
                contact::replace(message, edit, &addr, &theirs);
            }
            if asked.is_none() {
                continue;
            }
            if let Some(asked) = registration.contacts.iter_mut().find(|c| c.id == id) {
                gruu::learn(&mut asked.gruus, &addr);
            }
            let seconds = expiry(message, &addr);
            granted.push((id, seconds));
            if short && seconds > told {
                shortened = true;
                let text = format!(";expires={told}");
                match addr.params.find("expires") {
                    Some(param) => edit.replace(message.span(param.raw), Rule::Expires, &[text.as_bytes()]),
                    None => edit.insert(message.span(addr.raw).end, Rule::Expires, &[text.as_bytes()]),
                }
            }
        }
        if !listed && !registration.star {
            // Some registrars do not list bindings; then Expires says what was granted.
            let all = message.number(Name::Expires).and_then(Result::ok);
            let kept = registration.contacts.iter().filter(|c| c.expires > 0);
            granted.extend(kept.map(|c| (c.id, all.unwrap_or(c.expires))));
            shortened = short && all.is_some_and(|seconds| seconds > told);
        }
        if shortened && message.field(Name::Expires).is_some() {
            let text = told.to_string();
            sip::edit::set(message, edit, Rule::Expires, Name::Expires, &[text.as_bytes()]);
        }
        if registration.star {
            let gone: Vec<BindingId> = self.registry.of_aor(&registration.aor).map(|b| b.id).collect();
            for id in gone {
                self.release(id, false);
            }
        }
        // By the address that was written: it may be another one by now.
        let written = message.top_via().ok().and_then(|via| std::str::from_utf8(via.sent_by).ok()?.parse().ok());
        let own = written.map_or_else(|| self.own(upstream), |address| Own { address, transport: upstream.transport });
        let (asked, again) = (self.kept_sign(registration.sign, own), self.kept_again(registration.sign.again, own));
        let mut kept = Confirmed { asked, again, ..Confirmed::default() };
        kept.credentials = registration.sign.credentials;
        let mut said = Vec::new();
        if registration.only().is_some()
            && let Ok(answer) = wire::sip::Stored::parse(message.edited(edit), &self.config.limits)
        {
            said = lines(&answer);
        }
        let asked = std::mem::take(&mut registration.contacts);
        for contact in asked {
            match granted.iter().find(|(id, _)| *id == contact.id) {
                Some((_, seconds)) if *seconds > 0 => {
                    let until = now + Duration::from_secs(u64::from(*seconds));
                    let told = if short { told.min(*seconds) } else { *seconds };
                    let binding = Binding {
                        id: contact.id,
                        texts: Said {
                            aor: &registration.aor,
                            contact: &contact.uri,
                            call_id: message.call_id(),
                            user_agent: &registration.user_agent,
                            lines: &said,
                        }
                        .into(),
                        cseq: registration.cseq,
                        flow: flow.into(),
                        flow_id: self.flow_id(flow),
                        upstream: Some(Arc::new(upstream)),
                        natted: registration.natted,
                        phone: self.phone_of(&registration.aor, contact.instance.as_deref(), flow),
                        q: contact.q,
                        expires: self.patience(now, told, until),
                        until,
                        confirmed: Confirmed {
                            seconds: *seconds,
                            told,
                            gruus: contact.gruus,
                            renewal: self.kept_renewal(contact.id, registration, message.call_id()).map(Box::new),
                            ..kept.clone()
                        },
                        answered: false,
                        missed: 0,
                        reg_id: contact.reg_id,
                        instance: contact.instance.map(Into::into),
                    };
                    self.bind(now, binding);
                }
                Some(_) | None => self.release(contact.id, false),
            }
        }
    }

    /// The binding that a Contact in the registrar's answer stands for: by
    /// token, or, since some registrars drop URI parameters, by our address
    /// and the user part of one of the Contacts that were asked for.
    fn registered_as(&self, registration: &Registration, upstream: Flow, addr: &NameAddr<'_>) -> Option<BindingId> {
        let uri = addr.uri().ok()?;
        if let Some(token) = self.token_in(&uri) {
            return if let Token::Binding(id) = token { Some(id) } else { None };
        }
        let same_user = |c: &&Asked| Uri::parse(&c.uri).is_ok_and(|asked| asked.user == uri.user);
        let mut fitting = registration.contacts.iter().filter(same_user);
        let found = fitting.next().filter(|_| fitting.next().is_none() && self.names_us(upstream, &uri));
        found.map(|c| c.id)
    }

    /// What is kept of a confirmed REGISTER; ours may have gone out since it was sent.
    fn kept_renewal(&self, id: BindingId, registration: &Registration, call_id: &[u8]) -> Option<Renewal> {
        let before = self.registry.binding(id).filter(|b| b.call_id() == call_id);
        let before = before.and_then(|b| b.confirmed.renewal.as_ref()).map_or(0, |renewal| renewal.shift);
        let mut renewal = registration.renewal.clone();
        if before > registration.shift() {
            renewal.get_or_insert_default().shift = before;
        }
        renewal
    }

    /// Stores a confirmed binding and keeps its mapping alive.
    pub(crate) fn bind(&mut self, now: Instant, mut binding: Binding) {
        let mut replaced = None;
        if let Some(old) = self.registry.binding(binding.id) {
            binding.answered = old.answered && old.flow == binding.flow;
            replaced = binding.reg_id.is_some().then_some(old.flow.get());
        }
        self.no_repeats(binding.aor(), binding.id);
        let (id, flow, natted) = (binding.id, binding.flow.get(), binding.natted);
        let aor = String::from_utf8_lossy(binding.aor()).into_owned();
        match self.registry.bind(binding) {
            Bound::Refreshed => {}
            bound @ (Bound::New | Bound::Moved) => {
                self.observe(Observed::Registered { aor, flow, moved: bound == Bound::Moved });
                if bound == Bound::Moved {
                    if let Some(replaced) = replaced {
                        self.flow_replaced(now, replaced);
                    }
                    self.follow(now, id, flow);
                }
            }
        }
        self.keep_pinged(now, id, self.needs_pings(flow, natted));
        self.keep_connection(now, flow);
    }

    /// A router with a SIP ALG hides the NAT, but not its timeout: whoever
    /// comes from outside is pinged, whatever it claims.
    pub(crate) fn needs_pings(&self, flow: Flow, natted: bool) -> bool {
        let outside = self.side(flow) == Side::Outer && self.on_phones_side(flow);
        (natted || outside) && !flow.transport.reliable()
    }

    /// Removes a binding, if it is there.
    pub(crate) fn release(&mut self, id: BindingId, expired: bool) {
        self.stop_pings(id);
        if let Some(binding) = self.registry.unbind(id) {
            self.no_repeats(binding.aor(), id);
            let aor = String::from_utf8_lossy(binding.aor()).into_owned();
            self.observe(Observed::Unregistered { aor, expired });
        }
    }
}

/// An instance id without its quotes and angle brackets.
fn trim_instance(text: &[u8]) -> &[u8] {
    let mut text = text;
    while let [b'"' | b'<', rest @ ..] = text {
        text = rest;
    }
    while let [rest @ .., b'"' | b'>'] = text {
        text = rest;
    }
    text
}

#[cfg(test)]
mod tests;
