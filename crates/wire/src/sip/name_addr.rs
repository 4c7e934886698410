//! name-addr and addr-spec with header parameters: From, To, Contact, Route,
//! Record-Route, Path, Refer-To (RFC 3261 §20.10).

use super::{Params, Uri, lex};
use crate::scan::find;
use crate::{Malformed, Span};

/// One address value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameAddr<'a> {
    /// The whole value, parameters included.
    pub raw: &'a [u8],
    /// Display name as written (quotes kept), empty if none.
    pub display: &'a [u8],
    /// The URI as written, without angle brackets.
    pub uri: &'a [u8],
    /// With the angle brackets, when there are any; else the same as `uri`.
    pub addr: &'a [u8],
    /// Header parameters. Without angle brackets everything after the first
    /// semicolon is a header parameter (§20.10), never part of the URI.
    pub params: Params<'a>,
}

impl<'a> NameAddr<'a> {
    /// Reads one value (no comma list).
    pub fn parse(value: &'a [u8]) -> Result<Self, Malformed> {
        let refuse = |part: &[u8], what| Malformed { at: Span::of(part, value).start as usize, what };
        let raw = lex::trim(value);
        // The first mark tells the three forms apart: "quoted" <uri>, words <uri>, uri.
        let mark = raw.iter().position(|b| matches!(b, b'"' | b'<' | b':' | b';' | b',')).unwrap_or(raw.len());
        let open = match raw.get(mark) {
            Some(b'<') => mark,
            Some(b'"') if mark == 0 => {
                let end =
                    lex::quoted_end(raw, 0).ok_or_else(|| refuse(raw, "display name without its closing quote"))?;
                lex::skip_space(raw, end)
            }
            Some(b':') => return Self::bare(raw).map_err(|what| refuse(raw, what)),
            Some(b',') => return Err(refuse(lex::tail(raw, mark), "comma in a display name without quotes")),
            Some(b'"') => return Err(refuse(lex::tail(raw, mark), "quote inside a display name")),
            _ => return Err(refuse(lex::tail(raw, mark), "address without a URI")),
        };
        let addr = lex::tail(raw, open);
        if addr.first() != Some(&b'<') {
            return Err(refuse(addr, "display name without an address in angle brackets"));
        }
        let length = find(b'>', addr).ok_or_else(|| refuse(addr, "address without its closing bracket"))?;
        let uri = addr.get(1..length).unwrap_or_default();
        if uri.is_empty() {
            return Err(refuse(addr, "empty address"));
        }
        let params = lex::trim_start(lex::tail(addr, length + 1));
        if !matches!(params.first(), None | Some(b';')) {
            return Err(refuse(params, "text after an address"));
        }
        Ok(Self {
            raw,
            display: lex::trim_end(lex::before(raw, open)),
            uri,
            addr: lex::before(addr, length + 1),
            params: Params(params),
        })
    }

    /// An addr-spec: no brackets, so no display name.
    fn bare(raw: &'a [u8]) -> Result<Self, &'static str> {
        let end = find(b';', raw).unwrap_or(raw.len());
        let uri = lex::trim_end(lex::before(raw, end));
        if uri.iter().any(|b| lex::is_space(*b) || matches!(b, b'<' | b'>' | b'"')) {
            return Err("address without angle brackets");
        }
        Ok(Self { raw, display: &[], uri, addr: uri, params: Params(lex::tail(raw, end)) })
    }

    /// The URI, parsed.
    pub fn uri(&self) -> Result<Uri<'a>, Malformed> {
        Uri::parse(self.uri)
    }
    /// Of a URI `scheme:user@place`: the user part with its password, and the
    /// place with what follows it; neither of them is checked.
    pub fn user_and_place(&self) -> Option<(&'a [u8], &'a [u8])> {
        let rest = lex::tail(self.uri, find(b':', self.uri)? + 1);
        let at = find(b'@', rest)?;
        Some((lex::before(rest, at), lex::tail(rest, at + 1)))
    }
    /// The `tag` parameter.
    pub fn tag(&self) -> Option<&'a [u8]> {
        // As nearly everybody writes it: alone, and a token.
        let alone = self.params.0.strip_prefix(b";tag=").filter(|tag| lex::is_token(tag));
        alone.or_else(|| self.params.value("tag"))
    }
}

