//! `siplatch trace`: what the daemon tells a watcher, one JSON text a line,
//! and how the program beside it prints that. Which messages are watched is
//! decided by the signalling machine.

mod client;
mod ladder;

use std::time::Duration;

use proxy::Traced;
use proxy::trace::{Direction, Start};
use serde::{Deserialize, Serialize};

pub(crate) use client::{Until, trace};

/// What a watcher is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Told {
    /// From now on.
    Watching(String),
    /// Not at all, and why.
    Refused(String),
    /// So many messages were left out, because the watcher read too slowly.
    Lost(u64),
    /// A message came or left.
    Message(Box<Entry>),
}

/// One message. Texts are escaped: nothing in them moves a terminal's cursor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Seconds since 1970.
    pub(crate) at: f64,
    pub(crate) call_id: String,
    pub(crate) direction: Way,
    /// The end that is drawn on the left: the phone's.
    pub(crate) near: bool,
    pub(crate) side: String,
    pub(crate) transport: String,
    pub(crate) local: String,
    pub(crate) remote: String,
    /// Method of the request, or of the one that is answered.
    pub(crate) method: String,
    /// Of a response.
    pub(crate) status: Option<u16>,
    pub(crate) cseq: Option<u32>,
    pub(crate) repeated: bool,
    pub(crate) forwarded: bool,
    pub(crate) changes: Vec<Changed>,
    /// The whole message, its lines without their ends.
    pub(crate) message: Vec<String>,
}

/// To the daemon, or from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Way {
    Received,
    Sent,
}

/// Lines that gave way to others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Changed {
    pub(crate) rules: Vec<String>,
    /// Where the rules come from.
    pub(crate) sources: Vec<String>,
    pub(crate) before: Vec<String>,
    pub(crate) after: Vec<String>,
}

impl Entry {
    /// A message that came or left so long after 1970.
    pub(crate) fn new(at: Duration, traced: &Traced) -> Self {
        let (method, status) = match &traced.start {
            Start::Request(_, method) => (method, None),
            Start::Response(status, method) => (method, Some(status.0)),
        };
        let changes = traced.changes.iter().map(|change| Changed {
            rules: change.rules.iter().map(|rule| rule.as_str().to_owned()).collect(),
            sources: change.rules.iter().map(|rule| rule.source().to_owned()).collect(),
            before: lines(&change.before),
            after: lines(&change.after),
        });
        Self {
            at: (at.as_secs_f64() * 1000.0).round() / 1000.0,
            call_id: shown(&traced.call_id),
            direction: match traced.direction {
                Direction::Received => Way::Received,
                Direction::Sent => Way::Sent,
            },
            near: traced.near,
            side: traced.side.as_str().to_owned(),
            transport: traced.flow.transport.via().to_ascii_lowercase(),
            local: traced.flow.local.to_string(),
            remote: traced.flow.remote.to_string(),
            method: shown(method),
            status,
            cseq: traced.cseq,
            repeated: traced.repeated,
            forwarded: traced.forwarded,
            changes: changes.collect(),
            message: lines(&traced.bytes),
        }
    }
}

fn lines(text: &[u8]) -> Vec<String> {
    let lines = text.split_inclusive(|octet| *octet == b'\n');
    lines
        .map(|line| shown(line.strip_suffix(b"\n").map_or(line, |line| line.strip_suffix(b"\r").unwrap_or(line))))
        .collect()
}

/// As text that a terminal cannot mistake for orders.
fn shown(text: &[u8]) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in String::from_utf8_lossy(text).chars() {
        match character {
            '"' | '\'' => shown.push(character),
            character => shown.extend(character.escape_debug()),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_message_moves_the_cursor() {
        assert_eq!(shown(b"\"a\" <sip:b>;c='d'"), "\"a\" <sip:b>;c='d'");
        assert_eq!(shown(b"a\x1b[2Jb\tc\\\x00\xff"), "a\\u{1b}[2Jb\\tc\\\\\\0\u{fffd}");
        assert_eq!(shown("\u{9b}2J \u{202e}é".as_bytes()), "\\u{9b}2J \\u{202e}é");
        assert_eq!(lines(b"a\r\n\nb\rc"), ["a", "", "b\\rc"]);
    }
}
