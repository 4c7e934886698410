//! The location service: contacts by user, each until its time is up.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Time;
use crate::sip::{self, Msg};

#[derive(Debug)]
struct Contact {
    uri: String,
    call_id: String,
    until: Time,
}

/// Who is where, as far as the core knows.
#[derive(Debug, Default)]
pub(crate) struct Location {
    users: BTreeMap<String, Vec<Contact>>,
}

impl Location {
    /// RFC 3261 §10.3: contacts are compared as text, which is enough for peers that repeat themselves.
    pub(crate) fn update(&mut self, now: Time, user: &str, msg: &Msg) {
        let contacts = self.users.entry(user.to_owned()).or_default();
        contacts.retain(|c| c.until > now);
        let default = msg.get("expires").and_then(|e| e.parse().ok()).unwrap_or(3600);
        for value in msg.all("contact") {
            if value == "*" {
                contacts.clear();
                continue;
            }
            let expires: u64 = sip::param(value, "expires").and_then(|e| e.parse().ok()).unwrap_or(default);
            let uri = sip::uri_of(value).to_owned();
            // The same phone after a change of its address: it keeps its Call-ID.
            contacts.retain(|c| c.uri != uri && c.call_id != msg.call_id());
            if expires > 0 {
                let until = now + Duration::from_secs(expires.min(3600));
                contacts.push(Contact { uri, call_id: msg.call_id().to_owned(), until });
            }
        }
    }

    /// Contact URIs of a user.
    pub(crate) fn find(&self, now: Time, user: &str) -> Vec<String> {
        let contacts = self.users.get(user).into_iter().flatten();
        contacts.filter(|c| c.until > now).map(|c| c.uri.clone()).collect()
    }

    /// Contact values for the 200.
    pub(crate) fn listed(&self, now: Time, user: &str) -> Vec<String> {
        let contacts = self.users.get(user).into_iter().flatten().filter(|c| c.until > now);
        contacts.map(|c| format!("<{}>;expires={}", c.uri, (c.until - now).as_secs())).collect()
    }
}
