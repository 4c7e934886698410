//! What an edit did to a message, line by line: for traces. Each change names
//! the rules that made it; lines that no splice touches are not mentioned.

use crate::edit::Splice;
use crate::{Edit, Rule, Span};

/// Lines of the original that gave way to other lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Why, in order, each once.
    pub rules: Vec<Rule>,
    /// Whole lines with their ends; empty where lines were added.
    pub before: Vec<u8>,
    /// Whole lines with their ends; empty where lines were taken away.
    pub after: Vec<u8>,
}

impl Rule {
    /// Its name, for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ViaReceived => "via received",
            Self::Via => "via",
            Self::MaxForwards => "max-forwards",
            Self::RequestUri => "request-uri",
            Self::Route => "route",
            Self::RecordRoute => "record-route",
            Self::Path => "path",
            Self::ServiceRoute => "service-route",
            Self::FlowTimer => "flow-timer",
            Self::Contact => "contact",
            Self::Expires => "expires",
            Self::Sdp => "sdp",
            Self::ContentLength => "content-length",
            Self::CSeq => "cseq",
            Self::Challenge => "challenge",
            Self::Credentials => "credentials",
            Self::SessionTimer => "session-timer",
            Self::Identity => "identity",
            Self::ReferTo => "refer-to",
            Self::MaxBreadth => "max-breadth",
        }
    }

    /// Where it is written that this may, or must, be changed.
    pub fn source(self) -> &'static str {
        match self {
            Self::ViaReceived => "RFC 3261 §18.2.1, RFC 3581 §4, RFC 6223 §4.4",
            Self::Via => "RFC 3261 §16.6(8), §16.7(3)",
            Self::MaxForwards => "RFC 3261 §16.6(3)",
            Self::RequestUri => "RFC 3261 §16.5, §16.6(6)",
            Self::Route => "RFC 3261 §16.4",
            Self::RecordRoute => "RFC 3261 §16.6(4), RFC 5658",
            Self::Path => "RFC 3327, RFC 5626 §5.1",
            Self::ServiceRoute => "RFC 3608 §6.2",
            Self::FlowTimer => "RFC 5626 §5.4",
            Self::Contact => "RFC 7092 §3.2.1",
            Self::Expires => "RFC 5853 §3.4",
            Self::Sdp => "RFC 3264, RFC 7092 §3.2.1",
            Self::ContentLength => "RFC 3261 §20.14",
            Self::CSeq => "RFC 3261 §12.2.1.1",
            Self::Challenge => "RFC 3261 §16.7(7)",
            Self::Credentials => "RFC 3261 §22.3",
            Self::SessionTimer => "RFC 4028 §8",
            Self::Identity => "RFC 3325 §5",
            Self::ReferTo => "RFC 3515",
            Self::MaxBreadth => "RFC 5393 §5.3.3",
        }
    }
}

impl Edit {
    /// The lines of `original` that this edit changes, in order. `original` is
    /// the message that the edit was made for.
    pub fn changes(&self, original: &[u8]) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut group: Vec<(Splice, &[u8])> = Vec::new();
        let mut lines = Span::default();
        for (splice, text) in self.splices() {
            let touched = touched(original, splice.span, text);
            // An insertion before a line is a change of its own.
            if group.is_empty() || touched.start >= lines.end {
                changes.extend(change(original, lines, &group));
                group.clear();
                lines = touched;
            } else {
                lines.end = lines.end.max(touched.end);
            }
            group.push((splice, text));
        }
        changes.extend(change(original, lines, &group));
        changes
    }
}

/// The whole lines that a splice touches; none where it adds whole lines.
fn touched(original: &[u8], span: Span, text: &[u8]) -> Span {
    let length = original.len();
    let (start, end) = ((span.start as usize).min(length), (span.end as usize).min(length));
    let begins_line = |at: usize| at == 0 || original.get(at - 1) == Some(&b'\n');
    let whole = begins_line(start) && begins_line(end) && (text.is_empty() || text.ends_with(b"\n"));
    if whole {
        return Span::new(start, end.max(start));
    }
    let first = original[..start].iter().rposition(|octet| *octet == b'\n').map_or(0, |at| at + 1);
    // One that ends with a line takes no further one along.
    let from = if end > start && begins_line(end) { end - 1 } else { end };
    let last = original[from..].iter().position(|octet| *octet == b'\n').map_or(length, |at| from + at + 1);
    Span::new(first, last)
}

