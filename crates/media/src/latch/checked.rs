//! Which sources a leg with ICE has valid connectivity checks from (RFC 8445 §7.3).

use std::net::SocketAddr;

/// So many sources with a valid check are remembered; the oldest goes first, but never the held one.
const CHECKED: usize = 4;

/// Sources that have proven by a check that they know this leg's password.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Checked {
    sources: [Option<SocketAddr>; CHECKED],
    next: u8,
    /// Priority of the held source's nomination.
    pub(super) nominated: Option<u32>,
}

impl Checked {
    pub(super) fn knows(&self, from: SocketAddr) -> bool {
        self.sources.contains(&Some(from))
    }

    pub(super) fn learn(&mut self, from: SocketAddr, held: Option<SocketAddr>) {
        if self.knows(from) {
            return;
        }
        if held.is_some() && self.sources[usize::from(self.next) % CHECKED] == held {
            self.next = self.next.wrapping_add(1);
        }
        self.sources[usize::from(self.next) % CHECKED] = Some(from);
        self.next = self.next.wrapping_add(1);
    }

    pub(super) fn any(&self) -> bool {
        self.sources[0].is_some()
    }
}
