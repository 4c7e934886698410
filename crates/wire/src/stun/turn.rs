//! TURN messages as a client writes and reads them (RFC 8656), with long-term
//! credentials (RFC 8489 §9.2: MD5 key, HMAC-SHA1).
//!
//! Decides what octets mean, and how a stream is cut into messages. When what
//! is asked, and what an answer is worth, is the business of `nat`. The media
//! path ([`wrap_channel`], [`wrap_send`], [`unwrap_data`]) writes and reads by
//! hand, without allocating: it is walked for each packet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use stun_types::attribute::{
    AttributeStaticType as _, AttributeType, ErrorCode, MessageIntegrity, Nonce, RawAttribute, Realm, Username,
    XorMappedAddress, XorSocketAddr,
};
use stun_types::message::{
    IntegrityAlgorithm, IntegrityKey, LongTermCredentials, Message, MessageClass, MessageType, MessageWrite as _,
    MessageWriteExt as _, MessageWriteVec, TransactionId,
};

use super::transaction;

const CHANNEL_NUMBER: AttributeType = AttributeType::new(0x000c);
const LIFETIME: AttributeType = AttributeType::new(0x000d);
const XOR_PEER_ADDRESS: AttributeType = AttributeType::new(0x0012);
const DATA: u16 = 0x0013;
const XOR_RELAYED_ADDRESS: AttributeType = AttributeType::new(0x0016);
const REQUESTED_ADDRESS_FAMILY: AttributeType = AttributeType::new(0x0017);
const EVEN_PORT: AttributeType = AttributeType::new(0x0018);
const REQUESTED_TRANSPORT: AttributeType = AttributeType::new(0x0019);
const RESERVATION_TOKEN: AttributeType = AttributeType::new(0x0022);

const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
/// A STUN header has so many octets …
const HEADER: usize = 20;
/// … that of ChannelData so many.
const CHANNEL_HEADER: usize = 4;
/// Channel numbers (RFC 8656 §12).
const CHANNELS: std::ops::RangeInclusive<u16> = 0x4000..=0x4fff;
/// User names, realms and nonces that are longer are refused (RFC 8489 §14.3, §14.9, §14.10).
const LONGEST: usize = 508;

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// An allocation (§7).
    Allocate,
    /// More time for it, or its end (§8).
    Refresh,
    /// Leave for a peer's IP to be heard (§9).
    CreatePermission,
    /// A number for a peer (§12).
    ChannelBind,
}

impl Method {
    fn number(self) -> stun_types::message::Method {
        stun_types::message::Method::new(match self {
            Self::Allocate => 0x003,
            Self::Refresh => 0x004,
            Self::CreatePermission => 0x008,
            Self::ChannelBind => 0x009,
        })
    }
}

/// What stands in a request, beside the credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attribute {
    /// REQUESTED-TRANSPORT: UDP, always.
    Udp,
    /// REQUESTED-ADDRESS-FAMILY: IPv6.
    Ipv6,
    /// EVEN-PORT with the next port reserved.
    EvenPort,
    /// RESERVATION-TOKEN.
    Reservation([u8; 8]),
    /// LIFETIME, in seconds.
    Lifetime(u32),
    /// XOR-PEER-ADDRESS.
    Peer(SocketAddr),
    /// CHANNEL-NUMBER.
    Channel(u16),
}

/// A key made of user name, realm and password. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(IntegrityKey);

