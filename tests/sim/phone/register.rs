//! Registration (RFC 3261 §10): refreshed at 80 % of what was granted, and at
//! no other time, whatever a NAT box does in between.

use std::time::Duration;

use super::Phone;
use crate::clock::Time;
use crate::net::Packet;
use crate::rng::Rng;
use crate::sip::{self, Msg};
use crate::transaction::ClientId;

/// State of a phone's registration.
#[derive(Debug)]
pub(crate) struct Registration {
    call_id: String,
    tag: String,
    cseq: u32,
    /// Challenges answered since the last success.
    tries: u8,
    client: Option<ClientId>,
    request: Option<Msg>,
    /// When it is due again.
    pub(crate) at: Option<Time>,
    pub(crate) granted: bool,
    /// It has gone, and wants to be found no more.
    leaving: bool,
}

impl Registration {
    pub(crate) fn new(start: Time, rng: &mut Rng) -> Self {
        Self {
            call_id: rng.word(),
            tag: rng.word(),
            cseq: 1,
            tries: 0,
            client: None,
            request: None,
            at: Some(start),
            granted: false,
            leaving: false,
        }
    }

    pub(crate) fn owns(&self, client: ClientId) -> bool {
        self.client == Some(client)
    }

    pub(crate) fn due(&self, now: Time) -> bool {
        self.at.is_some_and(|at| at <= now)
    }

    /// It has gone for good.
    pub(crate) fn left(&self) -> bool {
        self.leaving && self.client.is_none() && self.at.is_none()
    }

    /// Its connection has ended: it registers over another one (RFC 5626 §4.5).
    pub(crate) fn cut(&mut self, now: Time, rng: &mut Rng) {
        self.client = None;
        let soon = now + rng.millis(100, 2_000);
        self.at = Some(self.at.filter(|_| !self.granted).map_or(soon, |at| at.max(soon)));
    }

    /// Tries again after a while.
    pub(crate) fn failed(&mut self, now: Time, rng: &mut Rng) {
        (self.client, self.granted, self.tries) = (None, false, 0);
        self.at = Some(now + rng.millis(3_000, 6_000));
    }
}

impl Phone {
    /// Removes its registration (RFC 3261 §10.2.2), after the answer to a REGISTER that is on its way (§10.2).
    pub(crate) fn unregister(&mut self, now: Time) {
        self.registration.leaving = true;
        if self.registration.client.is_none() {
            self.registration.at = Some(now);
        }
    }

    pub(crate) fn register(&mut self, now: Time, out: &mut Vec<Packet>) {
        let mut msg = Msg::request("REGISTER", &format!("sip:{}", self.profile.domain));
        let aor = self.profile.aor();
        msg.push(self.name("To"), format!("<{aor}>"));
        msg.push(self.name("From"), format!("<{aor}>;tag={}", self.registration.tag));
        msg.push(self.name("Call-ID"), self.registration.call_id.clone());
        msg.push("Max-Forwards", "70");
        let expires = if self.registration.leaving { 0 } else { self.profile.expires };
        if self.profile.odd {
            msg.push(
                self.name("Contact"),
                format!("\"A, phone\" <{}>;expires={expires};q=0.7", self.profile.contact()),
            );
        } else {
            msg.push(self.name("Contact"), format!("<{}>", self.profile.contact()));
            msg.push("Expires", expires.to_string());
        }
        self.ornaments(&mut msg);
        if let (Some(challenge), Some(password)) = (self.challenge.clone(), self.profile.password.clone()) {
            self.nonce_count += 1;
            let (user, uri) = (&self.profile.user, msg.uri());
            let value = challenge.answer(user, &password, "REGISTER", uri, self.nonce_count);
            msg.push("Authorization", value);
        }
        self.send_register(now, msg, out);
    }

    fn send_register(&mut self, now: Time, mut msg: Msg, out: &mut Vec<Packet>) {
        self.registration.cseq += 1;
        msg.fields.retain(|(n, _)| !sip::same_name(n, "cseq") && !sip::same_name(n, "via"));
        msg.push("CSeq", format!("{} REGISTER", self.registration.cseq));
        let via = self.via();
        msg.top(self.name("Via"), via);
        self.registration.request = Some(msg.clone());
        self.registration.at = None;
        let way = self.profile.way();
        self.registration.client = Some(self.transactions.request(now, msg, way, out));
    }

    /// An answer to our REGISTER.
    pub(crate) fn registered_by(&mut self, now: Time, msg: &Msg, out: &mut Vec<Packet>) {
        match msg.status() {
            ..200 => {}
            401 | 407 if self.registration.tries < 3 => {
                self.registration.tries += 1;
                let request = self.registration.request.clone();
                match request.and_then(|request| self.authorised(&request, msg)) {
                    Some(again) => self.send_register(now, again, out),
                    None => self.registration.failed(now, &mut self.rng),
                }
            }
            200..300 => self.granted(now, msg),
            _ => self.registration.failed(now, &mut self.rng),
        }
    }

    /// RFC 3261 §10.2.4: what counts is what the answer says of *our* Contact.
    fn granted(&mut self, now: Time, msg: &Msg) {
        let ours = self.profile.contact();
        if self.registration.leaving {
            let left = self.registration.request.as_ref().is_some_and(wants_to_leave);
            (self.registration.client, self.registration.granted) = (None, false);
            self.registration.at = (!left).then_some(now);
            return;
        }
        let Some(value) = msg.all("contact").find(|c| sip::uri_of(c) == ours) else {
            let all: Vec<_> = msg.all("contact").collect();
            self.complaints.push(format!("200 to REGISTER does not list {ours}, but {all:?}"));
            return self.registration.failed(now, &mut self.rng);
        };
        let default = msg.get("expires").and_then(|e| e.parse().ok()).unwrap_or(self.profile.expires);
        let granted = sip::param(value, "expires").and_then(|e| e.parse().ok()).unwrap_or(default);
        self.registration.granted = true;
        (self.registration.client, self.registration.tries) = (None, 0);
        self.registration.at = Some(now + Duration::from_millis(u64::from(granted) * 800));
    }
}

fn wants_to_leave(register: &Msg) -> bool {
    register.get("expires") == Some("0") || register.all("contact").any(|c| sip::param(c, "expires") == Some("0"))
}
