//! Step 6: RFC 3261 §16.5, the target set. What a request is for decides what
//! context it gets and where its branches go.

use std::time::Instant;

use registry::{Binding, BindingId, Call, Party, PassId};
use wire::Flow;
use wire::sip::{Message, Method, NameAddr, Uri};

use super::route::Routed;
use super::{Reject, breadth};
use crate::config::Role;
use crate::holdings::Holder;
use crate::locate::{Goal, Hop};
use crate::rewrite::body::sdp;
use crate::rewrite::contact;
use crate::token::Token;
use crate::transaction::{Key, Purpose};
use crate::{Observed, Proxy};

/// One place that a request goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// The Request-URI to write; `None` keeps the one that came.
    pub(crate) uri: Option<Vec<u8>>,
    /// The way.
    pub(crate) hop: Hop,
    /// The phone's binding, if it is one.
    pub(crate) binding: Option<BindingId>,
    /// The `[[phone]]`.
    pub(crate) phone: Option<usize>,
    /// Other flows of the same phone, to be taken one after the other; the next is the last.
    pub(crate) flows: Vec<BindingId>,
}

impl Target {
    /// A phone, asked for by `uri`.
    pub(crate) fn binding(binding: &Binding, uri: &Uri<'_>) -> Self {
        Self {
            uri: contact::of_phone(binding.contact(), uri),
            hop: Hop::Flow(binding.flow.get()),
            binding: Some(binding.id),
            phone: binding.phone,
            flows: Vec::new(),
        }
    }
}

impl Proxy {
    /// Decides and forwards.
    pub(super) fn dispatch(
        &mut self,
        now: Instant,
        flow: Flow,
        message: Message<'_>,
        key: Key,
        holder: Holder,
        routed: Routed,
    ) -> Result<(), Reject> {
        let method = message.method();
        let tagged = message.tag_in_to().is_some();
        if method == Method::Register {
            return match self.config.role {
                Role::Standalone => self.registrar(now, flow, message, key),
                Role::Office | Role::Border => {
                    breadth::check(message, 1)?;
                    self.register(now, flow, message, key, holder, &routed)
                }
            };
        }
        if let Some((pass, from, to)) = self.within(flow, message, &routed) {
            let target = match self.target_within(message, pass, to, &routed) {
                Ok(target) => target,
                Err(reject) => {
                    // Its sender has left, whether or not anybody can be told (§15.1.1).
                    if method == Method::Bye {
                        self.leave(pass, from, to);
                    }
                    return Err(reject);
                }
            };
            let offers = matches!(method, Method::Invite | Method::Update) && sdp(message).is_some();
            if (offers || method == Method::Invite) && self.is_telling(pass, from, to) {
                return Err(Reject::new(491, "Request Pending"));
            }
            self.note_request(now, flow, pass, from, message);
            let purpose = Purpose::Within { pass, from, to };
            return self.start(now, flow, message, key, holder, purpose, vec![target], routed);
        }
        if tagged && (routed.pass.is_some() || matches!(routed.uri, Some(Token::Leg(..)))) {
            return Err(GONE);
        }
        if method == Method::Options && self.is_to_us(flow, message) {
            self.options(now, flow, message);
            return Ok(());
        }
        if matches!(method, Method::Invite | Method::Bye | Method::Update | Method::Prack | Method::Info) && tagged {
            return Err(GONE);
        }
        if routed.forged && !tagged {
            return Err(Reject::new(403, "Forged flow token"));
        }
        let targets = self.targets(flow, message, &routed)?;
        if targets.len() > 1 && self.looped(message, &routed) {
            return Err(Reject::new(482, "Loop Detected"));
        }
        breadth::check(message, targets.len())?;
        let purpose = match method {
            Method::Invite | Method::Subscribe | Method::Refer if !tagged => {
                Purpose::Create(self.create(now, flow, message, &targets)?)
            }
            Method::Invite
            | Method::Subscribe
            | Method::Refer
            | Method::Ack
            | Method::Bye
            | Method::Cancel
            | Method::Options
            | Method::Register
            | Method::Info
            | Method::Update
            | Method::Prack
            | Method::Notify
            | Method::Message
            | Method::Publish
            | Method::Other(_) => Purpose::Pass,
        };
        self.start(now, flow, message, key, holder, purpose, targets, routed)
    }

    /// Where a request within a dialog goes.
    fn target_within(&self, message: Message<'_>, pass: PassId, to: u8, routed: &Routed) -> Result<Target, Reject> {
        breadth::check(message, 1)?;
        let call = self.registry.call(pass).ok_or(GONE)?;
        self.pinned(party(call, to).ok_or(GONE)?)?;
        self.toward(call, to, routed.next.as_deref()).ok_or(GONE)
    }