impl Key {
    /// MD5 over the three (RFC 8489 §9.2.2).
    pub fn of(username: &str, realm: &str, password: &str) -> Self {
        let credentials = LongTermCredentials::new(username.to_owned(), password.to_owned());
        Self(credentials.to_key(realm.to_owned()).make_key(IntegrityAlgorithm::Sha1))
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

/// What a request shows who it is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// USERNAME.
    pub username: String,
    /// REALM, as the server said.
    pub realm: String,
    /// NONCE, as the server said last.
    pub nonce: String,
    /// For MESSAGE-INTEGRITY.
    pub key: Key,
}

/// A request. `None` when a name or nonce has no room in an attribute.
pub fn request(method: Method, id: [u8; 12], attributes: &[Attribute], login: Option<&Login>) -> Option<Vec<u8>> {
    let id = transaction_id(id);
    let kind = MessageType::from_class_method(MessageClass::Request, method.number());
    let mut request = Message::builder(kind, id, MessageWriteVec::with_capacity(256));
    for attribute in attributes {
        match attribute {
            Attribute::Udp => add(&mut request, REQUESTED_TRANSPORT, &[17, 0, 0, 0])?,
            Attribute::Ipv6 => add(&mut request, REQUESTED_ADDRESS_FAMILY, &[2, 0, 0, 0])?,
            Attribute::EvenPort => add(&mut request, EVEN_PORT, &[0x80])?,
            Attribute::Reservation(token) => add(&mut request, RESERVATION_TOKEN, token)?,
            Attribute::Lifetime(seconds) => add(&mut request, LIFETIME, &seconds.to_be_bytes())?,
            Attribute::Channel(number) => {
                let [high, low] = number.to_be_bytes();
                add(&mut request, CHANNEL_NUMBER, &[high, low, 0, 0])?;
            }
            Attribute::Peer(peer) => {
                request.add_attribute(&XorSocketAddr::new(*peer, id).to_raw(XOR_PEER_ADDRESS)).ok()?;
            }
        }
    }
    if let Some(login) = login {
        if [&login.username, &login.realm, &login.nonce].iter().any(|text| text.len() > LONGEST) {
            return None;
        }
        request.add_attribute(&Username::new(&login.username).ok()?).ok()?;
        request.add_attribute(&Realm::new(&login.realm).ok()?).ok()?;
        request.add_attribute(&Nonce::new(&login.nonce).ok()?).ok()?;
        request.add_message_integrity_with_key(&login.key.0, IntegrityAlgorithm::Sha1).ok()?;
    }
    request.add_fingerprint().ok()?;
    Some(request.finish())
}

fn add(request: &mut MessageWriteVec, kind: AttributeType, value: &[u8]) -> Option<()> {
    request.add_attribute(&RawAttribute::new(kind, value)).ok()
}

/// What a response says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The transaction that it answers.
    pub id: [u8; 12],
    /// Its MESSAGE-INTEGRITY was made with our key.
    pub signed: bool,
    /// What.
    pub outcome: Result<Granted, Refused>,
}

/// A success response; what is not there is not of its method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Granted {
    /// XOR-RELAYED-ADDRESS.
    pub relayed: Option<SocketAddr>,
    /// XOR-MAPPED-ADDRESS: we, as the server sees us.
    pub mapped: Option<SocketAddr>,
    /// LIFETIME, in seconds.
    pub lifetime: Option<u32>,
    /// RESERVATION-TOKEN.
    pub token: Option<[u8; 8]>,
}

/// An error response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// ERROR-CODE; 500 if there is none that can be read.
    pub code: u16,
    /// REALM and NONCE, if both are there.
    pub challenge: Option<(String, String)>,
}

