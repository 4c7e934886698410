//! CSeq numbers of a dialog in which we have spoken for an end: what that end
//! says later is raised above our own numbers on its way (RFC 3261 §12.2.1.1),
//! and the answers are lowered again, so that neither end sees a gap or a
//! repetition. A PRACK names the number of its INVITE in RAck (RFC 3262 §7.2),
//! which moves along. Each direction of each dialog counts for itself.

use registry::{Call, PassId};
use wire::sip::{Message, Name};
use wire::{Edit, Rule};

use crate::Proxy;
use crate::dialog::{callee, party_mut};
use crate::request::target::party;

/// The highest number there is (§8.1.1.5).
const HIGHEST: u32 = (1 << 31) - 1;

/// By how much the numbers of `from` are raised on their way to `to`.
pub(crate) fn raised(call: &Call, from: u8, to: u8) -> u32 {
    party(call, callee(from, to)).map_or(0, |callee| callee.raised[usize::from(from != 0)])
}

/// The same number, raised.
pub(crate) fn above(number: u32, raised: u32) -> u32 {
    number.saturating_add(raised).min(HIGHEST)
}

impl Proxy {
    /// One more request of ours in the name of `from`: its number.
    pub(crate) fn next_cseq(&mut self, pass: PassId, from: u8, to: u8) -> Option<u32> {
        self.registry.update_call(pass, |call| {
            if let Some(callee) = party_mut(call, callee(from, to)) {
                let raised = &mut callee.raised[usize::from(from != 0)];
                *raised = above(*raised, 1);
            }
        });
        let call = self.registry.call(pass)?;
        Some(above(party(call, from)?.cseq, raised(call, from, to)))
    }

    /// A request on its way, above whatever we have said in its sender's name.
    pub(crate) fn raise(&self, pass: PassId, from: u8, to: u8, message: Message<'_>, edit: &mut Edit) {
        let by = self.registry.call(pass).map_or(0, |call| raised(call, from, to));
        if by == 0 {
            return;
        }
        if let Ok(cseq) = message.cseq() {
            let number = above(cseq.number, by).to_string();
            edit.replace(message.span(cseq.digits), Rule::CSeq, &[number.as_bytes()]);
        }
        if let Some(field) = message.field(Name::RAck)
            && let Some((digits, number)) = acknowledged(message.slice(field.value))
        {
            let number = above(number, by).to_string();
            edit.replace(message.span(digits), Rule::CSeq, &[number.as_bytes()]);
        }
    }
}

/// A response on its way back has the number that its request came with.
pub(crate) fn lower(request: Message<'_>, message: Message<'_>, edit: &mut Edit) {
    if let (Ok(asked), Ok(answered)) = (request.cseq(), message.cseq())
        && asked.number != answered.number
    {
        edit.replace(message.span(answered.digits), Rule::CSeq, &[asked.digits]);
    }
}

/// The CSeq number in a RAck: its second word.
fn acknowledged(value: &[u8]) -> Option<(&[u8], u32)> {
    let mut words = value.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let (_response, digits) = (words.next()?, words.next()?);
    let number = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some((digits, number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_word_of_a_rack_counts() {
        assert_eq!(acknowledged(b"776656 1 INVITE"), Some((&b"1"[..], 1)));
        assert_eq!(acknowledged(b" 1\t 7  INVITE"), Some((&b"7"[..], 7)));
        for odd in [&b""[..], b"1", b"1 x INVITE", b"1 99999999999 INVITE"] {
            assert_eq!(acknowledged(odd), None);
        }
    }

    #[test]
    fn no_number_is_too_high() {
        assert_eq!((above(7, 2), above(HIGHEST, 1), above(u32::MAX, u32::MAX)), (9, HIGHEST, HIGHEST));
    }
}
