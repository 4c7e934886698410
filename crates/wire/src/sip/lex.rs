//! Character classes and the few scans that all views share (RFC 3261 §25.1).
//!
//! White space here is SP, HTAB, CR and LF, so that folds inside a value
//! read as the blanks that they stand for (§7.3.1).

use memchr::{memchr2, memchr3};

use crate::scan::find;

/// Classes of characters, one bit each.
static CLASS: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let letter = byte as u8;
        if letter.is_ascii_alphanumeric() {
            table[byte] |= TOKEN | HOST;
        }
        if matches!(letter, b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~') {
            table[byte] |= TOKEN;
        }
        if matches!(letter, b'-' | b'.' | b'_') {
            table[byte] |= HOST;
        }
        byte += 1;
    }
    table
};
const TOKEN: u8 = 1;
const HOST: u8 = 2;

/// `token` (§25.1).
#[inline]
pub(super) fn is_token_byte(byte: u8) -> bool {
    CLASS[byte as usize] & TOKEN != 0
}

/// What may stand unescaped somewhere in a URI, read leniently. Without a
/// table, so that many octets are compared at once.
#[inline]
pub(super) fn is_uri_byte(byte: u8) -> bool {
    (b'!'..=b'~').contains(&byte) & (byte != b'"') & (byte != b'<') & (byte != b'>')
}

/// `hostname` and `IPv4address` (§25.1), and the underscore that is met in the wild.
#[inline]
pub(super) fn is_host_byte(byte: u8) -> bool {
    CLASS[byte as usize] & HOST != 0
}

/// Length of the token that `bytes` begin with.
#[inline]
pub(super) fn token_length(bytes: &[u8]) -> usize {
    length_of(bytes, is_token_byte)
}

/// How many octets of that class `bytes` begin with.
#[inline]
pub(super) fn length_of(bytes: &[u8], is_in: impl Fn(u8) -> bool) -> usize {
    let mut length = 0;
    while let Some(byte) = bytes.get(length)
        && is_in(*byte)
    {
        length += 1;
    }
    length
}

/// A whole, non-empty token.
pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|b| is_token_byte(*b))
}

#[inline]
pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// From `at` on; empty beyond the end.
#[inline]
pub(super) fn tail(bytes: &[u8], at: usize) -> &[u8] {
    bytes.get(at..).unwrap_or_default()
}

/// Up to `at`; everything when `at` lies beyond the end.
#[inline]
pub(super) fn before(bytes: &[u8], at: usize) -> &[u8] {
    bytes.get(..at).unwrap_or(bytes)
}

/// Offset of the first octet at or after `at` that is not white space.
#[inline]
pub(super) fn skip_space(bytes: &[u8], at: usize) -> usize {
    let rest = tail(bytes, at);
    at + rest.iter().position(|b| !is_space(*b)).unwrap_or(rest.len())
}

#[inline]
pub(super) fn trim_start(bytes: &[u8]) -> &[u8] {
    tail(bytes, skip_space(bytes, 0))
}

#[inline]
pub(super) fn trim_end(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|b| !is_space(*b)).map_or(0, |last| last + 1);
    before(bytes, end)
}

#[inline]
pub(super) fn trim(bytes: &[u8]) -> &[u8] {
    trim_end(trim_start(bytes))
}

/// One past the quote that closes the string opened at `open`; `None` when it stays open.
pub(super) fn quoted_end(bytes: &[u8], open: usize) -> Option<usize> {
    let mut at = open + 1;
    loop {
        let found = at + memchr2(b'"', b'\\', tail(bytes, at))?;
        if bytes.get(found) == Some(&b'"') {
            return Some(found + 1);
        }
        at = found + 2;
    }
}

/// Offset of the first comma outside quoted strings and angle brackets, or the length.
pub(super) fn item_end(bytes: &[u8]) -> usize {
    // A single value, as a rule.
    if find(b',', bytes).is_none() {
        return bytes.len();
    }
    let mut at = 0;
    while let Some(found) = memchr3(b',', b'"', b'<', tail(bytes, at)) {
        let found = at + found;
        let closed = match bytes.get(found) {
            Some(b'"') => quoted_end(bytes, found),
            Some(b'<') => find(b'>', tail(bytes, found)).map(|length| found + length + 1),
            _ => return found,
        };
        at = closed.unwrap_or(bytes.len());
    }
    bytes.len()
}

/// A decimal number of digits only; saturates. `None` for anything else.
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    // Nineteen nines are below 2^64.
    let short = digits.len() < 20;
    digits.iter().try_fold(0u64, |number, byte| {
        let digit = u64::from(byte.wrapping_sub(b'0'));
        let next = if short { number * 10 + digit } else { number.saturating_mul(10).saturating_add(digit) };
        (digit < 10).then_some(next)
    })
}

/// The decimal digits of `number`, written at the end of `buffer`.
pub(super) fn digits(number: u64, buffer: &mut [u8; 20]) -> &[u8] {
    let mut rest = number;
    let mut at = buffer.len();
    for slot in buffer.iter_mut().rev() {
        *slot = b'0' + (rest % 10) as u8;
        at -= 1;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    tail(buffer, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_strings_end_at_the_unescaped_quote() {
        for (text, end) in [
            (&b"\"a\"b"[..], Some(3)),
            (b"\"a\\\"b\"", Some(6)),
            (b"\"\\\\\"", Some(4)),
            (b"\"open", None),
            (b"\"open\\", None),
            (b"\"open\\\"", None),
        ] {
            assert_eq!(quoted_end(text, 0), end, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn commas_split_outside_quotes_and_brackets() {
        for (text, end) in
            [("a,b", 1), ("\"a,b\",c", 5), ("<a,b>,c", 5), ("\"<\",c", 3), ("<\",c", 4), ("\"a,b", 4), ("", 0)]
        {
            assert_eq!(item_end(text.as_bytes()), end, "{text}");
        }
    }

    #[test]
    fn numbers_both_ways() {
        for number in [0, 7, 10, 4_294_967_296, u64::MAX] {
            assert_eq!(decimal(digits(number, &mut [0; 20])), Some(number));
        }
        for (text, number) in [("", None), ("-1", None), ("1 ", None), ("007", Some(7))] {
            assert_eq!(decimal(text.as_bytes()), number, "{text}");
        }
        assert_eq!(decimal(b"99999999999999999999999"), Some(u64::MAX));
    }
}
