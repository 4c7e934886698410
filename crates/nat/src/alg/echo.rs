//! The far end: says what arrived, by hashes, in an answer that is no longer
//! than what came. Keeps nothing.

use std::net::SocketAddr;

use wire::sip::compose::{Response, answerable};
use wire::sip::{Message, Method, Status, Uri};

use super::lines;

/// The user part of the Request-URI of a probe.
pub const USER: &str = "siplatch-reflect";
/// The field with the hashes of the lines of the request that arrived.
pub const CAME: &str = "X-Siplatch-Came";
/// The field with the hashes of the lines of the answer that was sent, itself left out.
pub const WENT: &str = "X-Siplatch-Went";

/// True for a request outside of a dialog that wants to be told how it arrived.
pub fn is_probe(request: Message<'_>) -> bool {
    let asks = |uri: Uri<'_>| uri.user == Some(USER.as_bytes());
    let method = matches!(request.method(), Method::Register | Method::Invite | Method::Options);
    request.is_request() && method && Uri::parse(request.request_uri()).is_ok_and(asks)
}

/// The answer to a probe (480), toward `source` where it came from; `None`
/// where it would be longer than the probe, or the probe is too odd to be answered.
pub fn answer(probe: Message<'_>, source: SocketAddr, to_tag: &[u8]) -> Option<Vec<u8>> {
    if !answerable(probe) || probe.top_via().is_err() {
        return None;
    }
    let came = lines::field(CAME, &lines::of(probe.bytes))?;
    let mut bytes = Vec::with_capacity(probe.bytes.len());
    Response {
        request: probe,
        status: Status(480),
        reason: "Reflected",
        to_tag,
        source,
        keep: None,
        peer: None,
        extra: came.as_bytes(),
        body: None,
    }
    .write(&mut bytes);
    let went = lines::field(WENT, &lines::of(&bytes))?;
    bytes.truncate(bytes.len().checked_sub(2)?);
    bytes.extend_from_slice(went.as_bytes());
    bytes.extend_from_slice(b"\r\n");
    (bytes.len() <= probe.bytes.len()).then_some(bytes)
}
