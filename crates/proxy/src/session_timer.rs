//! Session timers (RFC 4028 §8): what is asked for in a request that begins
//! or refreshes a session, what its answer gets when only we asked, and for
//! how long the session may then stay silent. Nothing is refreshed from here:
//! the ends do that.

use std::collections::BTreeMap;
use std::time::Duration;

use registry::PassId;
use wire::sip::{self, Message, Method, Name, Params};
use wire::{Edit, Rule};

use crate::request::Reject;

/// Our minimum, which is the lowest that there may be (§5).
const SHORTEST: u32 = 90;
/// Asked for where the caller knows session timers and did not ask (§4 recommends it).
const WANTED: u32 = 1800;
/// A longer one is lowered: a call of which nothing is heard for so long is over.
const LONGEST: u32 = 12 * 3600;

/// The session timer of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timer {
    /// Session interval.
    pub(crate) interval: Duration,
    /// The caller refreshes, else the callee; `None` when it is not known.
    pub(crate) caller: Option<bool>,
}

/// Calls whose time is a session timer's: it ends them even while media flows.
#[derive(Debug, Default)]
pub(crate) struct Timed(BTreeMap<PassId, Timer>);

impl Timed {
    /// A 2xx left with this session timer, or with none (§8.2).
    pub(crate) fn note(&mut self, pass: PassId, timer: Option<Timer>) {
        match timer {
            Some(timer) => _ = self.0.insert(pass, timer),
            None => _ = self.0.remove(&pass),
        }
    }

    /// Header lines that keep the timer of a call as it is, in a refresh of ours
    /// that leg `from` is taken to have sent (§7.4: without them it would end).
    pub(crate) fn kept(&self, pass: PassId, from: u8) -> String {
        let Some(timer) = self.0.get(&pass) else { return String::new() };
        let refresher = match timer.caller.map(|caller| caller == (from == 0)) {
            Some(true) => ";refresher=uac",
            Some(false) => ";refresher=uas",
            None => "",
        };
        format!("Supported: timer\r\nSession-Expires: {}{refresher}\r\n", timer.interval.as_secs())
    }

    pub(crate) fn forget(&mut self, pass: PassId) {
        self.0.remove(&pass);
    }

    pub(crate) fn has(&self, pass: PassId) -> bool {
        self.0.contains_key(&pass)
    }
}

/// What a request leaves with, computed from the request as it came.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    /// Its Session-Expires.
    interval: Option<u32>,
    /// Its Min-SE, where we raise that.
    least: Option<u32>,
    /// Its sender can refresh.
    supported: bool,
}

/// A session interval below our minimum, from a sender that can ask again with another (§8.1).
pub(crate) fn check(request: Message<'_>) -> Result<(), Reject> {
    if request.field(Name::SessionExpires).is_none() {
        return Ok(());
    }
    asked(request).map(|_| ())
}

/// Session-Expires and Min-SE of a forwarded request (§8.1).
pub(crate) fn ask(request: Message<'_>, edit: &mut Edit) {
    let Ok(asked) = asked(request) else { return };
    for (name, wanted) in [(Name::SessionExpires, asked.interval), (Name::MinSe, asked.least)] {
        if let Some(wanted) = wanted
            && read(request, name) != Some(wanted)
        {
            write(request, edit, name, wanted);
        }
    }
}

/// Where the callee does not know session timers and the caller does, the
/// caller refreshes alone, because we ask for it (§8.2).
pub(crate) fn answer(request: Message<'_>, response: Message<'_>, edit: &mut Edit) {
    let Some(interval) = granted(request, response) else { return };
    if response.field(Name::SessionExpires).is_some() {
        return;
    }
    let value = format!("{interval};refresher=uac");
    sip::edit::append(response, edit, Rule::SessionTimer, Name::SessionExpires, &[value.as_bytes()]);
    match response.field(Name::Require) {
        Some(_) if response.lists(Name::Require, "timer") => {}
        Some(field) => edit.insert(field.value.end, Rule::SessionTimer, &[b", timer"]),
        None => sip::edit::append(response, edit, Rule::SessionTimer, Name::Require, &[b"timer"]),
    }
}

/// The session timer of a 2xx as it leaves us (§8.2), to a request of leg `from`.
pub(crate) fn agreed(request: Message<'_>, response: Message<'_>, from: u8) -> Option<Timer> {
    let seconds = granted(request, response)?.max(SHORTEST);
    let written = response.value(Name::SessionExpires);
    let params = written.and_then(|v| v.iter().position(|b| *b == b';').map(|at| Params(&v[at..])));
    let answerer = params.and_then(|p| p.value("refresher")).is_some_and(|who| who.eq_ignore_ascii_case(b"uas"));
    Some(Timer { interval: Duration::from_secs(seconds.into()), caller: Some((from == 0) != answerer) })
}

fn granted(request: Message<'_>, response: Message<'_>) -> Option<u32> {
    if !refreshes(response) || !response.status().is_some_and(|s| s.is_success()) {
        return None;
    }
    if response.field(Name::SessionExpires).is_some() {
        return read(response, Name::SessionExpires);
    }
    asked(request).ok().filter(|asked| asked.supported)?.interval
}

