//! Lines for people, without colours: those of the library, octet for octet,
//! built in one buffer with a date that is computed once a second.

use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use registry::snapshot::json::hex;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{Format, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;
use wire::Text;

use crate::date::{Dates, SECONDS};

/// The format of lines.
#[derive(Debug)]
pub(super) struct Lines {
    /// For what is not ours: events inside spans, and those of the `log` crate.
    library: Format,
}

/// What stands at the beginning of a line, by the second.
#[derive(Debug)]
struct Second {
    number: u64,
    dates: Dates,
    text: String,
}

impl Second {
    const fn new() -> Self {
        Self { number: u64::MAX, dates: Dates::new(), text: String::new() }
    }
}

thread_local! {
    static LINE: RefCell<(Second, String)> = const { RefCell::new((Second::new(), String::new())) };
}

impl Lines {
    /// Without targets.
    pub(super) fn new() -> Self {
        Self { library: Format::default().with_target(false).with_ansi(false) }
    }
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        if event.metadata().target() == "log" || context.event_scope().is_some() {
            return self.library.format_event(context, writer, event);
        }
        LINE.with(|line| match line.try_borrow_mut() {
            Ok(mut line) => {
                let (second, line) = &mut *line;
                line.clear();
                second.begin(net::clock::unix_time(), line);
                line.push_str(match *event.metadata().level() {
                    Level::ERROR => "ERROR ",
                    Level::WARN => " WARN ",
                    Level::INFO => " INFO ",
                    Level::DEBUG => "DEBUG ",
                    Level::TRACE => "TRACE ",
                });
                event.record(&mut Fields { begun: line.len(), line });
                line.push('\n');
                writer.write_str(line)
            }
            // A value that logs while it is written.
            Err(_) => self.library.format_event(context, writer, event),
        })
    }
}

impl Second {
    /// The time, with microseconds, and a blank.
    fn begin(&mut self, since: Duration, line: &mut String) {
        if self.number != since.as_secs() {
            self.number = since.as_secs();
            self.text.clear();
            self.text.push_str(&self.dates.date(since)[..SECONDS]);
        }
        line.push_str(&self.text);
        let (mut micros, mut digits) = (since.subsec_micros(), *b"000000Z ");
        for digit in digits[..6].iter_mut().rev() {
            *digit += (micros % 10) as u8;
            micros /= 10;
        }
        line.push_str(str::from_utf8(&digits).unwrap_or_default());
    }
}

/// Writes fields.
struct Fields<'a> {
    line: &'a mut String,
    /// Where the first of them begins.
    begun: usize,
}

impl Fields<'_> {
    fn pad(&mut self) {
        if self.line.len() > self.begun {
            self.line.push(' ');
        }
    }

    fn name(&mut self, field: &Field) {
        self.pad();
        let name = field.name();
        self.line.push_str(name.strip_prefix("r#").unwrap_or(name));
        self.line.push('=');
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.pad();
            let start = self.line.len();
            // A string takes everything; a value that cannot be written ends there.
            let _ = write!(self.line, "{value:?}");
            tame(self.line, start);
        } else {
            self.name(field);
            let _ = write!(self.line, "{value:?}");
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.pad();
            let start = self.line.len();
            self.line.push_str(value);
            tame(self.line, start);
        } else {
            self.name(field);
            quote(self.line, value);
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.name(field);
        self.line.push_str(if value { "true" } else { "false" });
    }
}

/// A line of level INFO that does not go through the library: of what is
/// logged for every call and every registration. Octet for octet what the
/// library would make of it; a message is a fixed text of ours.
#[derive(Debug)]
pub(crate) struct Direct<'a>(&'a mut String);

impl Direct<'_> {
    /// Writes it to standard error. Whether it is wanted is the caller's affair.
    pub(crate) fn write(message: &'static str, fields: impl FnOnce(&mut Direct<'_>)) {
        LINE.with(|line| {
            let Ok(mut line) = line.try_borrow_mut() else { return };
            let (second, line) = &mut *line;
            line.clear();
            second.begin(net::clock::unix_time(), line);
            Self::fill(line, message, fields);
            // Who reads no log misses none.
            let _ = std::io::stderr().write_all(line.as_bytes());
        });
    }

    fn fill(line: &mut String, message: &str, fields: impl FnOnce(&mut Direct<'_>)) {
        line.push_str(" INFO ");
        line.push_str(message);
        fields(&mut Direct(line));
        line.push('\n');
    }

    fn name(&mut self, name: &str) -> &mut Self {
        self.0.push(' ');
        self.0.push_str(name);
        self.0.push('=');
        self
    }

    /// A number as 16 hexadecimal digits.
    pub(crate) fn hex(&mut self, name: &str, number: u64) -> &mut Self {
        self.name(name).0.push_str(str::from_utf8(&hex(number)).unwrap_or_default());
        self
    }

    /// A text, quoted and escaped.
    pub(crate) fn text(&mut self, name: &str, text: &str) -> &mut Self {
        quote(self.name(name).0, text);
        self
    }

    /// The same, where there is one.
    pub(crate) fn optional(&mut self, name: &str, text: Option<&str>) -> &mut Self {
        if let Some(text) = text {
            self.text(name, text);
        }
        self
    }

    /// True or false.
    pub(crate) fn truth(&mut self, name: &str, truth: bool) -> &mut Self {
        self.name(name).0.push_str(if truth { "true" } else { "false" });
        self
    }

    /// An address with its port.
    pub(crate) fn address(&mut self, name: &str, address: SocketAddr) -> &mut Self {
        self.name(name).0.push_str(str::from_utf8(Text::socket(address).get()).unwrap_or_default());
        self
    }
}

