//! The two messages of a Binding transaction, seen from the client
//! (RFC 8489 §6.1, §6.3, §14.1, §14.2).
//!
//! Decides what an answer says; not whether its sender may be believed.

use std::net::SocketAddr;

use stun_types::attribute::{
    AttributeStaticType as _, AttributeType, ErrorCode, MappedSocketAddr, UnknownAttributes, XorMappedAddress,
};
use stun_types::message::{
    BINDING, Message, MessageClass, MessageType, MessageWrite as _, MessageWriteExt as _, MessageWriteVec,
    TransactionId,
};

use super::behaviour::{OTHER_ADDRESS, PADDING, RESPONSE_ORIGIN};
use super::{Kind, header, kind, transaction, unknown_beside};

/// MAPPED-ADDRESS (§14.1): all that servers of RFC 3489 send.
const MAPPED_ADDRESS: AttributeType = AttributeType::new(0x0001);

/// SOURCE-ADDRESS and CHANGED-ADDRESS of servers of RFC 3489 (§11.2.4, §11.2.3), which later ones do without.
const SOURCE_ADDRESS: AttributeType = AttributeType::new(0x0004);
const CHANGED_ADDRESS: AttributeType = AttributeType::new(0x0005);

/// What a response to a Binding request says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// The transaction that it answers.
    pub transaction: [u8; 12],
    /// XOR-MAPPED-ADDRESS.
    pub xor_mapped: Option<SocketAddr>,
    /// MAPPED-ADDRESS.
    pub mapped: Option<SocketAddr>,
    /// Where it says that it came from: RESPONSE-ORIGIN (RFC 5780 §7.3), or SOURCE-ADDRESS (RFC 3489 §11.2.4).
    pub origin: Option<SocketAddr>,
    /// Where else the server can be asked, another IP and another port:
    /// OTHER-ADDRESS (RFC 5780 §7.4), or CHANGED-ADDRESS (RFC 3489 §11.2.3).
    pub other: Option<SocketAddr>,
    /// ERROR-CODE of an error response, 500 if it has none that can be read.
    pub error: Option<u16>,
    /// It has attributes that must be understood and are not: by §6.3.3 and
    /// §6.3.4 the transaction has failed.
    pub unknown: bool,
}

/// Why a packet is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// Not a whole Binding response.
    NotAResponse,
    /// Attributes that do not read, or a FINGERPRINT that does not fit: to be
    /// ignored (§6.3). With the transaction id from the header.
    Damaged([u8; 12]),
}

/// A Binding request with this transaction id and FINGERPRINT (§6.1, §14.7).
pub fn request(transaction: [u8; 12]) -> Vec<u8> {
    let mut id = [0; 16];
    id[4..].copy_from_slice(&transaction);
    let kind = MessageType::from_class_method(MessageClass::Request, BINDING);
    let mut request =
        Message::builder(kind, TransactionId::from(u128::from_be_bytes(id)), MessageWriteVec::with_capacity(28));
    // A vector has room and the message has no fingerprint yet; without one the request is as valid.
    let _ = request.add_fingerprint();
    request.finish()
}

/// Reads a response to a Binding request.
pub fn read_answer(packet: &[u8]) -> Result<Answer, Unreadable> {
    let header = header(packet).filter(|_| kind(packet) == Kind::Response).ok_or(Unreadable::NotAResponse)?;
    let transaction = transaction(header.transaction_id());
    let message = Message::from_bytes(packet).map_err(|_| Unreadable::Damaged(transaction))?;
    let xor_mapped = message.attribute::<XorMappedAddress>().ok().map(|a| a.addr(message.transaction_id()));
    let address = |kind| {
        let raw = message.raw_attribute(kind)?;
        MappedSocketAddr::from_raw(&raw).ok().map(|address| address.addr())
    };
    let error = match message.class() {
        MessageClass::Error => Some(message.attribute::<ErrorCode>().map_or(500, |error| error.code())),
        MessageClass::Success | MessageClass::Request | MessageClass::Indication => None,
    };
    let understood = [UnknownAttributes::TYPE, SOURCE_ADDRESS, CHANGED_ADDRESS, PADDING];
    Ok(Answer {
        transaction,
        xor_mapped,
        mapped: address(MAPPED_ADDRESS),
        origin: address(RESPONSE_ORIGIN).or_else(|| address(SOURCE_ADDRESS)),
        other: address(OTHER_ADDRESS).or_else(|| address(CHANGED_ADDRESS)),
        error,
        unknown: !unknown_beside(&message, &understood).is_empty(),
    })
}
