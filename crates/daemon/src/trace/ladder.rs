//! The ladder of a call: phone, siplatch, far side; below each message that
//! was passed on, the lines that were changed and the rules that did it.

use std::fmt::Write as _;

use super::{Entry, Way};

/// Between two of the three lines.
const WIDTH: usize = 26;
/// Where a line of a change begins.
const INDENT: &str = "              ";

/// Prints one message after the other.
#[derive(Debug, Default)]
pub(super) struct Ladder {
    /// Whose messages were printed last.
    call_id: Option<String>,
}

impl Ladder {
    /// What is printed for a message.
    pub(super) fn text(&mut self, entry: &Entry) -> String {
        let mut text = String::new();
        if self.call_id.as_ref() != Some(&entry.call_id) {
            if self.call_id.is_some() {
                text.push('\n');
            }
            let _ = writeln!(text, "call {}", entry.call_id);
            let _ = writeln!(text, "{INDENT}phone{:>width$}{:>width$}", "siplatch", "far side", width = WIDTH);
            self.call_id = Some(entry.call_id.clone());
        }
        let (arrow, gap) = (arrow(entry), " ".repeat(WIDTH));
        let (left, right) = if entry.near { (&arrow, &gap) } else { (&gap, &arrow) };
        let _ = writeln!(text, "{}  |{left}|{right}|  {} {}", clock(entry.at), entry.transport, entry.remote);
        let mut changes = entry.changes.iter().peekable();
        while let Some(change) = changes.next() {
            for line in &change.before {
                let _ = writeln!(text, "{INDENT}- {line}");
            }
            for line in &change.after {
                let _ = writeln!(text, "{INDENT}+ {line}");
            }
            if changes.peek().is_some_and(|next| next.rules == change.rules) {
                continue;
            }
            let rules = change.rules.iter().zip(&change.sources).map(|(rule, source)| format!("{rule}, {source}"));
            let _ = writeln!(text, "{INDENT}  (rule: {})", rules.collect::<Vec<_>>().join("; "));
        }
        if entry.direction == Way::Sent && !entry.forwarded && !entry.repeated {
            let _ = writeln!(text, "{INDENT}  (made by siplatch)");
        }
        text
    }
}

fn arrow(entry: &Entry) -> String {
    let number = entry.cseq.map(|number| number.to_string()).unwrap_or_default();
    let again = if entry.repeated { " again" } else { "" };
    let label = match entry.status {
        Some(status) => format!(" {status} {} {number}{again} ", entry.method),
        None => format!(" {} {number}{again} ", entry.method),
    };
    let label: String = label.chars().take(WIDTH - 4).collect();
    let line = format!("{label:-^width$}", width = WIDTH - 1);
    // To siplatch from the left is as from siplatch to the right.
    if (entry.direction == Way::Received) == entry.near { format!("{line}>") } else { format!("<{line}") }
}

/// Time of day, UTC as in the log.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "milliseconds since 1970 fit")]
fn clock(at: f64) -> String {
    let ms = (at.max(0.0) * 1000.0).round() as u64;
    let (seconds, ms) = (ms / 1000, ms % 1000);
    format!("{:02}:{:02}:{:02}.{ms:03}", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
#[path = "ladder_tests.rs"]
mod tests;
