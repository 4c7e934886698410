//! ICE in offers and answers (RFC 8839), as a lite agent on each leg of its own.
//!
//! Decides whether a peer speaks ICE on an m-line, whether its default address
//! is one of its candidates (§4.2.5), and when it restarts; and writes our own
//! credentials and host candidates. A peer's are never passed on (RFC 7584 §4.2):
//! each leg has its own agent, and the other end need not know of ICE at all.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use nat::MediaMode;
use nat::ice_lite::{Agent, Credentials};
use rand_chacha::ChaCha20Rng;
use wire::Edit;
use wire::sdp::{self, Body, Candidate};

use super::EndPlan;
use crate::Target;

/// ICE is spoken on so many m-lines of a body at most: what we write must stay small.
const MOST_LINES: usize = 4;

/// What belongs to one leg alone, and is never passed on.
pub(super) const ATTRIBUTES: [&str; 9] = [
    "candidate",
    "remote-candidates",
    "end-of-candidates",
    "ice-ufrag",
    "ice-pwd",
    "ice-options",
    "ice-lite",
    "ice-mismatch",
    "ice-pacing",
];

/// What a body says of ICE for one m-line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Said {
    /// Nothing, or not enough.
    #[default]
    Nothing,
    /// The default address is no candidate: something on the way has changed it.
    Mismatch,
    /// It speaks ICE.
    Speaks {
        /// Differs when the credentials do: a restart.
        mark: u64,
        /// It will not check either (RFC 8445 §2.5).
        lite: bool,
    },
}

impl Said {
    /// Reads line number `line` of a body.
    pub(super) fn of(sdp: &Body<'_>, media: &sdp::Media<'_>, line: usize) -> Self {
        let value = |name| media.attribute(name).or_else(|| sdp.attribute(name));
        let (Some(ufrag), Some(password)) = (value("ice-ufrag"), value("ice-pwd")) else { return Self::Nothing };
        if media.port == 0 || line >= MOST_LINES {
            return Self::Nothing;
        }
        if mismatched(sdp, media) {
            return Self::Mismatch;
        }
        let mut hasher = DefaultHasher::new();
        (ufrag, password).hash(&mut hasher);
        Self::Speaks { mark: hasher.finish(), lite: sdp.attribute("ice-lite").is_some() }
    }

    pub(super) fn mark(self) -> Option<u64> {
        match self {
            Self::Speaks { mark, .. } => Some(mark),
            Self::Nothing | Self::Mismatch => None,
        }
    }

    pub(super) fn speaks(self) -> bool {
        matches!(self, Self::Speaks { .. })
    }

    /// It speaks, and checks.
    pub(super) fn checks(self) -> bool {
        matches!(self, Self::Speaks { lite: false, .. })
    }
}

/// Is ICE offered on, of an offer that says this, to that end? (RFC 7584 §4.1)
pub(super) fn offered_on(said: Said, to: &EndPlan, line: usize) -> bool {
    said.speaks() || to.media == MediaMode::Ice && line < MOST_LINES
}

/// RFC 8839 §4.2.5. A default that says nothing yet (RFC 8840 §4.1.1: port 9
/// of 0.0.0.0) or is a host name is none to compare.
fn mismatched(sdp: &Body<'_>, media: &sdp::Media<'_>) -> bool {
    let Some(default) = media.rtp_address(sdp).filter(|default| !default.ip().is_unspecified()) else { return false };
    let candidates = || media.attributes.named("candidate").filter_map(|a| Candidate::parse(a.value));
    let matches = |candidate: Candidate| match candidate.address {
        Ok(address) => address == default,
        Err(port) => port == default.port(),
    };
    !candidates().any(|candidate| candidate.component == 1 && matches(candidate))
}

/// Our agent toward one end.
#[derive(Debug, Default)]
pub(super) struct Ours {
    agent: Option<Box<Agent>>,
    /// Credentials that an offer under way has restarted us with.
    next: Option<Box<(Credentials, u64)>>,
    /// What the peer's credentials were marked by.
    mark: Option<u64>,
}

impl Ours {
    /// The peer is to be told of us: there is an agent from here on.
    pub(super) fn ready(&mut self, rng: &mut ChaCha20Rng) {
        self.agent.get_or_insert_with(|| Box::new(Agent::new(Credentials::draw(rng))));
    }

    /// The peer offers, by credentials of this mark: others than before are a restart (RFC 8839 §5.4).
    pub(super) fn offered(&mut self, mark: u64, rng: &mut ChaCha20Rng) {
        self.ready(rng);
        match self.mark {
            Some(before) if before == mark => self.next = None,
            Some(_) if self.next.as_deref().is_none_or(|(_, next)| *next != mark) => {
                self.next = Some(Box::new((Credentials::draw(rng), mark)));
            }
            Some(_) => {}
            None => self.mark = Some(mark),
        }
    }

    /// We offer from another address: a restart of our own (RFC 8839 §4.4.1.1.1).
    pub(super) fn restart(&mut self, rng: &mut ChaCha20Rng) {
        if let Some(mark) = self.mark.filter(|_| self.agent.is_some()) {
            self.next = Some(Box::new((Credentials::draw(rng), mark)));
        }
    }

    /// The offer or answer stands: what it restarted is settled.
    pub(super) fn settle(&mut self, mark: u64) {
        if let Some((credentials, _)) = self.next.take().as_deref().copied() {
            self.agent = self.agent.take().map(|agent| Box::new(agent.restarted(credentials)));
            self.mark = Some(mark);
        }
        self.mark.get_or_insert(mark);
    }

    /// The offer has failed.
    pub(super) fn fail(&mut self) {
        self.next = None;
    }

    /// For the worker: credentials of now and, while an offer restarts us, of before.
    pub(super) fn agent(&self) -> Option<Box<Agent>> {
        let agent = self.agent.as_ref()?;
        let next = self.next.as_deref();
        Some(next.map_or_else(|| agent.clone(), |(credentials, _)| Box::new(agent.restarted(*credentials))))
    }

    fn credentials(&self) -> Option<Credentials> {
        self.next
            .as_deref()
            .map(|(credentials, _)| *credentials)
            .or_else(|| self.agent.as_deref().map(Agent::credentials))
    }

    /// Writes us into a section: credentials, and a host candidate for each component (§5.1, §5.4).
    pub(super) fn write(
        &self,
        whole: &[u8],
        edit: &mut Edit,
        media: &sdp::Media<'_>,
        at: Target,
        components: usize,
    ) -> bool {
        let Some(credentials) = self.credentials() else { return false };
        sdp::edit::add_attribute(whole, edit, media, &[b"ice-ufrag:", credentials.ufrag().as_bytes()]);
        sdp::edit::add_attribute(whole, edit, media, &[b"ice-pwd:", credentials.password().as_bytes()]);
        // Type preference 126, one address: local preference 65535 (RFC 8445 §5.1.2.1).
        for (component, address) in [(1, at.rtp()), (2, at.rtcp())].into_iter().take(components) {
            sdp::edit::host_candidate(
                whole,
                edit,
                media,
                component,
                (126 << 24) + (65_535 << 8) + 256 - u32::from(component),
                address,
            );
        }
        true
    }
}