/// A Contact value (§20.10).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contact<'a> {
    /// `*`
    Star,
    /// An address.
    Addr(NameAddr<'a>),
}

impl<'a> Contact<'a> {
    /// Reads one value (no comma list).
    pub fn parse(value: &'a [u8]) -> Result<Self, Malformed> {
        if lex::trim(value) == b"*" { Ok(Self::Star) } else { NameAddr::parse(value).map(Self::Addr) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_values() {
        let table = [
            ("<sip:a@b>", ("", "sip:a@b", "<sip:a@b>", "")),
            ("<sip:a@b;lr>;x=1", ("", "sip:a@b;lr", "<sip:a@b;lr>", ";x=1")),
            ("A. Bell <sip:a@b>\t;tag=1", ("A. Bell", "sip:a@b", "<sip:a@b>", ";tag=1")),
            (
                "\"A, <b>; \\\"c\\\"\"\r\n <sip:a@b> ; tag = 1 ",
                ("\"A, <b>; \\\"c\\\"\"", "sip:a@b", "<sip:a@b>", "; tag = 1"),
            ),
            ("\"\"<sip:a@b>", ("\"\"", "sip:a@b", "<sip:a@b>", "")),
            ("sip:a@b;tag=1", ("", "sip:a@b", "sip:a@b", ";tag=1")),
            ("sip:a@b?x=y;tag=1", ("", "sip:a@b?x=y", "sip:a@b?x=y", ";tag=1")),
            ("sip:a@b ;x=\"<sip:c@d>\"", ("", "sip:a@b", "sip:a@b", ";x=\"<sip:c@d>\"")),
            ("tel:+1-201-555-0123", ("", "tel:+1-201-555-0123", "tel:+1-201-555-0123", "")),
            ("M\u{fc}ller <sip:a@b>", ("M\u{fc}ller", "sip:a@b", "<sip:a@b>", "")),
        ];
        for (value, (display, uri, addr, params)) in table {
            let read = NameAddr::parse(value.as_bytes()).expect(value);
            assert_eq!(read.display, display.as_bytes(), "{value}");
            assert_eq!(read.uri, uri.as_bytes(), "{value}");
            assert_eq!(read.addr, addr.as_bytes(), "{value}");
            assert_eq!(read.params.0, params.as_bytes(), "{value}");
        }
    }

    #[test]
    fn tags() {
        for (value, tag) in [
            ("<sip:a@b>;tag=a.1", Some("a.1")),
            ("<sip:a@b>;tag=a;x=y", Some("a")),
            ("<sip:a@b>;tag=a ", Some("a")),
            ("<sip:a@b>;Tag= a", Some("a")),
            ("<sip:a@b>;x;tag=\"a b\"", Some("\"a b\"")),
            ("<sip:a@b>;tag=", Some("")),
            ("<sip:a@b>;tags=a", None),
            ("<sip:a@b>", None),
        ] {
            assert_eq!(NameAddr::parse(value.as_bytes()).expect(value).tag(), tag.map(str::as_bytes), "{value}");
        }
    }

    #[test]
    fn refuses_values() {
        for value in [
            "",
            "*",
            ";tag=1",
            "<>",
            "<sip:a@b",
            "Bell",
            "Bell, Alexander <sip:a@b>",
            "\"Bell <sip:a@b>",
            "\"Bell\" sip:a@b",
            "\"Bell\"",
            "Bell \"Alexander\" <sip:a@b>",
            "sip:a@b <sip:c@d>",
            "sip:a@b junk;tag=1",
            "<sip:a@b> junk",
            "<sip:a@b>, <sip:c@d>",
        ] {
            assert!(NameAddr::parse(value.as_bytes()).is_err(), "{value}");
        }
    }

    #[test]
    fn contacts() {
        assert_eq!(Contact::parse(b" * "), Ok(Contact::Star));
        assert!(matches!(Contact::parse(b"<sip:a@b>;expires=0"), Ok(Contact::Addr(_))));
        assert!(Contact::parse(b"*;expires=0").is_err());
    }
}
