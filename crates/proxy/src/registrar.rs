//! The embedded registrar of the standalone role (RFC 3261 §10.3).

use std::borrow::Cow;
use std::time::{Duration, Instant};

use registry::{Binding, BindingId, Confirmed, Said};
use wire::sip::{Contact, Message, Name};
use wire::{Flow, Text};

use crate::Proxy;
use crate::outbound::reg_id;
use crate::register::{NATED_EXPIRY, preference, user_agent};
use crate::request::Reject;
use crate::rewrite::contact;
use crate::silence::FLOW_TIMER;
use crate::token::Token;
use crate::transaction::Key;

/// Longest expiry granted, seconds.
const LONGEST: u32 = 3600;
/// Shortest expiry accepted, seconds.
const SHORTEST: u32 = 10;
/// Contacts of one address of record at most.
const MOST_CONTACTS: usize = 16;
/// Bindings of a registrar without users, where nobody proves who he is.
const MOST_OPEN: usize = 4096;
/// Octets of one binding: its address of record, Contact, instance and Call-ID.
const LONGEST_BINDING: usize = 2048;

impl Proxy {
    /// A REGISTER that was authenticated where users are configured.
    pub(crate) fn registrar(&mut self, now: Instant, flow: Flow, message: Message<'_>, key: Key) -> Result<(), Reject> {
        let bad = |reason| Reject::new(400, reason);
        let aor = message
            .to()
            .and_then(|to| to.uri())
            .ok()
            .and_then(|uri| uri.user)
            .ok_or(bad("To has no user part"))?
            .to_vec();
        let natted = self.natted(flow, message) && !flow.transport.reliable();
        let cseq = message.cseq().map_or(0, |c| c.number);
        let mut put = Vec::new();
        let mut star = false;
        for contact in message.contacts() {
            match contact.map_err(|_| bad("Bad Contact"))? {
                Contact::Star => star = true,
                Contact::Addr(addr) => {
                    let asked = expires(message, addr.params.value("expires"))?;
                    if asked > 0 && asked < SHORTEST {
                        return Err(Reject::new(423, "Interval Too Brief").with(&format!("Min-Expires: {SHORTEST}")));
                    }
                    let most = if natted { NATED_EXPIRY } else { LONGEST };
                    let instance = addr.params.value("+sip.instance");
                    let reg_id = reg_id(message, &addr);
                    if reg_id.is_some() && !self.first_hop_keeps_flows(message) {
                        return Err(Reject::new(439, "First Hop Lacks Outbound Support"));
                    }
                    let id = self.binding_id(&aor, addr.uri, instance, reg_id, message.call_id(), flow);
                    let stale =
                        self.registry.binding(id).is_some_and(|b| b.call_id() == message.call_id() && b.cseq >= cseq);
                    if stale {
                        return Err(Reject::new(500, "CSeq out of order"));
                    }
                    let octets = aor.len() + addr.uri.len() + instance.map_or(0, <[u8]>::len) + message.call_id().len();
                    if octets > LONGEST_BINDING {
                        return Err(bad("Contact, instance or Call-ID too long"));
                    }
                    let instance = instance.map(<[u8]>::to_vec);
                    put.push((id, addr.uri.to_vec(), instance, reg_id, preference(&addr), asked.min(most)));
                }
            }
        }
        if star && (!put.is_empty() || message.number(Name::Expires) != Some(Ok(0))) {
            return Err(bad("Contact: * goes alone and with Expires: 0"));
        }
        let others = self.registry.of_aor(&aor).filter(|b| !put.iter().any(|(id, ..)| *id == b.id));
        let (gone, there): (Vec<&Binding>, Vec<&Binding>) =
            others.partition(|b| b.gone() || !self.connections.is_open(b.flow.get()));
        if there.len() + put.len() > MOST_CONTACTS {
            return Err(Reject::new(403, "Too many phones for this user"));
        }
        // A browser is a new phone each time its page is loaded (RFC 7118 §5).
        let full = there.len() + gone.len() + put.len() > MOST_CONTACTS;
        let gone: Vec<BindingId> = gone.iter().filter(|_| full).map(|b| b.id).collect();
        let new = put.iter().filter(|(id, .., seconds)| *seconds > 0 && self.registry.binding(*id).is_none()).count();
        if self.config.users.is_empty() && self.registry.binding_count() + new > MOST_OPEN {
            return Err(Reject::new(503, "Too many phones for a registrar without users").with("Retry-After: 60"));
        }
        for id in gone {
            self.release(id, false);
        }
        if star {
            let all: Vec<BindingId> = self.registry.of_aor(&aor).map(|b| b.id).collect();
            for id in all {
                self.release(id, false);
            }
        }
        let outbound = put.iter().any(|(_, _, _, reg_id, ..)| reg_id.is_some());
        for (id, contact, instance, reg_id, q, seconds) in put {
            if seconds == 0 {
                self.release(id, false);
                continue;
            }
            let binding = Binding {
                id,
                phone: self.phone_of(&aor, instance.as_deref(), flow),
                texts: Said {
                    aor: &aor,
                    contact: &contact,
                    call_id: message.call_id(),
                    user_agent: &user_agent(message),
                    lines: b"",
                }
                .into(),
                instance: instance.map(Into::into),
                reg_id,
                cseq,
                flow: flow.into(),
                flow_id: self.flow_id(flow),
                upstream: None,
                natted,
                q,
                expires: now + Duration::from_secs(u64::from(seconds)),
                until: now + Duration::from_secs(u64::from(seconds)),
                confirmed: Confirmed {
                    seconds,
                    again: self.kept_again(self.sign_again(message), self.own(flow)),
                    ..Confirmed::default()
                },
                answered: false,
                missed: 0,
            };
            let end = self.end(flow, binding.phone);
            self.offers.want(&end);
            self.bind(now, binding);
        }
        let mut answer = Reject::new(200, "OK");
        if outbound {
            answer = answer.with("Require: outbound");
            if flow.connection != 0 {
                answer = answer.with(&format!("Flow-Timer: {FLOW_TIMER}"));
                self.expect_keepalives(now, flow, FLOW_TIMER);
            }
        }
        self.list_contacts(now, flow, &aor, &mut answer.extra);
        let holder = self.holder(flow);
        self.answer(now, flow, message, key, &answer, holder);
        Ok(())
    }

