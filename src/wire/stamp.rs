//! Timestamps on the wire: how the daemon writes them and how it reads a publisher's.

use std::num::IntErrorKind;

use jiff::Timestamp;
use jiff::civil::{Date, date};
use jiff::tz::Offset;

/// 0000-01-01T00:00:00.000Z and 9999-12-30T22:00:00.000Z: what fits into four digits of
/// year and into jiff's own range.
const UNIX_MILLIS_MIN: i64 = -62_167_219_200_000;
const UNIX_MILLIS_MAX: i64 = 253_402_207_200_000;

/// An instant as the daemon writes it: RFC 3339, UTC, milliseconds, `Z`. Lives on the stack.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Stamp([u8; 24]);

impl Stamp {
    /// An instant outside the years 0 to 9999 becomes the nearest bound.
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

    /// ASCII, without any character that JSON escapes.
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

const EPOCH: Date = date(1970, 1, 1);

/// Reads the value of a member `timestamp` as Unix microseconds; finer digits are rounded down. `raw` is the value's
/// JSON text, without blanks around it. A number's size gives its unit: seconds below 10^11, milliseconds below
/// 10^14, microseconds below 10^17, nanoseconds below 10^20. [`parse_unix_micros`] reads a string. None if the value
/// is no instant. `tests/cases/timestamps.json` has the results that all readers of timestamps share. Only a string
/// with an escape allocates.
pub fn read_json(raw: &str) -> Option<i64> {
    match raw.strip_prefix('"') {
        None => read_number(raw),
        Some(_) if raw.contains('\\') => parse_unix_micros(&serde_json::from_str::<String>(raw).ok()?),
        Some(rest) => parse_unix_micros(rest.strip_suffix('"')?),
    }
}

/// Reads digit by digit: no float holds today's time in nanoseconds.
fn read_number(raw: &str) -> Option<i64> {
    let (is_negative, number) = raw.strip_prefix('-').map_or((false, raw), |number| (true, number));
    let (mantissa, exponent) = match number.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, read_exponent(exponent)?),
        None => (number, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = || whole.bytes().chain(fraction.bytes());
    if whole.is_empty() || !digits().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let zeros = digits().take_while(|&digit| digit == b'0').count();
    let mut digits = digits().skip(zeros).peekable();
    if digits.peek().is_none() {
        return Some(0);
    }
    // The number of digits before the point, and how many of all digits make microseconds.
    let places = (whole.len() as i64 - zeros as i64).saturating_add(exponent);
    let wanted = match places {
        ..=11 => places + 6,
        12..=14 => places + 3,
        15..=17 => places,
        18..=20 => places - 3,
        _ => return None,
    };
    let next = |digits: &mut dyn Iterator<Item = u8>| i64::from(digits.next().unwrap_or(b'0') - b'0');
    let micros = (0..wanted).fold(0, |micros, _| micros * 10 + next(&mut digits));
    let is_cut = digits.any(|digit| digit != b'0');
    Some(if is_negative { -micros - i64::from(is_cut) } else { micros })
}

/// An exponent that is too large for an i64 counts as its bound.
fn read_exponent(text: &str) -> Option<i64> {
    match text.parse::<i64>() {
        Ok(exponent) => Some(exponent),
        Err(error) if *error.kind() == IntErrorKind::PosOverflow => Some(i64::MAX),
        Err(error) if *error.kind() == IntErrorKind::NegOverflow => Some(i64::MIN),
        Err(_) => None,
    }
}

/// Reads a timestamp's text as Unix microseconds; finer digits are cut off. It takes RFC 3339 and two formats of ISO
/// 8601: extended (`2025-01-15T10:30:00.5+01:00`) and basic (`20250115T103000.5+0100`). Seconds, their fraction and
/// the zone may be missing, in the extended format the time too. Without a zone it is UTC. None if the text is no
/// instant. A zone must be an offset: there is no table of zone names here. Allocates nothing.
pub fn parse_unix_micros(text: &str) -> Option<i64> {
    let mut rest = Letters(text.as_bytes());
    let year = rest.digits(4)?;
    let is_extended = rest.skip(b"-");
    let month = rest.digits(2)?;
    if is_extended && !rest.skip(b"-") {
        return None;
    }
    let day = rest.digits(2)?;
    let date = Date::new(year as i16, month as i8, day as i8).ok()?;
    let midnight = date.duration_since(EPOCH).as_secs();
    let (seconds, micros) = match rest.0 {
        [] if is_extended => (0, 0),
        // Digits alone could be a date or a Unix time.
        [] => return None,
        _ => rest.time_and_zone(is_extended)?,
    };
    rest.0.is_empty().then_some((midnight + seconds) * 1_000_000 + micros)
}

/// The unread rest of a timestamp.
struct Letters<'a>(&'a [u8]);

