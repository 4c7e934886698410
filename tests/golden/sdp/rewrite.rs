//! How the cases are rewritten: each m-line that is alive gets the next pair
//! of ports. RTP streams name their RTCP address in every case, as they must
//! where mapped ports are not neighbours; other protocols have none.

use std::net::{IpAddr, SocketAddr};

use wire::Edit;
use wire::sdp::{Body, Connection, edit};

/// RTP port of the first m-line; each further one has the next pair.
const FIRST_PORT: u16 = 30000;

/// Attributes of a path that is not ours (RFC 7584 §4.2).
const ICE: [&str; 9] = [
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

/// Writes the relay's address and ports into a body.
pub(crate) fn rewrite(whole: &[u8], change: &mut Edit, body: &Body<'_>, relay: IpAddr) {
    if let Some(origin) = &body.origin {
        edit::origin(whole, change, origin, relay);
    }
    connection(whole, change, body.connection, relay);
    for (index, media) in body.media.iter().enumerate() {
        connection(whole, change, media.connection, relay);
        if media.is_rejected() {
            edit::remove_media_attributes(whole, change, media, &["rtcp"]);
            continue;
        }
        let port = FIRST_PORT + 2 * index as u16;
        edit::port(whole, change, media, port);
        if media.protocol.windows(4).any(|part| part == b"RTP/") {
            edit::rtcp(whole, change, media, SocketAddr::new(relay, port + 1));
        }
    }
    edit::remove_attributes(whole, change, body, &ICE);
}

/// `0.0.0.0` is a hold and stays one (RFC 3264 §8.4).
fn connection(whole: &[u8], change: &mut Edit, connection: Option<Connection<'_>>, relay: IpAddr) {
    if let Some(connection) = connection.filter(|connection| !connection.is_unspecified()) {
        edit::connection(whole, change, &connection, relay);
    }
}
