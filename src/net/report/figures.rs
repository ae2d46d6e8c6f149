//! `/console/daemon`: the daemon's own figures, in one JSON object.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::metrics::{Counter, Counters, ENDPOINTS, ShardCounters};
use crate::net::report::connections;
use crate::net::shard::connection_report::ConnectionReport;
use crate::wire::http::Refusal;
use crate::wire::stamp::Stamp;
use crate::wire::watcher_message::GapReason;

/// Slowest watchers in the answer.
const SLOWEST: usize = 10;

/// The sources of the figures.
pub struct Figures<'a> {
    pub uptime: Duration,
    pub unix_micros: i64,
    pub newest: u64,
    pub history_bytes_max: usize,
    pub connections: usize,
    pub counters: &'a Counters,
}

/// Totals only grow while the daemon runs. A reader computes rates from two answers and their timestamps.
#[derive(Serialize)]
struct Body {
    version: &'static str,
    timestamp: String,
    uptime_seconds: f64,
    stream_seq: u64,
    connections: usize,
    watchers: BTreeMap<&'static str, u64>,
    lagging: u64,
    events_total: u64,
    deliveries_total: u64,
    sent_bytes_total: u64,
    jobs: u64,
    flows: u64,
    publishers: u64,
    history: History,
    gaps_total: BTreeMap<&'static str, u64>,
    refusals_total: BTreeMap<&'static str, u64>,
    refused_lines_total: u64,
    slowest: Box<RawValue>,
}

#[derive(Serialize)]
struct History {
    bytes: u64,
    bytes_max: usize,
    events: u64,
}

impl Figures<'_> {
    /// The figures as JSON. Calls `survey` only while a watcher lags.
    ///
    /// # Errors
    /// Those of `survey`.
    pub fn write(
        &self,
        survey: impl FnOnce() -> Result<Vec<ConnectionReport>, Refusal>,
    ) -> Result<Vec<u8>, Refusal> {
        let Counters { shards, ingest, .. } = self.counters;
        let sum = |of_shard: &dyn Fn(&ShardCounters) -> u64| shards.iter().map(of_shard).sum::<u64>();
        let lagging = sum(&|shard| shard.lagging.get());
        let reports = if lagging > 0 { survey()? } else { Vec::new() };
        let slowest = connections::write(&connections::slowest(SLOWEST), &reports);
        let slowest = String::from_utf8(slowest).expect("JSON is text");
        let body = Body {
            version: env!("CARGO_PKG_VERSION"),
            timestamp: Stamp::from_unix_millis(self.unix_micros.div_euclid(1000)).as_str().to_owned(),
            uptime_seconds: self.uptime.as_secs_f64(),
            stream_seq: self.newest,
            connections: self.connections,
            watchers: by_word(&ENDPOINTS, |index| {
                // `opened` is read first, so `ended` may be ahead.
                sum(&|shard| shard.opened[index].get().saturating_sub(shard.ended[index].get()))
            }),
            lagging,
            events_total: ingest.events.get(),
            deliveries_total: sum(&|shard| shard.messages.get()),
            sent_bytes_total: sum(&|shard| shard.sent_bytes.get()),
            jobs: ingest.jobs.get(),
            flows: ingest.flows.get(),
            publishers: ingest.publishers.get(),
            history: History {
                bytes: ingest.history_bytes.get(),
                bytes_max: self.history_bytes_max,
                events: ingest.history_events.get(),
            },
            gaps_total: by_word(&GapReason::ALL.map(GapReason::text), |index| {
                sum(&|shard| shard.gaps[index].get())
            }),
            refusals_total: by_word(&Refusal::CODES, |index| sum(&|shard| shard.refusals[index].get())),
            refused_lines_total: ingest.line_errors.iter().map(Counter::get).sum(),
            slowest: RawValue::from_string(slowest).expect("it was written as JSON"),
        };
        let mut body = serde_json::to_vec(&body).expect("figures are plain data");
        body.push(b'\n');
        Ok(body)
    }
}

fn by_word(words: &[&'static str], count: impl Fn(usize) -> u64) -> BTreeMap<&'static str, u64> {
    words.iter().enumerate().map(|(index, word)| (*word, count(index))).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::Value;

    use super::Figures;
    use crate::metrics::Counters;
    use crate::wire::http::Refusal;

    #[test]
    fn shards_are_summed_and_surveyed_only_while_a_watcher_lags() {
        let counters = Counters::new(2);
        counters.shards[0].messages.add(5);
        counters.shards[1].messages.add(7);
        counters.shards[0].opened[3].add(4);
        counters.shards[1].opened[3].add(1);
        counters.shards[1].ended[3].add(1);
        let figures = Figures {
            uptime: Duration::from_millis(1500),
            unix_micros: 0,
            newest: 9,
            history_bytes_max: 100,
            connections: 4,
            counters: &counters,
        };
        let body = figures.write(|| panic!("no watcher lags")).unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&body["deliveries_total"], &body["watchers"]["events"]), (&12.into(), &4.into()));
        assert_eq!((&body["uptime_seconds"], &body["slowest"]), (&1.5.into(), &Value::Array(Vec::new())));
        assert_eq!(body["timestamp"], "1970-01-01T00:00:00.000Z");
        counters.shards[1].lagging.set(1);
        assert_eq!(figures.write(|| Err(Refusal::draining())), Err(Refusal::draining()));
    }
}
