//! ICE for an agent with a public address (RFC 8445 §2.5): it offers host
//! candidates, is always controlled, never checks, and answers checks.
//!
//! Decides what a check is worth: its sender knows the password of this leg
//! or of the one before a restart (§9), or does not. What a valid check does to
//! the path of media is decided in `media`. Holds no clock and no peer, so an
//! answer takes the same time however many checks came before.

use std::net::SocketAddr;

use rand_core::Rng;
use wire::stun::check::{Answer, Check, Key};

/// `ice-char` (RFC 8839 §5.4): six random bits each.
const CHARACTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// A username fragment and a password of ours, for one leg.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Credentials {
    ufrag: [u8; 8],
    password: [u8; 24],
}

impl Credentials {
    /// New ones: 48 and 144 random bits (RFC 8445 §5.3 asks for 24 and 128).
    pub fn draw(rng: &mut impl Rng) -> Self {
        let mut random = [0; 32];
        rng.fill_bytes(&mut random);
        Self::of(random)
    }

    /// Of octets that nobody can guess.
    pub fn of(random: [u8; 32]) -> Self {
        let text = random.map(|byte| CHARACTERS[usize::from(byte & 63)]);
        let (mut ufrag, mut password) = ([0; 8], [0; 24]);
        ufrag.copy_from_slice(&text[..8]);
        password.copy_from_slice(&text[8..]);
        Self { ufrag, password }
    }

    /// `ice-ufrag`.
    pub fn ufrag(&self) -> &str {
        std::str::from_utf8(&self.ufrag).unwrap_or_default()
    }

    /// `ice-pwd`.
    pub fn password(&self) -> &str {
        std::str::from_utf8(&self.password).unwrap_or_default()
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials({})", self.ufrag())
    }
}

/// The answering side of one leg.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    current: (Credentials, Key),
    /// From before a restart: the old path stands until the new one is valid (RFC 8839 §4.4.1.1.1).
    previous: Option<(Credentials, Key)>,
}

/// What a check was worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Its sender knows the password, and controls.
    Valid {
        /// It is to be the path of media.
        nominated: bool,
        /// Of the candidate that the sender speaks from.
        priority: u32,
        /// By the credentials of now, not those from before a restart.
        current: bool,
    },
    /// A stranger (401), an agent that wants us to control (487), or a check with demands that we do not know (420).
    Refused,
}

impl Agent {
    /// Before any restart.
    pub fn new(credentials: Credentials) -> Self {
        Self { current: (credentials, Key::of(credentials.password())), previous: None }
    }

    /// After a restart (§9): both pairs of credentials are good.
    pub fn restarted(&self, credentials: Credentials) -> Self {
        Self { previous: Some(self.current.clone()), ..Self::new(credentials) }
    }

    /// What is written for this leg.
    pub fn credentials(&self) -> Credentials {
        self.current.0
    }

    /// Judges a packet and writes its answer. `None`: no check, and no answer.
    pub fn judge(&self, packet: &[u8], from: SocketAddr) -> Option<(Verdict, Option<Answer>)> {
        let check = Check::read(packet)?;
        let known = |(credentials, _): &&(Credentials, Key)| credentials.ufrag() == check.ufrag();
        let keyed = [Some(&self.current), self.previous.as_ref()].into_iter().flatten().find(known);
        let Some((credentials, key)) = keyed.filter(|(_, key)| check.knows(key)) else {
            return Some((Verdict::Refused, check.refuse(401, None)));
        };
        if check.controlled {
            return Some((Verdict::Refused, check.refuse(487, Some(key))));
        }
        let answer = check.accept(from, key);
        if !check.is_understood() {
            return Some((Verdict::Refused, answer));
        }
        let current = *credentials == self.current.0;
        Some((Verdict::Valid { nominated: check.nominates, priority: check.priority, current }, answer))
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng as _;
    use wire::stun::{self, check};

    use super::*;

    const FROM: &str = "198.51.100.7:40000";

    fn drawn(seed: u8) -> Credentials {
        Credentials::draw(&mut ChaCha20Rng::from_seed([seed; 32]))
    }

    fn check(credentials: Credentials, password: &str, nominates: bool) -> Vec<u8> {
        let username = format!("{}:peer", credentials.ufrag());
        check::check([9; 12], &username, &Key::of(password), 5, nominates).expect("fits")
    }

    fn judge(agent: &Agent, packet: &[u8]) -> Option<(Verdict, Option<u16>)> {
        let (verdict, answer) = agent.judge(packet, FROM.parse().expect("address"))?;
        let (bytes, length) = answer.expect("an answer");
        assert!(usize::from(length) <= packet.len(), "no answer is longer than its check");
        Some((verdict, stun::read_answer(&bytes[..usize::from(length)]).expect("reads").error))
    }

    #[test]
    fn only_who_knows_the_password_is_valid() {
        let ours = drawn(1);
        let agent = Agent::new(ours);
        let valid = |nominated, current| Verdict::Valid { nominated, priority: 5, current };
        assert_eq!(judge(&agent, &check(ours, ours.password(), true)), Some((valid(true, true), None)));
        assert_eq!(judge(&agent, &check(ours, ours.password(), false)), Some((valid(false, true), None)));
        assert_eq!(judge(&agent, &check(ours, "another", true)), Some((Verdict::Refused, Some(401))));
        let theirs = drawn(2);
        assert_eq!(judge(&agent, &check(theirs, ours.password(), true)), Some((Verdict::Refused, Some(401))));
        assert_eq!(agent.judge(&stun::request([1; 12]), FROM.parse().expect("address")), None);
    }

    #[test]
    fn after_a_restart_both_pairs_are_good_once() {
        let (old, new, newer) = (drawn(1), drawn(2), drawn(3));
        let agent = Agent::new(old).restarted(new);
        assert_eq!(agent.credentials(), new);
        let current = |c: Credentials| match judge(&agent, &check(c, c.password(), false)) {
            Some((Verdict::Valid { current, .. }, None)) => Some(current),
            _ => None,
        };
        assert_eq!((current(old), current(new), current(newer)), (Some(false), Some(true), None));
        let again = agent.restarted(newer);
        assert_eq!(judge(&again, &check(old, old.password(), false)), Some((Verdict::Refused, Some(401))));
    }

    #[test]
    fn credentials_are_ice_characters_and_never_the_same() {
        let (one, other) = (drawn(1), drawn(2));
        assert_ne!(one, other);
        for text in [one.ufrag(), one.password()] {
            assert!(text.bytes().all(|byte| CHARACTERS.contains(&byte)), "{text}");
        }
        assert_eq!((one.ufrag().len(), one.password().len()), (8, 24));
        assert!(!format!("{one:?}").contains(one.password()), "a password is not for logs");
    }
}
