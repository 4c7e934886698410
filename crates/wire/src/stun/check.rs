//! Connectivity checks (RFC 8445 §7), as the agent sees them that only answers.
//!
//! Decides what a check says and whether its sender knows a password
//! (RFC 8489 §9.1, in constant time), and writes the answer into a fixed room.
//! What a valid check is worth is the business of `nat` and `media`.

use std::net::SocketAddr;

use stun_types::attribute::{
    AttributeStaticType as _, AttributeType, ErrorCode, Fingerprint, MessageIntegrity, MessageIntegritySha256,
    UnknownAttributes, Username, XorMappedAddress,
};
use stun_types::message::{
    IntegrityAlgorithm, IntegrityKey, Message, MessageWrite as _, MessageWriteExt as _, MessageWriteMutSlice,
    ShortTermCredentials,
};

use super::{Kind, kind, unknown};

/// No answer to a check is longer, in octets.
pub const MAX_ANSWER: usize = 96;
/// Of the attributes that are not understood, so many are named.
const MOST_UNKNOWN: usize = 8;

const PRIORITY: AttributeType = AttributeType::new(0x0024);
const USE_CANDIDATE: AttributeType = AttributeType::new(0x0025);
const ICE_CONTROLLED: AttributeType = AttributeType::new(0x8029);

/// A password, ready for use.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(IntegrityKey);

impl Key {
    /// Of a short-term password (RFC 8489 §9.1.1); SASLprep changes nothing in `ice-char`s.
    pub fn of(password: &str) -> Self {
        Self(ShortTermCredentials::new(password.to_owned()).make_key())
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

/// A Binding request with USERNAME, MESSAGE-INTEGRITY and a FINGERPRINT that fits.
#[derive(Debug)]
pub struct Check<'a> {
    message: Message<'a>,
    username: Username,
    /// PRIORITY (RFC 8445 §7.1.1): what the sender would give the candidate that we see; 0 if not there.
    pub priority: u32,
    /// USE-CANDIDATE (§7.1.2).
    pub nominates: bool,
    /// ICE-CONTROLLED (§7.1.3): the sender believes that we control.
    pub controlled: bool,
}

/// An answer: octets, and how many of them count.
pub type Answer = ([u8; MAX_ANSWER], u8);

impl<'a> Check<'a> {
    /// Reads a check; `None` for anything that gets no answer as such (§7.3: a
    /// check without FINGERPRINT or credentials is none).
    pub fn read(packet: &'a [u8]) -> Option<Self> {
        if kind(packet) != Kind::BindingRequest {
            return None;
        }
        // A FINGERPRINT that does not fit is refused here.
        let message = Message::from_bytes(packet).ok()?;
        let whole = message.has_attribute(Fingerprint::TYPE)
            && (message.has_attribute(MessageIntegrity::TYPE) || message.has_attribute(MessageIntegritySha256::TYPE));
        let username = message.attribute::<Username>().ok().filter(|_| whole)?;
        let priority = message.raw_attribute(PRIORITY);
        let priority = priority.and_then(|raw| Some(u32::from_be_bytes(raw.value.get(..4)?.try_into().ok()?)));
        Some(Self {
            username,
            priority: priority.unwrap_or(0),
            nominates: message.has_attribute(USE_CANDIDATE),
            controlled: message.has_attribute(ICE_CONTROLLED),
            message,
        })
    }

    /// The username fragment of the agent that is checked: before the colon (§7.2.2).
    pub fn ufrag(&self) -> &str {
        self.username.username().split(':').next().unwrap_or_default()
    }

    /// Does the sender know this password?
    pub fn knows(&self, key: &Key) -> bool {
        self.message.validate_integrity_with_key(&key.0).is_ok()
    }

    /// The success response (§7.3.1.3), or 420 where something must be understood that is not (RFC 8489 §6.3.1).
    pub fn accept(&self, from: SocketAddr, key: &Key) -> Option<Answer> {
        let unknown = unknown(&self.message);
        let mut room = [0; MAX_ANSWER];
        let write = MessageWriteMutSlice::new(&mut room);
        let mut answer = if unknown.is_empty() {
            let from = SocketAddr::new(from.ip().to_canonical(), from.port());
            let mut answer = Message::builder_success(&self.message, write);
            answer.add_attribute(&XorMappedAddress::new(from, self.message.transaction_id())).ok()?;
            answer
        } else {
            let mut answer = Message::builder_error(&self.message, write);
            answer.add_attribute(&ErrorCode::new(420, "").ok()?).ok()?;
            answer.add_attribute(&UnknownAttributes::new(&unknown[..unknown.len().min(MOST_UNKNOWN)])).ok()?;
            answer
        };
        answer.add_message_integrity_with_key(&key.0, self.algorithm()).ok()?;
        answer.add_fingerprint().ok()?;
        let length = answer.finish();
        Some((room, u8::try_from(length).ok()?))
    }

    /// Has the request attributes that must be understood and are not?
    pub fn is_understood(&self) -> bool {
        unknown(&self.message).is_empty()
    }

