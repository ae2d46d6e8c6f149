//! Checks that the daemon's memory and descriptors stay flat: the first third of the time fills its history, then the
//! last third is compared with the second.

use std::time::Duration;

use crate::daemon::Usage;

/// How much the mean of the last third may exceed that of the second: a share of it, plus room for the random number
/// of watchers.
const SHARE: f64 = 0.05;
const RESIDENT_ROOM_BYTES: f64 = (2 << 20) as f64;
/// The same where the second third begins before what a daemon keeps for the next time, its buffers for what is compressed
/// above all, has grown as large as it gets.
const GROWING: Duration = Duration::from_secs(60);
const GROWING_RESIDENT_ROOM_BYTES: f64 = (8 << 20) as f64;
/// The same for a fleet: how many of its daemons read the past again at a time is chance.
const FLEET_RESIDENT_ROOM_BYTES: f64 = (16 << 20) as f64;
const DESCRIPTORS_ROOM: f64 = 16.0;

#[derive(Default)]
pub struct Samples {
    samples: Vec<(Duration, Usage)>,
}

/// One figure over time.
struct Figure {
    name: &'static str,
    /// The unit in its name.
    unit: f64,
    room: f64,
    room_while_growing: f64,
    room_of_fleet: f64,
    of: fn(&Usage) -> f64,
}

const FIGURES: [Figure; 2] = [
    Figure {
        name: "resident memory, MiB",
        unit: (1 << 20) as f64,
        room: RESIDENT_ROOM_BYTES,
        room_while_growing: GROWING_RESIDENT_ROOM_BYTES,
        room_of_fleet: FLEET_RESIDENT_ROOM_BYTES,
        of: |usage| usage.resident_bytes as f64,
    },
    Figure {
        name: "descriptors",
        unit: 1.0,
        room: DESCRIPTORS_ROOM,
        room_while_growing: DESCRIPTORS_ROOM,
        room_of_fleet: DESCRIPTORS_ROOM,
        of: |usage| usage.descriptors as f64,
    },
];

impl Samples {
    pub fn add(&mut self, at: Duration, usage: Usage) {
        self.samples.push((at, usage));
    }

    /// A line for each figure that is flat, an error for each that is not.
    pub fn verdicts(&self, is_fleet: bool) -> Vec<Result<String, String>> {
        FIGURES.iter().map(|figure| self.verdict(figure, is_fleet)).collect()
    }

    fn verdict(&self, figure: &Figure, is_fleet: bool) -> Result<String, String> {
        let third = self.samples.len() / 3;
        let mean = |samples: &[(Duration, Usage)]| {
            samples.iter().map(|(_, usage)| (figure.of)(usage)).sum::<f64>() / samples.len().max(1) as f64
        };
        let (second, last) = (mean(&self.samples[third..2 * third]), mean(&self.samples[2 * third..]));
        let is_growing = self.samples.get(third).is_none_or(|(at, _)| *at < GROWING);
        let room = match (is_fleet, is_growing) {
            (true, _) => figure.room_of_fleet,
            (false, true) => figure.room_while_growing,
            (false, false) => figure.room,
        };
        let bound = second * (1.0 + SHARE) + room;
        let line = format!(
            "{}: {:.1} on average in the second third, {:.1} in the last (at most {:.1})",
            figure.name,
            second / figure.unit,
            last / figure.unit,
            bound / figure.unit
        );
        if last <= bound { Ok(line) } else { Err(format!("not flat: {line}")) }
    }

    /// A table of the figures at some moments spread over the time.
    pub fn table(&self, rows: usize) -> String {
        let step = self.samples.len().div_ceil(rows).max(1);
        let mut table = String::from("   at s   resident MiB   descriptors\n");
        for (at, usage) in self.samples.iter().step_by(step).chain(self.samples.last()) {
            let resident = usage.resident_bytes as f64 / f64::from(1 << 20);
            table += &format!("{:>7}   {resident:>12.1}   {:>11}\n", at.as_secs(), usage.descriptors);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Samples;
    use crate::daemon::Usage;

    #[test]
    fn growth_is_not_flat() {
        let after = |seconds: u64, growth: u64| {
            let mut samples = Samples::default();
            for second in 0..seconds {
                let resident_bytes = (50 << 20) + growth * second;
                samples.add(
                    Duration::from_secs(second),
                    Usage { resident_bytes, descriptors: 100 + growth * second },
                );
            }
            samples.verdicts(false).iter().map(Result::is_ok).collect::<Vec<_>>()
        };
        assert_eq!(after(90, 0), [true, true]);
        assert_eq!(after(90, 1), [true, false]);
        assert_eq!(after(90, 1 << 20), [false, false]);
        // In the first minute what is kept grows.
        assert_eq!(after(90, 200 << 10), [true, false]);
        assert_eq!(after(240, 200 << 10), [false, false]);
    }
}
