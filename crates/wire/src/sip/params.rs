//! Parameters: `;name=value` lists of headers and URIs.

use super::lex;
use crate::scan::{Block, NARROW, Narrow, WIDTH, Wide, below, first};

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
    #[inline]
    pub fn iter(self) -> impl Iterator<Item = Param<'a>> {
        Iter::new(self.0)
    }
    /// The first parameter of this name, any case.
    pub fn find(self, name: &str) -> Option<Param<'a>> {
        let mut iter = Iter::new(self.0);
        loop {
            iter.pass_others(name.as_bytes());
            let param = iter.next()?;
            if param.is(name) {
                return Some(param);
            }
        }
    }
    /// The value of the first parameter of this name; a flag counts as empty.
    pub fn value(self, name: &str) -> Option<&'a [u8]> {
        self.find(name).map(|p| p.value.unwrap_or_default())
    }
}

struct Iter<'a> {
    list: &'a [u8],
    at: usize,
    marks: Option<Marks>,
}

impl<'a> Iter<'a> {
    #[inline]
    fn new(list: &'a [u8]) -> Self {
        Self { list, at: 0, marks: Marks::of(list) }
    }

    /// Steps over parameters that are of another name, as far as that is seen at once.
    #[inline]
    fn pass_others(&mut self, name: &[u8]) {
        let Some(marks) = &self.marks else { return };
        while let Some(semicolon) = first(marks.semicolons & !below(self.at)) {
            let behind = lex::tail(self.list, semicolon + 1);
            let mark = behind.first().copied().unwrap_or_default();
            if lex::is_space(mark) || name.first().is_some_and(|first| first.eq_ignore_ascii_case(&mark)) {
                return;
            }
            self.at = semicolon + 1;
        }
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = Param<'a>;

    #[inline]
    fn next(&mut self) -> Option<Param<'a>> {
        loop {
            let (semicolon, end, equals) = match &self.marks {
                Some(marks) => marks.extent(self.at, self.list.len())?,
                None => extent(self.list, self.at)?,
            };
            self.at = end;
            let raw = lex::trim_end(self.list.get(semicolon..end).unwrap_or_default());
            // A semicolon is no white space, so it has stayed.
            let start = lex::skip_space(raw, 1);
            if start >= raw.len() {
                continue;
            }
            return Some(match equals.map(|equals| equals - semicolon) {
                None => Param { name: lex::tail(raw, start), value: None, raw },
                Some(equals) => Param {
                    name: lex::trim_end(raw.get(start..equals).unwrap_or_default()),
                    value: Some(lex::trim_start(lex::tail(raw, equals + 1))),
                    raw,
                },
            });
        }
    }
}

/// What parts a list that fits into a block and has no quotes: nearly every one.
struct Marks {
    semicolons: u64,
    equals: u64,
}

impl Marks {
    #[inline]
    fn of(list: &[u8]) -> Option<Self> {
        if list.is_empty() || list.len() > WIDTH {
            return None;
        }
        if list.len() > NARROW { Self::of_block(&Wide::of(list)) } else { Self::of_block(&Narrow::of(list)) }
    }

    #[inline]
    fn of_block<const PARTS: usize>(block: &Block<PARTS>) -> Option<Self> {
        (block.equal(b'"') == 0).then(|| Self { semicolons: block.equal(b';'), equals: block.equal(b'=') })
    }

    /// As [`extent`].
    #[inline]
    fn extent(&self, at: usize, length: usize) -> Option<(usize, usize, Option<usize>)> {
        let semicolons = self.semicolons & !below(at);
        let semicolon = first(semicolons)?;
        let end = first(semicolons & (semicolons - 1)).unwrap_or(length);
        Some((semicolon, end, first(self.equals & below(end) & !below(semicolon))))
    }
}

/// Of the first parameter from `at` on: its semicolon, its end, and its first
/// equals sign outside of quotes.
fn extent(list: &[u8], at: usize) -> Option<(usize, usize, Option<usize>)> {
    let semicolon = at + lex::tail(list, at).iter().position(|b| *b == b';')?;
    let (mut at, mut equals) = (semicolon + 1, None);
    while let Some(byte) = list.get(at) {
        match byte {
            b';' => return Some((semicolon, at, equals)),
            b'=' => _ = equals.get_or_insert(at),
            b'"' => {
                at = lex::quoted_end(list, at).unwrap_or(list.len());
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    Some((semicolon, list.len(), equals))
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
    fn a_long_list_is_read_as_a_short_one() {
        let long = format!("; a = 1 ;;b;c=x=y;d={}", "z".repeat(WIDTH));
        let short = "; a = 1 ;;b;c=x=y;d=z";
        let all = |list: &'static str| read(list).into_iter().map(|(name, ..)| name).collect::<Vec<_>>();
        assert_eq!(all(Box::leak(long.clone().into_boxed_str())), all(short));
        assert_eq!(read(&long)[..3], read(short)[..3]);
    }

    #[test]
    fn names_in_any_case_first_one_wins() {
        let params = Params(b";Tag=x;TAG=y;rport");
        assert_eq!(params.value("tag"), Some(&b"x"[..]));
        assert_eq!(params.value("rport"), Some(&b""[..]));
        assert_eq!(params.value("lr"), None);
    }

    proptest::proptest! {
        #[test]
        fn marks_and_a_walk_read_the_same(list in "(;[ab =\"\\\\]{0,8}){0,7}") {
            let list = list.as_bytes();
            let walked: Vec<_> = Iter { list, at: 0, marks: None }.collect();
            assert_eq!(Params(list).iter().collect::<Vec<_>>(), walked);
            assert_eq!(Params(list).find("a"), walked.iter().find(|param| param.is("a")).copied());
        }
    }
}
