//! sdp-rs as a second opinion, and the table of where it is wrong.

use sdp_rs::SessionDescription;
use sdp_rs::lines::Attribute;
use sdp_rs::lines::common::Addrtype;
use wire::sdp::{Body, Direction};

/// What is wrong with sdp-rs's reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It refuses the body.
    Refuses,
    /// It reads the body and leaves lines out.
    LosesLines,
    /// It reads all lines and would write some of them differently.
    AltersLines,
    /// It reads other values than we do.
    Differs(&'static str),
}

const OPUS: &str = "writes opus/48000/2 as opus/48000 2";

/// Known faults of sdp-rs 0.2.1: of the body as it comes in, of the body as it
/// goes out, and the cause.
pub(crate) const KNOWN_FAULTS: &[(&str, [Option<Fault>; 2], &str)] = &[
    ("baresip-ice", [Some(Fault::AltersLines); 2], OPUS),
    ("cisco-cp8845", [Some(Fault::AltersLines); 2], OPUS),
    ("freeswitch", [Some(Fault::AltersLines); 2], OPUS),
    ("linphone-audio-video", [Some(Fault::AltersLines); 2], OPUS),
    ("webrtc-chrome", [Some(Fault::AltersLines); 2], OPUS),
    ("hold-inactive", [Some(Fault::Differs("direction")); 2], "does not know a=inactive (its key is misspelt)"),
    ("host-name", [Some(Fault::Refuses), None], "refuses host names in o= and c="),
    ("mixed-line-ends", [Some(Fault::Refuses); 2], "takes the first line end for that of all lines"),
    ("no-last-line-end", [Some(Fault::LosesLines); 2], "drops the last line when it has no line end"),
    ("no-last-line-end-bare", [Some(Fault::Refuses); 2], "refuses an m-line without a line end"),
    ("odd-blanks", [Some(Fault::Refuses); 2], "refuses more than one blank between fields"),
    ("out-of-order", [Some(Fault::Refuses); 2], "refuses s= before o= and a missing t="),
    ("unknown-lines", [Some(Fault::LosesLines); 2], "stops without a word at a line that it does not know"),
    ("user-name-with-blanks", [Some(Fault::Refuses); 2], "counts the fields of o= from the front"),
];

/// What the table says of a case.
pub(crate) fn known_faults(name: &str) -> [Option<Fault>; 2] {
    KNOWN_FAULTS.iter().find(|(case, ..)| *case == name).map_or([None; 2], |(_, faults, _)| *faults)
}

/// What is wrong with sdp-rs's reading of this body, if anything.
pub(crate) fn fault(text: &str) -> Option<Fault> {
    let Ok(theirs) = SessionDescription::try_from(text) else { return Some(Fault::Refuses) };
    let written = theirs.to_string();
    let lines = |text: &str| text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    let (before, after) = (lines(text), lines(&written));
    if after.len() < before.len() {
        return Some(Fault::LosesLines);
    }
    let ours = Body::parse(text.as_bytes()).expect("every case reads");
    if let Some(what) = differs(&ours, &theirs) {
        return Some(Fault::Differs(what));
    }
    (before != after).then_some(Fault::AltersLines)
}

/// The first value that the two readings disagree on.
fn differs(ours: &Body<'_>, theirs: &SessionDescription) -> Option<&'static str> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let Some(origin) = ours.origin else { return Some("o=") };
    if text(origin.session) != theirs.origin.sess_id || text(origin.version) != theirs.origin.sess_version {
        return Some("o= session id or version");
    }
    if origin.ip() != Some(theirs.origin.unicast_address) || !same_type(origin.address, &theirs.origin.addrtype) {
        return Some("o= address");
    }
    if ours.connection.and_then(|c| c.ip()) != theirs.connection.as_ref().map(|c| c.connection_address.base) {
        return Some("c= of the session");
    }
    if ours.attributes.len() != theirs.attributes.len() {
        return Some("session attributes");
    }
    if ours.media.len() != theirs.media_descriptions.len() {
        return Some("number of m-lines");
    }
    for (our, their) in ours.media.iter().zip(&theirs.media_descriptions) {
        if text(our.kind) != their.media.media.to_string() || text(our.protocol) != their.media.proto.to_string() {
            return Some("kind or protocol");
        }
        if our.port != their.media.port || our.count != u16::from(their.media.num_of_ports.unwrap_or(1)) {
            return Some("port or count");
        }
        if text(our.formats) != their.media.fmt {
            return Some("formats");
        }
        if our.connection.and_then(|c| c.ip()) != their.connections.first().map(|c| c.connection_address.base) {
            return Some("c= of a stream");
        }
        if our.attributes.len() != their.attributes.len() {
            return Some("attributes of a stream");
        }
        if our.direction != direction(&their.attributes) {
            return Some("direction");
        }
    }
    None
}

fn direction(attributes: &[Attribute]) -> Option<Direction> {
    let directions = [
        (Attribute::Sendrecv, Direction::SendRecv),
        (Attribute::Sendonly, Direction::SendOnly),
        (Attribute::Recvonly, Direction::RecvOnly),
        (Attribute::Inactive, Direction::Inactive),
    ];
    attributes
        .iter()
        .find_map(|attribute| directions.iter().find(|(theirs, _)| theirs == attribute).map(|(_, ours)| *ours))
}

fn same_type(address: &[u8], theirs: &Addrtype) -> bool {
    address.starts_with(theirs.to_string().as_bytes())
}
