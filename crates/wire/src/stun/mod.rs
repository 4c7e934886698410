//! STUN (RFC 8489) over the `stun-types` crate: the little that a
//! signalling or media port needs without a STUN agent.
//!
//! Decides what a packet is and how an answer is written; whether an answer
//! is believed is the business of `nat`. Attributes are read and written by
//! `stun-types`, after the length and shape of the packet were checked here,
//! so that hostile packets cost no more than a look at their header.

pub mod allocate;
pub mod behaviour;
mod binding;
pub mod check;
#[cfg(test)]
mod tests;
pub mod turn;

use std::net::SocketAddr;

use stun_types::attribute::{
    Attribute as _, AttributeStaticType as _, AttributeType, ErrorCode, Fingerprint, MessageIntegrity,
    MessageIntegritySha256, Nonce, Realm, UnknownAttributes, Userhash, Username, XorMappedAddress,
};
use stun_types::message::{
    BINDING, Message, MessageClass, MessageHeader, MessageWrite as _, MessageWriteExt as _, MessageWriteVec,
    TransactionId,
};

pub use binding::{Answer, Unreadable, read_answer, request};

/// What a STUN packet is, as far as a relay cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A Binding request.
    BindingRequest,
    /// A Binding indication (keep-alive, RFC 8445 §11).
    BindingIndication,
    /// A success or error response to a Binding request.
    Response,
    /// Any other method, or not well formed.
    Other,
}

/// No Binding message that concerns us comes near this size; larger ones are not read.
const MAX_PACKET: usize = 2048;

/// PRIORITY, USE-CANDIDATE (RFC 8445 §16.1): an ICE peer that checks before it
/// knows that we do without ICE still gets its answer.
const ICE: [AttributeType; 2] = [AttributeType::new(0x0024), AttributeType::new(0x0025)];

/// Classifies; the packet has already passed [`crate::demux`].
pub fn kind(packet: &[u8]) -> Kind {
    let Some(header) = header(packet) else { return Kind::Other };
    let kind = header.get_type();
    if kind.method() != BINDING {
        return Kind::Other;
    }
    match kind.class() {
        MessageClass::Request => Kind::BindingRequest,
        MessageClass::Indication => Kind::BindingIndication,
        MessageClass::Success | MessageClass::Error => Kind::Response,
    }
}

/// Writes a Binding indication with this 96-bit transaction id into `out`
/// (20 octets, no attributes) and returns its length.
pub fn indication(transaction: [u8; 12], out: &mut [u8; 20]) -> usize {
    out[..8].copy_from_slice(&[0x00, 0x11, 0, 0, 0x21, 0x12, 0xa4, 0x42]);
    out[8..].copy_from_slice(&transaction);
    out.len()
}

/// The Binding success response with XOR-MAPPED-ADDRESS = `from`
/// (RFC 5626 §5.4, RFC 8489 §6.3.1), with FINGERPRINT if the request had one;
/// the 420 response if the request needs something that we do not know
/// (CHANGE-REQUEST and RESPONSE-ADDRESS among them, so nobody is reflected
/// upon). `None` if `request` is no well-formed Binding request.
///
/// At most twice the request in size; only the answer to a request without any
/// attribute over IPv6 has 44 octets for 20 (92 for 68 with the IP and UDP headers).
pub fn answer(request: &[u8], from: SocketAddr) -> Option<Vec<u8>> {
    if kind(request) != Kind::BindingRequest {
        return None;
    }
    let message = Message::from_bytes(request).ok()?;
    let unknown = unknown(&message);
    let write = MessageWriteVec::with_capacity(64);
    let mut answer = if unknown.is_empty() {
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        let mut answer = Message::builder_success(&message, write);
        answer.add_attribute(&XorMappedAddress::new(from, message.transaction_id())).ok()?;
        answer
    } else {
        let mut answer = Message::builder_error(&message, write);
        answer.add_attribute(&ErrorCode::new(420, "").ok()?).ok()?;
        answer.add_attribute(&UnknownAttributes::new(&unknown)).ok()?;
        answer
    };
    if message.has_attribute(Fingerprint::TYPE) {
        answer.add_fingerprint().ok()?;
    }
    Some(answer.finish())
}

/// The header, if the packet is one whole STUN message and nothing else (§5).
fn header(packet: &[u8]) -> Option<MessageHeader> {
    if !(MessageHeader::LENGTH..=MAX_PACKET).contains(&packet.len()) {
        return None;
    }
    let header = MessageHeader::from_bytes(packet).ok()?;
    let length = usize::from(header.data_length());
    (length.is_multiple_of(4) && length + MessageHeader::LENGTH == packet.len()).then_some(header)
}

/// The 96 bits of an id.
fn transaction(id: TransactionId) -> [u8; 12] {
    let bytes = u128::from(id).to_be_bytes();
    let mut out = [0; 12];
    out.copy_from_slice(&bytes[4..]);
    out
}

/// Attributes that must be understood (§14: types below 0x8000) and are not.
fn unknown(message: &Message<'_>) -> Vec<AttributeType> {
    unknown_beside(message, &[])
}

/// Likewise, where some more are understood.
fn unknown_beside(message: &Message<'_>, more: &[AttributeType]) -> Vec<AttributeType> {
    const KNOWN: [AttributeType; 9] = [
        AttributeType::new(0x0001),
        XorMappedAddress::TYPE,
        Username::TYPE,
        Userhash::TYPE,
        MessageIntegrity::TYPE,
        MessageIntegritySha256::TYPE,
        ErrorCode::TYPE,
        Realm::TYPE,
        Nonce::TYPE,
    ];
    message
        .iter_attributes()
        .map(|(_, attribute)| attribute.get_type())
        .filter(|kind| {
            kind.comprehension_required() && !KNOWN.contains(kind) && !ICE.contains(kind) && !more.contains(kind)
        })
        .collect()
}
