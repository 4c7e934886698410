//! What is said of a call's end before it comes, for its record. Ends nothing.

use registry::PassId;
use wire::sip::{Message, Name, Status};

use crate::dialog::shown;
use crate::transaction::Context;
use crate::{Observed, Proxy};

impl Proxy {
    /// A BYE or CANCEL says why (RFC 3326).
    pub(crate) fn note_reason(&mut self, pass: PassId, message: Message<'_>) {
        if let Some(reason) = message.value(Name::Reason) {
            let reason = Some(shown(reason));
            self.observe(Observed::CallEnding { call: pass, status: None, reason, own: false });
        }
    }

    /// The final response that ends a call before an answer; it came on a branch, or is ours.
    pub(crate) fn note_status(&mut self, pass: PassId, context: &Context, status: Status) {
        let came = context.branches.iter().filter(|branch| branch.result == Some(status));
        let response = came.filter_map(|branch| branch.response.as_ref()).next();
        let reason = response.and_then(|response| response.message().value(Name::Reason)).map(shown);
        self.observe(Observed::CallEnding { call: pass, status: Some(status), reason, own: response.is_none() });
    }
}
