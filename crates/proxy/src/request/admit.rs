//! Step 1: is there room? Checked before any work is done.

use wire::sip::{Message, Method};

use super::Reject;
use crate::{Proxy, holdings};

/// Requests in progress at most, beside what they may hold in octets.
const MOST_CONTEXTS: usize = 50_000;
/// New calls are refused earlier, so that the ones that run can end.
const MOST_FOR_NEW: usize = 40_000;
/// Calls and subscriptions at most.
const MOST_CALLS: usize = 200_000;

impl Proxy {
    pub(super) fn admit(&mut self, message: Message<'_>) -> Result<(), Reject> {
        let creates = matches!(message.method(), Method::Invite | Method::Subscribe | Method::Refer)
            && message.to().is_ok_and(|to| to.tag().is_none());
        let full = self.holdings.total() >= holdings::ALL
            || if creates {
                self.contexts.len() >= MOST_FOR_NEW || self.registry.call_count() >= MOST_CALLS
            } else {
                self.contexts.len() >= MOST_CONTEXTS
            };
        if full || (self.stopping && message.method() == Method::Invite) {
            let reason = if self.stopping { "Shutting down" } else { "Too many requests in progress" };
            return Err(Reject::new(503, reason).with("Retry-After: 10"));
        }
        Ok(())
    }
}
