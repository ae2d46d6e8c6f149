//! Maps values to positions along an axis, in percent of its length, and chooses the lines that the axis shows.

use crate::format;

/// Linear from zero, or logarithmic if the values are too far apart for that.
pub struct Scale {
    low: f64,
    high: f64,
    pub is_log: bool,
}

/// Above this spread the smallest bar of a linear axis would be invisible.
const LINEAR_SPREAD_MAX: f64 = 20.0;
/// The range of an axis; other values are drawn at its ends. Keeps powers and products of values finite.
const SHOWN: std::ops::RangeInclusive<f64> = 1e-9..=1e15;
const LOG_TICKS_MAX: i32 = 6;

impl Scale {
    /// A scale with room for all of these; values that are not positive numbers are ignored.
    pub fn of(values: impl Iterator<Item = f64>) -> Scale {
        let (low, high) = values
            .filter(|value| SHOWN.contains(value))
            .fold((f64::INFINITY, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
        if high == 0.0 {
            Scale { low: 0.0, high: 1.0, is_log: false }
        } else if high / low > LINEAR_SPREAD_MAX {
            // Below the smallest value, so that its bar is visible.
            Scale { low: 10_f64.powf((low / 1.5).log10().floor()), high: high * 1.1, is_log: true }
        } else {
            Scale { low: 0.0, high: high * 1.02, is_log: false }
        }
    }

    /// From 0 to 100, whatever the value.
    pub fn percent(&self, value: f64) -> f64 {
        let part = if self.is_log && value > 0.0 {
            (value / self.low).log10() / (self.high / self.low).log10()
        } else if self.is_log {
            0.0
        } else {
            value / self.high
        };
        if part.is_nan() { 0.0 } else { part.clamp(0.0, 1.0) * 100.0 }
    }

    /// Round values along the axis, ascending.
    pub fn ticks(&self) -> Vec<f64> {
        if self.is_log {
            let (first, last) = (self.low.log10().round() as i32, self.high.log10().floor() as i32);
            let step = 1 + (last - first) / LOG_TICKS_MAX;
            (first..=last).step_by(step as usize).map(|exponent| 10_f64.powi(exponent)).collect()
        } else {
            let rough = self.high / 4.0;
            let power = 10_f64.powf(rough.log10().floor());
            let step = [1.0, 2.0, 5.0].into_iter().map(|digit| digit * power).find(|step| *step >= rough);
            let step = step.unwrap_or(10.0 * power);
            (0..=4).map(|index| f64::from(index) * step).filter(|tick| *tick <= self.high).collect()
        }
    }

    /// Shown on the axis.
    pub fn in_words(&self) -> &'static str {
        if self.is_log { "logarithmic scale" } else { "linear scale from 0" }
    }
}

/// A short form of a round value: `0.01`, `250`, `10k`, `2M`.
pub fn tick_label(tick: f64) -> String {
    if tick > 0.0 && tick < 0.999e-3 {
        return format!("{tick:.0e}");
    }
    let (value, suffix) = match tick {
        ..10_000.0 => (tick, ""),
        ..1e6 => (tick / 1e3, "k"),
        ..1e9 => (tick / 1e6, "M"),
        _ => (tick / 1e9, "G"),
    };
    let number = format::number(value);
    let number =
        if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { &number };
    format!("{number}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::{Scale, tick_label};

    fn labels(values: &[f64]) -> String {
        Scale::of(values.iter().copied()).ticks().into_iter().map(tick_label).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(labels(&[7.0, 3.0]), "0 2 4 6");
        assert_eq!(labels(&[0.034, 0.4]), "0 0.2 0.4");
        assert_eq!(labels(&[1_900_000.0, 2_400_000.0]), "0 1M 2M");
        assert_eq!(labels(&[0.034, 2.1]), "0.01 0.1 1");
        assert_eq!(labels(&[1e-6, 1e6]), "1e-7 1e-4 0.1 100 100k");
        assert_eq!(labels(&[]), "0 0.5 1");
    }

    #[test]
    fn a_place_is_always_a_number_from_0_to_100() {
        let odd =
            [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN_POSITIVE, -1.0, 0.0, 1.0, 1e6];
        for values in [&odd[..], &odd[..7], &odd[6..7], &[]] {
            let scale = Scale::of(values.iter().copied());
            assert!(odd.iter().all(|value| (0.0..=100.0).contains(&scale.percent(*value))));
            assert!(scale.ticks().iter().all(|tick| tick.is_finite()));
        }
    }

    #[test]
    fn a_wide_spread_is_logarithmic_and_leaves_the_smallest_bar_some_length() {
        assert!(!Scale::of([1.0, 20.0].into_iter()).is_log);
        let scale = Scale::of([0.1, 30.0].into_iter());
        assert!(scale.is_log);
        assert!(scale.percent(0.1) > 10.0);
        assert_eq!(scale.percent(0.0), 0.0);
    }
}
