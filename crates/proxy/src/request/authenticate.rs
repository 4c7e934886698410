//! Step 3: in the standalone role with users, digest (RFC 3261 §22, RFC 8760).

use std::time::Instant;

use nat::address::is_private;
use wire::Flow;
use wire::sip::{Message, Method};

use super::Reject;
use crate::Proxy;
use crate::config::Role;

impl Proxy {
    pub(super) fn authenticate(&mut self, now: Instant, flow: Flow, message: Message<'_>) -> Result<(), Reject> {
        if self.config.role != Role::Standalone {
            return Ok(());
        }
        if self.config.users.is_empty() {
            // An open registrar serves only networks that nobody else can reach.
            return if is_private(flow.remote.ip()) {
                Ok(())
            } else {
                Err(Reject::new(403, "No users are configured, so only private networks are served"))
            };
        }
        let in_dialog = self.route(flow, message).is_ok_and(|routed| self.within(flow, message, &routed).is_some());
        let to_us = message.method() == Method::Options && self.is_to_us(flow, message);
        if message.method() != Method::Register && (in_dialog || to_us || self.registry.on_flow(flow).next().is_some())
        {
            return Ok(());
        }
        let user = self.digest(now, flow, message)?;
        let claimed = if message.method() == Method::Register { message.to() } else { message.from() };
        let matches =
            claimed.ok().and_then(|c| c.uri().ok()).and_then(|u| u.user).is_some_and(|u| u == user.as_bytes());
        if matches { Ok(()) } else { Err(Reject::new(403, "Not your address of record")) }
    }
}
