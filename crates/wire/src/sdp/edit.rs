//! Edits of an SDP body inside a message. `whole` is the message that the
//! body's slices belong to, so that splices land in one [`Edit`] with the rest.
//!
//! Decides how a line is written (RFC 8866 §5, RFC 3605 §2.1), never what
//! belongs in it. Where a section gets both a `c=` line and attributes, call
//! [`add_connection`] first: insertions at one place keep their order.

use std::net::{IpAddr, SocketAddr};

use super::attributes::next_line;
use super::body::content;
use super::{Attribute, Attributes, Body, Connection, Direction, Media, Origin};
use crate::text::Text;
use crate::{Edit, Rule, Span};

/// An attribute is written in so many pieces at most.
const MOST_PIECES: usize = 9;

/// Writes `address` into `c=`, with the right address type; TTL and count go.
pub fn connection(whole: &[u8], edit: &mut Edit, connection: &Connection<'_>, address: IpAddr) {
    edit.replace(Span::of(connection.address, whole), Rule::Sdp, &[Text::ip(address).get()]);
}

/// Writes `address` as the host of `o=`, with the right address type, nothing else.
pub fn origin(whole: &[u8], edit: &mut Edit, origin: &Origin<'_>, address: IpAddr) {
    edit.replace(Span::of(origin.address, whole), Rule::Sdp, &[Text::ip(address).get()]);
}

/// Removes every `o=` line but the first, and every `c=` line of a section but
/// its first: they would name an address of the other side. Several `c=` lines
/// are for layered multicast only (RFC 8866 §5.7), which nobody relays.
pub fn remove_repeated(whole: &[u8], edit: &mut Edit, body: &Body<'_>) {
    let (mut origin, mut connected) = (false, false);
    let mut rest = if body.repeated { body.raw } else { &[] };
    while !rest.is_empty() {
        let line;
        (line, rest) = next_line(rest);
        let seen = match line {
            [b'm', b'=', ..] => {
                connected = false;
                false
            }
            [b'o', b'=', ..] => std::mem::replace(&mut origin, true),
            [b'c', b'=', ..] if super::body::connection(content(line)).flatten().is_some() => {
                std::mem::replace(&mut connected, true)
            }
            _ => false,
        };
        if seen {
            edit.delete(Span::of(line, whole), Rule::Sdp);
        }
    }
}

/// Writes the version of `o=` (RFC 3264 §8: one more than before when, and
/// only when, the content changed).
pub fn version(whole: &[u8], edit: &mut Edit, origin: &Origin<'_>, version: u64) {
    edit.replace(Span::of(origin.version, whole), Rule::Sdp, &[Text::number(version).get()]);
}

/// Writes `port` into the `m=` line (the `/count` goes).
pub fn port(whole: &[u8], edit: &mut Edit, media: &Media<'_>, port: u16) {
    let mut span = Span::of(media.port_text, whole);
    let rest = whole.get(span.end as usize..).unwrap_or_default();
    span.end += rest.iter().take_while(|b| matches!(b, b'/' | b'0'..=b'9')).count() as u32;
    edit.replace(span, Rule::Sdp, &[Text::number(port.into()).get()]);
}

/// Inserts a `c=` line right after the section's `m=` (and `i=`) line, with
/// the line end that the `m=` line uses.
pub fn add_connection(whole: &[u8], edit: &mut Edit, media: &Media<'_>, address: IpAddr) {
    let mut line = Span::of(media.line, whole);
    let rest = media.section.get(line.len()..).unwrap_or_default();
    if rest.starts_with(b"i=") {
        line.end += memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1) as u32;
    }
    let eol = line_end(media.line, whole);
    // Before the line end, so that attributes added at the next line's start come after it.
    let at = line.end - ending(line.in_(whole)).len() as u32;
    edit.insert(at, Rule::Sdp, &[eol, b"c=IN ", Text::ip(address).get()]);
}

/// Writes `a=rtcp` with port and address: replaced where it stands, else
/// added as the first attribute of the section. Should the section have
/// several, the others go.
pub fn rtcp(whole: &[u8], edit: &mut Edit, media: &Media<'_>, address: SocketAddr) {
    let (port, ip) = (Text::number(address.port().into()), Text::ip(address.ip()));
    let text: [&[u8]; 4] = [b"rtcp:", port.get(), b" IN ", ip.get()];
    let at = Span::of(media.attributes.lines(), media.section).start as usize;
    let section = Level { text: media.section, sample: media.line };
    section.write(whole, edit, at, &text, media.attributes.named("rtcp"));
}

/// Adds an attribute as the last line of a section: its name, a colon and a
/// value, or a name alone, in at most nine pieces.
pub fn add_attribute(whole: &[u8], edit: &mut Edit, media: &Media<'_>, text: &[&[u8]]) {
    let section = Level { text: media.section, sample: media.line };
    section.write(whole, edit, media.section.len(), text, std::iter::empty());
}

/// Writes an attribute of this name: where it stands, or as the last line of the section. Others of the name go.
pub fn set_attribute(whole: &[u8], edit: &mut Edit, media: &Media<'_>, name: &str, text: &[&[u8]]) {
    let section = Level { text: media.section, sample: media.line };
    section.write(whole, edit, media.section.len(), text, media.attributes.named(name));
}

/// The same as [`add_attribute`] at session level, as the last line before the first `m=`.
pub fn add_session_attribute(whole: &[u8], edit: &mut Edit, body: &Body<'_>, text: &[&[u8]]) {
    let session = body.session();
    let level = Level { text: session, sample: next_line(session).0 };
    level.write(whole, edit, session.len(), text, std::iter::empty());
}

