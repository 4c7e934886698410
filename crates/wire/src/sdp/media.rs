//! One media section: the `m=` line (RFC 8866 §5.14), `a=rtcp` (RFC 3605),
//! and what the section inherits from the session level.
//!
//! Media level wins over session level (§5.7, §6.7). It must not decide
//! whether a stream is relayed.

use std::net::{IpAddr, SocketAddr};

use super::body::{content, fields};
use super::{Attributes, Body, Connection, Direction, Media, Rtcp, ip, number};

impl Media<'_> {
    pub(super) const EMPTY: Media<'static> = Media {
        kind: &[],
        port_text: &[],
        port: 0,
        count: 1,
        protocol: &[],
        formats: &[],
        connection: None,
        rtcp: None,
        rtcp_mux: false,
        direction: None,
        attributes: Attributes::EMPTY,
        line: &[],
        section: &[],
    };
}

impl<'a> Media<'a> {
    /// The `c=` that counts: this section's, else the session's (§5.7).
    pub fn connection(&self, body: &Body<'a>) -> Option<Connection<'a>> {
        self.connection.or(body.connection)
    }

    /// The direction that counts: this section's, else the session's, else
    /// `sendrecv` (§6.7).
    pub fn direction(&self, body: &Body<'_>) -> Direction {
        self.direction.or(body.direction).unwrap_or(Direction::SendRecv)
    }

    /// The address of `c=`, if there is one and it is numeric.
    pub fn ip(&self, body: &Body<'_>) -> Option<IpAddr> {
        self.connection(body)?.ip()
    }

    /// Where RTP is wanted; `None` for a host name, a missing `c=` or port 0.
    pub fn rtp_address(&self, body: &Body<'_>) -> Option<SocketAddr> {
        if self.is_rejected() { None } else { Some(SocketAddr::new(self.ip(body)?, self.port)) }
    }

    /// Where RTCP is wanted: what `a=rtcp` says (RFC 3605), else the port
    /// after RTP's (RFC 3550 §11). `a=rtcp-mux` is not looked at, because it
    /// counts only once both sides have it (RFC 5761 §5.1.1).
    pub fn rtcp_address(&self, body: &Body<'_>) -> Option<SocketAddr> {
        let rtp = self.rtp_address(body)?;
        match self.rtcp {
            Some(rtcp) => Some(SocketAddr::new(rtcp.ip.unwrap_or(rtp.ip()), rtcp.port)),
            None => Some(SocketAddr::new(rtp.ip(), rtp.port().checked_add(1)?)),
        }
    }

    /// Port 0: the stream is refused or switched off (RFC 3264 §6, §8.2).
    pub fn is_rejected(&self) -> bool {
        self.port == 0
    }

    /// The writer of this body has put the stream on hold (RFC 3264 §8.4): it
    /// wants to hear nothing, by `sendonly` or `inactive` or by the old
    /// unspecified address in `c=`.
    pub fn is_held(&self, body: &Body<'a>) -> bool {
        matches!(self.direction(body), Direction::SendOnly | Direction::Inactive)
            || self.connection(body).is_some_and(|c| c.is_unspecified())
    }

    /// The value of the first attribute of this name in the section.
    pub fn attribute(&self, name: &str) -> Option<&'a [u8]> {
        self.attributes.named(name).next().map(|a| a.value)
    }
}

/// `kind port[/count] protocol formats`; `None` when the port cannot be read.
pub(super) fn media_line(line: &[u8]) -> Option<Media<'_>> {
    let value = content(line);
    let mut fields = fields(value);
    let kind = fields.next()?;
    let port_field = fields.next()?;
    let (port_text, count) = match port_field.iter().position(|b| *b == b'/') {
        Some(slash) => (&port_field[..slash], number(&port_field[slash + 1..])?),
        None => (port_field, 1),
    };
    let protocol = fields.next().unwrap_or(&value[value.len()..]);
    let formats = crate::Span::of(protocol, value).end as usize;
    Some(Media {
        kind,
        port_text,
        port: number(port_text)?,
        count,
        protocol,
        formats: value[formats..].trim_ascii(),
        line,
        section: line,
        ..Media::EMPTY
    })
}

/// `port [IN IP4 address]` (RFC 3605 §2.1); `None` when the port cannot be read.
pub(super) fn rtcp(value: &[u8]) -> Option<Rtcp<'_>> {
    let mut fields = fields(value);
    let port = number(fields.next()?)?;
    Some(Rtcp { port, ip: fields.nth(2).and_then(ip), value })
}
