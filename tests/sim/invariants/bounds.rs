//! No output grows without bound, and no stranger is sent more than it sent.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Rule, Truth};
use crate::clock::Time;
use crate::edge::Entry;

/// A message may grow by this much on its way through us.
const GROWTH: usize = 1024;
/// Messages that one input may lead to.
const BURST: usize = 64;

#[derive(Debug, Default)]
pub(crate) struct Bounds {
    /// Largest message so far, for what is sent later than its cause.
    largest: usize,
    present: Option<usize>,
    burst: usize,
    /// Octets in and out, by stranger, and whether it was challenged.
    strangers: BTreeMap<IpAddr, (usize, usize, bool)>,
}

impl Rule for Bounds {
    fn name(&self) -> &'static str {
        "no output grows without bound"
    }

    fn see(&mut self, _now: Time, truth: &Truth, entry: &Entry) -> Option<String> {
        match entry {
            Entry::Received(message) => {
                let len = message.bytes.len();
                self.largest = self.largest.max(len);
                (self.present, self.burst) = (Some(len), 0);
                if truth.strangers.contains(&message.flow.remote.ip()) {
                    self.strangers.entry(message.flow.remote.ip()).or_default().0 += len;
                }
                None
            }
            Entry::Timer => {
                (self.present, self.burst) = (None, 0);
                None
            }
            Entry::Sent(message) => {
                let len = message.bytes.len();
                self.burst += 1;
                if self.burst > BURST {
                    return Some(format!("one input led to more than {BURST} messages"));
                }
                // Responses that come together may release a parked request of another size.
                let most = self.present.unwrap_or(self.largest).max(self.largest) + GROWTH;
                if len > most {
                    return Some(format!("{len} octets to {}, where at most {most} came in", message.flow.remote));
                }
                let ip = message.flow.remote.ip();
                let (received, sent, challenged) = self.strangers.get_mut(&ip)?;
                let status = message.msg.as_deref().map_or(0, |msg| msg.status());
                *challenged |= matches!(status, 401 | 407);
                *sent += len;
                let most = if *challenged { 2 * *received } else { *received };
                (*sent > most).then(|| format!("{sent} octets to stranger {ip}, which sent {received}"))
            }
            Entry::Line(_)
            | Entry::Command(_)
            | Entry::Fact(_)
            | Entry::Changed(_)
            | Entry::Ports(..)
            | Entry::Observed(_)
            | Entry::Judged { .. }
            | Entry::Own { .. } => None,
        }
    }
}
