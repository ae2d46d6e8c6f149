//! The figures in Prometheus' text format, version 0.0.4.

use std::fmt::{Display, Write};

use crate::metrics::table::{METRICS, Metric};
use crate::metrics::{BOUNDS_MICROS, Counters, Histogram, ShardCounters};

/// The words of labels that others have tables of; a counter stands at the place of its word.
#[derive(Clone, Copy)]
pub struct Words<'a> {
    pub refusals: &'a [&'a str],
    pub gaps: &'a [&'a str],
    pub action_errors: &'a [&'a str],
    pub line_errors: &'a [&'a str],
}

/// What the kernel says of the process.
#[derive(Clone, Copy, Default)]
pub struct Process {
    pub cpu_seconds: f64,
    pub resident_bytes: u64,
    pub open_files: u64,
    pub files_max: u64,
    pub start_seconds: f64,
}

/// Everything that is told at one moment.
pub struct Figures<'a> {
    pub counters: &'a Counters,
    pub words: Words<'a>,
    pub process: Process,
    pub is_draining: bool,
    pub sockets: u64,
    pub sockets_max: u64,
    pub topics: u64,
    pub history_bytes_max: u64,
    /// Since the daemon began.
    pub now_micros: u64,
}

impl Figures<'_> {
    pub(super) fn sum(&self, of_shard: impl Fn(&ShardCounters) -> u64) -> u64 {
        self.counters.sum(of_shard)
    }
}

/// Where the samples of one metric go.
pub struct Series<'a> {
    metric: &'static Metric,
    out: &'a mut String,
}

impl Series<'_> {
    pub(super) fn value(&mut self, value: impl Display) {
        let name = self.metric.name;
        writeln!(self.out, "{name} {value}").expect("text takes every text");
    }

    /// `word` needs no escaping: it is a word of the program.
    pub(super) fn labelled(&mut self, word: &str, value: impl Display) {
        let Metric { name, label, .. } = self.metric;
        writeln!(self.out, "{name}{{{label}=\"{word}\"}} {value}").expect("text takes every text");
    }

    pub(super) fn of_each(&mut self, words: &[&str], value: impl Fn(usize) -> u64) {
        for (place, word) in words.iter().enumerate() {
            self.labelled(word, value(place));
        }
    }

    /// The sum of histograms.
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
        let Metric { name, label, .. } = self.metric;
        let own = word.map_or(String::new(), |word| format!("{label}=\"{word}\""));
        let comma = if own.is_empty() { "" } else { "," };
        let mut passed = 0;
        for (place, count) in counts.into_iter().enumerate() {
            passed += count;
            let bound =
                BOUNDS_MICROS.get(place).map_or("+Inf".to_owned(), |&bound| seconds(bound).to_string());
            writeln!(self.out, "{name}_bucket{{{own}{comma}le=\"{bound}\"}} {passed}")
                .expect("text takes every text");
        }
        let own = if own.is_empty() { own } else { format!("{{{own}}}") };
        writeln!(self.out, "{name}_sum{own} {}\n{name}_count{own} {passed}", seconds(sum_micros))
            .expect("text takes every text");
    }
}

pub(super) fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

