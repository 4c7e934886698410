//! Parameters: `;name=value` lists of headers and URIs.

use super::lex;

/// One parameter; `value` is `None` for a flag, and keeps its quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Param<'a> {
    /// Name as written; compare with [`Param::is`].
    pub name: &'a [u8],
    /// Value as written, without surrounding white space.
    pub value: Option<&'a [u8]>,
    /// From the semicolon to the end of the value: what a deletion removes.
    pub raw: &'a [u8],
}

impl Param<'_> {
    /// Case-insensitive comparison of the name.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }
}

/// A raw parameter list, starting at its first semicolon (or empty). Quoted
/// strings are respected; folding counts as white space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Params<'a>(pub &'a [u8]);

impl<'a> Params<'a> {
    /// Parameters in order of writing. Empty ones (`;;`) are skipped.
    pub fn iter(self) -> impl Iterator<Item = Param<'a>> {
        Iter { rest: self.0 }
    }
    /// The first parameter of this name, any case.
    pub fn find(self, name: &str) -> Option<Param<'a>> {
        self.iter().find(|p| p.is(name))
    }
    /// The value of the first parameter of this name; a flag counts as empty.
    pub fn value(self, name: &str) -> Option<&'a [u8]> {
        self.find(name).map(|p| p.value.unwrap_or_default())
    }
}

struct Iter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Iter<'a> {
    type Item = Param<'a>;

    fn next(&mut self) -> Option<Param<'a>> {
        loop {
            // It stands first, as a rule: no search is begun for what is there at once.
            let list = lex::tail(self.rest, self.rest.iter().position(|b| *b == b';')?);
            let inner = lex::tail(list, 1);
            let inner = lex::before(inner, lex::unquoted(inner, b';'));
            self.rest = lex::tail(list, 1 + inner.len());
            let trimmed = lex::trim_end(inner);
            let text = lex::trim_start(trimmed);
            if text.is_empty() {
                continue;
            }
            let raw = lex::before(list, 1 + trimmed.len());
            return Some(match text.iter().position(|b| *b == b'=') {
                None => Param { name: text, value: None, raw },
                Some(equals) => Param {
                    name: lex::trim_end(lex::before(text, equals)),
                    value: Some(lex::trim_start(lex::tail(text, equals + 1))),
                    raw,
                },
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(list: &str) -> Vec<(&str, Option<&str>, &str)> {
        let text = |bytes| std::str::from_utf8(bytes).expect("sub-slices of a str at ASCII marks");
        Params(list.as_bytes()).iter().map(|p| (text(p.name), p.value.map(text), text(p.raw))).collect()
    }

    #[test]
    fn lists() {
        assert_eq!(read(""), []);
        assert_eq!(read(";;; ;"), []);
        assert_eq!(read(";lr"), [("lr", None, ";lr")]);
        assert_eq!(read(";a=1;;b"), [("a", Some("1"), ";a=1"), ("b", None, ";b")]);
        assert_eq!(read("; a = 1 ;\r\n b =\t2 "), [("a", Some("1"), "; a = 1"), ("b", Some("2"), ";\r\n b =\t2")]);
        assert_eq!(read(";x=\"a;b,\\\"c\";y"), [("x", Some("\"a;b,\\\"c\""), ";x=\"a;b,\\\"c\""), ("y", None, ";y")]);
        assert_eq!(read(";x=\"open;y"), [("x", Some("\"open;y"), ";x=\"open;y")]);
        assert_eq!(read(";a="), [("a", Some(""), ";a=")]);
        assert_eq!(read(";a==b"), [("a", Some("=b"), ";a==b")]);
    }

    #[test]
    fn names_in_any_case_first_one_wins() {
        let params = Params(b";Tag=x;TAG=y;rport");
        assert_eq!(params.value("tag"), Some(&b"x"[..]));
        assert_eq!(params.value("rport"), Some(&b""[..]));
        assert_eq!(params.value("lr"), None);
    }
}