    /// The error response: 401 to a stranger, who gets no MESSAGE-INTEGRITY
    /// (RFC 8489 §9.1.4); 487 (RFC 8445 §7.3.1.1) with `key`.
    pub fn refuse(&self, code: u16, key: Option<&Key>) -> Option<Answer> {
        let mut room = [0; MAX_ANSWER];
        let mut answer = Message::builder_error(&self.message, MessageWriteMutSlice::new(&mut room));
        answer.add_attribute(&ErrorCode::new(code, "").ok()?).ok()?;
        if let Some(key) = key {
            answer.add_message_integrity_with_key(&key.0, self.algorithm()).ok()?;
        }
        answer.add_fingerprint().ok()?;
        let length = answer.finish();
        Some((room, u8::try_from(length).ok()?))
    }

    fn algorithm(&self) -> IntegrityAlgorithm {
        if self.message.has_attribute(MessageIntegritySha256::TYPE) {
            IntegrityAlgorithm::Sha256
        } else {
            IntegrityAlgorithm::Sha1
        }
    }
}

/// A check, for those who play the agent on the other side: tests and simulators.
///
/// `username` is `theirs:ours`; the integrity is SHA-1, as RFC 8445 has it.
pub fn check(transaction: [u8; 12], username: &str, key: &Key, priority: u32, nominates: bool) -> Option<Vec<u8>> {
    request(transaction, username, key, priority, nominates, 0x802a)
}

fn request(
    transaction: [u8; 12],
    username: &str,
    key: &Key,
    priority: u32,
    nominates: bool,
    role: u16,
) -> Option<Vec<u8>> {
    use stun_types::attribute::RawAttribute;
    use stun_types::message::{BINDING, MessageClass, MessageType, MessageWriteVec, TransactionId};
    let mut id = [0; 16];
    id[4..].copy_from_slice(&transaction);
    let kind = MessageType::from_class_method(MessageClass::Request, BINDING);
    let id = TransactionId::from(u128::from_be_bytes(id));
    let mut check = Message::builder(kind, id, MessageWriteVec::with_capacity(128));
    check.add_attribute(&Username::new(username).ok()?).ok()?;
    check.add_attribute(&RawAttribute::new(PRIORITY, &priority.to_be_bytes())).ok()?;
    check.add_attribute(&RawAttribute::new(AttributeType::new(role), &[7; 8])).ok()?;
    if nominates {
        check.add_attribute(&RawAttribute::new(USE_CANDIDATE, &[])).ok()?;
    }
    check.add_message_integrity_with_key(&key.0, IntegrityAlgorithm::Sha1).ok()?;
    check.add_fingerprint().ok()?;
    Some(check.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stun::{self, read_answer};

    const FROM: &str = "198.51.100.7:40000";

    fn packet(nominates: bool, role: u16) -> Vec<u8> {
        request([5; 12], "ours:theirs", &Key::of("secret"), 77, nominates, role).expect("fits")
    }

    fn text(answer: Option<Answer>) -> Vec<u8> {
        let (bytes, length) = answer.expect("an answer");
        bytes[..usize::from(length)].to_vec()
    }

    #[test]
    fn a_check_is_read_and_answered_with_integrity() {
        let packet = packet(true, 0x802a);
        let check = Check::read(&packet).expect("a check");
        assert_eq!((check.ufrag(), check.priority, check.nominates, check.controlled), ("ours", 77, true, false));
        let key = Key::of("secret");
        assert!(check.knows(&key) && !check.knows(&Key::of("Secret")));
        let from = FROM.parse().expect("address");
        let answer = text(check.accept(from, &key));
        assert!(answer.len() <= packet.len());
        let read = read_answer(&answer).expect("reads");
        assert_eq!((read.transaction, read.xor_mapped, read.error), ([5; 12], Some(from), None));
        let message = Message::from_bytes(&answer).expect("reads");
        assert!(message.validate_integrity_with_key(&key.0).is_ok() && message.has_attribute(Fingerprint::TYPE));
    }

    #[test]
    fn errors_are_small_and_only_those_to_friends_are_signed() {
        let packet = packet(false, 0x8029);
        let check = Check::read(&packet).expect("a check");
        assert!(check.controlled && !check.nominates);
        let key = Key::of("secret");
        for (code, key, signed) in [(401, None, false), (487, Some(&key), true)] {
            let answer = text(check.refuse(code, key));
            assert!(answer.len() <= packet.len());
            assert_eq!(read_answer(&answer).expect("reads").error, Some(code));
            let message = Message::from_bytes(&answer).expect("reads");
            assert_eq!(message.has_attribute(MessageIntegrity::TYPE), signed);
        }
    }

    #[test]
    fn what_must_be_understood_and_is_not_is_named() {
        let packet = request([5; 12], "ours:theirs", &Key::of("secret"), 77, false, 0x0666).expect("fits");
        let check = Check::read(&packet).expect("a check");
        assert!(!check.is_understood());
        let answer = text(check.accept(FROM.parse().expect("address"), &Key::of("secret")));
        assert_eq!(read_answer(&answer).expect("reads").error, Some(420));
    }

    #[test]
    fn what_is_no_check_is_not_read() {
        let whole = packet(true, 0x802a);
        let mut bent = whole.clone();
        bent[30] ^= 1;
        assert!(Check::read(&bent).is_none(), "the fingerprint does not fit");
        assert!(Check::read(&stun::request([5; 12])).is_none(), "no credentials");
        assert!(Check::read(&whole[..whole.len() - 8]).is_none(), "cut off");
        assert!(Check::read(&[]).is_none());
        let mut indication = [0; 20];
        stun::indication([5; 12], &mut indication);
        assert!(Check::read(&indication).is_none());
    }
}
