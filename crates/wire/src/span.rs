//! A range of octets inside one message.

/// Start and end offset (end exclusive) into a message's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord, Hash)]
pub struct Span {
    /// First octet.
    pub start: u32,
    /// One past the last octet.
    pub end: u32,
}

impl Span {
    /// The range `start..end`; offsets beyond `u32::MAX` cannot occur because
    /// messages are limited to far less before they are indexed.
    pub fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, end: end as u32 }
    }

    /// Where `part` lies inside `whole`. `part` must be a sub-slice of
    /// `whole`; for any other slice the result is an empty span at the end.
    pub fn of(part: &[u8], whole: &[u8]) -> Self {
        let offset = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
        if offset <= whole.len() && part.len() <= whole.len() - offset {
            Self::new(offset, offset + part.len())
        } else {
            Self::new(whole.len(), whole.len())
        }
    }

    /// The octets that this span names in `bytes`, empty if out of range.
    pub fn in_(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    /// Number of octets.
    pub fn len(self) -> usize {
        self.end.saturating_sub(self.start) as usize
    }

    /// True when the span covers nothing.
    pub fn is_empty(self) -> bool {
        self.end <= self.start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_part_and_back() {
        let whole = b"abcdef";
        let span = Span::of(&whole[2..4], whole);
        assert_eq!((span, span.in_(whole), span.len()), (Span { start: 2, end: 4 }, &b"cd"[..], 2));
        assert_eq!(Span::of(&whole[6..], whole), Span::new(6, 6));
        assert_eq!(Span::of(b"xyz", whole), Span::new(6, 6));
    }

    #[test]
    fn out_of_range_is_empty() {
        assert_eq!(Span { start: 2, end: 9 }.in_(b"abc"), b"");
        let backwards = Span { start: 3, end: 1 };
        assert_eq!((backwards.in_(b"abcdef"), backwards.len(), backwards.is_empty()), (&b""[..], 0, true));
    }
}
