//! Numbers of a publisher's lines, in order: `11-13,15-25`.

use std::fmt;

use crate::wire::line::LINE_NUMBER_MAX;

/// Ranges of one chunk, at most: its header then stays below 1.2 KiB.
pub const RANGES_MAX: usize = 32;

/// Lines by their numbers, which grow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LineRanges {
    /// First and last of each, both included; the next begins at least two behind the last.
    ranges: Vec<(u64, u64)>,
}

impl LineRanges {
    /// `11`, `11-25`, `11-13,15-25`. None: it is not in order, has too many ranges, or is no such list.
    pub fn parse(text: &str) -> Option<Self> {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let range = (line(first)?, line(last)?);
            let floor = ranges.last().map_or(0, |before| before.1);
            if range.0 > range.1 || range.0 <= floor || ranges.len() == RANGES_MAX {
                return None;
            }
            ranges.push(range);
        }
        Some(Self { ranges })
    }

    /// Adds a line. False: it would be one range too many. `line` is greater than all before.
    pub fn push(&mut self, line: u64) -> bool {
        let count = self.ranges.len();
        match self.ranges.last_mut() {
            Some((_, last)) if *last + 1 == line => *last = line,
            _ if count == RANGES_MAX => return false,
            before => {
                debug_assert!(before.is_none_or(|before| before.1 < line), "lines come in order");
                self.ranges.push((line, line));
            }
        }
        true
    }

    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// How many lines there are.
    pub fn count(&self) -> u64 {
        self.ranges.iter().fold(0, |sum: u64, range| sum.saturating_add(range.1 - range.0 + 1))
    }

    /// The greatest; 0 if there is none.
    pub fn last(&self) -> u64 {
        self.ranges.last().map_or(0, |range| range.1)
    }

    /// How many of them are not greater than `line`.
    pub fn count_through(&self, line: u64) -> u64 {
        let through = self.ranges.iter().filter(|range| range.0 <= line);
        through.fold(0, |sum: u64, range| sum.saturating_add(range.1.min(line) - range.0 + 1))
    }

    /// The first one greater than `line`.
    pub fn first_after(&self, line: u64) -> Option<u64> {
        let range = self.ranges.iter().find(|range| range.1 > line)?;
        Some(range.0.max(line + 1))
    }

    /// Takes away all that are not greater than `line`.
    pub fn remove_through(&mut self, line: u64) {
        self.ranges.retain_mut(|range| {
            range.0 = range.0.max(line + 1);
            range.0 <= range.1
        });
    }
}

impl fmt::Display for LineRanges {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (first, last)) in self.ranges.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            match first == last {
                true => write!(formatter, "{comma}{first}")?,
                false => write!(formatter, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

/// Digits alone, from 1 to [`LINE_NUMBER_MAX`].
pub fn line(text: &str) -> Option<u64> {
    let is_plain = (1..=17).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = is_plain.then(|| text.parse().ok())??;
    (1..=LINE_NUMBER_MAX).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::{LINE_NUMBER_MAX, LineRanges, RANGES_MAX};

    #[test]
    fn lists_are_read_as_they_are_written() {
        for text in ["1", "11-25", "11-13,15-25", "1,3,5-9"] {
            assert_eq!(LineRanges::parse(text).unwrap().to_string(), text);
        }
        for text in [
            "",
            "0",
            "0-3",
            "-",
            "3-",
            "-3",
            "3-2",
            "1-3,3",
            "1-3,2-5",
            "1,,2",
            "+1",
            "1 ",
            "x",
            "99999999999999999",
            "18446744073709551616",
        ] {
            assert_eq!(LineRanges::parse(text), None, "{text}");
        }
        let many: Vec<String> = (1..=RANGES_MAX + 1).map(|line| (2 * line).to_string()).collect();
        assert!(LineRanges::parse(&many[1..].join(",")).is_some());
        assert!(LineRanges::parse(&many.join(",")).is_none());
        assert_eq!(LineRanges::parse(&format!("1-{LINE_NUMBER_MAX}")).unwrap().count(), LINE_NUMBER_MAX);
    }

    #[test]
    fn lines_are_counted_found_and_removed() {
        let mut lines = LineRanges::default();
        assert_eq!((lines.last(), lines.count(), lines.first_after(0)), (0, 0, None));
        assert!([11, 12, 13, 15, 16].into_iter().all(|line| lines.push(line)));
        assert_eq!((lines.to_string(), lines.count(), lines.last()), ("11-13,15-16".to_owned(), 5, 16));
        let through = [0, 10, 11, 13, 14, 15, 99].map(|line| lines.count_through(line));
        assert_eq!(through, [0, 0, 1, 3, 3, 4, 5]);
        let after = [0, 11, 13, 15, 16].map(|line| lines.first_after(line));
        assert_eq!(after, [Some(11), Some(12), Some(15), Some(16), None]);
        lines.remove_through(12);
        assert_eq!(lines.to_string(), "13,15-16");
        lines.remove_through(14);
        assert_eq!(lines.to_string(), "15-16");
        lines.remove_through(16);
        assert!(lines.is_empty());
        let mut many = LineRanges::default();
        assert!((1..=RANGES_MAX as u64).all(|line| many.push(2 * line)));
        assert!(!many.push(1_000) && many.push(2 * RANGES_MAX as u64 + 1));
    }
}
