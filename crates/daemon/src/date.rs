//! Dates of RFC 3339, in UTC: for lines of the log and records of calls.

use std::time::Duration;

/// Octets of a date with milliseconds.
pub(crate) const LENGTH: usize = 24;
/// As many of them as stand before the fraction of the second.
pub(crate) const SECONDS: usize = 20;

/// Writes dates. Most are of one day, and of that it is computed once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dates {
    day: u64,
    text: [u8; LENGTH],
}

impl Dates {
    /// None written yet.
    pub(crate) const fn new() -> Self {
        Self { day: u64::MAX, text: *b"0000-00-00T00:00:00.000Z" }
    }

    /// A date with milliseconds; `since`: after 1970.
    pub(crate) fn date(&mut self, since: Duration) -> &str {
        let (day, second) = (since.as_secs() / 86_400, (since.as_secs() % 86_400) as u32);
        if self.day != day {
            self.day = day;
            self.begin(day);
        }
        let millis = since.subsec_millis();
        for (at, number) in [(11, second / 3600), (14, second / 60 % 60), (17, second % 60), (21, millis % 100)] {
            self.pair(at, number);
        }
        self.text[SECONDS] = b'0' + (millis / 100) as u8;
        str::from_utf8(&self.text).unwrap_or_default()
    }

    fn begin(&mut self, days: u64) {
        // Years that begin in March end with the leap day; they repeat every 400 years of 146,097 days.
        let shifted = days + 719_468;
        let (era, of_era) = (shifted / 146_097, shifted % 146_097);
        let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let march = (5 * of_year + 2) / 153;
        let day = of_year - (153 * march + 2) / 5 + 1;
        let month = if march < 10 { march + 3 } else { march - 9 };
        let year = year + 400 * era + u64::from(month <= 2);
        for (at, number) in [(0, year / 100 % 100), (2, year % 100), (5, month), (8, day)] {
            self.pair(at, number as u32);
        }
    }

    fn pair(&mut self, at: usize, number: u32) {
        self.text[at] = b'0' + (number / 10) as u8;
        self.text[at + 1] = b'0' + (number % 10) as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checked with `date --utc --date @SECONDS --iso-8601=seconds`.
    #[test]
    fn dates_of_rfc_3339() {
        let mut dates = Dates::new();
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.257Z"),
            (951_782_399, "2000-02-28T23:59:59.257Z"),
            (951_782_400, "2000-02-29T00:00:00.257Z"),
            (1_709_251_199, "2024-02-29T23:59:59.257Z"),
            (1_709_251_200, "2024-03-01T00:00:00.257Z"),
            (1_735_689_599, "2024-12-31T23:59:59.257Z"),
            (4_107_542_400, "2100-03-01T00:00:00.257Z"),
            (4_107_542_461, "2100-03-01T00:01:01.257Z"),
        ] {
            assert_eq!(dates.date(Duration::from_millis(seconds * 1000 + 257)), expected);
        }
    }
}
