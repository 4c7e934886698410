//! What was changed of a message that passed: a copy of it is edited alike, and
//! leaves as the same octets. A third of what the message takes that left.

use wire::sip::Message;
use wire::{Edit, Rule, Span};

/// Splices one after the other: where each starts and ends, how long its text is, and the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Patch(Box<[u8]>);

impl Patch {
    /// Of an edit that was applied.
    pub(crate) fn of(edit: &Edit) -> Self {
        let takes =
            |span: Span, text: &[u8]| length(span.start) + length(span.end) + length(text.len() as u32) + text.len();
        let mut octets = Vec::with_capacity(edit.splices().map(|(splice, text)| takes(splice.span, text)).sum());
        for (splice, text) in edit.splices() {
            put(&mut octets, splice.span.start);
            put(&mut octets, splice.span.end);
            put(&mut octets, u32::try_from(text.len()).unwrap_or(u32::MAX));
            octets.extend_from_slice(text);
        }
        Self(octets.into())
    }

    /// A copy of the message that it was made from, as it leaves.
    pub(crate) fn applied(&self, message: Message<'_>) -> Vec<u8> {
        let mut edit = Edit::new();
        let mut rest = &self.0[..];
        while let (Some(start), Some(end), Some(length)) = (next(&mut rest), next(&mut rest), next(&mut rest)) {
            let (text, behind) = rest.split_at(rest.len().min(length as usize));
            // Which rule it was, is told where it is traced: of the first copy.
            edit.replace(Span { start, end }, Rule::Via, &[text]);
            rest = behind;
        }
        message.edited(&edit)
    }

    /// How many octets it takes.
    pub(crate) fn octets(&self) -> usize {
        self.0.len()
    }
}

/// Seven bits an octet, the lowest first; the eighth says that more come.
fn put(octets: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        octets.push(number as u8 | 0x80);
        number >>= 7;
    }
    octets.push(number as u8);
}

/// How many octets that takes.
fn length(number: u32) -> usize {
    (u32::BITS - number.leading_zeros()).max(1).div_ceil(7) as usize
}

fn next(octets: &mut &[u8]) -> Option<u32> {
    let mut number = 0;
    for shift in (0..32).step_by(7) {
        let (octet, rest) = octets.split_first()?;
        *octets = rest;
        number |= u32::from(octet & 0x7f) << shift;
        if octet & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use wire::sip::{Limits, Stored};

    use super::*;

    #[test]
    fn a_copy_leaves_as_the_first_did() {
        let text = format!("SIP/2.0 200 OK\r\nVia: a\r\nX: {}\r\nContent-Length: 4\r\n\r\nbody", "x".repeat(20_000));
        let stored = Stored::parse(text.into_bytes(), &Limits::default()).unwrap();
        let message = stored.message();
        let mut edit = Edit::new();
        assert_eq!(Patch::of(&edit).applied(message), message.bytes);
        edit.delete(Span { start: 16, end: 24 }, Rule::Via);
        edit.replace(Span { start: 20_040, end: 20_042 }, Rule::Sdp, &[b"long ".repeat(100).as_slice()]);
        edit.insert(16, Rule::RecordRoute, &[b"Record-Route: <sip:b>\r\n"]);
        edit.insert(message.end(), Rule::Sdp, &[b"more"]);
        let patch = Patch::of(&edit);
        assert_eq!(patch.applied(message), message.edited(&edit));
        assert!(patch.octets() < 560, "{}", patch.octets());
    }

    #[test]
    fn splices_that_overlap_or_lie_beyond_the_end_are_the_same_again() {
        let text = b"\r\nSIP/2.0 200 OK\r\nVia: a\r\nl: 4\r\n\r\nbody";
        let stored = Stored::parse(text.to_vec(), &Limits::default()).unwrap();
        for at in 0..60_u32 {
            let mut edit = Edit::new();
            edit.replace(Span { start: at, end: at + 7 }, Rule::Sdp, &[b"one"]);
            edit.replace(Span { start: at / 2, end: at }, Rule::Sdp, &[b""]);
            edit.replace(Span { start: at + 3, end: at + 9 }, Rule::Sdp, &[&vec![b'+'; at as usize * 5]]);
            assert_eq!(Patch::of(&edit).applied(stored.message()), stored.message().edited(&edit), "{at}");
        }
    }

    #[test]
    fn numbers_come_back() {
        let numbers = [0, 1, 127, 128, 16_383, 16_384, 65_535, 1 << 28, u32::MAX];
        let mut octets = Vec::new();
        numbers.iter().for_each(|number| put(&mut octets, *number));
        let mut rest = &octets[..];
        let back: Vec<u32> = std::iter::from_fn(|| next(&mut rest)).collect();
        assert_eq!(back, numbers);
        assert_eq!(next(&mut &[0x80, 0x80][..]), None);
    }
}
