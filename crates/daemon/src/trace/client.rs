//! `siplatch trace` itself: asks the running daemon, prints what it tells, and
//! ends when it was told to.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use net::clock;

use super::ladder::Ladder;
use super::{Entry, Told, Way};

/// When it ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Until {
    /// So many calls have ended.
    pub(crate) calls: Option<u64>,
    /// So much time has passed.
    pub(crate) time: Option<Duration>,
}

/// Watches over a connection to the daemon until the end, or until nobody
/// reads what is printed.
pub(crate) fn trace(mut stream: UnixStream, target: &str, json: bool, until: Until) -> Result<(), String> {
    let failed = |error: io::Error| format!("the daemon cannot be asked: {error}\n");
    if target.contains(['\r', '\n']) {
        return Err("a call or a phone has a name of one line\n".to_owned());
    }
    stream.write_all(format!("trace {target}\n").as_bytes()).map_err(failed)?;
    let end = until.time.map(|time| clock::now() + time);
    let mut reader = BufReader::new(stream);
    let (mut ladder, mut calls, mut ended) = (Ladder::default(), Calls::default(), 0);
    let mut out = io::stdout().lock();
    loop {
        if !patience(reader.get_ref(), end).map_err(failed)? {
            return Ok(());
        }
        let mut line = String::new();
        match reader.read_line(&mut line) {
            Ok(0) => return Err("the daemon has ended, or does not answer any more\n".to_owned()),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return Ok(()),
            Err(error) => return Err(failed(error)),
        }
        let told: Told = serde_json::from_str(&line)
            .map_err(|error| format!("the daemon's answer is not understood ({error}): is it of another version?\n"))?;
        let text = match told {
            Told::Refused(why) => return Err(format!("{why}\n")),
            Told::Watching(what) => {
                // Not part of what is traced.
                let _ = writeln!(io::stderr(), "watching {what}; Ctrl-C ends");
                continue;
            }
            Told::Lost(_) if json => line,
            Told::Lost(lost) => format!("              {lost} messages are left out: this reader was too slow\n"),
            Told::Message(entry) => {
                ended += u64::from(calls.over(&entry));
                if json { line } else { ladder.text(&entry) }
            }
        };
        if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
            return Ok(());
        }
        if until.calls.is_some_and(|calls| ended >= calls) {
            return Ok(());
        }
    }
}

/// Reading ends when the time has passed; false when it has.
fn patience(stream: &UnixStream, end: Option<Instant>) -> io::Result<bool> {
    let left = end.map(|end| end.saturating_duration_since(clock::now()));
    if left == Some(Duration::ZERO) {
        return Ok(false);
    }
    stream.set_read_timeout(left)?;
    Ok(true)
}

/// How far the calls are that were seen.
#[derive(Debug, Default)]
struct Calls {
    seen: BTreeMap<String, Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    answered: bool,
    failed: bool,
    /// BYEs without a final response.
    byes: u32,
}

/// Calls that were seen but never ended; beyond that, the first are forgotten.
const MOST: usize = 1024;

impl Calls {
    /// True when this message was the last of its call: the last answer to
    /// its BYEs, or the ACK to a final response that ended it unanswered.
    fn over(&mut self, entry: &Entry) -> bool {
        if entry.repeated {
            return false;
        }
        if self.seen.len() >= MOST {
            self.seen.pop_first();
        }
        let seen = self.seen.entry(entry.call_id.clone()).or_default();
        let over = match (entry.method.as_str(), entry.status) {
            ("BYE", None) => {
                seen.byes += 1;
                false
            }
            ("BYE", Some(200..)) => {
                seen.byes = seen.byes.saturating_sub(1);
                seen.byes == 0
            }
            ("INVITE", Some(200..300)) => {
                seen.answered = true;
                false
            }
            // The caller tries again.
            ("INVITE", Some(401 | 407)) => false,
            ("INVITE", Some(300..)) => {
                seen.failed |= entry.direction == Way::Sent && !seen.answered;
                false
            }
            ("ACK", None) => entry.direction == Way::Received && seen.failed,
            _ => false,
        };
        if over {
            self.seen.remove(&entry.call_id);
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(messages: &[(&str, Option<u16>, Way)]) -> Option<usize> {
        let mut calls = Calls::default();
        messages.iter().position(|(method, status, direction)| {
            calls.over(&Entry {
                at: 0.0,
                call_id: "a".to_owned(),
                direction: *direction,
                near: true,
                side: String::new(),
                transport: String::new(),
                local: String::new(),
                remote: String::new(),
                method: (*method).to_owned(),
                status: *status,
                cseq: None,
                repeated: false,
                forwarded: false,
                changes: Vec::new(),
                message: Vec::new(),
            })
        })
    }

    #[test]
    fn a_call_is_over_with_its_last_message() {
        use Way::{Received, Sent};
        let answered = [("INVITE", None, Received), ("INVITE", Some(200), Sent), ("ACK", None, Received)];
        let bye =
            [("BYE", None, Received), ("BYE", None, Sent), ("BYE", Some(200), Received), ("BYE", Some(200), Sent)];
        assert_eq!(ends(&[&answered[..], &bye[..]].concat()), Some(6));
        let challenged = [("INVITE", None, Received), ("INVITE", Some(401), Sent), ("ACK", None, Received)];
        assert_eq!(ends(&challenged), None);
        let busy = [("INVITE", Some(100), Sent), ("INVITE", Some(486), Received), ("INVITE", Some(486), Sent)];
        assert_eq!(ends(&[&busy[..], &[("ACK", None, Sent), ("ACK", None, Received)][..]].concat()), Some(4));
        let refused = [("INVITE", Some(200), Sent), ("INVITE", Some(488), Sent), ("ACK", None, Received)];
        assert_eq!(ends(&refused), None, "a re-INVITE that fails leaves the call up");
        assert_eq!(ends(&[("REGISTER", None, Received), ("REGISTER", Some(200), Sent)]), None);
    }
}
