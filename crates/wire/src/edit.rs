//! Splices over a received message, each with the rule that made it, applied
//! once when the message is sent.
//!
//! An edit never looks at bytes; it collects ranges of the original and the
//! text that takes their place. Whatever no splice covers is copied as is.

use crate::Span;

/// Why a splice was made: shown by traces and checked by the byte-diff test
/// against the documented list of what siplatch changes (RFC 3261 §16.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// `received`, `rport` and `keep` on the sender's Via (RFC 3261 §18.2.1, RFC 3581 §4, RFC 6223 §4.4).
    ViaReceived,
    /// Our Via pushed on a request or popped from a response (§16.6(8), §16.7(3)).
    Via,
    /// Max-Forwards decremented or added (§16.6(3)).
    MaxForwards,
    /// Request-URI replaced by the phone's own Contact or a route's target.
    RequestUri,
    /// Route entries that name us removed (§16.4).
    Route,
    /// Record-Route added, or turned to face the other side (RFC 5658).
    RecordRoute,
    /// Path added, or our entry turned to face the phone (RFC 3327).
    Path,
    /// Entries of ours in Service-Route turned to face the phone (RFC 3608).
    ServiceRoute,
    /// Flow-Timer added (RFC 5626 §5.4).
    FlowTimer,
    /// Contact made to name us, or the phone's own restored.
    Contact,
    /// Expiry shortened toward a NATed phone (RFC 5853 §3.4).
    Expires,
    /// SDP lines that name addresses (RFC 3264, RFC 8866).
    Sdp,
    /// Content-Length after a body changed size.
    ContentLength,
    /// CSeq or RAck shifted in a dialog that carries a request of ours.
    CSeq,
    /// Challenges gathered from several branches (§16.7(7)).
    Challenge,
    /// Credentials for our own realm, which end here (§22.3).
    Credentials,
    /// Session-Expires and Min-SE asked for, or granted for a callee that knows no timers (RFC 4028 §8).
    SessionTimer,
    /// Asserted identities of whoever is not trusted, or that are to be withheld (RFC 3325 §5).
    Identity,
    /// A transfer's target that names us, as the receiver reaches it (RFC 3515).
    ReferTo,
    /// Max-Breadth added, split or limited (RFC 5393 §5.3.3).
    MaxBreadth,
}

/// One replacement: `span` of the original gives way to `text`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Splice {
    /// Octets of the original that are dropped; empty for an insertion.
    pub span: Span,
    /// Range in the edit's own text buffer.
    text: Span,
    /// The reason.
    pub rule: Rule,
}

/// Splices of a message that we pass on, and octets of their text: room for
/// so many is made at once.
const USUAL_SPLICES: usize = 16;
const USUAL_TEXT: usize = 512;

/// An ordered set of non-overlapping splices over one message.
///
/// Reusable: [`Edit::clear`] keeps the buffers.
#[derive(Debug, Default, Clone)]
pub struct Edit {
    splices: Vec<Splice>,
    text: Vec<u8>,
}

impl Edit {
    /// An edit that changes nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets all splices, keeps the capacity.
    pub fn clear(&mut self) {
        self.splices.clear();
        self.text.clear();
    }

    /// True when nothing would change.
    pub fn is_empty(&self) -> bool {
        self.splices.is_empty()
    }

    /// Replaces `span` by the pieces of `text`, in order.
    pub fn replace(&mut self, span: Span, rule: Rule, text: &[&[u8]]) {
        self.replace_with(span, rule, text.iter().copied());
    }