fn asked(request: Message<'_>) -> Result<Asked, Reject> {
    let came = read(request, Name::SessionExpires);
    if !refreshes(request) || (came.is_none() && request.field(Name::SessionExpires).is_some()) {
        return Ok(Asked::default());
    }
    let supported = request.lists(Name::Supported, "timer") || request.lists(Name::Require, "timer");
    let written = read(request, Name::MinSe);
    let mut asked = Asked { supported, ..Asked::default() };
    let mut least = written.unwrap_or(SHORTEST);
    asked.interval = match came {
        Some(interval) if interval < SHORTEST && supported => {
            return Err(Reject::new(422, "Session Interval Too Small").with(&format!("Min-SE: {SHORTEST}")));
        }
        Some(interval) => {
            // Whoever does not know timers could not ask again after a 422.
            if interval < SHORTEST && !supported {
                least = least.max(SHORTEST);
                asked.least = Some(least);
            }
            Some(interval.min(LONGEST).max(least))
        }
        // An UPDATE may be about anything; without the field it asks for no timer.
        None if supported && request.method() == Method::Invite => Some(WANTED.max(least)),
        None => None,
    };
    Ok(asked)
}

/// Session refresh requests, and their responses (§3).
fn refreshes(message: Message<'_>) -> bool {
    matches!(message.method(), Method::Invite | Method::Update)
}

/// The seconds of Session-Expires or Min-SE.
fn read(message: Message<'_>, name: Name) -> Option<u32> {
    let digits = digits(message.value(name)?);
    let seconds: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    u32::try_from(seconds).ok()
}

/// Replaces the seconds, keeps the parameters.
fn write(message: Message<'_>, edit: &mut Edit, name: Name, seconds: u32) {
    let text = seconds.to_string();
    match message.value(name) {
        Some(value) => edit.replace(message.span(digits(value)), Rule::SessionTimer, &[text.as_bytes()]),
        None => sip::edit::append(message, edit, Rule::SessionTimer, name, &[text.as_bytes()]),
    }
}

fn digits(value: &[u8]) -> &[u8] {
    let end = value.iter().position(|b| !b.is_ascii_digit()).unwrap_or(value.len());
    let rest = value[end..].trim_ascii_start();
    if rest.is_empty() || rest.starts_with(b";") { &value[..end] } else { &value[..0] }
}

#[cfg(test)]
mod tests {
    use wire::sip::{Limits, Stored};

    use super::*;

    fn stored(start: &str, method: &str, lines: &str) -> Stored {
        let lines = if lines.is_empty() { String::new() } else { format!("{lines}\r\n") };
        let text = format!("{start}\r\nVia: SIP/2.0/UDP a\r\nCSeq: 1 {method}\r\n{lines}\r\n");
        Stored::parse(text.into_bytes(), &Limits::default()).expect(lines.as_str())
    }

    fn request(method: &str, lines: &str) -> Stored {
        stored(&format!("{method} sip:a SIP/2.0"), method, lines)
    }

    fn response(lines: &str) -> Stored {
        stored("SIP/2.0 200 OK", "INVITE", lines)
    }

    /// The lines that an edit leaves, without those of the frame.
    fn after(stored: &Stored, change: impl FnOnce(&mut Edit)) -> String {
        let mut edit = Edit::new();
        change(&mut edit);
        let text = String::from_utf8(stored.message().edited(&edit)).expect("ASCII");
        text.split("\r\n").skip(3).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("|")
    }

    #[test]
    fn what_a_request_leaves_with() {
        for (method, lines, expected) in [
            // A caller that can refresh and does not ask is asked for.
            ("INVITE", "Supported: timer", "Supported: timer|Session-Expires: 1800"),
            ("INVITE", "k: replaces, timer\r\nMin-SE: 3600", "k: replaces, timer|Min-SE: 3600|Session-Expires: 3600"),
            ("INVITE", "Supported: 100rel", "Supported: 100rel"),
            ("UPDATE", "Supported: timer", "Supported: timer"),
            ("BYE", "Supported: timer", "Supported: timer"),
            // Ours is the minimum of the RFC: in between nothing changes.
            ("INVITE", "Supported: timer\r\nx: 90;refresher=uas", "Supported: timer|x: 90;refresher=uas"),
            ("UPDATE", "Session-Expires: 7200", "Session-Expires: 7200"),
            // Lowered, but not below Min-SE.
            ("INVITE", "Session-Expires: 86400 ;refresher=uac", "Session-Expires: 43200 ;refresher=uac"),
            ("INVITE", "Session-Expires: 90000\r\nMin-SE: 86400;x", "Session-Expires: 86400|Min-SE: 86400;x"),
            // Never below its own Min-SE.
            ("INVITE", "Supported: timer\r\nx: 100\r\nMin-SE: 120", "Supported: timer|x: 120|Min-SE: 120"),
            // A sender that could not ask again: both are raised.
            ("INVITE", "Session-Expires: 30;refresher=uas", "Session-Expires: 90;refresher=uas|Min-SE: 90"),
            ("INVITE", "Session-Expires: 30\r\nMin-SE: 20", "Session-Expires: 90|Min-SE: 90"),
            // What cannot be read is somebody else's business.
            ("INVITE", "Supported: timer\r\nx: soon", "Supported: timer|x: soon"),
            ("INVITE", "Supported: timer\r\nx: 9x", "Supported: timer|x: 9x"),
            ("INVITE", "Supported: timer\r\nx: 99999999999", "Supported: timer|x: 99999999999"),
        ] {
            let stored = request(method, lines);
            assert!(check(stored.message()).is_ok(), "{method} {lines}");
            assert_eq!(after(&stored, |edit| ask(stored.message(), edit)), expected, "{method} {lines}");
        }
    }

