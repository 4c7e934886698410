//! How a record looks: one JSON object on one line, its length bounded by what
//! a call keeps.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use media::End;
use media::quality;
use nat::Side;
use net::clock;
use proxy::Cause;
use registry::PassId;
use registry::snapshot::json::Json;

use super::{Leg, Row, Stream, text, user};
use crate::date::Dates;
use crate::metrics::label::Label as _;

/// Writes the line of a call, with its line end.
///
/// `duration_s` counts from the answer on; `ended_by` is `inner`, `outer` or
/// `siplatch`; `status` is the final response, where that ended the call;
/// `reason` is what a Reason (RFC 3326) said, or what siplatch said.
pub(super) fn write(call: PassId, row: &Row, now: Instant, lines: &mut Vec<u8>) {
    let (end, cause) = row.ended().unwrap_or((now, Cause::Lost));
    let said = row.end.as_deref();
    let wall = Wall { now, unix: clock::unix_time(), dates: RefCell::new(Dates::new()) };
    lines.reserve(512 + 1024 * row.streams.len());
    let mut json = Json(lines);
    json.raw("{\"pass\":\"").hex(call.0).raw("\",\"call_id\":").string(&text(&row.call_id));
    json.raw(",\"from\":").string(&user(&row.from)).raw(",\"to\":").string(&row.to);
    json.raw(",\"start\":");
    wall.date(&mut json, row.since).raw(",\"answered\":");
    json.optional(row.answered, |json, at| wall.date(json, at)).raw(",\"end\":");
    let duration = row.answered.map_or(0.0, |at| end.saturating_duration_since(at).as_secs_f64());
    decimal(wall.date(&mut json, end).raw(",\"duration_s\":"), duration, 3);
    json.raw(",\"ended_by\":\"").raw(by(cause, row)).raw("\",\"cause\":\"").raw(cause.label());
    let status = said.and_then(|said| said.status).filter(|_| row.answered.is_none());
    json.raw("\",\"status\":").optional(status, |json, status| json.number(status.0));
    json.raw(",\"reason\":").optional(said.and_then(|said| said.reason.as_deref()), |json, reason| json.string(reason));
    json.raw(",\"streams\":").all(&row.streams, |json, (_, stream)| {
        leg(json.raw("{\"caller\":"), stream, row.sides, End::A, &wall);
        leg(json.raw(",\"callee\":"), stream, row.sides, End::B, &wall).raw("}")
    });
    json.raw("}\n");
}

/// Who ended it.
fn by(cause: Cause, row: &Row) -> &'static str {
    match cause {
        Cause::CallerBye | Cause::Cancelled => row.sides[0].label(),
        Cause::CalleeBye => row.sides[1].label(),
        Cause::Failed if !row.end.as_ref().is_some_and(|end| end.own) => row.sides[1].label(),
        Cause::Failed | Cause::MediaTimeout | Cause::MediaFailed | Cause::Stopped | Cause::Lost => "siplatch",
    }
}

/// What is heard from one leg, and what goes to it. `silences` is how often no
/// audio came for two seconds, `silence` why the last time.
fn leg<'a, 'b>(json: &'a mut Json<'b>, stream: &Stream, sides: [Side; 2], end: End, wall: &Wall) -> &'a mut Json<'b> {
    let both = stream.counts.as_deref().copied().unwrap_or_default();
    let qualities = [&both[0].quality, &both[1].quality];
    let Leg { jitter, source, moves, silences, reason } = stream.legs[end.index()];
    let counts = both[end.index()];
    let figures = counts.quality;
    json.raw("{\"side\":\"").raw(sides[end.index()].label()).raw("\"");
    json.raw(",\"packets_in\":").number(counts.packets_in).raw(",\"bytes_in\":").number(counts.bytes_in);
    json.raw(",\"packets_out\":").number(counts.packets_out).raw(",\"bytes_out\":").number(counts.bytes_out);
    json.raw(",\"refused\":").number(counts.refused).raw(",\"expected\":").number(figures.expected);
    json.raw(",\"lost\":").number(figures.lost).raw(",\"reordered\":").number(figures.reordered);
    json.raw(",\"duplicates\":").number(figures.duplicates);
    millis(json.raw(",\"jitter_ms\":"), figures.jitter);
    millis(json.raw(",\"jitter_max_ms\":"), jitter);
    json.raw(",\"rtt_ms\":").optional(figures.round_trip, millis);
    json.raw(",\"mos\":").optional(quality::score(qualities, end), |json, score| decimal(json, score, 2));
    let word = |json: &mut Json<'_>, word: Option<&str>| match word {
        Some(word) => _ = json.raw("\"").raw(word).raw("\""),
        None => _ = json.raw("null"),
    };
    word(json.raw(",\"codec\":"), figures.codec.map(quality::Codec::as_str));
    json.raw(",\"first_media\":").optional(figures.first, |json, at| wall.date(json, at));
    json.raw(",\"last_media\":").optional(figures.last, |json, at| wall.date(json, at));
    json.raw(",\"source\":").optional(source, |json, source| json.address(source.into()));
    json.raw(",\"latch_moves\":").number(moves).raw(",\"silences\":").number(silences);
    word(json.raw(",\"silence\":"), reason.map(|reason| reason.label()));
    json.raw(",\"rtcp_bye\":").truth(figures.bye).raw("}")
}

/// Times of the loop as dates.
#[derive(Debug)]
struct Wall {
    now: Instant,
    unix: Duration,
    dates: RefCell<Dates>,
}

impl Wall {
    fn date<'a, 'b>(&self, json: &'a mut Json<'b>, at: Instant) -> &'a mut Json<'b> {
        let since = self.unix.saturating_sub(self.now.saturating_duration_since(at));
        json.raw("\"").raw(self.dates.borrow_mut().date(since)).raw("\"")
    }
}

fn millis<'a, 'b>(json: &'a mut Json<'b>, time: Duration) -> &'a mut Json<'b> {
    decimal(json, time.as_secs_f64() * 1000.0, 3)
}

/// No more digits behind the point than there is truth in them, and one at least.
fn decimal<'a, 'b>(json: &'a mut Json<'b>, value: f64, digits: u32) -> &'a mut Json<'b> {
    let most = 10_u64.pow(digits);
    #[expect(clippy::cast_precision_loss, reason = "a power of ten below a million")]
    let scaled = (value * most as f64).round() as u64;
    json.number(scaled / most).raw(".");
    let (mut rest, mut place) = (scaled % most, most / 10);
    loop {
        json.0.push(b'0' + (rest / place) as u8);
        rest %= place;
        if rest == 0 {
            return json;
        }
        place /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_as_many_digits_as_they_need() {
        for (value, digits, expected) in [
            (0.0, 3, "0.0"),
            (12.0, 3, "12.0"),
            (0.0004, 3, "0.0"),
            (0.0005, 3, "0.001"),
            (3.14449, 3, "3.144"),
            (59.5, 3, "59.5"),
            (7.05, 3, "7.05"),
            (0.999_96, 3, "1.0"),
            (4.409_286, 2, "4.41"),
            (4.398, 2, "4.4"),
        ] {
            let mut text = Vec::new();
            decimal(&mut Json(&mut text), value, digits);
            assert_eq!(String::from_utf8(text).unwrap(), expected);
        }
    }
}