    /// The target set of a request outside any dialog of ours.
    fn targets(&mut self, flow: Flow, message: Message<'_>, routed: &Routed) -> Result<Vec<Target>, Reject> {
        let uri = message.uri().map_err(|_| Reject::new(400, "Bad Request-URI"))?;
        if let Some(path) = routed.path {
            return self.along_path(path, &uri, routed).map(|t| vec![t]);
        }
        match routed.uri {
            Some(Token::Binding(id)) => return self.bound(id, &uri).map(|t| vec![t]),
            // A transfer's Refer-To names a dialog's Contact from outside (RFC 3891).
            Some(Token::Leg(pass, leg)) => {
                let call = self.registry.call(pass).ok_or(UNKNOWN)?;
                return self.toward(call, leg, None).map(|t| vec![t]).ok_or(UNKNOWN);
            }
            Some(Token::Route(..) | Token::Flow(_)) | None => {}
        }
        if self.config.role == Role::Standalone {
            return self.registered(&uri);
        }
        if self.on_phones_side(flow) {
            if self.names_us(flow, &uri) {
                return Err(Reject::new(404, "This address is an outbound proxy, the domain is your provider's"));
            }
            return Ok(vec![self.upstream_target(&uri, self.phone_on(flow))?]);
        }
        if let Some(binding) = self.of_gruu(&uri) {
            return Ok(vec![Target::binding(binding, &uri)]);
        }
        let forged = uri.params.find(crate::token::PARAM).is_some();
        if forged || !self.names_us(flow, &uri) {
            return Err(UNKNOWN);
        }
        // Some registrars and providers drop URI parameters: then the user
        // part must name exactly one phone that this upstream confirmed.
        let fits = |b: &&Binding| {
            b.upstream.as_ref().is_some_and(|u| u.listener == flow.listener)
                && Uri::parse(b.contact()).is_ok_and(|c| c.user == uri.user)
        };
        let mut fitting = self.registry.bindings().filter(fits).map(|b| b.id);
        let found = fitting.next().filter(|_| fitting.next().is_none());
        drop(fitting);
        if found.is_none() {
            let trunk = self.trunk_targets(flow, message, &uri);
            if !trunk.is_empty() {
                return Ok(trunk);
            }
        }
        self.observe(Observed::ContactWithoutToken { found: found.is_some() });
        found.ok_or(UNKNOWN).and_then(|id| self.bound(id, &uri)).map(|t| vec![t])
    }

    /// A phone by its binding, over its present flow.
    pub(crate) fn bound(&self, id: BindingId, uri: &Uri<'_>) -> Result<Target, Reject> {
        let binding = self.registry.binding(id).ok_or(Reject::new(480, "The phone is not registered now"))?;
        if binding.gone() {
            return Err(Reject::new(480, "The phone stopped answering"));
        }
        if !self.connections.is_open(binding.flow.get()) {
            return Err(Reject::new(480, "The phone's connection has ended"));
        }
        Ok(Target::binding(binding, uri))
    }

    /// All bindings of a user of the embedded registrar, best q first.
    fn registered(&self, uri: &Uri<'_>) -> Result<Vec<Target>, Reject> {
        let user = uri.user.ok_or(UNKNOWN)?;
        let mut bindings: Vec<&Binding> = self.registry.of_aor(user).collect();
        if bindings.is_empty() {
            let known = self.config.users.iter().any(|u| u.name.as_bytes() == user);
            return Err(if known { Reject::new(480, "Not registered now") } else { Reject::new(404, "Not Found") });
        }
        bindings.retain(|b| !b.gone() && self.connections.is_open(b.flow.get()));
        bindings.sort_by_key(|b| std::cmp::Reverse((b.q, b.expires)));
        bindings.truncate(16);
        if bindings.is_empty() {
            return Err(Reject::new(480, "The phone stopped answering"));
        }
        Ok(one_flow_each(&bindings, uri))
    }

    /// The upstream for a request, and those that stand in for it.
    pub(crate) fn upstream_target(&self, uri: &Uri<'_>, phone: Option<usize>) -> Result<Target, Reject> {
        Ok(Target { uri: None, hop: self.upstream_hop(uri, phone)?, binding: None, phone, flows: Vec::new() })
    }

    /// The way to one leg of a call: a phone over its present flow, everybody
    /// else by route set and remote target (§12.2.1.1).
    pub(crate) fn toward(&self, call: &Call, leg: u8, next: Option<&[u8]>) -> Option<Target> {
        let party = party(call, leg)?;
        let uri = if party.contact.is_empty() { None } else { Some(party.contact.to_vec()) };
        let binding = party.binding.and_then(|id| self.registry.binding(id));
        let phone = binding.and_then(|b| b.phone);
        let hop = match binding {
            Some(binding) => Hop::Flow(self.pinned(party).ok()?.unwrap_or(binding.flow.get())),
            None if self.on_phones_side(party.flow.get()) => Hop::Flow(party.flow.get()),
            None => self.next_hop(party, next).unwrap_or(Hop::Flow(party.flow.get())),
        };
        Some(Target { uri, hop, binding: party.binding, phone, flows: Vec::new() })
    }