    #[test]
    fn only_a_2xx_to_a_refresh_grants_anything() {
        for (start, method, seconds) in [
            ("SIP/2.0 200 OK", "INVITE", Some(600)),
            ("SIP/2.0 202 OK", "UPDATE", Some(600)),
            ("SIP/2.0 200 OK", "BYE", None),
            ("SIP/2.0 180 Ringing", "INVITE", None),
            ("SIP/2.0 302 Elsewhere", "INVITE", None),
        ] {
            let request = request(method, "Supported: timer\r\nSession-Expires: 600");
            for lines in ["Session-Expires: 600;refresher=uas", ""] {
                let response = stored(start, method, lines);
                let timer = agreed(request.message(), response.message(), 0);
                let expected =
                    seconds.map(|s| Timer { interval: Duration::from_secs(s), caller: Some(lines.is_empty()) });
                assert_eq!(timer, expected, "{start} {method} {lines}");
                let expected = match (lines, seconds) {
                    ("", Some(_)) => "Session-Expires: 600;refresher=uac|Require: timer",
                    _ => lines,
                };
                let left = after(&response, |edit| answer(request.message(), response.message(), edit));
                assert_eq!(left, expected, "{start} {method}");
            }
        }
        // It is required already.
        let (request, response) = (request("INVITE", "Supported: timer"), response("Require: 100rel, timer"));
        let left = after(&response, |edit| answer(request.message(), response.message(), edit));
        assert_eq!(left, "Require: 100rel, timer|Session-Expires: 1800;refresher=uac");
    }

    #[test]
    fn a_call_is_timed_while_an_interval_stands() {
        let (one, other) = (PassId(1), PassId(2));
        let mut timed = Timed::default();
        let timer = |caller| Some(Timer { interval: Duration::from_secs(90), caller });
        timed.note(one, timer(Some(true)));
        assert_eq!(timed.kept(one, 0), "Supported: timer\r\nSession-Expires: 90;refresher=uac\r\n");
        assert_eq!(timed.kept(one, 2), "Supported: timer\r\nSession-Expires: 90;refresher=uas\r\n");
        assert_eq!(timed.kept(other, 0), "");
        assert!(timed.has(one) && !timed.has(other));
        timed.note(other, timer(None));
        assert_eq!(timed.kept(other, 0), "Supported: timer\r\nSession-Expires: 90\r\n");
        timed.note(one, None);
        assert!(!timed.has(one) && timed.has(other));
        timed.forget(other);
        assert!(!timed.has(other));
    }

    #[test]
    fn an_interval_below_the_minimum_gets_422() {
        for (method, lines) in [("INVITE", "Supported: timer\r\nx: 89"), ("UPDATE", "Require: timer\r\nx: 0")] {
            let reject = check(request(method, lines).message()).expect_err(lines);
            assert_eq!((reject.status.0, reject.extra), (422, b"Min-SE: 90\r\n".to_vec()));
        }
    }

    #[test]
    fn the_answer_gets_a_timer_when_only_we_and_the_caller_want_one() {
        let (can, cannot) = (request("INVITE", "Supported: timer"), request("INVITE", "Session-Expires: 600"));
        for (request, lines, expected, seconds) in [
            (&can, "", "Session-Expires: 1800;refresher=uac|Require: timer", Some(1800)),
            (&can, "Require: 100rel", "Require: 100rel, timer|Session-Expires: 1800;refresher=uac", Some(1800)),
            (&can, "x: 95;refresher=uas", "x: 95;refresher=uas", Some(95)),
            (&can, "x: 1", "x: 1", Some(90)),
            (&can, "x: later", "x: later", None),
            (&cannot, "", "", None),
            (&cannot, "Session-Expires: 600;refresher=uas", "Session-Expires: 600;refresher=uas", Some(600)),
        ] {
            let response = response(lines);
            let change = |edit: &mut Edit| answer(request.message(), response.message(), edit);
            assert_eq!(after(&response, change), expected, "{lines}");
            let interval = agreed(request.message(), response.message(), 0).map(|timer| timer.interval);
            assert_eq!(interval, seconds.map(Duration::from_secs), "{lines}");
        }
    }
}