fn change(original: &[u8], lines: Span, group: &[(Splice, &[u8])]) -> Option<Change> {
    let (mut rules, mut after) = (Vec::new(), Vec::new());
    let mut done = lines.start;
    for (splice, text) in group {
        if !rules.contains(&splice.rule) {
            rules.push(splice.rule);
        }
        after.extend_from_slice(Span { start: done, end: splice.span.start }.in_(original));
        after.extend_from_slice(text);
        done = done.max(splice.span.end);
    }
    after.extend_from_slice(Span { start: done, end: lines.end }.in_(original));
    let before = lines.in_(original).to_vec();
    (before != after).then_some(Change { rules, before, after })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "A b\r\nVia: one\r\nTo: t\r\n\r\nv=0\r\nc=x\r\n";

    /// Each change as `-before +after rules`, ends of lines written as `/`.
    fn shown(edit: &Edit) -> Vec<String> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("ASCII").replace("\r\n", "/");
        let rules = |rules: &[Rule]| rules.iter().map(|rule| rule.as_str()).collect::<Vec<_>>().join(",");
        let changes = edit.changes(TEXT.as_bytes());
        changes.iter().map(|c| format!("-{} +{} {}", text(&c.before), text(&c.after), rules(&c.rules))).collect()
    }

    fn at(part: &str) -> Span {
        let start = TEXT.find(part).expect(part);
        Span::new(start, start + part.len())
    }

    #[test]
    fn lines_that_are_added_changed_and_taken_away() {
        let mut edit = Edit::new();
        edit.insert(at("Via").start, Rule::Via, &[b"Via: ours\r\n"]);
        edit.insert(at("one").end, Rule::ViaReceived, &[b";rport=1"]);
        edit.insert(at("one").end, Rule::ViaReceived, &[b";received=a"]);
        edit.delete(at("To: t\r\n"), Rule::Route);
        edit.replace(at("b"), Rule::RequestUri, &[b"c"]);
        edit.replace(at("x"), Rule::Sdp, &[b"y"]);
        assert_eq!(
            shown(&edit),
            [
                "-A b/ +A c/ request-uri",
                "- +Via: ours/ via",
                "-Via: one/ +Via: one;rport=1;received=a/ via received",
                "-To: t/ + route",
                "-c=x/ +c=y/ sdp",
            ]
        );
    }

    #[test]
    fn splices_of_one_line_are_one_change_with_both_rules() {
        let mut edit = Edit::new();
        edit.replace(at("t\r\n"), Rule::Contact, &[b"u\r\n"]);
        edit.insert(at("To").start, Rule::Expires, &[b"x"]);
        assert_eq!(shown(&edit), ["-To: t/ +xTo: u/ expires,contact"]);
        edit.clear();
        edit.replace(at("one"), Rule::Via, &[b"one"]);
        assert!(shown(&edit).is_empty(), "the same text is no change");
    }

    proptest::proptest! {
        #[test]
        fn they_grow_the_message_as_the_edit_does(lines in proptest::collection::vec("[ab]{0,4}", 0..6), cuts in proptest::collection::vec((0usize..20, 0usize..6, "[x\n]{0,3}"), 0..5)) {
            let original = lines.join("\n").into_bytes();
            let (mut edit, mut done) = (Edit::new(), 0);
            for (gap, length, text) in cuts {
                let start = (done + gap).min(original.len());
                let end = (start + length).min(original.len());
                edit.replace(Span::new(start, end), Rule::Sdp, &[text.as_bytes()]);
                done = end;
            }
            let mut expected = Vec::new();
            edit.apply(&original, &mut expected);
            let changes = edit.changes(&original);
            let grown: i64 = changes.iter().map(|c| c.after.len() as i64 - c.before.len() as i64).sum();
            proptest::prop_assert_eq!(original.len() as i64 + grown, expected.len() as i64);
        }
    }
}