/// Reads a response to a TURN request. `None` for anything else, also for one
/// whose FINGERPRINT does not fit or whose attributes do not read.
pub fn read_response(packet: &[u8], key: Option<&Key>) -> Option<Response> {
    let Some(Frame::Message(length)) = frame(packet) else { return None };
    if length != packet.len() {
        return None;
    }
    let message = Message::from_bytes(packet).ok()?;
    let id = message.transaction_id();
    let signed = message.has_attribute(MessageIntegrity::TYPE)
        && key.is_some_and(|key| message.validate_integrity_with_key(&key.0).is_ok());
    let outcome = match message.class() {
        MessageClass::Request | MessageClass::Indication => return None,
        MessageClass::Success => {
            let relayed = message.raw_attribute(XOR_RELAYED_ADDRESS);
            let value = |kind| message.raw_attribute(kind).map(|raw| raw.value.to_vec());
            Ok(Granted {
                relayed: relayed.and_then(|raw| XorSocketAddr::from_raw(&raw).ok()).map(|address| address.addr(id)),
                mapped: message.attribute::<XorMappedAddress>().ok().map(|address| address.addr(id)),
                lifetime: value(LIFETIME).and_then(|v| Some(u32::from_be_bytes(v.get(..4)?.try_into().ok()?))),
                token: value(RESERVATION_TOKEN).and_then(|v| v.try_into().ok()),
            })
        }
        MessageClass::Error => {
            let realm = message.attribute::<Realm>().ok().map(|realm| realm.realm().to_owned());
            let nonce = message.attribute::<Nonce>().ok().map(|nonce| nonce.nonce().to_owned());
            let code = message.attribute::<ErrorCode>().map_or(500, |error| error.code());
            Err(Refused { code, challenge: realm.zip(nonce) })
        }
    };
    Some(Response { id: transaction(id), signed, outcome })
}

/// The first thing in a datagram or a stream (§12.5), by its whole length there
/// without padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame {
    /// A STUN message.
    Message(usize),
    /// ChannelData.
    Channel(usize),
}

impl Frame {
    /// How many octets it takes on a stream: ChannelData is padded to a multiple of four.
    pub fn on_stream(self) -> usize {
        match self {
            Self::Message(length) => length,
            Self::Channel(length) => length.next_multiple_of(4),
        }
    }
}

/// What begins with these octets. `None` for what is neither, and for fewer
/// than four octets ([`is_short`] tells which).
pub fn frame(octets: &[u8]) -> Option<Frame> {
    let [first, second, high, low, ..] = octets else { return None };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    if CHANNELS.contains(&u16::from_be_bytes([*first, *second])) {
        Some(Frame::Channel(CHANNEL_HEADER + length))
    } else {
        (*first < 0x40 && length.is_multiple_of(4)).then_some(Frame::Message(HEADER + length))
    }
}

/// Too short to tell.
pub fn is_short(octets: &[u8]) -> bool {
    octets.len() < CHANNEL_HEADER
}

/// Appends ChannelData (§12.4), padded as on a stream if `padded`. False if
/// the payload is too long.
pub fn wrap_channel(number: u16, payload: &[u8], padded: bool, out: &mut Vec<u8>) -> bool {
    let Ok(length) = u16::try_from(payload.len()) else { return false };
    out.extend_from_slice(&number.to_be_bytes());
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(payload);
    if padded {
        pad(payload.len(), out);
    }
    true
}

/// Appends a Send indication (§11.1). False if the payload is too long.
pub fn wrap_send(id: [u8; 12], peer: SocketAddr, payload: &[u8], out: &mut Vec<u8>) -> bool {
    indication(0x0016, id, peer, payload, out)
}

/// A Data indication (§11.3), as a server sends it; for those who play one.
pub fn wrap_data(id: [u8; 12], peer: SocketAddr, payload: &[u8], out: &mut Vec<u8>) -> bool {
    indication(0x0017, id, peer, payload, out)
}

