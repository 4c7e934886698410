//! What an SDP body says that matters to a relay, and what we write into it.

use std::net::{IpAddr, SocketAddr};

use wire::Edit;
use wire::sdp::{self, Body, Direction};

use super::discovered;
use super::session::Session;
use crate::{End, Target};

/// Transports that a datagram relay can carry (RFC 8866 §5.14 `proto`).
pub(super) fn relayed(protocol: &[u8]) -> bool {
    !protocol.get(..3).is_some_and(|p| p.eq_ignore_ascii_case(b"TCP"))
}

/// Where a section says that it wants its packets; `None` for hold by
/// 0.0.0.0, host names, and addresses that nobody may send to.
pub(super) fn signalled(sdp: &Body<'_>, media: &sdp::Media<'_>) -> Option<Target> {
    let ip = media.connection.or(sdp.connection)?.ip()?;
    if media.port == 0 || nat::address::is_absurd(ip) {
        return None;
    }
    let rtcp = match &media.rtcp {
        Some(rtcp) => SocketAddr::new(rtcp.ip.filter(|ip| !nat::address::is_absurd(*ip)).unwrap_or(ip), rtcp.port),
        None => SocketAddr::new(ip, media.port.checked_add(1).unwrap_or(media.port)),
    };
    Some(Target { rtp: SocketAddr::new(ip, media.port), rtcp })
}

/// ICE is not spoken for the peers: their candidates must not leak across
/// (RFC 7584 §4.2), so both sides see a body without ICE and latch.
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

/// Edits a body so that it names our legs facing `to`, and nothing of the other side.
pub(super) fn write(session: &Session, to: End, whole: &[u8], body: &Body<'_>, edit: &mut Edit) {
    let end = &session.ends[to.index()];
    let leg =
        |line: usize| session.streams.get(line).and_then(Option::as_ref).map(|stream| stream.advertised[to.index()]);
    let at_session = (0..body.media.len()).find_map(leg).map_or(end.own, |t| t.rtp.ip());
    if let Some(origin) = &body.origin {
        sdp::edit::origin(whole, edit, origin, at_session);
    }
    if let Some(connection) = &body.connection
        && !held_by_address(connection.ip())
    {
        sdp::edit::connection(whole, edit, connection, at_session);
    }
    for (line, media) in body.media.iter().enumerate() {
        let refused = media.port == 0 || leg(line).is_none();
        let target = leg(line).filter(|_| !refused);
        let ip = target.map_or(at_session, |t| t.rtp.ip());
        match &media.connection {
            Some(connection) if !held_by_address(connection.ip()) => {
                sdp::edit::connection(whole, edit, connection, ip);
            }
            None if ip != at_session && body.connection.is_some() => {
                sdp::edit::add_connection(whole, edit, media, ip);
            }
            Some(_) | None => {}
        }
        match target {
            Some(target) => {
                sdp::edit::port(whole, edit, media, target.rtp.port());
                let next = SocketAddr::new(target.rtp.ip(), target.rtp.port().wrapping_add(1));
                let written = media.attribute("rtcp").is_some();
                let wanted = written || target.rtcp != next || discovered(end.advertise);
                if !media.protocol.windows(3).any(|p| p.eq_ignore_ascii_case(b"RTP")) {
                    sdp::edit::remove_media_attributes(whole, edit, media, &["rtcp"]);
                } else if wanted {
                    sdp::edit::rtcp(whole, edit, media, target.rtcp);
                }
            }
            None => {
                if media.port != 0 {
                    sdp::edit::port(whole, edit, media, 0);
                }
                sdp::edit::remove_media_attributes(whole, edit, media, &["rtcp"]);
            }
        }
    }
    sdp::edit::remove_repeated(whole, edit, body);
    sdp::edit::remove_attributes(whole, edit, body, &ICE);
}

/// RFC 3264 §8.4: `c=0.0.0.0` is an old spelling of hold and passes as it is.
fn held_by_address(ip: Option<IpAddr>) -> bool {
    ip.is_some_and(|ip| ip.is_unspecified())
}

/// True when this section asks for less than both directions.
pub(super) fn on_hold(sdp: &Body<'_>, media: &sdp::Media<'_>) -> bool {
    let direction = media.direction.or(sdp.direction).unwrap_or(Direction::SendRecv);
    direction != Direction::SendRecv || held_by_address(media.connection.or(sdp.connection).and_then(|c| c.ip()))
}
