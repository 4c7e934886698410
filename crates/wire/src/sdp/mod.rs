//! SDP (RFC 8866) as lines over a body, edited in place.
//!
//! Decides only what a line says. Nothing is ever re-serialised: unknown
//! lines, lines out of order, LF line ends and a missing last line end all
//! survive, because every type here is a set of slices of the received bytes.
//! It must not judge whether an address may be used or a stream relayed.

mod attributes;
mod body;
mod candidate;
mod crypto;
mod decline;
pub mod edit;
mod list;
mod media;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use crate::sip::uri::ipv4;

pub use attributes::Attributes;
pub use candidate::Candidate;
pub use crypto::{Crypto, Suite};
pub use decline::decline;
pub use list::MediaList;

/// The most m-lines that a body may have.
pub const MAX_MEDIA: usize = 64;

/// An SDP body: slices of the text it was parsed from.
#[derive(Debug, Clone)]
pub struct Body<'a> {
    /// The whole body.
    pub raw: &'a [u8],
    /// The `o=` line.
    pub origin: Option<Origin<'a>>,
    /// `c=` at session level.
    pub connection: Option<Connection<'a>>,
    /// Direction at session level.
    pub direction: Option<Direction>,
    /// Session-level `a=` lines.
    pub attributes: Attributes<'a>,
    /// One per `m=` line, in order.
    pub media: MediaList<'a>,
    /// There are more `o=` lines than one, or more `c=` lines in one section.
    pub repeated: bool,
}

/// `o=` (§5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin<'a> {
    /// Session id as written.
    pub session: &'a [u8],
    /// Version as written.
    pub version: &'a [u8],
    /// `IP4 host` or `IP6 host`: address type to host, as written, for an edit.
    pub address: &'a [u8],
    /// The host as written.
    pub host: &'a [u8],
}

/// `c=` (§5.7), of network type `IN`. Lines of other network types (RFC 7195)
/// carry no IP address and stay as they are, as attributes do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection<'a> {
    /// `IP4 host` or `IP6 host`, TTL and count included, for an edit.
    pub address: &'a [u8],
    /// The host as written, without TTL and count.
    pub host: &'a [u8],
    ip: Option<IpAddr>,
}

/// Media direction (§6.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each variant is the attribute of that name")]
pub enum Direction {
    SendRecv,
    SendOnly,
    RecvOnly,
    Inactive,
}

/// `a=` (§5.13).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// Before the colon.
    pub name: &'a [u8],
    /// After the colon, empty if none.
    pub value: &'a [u8],
    /// The whole line with its line end: what a deletion removes.
    pub line: &'a [u8],
}

/// An `m=` line (§5.14) and the lines that belong to it.
#[derive(Debug, Clone, Copy)]
pub struct Media<'a> {
    /// `audio`, `video`, `image`, …
    pub kind: &'a [u8],
    /// Port as written, for an edit (without the `/count`).
    pub port_text: &'a [u8],
    /// Port.
    pub port: u16,
    /// `/count`, 1 if not written.
    pub count: u16,
    /// `RTP/AVP`, `udptl`, …
    pub protocol: &'a [u8],
    /// Formats as written.
    pub formats: &'a [u8],
    /// `c=` lines of this section (the first counts).
    pub connection: Option<Connection<'a>>,
    /// `a=rtcp` (RFC 3605): port, and address if written.
    pub rtcp: Option<Rtcp<'a>>,
    /// `a=rtcp-mux` (RFC 5761).
    pub rtcp_mux: bool,
    /// Direction in this section (the first counts).
    pub direction: Option<Direction>,
    /// Every `a=` line of the section.
    pub attributes: Attributes<'a>,
    /// The `m=` line with its line end.
    pub line: &'a [u8],
    /// From `m=` to before the next `m=` or the end.
    pub section: &'a [u8],
}

/// `a=rtcp:port [IN IP4 address]` (RFC 3605 §2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rtcp<'a> {
    /// RTCP port.
    pub port: u16,
    /// Address, if written and numeric.
    pub ip: Option<IpAddr>,
    /// The attribute's value, for an edit.
    pub value: &'a [u8],
}

impl Direction {
    /// The direction that an attribute name stands for.
    pub fn from_name(name: &[u8]) -> Option<Self> {
        match name {
            b"sendrecv" => Some(Self::SendRecv),
            b"sendonly" => Some(Self::SendOnly),
            b"recvonly" => Some(Self::RecvOnly),
            b"inactive" => Some(Self::Inactive),
            _ => None,
        }
    }

    /// The attribute's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SendRecv => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::RecvOnly => "recvonly",
            Self::Inactive => "inactive",
        }
    }

    /// The same stream seen from the other end (RFC 3264 §6.1).
    pub fn reversed(self) -> Self {
        match self {
            Self::SendOnly => Self::RecvOnly,
            Self::RecvOnly => Self::SendOnly,
            Self::SendRecv | Self::Inactive => self,
        }
    }
}

impl Origin<'_> {
    /// The address if numeric.
    pub fn ip(&self) -> Option<IpAddr> {
        ip(self.host)
    }

    /// The version as a number, if it fits 64 bits (§5.2 suggests an NTP timestamp).
    pub fn version_number(&self) -> Option<u64> {
        number(self.version)
    }
}

impl Connection<'_> {
    /// The address if numeric.
    pub fn ip(&self) -> Option<IpAddr> {
        self.ip
    }

    /// True for `0.0.0.0` and `::`, the old way to say "on hold" (RFC 3264 §8.4).
    pub fn is_unspecified(&self) -> bool {
        self.ip().is_some_and(|ip| ip.is_unspecified())
    }
}

fn ip(text: &[u8]) -> Option<IpAddr> {
    if let Some(v4) = ipv4(text) {
        return Some(IpAddr::V4(v4));
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A decimal number of digits alone (no sign, no blank).
fn number<N: TryFrom<u64>>(text: &[u8]) -> Option<N> {
    text.first()?;
    let number = text.iter().try_fold(0u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })?;
    N::try_from(number).ok()
}
