//! Logs: how lines look, which are written, and how a flood of them is held
//! back so that no stranger can fill the disk.

mod lines;

use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tracing_subscriber::EnvFilter;

use crate::cli::LogFormat;
use lines::Lines;
pub(crate) use lines::{Direct, Quoted};

/// The variable that names a filter when no flag does.
const VARIABLE: &str = "SIPLATCH_LOG";

/// Lines of ours look like those of the library, and nobody but the level decides about them.
static DIRECT: AtomicBool = AtomicBool::new(false);

/// True when [`Direct`] may write what is logged for every call.
pub(crate) fn is_direct() -> bool {
    DIRECT.load(Ordering::Relaxed)
}

/// Starts logging to standard error. Fails when the filter cannot be read.
pub(crate) fn start(filter: Option<&str>, format: LogFormat) -> Result<(), String> {
    let written = filter.map(str::to_owned).or_else(|| std::env::var_os(VARIABLE)?.into_string().ok());
    let written = written.unwrap_or_else(|| "info".to_owned());
    let filter = EnvFilter::try_new(&written).map_err(|error| {
        format!("fault: the log filter \"{written}\" cannot be read: {error}\n  mend: write for example \"info\" or \"debug\"\n")
    })?;
    let direct = format == LogFormat::Text && !std::io::stderr().is_terminal() && !written.contains('[');
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    let started = match format {
        LogFormat::Text if std::io::stderr().is_terminal() => lines.with_ansi(true).try_init(),
        LogFormat::Text => lines.with_ansi(false).event_format(Lines::new()).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    DIRECT.store(direct && started.is_ok(), Ordering::Relaxed);
    started.map_err(|error| format!("fault: logging cannot be started: {error}\n"))
}

/// How long lines of one kind are counted together.
const WINDOW: Duration = Duration::from_secs(10);

/// Lets so many lines of each kind through per window. Kinds are fixed words
/// of ours, never text from a message, so that the table stays small: the one
/// that is looked for is known by where it stands in the program.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    kinds: Vec<(&'static str, Window)>,
}

#[derive(Debug)]
struct Window {
    began: Instant,
    passed: u32,
    held: u64,
}

/// Whether a line may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    /// Yes; this many of its kind were held back in the window before.
    Write(u64),
    /// No.
    Hold,
}

impl Throttle {
    /// May a line of this kind, of which `most` are let through per window, be written?
    pub(crate) fn pass(&mut self, now: Instant, kind: &'static str, most: u32) -> Pass {
        let found = self.kinds.iter().position(|(known, _)| std::ptr::eq(*known, kind));
        // The same word may stand in the program twice.
        let found = found.or_else(|| self.kinds.iter().position(|(known, _)| *known == kind));
        let at = found.unwrap_or_else(|| {
            self.kinds.push((kind, Window { began: now, passed: 0, held: 0 }));
            self.kinds.len() - 1
        });
        let window = &mut self.kinds[at].1;
        let mut held = 0;
        if now.saturating_duration_since(window.began) >= WINDOW {
            held = std::mem::take(&mut window.held);
            (window.began, window.passed) = (now, 0);
        }
        if window.passed < most {
            window.passed += 1;
            Pass::Write(held)
        } else {
            window.held += 1;
            Pass::Hold
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_held_back_and_counted() {
        let (mut throttle, now) = (Throttle::default(), net::clock::now());
        let written = (0..1000).filter(|_| throttle.pass(now, "a", 10) != Pass::Hold).count();
        assert_eq!(written, 10);
        assert_eq!(throttle.pass(now, "b", 10), Pass::Write(0), "other kinds are not touched");
        assert_eq!(throttle.pass(now + WINDOW, "a", 10), Pass::Write(990));
        assert_eq!(throttle.pass(now + WINDOW, "a", 10), Pass::Write(0));
    }
}