    /// As [`Edit::replace`], with the pieces from anywhere.
    pub fn replace_with<'t>(&mut self, span: Span, rule: Rule, text: impl IntoIterator<Item = &'t [u8]>) {
        if self.splices.is_empty() {
            self.splices.reserve(USUAL_SPLICES);
            self.text.reserve(USUAL_TEXT);
        }
        let start = self.text.len();
        text.into_iter().for_each(|piece| self.text.extend_from_slice(piece));
        let text = Span::new(start, self.text.len());
        // Kept sorted as they come, stable, so that inserts at one place keep their order.
        let splice = Splice { span, text, rule };
        match self.splices.last() {
            Some(last) if last.span.start > span.start => {
                let at = self.splices.partition_point(|s| s.span.start <= span.start);
                self.splices.insert(at, splice);
            }
            Some(_) | None => self.splices.push(splice),
        }
    }

    /// Inserts text before the octet at `at`.
    pub fn insert(&mut self, at: u32, rule: Rule, text: &[&[u8]]) {
        self.replace(Span { start: at, end: at }, rule, text);
    }

    /// Removes `span`.
    pub fn delete(&mut self, span: Span, rule: Rule) {
        self.replace(span, rule, &[]);
    }

    /// The splices in order, with the text of each.
    pub fn splices(&self) -> impl Iterator<Item = (Splice, &[u8])> {
        self.splices.iter().map(|s| (*s, s.text.in_(&self.text)))
    }

    /// By how many octets the part of the message within `span` grows
    /// (negative: shrinks); counts splices that start inside it.
    pub fn growth(&self, span: Span) -> i64 {
        self.splices
            .iter()
            .filter(|s| s.span.start >= span.start && s.span.end <= span.end)
            .map(|s| s.text.len() as i64 - s.span.len() as i64)
            .sum()
    }

    /// Appends the edited message to `out`. Each octet of the original is
    /// copied at most once. A splice that overlaps an earlier one loses the
    /// part that is already gone.
    pub fn apply(&self, original: &[u8], out: &mut Vec<u8>) {
        self.apply_within(original, Span::new(0, original.len()), out);
    }

    /// As [`Edit::apply`], but only the part `within` of the original is
    /// written; a splice that begins beyond it is left out.
    pub fn apply_within(&self, original: &[u8], within: Span, out: &mut Vec<u8>) {
        let end = (within.end as usize).min(original.len());
        let mut done = (within.start as usize).min(end);
        out.reserve(end - done + self.text.len());
        for splice in self.splices.iter().take_while(|s| s.span.start <= within.end) {
            let start = (splice.span.start as usize).min(end);
            if start > done {
                out.extend_from_slice(&original[done..start]);
                done = start;
            }
            out.extend_from_slice(splice.text.in_(&self.text));
            done = done.max((splice.span.end as usize).min(end));
        }
        out.extend_from_slice(&original[done..end]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(edit: &Edit, original: &str) -> String {
        let mut out = Vec::new();
        edit.apply(original.as_bytes(), &mut out);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn splices_in_any_order_of_making() {
        let mut edit = Edit::new();
        edit.replace(Span::new(4, 6), Rule::Sdp, &[b"E", b"F"]);
        edit.insert(0, Rule::Via, &[b"<"]);
        edit.delete(Span::new(1, 3), Rule::Route);
        edit.insert(8, Rule::Path, &[b">"]);
        edit.insert(0, Rule::RecordRoute, &[b"["]);
        assert_eq!(applied(&edit, "abcdefgh"), "<[adEFgh>");
        assert_eq!(edit.growth(Span::new(0, 8)), 1);
        assert_eq!(edit.growth(Span::new(4, 6)), 0);
        let rules: Vec<_> = edit.splices().map(|(s, _)| s.rule).collect();
        assert_eq!(rules, [Rule::Via, Rule::RecordRoute, Rule::Route, Rule::Sdp, Rule::Path]);
        edit.clear();
        assert!(edit.is_empty());
        assert_eq!(applied(&edit, "abc"), "abc");
    }

    #[test]
    fn an_overlapping_splice_loses_what_is_gone() {
        let mut edit = Edit::new();
        edit.replace(Span::new(1, 4), Rule::Sdp, &[b"X"]);
        edit.replace(Span::new(2, 6), Rule::Sdp, &[b"Y"]);
        assert_eq!(applied(&edit, "abcdefgh"), "aXYgh");
    }

    #[test]
    fn spans_beyond_the_original_are_cut() {
        let mut edit = Edit::new();
        edit.replace(Span::new(2, 90), Rule::Sdp, &[b"X"]);
        assert_eq!(applied(&edit, "abc"), "abX");
        let mut out = Vec::new();
        edit.apply_within(b"abc", Span { start: 7, end: 9 }, &mut out);
        edit.apply_within(b"abc", Span { start: 1, end: 0 }, &mut out);
        assert_eq!(out, b"X");
    }

    proptest::proptest! {
        #[test]
        fn same_as_one_splice_at_a_time(original: Vec<u8>, cuts in proptest::collection::vec((0usize..64, 0usize..8, 0usize..8), 0..6)) {
            let mut edit = Edit::new();
            let mut expected = Vec::new();
            let mut done = 0;
            for (gap, length, grow) in cuts {
                let start = (done + gap).min(original.len());
                let end = (start + length).min(original.len());
                let text = vec![b'+'; grow];
                edit.replace(Span::new(start, end), Rule::Sdp, &[&text]);
                expected.extend_from_slice(&original[done..start]);
                expected.extend_from_slice(&text);
                done = end;
            }
            expected.extend_from_slice(&original[done..]);
            let mut out = Vec::new();
            edit.apply(&original, &mut out);
            proptest::prop_assert_eq!(&out, &expected);
            let grown = edit.growth(Span::new(0, original.len()));
            proptest::prop_assert_eq!(original.len() as i64 + grown, expected.len() as i64);
        }
    }
}