fn indication(kind: u16, id: [u8; 12], peer: SocketAddr, payload: &[u8], out: &mut Vec<u8>) -> bool {
    let ip = peer.ip().to_canonical();
    let address: u16 = if ip.is_ipv4() { 8 } else { 20 };
    let whole = usize::from(address) + 8 + payload.len().next_multiple_of(4);
    let (Ok(whole), Ok(length)) = (u16::try_from(whole), u16::try_from(payload.len())) else { return false };
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&whole.to_be_bytes());
    out.extend_from_slice(&COOKIE);
    out.extend_from_slice(&id);
    out.extend_from_slice(&0x0012_u16.to_be_bytes());
    out.extend_from_slice(&address.to_be_bytes());
    out.extend_from_slice(&[0, if ip.is_ipv4() { 1 } else { 2 }]);
    out.extend_from_slice(&(peer.port() ^ 0x2112).to_be_bytes());
    let mask = COOKIE.iter().chain(&id);
    match ip {
        IpAddr::V4(ip) => out.extend(ip.octets().iter().zip(mask).map(|(octet, mask)| octet ^ mask)),
        IpAddr::V6(ip) => out.extend(ip.octets().iter().zip(mask).map(|(octet, mask)| octet ^ mask)),
    }
    out.extend_from_slice(&DATA.to_be_bytes());
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(payload);
    pad(payload.len(), out);
    true
}

fn pad(length: usize, out: &mut Vec<u8>) {
    out.resize(out.len() + length.next_multiple_of(4) - length, 0);
}

/// Number and payload of ChannelData.
pub fn unwrap_channel(packet: &[u8]) -> Option<(u16, &[u8])> {
    let Some(Frame::Channel(length)) = frame(packet) else { return None };
    Some((u16::from_be_bytes([packet[0], packet[1]]), packet.get(CHANNEL_HEADER..length)?))
}

