//! What an SDP body says that matters to a relay, and what we write into it.

use std::net::{IpAddr, SocketAddr};

use nat::Network;
use wire::Edit;
use wire::sdp::{self, Body, Direction};

use super::EndPlan;
use super::ice::{self, Said, offered_on};
use super::pairs::discovered;
use super::session::{Session, Stream};
use super::tcp;
use crate::{End, Target};

/// Transports that we can carry (RFC 8866 §5.14 `proto`): datagrams, and connections that can be spliced.
pub(super) fn relayed(protocol: &[u8]) -> bool {
    !tcp::is(protocol) || tcp::is_spliced(protocol)
}

/// Where a section of this end's body says that it wants its packets; `None`
/// for hold by 0.0.0.0, host names, and addresses that we may not send to from there.
pub(super) fn signalled(sdp: &Body<'_>, media: &sdp::Media<'_>, end: &EndPlan) -> Option<Target> {
    let ip = media.connection.or(sdp.connection)?.ip()?;
    let forbidden = |ip| {
        let side = Network::covering(&end.networks, ip).and_then(|network| network.side);
        nat::address::is_forbidden(ip, end.local) || side.is_some_and(|side| side != end.side)
    };
    if media.port == 0 || forbidden(ip) {
        return None;
    }
    let rtcp = match &media.rtcp {
        Some(rtcp) => SocketAddr::new(rtcp.ip.filter(|ip| !forbidden(*ip)).unwrap_or(ip), rtcp.port),
        None => SocketAddr::new(ip, media.port.checked_add(1).unwrap_or(media.port)),
    };
    Some(Target::new(SocketAddr::new(ip, media.port), rtcp))
}

/// What a body is to the end that gets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum As {
    /// It asks.
    Offer,
    /// It answers what that end offered.
    Answer,
}

/// Edits a body so that it names our legs facing `to`, and nothing of the other side.
pub(super) fn write(session: &Session, to: End, what: As, whole: &[u8], body: &Body<'_>, edit: &mut Edit) {
    let end = &session.ends[to.index()];
    let stream = |line: usize| session.streams.get(line).and_then(Option::as_ref);
    let leg = |line: usize| stream(line).map(|stream| stream.advertised[to.index()]);
    let at_session = (0..body.media.len()).find_map(leg).map_or(end.own, |t| t.rtp().ip());
    // An ICE peer that knows no address yet writes 0.0.0.0, too (RFC 8840 §4.1.1).
    let held = |connection: &sdp::Connection<'_>, ice: bool| !ice && held_by_address(connection.ip());
    let by_ice = |line: usize| stream(line).is_some_and(|s| s.said[to.other().index()].ice != Said::Nothing);
    if let Some(origin) = &body.origin {
        if let Some(version) = origin.version_number().filter(|_| session.raised[to.index()] > 0) {
            sdp::edit::version(whole, edit, origin, version.saturating_add(session.raised[to.index()].into()));
        }
        sdp::edit::origin(whole, edit, origin, at_session);
    }
    if let Some(connection) = &body.connection
        && !held(connection, (0..body.media.len()).any(by_ice))
    {
        sdp::edit::connection(whole, edit, connection, at_session);
    }
    let mut lite = false;
    for (line, media) in body.media.iter().enumerate() {
        let relayed = stream(line).filter(|_| media.port != 0 && relayed(media.protocol));
        let ip = relayed.map_or(at_session, |stream| stream.advertised[to.index()].rtp().ip());
        match &media.connection {
            Some(connection) if !held(connection, by_ice(line)) => sdp::edit::connection(whole, edit, connection, ip),
            None if ip != at_session && body.connection.is_some() => {
                sdp::edit::add_connection(whole, edit, media, ip);
            }
            Some(_) | None => {}
        }
        match relayed {
            Some(stream) if tcp::is(media.protocol) => tcp::write(session, stream, to, what, whole, edit, body, media),
            Some(stream) => {
                let muxed = what == As::Answer && stream.said[to.index()].muxed && is_rtp(media);
                write_ports(whole, edit, media, stream.advertised[to.index()], muxed, discovered(end.advertise));
                lite |= write_ice(session, line, stream, to, what, whole, edit, media);
            }
            None => {
                if media.port != 0 {
                    sdp::edit::port(whole, edit, media, 0);
                }
                // Addresses of the other side, `path` those of MSRP (RFC 4975 §8).
                sdp::edit::remove_media_attributes(whole, edit, media, &["rtcp", "path"]);
            }
        }
    }
    if lite {
        sdp::edit::add_session_attribute(whole, edit, body, &[b"ice-lite"]);
    }
    sdp::edit::remove_repeated(whole, edit, body);
    sdp::edit::remove_attributes(whole, edit, body, &ice::ATTRIBUTES);
    unbundle(whole, edit, body);
}