impl Letters<'_> {
    /// Skips the next letter if it is one of `any`. Returns whether it did.
    fn skip(&mut self, any: &[u8]) -> bool {
        let is_here = self.0.first().is_some_and(|letter| any.contains(letter));
        self.0 = &self.0[usize::from(is_here)..];
        is_here
    }

    /// The next `count` (at most nine) digits.
    fn digits(&mut self, count: usize) -> Option<u32> {
        let (digits, rest) = self.0.split_at_checked(count)?;
        let is_number = digits.iter().all(u8::is_ascii_digit);
        self.0 = rest;
        is_number.then(|| digits.iter().fold(0, |value, digit| value * 10 + u32::from(digit - b'0')))
    }

    /// The next two digits, if they are below `end`.
    fn below(&mut self, end: u32) -> Option<i64> {
        self.digits(2).filter(|&value| value < end).map(i64::from)
    }

    /// Reads `T10:30:00.5+01:00`: seconds since the start of the day in UTC, and microseconds.
    fn time_and_zone(&mut self, is_extended: bool) -> Option<(i64, i64)> {
        if !self.skip(b"Tt ") {
            return None;
        }
        let hour = self.below(24)?;
        if is_extended && !self.skip(b":") {
            return None;
        }
        let minute = self.below(60)?;
        let has_seconds =
            if is_extended { self.skip(b":") } else { self.0.first().is_some_and(u8::is_ascii_digit) };
        let (mut second, mut micros) = (0, 0);
        if has_seconds {
            // A leap second counts as the second before it.
            second = self.below(61)?.min(59);
            if self.skip(b".,") {
                micros = self.fraction()?;
            }
        }
        Some((hour * 3600 + minute * 60 + second - self.offset()?, micros))
    }

    /// One or more digits; only the first six count.
    fn fraction(&mut self) -> Option<i64> {
        let count = self.0.iter().take_while(|letter| letter.is_ascii_digit()).count();
        let (digits, rest) = self.0.split_at(count);
        self.0 = rest;
        let digit = |place| digits.get(place).map_or(0, |digit| i64::from(digit - b'0'));
        (count > 0).then(|| (0..6).fold(0, |micros, place| micros * 10 + digit(place)))
    }

    /// How far a zone is ahead of UTC, in seconds: `Z`, `+01:00`, `+0100`, `+01`, or nothing, which is UTC.
    fn offset(&mut self) -> Option<i64> {
        if self.0.is_empty() || self.skip(b"Zz") {
            return Some(0);
        }
        let sign = if self.skip(b"-") { -1 } else { 1 };
        if sign == 1 && !self.skip(b"+") {
            return None;
        }
        let hours = self.below(24)?;
        let minutes = if self.skip(b":") || !self.0.is_empty() { self.below(60)? } else { 0 };
        Some(sign * (hours * 3600 + minutes * 60))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::{Stamp, UNIX_MILLIS_MAX, UNIX_MILLIS_MIN, parse_unix_micros, read_json};

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

    /// The results that the page, the clients and Python share.
    #[test]
    fn every_case_of_the_table_has_its_result() {
        #[derive(serde::Deserialize)]
        struct Case<'a> {
            #[serde(borrow)]
            value: &'a RawValue,
            micros: Option<i64>,
        }
        let table = include_str!("../../tests/cases/timestamps.json");
        let cases: Vec<Case> = serde_json::from_str(table).unwrap();
        assert!(cases.len() > 70);
        for Case { value, micros } in cases {
            assert_eq!(read_json(value.get()), micros, "{value}");
        }
    }

    #[test]
    fn numbers_are_read_exactly_whatever_their_form() {
        for (raw, micros) in [
            ("1736937000123456789", Some(1_736_937_000_123_456)),
            ("-1736937000123456789", Some(-1_736_937_000_123_457)),
            ("99999999999", Some(99_999_999_999_000_000)),
            ("100000000000", Some(100_000_000_000_000)),
            ("99999999999999.9999", Some(99_999_999_999_999_999)),
            ("100000000000000", Some(100_000_000_000_000)),
            ("99999999999999999", Some(99_999_999_999_999_999)),
            ("100000000000000000", Some(100_000_000_000_000)),
            ("99999999999999999999", Some(99_999_999_999_999_999)),
            ("100000000000000000000", None),
            ("-1e20", None),
            ("1e9999999999999999999", None),
            ("0.0e9999999999999999999", Some(0)),
            ("1e-9999999999999999999", Some(0)),
            ("-0", Some(0)),
            ("-0.0000001", Some(-1)),
            ("0.0000019", Some(1)),
            ("17369370.00e+02", Some(1_736_937_000_000_000)),
            ("0.00173693700025E12", Some(1_736_937_000_250_000)),
            ("NaN", None),
            ("+1", None),
            ("1e", None),
            ("1e5e5", None),
            (".5", None),
            ("", None),
        ] {
            assert_eq!(read_json(raw), micros, "{raw}");
        }
    }

    #[test]
    fn text_may_be_escaped() {
        assert_eq!(read_json(r#""2025-01-15T10:30:00\u005a""#), Some(1_736_937_000_000_000));
        for raw in [r#""2025-01-15T10:30:00Z\n""#, r#""\ud800""#, "\"", "\"\""] {
            assert_eq!(read_json(raw), None, "{raw}");
        }
    }

    /// Whatever part of a text is left, reading it does not panic.
    #[test]
    fn no_part_of_a_text_panics() {
        let whole = "2025-01-15T10:30:00.123456789+01:00 20250115T103000,5-0530é";
        for (start, _) in whole.char_indices() {
            for (length, _) in whole[start..].char_indices() {
                parse_unix_micros(&whole[start..start + length]);
                read_json(&whole[start..start + length]);
            }
        }
    }

    #[test]
    fn the_whole_range_of_years_is_read() {
        assert_eq!(
            parse_unix_micros("0000-01-01T00:00:00+23:59"),
            Some((-62_167_219_200 - 86_340) * 1_000_000)
        );
        assert_eq!(parse_unix_micros("9999-12-31T23:59:59.999999Z"), Some(253_402_300_799_999_999));
    }
}
