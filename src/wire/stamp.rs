//! Timestamps on the wire: how the daemon writes them and how it reads a publisher's.

use jiff::Timestamp;
use jiff::civil::Time;
use jiff::fmt::temporal::Pieces;
use jiff::tz::Offset;

/// 0000-01-01T00:00:00.000Z and 9999-12-30T22:00:00.000Z: what fits into four digits of
/// year and into jiff's own range.
const UNIX_MILLIS_MIN: i64 = -62_167_219_200_000;
const UNIX_MILLIS_MAX: i64 = 253_402_207_200_000;

/// An instant as the daemon writes it: RFC 3339, UTC, milliseconds, `Z`. Lives on the stack.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Stamp([u8; 24]);

impl Stamp {
    /// Instants outside the years 0 to 9999 are moved to the nearest end.
    pub fn from_unix_millis(unix_millis: i64) -> Self {
        let unix_millis = unix_millis.clamp(UNIX_MILLIS_MIN, UNIX_MILLIS_MAX);
        let instant = Timestamp::from_millisecond(unix_millis).expect("clamped to jiff's range");
        let utc = Offset::UTC.to_datetime(instant);
        let mut text = *b"0000-00-00T00:00:00.000Z";
        write_digits(&mut text[0..4], utc.year().unsigned_abs());
        write_digits(&mut text[5..7], utc.month().unsigned_abs().into());
        write_digits(&mut text[8..10], utc.day().unsigned_abs().into());
        write_digits(&mut text[11..13], utc.hour().unsigned_abs().into());
        write_digits(&mut text[14..16], utc.minute().unsigned_abs().into());
        write_digits(&mut text[17..19], utc.second().unsigned_abs().into());
        write_digits(&mut text[20..23], utc.millisecond().unsigned_abs());
        Self(text)
    }

    /// ASCII, and nothing that JSON escapes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("only ASCII is written")
    }
}

impl std::fmt::Display for Stamp {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl std::fmt::Debug for Stamp {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

fn write_digits(places: &mut [u8], mut value: u16) {
    for place in places.iter_mut().rev() {
        *place = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// A publisher's timestamp (RFC 3339 and its ISO 8601 relatives) as Unix microseconds, finer
/// digits cut off. Without a zone it is read as UTC. None if it is no instant: unreadable, or
/// with the name of a zone in place of an offset, since the daemon carries no zone database.
pub fn parse_unix_micros(text: &str) -> Option<i64> {
    let shorter;
    let pieces = match Pieces::parse(text) {
        Ok(pieces) => pieces,
        Err(_) => {
            shorter = with_nanoseconds(text);
            Pieces::parse(&shorter).ok()?
        }
    };
    let offset = match pieces.to_numeric_offset() {
        Some(offset) => offset,
        None if pieces.time_zone_annotation().is_none() => Offset::UTC,
        None => return None,
    };
    let local = pieces.date().to_datetime(pieces.time().unwrap_or(Time::midnight()));
    let instant = offset.to_timestamp(local).ok()?;
    // Towards the past, also before 1970.
    Some(instant.as_nanosecond().div_euclid(1_000) as i64)
}

/// The text with at most nine digits behind the decimal point.
fn with_nanoseconds(text: &str) -> String {
    let point = text.find('.').unwrap_or(text.len());
    let is_further = |&(place, letter): &(usize, char)| place > point && !letter.is_ascii_digit();
    let end = text.char_indices().find(is_further).map_or(text.len(), |(place, _)| place);
    format!("{}{}", &text[..end.min(point + 10)], &text[end..])
}

#[cfg(test)]
mod tests {
    use super::{Stamp, UNIX_MILLIS_MAX, UNIX_MILLIS_MIN, parse_unix_micros};

    fn stamp(unix_millis: i64) -> String {
        Stamp::from_unix_millis(unix_millis).as_str().to_owned()
    }

    #[test]
    fn writes_utc_with_milliseconds() {
        assert_eq!(stamp(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(stamp(1_795_419_332_390), "2026-11-23T07:35:32.390Z");
        assert_eq!(stamp(951_782_400_007), "2000-02-29T00:00:00.007Z");
        assert_eq!(stamp(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(stamp(-86_400_000), "1969-12-31T00:00:00.000Z");
    }

    #[test]
    fn stays_within_four_digits_of_year() {
        assert_eq!(stamp(UNIX_MILLIS_MIN), "0000-01-01T00:00:00.000Z");
        assert_eq!(stamp(i64::MIN), "0000-01-01T00:00:00.000Z");
        assert_eq!(stamp(UNIX_MILLIS_MAX), "9999-12-30T22:00:00.000Z");
        assert_eq!(stamp(i64::MAX), "9999-12-30T22:00:00.000Z");
    }

    #[test]
    fn what_is_written_reads_back() {
        let mut unix_millis = -62_000_000_000_123;
        while unix_millis < 253_000_000_000_000 {
            assert_eq!(parse_unix_micros(&stamp(unix_millis)), Some(unix_millis * 1000));
            unix_millis += 86_399_999 * 977;
        }
    }

    #[test]
    fn reads_what_publishers_write() {
        assert_eq!(parse_unix_micros("1970-01-01T00:00:01.1234567890123Z"), Some(1_123_456));
        let expected = Some(1_736_937_000_000_000);
        for text in [
            "2025-01-15T10:30:00Z",
            "2025-01-15T10:30:00.000Z",
            "2025-01-15t10:30:00z",
            "2025-01-15T11:30:00+01:00",
            "2025-01-15T05:00:00-05:30",
            "2025-01-15T10:30:00+00:00",
            "2025-01-15 10:30:00",
            "2025-01-15T10:30:00",
            "2025-01-15T10:30",
        ] {
            assert_eq!(parse_unix_micros(text), expected, "{text}");
        }
        assert_eq!(parse_unix_micros("2025-01-15T10:30:00.123456789"), Some(1_736_937_000_123_456));
        assert_eq!(parse_unix_micros("1969-12-31T23:59:59.9999999Z"), Some(-1));
        assert_eq!(parse_unix_micros("2016-12-31T23:59:60Z"), parse_unix_micros("2016-12-31T23:59:59Z"));
    }

    #[test]
    fn refuses_what_is_no_instant() {
        for text in [
            "",
            "yesterday",
            "1736937000",
            "2025-13-15T10:30:00Z",
            "2025-02-30T10:30:00Z",
            "2025-01-15T25:30:00Z",
            "2025-01-15T10:30:00Z and more",
            "2025-01-15T10:30:00[Europe/Vienna]",
            "99999-01-01T00:00:00Z",
        ] {
            assert_eq!(parse_unix_micros(text), None, "{text:?}");
        }
    }
}