/// Writes a text quoted and escaped, as `{:?}` does.
fn quote(out: &mut String, text: &str) {
    if is_plain(text) {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        // A string takes everything.
        let _ = write!(out, "{text:?}");
    }
}

/// True for a text that `{:?}` writes as it is, between quotes.
fn is_plain(text: &str) -> bool {
    text.bytes().fold(true, |plain, octet| plain & matches!(octet, b' '..=b'~') & (octet != b'"') & (octet != b'\\'))
}

/// What in a message could drive a terminal is written as an escape.
fn tame(line: &mut String, start: usize) {
    let drives = |char: char| matches!(char, '\x1b' | '\x07' | '\x08' | '\x0c' | '\x7f' | '\u{80}'..='\u{9f}');
    if !line[start..].bytes().fold(false, |seen, octet| seen | !matches!(octet, b' '..=b'~')) {
        return;
    }
    let wild = line.split_off(start);
    for char in wild.chars() {
        match char {
            '\u{80}'..='\u{9f}' => _ = write!(line, "\\u{{{:x}}}", u32::from(char)),
            char if drives(char) => _ = write!(line, "\\x{:02x}", u32::from(char)),
            char => line.push(char),
        }
    }
}

/// A text from outside as a value: `{:?}` of it, without looking at each character where that changes nothing.
pub(crate) struct Quoted<'a>(pub(crate) &'a str);

impl fmt::Debug for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_plain(self.0) {
            f.write_str("\"")?;
            f.write_str(self.0)?;
            f.write_str("\"")
        } else {
            write!(f, "{:?}", self.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::sync::Arc;

    use super::*;

    /// What is logged, in lines of ours and in those of the library, without the time.
    fn both(log: impl Fn()) -> [String; 2] {
        let (mut ours, writer) = std::io::pipe().unwrap();
        let subscriber = tracing_subscriber::fmt().with_max_level(Level::TRACE).with_ansi(false);
        let lines = subscriber.with_writer(Arc::new(writer)).event_format(Lines::new()).finish();
        tracing::subscriber::with_default(lines, &log);
        let (mut theirs, writer) = std::io::pipe().unwrap();
        let subscriber = tracing_subscriber::fmt().with_max_level(Level::TRACE).with_ansi(false).with_target(false);
        tracing::subscriber::with_default(subscriber.with_writer(Arc::new(writer)).finish(), &log);
        [&mut ours, &mut theirs].map(|pipe| {
            let mut text = String::new();
            pipe.read_to_string(&mut text).unwrap();
            text.lines().map(|line| format!("{}\n", line.get(27..).unwrap_or(line))).collect()
        })
    }

    #[test]
    fn lines_are_those_of_the_library() {
        let [ours, theirs] = both(|| {
            let (text, evil) = ("sip:a@b", "a\"b\\c\n\x1b[31m\u{9b}ü'");
            tracing::info!("only a message");
            tracing::warn!(
                number = 7,
                off = -3,
                half = 0.5,
                yes = true,
                some = Some("x"),
                none = None::<&str>,
                "all kinds"
            );
            tracing::error!(?text, %text, text, r#type = text, "one {text} and {}", evil);
            tracing::debug!(?evil, evil, shown = %evil);
            tracing::trace!(evil = ?Quoted(evil), text = ?Quoted(text), "{evil}");
            let error: &dyn std::error::Error = &std::io::Error::other("bad");
            tracing::info!(error, "an error");
            tracing::info!("{}", "\x07\x08\x0c\x7f\t");
            tracing::info!(last = 1_u64);
            let _span = tracing::info_span!("span", key = 1).entered();
            tracing::info!(inside = true, "in a span");
        });
        assert_eq!(ours, theirs);
        assert!(ours.contains("number=7 off=-3") && ours.contains("span{key=1}: in a span"), "{ours}");
    }

    #[test]
    fn a_direct_line_is_that_of_the_library() {
        for (text, option, truth) in [("sip:a@b", None, true), ("a\"b\\c\n\x1b[31m\u{9b}ü'", Some("x;y=\""), false)] {
            let (number, address) = (0xab_u64, SocketAddr::from(([10, 0, 200, 9], 5060)));
            let [ours, _] = both(|| {
                let shown = format!("{number:016x}");
                tracing::info!(call = %shown, from = ?Quoted(text), session = option, truth, at = %address, "it is so");
            });
            let mut line = String::new();
            Direct::fill(&mut line, "it is so", |line| {
                line.hex("call", number).text("from", text).optional("session", option).truth("truth", truth);
                line.address("at", address);
            });
            assert_eq!(format!(" {line}"), ours, "behind the time");
        }
    }

    #[test]
    fn a_line_begins_with_its_time() {
        let mut second = Second::new();
        for (micros, expected) in [
            (1_709_251_199_000_001, "2024-02-29T23:59:59.000001Z "),
            (1_709_251_199_999_999, "2024-02-29T23:59:59.999999Z "),
            (1_709_251_200_120_000, "2024-03-01T00:00:00.120000Z "),
        ] {
            let mut line = String::new();
            second.begin(Duration::from_micros(micros), &mut line);
            assert_eq!(line, expected);
        }
    }
}
