//! Octets as a row of decisions. When they run out, every decision is the first one.

/// What is left of the input.
#[derive(Debug, Clone)]
pub(super) struct Choices<'a> {
    rest: &'a [u8],
}

impl<'a> Choices<'a> {
    pub(super) fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    pub(super) fn is_over(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn octet(&mut self) -> u8 {
        let Some((first, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        *first
    }

    /// Big-endian, so that a minimised input reads well.
    pub(super) fn number(&mut self) -> u32 {
        u32::from_be_bytes([self.octet(), self.octet(), self.octet(), self.octet()])
    }

    /// One of several; `None` only of nothing.
    pub(super) fn pick<'c, T>(&mut self, from: &'c [T]) -> Option<&'c T> {
        let at = usize::from(self.octet());
        from.get(at % from.len().max(1))
    }

    /// Octets behind their own length.
    pub(super) fn text(&mut self) -> &'a [u8] {
        let length = usize::from(u16::from_be_bytes([self.octet(), self.octet()]));
        let (text, rest) = self.rest.split_at(length.min(self.rest.len()));
        self.rest = rest;
        text
    }

    pub(super) fn rest(self) -> &'a [u8] {
        self.rest
    }
}