/// Adds a host candidate (RFC 8839 §5.1) of foundation 1.
pub fn host_candidate(
    whole: &[u8],
    edit: &mut Edit,
    media: &Media<'_>,
    component: u8,
    priority: u32,
    address: SocketAddr,
) {
    let ip = Text::address(address.ip().to_canonical());
    let (component, priority) = (Text::number(component.into()), Text::number(priority.into()));
    let port = Text::number(address.port().into());
    let text: [&[u8]; MOST_PIECES] =
        [b"candidate:1 ", component.get(), b" UDP ", priority.get(), b" ", ip.get(), b" ", port.get(), b" typ host"];
    add_attribute(whole, edit, media, &text);
}

/// Writes the direction of one stream (RFC 8866 §6.7): replaced where it
/// stands in the section, else added as its last line.
pub fn direction(whole: &[u8], edit: &mut Edit, media: &Media<'_>, direction: Direction) {
    let section = Level { text: media.section, sample: media.line };
    section.write(whole, edit, media.section.len(), &[direction.as_str().as_bytes()], directions(media.attributes));
}

/// Writes the direction at session level, the default for all streams that
/// have none of their own: replaced where it stands, else added as the last
/// line before the first `m=`.
pub fn session_direction(whole: &[u8], edit: &mut Edit, body: &Body<'_>, direction: Direction) {
    let text = body.session();
    let section = Level { text, sample: next_line(text).0 };
    section.write(whole, edit, text.len(), &[direction.as_str().as_bytes()], directions(body.attributes));
}

/// Removes every line of these attribute names, at session and media level.
pub fn remove_attributes(whole: &[u8], edit: &mut Edit, body: &Body<'_>, names: &[&str]) {
    remove(whole, edit, body.attributes, names);
    for media in &body.media {
        remove(whole, edit, media.attributes, names);
    }
}

/// Removes every line of these attribute names from one section.
pub fn remove_media_attributes(whole: &[u8], edit: &mut Edit, media: &Media<'_>, names: &[&str]) {
    remove(whole, edit, media.attributes, names);
}

/// Removes one attribute.
pub fn remove_attribute(whole: &[u8], edit: &mut Edit, attribute: Attribute<'_>) {
    edit.delete(Span::of(attribute.line, whole), Rule::Sdp);
}

fn remove(whole: &[u8], edit: &mut Edit, attributes: Attributes<'_>, names: &[&str]) {
    if !names.iter().any(|name| attributes.may_have(name.as_bytes())) {
        return;
    }
    for attribute in attributes.iter() {
        if names.iter().any(|name| name.as_bytes() == attribute.name) {
            edit.delete(Span::of(attribute.line, whole), Rule::Sdp);
        }
    }
}

fn directions(attributes: Attributes<'_>) -> impl Iterator<Item = Attribute<'_>> {
    attributes.iter().filter(|attribute| Direction::from_name(attribute.name).is_some())
}

/// A session level or media section that an attribute is written into.
struct Level<'a> {
    text: &'a [u8],
    /// A line whose line end new lines take over.
    sample: &'a [u8],
}

impl Level<'_> {
    /// Replaces the first of its attributes that the new one is for and drops the others;
    /// none: adds one at offset `at` of the section.
    fn write<'a>(
        &self,
        whole: &[u8],
        edit: &mut Edit,
        at: usize,
        text: &[&[u8]],
        mut there: impl Iterator<Item = Attribute<'a>>,
    ) {
        if let Some(attribute) = there.next() {
            edit.replace(Span::of(content(attribute.line), whole), Rule::Sdp, text);
            for other in there {
                edit.delete(Span::of(other.line, whole), Rule::Sdp);
            }
            return;
        }
        let eol = line_end(self.sample, whole);
        let at = self.before_unfinished(at);
        let place = Span::of(self.text, whole).start + at as u32;
        let unfinished = at == self.text.len() && at > 0 && ending(self.text).is_empty();
        let (before, after): (&[u8], &[u8]) = if unfinished { (eol, b"") } else { (b"", eol) };
        let mut pieces: [&[u8]; MOST_PIECES + 3] = [b""; MOST_PIECES + 3];
        pieces[0] = before;
        pieces[1] = b"a=";
        for (slot, piece) in pieces[2..].iter_mut().zip(text) {
            *slot = piece;
        }
        pieces[MOST_PIECES + 2] = after;
        edit.insert(place, Rule::Sdp, &pieces);
    }

    /// At the end of a section whose last line is an attribute without a line
    /// end, a new one goes before it: should that line be removed by another
    /// edit, no blank line stays behind.
    fn before_unfinished(&self, at: usize) -> usize {
        let last = memchr::memrchr(b'\n', self.text).map_or(0, |end| end + 1);
        if at == self.text.len() && self.text[last..].starts_with(b"a=") { last } else { at }
    }
}

/// The line end of `line`; when it has none, that of the line before it.
fn line_end<'a>(line: &[u8], whole: &'a [u8]) -> &'a [u8] {
    let span = Span::of(line, whole);
    match ending(span.in_(whole)) {
        b"" => match ending(whole.get(..span.start as usize).unwrap_or_default()) {
            b"" => b"\r\n",
            found => found,
        },
        found => found,
    }
}

/// The line end that `text` ends with, empty if none.
fn ending(text: &[u8]) -> &[u8] {
    let length = match text {
        [.., b'\r', b'\n'] => 2,
        [.., b'\n'] => 1,
        _ => 0,
    };
    &text[text.len() - length..]
}
