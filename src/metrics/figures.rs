//! All figures of one moment, and how the samples of one metric are written.

use std::fmt::{Display, Write};

use crate::metrics::counters::{BOUNDS_MICROS, Counters, Histogram, ShardCounters};

/// Label words from other modules' tables; a counter has the index of its word.
#[derive(Clone, Copy)]
pub struct Words<'a> {
    pub refusals: &'a [&'a str],
    pub gaps: &'a [&'a str],
    pub action_errors: &'a [&'a str],
    pub line_errors: &'a [&'a str],
}

/// What the kernel reports about the process.
#[derive(Clone, Copy, Default)]
pub struct Process {
    pub cpu_seconds: f64,
    pub resident_bytes: u64,
    pub open_files: u64,
    pub files_max: u64,
    pub start_seconds: f64,
}

/// All figures of one moment.
pub struct Figures<'a> {
    pub counters: &'a Counters,
    pub words: Words<'a>,
    pub process: Process,
    pub is_draining: bool,
    pub sockets: u64,
    pub sockets_max: u64,
    pub topics: u64,
    pub history_bytes_max: u64,
    /// Since the daemon started.
    pub now_micros: u64,
}

impl Figures<'_> {
    pub(super) fn sum(&self, of_shard: impl Fn(&ShardCounters) -> u64) -> u64 {
        self.counters.sum(of_shard)
    }
}

/// Where the samples of one metric go.
pub struct Series<'a> {
    pub(super) name: &'static str,
    /// The name of its label; empty if it has none.
    pub(super) label: &'static str,
    pub(super) out: &'a mut String,
}

impl Series<'_> {
    pub(super) fn value(&mut self, value: impl Display) {
        let name = self.name;
        writeln!(self.out, "{name} {value}").expect("a String takes everything");
    }

    /// `word` needs no escaping: it is a word of the program.
    pub(super) fn labelled(&mut self, word: &str, value: impl Display) {
        let Series { name, label, .. } = *self;
        writeln!(self.out, "{name}{{{label}=\"{word}\"}} {value}").expect("a String takes everything");
    }

    pub(super) fn of_each(&mut self, words: &[&str], value: impl Fn(usize) -> u64) {
        for (place, word) in words.iter().enumerate() {
            self.labelled(word, value(place));
        }
    }

    /// Writes the sum of these histograms.
    pub(super) fn histogram<'a>(
        &mut self,
        word: Option<&str>,
        histograms: impl Iterator<Item = &'a Histogram>,
    ) {
        let mut counts = [0; BOUNDS_MICROS.len() + 1];
        let mut sum_micros = 0;
        for (of_one, sum) in histograms.map(Histogram::read) {
            counts.iter_mut().zip(of_one).for_each(|(count, more)| *count += more);
            sum_micros += sum;
        }
        let Series { name, label, .. } = *self;
        let own = word.map_or(String::new(), |word| format!("{label}=\"{word}\""));
        let comma = if own.is_empty() { "" } else { "," };
        let mut passed = 0;
        for (place, count) in counts.into_iter().enumerate() {
            passed += count;
            let bound =
                BOUNDS_MICROS.get(place).map_or("+Inf".to_owned(), |&bound| seconds(bound).to_string());
            writeln!(self.out, "{name}_bucket{{{own}{comma}le=\"{bound}\"}} {passed}")
                .expect("a String takes everything");
        }
        let own = if own.is_empty() { own } else { format!("{{{own}}}") };
        writeln!(self.out, "{name}_sum{own} {}\n{name}_count{own} {passed}", seconds(sum_micros))
            .expect("a String takes everything");
    }
}

pub(super) fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}