/// The port, and where RTCP goes. `muxed`: this answers an offer of rtcp-mux,
/// which we accept on that leg whatever the other end says (RFC 5761 §5.1.1).
fn write_ports(whole: &[u8], edit: &mut Edit, media: &sdp::Media<'_>, target: Target, muxed: bool, discovered: bool) {
    sdp::edit::port(whole, edit, media, target.rtp().port());
    let next = SocketAddr::new(target.rtp().ip(), target.rtp().port().wrapping_add(1));
    let written = media.attribute("rtcp").is_some();
    if muxed && !media.rtcp_mux {
        sdp::edit::add_attribute(whole, edit, media, &[b"rtcp-mux"]);
    }
    if muxed || !is_rtp(media) {
        sdp::edit::remove_media_attributes(whole, edit, media, &["rtcp"]);
    } else if written || target.rtcp() != next || discovered {
        sdp::edit::rtcp(whole, edit, media, target.rtcp());
    }
}

/// Speaks ICE for our leg: in an answer where it was offered, in an offer
/// where it is offered on or this leg speaks it already. True if so.
#[expect(clippy::too_many_arguments, reason = "a step takes what it needs by name, not through a blackboard")]
fn write_ice(
    session: &Session,
    line: usize,
    stream: &Stream,
    to: End,
    what: As,
    whole: &[u8],
    edit: &mut Edit,
    media: &sdp::Media<'_>,
) -> bool {
    let said = stream.said.each_ref().map(|line| line.ice);
    let wanted = match what {
        As::Offer => {
            offered_on(said[to.other().index()], &session.ends[to.index()], line) || stream.ice[to.index()].is_some()
        }
        As::Answer if said[to.index()] == Said::Mismatch => {
            sdp::edit::add_attribute(whole, edit, media, &[b"ice-mismatch"]);
            false
        }
        As::Answer => said[to.index()].speaks(),
    };
    let shared = what == As::Answer && stream.said[to.index()].muxed || !is_rtp(media);
    let components = if shared { 1 } else { 2 };
    wanted && session.ice[to.index()].write(whole, edit, media, stream.advertised[to.index()], components)
}

fn is_rtp(media: &sdp::Media<'_>) -> bool {
    media.protocol.windows(3).any(|p| p.eq_ignore_ascii_case(b"RTP"))
}

/// Each m-line has ports of its own here, so no two share a transport: a group
/// is not offered on (RFC 9143 §7.3: an answerer that does not know it leaves it out).
fn unbundle(whole: &[u8], edit: &mut Edit, body: &Body<'_>) {
    sdp::edit::remove_attributes(whole, edit, body, &["bundle-only"]);
    for group in body.attributes.named("group").filter(|a| a.value.starts_with(b"BUNDLE")) {
        sdp::edit::remove_attribute(whole, edit, group);
    }
}

/// RFC 3264 §8.4: `c=0.0.0.0` is an old spelling of hold and passes as it is.
fn held_by_address(ip: Option<IpAddr>) -> bool {
    ip.is_some_and(|ip| ip.is_unspecified())
}

/// True when this section asks for less than both directions. `ice`: it
/// speaks ICE, and 0.0.0.0 means that it knows no address yet.
pub(super) fn on_hold(sdp: &Body<'_>, media: &sdp::Media<'_>, ice: bool) -> bool {
    let direction = media.direction.or(sdp.direction).unwrap_or(Direction::SendRecv);
    let unspecified = held_by_address(media.connection.or(sdp.connection).and_then(|c| c.ip()));
    direction != Direction::SendRecv || unspecified && !ice
}
