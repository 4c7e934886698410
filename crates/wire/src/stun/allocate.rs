//! The first Allocate of a TURN client, which has no credentials yet (RFC 8656 §7.1),
//! and what the answer says. Enough to see that a server is there; not a client.

use stun_types::attribute::{AttributeType, ErrorCode, RawAttribute, Realm};
use stun_types::message::{
    Message, MessageClass, MessageType, MessageWrite as _, MessageWriteExt as _, MessageWriteVec, Method, TransactionId,
};

use super::transaction;

const ALLOCATE: Method = Method::new(0x003);
const REQUESTED_TRANSPORT: AttributeType = AttributeType::new(0x0019);
/// The protocol number of UDP, and three octets of nothing.
const UDP: [u8; 4] = [17, 0, 0, 0];

/// What a server says to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allocated {
    /// ERROR-CODE; `None` where it was granted.
    pub error: Option<u16>,
    /// REALM, for people.
    pub realm: Option<String>,
}

/// The request: REQUESTED-TRANSPORT of UDP, and FINGERPRINT.
pub fn request(id: [u8; 12]) -> Vec<u8> {
    let mut whole = [0; 16];
    whole[4..].copy_from_slice(&id);
    let kind = MessageType::from_class_method(MessageClass::Request, ALLOCATE);
    let whole = TransactionId::from(u128::from_be_bytes(whole));
    let mut request = Message::builder(kind, whole, MessageWriteVec::with_capacity(64));
    // A vector has room, and no attribute comes twice.
    let _ = request.add_attribute(&RawAttribute::new(REQUESTED_TRANSPORT, &UDP));
    let _ = request.add_fingerprint();
    request.finish()
}

/// Reads the answer to the request with this transaction id.
pub fn read(packet: &[u8], id: [u8; 12]) -> Option<Allocated> {
    let message = Message::from_bytes(packet).ok()?;
    if message.method() != ALLOCATE || transaction(message.transaction_id()) != id {
        return None;
    }
    match message.class() {
        MessageClass::Success => Some(Allocated { error: None, realm: None }),
        MessageClass::Error => {
            let error = message.attribute::<ErrorCode>().map_or(500, |error| error.code());
            let realm = message.attribute::<Realm>().ok().map(|realm| realm.realm().to_owned());
            Some(Allocated { error: Some(error), realm })
        }
        MessageClass::Request | MessageClass::Indication => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_of_a_server_is_read() {
        let bytes = request([7; 12]);
        let asked = Message::from_bytes(&bytes).expect("a message");
        assert!(asked.has_attribute(REQUESTED_TRANSPORT) && asked.class() == MessageClass::Request);
        let mut refusal = Message::builder_error(&asked, MessageWriteVec::new());
        refusal.add_attribute(&ErrorCode::new(401, "Unauthorized").expect("a code")).expect("room");
        refusal.add_attribute(&Realm::new("example.net").expect("a realm")).expect("room");
        let refusal = refusal.finish();
        let realm = Some("example.net".to_owned());
        assert_eq!(read(&refusal, [7; 12]), Some(Allocated { error: Some(401), realm }));
        assert_eq!(read(&refusal, [8; 12]), None);
        assert_eq!(read(&bytes, [7; 12]), None);
        assert_eq!(read(b"", [7; 12]), None);
        // A Binding response is no answer to it.
        let binding = super::super::answer(&super::super::request([7; 12]), "192.0.2.1:1".parse().expect("an address"));
        assert_eq!(read(&binding.expect("an answer"), [7; 12]), None);
    }
}
