//! `/connections`: the state of each connection, from the reports of the shards.

use std::cmp::Reverse;
use std::collections::HashMap;

use serde::Serialize;

use crate::delivery::inspect::{bytes_beyond, name_of};
use crate::metrics::ENDPOINTS;
use crate::net::shard::connection_report::ConnectionReport;
use crate::session::questions::{ConnectionsWanted, Sort};
use crate::stream::topic_key::TopicKey;

/// Most log entries that are looked at for the bytes in one answer: some milliseconds.
const HANDLES_MAX: usize = 1 << 16;

/// One connection in the answer.
#[derive(Serialize)]
struct Row {
    address: Option<String>,
    shard: usize,
    phase: &'static str,
    endpoint: Option<&'static str>,
    transport: Option<&'static str>,
    is_compressed: bool,
    topics: Vec<String>,
    filter: String,
    position: u64,
    lag_events: u64,
    lag_bytes: Option<u64>,
    bytes_out: u64,
    age_seconds: f64,
    is_blocked: bool,
}

/// Asks for the connections that are furthest behind.
pub fn slowest(limit: usize) -> ConnectionsWanted {
    ConnectionsWanted { sort: Some(Sort::Lag), limit }
}

/// The wanted rows, as JSON.
pub fn write(wanted: &ConnectionsWanted, reports: &[ConnectionReport]) -> Vec<u8> {
    let mut heads = HashMap::new();
    let with_lag = reports.iter().map(|report| (lag_events(report, &mut heads), report));
    let mut reports: Vec<(u64, &ConnectionReport)> = with_lag.collect();
    match wanted.sort {
        Some(Sort::Lag) => {
            reports.sort_by_key(|(lag, report)| Reverse((*lag, report.description.waiting_bytes)));
        }
        Some(Sort::Age) => reports.sort_by_key(|(_, report)| Reverse(report.age_millis)),
        Some(Sort::Bytes) => reports.sort_by_key(|(_, report)| Reverse(report.description.bytes_out)),
        Some(Sort::Position) => reports.sort_by_key(|(_, report)| report.description.position),
        None => {}
    }
    let mut handles_left = HANDLES_MAX;
    let listed = reports.iter().take(wanted.limit);
    let rows: Vec<Row> = listed.map(|(lag, report)| row(*lag, report, &mut handles_left)).collect();
    let mut body = serde_json::to_vec(&rows).expect("rows are plain data");
    body.push(b'\n');
    body
}

/// Events of its topics behind its position. `heads` keeps the end of each log, which is read once.
fn lag_events(report: &ConnectionReport, heads: &mut HashMap<TopicKey, u64>) -> u64 {
    let lags = report.description.places.iter().map(|(topic, index)| {
        let head = *heads.entry(topic.key).or_insert_with(|| topic.log.lock().head());
        head.saturating_sub(*index)
    });
    lags.sum()
}

fn row(lag_events: u64, report: &ConnectionReport, handles_left: &mut usize) -> Row {
    let description = &report.description;
    // The port of a client behind a proxy is not known.
    let address = report.peer.map(|peer| match peer.ip().to_canonical() == report.client {
        true => peer.to_string(),
        false => report.client.to_string(),
    });
    let lag_bytes = match lag_events {
        0 => Some(0),
        _ => {
            let places = description.places.iter();
            let bytes = places.map(|(topic, index)| bytes_beyond(topic, *index, handles_left));
            bytes.sum::<Option<u64>>()
        }
    };
    Row {
        address,
        shard: report.shard,
        phase: report.phase,
        endpoint: report.view.map(|view| ENDPOINTS[view as usize]),
        transport: report.view.map(|_| description.framing.name()),
        is_compressed: report.is_compressed,
        topics: description.places.iter().map(|(topic, _)| name_of(topic)).collect(),
        filter: description.filter.as_ref().map_or("all".to_owned(), |filter| filter.describe()),
        position: description.position,
        lag_events,
        lag_bytes: lag_bytes.map(|bytes| bytes + description.waiting_bytes as u64),
        bytes_out: description.bytes_out,
        age_seconds: report.age_millis as f64 / 1e3,
        is_blocked: description.is_blocked,
    }
}
