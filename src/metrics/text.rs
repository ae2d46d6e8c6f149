//! The figures in Prometheus' text format, version 0.0.4.

use std::fmt::Write;

use crate::metrics::figures::{Figures, Series};
use crate::metrics::table::{METRICS, Metric};

/// Writes every metric of the table.
pub fn write(figures: &Figures<'_>, out: &mut String) {
    for metric in &METRICS {
        let Metric { name, kind, label, help, .. } = metric;
        writeln!(out, "# HELP {name} {help}\n# TYPE {name} {}", kind.word())
            .expect("a String takes everything");
        (metric.read)(figures, &mut Series { name, label, out });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::write;
    use crate::metrics::counters::{ACTION_ERRORS, Counters, GAPS, LINE_ERRORS, REFUSALS};
    use crate::metrics::figures::{Figures, Process, Words};
    use crate::metrics::table::{Kind, METRICS, Metric};

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
        let (series, value) = line.rsplit_once(' ').expect("the value comes last");
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
        counters.bus.is_used.set(1);
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