/// Peer and payload of a Data indication; `None` for anything else.
pub fn unwrap_data(packet: &[u8]) -> Option<(SocketAddr, &[u8])> {
    let Some(Frame::Message(length)) = frame(packet) else { return None };
    if packet.get(..2)? != [0x00, 0x17] || packet.get(4..8)? != COOKIE {
        return None;
    }
    let id = packet.get(8..HEADER)?;
    let mut rest = packet.get(HEADER..length)?;
    let (mut peer, mut data) = (None, None);
    while let [kind_high, kind_low, high, low, after @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let value = after.get(..length)?;
        match u16::from_be_bytes([*kind_high, *kind_low]) {
            0x0012 => peer = Some(xor_address(value, id)?),
            DATA => data = Some(value),
            // Comprehension required, and not known (RFC 8489 §6.3.2).
            kind if kind < 0x8000 => return None,
            _ => {}
        }
        rest = after.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    peer.zip(data)
}

fn xor_address(value: &[u8], id: &[u8]) -> Option<SocketAddr> {
    let [_, family, high, low, address @ ..] = value else { return None };
    let port = u16::from_be_bytes([*high, *low]) ^ 0x2112;
    let mask = COOKIE.iter().chain(id);
    let mut octets = [0; 16];
    for ((to, octet), mask) in octets.iter_mut().zip(address).zip(mask) {
        *to = octet ^ mask;
    }
    let ip = match (family, address.len()) {
        (1, 4) => IpAddr::V4(Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3])),
        (2, 16) => IpAddr::V6(Ipv6Addr::from(octets)),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

fn transaction_id(id: [u8; 12]) -> TransactionId {
    let mut bytes = [0; 16];
    bytes[4..].copy_from_slice(&id);
    TransactionId::from(u128::from_be_bytes(bytes))
}

/// A response, for those who play the server: tests and simulators.
pub fn response(
    method: Method,
    id: [u8; 12],
    outcome: &Result<Granted, Refused>,
    key: Option<&Key>,
) -> Option<Vec<u8>> {
    let id = transaction_id(id);
    let class = if outcome.is_ok() { MessageClass::Success } else { MessageClass::Error };
    let kind = MessageType::from_class_method(class, method.number());
    let mut response = Message::builder(kind, id, MessageWriteVec::with_capacity(128));
    match outcome {
        Ok(granted) => {
            if let Some(relayed) = granted.relayed {
                response.add_attribute(&XorSocketAddr::new(relayed, id).to_raw(XOR_RELAYED_ADDRESS)).ok()?;
            }
            if let Some(mapped) = granted.mapped {
                response.add_attribute(&XorMappedAddress::new(mapped, id)).ok()?;
            }
            if let Some(lifetime) = granted.lifetime {
                add(&mut response, LIFETIME, &lifetime.to_be_bytes())?;
            }
            if let Some(token) = granted.token {
                add(&mut response, RESERVATION_TOKEN, &token)?;
            }
        }
        Err(refused) => {
            response.add_attribute(&ErrorCode::new(refused.code, "").ok()?).ok()?;
            if let Some((realm, nonce)) = &refused.challenge {
                response.add_attribute(&Realm::new(realm).ok()?).ok()?;
                response.add_attribute(&Nonce::new(nonce).ok()?).ok()?;
            }
        }
    }
    if let Some(key) = key {
        response.add_message_integrity_with_key(&key.0, IntegrityAlgorithm::Sha1).ok()?;
    }
    response.add_fingerprint().ok()?;
    Some(response.finish())
}

/// What a request asks, for those who play the server: its method, id, whether
/// it is signed with `key`, its channel, its lifetime, its peer, and whether it wants an even port.
pub fn read_request(packet: &[u8], key: &Key) -> Option<Asked> {
    let message = Message::from_bytes(packet).ok()?;
    let id = message.transaction_id();
    let methods = [Method::Allocate, Method::Refresh, Method::CreatePermission, Method::ChannelBind];
    let method = methods.into_iter().find(|method| message.method() == method.number())?;
    let value = |kind| message.raw_attribute(kind).map(|raw| raw.value.to_vec());
    let peer = message.raw_attribute(XOR_PEER_ADDRESS);
    Some(Asked {
        method,
        id: transaction(id),
        signed: message.validate_integrity_with_key(&key.0).is_ok(),
        nonce: message.attribute::<Nonce>().ok().map(|nonce| nonce.nonce().to_owned()),
        channel: value(CHANNEL_NUMBER).and_then(|v| Some(u16::from_be_bytes(v.get(..2)?.try_into().ok()?))),
        lifetime: value(LIFETIME).and_then(|v| Some(u32::from_be_bytes(v.get(..4)?.try_into().ok()?))),
        peer: peer.and_then(|raw| XorSocketAddr::from_raw(&raw).ok()).map(|address| address.addr(id)),
        even: message.has_attribute(EVEN_PORT),
        token: value(RESERVATION_TOKEN).and_then(|v| v.try_into().ok()),
    })
}

/// A request, as a server sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// What is wanted.
    pub method: Method,
    /// The transaction.
    pub id: [u8; 12],
    /// It has a MESSAGE-INTEGRITY of the key.
    pub signed: bool,
    /// Its NONCE.
    pub nonce: Option<String>,
    /// CHANNEL-NUMBER.
    pub channel: Option<u16>,
    /// LIFETIME.
    pub lifetime: Option<u32>,
    /// XOR-PEER-ADDRESS.
    pub peer: Option<SocketAddr>,
    /// EVEN-PORT.
    pub even: bool,
    /// RESERVATION-TOKEN.
    pub token: Option<[u8; 8]>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    fn login() -> Login {
        let key = Key::of("office", "example.net", "secret");
        Login { username: "office".into(), realm: "example.net".into(), nonce: "n1".into(), key }
    }

    #[test]
    fn requests_are_signed_and_read_by_a_server() {
        let login = login();
        let peer = at("198.51.100.7:4000");
        let attributes = [Attribute::Channel(0x4001), Attribute::Peer(peer), Attribute::Lifetime(600)];
        let bytes = request(Method::ChannelBind, [7; 12], &attributes, Some(&login)).expect("fits");
        let asked = read_request(&bytes, &login.key).expect("reads");
        assert_eq!((asked.method, asked.id, asked.signed), (Method::ChannelBind, [7; 12], true));
        assert_eq!((asked.channel, asked.peer, asked.lifetime), (Some(0x4001), Some(peer), Some(600)));
        assert!(!read_request(&bytes, &Key::of("office", "example.net", "Secret")).expect("reads").signed);
        let long = Login { nonce: "n".repeat(1000), ..login };
        assert_eq!(request(Method::Refresh, [7; 12], &[], Some(&long)), None);
    }

    #[test]
    fn responses_say_what_was_granted_or_why_not() {
        let key = login().key;
        let granted = Granted {
            relayed: Some(at("203.0.113.5:50000")),
            mapped: Some(at("[2001:db8::1]:6000")),
            lifetime: Some(600),
            token: Some([9; 8]),
        };
        let bytes = response(Method::Allocate, [1; 12], &Ok(granted), Some(&key)).expect("fits");
        let read = read_response(&bytes, Some(&key)).expect("reads");
        assert_eq!(read, Response { id: [1; 12], signed: true, outcome: Ok(granted) });
        assert!(!read_response(&bytes, None).expect("reads").signed);
        let refused = Refused { code: 438, challenge: Some(("example.net".into(), "n2".into())) };
        let bytes = response(Method::Refresh, [2; 12], &Err(refused.clone()), None).expect("fits");
        assert_eq!(read_response(&bytes, Some(&key)).expect("reads").outcome, Err(refused));
        for cut in 0..bytes.len() {
            assert_eq!(read_response(&bytes[..cut], Some(&key)), None, "{cut}");
        }
    }

    #[test]
    fn packets_come_out_as_they_went_in() {
        for (peer, payload) in
            [("198.51.100.7:4000", &b"12345"[..]), ("[2001:db8::7]:4000", b""), ("10.0.0.1:1", b"1234")]
        {
            let mut out = Vec::new();
            assert!(wrap_data([3; 12], at(peer), payload, &mut out));
            assert_eq!(out.len() % 4, 0);
            assert_eq!(frame(&out), Some(Frame::Message(out.len())));
            assert_eq!(unwrap_data(&out), Some((at(peer), payload)));
            for cut in 0..out.len() {
                assert_eq!(unwrap_data(&out[..cut]), None, "{cut}");
            }
            let mut out = Vec::new();
            assert!(wrap_channel(0x4002, payload, true, &mut out));
            assert_eq!(frame(&out).map(Frame::on_stream), Some(out.len()));
            assert_eq!(unwrap_channel(&out), Some((0x4002, payload)));
            let mut out = Vec::new();
            assert!(wrap_channel(0x4002, payload, false, &mut out));
            assert_eq!(out.len(), 4 + payload.len());
        }
        // Our Send indication is no Data indication, and reads as a message that a server understands.
        let mut out = Vec::new();
        assert!(wrap_send([3; 12], at("198.51.100.7:4000"), b"x", &mut out));
        assert!(unwrap_data(&out).is_none() && Message::from_bytes(&out).is_ok());
        assert!(!wrap_send([3; 12], at("198.51.100.7:4000"), &[0; 65_530], &mut Vec::new()));
    }

    #[test]
    fn what_is_neither_is_no_frame() {
        for bad in [&[][..], &[0, 1, 0], &[0x50, 0, 0, 0], &[0x80, 0, 0, 0], &[0, 1, 0, 3]] {
            assert_eq!(frame(bad), None, "{bad:?}");
        }
        assert!(is_short(&[0, 1, 0]) && !is_short(&[0, 1, 0, 3]));
        assert_eq!(unwrap_channel(&[0x40, 0, 0, 9, 1]), None);
        // An attribute that must be understood and is not.
        let mut out = Vec::new();
        assert!(wrap_data([3; 12], at("198.51.100.7:4000"), b"1234", &mut out));
        out.extend([0x00, 0x7f, 0, 0]);
        let length = (out.len() - HEADER) as u16;
        out[2..4].copy_from_slice(&length.to_be_bytes());
        assert_eq!(unwrap_data(&out), None);
    }
}
