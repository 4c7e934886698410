//! The line index over a body: which line is what, and where its parts lie.
//!
//! Decides what a line says (RFC 8866 §5, §9) and where a media section ends;
//! fails only where a body could not be rewritten safely. A line that does not
//! read as `x=…` is an unknown line. It must not copy or mend text.

use super::attributes::{mark, next_line};
use super::media::{media_line, rtcp};
use super::{Attribute, Attributes, Body, Connection, Direction, MAX_MEDIA, MediaList, Origin, ip};
use crate::{Malformed, Span};

/// Where the section that is being read begins, and its attributes.
#[derive(Default)]
struct Open {
    start: usize,
    attributes: Option<usize>,
    marks: u64,
}

impl<'a> Body<'a> {
    /// Reads a body. Fails only where siplatch could not rewrite it safely:
    /// an `m=` line whose port (or `/count`) cannot be read, a `c=` or `o=`
    /// line without the three or six fields it needs, more than 64 m-lines.
    /// `Malformed::at` is the offset in `raw`.
    pub fn parse(raw: &'a [u8]) -> Result<Self, Malformed> {
        let mut body = Self {
            raw,
            origin: None,
            connection: None,
            direction: None,
            attributes: Attributes::EMPTY,
            media: MediaList::EMPTY,
            repeated: false,
        };
        let mut open = Open::default();
        let mut rest = raw;
        while !rest.is_empty() {
            let at = raw.len() - rest.len();
            let line;
            (line, rest) = next_line(rest);
            if let [kind, b'=', ..] = line {
                body.line(*kind, line, &mut open, at)?;
            }
        }
        body.close(&open, raw.len());
        Ok(body)
    }

    /// One `x=…` line at offset `at`.
    fn line(&mut self, kind: u8, line: &'a [u8], open: &mut Open, at: usize) -> Result<(), Malformed> {
        match kind {
            b'a' => {
                open.attributes.get_or_insert(at);
                open.marks |= mark(&line[2..]);
                self.attribute_line(line);
            }
            b'm' => {
                self.close(open, at);
                *open = Open { start: at, ..Open::default() };
                if self.media.len() == MAX_MEDIA {
                    return Err(Malformed { at, what: "more than 64 media lines in SDP" });
                }
                let media = media_line(line).ok_or(Malformed { at, what: "unreadable port in SDP m= line" })?;
                self.media.push(media);
            }
            b'c' => {
                let read = connection(content(line)).ok_or(Malformed { at, what: "SDP c= line has too few fields" })?;
                let slot = match self.media.last_mut() {
                    Some(media) => &mut media.connection,
                    None => &mut self.connection,
                };
                self.repeated |= slot.is_some() && read.is_some();
                *slot = slot.or(read);
            }
            b'o' => {
                let read = origin(content(line)).ok_or(Malformed { at, what: "SDP o= line has too few fields" })?;
                self.repeated |= self.origin.is_some();
                self.origin.get_or_insert(read);
            }
            _ => {}
        }
        Ok(())
    }

    /// Reads the few attributes that count here; the others wait until they are asked for.
    fn attribute_line(&mut self, line: &'a [u8]) {
        let Some(b"a=rtcp" | b"a=send" | b"a=recv" | b"a=inac") = line.first_chunk() else { return };
        let Attribute { name, value, .. } = Attribute::of(line);
        let Some(media) = self.media.last_mut() else {
            self.direction = self.direction.or_else(|| Direction::from_name(name));
            return;
        };
        match name {
            b"rtcp" => media.rtcp = media.rtcp.or_else(|| rtcp(value)),
            b"rtcp-mux" => media.rtcp_mux = true,
            _ => media.direction = media.direction.or_else(|| Direction::from_name(name)),
        }
    }

    /// The section that is open ends before offset `end`.
    fn close(&mut self, open: &Open, end: usize) {
        let attributes = Attributes::of(&self.raw[open.attributes.unwrap_or(end)..end], open.marks);
        match self.media.last_mut() {
            Some(media) => {
                media.attributes = attributes;
                media.section = &self.raw[open.start..end];
            }
            None => self.attributes = attributes,
        }
    }

    /// The session-level part: all before the first `m=` line.
    pub fn session(&self) -> &'a [u8] {
        let end = self.media.first().map_or(self.raw.len(), |media| Span::of(media.line, self.raw).start as usize);
        &self.raw[..end]
    }

    /// The value of the first session-level attribute of this name.
    pub fn attribute(&self, name: &str) -> Option<&'a [u8]> {
        self.attributes.named(name).next().map(|a| a.value)
    }
}

/// A line's text after `x=`, without its line end.
pub(super) fn content(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    line.get(2..).unwrap_or_default()
}

/// The fields of a line; one space by the grammar, any run of blanks in the
/// field. A CR beside the line end is none of a field's.
pub(super) fn fields(value: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    value.split(|b| matches!(b, b' ' | b'\t' | b'\r')).filter(|field| !field.is_empty())
}

/// `IN IP4 host[/ttl[/count]]` (§5.7): outer `None` when fields are missing,
/// inner `None` for a network type other than `IN`. What is no name of a
/// network may be an address, and is no field.
pub(super) fn connection(value: &[u8]) -> Option<Option<Connection<'_>>> {
    let mut fields = fields(value);
    let (network, kind, host) = (fields.next()?, fields.next()?, fields.next()?);
    if !network.eq_ignore_ascii_case(b"IN") {
        let named = network.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        return named.then_some(None);
    }
    let address = joined(kind, host, value);
    let host = host.iter().position(|b| *b == b'/').map_or(host, |slash| &host[..slash]);
    Some(Some(Connection { address, host, ip: ip(host) }))
}

/// `user session version IN IP4 host` (§5.2), read from the end, because
/// some phones write a user name with blanks in it.
fn origin(value: &[u8]) -> Option<Origin<'_>> {
    let mut fields = fields(value).rev();
    let (host, kind, _network) = (fields.next()?, fields.next()?, fields.next()?);
    let (version, session, _user) = (fields.next()?, fields.next()?, fields.next()?);
    Some(Origin { session, version, address: joined(kind, host, value), host })
}

/// From the start of one sub-slice of `whole` to the end of a later one.
fn joined<'a>(first: &[u8], last: &[u8], whole: &'a [u8]) -> &'a [u8] {
    Span { start: Span::of(first, whole).start, end: Span::of(last, whole).end }.in_(whole)
}
