//! How a record looks: one JSON object on one line, its length bounded by what
//! a call keeps.

use std::time::{Duration, Instant};

use media::End;
use media::quality;
use nat::Side;
use net::clock;
use proxy::Cause;
use registry::PassId;
use serde::Serialize;

use super::{Leg, Row, Stream};
use crate::metrics::label::Label as _;

/// One call.
#[derive(Debug, Serialize)]
struct Line<'a> {
    pass: String,
    call_id: &'a str,
    from: &'a str,
    to: &'a str,
    start: String,
    answered: Option<String>,
    end: String,
    /// From the answer on.
    duration_s: f64,
    /// `inner`, `outer`, `siplatch`.
    ended_by: &'static str,
    cause: &'static str,
    /// The final response, where that ended the call.
    status: Option<u16>,
    /// What a Reason (RFC 3326) said, or what siplatch said.
    reason: Option<&'a str>,
    streams: Vec<StreamLine>,
}

#[derive(Debug, Serialize)]
struct StreamLine {
    caller: LegLine,
    callee: LegLine,
}

/// What is heard from one leg, and what goes to it.
#[derive(Debug, Serialize)]
struct LegLine {
    side: &'static str,
    packets_in: u64,
    bytes_in: u64,
    packets_out: u64,
    bytes_out: u64,
    refused: u64,
    expected: u64,
    lost: u64,
    reordered: u64,
    duplicates: u64,
    jitter_ms: f64,
    jitter_max_ms: f64,
    rtt_ms: Option<f64>,
    mos: Option<f64>,
    codec: Option<&'static str>,
    first_media: Option<String>,
    last_media: Option<String>,
    source: Option<String>,
    latch_moves: u32,
    /// Times that no audio came for two seconds, and why the last time.
    silences: u32,
    silence: Option<&'static str>,
    rtcp_bye: bool,
}

/// The line of a call, with its line end.
pub(super) fn text(call: PassId, row: &Row, now: Instant) -> String {
    let (end, cause) = row.ended.unwrap_or((now, Cause::Lost));
    let wall = Wall { now, unix: clock::unix_time() };
    let line = Line {
        pass: call.to_string(),
        call_id: &row.call_id,
        from: &row.from,
        to: &row.to,
        start: wall.date(row.since),
        answered: row.answered.map(|at| wall.date(at)),
        end: wall.date(end),
        duration_s: row.answered.map_or(0.0, |at| milli(end.saturating_duration_since(at).as_secs_f64())),
        ended_by: by(cause, row),
        cause: cause.label(),
        status: row.status.filter(|_| row.answered.is_none()).map(|status| status.0),
        reason: row.reason.as_deref(),
        streams: row.streams.values().map(|stream| stream_line(stream, row.sides, &wall)).collect(),
    };
    let mut text = serde_json::to_string(&line).unwrap_or_default();
    text.push('\n');
    text
}

/// Who ended it.
fn by(cause: Cause, row: &Row) -> &'static str {
    match cause {
        Cause::CallerBye | Cause::Cancelled => row.sides[0].label(),
        Cause::CalleeBye => row.sides[1].label(),
        Cause::Failed if !row.own => row.sides[1].label(),
        Cause::Failed | Cause::MediaTimeout | Cause::MediaFailed | Cause::Stopped | Cause::Lost => "siplatch",
    }
}

fn stream_line(stream: &Stream, sides: [Side; 2], wall: &Wall) -> StreamLine {
    let qualities = [&stream.legs[0].counts.quality, &stream.legs[1].counts.quality];
    let leg = |end: End| {
        let Leg { counts, jitter, source, moves, silences, reason } = stream.legs[end.index()];
        let figures = counts.quality;
        LegLine {
            side: sides[end.index()].label(),
            packets_in: counts.packets_in,
            bytes_in: counts.bytes_in,
            packets_out: counts.packets_out,
            bytes_out: counts.bytes_out,
            refused: counts.refused,
            expected: figures.expected,
            lost: figures.lost,
            reordered: figures.reordered,
            duplicates: figures.duplicates,
            jitter_ms: millis(figures.jitter),
            jitter_max_ms: millis(jitter),
            rtt_ms: figures.round_trip.map(millis),
            mos: quality::score(qualities, end).map(|score| (score * 100.0).round() / 100.0),
            codec: figures.codec.map(quality::Codec::as_str),
            first_media: figures.first.map(|at| wall.date(at)),
            last_media: figures.last.map(|at| wall.date(at)),
            source: source.map(|source| source.to_string()),
            latch_moves: moves,
            silences,
            silence: reason.map(|reason| reason.label()),
            rtcp_bye: figures.bye,
        }
    };
    StreamLine { caller: leg(End::A), callee: leg(End::B) }
}

/// Times of the loop as dates.
#[derive(Debug)]
struct Wall {
    now: Instant,
    unix: Duration,
}

impl Wall {
    fn date(&self, at: Instant) -> String {
        date(self.unix.saturating_sub(self.now.saturating_duration_since(at)))
    }
}

fn millis(time: Duration) -> f64 {
    milli(time.as_secs_f64() * 1000.0)
}

/// No more digits than there is truth in them.
fn milli(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// RFC 3339, in UTC, with milliseconds; `since`: after 1970.
fn date(since: Duration) -> String {
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Years that begin in March end with the leap day; they repeat every 400 years of 146,097 days.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march + 2) / 5 + 1;
    let month = if march < 10 { march + 3 } else { march - 9 };
    let year = year + 400 * era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", since.subsec_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checked with `date --utc --date @SECONDS --iso-8601=seconds`.
    #[test]
    fn dates_of_rfc_3339() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.250Z"),
            (951_782_399, "2000-02-28T23:59:59.250Z"),
            (951_782_400, "2000-02-29T00:00:00.250Z"),
            (1_709_251_199, "2024-02-29T23:59:59.250Z"),
            (1_709_251_200, "2024-03-01T00:00:00.250Z"),
            (1_735_689_599, "2024-12-31T23:59:59.250Z"),
            (4_107_542_400, "2100-03-01T00:00:00.250Z"),
        ] {
            assert_eq!(date(Duration::from_millis(seconds * 1000 + 250)), expected);
        }
    }
}
