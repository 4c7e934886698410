//! Differentiated services code points: what routers are asked to do with our
//! packets (RFC 2474 §3), by class (RFC 4594 §2.3), as configured.

use std::fmt;
use std::str::FromStr;

/// A code point: six bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dscp(u8);

impl Dscp {
    /// Nothing is asked for (RFC 2474 §4.1).
    pub const DEFAULT: Self = Self(0);
    /// Call signalling, as routers in the field are set up for it.
    pub const CS3: Self = Self(24);
    /// Video of a conversation (RFC 4594 §4.3).
    pub const AF41: Self = Self(34);
    /// Telephony (RFC 4594 §4.1).
    pub const EF: Self = Self(46);

    /// The octet in the IP header: the code point in its upper six bits, ECN (RFC 3168) zero.
    pub fn octet(self) -> u8 {
        self.0 << 2
    }

    /// What a received octet asks for; its ECN bits are about another path than ours.
    pub fn of_octet(octet: u8) -> Self {
        Self(octet >> 2)
    }
}

/// By name (RFC 2474, RFC 2597, RFC 3246), case does not count, or by number up to 63.
impl FromStr for Dscp {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let name = text.to_ascii_lowercase();
        let digits = |from: usize| name.get(from..).filter(|rest| rest.bytes().all(|digit| digit.is_ascii_digit()));
        let point = match name.as_str() {
            "ef" => Some(46),
            "default" => Some(0),
            name if name.starts_with("cs") => {
                digits(2).and_then(|class| class.parse().ok()).filter(|class: &u8| *class < 8).map(|class| class * 8)
            }
            name if name.starts_with("af") => match digits(2).map(str::as_bytes) {
                Some(&[class @ b'1'..=b'4', precedence @ b'1'..=b'3']) => {
                    Some((class - b'0') * 8 + (precedence - b'0') * 2)
                }
                Some(_) | None => None,
            },
            _ => digits(0).and_then(|number| number.parse().ok()).filter(|number| *number < 64),
        };
        point.map(Self).ok_or(())
    }
}

impl fmt::Display for Dscp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            46 => f.write_str("ef"),
            point if point % 8 == 0 => write!(f, "cs{}", point / 8),
            point @ 10..=38 if point % 2 == 0 => write!(f, "af{}{}", point / 8, point % 8 / 2),
            point => write!(f, "{point}"),
        }
    }
}

/// What the packets of a class are marked with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Always this.
    Set(Dscp),
    /// What the packet came with.
    Keep,
}

impl Mark {
    /// Before a packet has come, and where none is to be kept of: a connection.
    pub fn first(self) -> Dscp {
        match self {
            Self::Set(point) => point,
            Self::Keep => Dscp::DEFAULT,
        }
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Set(point) => point.fmt(f),
            Self::Keep => f.write_str("keep"),
        }
    }
}

/// The marks of all classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marks {
    /// SIP. A message leaves by another socket than it came in by, and may be one of ours: there is nothing to keep.
    pub signalling: Dscp,
    /// Sound, and whatever is not video.
    pub audio: Mark,
    /// Pictures.
    pub video: Mark,
}

impl Marks {
    /// That of a stream.
    pub(crate) fn media(&self, video: bool) -> Mark {
        if video { self.video } else { self.audio }
    }
}

impl Default for Marks {
    fn default() -> Self {
        Self { signalling: Dscp::CS3, audio: Mark::Set(Dscp::EF), video: Mark::Set(Dscp::AF41) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_read_and_written() {
        for (text, point) in [("ef", 46), ("CS3", 24), ("cs0", 0), ("af41", 34), ("AF13", 14), ("5", 5), ("63", 63)] {
            let read: Dscp = text.parse().unwrap();
            assert_eq!((read.0, read.octet()), (point, point << 2), "{text}");
            assert_eq!(read.to_string().parse(), Ok(read), "{text}");
        }
        for point in 0..64 {
            assert_eq!(Dscp(point).to_string().parse(), Ok(Dscp(point)));
        }
        for text in ["", "64", "-1", "+4", "af", "af14", "af51", "af411", "cs8", "cs", "cs+1", "ef ", "keep"] {
            assert_eq!(text.parse::<Dscp>(), Err(()), "{text}");
        }
        assert_eq!(Dscp::of_octet(0xbb), Dscp::EF);
    }
}
