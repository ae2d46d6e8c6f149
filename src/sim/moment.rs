//! A time in the two formats that the engine writes, as Routilux does.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;

/// Unix microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(i64);

/// `2026-11-23T07:35:32.390Z`: the timestamp of an event.
pub struct Zulu(DateTime);

/// `2026-11-23T07:35:32.390686`: UTC without saying so; start and end in metrics, and inside data.
pub struct Naive(DateTime);

impl Moment {
    pub fn from_unix_micros(micros: i64) -> Moment {
        Moment(micros)
    }

    pub fn zulu(self) -> Zulu {
        Zulu(self.date_time())
    }

    pub fn naive(self) -> Naive {
        Naive(self.date_time())
    }

    /// Never negative, even if the clock went back.
    pub fn seconds_since(self, earlier: Moment) -> f64 {
        self.0.saturating_sub(earlier.0).max(0) as f64 / 1e6
    }

    /// Years beyond 9999 and before -9999 are shown as 9999 and -9999.
    fn date_time(self) -> DateTime {
        let nearest = if self.0 < 0 { Timestamp::MIN } else { Timestamp::MAX };
        let timestamp = Timestamp::from_microsecond(self.0).unwrap_or(nearest);
        Offset::UTC.to_datetime(timestamp)
    }
}

impl fmt::Display for Zulu {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_second(self.0, formatter)?;
        write!(formatter, ".{:03}Z", self.0.subsec_nanosecond() / 1_000_000)
    }
}

impl fmt::Display for Naive {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_second(self.0, formatter)?;
        write!(formatter, ".{:06}", self.0.subsec_nanosecond() / 1_000)
    }
}

fn write_second(time: DateTime, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (year, month, day) = (time.year(), time.month(), time.day());
    let (hour, minute, second) = (time.hour(), time.minute(), time.second());
    write!(formatter, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

#[cfg(test)]
mod tests {
    use super::Moment;

    #[test]
    fn both_forms() {
        let moment = Moment::from_unix_micros(1_795_419_332_390_686);
        assert_eq!(moment.zulu().to_string(), "2026-11-23T07:35:32.390Z");
        assert_eq!(moment.naive().to_string(), "2026-11-23T07:35:32.390686");
        assert_eq!(Moment::from_unix_micros(0).zulu().to_string(), "1970-01-01T00:00:00.000Z");
        assert!(Moment::from_unix_micros(i64::MAX).zulu().to_string().starts_with("9999-12-30"));
    }

    #[test]
    fn durations_are_never_negative() {
        let (early, late) = (Moment::from_unix_micros(1), Moment::from_unix_micros(1_500_001));
        assert_eq!(late.seconds_since(early), 1.5);
        assert_eq!(early.seconds_since(late), 0.0);
    }
}
