//! The line index over a body: which line is what, and where its parts lie.
//!
//! Decides what a line says (RFC 8866 §5, §9) and where a media section ends;
//! fails only where a body could not be rewritten safely. A line that does not
//! read as `x=…` is an unknown line. It must not copy or mend text.

use std::ops::Range;

use super::media::{media_line, rtcp};
use super::{Attribute, Body, Connection, Direction, MAX_MEDIA, Origin};
use crate::{Malformed, Span};

impl<'a> Body<'a> {
    /// Reads a body. Fails only where siplatch could not rewrite it safely:
    /// an `m=` line whose port (or `/count`) cannot be read, a `c=` or `o=`
    /// line without the three or six fields it needs, more than 64 m-lines.
    /// `Malformed::at` is the offset in `raw`.
    pub fn parse(raw: &'a [u8]) -> Result<Self, Malformed> {
        let mut body =
            Self { raw, origin: None, connection: None, direction: None, attributes: Vec::new(), media: Vec::new() };
        let mut section = 0;
        let mut at = 0;
        while at < raw.len() {
            let end = memchr::memchr(b'\n', &raw[at..]).map_or(raw.len(), |offset| at + offset + 1);
            let line = &raw[at..end];
            if let [kind, b'=', ..] = line {
                body.line(*kind, line, &mut section, at)?;
            }
            at = end;
        }
        body.close(section..raw.len());
        Ok(body)
    }

    /// One `x=…` line at offset `at`.
    fn line(&mut self, kind: u8, line: &'a [u8], section: &mut usize, at: usize) -> Result<(), Malformed> {
        let value = content(line);
        match kind {
            b'a' => self.attribute_line(value, line),
            b'm' => {
                self.close(*section..at);
                *section = at;
                if self.media.len() == MAX_MEDIA {
                    return Err(Malformed { at, what: "more than 64 media lines in SDP" });
                }
                let media = media_line(value, line).ok_or(Malformed { at, what: "unreadable port in SDP m= line" })?;
                self.media.push(media);
            }
            b'c' => {
                let read = connection(value).ok_or(Malformed { at, what: "SDP c= line has too few fields" })?;
                let slot = match self.media.last_mut() {
                    Some(media) => &mut media.connection,
                    None => &mut self.connection,
                };
                *slot = slot.or(read);
            }
            b'o' => {
                let read = origin(value, self.raw).ok_or(Malformed { at, what: "SDP o= line has too few fields" })?;
                self.origin.get_or_insert(read);
            }
            _ => {}
        }
        Ok(())
    }

    fn attribute_line(&mut self, content: &'a [u8], line: &'a [u8]) {
        // Names are short: a plain loop is there before a search for it has begun.
        let (name, value) = match content.iter().position(|b| *b == b':') {
            Some(colon) => (&content[..colon], &content[colon + 1..]),
            None => (content.trim_ascii_end(), &content[content.len()..]),
        };
        let attribute = Attribute { name, value, line };
        let Some(media) = self.media.last_mut() else {
            self.direction = self.direction.or_else(|| Direction::from_name(name));
            push(&mut self.attributes, attribute);
            return;
        };
        match name {
            b"rtcp" => media.rtcp = media.rtcp.or_else(|| rtcp(value)),
            b"rtcp-mux" => media.rtcp_mux = true,
            _ if name.len() == 8 => media.direction = media.direction.or_else(|| Direction::from_name(name)),
            _ => {}
        }
        push(&mut media.attributes, attribute);
    }

    /// The section that began with the last `m=` line ends here.
    fn close(&mut self, section: Range<usize>) {
        if let Some(media) = self.media.last_mut() {
            media.section = &self.raw[section];
        }
    }

    /// The session-level part: all before the first `m=` line.
    pub fn session(&self) -> &'a [u8] {
        let end = self.media.first().map_or(self.raw.len(), |media| Span::of(media.line, self.raw).start as usize);
        &self.raw[..end]
    }

    /// The value of the first session-level attribute of this name.
    pub fn attribute(&self, name: &str) -> Option<&'a [u8]> {
        self.attributes.iter().find(|a| a.name == name.as_bytes()).map(|a| a.value)
    }
}

/// A line's text after `x=`, without its line end.
pub(super) fn content(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    line.get(2..).unwrap_or_default()
}

/// The fields of a line; one space by the grammar, any run of blanks in the field.
pub(super) fn fields(value: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    value.split(|b| matches!(b, b' ' | b'\t')).filter(|field| !field.is_empty())
}

/// `IN IP4 host[/ttl[/count]]` (§5.7): outer `None` when fields are missing,
/// inner `None` for a network type other than `IN`.
fn connection(value: &[u8]) -> Option<Option<Connection<'_>>> {
    let mut fields = fields(value);
    let (network, kind, host) = (fields.next()?, fields.next()?, fields.next()?);
    if !network.eq_ignore_ascii_case(b"IN") {
        return Some(None);
    }
    let address = joined(kind, host, value);
    let host = memchr::memchr(b'/', host).map_or(host, |slash| &host[..slash]);
    Some(Some(Connection { address, host }))
}

/// `user session version IN IP4 host` (§5.2), read from the end, because
/// some phones write a user name with blanks in it.
fn origin<'a>(value: &'a [u8], raw: &'a [u8]) -> Option<Origin<'a>> {
    let mut fields = fields(value).rev();
    let (host, kind, _network) = (fields.next()?, fields.next()?, fields.next()?);
    let (version, session, _user) = (fields.next()?, fields.next()?, fields.next()?);
    Some(Origin { session, version, address: joined(kind, host, raw), host })
}

/// From the start of one sub-slice of `whole` to the end of a later one.
fn joined<'a>(first: &[u8], last: &[u8], whole: &'a [u8]) -> &'a [u8] {
    Span { start: Span::of(first, whole).start, end: Span::of(last, whole).end }.in_(whole)
}

/// Most sections have four to twelve attributes: one allocation, not three.
fn push<'a>(attributes: &mut Vec<Attribute<'a>>, attribute: Attribute<'a>) {
    if attributes.is_empty() {
        attributes.reserve(8);
    }
    attributes.push(attribute);
}
