//! CSeq (RFC 3261 §20.16).

use super::{Method, lex};
use crate::{Malformed, Span};

/// A parsed CSeq.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CSeq<'a> {
    /// Sequence number, below 2³¹ (§8.1.1.5).
    pub number: u32,
    /// The digits as written, for an edit.
    pub digits: &'a [u8],
    /// Method.
    pub method: Method<'a>,
    /// The method as written.
    pub(super) name: &'a [u8],
}

impl<'a> CSeq<'a> {
    /// Reads a header field value.
    pub fn parse(value: &'a [u8]) -> Result<Self, Malformed> {
        let refuse = |part: &[u8], what| Malformed { at: Span::of(part, value).start as usize, what };
        let trimmed = lex::trim(value);
        let (mut length, mut number) = (0, 0_u64);
        while let Some(digit) = trimmed.get(length).filter(|byte| byte.is_ascii_digit()) {
            number = number.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
            length += 1;
        }
        let digits = lex::before(trimmed, length);
        let rest = lex::tail(trimmed, length);
        let method = lex::trim_start(rest);
        if length == 0 {
            return Err(refuse(trimmed, "CSeq without a number"));
        }
        let known = Method::known(method);
        if method.len() == rest.len() || known.is_none() && !lex::is_token(method) {
            return Err(refuse(rest, "CSeq without a method"));
        }
        if number >= 1 << 31 {
            return Err(refuse(digits, "CSeq number too large"));
        }
        Ok(Self { number: number as u32, digits, method: known.unwrap_or(Method::Other(method)), name: method })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_number_and_method() {
        for (value, number, method) in [
            ("1 INVITE", 1, Method::Invite),
            ("0009\r\n  INVITE", 9, Method::Invite),
            (" 2147483647\tX-!%*", 2_147_483_647, Method::Other(b"X-!%*")),
        ] {
            let read = CSeq::parse(value.as_bytes()).map(|c| (c.number, c.method));
            assert_eq!(read, Ok((number, method)), "{value}");
        }
    }

    #[test]
    fn refused() {
        for value in [
            "",
            "1",
            "INVITE",
            "-1 INVITE",
            "1INVITE",
            "1 IN VITE",
            "2147483648 INVITE",
            "36893488147419103232 REGISTER",
        ] {
            assert!(CSeq::parse(value.as_bytes()).is_err(), "{value}");
        }
    }
}