/// Writes every metric of the table.
pub fn write(figures: &Figures<'_>, out: &mut String) {
    for metric in &METRICS {
        let Metric { name, kind, help, .. } = metric;
        writeln!(out, "# HELP {name} {help}\n# TYPE {name} {}", kind.word()).expect("text takes every text");
        (metric.read)(figures, &mut Series { metric, out });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::{Figures, Process, Words, write};
    use crate::metrics::table::{Kind, METRICS, Metric};
    use crate::metrics::{ACTION_ERRORS, Counters, GAPS, LINE_ERRORS, REFUSALS};

    fn words(count: usize, of: &str) -> &'static [&'static str] {
        let words = (0..count).map(|place| &*format!("{of}_{place}").leak());
        words.collect::<Vec<_>>().leak()
    }

    fn written(counters: &Counters) -> String {
        let words = Words {
            refusals: words(REFUSALS, "refusal"),
            gaps: words(GAPS, "gap"),
            action_errors: words(ACTION_ERRORS, "error"),
            line_errors: words(LINE_ERRORS, "error"),
        };
        let figures = Figures {
            counters,
            words,
            process: Process { cpu_seconds: 1.25, start_seconds: 1.8e9, ..Process::default() },
            is_draining: false,
            sockets: 3,
            sockets_max: 4,
            topics: 5,
            history_bytes_max: 6,
            now_micros: 5_000_000,
        };
        let mut out = String::new();
        write(&figures, &mut out);
        out
    }

    /// One line of the format: name, labels, value.
    fn sample(line: &str) -> (String, Vec<(String, String)>, f64) {
        let (series, value) = line.rsplit_once(' ').expect("a value stands last");
        let (name, labels) = match series.split_once('{') {
            None => (series, ""),
            Some((name, labels)) => (name, labels.strip_suffix('}').expect("labels are closed")),
        };
        assert!(is_name(name), "{line}");
        let labels = labels.split_terminator(',').map(|pair| {
            let (label, value) = pair.split_once("=\"").expect("a label has a value");
            assert!(is_name(label), "{line}");
            (label.to_owned(), value.strip_suffix('"').expect("quotes are closed").to_owned())
        });
        (name.to_owned(), labels.collect(), value.parse().expect("a value is a number"))
    }

    fn is_name(text: &str) -> bool {
        let is_first = |letter: char| letter.is_ascii_alphabetic() || letter == '_';
        text.starts_with(is_first) && text.chars().all(|letter| is_first(letter) || letter.is_ascii_digit())
    }

    #[test]
    fn names_and_help_keep_the_conventions() {
        let mut names = HashSet::new();
        for Metric { name, kind, label, help, .. } in &METRICS {
            assert!(names.insert(*name), "{name} is there twice");
            assert!(name.starts_with("luxcast_") || name.starts_with("process_"), "{name}");
            assert!(name.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_'), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}: counters end in _total");
            let unit = name.strip_suffix("_total").unwrap_or(name).rsplit('_').next().unwrap_or_default();
            let is_other_unit =
                ["micros", "millis", "milliseconds", "kilobytes", "mib", "minutes", "percent"];
            assert!(!is_other_unit.contains(&unit), "{name}: base units are seconds and bytes");
            assert_eq!(
                *kind == Kind::Histogram,
                name.ends_with("_duration_seconds") || name.ends_with("_delay_seconds")
            );
            assert!(!["_count", "_sum", "_bucket"].iter().any(|end| name.ends_with(end)), "{name}");
            assert!(label.is_empty() || (is_name(label) && *label != "le"), "{name}: {label}");
            let is_sentence =
                help.starts_with(|letter: char| letter.is_ascii_uppercase() || letter.is_ascii_digit());
            assert!(
                is_sentence && !help.ends_with('.') && !help.contains(['\n', '\\', '|']),
                "{name}: {help}"
            );
            assert!(!help.contains("  "), "{name}: {help}");
        }
    }

    #[test]
    fn every_metric_is_there_once_and_reads_as_prometheus_text() {
        let counters = Counters::new(2);
        counters.shards[1].messages.add(7);
        counters.ingest.history_oldest_micros.set(1_250_000);
        counters.shards[0].delay_micros.note(60);
        counters.shards[1].delay_micros.note(70_000_000);
        let text = written(&counters);
        assert!(text.ends_with('\n'));
        let mut lines = text.lines();
        let mut seen = HashMap::new();
        let mut line = lines.next();
        for Metric { name, kind, label, help, .. } in &METRICS {
            assert_eq!(line, Some(&*format!("# HELP {name} {help}")));
            assert_eq!(lines.next(), Some(&*format!("# TYPE {name} {}", kind.word())));
            line = lines.next();
            let mut samples = 0;
            while let Some(text) = line.filter(|line| !line.starts_with('#')) {
                let (of, labels, value) = sample(text);
                let is_own = match (kind, of.strip_prefix(name)) {
                    (Kind::Histogram, Some(end)) => ["_bucket", "_sum", "_count"].contains(&end),
                    (_, end) => end == Some(""),
                };
                assert!(is_own && value >= 0.0, "{text}");
                let own = labels.iter().filter(|(label, _)| label != "le").map(|(label, _)| label.as_str());
                assert_eq!(
                    own.collect::<Vec<_>>(),
                    if label.is_empty() { vec![] } else { vec![*label] },
                    "{text}"
                );
                assert!(seen.insert((of, labels), value).is_none(), "twice: {text}");
                samples += 1;
                line = lines.next();
            }
            assert!(samples > 0, "{name} has no sample");
        }
        assert_eq!(line, None);
        let of = |name: &str, labels: &[(&str, &str)]| {
            let labels = labels.iter().map(|&(label, value)| (label.to_owned(), value.to_owned()));
            seen[&(name.to_owned(), labels.collect::<Vec<_>>())]
        };
        assert_eq!(of("luxcast_messages_sent_total", &[("shard", "1")]), 7.0);
        assert_eq!(of("luxcast_history_age_seconds", &[]), 3.75);
        assert_eq!(of("luxcast_delivery_delay_seconds_bucket", &[("le", "0.00005")]), 0.0);
        assert_eq!(of("luxcast_delivery_delay_seconds_bucket", &[("le", "0.0001")]), 1.0);
        assert_eq!(of("luxcast_delivery_delay_seconds_bucket", &[("le", "5")]), 1.0);
        assert_eq!(of("luxcast_delivery_delay_seconds_bucket", &[("le", "+Inf")]), 2.0);
        assert_eq!(of("luxcast_delivery_delay_seconds_count", &[]), 2.0);
        assert_eq!(of("luxcast_delivery_delay_seconds_sum", &[]), 70.00006);
        assert_eq!(of("process_cpu_seconds_total", &[]), 1.25);
        assert_eq!(of("process_start_time_seconds", &[]), 1.8e9);
    }
}
