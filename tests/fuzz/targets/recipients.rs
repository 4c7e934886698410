//! Who may be sent what. No request goes to an address that nobody of standing
//! has named, a response only to where something came from, and whoever has
//! proven nothing gets no more octets than it sent (RFC 3261 §26.3.2.4).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use proxy::Config;
use proxy::config::Role;
use wire::sip::{Framing, Index, Limits, Name};
use wire::{Flow, Transmit};

use super::invariants::{GROWTH, reads_again, views};

/// Messages that one input may lead to, beside one for each party.
const BURST: usize = 300;

/// What an answer to a REGISTER that the upstream never answered has more than
/// it: compact names written out, `received` and `rport`.
const STAMPED: usize = 128;

#[derive(Debug, Default)]
pub(super) struct Recipients {
    /// The upstream: what it says counts.
    upstream: BTreeSet<IpAddr>,
    /// Standalone without users: sources on the local network need to prove nothing.
    open: bool,
    /// Where phones are, or were, bound.
    bound: BTreeSet<SocketAddr>,
    /// What people of standing have named in their messages.
    named: Vec<Vec<u8>>,
    /// Found by name.
    located: BTreeSet<IpAddr>,
    sources: BTreeMap<IpAddr, Account>,
    /// Calls that the upstream has answered in: what it says to a stranger is its own affair.
    passed: BTreeSet<Vec<u8>>,
    /// Tokens that we gave away.
    tokens: BTreeSet<Vec<u8>>,
    largest: usize,
    burst: usize,
}

/// Octets of one source.
#[derive(Debug, Default, Clone, Copy)]
struct Account {
    received: usize,
    sent: usize,
    challenged: bool,
    /// It was of standing at some time.
    proven: bool,
}

impl Recipients {
    pub(super) fn new(config: &Config) -> Self {
        let upstream = config.upstreams.iter().filter_map(|upstream| upstream.host.parse().ok()).collect();
        let open = config.role == Role::Standalone && config.users.is_empty();
        Self { upstream, open, ..Self::default() }
    }

    pub(super) fn waited(&mut self) {
        self.burst = 0;
    }

    pub(super) fn received(&mut self, flow: Flow, bytes: &[u8]) {
        self.burst = 0;
        self.largest = self.largest.max(bytes.len());
        let account = self.sources.entry(flow.remote.ip()).or_default();
        account.received += bytes.len();
        let trusted = self.upstream.contains(&flow.remote.ip())
            || self.bound.contains(&flow.remote)
            || words(bytes).any(|word| self.tokens.contains(word));
        if trusted {
            account.proven = true;
            self.named.push(bytes.to_vec());
            let mut index = Index::new();
            let _ = index.parse(bytes, Framing::Datagram, &Limits::default());
            self.passed.insert(index.view(bytes).call_id().to_vec());
        }
    }

    pub(super) fn located(&mut self, remotes: &[IpAddr], upstream: bool) {
        self.located.extend(remotes);
        if upstream {
            self.upstream.extend(remotes);
        }
    }

    pub(super) fn bound(&mut self, flow: Flow) {
        self.bound.insert(flow.remote);
        self.sources.entry(flow.remote.ip()).or_default().proven = true;
    }

    pub(super) fn sent(&mut self, transmit: &Transmit) {
        let Transmit { flow, bytes } = transmit;
        self.burst += 1;
        assert!(self.burst <= BURST + 2 * self.bound.len(), "one input led to {} messages", self.burst);
        assert!(bytes.len() <= self.largest + GROWTH, "{} octets, where at most {} came in", bytes.len(), self.largest);
        let stored = reads_again(bytes.clone());
        let message = stored.message();
        assert!(message.field(Name::Via).is_some(), "no Via: {}", bytes.escape_ascii());
        if message.is_request() {
            let ours = message.value(Name::From).is_some_and(|from| from.starts_with(b"<sip:siplatch@"));
            assert!(self.may_be_asked(flow.remote), "an unlisted address, {}: {}", flow.remote, bytes.escape_ascii());
            let via = message.top_via();
            assert!(via.is_ok(), "our Via cannot be read: {}", bytes.escape_ascii());
            // Whoever answers with a branch of ours was asked by us, or by somebody who was.
            self.tokens.extend(via.ok().and_then(|via| via.branch().map(<[u8]>::to_vec)));
            assert!(!ours || views(message).is_ok(), "of our own, and not whole: {}", bytes.escape_ascii());
        } else {
            let passed = self.passed.contains(message.call_id());
            self.answered(flow.remote.ip(), message.status().map_or(0, |status| status.0), bytes.len(), passed);
        }
        self.tokens.extend(words(bytes).filter(|word| word.len() == 32).map(<[u8]>::to_vec));
    }

    fn may_be_asked(&self, remote: SocketAddr) -> bool {
        let listed =
            self.upstream.contains(&remote.ip()) || self.bound.contains(&remote) || self.located.contains(&remote.ip());
        listed || {
            let ip = remote.ip().to_string();
            self.named.iter().any(|bytes| holds(bytes, ip.as_bytes()))
        }
    }

    fn answered(&mut self, ip: IpAddr, status: u16, octets: usize, passed: bool) {
        let upstream = self.upstream.contains(&ip);
        let Some(account) = self.sources.get_mut(&ip) else {
            assert!(upstream, "{status} to {ip}, which never asked");
            return;
        };
        if passed {
            return;
        }
        account.sent += octets;
        account.challenged |= matches!(status, 401 | 407);
        let most = if account.challenged { 2 * account.received } else { account.received + STAMPED };
        let Account { received, sent, proven, .. } = *account;
        let open = self.open && nat::address::is_private(ip);
        assert!(
            proven || upstream || open || sent <= most,
            "{status}: {sent} octets to {ip}, which has proven nothing and sent {received}"
        );
    }
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Runs of letters and digits as long as a token or a branch.
fn words(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|b| !b.is_ascii_alphanumeric()).filter(|word| matches!(word.len(), 32 | 33))
}