    /// Answers a REGISTER that is the one before but for its branch and number:
    /// whatever had to be checked of it was. False: it goes on, as all do whose
    /// sender has to prove who he is, or keeps several flows or a connection.
    pub(crate) fn register_copy(
        &mut self,
        now: Instant,
        flow: Flow,
        message: Message<'_>,
        key: &Key,
    ) -> Result<bool, Reject> {
        if !self.config.users.is_empty() || flow.connection != 0 {
            return Ok(false);
        }
        let Ok(cseq) = message.cseq() else { return Ok(false) };
        let kept = || Some(self.kept_again(Some(self.sign_again(message)?), self.own(flow)));
        let copied = |b: &&Binding| {
            b.call_id() == message.call_id()
                && b.cseq < cseq.number
                && b.reg_id.is_none()
                && kept() == Some(b.confirmed.again)
        };
        let known = {
            let mut same = self.registry.on_flow(flow).filter(copied);
            // One that registers several Contacts at once has a binding for each.
            same.next().filter(|_| same.next().is_none()).map(|b| (b.id, b.confirmed.seconds))
        };
        let Some((id, seconds)) = known else { return Ok(false) };
        // Its own flow is known, and here is nobody else than phones.
        let holder = self.phone(flow);
        self.make_room_for(holder, message)?;
        let expires = now + Duration::from_secs(u64::from(seconds));
        self.registry.refresh(id, cseq.number, expires, expires);
        let mut answer = Reject::new(200, "OK");
        let aor = self.registry.binding(id).map(Binding::aor).unwrap_or_default();
        self.list_contacts(now, flow, aor, &mut answer.extra);
        self.answer(now, flow, message, key.clone(), &answer, holder);
        Ok(true)
    }

    /// All phones of an address of record, as whoever is on this flow sees them (§10.3 step 8).
    fn list_contacts(&self, now: Instant, flow: Flow, aor: &[u8], lines: &mut Vec<u8>) {
        for binding in self.registry.of_aor(aor) {
            let left = binding.expires.saturating_duration_since(now).as_secs();
            // A phone of the other side is seen as reached through us.
            let same_side = self.side(binding.flow.get()) == self.side(flow);
            let ours =
                || contact::uri(binding.contact(), self.own(flow), Some(&self.key.seal(Token::Binding(binding.id))));
            let contact = if same_side { Cow::Borrowed(binding.contact()) } else { Cow::Owned(ours()) };
            lines.reserve(contact.len() + 64);
            for piece in [b"Contact: <", &contact[..], b">;expires=", Text::number(left).get()] {
                lines.extend_from_slice(piece);
            }
            if let (Some(instance), Some(reg_id)) = (&binding.instance, binding.reg_id) {
                for piece in [b";reg-id=", Text::number(reg_id.into()).get(), b";+sip.instance=", &instance[..]] {
                    lines.extend_from_slice(piece);
                }
            }
            lines.extend_from_slice(b"\r\n");
        }
    }
}

fn expires(message: Message<'_>, own: Option<&[u8]>) -> Result<u32, Reject> {
    let own = own.and_then(|v| std::str::from_utf8(v).ok()).and_then(|v| v.trim().parse::<u64>().ok());
    match (own, message.number(Name::Expires)) {
        (Some(seconds), _) => Ok(seconds.min(u64::from(u32::MAX)) as u32),
        (None, Some(Ok(seconds))) => Ok(seconds),
        (None, Some(Err(_)) | None) => Ok(LONGEST),
    }
}

#[cfg(test)]
mod tests;
