//! A full ICE agent, as small as can be (RFC 8445): it has host candidates
//! only, checks the one pair that there is, nominates at once, and goes on
//! asking for consent (RFC 7675). Before a check was answered it sends nothing.

use std::net::SocketAddr;
use std::time::Duration;

use wire::stun::check::{self, Key};

use crate::clock::Time;
use crate::net::Packet;
use crate::rng::Rng;

/// Between two checks without an answer (RFC 8445 §14.3, doubled no more).
const AGAIN: Duration = Duration::from_millis(200);
/// Between two requests for consent (RFC 7675 §5.1).
const CONSENT: Duration = Duration::from_secs(4);
/// Of a peer-reflexive candidate (RFC 8445 §5.1.2.1).
const PRIORITY: u32 = (110 << 24) + (65_535 << 8) + 255;

/// Credentials of one end: ufrag and password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Credentials {
    ufrag: Word,
    password: Word,
}

/// Octets of a word that are read at most: more than siplatch and these phones write.
const LONGEST: usize = 32;

/// A few octets of `ice-char`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Word {
    octets: [u8; LONGEST],
    length: u8,
}

impl Word {
    fn new(text: &str) -> Option<Self> {
        let mut octets = [0; LONGEST];
        octets.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        Some(Self { octets, length: text.len() as u8 })
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.octets[..usize::from(self.length)]).unwrap_or_default()
    }
}

impl Credentials {
    pub(crate) fn new(ufrag: &str, password: &str) -> Option<Self> {
        Some(Self { ufrag: Word::new(ufrag)?, password: Word::new(password)? })
    }

    /// A phone's, by session and by how often it has restarted.
    pub(crate) fn of(session: u64, generation: u8) -> Option<Self> {
        Self::new(&format!("u{session:x}g{generation}"), &format!("password{session:016x}{generation:03}"))
    }

    pub(crate) fn ufrag(&self) -> &str {
        self.ufrag.text()
    }

    pub(crate) fn password(&self) -> &str {
        self.password.text()
    }
}

/// Checks from one socket to one candidate.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    ours: Option<Credentials>,
    theirs: Option<Credentials>,
    to: Option<SocketAddr>,
    /// The check that waits for its answer, and is sent again until then.
    asked: Option<[u8; 12]>,
    next: Option<Time>,
    /// A check was answered: packets may flow.
    valid: bool,
}

impl Checks {
    /// Both ends speak ICE, by these credentials; the other end listens there.
    pub(crate) fn begin(&mut self, now: Time, (ours, theirs): (Credentials, Credentials), to: SocketAddr) {
        if (self.ours, self.theirs, self.to) != (Some(ours), Some(theirs), Some(to)) {
            (self.ours, self.theirs, self.to) = (Some(ours), Some(theirs), Some(to));
            (self.next, self.valid, self.asked) = (Some(now), false, None);
        }
        self.next.get_or_insert(now);
    }

    /// Nobody asks for consent any more.
    pub(crate) fn stop(&mut self) {
        self.next = None;
    }

    /// The other end speaks no ICE, or no more: packets flow without.
    pub(crate) fn without(&mut self) {
        *self = Self::default();
    }

    /// True when packets must wait for an answer.
    pub(crate) fn waits(&self) -> bool {
        self.theirs.is_some() && !self.valid
    }

    pub(crate) fn next(&self) -> Option<Time> {
        self.next
    }

    pub(crate) fn timeout(&mut self, now: Time, from: SocketAddr, rng: &mut Rng, out: &mut Vec<Packet>) {
        let (Some(ours), Some(theirs), Some(to)) = (self.ours, self.theirs, self.to) else { return };
        if self.next.is_none_or(|at| at > now) {
            return;
        }
        let id = *self.asked.get_or_insert_with(|| {
            let mut id = [0; 12];
            id.copy_from_slice(&rng.seed()[..12]);
            id
        });
        let username = format!("{}:{}", theirs.ufrag(), ours.ufrag());
        let bytes = check::check(id, &username, &Key::of(theirs.password()), PRIORITY, true);
        out.extend(bytes.map(|bytes| Packet::datagram(from, to, bytes)));
        self.next = Some(now + if self.valid { CONSENT } else { AGAIN });
    }

    /// True if the packet is an answer to the last check.
    pub(crate) fn receive(&mut self, now: Time, bytes: &[u8]) -> bool {
        let answers = self.asked.is_some_and(|id| bytes.get(..2) == Some(&[1, 1]) && bytes.get(8..20) == Some(&id));
        if answers {
            (self.valid, self.asked) = (true, None);
            self.next = self.next.map(|_| now + CONSENT);
        }
        answers
    }
}