    /// Host of the first Route entry behind ours, if it is one of the dialog's
    /// own (a phone must not send us elsewhere), else of the remote target.
    fn next_hop(&self, party: &Party, next: Option<&[u8]>) -> Option<Hop> {
        let entry = |value| NameAddr::parse(value).ok().map(|entry: NameAddr<'_>| entry.uri);
        let same = |known: &&[u8], written: &[u8]| match (Uri::parse(known), Uri::parse(written)) {
            (Ok(known), Ok(written)) => known.equals(&written),
            (Ok(_) | Err(_), Err(_)) | (Err(_), Ok(_)) => false,
        };
        let written = next.and_then(entry);
        let mut known = party.route.iter().filter_map(|value| entry(value));
        let raw = match written {
            Some(written) => known.clone().find(|known| same(known, written)).or_else(|| known.next()),
            None => None,
        };
        let raw = raw.unwrap_or(&party.contact);
        let goal = Goal::of(&Uri::parse(raw).ok()?)?;
        let mut aim = self.aim(goal, party.flow.get().listener);
        // A transport that we do not speak: the dialog came about all the same.
        aim.goal.transport = aim.goal.transport.filter(|transport| self.transports(&aim).contains(transport));
        Some(Hop::Host(aim))
    }

    /// OPTIONS to ourselves (§11.2).
    fn options(&mut self, now: Instant, flow: Flow, message: Message<'_>) {
        let allow = "Accept: application/sdp\r\n\
                     Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, REGISTER, INFO, UPDATE, PRACK, REFER, SUBSCRIBE, NOTIFY, MESSAGE, PUBLISH\r\n";
        let answer = Reject { extra: allow.into(), ..Reject::new(200, "OK") };
        let proven = self.is_proven(flow);
        self.answer_stateless(now, flow, message, &answer, proven);
    }

    /// Which dialog and legs a request within a dialog belongs to.
    pub(crate) fn within(&self, flow: Flow, message: Message<'_>, routed: &Routed) -> Option<(PassId, u8, u8)> {
        message.tag_in_to()?;
        let named = match routed.uri {
            Some(Token::Leg(pass, _)) => Some(pass),
            Some(Token::Binding(_) | Token::Route(..) | Token::Flow(_)) | None => routed.pass,
        };
        let Some(pass) = named else { return self.dialog_of(flow, message) };
        // A token alone is not membership: a transfer shows it to third parties.
        let call = self.registry.call(pass).filter(|call| *call.call_id == *message.call_id())?;
        legs(call, message).map(|(from, to)| (pass, from, to))
    }

    /// The dialog of a request that lost our token on its way: Call-ID and
    /// tags, and the sender must be where that party is.
    pub(crate) fn dialog_of(&self, flow: Flow, message: Message<'_>) -> Option<(PassId, u8, u8)> {
        self.registry.by_call_id(message.call_id()).find_map(|call| {
            let (from, to) = legs(call, message)?;
            let sender = party(call, from)?;
            let at = sender.binding.and_then(|id| self.registry.binding(id)).map_or(&sender.flow, |b| &b.flow).get();
            let same = at.listener == flow.listener && at.remote.ip() == flow.remote.ip();
            same.then_some((call.id, from, to))
        })
    }
}

/// One target a phone: of several flows of one instance the first, never two
/// at a time (RFC 5626 §6).
fn one_flow_each(bindings: &[&Binding], uri: &Uri<'_>) -> Vec<Target> {
    let mut several = Vec::new();
    let mut targets: Vec<Target> = Vec::with_capacity(bindings.len());
    for binding in bindings {
        let instance = binding.reg_id.map(|_| &binding.instance);
        let first = instance.and_then(|own| several.iter().find(|(_, known)| *known == own));
        match first {
            Some((at, _)) => {
                let first: &mut Target = &mut targets[*at];
                first.flows.insert(0, binding.id);
            }
            None => {
                several.extend(instance.map(|instance| (targets.len(), instance)));
                targets.push(Target::binding(binding, uri));
            }
        }
    }
    targets
}

pub(super) const GONE: Reject =
    Reject { status: wire::sip::Status(481), reason: "Call/Transaction Does Not Exist", extra: Vec::new() };
const UNKNOWN: Reject = Reject { status: wire::sip::Status(404), reason: "Not Found", extra: Vec::new() };

/// A leg by number: 0 is the caller, n the n-th callee.
pub(crate) fn party(call: &Call, leg: u8) -> Option<&Party> {
    match leg {
        0 => Some(&call.caller),
        n => call.callees.get(usize::from(n) - 1),
    }
}

/// Sender and receiver by the tags of a request (§12.2.2).
fn legs(call: &Call, message: Message<'_>) -> Option<(u8, u8)> {
    let from = message.tag_in_from().unwrap_or_default();
    let to = message.tag_in_to()?;
    let callee = |tag: &[u8]| call.callees.iter().position(|p| *p.tag == *tag).map(|i| i as u8 + 1);
    if *call.caller.tag == *from {
        Some((0, callee(to)?))
    } else if *call.caller.tag == *to {
        // A NOTIFY may overtake the 200 that would make its sender known (RFC 6665 §4.1.2.4).
        let early = (message.method() == Method::Notify).then_some(call.callees.len() as u8 + 1);
        Some((callee(from).or(early)?, 0))
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
